//! Hooks: when and where they run, what they are told, and what their failure means.

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Container, eventually, is_tare, limit, peers_fail};
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of the host: a shell script.
fn host_hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A container whose hooks of all kinds write their names into shared/log, the payload too.
fn logging() -> Container {
    let c = Container::sh("echo payload >>/shared/log; sleep 600").share();
    let shared = c.shared();
    let mut hooks = json!({});
    for kind in KINDS {
        // startContainer runs in the container's root.
        let log = if kind == "startContainer" { Path::new("/shared") } else { &shared };
        let log = log.display();
        let script = format!(
            "cat >{log}/{kind}; readlink /proc/self/ns/mnt >{log}/{kind}.mnt; \
                              echo {kind} >>{log}/log"
        );
        hooks[kind] = json!([host_hook(&script)]);
    }
    c.with(|c| c["hooks"] = hooks)
}

fn read(c: &Container, name: &str) -> String {
    std::fs::read_to_string(c.shared().join(name)).unwrap_or_default()
}

#[test]
fn six_kinds_in_order() {
    if peers_fail("runc 1.1 runs poststart hooks in create") {
        return;
    }
    let c = logging();
    c.create();
    assert_eq!(read(&c, "log"), "prestart\ncreateRuntime\ncreateContainer\n");
    c.start();
    eventually("the payload writes", || read(&c, "log").contains("payload"));
    let log = read(&c, "log");
    let start = log.find("startContainer").expect("startContainer ran");
    assert!(start < log.find("payload").unwrap(), "{log}");
    assert!(log.contains("poststart\n") && !log.contains("poststop"), "{log}");
    c.end();
    assert!(read(&c, "log").ends_with("poststop\n"));
}

/// As runc has it; programs do not find such an entry.
#[test]
fn an_environment_with_an_odd_entry() {
    let c = Container::sh("echo payload").share();
    let script = format!("cat /proc/$$/environ >{}/environ", c.shared().display());
    let mut hook = host_hook(&script);
    hook["env"] = json!(["PATH=/usr/bin:/bin", "FOO"]);
    let c = c.with(|c| c["hooks"] = json!({"prestart": [hook]}));
    let answer = c.boot("run", &[]).answer();
    assert_eq!((answer.code, &*answer.stdout), (0, "payload\n"), "{answer:?}");
    assert!(read(&c, "environ").contains("\0FOO\0"), "{:?}", read(&c, "environ"));
    if is_tare() {
        assert!(answer.stderr.contains("hooks.prestart[0].env[1] has no '='"), "{answer:?}");
    }
}

#[test]
fn each_gets_the_state_on_stdin() {
    if peers_fail("runc 1.1 runs poststart hooks in create") {
        return;
    }
    let c = logging();
    c.create();
    let pid = c.pid();
    c.start();
    eventually("poststart ran", || read(&c, "log").contains("poststart"));
    c.end();
    for kind in KINDS {
        let state: Value =
            serde_json::from_str(&read(&c, kind)).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(state["id"], c.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], c.bundle().to_str().unwrap(), "{kind}");
        let status = match kind {
            "poststart" => "running",
            "poststop" => "stopped",
            "startContainer" => "created",
            _ => "creating",
        };
        assert_eq!(state["status"], status, "{kind}");
        // As seen where the hook runs (runtime.md, "State").
        match kind {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{kind}"),
            "poststop" => assert_eq!(state.get("pid"), None),
            _ => assert_eq!(state["pid"], pid, "{kind}"),
        }
    }
}

#[test]
fn each_runs_in_its_mount_namespace() {
    let c = logging();
    c.create().start();
    eventually("poststart ran", || read(&c, "log").contains("poststart"));
    let link = |path: String| format!("{}\n", std::fs::read_link(path).unwrap().display());
    let (host, inside) =
        (link("/proc/self/ns/mnt".into()), link(format!("/proc/{}/ns/mnt", c.pid())));
    c.end();
    for kind in KINDS {
        let seen = read(&c, &format!("{kind}.mnt"));
        let container = kind == "createContainer" || kind == "startContainer";
        assert_eq!(seen, if container { &*inside } else { &*host }, "{kind}");
    }
}

/// `run` itself blocks them all, to wait for them.
#[test]
fn no_signal_is_blocked_or_ignored_in_a_hook() {
    for flags in [&[][..], &["--detach"]] {
        let c = Container::new(&["/bin/true"]).share();
        let mut hooks = json!({});
        for kind in KINDS {
            let shared = c.shared();
            let place = if kind == "startContainer" { Path::new("/shared") } else { &shared };
            let read = format!("exec cat /proc/self/status >{}/{kind}", place.display());
            hooks[kind] = json!([host_hook(&read)]);
        }
        let c = c.with(|c| c["hooks"] = hooks);
        // The caller's own are passed on.
        let default = ["env", "--default-signal"];
        c.boot("run", flags).under(&default).ok();
        if !flags.is_empty() {
            c.act("delete").args(&["--force"]).under(&default).ok();
        }
        for kind in KINDS {
            let status = read(&c, kind);
            let set = |name| {
                let text = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(text.trim(), 16).unwrap()
            };
            // Those above are the C library's own, which posix_spawn(3) leaves ignored.
            assert_eq!((set("SigBlk:"), set("SigIgn:") & 0x7fff_ffff), (0, 0), "{kind}");
        }
    }
}

