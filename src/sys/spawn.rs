//! What `std::process::Command` cannot express: the signal mask and the session of a child.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Has the child start with no signal blocked, whatever its parent has blocked.
pub fn unblocked(command: &mut Command) -> &mut Command {
    let clear = || {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(std::io::Error::from)
    };
    // SAFETY: sigprocmask(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(clear) }
}

/// Has the child start in a session of its own, out of reach of the terminal's signals.
pub fn detached(command: &mut Command) -> &mut Command {
    let detach = || nix::unistd::setsid().map(drop).map_err(std::io::Error::from);
    // SAFETY: setsid(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(detach) }
}
