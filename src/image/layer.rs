//! Unpacks one layer archive into a tree of its own, in the form that overlayfs stacks.
//!
//! The policy for hostile archives, in one place (image-spec layer.md; SECURITY.md):
//! - a name is relative to the tree whatever it looks like; `..` is refused;
//! - links among the parents of a name are followed inside the tree only;
//! - the last component is never followed: what stands there is replaced (a directory stays for
//!   a directory), and everything is created exclusively;
//! - a hard link names a file of this layer; device 0:0 is overlayfs's own mark and refused;
//! - attributes in which overlayfs or the host's security modules keep their own are dropped;
//! - whiteouts become overlayfs's: character device 0:0, and an attribute for opaque directories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, makedev, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, geteuid, linkat, symlinkat};

use super::sparse::Map;
use super::tar::{Entry, Kind, Reader};
use super::tree::{self, LIST, WALK};
use super::userns;
use crate::error::{Doing, Error, Result};
use crate::sys::xattr;

/// Prefix of names that stand for removals (image-spec layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of everything that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of aufs's own files, such as `.wh..wh.plnk`: old Dockers packed them as well.
const AUFS: &[u8] = b".wh..wh.";
/// Components that a name may have; the kernel's own limit is 4096 bytes.
const MAX_DEPTH: usize = 256;
/// Bytes of one component; the kernel's own limit.
const MAX_NAME: usize = 255;
/// Steps of making one parent directory, links included; the kernel follows 40 links.
const MAX_STEPS: usize = MAX_DEPTH + 40;
/// Entries of one layer. The largest images known hold about a million.
const MAX_ENTRIES: u64 = 16_000_000;
/// Bytes of names that are kept in memory until the end.
const MAX_REMEMBERED: usize = 256 << 20;
/// Parent directories that are kept open.
const MAX_PARENTS: usize = 128;

/// What is known of an unpacked layer beside its tree.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Bytes of file content.
    pub size: u64,
    /// Directories that the layer needs but does not describe, such as `a` where it holds only
    /// `a/b`; the empty name is the root. Their attributes are those of the layers below.
    pub implicit: BTreeSet<Vec<u8>>,
}

/// Unpacks `archive` into the existing empty directory `root`.
///
/// Without privilege nobody can be given files: owners are then noted beside them.
///
/// # Errors
/// Those of the stream, of the archive's form, of the policy above and of the kernel, each with
/// the name of the entry. The tree is then incomplete.
pub fn unpack(archive: impl Read, root: &Path) -> Result<Unpacked> {
    let mut reader = Reader::new(archive);
    let mut unpacker = Unpacker::new(tree::open(root)?);
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().doing(|| "read layer")? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(Error::new(format!("layer has more than {MAX_ENTRIES} entries")));
        }
        let unpacked = unpacker.entry(&entry, &mut reader);
        unpacked.map_err(|err| err.context(format!("unpack {}", tree::show(&entry.path))))?;
    }
    unpacker.finish()
}

