//! Protection of the host's own binary (CVE-2019-5736): where processes of a container can look at
//! the runtime while it works, it runs from a copy that leads nowhere.
//!
//! The copy is a detached read-only overlay over the binary's directory: what is opened through it
//! cannot be opened for writing, whoever asks, and it costs about 50 µs at any size (a plain
//! read-only bind mount could be undone from inside). Where overlays are not to be had, a sealed
//! memory file takes its place, at 0.2 ms a MiB.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::stat::{FileStat, fstat, stat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Doing, Error, Result};
use crate::sys::mount::{FsContext, attr, identity};
use crate::sys::process::{Strings, exec_fd};

/// Makes sure that this process runs from a protected copy: starts the program again from one, if
/// it does not yet.
///
/// # Errors
/// No copy can be made or started; the host's binary would be within reach.
pub fn ensure() -> Result<()> {
    let exe = File::open("/proc/self/exe").doing(|| "open the binary of tare")?;
    let binary = std::fs::read_link("/proc/self/exe").doing(|| "find the binary of tare")?;
    if is_protected(&binary, &exe)? {
        return Ok(());
    }
    let copy =
        overlay(&binary, &exe).or_else(|_| memory(exe)).doing(|| "copy the binary of tare")?;
    let strings = |list: Vec<Vec<u8>>| -> Result<Strings> {
        let strings = list.into_iter().map(CString::new).collect::<std::result::Result<_, _>>();
        Ok(Strings::new(strings.map_err(|_| Error::from(Errno::EINVAL))?))
    };
    let args = strings(std::env::args_os().map(|arg| arg.as_bytes().to_vec()).collect())?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        [name.as_bytes(), b"=", value.as_bytes()].concat()
    };
    let env = strings(std::env::vars_os().map(variable).collect())?;
    Err(Error::sys(
        "start tare from a protected copy of its binary",
        exec_fd(copy.as_fd(), &args, &env),
    ))
}

/// Whether the binary `exe` of this process is a sealed file or lies on an overlay of [`overlay`]: that
/// is mounted nowhere, so the path begins there, and nothing of that name is the host's. An overlay of
/// the host may become writable later.
fn is_protected(binary: &Path, exe: &File) -> Result<bool> {
    let all = SealFlag::all().bits();
    if fcntl(exe, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & all == all) {
        return Ok(true);
    }
    let own = identity(exe).doing(|| "look at the binary of tare")?;
    let is_hosts = stat(binary).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == own);
    if binary.parent() != Some(Path::new("/")) || is_hosts {
        return Ok(false);
    }
    let kind = fstatfs(exe).doing(|| "look at the binary of tare")?.filesystem_type();
    let flags = fstatvfs(exe).doing(|| "look at the binary of tare")?.flags();
    Ok(kind == OVERLAYFS_SUPER_MAGIC && flags.contains(FsFlags::ST_RDONLY))
}

/// The binary `exe` by its path, on an overlay over its directory. What is mounted there is not seen
/// through an overlay, nor is a binary whose name another file has taken: that would be another program.
fn overlay(binary: &Path, exe: &File) -> std::result::Result<OwnedFd, Errno> {
    let (dir, name) = crate::path::split(binary).ok_or(Errno::ENOENT)?;
    // An overlay without a writable layer wants two: the second is empty.
    let empty = FsContext::open(c"tmpfs")?;
    empty.create()?;
    let empty = empty.mount(attr::RDONLY)?;
    let layers = [escape(dir), format!("/proc/self/fd/{}", empty.as_raw_fd()).into()];
    let layers = layers.map(|layer| layer.into_os_string().as_bytes().to_vec()).join(&b':');
    let layers = CString::new(layers).map_err(|_| Errno::EINVAL)?;
    let context = FsContext::open(c"overlay")?;
    context.set(c"lowerdir", &layers)?;
    // Files keep their numbers.
    context.set(c"xino", c"off")?;
    context.create()?;
    let mount = context.mount(attr::RDONLY | attr::NODEV)?;
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let copy = openat(&mount, name, flags, Mode::empty())?;
    let inode = |stat: FileStat| {
        // The device is the overlay's own.
        let times = [stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec];
        (stat.st_ino, stat.st_size, times)
    };
    if inode(fstat(&copy)?) == inode(fstat(exe)?) { Ok(copy) } else { Err(Errno::ESTALE) }
}

/// `:` parts the layers of an overlay, `\` escapes it.
fn escape(dir: &Path) -> PathBuf {
    let escaped = dir.as_os_str().as_bytes().iter().flat_map(|byte| match byte {
        b':' | b'\\' => vec![b'\\', *byte],
        other => vec![*other],
    });
    PathBuf::from(std::ffi::OsStr::from_bytes(&escaped.collect::<Vec<_>>()).to_os_string())
}

fn memory(mut exe: File) -> std::result::Result<OwnedFd, Errno> {
    let errno = |err: std::io::Error| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO));
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let copy = match memfd_create(c"tare", flags | executable) {
        Err(Errno::EINVAL) => memfd_create(c"tare", flags),
        other => other,
    };
    let mut copy = File::from(copy?);
    std::io::copy(&mut exe, &mut copy).map_err(errno)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(copy.into())
}
