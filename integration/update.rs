//! Limits of a running container, and what it uses.

mod common;

use std::fs;
use std::path::Path;

use common::{Container, eventually, is_tare};
use serde_json::{Value, json};

/// Whether the host has cgroup v2 alone.
fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container that sees its own cgroups at /sys/fs/cgroup.
fn idle() -> Container {
    Container::idle().new_namespace("cgroup")
}

/// Memory, reservation, CPU shares, quota, period, pids and CPUs as the container's cgroup has them,
/// in the words of v1; shares of v2 are a weight.
fn limits(c: &Container) -> Vec<String> {
    let files = match is_v2() {
        false => {
            "memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.shares \
             cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max cpuset/cpuset.cpus"
        }
        true => "memory.max memory.low cpu.weight cpu.max pids.max cpuset.cpus",
    };
    let read = c.exec_sh(&format!("cd /sys/fs/cgroup && cat {files}"));
    let lines = read.lines().flat_map(|line| match line.split_once(' ') {
        Some((quota, period)) => vec![quota.replace("max", "-1"), period.into()],
        None => vec![line.into()],
    });
    lines.collect()
}

/// What [`limits`] has for 300 CPU shares.
fn of_300_shares() -> &'static str {
    if is_v2() { "39" } else { "300" }
}

#[test]
fn options_change_what_they_name() {
    let c = idle();
    c.run_detached();
    let options = [
        "--memory",
        "64M",
        "--memory-reservation=33554432",
        "--cpu-share",
        "300",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--pids-limit",
        "77",
        "--cpuset-cpus",
        "0",
    ];
    c.act("update").args(&options).ok();
    let weight = of_300_shares();
    assert_eq!(limits(&c), ["67108864", "33554432", weight, "20000", "50000", "77", "0"]);
    // Flags before the id, and values that begin with a dash; the rest stays.
    c.verb("update").args(&["--pids-limit", "-1", "--cpu-quota", "-1", &c.id]).ok();
    let after = ["67108864", "33554432", weight, "-1", "50000", "max", "0"];
    assert_eq!(limits(&c), after);
    // An empty value is none; what kernels have no limit for any more is ignored with a warning.
    let nothing = ["--cpu-share", "", "--memory", "", "--cpuset-cpus", ""];
    c.act("update").args(&nothing).args(&["--kernel-memory", "50M"]).ok();
    assert_eq!(limits(&c), after);
    c.end();
}

#[test]
fn a_memory_limit_goes_up_and_down_with_its_swap() {
    let c = idle();
    c.run_detached();
    for size in ["32M", "128M", "16M"] {
        c.act("update").args(&["--memory", size, "--memory-swap", size]).ok();
        let bytes = size.trim_end_matches('M').parse::<u64>().unwrap() << 20;
        // v1 counts both together, v2 swap by itself.
        let (files, swap) = match is_v2() {
            false => ("memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes", bytes),
            true => ("memory.max memory.swap.max", 0),
        };
        let read = c.exec_sh(&format!("cd /sys/fs/cgroup && cat {files}"));
        assert_eq!(read, format!("{bytes}\n{swap}\n"));
    }
    c.end();
}

