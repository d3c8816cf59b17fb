//! The payload: its program, arguments, environment, limits, and the last moments before it runs.

use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, makedev, mknodat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{AccessFlags, access};

use crate::error::{Doing, Error, Result};
use crate::path::{as_path, c_string, file_type};
use crate::spec::config;
use crate::spec::names::RLIMITS;
use crate::sys;
use crate::sys::mount::{FsContext, attr};
use crate::sys::process::Strings;

/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the container's /etc/passwd is read at most, in bytes.
const PASSWD_LIMIT: u64 = 1 << 20;

/// A resource limit.
#[derive(Debug, Clone)]
pub struct Rlimit {
    /// Its name, `RLIMIT_NOFILE`.
    pub name: &'static str,
    resource: u32,
    soft: u64,
    hard: u64,
}

impl Rlimit {
    /// Reads entry `index` of `process.rlimits`.
    pub fn plan(index: usize, entry: &config::Rlimit) -> Result<Self> {
        let known = RLIMITS.iter().find(|(name, _)| *name == entry.kind);
        let &(name, resource) = known.ok_or_else(|| {
            Error::new(format!("unknown resource limit \"{}\"", entry.kind))
                .at(format!("process.rlimits[{index}].type"))
        })?;
        Ok(Rlimit { name, resource, soft: entry.soft, hard: entry.hard })
    }

    /// Whether the hard limit is above the caller's own, which takes CAP_SYS_RESOURCE.
    pub fn is_raised(&self) -> bool {
        sys::process::rlimit(self.resource).is_ok_and(|(_, hard)| self.hard > hard)
    }

    /// Whether a file of `size` bytes is too large under it.
    pub fn is_below(&self, size: usize) -> bool {
        self.name == "RLIMIT_FSIZE" && self.soft < size as u64
    }

    /// Sets it for the process `pid`; 0 is this one.
    pub fn apply(&self, pid: i32) -> Result<()> {
        sys::process::set_rlimit(pid, self.resource, self.soft, self.hard).map_err(|errno| {
            let what = format!("error setting rlimit type {} ({})", self.resource, self.name);
            let err = Error::sys(what, errno);
            if errno != Errno::EPERM {
                return err;
            }
            err.hint("raising a hard limit needs CAP_SYS_RESOURCE, which tare does not have here")
        })
    }
}

/// What is executed in the end.
#[derive(Debug)]
pub struct Payload {
    /// Arguments, the program's name first.
    pub args: Strings,
    /// The environment, without HOME if the configuration has none.
    env: Vec<CString>,
    /// Its working directory, absolute.
    pub cwd: PathBuf,
    /// The user id that HOME is looked up for.
    uid: u32,
}

impl Payload {
    /// Reads `process`.
    pub fn plan(process: &config::Process) -> Result<Self> {
        Ok(Payload {
            args: Strings::new(c_strings(&process.args)?),
            env: last_of_each(c_strings(&process.env)?),
            cwd: PathBuf::from(&process.cwd),
            uid: process.user.uid,
        })
    }

    /// The environment, completed by HOME from the container's /etc/passwd (as runc does).
    pub fn environment(&self, listen_fds: Option<u32>) -> Result<Strings> {
        let mut env = self.env.clone();
        if !env.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
            let home = home_of(self.uid).unwrap_or_else(|| "/".into());
            env.extend(CString::new(format!("HOME={home}")));
        }
        if let Some(count) = listen_fds {
            env.extend(CString::new(format!("LISTEN_FDS={count}")));
            env.push(c"LISTEN_PID=1".into());
        }
        Ok(Strings::new(env))
    }

    /// Finds the program as execvp(3) would, as the user that is to run it.
    ///
    /// # Errors
    /// In Go's words, which engines look for: `exec: "x": executable file not found in $PATH`.
    pub fn find(&self) -> Result<CString> {
        self.find_by(&executable)
    }

    /// The same, where `executable` tells what may be executed.
    pub fn find_by(
        &self,
        executable: &dyn Fn(&CStr) -> std::result::Result<(), Errno>,
    ) -> Result<CString> {
        let name = self.args.strings().first().map_or(c"", |name| name.as_c_str());
        if name.to_bytes().contains(&b'/') {
            return match executable(name) {
                Ok(()) => Ok(name.into()),
                Err(errno) => Err(refused(name, errno)),
            };
        }
        let mut denied = None;
        let dirs = self.search_path().split(|b| *b == b':');
        for dir in dirs.filter(|_| !self.search_path().is_empty()) {
            let candidate = c_string(Path::new(OsStr::from_bytes(dir)).join(as_path(name)))?;
            match executable(&candidate) {
                Ok(()) if dir.starts_with(b"/") => return Ok(candidate),
                Ok(()) => return Err(relative(name)),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR) => {}
                Err(_) => denied = Some(candidate),
            }
        }
        let name = name.to_string_lossy();
        let missing = format!("exec: \"{name}\": executable file not found in $PATH");
        let missing = Error::new(missing).at("process.args[0]");
        Err(match denied {
            Some(path) => missing.hint(format!("{} may not be executed", path.to_string_lossy())),
            None => missing.hint(
                "the program is looked for in the PATH of process.env, in the container's root file \
                 system",
            ),
        })
    }

    fn search_path(&self) -> &[u8] {
        let found = self.env.iter().rev().find_map(|e| e.to_bytes().strip_prefix(b"PATH="));
        found.unwrap_or(DEFAULT_PATH.as_bytes())
    }
}

