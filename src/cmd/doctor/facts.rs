//! The facts about the host.

use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::{Fact, Mark};
use crate::cgroup::{Cgroup, HANDED_ON, Hierarchies, Manager, Place, Version, delegate_file};
use crate::cli::Global;
use crate::error::{Doing, Result};
use crate::namespaces::{KINDS, Kind};
use crate::{host, labels, rdt, seccomp, sys};

/// What lacks with a capability that the caller does not have.
const CAPABILITIES: &[(u8, &str)] = &[
    (21, "CAP_SYS_ADMIN: no container without a user namespace"),
    (24, "CAP_SYS_RESOURCE: hard limits cannot be raised, nor oomScoreAdj lowered"),
    (27, "CAP_MKNOD: devices are bound from the host"),
    (12, "CAP_NET_ADMIN: no network devices are moved"),
    (39, "CAP_BPF: no device rules on cgroup v2"),
];
/// The controllers that limits are set by, of either version.
const CONTROLLERS: [&str; 10] =
    ["cpu", "cpuset", "memory", "pids", "blkio", "io", "devices", "freezer", "hugetlb", "rdma"];

/// All facts, in the order of their weight.
pub fn all(global: &Global) -> Result<Vec<Fact>> {
    let mut facts = vec![kernel(), namespaces(), user()?, user_namespaces(), filters()];
    facts.extend(cgroups());
    facts.extend([systemd(global), apparmor(), selinux(), criu(), shares()?]);
    Ok(facts)
}

fn fact(topic: &'static str, mark: Mark, words: impl Into<String>) -> Fact {
    Fact { mark, topic, words: words.into() }
}

fn works(works: bool) -> Mark {
    if works { Mark::Works } else { Mark::Lacks }
}

/// Whether `part` is in `text`. One search for all: each of its own would be half a kilobyte.
pub fn has(text: &str, part: &str) -> bool {
    text.contains(part)
}

/// The file at `path`, without the space around it; empty if it cannot be read.
pub fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Fact {
    let release = read("/proc/sys/kernel/osrelease");
    match new_enough(&release) {
        true => fact("kernel", Mark::Works, release),
        false => {
            let words =
                format!("{release}: older than 5.12, without id maps and attributes of mounts");
            fact("kernel", Mark::Fatal, words)
        }
    }
}

fn new_enough(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(12))
}

/// Whether the kernel has namespaces of this kind.
pub fn has_namespace(file: &str) -> bool {
    Path::new("/proc/self/ns").join(file).exists()
}

fn namespaces() -> Fact {
    let (has, lacks): (Vec<&Kind>, Vec<&Kind>) =
        KINDS.iter().partition(|kind| has_namespace(kind.file));
    let names = |kinds: &[&Kind]| kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(" ");
    let mark = match lacks.iter().any(|kind| kind.name == "mount") {
        true => Mark::Fatal,
        false if lacks.is_empty() => Mark::Works,
        false => Mark::Partly,
    };
    let without = if lacks.is_empty() { String::new() } else { format!("; not {}", names(&lacks)) };
    fact("namespaces", mark, names(&has) + &without)
}

/// Whether the caller has the capability of this number.
pub fn holds(capability: u8) -> bool {
    sys::security::capabilities().is_ok_and(|sets| sets.permitted >> capability & 1 == 1)
}

fn user() -> Result<Fact> {
    let held = sys::security::capabilities().doing(|| "read the capabilities of tare")?.permitted;
    let uid = sys::process::euid();
    if uid != 0 {
        return Ok(fact("user", Mark::Partly, format!("{uid}: a bundle needs a user namespace")));
    }
    let missing = CAPABILITIES.iter().filter(|(number, _)| held >> number & 1 == 0);
    let words: Vec<&str> = missing.map(|(_, words)| *words).collect();
    Ok(match words.is_empty() {
        true => fact("user", Mark::Works, "root"),
        false => fact("user", Mark::Partly, format!("root without {}", words.join("; without "))),
    })
}

/// user_namespaces(7), and what distributions add to it.
fn user_namespaces() -> Fact {
    let most = read("/proc/sys/user/max_user_namespaces");
    let root = sys::process::euid() == 0;
    let denied = [
        (most == "0", "none: /proc/sys/user/max_user_namespaces is 0"),
        (
            !root && read("/proc/sys/kernel/unprivileged_userns_clone") == "0",
            "for root alone: /proc/sys/kernel/unprivileged_userns_clone is 0",
        ),
        (
            !root && read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
            "AppArmor restricts them: tare needs a profile with the rule userns",
        ),
        (
            !root && program("newuidmap").is_none(),
            "one user only: newuidmap is missing (Debian: uidmap)",
        ),
        (
            !root && !["/etc/subuid", "/etc/subgid"].iter().all(|file| gives_ids(file)),
            "one user only: /etc/subuid and /etc/subgid give the caller no ids (usermod \
             --add-subuids and --add-subgids do)",
        ),
    ];
    match denied.iter().find(|(denied, _)| *denied) {
        Some((_, words)) => fact("user namespaces", works(false), *words),
        None => fact("user namespaces", Mark::Works, format!("up to {most}")),
    }
}

