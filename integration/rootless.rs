//! Containers of users without privileges. What needs a systemd of the user's own is tested in
//! `integration/vm`, which has one for uid 1000.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{Cmd, Container, is_crun, is_tare, peers_fail};
use serde_json::json;

/// Somebody whom nobody has given anything.
const NOBODY: u32 = 4242;
/// The user of `integration/vm`, who has a systemd, and ids to give away.
const USER: u32 = 1000;

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether [`USER`] has a systemd; says so if not.
fn has_systemd() -> bool {
    let there = Path::new("/run/user/1000/systemd/private").exists() && is_v2();
    if !there {
        eprintln!("not tested: needs a systemd of uid {USER} and cgroup v2");
    }
    there
}

/// Whether [`USER`] may map ids with newuidmap(1); says so if not.
fn has_subids() -> bool {
    let name = Cmd::new(&["id", "-un", "1000"]).answer().stdout;
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let there =
        !name.is_empty() && ids.lines().any(|l| l.starts_with(&format!("{}:", name.trim())));
    if !there {
        eprintln!("not tested: needs a uid {USER} with ids in /etc/subuid");
    }
    there
}

/// crun wants a cgroup namespace or v2 alone.
fn no_hybrid_for_crun() -> bool {
    is_crun() && !is_v2()
}

#[test]
fn the_root_of_a_user_namespace_makes_containers() {
    if no_hybrid_for_crun() {
        return;
    }
    // As an engine without privileges does, with or without one more user namespace.
    let uid = NOBODY.to_string();
    let caller = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "unshare"];
    let caller = [&caller[..], &["--user", "--map-root-user", "--mount", "--"]].concat();
    for nested in [true, false] {
        let c = Container::sh("id -u; echo x >/dev/null; test -c /dev/full && cat /shared/f");
        fs::write(c.shared().join("f"), "text\n").unwrap();
        let c = c.rootless(NOBODY).share().with(|c| {
            let linux = c["linux"].as_object_mut().unwrap();
            for member in ["uidMappings", "gidMappings"] {
                linux[member][0]["hostID"] = json!(0);
                if !nested {
                    linux.remove(member);
                }
            }
            if !nested {
                linux["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "user");
            }
        });
        // In the place of the seven words that make the caller a user.
        let answer = c.boot("run", &[]).without(0, 7).under(&caller).env("USER", "root").answer();
        assert_eq!(answer.stdout, "0\ntext\n", "{answer:?}");
        assert_eq!(answer.code, 0, "{answer:?}");
    }
}

