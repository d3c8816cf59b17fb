//! Refusals that need nothing but `config.json` itself: neither host nor plan.
//!
//! The first lines use runc's words where engines and suites read them. A kind of file system,
//! a mount option, a seccomp action or a cgroup value is judged where it is used.

mod linux;
mod mounts;
mod process;

pub use linux::{is_own, sysctl_file};

use super::config::{Hook, Root, Spec};
use super::names::{self, Names};
use super::suggest;
use crate::error::{Error, Result};

/// Refuses what no container can be made of.
///
/// # Errors
/// The first mistake, with its JSON path (runtime-spec 1.3, config.md and config-linux.md).
pub fn check(spec: &Spec) -> Result<()> {
    version(&spec.oci_version)?;
    if let Some(process) = &spec.process {
        process::check(process)?;
    }
    root(spec)?;
    mounts::check(&spec.mounts)?;
    hooks(spec)?;
    annotations(spec)?;
    linux::check(spec)
}

/// Refuses a process that cannot be run; for `exec --process`, whose paths begin at `process`.
///
/// # Errors
/// The first mistake, with its JSON path.
pub fn process(process: &super::config::Process) -> Result<()> {
    process::check(process)
}

/// Semantic versioning 2.0: the major version says whether we can read it. What a later minor version
/// adds is unknown here, and said so member by member.
fn version(version: &str) -> Result<()> {
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let is_padded = |part: &str| part.len() > 1 && part.starts_with('0');
    let number = |part: &str| match is_number(part) && !is_padded(part) {
        true => part.parse::<u32>().ok(),
        false => None,
    };
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let (rest, build) = version.split_once('+').unwrap_or((version, "0"));
    let (core, before) = rest.split_once('-').unwrap_or((rest, "0"));
    let labels =
        before.split('.').all(|part| is_word(part) && !(is_number(part) && is_padded(part)))
            && build.split('.').all(is_word);
    let numbers: Option<Vec<u32>> = core.split('.').map(number).collect();
    let (what, hint) = match numbers.as_deref().filter(|_| labels) {
        Some([1, _, _]) => return Ok(()),
        Some([_, _, _]) => {
            ("this version of the specification is not supported", "the versions 1.x are")
        }
        _ => ("ociVersion is not a version", "a version is three numbers, such as 1.3.0"),
    };
    Err(Error::new(what).at("ociVersion").hint(hint))
}

/// The root, which has to be there.
///
/// # Errors
/// It is not, or its path is empty.
pub fn root(spec: &Spec) -> Result<&Root> {
    let Some(root) = &spec.root else {
        return Err(Error::new("root must be specified")
            .at("root")
            .hint("\"root\": {\"path\": \"rootfs\"} takes the directory beside config.json"));
    };
    match root.path.is_empty() {
        true => Err(Error::new("the path of the root filesystem is empty").at("root.path")),
        false => Ok(root),
    }
}

fn annotations(spec: &Spec) -> Result<()> {
    match spec.annotations.contains_key("") {
        true => Err(Error::new("the name of an annotation is empty").at("annotations[\"\"]")),
        false => Ok(()),
    }
}

fn hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (i, one) in list.iter().enumerate() {
            hook(one).map_err(|(what, part)| {
                Error::new(format!("{kind} hook #{i}: {what}"))
                    .at(format!("hooks.{kind}[{i}].{part}"))
            })?;
        }
    }
    Ok(())
}

/// What is wrong with a hook, and with which of its members.
fn hook(hook: &Hook) -> std::result::Result<(), (&'static str, &'static str)> {
    if !hook.path.starts_with('/') {
        return Err(("the path must be absolute", "path"));
    }
    if hook.timeout.is_some_and(|seconds| seconds <= 0) {
        return Err(("the time-out must be a positive number of seconds", "timeout"));
    }
    Ok(())
}

/// Refuses a word that is not one of `known`; `what` is the first line.
fn one_of(word: &str, known: &[&str], what: impl Into<String>, at: String) -> Result<()> {
    if known.contains(&word) {
        return Ok(());
    }
    Err(Error::new(what).at(at).hint(match suggest::nearest(word, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", known.join(", ")),
    }))
}

/// As [`one_of`], for the names of a table.
fn named(word: &str, table: &Names, what: impl Into<String>, at: String) -> Result<()> {
    match names::number(table, word) {
        Some(_) => Ok(()),
        None => one_of(word, &names::words(table), what, at),
    }
}

/// The index of the first entry whose key an earlier one has.
fn repeated<'a>(keys: impl Iterator<Item = &'a str>) -> Option<usize> {
    let mut seen = Vec::new();
    for (i, key) in keys.enumerate() {
        if seen.contains(&key) {
            return Some(i);
        }
        seen.push(key);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in [
            "1.0.0",
            "1.0.0-rc5",
            "1.0.2-dev",
            "1.3.0",
            "1.3.0+dev",
            "1.4.0",
            "1.0.0-a-b.0.0c+01.x",
        ] {
            assert!(version(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "1.0.x",
            "0.9.0",
            "2.0.0",
            "1.0.0.0",
            "v1.0.0",
            "-1.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+a..b",
            "1.0.0-é",
        ] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repetitions() {
        assert_eq!(repeated(["a", "b", "a"].into_iter()), Some(2));
        assert_eq!(repeated(["a", "b"].into_iter()), None);
    }
}
