//! `tare start`.

use std::io::ErrorKind::{self, BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::cgroup::FROZEN_ABOVE;
use crate::cli::Global;
use crate::error::{Doing, Error, Result};
use crate::notify::Listener;
use crate::parent;
use crate::spec::load;
use crate::state::{self, Container, Stage, State, Status};
use crate::wire::{Msg, Request};

/// Releases the process of a created container.
///
/// # Errors
/// The container is not created, or cannot be started. That execve(2) refuses its program is told by a
/// warning alone: the process has told it too, and ended with 255.
pub fn run(global: &Global, id: &str) -> Result<i32> {
    start(global, id).map(|()| 0).map_err(|err| err.context(format!("cannot start \"{id}\"")))
}

fn start(global: &Global, id: &str) -> Result<()> {
    let container = state::Root::open(global.root.as_deref())?.container(id)?;
    container.lock_created("start")?;
    let mut state = container.load()?;
    match container.status(&state)? {
        // The process that waits would not answer.
        Status::Created if state.frozen_above() => {
            let message = "cannot start a container in the paused state";
            return Err(Error::new(message).hint(FROZEN_ABOVE));
        }
        Status::Created => {}
        Status::Stopped => return Err(stopped()),
        Status::Running => return Err(Error::new("cannot start an already running container")),
        Status::Paused => {
            return Err(Error::new("cannot start a container in the paused state")
                .hint("tare resume lets it run"));
        }
        other => return Err(Error::new(format!("cannot start a container in the {other} state"))),
    }
    let notify = Listener::open(&container);
    let refused = match release(&container).map_err(|err| placed(&container, &state, err)) {
        // Engines take it for started, and its output and exit code for what became of it.
        Err(err) if err.is_of_program() => Some(err),
        released => released.map(|()| None)?,
    };
    state.stage = Stage::Started;
    container.save(&state)?;
    if let Some(err) = refused {
        crate::log::warn(&err.to_string());
        return Ok(());
    }
    // A hook that hangs must not keep others from deleting the container.
    container.unlock();
    poststart(&container, &state).inspect_err(|_| stop(&state))?;
    if let (Some(notify), Some(init)) = (notify, state.init()?) {
        notify.wait(&init, state.pid);
    }
    Ok(())
}

/// Whether the container's process waits for its start, and will as long as the caller has the lock
/// that it gets by this. The state does not tell: a `start` that was killed may have left it behind.
///
/// # Errors
/// As [`Container::try_lock`].
pub fn is_awaited(container: &Container) -> Result<bool> {
    let created = container.load()?.stage == Stage::Created;
    Ok(created
        && container.try_lock()?
        && UnixStream::connect(parent::start_socket(container)).is_ok())
}

/// Runs the poststart hooks.
pub fn poststart(container: &Container, state: &State) -> Result<()> {
    parent::poststart(state).map_err(|err| placed(container, state, err))
}

fn stopped() -> Error {
    Error::new("cannot start a container that has stopped")
}

/// Says `start` to the waiting process, and learns whether its program could be executed.
fn release(container: &Container) -> Result<()> {
    let mut answer = Vec::new();
    let talked = UnixStream::connect(parent::start_socket(container)).and_then(|mut socket| {
        socket.write_all(Request::Start.word())?;
        socket.read_to_end(&mut answer)
    });
    match talked {
        // Killed since the look at its state, or about to end since its `run` was killed.
        Err(err) if ends(err.kind()) => return Err(stopped()),
        talked => talked.doing(|| "talk to the process that waits for its start")?,
    };
    if answer.is_empty() {
        return Ok(());
    }
    match Msg::decode(&answer) {
        Some(Msg::Failed(err)) => Err(err),
        _ => Err(Error::new("tare and the waiting process do not understand each other")),
    }
}

/// Whether nobody waits at the socket any more, or ever did.
fn ends(kind: ErrorKind) -> bool {
    matches!(kind, ConnectionRefused | ConnectionReset | BrokenPipe | NotFound)
}

/// Adds the place in the configuration as it was at `create`.
fn placed(container: &Container, state: &State, err: Error) -> Error {
    let text = container.config().unwrap_or_default();
    load::place(&String::from_utf8_lossy(&text), &state.bundle.join("config.json"), err)
}

/// A container whose poststart hook failed is stopped (runtime.md, "Lifecycle", step 10).
fn stop(state: &State) {
    let stopped =
        state.init().and_then(|init| init.map_or(Ok(()), |init| init.signal(libc::SIGKILL)));
    if let Err(err) = stopped {
        crate::log::warn(&err.message());
    }
}
