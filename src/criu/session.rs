//! A conversation with `criu swrk FD`: requests and answers over a SOCK_SEQPACKET pair, as criu's
//! own library holds it (criu: images/rpc.proto, criu/cr-service.c).
//!
//! ```text
//!  tare                                criu swrk
//!    | VERSION, keep open -------------> |
//!    | <------------------------ VERSION |
//!    | DUMP, RESTORE or PRE_DUMP ------> |
//!    | <-------- NOTIFY post-restore, …  |   any number of times
//!    | NOTIFY, done or refused --------> |
//!    | <----- DUMP, RESTORE or PRE_DUMP  |
//! ```

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recvmsg, send, shutdown, socketpair,
};

use super::proto::{Fields, Message, Value};
use crate::error::{Doing, Error, Result};
use crate::sys::process::received;

/// What is asked of criu (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Write the images of a tree of processes.
    Dump = 1,
    /// Make processes from images.
    Restore = 2,
    /// Write the images of memory only, and let the processes run.
    PreDump = 4,
    /// The answer to a notification.
    Notify = 6,
    /// What the kernel offers.
    FeatureCheck = 9,
    /// criu's own version.
    Version = 10,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Dump => "DUMP",
            Kind::Restore => "RESTORE",
            Kind::PreDump => "PRE_DUMP",
            Kind::Notify => "NOTIFY",
            Kind::FeatureCheck => "FEATURE_CHECK",
            Kind::Version => "VERSION",
        }
    }
}

/// Things that a kernel may lack (`criu_features`).
#[derive(Debug, Clone, Copy)]
pub enum Feature {
    /// Tracking of changed memory.
    MemTrack = 1,
    /// Memory that is fetched when it is touched.
    LazyPages = 2,
}

/// A point in criu's work at which it waits for its caller.
#[derive(Debug, Default)]
pub struct Notice {
    /// Its name, such as `post-restore`.
    pub script: String,
    /// The first process of the container, where there is one by now; else 0.
    pub pid: i32,
    /// The descriptor that came along: the master of a terminal.
    pub fd: Option<OwnedFd>,
}

/// One answer (`criu_resp`).
#[derive(Debug, Default)]
struct Answer {
    kind: u64,
    success: bool,
    notice: Notice,
    /// The first process of a restored container.
    pid: i32,
    errno: i32,
    /// Ten thousand times the major version, a hundred times the minor one, and the sublevel.
    version: u32,
    /// A bit for each [`Feature`].
    features: u32,
}

/// Our end of the conversation.
#[derive(Debug)]
pub struct Session(OwnedFd);

impl Session {
    /// Makes both ends: ours, and the one for criu, which is closed by execve(2) as it is.
    ///
    /// # Errors
    /// socketpair(2) fails.
    pub fn pair() -> Result<(Session, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .doing(|| "make a socket for criu")?;
        Ok((Session(ours), theirs))
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        // One that is closed already is what is wanted.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// criu's version: ten thousand times the major, a hundred times the minor, and the sublevel.
    ///
    /// # Errors
    /// criu does not answer.
    pub fn version(&self) -> Result<u32> {
        self.open_request(Kind::Version, &Message::default())?;
        Ok(self.answer(Kind::Version, &mut |_| Ok(()))?.version)
    }

    /// Refuses if the kernel or criu lacks `feature`.
    ///
    /// # Errors
    /// "criu is missing features", in runc's words.
    pub fn need(&self, feature: Feature) -> Result<()> {
        let mut wanted = Message::default();
        wanted.number(feature as u32, 1);
        let mut request = Message::default();
        request.message(5, &wanted);
        self.open_request(Kind::FeatureCheck, &request)?;
        let answer = self.answer(Kind::FeatureCheck, &mut |_| Ok(()))?;
        match answer.features & (1 << feature as u32) {
            0 => Err(Error::new(format!("criu is missing features: [{feature:?}]"))
                .hint("the kernel, or this version of criu, cannot do it")),
            _ => Ok(()),
        }
    }

    /// Has criu do what `options` say (`criu_opts`), and calls `notify` at each of its points; what
    /// that refuses, criu takes back. The pid of a restored container's first process.
    ///
    /// # Errors
    /// `notify`'s first failure, or criu's.
    pub fn perform(
        &self,
        kind: Kind,
        options: &Message,
        notify: &mut dyn FnMut(Notice) -> Result<()>,
    ) -> Result<i32> {
        let mut request = Message::default();
        request.number(1, kind as i64);
        request.message(2, options);
        self.send(&request)?;
        Ok(self.answer(kind, notify)?.pid)
    }

    /// A request after which criu waits for the next one.
    fn open_request(&self, kind: Kind, rest: &Message) -> Result<()> {
        let mut request = rest.clone();
        request.number(1, kind as i64);
        request.number(4, 1);
        self.send(&request)
    }

    fn send(&self, request: &Message) -> Result<()> {
        let sent = send(self.0.as_raw_fd(), request.bytes(), MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).doing(|| "send a request to criu")
    }

    fn answer(&self, kind: Kind, notify: &mut dyn FnMut(Notice) -> Result<()>) -> Result<Answer> {
        let mut refused = None;
        loop {
            let answer = match self.receive() {
                Ok(answer) => answer,
                // It has ended because of the refusal.
                Err(err) => return Err(refused.unwrap_or(err)),
            };
            if answer.success && answer.kind == Kind::Notify as u64 {
                let done = notify(answer.notice);
                let mut reply = Message::default();
                reply.number(1, Kind::Notify as i64);
                reply.number(3, i64::from(done.is_ok()));
                refused = refused.or(done.err());
                self.send(&reply)?;
            } else if answer.success && answer.kind == kind as u64 {
                return refused.map_or(Ok(answer), Err);
            } else {
                return Err(refused.unwrap_or_else(|| failed(kind, &answer)));
            }
        }
    }

    fn receive(&self) -> Result<Answer> {
        let mut bytes = vec![0; LONGEST];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let (count, fd) = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Err(Errno::EINTR) => {}
                other => {
                    let got = other.doing(|| "receive an answer of criu")?;
                    let mut fds = got.cmsgs().into_iter().flatten().flat_map(received);
                    break (got.bytes, fds.next());
                }
            }
        };
        match bytes.get(..count).filter(|bytes| !bytes.is_empty()) {
            None => Err(Error::new("criu ended without an answer")),
            Some(bytes) => Ok(read(bytes, fd)),
        }
    }
}

