//! `exec`: what each flag does inside, what is inherited of the container, and what is refused.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::terminal::ConsoleSocket;
use common::{Container, is_crun, is_tare};
use serde_json::{Value, json};

fn running(change: impl FnOnce(&mut Value)) -> Container {
    let c = Container::idle().with(change);
    c.run_detached();
    c
}

/// getenv(3) finds the first of several, a shell the last: there has to be one.
#[test]
fn a_variable_given_again_replaces_the_containers() {
    let c = running(|c| {
        let env = c["process"]["env"].as_array_mut().unwrap();
        env.extend([json!("A=1"), json!("B=1")]);
    });
    let said = c.exec(&["--env", "A=2", "--env", "HOME=", "--env", "A=3"], &["/bin/env"]).ok();
    let of = |name: &str| -> Vec<&str> {
        said.lines().filter(|line| line.split('=').next() == Some(name)).collect()
    };
    if is_tare() {
        assert_eq!((of("A"), of("HOME")), (vec!["A=3"], vec!["HOME=/root"]), "{said}");
    }
    assert_eq!(of("B"), ["B=1"]);
    c.end();
}

/// An empty value is none, as in scripts that leave a variable open.
#[test]
fn empty_paths_are_not_given() {
    if is_crun() {
        return;
    }
    let pidfd: &[&str] = if is_tare() { &["--pidfd-socket", ""] } else { &[] };
    let empty = [&["--pid-file", "", "--console-socket", ""][..], pidfd].concat();
    let c = Container::idle();
    c.boot("create", &empty).ok();
    c.start();
    let words = [&empty[..], &["--process", ""]].concat();
    assert_eq!(c.exec(&words, &["/bin/echo", "hello"]).ok(), "hello\n");
    c.exec(&["--process", ""], &[]).fails(255);
    c.end();
}

/// They may be secrets, and errors are logged.
#[test]
fn values_of_variables_are_not_told() {
    if !is_tare() {
        return;
    }
    let c = running(|_| ());
    let file = c.bundle().join("process.json");
    let log = c.bundle().join("log");
    for env in [json!(["A=1", "sEcReT"]), json!(["B=sEcReT\0"]), json!({"C": "sEcReT"})] {
        fs::write(&file, json!({"cwd": "/", "args": ["true"], "env": env}).to_string()).unwrap();
        let said = c.exec(&["--process", file.to_str().unwrap()], &[]).fails(255);
        assert!(said.contains("process.json:1:") && !said.contains("sEcReT"), "{said}");
    }
    let said = c.exec(&["--env", "sEcReT"], &["/bin/true"]).fails(255);
    assert!(said.contains("--env") && !said.contains("sEcReT"), "{said}");
    let c = Container::idle().with(|c| c["process"]["env"] = json!(["sEcReT"]));
    let runtime = common::runtime().to_str().unwrap();
    let flags = [runtime, "--log", log.to_str().unwrap(), "--log-format", "json"];
    // In the runtime's place.
    c.boot("create", &[]).without(0, 1).under(&flags).fails(1);
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("process.env[0]") && !told.contains("sEcReT"), "{told}");
}

#[test]
fn hints_say_what_to_do() {
    if !is_tare() {
        return;
    }
    let c = running(|_| ());
    for (user, hint) in [("root", "take the number from its /etc/passwd"), ("1:2:3", "UID[:GID]")] {
        let said = c.exec(&["--user", user], &["/bin/true"]).fails(255);
        let words = format!("--user {user}: not a numeric id\n  hint: ");
        assert!(said.contains(&words) && said.contains(hint), "{said}");
    }
    let long = "/".to_owned() + &"x".repeat(108);
    let said = c.exec(&["-t", "-d", "--console-socket", &long], &["/bin/true"]).fails(255);
    assert!(said.contains("the path of a socket has at most 107 bytes"), "{said}");
    c.act("pause").ok();
    assert!(c.act("start").fails(1).contains("hint: tare resume"));
    c.act("resume").ok();
    c.kill("KILL").wait_for("stopped");
    for said in [c.exec(&[], &["/bin/true"]).fails(255), c.act("kill").fails(1)] {
        assert!(said.contains("hint: its process has ended: tare delete removes it"), "{said}");
    }
    c.end();
    assert!(c.act("state").fails(1).contains("does not exist\n  hint: tare list shows all"));
}

