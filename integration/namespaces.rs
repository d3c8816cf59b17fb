//! Namespaces that are made, joined, or shared with the host.

mod common;

use std::fs;

use common::{Cmd, Container, eventually, is_tare, peers_fail};
use serde_json::{Value, json};

fn maps() -> Value {
    json!([{"containerID": 0, "hostID": 100_000, "size": 65536}])
}

/// Lets the host's user 100000, root of the user namespaces of these tests, reach and own the root.
fn open_to_users(c: &Container) {
    Cmd::new(&["chmod", "755", &c.bundle().to_string_lossy()]).ok();
    Cmd::new(&["chown", "-R", "100000:100000", &c.rootfs().to_string_lossy()]).ok();
}

/// With a user namespace of its own.
fn with_users(c: Container) -> Container {
    open_to_users(&c);
    c.with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = maps();
        c["linux"]["gidMappings"] = maps();
    })
}

fn path_of(c: &Container, kind: &str) -> String {
    format!("/proc/{}/ns/{kind}", c.pid())
}

fn link(path: &str) -> String {
    fs::read_link(path).unwrap().to_string_lossy().into_owned()
}

#[test]
fn namespaces_are_joined_by_path() {
    let kinds = [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("mount", "mnt"),
    ];
    let first = Container::idle().with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    });
    first.run_detached();
    for (kind, file) in kinds.iter().take(5) {
        let path = path_of(&first, file);
        let c = Container::idle().namespace(kind, Some(&path)).with(|c| {
            if *kind == "uts" {
                c.as_object_mut().unwrap().remove("hostname");
            }
        });
        c.run_detached();
        for (_, file) in kinds {
            let same = link(&path_of(&c, file)) == link(&path_of(&first, file));
            assert_eq!(same, path.ends_with(file), "{kind}: {file}");
        }
        c.end();
    }
    first.end();
}

/// Joining it would take the host's root away, or rename the host.
#[test]
fn the_runtimes_own_namespace_is_not_the_containers_to_change() {
    if peers_fail("runc changes it") {
        return;
    }
    let own = ["unshare", "--mount", "--uts", "--propagation", "private"];
    let c = Container::sh("echo here").namespace("mount", Some("/proc/self/ns/mnt"));
    let said = c.boot("run", &[]).under(&own).fails(1);
    assert!(said.contains("is the one that tare is in"), "{said}");
    assert!(said.contains("linux.namespaces[4].path"), "{said}");
    c.assert_nothing_left();
    for name in ["hostname", "domainname"] {
        let c = Container::sh("echo here").namespace("uts", Some("/proc/self/ns/uts")).with(|c| {
            c.as_object_mut().unwrap().remove("hostname");
        });
        assert_eq!(c.boot("run", &[]).under(&own).ok(), "here\n");
        let c = c.with(|c| c[name] = json!("renamed"));
        let said = c.boot("run", &[]).under(&own).fails(1);
        assert!(said.contains(&format!("unable to set {name} without a private UTS")), "{said}");
        assert!(said.contains("is the one that tare is in"), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn an_empty_path_makes_a_namespace() {
    let c = Container::idle().namespace("ipc", Some(""));
    c.run_detached();
    assert_ne!(link(&path_of(&c, "ipc")), link("/proc/self/ns/ipc"));
    c.end();
}

#[test]
fn clocks_have_their_offsets() {
    if peers_fail("Debian's are older than time namespaces") {
        return;
    }
    let c = Container::sh("cat /proc/self/timens_offsets /proc/uptime").with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 5},
            "monotonic": {"secs": 7200}});
    });
    let said = c.run();
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "7200", "0", "boottime", "1000000", "5"], "{said}");
    assert!(words[6].parse::<f64>().unwrap() > 1_000_000.0, "{said}");
}

