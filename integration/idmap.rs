//! Bind mounts whose files appear with other owners.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use common::{Cmd, Container, peers_fail};
use serde_json::{Value, json};

/// Debian's runc and crun are older than these options of the specification.
const OLD: &str = "it is older than id-mapped mounts with mappings of their own";

fn maps(container: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": size}])
}

/// Adds a mount with the same map for users and groups; none if it is null.
fn mapped(
    c: Container,
    source: &str,
    destination: &str,
    options: &[&str],
    map: Value,
) -> Container {
    c.mount("bind", source, destination, options).with(|c| {
        let mount = c["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        if !map.is_null() {
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map;
        }
    })
}

/// A user namespace whose root is the host's user 100000.
fn with_users(c: Container) -> Container {
    let c = c.with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = maps(0, 100_000, 65536);
        c["linux"]["gidMappings"] = maps(0, 100_000, 65536);
    });
    for dir in [c.bundle(), &c.rootfs()] {
        Cmd::new(&["chmod", "755", &dir.to_string_lossy()]).ok();
    }
    Cmd::new(&["chown", "-R", "100000:100000", &c.rootfs().to_string_lossy()]).ok();
    c
}

/// A directory of the bundle with files of users 0, 1 and 7, and one of 3 in a directory below.
fn tree(c: &Container) -> String {
    let dir = c.bundle().join("tree");
    fs::create_dir_all(dir.join("sub")).unwrap();
    for (name, id) in [("zero", 0), ("one", 1), ("seven", 7), ("sub/three", 3)] {
        fs::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(id), Some(id + 10)).unwrap();
    }
    chown(dir.join("zero"), Some(0), Some(0)).unwrap();
    dir.to_string_lossy().into_owned()
}

#[test]
fn a_mount_has_maps_of_its_own_without_a_user_namespace() {
    if peers_fail(OLD) {
        return;
    }
    // With the option, and without: the mappings alone ask for it.
    for options in
        [&["bind", "idmap"][..], &["bind"], &["rbind", "ridmap"], &["rbind", "idmap", "ro"]]
    {
        let c = Container::sh("cd /data; stat -c '%n %u:%g' zero one seven sub/three");
        let source = tree(&c);
        let said = mapped(c, &source, "/data", options, maps(0, 1000, 100)).run();
        assert_eq!(said, "zero 1000:1000\none 1001:1011\nseven 1007:1017\nsub/three 1003:1013\n");
    }
}

#[test]
fn a_relative_source_is_the_bundles() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("stat -c %u:%g /data/one /file");
    tree(&c);
    let c = mapped(c, "tree", "/data", &["bind", "idmap"], maps(0, 500, 100));
    let c = mapped(c, "./tree/../tree/seven", "/file", &["rbind", "ridmap"], maps(7, 0, 100));
    assert_eq!(c.run(), "501:511\n0:10\n");
}

#[test]
fn files_that_are_made_have_the_owner_of_the_host() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("touch /data/new; stat -c %u /data/new");
    let source = tree(&c);
    chown(&source, Some(5000), Some(5000)).unwrap();
    let c = mapped(c, &source, "/data", &["bind", "idmap"], maps(5000, 0, 100));
    assert_eq!(c.run(), "0\n");
    assert_eq!(fs::metadata(Path::new(&source).join("new")).unwrap().uid(), 5000);
}

#[test]
fn ids_without_a_map_belong_to_nobody() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("stat -c %u:%g /data/one /data/seven");
    let source = tree(&c);
    let map = json!([{"containerID": 1, "hostID": 11, "size": 1},
        {"containerID": 11, "hostID": 22, "size": 1}]);
    assert_eq!(mapped(c, &source, "/data", &["bind", "idmap"], map).run(), "11:22\n65534:65534\n");
}

