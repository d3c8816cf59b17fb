//! Help texts, manual pages and completions are made from the table of commands and checked in;
//! this fails when they have drifted apart. `BLESS=1 cargo test --test manual` writes them anew.
//!
//! clap makes all three here, so that tare itself does without it: its help texts are files that
//! it includes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use tare::cli::flags::{Flag, Verb};
use tare::cli::table::{self, GLOBAL, VERBS};

/// The longest line of a help text.
const WIDTH: usize = 80;

/// The programs whose texts are made.
fn programs() -> Vec<Command> {
    vec![
        tare_command(),
        #[cfg(feature = "lade")]
        tare::image::cli::command(),
    ]
}

/// The whole command line as a clap definition.
fn tare_command() -> Command {
    let mut command = Command::new("tare")
        .about("OCI container runtime")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args(GLOBAL.iter().map(flag))
        .arg(help_flag())
        .subcommands(VERBS.iter().map(verb))
        .subcommand_value_name("COMMAND");
    // clap makes this one when it has to, and in its own case.
    command.build();
    command.mut_subcommand("help", |help| help.about("print this help, or that of a command"))
}

/// The text of `tare --help`, or of `tare COMMAND --help`.
fn help_text(of: Option<&Verb>) -> String {
    let mut command = match of {
        None => tare_command(),
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

/// The page of a command and those of its subcommands, by file name.
fn pages(command: Command, name: &str, pages: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        self::pages(sub.clone(), &format!("{name}-{}", sub.get_name()), pages);
    }
    let words = name.replacen('-', " ", 1);
    // clap keeps names for the program's life.
    let fixed: &'static str = name.to_string().leak();
    let command = command.name(fixed).display_name(fixed).bin_name(words).mut_args(dotted);
    let mut page = Vec::new();
    let man = Man::new(command).date("").source(concat!("tare ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).unwrap();
    pages.insert(Path::new("man").join(format!("{name}.1")), page);
}

/// What may be given several times as a page shows it: clap_mangen leaves the dots out.
fn dotted(arg: Arg) -> Arg {
    let several = arg.get_num_args().is_some_and(|count| count.max_values() > 1);
    let name: &'static str = format!("{}...", arg.get_id()).leak();
    if arg.is_positional() && several { arg.value_name(name) } else { arg }
}

/// The texts that tare includes.
fn help_texts() -> BTreeMap<PathBuf, Vec<u8>> {
    let verbs = VERBS.iter().map(|verb| (verb.name, Some(verb)));
    let file = |name| PathBuf::from(format!("src/cli/help/{name}.txt"));
    let texts = verbs.chain([("tare", None)]);
    texts.map(|(name, of)| (file(name), help_text(of).into_bytes())).collect()
}

fn generated() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = help_texts();
    for program in programs() {
        let name = program.get_name().to_string();
        for (shell, suffix) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut program.clone(), &name, &mut text);
            files.insert(Path::new("completions").join(format!("{name}.{suffix}")), text);
        }
        pages(program, &name, &mut files);
    }
    files
}

#[test]
fn checked_in_texts_agree_with_the_definition() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in generated() {
        let path = top.join(&name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_default();
        assert!(
            stored == text,
            "{} has drifted from the command line: BLESS=1 cargo test --test manual",
            name.display()
        );
    }
}

#[test]
fn every_command_has_a_page() {
    let pages = generated();
    for verb in VERBS {
        let name = PathBuf::from(format!("man/tare-{}.1", verb.name));
        let page = String::from_utf8(pages[&name].clone()).unwrap();
        for flag in verb.flags.iter().copied().flatten() {
            let roff = format!("\\-\\-{}", flag.long.replace('-', "\\-"));
            assert!(page.contains(&roff), "{} lacks {roff}", name.display());
        }
    }
}

#[test]
fn the_definition_is_sound() {
    for program in programs() {
        program.debug_assert();
    }
}

#[test]
fn every_command_includes_its_own_help_text() {
    let usage = |text: &'static str| text.split_once("Usage: tare ").unwrap().1;
    assert!(usage(table::HELP).starts_with("[OPTIONS] [COMMAND]"));
    for verb in VERBS {
        let named = usage(verb.help).split_whitespace().next();
        assert_eq!(named, Some(verb.name), "{} includes another text", verb.name);
    }
}

#[test]
fn lines_are_broken_between_words() {
    let text = format!("one two\n\n{}", "word ".repeat(40));
    let wrapped = wrap(&text);
    assert!(wrapped.starts_with("one two\n\nword word "));
    assert!(wrapped.lines().all(|line| line.len() <= WIDTH && !line.ends_with(' ')));
    assert_eq!(wrapped.split_whitespace().count(), 42);
}
