//! The compiled programs, compared call by call with libseccomp's.
//!
//! Debian packages: gcc, libseccomp-dev, golang-github-containers-common (Docker's profile).

mod bpf;
mod refusals;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use libc::sock_filter;
use serde_json::{Value, json};

use super::arch::{self, Arch, Family};
use super::compile_for;
use crate::spec::config::Seccomp;
use bpf::{Call, run};

/// libseccomp as a program of its own, of which no file is left.
static ORACLE: LazyLock<File> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("tare-seccomp-oracle-{}", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/tests/oracle.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-o"]).arg(&path).args([source, "-lseccomp"]);
    let status = gcc.status().expect("gcc (Debian package gcc)");
    assert!(status.success(), "cannot build the oracle (Debian package libseccomp-dev)");
    let oracle = File::open(&path).expect("the oracle is there");
    std::fs::remove_file(path).expect("the oracle's file goes");
    oracle
});

fn seccomp(profile: &Value) -> Seccomp {
    crate::spec::load::from_json(&profile.to_string()).expect("a profile")
}

/// What libseccomp makes of a profile: a program, or its complaint; and the names it lacks.
fn ask(profile: &Value, only: Option<&str>) -> (Result<Vec<sock_filter>, String>, Vec<String>) {
    let mut child = Command::new(format!("/proc/self/fd/{}", ORACLE.as_raw_fd()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the oracle runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(script(profile, only).as_bytes()).expect("the oracle reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the oracle ends");
    let words = String::from_utf8(output.stderr).expect("text");
    let unknown = words.lines().filter_map(|line| line.strip_prefix("unknown ")).map(String::from);
    let big = profile["big"] == true;
    let program = output.stdout.chunks(8).map(|bytes| decode(bytes, big)).collect();
    let result = if output.status.success() { Ok(program) } else { Err(words.clone()) };
    (result, unknown.collect())
}

fn decode(bytes: &[u8], big: bool) -> sock_filter {
    let code = [bytes[0], bytes[1]];
    let k = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let (code, k) = match big {
        // Return values that libseccomp 2.5.4 copies to bring them in reach are swapped twice.
        true if bytes[1] == 6 && (bytes[6] == 5 || bytes[6..] == [0xff, 0x7f]) => {
            (6, u32::from_le_bytes(k))
        }
        true => (u16::from_be_bytes(code), u32::from_be_bytes(k)),
        false => (u16::from_le_bytes(code), u32::from_le_bytes(k)),
    };
    sock_filter { code, jt: bytes[2], jf: bytes[3], k }
}

/// A profile in the oracle's words, read as runc reads it.
fn script(profile: &Value, only: Option<&str>) -> String {
    let errno = |value: &Value| value.as_u64().unwrap_or(1);
    let default = profile["defaultAction"].as_str().expect("an action");
    let mut script = format!("default {default} {}\n", errno(&profile["defaultErrnoRet"]));
    script += &only.map(|name| format!("only {}\n", oracle_name(name))).unwrap_or_default();
    for arch in profile["architectures"].as_array().into_iter().flatten() {
        script += &format!("arch {}\n", oracle_name(arch.as_str().expect("a name")));
    }
    for entry in profile["syscalls"].as_array().into_iter().flatten() {
        let args = entry["args"].as_array().cloned().unwrap_or_default();
        let indices: Vec<_> = args.iter().map(|arg| arg["index"].as_u64()).collect();
        let twice = indices.iter().enumerate().any(|(i, index)| indices[..i].contains(index));
        let rules: Vec<&[Value]> = if twice { args.chunks(1).collect() } else { vec![&args] };
        for name in entry["names"].as_array().expect("names") {
            for args in &rules {
                let action = entry["action"].as_str().expect("an action");
                let (errno, name) = (errno(&entry["errnoRet"]), name.as_str().expect("a name"));
                script += &format!("rule {action} {errno} {name} {}", args.len());
                for arg in *args {
                    let op = arg["op"].as_str().expect("an operator");
                    let two = arg["valueTwo"].as_u64().unwrap_or(0);
                    script += &format!(" {} {op} {} {two}", arg["index"], arg["value"]);
                }
                script += "\n";
            }
        }
    }
    script
}

fn oracle_name(arch: &str) -> String {
    arch.trim_start_matches("SCMP_ARCH_").to_lowercase()
}

/// Removes names that the oracle lacks, and entries that are left without any.
fn without(profile: &Value, names: &[String]) -> Value {
    let mut profile = profile.clone();
    let lacks = |name: &Value| names.iter().any(|lacking| name == lacking);
    let entries = profile["syscalls"].as_array_mut().expect("entries");
    for entry in entries.iter_mut() {
        entry["names"].as_array_mut().expect("names").retain(|name| !lacks(name));
    }
    entries.retain(|entry| entry["names"] != json!([]));
    profile
}

/// Argument values around everything that a profile compares with.
fn interesting(profile: &Value) -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX, 1 << 32];
    for entry in profile["syscalls"].as_array().expect("entries") {
        for arg in entry["args"].as_array().into_iter().flatten() {
            for value in [&arg["value"], &arg["valueTwo"]].map(|v| v.as_u64().unwrap_or(0)) {
                let high = value ^ 1 << 32;
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), high]);
            }
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Sets of six arguments: each value in each place, and mixed ones.
fn arguments(values: &[u64]) -> Vec<[u64; 6]> {
    let mut random = Random(7);
    let mut sets: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
    sets.extend((0..40).map(|_| [(); 6].map(|()| *random.pick(values))));
    sets
}

