//! The state directory: what is known of every container.
//!
//! ```text
//! /run/tare/             0700; --root, or $XDG_RUNTIME_DIR/tare for an unprivileged user
//! └── web/               0711; locked (flock) by whoever changes the container
//!     ├── state.json     replaced as a whole: written beside, then renamed
//!     └── config.json    the bundle's, as it was at create
//! ```
//! state.json is a journal: it is written before the first side effect, with the stage
//! `creating`, the planned cgroups and no pid. Whatever the runtime had done when it was killed,
//! `delete --force` finds there what to undo. It is not synced to disk: the directory is meant to
//! be on a tmpfs, and no container survives a crash of the machine.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{mkdir, unlinkat};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::rdt::Rdt;
use crate::spec::config::{Hook, Map};
use crate::sys::{lock, pidfd};

/// The version of state.json that this program writes.
pub const VERSION: u32 = 1;
/// The longest id, in bytes: it is the name of a directory (`NAME_MAX`, linux/limits.h).
const LONGEST_ID: usize = 255;
/// How long a directory without a state may stay so in another caller's hands.
const SETTLING: Duration = Duration::from_millis(200);
/// The words for a container that is not there, which callers look for.
pub const ABSENT: &str = "container does not exist";
/// The words for a container that this program does not understand.
pub const LATER: &str = "the container was created by a later version of tare";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// What the runtime itself has last done to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `create` is at work, or was killed at it.
    Creating,
    /// The process waits for `start`.
    Created,
    /// The process was released.
    Started,
}

/// A container's status as the specification names it (runtime.md, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the specification's names
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The hooks that run after `create` has ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LaterHooks {
    /// Run by `start`.
    pub poststart: Vec<Hook>,
    /// Run by `delete`.
    pub poststop: Vec<Hook>,
}

/// What state.json holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// The bundle's `ociVersion`.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// What the runtime has last done.
    pub stage: Stage,
    /// The process id of init in the runtime's pid namespace; 0 before there is one.
    #[serde(default)]
    pub pid: i32,
    /// When init was started, in clock ticks since boot (field 22 of /proc/PID/stat): with
    /// `pid` it names one process for ever.
    #[serde(default)]
    pub pid_start: u64,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// The bundle's annotations.
    #[serde(default)]
    pub annotations: Map,
    /// The container's cgroups, if it has any.
    #[serde(default)]
    pub cgroup: Option<Cgroup>,
    /// The container's group of resctrl, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Rdt>,
    /// Whether init is not the first process of a pid namespace of its own: its children then
    /// outlive it, and are ended through the cgroup.
    #[serde(default)]
    pub shared_pid_namespace: bool,
    /// Whether it was made from a checkpoint. Its processes have executed nothing since their fork.
    #[serde(default)]
    pub restored: bool,
    /// Process id and start of the criu that restores it, as of init: it may leave the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criu: Option<(i32, u64)>,
    /// The device rules in words, if an update has set others than config.json's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<String>,
    /// Hooks that are still to be run.
    #[serde(default)]
    pub hooks: LaterHooks,
}

/// What every version of state.json holds.
#[derive(Deserialize)]
struct Written {
    version: u32,
}

impl State {
    /// The state of a container that is about to be created, now.
    pub fn new(id: &str, oci_version: &str) -> State {
        State {
            version: VERSION,
            oci_version: oci_version.into(),
            id: id.into(),
            stage: Stage::Creating,
            pid: 0,
            pid_start: 0,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: crate::log::now(true),
            annotations: Map::new(),
            cgroup: None,
            rdt: None,
            shared_pid_namespace: false,
            restored: false,
            criu: None,
            devices: None,
            hooks: LaterHooks::default(),
        }
    }

