//! The table as a clap definition: help texts, manual pages and completions come from it.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};

use super::flags::{Flag, Verb};
use super::table::{GLOBAL, VERBS};

const ABOUT: &str = "OCI container runtime";

/// The whole command line as a clap definition.
pub fn command() -> Command {
    Command::new("tare")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .args(GLOBAL.iter().map(flag))
        .subcommands(VERBS.iter().map(verb))
        .subcommand_value_name("COMMAND")
}

/// The text of `tare --help`, or of `tare COMMAND --help`.
pub fn text(of: Option<&Verb>) -> String {
    let rendered: StyledStr = match of {
        None => command().render_long_help(),
        Some(known) => verb(known).bin_name(format!("tare {}", known.name)).render_long_help(),
    };
    rendered.to_string()
}

/// One command as clap sees it.
fn verb(verb: &Verb) -> Command {
    let positional = verb.args.iter().map(|arg| {
        let made = Arg::new(arg.name).help(arg.help).required(arg.required);
        if arg.many { made.num_args(0..).trailing_var_arg(true) } else { made }
    });
    let command = Command::new(verb.name)
        .about(verb.about)
        .args(verb.flags.iter().copied().flatten().map(flag))
        .args(positional);
    match verb.details {
        "" => command,
        details => command.long_about(format!("{}\n\n{details}", verb.about)),
    }
}

fn flag(flag: &Flag) -> Arg {
    let mut made = Arg::new(flag.long).long(flag.long).help(flag.help);
    if let Some(letter) = flag.short {
        made = made.short(letter);
    }
    match flag.value {
        Some(value) => made.value_name(value).action(ArgAction::Append),
        None => made.action(ArgAction::SetTrue),
    }
}
