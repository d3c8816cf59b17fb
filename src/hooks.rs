//! Hooks (config.md "POSIX-platform Hooks"): programs that are run at points of a container's
//! life, with its state on their standard input.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Result};
use crate::path::c_string;
use crate::spec::config;
use crate::sys;
use crate::sys::process::Strings;

/// How much of a hook's output is quoted in an error, in bytes.
const QUOTED: usize = 4096;

/// The six points, in the order of a container's life (config.md "Summary" of the hooks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the specification's names
pub enum Point {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Point {
    /// All points, in order.
    pub const ALL: [Point; 6] = [
        Point::Prestart,
        Point::CreateRuntime,
        Point::CreateContainer,
        Point::StartContainer,
        Point::Poststart,
        Point::Poststop,
    ];

    /// The specification's name.
    pub const fn name(self) -> &'static str {
        match self {
            Point::Prestart => "prestart",
            Point::CreateRuntime => "createRuntime",
            Point::CreateContainer => "createContainer",
            Point::StartContainer => "startContainer",
            Point::Poststart => "poststart",
            Point::Poststop => "poststop",
        }
    }

    /// The hooks of this point in `hooks`.
    pub fn of(self, hooks: &config::Hooks) -> &[config::Hook] {
        match self {
            Point::Prestart => &hooks.prestart,
            Point::CreateRuntime => &hooks.create_runtime,
            Point::CreateContainer => &hooks.create_container,
            Point::StartContainer => &hooks.start_container,
            Point::Poststart => &hooks.poststart,
            Point::Poststop => &hooks.poststop,
        }
    }
}

/// One hook, ready to be run.
#[derive(Debug)]
pub struct Hook {
    /// When it runs.
    pub point: Point,
    /// Its place among the hooks of its point, from 0.
    pub index: usize,
    path: PathBuf,
    args: Vec<String>,
    env: Option<Vec<String>>,
    /// In seconds.
    timeout: Option<u32>,
}

