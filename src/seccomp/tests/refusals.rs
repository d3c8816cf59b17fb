//! Words and values that are refused, with their paths.

use serde_json::{Value, json};

use super::super::{compile, compile_for, denies};
use super::{Call, arch, run, seccomp};

/// A profile that is fine, for one change.
fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
              "args": [{ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }] },
        ],
    })
}

/// Changes what stands at a JSON pointer, and expects a refusal with this path and these words.
#[track_caller]
fn refuses(pointer: &str, value: Value, path: &str, words: &str) {
    let mut profile = profile();
    compile(&seccomp(&profile)).expect("fine without the change");
    let (parent, member) = pointer.rsplit_once('/').expect("a pointer");
    match profile.pointer_mut(parent).expect("there") {
        Value::Array(list) => list[member.parse::<usize>().expect("an index")] = value,
        object => object[member] = value,
    }
    let err = compile(&seccomp(&profile)).expect_err("refused");
    assert_eq!((err.path(), err.message().as_str()), (Some(path), words));
}

#[test]
fn unknown_words() {
    let at = "linux.seccomp.defaultAction";
    refuses("/defaultAction", json!("ALLOW"), at, r#"unknown seccomp action "ALLOW""#);
    refuses("/defaultAction", json!(""), at, r#"unknown seccomp action """#);
    let at = "linux.seccomp.syscalls[1].action";
    refuses("/syscalls/1/action", json!("KILL"), at, r#"unknown seccomp action "KILL""#);
    let at = "linux.seccomp.syscalls[1].args[0].op";
    refuses("/syscalls/1/args/0/op", json!("=="), at, r#"unknown seccomp operator "==""#);
    let at = "linux.seccomp.architectures[1]";
    let archs = json!(["SCMP_ARCH_MIPS", "SCMP_ARCH_Z80"]);
    refuses("/architectures", archs, at, r#"unknown seccomp architecture "SCMP_ARCH_Z80""#);
    let at = "linux.seccomp.flags[0]";
    refuses("/flags", json!(["FAST"]), at, r#"unknown seccomp flag "FAST""#);
}

#[test]
fn values_out_of_bounds() {
    let at = "linux.seccomp.syscalls[1].args[0].index";
    refuses("/syscalls/1/args/0/index", json!(6), at, "system calls have no argument 6");
    let at = "linux.seccomp.syscalls[1].errnoRet";
    let words = "4096 is too large for SCMP_ACT_ERRNO";
    refuses("/syscalls/1/errnoRet", json!(4096), at, words);
    refuses("/syscalls/1/action", json!("SCMP_ACT_LOG"), at, "SCMP_ACT_LOG takes no errno");
    let at = "linux.seccomp.defaultErrnoRet";
    let words = "65536 is too large for SCMP_ACT_ERRNO";
    refuses("/defaultErrnoRet", json!(65536), at, words);
    let at = "linux.seccomp.syscalls[0].names";
    refuses("/syscalls/0/names", json!([]), at, "seccomp rule without names");
    let at = "linux.seccomp.syscalls[0].names[1]";
    refuses("/syscalls/0/names", json!(["read", ""]), at, "empty system call name");
}

#[test]
fn notifications_without_an_agent() {
    let words = "seccomp listenerPath is not set";
    refuses("/syscalls/0/action", json!("SCMP_ACT_NOTIFY"), "linux.seccomp", words);
    let at = "linux.seccomp.defaultAction";
    let words = "SCMP_ACT_NOTIFY cannot be used as default action";
    refuses("/defaultAction", json!("SCMP_ACT_NOTIFY"), at, words);
    let at = "linux.seccomp.syscalls[0].action";
    let words = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
    let entry = json!({ "names": ["read", "write"], "action": "SCMP_ACT_NOTIFY" });
    refuses("/syscalls/0", entry, at, words);
    let at = "linux.seccomp.listenerMetadata";
    let words = "seccomp listenerMetadata without listenerPath";
    refuses("/listenerMetadata", json!("x"), at, words);
}

#[test]
fn contradictions() {
    let entry = json!({ "names": ["mkdir"], "action": "SCMP_ACT_KILL",
        "args": [{ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }] });
    let words = "seccomp rules for one call contradict each other";
    refuses("/syscalls/0", entry, "linux.seccomp.syscalls[1]", words);
}

#[test]
fn too_large() {
    let args = |i: usize| json!([{ "index": 0, "value": i, "op": "SCMP_CMP_GE" }]);
    let entries = (0..1200)
        .map(|i| json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args(i) }));
    let mut profile = profile();
    profile["syscalls"] = entries.collect();
    let err = compile_for(&seccomp(&profile), &arch::X86).expect_err("refused");
    assert!(err.message().ends_with("instructions is too large"), "{err}");
}

#[test]
fn listener_and_flags() {
    let mut profile = profile();
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY");
    profile["listenerPath"] = json!("/run/agent.sock");
    profile["listenerMetadata"] = json!("hello");
    profile["flags"] = json!([
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    let filter = compile(&seccomp(&profile)).expect("compiles");
    let listener = filter.listener.expect("a listener");
    assert_eq!(listener.path, "/run/agent.sock");
    assert_eq!(listener.metadata.as_deref(), Some("hello"));
    assert!(listener.by_number, "sendmsg is not among what is let through");
    assert_eq!(filter.flags, 0b10_1110);
    // Without an agent there is no waiting for it: the kernel would refuse the flag.
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_ALLOW");
    profile["syscalls"][0]["names"] = json!(["sendmsg"]);
    let filter = compile(&seccomp(&profile)).expect("compiles");
    assert_eq!((filter.flags, filter.listener), (0b110, None));
    profile["syscalls"][1] = json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" });
    let filter = compile(&seccomp(&profile)).expect("compiles");
    assert!(filter.listener.is_some_and(|listener| !listener.by_number));
}

#[test]
fn other_architectures_are_kept_out() {
    let allow = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/ignored" });
    let filter = compile_for(&seccomp(&allow), &arch::X86).expect("compiles");
    assert_eq!(filter.listener, None);
    let action = |token| run(&filter.program, &Call::new(token, 0, [0; 6], 0)).0;
    let [native, foreign] = [0, 1].map(|index| action(arch::X86.archs[index].token));
    assert_eq!((native, foreign), (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_THREAD));
    let named = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"] });
    assert!(!compile(&seccomp(&named)).expect("compiles").program.is_empty());
    let mut deny = profile();
    deny["syscalls"] = json!([]);
    assert!(!compile(&seccomp(&deny)).expect("compiles").program.is_empty());
}

#[test]
fn what_surely_denies_a_call() {
    let denied = |default: &str, rules: Value| {
        let profile = json!({"defaultAction": format!("SCMP_ACT_{default}"), "syscalls": rules});
        denies(&seccomp(&profile), "execve")
    };
    let rule =
        |action: &str| json!({"names": ["a", "execve"], "action": format!("SCMP_ACT_{action}")});
    let args = |action: &str| {
        let mut rule = rule(action);
        rule["args"] = json!([{ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }]);
        rule
    };
    assert!(denied("ERRNO", json!([])) && denied("KILL", json!([rule("TRAP"), rule("ALLOW")])));
    assert!(denied("ERRNO", json!([args("TRAP")])) && denied("ALLOW", json!([rule("KILL")])));
    assert!(denied("ALLOW", json!([rule("ALLOW"), args("LOG"), rule("ERRNO")])));
    for action in ["ALLOW", "LOG", "TRACE", "NOTIFY"] {
        assert!(!denied("ERRNO", json!([rule(action)])) && !denied("TRAP", json!([args(action)])));
    }
    assert!(!denied("LOG", json!([rule("ALLOW"), rule("ERRNO")])));
    assert!(!denied("ALLOW", json!([args("ERRNO")])) && !denied("LOG", json!([])));
}

#[test]
fn names_without_a_number() {
    let mut profile = profile();
    profile["syscalls"][0]["names"] = json!(["read", "from_the_future", "arm_fadvise64_64"]);
    let filter = compile_for(&seccomp(&profile), &arch::X86).expect("compiles");
    assert_eq!(filter.unknown, [], "what is allowed may be newer than this");
    let mut strict = profile.clone();
    strict["defaultAction"] = json!("SCMP_ACT_LOG");
    strict["syscalls"][0]["action"] = json!("SCMP_ACT_ERRNO");
    let strict = compile_for(&seccomp(&strict), &arch::X86).expect("compiles");
    let at = "linux.seccomp.syscalls[0].names[1]".to_owned();
    assert_eq!(strict.unknown, [(at, "from_the_future".to_owned())]);
    let spec_allow = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    assert_eq!(
        (filter.flags, filter.listener),
        (spec_allow, None),
        "no flags at all: runc's default"
    );
}
