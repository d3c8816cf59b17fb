//! Copies layers onto each other into one plain directory, for bundles without overlayfs.
//!
//! Whiteouts and opaque directories of a layer remove what the layers below have put there, as
//! overlayfs would hide it. Both trees are walked by descriptors and no link is followed, with
//! one exception: a directory that a layer only implies (`lib/x` without `lib`) goes where a
//! lower layer's link of that name points to, inside the tree.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchownat, linkat, lseek, symlinkat};

use super::tree::{self, WALK};
use crate::error::{Doing, Error, Result};
use crate::sys::xattr;

/// Copies the tree at `layer` onto the one at `root`, both existing directories. `implicit`
/// names the directories that the layer does not describe; the empty name is the root.
///
/// # Errors
/// The kernel's, with the name of the entry. The copy is then incomplete.
pub fn apply(layer: &Path, implicit: &BTreeSet<Vec<u8>>, root: &Path) -> Result<()> {
    let (from, to) = (tree::open(layer)?, tree::open(root)?);
    let mut copier = Copier { root: tree::open(root)?, implicit, linked: HashMap::new() };
    copier.root_directory(&from, &to)
}

/// Copies the opened directory `from` with its attributes onto the existing one at `to`.
///
/// # Errors
/// As those of [`apply`].
pub fn apply_directory(from: OwnedFd, to: &Path) -> Result<()> {
    let described = BTreeSet::new();
    let to = tree::open(to)?;
    let root = to.try_clone().doing(|| "open the copy")?;
    let mut copier = Copier { root, implicit: &described, linked: HashMap::new() };
    copier.root_directory(&from, &to)
}

/// How deep a tree may be. Names in a layer are no deeper, but the links in it may lead on.
const MAX_DEPTH: usize = 300;

struct Copier<'a> {
    root: OwnedFd,
    implicit: &'a BTreeSet<Vec<u8>>,
    /// Where files with several names were copied to.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl Copier<'_> {
    fn root_directory(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<()> {
        let described = if self.implicit.contains(&b""[..]) { to } else { from };
        let stat = tree::stat(described, b"").doing(|| "look at the root of a layer")?;
        let stat = stat.ok_or_else(|| Error::sys("open layer", Errno::ENOENT))?;
        self.directory(from, to, b"")?;
        // Last, because writing into it has changed its time.
        describe(described, to, b"", &stat).doing(|| "set attributes of the root")
    }

    /// Copies the content of `from`, which is `path` in the layer, into `to`.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
        if path.iter().filter(|b| **b == b'/').count() >= MAX_DEPTH {
            return Err(Error::sys("copy a tree of so many levels", Errno::ENAMETOOLONG));
        }
        let names = tree::names(from).doing(|| format!("list {}", tree::show(path)))?;
        for name in names {
            let path = join(path, &name);
            self.entry(from, to, &name, &path)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let doing = || format!("copy {}", tree::show(path));
        let Some(stat) = tree::stat(from, name).doing(doing)? else { return Ok(()) };
        if is_directory(&stat) {
            return self.subdirectory(from, to, name, path, &stat);
        }
        tree::remove(to.as_fd(), name).doing(doing)?;
        if tree::is_whiteout(&stat) {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                return self.link(first, to, name).doing(doing);
            }
            self.linked.insert(key, path.to_vec());
        }
        create(from, to, name, &stat).doing(doing)
    }

    fn subdirectory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &FileStat,
    ) -> Result<()> {
        let doing = || format!("copy {}", tree::show(path));
        let source = tree::child(from, name, WALK).doing(doing)?;
        let implicit = self.implicit.contains(path);
        let old = tree::stat(to, name).doing(doing)?;
        let opaque = tree::is_opaque(from, name).doing(doing)?;
        if opaque && old.as_ref().is_some_and(is_directory) {
            empty(&tree::child(to, name, WALK).doing(doing)?).doing(doing)?;
        }
        let (target, stat) = match old {
            Some(old) if is_directory(&old) => {
                (tree::child(to, name, WALK).doing(doing)?, if implicit { old } else { *stat })
            }
            Some(old) if implicit && tree::file_type(&old) == SFlag::S_IFLNK => {
                let target = tree::beneath(self.root.as_fd(), path, WALK).doing(doing)?;
                if opaque {
                    empty(&target).doing(doing)?;
                }
                return self.directory(&source, &target, path);
            }
            _ => {
                tree::remove(to.as_fd(), name).doing(doing)?;
                mkdirat(to, name, Mode::S_IRWXU).doing(doing)?;
                (tree::child(to, name, WALK).doing(doing)?, *stat)
            }
        };
        self.directory(&source, &target, path)?;
        // Last, because writing into it changes its time, and its mode may forbid that.
        let attributes = if implicit && old.is_some() { &target } else { &source };
        describe(attributes, &target, b"", &stat).doing(doing)
    }

    /// Gives the file that was copied to `first` another name.
    fn link(&self, first: &[u8], to: &OwnedFd, name: &[u8]) -> nix::Result<()> {
        let (parent, first) = match first.iter().rposition(|b| *b == b'/') {
            Some(slash) => (first.get(..slash), first.get(slash + 1..)),
            None => (Some(&b""[..]), Some(first)),
        };
        let parent = tree::beneath(self.root.as_fd(), parent.unwrap_or_default(), WALK)?;
        linkat(&parent, first.unwrap_or_default(), to, name, AtFlags::empty())
    }
}

