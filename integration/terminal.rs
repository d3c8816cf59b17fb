//! Terminals: a console socket, and a command in the foreground of one.

mod common;

use std::os::fd::AsFd;

use common::terminal::{ConsoleSocket, Session};
use common::{Container, eventually, is_tare, peers_fail};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

fn with_terminal(c: Container) -> Container {
    c.with(|c| c["process"]["terminal"] = json!(true))
}

#[test]
fn a_console_socket_receives_the_master() {
    let c = with_terminal(Container::sh(
        "tty; test -t 0 && test -t 2 && echo all; read x; echo got $x",
    ));
    let socket = ConsoleSocket::listen(&c.shared());
    c.boot("create", &["--console-socket", socket.path.to_str().unwrap()]).ok();
    let mut master = socket.receive();
    c.start();
    let said = master.read_until("all");
    assert!(said.contains("/dev/pts/0") || said.contains("/dev/console"), "{said}");
    master.type_in("word\n");
    master.read_until("got word");
    c.wait_for("stopped");
    c.end();
}

#[test]
fn the_console_is_the_containers_own() {
    let c = with_terminal(Container::sh("stat -c %F:%t /dev/console; ls /dev/pts; sleep 600"));
    let socket = ConsoleSocket::listen(&c.shared());
    c.boot("create", &["--console-socket", socket.path.to_str().unwrap()]).ok();
    let mut master = socket.receive();
    c.start();
    let said = master.read_until("ptmx");
    assert!(said.contains("character special file:88"), "{said}");
    c.end();
}

#[test]
fn a_console_that_is_a_directory_is_told() {
    let c = with_terminal(Container::idle()).with(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    });
    std::fs::create_dir(c.rootfs().join("dev/console")).unwrap();
    let socket = ConsoleSocket::listen(&c.shared());
    let socket = socket.path.to_str().unwrap();
    let said = c.boot("create", &["--console-socket", socket]).fails(1).to_lowercase();
    let word = if is_tare() { "is a directory" } else { "directory" };
    assert!(said.contains("/dev/console") && said.contains(word), "{said}");
    c.assert_nothing_left();
}

#[test]
fn console_size_is_applied() {
    let c = with_terminal(Container::sh("stty size; sleep 600"))
        .with(|c| c["process"]["consoleSize"] = json!({"height": 33, "width": 101}));
    let socket = ConsoleSocket::listen(&c.shared());
    c.boot("create", &["--console-socket", socket.path.to_str().unwrap()]).ok();
    let mut master = socket.receive();
    c.start();
    master.read_until("33 101");
    c.end();
}

/// Without a terminal it must be ignored, whatever it is.
#[test]
fn a_console_size_of_no_terminal_is_ignored() {
    if !is_tare() {
        return;
    }
    for size in [json!({"height": 70000, "width": 1}), json!({}), json!("80x24")] {
        let c = Container::sh("echo done").with(|c| c["process"]["consoleSize"] = size.clone());
        assert_eq!(c.run(), "done\n");
        let c = with_terminal(c);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains("process.consoleSize"), "{said}");
    }
}

