//! Whatever happens to the runtime, `delete --force` leaves nothing.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Container, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills the runtime `delay` after its start, then cleans up by force.
fn kill_after(verb: &str, delay: Duration) {
    let c = Container::sh("exit 0");
    let mut child = c
        .boot(verb, &[])
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the runtime");
    std::thread::sleep(delay);
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    child.wait().expect("wait for the runtime");
    c.verb("delete").args(&["--force", &c.id]).ok();
    eventually("nothing is left", || c.leftovers().is_empty());
}

/// Kills the runtime's first process at its N-th system call, for a range of N.
fn kill_at_calls(verb: &str, calls: std::ops::Range<usize>, step: usize) {
    for call in calls.step_by(step) {
        let c = Container::sh("exit 0");
        let inject = format!("inject=all:signal=SIGKILL:when={call}");
        let strace = ["strace", "-o", "/dev/null", "-e", "trace=none", "-e", &inject];
        c.boot(verb, &[]).under(&strace).answer();
        c.verb("delete").args(&["--force", &c.id]).ok();
        let what = format!("nothing is left of a {verb} that was killed at call {call}");
        eventually(&what, || c.leftovers().is_empty());
    }
}

#[test]
fn killed_at_any_time_of_run() {
    for micros in (0..6000).step_by(150) {
        kill_after("run", Duration::from_micros(micros));
    }
}

#[test]
fn killed_at_any_time_of_create() {
    for micros in (0..6000).step_by(150) {
        kill_after("create", Duration::from_micros(micros));
    }
}

#[test]
fn killed_at_system_calls_of_create() {
    kill_at_calls("create", 1..260, 6);
}

#[test]
fn killed_at_system_calls_of_run() {
    kill_at_calls("run", 3..260, 6);
}

#[test]
fn a_delete_that_was_killed_can_be_repeated() {
    for call in (1..120).step_by(7) {
        let c = Container::idle();
        c.run_detached();
        let inject = format!("inject=all:signal=SIGKILL:when={call}");
        let strace = ["strace", "-o", "/dev/null", "-e", "trace=none", "-e", &inject];
        c.verb("delete").args(&["--force", &c.id]).under(&strace).answer();
        c.verb("delete").args(&["--force", &c.id]).ok();
        eventually("nothing is left", || c.leftovers().is_empty());
    }
}

#[test]
fn a_container_killed_from_outside_is_stopped() {
    let c = Container::idle();
    c.run_detached();
    kill(Pid::from_raw(c.pid()), Signal::SIGKILL).expect("kill init");
    c.wait_for("stopped");
    c.act("delete").ok();
    c.assert_nothing_left();
    c.create();
    kill(Pid::from_raw(c.pid()), Signal::SIGKILL).expect("kill init");
    c.wait_for("stopped");
    c.act("start").fails(1);
    c.end();
}

#[test]
fn two_deletes_at_once() {
    for _ in 0..10 {
        let c = Container::idle();
        c.run_detached();
        let delete = || c.verb("delete").args(&["--force", &c.id]).spawn();
        let (one, two) = (delete(), delete());
        assert_eq!((one.answer().code, two.answer().code), (0, 0));
        c.assert_nothing_left();
    }
}

#[test]
fn a_kill_during_create_ends_cleanly() {
    for _ in 0..10 {
        let c = Container::idle();
        let create = c.boot("create", &[]).spawn();
        c.act("kill").args(&["KILL"]).answer();
        create.answer();
        c.end();
    }
}

#[test]
fn a_full_state_directory_is_an_error_that_leaves_nothing() {
    let c = Container::idle();
    std::fs::create_dir(c.root()).expect("make state root");
    let script =
        format!("mount -t tmpfs -o size=4k,nr_inodes=2 t {} && exec \"$@\"", c.root().display());
    let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    c.boot("create", &[]).under(&private).fails(1);
    c.assert_nothing_left();
}
