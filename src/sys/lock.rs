//! Advisory locks on open files (flock(2)). nix has them only as a type that owns the file.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Locks exclusively; waits for it if `wait`.
///
/// # Errors
/// EWOULDBLOCK: another holds it; EINTR.
pub fn exclusive(file: BorrowedFd, wait: bool) -> Result<(), Errno> {
    flock(file, if wait { libc::LOCK_EX } else { libc::LOCK_EX | libc::LOCK_NB })
}

/// Gives the lock back, also on behalf of descriptors that a child has inherited.
///
/// # Errors
/// None that a lock's holder could meet.
pub fn release(file: BorrowedFd) -> Result<(), Errno> {
    flock(file, libc::LOCK_UN)
}

fn flock(file: BorrowedFd, operation: i32) -> Result<(), Errno> {
    // SAFETY: flock takes two integers and touches no memory of ours.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}