impl Hook {
    /// The hooks of `point`, in order.
    pub fn plan(point: Point, hooks: &config::Hooks) -> impl Iterator<Item = Hook> + '_ {
        point.of(hooks).iter().enumerate().map(move |(index, hook)| Hook {
            point,
            index,
            path: PathBuf::from(&hook.path),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout.and_then(|t| u32::try_from(t).ok()).filter(|t| *t > 0),
        })
    }

    /// Its program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path in `config.json`.
    pub fn at(&self) -> String {
        format!("hooks.{}[{}]", self.point.name(), self.index)
    }

    /// Runs it to its end with `state` (JSON) on its standard input, in the directory `cwd`, or where
    /// this process is: the payload's user may be in a directory that it cannot enter.
    /// It gets its own environment only, never the runtime's; one that names none gets `env`.
    /// With `init`, a process descriptor, it is killed when that process ends: nobody waits for a
    /// hook that prepares a container which was deleted meanwhile.
    ///
    /// # Errors
    /// It cannot be started, fails, runs longer than its time-out (then it is killed), or `init`
    /// ended.
    pub fn run(
        &self,
        state: &[u8],
        env: &[CString],
        cwd: Option<&Path>,
        init: Option<BorrowedFd>,
    ) -> Result<()> {
        let done = self.perform(state, env, cwd, init);
        done.map_err(|err| err.or_doing(|| self.to_string()).at(self.at()))
    }

    fn perform(
        &self,
        state: &[u8],
        env: &[CString],
        cwd: Option<&Path>,
        init: Option<BorrowedFd>,
    ) -> Result<()> {
        let name = format!("error running {} hook #{}", self.point.name(), self.index);
        let fail = |what: String| Error::new(format!("{name}: {what}"));
        // Files in memory in place of pipes: a hook that does not read or that writes much can
        // neither block the runtime nor kill it with SIGPIPE.
        let (stdin, stdout, stderr) = (memory(state)?, memory(b"")?, memory(b"")?);
        let start = |file: &File| file.try_clone().map(Stdio::from);
        let mut command = Command::new(&self.path);
        if let Some(cwd) = cwd {
            command.current_dir(cwd);
        }
        command
            .process_group(0)
            .stdin(Stdio::from(stdin))
            .stdout(start(&stdout).map_err(|e| Error::io(&name, &e))?)
            .stderr(start(&stderr).map_err(|e| Error::io(&name, &e))?);
        let (args, env) = self.strings(env)?;
        sys::spawn::unblocked(&mut command);
        let child = sys::spawn::exactly(&mut command, c_string(&self.path)?, args, env).spawn();
        let child = child.map_err(|e| self.not_started(&name, &e))?;
        match self.wait(child, init)? {
            Wait::TimeOut => Err(fail(format!(
                "hook ran past specified timeout of {}.0s",
                self.timeout.unwrap_or(0)
            ))
            .at(format!("{}.timeout", self.at()))),
            Wait::InitEnded => Err(fail("the container's process ended meanwhile".into())),
            Wait::Ended(status) if status.success() => Ok(()),
            Wait::Ended(status) => {
                let (out, err) = (quote(stdout), quote(stderr));
                let what = format!("{}, stdout: {out}, stderr: {err}", end(status));
                Err(fail(what))
            }
        }
    }

    fn not_started(&self, name: &str, err: &std::io::Error) -> Error {
        let errno = err.raw_os_error();
        let err = Error::io(format!("{name}: fork/exec {}", self.path.display()), err);
        let err = err.at(format!("{}.path", self.at()));
        match errno {
            Some(libc::ENOENT) => {
                err.hint("the program of the hook, or its interpreter, is missing")
            }
            Some(libc::EACCES) => err.hint("a hook is a file that may be executed"),
            Some(libc::ENOEXEC) => {
                err.hint("it is neither a program for this architecture nor a script with #!")
            }
            _ => err,
        }
    }

    /// Its arguments, which are its path if none are given, and its environment, or else `env`.
    fn strings(&self, env: &[CString]) -> Result<(Strings, Strings)> {
        let list = |texts: &[String]| -> Result<Vec<_>> {
            texts.iter().map(|text| Ok(c_string(text)?)).collect()
        };
        let mut args = list(&self.args)?;
        if args.is_empty() {
            args.push(c_string(&self.path)?);
        }
        let env = self.env.as_deref().map_or_else(|| Ok(env.to_vec()), list)?;
        Ok((Strings::new(args), Strings::new(env)))
    }

    /// Waits for the end, and kills what must not be waited for any longer.
    fn wait(&self, mut child: Child, init: Option<BorrowedFd>) -> Result<Wait> {
        let early = match (self.timeout, init) {
            (None, None) => Ok(None),
            (timeout, init) => self.watch(&child, timeout, init),
        };
        if !matches!(early, Ok(None)) {
            // The whole group: a hook is often a shell that waits for what really hangs. Nothing is
            // lost if it ended just now: the wait below collects it either way.
            let _ = sys::kill::kill(-(child.id() as i32), libc::SIGKILL);
        }
        let status = child.wait().map_err(|e| Error::io("wait for a hook", &e))?;
        Ok(early?.unwrap_or(Wait::Ended(status)))
    }

    /// Waits for the first that ends: the hook (`None`), its time, or init.
    fn watch(
        &self,
        child: &Child,
        timeout: Option<u32>,
        init: Option<BorrowedFd>,
    ) -> Result<Option<Wait>> {
        let pidfd = sys::pidfd::open(child.id() as i32)?;
        let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd> =
            std::iter::once(pidfd.as_fd()).chain(init).map(watched).collect();
        let wait = timeout.map_or(PollTimeout::NONE, |seconds| {
            PollTimeout::try_from(seconds.saturating_mul(1000)).unwrap_or(PollTimeout::MAX)
        });
        loop {
            match poll(&mut fds, wait) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Ok(Some(Wait::TimeOut)),
                Ok(_) => {
                    let ended = fds.first().is_some_and(|fd| fd.any() == Some(true));
                    return Ok((!ended).then_some(Wait::InitEnded));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What ended the wait for a hook.
enum Wait {
    Ended(ExitStatus),
    TimeOut,
    InitEnded,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} hook #{} {}", self.point.name(), self.index, self.path.display())
    }
}

/// How a process ended, in Go's words.
fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", sys::process::signal_words(signal)),
        (None, None) => "unknown end".into(),
    }
}

fn memory(content: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create(c"hook", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)
        .and_then(|()| file.rewind())
        .map_err(|e| Error::io("write state", &e))?;
    Ok(file)
}

fn quote(mut file: File) -> String {
    let mut text = Vec::new();
    let read = file.rewind().and_then(|()| file.take(QUOTED as u64).read_to_end(&mut text));
    if read.is_err() {
        text.clear();
    }
    String::from_utf8_lossy(&text).trim_end().to_string()
}
