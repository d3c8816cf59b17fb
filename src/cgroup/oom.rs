//! Notice of processes that the kernel ended for want of memory (the kernel's cgroup-v1 memory
//! documentation, "OOM Control"; cgroup-v2.rst, `memory.events`).

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
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
    /// The container's cgroup was removed or, on v2, its last process has ended.
    End,
}

/// A watch on one container.
#[derive(Debug)]
pub struct OomWatch<'a> {
    cgroup: &'a Cgroup,
    notice: Notice,
}

/// How the kernel gives notice.
#[derive(Debug)]
enum Notice {
    /// v1: an event descriptor, registered for a file that has to stay open.
    Event { event: EventFd, _control: Option<OwnedFd> },
    /// v2: `memory.events`, if it is there, and `cgroup.events` are polled, and the number of kills is
    /// compared.
    Files { files: [File; 2], known: Cell<u64> },
}

impl<'a> OomWatch<'a> {
    /// Begins to watch. Without a memory cgroup it only sees the container's end.
    pub fn new(cgroup: &'a Cgroup) -> Result<OomWatch<'a>> {
        let notice = match cgroup.v2() {
            Some(place) => files(&place.dir, cgroup.oom_kills())?,
            None => event(cgroup)?,
        };
        Ok(OomWatch { cgroup, notice })
    }

    /// Waits at most `limit` for something to see.
    pub fn wait(&self, limit: Duration) -> Result<Seen> {
        match &self.notice {
            Notice::Event { event, .. } => {
                let ready = poll_all([event.as_fd()], PollFlags::POLLIN, limit)?;
                match self.cgroup.exists() {
                    // The kernel signals a removed cgroup in the same way.
                    false => Ok(Seen::End),
                    true if ready => event.read().doing(|| "read an event").map(|_| Seen::Oom),
                    true => Ok(Seen::Nothing),
                }
            }
            Notice::Files { files: files @ [memory, events], known } => {
                poll_all(files.each_ref().map(AsFd::as_fd), PollFlags::POLLPRI, limit)?;
                arm(memory);
                let kills = self.cgroup.oom_kills();
                match kills > known.replace(kills) {
                    // What may have followed from it is told by the next poll.
                    true => Ok(Seen::Oom),
                    false if arm(events) => Ok(Seen::Nothing),
                    false => Ok(Seen::End),
                }
            }
        }
    }
}

fn poll_all<const N: usize>(
    fds: [BorrowedFd; N],
    flags: PollFlags,
    limit: Duration,
) -> Result<bool> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut fds = fds.map(|fd| PollFd::new(fd, flags));
    match poll(&mut fds, timeout) {
        Err(Errno::EINTR) => Ok(false),
        ready => Ok(ready.doing(|| "wait for an event")? > 0),
    }
}

/// Opens the files, of which poll tells right away until they are read for the first time.
fn files(dir: &str, kills: u64) -> Result<Notice> {
    let open = |name| {
        let path = format!("{dir}/{name}");
        File::open(&path).doing(|| format!("open {path}"))
    };
    let memory = open("memory.events").or_else(|_| open("cgroup.events"))?;
    Ok(Notice::Files { files: [memory, open("cgroup.events")?], known: Cell::new(kills) })
}

/// Reads the file, as poll tells of changes since the last reading; whether it says `populated 1`.
/// A file that is gone with its cgroup says nothing.
fn arm(file: &File) -> bool {
    let mut buf = [0; 256];
    let count = file.read_at(&mut buf, 0).unwrap_or_default();
    buf.get(..count).is_some_and(|text| text.starts_with(b"populated 1"))
}

fn event(cgroup: &Cgroup) -> Result<Notice> {
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
    Ok(Notice::Event { event, _control: control })
}
