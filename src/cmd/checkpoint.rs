//! `tare checkpoint`.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::cli::{Checkpoint, Global};
use crate::cmd::delete;
use crate::criu::{self, Dump, External, Feature, Kind, Notice, Session, Target};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::namespaces::Namespaces;
use crate::notify;
use crate::parent::Process;
use crate::plan::{self, Options};
use crate::spec::config::Spec;
use crate::state::{ABSENT, Container, Root, State, Status};
use crate::sys::pidfd;
use crate::sys::process::{Fork, close_on_exec_from, exit_now, fork_into, inherited};

/// Saves a running container. Unless it is to go on, it is gone afterwards.
///
/// # Errors
/// The container is missing or not running; criu is missing or fails: then the container goes on.
pub fn run(global: &Global, options: Checkpoint) -> Result<i32> {
    let id = options.id;
    let container = Root::open(global.root.as_deref())?.container(&id)?;
    let aim = |err: Error| err.context(format!("cannot checkpoint \"{id}\""));
    checkpoint(global, &container, options.dump).map_err(aim)?;
    Ok(0)
}

fn checkpoint(global: &Global, container: &Container, mut dump: Dump) -> Result<()> {
    container.lock()?;
    let state = container.load()?;
    match container.status(&state)? {
        Status::Running | Status::Paused => {}
        status => {
            return Err(Error::new(format!("Container cannot be checkpointed in {status} state")));
        }
    }
    let folders = Folders::make(&dump)?;
    let program = criu::find(global.criu.as_deref())?;
    let status = dump.status_fd.take().map(status_descriptor).transpose()?;
    // Nothing of the caller's is criu's matter.
    close_on_exec_from(3).doing(|| "close descriptors of the caller")?;
    let mut spec = super::saved_spec(container)?;
    notify::add_again(&mut spec, container);
    // Others may stop and delete it meanwhile: criu can be at it for long (--lazy-pages).
    container.unlock();
    let frozen = Frozen::new(&state)?;
    save(&program, &dump, &state, &spec, status).map_err(|err| dump.explain(err))?;
    drop(frozen);
    folders.keep();
    match dump.pre_dump || dump.settings.on("leave-running") {
        true => Ok(()),
        false => remove(container, &state),
    }
}

/// Deletes what was saved, unless somebody else has done so by now.
fn remove(container: &Container, state: &State) -> Result<()> {
    match container.lock() {
        Ok(()) => delete::remove(container, state),
        Err(err) if err.message() == ABSENT => Ok(()),
        Err(err) => Err(err),
    }
}

/// The folders for images and log that were made; dropped, those that are still empty go again.
struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes the folders, and checks that of the images before.
    fn make(dump: &Dump) -> Result<Folders> {
        let images = &dump.settings.images;
        let mut made = Folders(Vec::new());
        for path in [Some(images), dump.settings.work.as_ref()].into_iter().flatten() {
            let missing = path.ancestors().take_while(|dir| !dir.exists());
            made.0.extend(missing.map(PathBuf::from));
            let done = DirBuilder::new().recursive(true).mode(0o700).create(path);
            done.doing(|| format!("make the folder {}", path.display()))?;
        }
        let Some(parent) = &dump.parent else { return Ok(made) };
        let found = std::fs::metadata(images.join(parent));
        let found = found.and_then(|found| match found.is_dir() {
            true => Ok(()),
            false => Err(Errno::ENOTDIR.into()),
        });
        found.doing(|| format!("invalid --parent-path: {}", images.join(parent).display()))?;
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for dir in &self.0 {
            // What criu has written, its log above all, stays.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// The descriptor of the caller's to which a zero byte is written.
fn status_descriptor(number: i32) -> Result<OwnedFd> {
    let invalid = || format!("invalid --status-fd argument {number}");
    let fd = inherited(number).ok_or(Errno::EBADF).doing(invalid)?;
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::F_GETFL).doing(invalid)?;
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Err(Error::new(format!("{}: not writable", invalid()))),
        _ => Ok(fd),
    }
}

