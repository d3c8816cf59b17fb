//! Checkpoint and restore with criu. `CRIU` names the program, else it is the one in `$PATH`; a
//! criu that cannot work with this kernel is told loudly, and only its error is tested then.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use common::terminal::ConsoleSocket;
use common::{Cmd, Container, eventually, is_tare, peers_fail, runtime, slowness};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// A `$PATH` that begins with the criu to use, if that can work here.
fn criu() -> Option<&'static str> {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let named = std::env::var("CRIU").unwrap_or_else(|_| "criu".into());
        let works = std::process::Command::new(&named).arg("check").output();
        if !works.is_ok_and(|output| output.status.success()) {
            eprintln!("NOT TESTED: {named} is missing or does not work with this kernel");
            return None;
        }
        let dir = std::path::Path::new(&named).parent().unwrap_or(std::path::Path::new(""));
        Some(format!("{}:{}", dir.display(), std::env::var("PATH").expect("PATH is set")))
    };
    PATH.get_or_init(find).as_deref()
}

/// Counts in a file of its own, ten times a second.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i > /shared/count; sleep 0.1; done";

/// A container whose counter is watched from outside.
struct Counter(Container);

impl Counter {
    fn start() -> Self {
        let c = Container::sh(COUNT).share();
        c.run_detached();
        let counter = Counter(c);
        counter.beyond(2);
        counter
    }

