//! Mounts layers on top of each other (kernel Documentation/filesystems/overlayfs.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mkdirat};

use super::copy;
use super::layer::Unpacked;
use super::tree::{self, WALK};
use crate::error::{Doing, Error, Result};
use crate::sys::mount::{self, FsContext};

/// The most lower layers that overlayfs takes.
const MAX_LAYERS: usize = 500;

/// What the options of mount(2) have room in, in bytes, on every architecture.
const PAGE: usize = 4096;

/// A layer as it lies in the store.
pub struct Layer {
    /// Its tree.
    pub tree: PathBuf,
    /// What is known of it.
    pub unpacked: Unpacked,
}

/// Mounts `layers` (the lowest first) at `target`, changes going to `upper`; `work` belongs to
/// the kernel. `upper` and `work` are empty directories of one file system.
///
/// # Errors
/// The kernel's, with its words and what else can be done.
pub fn mount(layers: &[Layer], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::new(format!(
            "overlayfs takes {MAX_LAYERS} layers, not {}",
            layers.len()
        ))
        .hint("--copy makes a plain directory"));
    }
    let doing = || format!("mount overlay on {}", target.display());
    let context = FsContext::open(c"overlay").doing(doing).map_err(without)?;
    let configure = || {
        if !tree::is_host_root() {
            context.set_flag(c"userxattr")?;
        }
        layers.iter().rev().try_for_each(|l| set(&context, c"lowerdir+", &l.tree))?;
        set(&context, c"upperdir", upper)?;
        set(&context, c"workdir", work)?;
        context.set(c"source", c"lade")?;
        context.create()
    };
    let mounted = configure()
        .and_then(|()| context.mount(0))
        .and_then(|mounted| mount::attach(mounted.as_fd(), open(target)?.as_fd()));
    let Err(errno) = mounted else { return Ok(()) };
    let log = context.messages();
    let explain = |errno| {
        let err = Error::sys(doing(), errno);
        without(if log.is_empty() { err } else { err.kernel(log.clone()) })
    };
    if errno != Errno::EINVAL {
        return Err(explain(errno));
    }
    mount_by_string(layers, upper, work, target).map_err(|second| match second {
        Errno::E2BIG => without(Error::sys(doing(), second)),
        _ => explain(errno),
    })
}

/// The same for Linux before 6.8, which knows no `lowerdir+`: all options are one string of at most a
/// page (mount(2)), so that a layer is named by its descriptor, the shortest of its names.
fn mount_by_string(layers: &[Layer], upper: &Path, work: &Path, target: &Path) -> nix::Result<()> {
    let trees = layers.iter().rev().map(|layer| layer.tree.as_path());
    let lower: Vec<OwnedFd> = trees.map(open).collect::<nix::Result<_>>()?;
    let (upper, work, target) = (open(upper)?, open(work)?, open(target)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let names: Vec<String> = lower.iter().map(name).collect();
    let mut options = format!("upperdir={},workdir={},", name(&upper), name(&work));
    if !tree::is_host_root() {
        options += "userxattr,";
    }
    options += &format!("lowerdir={}", names.join(":"));
    // The kernel would cut off the rest, and layers with it.
    if options.len() >= PAGE {
        return Err(Errno::E2BIG);
    }
    let (flags, kind) = (MsFlags::empty(), Some("overlay"));
    nix::mount::mount(Some("lade"), name(&target).as_str(), kind, flags, Some(options.as_str()))
}

fn open(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, WALK, Mode::empty())
}

fn without(err: Error) -> Error {
    match err.errno() {
        Some(Errno::EPERM) => err.hint("only root may mount; --copy makes a plain directory"),
        Some(Errno::E2BIG) => {
            err.hint("so many layers need Linux 6.8 or newer; --copy makes a plain directory")
        }
        _ => err.hint("--copy makes a plain directory"),
    }
}

fn set(context: &FsContext, key: &std::ffi::CStr, value: &Path) -> nix::Result<()> {
    context.set(key, &path(value)?)
}

fn path(path: &Path) -> nix::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// What a layer has at a path.
enum Found {
    Nothing,
    /// A directory that it describes, or has for itself alone.
    Described,
    /// A directory that it needs only.
    Implied,
    /// A link, there or on the way there.
    Link,
    /// Something that hides everything below: no directory, or an opaque one on the way there.
    Other,
}

/// Prepares `upper` so that directories which the topmost layer needs but does not describe have
/// the attributes that a lower layer gives them; overlayfs would take the topmost's.
///
/// Returns false if attributes are not enough: a lower layer has a link there, which a directory
/// of an upper layer would hide. Only a copy can follow it.
///
/// # Errors
/// The kernel's.
pub fn prepare(layers: &[Layer], upper: &Path) -> Result<bool> {
    let roots = layers.iter().map(|l| tree::open(&l.tree)).collect::<Result<_>>()?;
    let stack = Stack { layers, roots };
    let implicit: BTreeSet<&[u8]> =
        layers.iter().flat_map(|l| l.unpacked.implicit.iter().map(Vec::as_slice)).collect();
    // By path, so that a directory comes before what is in it. The root is always the upper's.
    let mut described = BTreeMap::new();
    for path in implicit.into_iter().chain([&b""[..]]) {
        let doing = || format!("look at {} in the layers", tree::show(path));
        match stack.shown(path).doing(doing)? {
            Shown::Other(layer) => stack.with_parents(path, layer, &mut described).doing(doing)?,
            Shown::Topmost(_) | Shown::Nothing => {}
            Shown::Link => return Ok(false),
        }
    }
    let at = tree::open(upper)?;
    // The root of an image that does not describe it.
    fchmodat(&at, ".", Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)
        .and_then(|()| make(&at, &stack.roots, &described))
        .doing(|| format!("prepare {}", upper.display()))?;
    Ok(true)
}