/// Creates a copy of what is no directory.
fn create(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &FileStat) -> nix::Result<()> {
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    match tree::file_type(stat) {
        SFlag::S_IFREG => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let mut target = File::from(openat(to, name, flags, private)?);
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let mut source = File::from(tree::child(from, name, flags)?);
            copy_content(&mut source, &mut target, stat)
                .map_err(|err| err.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        }
        SFlag::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
        kind => mknodat(to, name, kind, private, stat.st_rdev)?,
    }
    describe(from, to, name, stat)
}

/// Copies a file's content. Holes stay holes: an image may have a file of terabytes of nothing.
fn copy_content(source: &mut File, target: &mut File, stat: &FileStat) -> io::Result<()> {
    let size = stat.st_size as u64;
    if stat.st_blocks as u64 * 512 >= size {
        return io::copy(source, target).map(|_| ());
    }
    let mut end = 0;
    loop {
        let start = match lseek(&*source, end, Whence::SeekData) {
            // Nothing but a hole comes after it.
            Err(Errno::ENXIO) => return target.set_len(size),
            start => start?,
        };
        end = lseek(&*source, start, Whence::SeekHole)?;
        source.seek(SeekFrom::Start(start as u64))?;
        target.seek(SeekFrom::Start(start as u64))?;
        io::copy(&mut source.by_ref().take((end - start) as u64), target)?;
    }
}

