//! `lade run`: a bundle under the store, `tare run` on it, and the removal of both.
//!
//! In the foreground lade stays the parent of tare, passes signals on, and removes the bundle
//! when tare has ended. Detached, the container is left to `lade delete`, or with `--rm` to a
//! process in the background that waits for the container's end. Who runs it is noted for these in
//! `.lade/runtime.json` and `.lade/init` of its bundle.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::config::Overrides;
use super::store::{ImageRecord, Store};
use super::{bundle, tree};
use crate::error::{Doing, Error, Result};
use crate::state;
use crate::sys::{pidfd, spawn};

/// Signals that are passed on to the container.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];
/// How long a process may take to end after SIGKILL.
const LIMIT: Duration = Duration::from_secs(10);
/// `si_code` of a signal from the kernel, such as a terminal's (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// How to run a container.
#[derive(Debug, Default)]
pub struct Options {
    /// Name of the container; one is made up if there is none.
    pub name: Option<String>,
    /// Return when it has started.
    pub detach: bool,
    /// Remove it when it ends, which only a detached container does not do anyway.
    pub remove: bool,
    /// A plain directory instead of an overlay.
    pub copy: bool,
    /// What the user wants otherwise than the image says.
    pub overrides: Overrides,
}

/// Runs a container of `image`; returns the exit code for lade itself.
///
/// # Errors
/// Those of [`bundle::create`]; a name in use; no runtime. tare reports its own errors.
pub fn run(store: &Store, image: &ImageRecord, options: &Options) -> Result<u8> {
    let name = match &options.name {
        Some(name) => check_name(name)?.to_owned(),
        None => random_name()?,
    };
    let in_use = || {
        Error::new(format!("the name {name:?} is in use"))
            .hint(format!("`lade delete {name}` removes the container"))
    };
    let signals = Signals::block()?;
    let _held = store.hold_run(&name)?.ok_or_else(in_use)?;
    let dir = store.run_path(&name);
    if dir.exists() {
        return Err(in_use());
    }
    let runtime = Runtime::of_caller(store)?;
    let mut overrides = options.overrides.clone();
    overrides.hostname.get_or_insert_with(|| name.clone());
    bundle::create(store, image, &dir, options.copy, &overrides)?;
    let result = start(store, &runtime, &name, options, &signals);
    if !options.detach || !matches!(result, Ok(0)) {
        bundle::remove(&dir)?;
        return result;
    }
    note_init(store, &name);
    println!("{name}");
    if options.remove {
        remove_later(store, &name)?;
    }
    result
}

fn start(
    store: &Store,
    runtime: &Runtime,
    name: &str,
    options: &Options,
    signals: &Signals,
) -> Result<u8> {
    if let Some(code) = signals.ending()? {
        return Ok(code);
    }
    let dir = store.run_path(name);
    runtime.note(&dir)?;
    let mut command = runtime.command();
    command.args(["run", "--bundle"]).arg(&dir);
    match options.detach {
        true => detached(store, command, name),
        false => foreground(store, command, name, signals),
    }
}

fn foreground(store: &Store, mut command: Command, name: &str, signals: &Signals) -> Result<u8> {
    command.arg(name);
    let status = supervise(&mut command, signals);
    if !matches!(&status, Ok(status) if status.signal().is_none()) {
        // A runtime that was killed has left its container.
        let _ = tare(store, name, &["delete", "--force"]);
    }
    status.map(exit_code)
}

fn detached(store: &Store, mut command: Command, name: &str) -> Result<u8> {
    let log = store.run_path(name).join(".lade/log");
    let out = File::create(&log).doing(|| format!("make {}", log.display()))?;
    let err = out.try_clone().doing(|| format!("open {}", log.display()))?;
    command.args(["--detach", name]).stdin(Stdio::null()).stdout(out).stderr(err);
    let status = spawn::unblocked(&mut command).status().doing(|| "run tare")?;
    if status.signal().is_some() {
        let _ = tare(store, name, &["delete", "--force"]);
    }
    if !status.success() {
        // The runtime spoke into the log, which is about to be removed.
        return Err(reported(&std::fs::read(&log).unwrap_or_default()));
    }
    Ok(0)
}