/// Attributes of a directory that are set when nothing is written into it any more: what is made
/// there would have its default ACL.
struct Late {
    mode: u32,
    mtime: (i64, i64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Unpacker {
    root: Rc<OwnedFd>,
    /// Whether files can be given to others.
    privileged: bool,
    parents: HashMap<Vec<u8>, Rc<OwnedFd>>,
    late: BTreeMap<Vec<u8>, Late>,
    /// Depth, directory, and name; the shallow ones first. Without a name: everything.
    whiteouts: BTreeSet<(usize, Vec<u8>, Option<Vec<u8>>)>,
    /// The directories in which all that lower layers have is hidden.
    opaque: BTreeSet<Vec<u8>>,
    remembered: usize,
    unpacked: Unpacked,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn new(root: OwnedFd) -> Self {
        Unpacker {
            root: Rc::new(root),
            privileged: geteuid().is_root(),
            parents: HashMap::new(),
            late: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            remembered: 0,
            unpacked: Unpacked { size: 0, implicit: BTreeSet::from([Vec::new()]) },
            buffer: vec![0; 128 * 1024],
        }
    }

    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = clean(&entry.path)?;
        let (parent, name) = split(&path);
        let mut above = parent.split(|b| *b == b'/');
        if above.clone().any(|part| part.starts_with(AUFS) && part != OPAQUE) {
            return Ok(());
        }
        if above.any(|part| part.starts_with(WHITEOUT)) {
            return Err(Error::new("a whiteout cannot hold other files"));
        }
        if name.is_empty() {
            return self.root_entry(entry);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(parent, name, hidden);
        }
        let at = self.directory(parent, MAX_STEPS)?;
        match entry.kind {
            Kind::File => self.file(&at, name, entry, content),
            Kind::Directory => self.directory_entry(&at, name, &path, entry),
            Kind::Symlink => self.symlink(&at, name, entry),
            Kind::Hardlink => self.hardlink(&at, name, entry),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&at, name, entry),
        }
    }