    /// Whether the container does not run although it is not paused, as a cgroup above is frozen.
    pub fn frozen_above(&self) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::frozen_above)
    }

    /// Notes the process that is now the container's init; which of the signals 1 to 31 that ignores, the
    /// lowest bit is for the first.
    ///
    /// # Errors
    /// The process is gone.
    pub fn set_init(&mut self, pid: i32) -> Result<i32> {
        let found = stat(pid)?.ok_or_else(|| gone(pid))?;
        (self.pid, self.pid_start) = (pid, found.start);
        Ok(found.ignored)
    }

    /// Names the criu that is about to restore it.
    ///
    /// # Errors
    /// The process is gone.
    pub fn set_criu(&mut self, pid: i32) -> Result<()> {
        let found = stat(pid)?.ok_or_else(|| gone(pid))?;
        self.criu = Some((pid, found.start));
        Ok(())
    }

    /// The container's init, if it is alive. A zombie is not.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn init(&self) -> Result<Option<Init>> {
        match self.pid {
            ..=0 => Ok(None),
            pid => alive(pid, self.pid_start),
        }
    }

    /// The criu that restores it, if it is alive.
    ///
    /// # Errors
    /// As for init.
    pub fn criu(&self) -> Result<Option<Init>> {
        self.criu.map_or(Ok(None), |(pid, start)| alive(pid, start))
    }

    /// The JSON state of the specification that hooks read on stdin; `pid` is left out when 0.
    pub fn for_hooks(&self, status: Status) -> String {
        let mut json = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.to_string(),
            "bundle": self.bundle,
        });
        if let Some(object) = json.as_object_mut() {
            if self.pid > 0 && status != Status::Stopped {
                object.insert("pid".into(), self.pid.into());
            }
            if !self.annotations.is_empty() {
                object.insert("annotations".into(), serde_json::json!(self.annotations));
            }
        }
        json.to_string()
    }
}

/// A container's init process that was seen alive, held by a descriptor.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    fd: OwnedFd,
}

impl Init {
    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended ("container not running"); the signal does not exist.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match pidfd::signal(self.fd.as_fd(), signal) {
            Err(Errno::ESRCH) => Err(not_running()),
            result => result.doing(|| format!("send signal {signal} to process {}", self.pid)),
        }
    }

    /// Whether the process has ended or is about to: one that waits for others of its pid namespace
    /// takes long to.
    ///
    /// # Errors
    /// /proc/PID/stat cannot be read.
    pub fn is_ending(&self) -> Result<bool> {
        Ok(!stat(self.pid)?.is_some_and(|found| found.alive && !found.exiting))
    }

    /// Its number in the reader's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the process has ended; false: it has not within `limit`.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::sys(format!("wait for process {}", self.pid), errno));
                }
                Ok(_) if !stat(self.pid)?.is_some_and(|found| found.alive) => return Ok(true),
                // Only a descriptor of /proc/PID is ready too early (see pidfd::open).
                Ok(_) if left.is_zero() => return Ok(false),
                Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Init> for OwnedFd {
    fn from(init: Init) -> OwnedFd {
        init.fd
    }
}

/// What is to be done about a container whose process has ended.
pub const ENDED: &str = "its process has ended: tare delete removes it";

/// The error of commands that need a live init.
pub fn not_running() -> Error {
    Error::new("container not running")
}

/// The process of this number and start (ticks since the boot, proc(5)), if it is alive.
///
/// # Errors
/// /proc cannot be read.
pub fn alive(pid: i32, start: u64) -> Result<Option<Init>> {
    // In this order: a number that was given to another process before the descriptor was
    // opened is found out by the start time, and cannot change its owner afterwards.
    let fd = match pidfd::open(pid) {
        Err(Errno::ESRCH) => return Ok(None),
        fd => fd.doing(|| format!("open process {pid}"))?,
    };
    let alive = stat(pid)?.is_some_and(|found| found.start == start && found.alive);
    Ok(alive.then_some(Init { pid, fd }))
}

/// When the process was started, in clock ticks since boot, if it is alive.
pub fn start_of(pid: i32) -> Option<u64> {
    stat(pid).ok().flatten().filter(|found| found.alive).map(|found| found.start)
}

fn gone(pid: i32) -> Error {
    Error::sys(format!("find process {pid}"), Errno::ESRCH)
}

struct Stat {
    start: u64,
    alive: bool,
    /// Whether it has executed a program since it was forked.
    executed: bool,
    /// Whether it is in exit(2).
    exiting: bool,
    /// Which of the signals 1 to 31 it ignores.
    ignored: i32,
}

/// Flag of a process that is in exit(2) (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;
/// Flag of a process that has not called execve(2) since its fork (include/linux/sched.h).
const PF_FORKNOEXEC: u32 = 0x40;

/// Reads /proc/PID/stat (proc_pid_stat(5)); `None`: there is no such process.
fn stat(pid: i32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    let mut buffer = [0; 1024];
    let read = File::open(&path).and_then(|mut file| file.read(&mut buffer));
    let length = match read {
        Ok(length) => length,
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            return Ok(None);
        }
        Err(err) => return Err(Error::io(format!("read {path}"), &err)),
    };
    let parsed = parse_stat(buffer.get(..length).unwrap_or_default());
    parsed.map(Some).ok_or_else(|| Error::new(format!("{path} has an unknown form")))
}

