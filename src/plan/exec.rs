//! The steps of one more process in a running container.

use super::child::join_cgroup;
use super::process::{Around, process_steps, terminal_step};
use super::runtime::{finish, stdio_steps};
use super::{Options, Plan, check_terminal};
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::host::Host;
use crate::namespaces::{NEWPID, NEWTIME, NEWUSER, Namespaces, Users};
use crate::process::Payload;
use crate::rdt::Rdt;
use crate::scheduling::{Cpus, Scheduling};
use crate::spec::config::{Linux, Process, Spec};
use crate::step::{ChildStep, ParentStep};

/// What an exec needs to know of the container that it goes into.
#[derive(Debug)]
pub struct Target<'a> {
    /// The container's configuration.
    pub spec: &'a Spec,
    /// The cgroup that the process joins.
    pub cgroup: Option<Cgroup>,
    /// The container's share of cache and memory bandwidth.
    pub rdt: Option<Rdt>,
    /// The container's init, unless the cgroup was asked for by name.
    pub init_pid: Option<i32>,
    /// Whether it was made from a checkpoint: criu gives it a time namespace, where its clocks go on.
    pub restored: bool,
}

/// Plans one more process in a running container.
///
/// # Errors
/// Whatever in `process` cannot be done, with its JSON path in the process object.
pub fn exec(process: &Process, target: &Target, host: &Host, options: &Options) -> Result<Plan> {
    let none = Linux::default();
    let linux = target.spec.linux.as_ref().unwrap_or(&none);
    let namespaces = Namespaces::plan(&linux.namespaces)?;
    let mut plan = Plan { exposed: true, init_pid: target.init_pid, ..Plan::default() };
    plan.payload = Some(Payload::plan(process)?);
    check_terminal(process, options)?;
    let cpus = process.exec_cpu_affinity.as_ref();
    let outside = |cgroup: &&Cgroup| !cgroup.is_reachable(&host.hierarchies);
    let context = Context {
        process,
        linux,
        target,
        host,
        options,
        initial: Cpus::plan(cpus.and_then(|cpus| cpus.initial.as_deref()))?,
        last: Cpus::plan(cpus.and_then(|cpus| cpus.last.as_deref()))?,
        unreachable: target.cgroup.as_ref().filter(outside),
        fork_late: namespaces.has(NEWPID) && crate::host::is_unprivileged(),
        namespaces,
    };
    context.parent_steps(&mut plan);
    context.child_steps(&mut plan)?;
    plan.start_beforehand();
    Ok(plan)
}

/// What the planning functions share.
struct Context<'a> {
    process: &'a Process,
    linux: &'a Linux,
    target: &'a Target<'a>,
    host: &'a Host,
    options: &'a Options,
    namespaces: Namespaces,
    /// The processors until the process is in its cgroup.
    initial: Option<Cpus>,
    /// Those from then on.
    last: Option<Cpus>,
    /// A cgroup that only systemd can put the process into.
    unreachable: Option<&'a Cgroup>,
    /// Whether the child enters the pid namespace and forks once more: an unprivileged runtime may have
    /// rights over the others in the container's user namespace only, and no right to come back to its
    /// own.
    fork_late: bool,
}

impl Context<'_> {
    fn parent_steps(&self, plan: &mut Plan) {
        let users = self.namespaces.has(NEWUSER).then_some(Users::OfInit);
        stdio_steps(plan, self.process, self.options, users);
        let entered = self.namespaces.has(NEWPID) && !self.fork_late;
        if entered {
            plan.parent(ParentStep::EnterPidOfInit, "");
        }
        if let Some(initial) = &self.initial {
            let step = ParentStep::InitialCpus(initial.clone());
            plan.parent(step, "process.execCPUAffinity.initial");
        }
        let reachable = self.target.cgroup.as_ref().filter(|_| self.unreachable.is_none());
        plan.parent(ParentStep::Clone(0, reachable.map(Cgroup::unified)), "");
        if let Some(cgroup) = self.unreachable {
            plan.parent(ParentStep::JoinUnit(cgroup.clone()), "");
            plan.parent(ParentStep::Continue, "");
        }
        if self.fork_late {
            plan.parent(ParentStep::AwaitInitPid, "");
            plan.parent(ParentStep::Continue, "");
        }
        if entered {
            plan.parent(ParentStep::ComeBack, "");
        }
        if let Some(rdt) = &self.target.rdt {
            plan.parent(ParentStep::JoinRdt(rdt.clone()), "linux.intelRdt");
        }
        if let Some(score) = self.process.oom_score_adj {
            plan.parent(ParentStep::OomScore(score), "process.oomScoreAdj");
        }
        finish(plan, self.options, false);
    }

    fn child_steps(&self, plan: &mut Plan) -> Result<()> {
        if self.unreachable.is_some() {
            plan.child(ChildStep::Await, "");
        }
        if let Some(cgroup) = &self.target.cgroup {
            plan.child(join_cgroup(cgroup, true), "");
        }
        if let Some(last) = &self.last {
            let step = ChildStep::Scheduling(Scheduling::FinalCpus(last.clone()));
            plan.child(step, "process.execCPUAffinity.final");
        } else if self.initial.is_none() {
            plan.child(ChildStep::Scheduling(Scheduling::AllCpus), "");
        }
        plan.child(ChildStep::JoinNamespacesOfInit(self.joined()), "");
        if self.fork_late {
            plan.child(ChildStep::ForkInit(0), "");
            plan.child(ChildStep::Await, "");
        }
        let user_namespace = self.namespaces.has(NEWUSER);
        if user_namespace {
            plan.child(ChildStep::BecomeRoot, "");
        }
        if self.process.terminal {
            let step = terminal_step(self.process, self.options, false);
            plan.child(step, "process.terminal");
        }
        let &Context { linux, host, options, .. } = self;
        let around = Around { linux, host, options, user_namespace, first: false, hooks: false };
        process_steps(plan, self.process, &around)
    }

    /// The namespaces that the child joins: the pid namespace only if it forks once more there.
    fn joined(&self) -> u64 {
        let flags = crate::namespaces::KINDS.iter().map(|kind| kind.flag);
        let restored = |flag| flag == NEWTIME && self.target.restored;
        let flags = flags.filter(|flag| self.namespaces.has(*flag) || restored(*flag));
        flags.filter(|flag| *flag != NEWPID || self.fork_late).sum()
    }
}
