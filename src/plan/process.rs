//! The child's steps from the set-up container to the payload: the same for init and exec.

use std::path::PathBuf;

use super::{Options, Plan};
use crate::error::Result;
use crate::host::Host;
use crate::process::Rlimit;
use crate::seccomp::{self, Filter};
use crate::security::{Capabilities, Credentials};
use crate::spec::config::{Process, Seccomp};
use crate::step::{ChildStep, Entry, ParentStep};

/// The umask of a payload whose configuration names none (runc's).
const DEFAULT_UMASK: u32 = 0o022;

/// What making and executing the stub takes: where the payload's filter denies one of them, the
/// runtime runs from a protected copy of its binary and executes the payload itself.
const STUB_CALLS: [&str; 4] = ["memfd_create", "write", "fcntl", "execveat"];

/// The child's steps from the set-up container to the payload: the same for init and exec.
pub(super) fn process_steps(
    plan: &mut Plan,
    process: &Process,
    seccomp: Option<&Seccomp>,
    host: &Host,
    options: &Options,
    groups_denied: bool,
) -> Result<()> {
    plan.child(ChildStep::CloseDescriptors, "");
    if !options.no_new_keyring {
        plan.child(ChildStep::Keyring(format!("_ses.{}", options.id)), "");
    }
    plan.child(ChildStep::Session, "process.terminal");
    for (index, entry) in process.rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{index}]");
        plan.child(ChildStep::Rlimit(Rlimit::plan(index, entry)?), at);
    }
    plan.child(ChildStep::Umask(process.user.umask.unwrap_or(DEFAULT_UMASK)), "process.user.umask");
    let cwd = PathBuf::from(&process.cwd);
    plan.child(ChildStep::Chdir(cwd.clone(), true), "process.cwd");
    plan.child(ChildStep::OwnStdio(process.user.uid), "process.user.uid");
    plan.child(ChildStep::JoinMemoryCgroup, "linux.cgroupsPath");
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which goes with the credentials.
    let mut filter = seccomp.map(seccomp::compile).transpose()?.flatten();
    if let Some(filter) = filter.take_if(|_| !process.no_new_privileges) {
        load_filter(plan, filter, seccomp);
    }
    let credentials = credentials(process, host, plan, groups_denied);
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
        plan.child(ChildStep::Seccomp(filter, true), "linux.seccomp");
    }
    plan.child(ChildStep::Exec, "process.args");
    Ok(())
}

/// Loads the filter here, so that the child makes its last calls under it; a listener goes to the
/// agent at once, as the child may have to wait for it from its next call on.
fn load_filter(plan: &mut Plan, filter: Filter, config: Option<&Seccomp>) {
    let denied = |call: &&str| config.is_some_and(|config| !seccomp::allows(config, call));
    plan.exposed |= STUB_CALLS.iter().any(denied);
    let ready = plan.parent.iter().position(|e| matches!(e.step, ParentStep::AwaitReady));
    if let (Some(agent), Some(at)) = (&filter.listener, ready) {
        let send = ParentStep::SendListener(agent.clone());
        let steps = [(send, "linux.seccomp.listenerPath"), (ParentStep::Continue, "")];
        let entries = steps.map(|(step, at)| Entry { step, at: at.into() });
        plan.parent.splice(at..at, entries);
    }
    plan.child(ChildStep::Seccomp(filter, false), "linux.seccomp");
}

fn credentials(
    process: &Process,
    host: &Host,
    plan: &mut Plan,
    groups_denied: bool,
) -> Credentials {
    let (capabilities, missing) =
        Capabilities::plan(process.capabilities.as_ref(), host.capabilities);
    if !missing.is_empty() {
        let names = missing.join(" ");
        plan.warnings.push(format!("ignoring unknown or unavailable capabilities: [{names}]"));
    }
    for name in capabilities.ambient_refused(process.capabilities.as_ref()) {
        plan.warnings
            .push(format!("can't raise ambient capability {name}: operation not permitted"));
    }
    Credentials {
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        capabilities,
        groups_denied,
    }
}

pub(super) fn terminal_step(process: &Process, options: &Options, console: bool) -> ChildStep {
    let size = process.console_size.as_ref().map(|size| (size.height, size.width));
    ChildStep::Terminal { console, size, to_socket: options.console_socket.is_some() }
}