#[test]
fn hooks_of_the_container_start_in_it_and_write_for_their_owner() {
    let c = Container::new(&["/bin/true"]);
    let script = |name: &str| format!("cd . && pwd >{name} && umask >>{name}");
    let c = c.with(|c| {
        c["process"]["cwd"] = json!("/tmp");
        c["hooks"] = json!({
            "createContainer": [host_hook(&script("tmp/create"))],
            "startContainer": [host_hook(&script("start"))],
        });
    });
    c.run();
    let rootfs = c.rootfs();
    let told = |name: &str| std::fs::read_to_string(rootfs.join("tmp").join(name)).unwrap();
    assert_eq!(told("create"), format!("{}\n0022\n", rootfs.display()));
    assert_eq!(told("start"), "/tmp\n0022\n");
}

#[test]
fn a_hook_starts_in_a_working_directory_that_the_user_may_not_enter() {
    let c = Container::new(&["/bin/true"]).with(|c| {
        c["process"]["cwd"] = json!("/private");
        c["process"]["user"] = json!({"uid": 7, "gid": 7});
        c["hooks"] = json!({"startContainer": [host_hook("exit 0")]});
    });
    let private = c.rootfs().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    c.run();
}

#[test]
fn a_hook_has_its_own_environment_only() {
    let c = Container::new(&["/bin/true"]);
    let out = c.shared().join("env").display().to_string();
    let hook = json!({"path": "/usr/bin/env", "args": ["env", "-u", "none", "sh", "-c",
        format!("env >{out}")], "env": ["A=1", "PATH=/usr/bin:/bin"]});
    let c = c.with(|c| {
        c["process"]["env"] = json!(["PATH=/bin", "LD_PRELOAD=/evil.so"]);
        c["hooks"] = json!({"createRuntime": [hook]});
    });
    c.boot("run", &[]).env("LEAK", "1").ok();
    let env = std::fs::read_to_string(out).unwrap();
    assert!(env.contains("A=1\n"), "{env}");
    assert!(!env.contains("LD_PRELOAD") && !env.contains("LEAK"), "{env}");
}