/// Makes the directories, then gives them the attributes of those found in the layers: the
/// deepest first, because making something in a directory changes its time.
fn make(
    upper: &OwnedFd,
    roots: &[OwnedFd],
    described: &BTreeMap<Vec<u8>, usize>,
) -> nix::Result<()> {
    for path in described.keys().filter(|path| !path.is_empty()) {
        mkdirat(upper, path.as_slice(), Mode::S_IRWXU)?;
    }
    for (path, layer) in described.iter().rev() {
        let root = roots.get(*layer).ok_or(Errno::ENOENT)?;
        let from = tree::beneath(root.as_fd(), path, WALK)?;
        let stat = tree::stat(&from, b"")?.ok_or(Errno::ENOENT)?;
        copy::describe(&from, &tree::beneath(upper.as_fd(), path, WALK)?, b"", &stat)?;
    }
    Ok(())
}

/// What is to be seen at a path. Layers are told by their numbers: there may be more directories than
/// a process may have open.
enum Shown {
    /// A directory as the topmost layer that has it says, which is how overlayfs shows it.
    Topmost(usize),
    /// A directory with the attributes that another layer gives it.
    Other(usize),
    /// A link of a lower layer where an upper one needs a directory.
    Link,
    /// No directory.
    Nothing,
}

/// The layers and their opened trees.
struct Stack<'a> {
    layers: &'a [Layer],
    roots: Vec<OwnedFd>,
}

impl Stack<'_> {
    fn shown(&self, path: &[u8]) -> nix::Result<Shown> {
        let mut implied = None;
        for (number, (layer, root)) in self.layers.iter().zip(&self.roots).enumerate().rev() {
            match look(layer, root, path)? {
                Found::Nothing => {}
                Found::Implied => implied = implied.or(Some(number)),
                // The topmost root is that of `upper`, which says nothing.
                Found::Described if implied.is_some() || path.is_empty() => {
                    return Ok(Shown::Other(number));
                }
                Found::Described => return Ok(Shown::Topmost(number)),
                Found::Link if implied.is_some() => return Ok(Shown::Link),
                Found::Link | Found::Other => break,
            }
        }
        Ok(implied.map_or(Shown::Nothing, Shown::Topmost))
    }

    /// Adds `path`, and the directories above it, which `upper` then has to have as well.
    fn with_parents(
        &self,
        path: &[u8],
        layer: usize,
        described: &mut BTreeMap<Vec<u8>, usize>,
    ) -> nix::Result<()> {
        for parent in tree::above(path) {
            if !described.contains_key(parent)
                && let Shown::Topmost(layer) | Shown::Other(layer) = self.shown(parent)?
            {
                described.insert(parent.to_vec(), layer);
            }
        }
        described.insert(path.to_vec(), layer);
        Ok(())
    }
}

/// What `path` is in one layer; links are not followed on the way.
fn look(layer: &Layer, root: &OwnedFd, path: &[u8]) -> nix::Result<Found> {
    let mut at = root.try_clone().map_err(|_| Errno::EMFILE)?;
    let mut alone = false;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        alone = alone || tree::is_opaque(&at, b"")?;
        let Some(stat) = tree::stat(&at, part)? else {
            return Ok(if alone { Found::Other } else { Found::Nothing });
        };
        match tree::file_type(&stat) {
            SFlag::S_IFDIR => {}
            SFlag::S_IFLNK => return Ok(Found::Link),
            _ => return Ok(Found::Other),
        }
        at = tree::child(&at, part, WALK)?;
    }
    Ok(match layer.unpacked.implicit.contains(path) && !alone {
        true => Found::Implied,
        false => Found::Described,
    })
}

/// Unmounts `target`; not an error if nothing is mounted there.
///
/// # Errors
/// The kernel's: `EBUSY` while it is in use.
pub fn unmount(target: &Path) -> Result<()> {
    match nix::mount::umount2(target, nix::mount::MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        // Who may not mount has mounted nothing.
        Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => Ok(()),
        Err(errno) => {
            let err = Error::sys(format!("unmount {}", target.display()), errno);
            Err(if errno == Errno::EBUSY { err.hint("something still uses it") } else { err })
        }
    }
}

/// Makes the empty directories of an overlay in `dir`: upper and work.
///
/// # Errors
/// The kernel's.
pub fn directories(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    for path in [&upper, &work] {
        fs::create_dir(path).doing(|| format!("make {}", path.display()))?;
    }
    Ok((upper, work))
}
