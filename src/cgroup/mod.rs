//! Control groups: where a container's are, what is written into them, who is in them.
//!
//! ```text
//! Hierarchies::probe ─► Cgroup::plan ──────► create ─► apply(settings) ─► attach ─► … ─► kill ─► remove
//!                  └──► settings(resources) ────────────┘
//! ```
//! Planning has no side effects: a [`Cgroup`] is a list of directories, a [`Setting`] one file to
//! be written, with the path in `config.json` that orders it. The rooms:
//!
//! | file | what it knows |
//! |---|---|
//! | hierarchies.rs | how this host mounts cgroups |
//! | dir.rs | files and directories of a cgroup file system; no policy |
//! | permitted.rs | what a caller without privileges can have |
//! | create.rs | making directories, enabling controllers on the way, giving them away |
//! | setting.rs | one planned write, its execution and its errors |
//! | v1.rs, v2.rs, writes.rs | `linux.resources` → settings for either version |
//! | devices.rs, device_filter.rs | device rules: a list in v1, a program in v2 |
//! | freezer.rs, processes.rs | stopping, listing and killing what is in a cgroup tree |
//! | current.rs | what an update has to know of the limits that are set |
//! | stats.rs, stats2.rs | usage figures in the shape of `runc events --stats` |
//! | oom.rs | notice of processes ended for want of memory |
//! | systemd.rs, properties.rs | a unit of systemd in place of own directories, its limits |
//!
//! Paths are used as they are, without directory descriptors: a cgroup file system has no
//! symbolic links, `..` is refused by [`Cgroup::plan`], and every mount point was verified by its
//! magic number. The crate cgroups-rs is not used: it lacks device programs for v2 and brings an
//! asynchronous D-Bus stack of 73 crates.

mod create;
mod current;
mod device_filter;
mod devices;
mod dir;
mod freezer;
mod hierarchies;
mod mounts;
pub mod oom;
mod permitted;
mod processes;
mod properties;
mod setting;
mod stats;
mod stats2;
mod systemd;
mod tree;
mod v1;
mod v2;
mod writes;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::spec::config::Resources;

pub use devices::{changes as device_changes, settings as device_settings, words as device_words};
pub use freezer::FROZEN_ABOVE;
pub use hierarchies::{Hierarchies, Hierarchy, Version};
pub use mounts::CgroupMount;
pub use permitted::{HANDED_ON, delegate_file};
pub use properties::{ANNOTATION, Property, annotated, limits as properties};
pub use setting::{How, Setting};
pub use stats::{Stats, Table};
pub use systemd::{Manager, Unit};
pub use v1::ignored;

/// What systemd is told of a change, and what is written.
pub type Change = (Vec<Property>, Vec<Setting>);

/// Where a container's cgroups are: one directory in every mounted hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    places: Vec<Place>,
    /// The unit of systemd that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

/// A container's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// As in `/proc/self/cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    pub controllers: String,
    /// Where the hierarchy is mounted: `/sys/fs/cgroup/memory`.
    pub mountpoint: String,
    /// The container's directory: `/sys/fs/cgroup/memory/web`.
    pub dir: String,
    /// How much of `dir` was there when it was planned, in bytes, if parents were lacking: those are
    /// removed with the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<usize>,
}

impl Place {
    /// Whether `controller` (or `name=NAME`) belongs to this hierarchy.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }
}

/// An open file by which the calling process moves itself into a cgroup.
#[derive(Debug)]
pub struct Entrance {
    fd: OwnedFd,
    file: String,
}

impl Entrance {
    fn open(place: &Place) -> Result<Entrance> {
        let file = Entrance::file(place);
        let fd = dir::open_write(&file).doing(|| format!("open {file}"))?;
        Ok(Entrance { fd, file })
    }

    fn file(place: &Place) -> String {
        let name = if place.controllers.is_empty() { "cgroup.procs" } else { "tasks" };
        format!("{}/{name}", place.dir)
    }