/// The highest number that the profile names, and all numbers that have rules with arguments.
fn named(profile: &Value, family: &Family, arch: &Arch) -> (Option<u32>, Vec<u32>) {
    let number = |name: &str| family.table.lookup(name).and_then(|n| n.on(arch.column));
    let (mut highest, mut conditional) = (None, vec![]);
    conditional.extend(["socketcall", "ipc"].into_iter().filter_map(number));
    for entry in profile["syscalls"].as_array().expect("entries") {
        let names = entry["names"].as_array().expect("names").iter();
        let numbers = names.filter_map(|name| number(name.as_str().expect("a name")));
        for number in numbers {
            highest = highest.max(Some(number));
            if !entry["args"].as_array().is_none_or(Vec::is_empty) {
                conditional.push(number);
            }
        }
    }
    (highest, conditional)
}

/// Compares both programs over all calls of all architectures of the family. Returns the cases.
fn compare(profile: &Value, family: &Family, foreign: bool) -> usize {
    let mut profile = profile.clone();
    profile["big"] = json!(family.low_half == 4);
    let only = foreign.then(|| family.archs[0].name);
    let (_, unknown) = ask(&profile, only);
    let profile = without(&profile, &unknown);
    let (theirs, _) = ask(&profile, only);
    let ours = compile_for(&seccomp(&profile), family);
    let theirs = match (theirs, &ours) {
        (Ok(theirs), _) => theirs,
        (Err(_), Err(_)) => return 0,
        (Err(words), Ok(_)) => panic!("only libseccomp refuses: {words}\n{profile:#}"),
    };
    let ours = ours.unwrap_or_else(|err| panic!("only we refuse: {err}\n{profile:#}"));
    let ours = ours.program;
    let sets = arguments(&interesting(&profile));
    let mut cases = 0;
    for arch in family.archs {
        let (highest, conditional) = named(&profile, family, arch);
        let numbers = (0..600).chain(0xf_0000..0xf_0010).chain([0x7fff, 0x3fff_ffff, 0x8000_0001]);
        for number in numbers.chain([u32::MAX - arch.marker]) {
            let sets = if conditional.contains(&number) { &sets[..] } else { &sets[..1] };
            for set in sets {
                let call = Call::new(arch.token, number + arch.marker, *set, family.low_half);
                let (ours, theirs) = (run(&ours, &call).0, run(&theirs, &call).0);
                let newer = Some(number) > highest || number == 0 && arch.zero_unknown;
                let stub = newer && ours == libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
                assert!(
                    ours == theirs || stub,
                    "{} {number}{set:x?}: {ours:#x}, libseccomp {theirs:#x}\n{profile:#}",
                    arch.name
                );
                cases += 1;
            }
        }
    }
    for token in [0, 1, 0x4000_0008] {
        let call = Call::new(token, 0, [0; 6], 0);
        assert_eq!(run(&ours, &call).0, run(&theirs, &call).0, "token {token:#x}");
    }
    cases
}

