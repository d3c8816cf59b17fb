//! The runtime in the foreground: forwards signals to the payload, relays its terminal, and ends
//! with its exit code.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::isatty;

use crate::error::{Doing, Result};
use crate::notify::Listener;
use crate::parent::{Made, Process};
use crate::pipes::{Buffer, Pipes, of_caller, terminal_without_waiting};
use crate::sys::process::{stdio, wait_signal};
use crate::sys::{self, pidfd};

/// Waits for the end of `made`'s process; its exit code, or 128 and the signal that killed it.
/// All signals have to be blocked since before the process was made, so that none is lost. With
/// `notify` the service manager hears that the container is ready; what it has to watch is tare.
/// What others have yet to write is waited for once `end_others` has been called, which may end them; of
/// an exec, that has none, until they are done: its output would break otherwise.
pub fn attach(made: Made, notify: Option<Listener>, end_others: Option<&dyn Fn()>) -> Result<i32> {
    if let Some(master) = made.master {
        return Relay::new(made.process, &master, notify)?.run(master);
    }
    wait_with(&made.process, made.pipes, notify, end_others)
}

fn wait_with(
    process: &Process,
    pipes: Pipes,
    notify: Option<Listener>,
    end_others: Option<&dyn Fn()>,
) -> Result<i32> {
    match pipes.is_empty() && notify.is_none() {
        true => wait(process),
        false => relay(process, pipes, notify, end_others),
    }
}

fn signal_descriptor() -> Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&SigSet::all(), flags).doing(|| "make a signalfd")
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

/// Passes a signal on, but for those that are about this process and its terminal alone. The process
/// may have just ended; SIGCHLD then says so.
fn forward(process: &Process, signal: i32) {
    if ![libc::SIGPIPE, libc::SIGURG, libc::SIGWINCH].contains(&signal) {
        let _ = pidfd::signal(process.fd.as_fd(), signal);
    }
}

/// Collects ended children; the exit code if `init` is among them.
fn reap(init: i32) -> Result<Option<i32>> {
    loop {
        match sys::process::wait(-1, libc::WNOHANG) {
            Ok(Some((pid, status))) if pid == init => {
                return Ok(status.code().or_else(|| Some(128 + status.signal()?)));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(errno).doing(|| "wait for the container's process"),
        }
    }
}

/// Copies between the caller's files and the payload until that has ended, see [`attach`].
fn relay(
    process: &Process,
    mut pipes: Pipes,
    mut notify: Option<Listener>,
    end_others: Option<&dyn Fn()>,
) -> Result<i32> {
    let signals = signal_descriptor()?;
    let mut ended = None;
    loop {
        if let Some(code) = ended.filter(|_| !pipes.may_be_written()) {
            return Ok(code);
        }
        let ready = {
            let said = notify.as_ref().map(|notify| (notify.as_fd(), PollFlags::POLLIN));
            let asked = [Some((signals.as_fd(), PollFlags::POLLIN)), said];
            let asked: Vec<_> = asked.into_iter().chain(pipes.wanted()).collect();
            wait_for_any(&asked, pipes.patience())?
        };
        pipes.resume();
        let [signal, said, pipe @ ..] = ready.as_slice() else { continue };
        notify = notify.filter(|notify| !(*said && notify.pass_on(std::process::id())));
        pipes.go_on(pipe);
        while *signal && let Ok(Some(info)) = signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == libc::SIGCHLD {
                ended = ended.or(reap(process.pid)?);
            } else if let Some(code) = ended.filter(|_| ENDING.contains(&signal)) {
                return Ok(code);
            } else {
                forward(process, signal);
            }
        }
        if let Some(code) = ended {
            pipes.end_input();
            if let Some(end_others) = end_others {
                end_others();
                pipes.drain(|caller| may_wait(&signals, caller));
                return Ok(code);
            }
        }
    }
}

/// What says that nobody waits for the rest of the output.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Waits until one of them is ready; those that are. Of one that is not asked, poll(2) would tell all the
/// same that its other side is gone.
fn wait_for_any(
    asked: &[Option<(BorrowedFd, PollFlags)>],
    patience: PollTimeout,
) -> Result<Vec<bool>> {
    let some: Vec<_> = asked.iter().flatten().collect();
    let mut fds: Vec<_> = some.into_iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
    match poll(&mut fds, patience) {
        Err(Errno::EINTR) => return Ok(vec![false; asked.len()]),
        other => drop(other.doing(|| "wait for the container")?),
    }
    let mut fds = fds.iter();
    let ready = |one: &Option<_>| one.is_some() && fds.next().and_then(PollFd::any) == Some(true);
    Ok(asked.iter().map(ready).collect())
}