#[test]
fn a_time_namespace_is_joined_and_exec_is_in_it() {
    if peers_fail("Debian's are older than time namespaces") {
        return;
    }
    let first = Container::idle().with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    });
    first.run_detached();
    let uptime = |said: String| said.split(['.', ' ']).next().unwrap().parse::<u64>().unwrap();
    assert!(uptime(first.exec_sh("cat /proc/uptime")) > 1_000_000);
    let path = path_of(&first, "time");
    let second = Container::sh("cat /proc/uptime").namespace("time", Some(&path));
    assert!(uptime(second.run()) > 1_000_000);
    first.end();
}

#[test]
fn sysctls_are_set_in_the_namespaces_of_a_user_namespace() {
    let script = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax";
    let c = with_users(Container::sh(script)).with(|c| {
        c["linux"]["sysctl"] =
            json!({"net.ipv4.ping_group_range": "0 1000", "kernel.shmmax": "4096000"});
    });
    assert_eq!(c.run(), "0\t1000\n4096000\n");
}

#[test]
fn message_queues_belong_to_root_of_the_user_namespace() {
    let c = with_users(Container::sh("stat -c %u /dev/mqueue"));
    let c = c.mount("mqueue", "mqueue", "/dev/mqueue", &[]);
    assert_eq!(c.run(), "0\n");
}

#[test]
fn the_loopback_interface_belongs_to_root_of_the_user_namespace() {
    let c = with_users(Container::sh("stat -c %u:%g /sys/class/net/lo/mtu"));
    assert_eq!(c.mount("sysfs", "sysfs", "/sys", &[]).run(), "0:0\n");
}

/// The cgroup namespace comes before every mount that shows what its root is.
#[test]
fn a_mount_of_cgroup_v2_shows_the_containers_own_alone() {
    for user in [false, true] {
        let c = Container::sh("grep ' /data ' /proc/self/mountinfo | cut -d ' ' -f 4");
        let c = if user { with_users(c) } else { c };
        let c = c.new_namespace("cgroup").with(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        });
        let c = c.mount("cgroup2", "cgroup", "/data", &[]);
        assert_eq!(c.run(), "/\n", "with a user namespace: {user}");
    }
}

#[test]
fn a_joined_user_namespace_owns_what_is_made() {
    if peers_fail("Debian's runc wants mappings for a namespace that is joined") {
        return;
    }
    let first = with_users(Container::idle());
    first.run_detached();
    let path = path_of(&first, "user");
    let c = Container::sh("cat /proc/self/uid_map /proc/sys/net/ipv4/ping_group_range; hostname");
    open_to_users(&c);
    let c = c.namespace("user", Some(&path)).with(|c| {
        c["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 7"});
        c["hostname"] = json!("joined");
    });
    let said = c.run();
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "7", "joined"]);
    first.end();
}

#[test]
fn namespaces_of_the_host_and_of_a_user_namespace_are_joined_together() {
    if peers_fail("Debian's runc wants mappings for a namespace that is joined") {
        return;
    }
    let users = with_users(Container::idle());
    users.run_detached();
    let net = Container::idle();
    net.run_detached();
    // The network belongs to the host's user namespace, the ipc namespace to the one joined.
    let paths = ["user", "ipc"].map(|kind| path_of(&users, kind));
    let c = Container::idle();
    open_to_users(&c);
    let c = c
        .namespace("user", Some(&paths[0]))
        .namespace("ipc", Some(&paths[1]))
        .namespace("network", Some(&path_of(&net, "net")))
        .with(|c| c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys"));
    let c = c.with(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
    });
    c.run_detached();
    for (kind, from) in [("user", &users), ("ipc", &users), ("net", &net)] {
        assert_eq!(link(&path_of(&c, kind)), link(&path_of(from, kind)), "{kind}");
    }
    [c, users, net].iter().for_each(Container::end);
}

