//! The only ways to touch a root file system or /proc: a path is resolved once, beneath a root
//! descriptor and without magic links, and from then on the descriptor is used.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

use crate::sys;

/// How many symbolic links are followed before a path counts as a loop (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// How many places [`Root::way`] follows links at, for each level of them: a path has 2048 parts at most.
const LONGEST_WAY: usize = 2048;

/// A directory as the root of all look-ups: `/` and `..` never leave it (openat2(2),
/// `RESOLVE_IN_ROOT`).
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    last: RefCell<Option<(PathBuf, Rc<OwnedFd>)>>,
}

impl Root {
    /// Takes a descriptor of the root directory.
    pub fn new(dir: OwnedFd) -> Self {
        Root { dir, last: RefCell::default() }
    }

    /// Opens the directory `path` of the host as a root.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).map(Root::new)
    }

    /// Leaves what it holds to the next closing of everything.
    pub fn close_later(self) {
        sys::process::close_later(self.dir);
        let last = self.last.into_inner().and_then(|(_, dir)| Rc::into_inner(dir));
        last.into_iter().for_each(sys::process::close_later);
    }

    /// Resolves `path` to a path descriptor.
    pub fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlag::O_PATH, ResolveFlag::empty())
    }

    /// Resolves `path`, refusing a symbolic link at its end with `ELOOP`, as well as one that leads to the
    /// root for its directory: what is made there would be beneath the mount that `path` means.
    pub fn resolve_plain(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let plain = ResolveFlag::RESOLVE_NO_SYMLINKS;
        match (self.open_with(path, OFlag::O_PATH, plain), split(path)) {
            // Most often there is none on its way either.
            (Err(Errno::ELOOP), Some((parent, name))) => {
                let dir = Root::new(self.resolve(parent)?);
                if sys::mount::identity(&dir.dir)? == sys::mount::identity(&self.dir)? {
                    return Err(Errno::ELOOP);
                }
                dir.open_with(Path::new(name), OFlag::O_PATH, plain)
            }
            (other, _) => other,
        }
    }

    /// Resolves the directory `path`, refusing symbolic links with `ELOOP`, anything else with
    /// `ENOTDIR`; makes it if only its last name is missing.
    pub fn make_plain_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match (self.resolve_dir(path), split(path)) {
            (Err(Errno::ENOENT), Some((parent, name))) => {
                let dir = self.resolve_dir(parent)?;
                mkdirat(&dir, name, Mode::from_bits_truncate(0o755))?;
                sys::process::close_later(dir);
                self.resolve_dir(path)
            }
            (other, _) => other,
        }
    }

    fn resolve_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        self.open_with(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn open_with(&self, path: &Path, flags: OFlag, more: ResolveFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // A rename or mount elsewhere during the walk is answered with EAGAIN: walk again.
        for _ in 0..128 {
            match openat2(&self.dir, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Resolves the directory `path`, making what is missing of it with mode 0755 (less the
    /// umask). Symbolic links are followed beneath the root, also to places not there yet.
    pub fn make_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.resolve(path) {
            Err(Errno::ENOENT) => self.make_last(path),
            other => other,
        }
    }

    /// Most often only the last name is missing.
    fn make_last(&self, path: &Path) -> Result<OwnedFd, Errno> {
        // What ends with `..` does so in a link's text.
        let Some((parent, name)) = split(path) else { return self.walk(path, 0) };
        match self.resolve(parent) {
            Ok(dir) => match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => self.resolve(path),
                _ => self.walk(path, 0),
            },
            Err(_) => self.walk(path, 0),
        }
    }

    /// The directory `path`, made if it is missing; the one of the call before is remembered.
    pub fn parent(&self, path: &Path) -> Result<Rc<OwnedFd>, Errno> {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((known, dir)) if known == path => Ok(Rc::clone(dir)),
            _ => {
                let dir = Rc::new(self.make_dir(path)?);
                *last = Some((path.to_path_buf(), Rc::clone(&dir)));
                Ok(dir)
            }
        }
    }

    /// Forgets what [`Root::parent`] remembers: a mount may cover it.
    pub fn forget(&self) {
        self.last.take();
    }

    /// Resolves `path`, making it an empty file with mode 0644 if it is missing, its directories
    /// too. A symbolic link is followed beneath the root.
    pub fn make_file(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.make_file_at(path, 0)
    }

    fn make_file_at(&self, path: &Path, links: usize) -> Result<OwnedFd, Errno> {
        match self.resolve(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path).ok_or(Errno::EISDIR)?;
        let dir = self.make_dir(parent)?;
        if let Some(target) = link_target(dir.as_fd(), name)? {
            return self.make_file_at(&follow(parent, &target, links)?, links + 1);
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        nix::fcntl::openat(&dir, name, flags | OFlag::O_WRONLY, mode).map(drop)?;
        self.resolve(path)
    }

    /// Makes the directory `path` one component at a time.
    fn walk(&self, path: &Path, links: usize) -> Result<OwnedFd, Errno> {
        let mut done = PathBuf::new();
        let mut dir = self.resolve(&done)?;
        let mut components = path.components();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                done.push(if component == Component::ParentDir { ".." } else { "." });
                dir = self.resolve(&done)?;
                continue;
            };
            let next = done.join(name);
            dir = match self.resolve(&next) {
                Err(Errno::ENOENT) => match link_target(dir.as_fd(), name)? {
                    Some(target) => {
                        let rest = follow(&done, &target, links)?.join(components.as_path());
                        return self.walk(&rest, links + 1);
                    }
                    None => self.make_one(dir.as_fd(), name, &next)?,
                },
                other => other?,
            };
            done = next;
        }
        Ok(dir)
    }

    /// All places that a look-up of `path` comes by, from `/` to where it ends: what is mounted on one
    /// of them takes over from there. None of them leads through a link; what is missing is as written.
    pub fn way(&self, path: &Path) -> Vec<PathBuf> {
        let mut way = vec![PathBuf::from("/")];
        self.go(PathBuf::from("/"), path, &mut way, MAX_LINKS);
        way
    }

    /// Notes the places from `at` on, and returns the last one. A link may lead to others, so many deep.
    fn go(&self, mut at: PathBuf, path: &Path, way: &mut Vec<PathBuf>, deep: usize) -> PathBuf {
        for component in path.components() {
            let next = clean(&at.join(component));
            way.push(next.clone());
            at = match self.link_at(&at, component).filter(|_| way.len() < LONGEST_WAY * deep) {
                Some(target) => self.go(at, Path::new(&target), way, deep - 1),
                None => next,
            };
        }
        at
    }

    fn link_at(&self, dir: &Path, component: Component) -> Option<OsString> {
        let Component::Normal(name) = component else { return None };
        link_target(self.resolve(dir).ok()?.as_fd(), name).ok()?
    }

    fn make_one(&self, dir: BorrowedFd, name: &OsStr, path: &Path) -> Result<OwnedFd, Errno> {
        match mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => self.resolve(path),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// `path` from the root without `.` and `..`, by its words alone: what a link would make of them does
/// not count.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// The directory part and the last name of `path`; `None` if there is no such name.
pub fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent().unwrap_or(Path::new("")), path.file_name()?))
}