/// As the members of a pod do. There is no right to come back to the host's pid namespace.
#[test]
fn the_root_of_a_user_namespace_joins_a_pid_namespace() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::sh("test $$ != 1 && cat /proc/1/comm");
    let ns = c.shared().join("pid");
    fs::write(&ns, "").unwrap();
    let c = c.rootless(NOBODY).share().with(|c| {
        let linux = c["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|ns| ns["type"] != "user" && ns["type"] != "pid");
        namespaces.push(json!({"type": "pid", "path": ns}));
    });
    let script = "unshare --pid=$NS --fork --kill-child sleep 600 >/dev/null 2>&1 &
        until grep -q \" $NS \" /proc/self/mountinfo; do sleep 0.1; done
        \"$@\"; code=$?; kill -9 $!; exit $code";
    let uid = NOBODY.to_string();
    let caller = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "unshare"];
    let caller = [&caller[..], &["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]];
    let run = c.boot("run", &[]).without(0, 7).under(&caller.concat());
    let answer = run.env("USER", "root").env("NS", ns.to_str().unwrap()).answer();
    assert_eq!(answer.stdout, "sleep\n", "{answer:?}");
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// As `keep-id` of engines beside another container's namespaces. The user namespace that is made
/// has no rights over what is joined, and the runtime no right to come back.
#[test]
fn the_root_of_a_user_namespace_joins_others_namespaces_and_makes_users() {
    if no_hybrid_for_crun() || peers_fail("runc cannot mount what shows a joined namespace") {
        return;
    }
    for kinds in [&["pid", "net", "ipc"][..], &["net", "uts"], &["pid", "time"]] {
        let c =
            Container::sh("for k in $KINDS; do readlink /proc/self/ns/$k; done; cat /proc/1/comm");
        let names = |kind: &str| if kind == "net" { "network" } else { kind }.to_owned();
        let c = c.rootless(NOBODY).with(|c| {
            c["process"]["env"]
                .as_array_mut()
                .unwrap()
                .push(json!("KINDS=".to_owned() + &kinds.join(" ")));
            c.as_object_mut().unwrap().remove("hostname");
            let linux = c["linux"].as_object_mut().unwrap();
            linux["uidMappings"][0]["hostID"] = json!(0);
            linux["gidMappings"][0]["hostID"] = json!(0);
        });
        let c = kinds.iter().fold(c, |c, kind| {
            let path = c.shared().join(kind);
            fs::write(&path, "").unwrap();
            c.namespace(&names(kind), Some(&path.to_string_lossy()))
        });
        let shows_net = kinds.contains(&"net");
        let c = c.with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            let sys = mounts.iter_mut().find(|m| m["destination"] == "/sys").unwrap();
            if shows_net {
                *sys = json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"});
            }
        });
        let made = kinds.iter().map(|kind| format!("--{kind}={}", c.shared().join(kind).display()));
        let script = format!(
            "unshare {} --fork --kill-child sleep 600 >/dev/null 2>&1 &
            until grep -q '/{} ' /proc/self/mountinfo; do sleep 0.1; done
            (cd {}; for k in {}; do stat -Lc $k:[%i] $k; done; \"$@\"); code=$?; kill -9 $!; wait; exit $code",
            made.collect::<Vec<_>>().join(" "), kinds.last().unwrap(),
            c.shared().display(), kinds.join(" "),
        );
        let uid = NOBODY.to_string();
        let caller = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "unshare"];
        let inside = ["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
        let run = c.boot("run", &[]).without(0, 7).under(&[&caller[..], &inside].concat());
        let said = run.env("USER", "root").ok();
        let lines: Vec<_> = said.lines().collect();
        let (there, seen) = lines.split_at(kinds.len());
        assert_eq!(there, &seen[..kinds.len()], "{kinds:?}");
        let first = if kinds.contains(&"pid") { "sleep" } else { "cat" };
        assert_eq!(seen[kinds.len()..], [first], "{kinds:?}");
        c.assert_nothing_left();
    }
}

#[test]
fn clocks_have_their_offsets_without_privileges() {
    if peers_fail("Debian's are older than time namespaces") {
        return;
    }
    let c = Container::idle().rootless(NOBODY).new_namespace("time").with(|c| {
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    });
    c.run_detached();
    let uptime = c.exec_sh("cut -d. -f1 /proc/uptime").trim().parse::<u64>().unwrap();
    assert!(uptime > 1_000_000, "{uptime}");
    assert_eq!(c.exec_sh("cat /proc/1/comm; id -u").trim(), "sleep\n0");
    c.end();
}

/// Which limits the caller cannot have, and what would give them.
#[test]
fn doctor_tells_a_user_of_cgroups() {
    if peers_fail("they have no doctor") {
        return;
    }
    let c = Container::idle().rootless(NOBODY);
    let said = c.verb("doctor").ok();
    let words = match is_v2() {
        true => ["belongs to user 0: limits with --systemd-cgroup", "enable-linger 4242"],
        false => ["no limits by ", "nobody hands version 1 on to users"],
    };
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
    assert!(said.contains("one user only: "), "{said}");
    if has_systemd() {
        let said = Container::idle().rootless(USER).verb("doctor").ok();
        assert!(said.contains("delegated         cpu cpuset io memory pids\n"), "{said}");
        assert!(said.contains("user namespaces   up to"), "{said}");
    }
}

#[test]
fn a_container_lives_without_privileges() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::idle().rootless(NOBODY).share();
    c.run_detached();
    assert_eq!(fs::metadata(format!("/proc/{}", c.pid())).unwrap().uid(), NOBODY);
    assert_eq!(c.exec_sh("id -u; touch /shared/made; hostname").trim(), "0\nbox");
    assert_eq!(fs::metadata(c.shared().join("made")).unwrap().uid(), NOBODY);
    let seen = c.exec_sh("ls /proc").lines().filter(|l| l.parse::<u32>().is_ok()).count();
    assert!(seen < 10, "{seen} processes are seen in a pid namespace of its own");
    assert_eq!(c.exec(&[], &["/bin/sh", "-c", "exit 5"]).answer().code, 5);
    c.kill("KILL").wait_for("stopped");
    c.act("delete").ok();
    c.assert_nothing_left();
}