fn remove_later(store: &Store, name: &str) -> Result<()> {
    let lade = std::env::current_exe().doing(|| "find lade itself")?;
    let mut waiter = Command::new(lade);
    waiter.arg("--store").arg(store.root()).args(["delete", "--when-stopped", name]);
    waiter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let waiter = spawn::detached(spawn::unblocked(&mut waiter));
    waiter.spawn().map(drop).doing(|| "start the process that removes it")
}

/// The signals that are passed on. Blocked from before anything is made until lade ends, so that
/// none ends it with something left, and none is lost.
struct Signals(SignalFd);

impl Signals {
    fn block() -> Result<Signals> {
        let signals: SigSet = FORWARDED.into_iter().collect();
        signals.thread_block().doing(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&signals, flags).map(Signals).doing(|| "open a signalfd")
    }

    fn next(&self) -> Result<Option<siginfo>> {
        self.0.read_signal().doing(|| "wait for signals")
    }

    /// The exit code for a signal that has come before there was a container to pass it on to.
    fn ending(&self) -> Result<Option<u8>> {
        while let Some(info) = self.next()? {
            if info.ssi_signo != Signal::SIGWINCH as u32 && !is_ignored(info.ssi_signo) {
                return Ok(u8::try_from(128 + info.ssi_signo).ok());
            }
        }
        Ok(None)
    }
}

/// Whether the caller had lade ignore a signal, as nohup(1) does: that comes all the same once it is
/// blocked.
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

/// Runs a command to its end, passing signals on to it.
fn supervise(command: &mut Command, signals: &Signals) -> Result<ExitStatus> {
    let mut child = spawn::unblocked(command).spawn().doing(|| "run tare")?;
    // Not SIGCHLD: with a second thread, which may take it, it could get lost.
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let end = pidfd::open(pid).doing(|| "watch tare")?;
    loop {
        let fds = [signals.0.as_fd(), end.as_fd()];
        match poll(&mut fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => drop(other.doing(|| "wait for tare")?),
        }
        if let Some(status) = child.try_wait().doing(|| "wait for tare")? {
            return Ok(status);
        }
        while let Some(info) = signals.next()? {
            forward(&child, &info);
        }
    }
}