    fn value(&self) -> u32 {
        let text = fs::read_to_string(self.0.shared().join("count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until it has counted on from `value`.
    fn beyond(&self, value: u32) {
        eventually("it counts", || self.value() > value);
        let now = self.value();
        assert!(now < value + 60, "it went on from {value}, not from {now}");
    }
}

fn images(c: &Container, name: &str) -> String {
    c.bundle().join(name).to_string_lossy().into_owned()
}

fn checkpoint(c: &Container, flags: &[&str]) -> Cmd {
    let cmd = c.verb("checkpoint").args(&["--image-path", &images(c, "images")]);
    cmd.args(flags).args(&[&c.id]).env("PATH", criu().unwrap_or("/bin"))
}

fn restore(c: &Container, flags: &[&str]) -> Cmd {
    let cmd = c.boot("restore", &["--image-path", &images(c, "images")]).args(flags);
    cmd.env("PATH", criu().unwrap_or("/bin"))
}

/// Waits until a restore that goes on is done.
fn wait_for_restored(c: &Container) {
    eventually("it runs", || c.act("state").answer().stdout.contains("\"running\""));
}

#[test]
fn a_container_goes_on_from_where_it_was() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    for _ in 0..2 {
        checkpoint(c, &[]).ok();
        let value = counter.value();
        c.assert_nothing_left();
        let file = c.shared().join("pid");
        restore(c, &["--detach", "--pid-file", file.to_str().unwrap()]).ok();
        assert_eq!(c.state()["status"], "running");
        assert_eq!(fs::read_to_string(&file).unwrap(), c.pid().to_string());
        counter.beyond(value);
        assert_eq!(c.exec_sh("hostname"), "box\n");
    }
    c.kill("KILL").wait_for("stopped");
    c.act("delete").ok();
    c.assert_nothing_left();
}

#[test]
fn the_loopback_device_is_up_again() {
    let Some(_) = criu() else { return };
    if peers_fail("it stays down") {
        return;
    }
    let c = Container::idle();
    c.run_detached();
    let flags = "cat /sys/class/net/lo/flags";
    assert_eq!(c.exec_sh(flags), "0x9\n");
    checkpoint(&c, &[]).ok();
    restore(&c, &["--detach"]).ok();
    assert_eq!(c.exec_sh(flags), "0x9\n");
    c.end();
}

/// The container's network is made anew in any case; criu has no other that it leaves empty.
#[test]
fn the_network_alone_may_be_left_empty() {
    let c = Container::idle();
    c.run_detached();
    for verb in ["checkpoint", "restore"] {
        let said = c.verb(verb).args(&["--empty-ns", "uts", &c.id]).dir(c.bundle()).fails(1);
        assert!(said.contains("namespace \"uts\" is not supported"), "{said}");
    }
    if criu().is_some() {
        checkpoint(&c, &["--empty-ns", "network"]).ok();
        restore(&c, &["--detach", "--empty-ns", "network"]).ok();
        assert_eq!(c.exec_sh("ls /sys/class/net"), "lo\n");
    }
    c.end();
}

/// The profile of AppArmor is saved with the processes, and may be another one afterwards.
#[test]
fn another_profile_can_be_chosen() {
    let Some(_) = criu() else { return };
    let enabled = fs::read("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with(b"Y")) {
        eprintln!("not here: this kernel has no AppArmor");
        return;
    }
    let load = |name: &str| {
        let rules = "flags=(attach_disconnected) { file, mount, signal, ptrace, unix, network, }";
        let profile = format!("profile {name} {rules}\n");
        Cmd::new(&["apparmor_parser", "--replace"]).stdin(profile.as_bytes()).ok();
    };
    load("tare-test-before");
    load("tare-test-after");
    let profile = |c: &Container| {
        let path = format!("/proc/{}/attr/current", c.pid());
        fs::read_to_string(path).unwrap()
    };
    let c = Container::idle().with(|c| c["process"]["apparmorProfile"] = json!("tare-test-before"));
    c.run_detached();
    for (flags, name) in [
        (&["--detach"][..], "tare-test-before"),
        (&["--detach", "--lsm-profile", "apparmor:tare-test-after"], "tare-test-after"),
    ] {
        checkpoint(&c, &[]).ok();
        restore(&c, flags).ok();
        assert_eq!(profile(&c), format!("{name} (enforce)\n"));
    }
    checkpoint(&c, &[]).ok();
    let said = restore(&c, &["--lsm-profile", "nonsense"]).fails(1);
    assert!(said.contains("lsm"), "{said}");
    c.assert_nothing_left();
}

/// criu would wait for somebody who fetches the memory, at a port of its own choice.
#[test]
fn memory_is_fetched_from_an_address() {
    if peers_fail("it waits for ever") {
        return;
    }
    let c = Container::idle();
    c.run_detached();
    let said = checkpoint(&c, &["--lazy-pages"]).fails(1);
    assert!(said.contains("--lazy-pages needs --page-server ADDRESS:PORT"), "{said}");
    assert_eq!(c.state()["status"], "running");
    c.end();
}

#[test]
fn processes_of_an_exec_have_the_clocks_of_the_restored() {
    let Some(_) = criu() else { return };
    let c = Container::idle();
    c.run_detached();
    checkpoint(&c, &[]).ok();
    restore(&c, &["--detach"]).ok();
    let init = c.exec_sh("readlink /proc/1/ns/time");
    assert_eq!(c.exec_sh("readlink /proc/self/ns/time"), init);
    c.end();
}

#[test]
fn a_container_may_go_on_running() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    let pid = c.pid();
    checkpoint(c, &["--leave-running"]).ok();
    assert_eq!((c.pid(), c.state()["status"].as_str()), (pid, Some("running")));
    counter.beyond(counter.value());
    c.end();
}

/// A shell that is just redirecting has another file in the place of its output.
#[test]
fn a_shell_may_be_redirecting() {
    let Some(_) = criu() else { return };
    let c =
        Container::sh("mkfifo /tmp/wait; read y <> /tmp/wait > /tmp/out; read x; echo got $y $x");
    let pipes = |cmd: Cmd| {
        let mut command = cmd.command();
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let ends = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        assert!(child.wait().unwrap().success());
        ends
    };
    let before = pipes(c.boot("run", &["--detach"]));
    let at_it = || fs::read_link(format!("/proc/{}/fd/1", c.pid()));
    eventually("it redirects", || at_it().is_ok_and(|link| link.ends_with("out")));
    checkpoint(&c, &[]).ok();
    drop(before);
    let (mut input, mut output) = pipes(restore(&c, &["--detach"]));
    c.exec_sh("echo one > /tmp/wait");
    input.write_all(b"word\n").unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "got one word\n");
    c.end();
}

#[test]
fn a_paused_container_can_be_saved() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    c.act("pause").ok();
    let value = counter.value();
    checkpoint(c, &[]).ok();
    restore(c, &["--detach"]).ok();
    counter.beyond(value);
    c.end();
}

/// The state of the freezer is among the properties that criu restores, to criu itself as well if
/// it is in the cgroup.
#[test]
fn all_properties_of_the_cgroup_can_be_restored() {
    let Some(_) = criu() else { return };
    let mode = ["--manage-cgroups-mode", "full"];
    for paused in [false, true] {
        let counter = Counter::start();
        let c = &counter.0;
        if paused {
            c.act("pause").ok();
        }
        let value = counter.value();
        checkpoint(c, &mode).ok();
        restore(c, &["--detach", mode[0], mode[1]]).ok();
        counter.beyond(value);
        assert!(c.act("state").ok().contains("\"running\""));
        c.end();
    }
}

/// criu makes no cgroup that is there, and the runtime has to make it first.
#[test]
fn cgroups_from_nothing_are_refused_by_criu() {
    let Some(_) = criu() else { return };
    let mode = ["--manage-cgroups-mode", "strict"];
    let counter = Counter::start();
    let c = &counter.0;
    checkpoint(c, &mode).ok();
    let said = restore(c, &["--detach", mode[0], mode[1]]).fails(1);
    if is_tare() {
        assert!(said.contains("hint: the cgroup is there by now"), "{said}");
    }
    c.assert_nothing_left();
}

