//! The file system that the payload sees.

mod common;

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use common::{Cmd, Container, is_crun, is_tare, peers_fail};
use serde_json::json;

/// The line of mountinfo for a mount point, inside the container.
fn mount_line(c: &Container, point: &str) -> String {
    let table = c.exec(&[], &["/bin/cat", "/proc/self/mountinfo"]).ok();
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
    line.unwrap_or_else(|| panic!("{point} is not mounted:\n{table}")).to_owned()
}

fn options(line: &str) -> Vec<&str> {
    line.split(' ').nth(5).expect("mount options").split(',').collect()
}

fn host_dir(c: &Container, name: &str) -> String {
    let dir = c.bundle().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn the_default_mounts_are_there() {
    let c = Container::idle();
    c.run_detached();
    let kinds = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/sys", "sysfs"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ];
    for (point, kind) in kinds {
        let line = mount_line(&c, point);
        assert!(line.contains(&format!(" - {kind} ")), "{line}");
    }
    assert!(options(&mount_line(&c, "/sys")).contains(&"ro"));
    for flag in ["nosuid", "nodev", "noexec"] {
        assert!(options(&mount_line(&c, "/dev/shm")).contains(&flag), "{flag}");
    }
    assert_eq!(c.exec_sh("stat -c %a /dev /dev/shm"), "755\n1777\n");
    c.end();
}

#[test]
fn the_container_sees_its_own_cgroups() {
    // On v2 its namespace is what limits the view, on v1 it is the mount.
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let c = Container::idle().with(|c| {
        if v2 {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        }
    });
    c.run_detached();
    c.exec(&[], &["/bin/mkdir", "/sys/fs/cgroup/new"]).fails(1);
    let own = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    assert_eq!(c.exec_sh(&format!("cat {own}/cgroup.procs")).lines().next(), Some("1"));
    c.exec(&[], &["/bin/mkdir", &format!("{own}/sub")]).fails(1);
    c.end();
}

#[test]
fn mounts_are_made_below_read_only_cgroups_of_v1() {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return;
    }
    let script = "cd /sys/fs/cgroup && cat bound/file && touch new/file && echo made; \
                  for file in here pids/sub bound/file; do mkdir $file 2>&-; touch $file; done; :";
    for namespaced in [false, true] {
        let c = Container::sh(script);
        let source = host_dir(&c, "data");
        std::fs::write(format!("{source}/file"), "text\n").unwrap();
        let c = if namespaced { c.new_namespace("cgroup") } else { c };
        let c = c.mount("bind", &source, "/sys/fs/cgroup/bound", &["rbind", "ro"]).mount(
            "tmpfs",
            "tmpfs",
            "/sys/fs/cgroup/new",
            &[],
        );
        let answer = c.boot("run", &[]).answer();
        assert_eq!(answer.stdout, "text\nmade\n", "{answer:?}");
        assert_eq!(answer.stderr.matches("Read-only file system").count(), 3, "{answer:?}");
    }
}

#[test]
fn what_a_cgroup_namespace_mounts_has_a_name() {
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let c = Container::idle().new_namespace("cgroup");
    c.run_detached();
    let own = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let line = mount_line(&c, own);
    let kind = if v2 { "cgroup2" } else { "cgroup" };
    assert!(line.contains(&format!(" - {kind} cgroup ")), "{line}");
    c.end();
}

#[test]
fn the_root_is_the_containers_alone() {
    let said = Container::sh("ls /; readlink /proc/self/root; ls /..").run();
    let names = "bin\ndev\netc\nproc\nroot\nsys\ntmp\n";
    assert_eq!(said, format!("{names}/\n{names}"));
}

#[test]
fn a_read_only_root() {
    let c = Container::sh("touch /f 2>&1; touch /dev/shm/f && echo shm")
        .with(|c| c["root"]["readonly"] = json!(true));
    let said = c.run();
    assert!(said.contains("Read-only file system") && said.ends_with("shm\n"), "{said}");
    assert!(!c.rootfs().join("f").exists());
}

#[test]
fn bind_mounts_and_their_flags() {
    let c = Container::idle();
    let source = host_dir(&c, "data");
    std::fs::write(format!("{source}/file"), "text").unwrap();
    let c = c
        .mount("bind", &source, "/ro", &["bind", "ro"])
        .mount("bind", &source, "/rw", &["rbind", "nosuid", "nodev", "noexec", "noatime"])
        .mount("bind", &format!("{source}/file"), "/deep/down/file", &["bind", "ro"]);
    c.run_detached();
    c.exec(&[], &["/bin/touch", "/ro/new"]).fails(1);
    assert_eq!(c.exec_sh("touch /rw/new; cat /deep/down/file"), "text");
    assert!(std::path::Path::new(&source).join("new").exists());
    let line = mount_line(&c, "/rw");
    for flag in ["nosuid", "nodev", "noexec", "noatime", "rw"] {
        assert!(options(&line).contains(&flag), "{flag}: {line}");
    }
    c.exec(&[], &["/bin/sh", "-c", "echo x >/deep/down/file"]).fails(1);
    c.end();
}

#[test]
fn relative_bind_sources_are_the_bundles() {
    let c = Container::sh("cat /data/file");
    std::fs::write(format!("{}/file", host_dir(&c, "data")), "here").unwrap();
    assert_eq!(c.mount("bind", "data", "/data", &["bind"]).run(), "here");
}

#[test]
fn rbind_takes_submounts_and_bind_does_not() {
    let c = Container::sh("ls /one/sub; echo -; ls /all/sub");
    let source = host_dir(&c, "tree");
    host_dir(&c, "tree/sub");
    let c = c.mount("bind", &source, "/one", &["bind"]).mount("bind", &source, "/all", &["rbind"]);
    let script =
        format!("mount -t tmpfs t {source}/sub && touch {source}/sub/inner && exec \"$@\"");
    let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    assert_eq!(c.boot("run", &[]).under(&private).ok(), "-\ninner\n");
    if peers_fail("crun takes the last word") {
        return;
    }
    // As flags of mount(2), which are or-ed.
    let c = Container::sh("ls /one/sub");
    let c = c.mount("bind", &source, "/one", &["rbind", "bind"]);
    assert_eq!(c.boot("run", &[]).under(&private).ok(), "inner\n");
}

