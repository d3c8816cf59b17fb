//! What this host can do, probed once.

use std::path::Path;

use crate::cgroup::{Hierarchies, Manager};
use crate::error::{Doing, Result};
use crate::sys;

/// The facts that a plan depends on.
#[derive(Debug)]
pub struct Host {
    /// How cgroups are mounted.
    pub hierarchies: Hierarchies,
    /// The capabilities that this process may hand on, a bit a capability.
    pub capabilities: u64,
    /// Whether the kernel shows its memory in /proc/kcore.
    pub kcore: bool,
    /// The systemd that is to make the cgroups, if one is.
    pub systemd: Option<Manager>,
    /// Whether missing permissions for cgroups are tolerated, where nothing depends on them.
    pub rootless: bool,
}

impl Host {
    /// Looks at the host; changes nothing and needs no privilege.
    pub fn probe() -> Result<Self> {
        let held = sys::security::capabilities().doing(|| "read the capabilities of tare")?;
        Ok(Host {
            hierarchies: Hierarchies::probe()?,
            capabilities: held.permitted,
            kcore: Path::new("/proc/kcore").exists(),
            systemd: None,
            rootless: false,
        })
    }
}

/// Whether the caller lacks the rights of the host's root: it is somebody else, or root of a user
/// namespace only.
pub fn is_unprivileged() -> bool {
    // PROC_USER_INIT_INO of linux/proc_ns.h: the file of the initial user namespace.
    const INITIAL: u64 = 0xEFFF_FFFD;
    let is_hosts = || nix::sys::stat::stat("/proc/self/ns/user").is_ok_and(|s| s.st_ino == INITIAL);
    sys::process::euid() != 0 || !is_hosts()
}
