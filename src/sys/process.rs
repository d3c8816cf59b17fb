//! Processes: clone3(2), setns(2), descriptors over execve(2), and execve(2) itself.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::socket::ControlMessageOwned;
use nix::unistd::Pid;

use super::owned;

/// linux/sched.h; the constant of `libc` is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`fork_into`] the caller is on.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one: the new process's id and a descriptor of it.
    Parent(Pid, OwnedFd),
}

/// Makes a child with new namespaces (`flags`: `CLONE_NEW*`, `CLONE_PARENT`), by clone3(2) or,
/// where a filter hides that call, by clone(2). The child runs on a copy of this memory.
///
/// With `into`, the child is born in that cgroup (`CLONE_INTO_CGROUP`, cgroup v2).
pub fn fork_into(flags: u64, into: Option<BorrowedFd>) -> Result<Fork, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if flags & libc::CLONE_PARENT as u64 != 0 {
        args.exit_signal = 0;
    }
    if let Some(cgroup) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack is given, so the child runs on a copy of ours as after fork(2); the
    // program has a single thread, so no lock of another thread can be held in the child.
    let mut pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == -1 && Errno::last() == Errno::ENOSYS && into.is_none() {
        let flags = args.flags | args.exit_signal;
        // SAFETY: as above; clone(2) on x86-64 takes flags, stack, parent_tid (here the pidfd).
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    }
    match Errno::result(pid)? {
        0 => Ok(Fork::Child),
        // SAFETY: CLONE_PIDFD made the kernel store a new descriptor that nobody else owns.
        pid => Ok(Fork::Parent(Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Closes all descriptors but the standard ones and those in `keep`.
pub fn close_others(keep: &[i32]) -> Result<(), Errno> {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().filter(|fd| *fd >= 3) {
        if first < kept {
            close_range(first as u32, kept as u32 - 1)?;
        }
        first = kept + 1;
    }
    close_range(first as u32, u32::MAX)
}

/// Closes descriptors, those whose numbers follow each other with one call.
pub fn close_all(fds: Vec<OwnedFd>) {
    let mut numbers: Vec<i32> = fds.into_iter().map(OwnedFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|before, after| before + 1 == *after) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            // Nothing that is open can fail to be closed.
            let _ = close_range(*first as u32, *last as u32);
        }
    }
}

/// Leaves `fd` to the next [`close_others`]: a container is set up with dozens of descriptors, and
/// closing them one by one would be a sixth of all its system calls. They are close-on-exec. One with
/// a high number is closed at once: with hundreds of mounts there are more than a process may have.
pub fn close_later(fd: OwnedFd) {
    /// Leaves room below the least limits that are in use.
    const MOST_LEFT: i32 = 96;
    if fd.as_raw_fd() < MOST_LEFT {
        // Whoever forgets to close the others is safe from leaks into programs all the same.
        let _ = fd.into_raw_fd();
    }
}

/// Closes the descriptors `first` to `last` (close_range(2)). Whatever owns one of them in this
/// process must not be used or dropped any more.
fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    let done = Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) });
    if done != Err(Errno::ENOSYS) {
        return done.map(drop);
    }
    for fd in listed()?.into_iter().filter(|fd| (first..=last).contains(&(*fd as u32))) {
        // SAFETY: closing by number; one that is gone by now answers EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by execve(2) (close_range(2)).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only integers are passed; nothing is closed here.
    let done = Errno::result(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    });
    match done {
        Err(Errno::ENOSYS | Errno::EINVAL) => close_on_exec_listed(first),
        other => other.map(drop),
    }
}