#[test]
fn a_mount_takes_the_containers_maps() {
    if peers_fail(OLD) {
        return;
    }
    for options in [&["bind", "idmap"][..], &["rbind", "ridmap"]] {
        let c = with_users(Container::sh("stat -c %u:%g /data/zero /data/one /plain/zero"));
        let source = tree(&c);
        let c = mapped(c, &source, "/data", options, Value::Null);
        let c = c.mount("bind", &source, "/plain", &["bind"]);
        assert_eq!(c.run(), "0:0\n1:11\n65534:65534\n", "{options:?}");
    }
}

#[test]
fn maps_of_a_mount_go_before_the_containers() {
    if peers_fail(OLD) {
        return;
    }
    let c = with_users(Container::sh("stat -c %u:%g /data/one; ! touch /data/new"));
    let source = tree(&c);
    Cmd::new(&["chmod", "777", &source]).ok();
    let c = mapped(c, &source, "/data", &["bind", "idmap"], maps(0, 100_005, 100));
    assert_eq!(c.run(), "6:16\n");
    // The container's root is user 100000 of the host, whom the mount's maps do not have.
    assert!(!Path::new(&source).join("new").exists());
}

#[test]
fn a_mount_takes_the_maps_of_a_joined_namespace() {
    if peers_fail(OLD) {
        return;
    }
    let first = with_users(Container::idle());
    first.run_detached();
    let path = format!("/proc/{}/ns/user", first.pid());
    let c = Container::sh("stat -c %u:%g /data/zero /data/one").namespace("user", Some(&path));
    Cmd::new(&["chmod", "755", &c.bundle().to_string_lossy()]).ok();
    fs::create_dir(c.rootfs().join("data")).unwrap();
    let source = tree(&c);
    let c = mapped(c, &source, "/data", &["bind", "idmap"], Value::Null);
    assert_eq!(c.run(), "0:0\n1:11\n");
}

/// Runs `c` in a mount namespace with a mount below the tree, whose file belongs to user 4. Not a
/// tmpfs, which Linux can map from 6.3 on only.
fn run_with_submount(c: &Container, source: &str) -> String {
    let script = format!(
        "mkdir {source}/../other && touch {source}/../other/four && chown 4 {source}/../other/four && \
         mount --bind {source}/../other {source}/sub && exec \"$@\""
    );
    let private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    c.boot("run", &[]).under(&private).ok()
}

#[test]
fn ridmap_maps_what_is_mounted_below_and_idmap_does_not() {
    if peers_fail(OLD) {
        return;
    }
    for (option, below) in [("ridmap", 1004), ("idmap", 4)] {
        let c = Container::sh("stat -c %u /data/one /data/sub/four");
        let source = tree(&c);
        let c = mapped(c, &source, "/data", &["rbind", option], maps(0, 1000, 100));
        assert_eq!(run_with_submount(&c, &source), format!("1001\n{below}\n"));
    }
}

#[test]
fn attributes_and_propagation_are_those_of_any_bind_mount() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("grep ' /data ' /proc/self/mountinfo; touch /data/new");
    let source = tree(&c);
    let options = ["bind", "idmap", "ro", "nosuid", "nodev", "rprivate"];
    let c = mapped(c, &source, "/data", &options, maps(0, 1000, 100));
    let answer = c.boot("run", &[]).answer();
    let line = &answer.stdout;
    assert!(line.contains(" ro,nosuid,nodev,") && line.contains("idmapped"), "{line}");
    assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    assert!(answer.stderr.contains("Read-only file system"), "{answer:?}");
    c.assert_nothing_left();
}

#[test]
fn a_mount_of_a_shared_source_stays_in_the_container() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("mkdir /data/sub2 && mount -t tmpfs inner /data/sub2").with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        }
    });
    let source = tree(&c);
    let c = mapped(c, &source, "/data", &["rbind", "idmap"], maps(0, 0, 100_000));
    let script = format!(
        "mount --bind {source} {source} && mount --make-shared {source} && \"$@\" && \
         ! grep -q ' inner ' /proc/self/mountinfo; echo reached: $?"
    );
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    assert_eq!(c.boot("run", &[]).under(&unshare).ok(), "reached: 0\n");
}

