//! Filters in running containers: what each action, operator, flag and ABI does to the payload,
//! and what an agent is told and asked.
#![cfg(target_arch = "x86_64")]

mod common;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::OnceLock;

use common::agent::{Agent, Answer, take};
use common::{Container, eventually, is_tare, peers_fail};
use serde_json::{Value, json};

/// Killed by SIGSYS, as a shell tells it.
const SIGSYS: i32 = 128 + 31;

/// integration/programs/calls.c, built once.
fn program() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("calls");
        common::compile("calls.c", &path);
        path
    })
}

/// A container that runs the program above under a filter that allows all but for these rules.
fn calls(words: &[&str], rules: Value) -> Container {
    let c = Container::new(&[&["/bin/calls"], words].concat());
    std::fs::copy(program(), c.rootfs().join("bin/calls")).expect("copy the program");
    c.with(|c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": rules});
    })
}

fn privileged(c: Container, no_new_privileges: bool) -> Container {
    c.with(|c| c["process"]["noNewPrivileges"] = json!(no_new_privileges))
}

/// A call that no runtime makes; 159 in the 32-bit ABI.
const RARE: &str = "sched_get_priority_max";
const CALL: &str = "146";

/// A rule for it.
fn rare(action: &str) -> Value {
    json!([{"names": [RARE], "action": action}])
}

#[test]
fn errno_is_the_one_asked_for_or_eperm() {
    for no_new_privileges in [false, true] {
        let c = calls(&["plain", CALL], rare("SCMP_ACT_ERRNO"));
        assert_eq!(privileged(c, no_new_privileges).run(), "-1\n");
        let rules = json!([{"names": [RARE], "action": "SCMP_ACT_ERRNO", "errnoRet": 121}]);
        assert_eq!(privileged(calls(&["plain", CALL], rules), no_new_privileges).run(), "-121\n");
    }
}

#[test]
fn the_default_errno_is_the_one_asked_for() {
    let c = calls(&["plain", CALL], json!([]));
    let c = c.with(|c| {
        let seccomp = &mut c["linux"]["seccomp"];
        seccomp["defaultAction"] = json!("SCMP_ACT_ERRNO");
        seccomp["defaultErrnoRet"] = json!(121);
        seccomp["syscalls"] = json!([{"action": "SCMP_ACT_ALLOW", "names": needed()}]);
    });
    assert_eq!(c.run(), "-121\n");
}

/// What the runtimes and static programs need at the least.
fn needed() -> Vec<&'static str> {
    let needed = "accept4 access arch_prctl brk capget capset chdir clone clone3 close close_range \
        dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve execveat exit exit_group \
        fchdir fchown fcntl fgetxattr fstat fstatfs futex getcwd getdents64 getpid getrandom gettid \
        ioctl lseek madvise memfd_create mmap mprotect munmap nanosleep newfstatat openat openat2 \
        poll ppoll prctl pread64 prlimit64 read readlink readlinkat recvfrom recvmsg rseq \
        rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendmsg sendto \
        set_robust_list set_tid_address setgid setgroups setresgid setresuid setuid sigaltstack \
        statx tgkill uname wait4 waitid write writev";
    needed.split_whitespace().collect()
}

/// A call that is not allowed but older than the newest that the profile names is refused as the
/// profile says; one that is newer does not exist, so that programs fall back to older ones.
#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let run = |number: &str, mode: &str| {
        calls(&[mode, number], json!([{"action": "SCMP_ACT_ALLOW", "names": needed()}]))
            .with(|c| c["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_ERRNO"))
            .run()
    };
    // The newest that it names is openat2 (437).
    assert_eq!(run("168", "plain"), "-1\n", "swapoff");
    assert_eq!(run("460", "plain"), "-38\n", "lsm_set_self_attr");
    assert_eq!(run("115", "narrow"), "-1\n", "swapoff");
    assert_eq!(run("460", "narrow"), "-38\n");
}

