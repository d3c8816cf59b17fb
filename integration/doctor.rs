//! What `doctor` says of a bundle and what `run` makes of it: both fail, or neither does.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Container, peers_fail};
use serde_json::{Value, json};

/// A file of the root file system.
const FILE: &str = "/bin/busybox";

fn shell() -> Container {
    Container::new(&["/bin/sh", "-c", "true"])
}

/// The exit code of doctor, and what it says of the bundle.
fn doctor(c: &Container) -> (i32, String) {
    let answer = c.verb("doctor").args(&[&c.bundle().to_string_lossy()]).answer();
    let of_bundle = answer.stdout.split_once("\n\n").expect("two parts").1.to_owned();
    (answer.code, of_bundle)
}

/// Both fail, and doctor because of the member `at` alone.
fn both_fail(c: &Container, at: &str) {
    let (code, said) = doctor(c);
    assert_eq!(code, 1, "{at}: {said}");
    assert_eq!(said.matches("  --> ").count(), 1, "{at}: {said}");
    assert!(said.contains(&format!("  {at} ")), "{at}: {said}");
    let run = c.boot("run", &[]).answer();
    assert_ne!(run.code, 0, "{at}: {said}");
}

fn none_fails(c: &Container) {
    let (code, said) = doctor(c);
    let run = c.boot("run", &[]).answer();
    assert_eq!((code, run.code), (0, 0), "{said}{}", run.stderr);
}

/// A member of the configuration, and a change to it.
type Case = (&'static str, fn(&mut Value));

/// Each change makes both fail because of the member.
fn all_fail(cases: &[Case]) {
    for (at, change) in cases {
        both_fail(&shell().with(change), at);
    }
}

fn mount(c: &mut Value, mount: Value) {
    c["mounts"].as_array_mut().unwrap().push(mount);
}

fn without_mount(c: &mut Value, destination: &str) {
    c["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
}

/// A user namespace with ten users and ten groups.
fn ten_ids(c: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 10}]);
    let linux = &mut c["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
}

#[test]
fn what_the_host_lacks() {
    if peers_fail("they have no doctor") {
        return;
    }
    all_fail(&[
        ("linux.resources.cpu.cpus", |c| {
            c["linux"]["resources"] = json!({"cpu": {"cpus": "8000"}})
        }),
        ("linux.resources.cpu.mems", |c| {
            c["linux"]["resources"] = json!({"cpu": {"mems": "1000"}})
        }),
        ("linux.netDevices.nope0", |c| c["linux"]["netDevices"] = json!({"nope0": {}})),
        ("linux.netDevices.lo", |c| c["linux"]["netDevices"] = json!({"lo": {"name": "lo9"}})),
        ("linux.seccomp.listenerPath", |c| c["linux"]["seccomp"] = notifies("/no/agent")),
        ("linux.seccomp.listenerPath", |c| c["linux"]["seccomp"] = notifies("/dev/null")),
        ("hooks.prestart[0].path", |c| c["hooks"] = json!({"prestart": [{"path": "/etc/passwd"}]})),
        ("hooks.poststart[0].path", |c| c["hooks"] = json!({"poststart": [{"path": "/etc"}]})),
        ("linux.sysctl[\"net.no.such\"]", |c| c["linux"]["sysctl"] = json!({"net.no.such": "1"})),
        ("process.rlimits[0].hard", |c| {
            c["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1u64 << 40}]);
        }),
        ("linux.timeOffsets.boottime", |c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
            c["linux"]["timeOffsets"] = json!({"boottime": {"secs": -1_000_000_000}});
        }),
    ]);
}

fn notifies(agent: &str) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent,
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]})
}

