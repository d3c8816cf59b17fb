//! Pipes between the payload of a foreground command and the caller's own files and terminals: through
//! /proc/self/fd the payload could open those anew, for more than the caller has, and OwnStdio would give
//! them away. Pipes, sockets and files without a name go to the payload itself: they lead nowhere else.
//!
//! ```text
//!  caller's stdin  ──►  relay  ──►  pipe  ──►  payload
//!  caller's stdout, stderr  ◄──  relay  ◄──  pipe  ◄──  payload
//! ```

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFlags, PollTimeout};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Whence, isatty, lseek, pipe2, read, write};

use crate::error::{Doing, Error, Result};
use crate::log;
use crate::path::file_type;
use crate::process::{give, is_null, is_own};
use crate::sys::process::{stdio, unread};

/// What the payload gets.
#[derive(Debug, Default)]
pub struct Ends {
    /// Its ends of pipes, each for one standard descriptor or for two.
    pub pipes: Vec<(Vec<i32>, OwnedFd)>,
    /// What is known of those standard descriptors that are the caller's.
    pub callers: [Option<FileStat>; 3],
}

impl Ends {
    /// Gives all of them to a user and a group, the root of the user namespace from which OwnStdio goes on.
    pub fn give_to(&mut self, (user, group): (u32, u32)) -> Result<()> {
        for (_, end) in &self.pipes {
            give(end.as_fd(), user, Some(group))?;
        }
        for (number, stat) in (0..).zip(&mut self.callers) {
            if let Some(stat) = stat.as_mut().filter(|stat| is_own(stdio(number), stat)) {
                give(stdio(number), user, Some(group))?;
                stat.st_uid = 0;
            }
        }
        Ok(())
    }
}

/// The runtime's side of all pipes.
#[derive(Debug, Default)]
pub struct Pipes(Vec<Flow>);

impl Pipes {
    /// Makes the pipes that are needed, and the payload's ends of them.
    pub fn make() -> Result<(Pipes, Ends)> {
        let (mut flows, mut ends, mut last) = (Vec::new(), Ends::default(), None);
        for (number, callers) in (0..).zip(&mut ends.callers) {
            let Ok(stat) = fstat(stdio(number)) else { continue };
            if !can_be_opened(&stat) {
                *callers = Some(stat);
                continue;
            }
            // One pipe for both keeps what is written to one file in order.
            let flags = fcntl(stdio(number), FcntlArg::F_GETFL).ok();
            let file = (number > 0).then_some((stat.st_dev, stat.st_ino, flags));
            let before = ends.pipes.last_mut().filter(|_| file.is_some() && file == last);
            if let Some((numbers, _)) = before {
                numbers.push(number);
                continue;
            }
            last = file;
            let (flow, theirs) = Flow::new(number, &stat).doing(|| "make a pipe")?;
            flows.push(flow);
            ends.pipes.push((vec![number], theirs));
        }
        Ok((Pipes(flows), ends))
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What each of them waits for next; none for one that is closed.
    pub fn wanted(&self) -> Vec<Option<(BorrowedFd<'_>, PollFlags)>> {
        self.0.iter().map(Flow::wanted).collect()
    }

    /// Moves on those that are `ready`, in the order of [`Pipes::wanted`].
    pub fn go_on(&mut self, ready: &[bool]) {
        let flows = self.0.iter_mut().zip(ready).filter(|(_, ready)| **ready);
        flows.for_each(|(flow, _)| flow.go_on());
    }

    /// How long to wait: a shell does not tell what it brings to the foreground again.
    pub fn patience(&self) -> PollTimeout {
        match self.0.iter().any(|flow| flow.in_background) {
            true => PollTimeout::from(250u8),
            false => PollTimeout::NONE,
        }
    }

    /// Tries to read the caller's terminal again.
    pub fn resume(&mut self) {
        self.0.iter_mut().for_each(|flow| flow.in_background = false);
    }

    /// Ends the input: what the payload has not read goes back to the caller.
    pub fn end_input(&mut self) {
        self.0.iter_mut().filter(|flow| flow.number == 0).for_each(Flow::give_back);
    }

    /// Whether whoever has the payload's output may still write.
    pub fn may_be_written(&self) -> bool {
        self.0.iter().any(|flow| flow.number > 0 && flow.pipe.is_some())
    }

    /// Copies what the payload wrote last, as long as `wait` lets it wait for the caller's side.
    pub fn drain(&mut self, wait: impl Fn(BorrowedFd) -> bool) {
        self.0.iter_mut().filter(|flow| flow.number > 0).for_each(|flow| flow.drain(&wait));
    }
}

/// Whether what is behind a descriptor can be opened through it anew, for more, and is others' too.
fn can_be_opened(stat: &FileStat) -> bool {
    match file_type(stat) {
        SFlag::S_IFSOCK | SFlag::S_IFIFO => false,
        // One without a name is known only to those who have it, such as a shell's here-document.
        SFlag::S_IFREG => stat.st_nlink > 0,
        _ => !is_null(stat),
    }
}

/// A terminal of the caller's, opened once more: whoever waits for it is not waited for then. None where
/// it is no terminal, or may not be opened.
pub fn terminal_without_waiting(number: i32) -> Option<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = format!("/proc/self/fd/{number}");
    let is_terminal = isatty(stdio(number)).unwrap_or(false);
    is_terminal.then(|| nix::fcntl::open(&*path, flags, Mode::empty()).ok()).flatten()
}

