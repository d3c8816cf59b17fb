//! What the runtime and the child that becomes the container tell each other, over one
//! SOCK_SEQPACKET pair. Both sides follow the same plan, so a message is only awaited where the
//! plan has put it.
//!
//! ```text
//!  runtime                                            child
//!     | clone3 ----------------------------------------> |
//!     |                                                  |  (joined user namespace, new pid
//!     | <------------------------- InitPid, second fork  |   namespace: the child forks again)
//!     | Continue: id maps and cgroups are in place ----> |  (where a step depends on them)
//!     |                                                  |  mounts, devices, …
//!     | <------------------------------------- AtHooks   |  (if there are hooks)
//!     | prestart, createRuntime                          |
//!     | Continue: the state for hooks -----------------> |  createContainer, pivot_root, …
//!     | <------------------------ Terminal + descriptor  |  (a terminal of the caller's own)
//!     | <--------------------------------------- Ready   |
//!     | Start: the state for hooks --------------------> |  startContainer, execve
//!     | <------------------------------- end of file     |  the payload runs (or: Failed)
//! ```
//! After `create`, Start comes from `tare start` through a listening socket in the state directory
//! instead; the connection carries the end of file, or the reason why execve(2) failed.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    socketpair,
};

use crate::error::{Error, Result};
use crate::sys::stub::Failure;

/// The longest message, in bytes: an error with everything it says, or a state with annotations.
const LONGEST: usize = 256 << 10;

/// A message.
#[derive(Debug)]
pub enum Msg {
    /// The process that becomes init, as the runtime's pid namespace numbers it.
    InitPid(i32),
    /// What the runtime had to do first is done; with the state for hooks, where any follow.
    Continue(String),
    /// The namespaces are made, the mounts too; the hooks of the runtime's side may run.
    AtHooks,
    /// A descriptor of the terminal's master is attached.
    Terminal,
    /// Everything is done but the start.
    Ready,
    /// The payload may run; with the state for the startContainer hooks.
    Start(String),
    /// A step failed, and the child is ending.
    Failed(Error),
}

/// The tags begin above the stub's own report, whose first byte is 1 or 2.
const INIT_PID: u8 = 16;
const CONTINUE: u8 = 17;
const AT_HOOKS: u8 = 18;
const TERMINAL: u8 = 19;
const READY: u8 = 20;
const START: u8 = 21;
const FAILED: u8 = 22;

impl Msg {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = |tag, rest: &[u8]| [&[tag], rest].concat();
        match self {
            Msg::InitPid(pid) => tagged(INIT_PID, &pid.to_ne_bytes()),
            Msg::Continue(state) => tagged(CONTINUE, state.as_bytes()),
            Msg::AtHooks => vec![AT_HOOKS],
            Msg::Terminal => vec![TERMINAL],
            Msg::Ready => vec![READY],
            Msg::Start(state) => tagged(START, state.as_bytes()),
            Msg::Failed(err) => tagged(FAILED, &encode_error(err)),
        }
    }

    /// Reads a message; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Msg> {
        if let Some(failure) = Failure::parse(bytes) {
            return Some(Msg::Failed(stub_failed(failure)));
        }
        let (tag, rest) = bytes.split_first()?;
        let text = || String::from_utf8(rest.to_vec()).ok();
        Some(match *tag {
            INIT_PID => Msg::InitPid(i32::from_ne_bytes(rest.try_into().ok()?)),
            CONTINUE => Msg::Continue(text()?),
            AT_HOOKS => Msg::AtHooks,
            TERMINAL => Msg::Terminal,
            READY => Msg::Ready,
            START => Msg::Start(text()?),
            FAILED => Msg::Failed(decode_error(rest)?),
            _ => return None,
        })
    }
}

/// What stands for a failed seccomp(2) or execve(2) of the stub; the caller knows the program.
fn stub_failed(failure: Failure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    match failure.seccomp {
        true => Error::sys("load the seccomp filter", errno).at("linux.seccomp"),
        false => Error::from(errno).at("process.args[0]"),
    }
}