#[test]
fn nodes_and_file_systems_that_the_kernel_lacks() {
    if peers_fail("they have no doctor") {
        return;
    }
    if Path::new("/sys/devices/system/node/has_memory").exists() {
        let bind = |nodes: &str, flags: &[&str]| {
            let policy = json!({"mode": "MPOL_BIND", "nodes": nodes, "flags": flags});
            shell().with(|c| c["linux"]["memoryPolicy"] = policy)
        };
        both_fail(&bind("60", &[]), "linux.memoryPolicy.nodes");
        none_fails(&bind("0,60", &[]));
        none_fails(&bind("60", &["MPOL_F_RELATIVE_NODES"]));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let aliases = format!("/lib/modules/{}/modules.alias", release.trim());
    // Otherwise it is not to be known.
    if !Path::new("/proc/modules").exists() || Path::new(&aliases).exists() {
        both_fail(&shell().mount("nofs", "x", "/m", &[]), "mounts[7].type");
    }
}

#[test]
fn options_that_the_kernel_refuses() {
    if peers_fail("they have no doctor") {
        return;
    }
    for option in
        ["size=banana", "size=1.5g", "size=08", "nr_inodes=10%", "mode=899", "uid=x", "gid=-1"]
    {
        let c = shell().mount("tmpfs", "x", "/m", &["nosuid", option]);
        both_fail(&c, "mounts[7].options[1]");
    }
    for option in ["size=50%", "size=010m", "size=0x100K", "nr_inodes=10k", "mode=0700", "uid=0x5"]
    {
        none_fails(&shell().mount("tmpfs", "x", "/m", &["nosuid", option]));
    }
    // Of the devpts, too: its group has no mapping in most user namespaces without privileges.
    let c = shell().with(ten_ids);
    both_fail(
        &shell().with(ten_ids).with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            let terminals = mounts.iter_mut().find(|mount| mount["type"] == "devpts").unwrap();
            terminals["options"] = json!(["newinstance", "gid=10"]);
        }),
        "mounts[2].options[1]",
    );
    none_fails(&c);
    both_fail(&c.mount("tmpfs", "x", "/m", &["gid=10"]), "mounts[7].options[0]");
}

#[test]
fn ids_without_a_mapping() {
    if peers_fail("they have no doctor") {
        return;
    }
    let user = |member: &str, ids: Value| {
        shell().with(ten_ids).with(|c| c["process"]["user"][member] = ids)
    };
    both_fail(&user("uid", json!(10)), "process.user.uid");
    both_fail(&user("gid", json!(10)), "process.user.gid");
    both_fail(&user("additionalGids", json!([1, 99])), "process.user.additionalGids");
    none_fails(&user("uid", json!(9)));
    let without_root = |member: &str| {
        let c = user("uid", json!(1)).with(|c| c["process"]["user"]["gid"] = json!(1));
        c.with(|c| c["linux"][member][0]["containerID"] = json!(1))
    };
    both_fail(&without_root("uidMappings"), "linux.uidMappings");
    both_fail(&without_root("gidMappings"), "linux.gidMappings");
}