/// Such a container could never start; it was said so only by the process that could not tell.
#[test]
fn a_filter_that_denies_execve_is_refused() {
    if peers_fail("their start succeeds, and the process ends") {
        return;
    }
    let denied = [
        (
            "SCMP_ACT_ALLOW",
            json!([{"names": ["write", "exit", "execve"], "action": "SCMP_ACT_ERRNO"}]),
        ),
        ("SCMP_ACT_ERRNO", json!([{"names": ["execveat", "exit"], "action": "SCMP_ACT_ALLOW"}])),
    ];
    for (default, rules) in denied {
        let c = calls(&["plain", CALL], rules)
            .with(|c| c["linux"]["seccomp"]["defaultAction"] = json!(default));
        for verb in ["create", "run"] {
            let said = c.boot(verb, &[]).fails(1);
            assert!(said.contains("the filter does not allow execve(2)"), "{said}");
            assert!(said.contains("linux.seccomp = "), "{said}");
        }
        c.assert_nothing_left();
    }
}

/// It would be let through without a word.
#[test]
fn a_misspelt_call_is_told() {
    let rules = json!([{"names": ["reboot", "ptracee"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["spu_run", "rtas", "breakpoint"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["from_the_future"], "action": "SCMP_ACT_ALLOW"}]);
    let c = calls(&["plain", CALL], rules);
    let answer = c.boot("run", &[]).answer();
    assert_eq!(answer.code, 0, "{answer:?}");
    if is_tare() {
        let words = "linux.seccomp.syscalls[0].names[1] is ignored: there is no system call";
        assert!(answer.stderr.contains(words), "{answer:?}");
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    }
}

#[test]
fn a_killed_thread_leaves_the_others() {
    assert_eq!(calls(&["thread", CALL], rare("SCMP_ACT_KILL_THREAD")).run(), "main lives\n");
    assert_eq!(calls(&["thread", CALL], rare("SCMP_ACT_KILL")).run(), "main lives\n");
}

#[test]
fn a_killed_process_ends_whole() {
    for no_new_privileges in [false, true] {
        let c = calls(&["thread", CALL], rare("SCMP_ACT_KILL_PROCESS"));
        let answer = privileged(c, no_new_privileges).boot("run", &[]).answer();
        assert_eq!((answer.code, answer.stdout.as_str()), (SIGSYS, ""), "{answer:?}");
    }
    let c = calls(&["plain", CALL], rare("SCMP_ACT_KILL"));
    assert_eq!(c.boot("run", &[]).answer().code, SIGSYS);
    // ABIs that the profile does not list: a 32-bit one, and x32.
    let only = |words: &[&str]| {
        calls(words, rare("SCMP_ACT_ERRNO"))
            .with(|c| c["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86_64"]))
    };
    assert_eq!(only(&["narrow", "159"]).boot("run", &[]).answer().code, SIGSYS);
    assert_eq!(only(&["plain", "0x40000092"]).boot("run", &[]).answer().code, SIGSYS);
}

#[test]
fn a_trap_is_a_signal_that_tells_the_call() {
    assert_eq!(calls(&["trap", CALL], rare("SCMP_ACT_TRAP")).run(), "trapped 146\n");
    let c = calls(&["plain", CALL], rare("SCMP_ACT_TRAP"));
    assert_eq!(c.boot("run", &[]).answer().code, SIGSYS, "nobody catches it");
}

#[test]
fn a_tracer_gets_the_number() {
    let rules = json!([{"names": [RARE], "action": "SCMP_ACT_TRACE", "errnoRet": 77}]);
    assert_eq!(calls(&["trace", CALL], rules.clone()).run(), "traced 77\n");
    assert_eq!(calls(&["plain", CALL], rules).run(), "-38\n", "without a tracer");
}

/// The kernel's log may leave out lines when there are many.
#[test]
fn a_logged_call_goes_on_and_is_in_the_kernels_log() {
    let seen = |c: &Container, what: &str| {
        let name = format!("log-{}", std::process::id());
        std::fs::copy(program(), c.rootfs().join("bin").join(&name)).expect("copy the program");
        let logged = || {
            assert_eq!(c.run(), "0\n");
            let log = common::Cmd::new(&["dmesg"]).ok();
            let line = |line: &&str| line.contains(&name) && line.contains(what);
            log.lines().any(|one| line(&one))
        };
        eventually(what, logged);
    };
    let name = format!("/bin/log-{}", std::process::id());
    let log = calls(&["plain", "102"], json!([{"names": ["getuid"], "action": "SCMP_ACT_LOG"}]))
        .with(|c| c["process"]["args"][0] = json!(name));
    seen(&log, "syscall=102");
    if peers_fail("runc 1.1 knows no flags") {
        return;
    }
    // The flag logs what is neither allowed nor killed.
    let rules = json!([{"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]);
    let flag = calls(&["plain", "104"], rules).with(|c| {
        c["process"]["args"][0] = json!(name);
        c["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    });
    seen(&flag, "syscall=104");
}

#[test]
fn every_flag_is_taken() {
    let flags = ["TSYNC", "LOG", "SPEC_ALLOW"].map(|flag| format!("SECCOMP_FILTER_FLAG_{flag}"));
    for flags in [json!([]), json!([flags[0]]), json!([flags[1]]), json!([flags[2]]), json!(flags)]
    {
        let c = calls(&["plain", CALL], rare("SCMP_ACT_ERRNO"))
            .with(|c| c["linux"]["seccomp"]["flags"] = flags.clone());
        if flags == json!([]) || is_tare() {
            assert_eq!(c.run(), "-1\n", "{flags}");
        }
    }
    if is_tare() {
        // Waiting for an agent that there is none of.
        let flag = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        let c = calls(&["plain", CALL], rare("SCMP_ACT_ERRNO"))
            .with(|c| c["linux"]["seccomp"]["flags"] = flag);
        assert_eq!(c.run(), "-1\n");
    }
}

#[test]
fn arguments_are_compared_as_64_bits() {
    // getpriority(2) ignores the upper half of its arguments; the filter does not.
    let run = |rules: &Value, number: u64| {
        calls(&["plain", "140", "0", &number.to_string()], rules.clone()).run()
    };
    let rule = |op: &str, value: u64, errno: u32| {
        json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 1, "op": op, "value": value}]})
    };
    let high = 1u64 << 32;
    for (op, fails, passes) in [
        ("SCMP_CMP_EQ", vec![high], vec![0, high + 1]),
        ("SCMP_CMP_NE", vec![0], vec![high]),
        ("SCMP_CMP_GT", vec![high + 1, 2 * high], vec![0, high]),
        ("SCMP_CMP_GE", vec![high], vec![0]),
        ("SCMP_CMP_LT", vec![0], vec![high]),
        ("SCMP_CMP_LE", vec![0, high], vec![2 * high]),
    ] {
        let rules = json!([rule(op, high, 99)]);
        fails.into_iter().for_each(|n| assert_eq!(run(&rules, n), "-99\n", "{op} {n:#x}"));
        passes.into_iter().for_each(|n| assert_ne!(run(&rules, n), "-99\n", "{op} {n:#x}"));
    }
    let mut masked = rule("SCMP_CMP_MASKED_EQ", high, 99);
    masked["args"][0]["valueTwo"] = json!(high);
    assert_eq!(run(&json!([masked]), high + 7), "-99\n");
    assert_ne!(run(&json!([masked]), 7), "-99\n");
    // Several rules for one call: each holds for itself.
    let rules = json!([rule("SCMP_CMP_EQ", high, 98), rule("SCMP_CMP_EQ", 5, 97)]);
    assert_eq!(run(&rules, high) + &run(&rules, 5), "-98\n-97\n");
}

#[test]
fn names_that_nobody_knows_are_skipped() {
    let rules = json!([{"names": ["from_the_future", RARE], "action": "SCMP_ACT_ERRNO"}]);
    assert_eq!(calls(&["plain", CALL], rules).run(), "-1\n");
}

/// With noNewPrivileges the filter comes last, so it may deny what the runtime needs to become the
/// user; without, it takes a privilege that the user may not have, so it comes before.
#[test]
fn the_filter_comes_as_late_as_it_can() {
    let denied = ["setresuid", "setresgid", "setgroups", "capset", "chdir", "openat"];
    let denied = json!([{"names": denied, "action": "SCMP_ACT_ERRNO"}]);
    let user = |c: Container, no_new_privileges| {
        privileged(c, no_new_privileges)
            .with(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}))
    };
    let c = user(calls(&["plain", "102"], denied.clone()), true);
    if is_tare() {
        assert_eq!(c.run(), "1000\n");
        c.assert_nothing_left();
    }
    user(calls(&["plain", "102"], denied), false).boot("run", &[]).fails(1);
    let c = user(calls(&["plain", CALL], rare("SCMP_ACT_ERRNO")), false);
    assert_eq!(c.run(), "-1\n");
}

#[test]
fn exec_is_under_the_same_filter() {
    for no_new_privileges in [false, true] {
        let c = calls(&[], rare("SCMP_ACT_ERRNO"))
            .with(|c| c["process"]["args"] = json!(["/bin/sleep", "600"]));
        let c = privileged(c, no_new_privileges);
        c.run_detached();
        assert_eq!(c.exec(&[], &["/bin/calls", "plain", CALL]).ok(), "-1\n");
        c.end();
    }
}

/// The rare call and mkdir are decided by the agent; all others that it is asked about go on.
fn decide(number: i32) -> Answer {
    match number {
        146 => Answer::Value(4711),
        83 => Answer::Errno(28),
        _ => Answer::Continue,
    }
}

/// A container whose agent listens in the shared directory and is asked about these calls.
fn notifying(words: &[&str], names: &[&str]) -> (Container, PathBuf) {
    let c = calls(words, json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]));
    let path = c.shared().join("agent");
    let c = c.with(|c| {
        c["linux"]["seccomp"]["listenerPath"] = json!(path);
        c["linux"]["seccomp"]["listenerMetadata"] = json!("a \"quoted\" word");
        c["annotations"] = json!({"org.example": "yes"});
    });
    (c, path)
}

