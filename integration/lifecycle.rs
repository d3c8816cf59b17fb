//! The life of a container, as runtime.md and runc's callers know it.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::terminal::ConsoleSocket;
use common::{Cmd, Container, eventually, is_tare, limit, peers_fail, runtime, slowness};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[test]
fn create_start_kill_delete() {
    let c = Container::idle();
    c.create();
    let state = c.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], c.id.as_str());
    assert_eq!(state["bundle"], c.bundle().to_str().unwrap());
    assert!(state["pid"].as_i64().unwrap() > 1);
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    c.start();
    assert_eq!(c.state()["status"], "running");
    c.kill("KILL").wait_for("stopped");
    assert_eq!(c.state()["pid"], 0);
    c.act("delete").ok();
    assert!(c.act("state").fails(1).contains("does not exist"));
    c.assert_nothing_left();
}

#[test]
fn nothing_runs_before_start() {
    let c = Container::sh("touch /shared/ran; sleep 600").share();
    c.create();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!c.shared().join("ran").exists(), "the payload ran before start");
    c.start();
    eventually("the payload runs", || c.shared().join("ran").exists());
    c.end();
}

/// The program is executable, but the kernel refuses it. For engines the container has run then, as with
/// runc: they learn why from its output, and that it has ended from its end.
#[test]
fn what_execve_refuses_is_told_by_the_process() {
    let long = "x".repeat(200_000);
    let cases = [
        (vec!["/run"], "no program\n", "exec format error", "nor a script with #!"),
        (vec!["run"], "#!/no/such\n", "no such file or directory", "interpreter"),
        (vec!["/run", &long], "", "argument list too long", ""),
    ];
    for ((args, text, says, hint), no_new_privileges) in
        cases.iter().flat_map(|case| [(case, true), (case, false)])
    {
        let c = Container::new(args).with(|c| {
            c["process"]["noNewPrivileges"] = json!(no_new_privileges);
            c["process"]["env"] = json!(["PATH=/"]);
        });
        let (program, said) = (c.rootfs().join("run"), c.bundle().join("said"));
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let into = ["sh", "-c", "said=$1; shift; exec \"$@\" 2>$said", "sh"];
        c.boot("create", &[]).under(&[&into[..], &[said.to_str().unwrap()]].concat()).ok();
        let start = c.act("start").answer();
        assert_eq!(start.code, 0, "{start:?}");
        c.wait_for("stopped");
        eventually("its words", || !std::fs::read_to_string(&said).unwrap().is_empty());
        let said = std::fs::read_to_string(&said).unwrap();
        assert!(said.trim_end().ends_with(&format!("exec /run: {says}")), "{said}");
        assert!(!is_tare() || said.lines().count() == 1, "{said}");
        let told = start.stderr.contains("level=warning") && start.stderr.contains(hint);
        assert!(!is_tare() || (told && start.stderr.contains(says)), "{start:?}");
        c.act("delete").ok();
        c.assert_nothing_left();
    }
}

/// Without a pid namespace of its own nothing else ends them.
#[test]
fn what_a_payload_leaves_running_does_not_hold_up_run() {
    for redirected in ["exec \"$@\" >out", "exec \"$@\" | cat"] {
        let c = Container::sh("sleep 600 & echo said; exit 4").namespace("pid", None);
        let cmd = c.boot("run", &[]).dir(c.bundle()).under(&["bash", "-c", redirected, "bash"]);
        let begin = std::time::Instant::now();
        assert_eq!(cmd.answer().code, if redirected.ends_with("out") { 4 } else { 0 });
        assert!(begin.elapsed() < limit(), "{redirected}");
        c.assert_nothing_left();
    }
}

#[test]
fn annotations_are_in_the_state() {
    let c =
        Container::idle().with(|c| c["annotations"] = json!({"org.example.key": "a \"value\""}));
    c.create();
    assert_eq!(c.state()["annotations"]["org.example.key"], "a \"value\"");
    c.end();
}

#[test]
fn the_state_has_the_root_as_a_plain_path() {
    for path in ["rootfs/", "./rootfs", "rootfs/../rootfs"] {
        let c = Container::idle().with(|c| c["root"]["path"] = json!(path));
        c.create();
        assert_eq!(c.state()["rootfs"], c.rootfs().to_str().unwrap(), "{path}");
        c.end();
    }
}

#[test]
fn run_has_the_payloads_exit_code() {
    for code in [0, 1, 7, 255] {
        let c = Container::sh(&format!("exit {code}"));
        assert_eq!(c.boot("run", &[]).answer().code, code);
        c.assert_nothing_left();
    }
}

#[test]
fn run_of_a_killed_payload_is_128_and_the_signal() {
    let c = Container::idle();
    let running = c.boot("run", &[]).spawn();
    eventually("it runs", || c.act("state").answer().stdout.contains("\"running\""));
    c.kill("KILL");
    assert_eq!(running.answer().code, 137);
    c.assert_nothing_left();
}

