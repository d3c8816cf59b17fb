//! Extended attributes by path, never following the last component (xattr(7)); nix lacks them.

use std::ffi::CStr;

use nix::errno::Errno;

/// `lsetxattr(2)`: sets `name` to `value`, replacing it.
///
/// # Errors
/// The kernel's, such as `ENOTSUP` where the file system has no such attributes.
pub fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL and the value is read for exactly its length.
    let res = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    Errno::result(res).map(drop)
}

/// `lgetxattr(2)`: the value of `name`, or `None` if the file has no such attribute.
///
/// # Errors
/// The kernel's; a file system without attributes counts as a file without any.
pub fn get(path: &CStr, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let read = |buf: &mut [u8]| {
        // SAFETY: the strings end in NUL and the buffer is as long as is said.
        let res = unsafe {
            libc::lgetxattr(path.as_ptr(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
        };
        Errno::result(res)
    };
    match grown(read) {
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        other => other.map(Some),
    }
}

/// `llistxattr(2)`: the names of all attributes, each ending in NUL.
///
/// # Errors
/// The kernel's; a file system without attributes counts as a file without any.
pub fn list(path: &CStr) -> Result<Vec<u8>, Errno> {
    let read = |buf: &mut [u8]| {
        // SAFETY: the string ends in NUL and the buffer is as long as is said.
        let res = unsafe { libc::llistxattr(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
        Errno::result(res)
    };
    match grown(read) {
        Err(Errno::ENOTSUP) => Ok(Vec::new()),
        other => other,
    }
}

/// `lremovexattr(2)`: takes the attribute `name` away.
///
/// # Errors
/// The kernel's: `ENODATA` if there is none.
pub fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Calls `read` with a buffer that grows until the answer fits (64 KiB is the kernel's limit).
fn grown(read: impl Fn(&mut [u8]) -> Result<isize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; 256];
    loop {
        match read(&mut buf) {
            Ok(len) => {
                buf.truncate(usize::try_from(len).unwrap_or(0));
                return Ok(buf);
            }
            Err(Errno::ERANGE) if buf.len() < 65536 => buf.resize(65536, 0),
            Err(errno) => return Err(errno),
        }
    }
}
