//! Mounts: what the entries of `mounts` mean (config.md, config-linux.md "Default Filesystems"),
//! and how each is made: detached, configured, then attached to a target resolved beneath the
//! root.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::fstat;
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::symlinkat;

use crate::cgroup::CgroupMount;
use crate::error::{Doing, Error, Result};
use crate::path::{Root, as_path, c_string, is_dir};
use crate::spec::config;
use crate::sys::mount::{
    Attributes, FsContext, attach, attach_at, attr, clone_tree, set_attributes,
};
use crate::sys::process::close_later;

/// What a word among a mount's options orders.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Sets the first and clears the second mask of attributes.
    Attribute(u64, u64),
    /// The same for the mount and everything below it.
    Recursive(u64, u64),
    /// Sets the propagation; for all below it too if the second is true.
    Propagation(MsFlags, bool),
    /// A bind mount, recursive if true.
    Bind(bool),
    /// Changes the attributes of what is mounted there already.
    Remount,
    /// A tmpfs begins with a copy of what it covers.
    CopyUp,
    /// A word that stands for what is the case anyway.
    Nothing,
    /// A word for the file system, without meaning for a bind mount.
    FileSystem,
}

const ATIME: u64 = attr::ATIME_MASK;

/// All words with a meaning of their own; `features` lists them. Any other goes to the file system.
const OPTIONS: &[(&str, Effect)] = &[
    ("async", Effect::FileSystem),
    ("atime", Effect::Attribute(attr::RELATIME, ATIME)),
    ("bind", Effect::Bind(false)),
    ("defaults", Effect::Nothing),
    ("dev", Effect::Attribute(0, attr::NODEV)),
    ("diratime", Effect::Attribute(0, attr::NODIRATIME)),
    ("dirsync", Effect::FileSystem),
    ("exec", Effect::Attribute(0, attr::NOEXEC)),
    ("iversion", Effect::FileSystem),
    ("lazytime", Effect::FileSystem),
    ("loud", Effect::Nothing),
    ("mand", Effect::FileSystem),
    ("noatime", Effect::Attribute(attr::NOATIME, ATIME)),
    ("nodev", Effect::Attribute(attr::NODEV, 0)),
    ("nodiratime", Effect::Attribute(attr::NODIRATIME, 0)),
    ("noexec", Effect::Attribute(attr::NOEXEC, 0)),
    ("noiversion", Effect::Nothing),
    ("nolazytime", Effect::FileSystem),
    ("nomand", Effect::FileSystem),
    ("norelatime", Effect::Attribute(attr::STRICTATIME, ATIME)),
    ("nostrictatime", Effect::Attribute(attr::RELATIME, ATIME)),
    ("nosuid", Effect::Attribute(attr::NOSUID, 0)),
    ("nosymfollow", Effect::Attribute(attr::NOSYMFOLLOW, 0)),
    ("private", Effect::Propagation(MsFlags::MS_PRIVATE, false)),
    ("ratime", Effect::Recursive(attr::RELATIME, ATIME)),
    ("rbind", Effect::Bind(true)),
    ("rdev", Effect::Recursive(0, attr::NODEV)),
    ("rdiratime", Effect::Recursive(0, attr::NODIRATIME)),
    ("relatime", Effect::Attribute(attr::RELATIME, ATIME)),
    ("remount", Effect::Remount),
    ("rexec", Effect::Recursive(0, attr::NOEXEC)),
    ("rnoatime", Effect::Recursive(attr::NOATIME, ATIME)),
    ("rnodev", Effect::Recursive(attr::NODEV, 0)),
    ("rnodiratime", Effect::Recursive(attr::NODIRATIME, 0)),
    ("rnoexec", Effect::Recursive(attr::NOEXEC, 0)),
    ("rnorelatime", Effect::Recursive(attr::STRICTATIME, ATIME)),
    ("rnostrictatime", Effect::Recursive(attr::RELATIME, ATIME)),
    ("rnosuid", Effect::Recursive(attr::NOSUID, 0)),
    ("rnosymfollow", Effect::Recursive(attr::NOSYMFOLLOW, 0)),
    ("ro", Effect::Attribute(attr::RDONLY, 0)),
    ("rprivate", Effect::Propagation(MsFlags::MS_PRIVATE, true)),
    ("rrelatime", Effect::Recursive(attr::RELATIME, ATIME)),
    ("rro", Effect::Recursive(attr::RDONLY, 0)),
    ("rrw", Effect::Recursive(0, attr::RDONLY)),
    ("rshared", Effect::Propagation(MsFlags::MS_SHARED, true)),
    ("rslave", Effect::Propagation(MsFlags::MS_SLAVE, true)),
    ("rstrictatime", Effect::Recursive(attr::STRICTATIME, ATIME)),
    ("rsuid", Effect::Recursive(0, attr::NOSUID)),
    ("rsymfollow", Effect::Recursive(0, attr::NOSYMFOLLOW)),
    ("runbindable", Effect::Propagation(MsFlags::MS_UNBINDABLE, true)),
    ("rw", Effect::Attribute(0, attr::RDONLY)),
    ("shared", Effect::Propagation(MsFlags::MS_SHARED, false)),
    ("silent", Effect::Nothing),
    ("slave", Effect::Propagation(MsFlags::MS_SLAVE, false)),
    ("strictatime", Effect::Attribute(attr::STRICTATIME, ATIME)),
    ("suid", Effect::Attribute(0, attr::NOSUID)),
    ("symfollow", Effect::Attribute(0, attr::NOSYMFOLLOW)),
    ("sync", Effect::FileSystem),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Effect::Propagation(MsFlags::MS_UNBINDABLE, false)),
];