#[test]
fn no_kind_of_hook_gets_the_payloads_environment() {
    let c = Container::new(&["/bin/true"]).share();
    let mut hooks = json!({});
    for kind in KINDS {
        let shared = c.shared();
        let place = if kind == "startContainer" { Path::new("/shared") } else { &shared };
        let script = format!("export -p >{}/{kind}", place.display());
        hooks[kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1"]}]);
    }
    let c = c.with(|c| {
        c["process"]["env"] = json!(["PATH=/bin", "EVIL=1"]);
        c["hooks"] = hooks;
    });
    c.boot("run", &[]).env("LEAK", "1").ok();
    for kind in KINDS {
        let env = read(&c, kind);
        assert!(env.contains("A="), "{kind}: {env}");
        assert!(!env.contains("EVIL") && !env.contains("LEAK"), "{kind}: {env}");
    }
}

#[test]
fn a_hook_without_an_environment_has_none_but_within_the_container() {
    for (env, start) in [(json!(null), "HOME=/root ONE=two PATH=/bin"), (json!([]), "")] {
        let c = Container::new(&["/bin/true"]).share();
        let mut hooks = json!({});
        for kind in KINDS {
            let shared = c.shared();
            let place = if kind == "startContainer" { Path::new("/shared") } else { &shared };
            // What the shell has been given, not what it has added.
            let read = format!("cat </proc/self/environ >{}/{kind}; :", place.display());
            let script = format!("PATH=/usr/bin:/bin; {read}");
            hooks[kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": env}]);
        }
        let c = c.with(|c| {
            c["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
            c["hooks"] = hooks;
        });
        c.boot("run", &[]).env("LEAK", "1").ok();
        for kind in KINDS {
            if kind != "startContainer" && peers_fail("they give most hooks the caller's") {
                continue;
            }
            let text = read(&c, kind);
            let mut env: Vec<_> = text.split_terminator('\0').collect();
            env.sort_unstable();
            let wanted = if kind == "startContainer" { start } else { "" };
            assert_eq!(env.join(" "), wanted, "{kind}");
        }
    }
}

#[test]
fn a_failing_hook_stops_the_creation() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let hooks = json!([host_hook("exit 0"), host_hook("echo no such network >&2; exit 3")]);
        let c = Container::new(&["/bin/true"]).with(|c| c["hooks"] = json!({kind: hooks}));
        // The last of them is run by init after its start, whose exit code is runc's.
        let code = if kind == "startContainer" && is_tare() { 255 } else { 1 };
        let said = c.boot("run", &[]).fails(code);
        assert!(said.contains("hook #1"), "{kind}: {said}");
        assert!(said.contains("no such network"), "{kind}: {said}");
        c.assert_nothing_left();
    }
}

/// A container that was not to be had any longer is deleted all the same: poststop hooks clean up after it.
#[test]
fn poststop_hooks_run_where_the_start_fails() {
    let scripts = ["#!/no/interpreter\n", "no program\n"];
    let mut failing: Vec<(&[&str], &str, &str)> = vec![
        (&["/bin/true"], "startContainer", ""),
        (&["/bin/true"], "createContainer", ""),
        (&["/no/program"], "poststart", ""),
    ];
    failing.extend(scripts.map(|script| (&["/script"][..], "poststart", script)));
    for (args, kind, script) in failing {
        let c = Container::new(args);
        std::fs::write(c.rootfs().join("script"), script).unwrap();
        let all = Permissions::from_mode(0o755);
        std::fs::set_permissions(c.rootfs().join("script"), all).unwrap();
        let mark = c.shared().join("stop").display().to_string();
        let hooks = json!({kind: [host_hook("exit 3")],
            "poststop": [host_hook(&format!("echo stopped >>{mark}"))]});
        let c = c.with(|c| c["hooks"] = hooks);
        for flags in [&[][..], &["--detach"]] {
            let after = kind == "startContainer" || !script.is_empty();
            let code = if after && flags.is_empty() { 255 } else { 1 };
            let answer = c.boot("run", flags).answer();
            assert_eq!(answer.code, code, "{args:?} {kind} {flags:?}: {}", answer.stderr);
            assert_eq!(std::fs::read_to_string(&mark).unwrap(), "stopped\n", "{args:?} {kind}");
            std::fs::remove_file(&mark).unwrap();
            c.assert_nothing_left();
        }
    }
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let c = Container::new(&["/bin/true"]);
    let mark = c.shared().join("second").display().to_string();
    let hooks = json!([host_hook("exit 3"), host_hook(&format!("touch {mark}"))]);
    let c = c.with(|c| c["hooks"] = json!({"poststop": hooks}));
    c.create().start().wait_for("stopped");
    c.act("delete").ok();
    if is_tare() {
        assert!(Path::new(&mark).exists(), "the second one did not run"); // runc stops at the first
    }
    c.assert_nothing_left();
}

#[test]
fn a_hook_that_hangs_is_ended_after_its_timeout() {
    if peers_fail("runc 1.1 waits for the grandchildren of a hook") {
        return;
    }
    let mut hook = host_hook("sleep 600");
    hook["timeout"] = json!(1);
    let c = Container::new(&["/bin/true"]).with(|c| c["hooks"] = json!({"createRuntime": [hook]}));
    let begin = std::time::Instant::now();
    c.boot("run", &[]).fails(1);
    assert!(begin.elapsed() < limit());
    c.assert_nothing_left();
}

#[test]
fn a_hook_that_is_missing_is_named() {
    let hook = json!({"path": "/no/such/hook"});
    let c = Container::new(&["/bin/true"]).with(|c| c["hooks"] = json!({"createRuntime": [hook]}));
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("/no/such/hook") && said.contains("no such file or directory"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn hooks_run_once_each_in_the_order_listed() {
    let c = Container::new(&["/bin/true"]);
    let log = c.shared().join("log").display().to_string();
    let hooks: Vec<_> = (0..5).map(|n| host_hook(&format!("echo {n} >>{log}"))).collect();
    let c = c.with(|c| c["hooks"] = json!({"createRuntime": hooks}));
    c.run();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "0\n1\n2\n3\n4\n");
}

#[test]
fn a_failing_poststart_hook_ends_the_container() {
    if peers_fail("runc 1.1 runs poststart hooks in create") {
        return;
    }
    let hooks = json!([host_hook("echo not today >&2; exit 3")]);
    let c = Container::idle().with(|c| c["hooks"] = json!({"poststart": hooks}));
    c.create();
    let said = c.act("start").fails(1);
    assert!(said.contains("hook #0") && said.contains("not today"), "{said}");
    c.wait_for("stopped");
    c.end();
}

#[test]
fn a_hook_that_does_not_read_its_input_is_no_failure() {
    let hook = json!([host_hook("exec <&-; exit 0")]);
    let annotations: serde_json::Map<_, _> =
        (0..2000).map(|n| (format!("org.example.{n}"), json!("x".repeat(100)))).collect();
    let c = Container::new(&["/bin/true"]).with(|c| {
        c["annotations"] = annotations.into();
        c["hooks"] = json!({"createRuntime": hook});
    });
    for _ in 0..5 {
        c.run();
    }
    c.assert_nothing_left();
}
