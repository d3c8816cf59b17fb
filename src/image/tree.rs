//! Operations relative to directory descriptors, for trees whose content is hostile.
//!
//! Nothing here follows a symbolic link in a last component, and [`beneath`] follows the others
//! only inside the tree, as a process with that root would (openat2(2), `RESOLVE_IN_ROOT`).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat, makedev};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Doing, Error, Result, printable};
pub use crate::path::file_type;
use crate::sys::xattr;

/// Flags for a directory that is only walked through.
pub const WALK: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// Flags for a directory whose entries are read or whose attributes are set.
pub const LIST: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);
/// How many levels [`remove`] holds open at once before it takes deeper ones out of the tree.
const MAX_OPEN_LEVELS: usize = 100;
/// Numbers the directories that [`remove`] has taken out.
static ASIDE: AtomicU64 = AtomicU64::new(0);

/// Opens the root of a tree by a trusted path.
///
/// # Errors
/// The kernel's, naming the path.
pub fn open(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, WALK, Mode::empty()).doing(|| format!("open {}", path.display()))
}

/// Opens `path` in the tree at `root`; links in it are followed inside the tree only.
///
/// # Errors
/// The kernel's.
pub fn beneath(root: BorrowedFd, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Opens the directory `name` in `at` itself, not what a link of that name points to.
///
/// # Errors
/// The kernel's: `ENOTDIR` for anything that is no directory.
pub fn child(at: impl AsFd, name: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    openat(at, name, flags | OFlag::O_NOFOLLOW, Mode::empty())
}

/// Attributes of `name` in `at` itself, or `None` if there is none.
///
/// # Errors
/// The kernel's.
pub fn stat(at: impl AsFd, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH) {
        Err(Errno::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether `stat` is overlayfs's mark of a removed name: a character device 0:0.
pub fn is_whiteout(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(0, 0)
}

/// The directories above a relative path, the topmost first.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
    ends.filter_map(|end| path.get(..end))
}

/// A path to `name` in `at` for calls that take no descriptor; an empty name is `at` itself.
pub fn proc_path(at: &impl AsFd, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}/", at.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    // Names come from the kernel or from C strings; one with a NUL would name nothing.
    CString::new(path).unwrap_or_default()
}

/// The names in the directory `at`, sorted, without `.` and `..`.
///
/// # Errors
/// The kernel's.
pub fn names(at: impl AsFd) -> nix::Result<Vec<Vec<u8>>> {
    let dir = child(at, b".", LIST)?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(dir)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether this is the host's root, who alone makes devices and `trusted.` attributes. Root of a
/// user namespace is not.
pub fn is_host_root() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ANSWER.get_or_init(|| !crate::host::is_unprivileged())
}

/// The extended attribute that makes an overlay directory hide what lower layers have in it:
/// only root may use `trusted.`, everybody else mounts with `userxattr`.
pub fn opaque_name() -> &'static std::ffi::CStr {
    match is_host_root() {
        true => c"trusted.overlay.opaque",
        false => c"user.overlay.opaque",
    }
}

/// Marks the directory `name` in `at` as opaque.
///
/// # Errors
/// The kernel's.
pub fn set_opaque(at: impl AsFd, name: &[u8]) -> nix::Result<()> {
    xattr::set(&proc_path(&at, name), opaque_name(), b"y")
}

/// Whether the directory `name` in `at` is marked as opaque.
///
/// # Errors
/// The kernel's.
pub fn is_opaque(at: impl AsFd, name: &[u8]) -> nix::Result<bool> {
    let value = xattr::get(&proc_path(&at, name), opaque_name())?;
    Ok(value.as_deref() == Some(b"y"))
}