/// The user namespace that is made has no rights over what is joined.
#[test]
fn namespaces_are_joined_and_users_made() {
    if peers_fail("runc cannot mount what shows a joined namespace") {
        return;
    }
    let first = Container::idle();
    first.run_detached();
    let c = ["pid", "net", "ipc"].iter().fold(with_users(Container::idle()), |c, kind| {
        let name = if *kind == "net" { "network" } else { kind };
        c.namespace(name, Some(&path_of(&first, kind)))
    });
    c.run_detached();
    for kind in ["pid", "net", "ipc"] {
        assert_eq!(link(&path_of(&c, kind)), link(&path_of(&first, kind)), "{kind}");
    }
    assert_ne!(link(&path_of(&c, "user")), link(&path_of(&first, "user")));
    assert_eq!(
        c.exec_sh("test $$ != 1; cat /proc/1/comm; ls /sys/class/net; id -u"),
        "sleep\nlo\n0\n"
    );
    c.kill("KILL").wait_for("stopped");
    c.act("delete").ok();
    first.end();
}

#[test]
fn sources_out_of_reach_of_a_joined_user_namespace_are_bound() {
    if peers_fail("Debian's runc wants mappings for a namespace that is joined") {
        return;
    }
    let first = with_users(Container::idle());
    first.run_detached();
    let c = Container::sh("cat /data/file; grep -c ' /data .* shared:' /proc/self/mountinfo");
    open_to_users(&c);
    let hidden = c.bundle().join("hidden");
    fs::create_dir_all(hidden.join("data")).unwrap();
    fs::write(hidden.join("data/file"), "text\n").unwrap();
    Cmd::new(&["chmod", "700", &hidden.to_string_lossy()]).ok();
    let source = hidden.join("data").to_string_lossy().into_owned();
    let path = path_of(&first, "user");
    let c = c.namespace("user", Some(&path)).mount("bind", &source, "/data", &["bind", "ro"]);
    let answer = c.boot("run", &[]).answer();
    assert_eq!(answer.stdout, "text\n0\n", "{answer:?}");
    first.end();
}

#[test]
fn sources_that_only_the_hosts_root_reaches_are_bound() {
    // With every owner but the container's, of the host's users too.
    for owner in [0, 1234] {
        let c = with_users(Container::sh("cat /data/file /file; touch /data/file"));
        let hidden = c.bundle().join("hidden");
        fs::create_dir_all(hidden.join("data")).unwrap();
        fs::write(hidden.join("data/file"), "text\n").unwrap();
        Cmd::new(&["chown", &owner.to_string(), &hidden.to_string_lossy()]).ok();
        Cmd::new(&["chmod", "700", &hidden.to_string_lossy()]).ok();
        let c = c.mount("bind", "hidden/data", "/data", &["bind", "ro"]).mount(
            "bind",
            "hidden/data/file",
            "/file",
            &["rbind", "rprivate"],
        );
        let answer = c.boot("run", &[]).answer();
        assert_eq!(answer.stdout, "text\ntext\n", "{owner}: {answer:?}");
        assert!(answer.stderr.contains("Read-only file system"), "{answer:?}");
    }
}

#[test]
fn a_root_file_system_in_a_private_directory_is_entered_by_a_user_namespace() {
    if peers_fail("it looks the root up as the container's root") {
        return;
    }
    let c = with_users(Container::sh("ls /"));
    Cmd::new(&["chmod", "700", &c.bundle().to_string_lossy()]).ok();
    assert_eq!(c.run(), "bin\ndev\netc\nproc\nroot\nsys\ntmp\n");
}

#[test]
fn sources_are_looked_up_among_the_mounts_before_them() {
    for users in [false, true] {
        if users && peers_fail("Debian's runc opens them before it mounts anything") {
            return;
        }
        let c = Container::sh("cat /final/file; ls /tmp/a/b");
        let c = if users { with_users(c) } else { c };
        fs::write(c.shared().join("file"), "text\n").unwrap();
        let below = c.rootfs().join("first").to_string_lossy().into_owned();
        let c = c
            .mount("bind", "shared", "/first", &["bind"])
            .mount("tmpfs", "tmpfs", "/tmp/a", &["mode=755"])
            .mount("bind", &below, "/final", &["bind", "rprivate"])
            .mount("bind", &below, "/tmp/a/b", &["rbind", "ro"]);
        assert_eq!(c.run(), "text\nfile\n");
        c.assert_nothing_left();
    }
}