#[test]
fn the_exit_code_comes_through() {
    let Some(_) = criu() else { return };
    let c = Container::sh("until test -e /shared/go; do sleep 0.1; done; exit 7").share();
    c.run_detached();
    checkpoint(&c, &[]).ok();
    let running = restore(&c, &[]).spawn();
    wait_for_restored(&c);
    fs::write(c.shared().join("go"), "").unwrap();
    assert_eq!(running.answer().code, 7);
    c.assert_nothing_left();
}

#[test]
fn signals_are_passed_on() {
    let Some(_) = criu() else { return };
    let c = Container::sh("trap 'exit 9' TERM; while :; do sleep 0.1; done");
    c.run_detached();
    checkpoint(&c, &[]).ok();
    let running = restore(&c, &[]).spawn();
    wait_for_restored(&c);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.answer().code, 9);
}

/// The standard descriptors are those of who restores it.
#[test]
fn pipes_are_connected_again() {
    let Some(_) = criu() else { return };
    let c = Container::sh("while read x; do echo got $x; done");
    let pipes = |cmd: Cmd| {
        let mut command = cmd.command();
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child)
    };
    let talk = |(input, output): (&mut dyn Write, &mut dyn Read), word: &str| {
        input.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut said = vec![0; word.len() + 5];
        output.read_exact(&mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), format!("got {word}\n"));
    };
    let (mut input, mut output, mut child) = pipes(c.boot("run", &["--detach"]));
    assert!(child.wait().unwrap().success());
    talk((&mut input, &mut output), "one");
    checkpoint(&c, &[]).ok();
    let (mut input, mut output, mut child) = pipes(restore(&c, &["--detach"]));
    assert!(child.wait().unwrap().success());
    talk((&mut input, &mut output), "two");
    drop(input);
    c.wait_for("stopped");
    c.end();
}

/// CVE-2026-119101 and its like: what is given to criu by name is not to be another mount's.
#[test]
fn mounts_that_the_payload_has_moved_are_not_mixed_up() {
    let Some(_) = criu() else { return };
    if !is_tare() {
        return;
    }
    let moves = [
        ("mv /p /q; ln -s /other /p", "the mount at /other/m is not that of"),
        ("mv /p /q; ln -s /dev /p; ln -s shm /dev/m", "the mount at /dev/shm is not that of"),
        ("mv /p '/q]:x'; ln -s '/q]:x' /p", "criu cannot name the mount at /q]:x/m"),
    ];
    for (script, words) in moves {
        let c = Container::sh(&format!("{script}; {COUNT}")).share();
        let (one, other) = (c.shared(), c.bundle().join("other"));
        fs::create_dir(&other).unwrap();
        let c = c.mount("bind", one.to_str().unwrap(), "/p/m", &["bind", "ro"]);
        let c = c.mount("bind", other.to_str().unwrap(), "/other/m", &["bind"]);
        let counter = Counter(c);
        counter.0.run_detached();
        counter.beyond(1);
        let said = checkpoint(&counter.0, &[]).answer();
        assert!(said.code == 1 && said.stderr.contains(words), "{script}: {said:?}");
        counter.0.end();
    }
}

/// What runc cannot: a payload whose output goes to a file of the host.
#[test]
fn files_of_the_host_are_connected_again() {
    let Some(_) = criu() else { return };
    if peers_fail("a file that the container does not have cannot be saved") {
        return;
    }
    let c = Container::sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done");
    let start = |cmd: Cmd, name: &str| {
        let file = c.shared().join(name);
        let file = File::options().create(true).append(true).open(file).unwrap();
        let quiet = std::process::Stdio::null();
        assert!(cmd.command().stdout(file).stderr(quiet).status().unwrap().success());
    };
    let wrote = |name: &str| fs::read_to_string(c.shared().join(name)).unwrap();
    start(c.boot("run", &["--detach"]), "one");
    eventually("it counts", || wrote("one").contains("2\n"));
    checkpoint(&c, &[]).ok();
    start(restore(&c, &["--detach"]), "two");
    eventually("it counts on", || wrote("two").lines().count() > 2);
    assert!(!wrote("two").starts_with("1\n"), "{}", wrote("two"));
    c.end();
}

