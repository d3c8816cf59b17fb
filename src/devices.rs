//! Devices of the container: the default ones (config-linux.md "Default Devices"), those listed,
//! and the links in /dev.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, makedev, mknodat};

use crate::error::{Error, Result};
use crate::path::{Root, c_string, file_type, split};
use crate::spec::config;
use crate::sys::mount::{attach, clone_tree, is_mount_root};

/// The devices that every container has: name in /dev, major and minor number.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The links that every container has in /dev: name and target.
pub const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    (PTMX, "pts/ptmx"),
];

/// The multiplexer of the container's own terminals.
pub const PTMX: &str = "/dev/ptmx";

/// The link that a container has, too, where there is something to point to.
pub const CORE: (&str, &str) = ("/dev/core", "/proc/kcore");

/// A device file or FIFO to be made.
#[derive(Debug)]
pub struct Device {
    /// Where, as the container sees it.
    pub path: PathBuf,
    kind: SFlag,
    number: (u64, u64),
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Device {
    /// The default devices.
    pub fn defaults() -> impl Iterator<Item = Device> {
        DEFAULT.iter().map(|&(name, major, minor)| Device {
            path: Path::new("/dev").join(name),
            kind: SFlag::S_IFCHR,
            number: (major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
    }

    /// Entry `index` of `linux.devices`.
    pub fn plan(index: usize, entry: &config::Device) -> Result<Self> {
        let at = |member: &str| format!("linux.devices[{index}].{member}");
        let kind = match entry.kind.as_str() {
            "c" | "u" => SFlag::S_IFCHR,
            "b" => SFlag::S_IFBLK,
            "p" => SFlag::S_IFIFO,
            other => {
                return Err(Error::new(format!("device {}: unknown type \"{other}\"", entry.path))
                    .at(at("type"))
                    .hint("a device is of type c, b, u or p"));
            }
        };
        let number =
            |value: Option<i64>, member: &str| match value {
                None | Some(_) if kind == SFlag::S_IFIFO => Ok(0),
                Some(n @ 0..) => Ok(n as u64),
                _ => Err(Error::new(format!("device {} needs a {member} number", entry.path))
                    .at(at(member))),
            };
        let path = PathBuf::from(&entry.path);
        Ok(Device {
            path,
            kind,
            number: (number(entry.major, "major")?, number(entry.minor, "minor")?),
            mode: entry.file_mode.unwrap_or(0o666) & 0o7777,
            uid: entry.uid.unwrap_or(0),
            gid: entry.gid.unwrap_or(0),
        })
    }

    /// Makes the device by mknod(2) or, where that is not allowed (`bind`: in a user namespace),
    /// by a bind mount of the host's file.
    pub fn perform(&self, root: &Root, bind: bool) -> Result<()> {
        if bind && self.kind != SFlag::S_IFIFO {
            return self.bind(root);
        }
        let (parent, name) = split(&self.path).ok_or(Errno::EISDIR)?;
        let dir = root.parent(parent)?;
        let number = makedev(self.number.0, self.number.1);
        match mknodat(&*dir, name, self.kind, Mode::from_bits_truncate(self.mode), number) {
            Err(Errno::EEXIST) => return self.check_existing(root),
            // The caller is in a user namespace already.
            Err(Errno::EPERM) if self.kind != SFlag::S_IFIFO => return self.bind(root),
            other => other?,
        }
        if (self.uid, self.gid) != (0, 0) {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            nix::unistd::fchownat(
                &*dir,
                name,
                Some(self.uid.into()),
                Some(self.gid.into()),
                flags,
            )?;
        }
        Ok(())
    }

    /// A file that is there already has to be this very device: an image may have put a link to,
    /// or a file of, something else there. What a mount has put there is meant, and stays. It may be the
    /// host's: owner and mode are left alone.
    ///
    /// # Errors
    /// `EEXIST` if it is something else.
    pub fn check_existing(&self, root: &Root) -> Result<()> {
        let found = root.resolve_plain(&self.path)?;
        if is_mount_root(found.as_fd()) {
            return Ok(());
        }
        let stat = fstat(&found)?;
        let same_kind = file_type(&stat) == self.kind;
        let number = makedev(self.number.0, self.number.1);
        if same_kind && (self.kind == SFlag::S_IFIFO || stat.st_rdev == number) {
            return Ok(());
        }
        Err(Error::from(Errno::EEXIST)
            .hint("something else is at that path in the root file system"))
    }

    fn bind(&self, root: &Root) -> Result<()> {
        let host = c_string(&self.path)?;
        let source = clone_tree(nix::fcntl::AT_FDCWD, &host, false)?;
        check_device(source.as_fd(), self.kind, self.number)?;
        let target = root.make_file(&self.path)?;
        Ok(attach(source.as_fd(), target.as_fd())?)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SFlag::S_IFCHR => "character device",
            SFlag::S_IFBLK => "block device",
            _ => return write!(f, "make FIFO {}", self.path.display()),
        };
        let (major, minor) = self.number;
        write!(f, "make {kind} {} ({major}:{minor})", self.path.display())
    }
}

/// Makes the link `path` in /dev. A /dev that came with the image may have one already; only the
/// multiplexer has to be the container's own.
pub fn link(root: &Root, path: &Path, target: &Path) -> Result<()> {
    let (parent, name) = split(path).ok_or(Errno::EISDIR)?;
    let dir = root.parent(parent)?;
    let make = || nix::unistd::symlinkat(target, &*dir, name);
    match make() {
        Err(Errno::EEXIST) if path == Path::new(PTMX) => {}
        Err(Errno::EEXIST) => return Ok(()),
        other => return Ok(other?),
    }
    let is_own = match nix::fcntl::readlinkat(&*dir, name) {
        Ok(found) => found == target || found == "/dev/pts/ptmx",
        // The device takes the terminals of the `pts` beside it. It may be the host's file, too.
        Err(_) => {
            let stat = fstatat(&*dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            is_device(&stat, SFlag::S_IFCHR, (5, 2))
        }
    };
    if is_own {
        return Ok(());
    }
    match nix::unistd::unlinkat(&*dir, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        // What a mount has put there is meant, and stays.
        Err(Errno::EBUSY) => Ok(()),
        other => Ok(other.and_then(|()| make())?),
    }
}

/// Opens the character device `path` as a path descriptor after checking its number; links are
/// refused.
pub fn open_device(
    root: &Root,
    path: &Path,
    number: (u64, u64),
) -> std::result::Result<OwnedFd, Errno> {
    let fd = root.resolve_plain(path)?;
    check_device(fd.as_fd(), SFlag::S_IFCHR, number)?;
    Ok(fd)
}

fn check_device(fd: BorrowedFd, kind: SFlag, number: (u64, u64)) -> std::result::Result<(), Errno> {
    is_device(&fstat(fd)?, kind, number).then_some(()).ok_or(Errno::ENODEV)
}

fn is_device(stat: &FileStat, kind: SFlag, number: (u64, u64)) -> bool {
    file_type(stat) == kind && stat.st_rdev == makedev(number.0, number.1)
}
