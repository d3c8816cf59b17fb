//! What the payload is: user, groups, capabilities, limits, environment, namespaces.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Cmd, Container, eventually, is_tare, peers_fail};
use serde_json::{Value, json};

/// The value of a line of /proc/self/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn status_of(c: Container) -> String {
    c.with(|c| c["process"]["args"] = json!(["/bin/cat", "/proc/self/status"])).run()
}

#[test]
fn user_and_group() {
    let c = Container::idle().with(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1001}));
    let status = status_of(c);
    assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&status, "Groups"), "");
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
}

#[test]
fn groups_are_exactly_those_listed() {
    let user = json!({"uid": 0, "gid": 0, "additionalGids": [5, 7, 2147483647, 7]});
    let c = Container::idle().with(|c| c["process"]["user"] = user);
    assert_eq!(field(&status_of(c), "Groups"), "5 7 2147483647");
}

#[test]
fn the_callers_groups_do_not_stay() {
    let c = Container::new(&["/bin/cat", "/proc/self/status"]);
    let said = c.boot("run", &[]).under(&["setpriv", "--groups", "5,6"]).ok();
    assert_eq!(field(&said, "Groups"), "");
}

#[test]
fn umask_is_0022_or_as_ordered() {
    let script = "touch /tmp/f; stat -c %a /tmp/f; umask";
    let c = Container::sh(script);
    let said = c.boot("run", &[]).under(&["sh", "-c", "umask 077; exec \"$@\"", "sh"]).ok();
    assert_eq!(said, "644\n0022\n");
    let c = Container::sh(script).with(|c| c["process"]["user"]["umask"] = json!(0o27));
    assert_eq!(c.run(), "640\n0027\n");
}

/// A shell's trap, nohup(1) and services of systemd start programs that way.
#[test]
fn what_the_caller_ignores_or_blocks_does_not_stay() {
    let ignore = "--ignore-signal=HUP,INT,QUIT,PIPE,TERM,CHLD,USR1,WINCH";
    let caller = ["env", ignore, "--block-signal=TERM,CHLD,USR2"];
    let c = Container::new(&["/bin/cat", "/proc/self/status"]);
    // Those above are the C library's own, which posix_spawn(3) leaves ignored.
    let ignored =
        |said: &str| u64::from_str_radix(field(said, "SigIgn"), 16).unwrap() & 0x7fff_ffff;
    let said = c.boot("run", &[]).under(&caller).ok();
    assert_eq!(ignored(&said), 0);
    if is_tare() {
        assert_eq!(field(&said, "SigBlk"), "0000000000000000");
    }
    let c = Container::idle();
    c.run_detached();
    let said = c.exec(&[], &["/bin/cat", "/proc/self/status"]).under(&caller).ok();
    assert_eq!(ignored(&said), 0);
    c.end();
    let c = Container::idle();
    c.boot("create", &[]).under(&caller).ok();
    c.act("start").ok();
    assert_eq!(ignored(&c.exec_sh("cat /proc/1/status")), 0);
    c.end();
}

/// Root of the container could take the host's from everybody else: chmod 0 /dev/stdin.
#[test]
fn dev_null_as_a_standard_descriptor_is_the_containers() {
    let from_null = ["sh", "-c", "exec \"$@\" </dev/null", "sh"];
    let files = ["/bin/stat", "-L", "-c", "%d:%i", "/proc/self/fd/0", "/dev/null"];
    let same = |said: String| {
        let (own, null) = said.split_once('\n').unwrap();
        assert_eq!(own, null.trim_end());
    };
    if !is_tare() {
        return; // runc passes a pipe while it is in the foreground, and the host's to exec.
    }
    same(Container::new(&files).boot("run", &[]).under(&from_null).ok());
    let c = Container::idle();
    c.run_detached();
    same(c.exec(&[], &files).under(&from_null).ok());
    for trap in ["rm /dev/null", "touch /dev/null", "ln -sf /etc/passwd /dev/null"] {
        c.exec_sh(trap);
        let kind = ["/bin/stat", "-L", "-c", "%F %t:%T", "/proc/self/fd/0"];
        let said = c.exec(&[], &kind).under(&from_null).ok();
        assert_eq!(said, "character special file 1:3\n", "{trap}");
        // It is not the host's.
        c.exec(&[], &["/bin/chmod", "640", "/proc/self/fd/0"]).under(&from_null).ok();
        let mode = std::fs::metadata("/dev/null").unwrap().permissions().mode();
        Cmd::new(&["chmod", "666", "/dev/null"]).ok();
        assert_eq!(mode & 0o777, 0o666, "{trap}");
    }
    c.end();
}

