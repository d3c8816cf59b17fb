//! `tare exec`.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::attach;
use crate::cgroup::{Cgroup, FROZEN_ABOVE};
use crate::cli::{Exec, Global};
use crate::error::{Doing, Error, Result};
use crate::host::{self, Host};
use crate::parent::{self, Joined, Made, Parent, Preserve};
use crate::plan::{self, Options, Plan, Target};
use crate::security::{TRACE, may_trace};
use crate::spec::config::{Capabilities, Process, Spec};
use crate::spec::{check, load};
use crate::state::{self, Container, Stage, State, Status};
use crate::trace::Traces;
use crate::wire::{Channel, Msg, Request};
use crate::{log, protect, sys};

/// Runs one more process in a container.
///
/// # Errors
/// Any failure of the runtime. The process's own is its exit code.
pub fn run(global: &Global, options: &Exec) -> Result<i32> {
    // Processes of the container see this one before it becomes the new process.
    protect::ensure()?;
    if !options.detach {
        sys::process::block_signals().doing(|| "block signals")?;
    }
    let made = exec(global, options).map_err(|err| in_context(err, &options.id))?;
    if options.detach { Ok(0) } else { attach::attach(made, None, None) }
}

/// A program that the kernel refused says so by itself, as callers of runc expect.
fn in_context(err: Error, id: &str) -> Error {
    match err.is_of_program() {
        true => err.in_one_line(),
        false => err.context(format!("cannot exec in \"{id}\"")),
    }
}

fn exec(global: &Global, options: &Exec) -> Result<Made> {
    // First of all: what is opened here must not be taken for the caller's.
    let preserve = parent::settle_descriptors(options.preserve_fds)?;
    let container = state::Root::open(global.root.as_deref())?.container(&options.id)?;
    let state = container.load()?;
    let joined = running(&container, &state, options)?;
    execute(&container, joined, preserve, options).map_err(|err| {
        let over = !err.is_of_program() && has_ended(&state, &err);
        if over { stopped().hint(err.message()) } else { err }
    })
}

/// Whether a failed step failed because the container ended meanwhile. An init that is about to end
/// has left its namespaces (ESRCH of setns(2)), takes no more processes into its pid namespace
/// (ENOMEM of clone3(2)), and has those in there killed before it shows as ended.
fn has_ended(state: &State, err: &Error) -> bool {
    const PATIENCE: Duration = Duration::from_millis(500);
    let ending = matches!(err.errno(), Some(Errno::ESRCH | Errno::ENOMEM))
        || err.message().starts_with(parent::ENDED_EARLY);
    match state.init() {
        Ok(Some(init)) => {
            let is_ending = || init.is_ending().unwrap_or(false);
            ending && (is_ending() || init.wait(PATIENCE).unwrap_or(false) || is_ending())
        }
        found => matches!(found, Ok(None)),
    }
}

fn execute(
    container: &Container,
    joined: Joined,
    preserve: Preserve,
    options: &Exec,
) -> Result<Made> {
    let config = super::saved_config(container)?;
    let file = Path::new("config.json");
    let (spec, _) = load::parse::<Spec>(&config, file)?;
    let own = options.process.as_deref().map(|path| load::read(path).map(|text| (text, path)));
    let own = own.transpose()?;
    let process = match &own {
        Some((text, path)) => from_file(text, path, &spec, options)?,
        None => from_arguments(&spec, options)?,
    };
    let place = |err: Error| {
        let at = err.path().unwrap_or_default();
        match (flag(at, options), &own) {
            (Some(flag), _) => err.placed(flag),
            (None, Some((text, path))) if is_from(text, at, &config) => {
                load::place_part(text, path, PART, err)
            }
            _ => load::place(&config, file, err),
        }
    };
    let plan = plan(&process, &spec, &joined.state, options).map_err(place)?;
    log::warn_all(&plan.warnings);
    let traces = Traces::new(&plan, options.trace.as_deref())?;
    let made = Parent::new(&plan, None, Some(joined), preserve).run(&traces);
    traces.write(&plan);
    made.map_err(place)
}

/// The paths of errors begin at config.json's root; a file of the caller's own holds this part alone.
const PART: &str = "process.";