/// Gives `name` in `to` the attributes of `name` in `from`; an empty name is the directory
/// itself.
///
/// # Errors
/// The kernel's.
pub fn describe(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &FileStat) -> nix::Result<()> {
    if nix::unistd::geteuid().is_root() {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(to, name, Some(uid), Some(gid), flags)?;
    }
    // "." stands for the directory itself in calls without AT_EMPTY_PATH.
    let itself: &[u8] = if name.is_empty() { b"." } else { name };
    if tree::file_type(stat) != SFlag::S_IFLNK {
        // Nobody else writes in the copy, so what is there is what was just made.
        let mode = Mode::from_bits_truncate(stat.st_mode);
        fchmodat(to, itself, mode, FchmodatFlags::FollowSymlink)?;
    }
    copy_xattrs(&tree::proc_path(from, name), &tree::proc_path(to, name))?;
    let atime = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(to, itself, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
}

fn copy_xattrs(from: &CStr, to: &CStr) -> nix::Result<()> {
    // What a lower layer has said of it, or the directory above has by default.
    let is_images = |name: &CStr| {
        let kinds: [&[u8]; 3] = [b"user.", b"trusted.", b"system.posix_acl_"];
        kinds.iter().any(|kind| name.to_bytes().starts_with(kind))
    };
    for name in attributes(&xattr::list(to)?).filter(|name| is_images(name)) {
        if xattr::get(from, name)?.is_none() {
            xattr::remove(to, name)?;
        }
    }
    for name in attributes(&xattr::list(from)?) {
        if let Some(value) = xattr::get(from, name)? {
            xattr::set(to, name, &value)?;
        }
    }
    Ok(())
}

/// The names in a list of the kernel's, but for overlayfs's own and the host's label.
fn attributes(list: &[u8]) -> impl Iterator<Item = &CStr> {
    let is_own = |name: &CStr| {
        let name = name.to_bytes();
        name.starts_with(b"trusted.overlay.")
            || name.starts_with(b"user.overlay.")
            || name == b"security.selinux"
    };
    let names = list.split_inclusive(|b| *b == 0);
    names.filter_map(|n| CStr::from_bytes_with_nul(n).ok()).filter(move |name| !is_own(name))
}

fn is_directory(stat: &FileStat) -> bool {
    tree::file_type(stat) == SFlag::S_IFDIR
}

/// Removes what is in a directory. It stays itself: its layer may not describe it.
fn empty(dir: &OwnedFd) -> nix::Result<()> {
    tree::names(dir)?.iter().try_for_each(|name| tree::remove(dir.as_fd(), name))
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn layers_are_merged() {
        let top = std::env::temp_dir().join(format!("lade-copy-{}", std::process::id()));
        let [one, two, out] = ["1", "2", "out"].map(|name| top.join(name));
        for dir in [
            one.join("d"),
            one.join("o"),
            one.join("usr/lib"),
            one.join("tmp"),
            two.join("d"),
            two.join("o"),
            two.join("lib"),
            two.join("tmp"),
            out.clone(),
        ] {
            fs::create_dir_all(dir).unwrap();
        }
        for file in [
            one.join("d/gone"),
            one.join("d/kept"),
            one.join("o/hidden"),
            two.join("o/new"),
            two.join("lib/x"),
            two.join("tmp/y"),
        ] {
            fs::write(file, "x").unwrap();
        }
        symlink("usr/lib", one.join("lib")).unwrap();
        fs::hard_link(one.join("d/kept"), one.join("d/again")).unwrap();
        for dir in ["o", "tmp"] {
            fs::set_permissions(one.join(dir), fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let at = tree::open(&two).unwrap();
        mknodat(&at, "d/gone", SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        tree::set_opaque(&at, b"o").unwrap();
        apply(&one, &BTreeSet::new(), &out).unwrap();
        let names: [&[u8]; 4] = [b"", b"lib", b"o", b"tmp"];
        let implicit = names.map(<[u8]>::to_vec).into();
        apply(&two, &implicit, &out).unwrap();
        assert!(!out.join("d/gone").exists() && !out.join("o/hidden").exists());
        assert!(out.join("d/kept").exists() && out.join("o/new").exists());
        let kept = fs::metadata(out.join("d/kept")).unwrap();
        assert_eq!(kept.ino(), fs::metadata(out.join("d/again")).unwrap().ino());
        assert!(fs::symlink_metadata(out.join("lib")).unwrap().is_symlink());
        assert!(out.join("usr/lib/x").exists());
        for dir in ["o", "tmp"] {
            assert_eq!(fs::metadata(out.join(dir)).unwrap().mode() & 0o7777, 0o1777, "{dir}");
        }
        let opaque =
            xattr::get(&tree::proc_path(&tree::open(&out).unwrap(), b"o"), tree::opaque_name());
        assert_eq!(opaque.unwrap(), None);
        tree::remove_path(&top).unwrap();
    }
    #[test]
    fn endless_depth_is_refused() {
        let top = std::env::temp_dir().join(format!("lade-levels-{}", std::process::id()));
        fs::create_dir_all(top.join("to")).unwrap();
        let mut at = tree::open(&top).unwrap();
        for _ in 0..MAX_DEPTH + 50 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = tree::child(&at, b"d", WALK).unwrap();
        }
        let err = apply(&top.join("d"), &BTreeSet::new(), &top.join("to")).unwrap_err();
        assert!(err.message().contains("so many levels"), "{err}");
        tree::remove_path(&top).unwrap();
    }

    #[test]
    fn holes_are_not_filled() {
        let top = std::env::temp_dir().join(format!("lade-holes-{}", std::process::id()));
        let [from, to] = ["from", "to"].map(|name| top.join(name));
        for dir in [&from, &to] {
            fs::create_dir_all(dir).unwrap();
        }
        let mut file = File::create(from.join("f")).unwrap();
        file.set_len(1 << 42).unwrap();
        file.seek(SeekFrom::Start(1 << 40)).unwrap();
        io::Write::write_all(&mut file, b"data").unwrap();
        File::create(from.join("nothing")).unwrap().set_len(1 << 42).unwrap();
        apply(&from, &BTreeSet::new(), &to).unwrap();
        for name in ["f", "nothing"] {
            let copy = fs::metadata(to.join(name)).unwrap();
            assert!(copy.len() == 1 << 42 && copy.blocks() < 1000, "{name}");
        }
        let mut data = [0; 6];
        let copy = File::open(to.join("f")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&copy, &mut data, (1 << 40) - 1).unwrap();
        assert_eq!(&data, b"\0data\0");
        tree::remove_path(&top).unwrap();
    }
}
