//! A container's word that it is ready, on its way to the service manager (sd_notify(3)).

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::{Cmd, Container, compile, is_tare};

/// The service manager's end.
struct Manager(UnixDatagram, String);

impl Manager {
    fn of(c: &Container) -> Manager {
        let path = c.shared().join("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(common::limit())).unwrap();
        Manager(socket, path.display().to_string())
    }

    /// A command of a service that it has started.
    fn asks(&self, cmd: Cmd) -> Cmd {
        cmd.env("NOTIFY_SOCKET", &self.1)
    }

    /// What it was told, up to the process that it is to watch.
    fn told(&self) -> String {
        let mut all = String::new();
        while !all.contains("MAINPID=") {
            all += &self.next().expect("a word for the manager");
        }
        all
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    /// A descriptor that comes with it is closed by not being received.
    fn is_asked_to_confirm(&self) {
        // Debian's runc does not ask.
        assert!(!is_tare() || self.next().as_deref() == Some("BARRIER=1"));
    }
}

/// A container that says `words` once shared/go is there; with `more` it lives on.
fn container(words: &str, more: &str) -> Container {
    let c = Container::sh(&format!(
        "until [ -e /shared/go ]; do sleep 0.02; done; exec /shared/say '{words}' {more}"
    ));
    compile("say.c", &c.shared().join("say"));
    c.share()
}

fn go(c: &Container) {
    std::fs::write(c.shared().join("go"), "").unwrap();
}

#[test]
fn start_returns_once_the_manager_knows() {
    // runc knows it only where it comes first.
    let c = container(if is_tare() { "STATUS=x\nREADY=1" } else { "READY=1" }, "on");
    let manager = Manager::of(&c);
    manager.asks(c.boot("create", &[])).ok();
    let mut start = manager.asks(c.act("start")).spawn();
    c.wait_for("running");
    std::thread::sleep(Duration::from_millis(150));
    assert!(start.child.try_wait().unwrap().is_none(), "start did not wait");
    go(&c);
    assert_eq!(manager.told(), format!("READY=1\nMAINPID={}\n", c.state()["pid"]));
    manager.is_asked_to_confirm();
    assert_eq!(start.answer().code, 0);
    c.end();
    c.assert_nothing_left();
}

#[test]
fn a_detached_run_returns_once_the_manager_knows() {
    let c = container("READY=1", "on");
    let manager = Manager::of(&c);
    go(&c);
    let run = manager.asks(c.boot("run", &["--detach"])).spawn();
    assert_eq!(manager.told(), format!("READY=1\nMAINPID={}\n", c.state()["pid"]));
    manager.is_asked_to_confirm();
    assert_eq!(run.answer().code, 0);
    c.end();
    c.assert_nothing_left();
}

#[test]
fn in_the_foreground_the_runtime_is_watched() {
    for terminal in [false, true] {
        let c = container("READY=1", "").with(|c| c["process"]["terminal"] = terminal.into());
        let manager = Manager::of(&c);
        go(&c);
        if terminal && !is_tare() {
            continue;
        }
        let run = manager.asks(c.boot("run", &[])).spawn();
        assert_eq!(manager.told(), format!("READY=1\nMAINPID={}\n", run.child.id()));
        assert_eq!(run.answer().code, 0);
        c.assert_nothing_left();
    }
}

#[test]
fn who_ends_without_a_word_is_not_waited_for() {
    if common::peers_fail("runc waits until its init has been reaped, by whomever") {
        return;
    }
    let c = container("STATUS=not yet", "");
    let manager = Manager::of(&c);
    go(&c);
    manager.asks(c.boot("create", &[])).ok();
    manager.asks(c.act("start")).ok();
    c.wait_for("stopped");
    c.end();
    manager.asks(c.boot("run", &[])).ok();
    c.assert_nothing_left();
}

#[test]
fn a_manager_that_is_gone_stops_no_container() {
    let c = Container::sh("echo $NOTIFY_SOCKET");
    let run = c.boot("run", &[]).env("NOTIFY_SOCKET", "/no/manager").answer();
    assert_eq!((run.code, run.stdout.as_str()), (0, "/run/notify/notify.sock\n"));
    assert!(
        run.stderr.contains("connect to $NOTIFY_SOCKET: no such file") || !is_tare(),
        "{run:?}"
    );
    c.assert_nothing_left();
}