/// Go's refusal of a program that PATH has found in the working directory: that may be a volume which
/// others write to.
fn relative(name: &CStr) -> Error {
    let name = name.to_string_lossy();
    Error::new(format!(
        "exec: \"{name}\": cannot run executable found relative to current directory"
    ))
    .at("process.args[0]")
    .hint(
        "PATH has an entry that is empty or does not begin with a slash: write ./ before the name",
    )
}

/// The error of a program at a path that cannot be executed, in the words that callers of runc know.
fn refused(path: &CStr, errno: Errno) -> Error {
    let err = Error::sys(format!("exec {}", path.to_string_lossy()), errno).at("process.args[0]");
    match errno {
        Errno::ENOENT => err.hint("the path is looked up in the container's root file system"),
        Errno::EACCES => err.hint("the file has to be executable by the user of the process"),
        _ => err,
    }
}

/// Of variables that are given several times the last one counts, as for runc: getenv(3) would
/// find the first. An empty HOME is none.
fn last_of_each(mut env: Vec<CString>) -> Vec<CString> {
    let mut seen = config::Map::new();
    let mut is_new = |entry: &CString| {
        let name = entry.to_string_lossy().split('=').next().map(str::to_owned);
        seen.insert(name.unwrap_or_default(), String::new()).is_none()
    };
    env.reverse();
    env.retain(|entry| is_new(entry) && entry.to_bytes() != b"HOME=");
    env.reverse();
    env
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().map(|text| Ok(c_string(text)?)).collect()
}

/// Whether `path` is a file that this process may execute.
pub fn executable(path: &CStr) -> std::result::Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if file_type(&stat) == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    access(path, AccessFlags::X_OK)
}

/// The home directory of `uid` in the container's /etc/passwd; `None` if there is no such line.
/// The file comes with the image: it may be a FIFO, a device or endless.
fn home_of(uid: u32) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = nix::fcntl::open("/etc/passwd", flags, Mode::empty()).ok()?;
    if file_type(&fstat(&file).ok()?) != SFlag::S_IFREG {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(PASSWD_LIMIT).read_to_end(&mut text).ok()?;
    home_in(&String::from_utf8_lossy(&text), uid)
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let matches = fields.nth(2)?.parse() == Ok(uid);
        fields.nth(2).filter(|home| matches && !home.is_empty()).map(String::from)
    })
}