/// Whether the caller has a line in subuid(5) or subgid(5), by name or by number.
fn gives_ids(file: &str) -> bool {
    let uid = sys::process::euid().to_string();
    let passwd = read("/etc/passwd");
    let mut names = passwd.lines().filter(|line| line.split(':').nth(2) == Some(&uid));
    let name = names.next().and_then(|line| line.split(':').next()).unwrap_or(&uid);
    let owner = |line: &str| line.split(':').next().is_some_and(|who| who == name || who == uid);
    read(file).lines().any(owner)
}

/// The path of a program, if `$PATH` has it.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&dirs).map(|dir| dir.join(name));
    found.into_iter().find(|path| access(path, AccessFlags::X_OK).is_ok())
}

fn filters() -> Fact {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    if actions.is_empty() {
        return fact("seccomp", Mark::Lacks, "the kernel has no filters");
    }
    let flags = seccomp::words().supported_flags.join(" ").replace("SECCOMP_FILTER_FLAG_", "");
    fact("seccomp", Mark::Works, format!("{actions}; flags {flags}"))
}

fn cgroups() -> Vec<Fact> {
    let failed = |words: String| vec![fact("cgroups", Mark::Fatal, words)];
    let planned = Hierarchies::probe().and_then(|h| Ok((Cgroup::plan(&h, None, "doctor")?, h)));
    let (cgroup, hierarchies) = match planned {
        Ok(found) => found,
        Err(err) => return failed(err.message()),
    };
    let list = hierarchies.list();
    let (layout, controllers) = match hierarchies.version() {
        Version::V2 => {
            let own = cgroup.places().first().and_then(|place| Path::new(&place.dir).parent());
            let file = own.map(|own| own.join("cgroup.controllers")).unwrap_or_default();
            ("version 2", read_to_string(file).unwrap_or_default())
        }
        Version::V1 => {
            let hybrid = list.iter().any(|hierarchy| hierarchy.controllers.is_empty());
            let names: Vec<&str> = list.iter().map(|h| h.controllers.as_str()).collect();
            (if hybrid { "hybrid: limits by version 1" } else { "version 1" }, names.join(","))
        }
    };
    let version = hierarchies.version();
    let mut facts = vec![limits(layout, &controllers, version), rights(&cgroup, version)];
    if let (Version::V2, [unified, ..]) = (version, list) {
        facts.extend(delegated(&unified.mountpoint));
    }
    facts
}

/// Which limits can be set.
fn limits(layout: &str, controllers: &str, version: Version) -> Fact {
    let mounted: Vec<&str> = controllers.split([',', ' ', '\n']).collect();
    let other = match version {
        Version::V1 => &["io"][..],
        // What v2 does without a controller.
        Version::V2 => &["blkio", "devices", "freezer"][..],
    };
    let wanted = CONTROLLERS.iter().filter(|name| !other.contains(name));
    let (has, lacks): (Vec<&str>, Vec<&str>) = wanted.partition(|name| mounted.contains(name));
    let mark = if lacks.is_empty() { Mark::Works } else { Mark::Partly };
    let lacks = if lacks.is_empty() { String::new() } else { format!("; not {}", lacks.join(" ")) };
    fact("cgroups", mark, format!("{layout}: {}{lacks}", has.join(" ")))
}

/// Whether the caller may make cgroups where a bundle without `cgroupsPath` has them.
fn rights(cgroup: &Cgroup, version: Version) -> Fact {
    // What v1 has without a controller limits nothing.
    let limits_nothing = |names: &str| names.is_empty() || names.starts_with("name=");
    let limits = |place: &&Place| version == Version::V2 || !limits_nothing(&place.controllers);
    let denied = |place: &Place| {
        let dir = Path::new(&place.dir).parent()?;
        access(dir, AccessFlags::W_OK)
            .err()
            .map(|errno| (place.controllers.clone(), dir.to_owned(), errno))
    };
    let denied: Vec<_> = cgroup.places().iter().filter(limits).filter_map(denied).collect();
    let Some((_, dir, errno)) = denied.first() else {
        return fact("own cgroups", Mark::Works, "can be made");
    };
    let owner = dir.metadata().map_or(0, |data| data.uid());
    let place = dir.display();
    let words = match (errno, version) {
        (Errno::EROFS, _) => format!("{place} is read-only: no limits"),
        (_, Version::V1) => {
            let names: Vec<&str> = denied.iter().map(|(names, ..)| names.as_str()).collect();
            format!(
                "no limits by {}: {place} belongs to user {owner}, and nobody hands version 1 on to \
                 users (systemd.unified_cgroup_hierarchy=1 boots a host with version 2)",
                names.join(" ")
            )
        }
        (_, Version::V2) => format!(
            "{place} belongs to user {owner}: limits with --systemd-cgroup alone, or in a unit of \
             the user's own (systemd-run --user --scope -p Delegate=yes)"
        ),
    };
    fact("own cgroups", Mark::Lacks, words)
}