/// The budget of a whole run; what std adds to debug builds, a look at each descriptor before it is
/// closed, is left out.
#[test]
fn run_is_one_clone_and_few_system_calls() {
    if !is_tare() {
        return; // crun 1.8 makes 651, runc 1.1 some 3,000, with 13 threads.
    }
    let c = Container::new(&["/bin/true"]).with(|c| {
        c["linux"]["cgroupsPath"].take();
        c["annotations"].take();
        // What else `runc spec` has, that of runc 1.1 with its three warnings.
        c["root"]["readonly"] = json!(true);
        c["process"]["capabilities"]["ambient"] = c["process"]["capabilities"]["bounding"].clone();
        let masked = c["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.extend(["/proc/asound", "/proc/timer_stats"].map(Value::from));
    });
    let file = c.bundle().join("calls");
    // A signal that the caller ignores would be one call more.
    let signals = ["env", "--default-signal"];
    let strace = ["strace", "-f", "-qq", "-o", file.to_str().unwrap()];
    let strace = [&signals[..], &strace].concat();
    assert_eq!(c.boot("run", &[]).under(&strace).answer().code, 0);
    let trace = std::fs::read_to_string(&file).unwrap();
    let is_call = |line: &&str| {
        let call = line.split_once(' ').unwrap_or_default().1.trim_start();
        !call.starts_with("<...") && !call.starts_with(['+', '-']) && !call.contains("F_GETFD")
    };
    let calls: Vec<&str> = trace.lines().filter(is_call).collect();
    let count = |name: &str| calls.iter().filter(|call| call.contains(name)).count();
    let exec = calls.iter().rposition(|call| call.contains(" execve(")).unwrap();
    let pid = calls[exec].split(' ').next().unwrap();
    let of_payload = calls[exec + 1..].iter().filter(|call| call.starts_with(pid)).count();
    // Eight, or with a newer compiler twelve, come before the runtime's own first.
    let start = calls.iter().take(13).position(|call| call.contains(" poll(")).unwrap_or(8);
    let ours = calls.len() - of_payload - start + 8;
    // Fourteen are those of a static program that does nothing; ten are these tests' state root.
    assert!(ours <= 400 - 14 + 10, "{ours} system calls:\n{trace}");
    assert_eq!(count(" clone3(") + count(" clone(") + count(" fork("), 1, "{trace}");
    assert!(count(" execve") <= 3, "{trace}");
    assert_eq!(count("CLONE_THREAD"), 0, "{trace}");
    c.assert_nothing_left();
}

/// As the payload of `run` and of `exec`, and as an orphan that `run` has adopted.
#[test]
fn a_real_time_signal_ends_processes_like_any_other() {
    // Init of a pid namespace would not get it.
    let c = Container::sh("kill -35 $$").namespace("pid", None);
    assert_eq!(c.boot("run", &[]).answer().code, 163);
    let c = Container::idle();
    c.run_detached();
    assert_eq!(c.exec(&[], &["/bin/sh", "-c", "kill -40 $$"]).answer().code, 168);
    c.end();
    let orphan = "(sh -c 'kill -35 $$; sleep 9' &); sleep 1; echo done; exit 7";
    let c = Container::sh(orphan).namespace("pid", None);
    let answer = c.boot("run", &[]).answer();
    assert_eq!((answer.code, answer.stdout.as_str()), (7, "done\n"), "{}", answer.stderr);
    c.assert_nothing_left();
}

#[test]
fn run_forwards_signals() {
    let c = Container::sh("trap 'exit 42' TERM; touch /shared/ready; while :; do sleep 0.05; done");
    let c = c.share();
    let running = c.boot("run", &[]).spawn();
    eventually("the trap is set", || c.shared().join("ready").exists());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.answer().code, 42);
    c.assert_nothing_left();
}

/// Some servers stop on SIGWINCH; a window that changes its size is nothing to a payload without one.
#[test]
fn run_keeps_signals_about_its_own_terminal() {
    let c = Container::sh(
        "trap 'echo window' WINCH; trap 'echo end; exit' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let mut running = c.boot("run", &[]).spawn();
    let mut said = String::new();
    eventually("the traps are set", || {
        said += &running.printed();
        said.contains("ready")
    });
    running.signal(Signal::SIGWINCH);
    std::thread::sleep(std::time::Duration::from_millis(200) * common::slowness());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.answer().stdout, "ready\nend\n");
    c.assert_nothing_left();
}

