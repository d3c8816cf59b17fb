//! The container's terminal: allocated in its own devpts, handed out by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};

use crate::error::{Doing, Error, Result};
use crate::path::{Root, is_dir};
use crate::sys::mount::{attach, clone_tree};
use crate::sys::{process, terminal};

/// The hint where it is missing.
pub const NO_DEVPTS: &str = "a terminal needs a mount of type devpts on /dev/pts";

/// A new pseudo-terminal: the caller's end and the container's.
#[derive(Debug)]
pub struct Pty {
    /// The end that is handed to the caller.
    pub master: OwnedFd,
    /// The end that the container gets.
    pub slave: OwnedFd,
}

impl Pty {
    /// Allocates a pseudo-terminal in the devpts of the root `root`. The slave is opened through
    /// the master, never by its path, which an image could have redirected (CVE-2025-52565).
    pub fn open(root: &Root, size: Option<(u16, u16)>) -> Result<Self> {
        let master = multiplexer(root).map_err(|errno| {
            let err = match errno {
                Errno::ENODEV => Error::sys("/dev/pts/ptmx is not the terminal multiplexer", errno),
                Errno::ENOENT => Error::sys("open /dev/pts/ptmx", errno),
                _ => return Error::sys("open /dev/pts/ptmx", errno),
            };
            err.hint(NO_DEVPTS)
        })?;
        terminal::unlock(master.as_fd())?;
        if let Some((rows, columns)) = size {
            terminal::set_size(master.as_fd(), rows, columns)?;
        }
        let slave = terminal::open_peer(master.as_fd())?;
        Ok(Pty { master, slave })
    }

    /// Puts the slave on /dev/console.
    pub fn bind_console(&self, root: &Root) -> Result<()> {
        let target = match root.resolve_plain(Path::new("/dev/console")) {
            Err(Errno::ENOENT) => root.make_file(Path::new("/dev/console")),
            other => other,
        };
        let target = target.doing(|| "make /dev/console")?;
        let mount = clone_tree(self.slave.as_fd(), c"", false)?;
        match attach(mount.as_fd(), target.as_fd()) {
            // The kernel says only EINVAL.
            Err(Errno::EINVAL) if is_dir(&target)? => Err(Errno::EISDIR),
            attached => attached,
        }
        .doing(|| "mount the terminal on /dev/console")
    }
}

/// Opens the terminal multiplexer of the devpts at /dev/pts: nothing else can have that name there, so
/// that no other device of an image is opened, which alone may do harm.
fn multiplexer(root: &Root) -> std::result::Result<OwnedFd, Errno> {
    let devpts = root.resolve(Path::new("/dev/pts"))?;
    if fstatfs(&devpts)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(Errno::ENODEV);
    }
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    openat2(&devpts, "ptmx", OpenHow::new().flags(flags).resolve(resolve))
}

/// Starts a new session, with `slave` as its controlling terminal and standard descriptors.
pub fn new_session(slave: Option<BorrowedFd>) -> Result<()> {
    match nix::unistd::setsid() {
        // Already a session leader, as the first process of a joined pid namespace may be.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let Some(slave) = slave else { return Ok(()) };
    terminal::make_controlling(slave).doing(|| "make the terminal the controlling one")?;
    (0..=2).try_for_each(|fd| Ok(process::dup_to(slave, fd)?))
}

/// Connects to the console socket at `path` of the host.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let doing = || format!("connect to the console socket {}", path.display());
    Ok(UnixStream::connect(path).doing(doing)?.into())
}

/// Prepares the master that the runtime relays, before the payload can write: the caller's own
/// terminal translates line feeds, so the container's must not do it too (and a pipe gets them as
/// they are); and it has the size of the caller's.
pub fn prepare_relay(master: BorrowedFd) -> Result<()> {
    let mut settings = tcgetattr(master).doing(|| "read the container's terminal")?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &settings).doing(|| "set the container's terminal")?;
    follow_size(master);
    Ok(())
}

/// Gives the container's terminal the size of the caller's, if that is one.
pub fn follow_size(master: BorrowedFd) {
    let caller = terminal::size(process::stdio(0)).or_else(|_| terminal::size(process::stdio(1)));
    if let Ok((rows, columns)) = caller {
        // A terminal that has just been closed needs no size.
        let _ = terminal::set_size(master, rows, columns);
    }
}
