//! Intel RDT where there is none: refused before anything is done. What is done where there is one,
//! src/rdt/tests.rs tries on a directory in its place.

mod common;

use common::{Container, peers_fail};
use serde_json::json;

const REFUSAL: &str = "Intel RDT";

/// Whether this host has it, and these tests do not apply.
fn has_rdt() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(" - resctrl ")
}

#[test]
fn a_container_with_shares_is_refused() {
    if has_rdt() || peers_fail("runc 1.1 goes on without a word") {
        return;
    }
    let rdts =
        [json!({}), json!({"closID": "gold", "l3CacheSchema": "L3:0=f"}), json!({"closID": "/"})];
    for rdt in rdts {
        let c = Container::idle().with(|c| c["linux"]["intelRdt"] = rdt);
        let said = c.boot("create", &[]).fails(1);
        assert!(said.contains(REFUSAL), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn an_update_is_refused_and_changes_nothing() {
    if has_rdt() {
        return;
    }
    let c = Container::idle();
    c.run_detached();
    for shares in [["--l3-cache-schema", "L3:0=f"], ["--mem-bw-schema", "MB:0=20"]] {
        let said = c.act("update").args(&shares).args(&["--pids-limit", "33"]).fails(1);
        assert!(said.contains(REFUSAL), "{said}");
    }
    assert_eq!(c.exec_sh("cat /sys/fs/cgroup/pids/pids.max").trim(), "max");
    c.end();
}