#[test]
fn files_are_the_callers_streams() {
    let c =
        Container::sh("cat; echo after; for i in 1 2 3; do echo out $i; echo error $i >&2; done");
    let [from, to] = ["from", "to"].map(|name| c.bundle().join(name).to_str().unwrap().to_owned());
    let much = (0..200_000).map(|i| format!("{i}\n")).collect::<String>();
    std::fs::write(&from, &much).unwrap();
    let shell = format!("exec \"$@\" <{from} >{to} 2>&1");
    c.boot("run", &[]).under(&["sh", "-c", &shell, "sh"]).ok();
    let said = std::fs::read_to_string(&to).unwrap();
    assert!(said.starts_with(&much));
    let rest = "after\nout 1\nerror 1\nout 2\nerror 2\nout 3\nerror 3\n";
    assert!(said.ends_with(rest) || !is_tare(), "in order");
    // What goes on in the background writes on, and a full disk ends who writes.
    let c = Container::idle();
    c.run_detached();
    let exec = c.exec(&[], &["/bin/sh", "-c", "(sleep 0.3; echo late) & echo done"]);
    exec.under(&["sh", "-c", &shell, "sh"]).ok();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "done\nlate\n");
    // A runtime that was stopped has missed nothing.
    let stopped = c.exec(&[], &["/bin/sh", "-c", "sleep 0.3; seq 1 5000"]);
    let stop = format!("\"$@\" >{to} & sleep 0.1; kill -STOP $!; sleep 1; kill -CONT $!; wait $!");
    stopped.under(&["sh", "-c", &stop, "sh"]).ok();
    assert!(std::fs::read_to_string(&to).unwrap().ends_with("\n5000\n"));
    if is_tare() {
        // What it does not read is left to the caller.
        std::fs::write(&from, "1\n2\n3\n").unwrap();
        let each = format!("while read line; do echo $line; \"$@\"; done <{from}");
        for (script, seen) in
            [("true", "1\n2\n3\n"), ("exec <&-; sleep 0.1", "1\n2\n3\n"), ("cat", "1\n2\n3\n")]
        {
            let exec = c.exec(&[], &["/bin/sh", "-c", script]);
            assert_eq!(exec.under(&["sh", "-c", &each, "sh"]).ok(), seen, "{script}");
        }
        let full = c.exec(&[], &["/bin/sh", "-c", "yes; echo $? >/tmp/code"]);
        full.under(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"]).ok();
        assert_ne!(std::fs::read_to_string(c.rootfs().join("tmp/code")).unwrap(), "0\n");
    }
    c.end();
}

#[test]
fn run_passes_standard_streams() {
    let c = Container::sh("cat; echo oops >&2");
    let answer = c.boot("run", &[]).stdin(b"one\ntwo").answer();
    assert_eq!(answer.stdout, "one\ntwo");
    assert_eq!(answer.stderr, "oops\n");
    c.assert_nothing_left();
}

#[test]
fn run_detached_returns_at_once() {
    let c = Container::idle();
    c.run_detached();
    assert_eq!(c.state()["status"], "running");
    c.end();
}

#[test]
fn run_keep_leaves_the_stopped_container() {
    if !is_tare() {
        return; // Older than the option: runc 1.1, crun 1.8.
    }
    let c = Container::new(&["/bin/true"]);
    c.boot("run", &["--keep"]).ok();
    assert_eq!(c.state()["status"], "stopped");
    c.act("delete").ok();
    c.assert_nothing_left();
}

#[test]
fn a_missing_program_is_one_clear_failure() {
    let c = Container::new(&["/run.sh"]);
    let said = c.boot("run", &[]).fails(1);
    assert!(said.to_lowercase().contains("no such file or directory"), "{said}");
    if is_tare() {
        assert_eq!(said.lines().next(), Some("exec /run.sh: no such file or directory"));
    }
    c.assert_nothing_left();
}