/// What is read from or written to for the caller's descriptor `number`: the `terminal`, opened once more,
/// or else itself.
pub fn of_caller(terminal: &Option<OwnedFd>, number: i32) -> BorrowedFd<'_> {
    terminal.as_ref().map_or(stdio(number), AsFd::as_fd)
}

/// One direction.
#[derive(Debug)]
struct Flow {
    /// Of the caller's descriptor.
    number: i32,
    /// The caller's terminal once more, for output.
    terminal: Option<OwnedFd>,
    /// Our end, until one side has gone.
    pipe: Option<OwnedFd>,
    /// The payload's end of its input from a file: what is left in there is not lost with its reader.
    far: Option<OwnedFd>,
    /// Whether it is a terminal that others read from just now.
    in_background: bool,
    /// Whether a long write may have to wait.
    waits: bool,
    data: Buffer,
}

impl Flow {
    fn new(number: i32, stat: &FileStat) -> nix::Result<(Flow, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let (ours, theirs) = if number == 0 { (writer, reader) } else { (reader, writer) };
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let is_file = file_type(stat) == SFlag::S_IFREG;
        let far = (number == 0 && is_file).then(|| theirs.try_clone()).transpose();
        let terminal = (number > 0).then(|| terminal_without_waiting(number)).flatten();
        let flow = Flow {
            number,
            // Our own end never makes us wait, nor does a file.
            waits: number > 0 && !is_file && terminal.is_none(),
            terminal,
            pipe: Some(ours),
            far: far.map_err(|_| Errno::EMFILE)?,
            in_background: false,
            data: Buffer::default(),
        };
        Ok((flow, theirs))
    }

    fn caller(&self) -> BorrowedFd<'_> {
        of_caller(&self.terminal, self.number)
    }

    fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let pipe = self.pipe.as_ref()?.as_fd();
        match (self.number, self.data.is_empty()) {
            (0, true) if self.in_background => None,
            (0, true) => Some((self.caller(), PollFlags::POLLIN)),
            (0, false) => Some((pipe, PollFlags::POLLOUT)),
            (_, true) => Some((pipe, PollFlags::POLLIN)),
            (_, false) => Some((self.caller(), PollFlags::POLLOUT)),
        }
    }

    fn drain(&mut self, wait: impl Fn(BorrowedFd) -> bool) {
        let mut left = self.rest();
        while left > 0 && self.pipe.is_some() {
            let is_file = !self.waits && self.terminal.is_none();
            if !self.data.is_empty() && !is_file && !wait(self.caller()) {
                return;
            }
            let before = self.data.0.len();
            self.go_on();
            if before == 0 && self.data.is_empty() {
                return;
            }
            left -= left.min(before.saturating_sub(self.data.0.len()));
        }
    }

    /// Whoever reads the caller's file next, such as the next round of a shell's loop, begins where the
    /// payload has stopped. Terminals have no such place.
    fn give_back(&mut self) {
        if self.far.is_some() {
            let rest = i64::try_from(self.rest()).unwrap_or(0);
            let _ = lseek(stdio(self.number), -rest, Whence::SeekCur);
        }
        (self.pipe, self.far, self.data) = (None, None, Buffer::default());
    }

    /// How many bytes are on their way.
    fn rest(&self) -> usize {
        let pipe = self.far.as_ref().or(self.pipe.as_ref());
        self.data.0.len() + pipe.map_or(0, |pipe| unread(pipe.as_fd()))
    }

    /// Reads or writes once. With one side gone the other one's end is closed, which it will notice.
    fn go_on(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let (pipe, caller) = (pipe.as_fd(), of_caller(&self.terminal, self.number));
        let (from, to) = if self.number == 0 { (caller, pipe) } else { (pipe, caller) };
        let done = match self.data.is_empty() {
            true => self.data.read(from),
            false if self.waits => self.data.write_piece(to).map(|()| true),
            false => self.data.write(to).map(|()| true),
        };
        match done {
            Ok(true) => return,
            // Read from the background (tty_ioctl(4)).
            Err(Errno::EIO) if self.number == 0 && isatty(caller).unwrap_or(false) => {
                return self.in_background = true;
            }
            Err(errno) if self.number > 0 && errno != Errno::EPIPE => {
                let what = format!("write to descriptor {}", to.as_raw_fd());
                log::warn(&Error::sys(what, errno).message());
            }
            _ => {}
        }
        (self.pipe, self.data) = (None, Buffer::default());
    }
}

/// What was read and has not been written yet.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads once; false at the end of `from`.
    pub fn read(&mut self, from: BorrowedFd) -> nix::Result<bool> {
        let mut buffer = [0; 32 << 10];
        match read(from, &mut buffer) {
            Ok(count) => {
                self.0.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(count > 0)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    /// Writes once.
    pub fn write(&mut self, to: BorrowedFd) -> nix::Result<()> {
        self.write_up_to(usize::MAX, to)
    }

    /// The same, with no more than a pipe takes without a wait once poll(2) has said that it takes any.
    pub fn write_piece(&mut self, to: BorrowedFd) -> nix::Result<()> {
        self.write_up_to(libc::PIPE_BUF, to)
    }

    fn write_up_to(&mut self, most: usize, to: BorrowedFd) -> nix::Result<()> {
        let piece = self.0.get(..most).unwrap_or(&self.0);
        if piece.is_empty() {
            return Ok(());
        }
        match write(to, piece) {
            Ok(written) => {
                self.0.drain(..written);
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
