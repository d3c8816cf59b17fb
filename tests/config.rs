//! What is said about each kind of broken `config.json`, word for word.
//!
//! Every case is the default configuration with one mistake put in; its text stands in
//! `tests/golden/NAME.txt`. `BLESS=1 cargo test --test config` writes those files anew: read the
//! difference before committing it.

#[path = "config/cases.rs"]
mod cases;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cases::{CASES, MAPPINGS, MEMBERS, SECCOMP, SECCOMP_RULES};
use tare::spec::default;

/// An empty directory of the case's own.
fn bundle(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config").join(name);
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// What `tare explain` says on stderr about the bundle, and its exit code. Every refusal of a
/// configuration comes before anything is done, so `create` and `run` say the same.
fn said(bundle: &Path) -> (String, Option<i32>) {
    let mut tare = Command::new(env!("CARGO_BIN_EXE_tare"));
    let here = bundle.is_dir();
    tare.args(["explain", "--bundle"]).arg(if here { Path::new(".") } else { bundle });
    tare.current_dir(if here { bundle } else { Path::new("/") });
    let output = tare.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let text: String = stderr.lines().map(|line| timeless(line).to_owned() + "\n").collect();
    (text.replace(&bundle.display().to_string(), "BUNDLE"), output.status.code())
}

/// A log line without its time.
fn timeless(line: &str) -> &str {
    let after = line.strip_prefix("time=\"").and_then(|rest| rest.split_once("\" "));
    after.map_or(line, |(_, rest)| rest)
}

/// What is no mistake: the specification, or runc, ignores it.
const IGNORED: [&str; 4] = [
    "unknown-members",
    "unknown-oddities",
    "console-size-without-terminal",
    "hook-env-without-equals",
];

/// Compares with the golden file, or writes it.
fn compare(name: &str, said: &str) -> Result<(), String> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, said).unwrap();
        return Ok(());
    }
    let wanted = fs::read_to_string(&golden).unwrap_or_default();
    match wanted == said {
        true => Ok(()),
        false => Err(format!("{name}: wanted\n{wanted}\nbut it says\n{said}\n")),
    }
}

#[test]
fn every_mistake_is_told_in_its_golden_words() {
    let good = default::json(false, false);
    let mut wrong = String::new();
    for (name, out, put) in CASES {
        assert!(good.contains(out), "{name}: {out:?} is not in the default configuration");
        let dir = bundle(name);
        fs::write(dir.join("config.json"), good.replacen(out, put, 1)).unwrap();
        let (said, code) = said(&dir);
        assert_eq!(code, Some(i32::from(!IGNORED.contains(name))), "{name}: {said}");
        wrong.extend(compare(name, &said).err());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_mistake_in_a_filter_is_told_in_its_golden_words() {
    let good = default::json(false, false);
    let rule = |(name, rule): &(&'static str, &str)| {
        let action = "\"defaultAction\": \"SCMP_ACT_ERRNO\"";
        (*name, format!("{{\n\t\t\t{action}, \"syscalls\": [\n\t\t\t{rule}\n\t\t]}}"))
    };
    let whole = SECCOMP.iter().map(|(name, object)| (*name, (*object).to_owned()));
    let mut wrong = String::new();
    for (name, object) in whole.chain(SECCOMP_RULES.iter().map(rule)) {
        let dir = bundle(name);
        let put = format!("\"linux\": {{\n\t\t\"seccomp\": {object},");
        fs::write(dir.join("config.json"), good.replacen("\"linux\": {", &put, 1)).unwrap();
        let (said, code) = said(&dir);
        assert_eq!(code, Some(1), "{name}: {said}");
        wrong.extend(compare(name, &said).err());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_member_too_many_is_told_in_its_golden_words() {
    let good = default::json(false, false);
    let cases = MEMBERS.iter().map(|(name, object, member)| {
        assert!(good.contains(object), "{name}: there is no {object:?}");
        // An object or a list that was empty would need no comma.
        (*name, good.replacen(object, &format!("{object}\n{member},"), 1))
    });
    let mappings = MAPPINGS.iter().map(|(name, ids)| (*name, with_mappings(&good, ids)));
    let mut wrong = String::new();
    for (name, config) in cases.chain(mappings) {
        let dir = bundle(name);
        fs::write(dir.join("config.json"), config).unwrap();
        let (said, code) = said(&dir);
        assert_eq!(code, Some(1), "{name}: {said}");
        wrong.extend(compare(name, &said).err());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A new user namespace with these ids, of users and groups alike.
fn with_mappings(good: &str, ids: &str) -> String {
    let ids: Vec<[u32; 3]> = serde_json::from_str(&format!("[{ids}]")).unwrap();
    let entry = |[container, host, size]: &[u32; 3]| {
        format!("{{\"containerID\": {container}, \"hostID\": {host}, \"size\": {size}}}")
    };
    let list = ids.iter().map(entry).collect::<Vec<_>>().join(",\n");
    let members = format!("\"uidMappings\": [{list}],\n\"gidMappings\": [{list}],");
    good.replacen("\"linux\": {", &format!("\"linux\": {{\n{members}"), 1).replacen(
        "\"namespaces\": [",
        "\"namespaces\": [\n{\"type\": \"user\"},",
        1,
    )
}

/// A file that is no text, or no file at all.
#[test]
fn every_odd_file_is_refused_in_its_golden_words() {
    type Prepare = fn(&Path);
    let cases: [(&str, Prepare); 7] = [
        ("file-missing", |_| ()),
        ("bundle-missing", |file| fs::remove_dir(file.parent().unwrap()).unwrap()),
        ("file-empty", |file| fs::write(file, "").unwrap()),
        ("file-not-text", |file| fs::write(file, b"{\n \"hostname\": \"caf\xe9\"}").unwrap()),
        ("file-too-long", |file| fs::File::create(file).unwrap().set_len(17 << 20).unwrap()),
        ("file-is-directory", |file| fs::create_dir(file).unwrap()),
        ("file-is-fifo", |file| {
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    let mut wrong = String::new();
    for (name, prepare) in cases {
        let dir = bundle(name);
        prepare(&dir.join("config.json"));
        let (said, code) = said(&dir);
        assert_eq!(code, Some(1), "{name}: {said}");
        wrong.extend(compare(name, &said).err());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_default_configuration_is_good() {
    let dir = bundle("good");
    for (rootless, unified) in [(false, false), (false, true), (true, false), (true, true)] {
        fs::write(dir.join("config.json"), default::json(rootless, unified)).unwrap();
        let (said, code) = said(&dir);
        assert!(said.is_empty() && code == Some(0), "{code:?} {said}");
    }
}

#[test]
fn no_golden_file_is_left_over() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let source = concat!(include_str!("config.rs"), include_str!("config/cases.rs"));
    let left: BTreeSet<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| {
            !source.contains(&format!("(\"{name}\"")) && !source.contains(&format!("\"{name}\",\n"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
