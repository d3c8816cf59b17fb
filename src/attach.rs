//! The runtime in the foreground: forwards signals to the payload, relays its terminal, and ends
//! with its exit code.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, isatty, read, write};

use crate::error::{Doing, Result};
use crate::parent::{Made, Process};
use crate::sys::pidfd;
use crate::sys::process::{stdio, wait_signal};

/// Waits for the end of `made`'s process; its exit code, or 128 and the signal that killed it.
/// All signals have to be blocked since before the process was made, so that none is lost.
pub fn attach(made: Made) -> Result<i32> {
    match made.master {
        Some(master) => Relay::new(made.process, master)?.run(),
        None => wait(&made.process),
    }
}

fn wait(process: &Process) -> Result<i32> {
    loop {
        let signal = wait_signal().doing(|| "wait for signals")?;
        if signal != libc::SIGCHLD {
            forward(process, signal);
        } else if let Some(code) = reap(process.pid)? {
            return Ok(code);
        }
    }
}

/// Passes a signal on. The process may have just ended; SIGCHLD then says so.
fn forward(process: &Process, signal: i32) {
    if ![libc::SIGPIPE, libc::SIGURG].contains(&signal) {
        let _ = pidfd::signal(process.fd.as_fd(), signal);
    }
}

/// Collects ended children; the exit code if `init` is among them.
fn reap(init: i32) -> Result<Option<i32>> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == init => return Ok(Some(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == init => {
                return Ok(Some(128 + signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for the container's process"),
        }
    }
}

/// Copies between the caller's terminal and the container's.
struct Relay {
    process: Process,
    master: OwnedFd,
    signals: SignalFd,
    /// Settings of the caller's terminal, to be restored in the end.
    saved: Option<Termios>,
    input: bool,
}

impl Relay {
    fn new(process: Process, master: OwnedFd) -> Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags).doing(|| "make a signalfd")?;
        let mut relay = Relay { process, master, signals, saved: None, input: true };
        if isatty(stdio(0)).unwrap_or(false) {
            let settings = tcgetattr(stdio(0)).doing(|| "read the settings of the terminal")?;
            let mut raw = settings.clone();
            cfmakeraw(&mut raw);
            // It goes on to translate line feeds: the container's terminal no longer does.
            raw.output_flags.insert(OutputFlags::OPOST);
            tcsetattr(stdio(0), SetArg::TCSANOW, &raw).doing(|| "make the terminal raw")?;
            relay.saved = Some(settings);
        }
        Ok(relay)
    }

    fn run(mut self) -> Result<i32> {
        loop {
            let ready = self.wait_for_any()?;
            if ready.master {
                copy(self.master.as_fd(), stdio(1));
            }
            if ready.input && !copy(stdio(0), self.master.as_fd()) {
                self.input = false;
            }
            if ready.signal
                && let Some(code) = self.signals()?
            {
                self.drain();
                return Ok(code);
            }
        }
    }

    fn wait_for_any(&self) -> Result<Ready> {
        let input = if self.input { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdio(0), input),
        ];
        let used = if self.input { 3 } else { 2 };
        match poll(fds.get_mut(..used).unwrap_or_default(), PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(Ready::default()),
            other => other.doing(|| "wait for the terminal")?,
        };
        let [signal, master, input] = fds;
        let any = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        let ready =
            Ready { signal: any(&signal), master: any(&master), input: self.input && any(&input) };
        if ready.master && master.revents() == Some(PollFlags::POLLHUP) && !ready.signal {
            // Nobody has the terminal open just now; that may change, so look again in a while.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(ready)
    }

    fn signals(&mut self) -> Result<Option<i32>> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == libc::SIGCHLD {
                if let Some(code) = reap(self.process.pid)? {
                    return Ok(Some(code));
                }
            } else if signal == Signal::SIGWINCH as i32 {
                crate::terminal::follow_size(self.master.as_fd());
            } else {
                forward(&self.process, signal);
            }
        }
        Ok(None)
    }

    /// Copies what the payload wrote last.
    fn drain(&self) {
        loop {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let more = matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0);
            if !more || !copy(self.master.as_fd(), stdio(1)) {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(settings) = &self.saved {
            let _ = tcsetattr(stdio(0), SetArg::TCSANOW, settings);
        }
    }
}

#[derive(Default)]
struct Ready {
    signal: bool,
    master: bool,
    input: bool,
}

/// Copies once; false at the end of `from`. The reader of a broken `to` is its own loss.
fn copy(from: BorrowedFd, to: BorrowedFd) -> bool {
    let mut buffer = [0; 8192];
    let count = match read(from, &mut buffer) {
        Ok(0) | Err(Errno::EIO) => return false,
        Ok(count) => count,
        Err(Errno::EINTR | Errno::EAGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => break,
        }
    }
    true
}
