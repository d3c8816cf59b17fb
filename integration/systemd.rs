//! Cgroups made by systemd. These need a host that was booted by it: `integration/vm` has one with
//! cgroup v2, `integration/with-systemd` makes one of this host for a command, with v1.

mod common;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Instant;

use common::faults::{KILLED, at_each_call};
use common::{Cmd, Container, eventually, is_crun, is_tare, peers_fail, slowness};
use serde_json::json;

/// Whether systemd runs (sd_booted(3)); says so if not.
fn booted() -> bool {
    let booted = Path::new("/run/systemd/system").is_dir();
    if !booted {
        eprintln!("not tested: needs systemd as PID 1");
    }
    booted
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn unit(c: &Container) -> String {
    format!("test-{}.scope", c.id)
}

/// A property of the container's unit.
fn show(c: &Container, name: &str) -> String {
    let words = Cmd::new(&["systemctl", "show", "--value", "-p", name, &unit(c)]).ok();
    words.trim().to_owned()
}

/// What systemd knows of the unit: `not-found` if nothing.
fn loaded(c: &Container) -> String {
    show(c, "LoadState")
}

/// The container's cgroup of a v1 controller, or the only one.
fn cgroup(c: &Container, controller: &str) -> String {
    let hierarchy = if is_v2() { "" } else { controller };
    let below = show(c, "ControlGroup");
    assert!(!below.is_empty(), "the unit has no cgroup");
    format!("/sys/fs/cgroup/{hierarchy}{below}")
}

fn read(c: &Container, v1: &str, v2: &str) -> String {
    let file = if is_v2() { v2 } else { v1 };
    let controller = file.split('.').next().unwrap();
    fs::read_to_string(format!("{}/{file}", cgroup(c, controller))).unwrap().trim().to_owned()
}

fn gone(c: &Container) {
    c.end();
    assert_eq!(loaded(c), "not-found");
}

#[test]
fn a_container_is_a_scope_in_its_slice() {
    if !booted() {
        return;
    }
    let c = Container::idle().systemd("test-inner.slice");
    c.run_detached();
    assert_eq!(show(&c, "Slice"), "test-inner.slice");
    assert_eq!(show(&c, "ControlGroup"), format!("/test.slice/test-inner.slice/{}", unit(&c)));
    assert_eq!((show(&c, "Delegate"), show(&c, "ActiveState")), ("yes".into(), "active".into()));
    let inside = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let all = inside.lines().all(|line| line.contains(&unit(&c)));
    assert!(all || peers_fail("they join not every hierarchy"), "{inside}");
    gone(&c);
}

#[test]
fn limits_are_properties_and_files() {
    if !booted() {
        return;
    }
    let c = Container::idle().systemd("system.slice").with(|c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "reservation": 32 << 20});
        c["linux"]["resources"]["cpu"] = json!({"quota": 50000, "period": 200000, "shares": 2048});
        c["linux"]["resources"]["pids"] = json!({"limit": 30});
    });
    c.run_detached();
    let memory = if is_v2() { "MemoryMax" } else { "MemoryLimit" };
    assert_eq!(show(&c, memory), (64 << 20).to_string());
    assert_eq!(show(&c, "TasksMax"), "30");
    assert_eq!(show(&c, "CPUQuotaPerSecUSec"), "250ms");
    assert_eq!(show(&c, "CPUQuotaPeriodUSec"), "200ms");
    assert_eq!(read(&c, "pids.max", "pids.max"), "30");
    assert_eq!(read(&c, "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    if is_v2() {
        assert_eq!(show(&c, "MemoryLow"), (32 << 20).to_string());
    }
    gone(&c);
}

