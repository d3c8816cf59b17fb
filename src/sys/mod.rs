//! Typed system calls: what `nix` lacks, and nothing else. No policy lives here.
//!
//! This is the only room where `unsafe` is allowed; every block says why it is sound.
#![allow(unsafe_code)]

pub mod bpf;
pub mod heap;
pub mod kill;
pub mod lock;
pub mod mount;
pub mod netlink;
pub mod pidfd;
pub mod process;
pub mod scheduling;
pub mod seccomp;
pub mod security;
pub mod shared;
pub mod spawn;
pub mod start;
pub mod stub;
pub mod terminal;
#[cfg(panic = "abort")]
mod unwind;
pub mod xattr;

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Turns the kernel's answer into a descriptor that closes itself.
///
/// `ret` has to be the return value of a system call that yields a new descriptor.
fn owned(ret: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(ret)?;
    // SAFETY: the kernel just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