/// Removes `name` from `at`, with everything beneath it if it is a directory. Mounts inside are
/// not entered; they make the removal fail.
///
/// # Errors
/// The kernel's; what has been removed until then stays removed.
pub fn remove(at: BorrowedFd, name: &[u8]) -> nix::Result<()> {
    match unlinkat(at, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(Errno::ENOENT) => return Ok(()),
        other => return other,
    }
    let mut deep = Vec::new();
    empty(at, name, 0, &mut deep)?;
    // Levels too deep to be held open were moved up beside `name`; they may hold deeper ones.
    while let Some(next) = deep.pop() {
        empty_and_remove(at, &next, 0, &mut deep)?;
    }
    unlinkat(at, name, UnlinkatFlags::RemoveDir)
}

fn empty_and_remove(
    at: BorrowedFd,
    name: &[u8],
    level: usize,
    deep: &mut Vec<Vec<u8>>,
) -> nix::Result<()> {
    empty(at, name, level, deep)?;
    unlinkat(at, name, UnlinkatFlags::RemoveDir)
}

/// Empties the directory `name` in `at`.
fn empty(at: BorrowedFd, name: &[u8], level: usize, deep: &mut Vec<Vec<u8>>) -> nix::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        // Its mode may keep even its owner from emptying it.
        let dir = child(at, name, WALK)?;
        let itself = proc_path(&dir, b"");
        fchmodat(AT_FDCWD, itself.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let dir = openat2(at, name, OpenHow::new().flags(LIST).resolve(resolve))?;
    for entry in names(&dir)? {
        match unlinkat(&dir, entry.as_slice(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) if level < MAX_OPEN_LEVELS => {
                empty_and_remove(dir.as_fd(), &entry, level + 1, deep)?;
            }
            Err(Errno::EISDIR | Errno::EPERM) => {
                let number = ASIDE.fetch_add(1, Ordering::Relaxed);
                let aside = format!(".removed-{}-{number}", std::process::id());
                // Level 0 is `name` in the directory that the caller removes from.
                let top = ancestor(&dir, level + 1)?;
                renameat(&dir, entry.as_slice(), &top, aside.as_bytes())?;
                deep.push(aside.into_bytes());
            }
            other => other?,
        }
    }
    Ok(())
}

/// The directory `levels` above `dir`; nobody else moves the tree that is being removed.
fn ancestor(dir: &OwnedFd, levels: usize) -> nix::Result<OwnedFd> {
    openat(dir, "../".repeat(levels).as_str(), WALK, Mode::empty())
}

/// Removes what a trusted path names; see [`remove`].
///
/// # Errors
/// The kernel's, naming the path.
pub fn remove_path(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    match nix::fcntl::open(parent, WALK, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::sys(format!("open {}", parent.display()), errno)),
        Ok(at) => {
            remove(at.as_fd(), name.as_bytes()).doing(|| format!("remove {}", path.display()))
        }
    }
}

/// A name from an archive or an image, for messages: on one line, whatever it holds.
pub fn show(name: &[u8]) -> String {
    printable(&String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn removes_trees_deeper_than_descriptors_allow() {
        let top = std::env::temp_dir().join(format!("lade-deep-{}", std::process::id()));
        fs::create_dir_all(&top).unwrap();
        let mut at = open(&top).unwrap();
        for _ in 0..1500 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            nix::fcntl::openat(&at, "f", OFlag::O_CREAT, Mode::S_IRUSR).unwrap();
            at = child(&at, b"d", WALK).unwrap();
        }
        remove_path(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn removing_a_link_leaves_its_target() {
        let top = std::env::temp_dir().join(format!("lade-link-{}", std::process::id()));
        fs::create_dir_all(top.join("kept")).unwrap();
        fs::write(top.join("kept/file"), "x").unwrap();
        fs::create_dir(top.join("gone")).unwrap();
        std::os::unix::fs::symlink("../kept", top.join("gone/link")).unwrap();
        remove_path(&top.join("gone")).unwrap();
        assert!(top.join("kept/file").exists() && !top.join("gone").exists());
        fs::remove_dir_all(top).unwrap();
    }
}
