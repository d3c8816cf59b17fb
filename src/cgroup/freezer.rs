//! Stopping all processes of a cgroup tree at once (the kernel's freezer-subsystem.rst for v1,
//! `cgroup.freeze` in cgroup-v2.rst).

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Cgroup, Place, dir};
use crate::error::{Doing, Error, Result};

/// How long freezing may take. Processes that keep forking, or sit in an uninterruptible call,
/// can hold it up.
const LIMIT: Duration = Duration::from_secs(2);
/// After this many looks without success the cgroup is thawed for a moment: on v1 a fork that
/// raced with the order is caught by the next one only.
const LOOKS: u32 = 25;

/// Why a container that is not paused does not run.
pub const FROZEN_ABOVE: &str = "a cgroup above the container's is frozen: thaw that";

impl Cgroup {
    /// Stops every process of the tree. After two seconds without success the cgroup is thawed
    /// and an error returned.
    pub fn freeze(&self) -> Result<()> {
        let Some(place) = self.freezer() else {
            return Err(Error::new("the freezer controller is not mounted: cannot pause"));
        };
        let end = Instant::now() + LIMIT;
        let result = loop {
            order(place, true)?;
            match settled(place) {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() < end => order(place, false)?,
                other => break other,
            }
        };
        order(place, false)?;
        result?;
        Err(Error::new(format!("unable to freeze {}: its processes do not stop", place.dir))
            .hint("a process waits for a device or a server and cannot be interrupted"))
    }

    /// Lets the processes run again.
    pub fn thaw(&self) -> Result<()> {
        self.freezer().map_or(Ok(()), |place| order(place, false))
    }

    /// Whether the cgroup, or one above it, is frozen or about to be. One that is gone, or
    /// cannot be frozen on this host, is not.
    pub fn frozen(&self) -> Result<bool> {
        self.freezer().map_or(Ok(false), is_frozen)
    }

    /// Whether this cgroup itself was ordered to stop.
    pub fn paused(&self) -> Result<bool> {
        self.freezer().map_or(Ok(false), is_ordered)
    }

    /// Whether the processes of a cgroup that is not [`Cgroup::paused`] stand still all the same: one
    /// above it is frozen.
    pub fn frozen_above(&self) -> bool {
        self.freezer().is_some_and(|place| stands(place).unwrap_or(false))
    }

    /// Moves process `pid` to where v1's freezer does not reach it with the others.
    pub fn leave_freezer(&self, pid: i32) -> Result<()> {
        let Some(place) = self.places.iter().find(|place| place.has("freezer")) else {
            return Ok(());
        };
        let Some((parent, _)) = place.dir.rsplit_once('/') else { return Ok(()) };
        let file = format!("{parent}/cgroup.procs");
        dir::write(&file, &pid.to_string()).doing(|| format!("write {pid} to {file}"))
    }

    /// The directory of the cgroup by which it can be frozen, if this host has one.
    pub fn freezer_dir(&self) -> Option<&str> {
        self.freezer().map(|place| place.dir.as_str())
    }

    /// v1's freezer, or else v2.
    fn freezer(&self) -> Option<&Place> {
        self.controller("freezer").or_else(|| self.places.iter().find(|place| is_v2(place)))
    }
}

fn is_v2(place: &Place) -> bool {
    place.controllers.is_empty()
}

/// Whether [`is_frozen`] can tell something about this hierarchy.
pub fn can_freeze(place: &Place) -> bool {
    place.has("freezer") || is_v2(place)
}

fn order(place: &Place, stop: bool) -> Result<()> {
    let (name, value) = match (is_v2(place), stop) {
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
    };
    let file = format!("{}/{name}", place.dir);
    dir::write(&file, value).doing(|| format!("write {value} to {file}"))
}

/// Looks until the kernel says that all processes have stopped, at most [`LOOKS`] times.
fn settled(place: &Place) -> Result<bool> {
    for look in 0..LOOKS {
        let done = match is_v2(place) {
            false => read(place, "freezer.state")?.starts_with("FROZEN"),
            true => stands(place)?,
        };
        if done {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_micros(u64::from(look) * 20));
    }
    Ok(false)
}

/// Whether the cgroup is frozen or about to be; an absent one is not.
pub fn is_frozen(place: &Place) -> Result<bool> {
    Ok(stands(place)? || is_v2(place) && is_ordered(place)?)
}

fn is_ordered(place: &Place) -> Result<bool> {
    let file = if is_v2(place) { "cgroup.freeze" } else { "freezer.self_freezing" };
    Ok(read(place, file)?.trim() == "1")
}

/// Whether the processes have stopped, on v1 or are about to, by whichever order.
fn stands(place: &Place) -> Result<bool> {
    match is_v2(place) {
        false => Ok(!matches!(read(place, "freezer.state")?.trim(), "THAWED" | "")),
        true => Ok(read(place, "cgroup.events")?.lines().any(|line| line == "frozen 1")),
    }
}

/// A control file's text; empty if the cgroup is gone.
fn read(place: &Place, name: &str) -> Result<String> {
    let file = format!("{}/{name}", place.dir);
    match dir::read(&file) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(String::new()),
        read => read.doing(|| format!("read {file}")),
    }
}