#[test]
fn the_path_given_is_the_one_that_is_searched() {
    let c = running(|_| ());
    fs::create_dir(c.rootfs().join("opt")).unwrap();
    fs::copy("/bin/busybox", c.rootfs().join("opt/uname")).unwrap();
    fs::remove_file(c.rootfs().join("bin/uname")).unwrap();
    assert_eq!(c.exec(&["--env", "PATH=/opt"], &["uname"]).ok(), "Linux\n");
    assert!(c.exec(&[], &["uname"]).answer().code != 0);
    c.end();
}

#[test]
fn capabilities_that_cannot_be_had_are_told() {
    let kill = json!(["CAP_KILL"]);
    let c = running(|c| {
        c["process"]["capabilities"] = json!({"bounding": kill, "effective": kill,
            "permitted": kill, "inheritable": kill, "ambient": kill});
    });
    let answer = c.exec(&["--cap", "CAP_CHOWN"], &["/bin/grep", "Cap", "/proc/self/status"]);
    let answer = answer.answer();
    assert_eq!(answer.code, 0, "{answer:?}");
    if is_tare() {
        let words = "can't raise ambient capability CAP_CHOWN: operation not permitted";
        assert!(answer.stderr.contains(words), "{answer:?}");
        assert!(answer.stdout.contains("CapAmb:\t0000000000000020"), "{answer:?}");
        assert!(answer.stdout.contains("CapEff:\t0000000000000021"), "{answer:?}");
    }
    let names = ["--cap", "CAP_ZOO", "--cap", "CAP_BEE"];
    let answer = c.exec(&names, &["/bin/true"]).answer();
    if is_tare() {
        assert_eq!(answer.code, 0);
        let words = "ignoring unknown or unavailable capabilities: [CAP_BEE CAP_ZOO]";
        assert!(answer.stderr.contains(words), "{answer:?}");
    }
    c.end();
}

/// The keys that the first process has are those of the others too.
#[test]
fn the_session_keyring_is_the_containers() {
    // With a user namespace runc makes another for exec.
    for user_namespace in [false, true].into_iter().filter(|user| is_tare() || !user) {
        let c = Container::idle().with(|c| {
            c["linux"]["maskedPaths"] = json!([]);
            if user_namespace {
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map;
            }
        });
        if user_namespace {
            let dir = c.rootfs();
            common::Cmd::new(&["chown", "-R", "100000:100000", dir.to_str().unwrap()]).ok();
        }
        c.run_detached();
        let keyrings = c.exec_sh("cat /proc/keys");
        let name = format!("_ses.{}:", c.id);
        assert_eq!(keyrings.matches(&name).count(), 1, "{keyrings}");
        c.end();
    }
}