#[test]
fn a_container_without_a_null_device_has_the_callers_descriptors() {
    if peers_fail("runc 1.1 looks for one, runc 1.3 does not") {
        return;
    }
    let c = Container::sh("ls /dev; echo end");
    let empty = c.bundle().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let c = c.with(|c| {
        c["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        c["linux"]["maskedPaths"] = json!([]);
    });
    let c = c.mount("bind", empty.to_str().unwrap(), "/dev", &["rbind"]);
    let from_null = ["sh", "-c", "exec \"$@\" </dev/null", "sh"];
    for kind in [None, Some("a file"), Some("a directory")] {
        match kind {
            None => {}
            Some("a file") => std::fs::write(empty.join("null"), "").unwrap(),
            Some(_) => {
                std::fs::remove_file(empty.join("null")).unwrap();
                std::fs::create_dir(empty.join("null")).unwrap();
            }
        }
        let said = c.boot("run", &[]).under(&from_null).ok();
        assert!(said.ends_with("end\n"), "{kind:?}: {said}");
    }
}

#[test]
fn the_size_of_files_may_be_limited_to_nothing() {
    let script = "trap '' XFSZ; echo more > /tmp/f && exit 3; exit 4";
    let limit = json!([{"type": "RLIMIT_FSIZE", "hard": 0, "soft": 0}]);
    let c = Container::sh(script).with(|c| c["process"]["rlimits"] = limit);
    assert_eq!(c.boot("run", &[]).answer().code, 4);
}

#[test]
fn environment_is_the_configurations() {
    let env = json!(["PATH=/bin", "A=b=c", "EMPTY=", "HOME=/tmp"]);
    let c = Container::new(&["/bin/env"]).with(|c| c["process"]["env"] = env);
    let said = c.boot("run", &[]).env("LEAK", "1").env("_OCI_SYNCPIPE", "3").ok();
    assert_eq!(said, "PATH=/bin\nA=b=c\nEMPTY=\nHOME=/tmp\n");
}

/// The working directory may be a volume.
#[test]
fn programs_of_the_working_directory_are_not_found_in_path() {
    let found = |path: &str| {
        let c = Container::new(&["mine"]).with(|c| {
            c["process"]["env"] = json!([format!("PATH={path}")]);
            c["process"]["cwd"] = json!("/tmp");
        });
        let program = c.rootfs().join("tmp/mine");
        std::fs::write(&program, "#!/bin/sh\necho ran\n").unwrap();
        Cmd::new(&["chmod", "755", program.to_str().unwrap()]).ok();
        c
    };
    if is_tare() {
        for path in [":/bin", "/bin:", ".", "../tmp", "/bin::/usr/bin"] {
            let said = found(path).boot("run", &[]).fails(1);
            let words = "exec: \"mine\": cannot run executable found relative to current directory";
            assert!(said.contains(words), "{path}: {said}");
        }
        let said = found("").boot("run", &[]).fails(1);
        assert!(said.contains("executable file not found in $PATH"), "{said}");
    }
    assert_eq!(found("/bin:/tmp").run(), "ran\n");
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let script = "echo $HOME";
    assert_eq!(Container::sh(script).run(), "/root\n");
    let c =
        Container::sh(script).with(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    assert_eq!(c.run(), "/home/user\n");
    let c = Container::sh(script).with(|c| c["process"]["user"] = json!({"uid": 77, "gid": 77}));
    assert_eq!(c.run(), "/\n");
}

#[test]
fn the_working_directory_is_made() {
    let c = Container::new(&["/bin/pwd"]).with(|c| c["process"]["cwd"] = json!("/var/new/dir"));
    assert_eq!(c.run(), "/var/new/dir\n");
    let c = Container::new(&["/bin/pwd"]).with(|c| c["process"]["cwd"] = json!("/etc/passwd"));
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("not a directory"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn the_working_directory_is_entered_as_the_user() {
    let c = Container::new(&["/bin/pwd"]).with(|c| {
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["process"]["cwd"] = json!("/home/user");
    });
    let home = c.rootfs().join("home/user");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(c.run(), "/home/user\n");
}

#[test]
fn capabilities_are_exactly_those_listed() {
    let c = Container::idle().with(|c| {
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP"],
            "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
        });
    });
    let status = status_of(c);
    assert_eq!(field(&status, "CapBnd"), "0000000000000121");
    assert_eq!(field(&status, "CapInh"), "0000000000000000");
    assert_eq!(field(&status, "CapAmb"), "0000000000000000");
    // With no_new_privs the kernel does not fill them up from the bounding set.
    assert_eq!(field(&status, "CapPrm"), "0000000000000021");
}

#[test]
fn capabilities_of_a_user_stay_through_the_ambient_set() {
    let kill = json!(["CAP_KILL"]);
    let c = Container::idle().with(|c| {
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["process"]["capabilities"] = json!({"bounding": kill, "effective": kill,
            "permitted": kill, "inheritable": kill, "ambient": kill});
    });
    let status = status_of(c);
    for set in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000020", "{set}");
    }
}

#[test]
fn without_capabilities_there_are_none() {
    let c = Container::idle().with(|c| c["process"]["capabilities"] = json!({}));
    let status = status_of(c);
    for set in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn unknown_capabilities_are_a_warning() {
    let c = Container::new(&["/bin/true"])
        .with(|c| c["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_MADE_UP"]));
    let answer = c.boot("run", &[]).answer();
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stderr.contains("CAP_MADE_UP"), "{}", answer.stderr);
}

