//! mount(2), for what fsconfig(2) cannot be told: a value of more than 255 bytes, such as the
//! layers of an overlay.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fchdir;

use super::FsOption;
use crate::sys::mount::{FsContext, attach, clone_tree};

/// What the options have room in, in bytes, on every architecture: a page (mount(2)).
const PAGE: usize = 4096;

/// Words that mount(2) takes as flags (mount(8), "filesystem-independent mount options").
const FLAGS: [(&CStr, MsFlags); 6] = [
    (c"dirsync", MsFlags::MS_DIRSYNC),
    (c"iversion", MsFlags::MS_I_VERSION),
    (c"lazytime", MsFlags::MS_LAZYTIME),
    (c"mand", MsFlags::MS_MANDLOCK),
    (c"ro", MsFlags::MS_RDONLY),
    (c"sync", MsFlags::MS_SYNCHRONOUS),
];

/// What stands for no word at all there.
const DEFAULTS: [&CStr; 4] = [c"async", c"nolazytime", c"nomand", c"source"];

/// A detached mount of the file system `name`. mount(2) needs a place where nobody else can put
/// anything: that is in a tmpfs which lies on the directory `target` meanwhile.
pub(super) fn mount(
    name: &CStr,
    options: &[&FsOption],
    target: BorrowedFd,
) -> Result<OwnedFd, Errno> {
    let (flags, data) = data(options)?;
    let source = options.iter().find(|option| option.key.as_c_str() == c"source");
    let source = source.and_then(|option| option.value.as_deref());
    let before = open(c".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let context = FsContext::open(c"tmpfs")?;
    context.create()?;
    let place = context.mount(0)?;
    attach(place.as_fd(), target)?;
    fchdir(&place)?;
    let made = mkdirat(&place, c"m", Mode::S_IRWXU)
        .and_then(|()| nix::mount::mount(source, c"m", Some(name), flags, Some(data.as_c_str())))
        .and_then(|()| clone_tree(place.as_fd(), c"m", false));
    let undone = umount2(c".", MntFlags::MNT_DETACH);
    fchdir(&before).and(undone)?;
    made
}

/// The options as mount(2) takes them.
fn data(options: &[&FsOption]) -> Result<(MsFlags, CString), Errno> {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for FsOption { key, value, .. } in options {
        if let Some((_, flag)) = FLAGS.iter().find(|(word, _)| *word == key.as_c_str()) {
            flags |= *flag;
        } else if !DEFAULTS.contains(&key.as_c_str()) {
            data.extend(data.last().map(|_| b','));
            data.extend(key.as_bytes());
            let value = value.as_ref().map(|value| value.as_bytes());
            // A label with commas.
            let quotes = key.as_bytes().ends_with(b"context").then_some(b'"');
            data.extend(value.map(|_| b'='));
            data.extend(value.and(quotes));
            data.extend(value.unwrap_or_default());
            data.extend(value.and(quotes));
        }
    }
    match data.len() < PAGE {
        true => Ok((flags, CString::new(data).map_err(|_| Errno::EINVAL)?)),
        // The kernel would cut off the rest.
        false => Err(Errno::E2BIG),
    }
}
