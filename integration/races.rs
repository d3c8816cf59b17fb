//! Two callers do different things to one container at the same time. Whoever comes first: both
//! end, whoever fails says why in words that callers know, and nothing is left in the end.

mod common;

use std::time::{Duration, Instant};

use common::{Answer, Cmd, Container, Running, eventually, limit, peers_fail};
use serde_json::json;

/// How often each pair meets, with another delay each time.
const TURNS: u32 = 30;
/// The longest head start of either side, in microseconds; about as long as a `create` takes.
const HEAD_START: u64 = 25_000;

/// What brings the container into the state in which the two meet.
type Prepare = fn(&Container);
/// A caller's command.
type Act = fn(&Container) -> Cmd;

/// Numbers that look random and are the same every time (Numerical Recipes' generator).
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & 0xffff_ffff;
        Duration::from_micros((self.0 >> 8) % HEAD_START)
    }
}

fn absent(c: &Container) {
    // `list` of a directory that is not there is an error of its own.
    std::fs::create_dir_all(c.root()).expect("make the state root");
}
fn created(c: &Container) {
    c.create();
}
fn running(c: &Container) {
    c.run_detached();
}
fn paused(c: &Container) {
    c.run_detached();
    c.act("pause").ok();
}
fn stopped(c: &Container) {
    c.run_detached().kill("KILL").wait_for("stopped");
}

fn create(c: &Container) -> Cmd {
    c.boot("create", &[])
}
fn run(c: &Container) -> Cmd {
    c.boot("run", &[])
}
fn run_detached(c: &Container) -> Cmd {
    c.boot("run", &["--detach"])
}
fn start(c: &Container) -> Cmd {
    c.act("start")
}
fn kill(c: &Container) -> Cmd {
    c.act("kill").args(&["KILL"])
}
fn delete(c: &Container) -> Cmd {
    c.act("delete")
}
fn delete_force(c: &Container) -> Cmd {
    c.verb("delete").args(&["--force", &c.id])
}
fn exec(c: &Container) -> Cmd {
    c.exec(&[], &["/bin/sleep", "0.01"])
}
fn pause(c: &Container) -> Cmd {
    c.act("pause")
}
fn resume(c: &Container) -> Cmd {
    c.act("resume")
}
fn update(c: &Container) -> Cmd {
    c.act("update").args(&["--pids-limit", "50", "--cpu-share", "200"])
}
fn state(c: &Container) -> Cmd {
    c.act("state")
}
fn ps(c: &Container) -> Cmd {
    c.verb("ps").args(&["--format", "json", &c.id])
}
fn stats(c: &Container) -> Cmd {
    c.act("events").args(&["--stats"])
}
fn list(c: &Container) -> Cmd {
    c.verb("list").args(&["--format", "json"])
}

/// Lets the two meet; whoever fails has to say one of these.
fn meet(prepare: Prepare, first: Act, second: Act, words: &[&str]) {
    let c = Container::idle();
    // Where that it is gone is no known answer, neither waits for anything.
    let patience = if words.contains(&GONE) { Duration::from_millis(300) } else { limit() };
    let mut delays = Delays(u64::from(words.len() as u32) + 7);
    for turn in 0..TURNS {
        prepare(&c);
        let (early, late) = match turn % 2 {
            0 => (first(&c), second(&c)),
            _ => (second(&c), first(&c)),
        };
        let early = early.spawn();
        std::thread::sleep(delays.next());
        let mut pair = [early, late.spawn()];
        finish(&c, &mut pair, patience);
        pair.into_iter().for_each(|one| judge(turn, &one.answer(), words));
        delete_force(&c).ok();
        c.assert_nothing_left();
    }
}

/// Waits for both. One that waits for the payload, or for a paused container, goes on when that is
/// deleted.
fn finish(c: &Container, pair: &mut [Running; 2], patience: Duration) {
    let patience = Instant::now() + patience;
    while !pair.iter_mut().all(|one| one.child.try_wait().expect("wait").is_some()) {
        std::thread::sleep(Duration::from_millis(1));
        if Instant::now() > patience {
            delete_force(c).ok();
        }
    }
}

/// A failure has known words; a payload that was killed says nothing.
fn judge(turn: u32, answer: &Answer, words: &[&str]) {
    let silent = answer.code == 137 && answer.stderr.is_empty();
    if answer.code == 0 || silent {
        return;
    }
    let known = words.iter().any(|words| answer.stderr.contains(words));
    assert!(known && matches!(answer.code, 1 | 255), "turn {turn}: {answer:?}");
}

const GONE: &str = "container does not exist";
const EXISTS: &str = "container with given ID already exists";
const NOT_RUNNING: &str = "container not running";
const KILLED: &str = "ended before its start: signal 9";

const STOPPED: &str = "cannot exec in a stopped container";

#[test]
fn create_and_kill() {
    meet(absent, create, kill, &[GONE, NOT_RUNNING, KILLED]);
}

#[test]
fn create_and_delete() {
    meet(absent, create, delete, &[GONE, "that is not stopped: creating", KILLED]);
}