#[test]
fn a_program_that_may_not_be_executed() {
    let c = Container::new(&["/etc/passwd"]);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("permission denied"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn a_name_without_slash_is_looked_up_in_path() {
    assert_eq!(Container::new(&["echo", "found"]).run(), "found\n");
    let c = Container::new(&["no-such-program"]);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("executable file") && said.contains("not found in $path"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn a_program_that_the_kernel_refuses_is_named_by_its_path() {
    if peers_fail("they say it in create's output, or in other words") {
        return;
    }
    let c = Container::new(&["script"]);
    let script = c.rootfs().join("bin/script");
    std::fs::write(&script, "no program\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let words = "exec /bin/script: exec format error";
    assert_eq!(c.boot("run", &[]).fails(255).lines().next(), Some(words));
    c.create();
    let start = c.act("start").answer();
    assert!(start.code == 0 && start.stderr.contains(words), "{start:?}");
    c.end();
}

#[test]
fn a_cgroup_that_others_are_in_does_not_cost_the_exit_code() {
    let name = format!("tare-test-others-{}", std::process::id());
    let c = Container::sh("while ! test -e /shared/go; do sleep 0.1; done; exit 7").share();
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!(format!("/{name}")));
    let running = c.boot("run", &[]).spawn();
    eventually("it runs", || c.act("state").answer().stdout.contains("\"running\""));
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).expect("a v2 cgroup");
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let unified = unified.into_iter().find(|dir| Path::new(dir).join(&own[1..]).exists()).unwrap();
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let procs = format!("{unified}{own}/cgroup.procs");
    std::fs::write(procs, other.id().to_string()).unwrap();
    std::fs::write(c.shared().join("go"), "").unwrap();
    let answer = running.answer();
    other.kill().and_then(|()| other.wait()).unwrap();
    assert_eq!(answer.code, 7, "{}", answer.stderr);
    assert!(answer.stderr.contains(&name), "{}", answer.stderr);
    c.end();
}

#[test]
fn an_id_is_used_once() {
    let c = Container::idle();
    c.create();
    let said = c.boot("create", &[]).fails(1);
    assert!(said.contains("exist"), "{said}");
    assert_eq!(c.state()["status"], "created", "the first one is as it was");
    c.end();
}

#[test]
fn ids_that_are_paths_are_refused() {
    let c = Container::idle();
    let bundle = c.bundle().to_str().unwrap().to_owned();
    let long = "x".repeat(4096);
    for id in ["", ".", "..", "../x", "a/b", "/abs", "a b", "a\nb", &long] {
        let said = c.verb("create").args(&["--bundle", &bundle, id]).answer();
        assert_ne!(said.code, 0, "id {id:?} was accepted");
    }
    c.assert_nothing_left();
}

#[test]
fn wrong_states_are_refused() {
    let c = Container::idle();
    for verb in ["start", "state", "kill", "delete", "pause", "resume", "ps"] {
        let said = c.act(verb).fails(1);
        assert!(said.contains("does not exist"), "{verb}: {said}");
    }
    c.run_detached();
    c.act("start").fails(1);
    c.act("delete").fails(1);
    c.act("resume").fails(1);
    c.kill("KILL").wait_for("stopped");
    assert!(c.act("kill").args(&["TERM"]).fails(1).contains("not running"));
    c.act("start").fails(1);
    c.act("pause").fails(1);
    c.end();
}

#[test]
fn delete_by_force() {
    let c = Container::idle();
    c.verb("delete").args(&["--force", &c.id]).ok();
    c.create();
    c.end();
    c.run_detached();
    c.end();
    c.run_detached().kill("KILL").wait_for("stopped");
    c.end();
}

#[test]
fn delete_of_a_created_container_needs_no_force() {
    let c = Container::idle();
    c.create();
    c.act("delete").ok();
    c.assert_nothing_left();
}

#[test]
fn a_deleted_id_can_be_used_again() {
    let c = Container::sh("exit 4");
    for _ in 0..3 {
        assert_eq!(c.boot("run", &[]).answer().code, 4);
    }
    c.assert_nothing_left();
}

#[test]
fn kill_knows_signals_by_name_and_number() {
    let c = Container::sh(
        "trap 'echo usr1 >>/shared/log' USR1; touch /shared/ready; \
                           while :; do sleep 0.02; done",
    );
    let c = c.share();
    c.run_detached();
    eventually("ready", || c.shared().join("ready").exists());
    for (count, name) in ["USR1", "SIGUSR1", "10"].iter().enumerate() {
        c.kill(name);
        eventually(name, || {
            std::fs::read_to_string(c.shared().join("log"))
                .is_ok_and(|log| log.lines().count() == count + 1)
        });
    }
    c.kill("0");
    c.act("kill").args(&["NOSUCH"]).fails(1);
    assert_eq!(c.state()["status"], "running");
    c.end();
}

#[test]
fn kill_is_term_without_a_signal() {
    let c = Container::sh(
        "trap 'echo term >/shared/log; exit 0' TERM; touch /shared/ready; \
                           while :; do sleep 0.02; done",
    );
    let c = c.share();
    c.run_detached();
    eventually("ready", || c.shared().join("ready").exists());
    let absent = if is_tare() { &["kill", &c.id, ""][..] } else { &["kill", &c.id] };
    c.verb(absent[0]).args(&absent[1..]).ok();
    c.wait_for("stopped");
    assert_eq!(std::fs::read_to_string(c.shared().join("log")).unwrap(), "term\n");
    c.end();
}

#[test]
fn what_ends_a_container_ends_one_that_waits_for_its_start() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let c = Container::idle();
        c.create().kill(signal).wait_for("stopped");
        c.end();
    }
    for signal in ["USR1", "WINCH"] {
        let c = Container::idle();
        c.create().kill(signal);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(c.state()["status"], "created", "{signal}");
        c.end();
    }
    let c = Container::idle();
    c.create().act("pause").ok();
    c.kill("TERM");
    c.act("resume").answer();
    c.wait_for("stopped");
    c.end();
}

#[test]
fn a_payload_gets_its_signal_whatever_the_state_says() {
    if !is_tare() {
        return; // The call that fails is tare's.
    }
    // `start` is killed once it has released the payload: "created" stays in the state.
    let c = Container::sh(
        "trap 'echo term >/shared/log; exit 0' TERM; touch /shared/ready; \
                           while :; do sleep 0.02; done",
    );
    let c = c.share();
    c.create();
    let killed = "inject=renameat:signal=KILL";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e", killed];
    c.act("start").under(&strace).answer();
    eventually("ready", || c.shared().join("ready").exists());
    assert_eq!(c.state()["status"], "created");
    c.kill("TERM").wait_for("stopped");
    assert_eq!(std::fs::read_to_string(c.shared().join("log")).unwrap(), "term\n");
    c.end();
}

#[test]
fn kill_all_reaches_every_process() {
    let c = Container::sh("sleep 600 & sleep 600 & wait");
    c.run_detached();
    eventually("three processes", || c.processes().len() == 3);
    c.verb("kill").args(&["--all", &c.id, "KILL"]).ok();
    c.wait_for("stopped");
    eventually("all gone", || c.processes().is_empty());
    c.verb("kill").args(&["--all", &c.id, "KILL"]).ok();
    c.end();
}

#[test]
fn a_container_in_the_hosts_pid_namespace_is_ended_whole() {
    let c = Container::sh("sleep 600 & sleep 600 & wait").namespace("pid", None);
    c.run_detached();
    eventually("three processes", || c.processes().len() == 3);
    c.end();
    assert!(c.processes().is_empty());
}

#[test]
fn a_container_whose_init_has_gone_is_stopped_though_others_live() {
    // Its number is still that of their session.
    let c = Container::sh("sleep 600 & sleep 600 & wait").namespace("pid", None);
    c.run_detached();
    eventually("three processes", || c.processes().len() == 3);
    let pid = nix::unistd::Pid::from_raw(c.pid());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    c.wait_for("stopped");
    assert_eq!(c.processes().len(), 2);
    c.verb("delete").args(&["--force", &c.id]).ok();
    assert!(c.processes().is_empty());
    c.assert_nothing_left();
}

#[test]
fn kill_ends_a_container_in_the_pid_namespace_of_another_whole() {
    // As the containers of a pod: the kernel ends the processes of a namespace with its first one only.
    let pod = Container::idle();
    pod.run_detached();
    let path = format!("/proc/{}/ns/pid", pod.pid());
    let c = Container::sh("sleep 600 & sleep 600 & wait").namespace("pid", Some(&path));
    c.run_detached();
    eventually("three processes", || c.processes().len() == 3);
    c.kill("KILL");
    eventually("all gone", || c.processes().is_empty());
    // Engines are told nothing wrong of one that has ended meanwhile, as long as its cgroup is there.
    c.wait_for("stopped");
    c.kill("KILL");
    c.end();
    pod.end();
}

#[test]
fn pid_files_are_complete_and_relative_to_the_caller() {
    let c = Container::idle();
    c.boot("create", &["--pid-file", "shared/pid"]).dir(c.bundle()).ok();
    let text = std::fs::read_to_string(c.shared().join("pid")).unwrap();
    assert_eq!(text, c.pid().to_string());
    c.start();
    let flags = ["--detach", "--pid-file", "shared/pid2"];
    c.exec(&flags, &["/bin/sleep", "600"]).dir(c.bundle()).ok();
    let pid = std::fs::read_to_string(c.shared().join("pid2")).unwrap();
    eventually("exec's process", || {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words == b"/bin/sleep\x00600\x00")
    });
    c.end();
}

