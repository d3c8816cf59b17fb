//! Credentials and confinement: prctl(2), capset(2), setgroups(2).

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The three capability sets of a thread, a bit a capability (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// The capability sets of this process (capget(2)).
pub fn capabilities() -> Result<CapSets, Errno> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 takes one header and two data elements of three words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut data) })?;
    let wide = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok(CapSets { effective: wide(0), permitted: wide(1), inheritable: wide(2) })
}

/// Replaces the capability sets of this process (capset(2)).
pub fn set_capabilities(sets: CapSets) -> Result<(), Errno> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let words = |shift: u32| {
        [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> shift) as u32)
    };
    let data = [words(0), words(32)];
    // SAFETY: version 3 takes one header and two data elements of three words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &data) }).map(drop)
}

fn prctl(option: i32, arg2: u64, arg3: u64) -> Result<i32, Errno> {
    // SAFETY: only integers are passed, to options that take integers.
    Errno::result(unsafe { libc::prctl(option, arg2, arg3, 0, 0) })
}

/// Removes `capability` (a number) from the bounding set.
pub fn drop_bounding(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0).map(drop)
}

/// Adds `capability` to the ambient set.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability)).map(drop)
}

/// Keeps the permitted set over the next change of the user id.
pub fn keep_capabilities(keep: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0).map(drop)
}

/// Makes `no_new_privs` hold for this process and all that it executes.
pub fn set_no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether other processes of the same user may look into this one (ptrace(2), /proc).
pub fn set_dumpable(dumpable: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable), 0).map(drop)
}

/// Replaces the supplementary groups by exactly `groups` (setgroups(2)).
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of one slice of gid_t.
    Errno::result(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
}

/// Changes the owner of an open file; `None` leaves the group (fchown(2)).
pub fn chown_fd(fd: BorrowedFd, uid: u32, gid: Option<u32>) -> Result<(), Errno> {
    nix::unistd::fchown(fd, Some(uid.into()), gid.map(Into::into))
}
