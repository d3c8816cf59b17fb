//! Whatever happens to the runtime, `delete --force` leaves nothing.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::faults::{CHILD_FAILING, CHILD_KILLED, FAILING, KILLED, at_calls, at_each_call};
use common::{Cmd, Container, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

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

#[test]
fn missing_system_calls_have_a_way_around_or_a_clear_error() {
    let around = ["clone3", "close_range", "pidfd_open", "statx", "keyctl"];
    let needed = ["openat2", "open_tree", "fsopen", "fsmount", "move_mount", "mount_setattr"];
    let wanted = confined().run();
    for call in around.iter().chain(&needed) {
        let c = confined();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error=ENOSYS"));
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let answer = c.boot("run", &[]).under(&strace).answer();
        if around.contains(call) {
            assert_eq!((answer.code, &answer.stdout), (0, &wanted), "{call}: {}", answer.stderr);
        } else {
            assert_eq!(answer.code, 1, "{call}: {answer:?}");
            assert!(answer.stderr.contains("function not implemented\n"), "{}", answer.stderr);
            assert!(answer.stderr.contains("needs Linux 5.12"), "{}", answer.stderr);
        }
        c.assert_nothing_left();
    }
}

/// A container whose payload prints how it is confined.
fn confined() -> Container {
    Container::sh(CONFINED).with(|c| {
        c["process"]["user"]["additionalGids"] = json!([7, 8]);
        c["process"]["oomScoreAdj"] = json!(300);
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    })
}

const CONFINED: &str = "id; cut -d' ' -f5-6 /proc/self/mountinfo; stat -c '%n %A %t:%T' /dev/*; ulimit -a; umask; \
    grep -E 'Cap|NoNew|Seccomp:|Groups' /proc/self/status; cat /proc/self/oom_score_adj; hostname; \
    cat /proc/sys/net/ipv4/ip_forward; mkdir /tmp/x || wc -c </proc/timer_list";

fn idle() -> Container {
    let c = Container::idle();
    c.run_detached();
    c
}

fn waiting() -> Container {
    let c = Container::idle();
    c.create();
    c
}

fn delete(c: &Container) -> Cmd {
    c.verb("delete").args(&["--force", &c.id])
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
    at_each_call(KILLED, 3, Container::idle, |c| c.boot("create", &[]));
    at_each_call(CHILD_KILLED, 5, Container::idle, |c| c.boot("create", &[]));
}

#[test]
fn killed_at_system_calls_of_run() {
    at_each_call(KILLED, 3, Container::idle, |c| c.boot("run", &["--detach"]));
}

#[test]
fn killed_at_system_calls_of_start_and_delete() {
    at_each_call(KILLED, 3, waiting, |c| c.act("start"));
    at_each_call(KILLED, 3, idle, delete);
}

#[test]
fn killed_at_system_calls_of_exec() {
    let exec = |c: &Container| c.exec(&[], &["true"]);
    at_each_call(KILLED, 3, idle, exec);
    at_each_call(CHILD_KILLED, 5, idle, exec);
}

#[test]
fn each_system_call_of_start_fails() {
    at_each_call(FAILING, 1, waiting, |c| c.act("start"));
}

/// A sample of all that `cargo test` has time for, another one for each command.
#[test]
fn some_system_calls_of_each_command_fail() {
    let every = |first: u32| (first..).step_by(17);
    let run = |c: &Container| c.boot("run", &["--detach"]);
    let create = |c: &Container| c.boot("create", &[]);
    let exec = |c: &Container| c.exec(&[], &["true"]);
    at_calls(FAILING, every(1), Container::idle, create);
    at_calls(CHILD_FAILING, every(2), Container::idle, create);
    at_calls(FAILING, every(3), Container::idle, run);
    at_calls(CHILD_FAILING, every(4), Container::idle, run);
    at_calls(FAILING, every(5), idle, exec);
    at_calls(CHILD_FAILING, every(6), idle, exec);
    at_calls(FAILING, every(7), idle, delete);
    at_calls(FAILING, every(8), idle, |c| c.act("kill").args(&["KILL"]));
    at_calls(FAILING, every(9), idle, |c| c.act("state"));
    at_calls(FAILING, every(9), idle, |c| c.act("ps"));
}

/// A state that cannot be read now is no reason to forget what the container has.
#[test]
fn a_forced_delete_that_cannot_read_the_state_removes_nothing() {
    let reads = ["strace", "-qq", "-o", "/dev/null", "-P"];
    let c = idle();
    let state = c.root().join(&c.id).join("state.json");
    let inject = ["-e", "trace=read", "-e", "inject=read:error=EIO"];
    let words = [&reads[..], &[state.to_str().expect("UTF-8")], &inject].concat();
    let said = delete(&c).under(&words).fails(1);
    assert!(said.contains("input/output error"), "{said}");
    assert_eq!(c.state()["status"], "running");
    c.end();
}

/// What strace(1) does to calls of the runtime alone.
fn injecting<'a>(inject: &'a str, path: &'a str) -> Vec<&'a str> {
    let only = if path.is_empty() { &[][..] } else { &["-P", path] };
    [&["strace", "-qq", "-o", "/dev/null"][..], only, &["-e", inject]].concat()
}

#[test]
fn a_hook_that_cannot_be_watched_is_ended() {
    let c = Container::idle();
    let late = c.shared().join("late");
    let script = format!("sleep 2; touch {}", late.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 9,
        "env": ["PATH=/usr/bin:/bin"]});
    let c = c.with(|c| c["hooks"] = json!({"createRuntime": [hook]}));
    let inject = injecting("inject=pidfd_open:error=EMFILE", "");
    let said = c.boot("create", &[]).under(&inject).fails(1);
    assert!(said.contains("run createRuntime hook #0 /bin/sh: too many open files"), "{said}");
    c.assert_nothing_left();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!late.exists());
}

#[test]
fn a_hook_after_the_start_that_cannot_be_run_is_named() {
    let hooks = json!({"poststart": [{"path": "/bin/true"}]});
    let c = Container::idle().with(|c| c["hooks"] = hooks);
    c.create();
    let inject = injecting("inject=memfd_create:error=EMFILE", "");
    let said = c.act("start").under(&inject).fails(1);
    assert!(said.contains("run poststart hook #0 /bin/true: too many open files"), "{said}");
    c.end();
}

#[test]
fn a_signal_does_not_keep_a_limit_from_being_written() {
    let c = idle();
    let file = format!("/sys/fs/cgroup/memory/{}/memory.limit_in_bytes", c.id);
    if Path::new(&file).exists() {
        let inject = injecting("inject=write:error=EINTR:when=1..5", &file);
        c.verb("update").args(&["--memory", "300M", &c.id]).under(&inject).ok();
        assert_eq!(std::fs::read_to_string(file).expect("read").trim(), "314572800");
    }
    c.end();
}

/// Whoever asks whether it runs is not to hear a guess.
#[test]
fn a_freezer_that_cannot_be_read_is_an_error() {
    let c = idle();
    let file = format!("/sys/fs/cgroup/freezer/{}/freezer.self_freezing", c.id);
    if Path::new(&file).exists() {
        c.act("pause").ok();
        let inject = injecting("inject=read:error=EIO", &file);
        let said = c.act("state").under(&inject).fails(1);
        assert!(said.contains(&format!("read {file}: input/output error")), "{said}");
    }
    c.end();
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