/// The longest answer, in bytes.
const LONGEST: usize = 40 << 10;

/// The words of runc; criu's own are in its log, where the first is not always the reason.
fn failed(kind: Kind, answer: &Answer) -> Error {
    Error::new(format!("criu failed: type {} errno {}", kind.name(), answer.errno))
}

fn read(bytes: &[u8], fd: Option<OwnedFd>) -> Answer {
    let mut answer = Answer::default();
    for (field, value) in Fields(bytes) {
        match (field, value) {
            (1, Value::Number(kind)) => answer.kind = kind,
            (2, Value::Number(success)) => answer.success = success != 0,
            (4, Value::Bytes(restored)) => answer.pid = number(restored, 1) as i32,
            (5, Value::Bytes(notice)) => {
                answer.notice.script = text(notice, 1);
                answer.notice.pid = number(notice, 2) as i32;
            }
            (7, Value::Number(errno)) => answer.errno = errno as i32,
            (8, Value::Bytes(features)) => {
                let held = [Feature::MemTrack, Feature::LazyPages].map(|feature| feature as u32);
                let held = held.into_iter().filter(|field| number(features, *field) != 0);
                answer.features = held.map(|field| 1 << field).sum();
            }
            (10, Value::Bytes(version)) => answer.version = version_number(version),
            _ => {}
        }
    }
    answer.notice.fd = fd;
    answer
}

/// As runc counts them: a version that was built between releases is the next minor one.
fn version_number(version: &[u8]) -> u32 {
    let part = |field| number(version, field) as u32;
    let between = !text(version, 3).is_empty();
    let number = part(1) * 10_000 + part(2) * 100;
    if between { number + 100 } else { number + part(4) }
}

fn number(message: &[u8], field: u32) -> u64 {
    Fields(message)
        .find_map(|found| match found {
            (name, Value::Number(number)) if name == field => Some(number),
            _ => None,
        })
        .unwrap_or(0)
}

fn text(message: &[u8], field: u32) -> String {
    let found = Fields(message).find_map(|found| match found {
        (name, Value::Bytes(text)) if name == field => Some(String::from_utf8_lossy(text).into()),
        _ => None,
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(script: &str) -> Message {
        let mut inner = Message::default();
        inner.text(1, script);
        inner.number(2, 77);
        let mut answer = Message::default();
        answer.number(1, 6);
        answer.number(2, 1);
        answer.message(5, &inner);
        answer
    }

    fn end(kind: i64, success: bool) -> Message {
        let mut answer = Message::default();
        answer.number(1, kind);
        answer.number(2, i64::from(success));
        answer.number(7, 17);
        answer
    }

    /// A criu that says `answers` whatever it is asked.
    fn perform(answers: &[Message], refuse: &str) -> (Result<i32>, Vec<String>) {
        let (ours, theirs) = Session::pair().unwrap();
        for answer in answers {
            nix::unistd::write(&theirs, answer.bytes()).unwrap();
        }
        let mut seen = Vec::new();
        let done = ours.perform(Kind::Dump, &Message::default(), &mut |notice| {
            seen.push(format!("{} {}", notice.script, notice.pid));
            if notice.script == refuse { Err(Error::new("refused")) } else { Ok(()) }
        });
        (done, seen)
    }

    #[test]
    fn notices_come_before_the_end() {
        let answers = [notice("pre-dump"), notice("post-dump"), end(1, true)];
        let (done, seen) = perform(&answers, "");
        done.unwrap();
        assert_eq!(seen, ["pre-dump 77", "post-dump 77"]);
    }

    #[test]
    fn a_failure_has_the_words_of_runc() {
        let err = perform(&[end(1, false)], "").0.unwrap_err();
        assert_eq!(err.message(), "criu failed: type DUMP errno 17");
    }

    #[test]
    fn what_was_refused_is_the_reason() {
        for last in [end(1, false), end(1, true)] {
            let err = perform(&[notice("x"), last], "x").0.unwrap_err();
            assert_eq!(err.message(), "refused");
        }
    }

    #[test]
    fn an_end_without_answer_is_told() {
        let (ours, theirs) = Session::pair().unwrap();
        drop(theirs);
        ours.version().unwrap_err();
        let (ours, theirs) = Session::pair().unwrap();
        shutdown(theirs.as_raw_fd(), Shutdown::Write).unwrap();
        assert_eq!(ours.version().unwrap_err().message(), "criu ended without an answer");
    }
}
