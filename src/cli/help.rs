//! The table as a clap definition: help texts, manual pages and completions come from it.

use clap::{Arg, ArgAction, Command};

use super::flags::{Flag, Verb};
use super::table::{GLOBAL, VERBS};

const ABOUT: &str = "OCI container runtime";
const WIDTH: usize = 80;

/// The whole command line as a clap definition.
pub fn command() -> Command {
    Command::new("tare")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args(GLOBAL.iter().map(flag))
        .arg(help_flag())
        .subcommands(VERBS.iter().map(verb))
        .subcommand_value_name("COMMAND")
}

/// The text of `tare --help`, or of `tare COMMAND --help`.
pub fn text(of: Option<&Verb>) -> String {
    let mut command = match of {
        None => command(),
        Some(known) => verb(known)
            .bin_name(format!("tare {}", known.name))
            .about(wrap(&format!("{}\n\n{}", known.about, known.details))),
    };
    command.render_help().to_string()
}

/// Breaks lines between words so that none is longer than [`WIDTH`] characters.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.trim_end().lines() {
        let mut length = 0;
        for word in line.split(' ') {
            let space = usize::from(length > 0);
            if length + space + word.len() > WIDTH {
                wrapped.push('\n');
                length = 0;
            } else if space > 0 {
                wrapped.push(' ');
                length += space;
            }
            wrapped.push_str(word);
            length += word.len();
        }
        wrapped.push('\n');
    }
    wrapped.trim_end().to_string()
}

/// The option that every command has.
fn help_flag() -> Arg {
    Arg::new("help").short('h').long("help").action(ArgAction::Help).help("print this help")
}

/// One command as clap sees it.
fn verb(verb: &Verb) -> Command {
    let positional = verb.args.iter().map(|arg| {
        let made = Arg::new(arg.name).help(arg.help).required(arg.required);
        if arg.many { made.num_args(0..).trailing_var_arg(true) } else { made }
    });
    let command = Command::new(verb.name)
        .about(verb.about)
        .disable_help_flag(true)
        .args(verb.flags.iter().copied().flatten().map(flag))
        .arg(help_flag())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = format!("one two\n\n{}", "word ".repeat(40));
        let wrapped = wrap(&text);
        assert!(wrapped.starts_with("one two\n\nword word "));
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH && !line.ends_with(' ')));
        assert_eq!(wrapped.split_whitespace().count(), 42);
    }
}
