//! The child's steps from the set-up container to the payload: the same for init and exec.

use std::path::PathBuf;

use super::{Options, Plan};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::labels::Label;
use crate::process::Rlimit;
use crate::scheduling::{IoPriority, MemoryPolicy, Personality, Scheduler, Scheduling};
use crate::seccomp::{self, Filter};
use crate::security::{Capabilities, Credentials};
use crate::spec::config::{Linux, Process, Seccomp};
use crate::step::{ChildStep, Entry, ParentStep};
use crate::sys::stub;

/// The umask of a payload whose configuration names none (runc's).
const DEFAULT_UMASK: u32 = 0o022;

/// What making and executing the stub takes: where the payload's filter denies one of them, the
/// runtime runs from a protected copy of its binary and executes the payload itself.
const STUB_CALLS: [&str; 4] = ["memfd_create", "write", "fcntl", "execveat"];

/// What else is done between a start and the payload, but for hooks.
const LAST_CALLS: [&str; 2] = ["rt_sigaction", "rt_sigprocmask"];

/// What the process is set up in.
pub(super) struct Around<'a> {
    pub linux: &'a Linux,
    pub host: &'a Host,
    pub options: &'a Options,
    /// Whether it is in a user namespace of the container's.
    pub user_namespace: bool,
    /// Whether it is the container's first process, and not one of `exec`.
    pub first: bool,
    /// Whether programs of the container run before it, as startContainer hooks.
    pub hooks: bool,
}

/// The child's steps from the set-up container to the payload: the same for init and exec.
pub(super) fn process_steps(plan: &mut Plan, process: &Process, around: &Around) -> Result<()> {
    let &Around { linux, options, .. } = around;
    let seccomp = linux.seccomp.as_ref();
    label_steps(plan, process)?;
    plan.child(ChildStep::CloseDescriptors, "");
    if !options.no_new_keyring {
        plan.child(ChildStep::Keyring(format!("_ses.{}", options.id), around.first), "");
    }
    plan.child(ChildStep::Session, "process.terminal");
    rlimit_steps(plan, process, around.user_namespace)?;
    scheduling_steps(plan, process, linux)?;
    plan.child(ChildStep::Umask(process.user.umask.unwrap_or(DEFAULT_UMASK)), "process.user.umask");
    let cwd = PathBuf::from(&process.cwd);
    plan.child(ChildStep::Chdir(cwd.clone(), true), "process.cwd");
    plan.child(ChildStep::OwnStdio(process.user.uid), "process.user.uid");
    plan.child(ChildStep::JoinMemoryCgroup, "linux.cgroupsPath");
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which goes with the credentials.
    let mut filter = seccomp.map(|config| compile(plan, config, around, process)).transpose()?;
    if let Some(filter) = filter.take_if(|_| !process.no_new_privileges) {
        load_filter(plan, filter, seccomp);
    }
    let credentials = credentials(process, around, plan);
    plan.child(ChildStep::Credentials(credentials), "process.user");
    plan.child(ChildStep::Chdir(cwd, false), "process.cwd");
    if process.no_new_privileges {
        plan.child(ChildStep::NoNewPrivileges, "process.noNewPrivileges");
    }
    plan.child(ChildStep::FindProgram, "process.args[0]");
    // As late as possible, but while the runtime is there to hand the listener over.
    if let Some(filter) = filter.take_if(|filter| filter.listener.is_some()) {
        load_filter(plan, filter, seccomp);
    }
    plan.child(ChildStep::AwaitStart, "");
    if let Some(filter) = filter {
        last_filter(plan, filter, seccomp, around);
    }
    plan.child(ChildStep::Exec, "process.args");
    Ok(())
}

fn compile(
    plan: &mut Plan,
    config: &Seccomp,
    around: &Around,
    process: &Process,
) -> Result<Filter> {
    let filter = seccomp::compile(config)?;
    let waits = !around.options.start && !process.no_new_privileges;
    let needed = [
        ("execve", true, "starts the program"),
        // Without these, the standard library waits for ever, or ends the process.
        ("close", around.hooks, "starting a startContainer hook takes"),
        ("recvfrom", around.hooks, "starting a startContainer hook takes"),
        ("accept4", waits, "a start without noNewPrivileges takes"),
        ("read", waits, "a start without noNewPrivileges takes"),
    ];
    for (call, needed, what) in needed {
        if needed && seccomp::denies(config, call) {
            let err = Error::new(format!("the filter does not allow {call}(2), which {what}"));
            return Err(err.at("linux.seccomp"));
        }
    }
    // Once is enough: processes of exec are many.
    let unknown = filter.unknown.iter().filter(|_| around.first);
    plan.warnings.extend(
        unknown.map(|(at, name)| format!("{at} is ignored: there is no system call {name:?}")),
    );
    Ok(filter)
}

/// Whether the filter lets the runtime make these calls.
fn allow(config: Option<&Seccomp>, calls: &[&str]) -> bool {
    config.is_none_or(|config| calls.iter().all(|call| seccomp::allows(config, call)))
}

