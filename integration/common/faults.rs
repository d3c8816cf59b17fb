//! Faults at the N-th system call of a command; see integration/programs/inject.c.

use std::sync::OnceLock;

use super::{Cmd, Container, compile, eventually};

/// What is done to a system call, and whose it is: see integration/programs/inject.c.
#[derive(Clone, Copy)]
pub struct Fault {
    action: &'static str,
    whose: &'static str,
}

/// The runtime is killed.
pub const KILLED: Fault = Fault { action: "KILL", whose: "runtime" };
/// A process that it has made is killed.
pub const CHILD_KILLED: Fault = Fault { action: "KILL", whose: "child" };
/// A call of the runtime fails.
pub const FAILING: Fault = Fault { action: EIO, whose: "runtime" };
/// A call of a process that it has made fails.
pub const CHILD_FAILING: Fault = Fault { action: EIO, whose: "child" };
const EIO: &str = "5";
/// The injector's exit code when there were fewer calls.
const NEVER: i32 = 99;

/// Builds the injector, once.
fn injector() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("tare-test-inject-{}", std::process::id()));
        compile("inject.c", &path);
        path.to_string_lossy().into_owned()
    })
}

/// Does a command again and again, each time with the fault `step` system calls later, until there are
/// no more; cleans up by force after each.
pub fn at_each_call(
    fault: Fault,
    step: u32,
    prepare: impl Fn() -> Container,
    command: impl Fn(&Container) -> Cmd,
) {
    at_calls(fault, (step..).step_by(step as usize), prepare, command);
}

/// As [`at_each_call`], with the fault at these system calls.
pub fn at_calls(
    fault: Fault,
    calls: impl Iterator<Item = u32>,
    prepare: impl Fn() -> Container,
    command: impl Fn(&Container) -> Cmd,
) {
    let mut last = 0;
    for call in calls {
        last = call;
        let c = prepare();
        let number = call.to_string();
        let answer = command(&c).under(&[injector(), fault.action, fault.whose, &number]).answer();
        let what = format!("call {call} of the {}: {}", fault.whose, fault.action);
        assert!(!answer.stderr.contains("panicked"), "{what}: {answer:?}");
        match answer.code {
            NEVER => break,
            0 => {}
            137 if fault.action == "KILL" => {}
            _ => assert_eq!(messages(&answer.stderr), 1, "{what}: {answer:?}"),
        }
        c.verb("delete").args(&["--force", &c.id]).ok();
        eventually(&format!("nothing is left after {what}"), || c.leftovers().is_empty());
    }
    assert!(last > 20, "only {last} system calls of the {}", fault.whose);
}

/// How many errors a command has told; what the kernel says of the payload stands by itself.
fn messages(stderr: &str) -> usize {
    let is_error = |line: &&str| line.starts_with("tare: ") || line.starts_with("exec");
    stderr.lines().filter(is_error).count()
}