#[test]
fn created_then_started() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::idle().rootless(NOBODY);
    c.create();
    assert_eq!(c.state()["status"], "created");
    c.start().wait_for("running");
    c.end();
}

/// The waiting process may not be looked into, and hands its namespaces out instead.
#[test]
fn exec_before_the_start() {
    if peers_fail("crun cannot enter the user namespace") {
        return;
    }
    let c = Container::idle().rootless(NOBODY);
    c.create();
    let namespaces =
        "for kind in user mnt pid ipc uts cgroup; do readlink /proc/self/ns/$kind; done";
    let waiting = c.exec_sh(namespaces);
    assert_eq!(c.exec_sh("id -u; hostname"), "0\nbox\n");
    let said = c.exec(&[], &["/bin/ls", "/proc/1/fd"]).answer().stderr;
    assert!(said.contains("Permission denied"), "{said}");
    c.start().wait_for("running");
    assert_eq!(c.exec_sh(namespaces), waiting);
    let open = c.exec_sh("ls -l /proc/1/fd");
    assert!(!open.contains("ns:["), "the payload has none of them: {open}");
    c.end();
}

#[test]
fn the_own_default_configuration_runs() {
    if peers_fail("their default has a terminal") {
        return;
    }
    let c = Container::new(&["/bin/true"]).rootless(NOBODY);
    fs::remove_file(c.bundle().join("config.json")).unwrap();
    c.verb("spec").args(&["--rootless", "--bundle", &c.bundle().to_string_lossy()]).ok();
    let file = c.bundle().join("config.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"terminal\": true", "\"terminal\": false")).unwrap();
    c.boot("run", &[]).stdin(b"id -u; cat /proc/self/setgroups").ok();
    c.assert_nothing_left();
}

/// All of them exist in the new namespace, whoever made it.
#[test]
fn capabilities_are_those_of_the_user_namespace() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::new(&["/bin/grep", "CapEff", "/proc/self/status"]).rootless(NOBODY);
    assert!(
        c.run().trim().ends_with("0000000020000420"),
        "CAP_AUDIT_WRITE, KILL, NET_BIND_SERVICE"
    );
}

#[test]
fn limits_without_cgroups_are_refused() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::idle().rootless(NOBODY);
    let c = c.with(|c| c["linux"]["resources"] = json!({"pids": {"limit": 5}}));
    let said = c.boot("run", &["--detach"]).fails(1);
    let words = match is_v2() {
        true => {
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
        }
        false => "cannot set pids limit: container could not join or create cgroup",
    };
    assert!(said.contains(words) || is_crun(), "{said}");
    assert!(!is_tare() || said.contains("linux.resources.pids.limit"), "{said}");
    c.assert_nothing_left();
}

/// Nobody can tell its processes from others.
#[test]
fn what_cannot_be_killed_is_told() {
    if !is_tare() {
        return;
    }
    let c = Container::sh("sleep 1 & exec sleep 600").rootless(NOBODY).namespace("pid", None);
    let c = c.with(|c| {
        c["linux"]["maskedPaths"] = json!([]);
        c["linux"]["readonlyPaths"] = json!([]);
        let mounts = c["mounts"].as_array_mut().unwrap();
        let proc = mounts.iter_mut().find(|m| m["destination"] == "/proc").unwrap();
        *proc = json!({"destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"]});
    });
    let said = |cmd: Cmd| {
        let answer = cmd.answer();
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stderr
    };
    let created = said(c.boot("run", &["--detach"]));
    assert!(created.contains("processes cannot all be killed"), "{created}");
    let words = "failed to kill all processes, possibly due to lack of cgroup";
    let killed = said(c.act("kill").args(&["KILL"]));
    assert!(killed.contains(words), "{killed}");
    c.wait_for("stopped");
    let deleted = said(c.act("delete"));
    assert!(deleted.contains(words), "{deleted}");
    common::eventually("the other ends", || c.processes().is_empty());
    c.assert_nothing_left();
}

#[test]
fn cgroups_of_others_are_refused() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::idle().rootless(NOBODY);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!("/some/where"));
    let said = c.boot("run", &["--detach"]).fails(1);
    assert!(is_crun() || said.contains("unable to apply cgroup configuration"), "{said}");
    assert!(said.to_lowercase().contains("permission denied"), "{said}");
    c.assert_nothing_left();
}

