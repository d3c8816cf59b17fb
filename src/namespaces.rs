//! Namespaces: which are made, which are joined by path, and what is set in them
//! (config-linux.md "Namespaces", "User namespace mappings", "Sysctl").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::{Doing, Error, Result};
use crate::path::Proc;
use crate::spec::check::sysctl_file;
use crate::spec::config::{IdMapping, Namespace, TimeOffset};
use crate::sys;
use crate::sys::process::{Fork, fork_into};
use crate::wire::{Channel, Msg};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The specification's name.
    pub name: &'static str,
    /// Its file in /proc/PID/ns.
    pub file: &'static str,
    /// Its `CLONE_NEW*` flag.
    pub flag: u64,
}

const fn kind(name: &'static str, file: &'static str, flag: i32) -> Kind {
    Kind { name, file, flag: flag as u64 }
}

/// `CLONE_NEWTIME` (linux/sched.h).
pub const NEWTIME: u64 = 0x80;
/// `CLONE_NEWUSER`.
pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
/// `CLONE_NEWPID`.
pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
/// `CLONE_NEWNS`.
pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
/// `CLONE_NEWIPC`.
pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
/// `CLONE_NEWNET`.
pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
/// `CLONE_NEWCGROUP`.
pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

/// All kinds, in the order in which they are joined: rights over the others come from the user
/// namespace, and the mount namespace changes what paths mean.
pub const KINDS: [Kind; 8] = [
    kind("user", "user", libc::CLONE_NEWUSER),
    kind("cgroup", "cgroup", libc::CLONE_NEWCGROUP),
    kind("ipc", "ipc", libc::CLONE_NEWIPC),
    kind("uts", "uts", libc::CLONE_NEWUTS),
    kind("network", "net", libc::CLONE_NEWNET),
    kind("pid", "pid", libc::CLONE_NEWPID),
    kind("time", "time", 0x80),
    kind("mount", "mnt", libc::CLONE_NEWNS),
];

/// A namespace that is joined.
#[derive(Debug, Clone)]
pub struct Join {
    /// Its kind.
    pub kind: Kind,
    /// A path of the host that names it.
    pub path: PathBuf,
    /// Its place in `config.json`.
    pub at: String,
}

/// What `linux.namespaces` orders.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` of those that are made.
    pub new: u64,
    /// Those that are joined, in order.
    pub joins: Vec<Join>,
    /// Whether the mount namespace is only there for setting up: the container shares the host's.
    pub borrows_mounts: bool,
}

impl Namespaces {
    /// Reads `linux.namespaces`; names and duplicates have been checked.
    pub fn plan(entries: &[Namespace]) -> Result<Self> {
        let mut plan = Namespaces::default();
        for kind in KINDS {
            let Some(index) = entries.iter().position(|n| n.kind == kind.name) else { continue };
            let path = entries.get(index).and_then(|entry| entry.path.as_deref());
            match path.filter(|path| !path.is_empty()) {
                None => plan.new |= kind.flag,
                Some(path) => plan.joins.push(Join {
                    kind,
                    path: PathBuf::from(path),
                    at: format!("linux.namespaces[{index}].path"),
                }),
            }
        }
        Ok(plan)
    }

    /// Gives a container that has none a mount namespace to be set up in, so that nothing of it is
    /// ever mounted on the host. Returns whether it did.
    pub fn borrow_mounts(&mut self) -> bool {
        self.borrows_mounts = !self.has(NEWNS);
        if self.borrows_mounts {
            self.new |= NEWNS;
        }
        self.borrows_mounts
    }

    /// The runtime's own mount namespace, to go back to.
    pub fn of_runtime() -> Join {
        let [.., kind] = KINDS;
        Join { kind, path: "/proc/self/ns/mnt".into(), at: "linux.namespaces".into() }
    }

    /// Whether the container has a namespace of its own of this kind, made or joined.
    pub fn has(&self, flag: u64) -> bool {
        self.new & flag != 0 || self.joins(flag)
    }

    /// Whether a namespace of this kind is joined.
    pub fn joins(&self, flag: u64) -> bool {
        self.joined(flag).is_some()
    }