fn forward(child: &Child, info: &siginfo) {
    let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
    let pid = i32::try_from(child.id()).ok();
    // What a terminal sends reaches tare by itself: it is in the same process group.
    if let (Some(signal), Some(pid)) = (signal, pid)
        && info.ssi_code != SI_KERNEL
    {
        // It may have ended meanwhile; then there is nobody to tell.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Removes the container `name` and its bundle; with `force` even while it runs.
///
/// # Errors
/// There is none of this name; it runs; the kernel's.
pub fn delete(store: &Store, name: &str, force: bool) -> Result<()> {
    let dir = store.run_path(check_name(name)?);
    if !dir.exists() {
        return Err(Error::new(format!("there is no container {name:?}")));
    }
    if !force && is_running(store, name)? {
        return Err(Error::new(format!("the container {name:?} is not stopped"))
            .hint(format!("`lade delete --force {name}` kills and removes it")));
    }
    let out = tare(store, name, &["delete", "--force"])?;
    if !out.status.success() {
        return Err(reported(&out.stderr));
    }
    if let Some(init) = noted_init(store, name) {
        // Its state was removed by somebody else.
        let _ = init.signal(libc::SIGKILL);
        if !init.wait(LIMIT)? {
            return Err(Error::new(format!("process {} of {name:?} does not end", init.pid())));
        }
    }
    bundle::remove(&dir)
}

/// Waits for the container's end, then removes it.
///
/// # Errors
/// As those of [`delete`].
pub fn delete_when_stopped(store: &Store, name: &str) -> Result<()> {
    if let Some(pid) = pid_of(store, check_name(name)?) {
        spawn::wait_for(pid).doing(|| format!("wait for process {pid}"))?;
    }
    delete(store, name, true)
}

/// Removes the bundles of containers that are gone, such as those of a killed `lade run`.
///
/// # Errors
/// Those of the store and of [`bundle::remove`].
pub fn clean(store: &Store) -> Result<()> {
    for name in store.run_names()? {
        // Dropping the hold removes the lock of a call that was killed before it had a bundle.
        let dir = store.run_path(&name);
        if let Some(_held) = store.hold_run(&name)?
            && dir.exists()
            && !is_known(store, &name)
            && bundle::check_unused(&dir).is_ok()
        {
            match bundle::is_noted(&dir) {
                true => bundle::remove(&dir)?,
                // Nothing is mounted before that is written down.
                false => tree::remove_path(&dir)?,
            }
        }
    }
    Ok(())
}

/// The error that the runtime printed, less its name and the line that it adds for programs.
fn reported(text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.starts_with("level=error "));
    let lines = lines.map(without_file);
    let text = lines.collect::<Vec<_>>().join("\n");
    Error::new(text.strip_prefix("tare: ").unwrap_or(&text))
}

/// A line without the place in the config.json that is removed with the bundle, if it has one: the
/// path in it stays.
fn without_file(line: &str) -> String {
    let place = line.strip_prefix("  --> ").and_then(|place| place.split_once("/config.json:"));
    match place.and_then(|(_, rest)| rest.split_once("  ")) {
        Some((_, what)) => format!("  --> {what}"),
        None => line.to_owned(),
    }
}

/// Whether there is a container of this name that has not stopped.
fn is_running(store: &Store, name: &str) -> Result<bool> {
    let out = tare(store, name, &["state"])?;
    let state: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let status = state.get("status").and_then(serde_json::Value::as_str);
    let known = out.status.success() && status != Some("stopped");
    Ok(known || noted_init(store, name).is_some())
}

/// Whether there may be a container of this name: only the runtime's word that there is none counts.
fn is_known(store: &Store, name: &str) -> bool {
    let Ok(out) = tare(store, name, &["state"]) else { return true };
    let absent = String::from_utf8_lossy(&out.stderr).contains("does not exist");
    out.status.success() || !absent || noted_init(store, name).is_some()
}

/// The process that is init of the container `name`, if it has one.
pub fn pid_of(store: &Store, name: &str) -> Option<i32> {
    let from_state = || {
        let state = tare(store, name, &["state"]).ok()?.stdout;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        i32::try_from(state.get("pid")?.as_i64()?).ok().filter(|pid| *pid > 0)
    };
    from_state().or_else(|| noted_init(store, name).map(|init| init.pid()))
}

/// Writes down which process is init of a detached container: where its state is, such as below
/// `$XDG_RUNTIME_DIR`, may be emptied while it runs.
fn note_init(store: &Store, name: &str) {
    if let Some(pid) = pid_of(store, name)
        && let Some(start) = state::start_of(pid)
    {
        // Without it the runtime is still asked.
        let boot = boot();
        let _ = std::fs::write(init_path(store, name), format!("{pid} {start} {boot}"));
    }
}

/// The process that [`note_init`] wrote down, if it lives.
fn noted_init(store: &Store, name: &str) -> Option<state::Init> {
    let text = own_text(&init_path(store, name))?;
    let mut words = text.split(' ');
    let (pid, start) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    // A store outlives a boot, after which others have the numbers.
    words.next().filter(|word| *word == boot())?;
    state::alive(pid, start).ok().flatten()
}

/// Which boot of the kernel this is (proc_sys_kernel(5)).
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// The text of a file that is the caller's own, if there is one: root obeys no notes of others.
fn own_text(path: &Path) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(nix::fcntl::open(path, flags, Mode::empty()).ok()?);
    let is_own = file.metadata().ok()?.uid() == nix::unistd::geteuid().as_raw();
    is_own.then(|| std::io::read_to_string(file).ok()).flatten()
}

fn init_path(store: &Store, name: &str) -> PathBuf {
    store.run_path(name).join(".lade/init")
}

fn tare(store: &Store, name: &str, args: &[&str]) -> Result<std::process::Output> {
    let mut command = Runtime::of(store, name)?.command();
    command.args(args).arg(name).stdin(Stdio::null()).output().doing(|| "run tare")
}

/// What runs a container and where that keeps its state. It is written down in the bundle, because a
/// later call, as of cron, may have another environment.
#[derive(Serialize, Deserialize)]
struct Runtime {
    program: PathBuf,
    /// None for root: the runtime's own.
    root: Option<PathBuf>,
}

impl Runtime {
    /// Whoever is not root has the state where the own files are, also as root of a user namespace.
    fn of_caller(store: &Store) -> Result<Runtime> {
        let own = || {
            let dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let dir = dir.filter(|dir| dir.is_absolute()).map(|dir| dir.join("tare"));
            dir.unwrap_or_else(|| store.root().join("state"))
        };
        let root = (!tree::is_host_root()).then(own);
        Ok(Runtime { program: find_runtime()?, root })
    }