/// The process that the pidfd stands for, from /proc/self/fdinfo.
fn process_of(pidfd: &OwnedFd) -> String {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:\t"));
    pid.expect("it is a pidfd").to_owned()
}

#[test]
fn pidfds_are_sent_to_a_socket() {
    if peers_fail("crun has no such option, and runc has it since 1.2") {
        return;
    }
    let c = Container::idle();
    let (socket, pid) = (ConsoleSocket::listen(&c.shared()), c.shared().join("pid"));
    let flags = ["--pidfd-socket", socket.path.to_str().unwrap()];
    let detached = [&flags[..], &["--detach", "--pid-file", pid.to_str().unwrap()]].concat();
    for (verb, flags) in [("create", &flags[..]), ("run", &detached)] {
        c.boot(verb, flags).ok();
        assert_eq!(process_of(&socket.descriptor()), c.pid().to_string(), "{verb}");
        if verb == "create" {
            c.end();
        }
    }
    c.exec(&detached, &["/bin/sleep", "600"]).ok();
    let process = process_of(&socket.descriptor());
    assert_eq!(process, std::fs::read_to_string(&pid).unwrap());
    assert_ne!(process, c.pid().to_string());
    c.end();
    drop(socket);
    for socket in [c.shared().join("console.sock"), c.shared().join("none.sock")] {
        let said = c.boot("run", &["--pidfd-socket", socket.to_str().unwrap()]).fails(1);
        assert!(said.contains("send a process descriptor to"), "{said}");
        c.assert_nothing_left();
    }
}

