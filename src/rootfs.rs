//! The root file system around the mounts: propagation, the root itself, pivot_root, and the paths
//! that are hidden or made read-only.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, umask};

use crate::error::{Doing, Error, Result};
use crate::path::{Root, clean, is_dir};
use crate::sys::mount::{
    Attributes, FsContext, attach, attr, clone_tree, clone_tree_as, set_attributes,
};
use crate::sys::process::close_later;

/// The values of `linux.rootfsPropagation` and what they stand for. Anything but
/// `rprivate` still starts as `slave`, so that the host never sees the container's mounts.
pub const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE),
];

/// Cuts the new mount namespace off from the host's: what is mounted here stays here. With
/// `receive`, mounts of the host still come in.
pub fn isolate(receive: bool) -> Result<()> {
    let flag = if receive { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
    let done = mount::<str, str, str, str>(None, "/", None, flag | MsFlags::MS_REC, None);
    done.map_err(|errno| match errno {
        Errno::EINVAL => Error::from(errno).hint(
            "the root directory of tare is no mount point, as in a chroot: bind it to itself",
        ),
        _ => errno.into(),
    })
}

/// The root file system, held while it can be reached: where it is, and a detached copy of it.
#[derive(Debug)]
pub struct PinnedRoot {
    target: OwnedFd,
    tree: OwnedFd,
}

impl PinnedRoot {
    /// Takes hold of the root file system `path` of the host.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let target = nix::fcntl::open(path, flags, Mode::empty()).map_err(no_root)?;
        let tree = clone_tree(target.as_fd(), c"", true)?;
        // What the host mounts in the directory later, as docker cp does with volumes, is not the
        // container's.
        let cut = Attributes { propagation: MsFlags::MS_PRIVATE.bits(), ..Attributes::default() };
        set_attributes(tree.as_fd(), cut, None, false)?;
        Ok(PinnedRoot { tree, target })
    }

    /// Mounts the root file system on itself, which pivot_root(2) asks for, and makes it the
    /// directory of all look-ups.
    pub fn enter(self) -> Result<Root> {
        attach(self.tree.as_fd(), self.target.as_fd())?;
        close_later(self.target);
        // Devices, directories and files get exactly the modes that are asked for.
        umask(Mode::empty());
        Ok(Root::new(self.tree))
    }
}

fn no_root(errno: Errno) -> Error {
    let err = Error::from(errno);
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => {
            err.hint("root.path is a directory: an absolute path, or one relative to the bundle")
        }
        _ => err,
    }
}