/// Whether what is wrong at the path `at` is to be looked for in `own`, the text of such a file: it
/// stands there, or is missing and was not inherited from `config` either.
fn is_from(own: &str, at: &str, config: &str) -> bool {
    let inherited = |part: &str| INHERITED.iter().any(|member| part.starts_with(member));
    let part = at.strip_prefix(PART);
    part.is_some_and(|part| load::holds(own, part) || !inherited(part) || !load::holds(config, at))
}

/// What on the command line, not in the configuration, the part of a process at `path` comes from.
fn flag(path: &str, options: &Exec) -> Option<&'static str> {
    if options.process.is_some() {
        return None;
    }
    let is = |member: &str| path.strip_prefix("process.").is_some_and(|p| p.starts_with(member));
    let known = [
        (is("cwd") && options.cwd.is_some(), "--cwd"),
        (is("env") && !options.env.is_empty(), "--env"),
        (is("user.additionalGids") && !options.additional_gids.is_empty(), "--additional-gids"),
        (is("user") && options.user.is_some(), "--user"),
        (is("terminal"), "--tty"),
        (is("apparmorProfile") && options.apparmor.is_some(), "--apparmor"),
        (is("selinuxLabel") && options.process_label.is_some(), "--process-label"),
        (is("capabilities") && !options.cap.is_empty(), "--cap"),
    ];
    known.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
}

/// The container, in a state in which a process can join it.
fn running(container: &Container, state: &State, options: &Exec) -> Result<Joined> {
    let status = container.status(state)?;
    match status {
        Status::Stopped => return Err(stopped().hint(state::ENDED)),
        // Its root may still be the host's.
        Status::Creating => {
            return Err(Error::new("cannot exec in a container that is still being created"));
        }
        Status::Paused if !options.ignore_paused => {
            return Err(Error::new("cannot exec in a paused container")
                .hint("tare resume lets it run; --ignore-paused lets the process wait for that"));
        }
        _ if !options.ignore_paused && state.frozen_above() => {
            return Err(Error::new("cannot exec in a paused container").hint(FROZEN_ABOVE));
        }
        _ => {}
    }
    let init = state.init()?.ok_or_else(stopped)?.into();
    let waits = status == Status::Created && host::is_unprivileged();
    let namespaces = if waits { namespaces_of_waiting(container)? } else { Vec::new() };
    Ok(Joined { init, state: state.clone(), namespaces })
}

/// Asks the process that waits for `start` for its namespaces; none if it waits no more.
fn namespaces_of_waiting(container: &Container) -> Result<Vec<(u64, OwnedFd)>> {
    let asked = UnixStream::connect(parent::start_socket(container))
        .and_then(|mut socket| socket.write_all(Request::Enter.word()).map(|()| socket));
    let Ok(socket) = asked else { return Ok(Vec::new()) };
    let channel = Channel::from(OwnedFd::from(socket));
    let mut found = Vec::new();
    while let (Some(Msg::Namespace(flag)), Some(fd)) = channel.receive_with_fd()? {
        found.push((flag as u64, fd));
    }
    Ok(found)
}

fn stopped() -> Error {
    Error::new("cannot exec in a stopped container")
}

fn plan(process: &Process, spec: &Spec, state: &State, options: &Exec) -> Result<Plan> {
    check::process(process)?;
    check_waiting(process, spec, state)?;
    let cgroup = state.cgroup.as_ref().map(|own| target_cgroup(own, options)).transpose()?;
    let init_pid = options.cgroup.is_empty().then_some(state.pid);
    let target =
        Target { spec, cgroup, rdt: state.rdt.clone(), init_pid, restored: state.restored };
    plan::exec(process, &target, &Host::probe()?, &plan_options(options))
}

/// Before the start, a process that may trace could get hold of the host's tare through the init that
/// waits. That is protected only if its own capabilities have said that this may happen.
fn check_waiting(process: &Process, spec: &Spec, state: &State) -> Result<()> {
    let protected = spec.process.as_ref().is_some_and(may_trace);
    if state.stage != Stage::Created || protected || !may_trace(process) {
        return Ok(());
    }
    Err(Error::new(format!("a process with {TRACE} has to wait for the start of the container"))
        .at("process.capabilities")
        .hint("or give this capability to the container's own process"))
}

