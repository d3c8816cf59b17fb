//! `tare pause` and `tare resume`.

use crate::cgroup::Cgroup;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::state::{Root, Status, not_running};

/// Suspends all processes of a container.
///
/// # Errors
/// The container is missing, not running, or has no freezer.
pub fn pause(global: &Global, id: &str) -> Result<i32> {
    let (status, cgroup) = find(global, id)?;
    match status {
        Status::Running | Status::Created => cgroup.freeze()?,
        other => return Err(refusal("pause", other)),
    }
    Ok(0)
}

/// Resumes a paused container.
///
/// # Errors
/// The container is missing or not paused.
pub fn resume(global: &Global, id: &str) -> Result<i32> {
    let (status, cgroup) = find(global, id)?;
    match status {
        Status::Paused => cgroup.thaw()?,
        other => return Err(refusal("resume", other)),
    }
    Ok(0)
}

fn find(global: &Global, id: &str) -> Result<(Status, Cgroup)> {
    let container = Root::open(global.root.as_deref())?.container(id)?;
    let state = container.load()?;
    let status = container.status(&state)?;
    let without = || Error::new(format!("container {id} has no cgroup: it cannot be paused"));
    Ok((status, state.cgroup.ok_or_else(without)?))
}

/// Callers look for "container not running" and "container not paused".
fn refusal(what: &str, status: Status) -> Error {
    match (what, status) {
        ("pause", Status::Paused) => Error::new("container already paused"),
        ("resume", Status::Running | Status::Created) => Error::new("container not paused"),
        _ => not_running().hint(format!("it is {status}")),
    }
}