/// What stands in a cgroup that is frozen waits; the flag is for callers who know that.
#[test]
fn exec_in_a_paused_container_waits_for_resume() {
    if is_crun() {
        return; // It does not know the flag.
    }
    let c = running(|_| ());
    c.act("pause").ok();
    let said = c.exec(&[], &["/bin/true"]).fails(255);
    assert!(said.contains("cannot exec in a paused container"), "{said}");
    let mut waiting = c.exec(&["--ignore-paused"], &["/bin/echo", "through"]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    assert!(waiting.child.try_wait().unwrap().is_none(), "it does not wait");
    assert_eq!(waiting.printed(), "");
    c.act("resume").ok();
    let answer = waiting.answer();
    assert_eq!((answer.code, &*answer.stdout), (0, "through\n"), "{answer:?}");
    c.end();
}

#[test]
fn a_process_that_cannot_join_the_cgroups_is_refused() {
    if is_crun() || !Path::new("/sys/fs/cgroup/pids").exists() {
        return;
    }
    let c = running(|_| ());
    let script = "umount /sys/fs/cgroup/devices && exec \"$@\"";
    let unseen = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let said = c.exec(&[], &["/bin/true"]).under(&unseen).fails(255);
    assert!(said.contains("error adding pid ") && said.contains(" to cgroups: "), "{said}");
    assert!(said.contains("no such file or directory"), "{said}");
    c.end();
}

#[test]
fn exec_in_a_sub_cgroup() {
    if is_crun() || !Path::new("/sys/fs/cgroup/pids").exists() {
        return;
    }
    let c = running(|_| ());
    for controller in ["pids", "freezer"] {
        fs::create_dir(format!("/sys/fs/cgroup/{controller}/{}/sub", c.id)).unwrap();
    }
    let cat = ["/bin/cat", "/proc/self/cgroup"];
    let said = c.exec(&["--cgroup", "pids,freezer:sub"], &cat).ok();
    for (controller, end) in [("pids", "/sub"), ("freezer", "/sub"), ("memory", "")] {
        assert!(said.contains(&format!(":{controller}:/{}{end}\n", c.id)), "{said}");
    }
    let refusals = [
        (&["pids:../x"][..], "sub cgroup path"),
        (&["whaaat:/sub"], "unknown controller whaaat"),
        (&["pids:nosuch"], "no such file or directory"),
        (&["pids:sub", "sub"], "(missing <controller>: prefix)"),
        (&["pids:sub", "pids:sub"], "controller pids specified multiple times"),
    ];
    for (requests, words) in refusals {
        let flags: Vec<_> = requests.iter().flat_map(|request| ["--cgroup", request]).collect();
        let answer = c.exec(&flags, &["/bin/true"]).answer();
        let told = answer.code == 255 && answer.stderr.contains(words);
        assert!(told || !is_tare(), "{requests:?}: {answer:?}");
    }
    let said = c.exec(&["--cgroup", "pids:nosuch"], &["/bin/true"]).fails(255);
    assert!(said.contains("adding pid") && said.contains("to cgroups"), "{said}");
    c.end();
}

#[test]
fn exec_passes_descriptors() {
    let c = running(|_| ());
    let script = "exec 3</etc/hostname 4</etc/passwd; exec \"$@\"";
    let under = ["bash", "-c", script, "sh"];
    let cat = ["/bin/sh", "-c", "cat <&3; cat <&4 || echo closed; echo $LISTEN_FDS"];
    let host = fs::read_to_string("/etc/hostname").unwrap();
    let said = c.exec(&["--preserve-fds", "1"], &cat).under(&under).ok();
    assert_eq!(said, format!("{host}closed\n\n"));
    if !is_tare() {
        return c.end(); // runc passes them to a container only.
    }
    let script = format!("export LISTEN_FDS=1 LISTEN_PID=$$; {script}");
    let said = c.exec(&[], &cat).under(&["bash", "-c", &script, "sh"]).ok();
    assert_eq!(said, format!("{host}closed\n1\n"));
    let other = script.replace("$$", "1");
    let said =
        c.exec(&[], &cat[..2]).args(&["cat <&3 || echo none"]).under(&["bash", "-c", &other, "sh"]);
    assert!(said.ok().contains("none"), "meant for another process");
    let gap = ["bash", "-c", "exec 5</etc/hostname; exec \"$@\"", "sh"];
    let list = ["/bin/sh", "-c", "cat <&5; ls /proc/self/fd | tr '\\n' ' '"];
    let said = c.exec(&["--preserve-fds", "3"], &list).under(&gap).ok();
    assert_eq!(said, format!("{host}0 1 2 3 5 "));
    let said = c.exec(&["--preserve-fds", "40"], &cat).fails(255);
    assert!(said.contains("it is not open"), "{said}");
    c.end();
}

#[test]
fn the_terminal_of_exec_has_the_containers_size() {
    let c = Container::idle().with(|c| {
        c["process"]["consoleSize"] = json!({"height": 11, "width": 111});
    });
    c.run_detached();
    let socket = ConsoleSocket::listen(&c.shared());
    let flags = ["--tty", "--detach", "--console-socket", socket.path.to_str().unwrap()];
    c.exec(&flags, &["/bin/sh", "-c", "stty size; read x"]).ok();
    let mut master = socket.receive();
    if !is_crun() {
        master.read_until("11 111");
    }
    master.type_in("\n");
    c.end();
}

/// In a user namespace the process could not raise a limit again; and it is not the runtime's.
#[test]
fn limits_in_a_user_namespace() {
    let c = Container::idle().share().with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        let script = "ulimit -n >/shared/own; ulimit -Hn >>/shared/own; sleep 600";
        c["process"]["args"] = json!(["/bin/sh", "-c", script]);
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 90, "hard": 95},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    });
    for dir in [c.rootfs(), c.shared()] {
        common::Cmd::new(&["chown", "-R", "100000:100000", dir.to_str().unwrap()]).ok();
    }
    c.run_detached();
    let own = c.shared().join("own");
    common::eventually("limits", || fs::read_to_string(&own).is_ok_and(|t| t == "90\n95\n"));
    assert_eq!(c.exec_sh("ulimit -Hn; ulimit -c"), "95\n0\n");
    if is_tare() {
        assert_eq!(c.exec_sh("ulimit -n"), "90\n", "runc 1.1 raises it");
    }
    c.end();
}

