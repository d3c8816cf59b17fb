//! Mounts: what the entries of `mounts` mean (config.md, config-linux.md "Default Filesystems"),
//! and how each is made: detached, configured, then attached to a target resolved beneath the
//! root.

mod cgroups;
mod idmap;
mod label;
mod options;
mod string;
mod values;

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;

pub use idmap::{IdMap, Mappings};
pub use options::option_names;

use crate::error::{Error, Result};
use crate::namespaces::{KINDS, NEWCGROUP, NEWIPC, NEWNET, NEWPID};
use crate::path::{Root, as_path, c_string, is_dir};
use crate::sys::mount::attr::ATIME_MASK as ATIME;
use crate::sys::mount::{
    Attributes, FsContext, attach, attr, clone_tree, is_mount_root, set_attributes,
};
use crate::sys::process::close_later;

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

/// The kernel's own file systems and the namespaces (`CLONE_NEW*`) that they show. Only who owns such
/// a namespace may mount them.
const SHOWN: [(&CStr, u64); 4] =
    [(c"sysfs", NEWNET), (c"proc", NEWPID), (c"mqueue", NEWIPC), (c"cgroup2", NEWCGROUP)];

/// As long as a value of fsconfig(2) can be, in bytes.
const MAX_VALUE: usize = 255;

const TOO_LONG: &str =
    "the kernel takes values of up to 255 bytes; through a symbolic link a path is shorter";

const TOO_LONG_TOGETHER: &str = "the kernel takes options of less than 4096 bytes in all if one has \
                                 more than 255; through a symbolic link a path is shorter";

/// All attributes that a bind mount's options decide between them.
const BIND_ATTRIBUTES: u64 =
    attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW;

/// What the kernel locks, as statfs(2) shows it, and its word.
const LOCKED: [(u64, FsFlags, &str); 7] = [
    (attr::RDONLY, FsFlags::ST_RDONLY, "ro"),
    (attr::NOSUID, FsFlags::ST_NOSUID, "nosuid"),
    (attr::NODEV, FsFlags::ST_NODEV, "nodev"),
    (attr::NOEXEC, FsFlags::ST_NOEXEC, "noexec"),
    (ATIME, FsFlags::ST_NOATIME, "noatime"),
    (ATIME, FsFlags::ST_RELATIME, "relatime"),
    (attr::NODIRATIME, FsFlags::ST_NODIRATIME, "nodiratime"),
];

/// A word for the file system: `size=64k`, `newinstance`.
#[derive(Debug)]
pub struct FsOption {
    key: CString,
    value: Option<CString>,
    /// Position among the entry's options, for errors; `None` if it was not written there.
    index: Option<usize>,
}

impl FsOption {
    /// Of its value, in bytes.
    fn length(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.as_bytes().len())
    }
}

/// What is mounted.
#[derive(Debug)]
pub enum Kind {
    /// A file system of this type.
    FileSystem(CString),
    /// The file or directory at this path of the host; with everything below it if true.
    Bind(CString, bool),
    /// What is mounted there already gets other attributes, its file system other options.
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
    /// Whether it becomes read-only once everything in it has been made.
    read_only_later: bool,
    /// How its ids are mapped.
    id_map: Option<IdMap>,
    /// The entry of `mounts` that it comes from: the stem of JSON paths.
    at: String,
}

impl Mount {
    /// Makes the mount in the root `root`. `pinned` is a detached copy of a bind mount's source
    /// that was made by the runtime, or early, `held` one for the case that it can no longer be
    /// reached, or a file system made early. Returns a descriptor of the mount.
    pub fn perform(
        &self,
        root: &Root,
        pinned: Option<OwnedFd>,
        held: Option<OwnedFd>,
    ) -> Result<OwnedFd> {
        let pinned = match (pinned, held) {
            (None, Some(held)) if self.is_bind() => {
                Some(self.pin().or_else(|err| match err.errno() {
                    Some(Errno::EACCES) => Ok(held),
                    _ => Err(err),
                })?)
            }
            (pinned, held) => pinned.or(held),
        };
        self.make(root, pinned)
    }

    /// Has a remount with `rw` not reach the super block of what is `mounted` there, unless that is the
    /// container's own: that of a bind mount is the host's.
    pub fn spare(&mut self, mounted: Option<&Mount>) {
        if !mounted.is_some_and(|mount| matches!(mount.kind, Kind::FileSystem(_))) {
            self.options.retain(|option| option.index.is_some() || option.key.as_c_str() != c"rw");
        }
    }

    /// Whether it covers the root file system.
    pub fn is_root(&self) -> bool {
        let is_name = |part| matches!(part, std::path::Component::Normal(_));
        !matches!(self.kind, Kind::Remount) && !self.destination.components().any(is_name)
    }

    /// Whether [`Mount::perform`] leaves it writable, for [`read_only`] in the end.
    pub fn is_read_only_later(&self) -> bool {
        self.read_only_later
    }