/// What [`close_on_exec_from`] does where close_range(2) is missing: walks /proc/self/fd.
fn close_on_exec_listed(first: u32) -> Result<(), Errno> {
    for fd in listed()?.into_iter().filter(|fd| *fd as u32 >= first) {
        // SAFETY: F_SETFD with an integer; a descriptor that is gone by now answers EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// The open descriptors of this process, from /proc/self/fd.
fn listed() -> Result<Vec<i32>, Errno> {
    let entries = std::fs::read_dir("/proc/self/fd")
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(number).collect())
}

/// Keeps `fd` open across execve(2).
pub fn keep_on_exec(fd: i32) -> Result<(), Errno> {
    // SAFETY: F_SETFD with an integer.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// How many bytes lie in a pipe, seen from either end (pipe(7), `FIONREAD`); none if it is no pipe.
pub fn unread(pipe: BorrowedFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one integer, for which there is room.
    let asked = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Whether `fd` is an open descriptor of this process.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD only asks.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Takes over a descriptor that the caller of the program handed to us by number; of a standard one it
/// makes a duplicate. `None` if the caller has handed over none of that number, or it has been taken.
pub fn inherited(fd: i32) -> Option<OwnedFd> {
    if (0..=2).contains(&fd) {
        return stdio(fd).try_clone_to_owned().ok();
    }
    // What this process has opened itself is close-on-exec, and what was taken over is from here on.
    // SAFETY: F_GETFD only asks; F_SETFD with an integer.
    let free = unsafe {
        libc::fcntl(fd, libc::F_GETFD) == 0 && libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0
    };
    // SAFETY: it was open before this program, whose own none is without that flag; nothing owns it.
    free.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over the descriptors that came with a message which recvmsg(2) has just received.
pub fn received(part: ControlMessageOwned) -> Vec<OwnedFd> {
    let ControlMessageOwned::ScmRights(fds) = part else { return Vec::new() };
    // SAFETY: the kernel has made them for this process, and nobody else has been told.
    fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// The standard descriptor `fd` (0, 1 or 2), borrowed for the life of the process.
pub fn stdio(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: the standard descriptors stay open for the life of the process; the runtime opens
    // /dev/null in their place where the caller left them closed.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Makes `target` (a number) refer to what `fd` refers to, open across execve(2) (dup3(2)).
pub fn dup_to(fd: BorrowedFd, target: i32) -> Result<(), Errno> {
    if fd.as_raw_fd() == target {
        return keep_on_exec(target);
    }
    // SAFETY: the number that is replaced is a standard descriptor, which nothing here owns.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), target) }).map(drop)
}

/// Arguments or environment of execve(2): strings, and the null-terminated list of pointers.
pub struct Strings {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
}

impl Strings {
    /// Builds the list once, so that nothing is left to allocate when it is needed.
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Strings { pointers, strings }
    }

    /// The strings themselves.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

// SAFETY: the pointers lead to the strings beside them, which nobody changes.
unsafe impl Send for Strings {}
// SAFETY: as above.
unsafe impl Sync for Strings {}

// SAFETY: glibc 2.32 and later.
unsafe extern "C" {
    fn sigdescr_np(signal: c_int) -> *const c_char;
}

/// What a signal is called (sigdescr_np(3)), in lower case as Go has it.
pub fn signal_words(signal: i32) -> String {
    // SAFETY: null or a text without end.
    let text = unsafe { sigdescr_np(signal) };
    match text.is_null() {
        true => format!("signal {signal}"),
        // SAFETY: as above.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().to_lowercase(),
    }
}

/// Replaces this program (execve(2)); returns only the reason why it could not.
pub fn exec(path: &CStr, args: &Strings, env: &Strings) -> Errno {
    // SAFETY: both lists are null-terminated and their strings are owned by `args` and `env`.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Replaces this program by the one behind `fd` (execveat(2) with an empty path).
pub fn exec_fd(fd: BorrowedFd, args: &Strings, env: &Strings) -> Errno {
    // SAFETY: as for [`exec`]; the path is a literal.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Ends the process at once, without running what `exit` would run (_exit(2)).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// A new session keyring named after the container (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub fn join_session_keyring(name: &CStr) -> Result<i32, Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is NUL-terminated and outlives the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0)
    })
    .map(|serial| serial as i32)
}

/// Gives the owner of a new session keyring the right to find it by its name: without it a later
/// [`join_session_keyring`] makes another one (keyctl(2), `KEYCTL_SETPERM`).
pub fn share_keyring(serial: i32) -> Result<(), Errno> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    // What the kernel gives, with KEY_USR_SEARCH.
    const PERMISSIONS: u32 = 0x3f1b_0000;
    // SAFETY: only integers are passed.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, PERMISSIONS, 0, 0)
    })
    .map(drop)
}

/// Brings up the interface `lo` of the current network namespace (netdevice(7)).
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    let socket = owned(i64::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: an all-zero ifreq is a valid value of that structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: SIOCSIFFLAGS reads one whole ifreq.
    let done = Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request)
    });
    close_later(socket);
    done.map(drop)
}