/// Has criu do it.
fn save(
    program: &Path,
    dump: &Dump,
    state: &State,
    spec: &Spec,
    mut status: Option<OwnedFd>,
) -> Result<()> {
    let namespaces = spec.linux.as_ref().map_or(&[][..], |linux| &linux.namespaces);
    let joins = Namespaces::plan(namespaces)?.joins;
    let target = Target {
        pid: state.pid,
        rootfs: &state.rootfs,
        annotations: &state.annotations,
        mounts: mounts(state, spec)?,
        joins: &joins,
        freezer: state.cgroup.as_ref().and_then(|cgroup| cgroup.freezer_dir()),
    };
    let mut criu = Criu::start(program)?;
    criu::check_version(criu.session.version()?, 0)?;
    if dump.settings.on("lazy-pages") {
        criu.session.need(Feature::LazyPages)?;
    }
    if dump.pre_dump {
        criu.session.need(Feature::MemTrack)?;
    }
    let folders = criu::open(&dump.settings.folders())?;
    let options = dump.options(&target, &folders)?;
    let kind = if dump.pre_dump { Kind::PreDump } else { Kind::Dump };
    let mut notify = |notice: Notice| {
        // Taken: whoever waits for the end of file after the byte has it too.
        match status.take_if(|_| notice.script == "status-ready") {
            Some(fd) => nix::unistd::write(fd.as_fd(), &[0]).map(drop).doing(|| "write status"),
            None => Ok(()),
        }
    };
    criu.idle = false;
    criu.session.perform(kind, &options, &mut notify)?;
    // It waits for the next one then, and would complain of the end.
    criu.idle = dump.pre_dump;
    Ok(())
}

/// The container's mounts that are the host's, from the steps by which it was made.
fn mounts(state: &State, spec: &Spec) -> Result<Vec<External>> {
    let options = Options {
        id: state.id.clone(),
        bundle: state.bundle.clone(),
        start: true,
        attached: true,
        ..Options::default()
    };
    plan::external(&plan::container(spec, &Host::probe()?, &options)?)
}

/// A container that stands still until this is dropped, so that what is read of it stays true until
/// criu has it. One that is paused stays so.
struct Frozen<'a>(Option<&'a Cgroup>);

impl<'a> Frozen<'a> {
    fn new(state: &'a State) -> Result<Frozen<'a>> {
        let cgroup = state.cgroup.as_ref().filter(|cgroup| cgroup.freezer_dir().is_some());
        let Some(cgroup) = cgroup else { return Ok(Frozen(None)) };
        if cgroup.frozen()? {
            return Ok(Frozen(None));
        }
        cgroup.freeze()?;
        Ok(Frozen(Some(cgroup)))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = self.0.filter(|cgroup| cgroup.exists()).map_or(Ok(()), Cgroup::thaw);
        if let Err(err) = thawed {
            crate::log::warn(&err.message());
        }
    }
}

/// criu; dropped, it is waited for. It is not killed at work: it has to take its hands off the
/// container first.
struct Criu {
    session: Session,
    process: Process,
    /// Whether it has been given nothing to do.
    idle: bool,
}

impl Criu {
    fn start(program: &Path) -> Result<Criu> {
        let (session, theirs) = Session::pair()?;
        match fork_into(0, None).doing(|| "start criu")? {
            Fork::Parent(pid, fd) => {
                let process = Process { pid: pid.as_raw(), fd };
                Ok(Criu { session, process, idle: true })
            }
            Fork::Child => {
                let err = criu::become_criu(program, &[theirs.as_fd()]);
                crate::log::warn(&err.message());
                exit_now(1)
            }
        }
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        if self.idle {
            let _ = pidfd::signal(self.process.fd.as_fd(), libc::SIGKILL);
        }
        self.session.close();
        let _ = waitpid(Pid::from_raw(self.process.pid), None);
    }
}
