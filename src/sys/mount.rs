//! The mount API by descriptors (kernel 5.2 and 5.12; fsopen(2), open_tree(2), move_mount(2),
//! mount_setattr(2)): a mount is made detached, configured, and attached to a verified target.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::owned;

/// `MOUNT_ATTR_*` of linux/mount.h, as mount_setattr(2) and fsmount(2) take them.
pub mod attr {
    pub use libc::{
        MOUNT_ATTR__ATIME as ATIME_MASK, MOUNT_ATTR_IDMAP as IDMAP, MOUNT_ATTR_NOATIME as NOATIME,
        MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NODIRATIME as NODIRATIME,
        MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
        MOUNT_ATTR_NOSYMFOLLOW as NOSYMFOLLOW, MOUNT_ATTR_RDONLY as RDONLY,
        MOUNT_ATTR_RELATIME as RELATIME, MOUNT_ATTR_STRICTATIME as STRICTATIME,
    };
}

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSPICK_CLOEXEC: libc::c_uint = 1;
const FSPICK_EMPTY_PATH: libc::c_uint = 8;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// A file system being configured (fsopen(2)).
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Opens a context for the file system type `name`.
    pub fn open(name: &CStr) -> Result<Self, Errno> {
        // SAFETY: the name is NUL-terminated and outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    /// Opens a context to change the file system that is mounted at `mount` (fspick(2)).
    pub fn pick(mount: BorrowedFd) -> Result<Self, Errno> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the path is a literal; the rest are integers.
        owned(unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) })
            .map(Self)
    }

    /// Sets a parameter with a value (`size=64k`).
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Sets a parameter without a value (`newinstance`).
    pub fn set_flag(&self, key: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Makes the super block.
    pub fn create(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_CREATE, None, None)
    }

    /// Changes the file system that was picked.
    pub fn reconfigure(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> Result<(), Errno> {
        let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both strings are NUL-terminated or null, and outlive the call.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        })
        .map(drop)
    }

    /// Leaves the context's descriptor to the next `close_others`.
    pub fn close_later(self) {
        super::process::close_later(self.0);
    }

    /// Makes a detached mount with the attributes `attrs` ([`attr`]).
    pub fn mount(&self, attrs: u64) -> Result<OwnedFd, Errno> {
        // SAFETY: only integers are passed.
        owned(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attrs as u32)
        })
    }

    /// What the kernel had to say so far (linux/Documentation filesystems/mount_api: the context's
    /// log, one message a read, each led by `e `, `w ` or `i `); empty if nothing.
    pub fn messages(&self) -> String {
        let mut lines = Vec::new();
        let mut buffer = [0u8; 512];
        while let Ok(n @ 1..) = nix::unistd::read(&self.0, &mut buffer) {
            let line = String::from_utf8_lossy(&buffer[..n]);
            lines.push(line.get(2..).unwrap_or_default().trim_end().to_string());
        }
        // Some file systems let both the parser of numbers and that of ids complain.
        lines.dedup();
        lines.join("; ")
    }
}

/// A detached copy of the mount at `path` beneath `dir` (open_tree(2) with `OPEN_TREE_CLONE`);
/// with `recursive`, of everything mounted below it too. An empty path copies `dir` itself.
pub fn clone_tree(dir: BorrowedFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: the path is NUL-terminated and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// As [`clone_tree`] of `dir` itself and all below it, with these attributes changed; with one call
/// where the kernel has open_tree_attr(2) (6.15).
pub fn clone_tree_as(dir: BorrowedFd, attributes: Attributes) -> Result<OwnedFd, Errno> {
    /// The same on every architecture; libc has no name for it.
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    static LACKING: AtomicBool = AtomicBool::new(false);
    let flags = OPEN_TREE_CLONE as i32 | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    if !LACKING.load(Ordering::Relaxed) {
        let attr = attributes.raw(None);
        // SAFETY: the path is a literal, `attr` a whole mount_attr, and its size is passed along.
        let tree = owned(unsafe {
            libc::syscall(
                SYS_OPEN_TREE_ATTR,
                dir.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &attr,
                size_of::<libc::mount_attr>(),
            )
        });
        match tree {
            Err(Errno::ENOSYS | Errno::EPERM) => LACKING.store(true, Ordering::Relaxed),
            tree => return tree,
        }
    }
    let tree = clone_tree(dir, c"", true)?;
    set_attributes(tree.as_fd(), attributes, None, true)?;
    Ok(tree)
}

/// Attaches the detached mount `mount` on top of `target`.
pub fn attach(mount: BorrowedFd, target: BorrowedFd) -> Result<(), Errno> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the empty paths are literals; the rest are integers.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// Attaches the detached mount `mount` on the entry `name` of the directory `dir`; a symbolic link
/// there is not followed.
pub fn attach_at(mount: BorrowedFd, dir: BorrowedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            name.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Attributes to set ([`attr`]).
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Propagation: `MS_PRIVATE` and its like, or 0 to leave it.
    pub propagation: u64,
}

impl Attributes {
    fn raw(self, id_map: Option<BorrowedFd>) -> libc::mount_attr {
        libc::mount_attr {
            attr_set: self.set | if id_map.is_some() { attr::IDMAP } else { 0 },
            attr_clr: self.clear,
            propagation: self.propagation,
            userns_fd: id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
        }
    }
}

/// Changes the attributes of a mount, and with `recursive` of all below it (mount_setattr(2)).
/// `id_map` is a user namespace whose maps the mount takes (`MOUNT_ATTR_IDMAP`).
pub fn set_attributes(
    mount: BorrowedFd,
    attributes: Attributes,
    id_map: Option<BorrowedFd>,
    recursive: bool,
) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let attr = attributes.raw(id_map);
    // SAFETY: `attr` is a whole mount_attr and its size is passed along.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Makes `new` the root and stacks the old root on top of it (pivot_root(2), ".", "."), then takes
/// the old root away. The working directory has to be the new root.
pub fn pivot_to_cwd() -> Result<(), Errno> {
    nix::unistd::pivot_root(c".", c".")?;
    nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH)
}

/// A detached, private instance of procfs for the caller's pid namespace: nothing can be mounted
/// over its files, so a write reaches the real one.
pub fn private_proc() -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"proc")?;
    context.create()?;
    context.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// The device number and inode of what `fd` refers to.
pub fn identity(fd: impl AsFd) -> Result<(u64, u64), Errno> {
    let stat = nix::sys::stat::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Whether `fd` refers to the root of a mount (statx(2), `STATX_ATTR_MOUNT_ROOT`); where the kernel
/// cannot tell, it may be.
pub fn is_mount_root(fd: BorrowedFd) -> bool {
    const ROOT: u64 = libc::STATX_ATTR_MOUNT_ROOT as u64;
    // SAFETY: statx is plain data, for which zeros are valid.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // Not by the C library: std names its function as one that may be absent, which it then is from a
    // static program.
    // SAFETY: the path ends with zero, and `found` has room for what the kernel writes.
    let asked = unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            0,
            &raw mut found,
        )
    };
    asked != 0 || found.stx_attributes_mask & ROOT == 0 || found.stx_attributes & ROOT != 0
}