/// Docker's default profile as an engine emits it: entries chosen by architecture and
/// capabilities, then without those members.
pub(super) fn docker(capabilities: &[&str]) -> Value {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read_to_string(path).unwrap_or_else(|err| {
        panic!("{path}: {err} (Debian package golang-github-containers-common)")
    });
    let source: Value = serde_json::from_str(&text).expect("JSON");
    let has = |list: &Value, held: &[&str]| {
        let list = list.as_array();
        list.map(|list| list.iter().any(|one| held.iter().any(|held| one == held)))
    };
    let chosen = |entry: &&Value| {
        let (includes, excludes) = (&entry["includes"], &entry["excludes"]);
        has(&includes["caps"], capabilities) != Some(false)
            && has(&includes["arches"], &["amd64"]) != Some(false)
            && has(&excludes["caps"], capabilities) != Some(true)
            && has(&excludes["arches"], &["amd64"]) != Some(true)
    };
    let entries = source["syscalls"].as_array().expect("entries").iter().filter(chosen);
    let entries = entries.map(|entry| {
        let mut kept = json!({ "names": entry["names"], "action": entry["action"] });
        for member in ["args", "errnoRet"] {
            if !entry[member].is_null() && entry[member] != json!([]) {
                kept[member] = entry[member].clone();
            }
        }
        kept
    });
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": entries.collect::<Vec<_>>(),
    })
}

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_SYS_CHROOT"];

#[test]
fn docker_as_libseccomp() {
    let cases = compare(&docker(&CAPABILITIES), &arch::X86, false);
    assert!(cases > 1800, "{cases} cases");
    compare(&docker(&["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]), &arch::X86, false);
    compare(&docker(&[]), &arch::X86, false);
}

#[test]
fn docker_with_fewer_architectures() {
    for architectures in
        [json!([]), json!(["SCMP_ARCH_X86"]), json!(["SCMP_ARCH_X32"]), json!(null)]
    {
        let mut profile = docker(&CAPABILITIES);
        profile["architectures"] = architectures;
        compare(&profile, &arch::X86, false);
    }
}

#[test]
fn docker_is_short() {
    let filter = compile_for(&seccomp(&docker(&CAPABILITIES)), &arch::X86);
    let program = filter.expect("compiles").program;
    assert!(program.len() <= 400, "{} instructions", program.len());
    let family = &arch::X86;
    let calls = family.table.names().filter_map(|name| family.table.lookup(name));
    let steps = calls
        .filter_map(|numbers| numbers.on(0))
        .map(|number| run(&program, &Call::new(family.archs[0].token, number, [0; 6], 0)).1);
    let (longest, total, count) =
        steps.fold((0, 0, 0), |(max, sum, n), step| (step.max(max), sum + step, n + 1));
    assert!(longest <= 30, "{longest} instructions for one call");
    assert!(total / count <= 14, "{} instructions on the average", total / count);
}

#[test]
fn foreign_families_as_libseccomp() {
    for family in [&arch::ARM, &arch::RISCV, &arch::S390, &arch::POWERPC] {
        let mut profile = docker(&CAPABILITIES);
        profile["architectures"] = family.archs.iter().map(|arch| arch.name).collect();
        // libseccomp has this one on aarch64 alone.
        let profile = without(&profile, &["sync_file_range2".to_owned()]);
        compare(&profile, family, true);
    }
}

/// Every name has an errno of its own: no number is wrong, as far as libseccomp knows the name.
#[test]
fn tables_as_libseccomp() {
    for family in [&arch::X86, &arch::ARM, &arch::RISCV, &arch::S390, &arch::POWERPC] {
        let names = family.table.names().enumerate();
        // Numbers in the kernel's headers (ARM, PowerPC) that libseccomp 2.5.4 does not have.
        let names =
            names.filter(|(_, name)| !["sync_file_range2", "sys_debug_setcontext"].contains(name));
        let entries = names.map(|(i, name)| {
            // Small enough for `decode` to see what was swapped twice.
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": i % 0x400 + 2 })
        });
        let archs = family.archs.iter().map(|arch| arch.name);
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": archs.collect::<Vec<_>>(),
            "syscalls": entries.collect::<Vec<_>>(),
        });
        assert!(compare(&profile, family, family.archs[0].name != arch::X86.archs[0].name) > 600);
    }
}

/// A generator that gives the same numbers every time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const NAMES: [&str; 16] = [
    "read",
    "chmod",
    "clone",
    "socket",
    "personality",
    "ioctl",
    "shmget",
    "accept",
    "recvmmsg",
    "execve",
    "openat2",
    "mmap2",
    "socketcall",
    "waitpid",
    "prctl",
    "semop",
];
/// All; the last is none for a default.
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_NOTIFY",
];
const EQUALITIES: [&str; 2] = ["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const VALUES: [u64; 8] = [0, 1, 2, 7, 0xffff_ffff, 1 << 32, 0x7_0000_0003, u64::MAX];

fn random_arg(random: &mut Random, operators: &[&str]) -> Value {
    json!({
        "index": random.below(3),
        "op": random.pick(operators),
        "value": random.pick(&VALUES),
        "valueTwo": random.pick(&VALUES),
    })
}

/// An entry with up to three conditions.
fn random_entry(random: &mut Random, names: Value, action: &str) -> Value {
    let args = (0..random.below(4)).map(|_| random_arg(random, &OPERATORS));
    json!({ "names": names, "action": action, "args": args.collect::<Vec<_>>() })
}

fn random_profile(random: &mut Random, entries: Vec<Value>) -> Value {
    json!({
        "defaultAction": random.pick(&ACTIONS[..7]),
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "listenerPath": "/run/agent",
        "syscalls": entries,
    })
}

/// Many rules for a call, of one condition each. (More conditions and other operators are left
/// out: where such rules overlap, libseccomp 2.5.4 confuses some. The next tests have them.)
#[test]
fn overlapping_rules_as_libseccomp() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut cases = 0;
    for action in ACTIONS.iter().cycle().take(60) {
        let entries = (0..1 + random.below(6)).map(|_| {
            let names = json!([random.pick(&NAMES), random.pick(&NAMES)]);
            let args = json!([random_arg(&mut random, &EQUALITIES)]);
            json!({ "names": names, "action": action, "args": args })
        });
        let entries = entries.collect();
        cases += compare(&random_profile(&mut random, entries), &arch::X86, false);
    }
    assert!(cases > 50_000, "{cases} cases");
}