#[test]
fn programs_that_are_missing() {
    if peers_fail("they have no doctor") {
        return;
    }
    all_fail(&[
        ("process.args[0]", |c| c["process"]["args"] = json!(["/no/program"])),
        ("process.args[0]", |c| c["process"]["args"] = json!(["no-program"])),
        ("process.args[0]", |c| c["process"]["args"] = json!(["/etc"])),
        ("process.args[0]", |c| {
            c["process"]["args"] = json!(["sh"]);
            c["process"]["env"] = json!(["PATH=/no/bin:/etc"]);
        }),
        ("hooks.startContainer[0].path", |c| {
            c["hooks"] = json!({"startContainer": [{"path": "/no/program"}]});
        }),
    ]);
    let c = shell().with(|c| c["process"]["args"] = json!(["/bin/plain"]));
    fs::write(c.rootfs().join("bin/plain"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(c.rootfs().join("bin/plain"), PermissionsExt::from_mode(0o644)).unwrap();
    both_fail(&c, "process.args[0]");
    // A link does not lead to the host's file.
    let c = shell().with(|c| c["process"]["args"] = json!(["/bin/leads-out"]));
    symlink(env!("CARGO_BIN_EXE_tare"), c.rootfs().join("bin/leads-out")).unwrap();
    both_fail(&c, "process.args[0]");
}

#[test]
fn programs_that_come_with_a_mount_or_a_hook() {
    if peers_fail("they have no doctor") {
        return;
    }
    let run = |path: &str| shell().with(|c| c["process"]["args"] = json!([path, "true"]));
    let bind = |c: Container, source: &Path, on: &str| {
        c.mount("bind", &source.to_string_lossy(), on, &["bind", "ro"])
    };
    let c = run("/tools/busybox");
    let source = c.rootfs().join("bin");
    none_fails(&bind(c, &source, "/tools"));
    // Through a link, and where a link is on the way.
    let c = run("/linked/busybox");
    symlink("/opt/real", c.rootfs().join("linked")).unwrap();
    let source = c.rootfs().join("bin");
    none_fails(&bind(c, &source, "/opt/real"));
    let c = run("/opt/busybox").with(|c| {
        let script = "mkdir rootfs/opt && cp rootfs/bin/busybox rootfs/opt";
        // Hooks of the runtime begin in the bundle.
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        c["hooks"] = json!({"createRuntime": [hook]});
    });
    none_fails(&c);
    none_fails(&shell().with(|c| c["process"]["args"] = json!(["sh", "-c", "true"])));
}

#[test]
fn places_of_another_kind() {
    if peers_fail("they have no doctor") {
        return;
    }
    all_fail(&[
        ("mounts[7].destination", |c| {
            mount(c, json!({"destination": FILE, "source": "/tmp", "options": ["bind"]}));
        }),
        ("mounts[7].destination", |c| {
            mount(c, json!({"destination": "/etc", "source": "/etc/passwd", "options": ["bind"]}));
        }),
        ("mounts[7].destination", |c| {
            mount(c, json!({"destination": FILE, "type": "tmpfs", "source": "x"}));
        }),
        ("mounts[7].destination", |c| {
            mount(c, json!({"destination": "/bin/busybox/x", "type": "tmpfs", "source": "x"}));
        }),
        ("process.cwd", |c| c["process"]["cwd"] = json!(FILE)),
        ("linux.devices[0]", |c| {
            c["linux"]["devices"] = json!([{"path": FILE, "type": "c", "major": 1, "minor": 3}]);
        }),
    ]);
    // What is mounted there first decides.
    let c = shell().mount("tmpfs", "x", "/bin", &[]).mount("tmpfs", "x", FILE, &[]).with(|c| {
        c["process"]["args"] = json!(["/sbin/busybox", "true"]);
        c["process"]["cwd"] = json!(FILE);
    });
    fs::create_dir_all(c.rootfs().join("sbin")).unwrap();
    fs::copy(c.rootfs().join("bin/busybox"), c.rootfs().join("sbin/busybox")).unwrap();
    none_fails(&c);
}

/// A bind mount shows what an earlier one has brought.
#[test]
fn sources_below_an_earlier_mount() {
    if peers_fail("they have no doctor") {
        return;
    }
    let c = shell();
    let source = |name: &str| c.rootfs().join(name).to_string_lossy().into_owned();
    let (covered, missing) = (source("proc/meminfo"), source("opt/none"));
    let c = c.mount("bind", &covered, "/there", &["bind"]);
    none_fails(&c);
    both_fail(&c.mount("bind", &missing, "/here", &["bind"]), "mounts[8].source");
}

#[test]
fn a_terminal_needs_a_devpts() {
    if peers_fail("they have no doctor") {
        return;
    }
    let c = shell().with(|c| c["process"]["terminal"] = json!(true));
    none_fails(&c);
    both_fail(&c.with(|c| without_mount(c, "/dev/pts")), "process.terminal");
    let c = shell().with(|c| {
        c["process"]["terminal"] = json!(true);
        without_mount(c, "/dev/pts");
        without_mount(c, "/dev/mqueue");
        without_mount(c, "/dev/shm");
        without_mount(c, "/dev");
        mount(c, json!({"destination": "/dev", "source": "/dev", "options": ["rbind"]}));
    });
    none_fails(&c);
}