    /// The namespace of this kind that is joined.
    pub fn joined(&self, flag: u64) -> Option<&Join> {
        self.joins.iter().find(|join| join.kind.flag == flag)
    }
}

/// Opens the namespace file at `path` and checks that it is one of the kind `flag`.
pub fn open(join: &Join) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = nix::fcntl::open(&join.path, flags, Mode::empty())?;
    match nix::sys::statfs::fstatfs(&fd)?.filesystem_type() {
        nix::sys::statfs::NSFS_MAGIC => Ok(fd),
        _ => Err(Error::from(Errno::EINVAL).hint(
            "the path of a namespace is a file such as /proc/PID/ns/net, or a bind mount of one",
        )),
    }
}

/// Enters the namespace behind `fd`.
pub fn enter(fd: BorrowedFd, kind: Kind) -> Result<()> {
    sys::process::enter(fd, kind.flag).map_err(|errno| match errno {
        Errno::EINVAL => Error::from(errno).hint(format!(
            "the path does not name a {} namespace, or it is the one that tare is in",
            kind.name
        )),
        _ => Error::from(errno),
    })
}

/// Namespaces of the runtime to come back to: those that it joins, or makes for its children, only
/// so that the container is born in them.
#[derive(Debug, Default)]
pub struct Excursion(Vec<(OwnedFd, Kind)>);

impl Excursion {
    /// Remembers the runtime's own namespace of this kind.
    pub fn leave(&mut self, kind: Kind) -> Result<()> {
        let own = nix::fcntl::open(
            &*Path::new("/proc/self/ns").join(kind.file),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        self.0.push((own, kind));
        Ok(())
    }

    /// Comes back to all of them.
    pub fn come_back(&mut self) -> Result<()> {
        for (own, kind) in self.0.drain(..) {
            sys::process::enter(own.as_fd(), kind.flag)
                .doing(|| format!("come back to the {} namespace of tare", kind.name))?;
        }
        Ok(())
    }
}

/// Makes new namespaces (`CLONE_NEW*`) for this process.
pub fn unshare(flags: u64) -> Result<()> {
    sys::process::unshare(flags).map_err(|errno| not_made(errno, flags))
}

/// Why the kernel does not make the namespaces `flags` (clone(2), unshare(2), "ERRORS").
pub fn not_made(errno: Errno, flags: u64) -> Error {
    let err = Error::from(errno);
    match errno {
        Errno::EINVAL if flags != 0 => err.hint("the kernel lacks one of these namespaces"),
        Errno::EPERM => {
            err.hint("new namespaces need root, or a user namespace (see spec --rootless)")
        }
        Errno::ENOSPC => err.hint("a limit in /proc/sys/user/max_*_namespaces is reached"),
        _ => err,
    }
}

/// Makes a time namespace for the children of this process with offsets to its clocks
/// (time_namespaces(7)). The offsets have to be set before the first process enters.
pub fn unshare_time(offsets: &[(String, TimeOffset)]) -> Result<()> {
    sys::process::unshare(NEWTIME)?;
    let lines: String = offsets
        .iter()
        .map(|(clock, by)| format!("{clock} {} {}\n", by.secs, by.nanosecs))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    std::fs::write("/proc/self/timens_offsets", lines)
        .doing(|| "set the clocks of the time namespace")
}

/// Writes the id maps of the process `pid`, which waits in a new user namespace.
pub fn write_id_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    write_maps(pid, uids, gids, "linux")
}

/// As [`write_id_maps`], for maps that are members of what is at the JSON path `at`.
pub fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping], at: &str) -> Result<()> {
    for (file, member, maps) in [("uid_map", "uidMappings", uids), ("gid_map", "gidMappings", gids)]
    {
        let text: String = maps
            .iter()
            .map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size))
            .collect();
        let written = match std::fs::write(format!("/proc/{pid}/{file}"), &text) {
            Err(err) if err.raw_os_error() == Some(libc::EPERM) => {
                map_without_privileges(pid, file, &text, maps)
            }
            written => written.doing(|| format!("write {file}")),
        };
        written.map_err(|err| err.at(format!("{at}.{member}")))?;
    }
    Ok(())
}

