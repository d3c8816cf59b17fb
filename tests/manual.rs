//! Manual pages and completions are made from the command-line definition and checked in; this
//! fails when they have drifted apart. `BLESS=1 cargo test --test manual` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The programs whose texts are made.
fn programs() -> Vec<Command> {
    let mut programs = vec![tare::cli::command()];
    #[cfg(feature = "lade")]
    programs.push(tare::image::cli::command());
    programs
}

/// The page of a command and those of its subcommands, by file name.
fn pages(command: Command, name: &str, pages: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        self::pages(sub.clone(), &format!("{name}-{}", sub.get_name()), pages);
    }
    let words = name.replacen('-', " ", 1);
    // clap keeps names for the program's life.
    let fixed: &'static str = name.to_string().leak();
    let command = command.name(fixed).display_name(fixed).bin_name(words);
    let mut page = Vec::new();
    let man = Man::new(command).date("").source(concat!("tare ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).unwrap();
    pages.insert(Path::new("man").join(format!("{name}.1")), page);
}

fn generated() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
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
    for verb in tare::cli::table::VERBS {
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
