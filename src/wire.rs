//! What the runtime and the child that becomes the container tell each other, over one
//! SOCK_SEQPACKET pair. Both sides follow the same plan, so a message is only awaited where the
//! plan has put it.
//!
//! ```text
//!  runtime                                            child
//!     | clone3 ----------------------------------------> |
//!     |                                                  |  (others have to be joined or made
//!     | <------------------------- InitPid, second fork  |   before some: the child forks again)
//!     | Continue: id maps and cgroups are in place ----> |  (where a step depends on them; with
//!     |                                                  |   the files by which it joins v1 cgroups)
//!     | <--------------------------------- InNamespaces   |  (if there are network devices)
//!     | Continue: they are in the container -----------> |
//!     | <------------------------------------ WantSource |  (before a bind mount whose source only
//!     | Source + descriptor ---------------------------> |   the runtime can reach or map)
//!     |                                                  |  mounts, devices, …
//!     | <------------------------------------- AtHooks   |  (if there are hooks)
//!     | prestart, createRuntime                          |
//!     | Continue: the hooks have run ------------------> |  createContainer, pivot_root, …
//!     | <------------------------ Terminal + descriptor  |  (a terminal of the caller's own)
//!     | <------------------------ Listener + descriptor  |  (a filter that notifies an agent)
//!     | Continue: the agent has the listener ----------> |
//!     | <--------------------------------------- Ready   |
//!     | Start -----------------------------------------> |  startContainer, execve
//!     | <------------------------------- end of file     |  the payload runs (or: Failed)
//! ```
//! Where the runtime has nothing left to do between Ready and Start, Start is on its way before, and the
//! runtime sleeps until the channel hangs up: Ready is in it then, unless the child has died.
//!
//! After `create`, Continue comes once the state is saved, and Start comes from `tare start` through
//! a listening socket in the state directory; that connection carries the end of file, or the reason
//! why execve(2) failed. There an exec without privileges gets the namespaces of a process that has
//! not started yet. A child that reads an end of file where a message is due has lost its
//! runtime before anyone could find the container by its state: it ends.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, send, sendmsg, socketpair,
};

use crate::error::{Error, Result};
use crate::sys::process::received;
use crate::sys::stub::Failure;

/// The longest message, in bytes: an error with everything it says; a longer one is cut.
const LONGEST: usize = 8 << 10;
/// So many descriptors come with a message at most.
pub const MOST_FDS: usize = 32;

/// What a waiting process is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To become the payload.
    Start,
    /// For its namespaces, by an exec that may not open them itself.
    Enter,
}

impl Request {
    /// The words, all of one length.
    const WORDS: [(Request, &'static [u8; 6]); 2] =
        [(Request::Start, b"start\n"), (Request::Enter, b"enter\n")];

    /// What is said for it.
    pub fn word(self) -> &'static [u8] {
        let known = Request::WORDS.iter().find(|(request, _)| *request == self);
        known.map_or(&[], |(_, word)| word.as_slice())
    }

    /// What the caller at the other end of `connection` asks for; nothing if it goes away before.
    pub fn read(connection: BorrowedFd) -> Option<Request> {
        let mut said = [0; 6];
        // It comes in one piece.
        let got = nix::unistd::read(connection, &mut said);
        let known = Request::WORDS.iter().find(|(_, word)| **word == said);
        known.filter(|_| got == Ok(said.len())).map(|(request, _)| *request)
    }
}

/// A message.
#[derive(Debug)]
pub enum Msg {
    /// The process that becomes init, as the runtime's pid namespace numbers it.
    InitPid(i32),
    /// What the runtime had to do first is done. The files by which the child joins its cgroups may be
    /// attached, opened while it was busy.
    Continue,
    /// The child is in all of its namespaces, but for a cgroup one.
    InNamespaces,
    /// The source of the mount with this number is needed. A descriptor of it is attached if it only
    /// lacks its id mapping.
    WantSource(i32),
    /// A descriptor of the source is attached.
    Source,
    /// The namespaces are made, the mounts too; the hooks of the runtime's side may run.
    AtHooks,
    /// A descriptor of the terminal's master is attached.
    Terminal,
    /// The filter is loaded; its listener has this number in the child. A descriptor of it is
    /// attached if the filter lets sendmsg(2) through.
    Listener(i32),
    /// Everything is done but the start.
    Ready,
    /// The payload may run. The child ignores these of the signals 1 to 31: the lowest bit is the first.
    Start(i32),
    /// A descriptor of a namespace of this kind (`CLONE_NEW*`) is attached.
    Namespace(i32),
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
const IN_NAMESPACES: u8 = 23;
const LISTENER: u8 = 24;
const NAMESPACE: u8 = 25;
const WANT_SOURCE: u8 = 26;
const SOURCE: u8 = 27;

impl Msg {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = |tag, rest: &[u8]| [&[tag], rest].concat();
        match self {
            Msg::InitPid(pid) => tagged(INIT_PID, &pid.to_ne_bytes()),
            Msg::Continue => vec![CONTINUE],
            Msg::InNamespaces => vec![IN_NAMESPACES],
            Msg::WantSource(index) => tagged(WANT_SOURCE, &index.to_ne_bytes()),
            Msg::Source => vec![SOURCE],
            Msg::AtHooks => vec![AT_HOOKS],
            Msg::Terminal => vec![TERMINAL],
            Msg::Listener(fd) => tagged(LISTENER, &fd.to_ne_bytes()),
            Msg::Ready => vec![READY],
            Msg::Start(ignored) => tagged(START, &ignored.to_ne_bytes()),
            Msg::Namespace(flag) => tagged(NAMESPACE, &flag.to_ne_bytes()),
            Msg::Failed(err) => {
                let mut bytes = tagged(FAILED, &encode_error(err));
                bytes.truncate(LONGEST);
                bytes
            }
        }
    }