#[test]
fn no_new_privileges() {
    for (wanted, seen) in [(true, "1"), (false, "0")] {
        let c = Container::idle().with(|c| c["process"]["noNewPrivileges"] = json!(wanted));
        assert_eq!(field(&status_of(c), "NoNewPrivs"), seen);
    }
}

#[test]
fn resource_limits() {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 4194304, "hard": 8388608}]);
    let c = Container::new(&["/bin/cat", "/proc/self/limits"])
        .with(|c| c["process"]["rlimits"] = limits);
    let said = c.run();
    let limit = |name: &str| -> Vec<String> {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(limit("Max open files"), ["100", "200"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max stack size"), ["4194304", "8388608"]);
}

#[test]
fn oom_score() {
    let c = Container::new(&["/bin/cat", "/proc/self/oom_score_adj"])
        .with(|c| c["process"]["oomScoreAdj"] = json!(432));
    assert_eq!(c.run(), "432\n");
}

#[test]
fn hostname_and_domainname() {
    let c = Container::new(&["/bin/hostname"]).with(|c| c["hostname"] = json!("web-1"));
    assert_eq!(c.run(), "web-1\n");
    if is_tare() {
        let c = Container::new(&["/bin/cat", "/proc/sys/kernel/domainname"])
            .with(|c| c["domainname"] = json!("example.org"));
        assert_eq!(c.run(), "example.org\n");
    }
}

#[test]
fn sysctls_of_the_containers_namespaces() {
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"});
    let c =
        Container::new(&["/bin/cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni"])
            .with(|c| c["linux"]["sysctl"] = sysctl);
    assert_eq!(c.run(), "1\n1234\n");
}

#[test]
fn sysctls_that_would_reach_the_host_are_refused() {
    let before = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    for key in ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "net...kernel.panic"] {
        let c = Container::new(&["/bin/true"]).with(|c| c["linux"]["sysctl"] = json!({key: "99"}));
        c.boot("run", &[]).fails(1);
        c.assert_nothing_left();
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").unwrap(), before);
    let c = Container::new(&["/bin/true"])
        .namespace("network", None)
        .with(|c| c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    c.boot("run", &[]).fails(1);
    // Docker names the host's network by a path.
    let same = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let c = Container::new(&["/bin/true"])
        .namespace("network", Some("/proc/self/ns/net"))
        .with(|c| c["linux"]["sysctl"] = json!({"net.core.somaxconn": same.trim()}));
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("not allowed in host network namespace"), "{said}");
}

#[test]
fn namespaces_are_new_unless_left_out() {
    let script = "for n in pid net ipc uts mnt user; do readlink /proc/self/ns/$n; done";
    let said = Container::sh(script).namespace("ipc", None).run();
    let names = ["pid", "net", "ipc", "uts", "mnt", "user"];
    for (name, inside) in names.iter().zip(said.lines()) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let shared = ["ipc", "user"].contains(name);
        assert_eq!(inside == host.to_str().unwrap(), shared, "{name}: {inside}");
    }
}

#[test]
fn namespaces_are_joined_by_path() {
    let owner = Container::idle();
    owner.run_detached();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", owner.pid());
    let guest = Container::sh("for n in net ipc uts; do readlink /proc/self/ns/$n; done")
        .namespace("network", Some(&path("net")))
        .namespace("ipc", Some(&path("ipc")))
        .namespace("uts", Some(&path("uts")))
        .with(|c| drop(c.as_object_mut().unwrap().remove("hostname")));
    let said = guest.run();
    for (name, inside) in ["net", "ipc", "uts"].iter().zip(said.lines()) {
        assert_eq!(inside, std::fs::read_link(path(name)).unwrap().to_str().unwrap());
    }
    owner.end();
}

#[test]
fn a_pid_namespace_is_joined_by_path() {
    let owner = Container::idle();
    owner.run_detached();
    let path = format!("/proc/{}/ns/pid", owner.pid());
    let guest = Container::sh("readlink /proc/self/ns/pid; tr '\\0' ' ' </proc/1/cmdline")
        .namespace("pid", Some(&path));
    let inside = std::fs::read_link(&path).unwrap();
    assert_eq!(guest.run(), format!("{}\n/bin/sleep 600 ", inside.display()));
    guest.assert_nothing_left();
    owner.end();
}

#[test]
fn a_user_namespace_has_its_mappings() {
    let c = Container::sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/f");
    let c = c.with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 200000, "size": 65536}]);
    });
    Cmd::new(&["chown", "-R", "100000:200000", c.rootfs().to_str().unwrap()]).ok();
    let said = c.run();
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "200000", "65536", "0"]);
    let made = std::fs::metadata(c.rootfs().join("tmp/f")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((made.uid(), made.gid()), (100000, 200000));
    c.assert_nothing_left();
}

