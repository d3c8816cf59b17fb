//! Cgroups of callers without privileges: they can have what somebody has given them (systemd gives
//! users a tree of their own), and a container without limits can do without.

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};

use super::{CANNOT_APPLY, Cgroup, Hierarchies, Place, Setting, dir};
use crate::error::{Error, Result};

impl Cgroup {
    /// The cgroups that the caller is in: what a container without any of its own is in too.
    pub fn of_caller(host: &Hierarchies) -> Cgroup {
        let places = host.list().iter().filter_map(|own| own.place("", false, false).ok());
        Cgroup { places: places.collect(), unit: None }
    }

    /// Whether the caller can move its children there. A user's systemd has a tree that those outside
    /// of it, as in a session, have no way into (cgroup-v2.rst, "Delegation Containment").
    pub fn is_reachable(&self, host: &Hierarchies) -> bool {
        let (Some(unit), Some(place)) = (&self.unit, self.v2()) else { return true };
        let own = Cgroup::of_caller(host);
        let Some(own) = own.v2().filter(|_| unit.user) else { return true };
        let same = own.dir.split('/').zip(place.dir.split('/')).take_while(|(a, b)| a == b);
        let common: Vec<&str> = same.map(|(part, _)| part).collect();
        let file = format!("{}/cgroup.procs", common.join("/"));
        eaccess(file.as_str(), AccessFlags::W_OK).is_ok()
    }

    /// Has systemd move the process `pid` there.
    ///
    /// # Errors
    /// systemd refuses.
    pub fn join_unit(&self, pid: i32) -> Result<()> {
        let (Some(unit), Some(place)) = (&self.unit, self.v2()) else { return Ok(()) };
        let below = place.dir.split_once(&unit.name).map_or("", |(_, below)| below);
        unit.attach(pid, below).map_err(|err| err.context("error adding pid to cgroups"))
    }

    /// What the caller can have of these cgroups; none at all, if nothing of it was asked for by path
    /// (`asked`) or needed for a limit.
    ///
    /// # Errors
    /// In the words of runc, if it was.
    pub fn permitted(self, asked: bool, limits: &[Setting]) -> Result<Option<Cgroup>> {
        let denied = self.places.iter().find_map(|place| Some((place, denial(place)?)));
        let Some((place, errno)) = denied else { return Ok(Some(self)) };
        if self.is_v2() {
            return match limits.first() {
                None if !asked => Ok(None),
                limit => Err(unified_denied(place, errno, limit)),
            };
        }
        // One that was asked for by its path is made, and fails with the kernel's words.
        if asked {
            return Ok(Some(self));
        }
        let kept = self.places.into_iter().filter(|place| denial(place).is_none());
        let kept = Cgroup { places: kept.collect(), unit: None };
        match limits.iter().find(|limit| kept.controller(limit.controller()).is_none()) {
            Some(limit) => Err(Error::new(format!(
                "cannot set {} limit: container could not join or create cgroup",
                limit.controller()
            ))
            .at(limit.at.as_ref())
            .hint(format!(
                "remove the limit, or have root make a cgroup for you: cgroupsPath has to name it, \
                 and its {} controller has to be yours",
                limit.controller()
            ))),
            None => Ok((!kept.places.is_empty()).then_some(kept)),
        }
    }
}

fn unified_denied(place: &Place, errno: Errno, limit: Option<&Setting>) -> Error {
    const WORDS: &str =
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
    let err = Error::sys(format!("{CANNOT_APPLY}: {WORDS}: mkdir {}", place.dir), errno);
    match limit {
        None => err.at("linux.cgroupsPath"),
        Some(limit) => err.at(limit.at.as_ref()).hint(delegation(limit.controller())),
    }
}

/// The controllers that systemd can hand on to a user (systemd.resource-control(5), `Delegate=`).
pub const HANDED_ON: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The configuration that hands them on.
pub fn delegate_file() -> String {
    let all = HANDED_ON.join(" ");
    let file = "/etc/systemd/system/user@.service.d/delegate.conf";
    format!("{file} says `[Service]` and `Delegate={all}`")
}

/// How a user gets a controller.
pub(super) fn delegation(controller: &str) -> String {
    match HANDED_ON.contains(&controller) {
        true => format!(
            "a user has the {controller} controller with --systemd-cgroup, where {}",
            delegate_file()
        ),
        false => format!(
            "the {controller} controller is for root alone: systemd hands on no others than \
             `Delegate={}`",
            HANDED_ON.join(" ")
        ),
    }
}

/// Why the caller cannot make the directory or, where it is there, not change it.
fn denial(place: &Place) -> Option<Errno> {
    let mut dir = place.dir.as_str();
    while !dir::is_there(dir) {
        dir = dir::parent(dir)?;
    }
    eaccess(dir, AccessFlags::W_OK | AccessFlags::X_OK).err()
}

#[cfg(test)]
mod tests {
    use super::super::How;
    use super::*;

    /// The cgroup /proc/self/x: nobody can make a directory there.
    fn denied(unified: bool) -> Cgroup {
        let name = if unified { "" } else { "pids" };
        let host = Hierarchies::fixed(&[(name, "/proc/self", "/own")]);
        Cgroup::plan(&host, Some("/x"), "x").unwrap()
    }

    fn pids() -> Setting {
        Setting {
            file: "pids.max".into(),
            value: "5".into(),
            at: "linux.resources.pids.limit".into(),
            how: How::Write,
        }
    }

    #[test]
    fn what_is_not_needed_is_done_without() {
        if nix::unistd::geteuid().is_root() {
            // The permission bits of /proc do not bind root; the words below are tested as a user.
            return;
        }
        assert_eq!(denied(true).permitted(false, &[]).unwrap(), None);
        assert_eq!(denied(false).permitted(false, &[]).unwrap(), None);
        assert!(denied(false).permitted(true, &[]).unwrap().is_some());
        let words = "rootless needs no limits + no cgrouppath";
        for (asked, limits) in [(true, vec![]), (false, vec![pids()])] {
            let err = denied(true).permitted(asked, &limits).unwrap_err();
            assert!(err.message().contains(words), "{err}");
        }
        let err = denied(false).permitted(false, &[pids()]).unwrap_err();
        let words = "cannot set pids limit: container could not join or create cgroup";
        assert_eq!(err.message(), words);
    }

    #[test]
    fn what_is_permitted_stays() {
        let host = Hierarchies::fixed(&[("pids", "/tmp", "/own")]);
        let cgroup = Cgroup::plan(&host, Some("/a/b"), "x").unwrap();
        assert_eq!(cgroup.clone().permitted(false, &[pids()]).unwrap(), Some(cgroup));
    }
}