/// A socket that is connected to another one of the same network namespace, a log's, say.
#[test]
fn a_socket_of_the_host_is_connected_again() {
    let Some(_) = criu() else { return };
    let c = Container::new(&["/bin/say", "here", "again"]);
    common::compile("say.c", &c.rootfs().join("bin/say"));
    let path = c.shared().join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    log.set_read_timeout(Some(common::limit())).unwrap();
    let heard = || {
        let mut word = [0; 8];
        let length = log.recv(&mut word).unwrap();
        assert_eq!(&word[..length], b"here");
    };
    // criu connects to the name that the socket was bound to.
    let dir = c.shared().display().to_string();
    let c = c.mount("bind", &dir, &dir, &["bind", "rw"]).namespace("network", None).with(|c| {
        c["process"]["env"] = json!([format!("NOTIFY_SOCKET={}", path.display())]);
    });
    c.run_detached();
    heard();
    let said = checkpoint(&c, &[]).fails(1);
    assert!(said.contains("--ext-unix-sk"), "{said}");
    checkpoint(&c, &["--ext-unix-sk"]).ok();
    log.set_nonblocking(true).unwrap();
    while log.recv(&mut [0; 8]).is_ok() {}
    log.set_nonblocking(false).unwrap();
    restore(&c, &["--ext-unix-sk", "--detach"]).ok();
    heard();
    c.end();
}

/// Its socket for that is a mount that config.json does not have. The manager hears it again.
#[test]
fn a_container_that_has_told_its_manager_goes_on() {
    let Some(_) = criu() else { return };
    let c = Container::sh(&format!("say READY=1 && {{ {COUNT}; }}")).share();
    common::compile("say.c", &c.rootfs().join("bin/say"));
    let path = c.shared().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(common::limit())).unwrap();
    let told = |cmd: Cmd| cmd.env("NOTIFY_SOCKET", path.to_str().unwrap());
    let hears = |words: [&str; 2]| {
        for word in words {
            let mut said = [0; 8];
            manager.recv(&mut said).unwrap();
            assert_eq!(said, word.as_bytes());
        }
    };
    let run = told(c.boot("run", &["--detach"])).spawn();
    hears(["READY=1\n", "BARRIER="]);
    assert_eq!(run.answer().code, 0);
    let counter = Counter(c);
    counter.beyond(2);
    checkpoint(&counter.0, &[]).ok();
    let saved = counter.value();
    let restored = told(restore(&counter.0, &["--detach"])).spawn();
    hears(["READY=1\n", "BARRIER="]);
    assert_eq!(restored.answer().code, 0);
    counter.beyond(saved);
    counter.0.end();
}

/// A payload that has its caller's terminal gets that of who restores it.
#[test]
fn a_terminal_of_the_host_is_connected_again() {
    let Some(_) = criu() else { return };
    if peers_fail("other files of the host cannot be saved") {
        return;
    }
    let c = Container::sh(&COUNT.replace("sleep", "echo said $i; sleep")).share();
    let count = || fs::read_to_string(c.shared().join("count")).unwrap_or_default();
    let start = |cmd: Cmd| {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let ends = [(); 2].map(|()| terminal.slave.try_clone().unwrap());
        let mut command = cmd.under(&["setsid", "--ctty", "--wait"]).command();
        let [input, output] = ends;
        command.stdin(input).stdout(output).stderr(terminal.slave);
        assert!(command.status().unwrap().success());
        terminal.master
    };
    let first = start(c.boot("run", &["--detach"]));
    eventually("it counts", || !count().is_empty());
    checkpoint(&c, &[]).ok();
    let before = count();
    let second = start(restore(&c, &["--detach"]));
    eventually("it counts on", || count() != before);
    let mut said = [0; 64];
    let count = File::from(second).read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..count]).starts_with("said "), "{said:?}");
    drop(first);
    c.end();
}

#[test]
fn a_terminal_is_handed_out_again() {
    let Some(_) = criu() else { return };
    let c = Container::sh("echo first; while read x; do echo got $x; done")
        .with(|c| c["process"]["terminal"] = json!(true));
    let socket = ConsoleSocket::listen(&c.shared());
    c.boot("run", &["--detach", "--console-socket", socket.path.to_str().unwrap()]).ok();
    let mut master = socket.receive();
    master.read_until("first");
    checkpoint(&c, &[]).ok();
    fs::remove_file(&socket.path).unwrap();
    restore(&c, &["--detach"]).fails(1);
    c.assert_nothing_left();
    let socket = ConsoleSocket::listen(&c.shared());
    let flags = ["--detach", "--console-socket", socket.path.to_str().unwrap()];
    restore(&c, &flags).ok();
    let mut master = socket.receive();
    master.type_in("word\n");
    master.read_until("got word");
    c.end();
}