/// What a user is handed on by the systemd of v2's root, mounted at `root`.
fn delegated(root: &str) -> Option<Fact> {
    let uid = sys::process::euid();
    let manager = format!("{root}/user.slice/user-{uid}.slice/user@{uid}.service");
    let file = format!("{manager}/cgroup.controllers");
    (uid != 0).then(|| match read_to_string(file) {
        Ok(has) => handed_on(&has),
        Err(_) => {
            let words = format!(
                "no systemd runs for user {uid}: one does in a session, or after \
                 `loginctl enable-linger {uid}`"
            );
            fact("delegated", Mark::Lacks, words)
        }
    })
}

fn handed_on(controllers: &str) -> Fact {
    let there: Vec<&str> = controllers.split_ascii_whitespace().collect();
    let (has, lacks): (Vec<&str>, Vec<&str>) =
        HANDED_ON.iter().partition(|name| there.contains(name));
    let has = has.join(" ");
    match lacks.is_empty() {
        true => fact("delegated", Mark::Works, has),
        false => {
            let words = format!("{has}; a user has {} where {}", lacks.join(" "), delegate_file());
            fact("delegated", Mark::Partly, words)
        }
    }
}

fn systemd(global: &Global) -> Fact {
    let rootless = global.rootless.applies(host::is_unprivileged);
    let version = Hierarchies::probe().map_or(Version::V1, |host| host.version());
    match Manager::probe(rootless, version) {
        Ok(_) => fact("--systemd-cgroup", Mark::Works, "systemd makes cgroups on request"),
        Err(err) => fact("--systemd-cgroup", Mark::Lacks, why(&err)),
    }
}

fn why(err: &crate::error::Error) -> String {
    match err.parts().2 {
        [_, _, Some(hint)] => hint.to_owned(),
        _ => err.message(),
    }
}

fn apparmor() -> Fact {
    let has = labels::has_apparmor();
    fact(
        "AppArmor",
        works(has),
        if has { "profiles are enforced" } else { "not in this kernel, or off" },
    )
}

fn selinux() -> Fact {
    let has = labels::has_selinux();
    fact(
        "SELinux",
        works(has),
        if has { "labels are applied" } else { "not in this kernel, or no policy" },
    )
}

fn criu() -> Fact {
    match program("criu") {
        Some(path) => fact(
            "criu",
            Mark::Works,
            format!("{} (`criu check` tells whether it knows this kernel)", path.display()),
        ),
        None => fact("criu", Mark::Lacks, "not in $PATH: no checkpoint and no restore"),
    }
}

fn shares() -> Result<Fact> {
    Ok(match rdt::mounted()? {
        Some(root) => fact("Intel RDT", Mark::Works, root.display().to_string()),
        None => fact("Intel RDT", Mark::Lacks, "resctrl is not mounted"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for good in ["5.12.0", "5.12", "6.1.0-27-amd64", "5.15.0-1-generic", "10.0"] {
            assert!(new_enough(good), "{good}");
        }
        for old in ["5.11.22", "4.19.0-5-amd64", "", "x"] {
            assert!(!new_enough(old), "{old}");
        }
    }

    #[test]
    fn what_is_not_handed_on_is_named() {
        let all = handed_on("cpuset cpu io memory pids\n");
        assert_eq!((all.mark, all.words.as_str()), (Mark::Works, "cpu cpuset io memory pids"));
        let some = handed_on("memory pids\n");
        assert_eq!(some.mark, Mark::Partly);
        assert!(some.words.starts_with("memory pids; a user has cpu cpuset io where /etc/systemd"));
    }

    #[test]
    fn limits_are_those_of_the_version() {
        let words = |controllers, version| limits("L", controllers, version).words;
        let all = "cpuset cpu io memory hugetlb pids rdma misc\n";
        assert_eq!(words(all, Version::V2), "L: cpu cpuset memory pids io hugetlb rdma");
        let some = "cpu,cpuacct,memory,name=systemd,,devices,freezer,pids,cpuset,blkio";
        assert_eq!(
            words(some, Version::V1),
            "L: cpu cpuset memory pids blkio devices freezer; not hugetlb rdma"
        );
    }
}
