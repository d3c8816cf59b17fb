//! `tare delete`.
//!
//! What `create` did is undone in reverse: the process, the cgroups, the state directory; then
//! the poststop hooks run. Every step may be repeated, so a `delete` that was interrupted can be
//! called again.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cgroup::{Cgroup, FROZEN_ABOVE};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::rdt::Rdt;
use crate::state::{Container, Root, Stage, State, Status};
use crate::sys::pidfd;
use crate::{log, parent};

/// How long a process may take to end after SIGKILL, or another caller to give up the container.
const LIMIT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(5);
/// How long nothing takes. containerd's `shim delete` reaps all of its children beside waiting for this
/// one, and warns of a failed removal where the former comes first: without a pause for a quarter of
/// all containers.
const NOTHING: Duration = Duration::from_millis(3);

/// Removes a container. With `force` a running one is killed, and a missing one is no error.
///
/// # Errors
/// The container is missing or running, or something of it cannot be removed.
pub fn run(global: &Global, id: &str, force: bool) -> Result<i32> {
    let root = Root::open(global.root.as_deref())?;
    let absent = |err: Error| match force && gone(&err) {
        true => {
            sleep(NOTHING);
            Ok(0)
        }
        false => Err(err),
    };
    let container = match root.container(id) {
        Ok(container) => container,
        Err(err) => return absent(err),
    };
    delete(&container, force).map(|()| 0).or_else(absent)
}

fn gone(err: &Error) -> bool {
    err.message() == crate::state::ABSENT
}

fn delete(container: &Container, force: bool) -> Result<()> {
    seize(container, force)?;
    if !container.exists()? {
        // Left by a create that was killed before it did anything.
        container.remove()?;
        return Err(Error::new(crate::state::ABSENT));
    }
    let state = match container.load() {
        Ok(state) => state,
        // To remove what is not understood, or cannot be read now, would leave processes and cgroups
        // behind.
        Err(err) if force && err.errno().is_none() && err.message() != crate::state::LATER => {
            log::warn(&err.context("removing a container whose state is damaged").message());
            return container.remove();
        }
        Err(err) => return Err(err),
    };
    let status = container.status(&state)?;
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(refusal(container.id(), status));
    }
    remove(container, &state)
}

/// Takes back what `create` did, of a container that is locked, and runs its last hooks.
pub(super) fn remove(container: &Container, state: &State) -> Result<()> {
    end(state)?;
    container.remove()?;
    parent::poststop(state);
    Ok(())
}

/// Locks the container. One that is being created or started by another caller is waited for;
/// with `force` it is killed under that caller's hands, who then gives it up.
fn seize(container: &Container, force: bool) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !container.try_lock()? {
        if let Some(state) = container.exists()?.then(|| container.load()).transpose()? {
            if force {
                kill(&state)?;
                // Its holder may wait for a process that was paused.
                state.cgroup.as_ref().map_or(Ok(()), super::kill::thaw)?;
                kill_criu(&state)?;
            } else if container.status(&state)? == Status::Creating {
                return Err(refusal(container.id(), Status::Creating));
            }
        }
        if Instant::now() > end {
            return Err(Error::new(format!(
                "container {} is held by another caller",
                container.id()
            ))
            .hint("a create, start or delete of it has not ended yet"));
        }
        sleep(INTERVAL);
    }
    Ok(())
}

fn refusal(id: &str, status: Status) -> Error {
    Error::new(format!("cannot delete container {id} that is not stopped: {status}"))
        .hint("stop it with tare kill, or use --force")
}

/// Kills init, if it is alive.
fn kill(state: &State) -> Result<()> {
    state.init()?.map_or(Ok(()), |init| ended(init.signal(libc::SIGKILL)))
}

/// What came of a signal that ends a process. That it has ended meanwhile is what is wanted.
fn ended(sent: Result<()>) -> Result<()> {
    match sent {
        Err(err) if err.errno().is_some() => Err(err),
        _ => Ok(()),
    }
}

/// Kills criu, for which a restore waits, or whose restore was killed: it does not always end with
/// init, and init not without it, which traces its processes.
fn kill_criu(state: &State) -> Result<()> {
    let restoring = state.restored && state.stage == Stage::Creating;
    if let Some(criu) = state.criu()?.filter(|_| restoring) {
        ended(criu.signal(libc::SIGKILL))?;
    }
    match state.cgroup.as_ref().filter(|cgroup| restoring && cgroup.exists()) {
        Some(cgroup) => cgroup.kill(libc::SIGKILL),
        None => Ok(()),
    }
}

/// Ends every process of the container and removes its cgroups.
fn end(state: &State) -> Result<()> {
    let cgroup = state.cgroup.as_ref().filter(|cgroup| cgroup.exists());
    let init = state.init()?;
    if init.is_some() {
        kill(state)?;
        cgroup.map_or(Ok(()), super::kill::thaw)?;
    }
    kill_criu(state)?;
    if !init.map_or(Ok(true), |init| init.wait(LIMIT))? {
        let hint = match state.frozen_above() {
            true => FROZEN_ABOVE.into(),
            false => format!("is process {} in an uninterruptible wait?", state.pid),
        };
        return Err(Error::new("container init still running").hint(hint));
    }
    super::kill::warn_of_leftovers(state);
    // Init took its pid namespace with it; what is left shared another's.
    cgroup.map_or(Ok(()), |cgroup| cgroup.kill(libc::SIGKILL))?;
    if let (Stage::Creating, Some(cgroup)) = (state.stage, &state.cgroup) {
        kill_strays(cgroup)?;
    }
    // Also where the main hierarchy's directory is gone: others may be left of a broken create.
    state.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.remove())?;
    state.rdt.as_ref().map_or(Ok(()), Rdt::remove)
}

/// Kills what a `create` that was killed itself had moved into some hierarchies but not yet into
/// the one by which a container's processes are counted.
fn kill_strays(cgroup: &Cgroup) -> Result<()> {
    for place in cgroup.places() {
        let procs = std::fs::read_to_string(format!("{}/cgroup.procs", place.dir));
        let pids = procs.unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            match pidfd::open(pid).and_then(|fd| pidfd::signal(fd.as_fd(), libc::SIGKILL)) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::sys(format!("kill process {pid}"), errno)),
            }
        }
    }
    Ok(())
}