/// The program's name stands in parentheses and may hold anything, so fields are counted from
/// the last one: the state is the first after it, the flags the seventh, the start time the
/// twentieth, the ignored signals the thirty-first.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let name_end = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(name_end + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    let ignored = fields.nth(10)?.parse().ok()?;
    let alive = !matches!(state, "Z" | "X");
    let executed = flags & PF_FORKNOEXEC == 0;
    Some(Stat { start, alive, executed, exiting: flags & PF_EXITING != 0, ignored })
}

/// Refuses what cannot be a container's id: it has to be one plain file name.
///
/// # Errors
/// In runc's words, with the rule as a hint.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::new("container id cannot be empty"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id == "." || id == ".." || id.len() > LONGEST_ID || !id.chars().all(fits) {
        return Err(Error::new(format!("invalid container ID format: {id:?}"))
            .hint("an id is made of letters, digits, and _ + - . (at most 255 of them)"));
    }
    Ok(())
}

/// The directory of all containers' states.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    given: bool,
}

impl Root {
    /// The directory given with `--root`, or the default one. Nothing is made here.
    ///
    /// # Errors
    /// A given path that comes down to `/`, or a working directory that is gone.
    pub fn open(given: Option<&Path>) -> Result<Root> {
        let Some(given) = given else {
            return Ok(Root { path: default_root(), given: false });
        };
        let path = absolute(given)?;
        if path == Path::new("/") {
            return Err(Error::new("Option --root argument should not be set to /"));
        }
        Ok(Root { path, given: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of a new container, and locks it.
    ///
    /// # Errors
    /// A wrong id, "container with given ID already exists", or the directory cannot be made.
    pub fn create(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let mut end = None;
        loop {
            match self.try_create(id) {
                Ok(Some(container)) => return Ok(container),
                // Removed by another caller since it was made.
                Err(err) if err.message() != ABSENT => return Err(err),
                _ => {}
            }
            let now = Instant::now();
            if now > *end.get_or_insert(now + SETTLING) {
                return Err(already_exists());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// `None`: a directory without a state that another caller holds, who is either about to write
    /// one or to remove it.
    fn try_create(&self, id: &str) -> Result<Option<Container>> {
        let path = self.path.join(id);
        match self.make(&path) {
            // What another caller has just made, or what one left that was killed before its
            // first save: the lock and the look for state.json below tell.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(Error::sys(
                    format!("create state directory {}", path.display()),
                    errno,
                )
                .hint("--root DIR names another place for states"));
            }
        }
        let container = self.container(id)?;
        let locked = container.try_lock()?;
        match container.exists()? {
            true => Err(already_exists()),
            false => Ok(locked.then_some(container)),
        }
    }

    /// mkdir(2), with the missing parents only if the first attempt says so.
    fn make(&self, path: &Path) -> nix::Result<()> {
        let mode = Mode::from_bits_truncate(0o711);
        match mkdir(path, mode) {
            Err(Errno::ENOENT) => {
                make_root(&self.path, !self.given)?;
                mkdir(path, mode)
            }
            result => result,
        }
    }

    /// The directory of an existing container, not locked.
    ///
    /// # Errors
    /// A wrong id; "container does not exist".
    pub fn container(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let path = self.path.join(id);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        match nix::fcntl::open(&path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => Err(does_not_exist()),
            dir => Ok(Container {
                dir: dir.doing(|| format!("open state directory {}", path.display()))?,
                path,
                id: id.into(),
                locked: Cell::new(false),
            }),
        }
    }

    /// The ids of all containers, sorted; entries that are no container's are left out.
    ///
    /// # Errors
    /// The directory cannot be read; the default one may be absent.
    pub fn list(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && !self.given => {
                return Ok(Vec::new());
            }
            entries => entries.doing(|| format!("open state directory {}", self.path.display()))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.doing(|| format!("read {}", self.path.display()))?;
            let name = entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok());
            ids.extend(name.filter(|_| has_state(&entry.path())));
        }
        ids.sort();
        Ok(ids)
    }
}

/// Whether there is a state in `dir`, or something that cannot be looked at now.
fn has_state(dir: &Path) -> bool {
    let found = dir.join(STATE).try_exists();
    found.unwrap_or_else(|err| err.kind() != std::io::ErrorKind::NotADirectory)
}

/// `$XDG_RUNTIME_DIR/tare` for an unprivileged user (root of a user namespace counts as one
/// unless `$USER` is root, as in runc), else /run/tare.
fn default_root() -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime_dir {
        Some(dir) if unprivileged() => Path::new(&dir).join("tare"),
        _ => PathBuf::from("/run/tare"),
    }
}