/// The filter of a payload without new privileges is the stub's to load, unless others of the container
/// are there by then: hooks have to be under it as well, and a process of `exec` could trace the stub.
fn last_filter(plan: &mut Plan, filter: Filter, config: Option<&Seccomp>, around: &Around) {
    let waits = !around.options.start;
    let can_go_on = allow(config, &STUB_CALLS) && allow(config, &LAST_CALLS);
    if around.hooks || (waits && can_go_on) {
        return load_filter(plan, filter, config);
    }
    plan.exposed |= waits;
    plan.child(ChildStep::Seccomp(filter, true), "linux.seccomp");
}

/// Loads the filter here, so that the child makes its last calls under it; a listener goes to the
/// agent at once, as the child may have to wait for it from its next call on.
fn load_filter(plan: &mut Plan, filter: Filter, config: Option<&Seccomp>) {
    plan.exposed |= !allow(config, &STUB_CALLS);
    let ready = plan.parent.iter().position(|e| matches!(e.step, ParentStep::AwaitReady));
    if let (Some(agent), Some(at)) = (&filter.listener, ready) {
        let send = ParentStep::SendListener(agent.clone());
        let steps = [(send, "linux.seccomp.listenerPath"), (ParentStep::Continue, "")];
        let entries = steps.map(|(step, at)| Entry { step, at: at.into() });
        plan.parent.splice(at..at, entries);
    }
    plan.child(ChildStep::Seccomp(filter, false), "linux.seccomp");
}

/// The profile or label of the payload holds from the next execve(2) on: that has to be the
/// payload's, and not the stub's.
fn label_steps(plan: &mut Plan, process: &Process) -> Result<()> {
    let is_set = |text: &&str| !text.is_empty();
    if let Some(profile) = process.apparmor_profile.as_deref().filter(is_set) {
        plan.child(ChildStep::Label(Label::apparmor(profile)?), "process.apparmorProfile");
        plan.exposed = true;
    }
    if let Some(label) = process.selinux_label.as_deref().filter(is_set) {
        plan.child(ChildStep::Label(Label::selinux(label)?), "process.selinuxLabel");
        plan.exposed = true;
    }
    Ok(())
}

/// Only a process with CAP_SYS_RESOURCE in the first user namespace may raise a hard limit: in
/// another one, the runtime sets them.
fn rlimit_steps(plan: &mut Plan, process: &Process, user_namespace: bool) -> Result<()> {
    for (index, entry) in process.rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{index}]");
        let limit = Rlimit::plan(index, entry)?;
        // The stub is a file that is written after that.
        plan.exposed |= limit.is_below(stub::MAX_SIZE);
        let ready = |entry: &Entry<ParentStep>| matches!(entry.step, ParentStep::AwaitReady);
        match plan.parent.iter().position(ready).filter(|_| user_namespace) {
            Some(ready) => {
                plan.parent.insert(ready + 1 + index, Entry { step: ParentStep::Rlimit(limit), at })
            }
            None => plan.child(ChildStep::Rlimit(limit), at),
        }
    }
    Ok(())
}

fn scheduling_steps(plan: &mut Plan, process: &Process, linux: &Linux) -> Result<()> {
    let mut step = |step, at: &str| plan.child(ChildStep::Scheduling(step), at);
    if let Some(config) = &process.scheduler {
        step(Scheduling::Policy(Scheduler::plan(config, linux)?), "process.scheduler");
    }
    if let Some(config) = &process.io_priority {
        step(Scheduling::IoPriority(IoPriority::plan(config)?), "process.ioPriority");
    }
    if let Some(config) = &linux.personality {
        step(Scheduling::Personality(Personality::plan(config)?), "linux.personality");
    }
    if let Some(config) = &linux.memory_policy {
        step(Scheduling::Memory(MemoryPolicy::plan(config)?), "linux.memoryPolicy");
    }
    Ok(())
}

fn credentials(process: &Process, around: &Around, plan: &mut Plan) -> Credentials {
    // The first process of a user namespace has all of them there (user_namespaces(7)).
    let held = if around.user_namespace { u64::MAX } else { around.host.capabilities };
    let (capabilities, missing) = Capabilities::plan(process.capabilities.as_ref(), held);
    if !missing.is_empty() {
        let names = missing.join(" ");
        plan.warnings.push(format!("ignoring unknown or unavailable capabilities: [{names}]"));
    }
    for name in capabilities.ambient_refused(process.capabilities.as_ref()) {
        plan.warnings
            .push(format!("can't raise ambient capability {name}: operation not permitted"));
    }
    // Engines list some twice, and the kernel keeps them so.
    let mut groups = process.user.additional_gids.clone();
    groups.sort_unstable();
    groups.dedup();
    Credentials {
        uid: process.user.uid,
        gid: process.user.gid,
        groups,
        capabilities,
        groups_may_stay: (around.user_namespace || around.host.rootless)
            && crate::host::is_unprivileged(),
    }
}

pub(super) fn terminal_step(process: &Process, options: &Options, console: bool) -> ChildStep {
    let size = process.console_size.as_ref().map(|size| (size.height, size.width));
    ChildStep::Terminal { console, size, to_socket: options.console_socket.is_some() }
}