/// Binds of the host, a tmpfs with its files, hidden and read-only paths; on a root file system
/// that has lost its mount points.
#[test]
fn mounts_are_as_they_were() {
    let Some(_) = criu() else { return };
    let c = Container::idle().share();
    symlink("/srv", c.rootfs().join("link")).unwrap();
    fs::create_dir(c.rootfs().join("srv")).unwrap();
    fs::write(c.shared().join("file"), "of the host\n").unwrap();
    let source = c.shared().join("file").to_string_lossy().into_owned();
    let c = c
        .mount("bind", &source, "/etc/deep/name", &["bind", "ro"])
        .mount("bind", &source, "/link/through", &["bind", "ro"])
        .mount("tmpfs", "tmpfs", "/scratch", &["size=1m"])
        .mount("bind", &source, "/scratch/below", &["bind", "ro"])
        .with(|c| c["root"]["readonly"] = json!(true));
    c.run_detached();
    c.exec_sh("echo kept > /scratch/new; echo kept > /dev/shm/new");
    let look = "cat /etc/deep/name /link/through /scratch/below /scratch/new /dev/shm/new; \
                ls /sys/firmware; cat /proc/kcore; echo 1 > /proc/sys/kernel/domainname || echo ro; \
                sed 's/^[0-9]* [0-9]* [0-9:]* //; s/ master:[0-9]*//' /proc/self/mountinfo \
                | cut -d' ' -f2-3 2>/dev/null | sort";
    let before = c.exec_sh(look);
    assert!(before.starts_with("of the host\nof the host\nof the host\nkept\nkept\n"), "{before}");
    checkpoint(&c, &[]).ok();
    fs::remove_dir_all(c.rootfs().join("etc/deep")).unwrap();
    fs::remove_dir_all(c.rootfs().join("scratch")).unwrap();
    fs::remove_dir_all(c.rootfs().join("shared")).unwrap();
    restore(&c, &["--detach"]).ok();
    assert_eq!(c.exec_sh(look), before);
    // Nothing of the making of mount points has come into the root file system itself.
    assert!(!c.rootfs().join("scratch/below").exists());
    c.end();
}

#[test]
fn memory_can_be_saved_beforehand() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    let before = images(c, "before");
    let pre = c.verb("checkpoint").args(&["--pre-dump", "--image-path", &before, &c.id]);
    let answer = pre.env("PATH", criu().unwrap()).answer();
    if answer.stderr.contains("criu is missing features: [MemTrack]") {
        eprintln!("NOT TESTED: this kernel does not track changes of memory");
        return;
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    // It was criu that complained of an end that was none.
    assert!(!is_tare() || answer.stderr.is_empty(), "{}", answer.stderr);
    assert_eq!(c.state()["status"], "running");
    counter.beyond(counter.value());
    checkpoint(c, &["--parent-path", "../before"]).ok();
    assert!(c.bundle().join("images/parent").exists());
    let value = counter.value();
    restore(c, &["--detach"]).ok();
    counter.beyond(value);
    c.end();
}

#[test]
fn a_folder_of_images_before_is_checked() {
    let c = Container::idle();
    c.run_detached();
    let checkpoint = |path| checkpoint(&c, &["--parent-path", path]).fails(1);
    let refusal = checkpoint("/before");
    assert!(refusal.contains("--parent-path must be relative"), "{refusal}");
    let refusal = checkpoint("../nowhere");
    assert!(refusal.contains("invalid --parent-path"), "{refusal}");
    fs::write(c.bundle().join("file"), "").unwrap();
    let refusal = checkpoint("../file");
    assert!(refusal.contains("--parent-path") && refusal.contains("not a directory"), "{refusal}");
    assert_eq!(c.state()["status"], "running");
    c.end();
}

#[test]
fn logs_are_in_the_work_folder() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    let work = images(c, "work");
    checkpoint(c, &["--work-path", &work]).ok();
    restore(c, &["--detach", "--work-path", &work]).ok();
    for name in ["dump.log", "restore.log"] {
        assert!(c.bundle().join("work").join(name).exists(), "{name}");
        assert!(!c.bundle().join("images").join(name).exists(), "{name}");
    }
    c.end();
}

#[test]
fn limits_hold_and_devices_are_denied_after_a_restore() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    checkpoint(c, &[]).ok();
    c.assert_nothing_left();
    restore(c, &["--detach"]).ok();
    let own = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(own.lines().all(|line| line.ends_with(&format!("/{}", c.id))), "{own}");
    let tried = c.exec_sh("mknod /dev/disk b 254 0 2>&1; cat /dev/zero | head -c 1 | wc -c");
    assert!(tried.ends_with("1\n"), "{tried}");
    c.end();
}