/// Words that the specification knows and this version does not do.
const NOT_SUPPORTED: &[&str] = &["idmap", "ridmap"];

/// Files below /proc that lxcfs and its like bind their own over: they inform, nothing trusts them.
const COVERABLE: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// All attributes that a bind mount's options decide between them.
const BIND_ATTRIBUTES: u64 =
    attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NODIRATIME | attr::NOSYMFOLLOW;

/// The words of the options that have a meaning of their own, for `features`.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// A word for the file system: `size=64k`, `newinstance`.
#[derive(Debug)]
pub struct FsOption {
    key: CString,
    value: Option<CString>,
    /// Position among the entry's options, for errors; `None` if it was not written there.
    index: Option<usize>,
}

/// What is mounted.
#[derive(Debug)]
pub enum Kind {
    /// A file system of this type.
    FileSystem(CString),
    /// The file or directory at this path of the host; with everything below it if true.
    Bind(CString, bool),
    /// What is mounted there already gets other attributes.
    Remount,
}

/// One mount, ready to be made.
#[derive(Debug)]
pub struct Mount {
    /// Where, as the container sees it.
    pub destination: PathBuf,
    /// What.
    pub kind: Kind,
    /// Its attributes.
    attributes: Attributes,
    /// Attributes of it and of everything below it.
    recursive: Attributes,
    /// Changes of propagation, in order.
    propagation: Vec<(MsFlags, bool)>,
    /// What the file system is told.
    options: Vec<FsOption>,
    /// The option that asks for a copy of what it covers.
    copy_up: Option<usize>,
    /// The entry of `mounts` that it comes from: the stem of JSON paths.
    at: String,
}

impl Mount {
    /// Reads entry `index` of `mounts`; relative sources lie below `bundle`.
    pub fn plan(index: usize, entry: &config::Mount, bundle: &Path) -> Result<Self> {
        let at = format!("mounts[{index}]");
        if !entry.uid_mappings.is_empty() || !entry.gid_mappings.is_empty() {
            return Err(not_supported(&at, "uidMappings", "an idmapped mount"));
        }
        let text = |s: &str, member: &str| c_string(s).map_err(|_| nul(&at, member));
        let kind = entry.kind.as_deref().unwrap_or_default();
        let mut mount = Mount {
            destination: Path::new("/").join(&entry.destination),
            kind: Kind::FileSystem(text(kind, "type")?),
            attributes: Attributes::default(),
            recursive: Attributes::default(),
            propagation: Vec::new(),
            options: Vec::new(),
            copy_up: None,
            at: at.clone(),
        };
        text(&entry.destination, "destination")
            .map_err(|e| e.at(format!("{}.destination", mount.at)))?;
        for (i, option) in entry.options.iter().enumerate() {
            mount.option(i, option, entry, bundle)?;
        }
        mount.settle(entry, kind, bundle)?;
        Ok(mount)
    }