/// Nothing here calls them but the payload.
const RARES: [&str; 2] = [RARE, "mkdir"];

#[test]
fn an_agent_decides() {
    for no_new_privileges in [false, true] {
        let (c, path) = notifying(&["plain", CALL], &RARES);
        let agent = Agent::at(&path, decide);
        let c = privileged(c, no_new_privileges);
        assert_eq!(c.run(), "4711\n");
        let c = c.with(|c| c["process"]["args"][2] = json!("83"));
        assert_eq!(c.run(), "-28\n");
        assert_eq!(agent.calls(), [146, 83]);
        assert_eq!(agent.messages(2).len(), 2);
        c.assert_nothing_left();
    }
}

#[test]
fn the_agent_is_told_of_the_container() {
    for no_new_privileges in [false, true] {
        let (c, path) = notifying(&["plain", CALL], &RARES);
        let agent = Agent::at(&path, decide);
        let c = privileged(c, no_new_privileges);
        c.create();
        let messages = agent.messages(1);
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(message["fds"], json!(["seccompFd"]));
        assert_eq!(message["pid"], c.pid());
        assert_eq!(message["metadata"], "a \"quoted\" word");
        let state = &message["state"];
        assert_eq!((&state["id"], &state["pid"]), (&json!(c.id), &message["pid"]));
        assert_eq!((&state["status"], &state["bundle"]), (&json!("creating"), &json!(c.bundle())));
        assert_eq!(state["annotations"], json!({"org.example": "yes"}));
        assert!(message["ociVersion"].is_string() && state["ociVersion"].is_string());
        assert_eq!(agent.calls(), [0; 0]);
        c.start().wait_for("stopped");
        assert_eq!(agent.calls(), [146]);
        c.end();
    }
}

