//! What this host can do, probed once.

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
    /// The systemd that is to make the cgroups, if one is.
    pub systemd: Option<Manager>,
}

impl Host {
    /// Looks at the host; changes nothing and needs no privilege.
    pub fn probe() -> Result<Self> {
        let held = sys::security::capabilities().doing(|| "read the capabilities of tare")?;
        Ok(Host { hierarchies: Hierarchies::probe()?, capabilities: held.permitted, systemd: None })
    }
}