/// A network namespace that the container joined is not saved: it is joined again.
#[test]
fn a_joined_network_is_joined_again() {
    let Some(_) = criu() else { return };
    let mut holder = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up; exec sleep 600"])
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    eventually("it has a network", || fs::read_link(&path).is_ok_and(|ns| ns != own));
    let c = Container::idle().namespace("network", Some(&path));
    c.run_detached();
    checkpoint(&c, &[]).ok();
    restore(&c, &["--detach"]).ok();
    let joined = fs::read_link(format!("/proc/{}/ns/net", c.pid())).unwrap();
    assert_eq!(joined, fs::read_link(&path).unwrap());
    c.end();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn hooks_run_once_the_namespaces_are_made() {
    let Some(_) = criu() else { return };
    let c = Container::idle().share();
    let log = c.shared().join("hooks").to_string_lossy().into_owned();
    let hook = |name: &str| {
        let script = format!("cat >> {log}; echo {name} >> {log}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let c = c.with(|c| {
        c["hooks"] = json!({"prestart": hook("pre"), "createRuntime": hook("create"),
            "poststop": hook("stop")});
    });
    c.run_detached();
    let names = || {
        let text = fs::read_to_string(c.shared().join("hooks")).unwrap();
        let last = text.lines().map(|line| line.rsplit('}').next().unwrap().to_owned());
        last.collect::<Vec<_>>()
    };
    assert_eq!(names(), ["pre", "create"]);
    checkpoint(&c, &[]).ok();
    assert_eq!(names(), ["pre", "create", "stop"]);
    restore(&c, &["--detach"]).ok();
    assert_eq!(names(), ["pre", "create", "stop", "pre", "create"]);
    let text = fs::read_to_string(c.shared().join("hooks")).unwrap();
    assert!(text.contains(&format!("\"pid\":{}", c.pid())), "{text}");
    c.end();
}

/// With the freezer's state in what it restores, for one, criu stops itself.
#[test]
fn a_restore_that_waits_for_criu_is_deleted() {
    if peers_fail("they know nothing of a restore that has not ended") {
        return;
    }
    let c = Container::idle();
    let folder = c.bundle().join("images");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("descriptors.json"), r#"["/dev/null","/dev/null","/dev/null"]"#).unwrap();
    let program = folder.join("criu");
    fs::write(&program, "#!/bin/sh\nexec /bin/sleep 60\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let restoring = restore(&c, &["--detach"]).env("PATH", &images(&c, "images")).spawn();
    let waits = || c.act("state").answer().stdout.contains("\"creating\"");
    eventually("it waits", waits);
    c.verb("delete").args(&["--force", &c.id]).ok();
    assert_eq!(restoring.answer().code, 1);
    c.assert_nothing_left();
}

#[test]
fn nothing_is_left_of_a_restore_whose_hook_fails() {
    let Some(_) = criu() else { return };
    let c = Container::idle();
    c.run_detached();
    checkpoint(&c, &[]).ok();
    let c = c.with(|c| {
        let args = ["sh", "-c", "echo no such network >&2; exit 3"];
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": args}]});
    });
    let words = restore(&c, &["--detach"]).fails(1);
    assert!(words.contains("no such network"), "{words}");
    eventually("nothing is left", || c.leftovers().is_empty());
}

#[test]
fn a_user_namespace_is_restored() {
    let Some(_) = criu() else { return };
    let c = Container::sh(COUNT).share();
    fs::create_dir(c.rootfs().join("shared")).unwrap();
    let c = c.with(|c| {
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    fs::set_permissions(c.shared(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // Files of the host are out of reach of who is root in the container only.
    let silent = |cmd: Cmd| {
        let null = std::process::Stdio::null;
        assert!(cmd.command().stdout(null()).stderr(null()).status().unwrap().success());
    };
    silent(c.boot("run", &["--detach"]));
    let counter = Counter(c);
    counter.beyond(2);
    let c = &counter.0;
    checkpoint(c, &[]).ok();
    let value = counter.value();
    // The processes read their images as the users they are.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(c.bundle().join("images"), readable).unwrap();
    silent(restore(c, &["--detach"]));
    counter.beyond(value);
    assert!(c.exec_sh("cat /proc/1/uid_map").contains("100000"));
    c.end();
}

/// Only with a cgroup namespace are the cgroups that the container sees its own mounts.
#[test]
fn a_cgroup_namespace_is_restored() {
    let Some(_) = criu() else { return };
    let c = Container::sh(COUNT).share().with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    });
    c.run_detached();
    let counter = Counter(c);
    counter.beyond(2);
    let c = &counter.0;
    checkpoint(c, &[]).ok();
    let value = counter.value();
    restore(c, &["--detach"]).ok();
    counter.beyond(value);
    c.end();
}

/// As Docker's `/docker/ID` or a unit in a slice: the cgroup above has controllers on, and takes no process.
#[test]
fn a_cgroup_below_another_is_restored() {
    let Some(_) = criu() else { return };
    for (by_systemd, mode) in [(false, "soft"), (false, "full"), (true, "soft"), (true, "full")] {
        if by_systemd && !std::path::Path::new("/run/systemd/system").exists() {
            continue;
        }
        let c = Container::sh(COUNT).share();
        let path = format!("/tare-above/{}", c.id);
        let c = match by_systemd {
            true => c.systemd("system.slice"),
            false => c.with(|c| c["linux"]["cgroupsPath"] = json!(path)),
        };
        c.run_detached();
        let counter = Counter(c);
        counter.beyond(2);
        let c = &counter.0;
        let cgroups = || fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        let before = cgroups();
        let mode = ["--manage-cgroups-mode", mode];
        checkpoint(c, &mode).ok();
        let value = counter.value();
        restore(c, &["--detach", mode[0], mode[1]]).ok();
        counter.beyond(value);
        assert_eq!(cgroups(), before, "{by_systemd} {mode:?}");
        c.end();
    }
    let _ = fs::remove_dir("/sys/fs/cgroup/tare-above");
}

#[test]
fn another_cgroup_can_be_chosen() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let mode = ["--manage-cgroups-mode", "ignore"];
    checkpoint(&counter.0, &mode).ok();
    let value = counter.value();
    let path = format!("/other-{}", counter.0.id);
    let Counter(c) = counter;
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!(path));
    let counter = Counter(c);
    let c = &counter.0;
    restore(c, &["--detach", mode[0], mode[1]]).ok();
    counter.beyond(value);
    let own = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(own.lines().all(|line| line.ends_with(&path)), "{own}");
    c.end();
}

#[test]
fn memory_is_fetched_from_a_page_server() {
    let Some(path) = criu() else { return };
    let version = Cmd::new(&["criu", "--version"]).env("PATH", path).ok();
    if version.contains("Version: 4.") {
        eprintln!("NOT TESTED: page servers of criu 4 fail (splice: -1: bad file descriptor)");
        return;
    }
    let counter = Counter::start();
    let c = &counter.0;
    let (read, write) = nix::unistd::pipe().unwrap();
    let port = 10_000 + std::process::id() % 20_000;
    let server = format!("127.0.0.1:{port}");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&write).to_string();
    let flags = ["--lazy-pages", "--page-server", &server, "--status-fd", &fd];
    let mut saving = checkpoint(c, &flags).spawn();
    drop(write);
    let mut byte = [1];
    let told = File::from(read).read(&mut byte).unwrap();
    if told == 0 {
        let answer = saving.answer();
        assert!(answer.stderr.contains("criu is missing features"), "{answer:?}");
        eprintln!("NOT TESTED: this kernel cannot fetch memory lazily");
        return;
    }
    assert_eq!(byte, [0]);
    assert_eq!(saving.child.try_wait().unwrap(), None, "it serves the memory");
    let value = counter.value();
    let images = images(c, "images");
    let mut daemon = std::process::Command::new("criu")
        .args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port"])
        .args([&port.to_string(), "-W", c.bundle().to_str().unwrap(), "-D", &images])
        .env("PATH", path)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = c.bundle().join("lazy-pages.socket");
    eventually("the daemon listens", || socket.exists());
    let bundle = c.bundle().to_string_lossy().into_owned();
    let root = c.bundle().join("elsewhere").to_string_lossy().into_owned();
    let runtime = common::runtime().to_string_lossy().into_owned();
    let id = format!("{}-lazy", c.id);
    let config = fs::read_to_string(c.bundle().join("config.json")).unwrap();
    // The processes that are being fetched from are in the old one still.
    let config = config.replace(&format!("\"/{}\"", c.id), &format!("\"/{id}\""));
    fs::write(c.bundle().join("config.json"), config).unwrap();
    let lazy = |verb: &str| Cmd::new(&[runtime.as_str(), "--root", &root, verb]).env("PATH", path);
    lazy("restore")
        .args(&["--bundle", &bundle, "--image-path", &images, "--work-path", &bundle])
        .args(&["--lazy-pages", "--detach", &id])
        .ok();
    counter.beyond(value);
    assert_eq!(saving.answer().code, 0);
    assert!(daemon.wait().unwrap().success());
    lazy("delete").args(&["--force", &id]).ok();
    eventually("nothing is left", || c.leftovers().iter().all(|l| l.contains("elsewhere")));
}

#[test]
fn only_what_runs_can_be_saved() {
    let path = criu().unwrap_or("/bin");
    let c = Container::idle();
    let try_it = || c.act("checkpoint").dir(&c.shared()).env("PATH", path).fails(1);
    assert!(try_it().contains("does not exist"));
    c.create();
    let words = try_it();
    assert!(words.contains("cannot be checkpointed in created state"), "{words}");
    c.start();
    c.kill("KILL").wait_for("stopped");
    let words = try_it();
    assert!(words.contains("cannot be checkpointed in stopped state"), "{words}");
    c.end();
}

#[test]
fn a_status_descriptor_is_the_callers() {
    if peers_fail("they ask criu first") {
        return;
    }
    let c = Container::idle();
    c.run_detached();
    let closed = ["sh", "-c", "exec 3>&- 4>&- 5>&-; exec \"$@\"", "sh"];
    let (root, images) = (c.root().to_string_lossy().into_owned(), images(&c, "images"));
    for fd in ["3", "4", "5"] {
        let tare = [&runtime().to_string_lossy(), "--criu", "/bin/true", "--root", &root];
        let flags = ["checkpoint", "--image-path", &images, "--status-fd", fd, &c.id];
        let words = Cmd::new(&tare).args(&flags).under(&closed).fails(1);
        let wanted = format!("invalid --status-fd argument {fd}: bad file descriptor");
        assert!(words.contains(&wanted), "{words}");
    }
    c.end();
}

#[test]
fn a_missing_criu_is_named() {
    let c = Container::idle();
    c.run_detached();
    let words = checkpoint(&c, &[]).env("PATH", "/nowhere").fails(1);
    assert!(words.contains("executable file not found in $PATH"), "{words}");
    let no_criu =
        Cmd::new(&[&runtime().to_string_lossy(), "--criu", "/bin/true", "--root"]).args(&[
            &*c.root().to_string_lossy(),
            "checkpoint",
            "--image-path",
            &images(&c, "images/deep"),
            &c.id,
        ]);
    no_criu.fails(1);
    assert!(!c.bundle().join("images").exists(), "an empty folder is left");
    assert_eq!(c.state()["status"], "running");
    c.end();
    let words = restore(&c, &[]).env("PATH", "/nowhere").fails(1);
    assert!(words.contains("criu"), "{words}");
    c.assert_nothing_left();
}

/// A criu that says on its socket what the one of 2022 says on a kernel of today is not at hand
/// everywhere: where it is, the container goes on and the reason is told.
#[test]
fn a_criu_that_does_not_know_the_kernel_is_told() {
    let old = PathBuf::from("/usr/sbin/criu");
    let fails = |criu: &PathBuf| {
        let answer = std::process::Command::new(criu).arg("check").output();
        answer.is_ok_and(|output| {
            !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("vdso")
        })
    };
    if !is_tare() || !fails(&old) {
        return;
    }
    let counter = Counter::start();
    let c = &counter.0;
    let words = checkpoint(c, &[]).env("PATH", "/usr/sbin:/usr/bin:/bin").fails(1);
    assert!(words.contains("criu failed: type DUMP"), "{words}");
    assert!(words.contains("kernel is too new for this version of criu"), "{words}");
    counter.beyond(counter.value());
    c.end();
}

#[test]
fn images_that_are_not_there_are_told() {
    let Some(_) = criu() else { return };
    let c = Container::idle();
    let words = restore(&c, &["--detach"]).fails(1);
    assert!(words.contains("images") && words.contains("no such file"), "{words}");
    c.assert_nothing_left();
    fs::create_dir(c.bundle().join("images")).unwrap();
    restore(&c, &["--detach"]).fails(1);
    c.assert_nothing_left();
}

#[test]
fn an_id_that_is_taken_is_refused() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    checkpoint(c, &["--leave-running"]).ok();
    let words = restore(c, &["--detach"]).fails(1);
    assert!(words.contains("already exists"), "{words}");
    counter.beyond(counter.value());
    c.end();
}

/// Whenever the runtime is killed: the container that is saved goes on or is gone, and what was
/// begun of a restored one can be removed.
#[test]
fn a_killed_restore_leaves_nothing() {
    let Some(_) = criu() else { return };
    let counter = Counter::start();
    let c = &counter.0;
    checkpoint(c, &[]).ok();
    let begin = Instant::now();
    restore(c, &["--detach"]).ok();
    let whole = begin.elapsed();
    c.end();
    for part in 1..12 {
        let running = restore(c, &["--detach"]).spawn();
        std::thread::sleep(whole * part / 10);
        let _ = kill(Pid::from_raw(running.child.id() as i32), Signal::SIGKILL);
        running.answer();
        // It gives up after ten seconds, in which an emulated machine does not always come to its end.
        let delete = || c.verb("delete").args(&["--force", &c.id]).answer();
        let said: Vec<_> = (0..slowness()).map(|_| delete()).take_while(|a| a.code != 0).collect();
        assert!(said.len() < slowness() as usize, "{said:?}");
        eventually("nothing is left", || c.leftovers().is_empty());
    }
}