/// Sets one resource limit of the process `pid`, 0 for this one (prlimit(2)); `resource` is one of
/// `RLIMIT_*`.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a whole rlimit64; the old one is not asked for.
    Errno::result(unsafe { libc::prlimit64(pid, resource as _, &limit, std::ptr::null_mut()) })
        .map(drop)
}

/// The soft and the hard limit of this process (getrlimit(2)).
pub fn rlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills one whole rlimit64 and reads none.
    Errno::result(unsafe { libc::prlimit64(0, resource as _, std::ptr::null(), &mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Asks the kernel to send `signal` to this process when its parent ends (prctl(2)).
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Makes orphaned descendants children of this process (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// An offset of a clock in a time namespace is written before the first process enters it; this
/// makes that namespace (and others) for the children of this process or itself (unshare(2)).
pub fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: only integers are passed; the program has a single thread.
    Errno::result(unsafe { libc::unshare(flags as i32) }).map(drop)
}

/// Enters the namespaces behind `fd` (setns(2)): a namespace file with one `CLONE_NEW*` flag, or a
/// process descriptor with any number of them.
pub fn enter(fd: BorrowedFd, flags: u64) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::setns(fd.as_raw_fd(), flags as i32) }).map(drop)
}

/// The effective user id of this process.
pub fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// All bits of [`default_signals`].
pub const ANY_SIGNAL: i32 = i32::MAX;

/// Restores the default disposition of the signals 1 to 31 whose bits are set in `which`, the lowest for
/// the first.
pub fn default_signals(which: i32) {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in (1..32).filter(|number| which >> (number - 1) & 1 == 1) {
        let Ok(known) = Signal::try_from(number) else { continue };
        // SAFETY: the default disposition runs no code of ours. That of SIGKILL and SIGSTOP cannot be
        // changed and is the default.
        let _ = unsafe { signal(known, SigHandler::SigDfl) };
    }
}

/// Blocks every signal, so that none is lost before someone waits for it.
pub fn block_signals() -> Result<(), Errno> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
}

/// Waits for a blocked signal, real-time ones included, and returns its number (sigwaitinfo(2)).
pub fn wait_signal() -> Result<i32, Errno> {
    let all = nix::sys::signal::SigSet::all();
    loop {
        // SAFETY: the set is whole; no siginfo is asked for.
        match Errno::result(unsafe { libc::sigwaitinfo(all.as_ref(), std::ptr::null_mut()) }) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Collects a child that has ended, `pid` or, with -1, any (waitpid(2)); none if `flags` (`WNOHANG`) do not
/// let it wait for that. nix's own call knows no real-time signals: it loses the child that one ended.
pub fn wait(pid: i32, flags: i32) -> Result<Option<(i32, ExitStatus)>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one integer, for which there is room.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Ok(None),
            ended => return ended.map(|pid| Some((pid, ExitStatus::from_raw(status)))),
        }
    }
}

/// Sets the NIS domain name of the current UTS namespace (setdomainname(2)).
pub fn set_domainname(name: &str) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one string.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}