/// Checks that the user namespace that is joined has the maps which are given as well.
pub fn check_id_maps(join: &Join, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let found = id_maps(open(join)?.as_fd(), join.kind)?;
    for (found, given, member) in
        [(&found[0], uids, "uidMappings"), (&found[1], gids, "gidMappings")]
    {
        let given = ranges(given.iter().map(|map| [map.container_id, map.host_id, map.size]));
        if *found != given {
            return Err(Error::new(
                "user namespaces enabled, but both namespace path and non-matching mapping specified \
                 -- you may only provide one",
            )
            .at(format!("linux.{member}"))
            .hint(format!("leave out the mappings: {} has its own", join.path.display())));
        }
    }
    Ok(())
}

/// The user `uid` of the user namespace that is joined, as this process sees him; none if he is not mapped.
pub fn user_outside(join: &Join, uid: u32) -> Result<Option<u32>> {
    let [users, _] = id_maps(open(join)?.as_fd(), join.kind)?;
    Ok(outside(users, uid))
}

fn outside(map: Vec<[u32; 3]>, id: u32) -> Option<u32> {
    map.into_iter().find_map(|[container_id, host_id, size]| {
        IdMapping { container_id, host_id, size }.outside(id)
    })
}

/// The user namespace of a container.
#[derive(Debug, Clone)]
pub enum Users {
    /// A new one, whose root is this user and this group.
    New(u32, u32),
    /// One that is joined.
    Joined(Join),
    /// That of the container's init (exec).
    OfInit,
}

impl Users {
    /// The user and the group of its root as this process sees them, with the process id of init; none if
    /// they are not mapped.
    pub fn root(&self, init: i32) -> Result<Option<(u32, u32)>> {
        let [users, groups] = match self {
            Users::New(user, group) => return Ok(Some((*user, *group))),
            Users::Joined(join) => id_maps(open(join)?.as_fd(), join.kind)?,
            Users::OfInit => maps_of(init)?,
        };
        Ok(outside(users, 0).zip(outside(groups, 0)))
    }
}

/// The maps of a user namespace, of users and of groups, as this process sees them. The kernel shows
/// those of a process, so a child enters the namespace for that.
fn id_maps(namespace: BorrowedFd, kind: Kind) -> Result<[Vec<[u32; 3]>; 2]> {
    let (ours, theirs) = Channel::pair()?;
    match fork_into(0, None)? {
        Fork::Child => {
            drop(ours);
            let said = enter(namespace, kind).map_or_else(Msg::Failed, |()| Msg::InNamespaces);
            // The end of file comes when the maps are read, or the runtime has died.
            let _ = theirs.send(&said, None).and_then(|()| theirs.receive().map(drop));
            sys::process::exit_now(0)
        }
        Fork::Parent(pid, _) => {
            drop(theirs);
            let maps = match ours.receive() {
                Ok(Some(Msg::InNamespaces)) => maps_of(pid.as_raw()),
                Ok(Some(Msg::Failed(err))) | Err(err) => Err(err),
                Ok(_) => Err(Errno::EPROTO.into()),
            };
            drop(ours);
            let _ = nix::sys::wait::waitpid(pid, None);
            maps
        }
    }
}

fn maps_of(pid: i32) -> Result<[Vec<[u32; 3]>; 2]> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
        Ok::<_, Error>(parse_map(&text))
    };
    Ok([read("uid_map")?, read("gid_map")?])
}

/// The lines of /proc/PID/uid_map (user_namespaces(7)).
fn parse_map(text: &str) -> Vec<[u32; 3]> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(|word| word.parse().ok());
        Some([words.next()??, words.next()??, words.next()??])
    };
    ranges(text.lines().filter_map(line))
}

/// The same map whatever order and pieces it is written in: first id inside, first outside, length.
fn ranges(map: impl Iterator<Item = [u32; 3]>) -> Vec<[u32; 3]> {
    let mut sorted: Vec<_> = map.collect();
    sorted.sort_unstable();
    let mut ranges: Vec<[u32; 3]> = Vec::new();
    for [inside, outside, size] in sorted {
        match ranges.last_mut() {
            Some([i, o, s])
                if i.checked_add(*s) == Some(inside) && o.checked_add(*s) == Some(outside) =>
            {
                *s = s.saturating_add(size);
            }
            _ => ranges.push([inside, outside, size]),
        }
    }
    ranges
}

