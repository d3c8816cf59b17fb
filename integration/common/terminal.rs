//! Terminals on the test's side: a receiver on a console socket, a terminal to run under.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::{Cmd, code_of, limit};

/// A terminal's master side.
pub struct Master(File);

impl Master {
    /// Reads until `wanted` has come; without it, until the other side is closed.
    pub fn read_until(&mut self, wanted: &str) -> String {
        let (mut text, mut buffer, end) = (String::new(), [0; 4096], Instant::now() + limit());
        while wanted.is_empty() || !text.contains(wanted) {
            assert!(Instant::now() < end, "no {wanted:?} on the terminal, only {text:?}");
            let ready = &mut [PollFd::new(std::os::fd::AsFd::as_fd(&self.0), PollFlags::POLLIN)];
            if poll(ready, 100u16).expect("poll the terminal") == 0 {
                continue;
            }
            match self.0.read(&mut buffer) {
                Ok(0) | Err(_) if wanted.is_empty() => break,
                Ok(0) => panic!("terminal closed before {wanted:?}: {text:?}"),
                Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                Err(err) => panic!("terminal: {err} before {wanted:?}: {text:?}"),
            }
        }
        text
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Sets the window's size; the foreground process group gets SIGWINCH.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open and the kernel only reads the structure.
        let done = unsafe { nix::libc::ioctl(self.0.as_raw_fd(), nix::libc::TIOCSWINSZ, &size) };
        assert_eq!(done, 0, "set the window size");
    }
}

/// A console socket.
pub struct ConsoleSocket {
    listener: UnixListener,
    /// Where it is.
    pub path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at DIR/console.sock.
    pub fn listen(dir: &Path) -> Self {
        let path = dir.join("console.sock");
        ConsoleSocket { listener: UnixListener::bind(&path).expect("bind console socket"), path }
    }

    /// Receives the terminal's master.
    pub fn receive(&self) -> Master {
        Master(File::from(self.descriptor()))
    }

    /// Receives a descriptor.
    pub fn descriptor(&self) -> OwnedFd {
        let (stream, _) = self.listener.accept().expect("accept on the console socket");
        let (mut data, mut space) = ([0; 256], nix::cmsg_space!([i32; 4]));
        let mut parts = [IoSliceMut::new(&mut data)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .expect("receive from the console socket");
        let fds = message.cmsgs().expect("control messages").find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.expect("a message with descriptors");
        assert_eq!(fds.len(), 1, "exactly one descriptor");
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        unsafe { OwnedFd::from_raw_fd(fds[0]) }
    }
}

/// A command whose controlling terminal is ours.
pub struct Session {
    /// Our side of its terminal.
    pub master: Master,
    child: Child,
}

impl Session {
    /// Starts it on a new terminal of this size.
    pub fn start(cmd: Cmd, rows: u16, cols: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("openpty");
        let end = || Stdio::from(slave.try_clone().expect("dup"));
        let mut command = cmd.under(&["setsid", "--ctty", "--wait"]).command();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid");
        Session { master: Master(File::from(master)), child }
    }

    /// Reads what is left and returns it with the exit code.
    pub fn end(mut self) -> (String, i32) {
        let rest = self.master.read_until("");
        let end = Instant::now() + limit();
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return (rest, code_of(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        panic!("the command hangs after its terminal was closed: {rest:?}");
    }
}