#[test]
fn the_agent_is_told_of_an_exec() {
    for no_new_privileges in [false, true] {
        let (c, path) = notifying(&[], &RARES);
        let agent = Agent::at(&path, decide);
        let c = c.with(|c| c["process"]["args"] = json!(["/bin/sleep", "600"]));
        let c = privileged(c, no_new_privileges);
        c.run_detached();
        let file = c.bundle().join("pid").display().to_string();
        let exec = c.exec(&["--pid-file", &file], &["/bin/calls", "plain", CALL]);
        assert_eq!(exec.ok(), "4711\n");
        let messages = agent.messages(2);
        let [_, message] = &messages[..] else { panic!("{messages:?}") };
        let pid = std::fs::read_to_string(file).expect("a pid file");
        assert_eq!(message["pid"].to_string(), pid);
        assert_eq!(message["state"]["status"], "running");
        assert_eq!(message["state"]["pid"], c.pid());
        c.end();
    }
}

/// The runtime's own last calls are under the filter as well. The agent has its listener by then.
#[test]
fn the_agent_may_be_asked_about_the_runtimes_calls() {
    let names = "sched_get_priority_max read close openat open execve execveat recvmsg recvfrom sendto accept4 \
        prctl fcntl memfd_create rt_sigprocmask rt_sigaction setresuid setresgid capset setgroups";
    let mut names: Vec<_> = names.split_whitespace().collect();
    for no_new_privileges in [false, true] {
        for more in ["futex", "sendmsg"] {
            names.push(more);
            let (c, path) = notifying(&["plain", CALL], &names);
            let agent = Agent::at(&path, decide);
            let c = privileged(c, no_new_privileges);
            assert_eq!(c.run(), "4711\n");
            assert!(agent.calls().contains(&59) && agent.calls().contains(&146));
            c.create().start().wait_for("stopped");
            c.end();
            let c = c.with(|c| c["process"]["args"] = json!(["/bin/sleep", "600"]));
            c.run_detached();
            assert_eq!(c.exec(&[], &["/bin/calls", "plain", CALL]).ok(), "4711\n");
            c.end();
        }
    }
}

