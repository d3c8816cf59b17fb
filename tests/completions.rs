//! The completions, loaded by the shells that they are for. A shell that is not installed is
//! skipped, aloud.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What is typed before the tab, and some of what it must bring, the last of it at the end.
const CASES: [(&str, &[&str]); 5] = [
    ("tare ", &["create", "doctor", "update"]),
    ("tare exec --", &["--additional-gids", "--process-label", "--user"]),
    ("tare --root /x kill --", &["--all", "--help"]),
    ("lade run --", &["--authfile", "--entrypoint", "--workdir"]),
    ("lade images --format ", &["json", "table"]),
];

/// Types `$1` and a tab in a shell on a terminal, where alone zsh completes; waits for `$2`.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'stty -echo rows 200 cols 200; fpath=('$PWD' $fpath); autoload -U compinit; compinit -u -D'
zpty -w z 'LISTMAX=0; unsetopt beep; print RE''ADY'
zpty -r z out '*READY*'
zpty -w -n z $1$'\t'
out=
for i in {1..300}; do
    while zpty -r -t z part; do out+=$part; done
    [[ $out == *$2* ]] && break
    sleep 0.1
done
print -r -- $out
zpty -d z
"#;

const BASH: &str = r#"
source completions/${1%% *}.bash
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<<"$1"
[[ $1 != *' ' ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_${1%% *} "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// By itself fish loads only those of programs in `$PATH`.
const FISH: &str = "source completions/(string split ' ' $argv[1])[1].fish; complete -C $argv[1]";

/// A folder with the completions under the names by which zsh finds them.
struct Functions(PathBuf);

impl Functions {
    fn new() -> Functions {
        let dir = std::env::temp_dir().join(format!("tare-completions-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["tare", "lade"] {
            let file = format!("completions/{name}.zsh");
            std::fs::copy(file, dir.join(format!("_{name}"))).unwrap();
        }
        Functions(dir)
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn is_installed(shell: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(shell).is_file());
    if !found {
        eprintln!("SKIPPED: completions for {shell}, which is not installed");
    }
    found
}

/// Completes each case with `command`, to which the typed text and the last word are added.
fn complete(shell: &str, mut command: impl FnMut() -> Command) {
    for (typed, words) in CASES {
        let mut command = command();
        command.args([typed, words.last().unwrap()]).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        for word in words {
            assert!(said.contains(word), "{shell}: {typed:?} brings no {word}: {said}{errors}");
        }
        assert!(errors.is_empty(), "{shell}: {typed:?}: {errors}");
    }
}

#[test]
fn bash_completes() {
    if is_installed("bash") {
        complete("bash", || {
            let mut bash = Command::new("bash");
            bash.args(["--norc", "-c", BASH, "bash"]);
            bash
        });
    }
}

#[test]
fn fish_completes() {
    if is_installed("fish") {
        complete("fish", || {
            let mut fish = Command::new("fish");
            fish.args(["--no-config", "-c", FISH]);
            fish
        });
    }
}

#[test]
fn zsh_completes() {
    if is_installed("zsh") {
        let functions = Functions::new();
        complete("zsh", || {
            let mut zsh = Command::new("zsh");
            zsh.args(["-f", "-c", ZSH, "zsh"]).current_dir(&functions.0);
            zsh
        });
    }
}