/// Pipes of the caller's, files without a name, and the runtime's own pipes in place of others.
#[test]
fn who_runs_in_a_user_namespace_can_open_its_standard_descriptors() {
    let files = "/proc/self/fd";
    let script = &*format!("cat <{files}/0; echo out >>{files}/1; echo err >>{files}/2");
    let own = |c: &Container| {
        Cmd::new(&["chown", "-R", "100000:100000", c.rootfs().to_str().unwrap()]).ok();
    };
    let mapped = |c: Container| {
        own(&c);
        c.new_namespace("user").with(|c| {
            let maps = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
            c["linux"]["uidMappings"] = maps.clone();
            c["linux"]["gidMappings"] = maps;
        })
    };
    let owner = mapped(Container::idle());
    owner.run_detached();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", owner.pid());
    let fresh = |uid: u32| {
        let c = mapped(Container::sh(script));
        c.with(|c| c["process"]["user"] = json!({"uid": uid, "gid": 0}))
    };
    let joining = Container::sh(script)
        .namespace("user", Some(&path("user")))
        .namespace("network", Some(&path("net")));
    own(&joining);
    for around in [
        "exec \"$@\"",
        "echo in | \"$@\" 2>&1 | cat",
        "f=$(mktemp); echo in >$f; \"$@\" <$f >$f.out 2>&1; cat $f.out; rm $f $f.out",
    ] {
        let under = ["sh", "-c", around, "sh"];
        let all = |cmd: Cmd| {
            let answer = cmd.stdin(b"in\n").under(&under).answer();
            let said = answer.stdout + &answer.stderr;
            assert_eq!(said, "in\nout\nerr\n", "{around}");
        };
        for uid in [0, 7] {
            all(fresh(uid).boot("run", &[]));
            let user = uid.to_string();
            all(owner.exec(&["--user", &user], &["/bin/sh", "-c", script]));
        }
        if is_tare() {
            all(joining.boot("run", &[]));
        }
    }
    owner.end();
}