#[test]
fn hooks_in_the_container_are_under_the_filter() {
    for no_new_privileges in [false, true] {
        let (c, path) = notifying(&["plain", "102"], &RARES);
        let agent = Agent::at(&path, decide);
        let hook = json!([{"path": "/bin/calls", "args": ["calls", "plain", "83"]}]);
        let c =
            privileged(c, no_new_privileges).with(|c| c["hooks"] = json!({"startContainer": hook}));
        assert!(c.run().ends_with("0\n"));
        assert_eq!(agent.calls(), [83]);
        let script = "grep Seccomp: /proc/self/status >/tmp/hook";
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        let c = Container::sh("cat /tmp/hook").with(|c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
            c["hooks"] = json!({"startContainer": hook});
        });
        assert_eq!(privileged(c, no_new_privileges).run(), "Seccomp:\t2\n", "{no_new_privileges}");
    }
}

#[test]
fn an_agent_outside_of_the_user_namespace_decides() {
    for (no_new_privileges, more) in [(false, "mkdir"), (true, "mkdir"), (true, "sendmsg")] {
        let (c, path) = notifying(&["plain", CALL], &[RARE, more]);
        let agent = Agent::at(&path, decide);
        let c = privileged(c, no_new_privileges).with(|c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let ids = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
            c["linux"]["uidMappings"] = ids.clone();
            c["linux"]["gidMappings"] = ids;
        });
        let rootfs = c.rootfs().display().to_string();
        common::Cmd::new(&["chown", "-R", "100000:100000", &rootfs]).ok();
        assert_eq!(c.run(), "4711\n");
        assert_eq!(agent.messages(1).len(), 1);
        c.assert_nothing_left();
    }
}