#[test]
fn what_is_empty_is_not_given() {
    let c = running(|c| c["process"]["user"] = json!({"uid": 7, "gid": 8}));
    let flags = ["--user", "", "--cwd", "", "--apparmor", "", "--process-label", ""];
    if !is_crun() {
        assert_eq!(c.exec(&flags, &["/bin/sh", "-c", "id -u; pwd"]).ok(), "7\n/\n");
    }
    c.end();
}

#[test]
fn names_are_no_user() {
    let c = running(|_| ());
    for user in ["root", "0:root", "-1", "0:"] {
        let answer = c.exec(&["--user", user], &["/bin/true"]).answer();
        assert!(answer.code == 255 || !is_tare(), "{user:?}: {answer:?}");
    }
    c.end();
}

#[test]
fn a_step_that_fails_names_its_place() {
    if !is_tare() {
        return;
    }
    let c = running(|c| c["linux"]["resources"]["pids"] = json!({"limit": 50}));
    let file = c.shared().join("process.json");
    let text =
        "{\"args\": [\"true\"],\n \"user\": {\"uid\": 0, \"gid\": 0},\n  \"cwd\": \"/proc/none\"}";
    fs::write(&file, text).unwrap();
    let said = c.verb("exec").args(&["--process", file.to_str().unwrap(), &c.id]).fails(255);
    let place = "process.json:3:10  cwd = \"/proc/none\"";
    assert!(said.contains(place), "{said}");
    // What such a file has to say itself is not looked for in config.json.
    fs::write(&file, "{\"cwd\": \"/\"}").unwrap();
    let said = c.verb("exec").args(&["--process", file.to_str().unwrap(), &c.id]).fails(255);
    assert!(said.contains("process.json:1:1  args (missing)"), "{said}");
    let said = c.exec(&["--cwd", "/proc/none"], &["true"]).fails(255);
    assert!(said.contains("--> --cwd\n"), "{said}");
    let file = c.shared().join("resources.json");
    fs::write(&file, "{\"pids\":\n {\"limit\": 9}, \"cpu\":\n {\"cpus\": \"4000\"}}").unwrap();
    let said = c.verb("update").args(&["--resources", file.to_str().unwrap(), &c.id]).fails(1);
    assert!(said.contains("resources.json:3:11  cpu.cpus = \"4000\""), "{said}");
    c.end();
}
