//! How the kernel treats the payload and the processes of exec: scheduler, I/O priority, memory
//! policy, personality, CPUs. Told by the kernel itself, inside the container.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use common::{Cmd, Container, compile, peers_fail};
use serde_json::{Value, json};

/// What integration/programs/treatment.c prints.
const PROGRAM: &str = "/bin/treatment";

/// A container with the program in it, with `change` made to its configuration.
fn container(args: &[&str], change: impl FnOnce(&mut Value)) -> Container {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let c = Container::new(args).with(change);
    let path = c.rootfs().join(&PROGRAM[1..]);
    let built = BUILT.get_or_init(|| {
        compile("treatment.c", &path);
        fs::read(&path).unwrap()
    });
    fs::write(&path, built).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    c
}

/// The value of the line that begins with `name`.
fn line<'a>(said: &'a str, name: &str) -> &'a str {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {said}")).trim()
}

/// The line `name` of the payload itself, and of a process of exec in another container.
fn both(name: &str, change: impl Fn(&mut Value)) -> [String; 2] {
    let own = container(&[PROGRAM], &change).run();
    let idle = container(&["/bin/sleep", "600"], &change);
    idle.run_detached();
    let joined = idle.exec(&[], &[PROGRAM]).ok();
    idle.end();
    [line(&own, name).to_owned(), line(&joined, name).to_owned()]
}

fn on_one_cpu(cmd: Cmd, cpu: &str) -> Cmd {
    cmd.under(&["taskset", "-c", cpu])
}

#[test]
fn the_scheduler_of_the_container_is_that_of_exec() {
    if peers_fail("older ones do not know process.scheduler") {
        return;
    }
    let cases = [
        (json!({"policy": "SCHED_BATCH", "nice": 7}), "3 flags 0 nice 7 priority 0"),
        (json!({"policy": "SCHED_OTHER", "nice": -3}), "0 flags 0 nice -3 priority 0"),
        (json!({"policy": "SCHED_IDLE"}), "5 flags 0 nice"),
        (
            json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            "3 flags 1 nice 0",
        ),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 30000000,
                "period": 40000000, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"]}),
            "6 flags 3 nice 0 priority 0 times 1000000 30000000 40000000",
        ),
    ];
    for (scheduler, wanted) in cases {
        for said in both("scheduler", |c| c["process"]["scheduler"] = scheduler.clone()) {
            assert!(said.starts_with(wanted), "{scheduler}: {said}");
        }
    }
}

#[test]
fn real_time_is_shared_out_by_the_cgroup() {
    if peers_fail("older ones do not know process.scheduler") {
        return;
    }
    let fifo = |c: &mut Value| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 9});
    };
    let file = "/sys/fs/cgroup/cpu/cpu.rt_runtime_us";
    let enough = container(&[PROGRAM], |c| {
        fifo(c);
        if Path::new(file).exists() {
            let share = json!({"realtimeRuntime": 1000, "realtimePeriod": 100000});
            c["linux"]["resources"]["cpu"] = share;
        }
    });
    let said = enough.run();
    assert!(line(&said, "scheduler").starts_with("1 flags 0 nice 0 priority 9"), "{said}");
    if Path::new(file).exists() {
        let said = container(&[PROGRAM], fifo).boot("run", &[]).fails(1);
        assert!(said.contains("error setting scheduler: operation not permitted"), "{said}");
        assert!(said.contains("realtimeRuntime"), "{said}");
    }
}