/// One rule for a call, with all operators and actions.
#[test]
fn single_rules_as_libseccomp() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut cases = 0;
    // Not s390x: `decode` cannot tell all of these actions when they are swapped twice.
    let families = [&arch::X86, &arch::ARM, &arch::RISCV, &arch::POWERPC];
    for family in families.into_iter().cycle().take(80) {
        let entries = NAMES.iter().map(|name| {
            let action = random.pick(&ACTIONS);
            let mut entry = random_entry(&mut random, json!([name]), action);
            let args = entry["args"].as_array_mut().expect("args");
            args.sort_by_key(|arg| arg["index"].as_u64());
            args.dedup_by_key(|arg| arg["index"].as_u64());
            entry
        });
        // Calls inside socketcall and ipc would overlap.
        let multiplexed = ["socket", "accept", "recvmmsg", "shmget", "semop"];
        let entries = entries.filter(|entry| !multiplexed.iter().any(|n| entry["names"][0] == *n));
        let entries = entries.collect();
        let mut profile = random_profile(&mut random, entries);
        profile["architectures"] = family.archs.iter().map(|arch| arch.name).collect();
        cases += compare(&profile, family, family.archs[0].name != arch::NATIVE.archs[0].name);
    }
    assert!(cases > 50_000, "{cases} cases");
}

/// Two rules for a call that want different things: the same one wins.
#[test]
fn precedence_as_libseccomp() {
    let mut conditions = vec![json!([])];
    for (op, value) in OPERATORS.iter().flat_map(|op| [(op, 2), (op, 7)]) {
        let arg = |index| json!({ "index": index, "value": value, "valueTwo": 2, "op": op });
        conditions.extend([json!([arg(0)]), json!([arg(1)])]);
    }
    let both = [0, 1].map(|index| json!({ "index": index, "value": 7, "op": "SCMP_CMP_EQ" }));
    conditions.push(json!(both));
    let mut random = Random(3);
    let mut compared = 0;
    for _ in 0..150 {
        let entries = ["SCMP_ACT_ALLOW", "SCMP_ACT_TRAP"].map(|action| {
            json!({ "names": ["prctl"], "action": action, "args": random.pick(&conditions) })
        });
        let mut profile = random_profile(&mut random, entries.to_vec());
        profile["defaultAction"] = json!("SCMP_ACT_ERRNO");
        compared += usize::from(compare(&profile, &arch::X86, false) > 0);
    }
    assert!(compared > 100, "{compared} profiles");
}

