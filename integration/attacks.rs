//! One test for each class of attack that runtimes have fallen to; each fails without its defence.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::{Cmd, Container, compile, eventually, is_tare, limit, peers_fail, runtime};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};

/// All capabilities that this host has to give, and no other protection.
fn privileged(c: &mut Value) {
    let held = fs::read_to_string("/proc/self/status").unwrap();
    let held = held.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let held = u64::from_str_radix(held, 16).unwrap();
    let names = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
    ];
    let held: Vec<_> = names
        .iter()
        .enumerate()
        .filter(|(bit, _)| held >> bit & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect();
    c["process"]["capabilities"] = json!({"bounding": held, "effective": held, "permitted": held});
    c["process"]["noNewPrivileges"] = json!(false);
    c["linux"]["maskedPaths"] = json!([]);
    c["linux"]["readonlyPaths"] = json!([]);
}

fn fingerprint(path: &Path) -> (Vec<u8>, u32, i64) {
    let meta = fs::metadata(path).unwrap();
    (fs::read(path).unwrap(), meta.mode(), meta.mtime())
}

/// A copy of a program, so that an attack that succeeds spoils nothing else. Another process makes
/// it: a child of another test could hold a descriptor of ours, and the file be busy.
fn copied(program: impl AsRef<Path>, copy: PathBuf) -> PathBuf {
    let done = Command::new("cp").arg(program.as_ref()).arg(&copy).status().unwrap();
    assert!(done.success(), "{done}");
    copy
}

/// A copy of the runtime.
fn own_copy(c: &Container) -> PathBuf {
    copied(runtime(), c.bundle().join("runtime"))
}

/// The command with the runtime replaced by its copy.
fn with_copy(copy: &Path, cmd: Cmd) -> Cmd {
    cmd.under(&["bash", "-c", "copy=$1; shift 2; exec $copy \"$@\"", "sh", copy.to_str().unwrap()])
}

#[test]
fn own_binary_as_the_payload() {
    // CVE-2019-5736: the payload is the runtime itself, through /proc/self/exe.
    for program in ["/proc/self/exe", "/attack"] {
        let c = Container::new(&[program, "--version"]).with(privileged);
        let script = c.rootfs().join("attack");
        fs::write(&script, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let copy = own_copy(&c);
        let before = fingerprint(&copy);
        with_copy(&copy, c.boot("run", &[])).answer();
        assert!(fingerprint(&copy) == before, "the runtime's file was changed");
        c.end();
    }
}

/// A privileged container in which reopen.c lies in wait.
fn attacker() -> Container {
    let c = Container::new(&["/bin/reopen"]).share().with(privileged);
    compile("reopen.c", &c.rootfs().join("bin/reopen"));
    c.run_detached();
    eventually("the attacker is ready", || c.shared().join("ready").exists());
    c
}

#[test]
fn own_binary_is_not_reachable_before_the_start() {
    // A process that may trace opens the program of the init that waits, and writes to it once that
    // has become the payload.
    let c = Container::new(&["/bin/sleep", "100"]).share().with(privileged);
    let copy = own_copy(&c);
    let before = fingerprint(&copy);
    with_copy(&copy, c.boot("create", &[])).ok();
    let attack = "exec 3</proc/1/exe; touch /shared/opened; \
                  until [ -e /shared/started ]; do sleep 0.05; done; \
                  echo broken >/proc/self/fd/3; touch /shared/tried";
    c.exec(&["--detach"], &["/bin/sh", "-c", attack]).ok();
    eventually("it is open", || c.shared().join("opened").exists());
    c.act("start").ok();
    fs::write(c.shared().join("started"), "").unwrap();
    eventually("the attack is over", || c.shared().join("tried").exists());
    assert_eq!(fingerprint(&copy), before);
    c.end();
    // Where init was not protected, nobody who may trace comes near.
    let c = Container::idle();
    c.create();
    let said = c.exec(&["--cap", "CAP_SYS_PTRACE"], &["/bin/true"]).answer();
    assert!(!is_tare() || (said.code == 255 && said.stderr.contains("CAP_SYS_PTRACE")), "{said:?}");
    c.end();
}

#[test]
fn own_binary_is_not_reachable_during_exec() {
    let c = attacker();
    let copy = own_copy(&c);
    let before = fingerprint(&copy);
    for _ in 0..200 {
        with_copy(&copy, c.exec(&[], &["/bin/true"])).ok();
    }
    assert!(fingerprint(&copy) == before, "the runtime's file was changed");
    c.end();
}

#[test]
fn own_binary_is_not_reachable_where_overlays_are_missing() {
    let c = attacker();
    let copy = own_copy(&c);
    let before = fingerprint(&copy);
    let missing = "inject=fsopen:error=ENOSYS";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsopen", "-e", missing];
    for _ in 0..30 {
        with_copy(&copy, c.exec(&[], &["/bin/true"])).under(&strace).ok();
    }
    assert!(fingerprint(&copy) == before, "the runtime's file was changed");
    c.end();
}

#[test]
fn the_protected_copy_is_of_the_binary_that_runs() {
    // Mounted over another program, as over a distribution's runc, or replaced since it was started:
    // then there is another file, or none, by its name in its directory.
    let c = Container::idle();
    c.create().start();
    let other = copied("/bin/false", c.bundle().join("other"));
    let mounted = "mount --bind $1 $0; shift; exec $0 \"$@\"";
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounted];
    let unshare = [&unshare[..], &[other.to_str().unwrap()]].concat();
    assert_eq!(c.exec(&[], &["/bin/echo", "inside"]).under(&unshare).ok(), "inside\n");
    let copy = own_copy(&c);
    let removed = "exec 9<$0; rm $0; shift; exec /proc/self/fd/9 \"$@\"";
    let removed = ["bash", "-c", removed, copy.to_str().unwrap()];
    assert_eq!(c.exec(&[], &["/bin/echo", "inside"]).under(&removed).ok(), "inside\n");
    c.end();
}

