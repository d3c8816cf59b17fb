//! Stopping all processes of a cgroup tree at once (v1: the kernel's freezer-subsystem.rst).

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Cgroup, dir};
use crate::error::{Doing, Error, Result};

/// How long freezing may take. Processes that keep forking, or sit in an uninterruptible call,
/// can hold it up.
const LIMIT: Duration = Duration::from_secs(2);
/// After this many looks without success the cgroup is thawed for a moment: a fork that raced
/// with the order is caught by the next one only.
const LOOKS: u32 = 25;

impl Cgroup {
    /// Stops every process of the tree. After two seconds without success the cgroup is thawed
    /// and an error returned.
    pub fn freeze(&self) -> Result<()> {
        let dir = self.freezer()?;
        let end = Instant::now() + LIMIT;
        let frozen = loop {
            set(dir, "FROZEN")?;
            match settled(dir) {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() < end => set(dir, "THAWED")?,
                result => break result,
            }
        };
        set(dir, "THAWED")?;
        frozen?;
        Err(Error::new(format!("unable to freeze {dir}: its processes do not stop"))
            .hint("a process waits for a device or a server and cannot be interrupted"))
    }

    /// Lets the processes run again.
    pub fn thaw(&self) -> Result<()> {
        set(self.freezer()?, "THAWED")
    }

    /// Whether the cgroup, or one above it, is frozen or about to be.
    pub fn frozen(&self) -> Result<bool> {
        is_frozen(self.freezer()?)
    }

    fn freezer(&self) -> Result<&str> {
        match self.controller("freezer") {
            Some(place) => Ok(&place.dir),
            None => Err(Error::new("the freezer controller is not mounted: cannot pause")),
        }
    }
}

fn set(dir: &str, state: &str) -> Result<()> {
    let file = format!("{dir}/freezer.state");
    dir::write(&file, state).doing(|| format!("write {state} to {file}"))
}

/// Looks until the kernel says that all processes have stopped, at most [`LOOKS`] times.
fn settled(dir: &str) -> Result<bool> {
    for look in 0..LOOKS {
        if state(dir)?.starts_with("FROZEN") {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_micros(u64::from(look) * 20));
    }
    Ok(false)
}

/// Whether the cgroup at `dir` is frozen or about to be; an absent one is not.
pub fn is_frozen(dir: &str) -> Result<bool> {
    Ok(!matches!(state(dir)?.trim(), "THAWED" | ""))
}

fn state(dir: &str) -> Result<String> {
    let file = format!("{dir}/freezer.state");
    match dir::read(&file) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(String::new()),
        read => read.doing(|| format!("read {file}")),
    }
}
