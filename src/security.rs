//! Credentials of the payload: ids, groups, capabilities, no_new_privs (config.md "User",
//! config.md "Linux Process").

use std::str::FromStr;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::error::{Doing, Error, Result};
use crate::spec::config;
use crate::sys::security as sys;
use crate::sys::security::CapSets;

/// The last capability of the oldest kernel.
const CHECKPOINT_RESTORE: u32 = 40;

/// The highest capability number that the kernel's interface has room for.
const MAX_CAPABILITY: u32 = 63;

/// The five capability sets, a bit a capability.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    bounding: u64,
    sets: CapSets,
    ambient: u64,
}

impl Capabilities {
    /// Reads `process.capabilities`. Names that are unknown, or not to be had because `held` lacks
    /// them, are left out and returned: the specification wants a warning, not a failure.
    pub fn plan(config: Option<&config::Capabilities>, held: u64) -> (Self, Vec<String>) {
        let Some(config) = config else { return Default::default() };
        let mut missing = Vec::new();
        let mut set = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match number(name).filter(|n| held & (1 << n) != 0) {
                    Some(n) => bits |= 1 << n,
                    None if missing.contains(name) => {}
                    None => missing.push(name.clone()),
                }
            }
            bits
        };
        let bounding = set(&config.bounding);
        let sets = CapSets {
            effective: set(&config.effective),
            permitted: set(&config.permitted),
            inheritable: set(&config.inheritable),
        };
        let ambient = set(&config.ambient);
        missing.sort();
        (Capabilities { bounding, sets, ambient }, missing)
    }

    /// Drops from the bounding set what is not wanted there.
    fn limit(self) -> Result<()> {
        for n in (0..=MAX_CAPABILITY).filter(|n| self.bounding & (1 << n) == 0) {
            match sys::drop_bounding(n) {
                // Beyond the last capability of this kernel.
                Err(Errno::EINVAL) if n > CHECKPOINT_RESTORE => break,
                other => other.doing(|| format!("drop {} from the bounding set", name(n)))?,
            }
        }
        Ok(())
    }

    /// Applies the remaining sets. An ambient capability has to be permitted and inheritable;
    /// others are left out, as runc does.
    fn apply(self) -> Result<()> {
        let set = sys::set_capabilities(self.sets);
        set.doing(|| "set capabilities").map_err(|err| err.at("process.capabilities"))?;
        let possible = self.ambient & self.sets.permitted & self.sets.inheritable;
        for n in (0..=MAX_CAPABILITY).filter(|n| possible & (1 << n) != 0) {
            sys::raise_ambient(n).doing(|| format!("raise ambient capability {}", name(n)))?;
        }
        Ok(())
    }

    /// Which of the ambient capabilities in `config` cannot be raised, for a warning.
    pub fn ambient_refused(self, config: Option<&config::Capabilities>) -> Vec<&str> {
        let refused = self.ambient & !(self.sets.permitted & self.sets.inheritable);
        let names = config.map_or(&[][..], |config| &config.ambient).iter().map(String::as_str);
        names.filter(|name| number(name).is_some_and(|n| refused & (1 << n) != 0)).collect()
    }
}

/// The number of the capability `name` (`CAP_KILL`).
pub fn number(name: &str) -> Option<u32> {
    caps::Capability::from_str(name).ok().map(|cap| u32::from(cap.index()))
}

fn name(number: u32) -> String {
    let known = caps::all().into_iter().find(|cap| u32::from(cap.index()) == number);
    known.map_or_else(|| format!("capability {number}"), |cap| cap.to_string())
}

/// Who the payload is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Exactly these supplementary groups.
    pub groups: Vec<u32>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// Whether setgroups(2) may be denied, as in the user namespace of an unprivileged caller: the
    /// groups that stay are that caller's own.
    pub groups_may_stay: bool,
}

/// Whether a process of these capabilities may look into others, whatever they do against it:
/// such a one reaches the program of a runtime in its pid namespace (CVE-2019-5736).
pub fn may_trace(process: &config::Process) -> bool {
    process.capabilities.as_ref().is_some_and(|sets| {
        let sets =
            [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient];
        sets.iter().any(|names| names.iter().any(|name| name == TRACE))
    })
}

/// The capability that [`may_trace`] looks for.
pub const TRACE: &str = "CAP_SYS_PTRACE";

impl Credentials {
    /// Becomes that user, with these groups and capabilities, for good.
    ///
    /// Order: what needs privileges first (bounding set, groups), then the ids with the permitted
    /// set kept, then the sets themselves.
    pub fn assume(&self) -> Result<()> {
        self.capabilities.limit()?;
        let leaves_root = self.uid != 0;
        if leaves_root {
            sys::keep_capabilities(true)?;
        }
        self.set_groups()?;
        let (gid, uid) = (Gid::from_raw(self.gid), Uid::from_raw(self.uid));
        setresgid(gid, gid, gid).map_err(|e| no_such_id(e, "gid", self.gid))?;
        setresuid(uid, uid, uid).map_err(|e| no_such_id(e, "uid", self.uid))?;
        if leaves_root {
            sys::keep_capabilities(false)?;
        }
        self.capabilities.apply()
    }

    /// A user namespace that was made by an unprivileged user denies setgroups(2); the groups have
    /// been dropped before it was joined, so there is nothing left to do if none are wanted.
    fn set_groups(&self) -> Result<()> {
        let set = sys::set_groups(&self.groups);
        if set == Err(Errno::EPERM)
            && self.groups.is_empty()
            && (self.groups_may_stay || nix::unistd::getgroups()?.is_empty())
        {
            return Ok(());
        }
        set.map_err(|errno| {
            let err = Error::sys("set the supplementary groups", errno);
            let err = err.at("process.user.additionalGids");
            match errno {
                Errno::EPERM if self.groups_may_stay => err.hint(
                    "a user namespace that was made without privileges has one group; more need \
                     newgidmap(1) and a range in /etc/subgid",
                ),
                _ => err,
            }
        })
    }
}

fn no_such_id(errno: Errno, what: &str, id: u32) -> Error {
    let err = Error::sys(format!("become {what} {id}"), errno).at(format!("process.user.{what}"));
    if errno == Errno::EINVAL {
        return err.hint("the id has no mapping in the container's user namespace");
    }
    err
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_unavailable_names_are_returned_once_in_order() {
        let json =
            r#"{"bounding":["CAP_SYS_ADMIN","CAP_KILL","CAP_NOPE"],"effective":["CAP_NOPE"]}"#;
        let config = crate::spec::load::from_json(json).unwrap();
        let (caps, missing) = Capabilities::plan(Some(&config), 1 << 5);
        assert_eq!(caps.bounding, 1 << 5);
        assert_eq!(caps.sets.effective, 0);
        assert_eq!(missing, ["CAP_NOPE", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let json = r#"{"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}"#;
        let config = crate::spec::load::from_json(json).unwrap();
        let (caps, _) = Capabilities::plan(Some(&config), u64::MAX);
        assert_eq!(caps.ambient_refused(Some(&config)), ["CAP_KILL"]);
    }
}