    /// Adds what the word `option` orders.
    fn option(&mut self, i: usize, word: &str, entry: &config::Mount, bundle: &Path) -> Result<()> {
        if NOT_SUPPORTED.contains(&word) {
            return Err(not_supported(&self.at, &format!("options[{i}]"), word));
        }
        let known = OPTIONS.binary_search_by_key(&word, |(name, _)| name);
        match known.ok().and_then(|found| OPTIONS.get(found)).map(|(_, effect)| *effect) {
            Some(Effect::Attribute(set, clear)) => change(&mut self.attributes, set, clear),
            Some(Effect::Recursive(set, clear)) => change(&mut self.recursive, set, clear),
            Some(Effect::Propagation(flag, all)) => self.propagation.push((flag, all)),
            Some(Effect::Bind(all)) => self.kind = Kind::Bind(self.source(entry, bundle)?, all),
            Some(Effect::Remount) => self.kind = Kind::Remount,
            Some(Effect::CopyUp) => self.copy_up = Some(i),
            Some(Effect::Nothing) => {}
            Some(Effect::FileSystem) | None if word.is_empty() => {}
            Some(Effect::FileSystem) | None => self.fs_option(Some(i), word)?,
        }
        Ok(())
    }

    fn fs_option(&mut self, index: Option<usize>, word: &str) -> Result<()> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let text = |s: &str| {
            c_string(s).map_err(|_| nul(&self.at, &format!("options[{}]", index.unwrap_or(0))))
        };
        let option = FsOption { key: text(key)?, value: value.map(text).transpose()?, index };
        self.options.push(option);
        Ok(())
    }

    fn source(&self, entry: &config::Mount, bundle: &Path) -> Result<CString> {
        let source = entry.source.as_deref().filter(|s| !s.is_empty());
        let source = source.ok_or_else(|| {
            Error::new(format!("bind mount on {} has no source", entry.destination))
                .at(format!("{}.source", self.at))
        })?;
        c_string(bundle.join(source)).map_err(|_| nul(&self.at, "source"))
    }

    /// Decides what the type and the options mean together.
    fn settle(&mut self, entry: &config::Mount, kind: &str, bundle: &Path) -> Result<()> {
        if kind == "bind" && matches!(self.kind, Kind::FileSystem(_)) {
            self.kind = Kind::Bind(self.source(entry, bundle)?, false);
        }
        match &self.kind {
            // File system words on a bind mount have no meaning and are ignored by every runtime.
            Kind::Bind(..) => self.options.clear(),
            Kind::Remount => {}
            Kind::FileSystem(name) if self.copy_up.is_some() && name.as_c_str() != c"tmpfs" => {
                let at = format!("{}.options[{}]", self.at, self.copy_up.unwrap_or_default());
                return Err(Error::new("tmpcopyup is for a tmpfs only").at(at));
            }
            Kind::FileSystem(name) if name.is_empty() || kind == "none" => {
                return Err(Error::new(format!("mount on {} has no type", entry.destination))
                    .at(format!("{}.type", self.at))
                    .hint("a bind mount needs the option bind or rbind"));
            }
            Kind::FileSystem(_) => {
                let source = entry.source.as_deref().filter(|s| !s.is_empty()).unwrap_or(kind);
                self.fs_option(None, &format!("source={source}"))?;
            }
        }
        Ok(())
    }

    /// Turns a mount of type cgroup into the tmpfs that holds the v1 hierarchies; whether that is to
    /// be read-only, once they are in place.
    pub fn become_tmpfs(&mut self) -> bool {
        self.kind = Kind::FileSystem(c"tmpfs".into());
        self.options =
            vec![FsOption { key: c"mode".into(), value: Some(c"755".into()), index: None }];
        let read_only = self.attributes.set & attr::RDONLY != 0;
        self.attributes.set &= !attr::RDONLY;
        read_only
    }

    /// Makes the hierarchies below the tmpfs of [`Mount::become_tmpfs`]: the container's own
    /// directory of each or, in a cgroup namespace, a mount that shows nothing else anyway.
    pub fn perform_cgroups(
        &self,
        root: &Root,
        hierarchies: &[CgroupMount],
        namespaced: bool,
        read_only: bool,
    ) -> Result<()> {
        let tmpfs = self.make(root, None)?;
        for hierarchy in hierarchies {
            let doing = || format!("mount the cgroup hierarchy {}", hierarchy.name);
            let mount = if namespaced { fresh(hierarchy) } else { own(hierarchy) }.doing(doing)?;
            let name = c_string(&hierarchy.name)?;
            mkdirat(&tmpfs, name.as_c_str(), Mode::from_bits_truncate(0o755)).doing(doing)?;
            attach_at(mount.as_fd(), tmpfs.as_fd(), &name).doing(doing)?;
            close_later(mount);
            for link in &hierarchy.links {
                symlinkat(&*hierarchy.name, &tmpfs, &**link).doing(doing)?;
            }
        }
        let read_only = if read_only { attr::RDONLY } else { 0 };
        let safe = attr::NOSUID | attr::NODEV | attr::NOEXEC | read_only;
        set_attributes(
            tmpfs.as_fd(),
            Attributes { set: safe, ..Attributes::default() },
            None,
            true,
        )?;
        close_later(tmpfs);
        Ok(())
    }

    /// Makes the mount in the root `root`. `pinned` is a detached copy of a bind mount's source
    /// that was made while it could still be reached.
    pub fn perform(&self, root: &Root, pinned: Option<OwnedFd>) -> Result<()> {
        close_later(self.make(root, pinned)?);
        Ok(())
    }

    /// Makes the mount and returns a descriptor of it.
    fn make(&self, root: &Root, pinned: Option<OwnedFd>) -> Result<OwnedFd> {
        root.forget();
        let mount = match &self.kind {
            Kind::FileSystem(name) => {
                let mount = self.file_system(name, self.covered_mode(root, name))?;
                let (target, plain) = self.directory(root, name)?;
                if let Some(index) = self.copy_up {
                    crate::copyup::copy(target.as_fd(), mount.as_fd())
                        .map_err(|errno| self.fault(errno, &format!("options[{index}]")))?;
                }
                self.attach(mount.as_fd(), target, plain)?;
                mount
            }
            Kind::Bind(..) => {
                let mount = pinned.map_or_else(|| self.pin(), Ok)?;
                let target = if is_dir(&mount)? {
                    root.make_dir(&self.destination)
                } else {
                    root.make_file(&self.destination)
                };
                let target = target.map_err(|e| self.fault(e, "destination"))?;
                self.bind_attributes(mount.as_fd())?;
                self.attach(mount.as_fd(), target, false)?;
                mount
            }
            Kind::Remount => {
                let target = root.resolve(&self.destination);
                let target = target.map_err(|e| self.fault(e, "destination"))?;
                set_attributes(target.as_fd(), self.attributes, None, false)?;
                target
            }
        };
        self.spread(mount.as_fd())?;
        Ok(mount)
    }

    /// Whether it is to share its mounts with its source.
    pub fn is_shared(&self) -> bool {
        self.is_bind()
            && self.propagation.last().is_some_and(|(flag, _)| *flag == MsFlags::MS_SHARED)
    }

    /// Whether it is a bind mount.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind(..))
    }

    /// A detached copy of a bind mount's source.
    pub fn pin(&self) -> Result<OwnedFd> {
        let Kind::Bind(source, recursive) = &self.kind else { return Err(Errno::EINVAL.into()) };
        let here = nix::fcntl::AT_FDCWD;
        clone_tree(here, source, *recursive).map_err(|errno| {
            let err = self.fault(errno, "source");
            if errno == Errno::ENOENT {
                err.hint("the source of a bind mount has to exist")
            } else {
                err
            }
        })
    }

    /// The mode of the directory that a tmpfs covers, if no other is asked for: runc's containers
    /// find there what the image had.
    fn covered_mode(&self, root: &Root, name: &CStr) -> Option<CString> {
        if name != c"tmpfs" || self.options.iter().any(|option| option.key.as_c_str() == c"mode") {
            return None;
        }
        let covered = root.resolve(&self.destination).ok()?;
        let mode = fstat(&covered).ok()?.st_mode & 0o7777;
        c_string(format!("{mode:o}")).ok()
    }

    fn file_system(&self, name: &CStr, mode: Option<CString>) -> Result<OwnedFd> {
        let context = FsContext::open(name).map_err(|errno| {
            let err = self.fault(errno, "type");
            if errno != Errno::ENODEV {
                return err;
            }
            err.hint("the kernel has no file system of this type (see /proc/filesystems)")
        })?;
        let said = |errno: Errno, at: Option<usize>| {
            let err = match at {
                Some(i) => self.fault(errno, &format!("options[{i}]")),
                None => Error::from(errno),
            };
            explain(err, &context.messages())
        };
        for option in &self.options {
            let done = match &option.value {
                Some(value) => context.set(&option.key, value),
                None => context.set_flag(&option.key),
            };
            done.map_err(|errno| said(errno, option.index))?;
        }
        if let Some(mode) = mode {
            context.set(c"mode", &mode).map_err(|errno| said(errno, None))?;
        }
        context.create().map_err(|errno| said(errno, None))?;
        let mount = context.mount(self.attributes.set).map_err(|errno| said(errno, None))?;
        context.close_later();
        Ok(mount)
    }

    /// The directory that a file system is mounted on, and whether it was reached without a link.
    /// proc and sysfs go on real directories only: through a link they would land where the later
    /// checks do not look (CVE-2019-19921, CVE-2023-27561).
    fn directory(&self, root: &Root, name: &CStr) -> Result<(OwnedFd, bool)> {
        let strict = name == c"proc" || name == c"sysfs";
        match root.make_plain_dir(&self.destination) {
            Ok(dir) => Ok((dir, true)),
            Err(Errno::ELOOP | Errno::ENOTDIR) if strict => {
                let name = name.to_string_lossy();
                let what = format!("filesystem \"{name}\" must be mounted on ordinary directory");
                Err(Error::new(what).at(format!("{}.destination", self.at)))
            }
            Err(_) => {
                let made = root.make_dir(&self.destination);
                Ok((made.map_err(|errno| self.fault(errno, "destination"))?, false))
            }
        }
    }

    /// Nothing may cover what the runtime and others trust in /proc (CVE-2019-16884): over /proc
    /// itself only a procfs goes, and below it a bind mount over one of the files that only inform.
    fn check_proc(&self, mount: BorrowedFd, target: BorrowedFd) -> Result<()> {
        let is_proc = |fd| Ok::<_, Errno>(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC);
        let on_proc = self.destination == Path::new("/proc");
        if !on_proc && !is_proc(target)? {
            return Ok(());
        }
        let informs = |path: &&str| self.destination.strip_prefix("/proc") == Ok(Path::new(path));
        let allowed = match on_proc {
            true => is_proc(mount)?,
            false => self.is_bind() && COVERABLE.iter().any(informs),
        };
        if allowed {
            return Ok(());
        }
        let what = self.destination.display();
        Err(Error::new(format!("\"{what}\" cannot be mounted because it is inside /proc"))
            .at(format!("{}.destination", self.at))
            .hint("only a procfs may be mounted on /proc, and bind mounts on files such as /proc/uptime"))
    }

    fn attach(&self, mount: BorrowedFd, target: OwnedFd, plain: bool) -> Result<()> {
        // A path without links that does not begin at /proc does not end there either.
        if !plain || self.destination.starts_with("/proc") {
            self.check_proc(mount, target.as_fd())?;
        }
        match attach(mount, target.as_fd()) {
            // The kernel says only EINVAL; engines look for these words.
            Err(Errno::EINVAL) if is_dir(mount)? != is_dir(&target)? => {
                let err = self.fault(Errno::ENOTDIR, "destination");
                return Err(err.hint("a directory goes on a directory only, a file on a file only"));
            }
            other => other.map_err(|errno| self.fault(errno, "destination"))?,
        }
        close_later(target);
        Ok(())
    }

    /// The options of a bind mount replace the source's attributes, unless it has none at all.
    /// Attributes that the kernel locks (the source belongs to another user namespace) are kept if
    /// they were not asked to go.
    fn bind_attributes(&self, mount: BorrowedFd) -> Result<()> {
        let asked = self.attributes;
        if asked == Attributes::default() {
            return Ok(());
        }
        let all = Attributes { clear: asked.clear | BIND_ATTRIBUTES & !asked.set, ..asked };
        match set_attributes(mount, all, None, false) {
            Err(Errno::EPERM) => Ok(set_attributes(mount, asked, None, false)?),
            other => Ok(other?),
        }
    }

    /// Recursive attributes and propagation, which concern the mount once it is attached.
    fn spread(&self, mount: BorrowedFd) -> Result<()> {
        if self.recursive != Attributes::default() {
            set_attributes(mount, self.recursive, None, true)?;
        }
        for (flag, all) in &self.propagation {
            let change = Attributes { propagation: flag.bits(), ..Attributes::default() };
            set_attributes(mount, change, None, *all)?;
        }
        Ok(())
    }

    fn fault(&self, errno: Errno, member: &str) -> Error {
        Error::from(errno).at(format!("{}.{member}", self.at))
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.destination.display();
        match &self.kind {
            Kind::FileSystem(name) => write!(f, "mount {} on {on}", name.to_string_lossy()),
            Kind::Bind(source, false) => write!(f, "bind {} on {on}", as_path(source).display()),
            Kind::Bind(source, true) => write!(f, "rbind {} on {on}", as_path(source).display()),
            Kind::Remount => write!(f, "remount {on}"),
        }
    }
}