/// Mounts the root file system `root` on the new directory `place`, with all that is mounted below.
pub fn bind(root: &Path, place: &Path) -> Result<()> {
    std::fs::create_dir(place)?;
    let tree = PinnedRoot::open(root)?.tree;
    let target = nix::fcntl::open(place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(attach(tree.as_fd(), target.as_fd())?)
}

/// Takes back [`PinnedRoot::enter`], with all that was mounted since.
pub fn leave(path: &Path) -> Result<()> {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    Ok(umount2(path, flags)?)
}

/// Makes `root` the root of this mount namespace and takes the old one away. It is the working
/// directory, too, from the beginning.
pub fn pivot(root: &Root) -> Result<()> {
    nix::unistd::fchdir(root)?;
    Ok(crate::sys::mount::pivot_to_cwd()?)
}

/// The way without pivot_root(2), for a root on a ramfs (`--no-pivot`): the root file system is
/// moved over `/`. What it covers stays reachable for a process that may mount.
pub fn move_to_slash(root: &Root) -> Result<()> {
    nix::unistd::fchdir(root)?;
    mount::<str, str, str, str>(Some("."), "/", None, MsFlags::MS_MOVE, None)?;
    change_root(root.as_fd())
}

/// A copy of the root file system that is mounted nowhere.
pub fn detached(root: &Root) -> Result<OwnedFd> {
    Ok(clone_tree(root.as_fd(), c"", true)?)
}

/// Makes the directory `dir` the root of this process alone.
pub fn change_root(dir: BorrowedFd) -> Result<()> {
    nix::unistd::fchdir(dir)?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// The root directory of the process behind `pidfd`, whose number is in the descriptor's own
/// information (proc_pid_fdinfo(5)).
pub fn root_of(pidfd: BorrowedFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<u32>().ok());
    let root = format!("/proc/{}/root", pid.ok_or(Errno::ESRCH)?);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(&*root, flags, Mode::empty()).doing(|| format!("open {root}"))?;
    // Not that of another process which has got the number since.
    crate::sys::pidfd::signal(pidfd, 0)?;
    Ok(root)
}

/// Sets the propagation of the container's own root, after pivot_root(2).
pub fn propagate(flag: MsFlags, recursive: bool) -> Result<()> {
    let all = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    Ok(mount::<str, str, str, str>(None, "/", None, flag | all, None)?)
}

/// Makes the root read-only.
pub fn read_only_root(root: &Root) -> Result<()> {
    let ro = Attributes { set: attr::RDONLY, ..Attributes::default() };
    Ok(set_attributes(root.as_fd(), ro, None, false)?)
}

/// Makes `path` and everything mounted below it read-only; a path that is not there needs nothing.
pub fn read_only_path(root: &Root, path: &Path) -> Result<()> {
    let ro = Attributes { set: attr::RDONLY, ..Attributes::default() };
    if clean(path) == Path::new("/") {
        // What is mounted over the root of the process is not seen by it.
        return Ok(set_attributes(root.as_fd(), ro, None, true)?);
    }
    let Some(target) = existing(root, path)? else { return Ok(()) };
    let tree = clone_tree_as(target.as_fd(), ro)?;
    attach(tree.as_fd(), target.as_fd())?;
    [tree, target].into_iter().for_each(close_later);
    Ok(())
}

const NULL: &str = "/dev/null";

/// What hides a path: one empty read-only tmpfs for all directories, one /dev/null for all files.
/// A super block for each masked path is what makes many containers on one host slow.
#[derive(Debug, Default)]
pub struct Mask {
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl Mask {
    /// Hides `path`; one that is not there needs nothing. The target is pinned by descriptor first,
    /// so that it cannot be swapped between look and mount.
    pub fn hide(&mut self, root: &Root, path: &Path) -> Result<()> {
        let Some(target) = existing(root, path)? else { return Ok(()) };
        let directory = is_dir(&target)?;
        if directory && Path::new(NULL).starts_with(clean(path)) {
            // The last chance to reach it; without one it is missed only by a file to be hidden.
            self.file = self.file.take().or_else(|| null_device(root).ok());
        }
        let pattern = if directory { &mut self.directory } else { &mut self.file };
        let cover = match pattern {
            Some(pattern) => clone_tree(pattern.as_fd(), c"", false)?,
            None if directory => empty_directory()?,
            None => {
                let null = null_device(root)?;
                let cover = clone_tree(null.as_fd(), c"", false)?;
                close_later(null);
                cover
            }
        };
        attach(cover.as_fd(), target.as_fd())?;
        close_later(target);
        // Once attached it is the pattern: kernels before 6.15 clone no mount that is attached nowhere.
        match pattern {
            Some(_) => close_later(cover),
            None => *pattern = Some(cover),
        }
        Ok(())
    }

    /// Leaves what it holds to the next closing of everything.
    pub fn close_later(self) {
        self.directory.into_iter().chain(self.file).for_each(close_later);
    }
}

/// An empty read-only tmpfs.
fn empty_directory() -> Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.create().map_err(|e| Error::from(e).kernel(context.messages()))?;
    let mount = context.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    context.close_later();
    Ok(mount)
}

/// The container's /dev/null, after a check that it is the device (CVE-2025-31133: an image may have
/// put something else there).
fn null_device(root: &Root) -> Result<OwnedFd> {
    crate::devices::open_device(root, Path::new(NULL), (1, 3))
        .doing(|| "open /dev/null to hide a file with")
}

/// Resolves `path`; `None` if there is no such thing to protect.
fn existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.resolve(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