    /// Reads a message; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Msg> {
        if let Some(failure) = Failure::parse(bytes) {
            return Some(Msg::Failed(stub_failed(failure)));
        }
        let (tag, rest) = bytes.split_first()?;
        let number = || Some(i32::from_ne_bytes(rest.try_into().ok()?));
        Some(match *tag {
            INIT_PID => Msg::InitPid(number()?),
            CONTINUE => Msg::Continue,
            IN_NAMESPACES => Msg::InNamespaces,
            WANT_SOURCE => Msg::WantSource(number()?),
            SOURCE => Msg::Source,
            AT_HOOKS => Msg::AtHooks,
            TERMINAL => Msg::Terminal,
            LISTENER => Msg::Listener(number()?),
            READY => Msg::Ready,
            START => Msg::Start(number()?),
            NAMESPACE => Msg::Namespace(number()?),
            FAILED => Msg::Failed(decode_error(rest)?),
            _ => return None,
        })
    }
}

/// What stands for a failed seccomp(2) or execve(2) of the stub.
fn stub_failed(failure: Failure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    match failure.seccomp {
        true => Error::sys("load the seccomp filter", errno).at("linux.seccomp"),
        false => exec_failed(&String::from_utf8_lossy(failure.path), errno),
    }
}

/// The error of a failed execve(2), in the words that callers of runc know.
pub fn exec_failed(program: &str, errno: Errno) -> Error {
    let err = Error::sys(format!("exec {program}"), errno).at("process.args[0]");
    match errno {
        Errno::ENOENT => err.hint("the file is there: the interpreter that it names is missing"),
        Errno::ENOEXEC => {
            err.hint("it is neither a program for this architecture nor a script with #!")
        }
        _ => err,
    }
}