#[test]
fn a_read_only_overlay_of_the_host_is_no_protection() {
    // What a container opens there could be written to once it is mounted for writing.
    let c = attacker();
    let (copy, calls) = (own_copy(&c), c.bundle().join("calls"));
    for program in ["/mnt/all/runtime", "chroot /mnt/all /runtime"] {
        let mounted = format!(
            "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/all && cp \"$0\" /mnt/u/runtime && \
             mount -t overlay o /mnt/all -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w && \
             mount -o remount,ro /mnt/all && for dir in proc sys dev tmp run; do \
             mount --rbind /$dir /mnt/all/$dir; done || exit 1; calls=$1; shift 2; \
             exec strace -qq -e trace=fsopen -o \"$calls\" {program} \"$@\""
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mounted];
        let files = [copy.to_str().unwrap(), calls.to_str().unwrap()];
        let exec = c.exec(&[], &["/bin/echo", "inside"]).under(&[&unshare[..], &files].concat());
        assert_eq!(exec.ok(), "inside\n", "{program}");
        let calls = fs::read_to_string(&calls).unwrap();
        assert!(!is_tare() || calls.contains("\"overlay\""), "{program}: {calls}");
    }
    c.end();
}

#[test]
fn the_attacker_wins_against_a_program_without_defence() {
    // The positive control of the test above: nsenter enters the same namespaces, unprotected.
    let c = attacker();
    let copy = copied("/usr/bin/nsenter", c.bundle().join("nsenter"));
    let before = fingerprint(&copy);
    let pid = c.pid().to_string();
    // It is a race: on a loaded machine it takes more tries. Some do not start, as the attacker has
    // the file open by then; whether it has written already is seen by the next.
    let end = Instant::now() + 2 * limit();
    while Instant::now() < end && fingerprint(&copy) == before {
        let _ = Command::new(&copy).args(["-t", &pid, "-m", "-p", "/bin/true"]).output();
    }
    assert!(
        fingerprint(&copy) != before,
        "the attack does not work, so its failure proves nothing"
    );
    c.end();
}