#[test]
fn hundreds_of_mounts_and_paths_need_few_descriptors() {
    let script = "grep -c ' /many/' /proc/self/mountinfo; ulimit -n";
    let c = Container::sh(script).with(|c| {
        c["process"]["rlimits"] = json!([]);
        c["linux"]["maskedPaths"] = (0..300).map(|i| json!(format!("/many/m{i}"))).collect();
        c["linux"]["readonlyPaths"] = (0..300).map(|i| json!(format!("/many/r{i}"))).collect();
        let bind = |i| {
            json!({"destination": format!("/many/b{i}"), "type": "bind",
            "source": "shared", "options": ["bind", "ro"]})
        };
        c["mounts"].as_array_mut().unwrap().extend((0..300).map(bind));
    });
    std::fs::create_dir(c.rootfs().join("many")).unwrap();
    for i in 0..300 {
        std::fs::write(c.rootfs().join(format!("many/m{i}")), "").unwrap();
        std::fs::create_dir(c.rootfs().join(format!("many/r{i}"))).unwrap();
    }
    let limited = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];
    assert_eq!(c.boot("run", &[]).under(&limited).ok(), "900\n256\n");
    c.assert_nothing_left();
}

#[test]
fn propagation_modes() {
    let modes = [
        ("rprivate", None),
        ("rshared", Some("shared:")),
        ("rslave", None),
        ("unbindable", Some("unbindable")),
        ("private", None),
        ("shared", Some("shared:")),
    ];
    for (mode, mark) in modes {
        let c = Container::idle();
        let source = host_dir(&c, "data");
        let c = c.mount("bind", &source, "/data", &["bind", mode]);
        c.run_detached();
        let line = mount_line(&c, "/data");
        let tags: Vec<_> = line.split(" - ").next().unwrap().split(' ').skip(6).collect();
        match mark {
            Some(mark) => assert!(tags.iter().any(|tag| tag.starts_with(mark)), "{mode}: {line}"),
            None => assert!(!tags.iter().any(|tag| tag.starts_with("shared")), "{mode}: {line}"),
        }
        c.end();
    }
}

#[test]
fn mounts_inside_do_not_reach_the_host() {
    let c = Container::sh("mount -t tmpfs t /tmp && touch /tmp/inner && ls /tmp").with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    assert_eq!(c.run(), "inner\n");
    c.assert_nothing_left();
}

#[test]
fn tmpfs_takes_size_and_mode() {
    let c =
        Container::idle().mount("tmpfs", "tmpfs", "/scratch", &["size=1m", "mode=1750", "nosuid"]);
    c.run_detached();
    assert_eq!(c.exec_sh("stat -c %a /scratch"), "1750\n");
    let said = c.exec(&[], &["dd", "if=/dev/zero", "of=/scratch/f", "bs=1M", "count=2"]).fails(1);
    assert!(said.contains("No space left on device"), "{said}");
    c.end();
}

#[test]
fn a_tmpfs_on_nothing_is_everyones() {
    let c = Container::sh("stat -c %a /etc/new /etc/copied");
    let c = c.mount("tmpfs", "tmpfs", "/etc/new", &[]);
    assert_eq!(c.mount("tmpfs", "tmpfs", "/etc/copied", &["tmpcopyup"]).run(), "1777\n1777\n");
}

#[test]
fn tmpfs_keeps_the_mode_of_what_it_covers() {
    for mode in ["711", "1750"] {
        let c = Container::sh("stat -c %a /data; mount | grep -c 'on /data type tmpfs'");
        let c = c.mount("tmpfs", "tmpfs", "/data", &["size=1m"]);
        std::fs::create_dir(c.rootfs().join("data")).unwrap();
        Cmd::new(&["chmod", mode, &c.rootfs().join("data").to_string_lossy()]).ok();
        assert_eq!(c.run(), format!("{mode}\n1\n"));
    }
}

#[test]
fn mounts_follow_each_other_in_order() {
    let c = Container::sh("ls /a /a/b; cat /a/b/file");
    let source = host_dir(&c, "data");
    std::fs::write(format!("{source}/file"), "in order").unwrap();
    let c = c.mount("tmpfs", "tmpfs", "/a", &[]).mount("bind", &source, "/a/b", &["bind"]);
    assert_eq!(c.run(), "/a:\nb\n\n/a/b:\nfile\nin order");
}

#[test]
fn symlinks_in_destinations_stay_beneath_the_root() {
    let c = Container::sh("ls /real/place; ls /abs/place");
    symlink("/real", c.rootfs().join("abs")).unwrap();
    symlink("../../../../../real", c.rootfs().join("up")).unwrap();
    let source = host_dir(&c, "data");
    std::fs::write(format!("{source}/file"), "").unwrap();
    let c = c.mount("bind", &source, "/up/place", &["bind"]);
    assert_eq!(c.run(), "file\nfile\n");
    assert!(!std::path::Path::new("/real").exists());
}

#[test]
fn a_link_may_lead_up_from_what_is_missing() {
    let c = Container::sh("cat /new/file");
    symlink("/new/no/../file", c.rootfs().join("link")).unwrap();
    std::fs::write(c.shared().join("file"), "mine\n").unwrap();
    assert_eq!(c.mount("bind", "shared/file", "/link", &["bind"]).run(), "mine\n");
}

/// Without any mount on /dev, or below.
fn with_dev_of_the_image(c: Container) -> Container {
    c.with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    })
}

#[test]
fn dev_may_be_a_link_in_the_image() {
    if peers_fail("Debian's runc looks for it at the host") {
        return;
    }
    let script = "cat /etc/passwd && echo x >/dev/null && readlink /dev/ptmx";
    for mounted in [true, false] {
        let c = Container::sh(script)
            .with(|c| c["linux"]["maskedPaths"] = json!(["/etc/passwd", "/etc/group"]));
        let c = if mounted { c } else { with_dev_of_the_image(c) };
        let dev = c.rootfs().join("dev");
        std::fs::rename(&dev, c.rootfs().join("real")).unwrap();
        symlink("/real", &dev).unwrap();
        for _ in 0..2 {
            assert_eq!(c.run(), "pts/ptmx\n", "{mounted}");
        }
        // What the device itself is, is not for the image to say (CVE-2025-31133).
        if !mounted {
            std::fs::remove_file(c.rootfs().join("real/null")).unwrap();
            symlink("/etc/shadow", c.rootfs().join("real/null")).unwrap();
            let said = c.boot("run", &[]).fails(1);
            assert!(said.contains("/dev/null (1:3): too many levels of symbolic links"), "{said}");
        }
        c.assert_nothing_left();
    }
}

#[test]
fn the_multiplexer_of_an_image_is_replaced() {
    let own = "pts/ptmx\n";
    let c = with_dev_of_the_image(Container::sh("readlink /dev/ptmx || stat -c %t:%T /dev/ptmx"));
    let path = c.rootfs().join("dev/ptmx");
    std::fs::write(&path, "").unwrap();
    assert_eq!(c.run(), own);
    assert_eq!(c.run(), own);
    std::fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert_eq!(c.run(), own);
    assert!(c.rootfs().join("etc/passwd").exists());
    std::fs::remove_file(&path).unwrap();
    if peers_fail("they remove a device, too, which may be the host's, and no mount") {
        return;
    }
    Cmd::new(&["mknod", "-m", "666", &path.to_string_lossy(), "c", "5", "2"]).ok();
    assert_eq!(c.run(), "5:2\n");
    let c = c.mount("bind", "/dev/null", "/dev/ptmx", &["bind"]);
    assert_eq!(c.run(), "1:3\n");
}