/// A rule that asks for the default does not outdo a later one.
#[test]
fn redundant_rules_as_libseccomp() {
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read", "write"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["read", "prctl"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["prctl"], "action": "SCMP_ACT_TRAP" },
    ] });
    assert!(compare(&profile, &arch::X86, false) > 1800);
}

/// More conditions than jumps reach over.
#[test]
fn many_rules_as_libseccomp() {
    let names = arch::X86.table.names().filter(|name| *name != "write").enumerate();
    let names = names.filter(|(i, _)| i % 3 == 0);
    let entries = names.map(|(i, name)| {
        let args = json!([{ "index": i % 6, "value": i, "op": OPERATORS[i % 7], "valueTwo": i }]);
        json!({ "names": [name], "action": ACTIONS[i % 8], "errnoRet": null, "args": args })
    });
    let entries: Vec<_> = entries.collect();
    let mut profile = random_profile(&mut Random(1), entries);
    profile["defaultAction"] = json!("SCMP_ACT_KILL_THREAD");
    let cases = compare(&profile, &arch::X86, false);
    assert!(cases > 100_000, "{cases} cases");
}

/// Whether a condition holds, read straight from the profile.
fn holds(arg: &Value, args: &[u64; 6], wide: bool) -> bool {
    let bits = if wide { u64::MAX } else { 0xffff_ffff };
    let number = |member| arg[member].as_u64().expect("a number");
    let is = args[number("index") as usize] & bits;
    let (value, two) = (number("value") & bits, number("valueTwo") & bits);
    match arg["op"].as_str().expect("an operator") {
        "SCMP_CMP_NE" => is != value,
        "SCMP_CMP_LT" => is < value,
        "SCMP_CMP_LE" => is <= value,
        "SCMP_CMP_EQ" => is == value,
        "SCMP_CMP_GE" => is >= value,
        "SCMP_CMP_GT" => is > value,
        _ => is & value == two & value,
    }
}

/// Any rules for one call with one action: it happens if one of them holds.
#[test]
fn overlapping_rules_as_read() {
    let mut random = Random(0xda94_2042_e4dd_58b5);
    for _ in 0..200 {
        let entries = (0..1 + random.below(5))
            .map(|_| random_entry(&mut random, json!(["prctl"]), "SCMP_ACT_LOG"));
        let entries = entries.collect();
        let mut profile = random_profile(&mut random, entries);
        profile["defaultAction"] = json!("SCMP_ACT_TRAP");
        let filter = compile_for(&seccomp(&profile), &arch::X86).expect("compiles");
        let program = filter.program;
        for (arch, number) in arch::X86.archs.iter().zip([157, 172, 157 + (1 << 30)]) {
            for set in arguments(&interesting(&profile)) {
                let rule = |entry: &Value| {
                    let args = entry["args"].as_array().expect("args");
                    let indices: Vec<_> = args.iter().map(|arg| &arg["index"]).collect();
                    let twice = (1..indices.len()).any(|i| indices[..i].contains(&indices[i]));
                    let one = |arg| holds(arg, &set, arch.wide);
                    if twice { args.iter().any(one) } else { args.iter().all(one) }
                };
                let logged = profile["syscalls"].as_array().expect("entries").iter().any(rule);
                let action = if logged { libc::SECCOMP_RET_LOG } else { libc::SECCOMP_RET_TRAP };
                let result = run(&program, &Call::new(arch.token, number, set, 0)).0;
                assert_eq!(result, action, "{} {set:x?} {profile:#}", arch.name);
            }
        }
    }
}

/// How long Docker's profile takes: `cargo test --release -- --ignored --nocapture compile_time`.
#[test]
#[ignore = "a measurement"]
fn compile_time() {
    let config = seccomp(&docker(&CAPABILITIES));
    let mut times: Vec<_> = (0..2000)
        .map(|_| {
            let start = std::time::Instant::now();
            let filter = compile_for(&config, &arch::X86).expect("compiles");
            (start.elapsed(), filter.program.len())
        })
        .collect();
    println!("first: {:?}", times[0]);
    times.sort_unstable();
    println!("minimum: {:?}, median: {:?}", times[0], times[times.len() / 2]);
}