fn target_cgroup(cgroup: &Cgroup, options: &Exec) -> Result<Cgroup> {
    match options.cgroup.is_empty() {
        true => Ok(cgroup.clone()),
        false => cgroup.sub(&options.cgroup),
    }
}

fn plan_options(options: &Exec) -> Options {
    Options {
        id: options.id.clone(),
        console_socket: options.console_socket.clone(),
        pidfd_socket: options.pidfd_socket.clone(),
        pid_file: options.pid_file.clone(),
        start: true,
        attached: !options.detach,
        ..Options::default()
    }
}

/// A process object of the caller's own, which replaces the configuration's whole.
fn from_file(text: &str, path: &Path, spec: &Spec, options: &Exec) -> Result<Process> {
    let (mut process, warnings) = load::parse::<Process>(text, path)?;
    log::warn_all(&warnings);
    process.terminal |= options.tty;
    if (process.user.uid, process.user.gid) == (u32::MAX, u32::MAX) {
        // No user at all is root here, as callers of runc's exec rely on.
        (process.user.uid, process.user.gid) = (0, 0);
    }
    inherit(&mut process, spec.process.as_ref());
    Ok(process)
}

/// What [`inherit`] fills in.
const INHERITED: [&str; 9] = [
    "apparmorProfile",
    "capabilities",
    "execCPUAffinity",
    "ioPriority",
    "oomScoreAdj",
    "rlimits",
    "scheduler",
    "selinuxLabel",
    "user.umask",
];

/// What a process of the caller's own leaves open is as for the container's, as in runc.
fn inherit(process: &mut Process, container: Option<&Process>) {
    let Some(of) = container else { return };
    let text = |own: &mut Option<String>, of: &Option<String>| {
        if own.as_ref().is_none_or(String::is_empty) {
            own.clone_from(of);
        }
    };
    text(&mut process.apparmor_profile, &of.apparmor_profile);
    text(&mut process.selinux_label, &of.selinux_label);
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&of.rlimits);
    }
    process.capabilities = process.capabilities.take().or_else(|| of.capabilities.clone());
    process.scheduler = process.scheduler.take().or_else(|| of.scheduler.clone());
    process.io_priority = process.io_priority.take().or_else(|| of.io_priority.clone());
    process.exec_cpu_affinity =
        process.exec_cpu_affinity.take().or_else(|| of.exec_cpu_affinity.clone());
    process.oom_score_adj = process.oom_score_adj.or(of.oom_score_adj);
    process.user.umask = process.user.umask.or(of.user.umask);
}

/// The configuration's process with what the command line changes.
fn from_arguments(spec: &Spec, options: &Exec) -> Result<Process> {
    let mut process = spec.process.clone().ok_or_else(|| {
        Error::new("the container's configuration has no process to start from").at("process")
    })?;
    let args = options.args.iter().map(|arg| arg.clone().into_string());
    process.args = args
        .collect::<std::result::Result<_, _>>()
        .map_err(|arg| Error::new(format!("the argument {arg:?} is not UTF-8")))?;
    process.terminal = options.tty;
    process.env.extend(options.env.iter().cloned());
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&options.additional_gids);
    process.no_new_privileges = options.no_new_privs.unwrap_or(process.no_new_privileges);
    process.apparmor_profile = options.apparmor.clone().or(process.apparmor_profile);
    process.selinux_label = options.process_label.clone().or(process.selinux_label);
    add_capabilities(&mut process, &options.cap);
    Ok(process)
}

/// Adds `names` to all sets that make them usable; not to the inheritable one (CVE-2022-29162).
/// Ambient ones have to be inheritable, so without any of those nothing is tried.
fn add_capabilities(process: &mut Process, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let empty = || Capabilities {
        bounding: Vec::new(),
        effective: Vec::new(),
        inheritable: Vec::new(),
        permitted: Vec::new(),
        ambient: Vec::new(),
    };
    let sets = process.capabilities.get_or_insert_with(empty);
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(names.iter().cloned());
    }
    if !sets.inheritable.is_empty() {
        sets.ambient.extend(names.iter().cloned());
    }
}
