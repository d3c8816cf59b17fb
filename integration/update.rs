//! Limits of a running container, and what it uses.

mod common;

use common::{Container, eventually};
use serde_json::{Value, json};

/// The limits as the container sees them.
fn limits(c: &Container) -> Vec<String> {
    let files = "memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.shares \
                 cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max cpuset/cpuset.cpus";
    c.exec_sh(&format!("cd /sys/fs/cgroup && cat {files}")).lines().map(String::from).collect()
}

#[test]
fn options_change_what_they_name() {
    let c = Container::idle();
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
    assert_eq!(limits(&c), ["67108864", "33554432", "300", "20000", "50000", "77", "0"]);
    // Flags before the id, and values that begin with a dash; the rest stays.
    c.verb("update").args(&["--pids-limit", "-1", "--cpu-quota", "-1", &c.id]).ok();
    assert_eq!(limits(&c), ["67108864", "33554432", "300", "-1", "50000", "max", "0"]);
    c.end();
}

#[test]
fn a_memory_limit_goes_up_and_down_with_its_swap() {
    let c = Container::idle();
    c.run_detached();
    for size in ["32M", "128M", "16M"] {
        c.act("update").args(&["--memory", size, "--memory-swap", size]).ok();
        let read =
            "cd /sys/fs/cgroup/memory; cat memory.limit_in_bytes memory.memsw.limit_in_bytes";
        let bytes = size.trim_end_matches('M').parse::<u64>().unwrap() << 20;
        assert_eq!(c.exec_sh(read), format!("{bytes}\n{bytes}\n"));
    }
    c.end();
}

#[test]
fn resources_come_from_a_file_or_from_stdin() {
    let c = Container::idle();
    c.run_detached();
    let text = json!({"memory": {"limit": 67108864}, "cpu": {"shares": 300, "quota": 0},
                      "pids": {"limit": 77}, "blockIO": {"weight": 0}, "devices": null})
    .to_string();
    for dash in [&["--resources", "-"][..], &["--resources=-"], &["-r", "-"]] {
        c.act("update").args(&["--pids-limit", "5", "--cpu-share", "1000"]).ok();
        c.verb("update").args(dash).args(&[&c.id]).stdin(text.as_bytes()).ok();
        assert_eq!(limits(&c)[2..6], ["300", "-1", "100000", "77"]);
    }
    let file = c.bundle().join("resources.json");
    std::fs::write(&file, r#"{"pids": {"limit": 9}}"#).unwrap();
    c.verb("update").args(&[&format!("--resources={}", file.display()), &c.id]).ok();
    assert_eq!(limits(&c)[5], "9");
    c.end();
}

#[test]
fn what_cannot_be_set_is_refused() {
    let c = Container::idle();
    c.run_detached();
    for (options, words) in [
        (&["--memory", "lots"][..], "invalid value for memory"),
        (&["--cpu-share", "1"], "minimum allowed cpu-shares"),
        (&["--pids-limit", "many"], "not a number"),
        (&["--resources", "/no/such"], "no such file or directory"),
    ] {
        let said = c.act("update").args(options).fails(1);
        assert!(said.contains(words), "{options:?}: {said}");
    }
    let said =
        c.act("update").args(&["-r", "-"]).stdin(b"{\"memory\": {\"limit\": \"big\"}}").fails(1);
    assert!(said.contains("stdin:1:") && said.contains("memory.limit"), "{said}");
    c.kill("KILL").wait_for("stopped");
    assert!(
        c.act("update").args(&["--pids-limit", "5"]).fails(1).contains("container not running")
    );
    c.end();
}

#[test]
fn stats_are_one_line_in_runcs_shape() {
    let c = Container::idle();
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
    let c = Container::idle();
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