/// Chrome's trace event format: complete events with microseconds, one row for each process.
#[test]
fn a_trace_has_every_step_of_both_sides() {
    if peers_fail("they have no such option") {
        return;
    }
    let c = Container::new(&["/bin/true"]);
    let file = c.shared().join("trace.json");
    let flags = ["--trace", file.to_str().unwrap()];
    c.boot("run", &flags).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let explained = c.verb("explain").args(&[&c.id]).dir(c.bundle()).ok();
    for side in ["parent", "child"] {
        let steps: Vec<_> = events.iter().filter(|event| event["cat"] == side).collect();
        assert!(steps.len() > 5, "{side}: {text}");
        for event in steps {
            assert_eq!(event["ph"], "X", "{event}");
            assert!(
                event["ts"].as_f64() > Some(0.0) && event["dur"].as_f64() >= Some(0.0),
                "{event}"
            );
            let name = event["name"].as_str().unwrap();
            assert!(explained.contains(name), "{name} is not in {explained}");
        }
    }
    let at = |path: &str| events.iter().any(|event| event["args"]["config"] == path);
    assert!(at("process.args[0]") && at("mounts[0]"), "{text}");
    let nowhere = ["--trace", "/nowhere/trace"];
    let said = c.boot("create", &nowhere).fails(1);
    assert!(said.contains("write the trace to /nowhere/trace: no such file"), "{said}");
    c.assert_nothing_left();
    c.create();
    c.exec(&nowhere, &["/bin/true"]).fails(255);
    // A disk that is full takes nothing from the container.
    let answer = c.exec(&["--trace", "/dev/full"], &["/bin/echo", "-n", "hello"]).answer();
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "hello"));
    assert!(answer.stderr.contains("no space left on device"), "{}", answer.stderr);
    c.end();
}

#[test]
fn exec_has_the_commands_exit_code() {
    let c = Container::idle();
    c.run_detached();
    assert_eq!(c.exec(&[], &["/bin/sh", "-c", "exit 3"]).answer().code, 3);
    assert_eq!(c.exec(&[], &["/bin/sh", "-c", "kill -9 $$"]).answer().code, 137);
    assert_eq!(c.exec(&[], &["/bin/echo", "-n", "--flag"]).ok(), "--flag");
    assert_eq!(c.exec(&[], &["cat"]).stdin(b"in").ok(), "in");
    c.end();
}

#[test]
fn exec_failures_of_the_runtime_are_255() {
    let c = Container::idle();
    c.exec(&[], &["true"]).fails(255);
    c.run_detached();
    let said = c.exec(&[], &["/no/such"]).fails(255).to_lowercase();
    assert!(said.contains("no such file or directory"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    c.kill("KILL").wait_for("stopped");
    let said = c.exec(&[], &["true"]).fails(255);
    assert!(said.contains("cannot exec in a stopped container"), "{said}");
    c.end();
}

#[test]
fn exec_works_in_a_created_container() {
    let c = Container::idle();
    c.create();
    assert_eq!(c.exec(&[], &["/bin/echo", "early"]).ok(), "early\n");
    assert_eq!(c.state()["status"], "created");
    c.end();
}

#[test]
fn exec_shares_the_namespaces() {
    let c = Container::idle();
    c.run_detached();
    for name in ["pid", "net", "ipc", "uts", "mnt"] {
        let inside =
            c.exec_sh(&format!("readlink /proc/self/ns/{name}; readlink /proc/1/ns/{name}"));
        let mut lines = inside.lines();
        assert_eq!(lines.next(), lines.next(), "{name}");
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside.lines().next().unwrap(), host.to_str().unwrap(), "{name}");
    }
    let groups = c.exec_sh("cat /proc/self/cgroup");
    let init = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert_eq!(groups, init);
    c.end();
}

#[test]
fn exec_takes_flags() {
    let c = Container::idle();
    c.run_detached();
    let flags = ["--cwd", "/tmp", "--env", "A=1", "--env", "B=2 3", "--user", "1000:1001"];
    let said = c.exec(&flags, &["/bin/sh", "-c", "pwd; echo $A $B; id -u; id -g"]).ok();
    assert_eq!(said, "/tmp\n1 2 3\n1000\n1001\n");
    let flags = ["--additional-gids", "5", "--additional-gids", "6"];
    assert_eq!(
        c.exec(&flags, &["/bin/sh", "-c", "grep Groups /proc/self/status"]).ok().trim(),
        "Groups:\t5 6"
    );
    let flags = ["--no-new-privs", "--cap", "CAP_SYS_CHROOT"];
    let status = c.exec(&flags, &["/bin/cat", "/proc/self/status"]).ok();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let chroot = 1u64 << 18;
    assert_ne!(capability_set(&status, "CapEff") & chroot, 0, "{status}");
    let c = Container::idle().with(|c| c["process"]["noNewPrivileges"] = json!(true));
    c.run_detached();
    for (flag, value) in [("--no-new-privs", 1), ("--no-new-privs=false", 0)] {
        let status = c.exec(&[flag], &["/bin/cat", "/proc/self/status"]).ok();
        assert!(status.contains(&format!("NoNewPrivs:\t{value}")), "{flag}: {status}");
    }
    c.end();
}

#[test]
fn what_is_wrong_with_a_flag_of_exec_is_not_sought_in_the_configuration() {
    let c = Container::idle();
    c.run_detached();
    for [flag, value] in [["--cwd", "tmp"], ["--env", "A"]] {
        let answer = c.exec(&[flag, value], &["/bin/true"]).answer();
        if is_tare() {
            assert_eq!(answer.code, 255, "{answer:?}");
            assert!(answer.stderr.contains(&format!("\n  --> {flag}\n")), "{answer:?}");
        }
    }
    c.end();
}

fn capability_set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t")));
    u64::from_str_radix(line.expect("in status"), 16).expect("hexadecimal")
}

