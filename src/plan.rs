//! From `config.json` to the lists of steps: computed once, without side effects. Every refusal of
//! a configuration lives here or in `spec::check`.

mod child;
mod exec;
mod process;
mod restore;
mod runtime;

use std::path::PathBuf;

pub use exec::{Target, exec};
pub use restore::{external, restore};

use crate::cgroup::{self, Cgroup};
use crate::error::{Error, Result};
use crate::hooks::{Hook, Point};
use crate::host::{self, Host};
use crate::labels::check_selinux;
use crate::namespaces::{NEWCGROUP, NEWNS, NEWPID, NEWTIME, NEWUSER, Namespaces};
use crate::path::clean;
use crate::process::Payload;
use crate::rdt::{self, Rdt};
use crate::security::may_trace;
use crate::spec::check;
use crate::spec::config::{Hooks, IntelRdt, Linux, Process, Spec};
use crate::step::{ChildStep, Entry, ParentStep};

/// What a caller asks for beside `config.json`.
#[derive(Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// Who gets the terminal's master; without it the runtime keeps it.
    pub console_socket: Option<PathBuf>,
    /// Who gets a process descriptor of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// `run` and `exec` release the payload themselves; after `create`, `start` does.
    pub start: bool,
    /// The runtime stays and relays the terminal, so it can be the one that gets it.
    pub attached: bool,
}

/// Everything that is to be done, in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The runtime's steps.
    pub parent: Vec<Entry<ParentStep>>,
    /// The child's steps.
    pub child: Vec<Entry<ChildStep>>,
    /// What is executed in the end; `None` for a container that can be created only.
    pub payload: Option<Payload>,
    /// The container's cgroups.
    pub cgroup: Option<Cgroup>,
    /// The container's share of cache and memory bandwidth.
    pub rdt: Option<Rdt>,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The container's init (exec), whose own cgroup of v2 the process joins if the container's takes
    /// none: it has cgroups of its own below, or init has left it.
    pub init_pid: Option<i32>,
    /// Whether init shares its pid namespace with others.
    pub shared_pid_namespace: bool,
    /// Whether the container is made from a checkpoint.
    pub restored: bool,
    /// Whether others can look at the child before it executes the payload, so that the runtime
    /// has to run from a protected copy of its binary.
    pub exposed: bool,
    /// What is odd but no reason to refuse.
    pub warnings: Vec<String>,
}

/// More steps than containers usually have, and no more than the heap has a block for.
const USUAL_STEPS: usize = 90;
const _: () = assert!(USUAL_STEPS * size_of::<Entry<ChildStep>>() <= crate::sys::heap::LARGEST);

impl Plan {
    /// What the child joins of the v1 cgroups, in order.
    pub fn joined_cgroups(&self) -> impl Iterator<Item = &Cgroup> {
        let joined = self.child.iter().find_map(|entry| match &entry.step {
            ChildStep::JoinCgroup(now, late) => Some([now, late]),
            _ => None,
        });
        joined.into_iter().flatten()
    }

    /// The steps that are mounts, in order.
    pub fn mounts(&self) -> impl Iterator<Item = &ChildStep> {
        let steps = self.child.iter().map(|entry| &entry.step);
        steps.filter(|step| matches!(step, ChildStep::Mount(_) | ChildStep::CgroupMounts { .. }))
    }

    /// Says that the payload's filter may be the reason of a failure, if it holds for the child's step
    /// `index`.
    pub fn explain_filter(&self, index: usize, err: Error) -> Error {
        let is_filter =
            |entry: &Entry<ChildStep>| matches!(entry.step, ChildStep::Seccomp(_, false));
        match self.child.iter().take(index).any(is_filter) {
            true => err.hint("linux.seccomp may not allow what it takes to start a program"),
            false => err,
        }
    }

    fn parent(&mut self, step: ParentStep, at: impl Into<String>) {
        self.parent.push(Entry { step, at: at.into() });
    }

    fn child(&mut self, step: ChildStep, at: impl Into<String>) {
        self.child.push(Entry { step, at: at.into() });
    }