#[test]
fn a_terminal_needs_a_console_socket_and_the_reverse() {
    let c = with_terminal(Container::idle());
    c.boot("create", &[]).fails(1);
    c.assert_nothing_left();
    c.boot("run", &["--detach"]).fails(1);
    c.assert_nothing_left();
    let c = Container::idle();
    let socket = ConsoleSocket::listen(&c.shared());
    c.boot("create", &["--console-socket", socket.path.to_str().unwrap()]).fails(1);
    c.assert_nothing_left();
    let c = with_terminal(Container::idle());
    c.boot("create", &["--console-socket", "/no/such/socket"]).fails(1);
    c.assert_nothing_left();
    let said = c.boot("run", &["--console-socket", socket.path.to_str().unwrap()]).fails(1);
    assert!(said.contains("will not detach or allocate tty"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn run_on_a_terminal() {
    let c = with_terminal(Container::sh("stty size; read x; echo got $x; exit 5"));
    let mut session = Session::start(c.boot("run", &[]), 24, 90);
    session.master.read_until("24 90");
    session.master.type_in("word\r");
    let (said, code) = session.end();
    assert!(said.contains("got word"), "{said:?}");
    assert_eq!(code, 5);
    c.assert_nothing_left();
}

#[test]
fn output_is_not_translated_twice() {
    let c = with_terminal(Container::sh("echo one; echo two"));
    let (said, code) = Session::start(c.boot("run", &[]), 24, 80).end();
    assert_eq!((said.as_str(), code), ("one\r\ntwo\r\n", 0));
}

#[test]
fn a_new_window_size_reaches_the_payload() {
    let c = with_terminal(Container::sh(
        "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done",
    ));
    let mut session = Session::start(c.boot("run", &[]), 24, 80);
    session.master.read_until("ready");
    session.master.resize(50, 132);
    session.master.read_until("50 132");
    c.kill("KILL");
    assert_eq!(session.end().1, 137);
    c.assert_nothing_left();
}

#[test]
fn control_c_interrupts_the_payload_alone() {
    let c = with_terminal(Container::sh(
        "trap 'echo caught; exit 9' INT; echo ready; \
                                         while :; do sleep 0.05; done",
    ));
    let mut session = Session::start(c.boot("run", &[]), 24, 80);
    session.master.read_until("ready");
    session.master.type_in("\x03");
    let (said, code) = session.end();
    assert!(said.contains("caught"), "{said:?}");
    assert_eq!(code, 9);
    c.assert_nothing_left();
}

#[test]
fn much_output_comes_whole() {
    let c = with_terminal(Container::sh("seq 20000; echo end"));
    let (said, code) = Session::start(c.boot("run", &[]), 24, 80).end();
    assert_eq!(code, 0);
    assert_eq!(said.lines().count(), 20001);
    assert_eq!(said.matches("\r\n").count(), 20001, "some lines are not translated");
}

/// Has the command read 300,000 bytes once the payload is ready for them, and counts what it writes.
fn pasted(c: &Container, ready: &str) -> String {
    let paste = "while [ ! -e \"$0\" ]; do sleep 0.05; done; head -c 300000 /dev/zero | tr '\\0' a";
    let script = format!("paste() {{ {paste}; }}; paste | \"$@\" | wc -c");
    let ready = c.rootfs().join(ready);
    c.boot("run", &[]).under(&["sh", "-c", &script, ready.to_str().unwrap()]).ok()
}

#[test]
fn much_input_is_answered_while_it_comes() {
    let script = "stty raw -echo; touch /tmp/ready; head -c 300000 | cat";
    let c = with_terminal(Container::sh(script));
    if peers_fail("runc asks for a terminal of its caller's") {
        return;
    }
    assert_eq!(pasted(&c, "tmp/ready"), "300000\n");
}

#[test]
fn signals_arrive_while_nobody_reads_the_output() {
    let c = with_terminal(Container::sh(
        "trap 'touch /tmp/got; exit 7' TERM; touch /tmp/ready; yes & wait",
    ));
    if peers_fail("runc asks for a terminal of its caller's") {
        return;
    }
    let (unread, output) = std::io::pipe().unwrap();
    let ours = output.try_clone().unwrap();
    let mut run = c.boot("run", &[]).command().stdout(output).spawn().unwrap();
    eventually("the trap is set", || c.rootfs().join("tmp/ready").exists());
    let room = || poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLOUT)], 0u16).unwrap() > 0;
    eventually("the pipe is full", || !room());
    let pid = Pid::from_raw(run.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    eventually("the payload has the signal", || c.rootfs().join("tmp/got").exists());
    // What is left of the output is for nobody.
    eventually("the end", || {
        kill(pid, Signal::SIGTERM).unwrap();
        run.try_wait().unwrap().is_some()
    });
    assert_eq!(run.wait().unwrap().code(), Some(7));
    drop(unread);
    c.assert_nothing_left();
}

#[test]
fn exec_on_a_terminal() {
    let c = Container::idle();
    c.run_detached();
    let script = ["/bin/sh", "-c", "tty; stty size; exit 6"];
    let (said, code) = Session::start(c.exec(&["--tty"], &script), 30, 70).end();
    assert!(said.contains("/dev/pts/") && said.contains("30 70"), "{said:?}");
    assert_eq!(code, 6);
    c.end();
}

#[test]
fn exec_detached_with_a_console_socket() {
    let c = Container::idle();
    c.run_detached();
    let socket = ConsoleSocket::listen(&c.shared());
    let process = json!({"args": ["/bin/sh", "-c", "tty; read x; echo got $x"], "cwd": "/",
        "terminal": true, "env": ["PATH=/bin", format!("TEST_ID={}", c.id)],
        "user": {"uid": 0, "gid": 0}});
    let file = c.shared().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let flags = [
        "--process",
        file.to_str().unwrap(),
        "--detach",
        "--console-socket",
        socket.path.to_str().unwrap(),
    ];
    c.verb("exec").args(&flags).args(&[&c.id]).ok();
    let mut master = socket.receive();
    master.read_until("/dev/pts/");
    master.type_in("it\n");
    master.read_until("got it");
    eventually("exec's process ends", || c.processes().len() == 1);
    c.end();
}

#[test]
fn standard_streams_that_are_no_terminal_are_passed_without_one() {
    let c = Container::sh("test -t 0 || echo none; cat");
    assert_eq!(c.boot("run", &[]).stdin(b"bytes").ok(), "none\nbytes");
}

/// As with a window that is closed: who writes on is hung up on.
#[test]
fn a_terminal_whose_reader_is_gone_is_closed() {
    let c = with_terminal(Container::idle());
    if peers_fail("runc asks for a terminal of its caller's") {
        return;
    }
    let c = c.with(|c| c["process"]["terminal"] = json!(false));
    c.run_detached();
    let short = ["timeout", "60", "bash", "-c", "set -o pipefail; \"$@\" | head -n1", "bash"];
    let said = c.exec(&["--tty"], &["/bin/yes"]).under(&short).answer();
    assert_eq!((said.code, said.stdout.trim_end()), (129, "y"), "{said:?}");
    c.end();
    let c = with_terminal(Container::new(&["/bin/yes"]));
    let said = c.boot("run", &[]).under(&short).answer();
    assert_eq!(said.stdout.trim_end(), "y", "{said:?}");
    assert_ne!(said.code, 124, "{said:?}");
    c.assert_nothing_left();
}