#[test]
fn a_missing_source_in_a_user_namespace_is_named() {
    let c = with_users(Container::new(&["/bin/true"])).mount("bind", "/no/such", "/d", &["bind"]);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("/no/such") && said.contains("no such file or directory"), "{said}");
    if is_tare() {
        assert!(
            said.contains("mounts[7].source") && said.contains("bind /no/such on /d"),
            "{said}"
        );
    }
    c.assert_nothing_left();
}

#[test]
fn a_container_in_the_hosts_pid_namespace_is_killed_whole() {
    if peers_fail("Debian's are older: they leave the rest alive") {
        return;
    }
    for force in [false, true] {
        let c = Container::sh("setsid sleep 600 & sleep 600 & wait").namespace("pid", None);
        c.run_detached();
        eventually("three processes", || c.processes().len() >= 3);
        if force {
            c.end();
        } else {
            c.kill("KILL").wait_for("stopped");
            eventually("all are gone", || c.processes().is_empty());
            c.end();
        }
    }
}

/// Shares everything with the host.
fn bare(c: Container) -> Container {
    c.with(|c| {
        c["linux"]["namespaces"] = json!([]);
        for key in ["maskedPaths", "readonlyPaths"] {
            c["linux"].as_object_mut().unwrap().remove(key);
        }
        c.as_object_mut().unwrap().remove("hostname");
        let on_host = ["/sys", "/sys/fs/cgroup", "/dev/mqueue"];
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !on_host.iter().any(|d| m["destination"] == *d));
    })
}

#[test]
fn a_container_without_namespaces_leaves_no_mount_on_the_host() {
    if peers_fail("they mount on the host") {
        return;
    }
    let c = bare(Container::idle()).share();
    let c = c.mount("tmpfs", "tmpfs", "/scratch", &["size=1m"]);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    c.run_detached();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(link(&path_of(&c, kind)), link(&format!("/proc/self/ns/{kind}")), "{kind}");
    }
    let own = c.id.clone();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&own) && mounts.lines().count() <= before + 1, "{mounts}");
    // Its root is its own all the same, with what is mounted there, for exec too.
    let said = c.exec_sh("ls / /..; stat -f -c %T /scratch /proc /dev; touch /shared/f");
    assert!(said.starts_with("/:\nbin\ndev\n") && said.ends_with("tmpfs\nproc\ntmpfs\n"), "{said}");
    assert!(c.shared().join("f").exists());
    c.exec(&[], &["/bin/cat", "/proc/1/root/etc/shadow"]).fails(1);
    c.end();
    assert!(c.rootfs().join("bin/busybox").exists());
}

#[test]
fn without_a_mount_namespace_some_things_are_refused() {
    if peers_fail("their words are others") {
        return;
    }
    let users = |c: &mut Value| {
        c["linux"]["namespaces"] = json!([{"type": "user"}]);
        c["linux"]["uidMappings"] = maps();
        c["linux"]["gidMappings"] = maps();
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change, &str); 3] = [
        (&users, "a user namespace needs a mount namespace"),
        (&|c| c["linux"]["rootfsPropagation"] = json!("shared"), "needs a mount namespace"),
        (
            &|c| c["linux"]["maskedPaths"] = json!(["/proc/kcore"]),
            "without a private MNT namespace",
        ),
    ];
    for (change, words) in cases {
        let c = bare(Container::new(&["/bin/true"])).with(change);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(words), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn sysfs_in_a_user_namespace_needs_a_network_namespace() {
    let c = with_users(Container::new(&["/bin/true"])).namespace("network", None);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("operation not permitted"), "{said}");
    if is_tare() {
        assert!(said.contains("\"type\": \"network\""), "{said}");
    }
    c.assert_nothing_left();
}
