//! seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use libc::{SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_SET_MODE_FILTER, SYS_seccomp};
use nix::errno::Errno;

/// Whether the kernel takes these `SECCOMP_FILTER_FLAG_*` together. It looks at them before it
/// looks for the program, of which there is none here: nothing is loaded.
pub fn takes_flags(flags: u32) -> bool {
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel answers a null pointer with EFAULT.
    let result = unsafe { libc::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, none) };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// Loads a filter for the calling thread, for good. `flags` are `SECCOMP_FILTER_FLAG_*`; with
/// `NEW_LISTENER` among them the listener (close-on-exec) is returned.
///
/// Errors: `EACCES` without both `no_new_privs` and `CAP_SYS_ADMIN`; `EINVAL` for a bad program or
/// flag; `EBUSY` if there is a listener already; `ENOMEM` beyond 32,768 instructions in all.
pub fn set_filter(program: &[libc::sock_filter], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions behind `filter`, which the slice holds, and
    // writes nothing.
    let result =
        unsafe { libc::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let result = Errno::result(result)?;
    if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: with this flag the kernel returns a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}
