//! Processes by descriptor: no number that could be given to another process meanwhile.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Opens process `pid` (pidfd_open(2)); the descriptor is close-on-exec. Where that call is missing,
/// it is one of /proc/PID: signals reach the process through it too, but poll(2) does not wait.
///
/// # Errors
/// ESRCH: there is no such process.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match super::owned(fd) {
        Err(Errno::ENOSYS) => open_directory(pid),
        // The number is still that of a session or group whose leader has gone, or of a thread.
        Err(Errno::EINVAL | Errno::ENOENT) => Err(Errno::ESRCH),
        other => other,
    }
}

fn open_directory(pid: i32) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match nix::fcntl::open(format!("/proc/{pid}").as_str(), flags, Mode::empty()) {
        Err(Errno::ENOENT) => Err(Errno::ESRCH),
        other => other,
    }
}

/// Sends `signal` to the process (pidfd_send_signal(2)); 0 only checks that it is there.
///
/// # Errors
/// ESRCH: the process is gone; EINVAL: no such signal.
pub fn signal(process: BorrowedFd, signal: i32) -> Result<(), Errno> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed (the kernel fills one in as kill(2) does); the rest are
    // integers.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0)
    };
    Errno::result(result).map(drop)
}

/// A descriptor of our own for what `number` is in the process (pidfd_getfd(2)); close-on-exec.
///
/// # Errors
/// EPERM: this process may not look into the other (ptrace(2), `PTRACE_MODE_ATTACH_REALCREDS`);
/// EBADF: nothing is open there.
pub fn get_fd(process: BorrowedFd, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: only integers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    super::owned(fd)
}
