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
    let mut call = 0;
    loop {
        call += step;
        let c = prepare();
        let number = call.to_string();
        let answer = command(&c).under(&[injector(), fault.action, fault.whose, &number]).answer();
        let what = format!("call {call} of the {}: {}", fault.whose, fault.action);
        assert!(!answer.stderr.contains("panicked"), "{what}: {answer:?}");
        match answer.code {
            NEVER => break,
            0 => {}
            137 if fault.action == "KILL" => {}
            _ => assert!(!answer.stderr.trim().is_empty(), "{what}: failed without a word"),
        }
        c.verb("delete").args(&["--force", &c.id]).ok();
        eventually(&format!("nothing is left after {what}"), || c.leftovers().is_empty());
    }
    assert!(call > 20, "only {call} system calls of the {}", fault.whose);
}