/// Whether the caller is not root, or root of a user namespace only whom `$USER` does not call root.
fn unprivileged() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return true;
    }
    std::env::var_os("USER").is_none_or(|user| user != "root") && host::is_unprivileged()
}

/// The path without `.` and `..`, beginning at `/`. Links on the way are not looked at.
///
/// # Errors
/// The working directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let mut clean = match path.is_absolute() {
        true => PathBuf::from("/"),
        false => std::env::current_dir().doing(|| "get the working directory")?,
    };
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

/// Makes the root with its parents. Below `$XDG_RUNTIME_DIR` the sticky bit keeps it from being
/// cleaned away (XDG base directory specification).
fn make_root(path: &Path, default: bool) -> nix::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let errno = |err: std::io::Error| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(errno)?;
    if default && !path.starts_with("/run/tare") {
        let mode = std::fs::Permissions::from_mode(0o1700);
        std::fs::set_permissions(path, mode).map_err(errno)?;
    }
    Ok(())
}

fn does_not_exist() -> Error {
    Error::new(ABSENT).hint("tare list shows all; --root DIR names another place")
}

fn already_exists() -> Error {
    Error::new("container with given ID already exists")
        .hint("tare delete ID removes the old one; tare list shows all")
}

/// A container's state directory.
#[derive(Debug)]
pub struct Container {
    dir: OwnedFd,
    path: PathBuf,
    id: String,
    locked: Cell<bool>,
}

impl Container {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state directory's descriptor, close-on-exec.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Locks the container, waiting for another who changes it. The lock ends with [`unlock`]
    /// or when this value is dropped, even if a child process has inherited the descriptor.
    ///
    /// [`unlock`]: Container::unlock
    ///
    /// # Errors
    /// "container does not exist": it was deleted while we waited.
    pub fn lock(&self) -> Result<()> {
        while let Err(errno) = lock::exclusive(self.dir(), true) {
            if errno != Errno::EINTR {
                return Err(Error::sys(format!("lock {}", self.path.display()), errno));
            }
        }
        self.locked.set(true);
        self.still_there()
    }

    /// As [`Container::lock`], but for one that another caller is still creating, which would be
    /// changed by `doing` as soon as it is created (runtime.md: an error).
    ///
    /// # Errors
    /// As [`Container::lock`]; the container is being created.
    pub fn lock_created(&self, doing: &str) -> Result<()> {
        if self.try_lock()? {
            return Ok(());
        }
        match self.load()?.stage {
            Stage::Creating => {
                Err(Error::new(format!("cannot {doing} a container in the creating state"))
                    .hint("another caller is still at it"))
            }
            _ => self.lock(),
        }
    }

    /// As [`Container::lock`]; false at once if another holds the lock.
    ///
    /// # Errors
    /// As [`Container::lock`].
    pub fn try_lock(&self) -> Result<bool> {
        match lock::exclusive(self.dir(), false) {
            Err(Errno::EWOULDBLOCK) => return Ok(false),
            result => result.doing(|| format!("lock {}", self.path.display()))?,
        }
        self.locked.set(true);
        self.still_there().map(|()| true)
    }

    /// Gives the lock back.
    pub fn unlock(&self) {
        if self.locked.replace(false) {
            // flock(2) knows no failure of LOCK_UN on an open descriptor.
            let _ = lock::release(self.dir());
        }
    }

    /// A removed directory has no links left.
    fn still_there(&self) -> Result<()> {
        match self.metadata()?.st_nlink {
            0 => Err(does_not_exist()),
            _ => Ok(()),
        }
    }

    fn metadata(&self) -> Result<FileStat> {
        fstat(&self.dir).doing(|| format!("stat {}", self.path.display()))
    }

    /// The user that created the container.
    ///
    /// # Errors
    /// fstat(2) fails.
    pub fn uid(&self) -> Result<u32> {
        Ok(self.metadata()?.st_uid)
    }

    /// Whether a state was ever saved: a directory without one is a leftover, not a container.
    ///
    /// # Errors
    /// The directory cannot be searched.
    pub fn exists(&self) -> Result<bool> {
        match fstatat(&self.dir, STATE, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => {
                Err(Error::sys(format!("stat {}", self.path.join(STATE).display()), errno))
            }
        }
    }