    /// Where the runtime has nothing left to do once the child is ready, it says so beforehand, which
    /// saves waking each of them once more. A terminal that it relays has to be prepared before the
    /// payload writes to it.
    fn start_beforehand(&mut self) {
        let relayed = |entry: &Entry<ChildStep>| {
            matches!(entry.step, ChildStep::Terminal { to_socket: false, .. })
        };
        if self.child.iter().any(relayed) {
            return;
        }
        let steps = |pair: &[Entry<ParentStep>]| {
            matches!(pair, [ready, start] if matches!(ready.step, ParentStep::AwaitReady)
                && matches!(start.step, ParentStep::Start))
        };
        if let Some(ready) = self.parent.windows(2).position(steps) {
            let entry = Entry { step: ParentStep::StartBeforehand, at: String::new() };
            self.parent.splice(ready..ready + 2, [entry]);
        }
    }
}

/// Plans a new container.
///
/// # Errors
/// Whatever in `spec` cannot be done, with its JSON path.
pub fn container(spec: &Spec, host: &Host, options: &Options) -> Result<Plan> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    if linux.mount_label.as_deref().is_some_and(|label| !label.is_empty()) {
        check_selinux("linux.mountLabel")?;
    }
    let mut namespaces = Namespaces::plan(&linux.namespaces)?;
    if namespaces.borrow_mounts() {
        check_shared_mounts(linux, &namespaces)?;
    }
    let root = check::root(spec)?;
    let mut plan = Plan {
        // Growing would copy the steps from block to block.
        parent: Vec::with_capacity(USUAL_STEPS),
        child: Vec::with_capacity(USUAL_STEPS),
        rootfs: clean(&options.bundle.join(&root.path)),
        ..Plan::default()
    };
    if namespaces.borrows_mounts {
        let what = "without a mount namespace only chroot(2) keeps the container in its root";
        plan.warnings.push(what.into());
    }
    plan.shared_pid_namespace = namespaces.new & NEWPID == 0;
    plan.exposed = plan.shared_pid_namespace;
    plan.cgroup = plan_cgroup(linux, host, options)?;
    if plan.cgroup.is_none() && plan.shared_pid_namespace {
        let what =
            "without a cgroup or a pid namespace the container's processes cannot all be killed";
        plan.warnings.push(what.into());
    }
    plan.rdt = linux.intel_rdt.as_ref().map(|rdt| plan_rdt(rdt, &options.id)).transpose()?;
    if let Some(process) = &spec.process {
        plan.payload = Some(Payload::plan(process)?);
        check_terminal(process, options)?;
        // Until `start` a process of exec may be beside it.
        plan.exposed |= !options.start && may_trace(process);
    }
    let hooks = spec.hooks.clone().unwrap_or_default();
    let sync = [Point::Prestart, Point::CreateRuntime, Point::CreateContainer]
        .iter()
        .any(|point| !point.of(&hooks).is_empty());
    warn_of_variables(&hooks, &mut plan.warnings);
    let context = Context { spec, linux, host, options, namespaces: &namespaces, sync };
    context.parent_steps(&mut plan)?;
    context.child_steps(&mut plan)?;
    plan.start_beforehand();
    Ok(plan)
}

/// Warns of what programs do not find in the environments of hooks.
fn warn_of_variables(hooks: &Hooks, warnings: &mut Vec<String>) {
    for point in Point::ALL {
        for (i, hook) in point.of(hooks).iter().enumerate() {
            let mut entries = hook.env.iter().flatten();
            if let Some(j) = entries.position(|entry| !entry.contains('=')) {
                warnings.push(format!("hooks.{}[{i}].env[{j}] has no '='", point.name()));
            }
        }
    }
}

/// None where a caller without permissions for cgroups asks for nothing that needs one.
fn plan_cgroup(linux: &Linux, host: &Host, options: &Options) -> Result<Option<Cgroup>> {
    let (hierarchies, path) = (&host.hierarchies, linux.cgroups_path.as_deref());
    if let Some(manager) = &host.systemd {
        return Cgroup::plan_unit(hierarchies, manager, path, &options.id).map(Some);
    }
    let cgroup = Cgroup::plan(hierarchies, path, &options.id)?;
    if !host.rootless {
        return Ok(Some(cgroup));
    }
    let none = Default::default();
    let limits = cgroup::limits(linux.resources.as_ref().unwrap_or(&none), hierarchies)?;
    cgroup.permitted(path.is_some_and(|path| !path.is_empty()), &limits)
}