    /// Moves the calling process, which has to have a single thread.
    pub fn enter(&self) -> Result<()> {
        dir::write_to(&self.fd, "0").doing(|| format!("write 0 to {}", self.file))
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Entrance> for OwnedFd {
    fn from(entrance: Entrance) -> OwnedFd {
        entrance.fd
    }
}

/// Everything in `linux.resources` as writes in the order in which they have to happen.
///
/// Device rules come last and are never empty: without rules of the container's own all devices
/// are denied but the default ones (config-linux.md, "Default Devices"). Anything that cannot be
/// set on this host is refused with its JSON path.
pub fn settings(resources: &Resources, host: &Hierarchies) -> Result<Vec<Setting>> {
    let mut settings = limits(resources, host)?;
    settings.extend(devices::settings(&resources.devices, host)?);
    Ok(settings)
}

/// [`settings`] without the device rules: what an update of a running container writes.
pub fn limits(resources: &Resources, host: &Hierarchies) -> Result<Vec<Setting>> {
    match host.version() {
        Version::V1 => v1::limits(resources, host),
        Version::V2 => v2::limits(resources, host),
    }
}

impl Cgroup {
    /// Plans the cgroups of container `id`; nothing is touched.
    ///
    /// An absolute `cgroups_path` begins at each hierarchy's mount point, a relative one at the
    /// caller's own cgroup; absent or empty, the container's id stands for it, as in runc.
    /// Refused: `..`, control characters, and a path that names no cgroup of its own.
    pub fn plan(host: &Hierarchies, cgroups_path: Option<&str>, id: &str) -> Result<Cgroup> {
        let asked = cgroups_path.filter(|path| !path.is_empty()).unwrap_or(id);
        let path = clean(asked)?;
        if host.list().is_empty() {
            return Err(Error::new("no cgroup hierarchy is mounted")
                .hint("cgroups are expected below /sys/fs/cgroup"));
        }
        let absolute = asked.starts_with('/');
        let pure = host.version() == Version::V2;
        let place = |hierarchy: &Hierarchy| hierarchy.place(&path, absolute, pure);
        let mut places = host.list().iter().map(place).collect::<Result<Vec<_>>>()?;
        if path.contains('/') {
            for place in &mut places {
                let there = create::missing_parents(place);
                place.there = there.doing(|| format!("look for the cgroup {}", place.dir))?;
            }
        }
        Ok(Cgroup { places, unit: None })
    }

    /// Plans the cgroups of a unit that `manager` is to start; nothing is touched.
    ///
    /// # Errors
    /// `cgroups_path` is not `slice:prefix:name`, or a part of it is no name.
    pub fn plan_unit(
        host: &Hierarchies,
        manager: &Manager,
        cgroups_path: Option<&str>,
        id: &str,
    ) -> Result<Cgroup> {
        let (unit, dir) = Unit::plan(manager, cgroups_path, id)?;
        let dir = dir.trim_start_matches('/');
        let places = host.list().iter().map(|hierarchy| hierarchy.place(dir, true, false));
        Ok(Cgroup { places: places.collect::<Result<_>>()?, unit: Some(unit) })
    }

    /// The unit of systemd that makes these cgroups.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// The container's directories, one for each hierarchy.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The part with `controller`, and the rest. Where controllers are mounted together they stay
    /// together; cgroup v2 has a single hierarchy, which is the rest.
    pub fn split(&self, controller: &str) -> (Cgroup, Cgroup) {
        let part = |with: bool| self.places.iter().filter(move |p| p.has(controller) == with);
        (
            Cgroup { places: part(true).cloned().collect(), unit: None },
            Cgroup { places: part(false).cloned().collect(), unit: None },
        )
    }

    /// The cgroup of v2 alone.
    pub fn unified(&self) -> Cgroup {
        self.split("").0
    }

    /// Whether the host has nothing but v2.
    pub fn is_v2(&self) -> bool {
        self.v2().is_some()
    }

    /// The v2 cgroup that process `pid` is in, which need not be the container's.
    pub fn of_process(&self, pid: i32) -> Option<Cgroup> {
        let text = dir::read(&format!("/proc/{pid}/cgroup")).ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let place = self.v2()?;
        let dir = format!("{}{}", place.mountpoint, own.trim_end_matches('/'));
        let places = vec![Place { dir, there: None, ..place.clone() }];
        Some(Cgroup { places, unit: self.unit.clone() })
    }

    /// Whether this cgroup of v2 is one below `other`.
    pub fn is_below(&self, other: &Cgroup) -> bool {
        let below = |(own, other): (&Place, &Place)| {
            own.dir.strip_prefix(&other.dir).is_some_and(|rest| rest.starts_with('/'))
        };
        self.v2().zip(other.v2()).is_some_and(below)
    }

    /// Refuses those of `settings` that are limits not above the usage, if that is asked for:
    /// [`Cgroup::apply`] does so too, but systemd may be told before.
    pub fn check(&self, settings: &[Setting]) -> Result<()> {
        setting::check(self, settings)
    }

    /// Writes `settings` in their order; see [`Setting`] for the exceptions to it.
    pub fn apply(&self, settings: &[Setting]) -> Result<()> {
        setting::apply(self, settings)
    }

    /// Writes the new `limits`, then changes device `rules`; systemd is told the properties of each first.
    /// A refusal leaves all as it was, but for limits of single devices and for rules that were refused in
    /// part.
    pub fn update(&self, limits: &Change, rules: &Change) -> Result<()> {
        let before = setting::present(self, &limits.1);
        let change = |(told, written): &Change| self.tell(told).and_then(|()| self.apply(written));
        change(limits).and_then(|()| change(rules)).inspect_err(|_| {
            // The first failure is the one to tell.
            let _ = self.tell(&properties::limits(&before));
            setting::put_back(self, &before);
        })
    }

    /// Opens the files by which the calling process moves itself into these cgroups, to be used with
    /// [`Entrance::enter`]. v1 has one for a single thread: moving the caller's own takes none of
    /// the kernel's global locks, which cost milliseconds on a busy host.
    ///
    /// The first of `opened` are taken for those that another process has opened, in the same order.
    pub fn entrances(&self, opened: &mut impl Iterator<Item = OwnedFd>) -> Result<Vec<Entrance>> {
        let entrance = |place: &Place| match opened.next() {
            Some(fd) => Ok(Entrance { fd, file: Entrance::file(place) }),
            None => Entrance::open(place),
        };
        self.places.iter().map(entrance).collect()
    }

    /// Moves process `pid` into every hierarchy.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let attached = self.write_procs(pid).or_else(|err| match err.errno() {
            Some(Errno::EOPNOTSUPP) if self.make_threaded() => self.write_procs(pid),
            _ => Err(err),
        });
        attached.map_err(|err| err.context(CANNOT_APPLY).at("linux.cgroupsPath"))
    }

    /// As [`Cgroup::attach`], in the words that `exec` is expected to fail with.
    pub fn join(&self, pid: i32) -> Result<()> {
        let context = || format!("error adding pid {pid} to cgroups");
        self.write_procs(pid).map_err(|err| err.context(context()))
    }

    fn write_procs(&self, pid: i32) -> Result<()> {
        let pid = pid.to_string();
        self.places.iter().try_for_each(|place| {
            let file = format!("{}/cgroup.procs", place.dir);
            dir::write(&file, &pid)
                .doing(|| format!("write {pid} to {file}"))
                .map_err(explain_threaded)
        })
    }

    /// The cgroup that `exec --cgroup` asks for: each of `requests` is `PATH` for all
    /// hierarchies or `CONTROLLERS:PATH`, beneath the container's own directories.
    pub fn sub(&self, requests: &[String]) -> Result<Cgroup> {
        let mut cgroup = self.clone();
        let mut named: Vec<&str> = Vec::new();
        for request in requests {
            let (names, path) = sub_request(request, requests.len())?;
            let path = path.trim_matches('/');
            if path.split('/').any(|part| part == "..") {
                return Err(Error::new(format!("bad sub cgroup path: {path}")));
            }
            let known = |name: &&&str| self.places.iter().any(|place| place.has(name));
            if let Some(name) = names.iter().find(|name| !known(name)) {
                return Err(Error::new(format!("unknown controller {name} in --cgroup")));
            }
            if let Some(name) = names.iter().find(|name| named.contains(name)) {
                let what = format!("controller {name} specified multiple times");
                return Err(Error::new(format!("invalid --cgroup argument(s): {what}")));
            }
            named.extend(&names);
            let asked = |place: &Place| names.is_empty() || names.iter().any(|n| place.has(n));
            for place in cgroup.places.iter_mut().filter(|place| !path.is_empty() && asked(place)) {
                place.dir.push('/');
                place.dir.push_str(path);
            }
        }
        Ok(cgroup)
    }

    /// Whether the container's cgroup is still there. Where that cannot be learned, whoever uses it will
    /// fail.
    pub fn exists(&self) -> bool {
        self.main().is_some_and(|place| dir::exists(&place.dir).unwrap_or(true))
    }

    /// The hierarchy that speaks for all: devices on v1, as in runc. It is the one that cannot
    /// be absent there.
    fn main(&self) -> Option<&Place> {
        self.controller("devices").or(self.places.first())
    }

    /// Where `name`'s files are: all controllers share the one hierarchy of v2.
    fn controller(&self, name: &str) -> Option<&Place> {
        self.v2().or_else(|| self.places.iter().find(|place| place.has(name)))
    }

    /// The place on a host with nothing but v2.
    fn v2(&self) -> Option<&Place> {
        match self.places.as_slice() {
            [place] if place.controllers.is_empty() => Some(place),
            _ => None,
        }
    }
}

