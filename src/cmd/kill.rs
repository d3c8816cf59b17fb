//! `tare kill`.

use nix::sys::signal::Signal;

use crate::cgroup::Cgroup;
use crate::cli::{Global, Kill};
use crate::error::{Error, Result};
use crate::log;
use crate::state::{ENDED, Root, State, Status, not_running};

use super::start;

/// The highest real-time signal (signal(7)).
const LAST_SIGNAL: i32 = 64;

/// What is sent to end a container. While it waits for its start nothing handles these, and to the
/// first process of a pid namespace the kernel then does not even send them (pid_namespaces(7)).
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Sends a signal to a container's init, or to all its processes.
///
/// # Errors
/// An unknown signal, a missing container, "container not running".
pub fn run(global: &Global, options: &Kill) -> Result<i32> {
    let container = Root::open(global.root.as_deref())?.container(&options.id)?;
    let state = container.load()?;
    let signal = signal_number(
        options.signal.as_deref().filter(|name| !name.is_empty()).unwrap_or("SIGTERM"),
    )?;
    if container.status(&state)? == Status::Creating {
        return Err(not_running().hint("it is still being created; delete --force ends that"));
    }
    let ends = ENDING.contains(&signal) && !state.shared_pid_namespace;
    let signal = if ends && start::is_awaited(&container)? { libc::SIGKILL } else { signal };
    if options.all {
        all(&state, signal)?;
    } else {
        one(&state, signal)?;
    }
    Ok(0)
}

/// Signals init. SIGKILL ends a whole container: with a pid namespace of its own the kernel sees
/// to that, without one the cgroup is killed.
fn one(state: &State, signal: i32) -> Result<()> {
    let whole = signal == libc::SIGKILL && state.shared_pid_namespace;
    if let Some(cgroup) = state.cgroup.as_ref().filter(|cgroup| whole && cgroup.exists()) {
        return cgroup.kill(signal);
    }
    state.init()?.ok_or_else(|| not_running().hint(ENDED))?.signal(signal)?;
    if whole {
        warn_of_leftovers(state);
    }
    match &state.cgroup {
        Some(cgroup) if signal == libc::SIGKILL => thaw(cgroup),
        _ => Ok(()),
    }
}

/// Says that processes of the container may be left, if they cannot be told from others.
pub(super) fn warn_of_leftovers(state: &State) {
    if state.shared_pid_namespace && state.cgroup.is_none() {
        log::warn("failed to kill all processes, possibly due to lack of cgroup");
    }
}

/// Signals every process of the container; that there is none is fine.
fn all(state: &State, signal: i32) -> Result<()> {
    if let Some(cgroup) = state.cgroup.as_ref().filter(|cgroup| cgroup.exists()) {
        return cgroup.kill(signal);
    }
    match state.init()? {
        Some(init) => init.signal(signal),
        None => Ok(()),
    }
}

/// SIGKILL does nothing to a frozen process until it is thawed (kernel: cgroup-v1 freezer).
pub(super) fn thaw(cgroup: &Cgroup) -> Result<()> {
    match cgroup.exists() && cgroup.frozen()? {
        true => cgroup.thaw(),
        false => Ok(()),
    }
}

/// The number of `9`, `KILL`, `kill` or `SIGKILL`; 0 only asks whether init is there.
fn signal_number(name: &str) -> Result<i32> {
    let unknown = || {
        Error::new(format!("unknown signal {name:?}"))
            .hint("a signal is a number such as 9, or a name such as KILL or SIGKILL")
    };
    if let Ok(number) = name.parse::<i32>() {
        return (0..=LAST_SIGNAL).contains(&number).then_some(number).ok_or_else(unknown);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = realtime(short) {
        return Ok(number);
    }
    format!("SIG{short}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`, which images name as stop signals.
fn realtime(name: &str) -> Option<i32> {
    let (base, offset) = match name.strip_prefix("RTMIN") {
        Some(rest) => (libc::SIGRTMIN(), rest),
        None => (libc::SIGRTMAX(), name.strip_prefix("RTMAX")?),
    };
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    let number = base.checked_add(offset)?;
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_spellings() {
        for name in ["9", "KILL", "kill", "SIGKILL", "SigKill"] {
            assert_eq!(signal_number(name).unwrap(), 9, "{name}");
        }
        assert_eq!(signal_number("0").unwrap(), 0);
        assert_eq!(signal_number("RTMIN+3").unwrap(), 37);
        assert_eq!(signal_number("SIGRTMAX").unwrap(), 64);
        for name in ["", "-9", "65", "FOO", "SIG", "RTMIN-1", "RTMAX+1", "9 "] {
            let message = signal_number(name).unwrap_err().message();
            assert_eq!(message, format!("unknown signal {name:?}"));
        }
    }
}
