//! A container's word of readiness for the service manager (sd_notify(3)).
//!
//! A service of the type `notify` finds its manager's socket in `$NOTIFY_SOCKET`. The container cannot
//! reach that, and may not: it gets a socket of its own below /run/notify, and once it says there
//! that it is ready, tare passes that on, with the process that the manager is to watch. As in runc.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io::{ErrorKind, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Doing, Result};
use crate::log;
use crate::spec::config::{Mount, Spec};
use crate::state::{Container, Init};
use crate::wire::send_fd;

/// Where the container finds its socket.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// The directory of the state that is mounted there.
const DIRECTORY: &str = "notify";
/// How long the manager may take to look at what it was told.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket of the service manager that this process was given, if it is one of a file or name.
pub fn manager() -> Option<SocketAddr> {
    let given = std::env::var_os("NOTIFY_SOCKET")?.into_vec();
    match given.split_first()? {
        (b'@', name) => SocketAddr::from_abstract_name(name).ok(),
        (b'/', _) => SocketAddr::from_pathname(OsStr::from_bytes(&given)).ok(),
        _ => None,
    }
}

/// Adds to `spec` what shows the container its socket, in the state directory `state`.
pub fn add(spec: &mut Spec, state: &Path) {
    let options = ["bind", "private", "nosuid", "noexec", "nodev", "ro"].map(String::from);
    spec.mounts.push(Mount {
        destination: INSIDE.into(),
        kind: None,
        source: Some(state.join(DIRECTORY).to_string_lossy().into_owned()),
        options: options.into(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
    }
}

/// As [`add`], for a container that was made with such a socket.
pub fn add_again(spec: &mut Spec, container: &Container) {
    if directory(container).is_dir() {
        add(spec, container.path());
    }
}

/// Makes the directory of the socket.
///
/// # Errors
/// mkdir(2) fails.
pub fn prepare(container: &Container) -> Result<()> {
    let path = directory(container);
    let made = DirBuilder::new().mode(0o755).create(&path);
    match made {
        // Left by a `create` that was killed.
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.doing(|| format!("make {DIRECTORY} in the state directory")),
    }
}

/// The path goes through a descriptor, as socket addresses hold 108 bytes only (unix(7)).
fn directory(container: &Container) -> PathBuf {
    Path::new("/proc/self/fd").join(container.dir().as_raw_fd().to_string()).join(DIRECTORY)
}

/// A container's socket, and the way to the manager.
#[derive(Debug)]
pub struct Listener {
    own: UnixDatagram,
    manager: UnixDatagram,
}

impl Listener {
    /// Opens the socket of a container that was prepared for it; `None` without a manager. One that
    /// does not answer is warned of: the container has nothing to do with it.
    pub fn open(container: &Container) -> Option<Listener> {
        let manager = manager()?;
        if !directory(container).is_dir() {
            return None;
        }
        let opened = Listener::try_open(container, &manager);
        opened.inspect_err(|err| log::warn(&err.message())).ok()
    }

    fn try_open(container: &Container, manager: &SocketAddr) -> Result<Listener> {
        let to_manager = UnixDatagram::unbound().doing(|| "make a socket")?;
        to_manager.connect_addr(manager).doing(|| "connect to $NOTIFY_SOCKET")?;
        let path = directory(container).join(NAME);
        let _ = std::fs::remove_file(&path);
        let listen = || {
            let own = UnixDatagram::bind(&path)?;
            own.set_nonblocking(true)?;
            // Any user of the container may be the one who knows.
            set_permissions(&path, Permissions::from_mode(0o777)).map(|()| own)
        };
        let own = listen().doing(|| format!("make the socket {NAME} of the container"))?;
        Ok(Listener { own, manager: to_manager })
    }

    /// Reads what the container said; true if it is ready. The manager is told then, and that
    /// process `main` is the one to watch.
    pub fn pass_on(&self, main: u32) -> bool {
        let mut buffer = [0; 4096];
        let Ok(count) = self.own.recv(&mut buffer) else { return false };
        let said = buffer.get(..count).unwrap_or_default();
        let is_ready = said.split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
        if is_ready {
            self.announce(main);
        }
        is_ready
    }

    fn announce(&self, main: u32) {
        let told = self.manager.send(format!("READY=1\nMAINPID={main}\n").as_bytes());
        if let Err(err) = told.doing(|| "write to $NOTIFY_SOCKET") {
            log::warn(&err.message());
        }
    }

    /// Tells the manager of a container that was ready before, and waits until it knows.
    pub fn ready_again(&self, main: u32) {
        self.announce(main);
        self.settle();
    }

    /// Waits until the container is ready and the manager knows of it, or until `init`, which is process
    /// `pid`, has ended.
    pub fn wait(&self, init: &Init, pid: i32) {
        while let Ok(false) = self.has_ended(init) {
            if self.pass_on(pid.unsigned_abs()) {
                return self.settle();
            }
        }
    }

    /// Waits for a word of the container, or for the end of `init`, which is told apart.
    fn has_ended(&self, init: &Init) -> nix::Result<bool> {
        let mut fds = [self.own.as_fd(), init.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(false),
            done => done?,
        };
        let [own, init] = fds;
        Ok(own.any() == Some(false) && init.any() == Some(true))
    }

    /// Waits until the manager has read it (sd_notify_barrier(3)): it does not believe a process that
    /// is gone by then.
    fn settle(&self) {
        let Ok((reader, writer)) = pipe() else { return };
        if send_fd(self.manager.as_fd(), writer.as_fd(), b"BARRIER=1").is_err() {
            return;
        }
        drop(writer);
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, timeout);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}