/// Goes to the working directory `cwd`, and makes sure that it lies in the container: a descriptor
/// leaked from the host must not serve as one (CVE-2024-21626).
pub fn change_directory(cwd: &Path) -> Result<()> {
    nix::unistd::chdir(cwd)?;
    match nix::unistd::getcwd() {
        Ok(dir) if dir.is_absolute() && !dir.starts_with("(unreachable)") => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(Error::new(format!(
            "current working directory {} is outside of container mount namespace root",
            cwd.display()
        ))),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the working directory if the image lacks it (runc does so too).
pub fn make_directory(root: &crate::path::Root, cwd: &Path) -> Result<()> {
    match root.make_dir(cwd) {
        // Not for this user to make, or not a directory: going there tells more precisely.
        Ok(_) | Err(Errno::EACCES | Errno::EROFS | Errno::ENOTDIR | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the standard descriptors to the user of the payload, so that it can open /dev/stdout.
/// /dev/null becomes the container's; what belongs to other file systems' owners stays as it is.
/// `known` is what they are, of those that have been looked at.
pub fn own_stdio(uid: u32, known: [Option<FileStat>; 3]) -> Result<()> {
    let mut null = None;
    for (fd, known) in (0..).map(sys::process::stdio).zip(known) {
        let Some(stat) = known.or_else(|| fstat(fd).ok()) else { continue };
        if is_null(&stat) {
            if null.is_none() {
                null = Some(own_null()?);
            }
            if let Some(Some(own)) = &null {
                sys::process::dup_to(own.as_fd(), fd.as_raw_fd())?;
            }
            continue;
        }
        if stat.st_uid == uid || (known.is_some() && !is_own(fd, &stat)) {
            continue;
        }
        give(fd, uid, None)?;
    }
    null.flatten().into_iter().for_each(sys::process::close_later);
    Ok(())
}

/// Makes a user, and a group, the owner of what is behind a standard descriptor, where that is possible.
pub fn give(fd: BorrowedFd, user: u32, group: Option<u32>) -> Result<()> {
    match sys::security::chown_fd(fd, user, group) {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::EBADF) => Ok(()),
        Err(errno) => Err(Error::sys(format!("chown descriptor {}", fd.as_raw_fd()), errno)),
    }
}

/// Whether what is behind a caller's descriptor is the payload's to have: neither the null device nor a
/// pipe in the file system, which are others' too.
pub fn is_own(fd: BorrowedFd, stat: &FileStat) -> bool {
    /// linux/magic.h
    const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);
    let is_anonymous = || fstatfs(fd).is_ok_and(|found| found.filesystem_type() == PIPEFS_MAGIC);
    !is_null(stat) && (file_type(stat) != SFlag::S_IFIFO || is_anonymous())
}

/// The container's /dev/null; through the host's the payload could change the owner and the mode of
/// the host's file, for which it might take its own away: it gets one that is nowhere else then. None
/// where devices cannot be made or opened at all.
fn own_null() -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let own = nix::fcntl::open("/dev/null", flags, Mode::empty());
    let own = own.ok().filter(|null| fstat(null).is_ok_and(|stat| is_null(&stat)));
    match own.map_or_else(|| new_null(flags), Ok) {
        Err(Errno::EACCES | Errno::EPERM) => Ok(None),
        null => null.doing(|| "make a null device in place of the host's").map(Some),
    }
}

/// A null device in a file system that is mounted nowhere.
fn new_null(flags: OFlag) -> nix::Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.create()?;
    let place = context.mount(attr::NOSUID | attr::NOEXEC)?;
    let mode = Mode::from_bits_truncate(0o666);
    mknodat(&place, c"null", SFlag::S_IFCHR, mode, makedev(1, 3))?;
    // Whatever the umask has left.
    fchmodat(&place, c"null", mode, FchmodatFlags::FollowSymlink)?;
    openat(&place, c"null", flags, Mode::empty())
}

/// Whether it is the null device.
pub fn is_null(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3)
}

/// Has the payload start with no signal ignored or blocked, whatever the runtime and its caller
/// (nohup(1), a service of systemd) made of them: that would stay so over execve(2). `ignored` has a bit
/// for each of the signals 1 to 31 that may be.
pub fn reset_signals(ignored: i32) -> Result<()> {
    sys::process::default_signals(ignored);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).doing(|| "unblock signals")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_by_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/srv/web:/bin/false\nx:x:44:44:::\n";
        assert_eq!(home_in(passwd, 33).as_deref(), Some("/srv/web"));
        assert_eq!(home_in(passwd, 44), None);
        assert_eq!(home_in(passwd, 1), None);
    }

    #[test]
    fn the_last_of_several_variables_counts() {
        let env = ["A=1", "HOME=/x", "B=2", "A=3", "HOME="].map(|e| CString::new(e).unwrap());
        assert_eq!(last_of_each(env.to_vec()), [c"B=2", c"A=3"].map(CString::from));
    }

    #[test]
    fn rlimit_table_is_sorted() {
        assert!(RLIMITS.is_sorted());
    }
}