/// The errno, then four strings parted by NUL: doing, JSON path, kernel's words, hint.
fn encode_error(err: &Error) -> Vec<u8> {
    let (doing, errno, rest) = err.parts();
    let mut bytes = errno.to_ne_bytes().to_vec();
    bytes.extend_from_slice(doing.as_bytes());
    for text in rest {
        bytes.push(0);
        bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    bytes
}

fn decode_error(bytes: &[u8]) -> Option<Error> {
    let (errno, texts) = bytes.split_first_chunk::<4>()?;
    let texts = String::from_utf8_lossy(texts);
    let mut texts = texts.split('\0');
    let doing = texts.next()?;
    let mut err = match i32::from_ne_bytes(*errno) {
        0 => Error::new(doing),
        errno => Error::sys(doing, Errno::from_raw(errno)),
    };
    let mut next = || texts.next().filter(|text| !text.is_empty()).map(String::from);
    if let Some(at) = next() {
        err = err.at(at);
    }
    if let Some(kernel) = next() {
        err = err.kernel(kernel);
    }
    if let Some(hint) = next() {
        err = err.hint(hint);
    }
    Some(err)
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Makes both ends: the runtime's and the child's.
    pub fn pair() -> Result<(Channel, Channel)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Channel(ours), Channel(theirs)))
    }

    /// Sends a message; with `fd`, a descriptor along with it.
    pub fn send(&self, msg: &Msg, fd: Option<BorrowedFd>) -> Result<()> {
        let bytes = msg.encode();
        match fd {
            Some(fd) => crate::terminal::send_fd(self.0.as_fd(), fd, &bytes),
            None => {
                send(self.0.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)?;
                Ok(())
            }
        }
    }

    /// Receives a message; `None` if the other side is gone.
    pub fn receive(&self) -> Result<Option<Msg>> {
        Ok(self.receive_with_fd()?.0)
    }

    /// Receives a message and the descriptor that came with it.
    pub fn receive_with_fd(&self) -> Result<(Option<Msg>, Option<OwnedFd>)> {
        let mut first = [0u8; 1024];
        let length = loop {
            let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
            match recv(self.0.as_raw_fd(), &mut first, flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok((None, None)),
                other => break other?,
            }
        };
        let mut bytes = vec![0; length.clamp(1, LONGEST)];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let fd = got.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = fd.and_then(crate::sys::process::inherited);
        match got.bytes {
            0 => Ok((None, fd)),
            n => match Msg::decode(bytes.get(..n).unwrap_or_default()) {
                None => Err(Error::new("tare and its child do not understand each other")),
                msg => Ok((msg, fd)),
            },
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a whole message from the connection of `tare start`, whose bytes end at the line feed.
pub fn read_start(connection: BorrowedFd) -> Option<String> {
    let mut stream = UnixStream::from(connection.try_clone_to_owned().ok()?);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        text.extend_from_slice(buffer.get(..n)?);
        if text.last() == Some(&b'\n') {
            text.pop();
            return String::from_utf8(text).ok();
        }
        if text.len() > LONGEST {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_the_wire_whole() {
        let (ours, theirs) = Channel::pair().unwrap();
        let err = Error::sys("mount tmpfs on /data", Errno::EINVAL)
            .at("mounts[2].options[0]")
            .kernel("tmpfs: Bad value for 'size'")
            .hint("a size is a number");
        let text = err.to_string();
        theirs.send(&Msg::Failed(err), None).unwrap();
        drop(theirs);
        match ours.receive().unwrap() {
            Some(Msg::Failed(err)) => assert_eq!(err.to_string(), text),
            other => panic!("{other:?}"),
        }
        assert!(ours.receive().unwrap().is_none());
    }

    #[test]
    fn a_stub_report_is_an_error() {
        let msg = Msg::decode(&Failure::of_exec(libc::ENOENT)).unwrap();
        assert!(matches!(msg, Msg::Failed(err) if err.errno() == Some(Errno::ENOENT)));
    }
}