    /// Makes the mount and returns a descriptor of it.
    fn make(&self, root: &Root, pinned: Option<OwnedFd>) -> Result<OwnedFd> {
        root.forget();
        let mount = match &self.kind {
            Kind::FileSystem(name) => {
                let mode = self.covered_mode(root, name);
                let covered = |index| root.resolve(&self.destination).map(|_| index);
                let copy_up = match self.copy_up.map(covered) {
                    Some(Err(Errno::ENOENT)) => None,
                    covered => covered.transpose().map_err(|e| self.fault(e, "destination"))?,
                };
                let (target, plain) = self.directory(root, name)?;
                let mount = match pinned {
                    Some(early) => early,
                    None if self.is_long() => self.long_file_system(name, mode, target.as_fd())?,
                    None => self.file_system(name, mode)?,
                };
                if let Some(index) = copy_up {
                    let settled = [c"mode", c"uid", c"gid"].iter().any(|key| self.tells(key));
                    crate::copyup::copy(target.as_fd(), mount.as_fd(), settled)
                        .map_err(|errno| self.fault(errno, &format!("options[{index}]")))?;
                }
                self.attach(mount.as_fd(), target, plain)?;
                mount
            }
            Kind::Bind(..) => {
                let mount = pinned.map_or_else(|| self.pin(), |early| Ok(self.in_order(early)))?;
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
                if !is_mount_root(target.as_fd()) {
                    return Err(self
                        .fault(Errno::EINVAL, "destination")
                        .hint("nothing is mounted there"));
                }
                self.reconfigure(target.as_fd())?;
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

    /// Whether it begins with a copy of what it covers.
    pub fn copies_up(&self) -> bool {
        self.copy_up.is_some()
    }

    fn is_procfs(&self) -> bool {
        matches!(&self.kind, Kind::FileSystem(name) if name.as_c_str() == c"proc")
    }

    /// Whether its ids are mapped.
    pub fn is_mapped(&self) -> bool {
        self.id_map.is_some()
    }

    /// Whether it is a bind mount.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind(..))
    }

    /// Whether it is a new mount of the file system.
    pub fn is_file_system(&self, name: &CStr) -> bool {
        matches!(&self.kind, Kind::FileSystem(kind) if kind.as_c_str() == name)
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

    /// The kernel lists mounts by age: one that was made early, to be shared, is copied in its turn.
    /// Kernels before 6.15 cannot do that.
    fn in_order(&self, early: OwnedFd) -> OwnedFd {
        let Kind::Bind(_, recursive) = self.kind else { return early };
        match self.is_shared().then(|| clone_tree(early.as_fd(), c"", recursive)) {
            Some(Ok(copy)) => {
                close_later(early);
                copy
            }
            _ => early,
        }
    }

    /// The file system, if it is one that shows what is in one of the namespaces `joined`
    /// (`CLONE_NEW*`); none if it cannot be made.
    pub fn make_early(&self, joined: u64) -> Option<OwnedFd> {
        let Kind::FileSystem(name) = &self.kind else { return None };
        let (_, shown) = SHOWN.iter().find(|(of, _)| *of == name.as_c_str())?;
        (joined & shown != 0).then(|| self.file_system(name, None).ok()).flatten()
    }

    /// As [`Mount::pin`], cut off from the propagation of its source unless it is to `share` that. With
    /// `receive`, mounts of the host still come in.
    pub fn pin_apart(&self, receive: bool, share: bool) -> Result<OwnedFd> {
        let tree = self.pin()?;
        if !(share && self.is_shared()) {
            let flag = if receive { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
            let cut = Attributes { propagation: flag.bits(), ..Attributes::default() };
            set_attributes(tree.as_fd(), cut, None, true)?;
        }
        Ok(tree)
    }

    /// The mode of the directory that a tmpfs covers, if no other is asked for: runc's containers
    /// find there what the image had.
    fn covered_mode(&self, root: &Root, name: &CStr) -> Option<CString> {
        if name != c"tmpfs" || self.tells(c"mode") {
            return None;
        }
        let covered = root.resolve(&self.destination).ok()?;
        let mode = fstat(&covered).ok()?.st_mode & 0o7777;
        c_string(format!("{mode:o}")).ok()
    }

    /// Whether the file system is told anything under `key`.
    fn tells(&self, key: &CStr) -> bool {
        self.options.iter().any(|option| option.key.as_c_str() == key)
    }

    fn file_system(&self, name: &CStr, mode: Option<CString>) -> Result<OwnedFd> {
        let context = FsContext::open(name).map_err(|errno| {
            let err = not_permitted(self.fault(errno, "type"), name);
            if errno != Errno::ENODEV {
                return err;
            }
            err.hint("the kernel has no file system of this type (see /proc/filesystems)")
        })?;
        let said = |errno| not_permitted(explain(Error::from(errno), &context.messages()), name);
        self.configure(&context)?;
        if let Some(mode) = mode {
            context.set(c"mode", &mode).map_err(said)?;
        }
        context.create().map_err(said)?;
        let mount = context.mount(self.attributes.set).map_err(said)?;
        context.close_later();
        Ok(mount)
    }

    /// Whether an option is longer than fsconfig(2) takes.
    fn is_long(&self) -> bool {
        let lengths = self.options.iter().map(FsOption::length);
        lengths.max() > Some(MAX_VALUE)
    }

    /// As [`Mount::file_system`], all options as one string.
    fn long_file_system(
        &self,
        name: &CStr,
        mode: Option<CString>,
        target: BorrowedFd,
    ) -> Result<OwnedFd> {
        let mode =
            mode.map(|mode| FsOption { key: c"mode".into(), value: Some(mode), index: None });
        let options: Vec<_> = self.options.iter().chain(&mode).collect();
        let mount = string::mount(name, &options, target).map_err(|errno| {
            let err = not_permitted(self.fault(errno, "options"), name);
            if errno == Errno::E2BIG { err.hint(TOO_LONG_TOGETHER) } else { err }
        })?;
        set_attributes(mount.as_fd(), self.attributes, None, false)?;
        Ok(mount)
    }

    fn configure(&self, context: &FsContext) -> Result<()> {
        for option in &self.options {
            let done = match &option.value {
                Some(value) => context.set(&option.key, value),
                None => context.set_flag(&option.key),
            };
            let err = match done {
                Ok(()) => continue,
                // Only mount(2) can ask for it; file systems that can count do by themselves.
                Err(Errno::EINVAL) if option.key.as_c_str() == c"iversion" => continue,
                Err(errno) => match option.index {
                    Some(i) => self.fault(errno, &format!("options[{i}]")),
                    None => option.refused(errno),
                },
            };
            return Err(match option.length() > MAX_VALUE {
                true => err.hint(TOO_LONG),
                false => explain(err, &context.messages()),
            });
        }
        Ok(())
    }

    /// Tells a mounted file system its options anew.
    fn reconfigure(&self, mounted: BorrowedFd) -> Result<()> {
        if self.options.is_empty() {
            return Ok(());
        }
        let context = FsContext::pick(mounted)?;
        self.configure(&context)?;
        let done = context.reconfigure();
        done.map_err(|errno| explain(Error::from(errno), &context.messages()))
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
            true => self.is_procfs() || is_proc(mount)?,
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
                return Err(self.misplaced(Errno::ENOTDIR));
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
        let mut clear = asked.clear | BIND_ATTRIBUTES & !asked.set;
        if asked.clear & ATIME != 0 {
            clear |= attr::NODIRATIME & !asked.set;
        }
        let all = Attributes { clear, ..asked };
        match set_attributes(mount, all, None, false) {
            Err(Errno::EPERM) => {
                let done = set_attributes(mount, asked, None, false);
                Ok(done.map_err(|errno| locked(errno, mount, asked.clear))?)
            }
            other => Ok(other?),
        }
    }

    /// Gives a bind mount that somebody else has made again the attributes that are ordered.
    pub fn restrict(&self, root: &Root) -> Result<()> {
        let restrict = || {
            let mount = root.resolve(&self.destination)?;
            self.bind_attributes(mount.as_fd())?;
            match self.recursive == Attributes::default() {
                true => Ok(()),
                false => Ok(set_attributes(mount.as_fd(), self.recursive, None, false)?),
            }
        };
        restrict().or_else(|err: Error| match err.errno() {
            // The container had unmounted it: nothing is mounted there, or there is no such place.
            Some(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            _ => Err(err),
        })
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

    /// The error of a destination where it cannot be.
    pub fn misplaced(&self, errno: Errno) -> Error {
        let err = self.fault(errno, "destination");
        match errno {
            Errno::ENOTDIR => {
                err.hint("a directory goes on a directory only, a file on a file only")
            }
            _ => err,
        }
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

/// Makes a mount read-only that was left writable until everything in it had been made.
pub fn read_only(mount: BorrowedFd) -> Result<()> {
    let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
    Ok(set_attributes(mount, attributes, None, false)?)
}

/// The root of a user namespace mounts the kernel's own file systems only of namespaces it owns.
fn not_permitted(err: Error, name: &CStr) -> Error {
    let shown = SHOWN.iter().find(|(of, _)| *of == name).map(|(_, flag)| flag);
    match KINDS.iter().find(|kind| Some(&kind.flag) == shown) {
        Some(kind) if err.errno() == Some(Errno::EPERM) => err.hint(format!(
            "in a user namespace this needs {{\"type\": \"{}\"}} in linux.namespaces, or a bind \
             mount of the host's",
            kind.name
        )),
        _ => err,
    }
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

/// Where the source is the host's, its flags stay in a user namespace (mount_namespaces(7)).
fn locked(errno: Errno, mount: BorrowedFd, clear: u64) -> Error {
    let (Errno::EPERM, Ok(found)) = (errno, fstatfs(mount)) else { return errno.into() };
    let has = |(attribute, flag, _): &&(u64, FsFlags, _)| {
        clear & attribute != 0 && found.flags().contains(*flag)
    };
    let words: Vec<&str> = LOCKED.iter().filter(has).map(|(_, _, word)| *word).collect();
    // The one without a flag.
    let words = if words.is_empty() { "strictatime".to_owned() } else { words.join(", ") };
    Error::from(errno).hint(format!(
        "the source is mounted with {words}, which cannot be taken away in a user namespace: leave out \
         the option that would"
    ))
}
