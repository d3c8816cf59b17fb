//! Who is in a container's cgroups: listing, killing, and removing the cgroups after them.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::create::remove_parents;
use super::{Cgroup, Unit, dir, tree};
use crate::error::{Doing, Error, Result};
use crate::log;
use crate::sys::kill::kill;

/// How long killed processes may take to be gone, and a cgroup to let itself be removed.
const LIMIT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_micros(50);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Waits that double from 50 µs to 20 ms and end after [`LIMIT`].
struct Waits {
    next: Duration,
    /// Known from the first wait on.
    end: Option<Instant>,
}

impl Waits {
    fn new() -> Self {
        Waits { next: FIRST_WAIT, end: None }
    }

    /// Waits; false when the time is over.
    fn wait(&mut self) -> bool {
        let end = *self.end.get_or_insert_with(|| Instant::now() + LIMIT);
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(LONGEST_WAIT);
        Instant::now() < end
    }
}

impl Cgroup {
    /// The processes in the container's cgroup, with those of the cgroups below it if
    /// `recursive`; empty if the cgroup is gone.
    pub fn pids(&self, recursive: bool) -> Result<Vec<i32>> {
        let Some(place) = self.main() else { return Ok(Vec::new()) };
        match tree::pids(&place.dir, recursive) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(Vec::new()),
            pids => pids.doing(|| format!("list processes in {}", place.dir)),
        }
    }

    /// Sends `signal` to every process of the tree. SIGKILL is repeated until the tree is empty,
    /// and thaws it; after five seconds the error names what is left.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let end = signal == libc::SIGKILL;
        let mut waits = Waits::new();
        loop {
            let pids = self.pids(true)?;
            if pids.is_empty() {
                return Ok(());
            }
            if !(end && self.kill_at_once(&pids)?) {
                self.signal(&pids, signal, end)?;
            }
            if !end {
                return Ok(());
            }
            if !waits.wait() {
                let message = format!("unable to kill {} process(es)", self.pids(true)?.len());
                return Err(Error::new(message).hint(self.leftovers()));
            }
        }
    }

    /// v2 since Linux 5.14: the kernel kills the whole tree, frozen or not; whether it can.
    fn kill_at_once(&self, seen: &[i32]) -> Result<bool> {
        let Some(place) = self.v2() else { return Ok(false) };
        refuse_own(seen)?;
        let file = format!("{}/cgroup.kill", place.dir);
        match dir::write(&file, "1") {
            Err(Errno::ENODEV) => Ok(true),
            // Absent; or in a threaded cgroup.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(false),
            done => done.doing(|| format!("write 1 to {file}")).map(|()| true),
        }
    }

    /// One round: while the tree is frozen no process can fork away from the list, and none of
    /// its numbers can be given to another process.
    fn signal(&self, seen: &[i32], signal: i32, end: bool) -> Result<()> {
        refuse_own(seen)?;
        let paused = self.frozen().unwrap_or(false);
        // A tree that cannot be frozen is killed all the same, in more rounds.
        let froze = !paused && self.freeze().is_ok();
        let sent = self.pids(true).and_then(|pids| send(&pids, signal));
        if froze || (paused && end) {
            self.thaw()?;
        }
        sent
    }

    /// Removes the cgroup and those that the payload made below it, in every hierarchy; absent
    /// ones are fine. Ending processes are waited for; after five seconds the error names them.
    pub fn remove(&self) -> Result<()> {
        if let Some(Err(err)) = self.unit.as_ref().map(Unit::stop) {
            // A systemd that has gone has taken its units along; what it left is removed here.
            log::warn(&err.message());
        }
        let mut waits = Waits::new();
        for place in &self.places {
            loop {
                match tree::remove(&place.dir) {
                    Ok(()) => {
                        remove_parents(place);
                        break;
                    }
                    Err(Errno::EBUSY | Errno::ENOTEMPTY) if waits.wait() => {}
                    Err(errno) => {
                        let message = format!("remove cgroup {}", place.dir);
                        return Err(Error::sys(message, errno).hint(leftovers_in(&place.dir)));
                    }
                }
            }
        }
        Ok(())
    }

    fn leftovers(&self) -> String {
        self.main().map(|place| leftovers_in(&place.dir)).unwrap_or_default()
    }
}

fn refuse_own(pids: &[i32]) -> Result<()> {
    let own = std::process::id();
    match pids.iter().any(|pid| u32::try_from(*pid) == Ok(own)) {
        true => Err(Error::new("refusing to freeze and kill the cgroup that this runs in")),
        false => Ok(()),
    }
}

fn send(pids: &[i32], signal: i32) -> Result<()> {
    for pid in pids {
        match kill(*pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(Error::sys(format!("send signal {signal} to process {pid}"), errno));
            }
        }
    }
    Ok(())
}

/// `still in /…: 1234 (sleep, D), …`, for a hint.
fn leftovers_in(dir: &str) -> String {
    let pids = tree::pids(dir, true).unwrap_or_default();
    let names: Vec<String> = pids.iter().take(10).map(|pid| describe(*pid)).collect();
    match names.is_empty() {
        true => format!("no process is left in {dir}"),
        false => format!("still in {dir}: {}", names.join(", ")),
    }
}

/// A process's number, name and state (proc_pid_stat(5)).
fn describe(pid: i32) -> String {
    let stat = dir::read(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let parts = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    match parts {
        Some((name, rest)) => format!("{pid} ({name}, {})", rest.chars().next().unwrap_or('?')),
        None => format!("{pid}"),
    }
}
