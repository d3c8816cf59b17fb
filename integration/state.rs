//! Every command in every state (runtime.md, "Operations"): what it answers, and that a failure
//! leaves the container as it was.

mod common;

use common::{Cmd, Container, Running, eventually, peers_fail};
use serde_json::{Value, json};

/// The columns of [`TABLE`].
const STATES: [&str; 6] = ["absent", "creating", "created", "running", "paused", "stopped"];

const ABSENT: &str = "container does not exist";
const EXISTS: &str = "container with given ID already exists";
const NOT_RUNNING: &str = "container not running";
const NOT_PAUSED: &str = "container not paused";
const IDLE: &str = "is not running";
const OK: &str = "";

/// A command, and for each state the words of its failure or [`OK`].
const TABLE: &[(&str, [&str; 6])] = &[
    ("create", [OK, EXISTS, EXISTS, EXISTS, EXISTS, EXISTS]),
    ("run -d", [OK, EXISTS, EXISTS, EXISTS, EXISTS, EXISTS]),
    (
        "start",
        [
            ABSENT,
            "cannot start a container in the creating state",
            OK,
            "cannot start an already running container",
            "cannot start a container in the paused state",
            "cannot start a container that has stopped",
        ],
    ),
    ("state", [ABSENT, OK, OK, OK, OK, OK]),
    ("kill 0", [ABSENT, NOT_RUNNING, OK, OK, OK, NOT_RUNNING]),
    ("kill KILL", [ABSENT, NOT_RUNNING, OK, OK, OK, NOT_RUNNING]),
    ("kill --all KILL", [ABSENT, NOT_RUNNING, OK, OK, OK, OK]),
    (
        "delete",
        [
            ABSENT,
            "that is not stopped: creating",
            OK,
            "that is not stopped: running",
            "that is not stopped: paused",
            OK,
        ],
    ),
    ("delete --force", [OK, OK, OK, OK, OK, OK]),
    (
        "exec",
        [
            ABSENT,
            "still being created",
            OK,
            OK,
            "cannot exec in a paused container",
            "cannot exec in a stopped container",
        ],
    ),
    ("pause", [ABSENT, NOT_RUNNING, OK, OK, NOT_RUNNING, NOT_RUNNING]),
    ("resume", [ABSENT, NOT_PAUSED, NOT_PAUSED, NOT_PAUSED, OK, NOT_PAUSED]),
    ("ps", [ABSENT, OK, OK, OK, OK, OK]),
    (
        "update --pids-limit 20",
        [ABSENT, "cannot update a container in the creating state", OK, OK, OK, NOT_RUNNING],
    ),
    ("events --stats", [ABSENT, IDLE, OK, OK, OK, IDLE]),
];

/// A container that stays in the state `creating` until shared/go is there.
fn slow() -> Container {
    let c = Container::idle();
    let script = format!("until [ -e {}/go ]; do sleep 0.02; done", c.shared().display());
    c.with(|c| {
        c["hooks"] = json!({"createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]});
    })
}

/// A container in a state, and the `create` that is still at work.
fn bring_to(state: &str) -> (Container, Option<Running>) {
    let c = if state == "creating" { slow() } else { Container::idle() };
    match state {
        "creating" => {
            let creating = c.boot("create", &[]).spawn();
            eventually("creating", || status(&c) == "creating");
            // Its hook runs: there is a process by now.
            eventually("a process", || c.state()["pid"] != 0);
            return (c, Some(creating));
        }
        "created" => drop(c.create()),
        "running" => drop(c.run_detached()),
        "paused" => drop(c.run_detached().act("pause").ok()),
        "stopped" => drop(c.run_detached().kill("KILL").wait_for("stopped")),
        _ => {}
    }
    (c, None)
}

fn status(c: &Container) -> String {
    let answer = c.act("state").answer();
    let state: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    state["status"].as_str().unwrap_or("absent").to_owned()
}

/// The command of a row of the table.
fn command(c: &Container, words: &str) -> Cmd {
    let mut words = words.split(' ');
    let verb = words.next().unwrap();
    let rest: Vec<&str> = words.collect();
    match verb {
        "create" | "run" => c.boot(verb, &rest),
        "exec" => c.exec(&[], &["/bin/true"]),
        // Options may follow the id.
        _ => c.act(verb).args(&rest),
    }
}

fn check(state: &str, words: &str, expected: &str) {
    let (c, creating) = bring_to(state);
    let answer = command(&c, words).answer();
    if expected == OK {
        assert_eq!(answer.code, 0, "{words} when {state}: {answer:?}");
    } else {
        let code = if words == "exec" { 255 } else { 1 };
        assert_eq!(answer.code, code, "{words} when {state}: {answer:?}");
        assert!(answer.stderr.contains(expected), "{words} when {state}: {answer:?}");
        assert_eq!(status(&c), state, "{words} changed something");
    }
    std::fs::write(c.shared().join("go"), "").unwrap();
    if let Some(creating) = creating {
        let killed = words == "delete --force";
        assert_eq!(creating.answer().code, i32::from(killed), "create, with {words} meanwhile");
    }
    c.end();
}

#[test]
fn every_command_in_every_state() {
    if peers_fail("they have words of their own, and wait where an error is due") {
        return;
    }
    for (words, expected) in TABLE {
        for (state, expected) in STATES.iter().zip(expected) {
            check(state, words, expected);
        }
    }
}