#[test]
fn exec_takes_a_process_file() {
    let c = Container::idle();
    c.run_detached();
    let process = json!({
        "args": ["/bin/sh", "-c", "id -u; pwd; echo $X; umask; ulimit -n; cat /proc/self/oom_score_adj"],
        "cwd": "/etc", "env": ["PATH=/bin", "X=y"], "user": {"uid": 12, "gid": 34, "umask": 0o27},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 100, "soft": 90}], "oomScoreAdj": 321
    });
    let file = c.shared().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let said = c.verb("exec").args(&["--process", file.to_str().unwrap(), &c.id]).ok();
    // runc 1.1 forgets the mask and the score, crun the score.
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((&lines[..3], lines[4]), (&["12", "/etc", "y"][..], "90"));
    if is_tare() {
        assert_eq!((lines[3], lines[5]), ("0027", "321"));
    }
    c.end();
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let c = Container::sh("while :; do echo x >>/shared/log; sleep 0.01; done").share();
    c.run_detached();
    let log = c.shared().join("log");
    let size = || std::fs::metadata(&log).map(|m| m.len()).unwrap_or(0);
    eventually("it writes", || size() > 0);
    c.act("pause").ok();
    assert_eq!(c.state()["status"], "paused");
    let before = size();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(size(), before, "a paused container wrote");
    assert!(c.exec(&[], &["true"]).fails(255).contains("cannot exec in a paused container"));
    c.act("resume").ok();
    assert_eq!(c.state()["status"], "running");
    eventually("it writes again", || size() > before);
    c.act("pause").ok();
    c.end();
}

/// A container whose cgroup is frozen by one above is not paused, and cannot be resumed.
#[test]
fn a_frozen_cgroup_above_is_named() {
    if !is_tare() {
        return; // exec and start hang.
    }
    let [v1, v2] = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"].map(Path::new);
    let (root, file, [stop, go]) = match v1.exists() {
        true => (v1, "freezer.state", ["FROZEN", "THAWED"]),
        false => (v2, "cgroup.freeze", ["1", "0"]),
    };
    let c = Container::idle();
    let above = root.join(format!("above-{}", std::process::id()));
    std::fs::create_dir(&above).unwrap();
    let path = format!("/above-{}/{}", std::process::id(), c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!(path));
    let order = |word: &str| std::fs::write(above.join(file), word).unwrap();
    let freeze = || {
        order(stop);
        eventually("it stands still", || {
            let read = |file| std::fs::read_to_string(above.join(file)).unwrap_or_default();
            read("cgroup.events").contains("frozen 1") || read("freezer.state") == "FROZEN\n"
        });
    };
    c.create();
    freeze();
    assert_eq!(c.state()["status"], "created");
    let said = c.act("start").fails(1);
    assert!(said.contains("in the paused state") && said.contains("cgroup above"), "{said}");
    order(go);
    c.act("start").ok();
    freeze();
    assert_eq!(c.state()["status"], "running");
    let said = c.act("resume").fails(1);
    assert!(said.contains("container not paused") && said.contains("cgroup above"), "{said}");
    let said = c.exec(&[], &["true"]).fails(255);
    assert!(said.contains("exec in a paused container") && said.contains("above"), "{said}");
    c.act("pause").ok();
    order(go);
    assert_eq!(c.state()["status"], "paused");
    c.act("resume").ok();
    c.exec(&[], &["true"]).ok();
    c.end();
    std::fs::remove_dir(&above).unwrap();
}

#[test]
fn ps_lists_the_processes() {
    // By its path: the shell of Ubuntu's busybox would run its own, under another name.
    let c = Container::sh("/bin/sleep 600 & wait");
    c.run_detached();
    eventually("two processes", || c.processes().len() == 2);
    let json: Vec<i32> =
        serde_json::from_str(&c.verb("ps").args(&["--format", "json", &c.id]).ok()).unwrap();
    assert_eq!(json.len(), 2);
    assert!(json.contains(&c.pid()));
    let table = c.act("ps").ok();
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let own = c.act("ps").args(&["-o", "pid,comm"]).ok();
    assert!(own.contains("sleep") && own.lines().count() == 3, "{own}");
    c.end();
}