#[test]
fn no_descriptor_leaks_into_the_payload() {
    // CVE-2016-9962, CVE-2024-21626: whatever the caller left open stays outside.
    let c = Container::sh("ls -l /proc/self/fd; ls -l /proc/1/fd");
    let script = "exec 5</ 7</etc 9>/tmp/.tare-leak 88</proc; rm /tmp/.tare-leak; exec \"$@\"";
    let said = c.boot("run", &[]).under(&["bash", "-c", script, "sh"]).ok();
    let fds = said.lines().filter(|line| line.contains("->")).count();
    // Three standard streams each; the directory that ls itself reads is gone when it looks.
    assert_eq!(fds, 6, "{said}");
}

#[test]
fn no_descriptor_leaks_into_exec_or_a_created_init() {
    let c = Container::idle();
    let script = "exec 5</ 7</etc 88</proc; exec \"$@\"";
    let leaky = ["bash", "-c", script, "sh"];
    c.boot("create", &[]).under(&leaky).ok();
    for entry in fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let known = ["/", "/etc", "/proc"].iter().any(|dir| target == Path::new(dir));
        assert!(!known, "{} -> {}", entry.path().display(), target.display());
    }
    c.start();
    let said = c.exec(&[], &["/bin/ls", "-l", "/proc/self/fd"]).under(&leaky).ok();
    assert_eq!(said.lines().filter(|line| line.contains("->")).count(), 3, "{said}");
    c.end();
}