/// An unprivileged caller may map the own group, if setgroups(2) is given up; anything else takes
/// the helpers that know what belongs to whom (user_namespaces(7), newuidmap(1)).
fn map_without_privileges(pid: i32, file: &str, text: &str, maps: &[IdMapping]) -> Result<()> {
    let own_group = nix::unistd::getegid().as_raw();
    if let ("gid_map", [IdMapping { host_id, size: 1, .. }]) = (file, maps)
        && *host_id == own_group
    {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").doing(|| "write setgroups")?;
        return std::fs::write(format!("/proc/{pid}/{file}"), text)
            .doing(|| format!("write {file}"));
    }
    let helper = if file == "gid_map" { "newgidmap" } else { "newuidmap" };
    let words = text.split_ascii_whitespace();
    let mut command = std::process::Command::new(helper);
    let run = sys::spawn::output(command.arg(pid.to_string()).args(words));
    let output = run.map_err(|err| {
        Error::io(format!("write {file} by {helper}"), &err)
            .hint("Debian's package uidmap has the helpers that map more than the own id")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("write {file}: {}", said.trim())).hint(format!(
        "/etc/{} has to give these ids to the calling user",
        if file == "gid_map" { "subgid" } else { "subuid" }
    )))
}

/// Drops the supplementary groups of the host: the user namespace that is joined next may deny
/// setgroups(2), and the payload would keep them.
pub fn drop_groups() -> Result<()> {
    match sys::security::set_groups(&[]) {
        // Without privileges there is no way, and nothing that the caller does not have anyway.
        Err(Errno::EPERM) => Ok(()),
        other => other.doing(|| "drop the supplementary groups"),
    }
}

/// Opens the calling process's own namespaces, through the host's /proc.
pub fn own() -> Result<Vec<(Kind, OwnedFd)>> {
    let open = |kind: Kind| {
        let path = Path::new("/proc/self/ns").join(kind.file);
        match nix::fcntl::open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            // A kernel without namespaces of this kind.
            Err(Errno::ENOENT) => Ok(None),
            opened => {
                opened.doing(|| format!("open {}", path.display())).map(|fd| Some((kind, fd)))
            }
        }
    };
    KINDS.into_iter().filter_map(|kind| open(kind).transpose()).collect()
}

/// Becomes the root of the user namespace just entered.
pub fn become_root() -> Result<()> {
    let root = nix::unistd::Uid::from_raw(0);
    nix::unistd::setresgid(0.into(), 0.into(), 0.into()).map_err(|errno| match errno {
        Errno::EINVAL => Error::from(errno).hint("the mappings have to map id 0 of the container"),
        _ => errno.into(),
    })?;
    nix::unistd::setresuid(root, root, root)?;
    // An unprivileged runtime could not have mapped the ids otherwise.
    Ok(sys::security::set_dumpable(false)?)
}

/// Sets the kernel parameter `key` of the current namespaces, through a procfs of our own.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let file = sysctl_file(key).ok_or(Errno::EINVAL)?;
    Proc::open()?.write(&Path::new("sys").join(file), value.as_bytes()).map_err(|errno| {
        let err = Error::from(errno);
        match errno {
            Errno::ENOENT => err.hint("the kernel has none of this name: is its module loaded?"),
            _ => err,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_same_in_any_pieces() {
        let read = parse_map("         0     100000      10\n        20     300000  1\n");
        assert_eq!(read, [[0, 100_000, 10], [20, 300_000, 1]]);
        let pieces = [[20, 300_000, 1], [4, 100_004, 6], [0, 100_000, 4]];
        assert_eq!(ranges(pieces.into_iter()), read);
        for other in [[[0, 100_000, 4], [4, 100_005, 6]], [[0, 100_000, 4], [5, 100_005, 5]]] {
            assert_ne!(ranges(other.into_iter()), read[..1]);
        }
        assert_eq!(ranges([[0, 0, u32::MAX], [u32::MAX, 7, 1]].into_iter()).len(), 2);
    }
}