/// Says why a cgroup that is threaded, or below one that is, does not do what others do
/// (cgroup-v2.rst, "Threads").
pub fn explain_threaded(err: Error) -> Error {
    match err.errno() {
        Some(Errno::EOPNOTSUPP) => {
            err.hint("its cgroup.type says that it is threaded or beside such: use another")
        }
        _ => err,
    }
}

/// The beginning of the message that callers of runc look for.
pub const CANNOT_APPLY: &str = "unable to apply cgroup configuration";

/// The controllers and the path of a request of [`Cgroup::sub`], one of `count`; no controllers
/// are all of them.
fn sub_request(request: &str, count: usize) -> Result<(Vec<&str>, &str)> {
    let wrong = |what: &str| Error::new(format!("invalid --cgroup argument: {request} ({what})"));
    let Some((names, path)) = request.split_once(':') else {
        return match count {
            1 => Ok((Vec::new(), request)),
            _ => Err(wrong("missing <controller>: prefix")),
        };
    };
    let names: Vec<&str> = names.split(',').collect();
    match names.contains(&"") {
        true => Err(wrong("empty <controller> prefix")),
        false => Ok((names, path)),
    }
}

/// The path without empty and `.` components, and without a leading slash.
fn clean(path: &str) -> Result<String> {
    let refuse = |why: &str| {
        let message = format!("cgroups path {path:?} is not usable: {why}");
        Err(Error::new(message).at("linux.cgroupsPath"))
    };
    if path.chars().any(|c| c.is_ascii_control()) {
        return refuse("it holds a control character");
    }
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return refuse("it holds \"..\"");
    }
    if parts.is_empty() {
        return refuse("it names no cgroup of the container's own");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Hierarchies {
        Hierarchies::fixed(&[
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ""),
            ("memory", "/sys/fs/cgroup/memory", "/own"),
        ])
    }

    fn dirs(path: Option<&str>) -> Vec<String> {
        let cgroup = Cgroup::plan(&host(), path, "web").unwrap();
        cgroup.places().iter().map(|place| place.dir.clone()).collect()
    }

    #[test]
    fn absolute_paths_begin_at_the_root() {
        let expected = ["/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/memory/a/b"];
        assert_eq!(dirs(Some("/a/b")), expected);
        assert_eq!(dirs(Some("//a/./b/")), expected);
    }

    #[test]
    fn relative_paths_and_ids_begin_at_the_own_cgroup() {
        let below = |p| {
            [format!("/sys/fs/cgroup/cpu,cpuacct/{p}"), format!("/sys/fs/cgroup/memory/own/{p}")]
        };
        assert_eq!(dirs(Some("a/b")), below("a/b"));
        assert_eq!(dirs(None), below("web"));
        assert_eq!(dirs(Some("")), below("web"));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/", ".", "//", "..", "/a/../..", "a/..", "a\0b", "a\nb"] {
            let err = Cgroup::plan(&host(), Some(path), "web").unwrap_err();
            assert_eq!(err.path(), Some("linux.cgroupsPath"), "{path:?}");
        }
        assert!(Cgroup::plan(&host(), Some("/a..b/..."), "web").is_ok());
    }

    #[test]
    fn no_cgroups_no_plan() {
        let err = Cgroup::plan(&Hierarchies::fixed(&[]), None, "web").unwrap_err();
        assert_eq!(err.message(), "no cgroup hierarchy is mounted");
    }

    #[test]
    fn sub_cgroups_of_exec() {
        let cgroup = Cgroup::plan(&host(), Some("/web"), "x").unwrap();
        let sub = |requests: &[&str]| {
            let requests: Vec<String> = requests.iter().map(|r| r.to_string()).collect();
            let sub = cgroup.sub(&requests)?;
            Ok(sub.places.into_iter().map(|p| p.dir).collect::<Vec<_>>())
        };
        let dirs = |cpu: &str, memory: &str| {
            vec![
                format!("/sys/fs/cgroup/cpu,cpuacct{cpu}"),
                format!("/sys/fs/cgroup/memory{memory}"),
            ]
        };
        let ok = |requests: &[&str]| sub(requests).map_err(|err: Error| err.message()).unwrap();
        assert_eq!(ok(&["web"]), dirs("/web/web", "/web/web"));
        assert_eq!(ok(&["a/b"]), dirs("/web/a/b", "/web/a/b"));
        assert_eq!(ok(&["/"]), dirs("/web", "/web"));
        assert_eq!(ok(&["memory:m", "cpu,cpuacct:c"]), dirs("/web/c", "/web/m"));
        let message = |requests: &[&str]| sub(requests).unwrap_err().message();
        assert!(message(&[".."]).starts_with("bad sub cgroup path"));
        assert!(message(&["memory:../x"]).starts_with("bad sub cgroup path"));
        assert!(message(&[":m"]).contains("(empty <controller> prefix)"));
        assert!(message(&["memory:m", "x"]).contains("(missing <controller>: prefix)"));
        assert!(message(&["cpu:c", "cpu:d"]).contains("cpu specified multiple times"));
        assert!(message(&["whaaat:/"]).starts_with("unknown controller whaaat"));
    }

    #[test]
    fn survives_the_state_file() {
        let cgroup = Cgroup::plan(&host(), None, "web").unwrap();
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }
}