#[test]
fn the_working_directory_is_not_outside() {
    // CVE-2024-21626: a cwd that is a leaked descriptor of the host.
    for fd in 3..20 {
        let c = Container::sh(
            "cat ./etc/hostname ../../etc/hostname ../../../etc/hostname 2>/dev/null; \
                               echo end",
        )
        .with(|c| c["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        let script = "exec 3</ 7</sys/fs/cgroup 8</; exec \"$@\"";
        let answer = c.boot("run", &[]).under(&["bash", "-c", script, "sh"]).answer();
        assert_ne!(answer.code, 0, "fd {fd}: {answer:?}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_descriptor_that_is_passed_on_is_no_working_directory() {
    // The caller means the payload to have it; the way to the host that it is stays closed.
    let pass = ["bash", "-c", "exec 3</; exec \"$@\"", "sh"];
    let c = Container::idle().with(|c| c["process"]["cwd"] = json!("/proc/self/fd/3"));
    c.boot("run", &["--preserve-fds", "1"]).under(&pass).fails(1);
    c.assert_nothing_left();
    let c = Container::idle();
    c.run_detached();
    let flags = ["--preserve-fds", "1", "--cwd", "/proc/self/fd/3"];
    let said = c.exec(&flags, &["/bin/true"]).under(&pass).fails(255);
    assert!(said.contains("outside of container mount namespace root"), "{said}");
    c.end();
}

#[test]
fn exec_with_a_working_directory_outside() {
    let c = Container::idle();
    c.run_detached();
    let script = "exec 3</ 7</sys/fs/cgroup; exec \"$@\"";
    let hosts = fs::read_dir("/").unwrap().flatten().map(|entry| entry.file_name());
    let hosts: Vec<_> = hosts.filter(|name| !c.rootfs().join(name).exists()).collect();
    for fd in 3..20 {
        let flags = ["--cwd", &format!("/proc/self/fd/{fd}")];
        let command = ["/bin/sh", "-c", "ls . .. ../.. ../../.. 2>/dev/null; true"];
        let answer = c.exec(&flags, &command).under(&["bash", "-c", script, "sh"]).answer();
        let seen = hosts.iter().find(|host| answer.stdout.lines().any(|line| line == **host));
        assert!(seen.is_none(), "fd {fd}: the host's {seen:?} is in reach");
        assert!(answer.code == 255 || answer.code == 0, "fd {fd}: {answer:?}");
    }
    c.end();
}

#[test]
fn the_program_is_not_outside() {
    // CVE-2024-21626 again: the program is reached through a leaked descriptor of the host.
    let c = Container::idle();
    fs::copy(c.rootfs().join("bin/busybox"), c.shared().join("true")).unwrap();
    let script = format!("exec 3<{0} 7<{0} 8<{0}; exec \"$@\"", c.shared().display());
    let leaky = ["bash", "-c", &script, "sh"];
    c.boot("run", &["--detach"]).under(&leaky).ok();
    for fd in 3..20 {
        let program = format!("/proc/self/fd/{fd}/true");
        let answer = c.exec(&[], &[&program]).under(&leaky).answer();
        assert_eq!(answer.code, 255, "exec, fd {fd}: {answer:?}");
    }
    c.end();
    for fd in 3..20 {
        let program = format!("/proc/self/fd/{fd}/true");
        let c = Container::new(&[&program]);
        c.boot("run", &[]).under(&leaky).fails(1);
        c.assert_nothing_left();
    }
}

#[test]
fn destinations_with_symlinks_stay_inside() {
    let c = Container::new(&["/bin/true"]);
    let target = c.bundle().join("outside");
    fs::create_dir(&target).unwrap();
    symlink(&target, c.rootfs().join("link")).unwrap();
    symlink("../outside", c.rootfs().join("relative")).unwrap();
    let source = c.shared().to_str().unwrap().to_owned();
    let c = c
        .mount("bind", &source, "/link/one", &["bind"])
        .mount("tmpfs", "tmpfs", "/relative/two", &[])
        .with(|c| {
            c["linux"]["devices"] =
                json!([{"path": "/link/null", "type": "c", "major": 1, "minor": 3}])
        });
    c.boot("run", &[]).answer();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "something was made outside the root");
    c.end();
}

#[test]
fn proc_and_sys_that_are_symlinks_are_refused() {
    // CVE-2019-19921: /proc of the image leads elsewhere.
    for (name, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        let c = Container::new(&["/bin/true"]);
        fs::remove_dir(c.rootfs().join(name)).unwrap();
        fs::create_dir(c.rootfs().join("fake")).unwrap();
        symlink("fake", c.rootfs().join(name)).unwrap();
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(name), "{kind}: {said}");
        c.assert_nothing_left();
    }
}

#[test]
fn mounts_over_proc_are_refused() {
    if peers_fail("runc 1.1 lets a tmpfs cover parts of /proc") {
        return;
    }
    for path in ["/proc/self/attr", "/proc/sys", "/proc/1", "/proc/self"] {
        let c = Container::new(&["/bin/true"]).mount("tmpfs", "tmpfs", path, &[]);
        assert_eq!(c.boot("run", &[]).answer().code, 1, "{path}");
        c.assert_nothing_left();
    }
    let c = Container::new(&["/bin/cat", "/proc/uptime"]);
    let file = c.shared().join("uptime");
    fs::write(&file, "ours\n").unwrap();
    let c = c.mount("bind", file.to_str().unwrap(), "/proc/uptime", &["bind"]);
    assert_eq!(c.run(), "ours\n", "the known ones are allowed");
}

#[test]
fn kernel_parameters_do_not_go_to_a_proc_of_the_image() {
    // CVE-2025-52881: what is meant for the kernel is swallowed by a file that looks like its own.
    if peers_fail("runc 1.1 writes to whatever is at /proc") {
        return;
    }
    let file = "sys/net/ipv4/ip_forward";
    let c = Container::new(&["/bin/cat", &format!("/real/{file}")])
        .with(|c| {
            without_mounts(c, "/proc");
            c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        })
        .mount("proc", "proc", "/real", &[]);
    let decoy = c.rootfs().join("proc").join(file);
    fs::create_dir_all(decoy.parent().unwrap()).unwrap();
    fs::write(&decoy, "decoy\n").unwrap();
    assert_eq!(c.run(), "1\n");
    assert_eq!(fs::read_to_string(&decoy).unwrap(), "decoy\n");
}

/// Leaves out the mounts at `place` and below: the image's own files are there.
fn without_mounts(c: &mut Value, place: &str) {
    let mounts = c["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !Path::new(m["destination"].as_str().unwrap()).starts_with(place));
}

#[test]
fn devices_that_are_symlinks_in_the_image() {
    // A /dev of the image itself, with traps where the runtime makes nodes and masks paths.
    let c = Container::new(&["/bin/true"]).with(|c| without_mounts(c, "/dev"));
    let victim = c.bundle().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["null", "zero", "console", "tty", "ptmx", "random"] {
        symlink(&victim, c.rootfs().join("dev").join(name)).unwrap();
    }
    c.boot("run", &[]).answer();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::metadata(&victim).unwrap().file_type().is_file());
    assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o644);
    c.end();
}

#[test]
fn a_dev_that_is_a_symlink() {
    if peers_fail("runc 1.1 makes the links of /dev behind the symlink") {
        return;
    }
    for mounts in [true, false] {
        let mut c = Container::new(&["/bin/true"]);
        if !mounts {
            c = c.with(|c| without_mounts(c, "/dev"));
        }
        let outside = c.bundle().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir(c.rootfs().join("dev")).unwrap();
        symlink(&outside, c.rootfs().join("dev")).unwrap();
        c.boot("run", &[]).answer();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "mounts: {mounts}");
        c.end();
    }
}

