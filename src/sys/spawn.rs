//! What `std::process` cannot express: the signal mask and the session of a child, and waiting
//! for a process that is none.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::pidfd;
use super::process::{Strings, exec};

/// Has the child start with no signal blocked, whatever its parent has blocked.
pub fn unblocked(command: &mut Command) -> &mut Command {
    let clear = || {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(std::io::Error::from)
    };
    // SAFETY: sigprocmask(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(clear) }
}

/// Has the child execute this program with these arguments and this environment, and nothing else:
/// execvp(3), which std uses, gives a file of an unknown format to a shell.
pub fn exactly(command: &mut Command, path: CString, args: Strings, env: Strings) -> &mut Command {
    let exec = move || Err(std::io::Error::from(exec(&path, &args, &env)));
    // SAFETY: execve(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(exec) }
}

/// Has the child start in a session of its own, out of reach of the terminal's signals.
pub fn detached(command: &mut Command) -> &mut Command {
    let detach = || nix::unistd::setsid().map(drop).map_err(std::io::Error::from);
    // SAFETY: setsid(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(detach) }
}

/// Runs a program to its end. [`Command::output`] panics where the kernel does not let it wait for two
/// pipes at once.
///
/// # Errors
/// It cannot be started, or not be read.
pub fn output(command: &mut Command) -> std::io::Result<Output> {
    let (mut errors, theirs) = std::io::pipe()?;
    // They are read last: who says more than the pipe holds is not to wait for that.
    fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(theirs).spawn();
    // Takes our copy of its end, or there would be none.
    command.stderr(Stdio::null());
    let (mut child, mut stdout, mut stderr) = (spawned?, Vec::new(), Vec::new());
    let read = child.stdout.take().map_or(Ok(0), |mut output| output.read_to_end(&mut stdout));
    let status = child.wait()?;
    read?;
    errors.read_to_end(&mut stderr)?;
    Ok(Output { status, stdout, stderr })
}

/// Waits until the process `pid` has ended, whoever its parent is (`pidfd_open(2)`).
///
/// # Errors
/// The kernel's; a process that has ended already is none.
pub fn wait_for(pid: i32) -> Result<(), Errno> {
    let fd = match pidfd::open(pid) {
        Err(Errno::ESRCH) => return Ok(()),
        other => other?,
    };
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_kept_apart_and_blocks_it_never() {
        let script = "head -c 300000 /dev/zero >&2; echo done; exit 3";
        let output = output(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"done\n"[..]));
        assert!(!output.stderr.is_empty());
    }
}