    /// `./`: attributes of the root itself, which nothing may replace.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::new("the root of a layer can only be a directory"));
        }
        let root = Rc::clone(&self.root);
        self.describe_directory(&root, b"", entry)
    }

    fn directory_entry(
        &mut self,
        at: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let old = tree::stat(at, name).doing(|| "look at what is there")?;
        if old.as_ref().map(tree::file_type) != Some(SFlag::S_IFDIR) {
            self.replace(at, name)?;
            mkdirat(at, name, Mode::S_IRWXU).doing(|| "make directory")?;
            // What stood here in this layer hid what lower layers have.
            if old.is_some() {
                tree::set_opaque(at, name).doing(|| "mark as opaque")?;
                self.opaque.insert(path.to_vec());
            }
        }
        let dir = tree::child(at, name, WALK).doing(|| "open directory")?;
        self.describe_directory(&dir, path, entry)
    }

    fn describe_directory(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<()> {
        self.own(dir, b"", entry)?;
        self.unpacked.implicit.remove(path);
        let attributes = entry.xattrs.iter().map(|(key, value)| 64 + key.len() + value.len());
        self.remember(path.len() + attributes.sum::<usize>())?;
        let (mode, mtime, xattrs) = (entry.mode, entry.mtime, entry.xattrs.clone());
        self.late.insert(path.to_vec(), Late { mode, mtime, xattrs });
        Ok(())
    }

    fn file(
        &mut self,
        at: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<()> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let created = match openat(at, name, flags, mode) {
            Err(Errno::EEXIST) => {
                self.replace(at, name)?;
                openat(at, name, flags, mode)
            }
            other => other,
        };
        let mut file = File::from(created.doing(|| "create file")?);
        match &entry.sparse {
            Some(map) => self.copy_parts(map, content, &mut file)?,
            None => self.copy(content, &mut file)?,
        }
        self.own(at, name, entry)?;
        // Writing and chown take setuid bits and file capabilities away, so these come last.
        fchmod(&file, Mode::from_bits_truncate(entry.mode)).doing(|| "set mode")?;
        self.xattrs(at, name, &entry.xattrs)?;
        let time = timespec(entry.mtime);
        futimens(&file, &time, &time).doing(|| "set time")
    }

    /// Copies the data of a sparse file to where it belongs; what is between stays a hole.
    fn copy_parts(&mut self, map: &Map, content: &mut impl Read, file: &mut File) -> Result<()> {
        for (offset, length) in &map.parts {
            file.seek(SeekFrom::Start(*offset)).doing(|| "write file")?;
            self.copy(&mut content.by_ref().take(*length), file)?;
        }
        file.set_len(map.size).doing(|| "set size")
    }

    fn copy(&mut self, content: &mut impl Read, file: &mut File) -> Result<()> {
        loop {
            let len = content.read(&mut self.buffer).doing(|| "read layer")?;
            let Some(part @ [_, ..]) = self.buffer.get(..len) else { return Ok(()) };
            file.write_all(part).doing(|| "write file")?;
            self.unpacked.size += len as u64;
        }
    }

    fn symlink(&mut self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        self.replace(at, name)?;
        symlinkat(entry.link.as_slice(), at, name).doing(|| "make symbolic link")?;
        self.describe(at, name, entry)
    }

    fn hardlink(&mut self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let target = clean(&entry.link)?;
        let (parent, target_name) = split(&target);
        let missing = || {
            Error::new(format!("hard link to {}, which this layer lacks", tree::show(&entry.link)))
        };
        if target_name.is_empty() {
            return Err(Error::new("hard link to the root of the layer"));
        }
        let from = tree::beneath(self.root.as_fd(), parent, WALK).map_err(|_| missing())?;
        let stat = tree::stat(&from, target_name).doing(|| "look at the target")?;
        let stat = stat.ok_or_else(missing)?;
        let old = tree::stat(at, name).doing(|| "look at what is there")?;
        if old.is_some_and(|old| (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.replace(at, name)?;
        linkat(&from, target_name, at, name, AtFlags::empty()).doing(|| "make hard link")
    }

    fn node(&mut self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Char => (SFlag::S_IFCHR, entry.device),
            Kind::Block => (SFlag::S_IFBLK, entry.device),
            _ => (SFlag::S_IFIFO, (0, 0)),
        };
        if kind == SFlag::S_IFCHR && device == (0, 0) {
            return Err(Error::new("an image cannot hold the character device 0:0")
                .hint("overlayfs uses this device as its mark of a removed file"));
        }
        self.replace(at, name)?;
        let number = makedev(device.0.into(), device.1.into());
        match mknodat(at, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, number) {
            // Nobody else makes devices, and a container has its own.
            Err(Errno::EPERM) if kind != SFlag::S_IFIFO && !tree::is_host_root() => return Ok(()),
            made => made.doing(|| "make node")?,
        }
        self.own(at, name, entry)?;
        // No link can stand here: the node was made just now, in a tree that only we write.
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(at, name, mode, FchmodatFlags::FollowSymlink).doing(|| "set mode")?;
        self.describe(at, name, entry)
    }

    /// Remembers a whiteout. It is about lower layers only and what this layer itself puts there
    /// stays, so it cannot be made before everything is known. Builders also write whiteouts
    /// for what was in a directory beside that of the directory.
    fn whiteout(&mut self, parent: &[u8], name: &[u8], hidden: &[u8]) -> Result<()> {
        let hidden = match hidden {
            _ if name == OPAQUE => None,
            _ if name.starts_with(AUFS) => return Ok(()),
            b"" | b"." | b".." => {
                return Err(Error::new("a whiteout without a name to remove"));
            }
            _ => Some(hidden.to_vec()),
        };
        self.remember(parent.len() + hidden.as_ref().map_or(0, Vec::len))?;
        let depth = parent.iter().filter(|b| **b == b'/').count() + usize::from(!parent.is_empty());
        self.whiteouts.insert((depth, parent.to_vec(), hidden));
        Ok(())
    }

    /// Makes a whiteout of `name` in `parent`; of everything in it if there is no name.
    fn hide(&mut self, parent: &[u8], name: Option<&[u8]>) -> Result<()> {
        let mut above = tree::above(parent).chain([&b""[..], parent]);
        if above.any(|dir| self.opaque.contains(dir)) {
            // Nothing of lower layers is left there, and overlayfs shows a whiteout that hides nothing.
            return Ok(());
        }
        let at = match self.directory(parent, MAX_STEPS) {
            // Its directory is gone or no directory any more: nothing is left to hide.
            Err(err) if err.errno() == Some(Errno::ENOTDIR) => return Ok(()),
            other => other?,
        };
        let Some(name) = name else {
            self.opaque.insert(parent.to_vec());
            return tree::set_opaque(&*at, b"").doing(|| "mark as opaque");
        };
        match tree::stat(&*at, name).doing(|| "look at what is there")? {
            None => mknodat(&*at, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))
                .doing(|| "make whiteout"),
            Some(stat) if tree::file_type(&stat) == SFlag::S_IFDIR => {
                let path = clean(&[parent, name].join(&b'/'))?;
                // A new directory in place of the removed one, whose attributes it does not get.
                self.unpacked.implicit.remove(&path);
                self.opaque.insert(path);
                tree::set_opaque(&*at, name).doing(|| "mark as opaque")
            }
            Some(_) => Ok(()),
        }
    }

    /// Counts what is kept in memory for the end.
    fn remember(&mut self, bytes: usize) -> Result<()> {
        self.remembered += 64 + bytes;
        match self.remembered <= MAX_REMEMBERED {
            true => Ok(()),
            false => Err(Error::new("the layer describes too many directories and removals")),
        }
    }

    /// Owner, attributes and time of what is neither a file nor a directory.
    fn describe(&self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.kind == Kind::Symlink {
            self.own(at, name, entry)?;
        }
        self.xattrs(at, name, &entry.xattrs)?;
        let time = timespec(entry.mtime);
        utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink).doing(|| "set time")
    }

    fn own(&self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let given = match self.privileged {
            true => fchownat(at, name, Some(uid), Some(gid), flags),
            false => Err(Errno::EINVAL),
        };
        match given {
            // An id that the user namespace does not have.
            Err(Errno::EINVAL) if !tree::is_host_root() => {
                if matches!(entry.kind, Kind::File | Kind::Directory) {
                    userns::note_owner(at, name, entry.uid, entry.gid);
                }
                Ok(())
            }
            given => given.doing(|| "set owner"),
        }
    }

    fn xattrs(&self, at: &OwnedFd, name: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        for (key, value) in xattrs.iter().filter(|(key, _)| is_kept(key, self.privileged)) {
            let doing = || format!("set extended attribute {}", tree::show(key));
            let key = CString::new(key.as_slice()).map_err(|_| Error::new(doing()))?;
            match xattr::set(&tree::proc_path(at, name), &key, value) {
                // An ACL for an id that the user namespace does not have.
                Err(Errno::EINVAL)
                    if !tree::is_host_root()
                        && key.to_bytes().starts_with(b"system.posix_acl_") => {}
                // Losing a file capability would change what the image does; a note would not.
                Err(Errno::ENOTSUP | Errno::EPERM) if key.as_c_str() != c"security.capability" => {}
                other => other.doing(doing)?,
            }
        }
        Ok(())
    }

    /// Removes what stands at `name`.
    fn replace(&mut self, at: &OwnedFd, name: &[u8]) -> Result<()> {
        // Descriptors of removed directories would take entries out of the tree.
        if tree::stat(at, name).doing(|| "look at what is there")?.is_some() {
            self.parents.clear();
            tree::remove(at.as_fd(), name).doing(|| "remove what was there before")?;
        }
        Ok(())
    }

    /// The directory `path`, made if the layer has not described it.
    fn directory(&mut self, path: &[u8], steps: usize) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(dir) = self.parents.get(path) {
            return Ok(Rc::clone(dir));
        }
        let dir = match tree::beneath(self.root.as_fd(), path, WALK) {
            Ok(dir) => Rc::new(dir),
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_directory(path, steps)?,
            Err(errno) => return Err(Error::sys("open the directory above", errno)),
        };
        if self.parents.len() >= MAX_PARENTS {
            self.parents.clear();
        }
        self.parents.insert(path.to_vec(), Rc::clone(&dir));
        Ok(dir)
    }

    fn make_directory(&mut self, path: &[u8], steps: usize) -> Result<Rc<OwnedFd>> {
        let Some(steps) = steps.checked_sub(1) else {
            return Err(Error::sys("make the directory above", Errno::ELOOP));
        };
        let (parent, name) = split(path);
        let at = self.directory(parent, steps)?;
        match tree::stat(&*at, name).doing(|| "look at the directory above")? {
            Some(stat) if tree::file_type(&stat) == SFlag::S_IFLNK => {
                // The target may come later, or be a lower layer's: make it where it points to.
                let link = readlinkat(&*at, name).doing(|| "read a link among the parents")?;
                let target = follow(parent, link.as_encoded_bytes())?;
                return self.directory(&target, steps);
            }
            Some(_) => {
                return Err(Error::sys(format!("open {}", tree::show(path)), Errno::ENOTDIR));
            }
            None => {}
        }
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(&*at, name, mode).doing(|| "make the directory above")?;
        self.remember(path.len())?;
        self.unpacked.implicit.insert(path.to_vec());
        let dir = tree::child(&*at, name, WALK).doing(|| "open the directory above")?;
        // Whatever the umask has left.
        fchmodat(&dir, ".", mode, FchmodatFlags::FollowSymlink)
            .doing(|| "set the mode of the directory above")?;
        Ok(Rc::new(dir))
    }

    /// Makes the whiteouts, then sets the attributes that later entries would have changed, the
    /// deepest directories first.
    fn finish(mut self) -> Result<Unpacked> {
        for (_, parent, name) in std::mem::take(&mut self.whiteouts) {
            self.hide(&parent, name.as_deref())
                .map_err(|err| err.context(format!("remove from /{}", tree::show(&parent))))?;
        }
        for (path, late) in std::mem::take(&mut self.late).into_iter().rev() {
            self.finish_directory(&path, &late)
                .map_err(|err| err.context(format!("unpack /{}", tree::show(&path))))?;
        }
        Ok(self.unpacked)
    }

    fn finish_directory(&self, path: &[u8], late: &Late) -> Result<()> {
        let dir = match tree::beneath(self.root.as_fd(), path, LIST) {
            // Replaced by a later entry, which then says nothing about directories.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            other => other.doing(|| "open directory")?,
        };
        self.xattrs(&dir, b"", &late.xattrs)?;
        fchmod(&dir, Mode::from_bits_truncate(late.mode)).doing(|| "set mode")?;
        let time = timespec(late.mtime);
        futimens(&dir, &time, &time).doing(|| "set time")
    }
}

