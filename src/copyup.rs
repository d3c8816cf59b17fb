//! The mount option `tmpcopyup`: a tmpfs begins with a copy of the directory that it covers.
//!
//! Both trees are walked by descriptors and no link is followed. The source comes with the image:
//! what is in it is looked at before it is opened, and the tmpfs' size bounds the copy.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::path::file_type;

/// A deeper tree is refused with `ELOOP`: every level holds two descriptors.
const DEEPEST: usize = 100;

/// Copies what is in the directory `from` into `to`, and, unless these are `settled`, its owner, mode
/// and times.
pub fn copy(from: BorrowedFd, to: BorrowedFd, settled: bool) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty())?;
    let to = openat(to, c".", flags, Mode::empty())?;
    entries(&from, &to, 0)?;
    if settled {
        return Ok(());
    }
    like(&to, c".", &fstat(&from)?)
}

fn entries(from: &OwnedFd, to: &OwnedFd, depth: usize) -> nix::Result<()> {
    if depth == DEEPEST {
        return Err(Errno::ELOOP);
    }
    let own =
        openat(from, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in Dir::from_fd(own)?.iter() {
        let name: CString = entry?.file_name().into();
        if !matches!(name.to_bytes(), b"." | b"..") {
            one(from, to, &name, depth)?;
        }
    }
    Ok(())
}

/// Copies one entry; what it is made of first, so that times and a read-only mode come last.
fn one(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> nix::Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let private = Mode::S_IRWXU;
    let kind = file_type(&stat);
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, private)?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let open = |dir: &OwnedFd| openat(dir, name, flags, Mode::empty());
            entries(&open(from)?, &open(to)?, depth + 1)?;
        }
        SFlag::S_IFREG => content(from, to, name)?,
        SFlag::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
        _ => mknodat(to, name, kind, private, stat.st_rdev)?,
    }
    like(to, name, &stat)
}

fn content(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> nix::Result<()> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Another container that shares the directory may have put a device or a FIFO there since.
    let looked = flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let source = openat(from, name, looked, Mode::empty())?;
    if file_type(&fstat(&source)?) != SFlag::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let mut source = File::from(source);
    let new = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut target = File::from(openat(to, name, new, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let copied = std::io::copy(&mut source, &mut target);
    copied.map(drop).map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO)))
}

/// Gives `name` the owner, mode and times of `stat`. A link has no mode of its own.
fn like(dir: &OwnedFd, name: &CStr, stat: &FileStat) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if file_type(stat) != SFlag::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode);
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(dir.as_fd(), name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}