#[test]
fn list_knows_all_containers() {
    let c = Container::idle();
    c.run_detached();
    let second = format!("{}-b", c.id);
    let bundle = c.bundle().to_str().unwrap();
    let config = std::fs::read_to_string(c.bundle().join("config.json")).unwrap();
    let other = config.replace(&format!("\"/{}\"", c.id), &format!("\"/{second}\""));
    std::fs::write(c.bundle().join("config.json"), other).unwrap();
    c.verb("create").args(&["--bundle", bundle, &second]).ok();
    let quiet = c.verb("list").args(&["--quiet"]).ok();
    assert_eq!(quiet.lines().collect::<Vec<_>>(), [c.id.as_str(), second.as_str()]);
    let table = c.verb("list").ok();
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let json: Vec<Value> =
        serde_json::from_str(&c.verb("list").args(&["--format", "json"]).ok()).unwrap();
    assert_eq!(json[0]["status"], "running");
    assert_eq!(json[1]["status"], "created");
    c.verb("delete").args(&["--force", &second]).ok();
    c.end();
}

#[test]
fn preserve_fds_passes_exactly_those() {
    let c = Container::sh("cat <&3; ls /proc/self/fd | wc -l");
    let script = "exec 3</etc/hostname 4</etc/passwd; exec \"$@\"";
    let cmd = c.boot("run", &["--preserve-fds", "1"]).under(&["bash", "-c", script, "sh"]);
    let said = cmd.ok();
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    // 0, 1, 2, 3, and the directory that ls itself has open.
    assert_eq!(said, format!("{host}5\n"));
    c.assert_nothing_left();
}

#[test]
fn preserve_fds_passes_a_single_one_of_a_higher_number() {
    if peers_fail("runc refuses gaps, or passes what it has opened in them") {
        return;
    }
    let c = Container::sh("cat <&9; ls /proc/self/fd | tr '\\n' ' '");
    let under = ["bash", "-c", "exec 9</etc/hostname; exec \"$@\"", "sh"];
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    // 3 is the directory that ls has open.
    let said = c.boot("run", &["--preserve-fds", "7"]).under(&under).ok();
    assert_eq!(said, format!("{host}0 1 2 3 9 "));
    for count in ["40", "4294967295"] {
        let said = c.boot("run", &["--preserve-fds", count]).under(&under).fails(1);
        assert!(said.contains("it is not open"), "{said}");
    }
    c.assert_nothing_left();
}

#[test]
fn a_failed_create_leaves_nothing() {
    let broken: [fn(&mut Value); 4] = [
        |c| c["mounts"][1]["options"] = json!(["size=banana"]),
        |c| c["root"]["path"] = json!("no-such-root"),
        |c| c["process"]["args"] = json!([]),
        |c| c["linux"]["namespaces"][0]["path"] = json!("/proc/no-such/ns/pid"),
    ];
    for change in broken {
        let c = Container::idle().with(change);
        c.boot("create", &[]).fails(1);
        c.assert_nothing_left();
    }
}

#[test]
fn two_hundred_in_a_row_leave_nothing() {
    let c = Container::new(&["/bin/true"]);
    for turn in 0..200 / slowness() {
        if turn % 2 == 0 {
            c.run();
            continue;
        }
        c.create().start().wait_for("stopped");
        c.act("delete").ok();
    }
    c.assert_nothing_left();
}

#[test]
fn fifty_at_once_leave_nothing() {
    let all: Vec<_> = (0..50).map(|_| Container::sh("echo $TEST_ID; sleep 0.2")).collect();
    let running: Vec<_> = all.iter().map(|c| c.boot("run", &[]).spawn()).collect();
    for (c, running) in all.iter().zip(running) {
        let answer = running.answer();
        assert_eq!((answer.code, answer.stdout.trim()), (0, c.id.as_str()), "{}", answer.stderr);
        c.assert_nothing_left();
    }
}

#[test]
fn the_log_file_has_the_error_as_engines_read_it() {
    let c = Container::new(&["/no/such"]);
    let log = c.shared().join("log.json");
    let (root, bundle) = (c.root(), c.bundle().to_str().unwrap());
    let runtime = runtime().to_str().unwrap();
    let globals =
        ["--root", root.to_str().unwrap(), "--log", log.to_str().unwrap(), "--log-format", "json"];
    Cmd::new(&[runtime]).args(&globals).args(&["run", "--bundle", bundle, &c.id]).fails(1);
    let text = std::fs::read_to_string(log).unwrap();
    let entries: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = entries.iter().rfind(|entry| entry["level"] == "error").expect("an error entry");
    let message = last["msg"].as_str().unwrap().to_lowercase();
    assert!(message.contains("no such file or directory"), "{last}");
    assert!(last["time"].as_str().unwrap().contains('T'), "{last}");
    c.assert_nothing_left();
}

#[test]
fn a_container_without_a_process_stays_created() {
    let c = Container::idle().with(|c| drop(c.as_object_mut().unwrap().remove("process")));
    c.create();
    for _ in 0..2 {
        let said = c.act("start").fails(1);
        assert!(said.contains("without a process") || !is_tare(), "{said}");
        assert!(c.state()["status"] == "created" || !is_tare());
    }
    c.act("delete").ok();
    c.assert_nothing_left();
}