#[test]
fn a_user_namespace_is_joined_by_path() {
    let owner = Container::idle().with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    });
    Cmd::new(&["chown", "-R", "100000:100000", owner.rootfs().to_str().unwrap()]).ok();
    owner.run_detached();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", owner.pid());
    let guest = Container::sh("readlink /proc/self/ns/user; id -u")
        .namespace("user", Some(&path("user")))
        .namespace("network", Some(&path("net")));
    let guest = guest.with(|c| {
        if !is_tare() {
            // runc 1.1 wants them although the namespace has its own.
            c["linux"]["uidMappings"] = owner.config["linux"]["uidMappings"].clone();
            c["linux"]["gidMappings"] = owner.config["linux"]["gidMappings"].clone();
        }
    });
    Cmd::new(&["chown", "-R", "100000:100000", guest.rootfs().to_str().unwrap()]).ok();
    let inside = std::fs::read_link(path("user")).unwrap();
    assert_eq!(guest.run(), format!("{}\n0\n", inside.display()));
    guest.assert_nothing_left();
    // Its maps may be said again, in any pieces, but no others.
    let map = |first: u32, size: u32| json!({"containerID": first, "hostID": 100000 + first, "size": size});
    let all = json!([map(0, 65536)]);
    let mapped = |uids: &Value, gids: &Value| {
        let c = Container::sh("readlink /proc/self/ns/user; id -u");
        Cmd::new(&["chown", "-R", "100000:100000", c.rootfs().to_str().unwrap()]).ok();
        c.namespace("user", Some(&path("user"))).with(|c| {
            c["linux"]["uidMappings"] = uids.clone();
            c["linux"]["gidMappings"] = gids.clone();
        })
    };
    assert_eq!(mapped(&all, &all).run(), format!("{}\n0\n", inside.display()));
    if peers_fail("runc 1.1 does not look, later ones want the very same pieces") {
        return owner.end();
    }
    mapped(&json!([map(9, 65527), map(0, 9)]), &all).run();
    let wrong = [(json!([map(0, 65535)]), &all, "uid"), (all.clone(), &json!([map(1, 9)]), "gid")];
    for (uids, gids, kind) in wrong.into_iter().chain([(all.clone(), &json!([]), "gid")]) {
        let c = mapped(&uids, gids);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains("both namespace path and non-matching mapping specified"), "{said}");
        assert!(said.contains(&format!("linux.{kind}Mappings")), "{said}");
        c.assert_nothing_left();
    }
    owner.end();
}

#[test]
fn a_namespace_file_of_the_wrong_kind_is_refused() {
    for path in ["/proc/self/ns/uts", "/etc/passwd", "/no/such/ns"] {
        let c = Container::new(&["/bin/true"]).namespace("network", Some(path));
        c.boot("run", &[]).fails(1);
        c.assert_nothing_left();
    }
}

#[test]
fn wrong_types_are_refused() {
    let wrong = [("uid", json!("1000")), ("gid", json!(-1)), ("uid", json!(4294967296u64))];
    for (key, value) in wrong {
        let c = Container::new(&["/bin/true"]).with(|c| c["process"]["user"][key] = value.clone());
        let said = c.boot("run", &[]).fails(1);
        if is_tare() {
            assert!(said.contains(&format!("process.user.{key}")), "{said}");
        }
        c.assert_nothing_left();
    }
    let c =
        Container::new(&["/bin/true"]).with(|c| c["process"]["noNewPrivileges"] = json!("true"));
    c.boot("run", &[]).fails(1);
}

