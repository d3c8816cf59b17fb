//! Notice of processes that the kernel ended for want of memory (the kernel's cgroup-v1 memory
//! documentation, "OOM Control").

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Cgroup, dir};
use crate::error::{Doing, Result};

impl Cgroup {
    /// How many processes the kernel has ended here for want of memory (`oom_kill` of
    /// `memory.oom_control` on v1 and of `memory.events` on v2); 0 without a memory cgroup.
    pub fn oom_kills(&self) -> u64 {
        let Some(place) = self.controller("memory") else { return 0 };
        let read = |file| std::fs::read_to_string(format!("{}/{file}", place.dir));
        let text = read("memory.oom_control").or_else(|_| read("memory.events"));
        let text = text.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

/// What [`OomWatch::wait`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The time is over.
    Nothing,
    /// The container ran out of memory.
    Oom,
    /// The container's cgroup was removed.
    Removed,
}

/// A watch on one container.
#[derive(Debug)]
pub struct OomWatch<'a> {
    cgroup: &'a Cgroup,
    event: EventFd,
    /// The file that is watched has to stay open.
    _control: Option<OwnedFd>,
}

impl<'a> OomWatch<'a> {
    /// Begins to watch. Without a memory cgroup it only sees the container's end.
    pub fn new(cgroup: &'a Cgroup) -> Result<OomWatch<'a>> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).doing(|| "make an event descriptor")?;
        let mut control = None;
        if let Some(place) = cgroup.controller("memory") {
            let file = format!("{}/memory.oom_control", place.dir);
            let watched = File::open(&file).doing(|| format!("open {file}"))?;
            let order = format!("{} {}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
            let register = format!("{}/cgroup.event_control", place.dir);
            dir::write(&register, &order).doing(|| format!("write {register}"))?;
            control = Some(watched.into());
        }
        Ok(OomWatch { cgroup, event, _control: control })
    }

    /// Waits at most `limit` for something to see.
    pub fn wait(&self, limit: Duration) -> Result<Seen> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => 0,
            ready => ready.doing(|| "wait for an event")?,
        };
        // The kernel signals a removed cgroup in the same way.
        if !self.cgroup.exists() {
            return Ok(Seen::Removed);
        }
        match ready {
            0 => Ok(Seen::Nothing),
            _ => self.event.read().doing(|| "read an event").map(|_| Seen::Oom),
        }
    }
}