/// Waits until `output` takes more; false if a signal says that nobody waits for it any more.
fn may_wait(signals: &SignalFd, output: BorrowedFd) -> bool {
    loop {
        let mut fds = [(signals.as_fd(), PollFlags::POLLIN), (output, PollFlags::POLLOUT)]
            .map(|(fd, flags)| PollFd::new(fd, flags));
        let _ = poll(&mut fds, PollTimeout::NONE);
        let is_ready = fds.last().and_then(PollFd::any) == Some(true);
        while let Ok(Some(info)) = signals.read_signal() {
            if ENDING.contains(&(info.ssi_signo as i32)) {
                return false;
            }
        }
        if is_ready {
            return true;
        }
    }
}

/// Copies between the caller's terminal and the container's. It never waits for one side alone: the
/// payload may have to write before it reads, and the other way round.
struct Relay {
    process: Process,
    signals: SignalFd,
    /// The caller's terminal once more, for output.
    output: Option<OwnedFd>,
    /// Settings of the caller's terminal, to be restored in the end.
    saved: Option<Termios>,
    /// Whether there may be more to read from the caller.
    input: bool,
    /// On the way to the payload.
    typed: Buffer,
    /// On the way to the caller.
    shown: Buffer,
    /// Until the container is ready.
    notify: Option<Listener>,
}

impl Relay {
    fn new(process: Process, master: &OwnedFd, notify: Option<Listener>) -> Result<Self> {
        let signals = signal_descriptor()?;
        fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing(|| "set up the terminal")?;
        let (typed, shown) = (Buffer::default(), Buffer::default());
        let output = terminal_without_waiting(1);
        let mut relay =
            Relay { process, signals, output, saved: None, input: true, typed, shown, notify };
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

    fn run(mut self, terminal: OwnedFd) -> Result<i32> {
        loop {
            let [signal, master, input, output, said] = self.wait_for_one(&terminal)?;
            let notify = self.notify.as_ref().filter(|_| said);
            if notify.is_some_and(|notify| notify.pass_on(std::process::id())) {
                self.notify = None;
            }
            if output && self.show().is_err() {
                // As if the window were closed.
                drop(terminal);
                return wait_with(&self.process, Pipes::default(), self.notify.take(), None);
            }
            if master {
                if self.typed.write_piece(terminal.as_fd()).is_err() {
                    self.typed = Buffer::default();
                }
                if self.shown.is_empty() {
                    let _ = self.shown.read(terminal.as_fd());
                }
            }
            if input && !self.typed.read(stdio(0)).unwrap_or(false) {
                self.input = false;
            }
            if signal && let Some(code) = self.signals(&terminal)? {
                self.drain(&terminal);
                return Ok(code);
            }
        }
    }

    fn show(&mut self) -> nix::Result<()> {
        self.shown.write_piece(of_caller(&self.output, 1))
    }

    /// Waits until one of signals, master, stdin, stdout and the container's socket is ready for what
    /// there is to be done.
    fn wait_for_one(&self, terminal: &OwnedFd) -> Result<[bool; 5]> {
        let wanted = |flags, is| if is { flags } else { PollFlags::empty() };
        let master = wanted(PollFlags::POLLIN, self.shown.is_empty())
            | wanted(PollFlags::POLLOUT, !self.typed.is_empty());
        let said = wanted(PollFlags::POLLIN, self.notify.is_some());
        let asked = [
            (self.signals.as_fd(), PollFlags::POLLIN),
            (terminal.as_fd(), master),
            (stdio(0), wanted(PollFlags::POLLIN, self.input && self.typed.is_empty())),
            (of_caller(&self.output, 1), wanted(PollFlags::POLLOUT, !self.shown.is_empty())),
            (self.notify.as_ref().map_or(self.signals.as_fd(), AsFd::as_fd), said),
        ];
        // As in [`wait_for_any`].
        let mut fds = asked.map(|(fd, flags)| match flags.is_empty() {
            true => PollFd::new(self.signals.as_fd(), flags),
            false => PollFd::new(fd, flags),
        });
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok([false; 5]),
            other => other.doing(|| "wait for the terminal")?,
        };
        let ready = fds.each_ref().map(|fd| fd.any().unwrap_or(true));
        let [signal, master, ..] = &fds;
        if master.revents() == Some(PollFlags::POLLHUP) && signal.any() == Some(false) {
            // Nobody has the terminal open just now; that may change, so look again in a while.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(ready)
    }

    fn signals(&mut self, terminal: &OwnedFd) -> Result<Option<i32>> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == libc::SIGCHLD {
                if let Some(code) = reap(self.process.pid)? {
                    return Ok(Some(code));
                }
            } else if signal == Signal::SIGWINCH as i32 {
                crate::terminal::follow_size(terminal.as_fd());
            } else {
                forward(&self.process, signal);
            }
        }
        Ok(None)
    }

    /// Copies what the payload wrote last, unless a signal says that nobody waits for it any more.
    fn drain(&mut self, terminal: &OwnedFd) {
        loop {
            if self.shown.is_empty() {
                let _ = self.shown.read(terminal.as_fd());
            }
            let goes_on =
                !self.shown.is_empty() && may_wait(&self.signals, of_caller(&self.output, 1));
            if !goes_on || self.show().is_err() {
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