#[test]
fn an_abstract_socket_begins_with_an_at_sign() {
    let (c, _) = notifying(&["plain", CALL], &RARES);
    let _agent = Agent::at_abstract(&c.id, decide);
    let path = format!("@{}", c.id);
    let c = c.with(|c| c["linux"]["seccomp"]["listenerPath"] = json!(path));
    assert_eq!(c.run(), "4711\n");
}

#[test]
fn without_an_agent_there_is_no_container() {
    let words = "failed to connect with seccomp agent";
    for no_new_privileges in [false, true] {
        let (c, path) = notifying(&["plain", CALL], &RARES);
        let c = privileged(c, no_new_privileges);
        for verb in ["create", "run"] {
            let said = c.boot(verb, &[]).fails(1);
            assert!(said.contains(words), "{said}");
            if is_tare() {
                assert!(said.contains("linux.seccomp.listenerPath"), "{said}");
            }
            c.assert_nothing_left();
        }
        // One that has gone away since is missed by an exec.
        let c = c.with(|c| c["process"]["args"] = json!(["/bin/sleep", "600"]));
        let listener = UnixListener::bind(&path).expect("bind");
        let run = c.boot("run", &["--detach"]).spawn();
        let (_, fd) = take(&listener.accept().expect("a connection").0);
        assert_eq!(run.answer().code, 0);
        drop((listener, fd));
        let said = c.exec(&[], &["/bin/true"]).fails(255);
        assert!(said.contains(words), "{said}");
        c.end();
    }
}

/// With nobody to decide, the call does not exist: the process does not wait for ever.
#[test]
fn an_agent_that_goes_away_leaves_no_one_waiting() {
    for names in [&RARES[..], &[RARE, "sendmsg"]] {
        let (c, path) = notifying(&["plain", CALL], names);
        let listener = UnixListener::bind(&path).expect("bind");
        let run = c.boot("run", &[]).spawn();
        let (_, fd) = take(&listener.accept().expect("a connection").0);
        drop(fd);
        assert_eq!(run.answer().stdout, "-38\n");
    }
}

#[test]
fn an_agent_may_be_waited_for_in_a_way_that_only_death_ends() {
    if !is_tare() {
        return; // libseccomp 2.5.4 does not know this flag.
    }
    let (c, path) = notifying(&["plain", CALL], &RARES);
    let _agent = Agent::at(&path, decide);
    let flags = ["TSYNC", "WAIT_KILLABLE_RECV"].map(|flag| format!("SECCOMP_FILTER_FLAG_{flag}"));
    let c = c.with(|c| c["linux"]["seccomp"]["flags"] = json!(flags));
    assert_eq!(c.run(), "4711\n");
}

#[test]
fn the_listener_is_the_agents_alone() {
    let script = "ls -l /proc/self/fd /proc/1/fd | grep -c -e seccomp; exit 0";
    for (more, no_new_privileges) in [("mkdir", false), ("mkdir", true), ("sendmsg", true)] {
        let (c, path) = notifying(&[], &[RARE, more]);
        let _agent = Agent::at(&path, decide);
        let c = privileged(c, no_new_privileges)
            .with(|c| c["process"]["args"] = json!(["/bin/sh", "-c", script]));
        assert_eq!(c.run(), "0\n");
        let c = c.with(|c| c["process"]["args"] = json!(["/bin/sleep", "600"]));
        c.create();
        let fds = std::fs::read_dir(format!("/proc/{}/fd", c.pid())).expect("descriptors");
        let fds = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let names: Vec<_> = fds.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(names.len() >= 3 && !names.iter().any(|n| n.contains("seccomp")), "{names:?}");
        c.end();
    }
}