#[test]
fn resources_come_from_a_file_or_from_stdin() {
    let c = idle();
    c.run_detached();
    let text = json!({"memory": {"limit": 67108864}, "cpu": {"shares": 300, "quota": 0},
                      "pids": {"limit": 77}, "blockIO": {"weight": 0}, "devices": null})
    .to_string();
    for dash in [&["--resources", "-"][..], &["--resources=-"], &["-r", "-"]] {
        c.act("update").args(&["--pids-limit", "5", "--cpu-share", "1000"]).ok();
        c.verb("update").args(dash).args(&[&c.id]).stdin(text.as_bytes()).ok();
        assert_eq!(limits(&c)[2..6], [of_300_shares(), "-1", "100000", "77"]);
    }
    let file = c.bundle().join("resources.json");
    std::fs::write(&file, r#"{"pids": {"limit": 9}}"#).unwrap();
    c.verb("update").args(&[&format!("--resources={}", file.display()), &c.id]).ok();
    assert_eq!(limits(&c)[5], "9");
    if is_tare() {
        let whole = c.bundle().join("config.json");
        let said = c.verb("update").args(&["-r", whole.to_str().unwrap(), &c.id]).fails(1);
        assert!(said.contains("config.json holds no limits"), "{said}");
        c.verb("update").args(&["-r", "-", &c.id]).stdin(b"{}").ok();
        assert_eq!(limits(&c)[5], "9");
    }
    c.end();
}

/// Real-time is shared out by v1's cpu controller alone, where the kernel has it.
#[test]
fn realtime_is_what_the_cgroup_above_has_to_give() {
    let all = Path::new("/sys/fs/cgroup/cpu");
    if !all.join("cpu.rt_runtime_us").exists() {
        let c = idle();
        c.run_detached();
        let said = c.act("update").args(&["--cpu-rt-runtime", "1000"]).fails(1);
        assert!(said.contains("cpu.realtimeRuntime") || !is_tare(), "{said}");
        return c.end();
    }
    let name = format!("tare-test-rt-{}", std::process::id());
    let above = all.join(&name);
    fs::create_dir(&above).unwrap();
    if fs::write(above.join("cpu.rt_runtime_us"), "20000").is_err() {
        eprintln!("not here: the cgroup of this host has no real-time to give");
        return fs::remove_dir(above).unwrap();
    }
    let c = Container::idle();
    let path = format!("/{name}/{}", c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!(path));
    c.run_detached();
    let read = || {
        let file = |file| fs::read_to_string(all.join(&path[1..]).join(file)).unwrap();
        (file("cpu.rt_period_us"), file("cpu.rt_runtime_us"))
    };
    let update = |period, runtime| {
        c.act("update").args(&["--cpu-rt-period", period, "--cpu-rt-runtime", runtime])
    };
    update("900001", "5000").ok();
    assert_eq!(read(), ("900001\n".into(), "5000\n".into()));
    let said = update("800000", "30000").fails(1);
    assert!(said.contains("cpu.rt_runtime_us: invalid argument") || !is_tare(), "{said}");
    if is_tare() {
        assert_eq!(read(), ("900001\n".into(), "5000\n".into()));
    }
    c.end();
    c.assert_nothing_left();
    fs::remove_dir(above).unwrap();
}

#[test]
fn what_cannot_be_set_is_refused() {
    let c = idle();
    c.run_detached();
    for (options, words) in [
        (&["--memory", "lots"][..], "invalid value for memory"),
        (&["--pids-limit", "many"], "invalid value for pids-limit"),
        (&["--resources", "/no/such"], "no such file or directory"),
    ] {
        let said = c.act("update").args(options).fails(1);
        assert!(said.contains(words), "{options:?}: {said}");
    }
    if !is_v2() {
        let said = c.act("update").args(&["--cpu-share", "1"]).fails(1);
        assert!(said.contains("minimum allowed cpu-shares"), "{said}");
    }
    let said =
        c.act("update").args(&["-r", "-"]).stdin(b"{\"memory\": {\"limit\": \"big\"}}").fails(1);
    assert!(said.contains("stdin:1:") && said.contains("memory.limit"), "{said}");
    // One that is refused leaves the others as they were.
    c.act("update").args(&["--pids-limit", "50", "--cpu-quota", "20000", "--memory", "64M"]).ok();
    let before = limits(&c);
    let text = json!({"memory": {"limit": 33554432}, "pids": {"limit": 60},
                      "cpu": {"quota": 30000, "shares": 500, "cpus": "4095"}})
    .to_string();
    let said = c.act("update").args(&["-r", "-"]).stdin(text.as_bytes()).fails(1);
    assert!(said.contains("cpuset.cpus"), "{said}");
    assert_eq!(limits(&c), before);
    // So does the weight for disks, where there is one.
    let files = "cat /sys/fs/cgroup/blkio/blkio.bfq.weight /sys/fs/cgroup/io.bfq.weight";
    let weight = || c.exec_sh(&format!("{files} 2>/dev/null || :"));
    let before = weight();
    if !before.is_empty() {
        let text =
            br#"{"blockIO": {"weight": 321}, "hugepageLimits": [{"pageSize": "3MB", "limit": 4}]}"#;
        c.act("update").args(&["-r", "-"]).stdin(text).fails(1);
        assert_eq!(weight(), before);
    }
    c.kill("KILL").wait_for("stopped");
    assert!(
        c.act("update").args(&["--pids-limit", "5"]).fails(1).contains("container not running")
    );
    c.end();
}

/// A node for /dev/fuse: opening it does nothing, and it is no default device.
const FUSE: &str = "mknod /tmp/fuse c 10 229; ";

/// Device rules that allow `access` to [`FUSE`], and reading from another device.
fn rules(access: &str, minor: u32) -> Value {
    json!([{"allow": false, "access": "rwm"},
           {"allow": true, "type": "c", "major": 10, "minor": minor, "access": "r"},
           {"allow": true, "type": "c", "major": 10, "minor": 229, "access": access}])
}

/// `script` in a container that may make nodes and has device rules.
fn with_devices(script: &str, rules: &Value) -> Container {
    Container::sh(&format!("{FUSE}{script}")).with(|c| {
        c["linux"]["resources"]["devices"] = rules.clone();
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    })
}

fn update_devices(c: &Container, rules: &Value) {
    let text = json!({"devices": rules}).to_string();
    c.act("update").args(&["-r", "-"]).stdin(text.as_bytes()).ok();
}

/// What opening the node succeeds for.
fn opens(c: &Container) -> String {
    c.exec_sh(
        "(exec 3</tmp/fuse) 2>/dev/null && echo -n r; (exec 3>/tmp/fuse) 2>/dev/null && echo -n w; \
         exec 3<>/dev/null",
    )
}

#[test]
fn device_rules_are_replaced() {
    let c = with_devices("exec sleep 600", &rules("r", 236));
    c.run_detached();
    c.wait_for("running");
    eventually("the node is there", || c.exec_sh("echo /tmp/*").contains("fuse"));
    assert_eq!(opens(&c), "r");
    for (access, allowed) in [("rw", "rw"), ("w", "w"), ("m", ""), ("r", "r")] {
        update_devices(&c, &rules(access, 236));
        assert_eq!(opens(&c), allowed);
    }
    update_devices(&c, &json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(opens(&c), "rw");
    update_devices(&c, &json!([{"allow": false}]));
    assert_eq!(opens(&c), "");
    update_devices(&c, &rules("r", 236));
    assert_eq!(opens(&c), "r");
    // No rules and no list are no others.
    for text in ["{}", r#"{"devices": []}"#, r#"{"devices": null}"#] {
        c.act("update").args(&["-r", "-"]).stdin(text.as_bytes()).ok();
        assert_eq!(opens(&c), "r");
    }
    let wrong = br#"{"devices": [{"allow": true, "type": "c", "access": "x"}]}"#;
    let said = c.act("update").args(&["-r", "-"]).stdin(wrong).fails(1);
    assert!(said.contains("devices[0].access") && said.contains("stdin:1:"), "{said}");
    assert_eq!(opens(&c), "r");
    c.end();
}

/// Engines send a container's own rules with every update of its other limits.
#[test]
fn the_same_device_rules_leave_what_others_have_added() {
    if is_v2() {
        return;
    }
    let own = rules("r", 236);
    let c = with_devices("exec sleep 600", &own);
    c.run_detached();
    eventually("the node is there", || c.exec_sh("echo /tmp/*").contains("fuse"));
    let dir = c.exec_sh("sed -n 's/.*:devices://p' /proc/self/cgroup");
    let file = format!("/sys/fs/cgroup/devices{}/devices.allow", dir.trim());
    std::fs::write(file, "c 10:229 w").unwrap();
    assert_eq!(opens(&c), "rw");
    update_devices(&c, &own);
    assert_eq!(opens(&c), "rw");
    update_devices(&c, &rules("r", 237));
    update_devices(&c, &own);
    assert_eq!(opens(&c), "rw", "what is in neither list is another's");
    c.end();
}

/// What the old rules and the new ones allow is never refused in between.
#[test]
fn device_rules_are_replaced_in_one_stroke() {
    let script = "while command exec 3</tmp/fuse 4<>/dev/null; do echo >/tmp/some; done; \
                  echo refused >/tmp/refused; sleep 600";
    let c = with_devices(script, &rules("r", 236));
    c.run_detached();
    eventually("the loop runs", || c.exec_sh("echo /tmp/*").contains("some"));
    for minor in (0..20).map(|n| 230 + n % 2) {
        update_devices(&c, &rules("r", minor));
    }
    assert!(!c.exec_sh("echo /tmp/*").contains("refused"));
    // The loop does see a refusal.
    update_devices(&c, &rules("w", 236));
    eventually("it is refused", || c.exec_sh("echo /tmp/*").contains("refused"));
    c.end();
}

#[test]
fn stats_are_one_line_in_runcs_shape() {
    let c = idle();
    c.run_detached();
    c.act("update").args(&["--memory", "64M", "--pids-limit", "7"]).ok();
    let said = c.verb("events").args(&["--stats", &c.id]).ok();
    assert_eq!(said.lines().count(), 1);
    let event: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(c.id)));
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 7}));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 67108864);
    for part in ["cpu", "cpuset", "blkio", "hugetlb", "intel_rdt"] {
        assert!(event["data"][part].is_object(), "{part}: {said}");
    }
    c.kill("KILL").wait_for("stopped");
    assert!(c.verb("events").args(&["--stats", &c.id]).fails(1).contains("is not running"));
    c.end();
}

#[test]
fn events_tell_of_lack_of_memory_and_end_with_the_container() {
    let c = idle();
    c.run_detached();
    c.act("update").args(&["--memory", "16M", "--memory-swap", "16M"]).ok();
    let mut events = c.verb("events").args(&["--interval", "100ms", &c.id]).spawn();
    eventually("usage is printed", || events.printed().contains("\"type\":\"stats\""));
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    assert_eq!(c.exec(&[], &dd).answer().code, 137);
    eventually("the lack is told", || {
        events.printed().contains(&format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", c.id))
    });
    c.act("delete").args(&["--force"]).ok();
    let answer = events.answer();
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    c.assert_nothing_left();
    assert!(c.act("events").args(&["--interval", "0s"]).fails(1).contains("greater than 0"));
}

#[test]
fn events_end_with_their_reader() {
    let c = idle();
    c.run_detached();
    let events = c.verb("events").args(&["--interval", "100ms", &c.id]);
    let first = events.under(&["sh", "-c", "\"$@\" | head -n 1", "sh"]).ok();
    assert!(first.contains("\"type\":\"stats\""), "{first}");
    c.end();
}
