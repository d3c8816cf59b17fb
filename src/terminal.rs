//! The container's terminal: allocated in its own devpts, handed out by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};

use crate::error::{Doing, Error, Result};
use crate::path::Root;
use crate::sys::mount::{attach, clone_tree};
use crate::sys::{process, terminal};

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
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let master = root.open_file(Path::new("/dev/pts/ptmx"), flags).map_err(|errno| {
            let err = Error::sys("open /dev/pts/ptmx", errno);
            if errno != Errno::ENOENT {
                return err;
            }
            err.hint("a terminal needs a mount of type devpts on /dev/pts")
        })?;
        let stat = fstat(&master)?;
        let is_device = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
        if !is_device || stat.st_rdev != makedev(5, 2) {
            return Err(Error::sys("/dev/pts/ptmx is not the terminal multiplexer", Errno::ENODEV));
        }
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
        Ok(attach(mount.as_fd(), target.as_fd())?)
    }
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