/// The errno, then four strings that end with NUL: doing, JSON path, kernel's words, hint.
fn encode_error(err: &Error) -> Vec<u8> {
    let (doing, errno, rest) = err.parts();
    let mut bytes = errno.to_ne_bytes().to_vec();
    for text in [Some(doing)].into_iter().chain(rest) {
        // The output of a hook may hold anything.
        bytes.extend(text.unwrap_or_default().bytes().map(|b| if b == 0 { b' ' } else { b }));
        bytes.push(0);
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
        self.send_with_fds(msg, fd.as_slice())
    }

    /// Sends a message with these descriptors, no more than [`MOST_FDS`].
    pub fn send_with_fds(&self, msg: &Msg, fds: &[BorrowedFd]) -> Result<()> {
        let bytes = msg.encode();
        match fds {
            // The filter of a payload may let through either call alone.
            [] => {
                let sent = nix::unistd::write(&self.0, &bytes);
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sent.or_else(|_| send(self.0.as_raw_fd(), &bytes, flags)).map(drop)?)
            }
            fds => send_fds(self.0.as_fd(), fds, &bytes),
        }
    }

    /// Waits until the other side is gone; what it says meanwhile wakes nobody, and can be received
    /// afterwards (poll(2): no events but POLLHUP).
    pub fn await_hangup(&self) -> Result<()> {
        let mut end = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut end, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Receives a message; `None` if the other side is gone.
    pub fn receive(&self) -> Result<Option<Msg>> {
        let mut bytes = [0; LONGEST];
        match nix::unistd::read(&self.0, &mut bytes) {
            Ok(count) => decoded(bytes.get(..count).unwrap_or_default()),
            Err(_) => Ok(self.receive_with_fd()?.0),
        }
    }

    /// Receives a message and the descriptor that came with it.
    pub fn receive_with_fd(&self) -> Result<(Option<Msg>, Option<OwnedFd>)> {
        let (msg, fds) = self.receive_with_fds()?;
        Ok((msg, fds.into_iter().next()))
    }

    /// Receives a message and the descriptors that came with it.
    pub fn receive_with_fds(&self) -> Result<(Option<Msg>, Vec<OwnedFd>)> {
        let mut bytes = [0; LONGEST];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; MOST_FDS]);
        let got = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let socket = self.0.as_raw_fd();
            match recvmsg::<()>(socket, &mut slices, Some(&mut control), flags) {
                // The other side ended without reading ours; told once, before its own last word.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                other => {
                    let got = other?;
                    let fds = got.cmsgs()?.flat_map(received).collect();
                    break (got.bytes, fds);
                }
            }
        };
        let (count, fds) = got;
        Ok((decoded(bytes.get(..count).unwrap_or_default())?, fds))
    }
}

/// A message; none if the other side is gone.
fn decoded(bytes: &[u8]) -> Result<Option<Msg>> {
    match Msg::decode(bytes) {
        None if !bytes.is_empty() => {
            Err(Error::new("tare and its child do not understand each other"))
        }
        msg => Ok(msg),
    }
}

impl From<OwnedFd> for Channel {
    /// A connection to or from a waiting process.
    fn from(connection: OwnedFd) -> Self {
        Channel(connection)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends `fd` over `socket` (unix(7), `SCM_RIGHTS`) with `name` as the message.
pub fn send_fd(socket: BorrowedFd, fd: BorrowedFd, name: &[u8]) -> Result<()> {
    send_fds(socket, &[fd], name)
}

fn send_fds(socket: BorrowedFd, fds: &[BorrowedFd], name: &[u8]) -> Result<()> {
    let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(name)], &rights, flags, None)?;
    if sent == name.len() { Ok(()) } else { Err(Errno::EMSGSIZE.into()) }
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
    fn descriptors_come_in_their_order() {
        let (ours, theirs) = Channel::pair().unwrap();
        let files = ["/dev/null", "/dev/zero"].map(|path| std::fs::File::open(path).unwrap());
        let fds: Vec<_> = (0..MOST_FDS).map(|i| files[i % 2].as_fd()).collect();
        ours.send_with_fds(&Msg::Continue, &fds).unwrap();
        let (msg, got) = theirs.receive_with_fds().unwrap();
        assert!(matches!(msg, Some(Msg::Continue)));
        let device = |fd: BorrowedFd| nix::sys::stat::fstat(fd).unwrap().st_rdev;
        assert!(got.iter().map(|fd| device(fd.as_fd())).eq(fds.iter().map(|fd| device(*fd))));
    }

    #[test]
    fn no_byte_of_an_error_is_taken_for_an_end() {
        let msg = Msg::Failed(Error::new("stderr: a\0b").at("hooks.createContainer[0]"));
        let Some(Msg::Failed(err)) = Msg::decode(&msg.encode()) else { panic!("no error") };
        assert_eq!(
            (err.message().as_str(), err.path()),
            ("stderr: a b", Some("hooks.createContainer[0]"))
        );
    }

    #[test]
    fn a_stub_report_is_an_error() {
        let report = [&2i32.to_ne_bytes(), &libc::ENOENT.to_ne_bytes(), &b"/bin/x"[..]].concat();
        let Some(Msg::Failed(err)) = Msg::decode(&report) else { panic!("no error") };
        assert_eq!(err.message(), "exec /bin/x: no such file or directory");
    }
}