/// The container's own directory of a hierarchy.
fn own(hierarchy: &CgroupMount) -> std::result::Result<OwnedFd, Errno> {
    clone_tree(nix::fcntl::AT_FDCWD, &c_string(&hierarchy.dir)?, false)
}

/// A new mount of a hierarchy, rooted at the cgroup namespace.
fn fresh(hierarchy: &CgroupMount) -> std::result::Result<OwnedFd, Errno> {
    let context = FsContext::open(c"cgroup")?;
    for word in hierarchy.data.split(',') {
        match word.split_once('=') {
            Some((key, value)) => context.set(&c_string(key)?, &c_string(value)?)?,
            None => context.set_flag(&c_string(word)?)?,
        }
    }
    context.create()?;
    context.mount(0)
}

/// The last word decides: what it sets is no longer cleared, and the reverse.
fn change(attributes: &mut Attributes, set: u64, clear: u64) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = (attributes.clear | clear) & !(set & !ATIME);
}

/// Adds the kernel's text and, where it is about a known mistake, a cure.
fn explain(err: Error, text: &str) -> Error {
    if text.is_empty() {
        return err;
    }
    let hint = if text.contains("'size'") || text.contains("'nr_") {
        Some("a size is a number with an optional k, m, g or %")
    } else if text.contains("'mode'") {
        Some("a mode is an octal number such as 755")
    } else if text.contains("Unknown parameter") {
        Some("this file system does not know the option; tare features lists those of the runtime")
    } else {
        None
    };
    let err = err.kernel(text);
    match hint {
        Some(hint) => err.hint(hint),
        None => err,
    }
}