#[test]
fn a_mapped_source_is_looked_up_among_the_mounts_before_it() {
    if peers_fail(OLD) {
        return;
    }
    for users in [false, true] {
        let c = Container::sh("stat -c %u:%g /final/one");
        let c = if users { with_users(c) } else { c };
        let source = tree(&c);
        let below = c.rootfs().join("first").to_string_lossy().into_owned();
        let c = c.mount("bind", &source, "/first", &["bind"]);
        let map = maps(0, if users { 100_000 } else { 1000 }, 100);
        let c = mapped(c, &below, "/final", &["bind", "idmap"], map);
        assert_eq!(c.run(), if users { "1:11\n" } else { "1001:1011\n" });
        c.assert_nothing_left();
    }
}

#[test]
fn a_mapped_mount_shares_its_mounts_with_the_host() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::sh("mkdir /m/sub && mount -t tmpfs inner /m/sub && stat -c %u /m/seven")
        .with(|c| {
            c["linux"]["rootfsPropagation"] = json!("shared");
            for set in ["bounding", "effective", "permitted"] {
                c["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            }
        });
    let source = tree(&c);
    let c = mapped(c, &source, "/m", &["rbind", "rshared", "idmap"], maps(0, 0, 5));
    fs::remove_dir_all(Path::new(&source).join("sub")).unwrap();
    let script = format!(
        "mount --bind {source} {source} && mount --make-shared {source} && \"$@\" && \
         grep -q ' {source}/sub .* inner ' /proc/self/mountinfo; echo shares: $?"
    );
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    assert_eq!(c.boot("run", &[]).under(&unshare).ok(), "65534\nshares: 0\n");
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    if peers_fail(OLD) {
        return;
    }
    let own = maps(0, 1000, 100);
    let overlap = json!([{"containerID": 0, "hostID": 10, "size": 5},
        {"containerID": 3, "hostID": 20, "size": 5}]);
    let cases = [
        (
            "tmpfs",
            &["idmap"][..],
            own.clone(),
            "id-mapped mounts are only supported for bind-mounts",
        ),
        ("tmpfs", &[], own.clone(), "id-mapped mounts are only supported for bind-mounts"),
        ("bind", &["bind", "idmap"], Value::Null, "must have both uid and gid mappings specified"),
        (
            "bind",
            &["rbind", "ridmap"],
            Value::Null,
            "must have both uid and gid mappings specified",
        ),
        ("bind", &["bind", "idmap"], overlap, "overlap an earlier mapping"),
        // procfs cannot be mapped.
        ("proc", &["bind", "idmap"], own, "failed to set MOUNT_ATTR_IDMAP on /proc/sys"),
    ];
    for (kind, options, map, words) in cases {
        let c = Container::new(&["/bin/true"]);
        let source = if kind == "proc" { "/proc/sys".to_owned() } else { tree(&c) };
        let c = mapped(c, &source, "/data", options, map).with(|c| {
            c["mounts"].as_array_mut().unwrap().last_mut().unwrap()["type"] = json!(kind);
        });
        let said = c.boot("run", &[]).fails(1);
        assert!(said.contains(words) && said.contains("mounts[7]"), "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn one_sided_maps_are_refused() {
    if peers_fail(OLD) {
        return;
    }
    let c = Container::new(&["/bin/true"]);
    let source = tree(&c);
    let c = mapped(c, &source, "/data", &["bind", "idmap"], maps(0, 1, 1)).with(|c| {
        let mount = c["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount.as_object_mut().unwrap().remove("gidMappings");
    });
    let said = c.boot("run", &[]).fails(1);
    assert!(said.contains("must have both uid and gid mappings specified"), "{said}");
    assert!(said.contains("mounts[7].gidMappings"), "{said}");
}