/// The caller's own groups stay, as they cannot be given up; others cannot be had.
#[test]
fn groups_are_the_callers() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::new(&["/bin/grep", "Groups", "/proc/self/status"]).rootless(NOBODY);
    let uid = NOBODY.to_string();
    let as_member = ["setpriv", "--reuid", &uid, "--regid", &uid, "--groups", "4243", "--"];
    let mut words = c.boot("run", &[]).under(&as_member);
    // The inner setpriv would drop them.
    words = words.without(as_member.len(), 7);
    assert_eq!(words.ok().trim(), "Groups:\t65534");
    let c = c.with(|c| c["process"]["user"]["additionalGids"] = json!([7]));
    c.boot("run", &[]).fails(1);
    c.assert_nothing_left();
}

#[test]
fn more_ids_need_the_helpers() {
    if no_hybrid_for_crun() || !has_subids() {
        return;
    }
    let subid = |file: &str| {
        let text = fs::read_to_string(file).unwrap();
        let name = Cmd::new(&["id", "-un", "1000"]).ok();
        let line =
            text.lines().find(|line| line.starts_with(&format!("{}:", name.trim()))).unwrap();
        line.split(':').nth(1).unwrap().parse::<u32>().unwrap()
    };
    let map = |own: u32, sub: u32| {
        json!([{"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": sub, "size": 60000}])
    };
    let c = Container::sh("id -u; id -g; grep Groups /proc/self/status").rootless(USER).with(|c| {
        c["linux"]["uidMappings"] = map(USER, subid("/etc/subuid"));
        c["linux"]["gidMappings"] = map(USER, subid("/etc/subgid"));
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
        c["process"]["capabilities"] = json!({});
    });
    let out = c.run();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["1000", "1000", "Groups:", "7"]);
    c.assert_nothing_left();
}

#[test]
fn ids_of_others_are_refused() {
    if no_hybrid_for_crun() {
        return;
    }
    let c = Container::idle().rootless(NOBODY).with(|c| {
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    });
    let said = c.boot("run", &["--detach"]).fails(1);
    assert!(!is_tare() || said.contains("/etc/subuid") || said.contains("newuidmap"), "{said}");
    c.assert_nothing_left();
}

fn scope(c: &Container) -> String {
    format!("test-{}.scope", c.id)
}

fn show(c: &Container, name: &str) -> String {
    let words = ["systemctl", "--user", "show", "--value", "-p", name, &scope(c)].map(String::from);
    let runtime = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--"];
    let answer = Cmd::new(&words).under(&runtime).env("XDG_RUNTIME_DIR", "/run/user/1000").ok();
    answer.trim().to_owned()
}

/// Everything here runs outside of the user's tree, so the kernel lets nothing move by itself.
#[test]
fn the_users_systemd_gives_limits() {
    if !has_systemd() {
        return;
    }
    let c = Container::idle().rootless(USER).systemd("").with(|c| {
        c["linux"]["resources"] = json!({"pids": {"limit": 9}, "memory": {"limit": 64 << 20}});
    });
    c.run_detached();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let below = format!("/user@1000.service/user.slice/{}", scope(&c));
    assert!(cgroup.trim().ends_with(&below), "{cgroup}");
    assert_eq!((show(&c, "TasksMax"), show(&c, "MemoryMax")), ("9".into(), "67108864".into()));
    if is_tare() {
        let inside = c.exec_sh("cat /proc/self/cgroup");
        assert!(inside.trim().ends_with(&below), "{inside}");
        let many = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 20 & done; echo all";
        let answer = c.exec(&[], &["/bin/sh", "-c", many]).answer();
        assert!(!answer.stdout.contains("all"), "ten processes under a limit of nine");
    }
    c.act("update").args(&["--pids-limit", "20"]).ok();
    assert_eq!(show(&c, "TasksMax"), "20");
    c.end();
    assert_eq!(show(&c, "LoadState"), "not-found");
}

/// A controller that is not handed on to users is named, with what would do it.
#[test]
fn a_controller_that_is_not_delegated_is_named() {
    if !has_systemd() || peers_fail("they do not know it") {
        return;
    }
    let c = Container::idle().rootless(USER).systemd("").with(|c| {
        c["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    });
    let said = c.boot("run", &["--detach"]).fails(1);
    assert!(said.contains("the hugetlb controller is for root alone"), "{said}");
    c.assert_nothing_left();
}
