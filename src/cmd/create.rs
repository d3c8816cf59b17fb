//! `tare create`, and what `run` shares with it.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::sys::stat::Mode as Bits;

use crate::cgroup::Manager;
use crate::cli::{Create, Global};
use crate::error::{Doing, Result};
use crate::host::{self, Host};
use crate::notify::{self, Listener};
use crate::parent::{self, Made, Parent, Record};
use crate::plan::{self, Options, Plan};
use crate::spec::{self, config::Spec, load::Config};
use crate::state::{self, Container, LaterHooks, State};
use crate::trace::Traces;
use crate::{log, protect};

/// Creates a container.
///
/// # Errors
/// Any; by then nothing of the container is left.
pub fn run(global: &Global, options: &Create) -> Result<i32> {
    let aim = || format!("cannot create \"{}\"", options.id);
    let made = create(global, options, Mode::Create, plan::container);
    made.map(|_| 0).map_err(|err| err.context(aim()))
}

/// Who makes the container, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits for `start`.
    Create,
    /// It is started, and the runtime stays with it.
    Attached,
    /// It is started, and the runtime ends.
    Detached,
}

/// A new container: its state directory, its state, and its process.
pub struct Created {
    /// The state directory, still locked.
    pub container: Container,
    /// The state as saved last.
    pub state: State,
    /// The process and its terminal.
    pub made: Made,
    /// Where it says that it is ready, if somebody wants to know.
    pub notify: Option<Listener>,
}

/// Reads the bundle, plans by `planner`, and executes the plan.
pub fn create(
    global: &Global,
    options: &Create,
    mode: Mode,
    planner: impl FnOnce(&Spec, &Host, &Options) -> Result<Plan>,
) -> Result<Created> {
    let preserve = parent::settle_descriptors(options.preserve_fds)?;
    let root = state::Root::open(global.root.as_deref())?;
    state::check_id(&options.id)?;
    let mut config = spec::load::load(&options.bundle)?;
    log::warn_all(&config.warnings);
    let notifies = notify::manager().is_some();
    if notifies {
        notify::add(&mut config.spec, &root.path().join(&options.id));
    }
    let place = |err| config.place(err);
    let plan_options = plan_options(options, mode)?;
    let plan = plan(global, &config, &plan_options, planner).map_err(place)?;
    if plan.exposed {
        protect::ensure()?;
    }
    log::warn_all(&plan.warnings);
    let traces = Traces::new(&plan, options.trace.as_deref())?;
    let container = root.create(&options.id)?;
    let notify = if notifies { notify_socket(&container, mode)? } else { None };
    let state = new_state(&config, &plan, &plan_options);
    let record = Record { container: &container, state: state.clone(), config: &config };
    let made = Parent::new(&plan, Some(record), None, preserve).run(&traces);
    traces.write(&plan);
    let mut made = made.map_err(place)?;
    let state = made.state.take().unwrap_or(state);
    // They go with the process: to give their memory back bit by bit would copy the pages that the
    // child still shares.
    std::mem::forget((plan, config));
    Ok(Created { container, state, made, notify })
}

/// Prepares what the container is to say that it is ready; `start` opens the socket anew.
fn notify_socket(container: &Container, mode: Mode) -> Result<Option<Listener>> {
    notify::prepare(container).inspect_err(|_| drop(container.remove()))?;
    Ok(if mode == Mode::Create { None } else { Listener::open(container) })
}

fn plan(
    global: &Global,
    config: &Config,
    options: &Options,
    planner: impl FnOnce(&Spec, &Host, &Options) -> Result<Plan>,
) -> Result<Plan> {
    spec::check::check(&config.spec)?;
    planner(&config.spec, &host(global)?, options)
}

/// The host as the global options want it to be used.
pub fn host(global: &Global) -> Result<Host> {
    let mut host = Host::probe()?;
    host.rootless = global.rootless.applies(host::is_unprivileged);
    if global.systemd_cgroup {
        host.systemd = Some(Manager::probe(host.rootless, host.hierarchies.version())?);
    }
    Ok(host)
}

/// The options as the plan takes them: paths that a later change of directory does not alter.
pub fn plan_options(options: &Create, mode: Mode) -> Result<Options> {
    Ok(Options {
        id: options.id.clone(),
        bundle: absolute(&options.bundle)?,
        console_socket: options.console_socket.clone(),
        pidfd_socket: options.pidfd_socket.clone(),
        pid_file: options.pid_file.clone(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        start: mode != Mode::Create,
        attached: mode == Mode::Attached,
    })
}

/// A path without links, as the kernel knows it. Where there is none on the way, the words alone
/// say it, and /proc, which is slow, is not asked. (realpath(3) asks for each part, and brings up a
/// heap that nothing else uses.)
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    // The kernel's own words for the working directory have none.
    if path == Path::new(".") || openat2(AT_FDCWD, path, how).is_ok() {
        return state::absolute(path);
    }
    let find = || -> std::result::Result<PathBuf, Errno> {
        let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Bits::empty())?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(readlink(link.as_str())?.into())
    };
    find().doing(|| format!("find the bundle {}", path.display()))
}

fn new_state(config: &Config, plan: &Plan, options: &Options) -> State {
    let spec = &config.spec;
    let hooks = spec.hooks.clone().unwrap_or_default();
    let later = LaterHooks { poststart: hooks.poststart, poststop: hooks.poststop };
    State {
        bundle: options.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        annotations: spec.annotations.clone(),
        cgroup: plan.cgroup.clone(),
        rdt: plan.rdt.clone(),
        shared_pid_namespace: plan.shared_pid_namespace,
        restored: plan.restored,
        hooks: later,
        ..State::new(&options.id, &spec.oci_version)
    }
}