#[test]
fn masked_and_read_only_paths() {
    let c = Container::idle().with(|c| {
        c["linux"]["maskedPaths"] = json!(["/etc/passwd", "/root", "/proc/keys", "/no/such"]);
        c["linux"]["readonlyPaths"] = json!(["/etc", "/proc/sys", "/no/such"]);
    });
    std::fs::write(c.rootfs().join("root/secret"), "").unwrap();
    c.run_detached();
    assert_eq!(
        c.exec_sh("cat /etc/passwd /proc/keys; ls -A /root; test -c /etc/passwd; echo $?"),
        "0\n"
    );
    let said = c.exec(&[], &["/bin/touch", "/root/f"]).fails(1);
    assert!(said.contains("Read-only"), "{said}");
    let said = c.exec(&[], &["/bin/touch", "/etc/f"]).fails(1);
    assert!(said.contains("Read-only"), "{said}");
    c.exec(&[], &["/bin/sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]).fails(1);
    c.end();
}

#[test]
fn a_file_is_masked_after_dev() {
    let c = Container::sh("ls /dev; cat /etc/passwd; echo end")
        .with(|c| c["linux"]["maskedPaths"] = json!(["/dev/", "/etc/passwd", "/etc/group"]));
    assert_eq!(c.run(), "end\n");
}

#[test]
fn the_root_is_a_read_only_path() {
    for path in ["/", "/.//", "/etc/.."] {
        let script = "for file in /f /dev/shm/f; do touch $file && echo written; done; :";
        let c = Container::sh(script).with(|c| {
            c["linux"]["readonlyPaths"] = json!([path]);
            c["root"]["readonly"] = json!(false);
        });
        assert_eq!(c.run(), "", "{path}");
    }
}

#[test]
fn masked_directories_share_one_file_system() {
    // One super block each would be a burden on a host with many containers.
    if peers_fail("runc 1.1 mounts a tmpfs for each") {
        return;
    }
    let paths = ["/root", "/tmp", "/proc/sys"];
    let c = Container::new(&["/bin/stat", "-c", "%d"]).with(|c| {
        c["process"]["args"].as_array_mut().unwrap().extend(paths.map(|path| json!(path)));
        c["linux"]["maskedPaths"] = json!(paths);
        c["linux"]["readonlyPaths"] = json!([]);
    });
    let said = c.run();
    let devices: Vec<_> = said.lines().collect();
    assert!(devices.len() == 3 && devices.iter().all(|device| *device == devices[0]), "{said}");
}

#[test]
fn default_devices_and_links() {
    // Podman lists those of the host for a privileged container.
    let c = Container::idle().with(|c| {
        c["linux"]["devices"] =
            json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666}]);
    });
    c.run_detached();
    let nodes = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    for (name, number) in nodes {
        let said = c.exec_sh(&format!("stat -c %F:%t:%T:%a /dev/{name}"));
        assert_eq!(said, format!("character special file:{number}:666\n"), "{name}");
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("ptmx", "pts/ptmx"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        assert_eq!(c.exec_sh(&format!("readlink /dev/{name}")), format!("{target}\n"));
    }
    let core = if Path::new("/proc/kcore").exists() { "/proc/kcore\n" } else { "" };
    assert_eq!(c.exec_sh("readlink /dev/core || true"), core);
    assert_eq!(
        c.exec_sh("echo x >/dev/null; dd if=/dev/zero bs=4 count=1 2>/dev/null | wc -c"),
        "4\n"
    );
    c.end();
}

#[test]
fn listed_devices_have_their_owner_and_mode() {
    let c = Container::idle().with(|c| {
        c["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640,
                "uid": 12, "gid": 34},
            {"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 9}]);
    });
    c.run_detached();
    let said = c.exec_sh("cd /dev; stat -c %F:%t:%T:%a:%u:%g mine deep/pipe disk");
    assert_eq!(
        said,
        "character special file:1:3:640:12:34\nfifo:0:0:600:0:0\n\
                      block special file:7:9:666:0:0\n"
    );
    c.end();
}

/// As with `podman run -v /dev/urandom:/dev/random`; what is bound is the host's.
#[test]
fn a_mount_stays_where_a_device_would_be() {
    let c =
        Container::sh("stat -c '%t:%T' /dev/random /dev/hd/a; cat /dev/full; stat -c %u /dev/hd/b");
    let hd = host_dir(&c, "hd");
    let plain = c.bundle().join("plain");
    std::fs::write(&plain, "plain\n").unwrap();
    for name in ["a", "b"] {
        Cmd::new(&["mknod", "-m", "600", &format!("{hd}/{name}"), "c", "1", "5"]).ok();
    }
    let device = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o666, "uid": 7, "gid": 7});
    let c = c
        .mount("bind", "/dev/urandom", "/dev/random", &["bind"])
        .mount("bind", plain.to_str().unwrap(), "/dev/full", &["bind"])
        .mount("bind", &hd, "/dev/hd", &["rbind"])
        .mount("bind", "/dev/null", "/dev/hd/a", &["bind"])
        .with(|c| c["linux"]["devices"] = json!([device("/dev/hd/a", 5), device("/dev/hd/b", 5)]));
    assert_eq!(c.run(), "1:9\n1:3\nplain\n0\n");
    let host = std::fs::metadata(format!("{hd}/b")).unwrap();
    assert_eq!((host.uid(), host.gid(), host.mode() & 0o777), (0, 0, 0o600));
    c.assert_nothing_left();
    if is_tare() {
        let c = c.with(|c| c["linux"]["devices"] = json!([device("/dev/hd/b", 3)]));
        assert!(c.boot("run", &[]).fails(1).contains("linux.devices[0]"));
    }
}

#[test]
fn device_rules_hold() {
    let devices = json!([{"path": "/dev/denied", "type": "c", "major": 1, "minor": 1},
        {"path": "/dev/loop9", "type": "c", "major": 10, "minor": 237}]);
    let c = Container::idle().with(|c| {
        c["linux"]["devices"] = devices;
        c["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"}]);
    });
    c.run_detached();
    let said = c.exec(&[], &["/bin/sh", "-c", "exec </dev/denied"]).answer();
    assert!(said.stderr.contains("Operation not permitted"), "{said:?}");
    c.exec(&[], &["/bin/sh", "-c", "exec </dev/loop9"]).ok();
    let said = c.exec(&[], &["/bin/sh", "-c", "exec >/dev/loop9"]).answer();
    assert!(said.stderr.contains("Operation not permitted"), "{said:?}");
    c.end();
}