/// Where the symbolic link `name` in `dir` points to; `None` if it is not one or not there.
fn link_target(dir: BorrowedFd, name: &OsStr) -> Result<Option<OsString>, Errno> {
    match nix::fcntl::readlinkat(dir, name) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The path that a link in `dir` with the text `target` stands for.
fn follow(dir: &Path, target: &OsStr, links: usize) -> Result<PathBuf, Errno> {
    if links >= MAX_LINKS {
        return Err(Errno::ELOOP);
    }
    Ok(dir.join(target))
}

/// The file type bits of `stat`.
pub fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Whether the file behind `fd` is a directory.
pub fn is_dir(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(file_type(&fstat(fd)?) == SFlag::S_IFDIR)
}

/// A procfs of our own that is mounted nowhere: what is written through it reaches the kernel,
/// whatever an image or a config has put over /proc.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// Makes a private instance for the caller's pid namespace; where the kernel or the user's
    /// rights do not allow one, opens the host's /proc after checking that it is a procfs.
    pub fn open() -> Result<Self, Errno> {
        match sys::mount::private_proc() {
            Ok(mount) => Ok(Proc(mount)),
            Err(_) => Proc::of_host(),
        }
    }

    fn of_host() -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let dir = nix::fcntl::open("/proc", flags, Mode::empty())?;
        match nix::sys::statfs::fstatfs(&dir)?.filesystem_type() {
            nix::sys::statfs::PROC_SUPER_MAGIC => Ok(Proc(dir)),
            _ => Err(Errno::ENOTSUP),
        }
    }

    /// The directory of the calling process in it, by number: `self` is a link.
    pub fn own(&self) -> Result<PathBuf, Errno> {
        Ok(nix::fcntl::readlinkat(&self.0, "self")?.into())
    }

    /// Writes `value` to the file `path`, in one call.
    pub fn write(&self, path: &Path, value: &[u8]) -> Result<(), Errno> {
        let file = self.open_file(path, OFlag::O_WRONLY)?;
        nix::unistd::write(&file, value).map(drop)
    }

    /// Opens the file `path`; neither links nor mounts are crossed on the way.
    pub fn open_file(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(&self.0, path, how)
    }
}