/// Which extended attributes of an image are kept: not those by which overlayfs steers itself,
/// nor the host's labels and measurements.
fn is_kept(name: &[u8], privileged: bool) -> bool {
    match name {
        b"security.capability" => privileged,
        b"user.rootlesscontainers" => false,
        _ if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") => false,
        _ if name.starts_with(b"trusted.") => tree::is_host_root(),
        _ => !name.starts_with(b"security."),
    }
}

/// A name from an archive, relative to the tree, without `.` and doubled slashes.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.iter().any(|part| *part == b"..") {
        return Err(Error::new("a name in a layer cannot contain \"..\""));
    }
    let long = parts.iter().any(|part| part.len() > MAX_NAME);
    if long || parts.len() > MAX_DEPTH || path.len() > 4096 {
        return Err(Error::sys("a name in a layer", Errno::ENAMETOOLONG));
    }
    if path.contains(&0) {
        return Err(Error::new("a name in a layer cannot contain a NUL byte"));
    }
    Ok(parts.join(&b'/'))
}

/// Where a link in `parent` leads inside the tree; `..` stops at the root.
fn follow(parent: &[u8], link: &[u8]) -> Result<Vec<u8>> {
    let base: &[u8] = if link.starts_with(b"/") { b"" } else { parent };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|b| *b == b'/').chain(link.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    clean(&parts.join(&b'/'))
}

/// Directory and last component of a clean name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

fn timespec((seconds, nanos): (i64, i64)) -> TimeSpec {
    TimeSpec::new(seconds, nanos)
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