#[test]
fn masking_uses_the_real_null_device() {
    // CVE-2025-31133: the image's /dev/null is another file, so that the mask would be that file.
    let c = Container::sh("cat /etc/passwd").with(|c| {
        without_mounts(c, "/dev");
        c["linux"]["maskedPaths"] = json!(["/etc/passwd"]);
    });
    fs::write(c.rootfs().join("etc/decoy"), "decoy").unwrap();
    symlink("/etc/decoy", c.rootfs().join("dev/null")).unwrap();
    let answer = c.boot("run", &[]).answer();
    assert!(!answer.stdout.contains("decoy") && !answer.stdout.contains("root:"), "{answer:?}");
    c.end();
}

#[test]
fn a_null_device_that_is_replaced_late_masks_nothing() {
    // CVE-2025-31133 as a race: it was made as it should be, and is another file when it is used.
    if peers_fail("runc 1.1 masks with whatever /dev/null is") {
        return;
    }
    for replace in ["ln -s /etc/decoy dev/null", "echo decoy >dev/null", "mknod dev/null c 1 5"] {
        let script = format!("rm dev/null && {replace}");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"]});
        let c = Container::sh("cat /etc/passwd").with(|c| {
            c["hooks"] = json!({"createContainer": [hook]});
            c["linux"]["maskedPaths"] = json!(["/etc/passwd"]);
        });
        fs::write(c.rootfs().join("etc/decoy"), "decoy").unwrap();
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains("/dev/null"), "{replace}: {said}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_console_that_is_a_symlink_is_refused() {
    // CVE-2025-52565: the terminal would be mounted wherever the link leads.
    if peers_fail("runc 1.1 follows it") {
        return;
    }
    let c = Container::idle().with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != "/dev");
        c["process"]["terminal"] = json!(true);
    });
    fs::write(c.rootfs().join("etc/decoy"), "decoy").unwrap();
    symlink("/etc/decoy", c.rootfs().join("dev/console")).unwrap();
    let socket = common::terminal::ConsoleSocket::listen(&c.shared());
    let flags = ["--console-socket", socket.path.to_str().unwrap()];
    let said = c.boot("create", &flags).fails(1);
    assert!(said.contains("/dev/console"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn a_terminal_is_not_made_by_another_device() {
    // The image's own /dev/pts, where another device answers to the multiplexer's name.
    if peers_fail("runc 1.1 takes the host's") {
        return;
    }
    let c = Container::idle().with(|c| {
        without_mounts(c, "/dev");
        c["process"]["terminal"] = json!(true);
    });
    fs::create_dir(c.rootfs().join("dev/pts")).unwrap();
    // One without a driver: to open it would be another error.
    let fake = c.rootfs().join("dev/pts/ptmx");
    Cmd::new(&["mknod", fake.to_str().unwrap(), "c", "240", "77"]).ok();
    let socket = common::terminal::ConsoleSocket::listen(&c.shared());
    let flags = ["--console-socket", socket.path.to_str().unwrap()];
    let said = c.boot("create", &flags).fails(1);
    assert!(said.contains("is not the terminal multiplexer"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn masked_paths_that_are_symlinks_do_not_reach_out() {
    let c = Container::new(&["/bin/true"]).with(|c| {
        c["linux"]["maskedPaths"] = json!(["/trap", "/deep/file"]);
        c["linux"]["readonlyPaths"] = json!(["/trap2"]);
    });
    let victim = c.bundle().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, c.rootfs().join("trap")).unwrap();
    symlink(c.bundle(), c.rootfs().join("deep")).unwrap();
    symlink(c.bundle(), c.rootfs().join("trap2")).unwrap();
    c.boot("run", &[]).answer();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::write(c.bundle().join("still-writable"), "").unwrap();
    c.end();
}

#[test]
fn a_passwd_that_would_hang_or_leak() {
    if peers_fail("runc 1.1 opens a FIFO at /etc/passwd") {
        return;
    }
    for kind in ["fifo", "link", "device"] {
        let c = Container::sh("echo $HOME");
        let passwd = c.rootfs().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        match kind {
            "fifo" => drop(Cmd::new(&["mkfifo", passwd.to_str().unwrap()]).ok()),
            "link" => symlink(c.bundle().join("passwd"), &passwd).unwrap(),
            _ => symlink("/dev/zero", &passwd).unwrap(),
        }
        fs::write(c.bundle().join("passwd"), "root:x:0:0::/from/outside:/bin/sh\n").unwrap();
        let answer = c.boot("run", &[]).answer();
        assert!(!answer.stdout.contains("outside"), "{kind}: {answer:?}");
        c.end();
    }
}

#[test]
fn capabilities_are_not_inherited() {
    // CVE-2022-29162, CVE-2022-27650: the inheritable set stays empty, in exec too.
    let c = Container::idle();
    c.boot("run", &["--detach"]).under(&["setpriv", "--inh-caps", "+chown,+net_raw"]).ok();
    let flags = ["--cap", "CAP_NET_RAW"];
    for status in [
        c.exec(&[], &["/bin/cat", "/proc/1/status"]).ok(),
        c.exec(&flags, &["/bin/cat", "/proc/self/status"]).ok(),
    ] {
        assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
    }
    c.end();
}

#[test]
fn groups_of_the_caller_of_exec_do_not_stay() {
    // CVE-2022-2989 and its like: a file may be closed to a group, which is then not to be had.
    let c = Container::idle();
    c.run_detached();
    let status = c.exec(&[], &["/bin/cat", "/proc/self/status"]);
    let status = status.under(&["setpriv", "--groups", "5,6"]).ok();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert_eq!(groups.trim(), "", "{status}");
    c.end();
}

#[test]
fn users_are_numbers_of_32_bits() {
    if peers_fail("runc 1.1 cuts large numbers") {
        return;
    }
    // CVE-2026-30892, CVE-2024-40635: what is no number of 32 bits is refused, not cut.
    let c = Container::idle();
    c.run_detached();
    for user in ["4294967296", "-1", "0x10", "1:4294967296", "1e3", ":5", "99999999999999999999"] {
        let answer = c.exec(&["--user", user], &["/bin/id", "-u"]).answer();
        assert_eq!(answer.code, 255, "{user}: {answer:?}");
    }
    assert_eq!(c.exec(&["--user", "4294967294"], &["/bin/id", "-u"]).ok(), "4294967294\n");
    c.end();
}

#[test]
fn the_callers_terminal_is_out_of_reach() {
    // CVE-2017-5226: no TIOCSTI into the caller's terminal, which is not the payload's own.
    let c = Container::sh("tty 2>&1; (: </dev/tty) 2>&1; true");
    let session = common::terminal::Session::start(c.boot("run", &[]), 24, 80);
    let (said, _) = session.end();
    assert!(said.contains("No such device or address"), "/dev/tty could be opened: {said:?}");
}

#[test]
fn init_is_out_of_reach_before_its_exec() {
    if peers_fail("runc 1.1 leaves its init dumpable") {
        return;
    }
    // A created init is not dumpable: root inside cannot look into it, though it has its ids.
    let c = Container::idle();
    c.create();
    let look = || c.exec(&[], &["/bin/readlink", "/proc/1/exe"]).answer().code;
    assert_eq!(look(), 1, "init can be looked into");
    c.start();
    eventually("the payload can be looked into", || look() == 0);
    c.end();
    // What a privileged one sees is not the host's.
    let c = Container::idle().with(privileged);
    c.create();
    let said = c.exec(&[], &["/bin/ls", "-l", "/proc/1/fd", "/proc/1/cwd/"]).answer();
    let host = fs::read_to_string("/etc/hostname").unwrap();
    assert!(!said.stdout.contains(host.trim()) || host.trim().is_empty());
    let seen = c.exec(&[], &["/bin/ls", "/proc/1/root/"]).answer().stdout;
    assert!(!seen.contains("boot"), "the host's root is in reach: {seen}");
    c.end();
}

#[test]
fn a_host_device_is_not_made_writable_by_name() {
    let c = Container::sh("chmod 600 /dev/null; stat -c %a /dev/null");
    c.boot("run", &[]).answer();
    assert_eq!(fs::metadata("/dev/null").unwrap().mode() & 0o777, 0o666);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_volume_that_swaps_a_destination() {
    // CVE-2021-30465: while containers start, a directory of the volume turns into a symlink.
    let c = Container::sh("true");
    let volume = c.bundle().join("volume");
    fs::create_dir_all(volume.join("real")).unwrap();
    let outside = c.bundle().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.join("trap")).unwrap();
    let source = volume.to_str().unwrap().to_owned();
    let c = c.mount("bind", &source, "/volume", &["bind"]).mount(
        "tmpfs",
        "tmpfs",
        "/volume/real/inner",
        &[],
    );
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [real, trap] = ["real", "trap"].map(|name| volume.join(name));
            while !done.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &real, AT_FDCWD, &trap, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for _ in 0..40 {
            c.boot("run", &[]).answer();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    eventually("nothing left", || c.leftovers().is_empty());
}

/// Through /proc/self/fd a payload opens the files that it has anew; to be given one makes it its owner's.
#[test]
fn files_of_the_caller_are_out_of_reach() {
    let script = "cat; echo said; echo OWNED >/proc/self/fd/0; echo OWNED >/proc/self/fd/1";
    for user in [0, 1000] {
        let c =
            Container::idle().with(|c| c["process"]["user"] = json!({"uid": user, "gid": user}));
        c.run_detached();
        let [given, taken] = ["given", "taken"].map(|name| c.bundle().join(name));
        let shell = "umask 077; echo mine >\"$0\"; exec \"${@:2}\" <\"$0\" >\"$1\" 2>/dev/null";
        let [from, to] = [&given, &taken].map(|path| path.to_str().unwrap());
        let once = Container::sh(script)
            .with(|c| c["process"]["user"] = json!({"uid": user, "gid": user}));
        for cmd in [c.exec(&[], &["/bin/sh", "-c", script]), once.boot("run", &[])] {
            cmd.under(&["bash", "-c", shell, from, to]).answer();
            assert_eq!(fs::read_to_string(&given).unwrap(), "mine\n", "{user}");
            assert!(fs::read_to_string(&taken).unwrap().starts_with("mine\nsaid\n"), "{user}");
            let fifo = c.bundle().join("fifo");
            Cmd::new(&["mkfifo", "-m", "600", fifo.to_str().unwrap()]).ok();
            let shell = "exec 9<>$0; timeout 20 \"$@\" >&9";
            let exec = c.exec(&[], &["/bin/true"]);
            exec.under(&["bash", "-c", shell, fifo.to_str().unwrap()]).ok();
            for path in [&given, &taken, &fifo] {
                assert_eq!(fs::metadata(path).unwrap().uid(), 0, "{}", path.display());
            }
            fs::remove_file(fifo).unwrap();
        }
        c.end();
    }
}

/// The name of the file that becomes the one with the pid can be guessed.
#[test]
fn a_link_beside_the_pid_file_is_not_followed() {
    let c = Container::idle();
    let victim = c.bundle().join("victim");
    fs::write(&victim, "whole").unwrap();
    let file = c.bundle().join("box.pid");
    let shell = "ln -s \"$0\" \"$(dirname \"$0\")/.box.pid.$$\"; exec \"$@\"";
    let run = c.boot("run", &["--detach", "--pid-file", file.to_str().unwrap()]);
    run.under(&["bash", "-c", shell, victim.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
    assert_eq!(fs::read_to_string(&file).unwrap(), c.pid().to_string());
    assert!(!file.is_symlink());
    c.end();
}
