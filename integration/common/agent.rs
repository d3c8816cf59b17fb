//! A seccomp agent: takes listeners over a UNIX socket and answers their calls, from threads of
//! its own.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;

nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(respond, b'!', 1, libc::seccomp_notif_resp);

/// What becomes of a call.
#[derive(Clone, Copy)]
pub enum Answer {
    /// It fails with this errno.
    Errno(i32),
    /// It returns this.
    Value(i64),
    /// The kernel goes on with it.
    Continue,
}

/// The agent of a test; it listens until the test ends.
pub struct Agent {
    messages: Arc<Mutex<Vec<Value>>>,
    calls: Arc<Mutex<Vec<i32>>>,
}

impl Agent {
    /// Listens at `path`; `decide` gets the numbers of calls.
    pub fn at(path: &Path, decide: fn(i32) -> Answer) -> Self {
        Agent::serve(UnixListener::bind(path).expect("bind the agent's socket"), decide)
    }

    /// Listens at the abstract address `name`.
    pub fn at_abstract(name: &str, decide: fn(i32) -> Answer) -> Self {
        let address = SocketAddr::from_abstract_name(name).expect("an address");
        Agent::serve(UnixListener::bind_addr(&address).expect("bind"), decide)
    }

    fn serve(listener: UnixListener, decide: fn(i32) -> Answer) -> Self {
        let agent = Agent { messages: Arc::default(), calls: Arc::default() };
        let (messages, calls) = (Arc::clone(&agent.messages), Arc::clone(&agent.calls));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (message, fd) = take(&connection.expect("a connection"));
                messages.lock().expect("not poisoned").push(message);
                let calls = Arc::clone(&calls);
                std::thread::spawn(move || answer(&fd, decide, &calls));
            }
        });
        agent
    }

    /// The container process states that came, once there are this many: the runtime does not
    /// wait for the agent to read one.
    pub fn messages(&self, count: usize) -> Vec<Value> {
        let messages = || self.messages.lock().expect("not poisoned").clone();
        super::eventually("the agent has been told", || messages().len() >= count);
        messages()
    }

    /// The numbers of the calls that it was asked about so far.
    pub fn calls(&self) -> Vec<i32> {
        self.calls.lock().expect("not poisoned").clone()
    }
}

/// The message of a connection, and the one descriptor with it. As agents in the field do it: one
/// call that gets all, then nothing more may come.
pub fn take(connection: &UnixStream) -> (Value, OwnedFd) {
    let mut bytes = [0; 4096];
    let mut control = nix::cmsg_space!([i32; 4]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(connection.as_raw_fd(), &mut slices, Some(&mut control), flags);
    let got = got.expect("a message");
    let fds: Vec<i32> = got
        .cmsgs()
        .expect("whole")
        .flat_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds,
            _ => vec![],
        })
        .collect();
    let count = got.bytes;
    assert_eq!(fds.len(), 1, "one descriptor");
    let message = serde_json::from_slice(&bytes[..count]).expect("JSON, whole");
    if super::is_tare() {
        // runc 1.1 forgets to close it.
        let more = nix::unistd::read(connection, &mut [0; 16]);
        assert_eq!(more, Ok(0), "one message a connection");
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    (message, unsafe { OwnedFd::from_raw_fd(fds[0]) })
}

/// Answers calls until the last process under the filter has ended.
fn answer(listener: &OwnedFd, decide: fn(i32) -> Answer, calls: &Mutex<Vec<i32>>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).expect("poll the listener");
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
            return;
        }
        // SAFETY: both structures are plain integers, which the kernel wants zeroed.
        let (mut call, mut response): (libc::seccomp_notif, libc::seccomp_notif_resp) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: the kernel writes one whole structure.
        if unsafe { receive(listener.as_raw_fd(), &raw mut call) }.is_err() {
            continue; // Its process was killed meanwhile.
        }
        calls.lock().expect("not poisoned").push(call.data.nr);
        response.id = call.id;
        match decide(call.data.nr) {
            Answer::Errno(errno) => response.error = -errno,
            Answer::Value(value) => response.val = value,
            Answer::Continue => response.flags = 1, // SECCOMP_USER_NOTIF_FLAG_CONTINUE
        }
        // SAFETY: the kernel reads one whole structure. A process killed meanwhile needs no answer.
        let _ = unsafe { respond(listener.as_raw_fd(), &raw mut response) };
    }
}
