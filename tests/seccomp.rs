//! Compiled filters, loaded into the kernel over real processes. Needs no root.
//!
//! Debian packages: gcc, golang-github-containers-common (Docker's profile).
#![cfg(target_arch = "x86_64")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tare::seccomp::compile;
use tare::spec::config::Seccomp;
use tare::sys::seccomp::{set_filter, takes_flags};

static PROBE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seccomp-probe");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/probe.c");
    let status = Command::new("gcc").args(["-O1", "-o"]).arg(&path).arg(source).status();
    assert!(status.expect("gcc (Debian package gcc)").success(), "cannot build the probe");
    path
});

/// Makes calls in a process under the profile.
fn probe(profile: &Value, calls: &[&str]) -> Output {
    let config: Seccomp = tare::spec::load::from_json(&profile.to_string()).expect("a profile");
    let filter = compile(&config).expect("compiles");
    let mut command = Command::new(PROBE.as_path());
    let load = move || {
        nix::sys::prctl::set_no_new_privs()?;
        set_filter(&filter.program, filter.flags)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(load) };
    command.args(calls).output().expect("the probe runs")
}

/// What the calls returned.
#[track_caller]
fn returns(profile: &Value, calls: &[&str], expected: &str) {
    let output = probe(profile, calls);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((text.trim_end(), output.status.code()), (expected, Some(0)), "{calls:?}");
}

/// Docker's profile for a container with no capability, in the engine's three architectures.
fn docker() -> Value {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read_to_string(path).unwrap_or_else(|err| {
        panic!("{path}: {err} (Debian package golang-github-containers-common)")
    });
    let mut profile: Value = serde_json::from_str(&text).expect("JSON");
    let entries = profile["syscalls"].as_array_mut().expect("entries");
    entries.retain(|entry| {
        let arches = entry["includes"]["arches"].as_array();
        entry["includes"]["caps"].is_null()
            && arches.is_none_or(|arches| arches.iter().any(|arch| arch == "amd64"))
    });
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    profile["defaultErrnoRet"] = json!(1);
    profile
}

#[test]
fn docker_profile() {
    let docker = docker();
    // personality: asking is allowed, changing to BSD's is not.
    returns(&docker, &["135:0xffffffff", "135:6"], "0 -1");
    // swapoff is forbidden, and so is it to a 32-bit program; above all names: not there.
    returns(&docker, &["168", "i115", "600", "i600"], "-1 -1 -38 -38");
    // getppid is a call like any other, by both ABIs.
    let own = std::process::id().to_string();
    returns(&docker, &["110", "i64"], &format!("{own} {own}"));
}

#[test]
fn errnos_and_arguments() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100 },
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                { "index": 0, "value": 40, "op": "SCMP_CMP_EQ" },
                { "index": 1, "value": 2, "op": "SCMP_CMP_GE" },
            ] },
        ],
    });
    // mkdir(NULL), socket(AF_VSOCK, SOCK_STREAM and SOCK_SEQPACKET), and by the 32-bit ABI.
    returns(&profile, &["83", "41:40:5", "i39", "i359:40:5"], "-100 -1 -100 -1");
    let output = probe(&profile, &["41:1:1", "41:40:1"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("-1 "), "{output:?}");
}

#[test]
fn killed_by_rule_and_by_architecture() {
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS" }],
    });
    let sigsys = Some(libc::SIGSYS);
    assert_eq!(probe(&profile, &["110"]).status.signal(), sigsys);
    // The profile says nothing of 32-bit and x32 calls.
    assert_eq!(probe(&profile, &["i20"]).status.signal(), sigsys);
    assert_eq!(probe(&profile, &["0x40000027"]).status.signal(), sigsys);
    profile["architectures"] = json!(["SCMP_ARCH_X86"]);
    assert!(probe(&profile, &["i20"]).status.success());
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_TRAP");
    assert_eq!(probe(&profile, &["110"]).status.signal(), sigsys);
}

#[test]
fn every_flag_is_taken() {
    let flags =
        ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    for flags in [json!(flags), json!([flags[0]]), json!([flags[1]]), json!([flags[2]])] {
        let profile = json!({
            "defaultAction": "SCMP_ACT_LOG",
            "flags": flags,
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7 }],
        });
        returns(&profile, &["83"], "-7");
    }
}

#[test]
fn the_kernel_is_asked_for_its_flags() {
    assert!(takes_flags(0) && takes_flags(libc::SECCOMP_FILTER_FLAG_LOG as u32));
    assert!(!takes_flags(1 << 31), "from the future");
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    assert!(!takes_flags(listener | libc::SECCOMP_FILTER_FLAG_TSYNC as u32), "not together");
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
    assert!(status.contains("Seccomp:\t0"), "nothing is loaded");
}

#[test]
fn a_listener_answers() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    // The listener is close-on-exec: with nobody left to answer, the call is not there.
    returns(&profile, &["83"], "-38");
}

#[test]
fn there_is_one_listener_at_most() {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    let config: Seccomp = tare::spec::load::from_json(&profile.to_string()).expect("a profile");
    let filter = compile(&config).expect("compiles");
    let load = || set_filter(&filter.program, filter.flags);
    let twice = || {
        nix::sys::prctl::set_no_new_privs().expect("always possible");
        (load().expect("loads"), load().expect_err("is refused")).1
    };
    // A filter is the thread's own.
    let errno = std::thread::scope(|scope| scope.spawn(twice).join().expect("no panic"));
    let said = tare::seccomp::refused(errno).to_string();
    assert!(said.contains("under a filter with an agent already"), "{said}");
}

/// What the kernel takes to check, compile and load Docker's profile:
/// `cargo test --test seccomp -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn load_time() {
    let config: Seccomp = tare::spec::load::from_json(&docker().to_string()).expect("a profile");
    let program = compile(&config).expect("compiles").program;
    let load = || {
        nix::sys::prctl::set_no_new_privs().expect("always possible");
        let start = std::time::Instant::now();
        set_filter(&program, 0).expect("loads");
        start.elapsed()
    };
    // A filter is the thread's own: each has none at first.
    let one = || std::thread::scope(|scope| scope.spawn(load).join().expect("no panic"));
    let mut times: Vec<_> = (0..200).map(|_| one()).collect();
    times.sort_unstable();
    println!("{} instructions: minimum {:?}, median {:?}", program.len(), times[0], times[100]);
}
