//! Mounting through a file system context: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)` and
//! `move_mount(2)`. Parameters are given one by one, so that neither a page of option text nor
//! commas and colons in paths are a limit.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

/// An opened file system context that has not been mounted yet.
pub struct Context(OwnedFd);

impl Context {
    /// Opens a context for the file system type `kind` (`fsopen(2)`).
    ///
    /// # Errors
    /// The kernel's: `ENODEV` for an unknown type, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open(kind: &CStr) -> Result<Context, Errno> {
        // SAFETY: the string ends in NUL; a new descriptor or -1 is returned.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
        own(fd).map(Context)
    }

    /// Sets the string parameter `key` (`FSCONFIG_SET_STRING`).
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for a parameter or value that the file system refuses.
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(libc::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
    }

    /// Creates the superblock, makes a mount of it and attaches that at `target`.
    ///
    /// # Errors
    /// The kernel's; [`Context::log`] has its words.
    pub fn mount(&self, target: &CStr) -> Result<(), Errno> {
        self.config(libc::FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
        let fd = self.0.as_raw_fd();
        // SAFETY: no pointers are passed; a new descriptor or -1 is returned.
        let mount = own(unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, 0) })?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        // SAFETY: both strings end in NUL and the descriptor is open.
        let res = unsafe {
            let (from, to) = (c"".as_ptr(), target.as_ptr());
            libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), from, libc::AT_FDCWD, to, flags)
        };
        Errno::result(res).map(drop)
    }

    /// What the kernel has said about this context, one message per line.
    pub fn log(&self) -> String {
        let Ok(fd) = self.0.try_clone() else { return String::new() };
        let mut file = File::from(fd);
        let mut lines = Vec::new();
        let mut buf = [0; 1024];
        while let Ok(len @ 1..) = file.read(&mut buf) {
            let text = String::from_utf8_lossy(buf.get(..len).unwrap_or_default()).into_owned();
            lines.push(text.get(2..).unwrap_or(&text).trim_end().to_owned());
        }
        lines.join("; ")
    }

    fn config(&self, cmd: u32, key: *const i8, value: *const i8) -> Result<(), Errno> {
        // SAFETY: key and value are null or end in NUL and outlive the call.
        let res =
            unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), cmd, key, value, 0) };
        Errno::result(res).map(drop)
    }
}

fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