#[test]
fn memory_and_pids_limits_hold() {
    let c = Container::sh("sleep 0 & sleep 0 & sleep 0 & sleep 0 & sleep 0 & wait; echo end")
        .with(|c| c["linux"]["resources"]["pids"] = json!({"limit": 3}));
    let answer = c.boot("run", &[]).answer();
    assert!(answer.stderr.contains("fork"), "{answer:?}");
    // Both: where there is swap, too much of it would do as well.
    let c = Container::sh("dd if=/dev/zero of=/dev/null bs=64M count=1").with(|c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 16777216, "swap": 16777216});
    });
    assert_eq!(c.boot("run", &[]).answer().code, 137);
    c.assert_nothing_left();
}

#[test]
fn a_container_starts_under_512_kib() {
    if !is_tare() {
        return; // runc and crun are too large for it.
    }
    let c = Container::new(&["/bin/true"])
        .with(|c| c["linux"]["resources"]["memory"] = json!({"limit": 524288}));
    // A static program that needs next to nothing itself.
    c.create().start().wait_for("stopped");
    c.end();
}

#[test]
fn a_memory_limit_too_low_to_start_is_named() {
    let c = Container::new(&["/bin/true"])
        .with(|c| c["linux"]["resources"]["memory"] = json!({"limit": 4096}));
    let said = c.boot("run", &[]).fails(1);
    if is_tare() {
        assert!(said.contains("container init was OOM-killed (memory limit too low?)"), "{said}");
        assert!(said.contains("linux.resources.memory.limit = 4096"), "{said}");
    }
    c.assert_nothing_left();
}

#[test]
fn the_payload_leads_a_session_of_its_own() {
    let c = Container::sh("cut() { :; }; read line </proc/self/stat; echo $line");
    let said = c.run();
    let after = said.rsplit_once(") ").unwrap().1;
    let session = after.split(' ').nth(3).unwrap();
    assert_eq!(session, "1", "{said}");
}

#[test]
fn limits_of_a_container_are_those_of_exec() {
    let c = Container::idle().with(|c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
        c["process"]["user"]["additionalGids"] = json!([9]);
    });
    c.run_detached();
    eventually("running", || c.state()["status"] == "running");
    assert_eq!(c.exec_sh("ulimit -n; ulimit -Hn"), "77\n88\n");
    let status = c.exec(&[], &["/bin/cat", "/proc/self/status"]).ok();
    assert_eq!(field(&status, "CapBnd"), "0000000020000420");
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    c.end();
}

/// As an unprivileged user's tools make it: setgroups(2) is denied for good.
#[test]
fn a_joined_user_namespace_may_deny_groups() {
    let words = ["unshare", "--user", "--map-root-user", "sleep", "60"];
    let mut owner = Cmd::new(&words).command().spawn().unwrap();
    let path = format!("/proc/{}/ns/user", owner.id());
    let map = format!("/proc/{}/uid_map", owner.id());
    eventually("id map", || !std::fs::read_to_string(&map).unwrap_or_default().is_empty());
    let c = Container::sh("grep Groups /proc/self/status; cat /proc/self/setgroups; sleep 600");
    let c = c.namespace("user", Some(&path)).with(|c| {
        let pts = |mount: &&mut Value| mount["type"] == "devpts";
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().find(pts).unwrap()["options"] = json!(["newinstance"]);
    });
    let with_groups = json!([7]);
    let run = c.boot("run", &[]).spawn();
    eventually("state", || c.act("state").answer().code == 0);
    c.wait_for("running");
    let inside = c.exec_sh("grep Groups /proc/self/status");
    assert_eq!(inside.trim_end(), "Groups:", "groups of the host are dropped");
    c.kill("KILL");
    let said = run.answer();
    assert!(
        said.stdout.contains("Groups:\t\ndeny") || said.stdout.contains("Groups:\t \ndeny"),
        "{said:?}"
    );
    c.end();
    let c = c.with(|c| c["process"]["user"]["additionalGids"] = with_groups);
    c.boot("run", &[]).fails(1);
    owner.kill().unwrap();
    owner.wait().unwrap();
}