#[test]
fn create_and_delete_by_force() {
    meet(absent, create, delete_force, &[KILLED, GONE]);
}

#[test]
fn create_twice() {
    meet(absent, create, create, &[EXISTS, KILLED]);
}

#[test]
fn run_and_delete_by_force() {
    meet(absent, run, delete_force, &[KILLED, GONE]);
    meet(absent, run_detached, delete_force, &[KILLED, GONE]);
}

/// Who ran the first one must not clean up the second one.
#[test]
fn run_and_replace() {
    let c = Container::idle();
    for _ in 0..TURNS {
        let first = run(&c).spawn();
        eventually("running", || c.act("state").answer().stdout.contains("\"running\""));
        delete_force(&c).ok();
        c.create();
        assert_eq!(first.answer().code, 137);
        assert_eq!(c.state()["status"], "created");
        c.end();
    }
}

#[test]
fn run_and_kill() {
    meet(absent, run, kill, &[KILLED, GONE, NOT_RUNNING]);
}

#[test]
fn start_twice() {
    meet(created, start, start, &["cannot start an already running container"]);
}

#[test]
fn start_and_delete() {
    let words = [GONE, "that is not stopped: running", "cannot start a container that has stopped"];
    meet(created, start, delete, &words);
    meet(created, start, delete_force, &words);
}

#[test]
fn start_and_kill() {
    meet(created, start, kill, &["cannot start a container that has stopped", NOT_RUNNING]);
}

#[test]
fn start_and_pause() {
    let words = ["cannot start a container in the paused state", "that has stopped"];
    meet(created, start, pause, &words);
}

#[test]
fn a_pause_waits_for_a_start_that_is_under_way() {
    if peers_fail("they freeze it half-way, and start hangs") {
        return;
    }
    let script = "touch /shared/begun; until [ -e /shared/go ]; do sleep 0.02; done";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
    let c = Container::idle().share().with(|c| c["hooks"] = json!({"startContainer": [hook]}));
    c.create();
    let starting = start(&c).spawn();
    eventually("the hook", || c.shared().join("begun").exists());
    let pausing = pause(&c).spawn();
    // Time to do it wrong.
    std::thread::sleep(Duration::from_millis(200));
    std::fs::write(c.shared().join("go"), "").expect("write go");
    assert_eq!(starting.answer().code, 0, "start");
    assert_eq!(pausing.answer().code, 0, "pause");
    assert_eq!(c.state()["status"], "paused");
    delete_force(&c).ok();
    c.assert_nothing_left();
}

#[test]
fn delete_twice() {
    meet(stopped, delete, delete, &[GONE]);
    meet(running, delete_force, delete_force, &[]);
    meet(stopped, delete, delete_force, &[GONE]);
}

/// The state of a `run` can be read while the child's root is still the host's.
#[test]
fn exec_while_a_run_is_at_work() {
    if peers_fail("their state comes last") {
        return;
    }
    let c = Container::idle();
    let slowly = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pivot_root", "-e"];
    let slowly = [&slowly[..], &["inject=pivot_root:delay_enter=3000000"]].concat();
    let running = c.boot("run", &["--detach"]).under(&slowly).spawn();
    eventually("it has a process", || c.act("state").answer().stdout.contains("\"pid\": "));
    let said = exec(&c).fails(255);
    assert!(said.contains("cannot exec in a container that is still being created"), "{said}");
    assert_eq!(c.state()["status"], "creating");
    exec(c.wait_for("running")).ok();
    // strace stays with the payload.
    c.end();
    assert_eq!(running.answer().code, 0);
}

#[test]
fn exec_while_it_dies() {
    let words = [GONE, STOPPED];
    meet(running, exec, kill, &[&words[..], &[NOT_RUNNING]].concat());
    meet(running, exec, delete_force, &words);
}

#[test]
fn exec_and_pause() {
    meet(running, exec, pause, &["cannot exec in a paused container", STOPPED, KILLED, GONE]);
}

#[test]
fn pause_while_it_dies() {
    meet(running, pause, delete_force, &[GONE, NOT_RUNNING]);
    meet(running, pause, kill, &[GONE, NOT_RUNNING]);
    meet(running, pause, pause, &[NOT_RUNNING]);
}

#[test]
fn resume_while_it_dies() {
    // A kill thaws: it may run for a moment before it dies.
    let words = [GONE, NOT_RUNNING, "container not paused"];
    meet(paused, resume, delete_force, &words);
    meet(paused, resume, kill, &words);
    meet(paused, resume, pause, &[NOT_RUNNING]);
}

#[test]
fn update_while_it_dies() {
    meet(running, update, delete_force, &[GONE, NOT_RUNNING]);
    meet(running, update, update, &[]);
    meet(running, update, kill, &[NOT_RUNNING]);
}

#[test]
fn looks_while_it_dies() {
    for look in [state, ps, stats, list] {
        meet(running, look, delete_force, &[GONE, "is not running", NOT_RUNNING]);
    }
}

#[test]
fn looks_while_it_is_made() {
    for look in [state, ps, stats, list] {
        meet(absent, create, look, &[GONE, "is not running", NOT_RUNNING]);
    }
}
