//! `tare pause` and `tare resume`.

use crate::cgroup::{Cgroup, FROZEN_ABOVE};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::state::{Container, Root, State, Status, not_running};

/// Suspends all processes of a container.
///
/// # Errors
/// The container is missing, not running, or has no freezer.
pub fn pause(global: &Global, id: &str) -> Result<i32> {
    let (container, state) = find(global, id)?;
    check(&container, &state)?;
    // A start that is under way ends first: its caller would wait for what is frozen half-way.
    container.lock()?;
    check(&container, &state)?;
    let paused = cgroup(&state)?.freeze();
    paused.map(|()| 0).map_err(|err| super::or_ended(&container, &state, err))
}

/// Whether there is something to suspend.
fn check(container: &Container, state: &State) -> Result<()> {
    match container.status(state)? {
        Status::Running | Status::Created => Ok(()),
        other => Err(refusal("pause", other)),
    }
}

/// Resumes a paused container.
///
/// # Errors
/// The container is missing or not paused.
pub fn resume(global: &Global, id: &str) -> Result<i32> {
    let (container, state) = find(global, id)?;
    match container.status(&state)? {
        Status::Paused => {}
        _ if state.frozen_above() => {
            return Err(Error::new("container not paused").hint(FROZEN_ABOVE));
        }
        other => return Err(refusal("resume", other)),
    }
    let resumed = cgroup(&state)?.thaw();
    resumed.map(|()| 0).map_err(|err| super::or_ended(&container, &state, err))
}

fn find(global: &Global, id: &str) -> Result<(Container, State)> {
    let container = Root::open(global.root.as_deref())?.container(id)?;
    let state = container.load()?;
    Ok((container, state))
}

fn cgroup(state: &State) -> Result<&Cgroup> {
    let without =
        || Error::new(format!("container {} has no cgroup: it cannot be paused", state.id));
    state.cgroup.as_ref().ok_or_else(without)
}

/// Callers look for "container not running" and "container not paused".
fn refusal(what: &str, status: Status) -> Error {
    let err = match what {
        "resume" => Error::new("container not paused"),
        _ => not_running(),
    };
    err.hint(format!("it is {status}"))
}
