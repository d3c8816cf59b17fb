//! AppArmor profiles and SELinux labels: enforced where the kernel has them, refused where not.

mod common;

use std::fs;
use std::path::Path;

use common::{Cmd, Container, is_tare};
use serde_json::json;

/// A profile that lets nothing be executed, so that only the transition to it lets the payload run:
/// a program that is executed in between would be stopped.
const PROFILE: &str = "\
profile tare-test-NAME flags=(attach_disconnected,mediate_deleted) {
  capability, network, signal, ptrace, unix, mount, umount, pivot_root,
  /** rwmlk,
  / r,
  deny /tmp/forbidden-NAME w,
}
";

fn load(name: &str) -> String {
    let file = std::env::temp_dir().join(format!("tare-test-profile-{name}"));
    fs::write(&file, PROFILE.replace("NAME", name)).unwrap();
    Cmd::new(&["apparmor_parser", "--replace", "--skip-cache", file.to_str().unwrap()]).ok();
    fs::remove_file(&file).unwrap();
    format!("tare-test-{name}")
}

/// Which of its files the shell may write, without executing anything.
const SCRIPT: &str = "read own </proc/self/attr/current; echo $own; \
    for f in a b; do (: >/tmp/forbidden-$f) 2>/dev/null && echo $f; done; exit 0";

#[test]
fn profiles_are_enforced() {
    let (no_apparmor, _) = absent();
    if no_apparmor {
        eprintln!("not here: this kernel has no AppArmor");
        return;
    }
    let (a, b) = (load("a"), load("b"));
    for no_new_privileges in [true, false] {
        let container = |args: &[&str]| {
            Container::new(args).with(|c| {
                c["process"]["apparmorProfile"] = json!(a);
                c["process"]["noNewPrivileges"] = json!(no_new_privileges);
            })
        };
        let said = container(&["/bin/sh", "-c", SCRIPT]).run();
        assert_eq!(said, format!("{a} (enforce)\nb\n"));
        let c = container(&["/bin/sh", "-c", "read x </dev/zero"]);
        c.run_detached();
        assert_eq!(c.exec_sh(SCRIPT), format!("{a} (enforce)\nb\n"));
        let said = c.exec(&["--apparmor", &b], &["/bin/sh", "-c", SCRIPT]).ok();
        assert_eq!(said, format!("{b} (enforce)\na\n"));
        let said = c.exec(&["--apparmor", "tare-test-none"], &["/bin/true"]).fails(255);
        assert!(said.contains("apparmor failed to apply profile") || !is_tare(), "{said}");
        c.end();
    }
    let c = Container::new(&["/bin/true"])
        .with(|c| c["process"]["apparmorProfile"] = json!("tare-test-none"));
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("apparmor failed to apply profile") || !is_tare(), "{said}");
    c.assert_nothing_left();
}

/// Labels of the policy of Debian: of a process, and of the file systems that are made for it.
#[test]
fn labels_are_enforced() {
    let (_, no_selinux) = absent();
    if no_selinux {
        eprintln!("not here: this kernel has no SELinux");
        return;
    }
    let process = "unconfined_u:unconfined_r:unconfined_t:s0";
    let of_files = "system_u:object_r:tmp_t:s0";
    let labelled = |own: &str, files: &str| {
        Container::sh("cat /proc/self/attr/current; grep ' /dev ' /proc/mounts").with(|c| {
            c["process"]["selinuxLabel"] = json!(own);
            c["linux"]["mountLabel"] = json!(files);
        })
    };
    let said = labelled(process, of_files).run();
    assert!(said.starts_with(process) && said.contains(&format!("context={of_files}")), "{said}");
    let none = "tare:has:none:s0";
    for (own, files, at) in
        [(none, of_files, "process.selinuxLabel = "), (process, none, "linux.mountLabel = ")]
    {
        let c = labelled(own, files);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(at) || !is_tare(), "{said}");
        c.assert_nothing_left();
    }
}

/// A security setting that this kernel lacks is never skipped.
#[test]
fn profiles_and_labels_are_refused_where_the_kernel_has_none() {
    let (no_apparmor, no_selinux) = absent();
    let apparmor = "apparmor: config provided but apparmor not supported";
    let selinux = "selinux is disabled or not supported";
    let cases = [
        (no_apparmor, apparmor, "process", "apparmorProfile"),
        (no_selinux, selinux, "process", "selinuxLabel"),
        (no_selinux, selinux, "linux", "mountLabel"),
    ];
    for (absent, words, object, member) in cases.into_iter().filter(|_| is_tare()) {
        if !absent {
            continue;
        }
        let c = Container::new(&["/bin/true"]).with(|c| c[object][member] = json!("some:name"));
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(words) && said.contains(&format!("{object}.{member}")), "{said}");
        c.assert_nothing_left();
    }
    let c = Container::idle();
    c.run_detached();
    for (absent, flag) in [(no_apparmor, "--apparmor"), (no_selinux, "--process-label")] {
        if absent && is_tare() {
            c.exec(&[flag, "some:name"], &["/bin/true"]).fails(255);
        }
    }
    c.end();
}

/// Whether this kernel lacks AppArmor, and SELinux. One that has been started without AppArmor
/// still tells so.
fn absent() -> (bool, bool) {
    let apparmor = fs::read("/sys/module/apparmor/parameters/enabled");
    (
        !apparmor.is_ok_and(|text| text.starts_with(b"Y")),
        !Path::new("/sys/fs/selinux/enforce").exists(),
    )
}