/// Words of runc's that callers look for.
#[test]
fn notifications_that_cannot_work_are_refused() {
    let refused = |names: &[&str], change: fn(&mut Value), words: &str| {
        let (c, path) = notifying(&["plain", CALL], names);
        let _agent = Agent::at(&path, decide);
        let c = c.with(|c| change(&mut c["linux"]["seccomp"]));
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(words), "{said}");
        c.assert_nothing_left();
    };
    let words = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
    refused(&[RARE, "write"], |_| (), words);
    let words = "SCMP_ACT_NOTIFY cannot be used as default action";
    refused(&RARES, |s| s["defaultAction"] = json!("SCMP_ACT_NOTIFY"), words);
    let change = |s: &mut Value| {
        s["listenerPath"] = json!("");
        s["listenerMetadata"] = json!("");
    };
    refused(&RARES, change, "listenerPath is not set");
}

#[test]
fn without_notifications_the_agents_address_is_ignored() {
    let c = calls(&["plain", CALL], rare("SCMP_ACT_ERRNO"))
        .with(|c| c["linux"]["seccomp"]["listenerPath"] = json!("/no/such/agent"));
    assert_eq!(c.run(), "-1\n");
}

/// The filter may deny what the runtime itself uses up to the exec.
#[test]
fn a_filter_that_denies_what_the_runtime_uses_is_no_obstacle() {
    let denied = ["close_range", "openat2", "clone3", "mount", "memfd_create", "execveat"];
    for no_new_privileges in [false, true] {
        let c = Container::new(&["/bin/echo", "through"]).with(|c| {
            c["process"]["noNewPrivileges"] = json!(no_new_privileges);
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": denied, "action": "SCMP_ACT_ERRNO"}]});
        });
        assert_eq!(c.run(), "through\n");
    }
}

/// A profile for programs without sockets knows none of these.
#[test]
fn a_filter_without_sockets_is_no_obstacle() {
    for call in ["sendto", "recvmsg", "recvfrom"] {
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
            let c = denying(&[call], action);
            assert_eq!(c.run(), "through\n", "{call}");
            c.create().start().wait_for("stopped");
            c.end();
        }
    }
}

/// A container whose filter is loaded before the runtime's last calls.
fn denying(names: &[&str], action: &str) -> Container {
    Container::new(&["/bin/echo", "through"]).with(|c| {
        c["process"]["noNewPrivileges"] = json!(false);
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": names, "action": action}]});
    })
}

#[test]
fn what_the_filter_denies_the_runtime_is_told_as_such() {
    if !is_tare() {
        return;
    }
    for (call, action) in [
        ("setgroups", "SCMP_ACT_ERRNO"),
        ("setresuid", "SCMP_ACT_ERRNO"),
        ("rt_sigprocmask", "SCMP_ACT_ERRNO"),
        ("setgroups", "SCMP_ACT_KILL_PROCESS"),
    ] {
        let c =
            denying(&[call], action).with(|c| c["process"]["user"]["additionalGids"] = json!([7]));
        let said = c.boot("run", &[]).answer().stderr;
        let hint = "hint: linux.seccomp may not allow what it takes to start a program";
        assert!(said.contains(hint), "{call}: {said}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_filter_under_which_a_start_would_hang_is_refused() {
    if !is_tare() {
        return;
    }
    for call in ["close", "recvfrom"] {
        let c = denying(&[call], "SCMP_ACT_ERRNO")
            .with(|c| c["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]}));
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(&format!("does not allow {call}(2)")), "{said}");
        assert!(said.contains("linux.seccomp = "), "{said}");
        c.assert_nothing_left();
    }
    for call in ["accept4", "read"] {
        let said = denying(&[call], "SCMP_ACT_ERRNO").boot("create", &[]).fails(1);
        assert!(said.contains(&format!("does not allow {call}(2)")), "{said}");
    }
    assert_eq!(denying(&["accept4"], "SCMP_ACT_ERRNO").run(), "through\n");
}