/// A path as a C string; `EINVAL` if it holds a NUL byte.
pub fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// A C string as a path.
pub fn as_path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tare-path-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn makes_directories_through_links_and_never_outside() {
        let dir = scratch("dirs");
        symlink("/outside/deep", dir.join("abs")).unwrap();
        symlink("../../../../up", dir.join("rel")).unwrap();
        let root = Root::open(&dir).unwrap();
        root.make_dir(Path::new("/a/b/../c")).unwrap();
        root.make_dir(Path::new("abs/x")).unwrap();
        root.make_dir(Path::new("/rel/y")).unwrap();
        for made in ["a/b", "a/c", "outside/deep/x", "up/y"] {
            assert!(dir.join(made).is_dir(), "{made}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_way_of_a_look_up() {
        let dir = scratch("way");
        std::fs::create_dir_all(dir.join("usr/bin")).unwrap();
        symlink("usr/bin", dir.join("bin")).unwrap();
        symlink("/etc/sh", dir.join("usr/bin/sh")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        let root = Root::open(&dir).unwrap();
        let way = |path: &str| root.way(Path::new(path));
        let places = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
        let real = "/ / /bin /usr /usr/bin /usr/bin/sh / /etc /etc/sh";
        assert_eq!(way("/bin/sh"), places(real));
        assert_eq!(way("bin/../no/x"), places("/ /bin /usr /usr/bin /usr /usr/no /usr/no/x"));
        assert_eq!(way("loop").last().unwrap(), Path::new("/loop"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn makes_files_where_a_dangling_link_points() {
        let dir = scratch("files");
        symlink("/etc/real", dir.join("link")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        let root = Root::open(&dir).unwrap();
        root.make_file(Path::new("/link")).unwrap();
        assert!(dir.join("etc/real").is_file());
        assert_eq!(root.make_file(Path::new("loop")).unwrap_err(), Errno::ELOOP);
        assert_eq!(root.resolve_plain(Path::new("link")).unwrap_err(), Errno::ELOOP);
        symlink("etc", dir.join("way")).unwrap();
        symlink("real", dir.join("etc/link")).unwrap();
        assert!(root.resolve_plain(Path::new("/way/real")).is_ok());
        assert_eq!(root.resolve_plain(Path::new("/way/link")).unwrap_err(), Errno::ELOOP);
        symlink("/new/no/../file", dir.join("up")).unwrap();
        root.make_file(Path::new("/up")).unwrap();
        assert!(dir.join("new/file").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
