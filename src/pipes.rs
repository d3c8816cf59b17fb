//! Pipes between the payload of a foreground command and the caller's own files and terminals: through
//! /proc/self/fd the payload could open those anew, for more than the caller has, and OwnStdio would give
//! them away. What cannot be opened anew for more, a pipe or a socket, goes to the payload itself.
//!
//! ```text
//!  caller's stdin  ──►  relay  ──►  pipe  ──►  payload
//!  caller's stdout, stderr  ◄──  relay  ◄──  pipe  ◄──  payload
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Whence, lseek, pipe2, read, write};

use crate::error::{Doing, Result};
use crate::process::is_null;
use crate::sys::process::{stdio, unread};

/// What the payload gets.
#[derive(Debug, Default)]
pub struct Ends {
    /// Its ends of pipes, each for one standard descriptor or for two.
    pub pipes: Vec<(Vec<i32>, OwnedFd)>,
    /// What is known of those standard descriptors that are the caller's.
    pub callers: [Option<FileStat>; 3],
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
            let file = (number > 0).then_some((stat.st_dev, stat.st_ino));
            let before = ends.pipes.last_mut().filter(|_| file.is_some() && file == last);
            if let Some((numbers, _)) = before {
                numbers.push(number);
                continue;
            }
            last = file;
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).doing(|| "make a pipe")?;
            let (ours, theirs) = if number == 0 { (writer, reader) } else { (reader, writer) };
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing(|| "set up a pipe")?;
            // Our own end never makes us wait, nor does a file.
            let waits = number > 0 && kind(&stat) != SFlag::S_IFREG;
            let far = (number == 0).then(|| theirs.try_clone()).transpose();
            let far = far.doing(|| "make a pipe")?;
            flows.push(Flow { number, pipe: Some(ours), far, waits, data: Buffer::default() });
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

    /// Copies what the payload wrote last, as long as `wait` lets it wait for the caller's side. What it has
    /// left running may write on: that is not waited for. What it has not read goes back to the caller.
    pub fn finish(&mut self, wait: impl Fn(BorrowedFd) -> bool) {
        for flow in &mut self.0 {
            match flow.number {
                0 => flow.give_back(),
                _ => flow.drain(&wait),
            }
        }
    }
}

/// Whether what is behind a descriptor can be opened through it anew, and belongs to others too.
fn can_be_opened(stat: &FileStat) -> bool {
    match kind(stat) {
        SFlag::S_IFSOCK | SFlag::S_IFIFO => false,
        // As a here-document of a shell.
        SFlag::S_IFREG => stat.st_nlink > 0,
        _ => !is_null(stat),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// One direction.
#[derive(Debug)]
struct Flow {
    /// Of the caller's descriptor.
    number: i32,
    /// Our end, until one side has gone.
    pipe: Option<OwnedFd>,
    /// The payload's end of its input: what is left in there is not lost with its reader.
    far: Option<OwnedFd>,
    /// Whether a long write may have to wait.
    waits: bool,
    data: Buffer,
}

impl Flow {
    fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let pipe = self.pipe.as_ref()?.as_fd();
        let caller = stdio(self.number);
        Some(match (self.number, self.data.is_empty()) {
            (0, true) => (caller, PollFlags::POLLIN),
            (0, false) => (pipe, PollFlags::POLLOUT),
            (_, true) => (pipe, PollFlags::POLLIN),
            (_, false) => (caller, PollFlags::POLLOUT),
        })
    }

    fn drain(&mut self, wait: impl Fn(BorrowedFd) -> bool) {
        let mut left = self.rest();
        while left > 0 && self.pipe.is_some() {
            if !self.data.is_empty() && !wait(stdio(self.number)) {
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
    /// payload has stopped.
    fn give_back(&mut self) {
        let rest = i64::try_from(self.rest()).unwrap_or(0);
        // Terminals have no such place.
        let _ = lseek(stdio(self.number), -rest, Whence::SeekCur);
    }

    /// How many bytes are on their way.
    fn rest(&self) -> usize {
        let pipe = self.far.as_ref().or(self.pipe.as_ref());
        self.data.0.len() + pipe.map_or(0, |pipe| unread(pipe.as_fd()))
    }

    /// Reads or writes once. With one side gone the other one's end is closed, which it will notice.
    fn go_on(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let (pipe, caller) = (pipe.as_fd(), stdio(self.number));
        let (from, to) = if self.number == 0 { (caller, pipe) } else { (pipe, caller) };
        let goes_on = match self.data.is_empty() {
            true => self.data.read(from),
            false if self.waits => self.data.write_piece(to),
            false => self.data.write(to),
        };
        if !goes_on {
            (self.pipe, self.data) = (None, Buffer::default());
        }
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
    pub fn read(&mut self, from: BorrowedFd) -> bool {
        let mut buffer = [0; 32 << 10];
        match read(from, &mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.0.extend_from_slice(buffer.get(..count).unwrap_or_default());
                true
            }
            Err(errno) => [Errno::EINTR, Errno::EAGAIN].contains(&errno),
        }
    }

    /// Writes once; false if nobody reads `to` any more.
    pub fn write(&mut self, to: BorrowedFd) -> bool {
        self.write_up_to(usize::MAX, to)
    }

    /// The same, with no more than a pipe takes without a wait once poll(2) has said that it takes any.
    pub fn write_piece(&mut self, to: BorrowedFd) -> bool {
        self.write_up_to(libc::PIPE_BUF, to)
    }

    fn write_up_to(&mut self, most: usize, to: BorrowedFd) -> bool {
        let piece = self.0.get(..most).unwrap_or(&self.0);
        if piece.is_empty() {
            return true;
        }
        match write(to, piece) {
            Ok(written) => {
                self.0.drain(..written);
                true
            }
            Err(errno) => [Errno::EINTR, Errno::EAGAIN].contains(&errno),
        }
    }
}