    /// Replaces state.json as a whole: whoever reads it sees the old or the new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, state: &State) -> Result<()> {
        let json =
            serde_json::to_vec(state).map_err(|err| Error::new(format!("write {STATE}: {err}")))?;
        self.write(STATE, &json)
    }

    /// Keeps a copy of the bundle's config.json.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_config(&self, config: &[u8]) -> Result<()> {
        // Nobody reads it before there is a state: it can be written in place.
        self.write_new(CONFIG, config)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let what = || format!("write {}", self.path.join(name).display());
        let new = format!(".{name}.new");
        self.write_new(&new, bytes)?;
        renameat(&self.dir, new.as_str(), &self.dir, name).doing(what)
    }

    fn write_new(&self, new: &str, bytes: &[u8]) -> Result<()> {
        let what = || format!("write {}", self.path.join(new).display());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let file = openat(&self.dir, new, flags, mode).doing(what)?;
        File::from(file).write_all(bytes).doing(what)
    }

    /// Reads state.json.
    ///
    /// # Errors
    /// "container does not exist", or the file is damaged or of a later version.
    pub fn load(&self) -> Result<State> {
        let what = || format!("read {}", self.path.join(STATE).display());
        let bytes = self.read(STATE)?.ok_or_else(does_not_exist)?;
        let state: serde_json::Result<State> = serde_json::from_slice(&bytes);
        // A later version may have changed anything but this member.
        let version = match &state {
            Ok(state) => state.version,
            Err(_) => serde_json::from_slice(&bytes).map_or(0, |Written { version }| version),
        };
        if version > VERSION {
            return Err(Error::new(LATER).hint(format!(
                "its state has version {version}, this tare reads up to {VERSION}"
            )));
        }
        state.map_err(|err| {
            Error::new(format!("{}: {err}", what()))
                .hint("tare delete --force removes a container whose state is damaged")
        })
    }

    /// The copy of the bundle's config.json.
    ///
    /// # Errors
    /// There is none.
    pub fn config(&self) -> Result<Vec<u8>> {
        let absent =
            || Error::sys(format!("read {}", self.path.join(CONFIG).display()), Errno::ENOENT);
        self.read(CONFIG)?.ok_or_else(absent)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let what = || format!("read {}", self.path.join(name).display());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            file => file.doing(what)?,
        };
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).doing(what)?;
        Ok(Some(bytes))
    }

    /// The container's status now: what the runtime did last, checked against its process and
    /// its cgroup's freezer.
    ///
    /// # Errors
    /// /proc or the cgroup cannot be read.
    pub fn status(&self, state: &State) -> Result<Status> {
        if state.init()?.is_none() {
            // Before there is a process, only the creator's lock tells that one is to come.
            let coming = state.stage == Stage::Creating && state.pid == 0 && self.busy()?;
            return Ok(if coming { Status::Creating } else { Status::Stopped });
        }
        let paused = state.cgroup.as_ref().map_or(Ok(false), Cgroup::paused);
        Ok(match state.stage {
            Stage::Creating => Status::Creating,
            _ if paused? => Status::Paused,
            Stage::Created => Status::Created,
            // `run` saves the state while the child is still at work: its root may be the host's.
            Stage::Started
                if !state.restored && stat(state.pid)?.is_some_and(|stat| !stat.executed) =>
            {
                Status::Creating
            }
            Stage::Started => Status::Running,
        })
    }

    /// Whether another process is changing the container.
    fn busy(&self) -> Result<bool> {
        if self.locked.get() {
            return Ok(false);
        }
        let free = self.try_lock()?;
        self.unlock();
        Ok(!free)
    }

    /// Removes the directory and all that is in it; state.json goes first, so that a half-removed
    /// one is no container any more.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        // What every container has goes by name; anything else is looked for only if it is there.
        let file = nix::unistd::UnlinkatFlags::NoRemoveDir;
        let known = |name| matches!(unlinkat(&self.dir, name, file), Ok(()) | Err(Errno::ENOENT));
        if [STATE, CONFIG].into_iter().all(known) {
            match nix::unistd::unlinkat(
                nix::fcntl::AT_FDCWD,
                &self.path,
                nix::unistd::UnlinkatFlags::RemoveDir,
            ) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(_) => {}
            }
        }
        let what = || format!("remove state directory {}", self.path.display());
        match unlinkat(&self.dir, STATE, nix::unistd::UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => {}
            result => result.doing(what)?,
        }
        std::fs::remove_dir_all(&self.path).doing(what)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.unlock();
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