    /// That of the container `name`; the caller's if nothing is noted.
    ///
    /// Root that looks into somebody else's store is not to run what is noted there, and the own
    /// runtime knows nothing of these containers.
    fn of(store: &Store, name: &str) -> Result<Runtime> {
        let dir = store.run_path(name);
        let caller = nix::unistd::geteuid().as_raw();
        if std::fs::symlink_metadata(&dir).is_ok_and(|meta| meta.uid() != caller) {
            return Err(Error::new(format!("{} belongs to another user", dir.display())));
        }
        let noted = own_text(&runtime_path(&dir));
        match noted.and_then(|text| serde_json::from_str::<Runtime>(&text).ok()) {
            None => Runtime::of_caller(store),
            // It may have been installed elsewhere since.
            Some(noted) if noted.program.is_absolute() && !noted.program.exists() => {
                Ok(Runtime { program: find_runtime()?, ..noted })
            }
            Some(noted) => Ok(noted),
        }
    }

    fn note(&self, dir: &Path) -> Result<()> {
        bundle::write_json(&runtime_path(dir), self)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            command.arg("--root").arg(root).args(["--rootless", "true"]);
        }
        command
    }
}

fn runtime_path(dir: &Path) -> PathBuf {
    dir.join(".lade/runtime.json")
}

/// `$TARE`, else the one beside lade, else the one in `$PATH`.
fn find_runtime() -> Result<PathBuf> {
    if let Some(tare) = std::env::var_os("TARE").filter(|tare| !tare.is_empty()) {
        let tare = PathBuf::from(tare);
        // A name alone is looked for in $PATH.
        let is_path = tare.as_os_str().as_encoded_bytes().contains(&b'/');
        return match is_path {
            true => std::path::absolute(&tare).doing(|| format!("find {}", tare.display())),
            false => Ok(tare),
        };
    }
    let beside = std::env::current_exe().ok().map(|lade| lade.with_file_name("tare"));
    if let Some(tare) = beside.filter(|tare| tare.is_file()) {
        return Ok(tare);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("tare")).find(|t| t.is_file());
    found.ok_or_else(|| {
        Error::new("there is no tare beside lade or in $PATH")
            .hint("set TARE to the runtime's path")
    })
}

/// The exit code of lade: the payload's, or 128 and the signal that ended tare.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A name that is also a file's: letters, digits, and `_ + - .` inside.
///
/// # Errors
/// Everything else.
pub fn check_name(name: &str) -> Result<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    let good =
        name.bytes().all(allowed) && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match good && name.len() <= 64 {
        true => Ok(name),
        false => Err(Error::new(format!("{name:?} cannot be the name of a container"))
            .hint("a name has at most 64 letters, digits and _ + - .")),
    }
}

fn random_name() -> Result<String> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .doing(|| "read /dev/urandom")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names() {
        for good in ["a", "web-1", "0a.b_c+d"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", ".x", "ä", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name(&random_name().unwrap()).is_ok());
    }

    fn supervised(script: &str) -> u8 {
        exit_code(
            supervise(Command::new("sh").args(["-c", script]), &Signals::block().unwrap()).unwrap(),
        )
    }

    #[test]
    fn the_childs_code_comes_back() {
        assert_eq!(supervised("kill -9 $$"), 137);
        assert_eq!(supervised("exit 7"), 7);
    }

    /// A signal for this process would end it by a thread that does not block it: this test runs itself
    /// again with the signal blocked from the start.
    #[test]
    fn signals_reach_the_child() {
        const AGAIN: &str = "LADE_TEST_SIGNALS";
        if std::env::var_os(AGAIN).is_some() {
            let wait = "sleep 30 & trap 'kill $!; exit 9' TERM; kill -TERM $PPID; wait";
            assert_eq!(supervised(wait), 9);
            return;
        }
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "image::run::tests::signals_reach_the_child"]).env(AGAIN, "1");
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn places_in_the_removed_bundle_are_left_out() {
        let said = b"tare: cannot run \"x\": y\n  --> /a  b/config.json:6:7  root.path = \"z\"\n  hint: --> w";
        let expected = "cannot run \"x\": y\n  --> root.path = \"z\"\n  hint: --> w";
        assert_eq!(reported(said).message(), expected);
    }
}