fn nul(at: &str, member: &str) -> Error {
    Error::new("a path or option holds a NUL character").at(format!("{at}.{member}"))
}

fn not_supported(at: &str, member: &str, what: &str) -> Error {
    Error::new(format!("{what} is not supported by this version of tare"))
        .at(format!("{at}.{member}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> config::Mount {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn table_is_sorted() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn the_last_word_decides() {
        let e = entry(
            r#"{"destination":"/a","source":"/b","options":["rbind","ro","rw","noatime","relatime"]}"#,
        );
        let mount = Mount::plan(0, &e, Path::new("/")).unwrap();
        assert_eq!(mount.attributes.set, 0);
        assert_eq!(mount.attributes.clear, attr::RDONLY | ATIME);
        assert!(matches!(mount.kind, Kind::Bind(_, true)));
    }

    #[test]
    fn refuses_what_has_no_type_and_no_source() {
        for (json, at) in [
            (r#"{"destination":"/a"}"#, "mounts[3].type"),
            (r#"{"destination":"/a","type":"bind"}"#, "mounts[3].source"),
            (r#"{"destination":"/a","type":"tmpfs","options":["ridmap"]}"#, "mounts[3].options[0]"),
        ] {
            assert_eq!(Mount::plan(3, &entry(json), Path::new("/")).unwrap_err().path(), Some(at));
        }
    }
}
