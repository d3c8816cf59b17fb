//! Files and directories of a cgroup file system, by path. No policy, no words: the callers know
//! what failed means.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{self, UnlinkatFlags};

/// Writes a control file with the single `write` that the kernel takes for one order.
pub fn write(file: &str, value: &str) -> nix::Result<()> {
    write_to(&open_write(file)?, value)
}

/// Opens a control file for [`write_to`].
pub fn open_write(file: &str) -> nix::Result<OwnedFd> {
    open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Gives the kernel one more order through an open control file.
pub fn write_to(fd: &OwnedFd, value: &str) -> nix::Result<()> {
    let written = retry(|| unistd::write(fd, value.as_bytes()))?;
    if written == value.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// A control file's whole text.
pub fn read(file: &str) -> nix::Result<String> {
    read_until(file, |count, _| count == 0)
}

/// As [`read`], for a file that the kernel shows as one record: a short read is the end of it.
pub fn read_record(file: &str) -> nix::Result<String> {
    read_until(file, |count, room| count < room)
}

/// A signal interrupts what takes long, such as freeing memory, even if it only stops and continues us.
fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    for _ in 0..1000 {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
    Err(Errno::EINTR)
}

fn read_until(file: &str, is_end: impl Fn(usize, usize) -> bool) -> nix::Result<String> {
    read_from(&open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?, is_end)
}

/// As [`read`], of an open control file.
pub fn read_all(fd: &OwnedFd) -> nix::Result<String> {
    read_from(fd, |count, _| count == 0)
}

fn read_from(fd: &OwnedFd, is_end: impl Fn(usize, usize) -> bool) -> nix::Result<String> {
    let mut text = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let count = retry(|| unistd::read(fd, &mut buf))?;
        text.extend_from_slice(buf.get(..count).unwrap_or_default());
        if is_end(count, buf.len()) {
            return String::from_utf8(text).map_err(|_| Errno::EILSEQ);
        }
    }
}

/// A control file's one number; `max` and anything else that is none is `u64::MAX`.
pub fn read_number(file: &str) -> nix::Result<u64> {
    Ok(read_record(file)?.trim().parse().unwrap_or(u64::MAX))
}

/// Whether the directory is there (and visible to the caller).
pub fn exists(dir: &str) -> nix::Result<bool> {
    match unistd::access(dir, unistd::AccessFlags::F_OK) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        looked => looked.map(|()| true),
    }
}

/// The same where what cannot be looked at is of no use either.
pub fn is_there(dir: &str) -> bool {
    exists(dir) == Ok(true)
}

/// Makes a directory and the parents that it lacks; whether it is new. One that somebody else makes
/// in the meantime is not ours to remove.
pub fn make(dir: &str) -> nix::Result<bool> {
    // A parent can be gone again, removed with another container that it was made for.
    for _ in 0..8 {
        match unistd::mkdir(dir, Mode::from_bits_truncate(0o755)) {
            Ok(()) => return Ok(true),
            Err(Errno::EEXIST) => return Ok(false),
            Err(Errno::ENOENT) => make(parent(dir).ok_or(Errno::ENOENT)?)?,
            Err(errno) => return Err(errno),
        };
    }
    Err(Errno::ENOENT)
}

/// The directory above.
pub fn parent(dir: &str) -> Option<&str> {
    dir.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty())
}

/// Gives a cpuset that has none its parent's processors and memory nodes, and empty ones above
/// it theirs: until then no process can be attached to it (cpuset(7)).
pub fn inherit_cpuset(mountpoint: &str, dir: &str, new: bool) -> nix::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if new {
            inherit(mountpoint, dir, file)?;
        } else {
            filled(mountpoint, dir, file)?;
        }
    }
    Ok(())
}

/// The text of `file` in `dir`, inherited first if it is empty.
fn filled(mountpoint: &str, dir: &str, file: &str) -> nix::Result<String> {
    let own = read_record(&format!("{dir}/{file}"))?;
    if own.trim().is_empty() { inherit(mountpoint, dir, file) } else { Ok(own) }
}

/// Writes the parent's text into `file` of `dir`.
fn inherit(mountpoint: &str, dir: &str, file: &str) -> nix::Result<String> {
    if dir == mountpoint {
        return Ok(String::new());
    }
    let value = filled(mountpoint, parent(dir).ok_or(Errno::ENOENT)?, file)?;
    write(&format!("{dir}/{file}"), value.trim())?;
    Ok(value)
}

/// The names of the files directly below `dir`.
pub fn files(dir: &str) -> nix::Result<Vec<String>> {
    let to_errno = |err: std::io::Error| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO));
    let mut found = Vec::new();
    for entry in Path::new(dir).read_dir().map_err(to_errno)? {
        let entry = entry.map_err(to_errno)?;
        if !entry.file_type().map_err(to_errno)?.is_dir() {
            found.push(entry.file_name().into_string().map_err(|_| Errno::EILSEQ)?);
        }
    }
    Ok(found)
}

/// Removes one empty cgroup; an absent one is fine.
pub fn rmdir(dir: &str) -> nix::Result<()> {
    absent_is_fine(unistd::unlinkat(AT_FDCWD, dir, UnlinkatFlags::RemoveDir))
}

/// What is gone needs no removing.
pub fn absent_is_fine(removed: nix::Result<()>) -> nix::Result<()> {
    match removed {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        done => done,
    }
}