#[test]
fn a_deadline_and_a_cpuset_exclude_each_other() {
    if peers_fail("older ones do not know process.scheduler") {
        return;
    }
    let c = container(&[PROGRAM], |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 1000000,
            "deadline": 30000000, "period": 40000000});
        c["linux"]["resources"]["cpu"] = json!({"cpus": "0"});
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("process scheduler can't be used together with AllowedCPUs"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn what_no_kernel_has_is_refused() {
    if peers_fail("older ones do not know process.scheduler") {
        return;
    }
    let c = container(&[PROGRAM], |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_ISO"});
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("error setting scheduler: invalid argument"), "{said}");
    assert!(said.contains("process.scheduler"), "{said}");
    let c = container(&[PROGRAM], |c| {
        c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1023"});
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("set_mempolicy: invalid argument"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn the_io_priority_of_the_container_is_that_of_exec() {
    if peers_fail("older ones do not know process.ioPriority") {
        return;
    }
    let cases = [
        ("IOPRIO_CLASS_BE", 5, "2 5"),
        ("IOPRIO_CLASS_IDLE", 0, "3 0"),
        ("IOPRIO_CLASS_RT", 2, "1 2"),
    ];
    for (class, priority, wanted) in cases {
        let io = json!({"class": class, "priority": priority});
        assert_eq!(both("io", |c| c["process"]["ioPriority"] = io.clone()), [wanted; 2]);
    }
}

#[test]
fn the_memory_policy_of_the_container_is_that_of_exec() {
    if peers_fail("older ones do not know linux.memoryPolicy") {
        return;
    }
    let cases = [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "0x2 0x1"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "0x8003 0x1",
        ),
        (json!({"mode": "MPOL_PREFERRED"}), "0x4 0"),
        (json!({"mode": "MPOL_LOCAL"}), "0x4 0"),
    ];
    for (policy, wanted) in cases {
        assert_eq!(both("memory", |c| c["linux"]["memoryPolicy"] = policy.clone()), [wanted; 2]);
    }
    let c = Container::new(&["/bin/head", "-n1", "/proc/self/numa_maps"]).with(|c| {
        c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    });
    let said = c.run();
    assert!(said.contains("interleave:0"), "{said}");
}

#[test]
fn the_personality_of_the_container_is_that_of_exec() {
    if cfg!(target_arch = "x86_64") && !peers_fail("older ones do not know linux.personality") {
        let domain = |name: &str| {
            let personality = json!({"domain": name});
            move |c: &mut Value| c["linux"]["personality"] = personality.clone()
        };
        let c = Container::new(&["/bin/uname", "-m"]).with(domain("LINUX32"));
        assert!(["i686\n", "i586\n"].contains(&&*c.run()));
        assert_eq!(both("personality", domain("LINUX32")), ["0x8"; 2]);
        assert_eq!(both("personality", domain("LINUX")), ["0"; 2]);
    }
}

#[test]
fn the_cpus_of_the_caller_are_not_the_containers() {
    if peers_fail("older ones hand the caller's CPUs on") {
        return;
    }
    let all = line(&Cmd::new(&["sh", "-c", "grep Cpus_allowed_list: /proc/self/status"]).ok(), "")
        .to_owned();
    let c = Container::idle();
    let grep = ["/bin/grep", "Cpus_allowed_list:", "/proc/self/status"];
    on_one_cpu(c.boot("run", &["--detach"]), "0").ok();
    assert_eq!(on_one_cpu(c.exec(&[], &grep), "0").ok().trim(), all);
    let own = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert!(own.contains(&format!("{all}\n")), "{own}");
    c.end();
}

/// The line of the log about the CPUs of exec's runtime, and the CPUs of its process.
fn affinity(c: &Container, flags: &[&str]) -> [String; 2] {
    let log = c.shared().join("log");
    let root = c.root();
    let global = ["--debug", "--log", log.to_str().unwrap(), "--root", root.to_str().unwrap()];
    let runtime = common::runtime().to_str().unwrap();
    let cmd = Cmd::new(&[runtime]).args(&global).args(&["exec"]).args(flags);
    let said = cmd.args(&[&*c.id, PROGRAM]).ok();
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let mask = text.split_once("affinity: ").expect("affinity in the log").1;
    let mask = mask.split('"').next().unwrap().to_owned();
    [mask, line(&said, "cpus").to_owned()]
}

/// Without final CPUs, those of a process that has moved into a cgroup are for the kernel to say:
/// before Linux 6.2 all of the cgroup's, then the initial ones.
fn without_final(config: &Value, [log, cpus]: [String; 2]) -> [String; 2] {
    match config["initial"] == "0" && config["final"].is_null() {
        true => [log, "kernel's".into()],
        false => [log, cpus],
    }
}

#[test]
fn exec_has_its_cpus() {
    if peers_fail("older ones do not know execCPUAffinity") {
        return;
    }
    let idle = |affinity: Value| {
        let c = container(&["/bin/sleep", "600"], |c| {
            c["process"]["execCPUAffinity"] = affinity;
        });
        c.run_detached();
        c
    };
    let cases = [
        (json!({"initial": "0"}), ["0x1", "kernel's"]),
        (json!({"initial": "1", "final": "0"}), ["0x2", "0"]),
        (json!({"initial": "0-1", "final": "1"}), ["0x3", "1"]),
        (json!({"final": "1"}), ["0x3", "1"]),
        (json!({"initial": "", "final": ""}), ["0x3", "0 1"]),
    ];
    for (config, wanted) in cases {
        let c = idle(config.clone());
        assert_eq!(without_final(&config, affinity(&c, &[])), wanted, "{config}");
        // The container's own process is not meant.
        let own = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        assert_eq!(line(&own, "Cpus_allowed_list:"), "0-1", "{config}");
        c.end();
    }
    let c = idle(json!({"initial": "0"}));
    let file = c.shared().join("process.json");
    let path = file.to_str().unwrap();
    let process = |affinity: Value| {
        let process = json!({"args": [PROGRAM], "cwd": "/", "execCPUAffinity": affinity});
        fs::write(&file, process.to_string()).unwrap();
    };
    process(json!({"initial": "1"}));
    assert_eq!(affinity(&c, &["--process", path])[0], "0x2");
    process(Value::Null);
    assert_eq!(affinity(&c, &["--process", path])[0], "0x1", "inherited");
    process(json!({"final": "7000"}));
    let said = c.exec(&["--process", path], &[]).fails(255);
    assert!(said.contains("error setting final CPU affinity: invalid argument"), "{said}");
    c.end();
}

/// What a process of the caller's own leaves open is as for the container's process.
#[test]
fn a_process_file_inherits_what_it_leaves_open() {
    if peers_fail("older ones do not know process.scheduler") {
        return;
    }
    let c = container(&["/bin/sleep", "600"], |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 4});
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        c["process"]["oomScoreAdj"] = json!(321);
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
        c["process"]["user"]["umask"] = json!(0o27);
    });
    c.run_detached();
    let script = "treatment; ulimit -n; umask; cat /proc/self/oom_score_adj; \
                  grep CapEff /proc/self/status";
    let exec = |extra: Value| {
        let mut process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/",
            "env": ["PATH=/bin"], "noNewPrivileges": true});
        process.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let file = c.shared().join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        c.exec(&["--process", file.to_str().unwrap()], &[]).ok()
    };
    let said = exec(json!({}));
    assert!(line(&said, "scheduler").starts_with("3 flags 0 nice 4"), "{said}");
    assert_eq!(line(&said, "io"), "2 6");
    assert!(said.contains("\n77\n0027\n321\nCapEff:\t0000000020000420"), "{said}");
    let said = exec(json!({
        "scheduler": {"policy": "SCHED_OTHER", "nice": 2},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        "oomScoreAdj": 400,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}],
        "user": {"uid": 0, "gid": 0, "umask": 0o77},
        "capabilities": {"bounding": [], "effective": []},
    }));
    assert!(line(&said, "scheduler").starts_with("0 flags 0 nice 2"), "{said}");
    assert_eq!(line(&said, "io"), "3 0");
    assert!(said.contains("\n55\n0077\n400\nCapEff:\t0000000000000000"), "{said}");
    c.end();
}