/// A reload makes systemd write into the cgroup whatever it thinks is right.
#[test]
fn limits_and_devices_outlive_a_reload() {
    if !booted() {
        return;
    }
    let c = Container::sh("mknod /dev/kmsg c 1 11; while sleep 0.1; do :; done")
        .systemd("system.slice")
        .with(|c| {
            c["linux"]["resources"]["pids"] = json!({"limit": 30});
            let caps = &mut c["process"]["capabilities"];
            for set in ["bounding", "effective", "permitted"] {
                caps[set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
            }
        });
    c.run_detached();
    let kmsg = ["/bin/sh", "-c", "head -c 0 /dev/null && ! head -c 1 /dev/kmsg"];
    c.exec(&[], &kmsg).ok();
    Cmd::new(&["systemctl", "daemon-reload"]).ok();
    assert_eq!(read(&c, "pids.max", "pids.max"), "30");
    c.exec(&[], &kmsg).ok();
    gone(&c);
}

#[test]
fn update_tells_systemd() {
    if !booted() {
        return;
    }
    let c = Container::idle().systemd("system.slice");
    c.run_detached();
    c.act("update").args(&["--pids-limit", "40", "--memory", "48M", "--memory-swap", "-1"]).ok();
    assert_eq!(show(&c, "TasksMax"), "40");
    assert_eq!(read(&c, "pids.max", "pids.max"), "40");
    let memory = if is_v2() { "MemoryMax" } else { "MemoryLimit" };
    assert_eq!(show(&c, memory), (48 << 20).to_string());
    let devices = show(&c, "DeviceAllow");
    let wrong =
        json!({"pids": {"limit": 30}, "memory": {"limit": 32 << 20}, "cpu": {"cpus": "4095"},
                       "devices": [{"allow": false, "access": "rwm"},
                                   {"allow": true, "type": "c", "major": 10, "minor": 229,
                                    "access": "rwm"}]})
        .to_string();
    let said = c.act("update").args(&["--resources", "-"]).stdin(wrong.as_bytes()).fails(1);
    assert!(said.contains("cpuset.cpus") || peers_fail("they name the file alone"), "{said}");
    if !peers_fail("they leave what came before the failure") {
        assert_eq!(show(&c, "DeviceAllow"), devices);
        Cmd::new(&["systemctl", "daemon-reload"]).ok();
        assert_eq!(show(&c, "TasksMax"), "40");
        assert_eq!(read(&c, "pids.max", "pids.max"), "40");
        assert_eq!(show(&c, memory), (48 << 20).to_string());
    }
    c.act("update").args(&["--pids-limit", "-1"]).ok();
    assert_eq!(show(&c, "TasksMax"), "infinity");
    assert_eq!(read(&c, "pids.max", "pids.max"), "max");
    gone(&c);
}

/// The limits of the processor and of swap consist of two parts each. systemd is told both, as a reload
/// shows.
#[test]
fn an_update_of_one_part_keeps_the_other() {
    if !booted() || peers_fail("they forget the period, or what only a file says") {
        return;
    }
    let c = Container::idle().systemd("system.slice").with(|c| {
        c["linux"]["resources"] = json!({"cpu": {"quota": 100_000, "period": 200_000},
                                         "memory": {"limit": 100 << 20, "swap": 150 << 20}});
    });
    c.run_detached();
    let max = || match is_v2() {
        true => read(&c, "", "cpu.max"),
        false => {
            let file = |name| read(&c, name, "");
            format!("{} {}", file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"))
        }
    };
    let stays = |expected: &str| {
        assert_eq!(max(), expected);
        Cmd::new(&["systemctl", "daemon-reload"]).ok();
        assert_eq!(max(), expected, "after a reload");
    };
    let update = |json: &str| c.act("update").args(&["-r", "-"]).stdin(json.as_bytes()).ok();
    c.act("update").args(&["--cpu-quota", "20000"]).ok();
    stays("20000 200000");
    c.act("update").args(&["--cpu-period", "100000"]).ok();
    stays("20000 100000");
    update(r#"{"cpu": {"quota": 9000, "period": 0}}"#);
    stays("9000 100000");
    update(r#"{"cpu": {"quota": 10000, "period": 20000}}"#);
    c.act("update").args(&["--cpu-quota", "4000"]).ok();
    stays("4000 20000");
    if is_v2() {
        update(r#"{"unified": {"cpu.max": "3000"}}"#);
        stays("3000 20000");
        c.act("update").args(&["--memory", "120M"]).ok();
        assert_eq!(show(&c, "MemorySwapMax"), (30 << 20).to_string());
        assert_eq!(read(&c, "", "memory.swap.max"), (30 << 20).to_string());
    }
    c.act("update").args(&["--cpu-quota", "-1"]).ok();
    assert!(max().ends_with(" 20000"), "{}", max());
    gone(&c);
}

/// What systemd has other words for is the same after a reload.
#[test]
fn shares_of_processors_and_disks_outlive_a_reload() {
    if !booted() || !is_v2() || peers_fail("they tell systemd of other weights, or of none") {
        return;
    }
    let c = Container::idle().systemd("system.slice").with(|c| {
        c["linux"]["resources"] = json!({"blockIO": {"weight": 300}, "cpu": {"idle": 1}});
    });
    c.run_detached();
    // An idle one has a weight of 0, since Linux 6.12 of 1.
    let weight = || read(&c, "", "cpu.weight").parse::<u32>().unwrap().max(1);
    let stays = |bfq: &str, idle: &str, cpu: u32| {
        let expected = (bfq.to_owned(), idle.to_owned(), cpu);
        let files = || (read(&c, "", "io.bfq.weight"), read(&c, "", "cpu.idle"), weight());
        assert_eq!(files(), expected);
        Cmd::new(&["systemctl", "daemon-reload"]).ok();
        assert_eq!(files(), expected, "after a reload");
    };
    stays("default 300", "1", 1);
    c.act("update").args(&["--blkio-weight", "500", "--cpu-idle", "0"]).ok();
    stays("default 500", "0", 100);
    // As does what a refused update has changed for a moment, and what comes by the names of files.
    let update = |json: &str| c.act("update").args(&["-r", "-"]).stdin(json.as_bytes());
    update(r#"{"blockIO": {"weight": 111}, "unified": {"memory.nope": "1"}}"#).fails(1);
    update(r#"{"cpu": {"idle": 1}, "unified": {"memory.nope": "1"}}"#).fails(1);
    stays("default 500", "0", 100);
    update(r#"{"unified": {"cpu.idle": "1"}}"#).ok();
    stays("default 500", "1", 1);
    update(r#"{"unified": {"cpu.idle": "0", "io.bfq.weight": "150"}}"#).ok();
    stays("default 150", "0", 100);
    update(r#"{"unified": {"cpu.weight.nice": "5"}, "cpu": {"cpus": "0-1:1/2"}}"#).ok();
    stays("default 150", "0", 33);
    assert_eq!(read(&c, "", "cpuset.cpus"), "0");
    gone(&c);
}

#[test]
fn annotations_are_properties() {
    if !booted() {
        return;
    }
    let c = Container::idle().systemd("system.slice").with(|c| {
        c["annotations"] = json!({
            "org.systemd.property.Documentation": "['https://example.org/a', 'https://example.org/b']",
            "org.systemd.property.TimeoutStopUSec": "uint64 12000000",
            "org.systemd.property.CollectMode": "'inactive'",
        });
    });
    c.run_detached();
    assert_eq!(show(&c, "Documentation"), "https://example.org/a https://example.org/b");
    assert_eq!(show(&c, "TimeoutStopUSec"), "12s");
    assert_eq!(show(&c, "CollectMode"), "inactive");
    gone(&c);
}

#[test]
fn wrong_properties_are_refused_and_leave_nothing() {
    if !booted() {
        return;
    }
    let annotated = |name: &str, value: &str| {
        let name = format!("org.systemd.property.{name}");
        Container::idle().systemd("system.slice").with(|c| c["annotations"] = json!({name: value}))
    };
    for (name, value) in [("NoSuchProperty", "true"), ("TimeoutStopUSec", "'x'")] {
        let c = annotated(name, value);
        let said = c.boot("run", &["--detach"]).fails(1);
        assert!(!is_tare() || said.contains(&unit(&c)), "{said}");
        assert!(!is_tare() || said.contains(&format!("org.systemd.property.{name}")), "{said}");
        c.assert_nothing_left();
        assert_eq!(loaded(&c), "not-found");
    }
    let c = Container::idle().systemd("system.slice");
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!("/a/b"));
    if !is_crun() {
        let said = c.boot("run", &["--detach"]).fails(1);
        assert!(said.contains("expected cgroupsPath to be of format"), "{said}");
    }
}

#[test]
fn a_unit_in_another_slice_is_refused() {
    if !booted() || !is_v2() || peers_fail("they put the container there") {
        return;
    }
    let slice = "org.systemd.property.Slice";
    let c = Container::idle().systemd("system.slice");
    let c = c.with(|c| c["annotations"] = json!({slice: "'user.slice'"}));
    let said = c.boot("run", &["--detach"]).fails(1);
    assert!(said.contains(slice) && said.contains("first part of linux.cgroupsPath"), "{said}");
    c.assert_nothing_left();
    let c = Container::idle().systemd("system.slice");
    let c = c.with(|c| c["annotations"] = json!({slice: "'system.slice'"}));
    c.run_detached();
    gone(&c);
}

#[test]
fn a_unit_of_another_is_left_alone() {
    if !booted() || peers_fail("they stop what they have not started") {
        return;
    }
    let c = Container::idle().systemd("system.slice");
    let scope = format!("--unit={}", unit(&c));
    let other = Cmd::new(&["systemd-run", "--scope", &scope, "sleep", "600"]).spawn();
    eventually("the other unit is there", || show(&c, "ActiveState") == "active");
    let said = c.boot("create", &[]).fails(1);
    assert!(said.contains("unable to start unit") && said.contains("already"), "{said}");
    assert_eq!(show(&c, "ActiveState"), "active");
    Cmd::new(&["systemctl", "stop", &unit(&c)]).ok();
    other.answer();
    eventually("the other unit is gone", || loaded(&c) == "not-found");
    c.create();
    gone(&c);
}

#[test]
fn a_unit_that_has_failed_is_forgotten() {
    if !booted() || peers_fail("they take the failed unit for their own") {
        return;
    }
    let c = Container::idle().systemd("system.slice");
    // A scope fails if what is in it outlives its time.
    let trapped = c.bundle().join("trapped");
    let script = format!("trap '' TERM; touch {}; while sleep 0.1; do :; done", trapped.display());
    let scope = format!("--unit={}", unit(&c));
    let words = ["systemd-run", "--scope", "-p", "TimeoutStopSec=500ms", &scope];
    let other = Cmd::new(&words).args(&["/bin/sh", "-c", &script]).spawn();
    eventually("the other unit is there", || trapped.exists());
    Cmd::new(&["systemctl", "stop", &unit(&c)]).answer();
    other.answer();
    assert_eq!(show(&c, "ActiveState"), "failed");
    c.run_detached();
    assert_eq!(show(&c, "ActiveState"), "active");
    gone(&c);
}

#[test]
fn a_container_that_runs_out_of_memory_leaves_no_failed_unit() {
    if !booted() {
        return;
    }
    let script = "x=x; while :; do x=$x$x$x; done";
    let c = Container::sh(script).systemd("system.slice").with(|c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    assert_eq!(c.boot("run", &[]).answer().code, 137);
    c.assert_nothing_left();
    assert!(!is_tare() || loaded(&c) == "not-found");
    Cmd::new(&["systemctl", "reset-failed", &unit(&c)]).answer();
}

#[test]
fn exec_joins_the_scope() {
    if !booted() {
        return;
    }
    let c = Container::idle().systemd("system.slice");
    c.run_detached();
    c.exec(&["--detach"], &["/bin/sleep", "700"]).ok();
    let procs = if is_v2() { "" } else { "pids" };
    let file = format!("{}/cgroup.procs", cgroup(&c, procs));
    eventually("two processes in the scope", || {
        fs::read_to_string(&file).unwrap().lines().count() == 2
    });
    c.act("pause").ok();
    assert_eq!(c.state()["status"], "paused");
    c.act("resume").ok();
    gone(&c);
}

#[test]
fn with_user_namespaces_of_its_own_and_joined() {
    if !booted() || peers_fail("they want mappings for a joined user namespace") {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let c = Container::idle().systemd("system.slice").with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map.clone();
        c["mounts"] = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ]);
        c["linux"]["maskedPaths"] = json!([]);
        c["linux"]["readonlyPaths"] = json!([]);
    });
    Cmd::new(&["chown", "100000:100000", &c.rootfs().to_string_lossy()]).ok();
    Cmd::new(&["chmod", "-R", "o+rX", &c.bundle().to_string_lossy()]).ok();
    c.run_detached();
    assert_eq!(show(&c, "ActiveState"), "active");
    let inside = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(inside.lines().all(|line| line.contains(&unit(&c))), "{inside}");
    let path = format!("/proc/{}/ns/user", c.pid());
    let mut other = Container::new(&["/bin/cat", "/proc/self/cgroup"]).systemd("system.slice");
    let mounts = c.config["mounts"].clone();
    other = other.namespace("user", Some(&path)).with(|config| {
        config["mounts"] = mounts;
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    Cmd::new(&["chown", "100000:100000", &other.rootfs().to_string_lossy()]).ok();
    Cmd::new(&["chmod", "-R", "o+rX", &other.bundle().to_string_lossy()]).ok();
    let inside = other.run();
    assert!(inside.lines().all(|line| line.contains(&unit(&other))), "{inside}");
    other.assert_nothing_left();
    gone(&c);
}

/// The cgroup namespace has the scope as its root.
#[test]
fn the_scope_is_the_root_of_the_cgroup_namespace() {
    if !booted() {
        return;
    }
    let c = Container::new(&["/bin/cat", "/proc/self/cgroup"]).systemd("system.slice");
    let c = c.with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    });
    let inside = c.run();
    assert!(inside.lines().all(|line| line.ends_with(":/")), "{inside}");
    c.assert_nothing_left();
}

/// Wherever the runtime is killed, what is left can be found and removed.
#[test]
fn killed_at_system_calls_of_create_and_delete() {
    if !booted() || peers_fail("they leave cgroups, and processes that wait for ever") {
        return;
    }
    let step = 3 * slowness();
    let made = RefCell::new(Vec::new());
    let idle = || {
        let c = Container::idle().systemd("system.slice");
        made.borrow_mut().push(unit(&c));
        c
    };
    at_each_call(KILLED, step, idle, |c| c.boot("create", &[]));
    let running = || {
        let c = idle();
        c.run_detached();
        c
    };
    at_each_call(KILLED, step, running, |c| c.verb("delete").args(&["--force", &c.id]));
    // systemd may still be at a request that a runtime made before it was killed.
    let list = || Cmd::new(&["systemctl", "list-units", "--all", "--plain", "test-*"]).ok();
    eventually("no unit is left", || {
        let listed = list();
        !made.borrow().iter().any(|unit| listed.contains(unit))
    });
}

/// Many starts at once: all come up, and no unit has failed. Prints the time, to be compared with
/// `RUNTIME=runc` and `RUNTIME=crun`.
#[test]
fn many_at_once() {
    if !booted() {
        return;
    }
    const COUNT: usize = 50;
    let all: Vec<Container> =
        (0..COUNT).map(|_| Container::idle().systemd("system.slice")).collect();
    let start = Instant::now();
    let running: Vec<_> = all.iter().map(|c| c.boot("run", &["--detach"]).spawn()).collect();
    for (running, c) in running.into_iter().zip(&all) {
        let answer = running.answer();
        assert_eq!(answer.code, 0, "{}: {}", c.id, answer.stderr);
    }
    let started = start.elapsed();
    let running: Vec<_> =
        all.iter().map(|c| c.verb("delete").args(&["--force", &c.id]).spawn()).collect();
    running.into_iter().for_each(|running| assert_eq!(running.answer().code, 0));
    let ended = start.elapsed() - started;
    eprintln!("{COUNT} at once: started in {started:?}, ended in {ended:?}");
    for c in &all {
        c.assert_nothing_left();
    }
    let failed = Cmd::new(&["systemctl", "list-units", "--failed", "--plain", "test-*"]).ok();
    assert!(!failed.contains(".scope"), "{failed}");
}
