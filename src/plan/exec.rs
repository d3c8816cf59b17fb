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
    let users = namespaces.has(NEWUSER).then_some(Users::OfInit);
    stdio_steps(&mut plan, process, options, users);
    let has_pid = namespaces.has(NEWPID);
    // Such a caller may have rights over the others in the container's user namespace only, and no
    // right to come back to its own.
    let fork_late = has_pid && crate::host::is_unprivileged();
    if has_pid && !fork_late {
        plan.parent(ParentStep::EnterPidOfInit, "");
    }
    let cpus = process.exec_cpu_affinity.as_ref();
    let initial = Cpus::plan(cpus.and_then(|cpus| cpus.initial.as_deref()))?;
    let last = Cpus::plan(cpus.and_then(|cpus| cpus.last.as_deref()))?;
    let keep_cpus = initial.is_some();
    if let Some(initial) = initial {
        plan.parent(ParentStep::InitialCpus(initial), "process.execCPUAffinity.initial");
    }
    let outside = |cgroup: &&Cgroup| !cgroup.is_reachable(&host.hierarchies);
    let unreachable = target.cgroup.as_ref().filter(outside);
    let unified = target.cgroup.as_ref().filter(|_| unreachable.is_none()).map(Cgroup::unified);
    plan.parent(ParentStep::Clone(0, unified), "");
    if let Some(cgroup) = unreachable {
        plan.parent(ParentStep::JoinUnit(cgroup.clone()), "");
        plan.parent(ParentStep::Continue, "");
        plan.child(ChildStep::Await, "");
    }
    match fork_late {
        true => {
            plan.parent(ParentStep::AwaitInitPid, "");
            plan.parent(ParentStep::Continue, "");
        }
        false if has_pid => plan.parent(ParentStep::ComeBack, ""),
        false => {}
    }
    if let Some(rdt) = &target.rdt {
        plan.parent(ParentStep::JoinRdt(rdt.clone()), "linux.intelRdt");
    }
    if let Some(score) = process.oom_score_adj {
        plan.parent(ParentStep::OomScore(score), "process.oomScoreAdj");
    }
    finish(&mut plan, options, false);
    if let Some(cgroup) = &target.cgroup {
        plan.child(join_cgroup(cgroup, true), "");
    }
    match last {
        Some(last) => {
            let step = ChildStep::Scheduling(Scheduling::FinalCpus(last));
            plan.child(step, "process.execCPUAffinity.final");
        }
        None if keep_cpus => {}
        None => plan.child(ChildStep::Scheduling(Scheduling::AllCpus), ""),
    }
    let flags = crate::namespaces::KINDS.iter().map(|kind| kind.flag);
    let restored = |flag| flag == NEWTIME && target.restored;
    let flags = flags.filter(|flag| namespaces.has(*flag) || restored(*flag));
    let flags = flags.filter(|flag| *flag != NEWPID || fork_late);
    plan.child(ChildStep::JoinNamespacesOfInit(flags.sum()), "");
    if fork_late {
        plan.child(ChildStep::ForkInit(0), "");
        plan.child(ChildStep::Await, "");
    }
    if namespaces.has(NEWUSER) {
        plan.child(ChildStep::BecomeRoot, "");
    }
    if process.terminal {
        plan.child(terminal_step(process, options, false), "process.terminal");
    }
    let user_namespace = namespaces.has(NEWUSER);
    let around = Around { linux, host, options, user_namespace, first: false, hooks: false };
    process_steps(&mut plan, process, &around)?;
    plan.start_beforehand();
    Ok(plan)
}
