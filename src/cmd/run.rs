//! `tare run`.

use std::time::Duration;

use crate::attach;
use crate::cli::{Global, Run};
use crate::cmd::create::{Created, Mode, create};
use crate::cmd::start::poststart;
use crate::error::{Doing, Error, Result};
use crate::parent;
use crate::rdt::Rdt;
use crate::state::{ABSENT, Container, State};
use crate::{plan, sys};

/// Creates and starts a container, waits for its end and deletes it.
///
/// # Errors
/// Any failure of the runtime. The payload's own is its exit code.
pub fn run(global: &Global, options: &Run) -> Result<i32> {
    let id = &options.create.id;
    let mode = if options.detach { Mode::Detached } else { Mode::Attached };
    prepare(mode, options.no_subreaper)?;
    let created = create(global, &options.create, mode, plan::container);
    // Nobody takes the end of a detached container's process for the runtime's.
    let created = created.map_err(|err| if options.detach { err.code(1) } else { err });
    let created = created.map_err(|err| in_context(err, id))?;
    // A hook that hangs must not keep others from deleting the container.
    created.container.unlock();
    started(&created).map_err(|err| in_context(err, id))?;
    attend(created, mode, options.keep).map_err(|err| in_context(err, id))
}

/// Makes this process one that can wait for a container, before there is a process whose end could
/// be missed.
pub fn prepare(mode: Mode, no_subreaper: bool) -> Result<()> {
    if mode == Mode::Attached {
        sys::process::block_signals().doing(|| "block signals")?;
        if !no_subreaper {
            sys::process::become_subreaper().doing(|| "become a subreaper")?;
        }
    }
    Ok(())
}

/// Waits for the end of a container, unless it is detached, and deletes it unless told to `keep`
/// it. Its exit code.
pub fn attend(created: Created, mode: Mode, keep: bool) -> Result<i32> {
    let Created { container, state, made, mut notify } = created;
    container.unlock();
    if let Some(restored) = notify.take_if(|_| state.restored) {
        let watched = if mode == Mode::Detached { state.pid as u32 } else { std::process::id() };
        restored.ready_again(watched);
    }
    if mode == Mode::Detached {
        if let (Some(notify), Some(init)) = (notify, state.init()?) {
            notify.wait(&init, state.pid);
        }
        return Ok(0);
    }
    // They would be killed after the last word of their output: it may be long until that.
    let end_others = || {
        if let Some(cgroup) = state.cgroup.as_ref().filter(|_| state.shared_pid_namespace && !keep)
        {
            let _ = cgroup.kill(libc::SIGKILL);
        }
    };
    let code = attach::attach(made, notify, Some(&end_others));
    if !keep && let Err(err) = clean_up(&container, &state) {
        // What is left is there for `delete`; the payload's exit code would be lost.
        crate::log::warn(&err.message());
    }
    // The end of tare closes, unlocks and frees what is left of it.
    std::mem::forget((container, state));
    code
}

/// A program that the kernel refused says so by itself, as callers of runc expect.
fn in_context(err: Error, id: &str) -> Error {
    match err.is_of_program() {
        true => err,
        false => err.context(format!("cannot run \"{id}\"")),
    }
}

/// The poststart hooks; a container whose hooks fail is stopped and removed.
fn started(created: &Created) -> Result<()> {
    poststart(&created.container, &created.state).inspect_err(|_| {
        if let Err(err) = clean_up(&created.container, &created.state) {
            crate::log::warn(&err.message());
        }
    })
}

/// Removes what is left of a container, with whatever still runs in it.
pub fn clean_up(container: &Container, state: &State) -> Result<()> {
    match container.lock() {
        // Deleted by another caller. By now its id may be another container's.
        Err(err) if err.message() == ABSENT => return Ok(()),
        locked => locked?,
    }
    if let Some(init) = state.init()? {
        // That it has ended meanwhile is what is wanted.
        let _ = init.signal(libc::SIGKILL);
        init.wait(Duration::from_secs(10))?;
    }
    if let Some(cgroup) = &state.cgroup {
        if state.shared_pid_namespace {
            cgroup.kill(libc::SIGKILL)?;
        }
        cgroup.remove()?;
    }
    state.rdt.as_ref().map_or(Ok(()), Rdt::remove)?;
    container.remove()?;
    parent::poststop(state);
    Ok(())
}