/// What a container that shares the host's mount namespace cannot have.
fn check_shared_mounts(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let refuse = |what: &str, at: &str| {
        Err(Error::new(what).at(at).hint("add {\"type\": \"mount\"} to linux.namespaces"))
    };
    if namespaces.has(NEWUSER) {
        return refuse("a user namespace needs a mount namespace", "linux.namespaces");
    }
    match linux.rootfs_propagation.as_deref() {
        Some(word) if !word.is_empty() => {
            refuse("propagation of the root needs a mount namespace", "linux.rootfsPropagation")
        }
        _ => Ok(()),
    }
}

fn plan_rdt(config: &IntelRdt, id: &str) -> Result<Rdt> {
    let root = rdt::mounted()?.ok_or_else(rdt::unavailable)?;
    Rdt::plan(config, id, &root)
}

/// A terminal has to go somewhere.
fn check_terminal(process: &Process, options: &Options) -> Result<()> {
    if process.terminal && options.console_socket.is_none() && !options.attached {
        return Err(Error::new(
            "cannot allocate tty if tare will detach without setting console socket",
        )
        .at("process.terminal")
        .hint("give a --console-socket, run without --detach, or set terminal to false"));
    }
    if (!process.terminal || options.attached) && options.console_socket.is_some() {
        let hint = match process.terminal {
            true => "leave out --console-socket, or add --detach",
            false => "leave out --console-socket, or set terminal to true",
        };
        return Err(Error::new(
            "cannot use console socket if tare will not detach or allocate tty",
        )
        .at("process.terminal")
        .hint(hint));
    }
    Ok(())
}

/// What the planning functions share.
struct Context<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    host: &'a Host,
    options: &'a Options,
    namespaces: &'a Namespaces,
    /// Whether hooks need a point at which both sides meet.
    sync: bool,
}

impl Context<'_> {
    fn hooks(&self, point: Point) -> Vec<Hook> {
        self.spec.hooks.as_ref().map_or_else(Vec::new, |hooks| Hook::plan(point, hooks).collect())
    }

    fn new_user(&self) -> bool {
        self.namespaces.new & NEWUSER != 0
    }

    /// Whether the child can only get its new namespaces after it has joined the user namespace
    /// that is to own them.
    fn late_namespaces(&self) -> bool {
        self.namespaces.joins(NEWUSER)
    }

    /// Whether a namespace has to be joined by the runtime: the pid and the time namespace are
    /// entered by being born.
    fn joined_by_parent(&self, flag: u64) -> bool {
        flag & (NEWPID | NEWTIME) != 0 && !self.joins_before_birth()
    }

    /// Whether the child joins such namespaces itself and forks once more: an unprivileged runtime
    /// has no right to come back to its own, and a process in a new user namespace may not join
    /// others' at all.
    fn joins_before_birth(&self) -> bool {
        match self.new_user() {
            true => self.namespaces.joins.iter().any(|join| join.kind.flag != NEWNS),
            false => {
                let by_birth = self.namespaces.joins(NEWPID) || self.namespaces.joins(NEWTIME);
                by_birth && host::is_unprivileged()
            }
        }
    }

    /// Whether the child makes its user namespace after its second birth: it has things to do with
    /// the rights that it has outside, but in the pid namespace that it joins.
    fn makes_users_late(&self) -> bool {
        self.new_user() && self.namespaces.joins(NEWPID)
    }

    /// Whether the child makes its time namespace itself and forks once more, for the same reason.
    fn makes_time_late(&self) -> bool {
        self.namespaces.new & NEWTIME != 0 && host::is_unprivileged()
    }

    /// The namespaces that the child is to be born in.
    fn born_in(&self) -> u64 {
        match self.late_namespaces() {
            true => self.namespaces.new & NEWPID,
            false => self.namespaces.new & !(NEWTIME | NEWCGROUP),
        }
    }

    /// Those of them that are there at its first birth. The one that its time namespace is to belong to
    /// is, unless others are joined before.
    fn first_born_in(&self) -> u64 {
        match (self.late_namespaces() || self.joins_before_birth(), self.makes_time_late()) {
            (true, _) => 0,
            (false, true) => self.namespaces.new & NEWUSER,
            (false, false) => self.born_in(),
        }
    }

    /// Whether the child forks once more before it makes its mounts.
    fn second_fork(&self) -> bool {
        let late = self.joins_before_birth() || self.makes_time_late();
        late || self.born_in() != self.first_born_in()
    }
}

#[cfg(test)]
mod tests;