#[test]
fn mount_points_are_made_and_stay() {
    let c = Container::new(&["/bin/true"]).mount("tmpfs", "tmpfs", "/new/deep", &[]);
    c.run();
    let made = c.rootfs().join("new/deep");
    assert_eq!(std::fs::metadata(made).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_missing_source_is_named() {
    let c = Container::new(&["/bin/true"]).mount("bind", "/no/such/source", "/data", &["bind"]);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(
        said.contains("no such file or directory") && said.contains("/no/such/source"),
        "{said}"
    );
    c.assert_nothing_left();
}

#[test]
fn files_and_directories_do_not_cover_each_other() {
    let file = Container::new(&["/bin/true"]).mount("bind", "config.json", "/etc", &["bind"]);
    let directory = Container::new(&["/bin/true"]).mount("bind", "shared", "/bin/cat", &["rbind"]);
    for c in [file, directory] {
        let said = c.boot("run", &[]).fails(1).to_lowercase();
        assert!(said.contains("not a directory"), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_mount_on_the_root_takes_its_place() {
    for read_only in [false, true] {
        let c = Container::sh("ls /; touch /new; test -c /dev/null && echo null").with(|c| {
            c["root"]["readonly"] = json!(read_only);
            let root = json!({"destination": "/", "type": "bind", "source": "other",
                "options": ["rbind"]});
            c["mounts"].as_array_mut().unwrap().insert(0, root);
        });
        let other = c.bundle().join("other");
        Cmd::new(&["cp", "-a", &c.rootfs().to_string_lossy(), &other.to_string_lossy()]).ok();
        std::fs::create_dir(other.join("mine")).unwrap();
        let answer = c.boot("run", &[]).answer();
        assert_eq!(answer.stdout, "bin\ndev\netc\nmine\nproc\nroot\nsys\ntmp\nnull\n");
        assert_eq!(answer.stderr.contains("Read-only"), read_only, "{answer:?}");
        assert_eq!(other.join("new").exists(), !read_only);
        assert!(!c.rootfs().join("new").exists());
        c.assert_nothing_left();
    }
}

#[test]
fn a_bind_mount_has_no_words_for_a_file_system() {
    if peers_fail("crun and Debian's runc ignore them") {
        return;
    }
    let refused = "bind mounts cannot have any filesystem-specific options applied";
    for word in ["readonly", "RO", "ro,nosuid", "z", "acl"] {
        for first in ["bind", "remount"] {
            let c = Container::new(&["/bin/true"]).mount("bind", "shared", "/m", &["bind"]);
            let c = c.mount("bind", "shared", "/m", &[first, "rbind", "ro", word]);
            let said = c.boot("run", &[]).fails(1);
            assert!(said.contains(refused) && said.contains("mounts[8].options[3]"), "{said}");
            assert!(said.contains(&format!("hint: {word:?} is none of")), "{said}");
            c.assert_nothing_left();
        }
    }
    let passed = [
        "bind", "ro", "", "defaults", "sync", "async", "dirsync", "mand", "lazytime", "iversion",
        "silent", "loud",
    ];
    let c = Container::sh("grep ' /m ' /proc/mounts").mount("bind", "shared", "/m", &passed);
    let answer = c.boot("run", &[]).answer();
    assert!(answer.stdout.contains(" ro,") && answer.stderr.is_empty(), "{answer:?}");
    // Values cannot be meant for the mount.
    let c = Container::sh("grep ' /m ' /proc/mounts").mount(
        "bind",
        "shared",
        "/m",
        &["ro", "mode=755"],
    );
    let answer = c.boot("run", &[]).answer();
    let told = "mounts[7].options[1]: \\\"mode=755\\\" is for a file system";
    assert!(answer.stdout.contains(" ro,") && answer.stderr.contains(told), "{answer:?}");
}

#[test]
fn a_destination_is_what_its_words_say() {
    let c = Container::sh("ls -d /none; grep -c ' /mnt ' /proc/self/mountinfo");
    let said = c.mount("tmpfs", "t", "/none/../mnt", &[]).boot("run", &[]).answer();
    assert_eq!((said.code, said.stdout.as_str()), (0, "1\n"), "{said:?}");
    if peers_fail("Debian's runc covers directories below /proc") {
        return;
    }
    // No way around the checks of /proc: a pod's volume may have any path (CVE-2019-16884).
    for place in ["/tmp/../proc", "/tmp/../proc/sys", "../proc/sys", "/./proc/sys/"] {
        let c = Container::new(&["/bin/true"]).mount("tmpfs", "t", place, &[]);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains("cannot be mounted because it is inside /proc"), "{place}: {said}");
    }
}

#[test]
fn files_of_proc_that_inform_are_covered_and_no_others() {
    for file in ["uptime", "loadavg", "stat", "meminfo", "cpuinfo", "diskstats", "swaps"] {
        let c = Container::sh(&format!("cat /proc/{file}"));
        std::fs::write(c.shared().join("file"), "mine\n").unwrap();
        let c = c.mount("bind", "shared/file", &format!("/proc/{file}"), &["bind"]);
        assert_eq!(c.run(), "mine\n", "{file}");
    }
    let refused = "cannot be mounted because it is inside /proc";
    for (kind, file) in [
        ("bind", "cgroups"),
        ("bind", "self/attr/current"),
        ("bind", "1/status"),
        ("bind", "net/dev"),
        ("bind", "sys/kernel/core_pattern"),
        ("tmpfs", "sys"),
        ("tmpfs", "self/../sys"),
    ] {
        let c = Container::new(&["/bin/true"]);
        std::fs::write(c.shared().join("file"), "").unwrap();
        if kind == "tmpfs" && peers_fail("Debian's runc covers directories below /proc") {
            continue;
        }
        let options: &[&str] = if kind == "bind" { &["bind"] } else { &[] };
        let c = c.mount(kind, "shared/file", &format!("/proc/{file}"), options);
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(refused), "{file}: {said}");
        c.assert_nothing_left();
    }
}

#[test]
fn wrong_options_are_refused() {
    let c = Container::new(&["/bin/true"]).mount("tmpfs", "tmpfs", "/data", &["size=banana"]);
    let said = c.boot("run", &[]).fails(1).to_lowercase();
    assert!(said.contains("invalid argument"), "{said}");
    if is_tare() {
        assert!(said.contains("mounts[7].options[0]"), "{said}");
        assert!(said.contains("kernel: "), "{said}");
    }
    c.assert_nothing_left();
}

#[test]
fn no_pivot_works_on_a_root_that_cannot_be_pivoted() {
    let c = Container::sh("ls /; ls /.. | wc -l");
    let said = c.boot("run", &["--no-pivot"]).ok();
    assert!(said.starts_with("bin\n") && said.ends_with("7\n"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn an_overlay_is_a_mount_like_any_other() {
    let c = Container::sh("cat /merged/low; echo new >/merged/up");
    let dirs = ["low", "up", "work"].map(|name| host_dir(&c, name));
    std::fs::write(format!("{}/low", dirs[0]), "low\n").unwrap();
    let data = [
        format!("lowerdir={}", dirs[0]),
        format!("upperdir={}", dirs[1]),
        format!("workdir={}", dirs[2]),
    ];
    let data: Vec<_> = data.iter().map(String::as_str).collect();
    let c = c.mount("overlay", "overlay", "/merged", &data);
    assert_eq!(c.run(), "low\n");
    assert_eq!(std::fs::read_to_string(format!("{}/up", dirs[1])).unwrap(), "new\n");
}

/// Values that are longer than those of fsconfig(2), and all options in one string: mount(2) takes both.
#[test]
fn an_overlay_may_have_many_layers_and_long_paths() {
    let c = Container::sh(
        "cat /merged/[0-9]*; echo new >/merged/up && stat -c %a /merged; grep -c /merged /proc/mounts",
    );
    let layers: Vec<_> = (0..9).map(|i| host_dir(&c, &format!("{i}{}", "l".repeat(60)))).collect();
    for (i, dir) in layers.iter().enumerate() {
        std::fs::write(format!("{dir}/{i}"), format!("{i}\n")).unwrap();
    }
    let upper = host_dir(&c, &format!("{}/{}", "u".repeat(200), "p".repeat(200)));
    let work = host_dir(&c, "work");
    let layers = format!("xino=off,lowerdir={}", layers.join(":"));
    let rest = [format!("upperdir={upper}"), format!("workdir={work}")];
    let c =
        c.mount("overlay", "overlay", "/merged", &[&layers, &rest[0], &rest[1], "nosuid", "async"]);
    assert_eq!(c.run(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n755\n1\n");
    assert_eq!(std::fs::read_to_string(format!("{upper}/up")).unwrap(), "new\n");
    c.assert_nothing_left();
}

/// An overlay of `low`, named so that it fills `length` bytes, and another directory.
fn long_overlay(low: &str, length: usize) -> Container {
    let c = Container::sh("touch /merged/x 2>/dev/null || cat /proc/mounts");
    let dirs = [host_dir(&c, low), host_dir(&c, "other")];
    let rest = length - dirs[0].len();
    let layers = format!("lowerdir={}{}:{}", dirs[0], "/.".repeat(rest / 2), dirs[1]);
    c.mount("overlay", "overlay", "/merged", &["ro", "nosuid", &layers])
}

#[test]
fn long_options_have_flags_and_bounds() {
    let said = long_overlay("low", 1000).run();
    let line = said.lines().find(|line| line.contains(" /merged ")).expect("the mount");
    assert!(line.starts_with("overlay /merged overlay ro,nosuid"), "{line}");
    if !is_tare() {
        return;
    }
    let c = long_overlay("low", 4096);
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("less than 4096 bytes") && said.contains("mounts["), "{said}");
    c.assert_nothing_left();
    let c = long_overlay("low", 1000);
    std::fs::remove_dir(c.bundle().join("low")).unwrap();
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("no such file or directory") && said.contains(".options"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn host_paths_stay_as_they_were() {
    let before = std::fs::metadata("/dev/null").unwrap();
    let c = Container::new(&["/bin/true"]);
    c.run();
    let after = std::fs::metadata("/dev/null").unwrap();
    assert!(after.file_type().is_char_device());
    assert_eq!((before.mode(), before.rdev()), (after.mode(), after.rdev()));
    Cmd::new(&["test", "-c", "/dev/null"]).ok();
}

#[test]
fn a_tmpfs_begins_with_a_copy() {
    let script = "stat -c '%a %u:%g' /etc/d /etc/d/f; cat /etc/d/f /etc/d/link; echo new >/etc/d/f; \
                  test -p /etc/d/fifo && echo fifo";
    let c = Container::sh(script).mount("tmpfs", "tmpfs", "/etc/d", &["tmpcopyup", "size=1m"]);
    let dir = c.rootfs().join("etc/d");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("f"), "old\n").unwrap();
    std::os::unix::fs::chown(dir.join("f"), Some(7), Some(8)).unwrap();
    Cmd::new(&["chmod", "6756"]).args(&[dir.join("f").to_str().unwrap()]).ok();
    Cmd::new(&["chmod", "1711"]).args(&[dir.to_str().unwrap()]).ok();
    Cmd::new(&["mkfifo"]).args(&[dir.join("fifo").to_str().unwrap()]).ok();
    symlink("f", dir.join("link")).unwrap();
    assert_eq!(c.run(), "1711 0:0\n6756 7:8\nold\nold\nfifo\n");
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "old\n");
}

#[test]
fn a_tmpfs_with_a_copy_has_the_mode_and_owner_that_are_asked_for() {
    for (option, seen) in [("mode=1777", "1777 0:0"), ("uid=5", "755 5:0"), ("size=1m", "755 7:8")]
    {
        let c = Container::sh("stat -c '%a %u:%g' /etc/d; ls /etc/d");
        let c = c.mount("tmpfs", "tmpfs", "/etc/d", &["tmpcopyup", option]);
        let dir = c.rootfs().join("etc/d");
        std::fs::create_dir_all(dir.join("f")).unwrap();
        std::os::unix::fs::chown(&dir, Some(7), Some(8)).unwrap();
        Cmd::new(&["chmod", "755"]).args(&[dir.to_str().unwrap()]).ok();
        assert!(c.run() == format!("{seen}\nf\n") || !is_tare(), "{option}");
    }
}

#[test]
fn a_copy_that_is_too_large_is_refused() {
    let c = Container::sh("true").mount("tmpfs", "tmpfs", "/etc/d", &["tmpcopyup", "size=64k"]);
    let dir = c.rootfs().join("etc/d");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("f"), vec![1; 1 << 20]).unwrap();
    let said = c.boot("run", &[]).fails(1);
    assert!(said.to_lowercase().contains("no space left on device"), "{said}");
    c.assert_nothing_left();
}

/// A sparse file costs an image nothing.
#[test]
fn a_copy_counts_as_the_containers_memory() {
    let c = Container::sh("true").mount("tmpfs", "tmpfs", "/etc/d", &["tmpcopyup"]);
    // A machine with cgroup v2 may have a swap to evade to.
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let c = c.with(|c| {
        c["linux"]["resources"] = json!({"memory": {"limit": 32 << 20}});
        if v2 {
            c["linux"]["resources"]["memory"]["swap"] = json!(32 << 20);
        }
    });
    let dir = c.rootfs().join("etc/d");
    std::fs::create_dir_all(&dir).unwrap();
    let file = std::fs::File::create(dir.join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    c.boot("run", &[]).fails(1);
    c.assert_nothing_left();
    file.set_len(1 << 20).unwrap();
    c.run();
}

#[test]
fn a_shared_bind_mount_of_a_shared_root_shares_its_mounts_with_the_host() {
    let cases = [
        ("shared", "rshared", true),
        ("rshared", "shared", true),
        // Not unless it is asked for: what is mounted and masked below it would be so on the host.
        ("rshared", "rw", false),
        ("shared", "rslave", false),
        ("shared", "rprivate", false),
        ("", "rshared", false),
        ("rslave", "rshared", false),
        ("rprivate", "shared", false),
    ];
    for (root, option, shares) in cases {
        let c = Container::sh("mkdir /m/sub && mount -t tmpfs inner /m/sub");
        let source = host_dir(&c, "source");
        let c = c.mount("bind", &source, "/m", &["rbind", option]).with(|c| {
            c["linux"]["rootfsPropagation"] = json!(root);
            for set in ["bounding", "effective", "permitted"] {
                c["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
            }
        });
        // In a mount namespace of its own, whose mounts nobody else sees.
        let script = format!(
            "mount -t tmpfs outer {source} && mount --make-shared {source} && \"$@\" && \
             ! grep -q ' {source}/sub .* inner ' /proc/self/mountinfo; echo shares: $?"
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let said = c.boot("run", &[]).under(&unshare).ok();
        assert_eq!(said, format!("shares: {}\n", i32::from(shares)), "{root} {option}");
    }
}

#[test]
fn a_shared_bind_mount_receives_from_the_host_alone() {
    for (option, kind) in [("rshared", "rbind"), ("shared", "bind")] {
        let c = Container::sh(
            "grep ' /m ' /proc/self/mountinfo; touch /m/go; until [ -e /m/sub/there ]; do :; done",
        );
        let source = host_dir(&c, "source");
        let c = c.mount(kind, &source, "/m", &[kind, option]);
        let script = format!(
            "mount -t tmpfs outer {source} && mount --make-shared {source} && mkdir {source}/sub || \
             exit 1; (until [ -e {source}/go ]; do sleep 0.01; done; mount -t tmpfs t {source}/sub; \
              touch {source}/sub/there) & \"$@\""
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let line = c.boot("run", &[]).under(&unshare).ok();
        assert!(line.contains(" shared:") && line.contains(" master:"), "{option}: {line}");
    }
}

/// The propagation of the root is not that of a mount which asks for its own.
#[test]
fn a_private_root_leaves_mounts_the_propagation_that_they_ask_for() {
    let cases = [
        ("private", "rslave", true, ["", "master:"]),
        ("private", "rshared", true, ["shared:", "master:"]),
        ("private", "rprivate", false, ["", ""]),
        ("rprivate", "rshared", false, ["shared:", ""]),
        ("rprivate", "shared", false, ["shared:", ""]),
        ("rprivate", "unbindable", false, ["unbindable", ""]),
        ("rprivate", "rslave", false, ["", ""]),
    ];
    for (root, option, receives, marks) in cases {
        if root == "private" && option == "rshared" && !is_tare() {
            continue; // runc shares it with the host.
        }
        let c = Container::sh(
            "touch /shared/up; until [ -e /shared/late ]; do :; done; ls /m/sub; \
             mount -t tmpfs inner /m/sub; grep ' /m ' /proc/self/mountinfo",
        );
        let (source, shared) = (host_dir(&c, "source"), c.shared());
        let shared = shared.to_str().unwrap();
        let c = c.share().mount("bind", &source, "/m", &["rbind", option]).with(|c| {
            c["linux"]["rootfsPropagation"] = json!(root);
            for set in ["bounding", "effective", "permitted"] {
                c["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
            }
        });
        let script = format!(
            "mount -t tmpfs outer {source} && mount --make-shared {source} && mkdir {source}/sub || \
             exit 1; (until [ -e {shared}/up ]; do sleep 0.01; done; mount -t tmpfs t {source}/sub; \
              touch {source}/sub/there {shared}/late) & \"$@\"; wait; \
             ! grep -q ' {source}/sub .* inner ' /proc/self/mountinfo"
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let said = c.boot("run", &[]).under(&unshare).ok();
        assert_eq!(said.starts_with("there\n"), receives, "{root} {option}: {said}");
        for (mark, name) in marks.iter().zip(["shared:", "master:"]) {
            assert!(said.contains(mark), "{root} {option}: {said}");
            assert!(!mark.is_empty() || !said.contains(name), "{root} {option}: {said}");
        }
    }
}

#[test]
fn a_root_on_a_shared_mount_receives_nothing_afterwards() {
    if peers_fail("runc 1.1 leaves the root a slave of the host's, runc 1.3 does not") {
        return;
    }
    // Docker's data root is shared, and an older docker cp mounts volumes there for a while.
    for word in ["", "rslave", "rshared"] {
        let c = Container::sh(
            "touch /shared/up; until [ -e /shared/late ]; do :; done; cat /proc/self/mountinfo",
        );
        let c = c.share().with(|c| c["linux"]["rootfsPropagation"] = json!(word));
        let (root, shared) = (c.rootfs(), c.shared());
        let (root, shared) = (root.to_str().unwrap(), shared.to_str().unwrap());
        std::fs::create_dir(c.rootfs().join("volume")).unwrap();
        let script = format!(
            "mount --bind {root} {root} && mount --make-shared {root} || exit 1; \
             (until [ -e {shared}/up ]; do sleep 0.01; done; \
              mount -t tmpfs t {root}/volume; touch {shared}/late) & \"$@\"; kill $! 2>&-; :"
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let said = c.boot("run", &[]).under(&unshare).ok();
        assert!(said.contains(" /proc ") && !said.contains(" /volume "), "{word}: {said}");
    }
}

#[test]
fn an_empty_root_propagation_is_none() {
    let c = Container::sh("echo here").with(|c| c["linux"]["rootfsPropagation"] = json!(""));
    assert_eq!(c.run(), "here\n");
}

/// The kernel's version, such as 6 and 1.
fn linux() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Linux 6.8 to 6.14 list mounts by age, and copy none that is detached: one to be shared is the oldest.
fn lists_shared_first() -> bool {
    ((6, 8)..(6, 15)).contains(&linux())
}

#[test]
fn mounts_are_listed_in_their_order() {
    let c = Container::sh("grep -o ' /[abc] ' /proc/self/mountinfo");
    let source = host_dir(&c, "source");
    let c = c
        .mount("tmpfs", "tmpfs", "/a", &[])
        .mount("bind", &source, "/b", &["rbind", "rshared"])
        .mount("bind", &source, "/c", &["bind"]);
    let expected = if lists_shared_first() { " /b \n /a \n /c \n" } else { " /a \n /b \n /c \n" };
    assert_eq!(c.run(), expected);
}

#[test]
fn a_file_on_a_directory_is_told_in_known_words() {
    let c = Container::sh("true").mount("bind", "/etc/passwd", "/tmp", &["bind"]);
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("not a directory"), "{said}");
    c.assert_nothing_left();
}

#[test]
fn a_read_only_tmpfs_holds_what_is_mounted_in_it() {
    let c = Container::sh("cat /a/b/file /a/c; touch /a/new; touch /a/c");
    let source = host_dir(&c, "data");
    std::fs::write(format!("{source}/file"), "text\n").unwrap();
    let c = c
        .mount("tmpfs", "tmpfs", "/a", &["ro", "mode=755"])
        .mount("bind", &source, "/a/b", &["bind", "ro"])
        .mount("bind", &format!("{source}/file"), "/a/c", &["bind"]);
    let answer = c.boot("run", &[]).answer();
    assert_eq!(answer.stdout, "text\ntext\n", "{answer:?}");
    assert_eq!(answer.stderr.matches("Read-only file system").count(), 1, "{answer:?}");
}

#[test]
fn a_read_only_tmpfs_begins_with_a_copy() {
    let c = Container::sh("cat /etc/passwd | head -n 1; touch /etc/new").mount(
        "tmpfs",
        "tmpfs",
        "/etc",
        &["ro", "tmpcopyup"],
    );
    let answer = c.boot("run", &[]).answer();
    assert!(answer.stdout.starts_with("root:"), "{answer:?}");
    assert!(answer.stderr.contains("Read-only file system"), "{answer:?}");
}

#[test]
fn a_read_only_dev_has_its_devices() {
    let script = "echo x >/dev/null && test -c /dev/zero && test -L /dev/fd && touch /dev/new";
    let c = Container::sh(script).with(|c| {
        let dev = &mut c["mounts"].as_array_mut().unwrap()[1];
        assert_eq!(dev["destination"], "/dev");
        dev["options"].as_array_mut().unwrap().push(json!("ro"));
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("Read-only file system"), "{said}");
    let c = Container::sh(script).mount("tmpfs", "tmpfs", "/dev", &["remount", "ro"]);
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("/dev/new: Read-only file system"), "{said}");
}

#[test]
fn a_mask_of_a_file_is_no_way_into_a_read_only_dev() {
    let c = Container::new(&["/bin/chmod", "600", "/proc/keys"]).with(|c| {
        c["mounts"][1]["options"] = json!(["nosuid", "ro"]);
        c["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_new_file_system_is_read_only_down_to_its_device() {
    let c = Container::idle();
    let (low, top) = (host_dir(&c, "low"), host_dir(&c, "top"));
    let c = c.mount("overlay", "overlay", "/merged", &["ro", &format!("lowerdir={low}:{top}")]);
    c.run_detached();
    let line = mount_line(&c, "/merged");
    assert!(options(&line).contains(&"ro"), "{line}");
    let of_device = line.split(" - ").nth(1).unwrap().split(' ').nth(2).unwrap();
    assert!(of_device.split(',').any(|word| word == "ro"), "{line}");
    c.end();
}

#[test]
fn a_remount_changes_options_and_attributes() {
    let c = Container::idle()
        .mount("tmpfs", "tmpfs", "/data", &["size=1m", "nosuid", "mode=700"])
        .mount("tmpfs", "tmpfs", "/data", &["remount", "size=2m", "nosuid", "nodev"]);
    c.run_detached();
    let line = mount_line(&c, "/data");
    assert!(line.contains("size=2048k"), "{line}");
    for flag in ["nosuid", "nodev"] {
        assert!(options(&line).contains(&flag), "{line}");
    }
    let table = c.exec(&[], &["/bin/cat", "/proc/self/mountinfo"]).ok();
    assert_eq!(table.matches(" /data ").count(), 1, "{table}");
    c.end();
}

#[test]
fn a_read_only_file_system_is_remounted_writable() {
    let script = "echo 1400 >/sys/class/net/lo/mtu && cat /sys/class/net/lo/mtu";
    let c = Container::sh(script).mount("none", "", "/sys", &["remount", "rw"]).with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_NET_ADMIN"]);
        }
    });
    assert_eq!(c.run(), "1400\n");
}

#[test]
fn a_remount_leaves_the_hosts_file_system_read_only() {
    if peers_fail("they make the host's writable") {
        return;
    }
    let c = Container::sh("touch /m/f");
    let source = host_dir(&c, "source");
    let c = c.mount("bind", &source, "/m", &["bind"]).mount("none", "", "/m", &["remount", "rw"]);
    let script = format!("mount -t tmpfs -o ro t {source} && \"$@\"; touch {source}/f");
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let said = c.boot("run", &[]).under(&unshare).fails(1);
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
}

#[test]
fn a_bind_mount_is_remounted() {
    if is_crun() {
        return;
    }
    let c = Container::sh("touch /shared/f");
    let c = c.share().mount("bind", "", "/shared", &["remount", "bind", "ro"]);
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_remount_of_nothing_is_refused() {
    for words in [&["remount", "size=1m"][..], &["remount"]] {
        let c = Container::new(&["/bin/true"]).mount("tmpfs", "t", "/bin", words);
        let said = c.boot("run", &[]).fails(1).to_lowercase();
        assert!(said.contains("invalid argument"), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn words_that_every_file_system_takes() {
    for word in [
        "sync",
        "async",
        "dirsync",
        "lazytime",
        "nolazytime",
        "iversion",
        "noiversion",
        "mand",
        "nomand",
        "silent",
        "loud",
        "defaults",
        "diratime",
        "norelatime",
    ] {
        let c = Container::new(&["/bin/true"]).mount("tmpfs", "tmpfs", "/data", &[word]);
        // Debian's runc has them refused by the kernel.
        if matches!(word, "mand" | "defaults" | "silent" | "loud") && !is_tare() {
            continue;
        }
        let answer = c.boot("run", &[]).answer();
        assert_eq!(answer.code, 0, "{word}: {answer:?}");
    }
}

#[test]
fn times_of_access_without_strictatime_are_the_kernels_default() {
    for (word, expected) in [("norelatime", true), ("nostrictatime", true), ("strictatime", false)]
    {
        let c = Container::sh("grep ' /data ' /proc/self/mountinfo");
        let answer = c.mount("tmpfs", "tmpfs", "/data", &[word]).boot("run", &[]).answer();
        assert_eq!(answer.code, 0, "{word}: {answer:?}");
        assert_eq!(answer.stdout.contains("relatime"), expected, "{word}: {answer:?}");
    }
}

#[test]
fn words_for_times_of_access_are_flags_of_their_own() {
    if peers_fail("crun and Debian's runc have other words for relatime") {
        return;
    }
    let cases: [(&[&str], &str, &str); 12] = [
        (&["noatime", "relatime"], "", "noatime"),
        (&["noatime", "norelatime"], "", "noatime"),
        (&["noatime", "nostrictatime"], "strictatime", "noatime"),
        (&["strictatime", "noatime"], "", ""),
        (&["noatime", "atime"], "strictatime", ""),
        (&["atime"], "noatime", "noatime"),
        (&["norelatime"], "strictatime", ""),
        (&["nostrictatime"], "noatime", "noatime"),
        (&["relatime"], "noatime", "relatime"),
        (&["nodiratime"], "noatime", "nodiratime,relatime"),
        (&["rnoatime", "rrelatime"], "", "noatime"),
        (&["rnorelatime"], "noatime", "relatime"),
    ];
    for (words, source_has, expected) in cases {
        let c = Container::sh("grep ' /data ' /proc/self/mountinfo");
        let source = host_dir(&c, "data");
        let c = match source_has {
            "" => c.mount("tmpfs", "tmpfs", "/data", words),
            _ => c.mount("bind", &source, "/data", words),
        };
        let flags = if source_has.is_empty() { "relatime" } else { source_has };
        let line = run_on(&c, &source, flags).stdout;
        let times: Vec<_> = options(&line).into_iter().filter(|o| o.ends_with("time")).collect();
        assert_eq!(times.join(","), expected, "{words:?} on {source_has:?}: {line}");
    }
}

/// Runs `c` where its directory `source` is mounted on itself with the attributes `flags`.
fn run_on(c: &Container, source: &str, flags: &str) -> common::Answer {
    let script = format!(
        "mount --bind {source} {source} && mount -o remount,bind,{flags} {source} && exec \"$@\""
    );
    let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    c.boot("run", &[]).under(&private).answer()
}

#[test]
fn the_flags_of_a_source_stay_unless_options_say_otherwise() {
    let kept = ["nosuid", "nodev", "noexec"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&["bind"], &kept),
        // Any flag decides all of them, as in mount(8).
        (&["bind", "rw"], &[]),
        (&["bind", "exec"], &[]),
        (&["bind", "nosuid"], &["nosuid"]),
        (&["rbind", "ro", "nodev"], &["ro", "nodev"]),
        (&["bind", "private"], &kept),
    ];
    for (words, expected) in cases {
        if !is_tare() && words.last() != Some(&"private") && words.len() != 1 {
            // Debian's runc is too old to clear flags.
            continue;
        }
        let c = Container::sh("grep ' /data ' /proc/self/mountinfo");
        let source = host_dir(&c, "data");
        let c = c.mount("bind", &source, "/data", words);
        let answer = run_on(&c, &source, "nosuid,nodev,noexec");
        let line = answer.stdout.clone();
        assert_eq!(answer.code, 0, "{answer:?}");
        for flag in ["ro", "nosuid", "nodev", "noexec"] {
            assert_eq!(
                options(&line).contains(&flag),
                expected.contains(&flag),
                "{words:?} {line}"
            );
        }
    }
}

#[test]
fn locked_flags_stay_in_a_user_namespace() {
    if !is_tare() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let usual = "nosuid,noexec";
    type Case<'a> = (&'a [&'a str], &'a str, Result<&'a [&'a str], &'a str>);
    let cases: [Case; 8] = [
        (&["bind"], usual, Ok(&["nosuid", "noexec"])),
        (&["bind", "ro"], usual, Ok(&["ro", "nosuid", "noexec"])),
        (&["bind", "nodev", "rw"], usual, Ok(&["nosuid", "nodev", "noexec"])),
        (&["bind", "noexec"], "ro,nosuid", Ok(&["ro", "nosuid", "noexec"])),
        // Asked for, but not to be had.
        (&["bind", "exec"], usual, Err("noexec")),
        (&["bind", "rw", "suid"], "ro,nosuid", Err("ro, nosuid")),
        (&["bind", "noatime"], usual, Err("relatime")),
        (&["bind", "relatime"], "strictatime", Err("strictatime")),
    ];
    for (words, flags, expected) in cases {
        let c = Container::sh("grep ' /data ' /proc/self/mountinfo").with(|c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map.clone();
        });
        Cmd::new(&["chmod", "755", &c.bundle().to_string_lossy()]).ok();
        Cmd::new(&["chown", "-R", "100000:100000", &c.rootfs().to_string_lossy()]).ok();
        let source = host_dir(&c, "data");
        let c = c.mount("bind", &source, "/data", words);
        let answer = run_on(&c, &source, flags);
        match expected {
            Err(flags) => {
                assert_eq!(answer.code, 1, "{answer:?}");
                assert!(answer.stderr.contains("operation not permitted"), "{answer:?}");
                let told = format!("mounted with {flags}, which cannot be taken away");
                assert!(answer.stderr.contains(&told), "{answer:?}");
            }
            Ok(expected) => {
                assert_eq!(answer.code, 0, "{answer:?}");
                for flag in ["ro", "nosuid", "nodev", "noexec"] {
                    let has = options(&answer.stdout).contains(&flag);
                    assert_eq!(has, expected.contains(&flag), "{words:?}: {answer:?}");
                }
            }
        }
    }
}

#[test]
fn recursive_attributes_reach_what_is_mounted_below() {
    let cases: [(&[&str], &str, &str); 5] = [
        (&["rbind", "rro"], "ro", "ro"),
        (&["rbind", "ro"], "ro", "rw"),
        (
            &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"],
            "rw,nosuid,nodev,noexec,noatime",
            "rw,nosuid,nodev,noexec,noatime",
        ),
        (&["rbind", "ro", "rrw"], "rw", "rw"),
        (&["rbind", "rro", "rw"], "ro", "ro"),
    ];
    for (words, top, below) in cases {
        if !is_tare() {
            return;
        }
        let c = Container::sh("grep ' /data' /proc/self/mountinfo");
        let source = host_dir(&c, "data");
        host_dir(&c, "data/sub");
        let c = c.mount("bind", &source, "/data", words);
        let script = format!("mount -t tmpfs t {source}/sub && exec \"$@\"");
        let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let said = c.boot("run", &[]).under(&private).ok();
        let lines: Vec<_> = said.lines().map(options).collect();
        for (line, flags) in lines.iter().zip([top, below]) {
            for flag in flags.split(',') {
                assert!(line.contains(&flag), "{words:?} {flag}: {said}");
            }
        }
        assert_eq!(lines.len(), 2, "{said}");
    }
}

#[test]
fn a_root_that_is_no_mount_point_is_explained() {
    let c = Container::sh("true");
    if peers_fail("no hint") {
        return;
    }
    let root = c.bundle().join("slash").display().to_string();
    let script = format!(
        r#"mkdir {root} && for each in /*; do
            if [ -L $each ]; then cp -d $each {root}; elif [ -d $each ]; then
                mkdir {root}$each && mount --rbind $each {root}$each
            fi
        done; exec chroot {root} "$@""#
    );
    let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let said = c.boot("run", &[]).under(&private).fails(1);
    assert!(said.contains("slaves of the host's: invalid argument"), "{said}");
    assert!(said.contains("hint: the root directory of tare is no mount point"), "{said}");
    c.assert_nothing_left();
}
