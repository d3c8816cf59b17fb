//! Refusals of `process`.

use super::super::config::{ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
use super::super::list;
use super::super::names::{IO_CLASSES, POLICIES, POLICY_FLAGS, RLIMITS};
use super::{named, repeated};
use crate::error::{Error, Result};

/// Refuses a process that cannot be run.
pub fn check(process: &Process) -> Result<()> {
    command(process)?;
    user(&process.user)?;
    rlimits(&process.rlimits)?;
    if let Some(score) = process.oom_score_adj.filter(|s| !(-1000..=1000).contains(s)) {
        return Err(Error::new(format!("oomScoreAdj {score} is out of range"))
            .at("process.oomScoreAdj")
            .hint("from -1000 (never killed) to 1000 (killed first)"));
    }
    if let Some(scheduling) = &process.scheduler {
        scheduler(scheduling)?;
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        cpus(affinity)?;
    }
    process.io_priority.as_ref().map_or(Ok(()), io_priority)
}

fn command(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::new("args must not be empty")
            .at("process.args")
            .hint("the program to run and its arguments, such as [\"sh\"]"));
    }
    if process.cwd.is_empty() {
        return Err(Error::new("Cwd property must not be empty").at("process.cwd"));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::new("Cwd must be an absolute path").at("process.cwd"));
    }
    for (i, entry) in process.env.iter().enumerate() {
        let wrong = match entry.split_once('=') {
            None => "missing '='",
            Some(("", _)) => "name cannot be empty",
            Some(_) => continue,
        };
        return Err(Error::new(format!("invalid environment variable: {wrong}"))
            .at(format!("process.env[{i}]")));
    }
    Ok(())
}

/// The kernel's -1 is no id: chown(2) and setresuid(2) take it for "leave as it is".
fn user(user: &User) -> Result<()> {
    if user.uid == u32::MAX && user.gid == u32::MAX {
        return Err(Error::new("the process has no user")
            .at("process.user")
            .hint("\"user\": {\"uid\": 0, \"gid\": 0} is root"));
    }
    let groups = user.additional_gids.iter().enumerate();
    let groups = groups.map(|(i, gid)| (*gid, format!("process.user.additionalGids[{i}]")));
    let ids =
        [(user.uid, "process.user.uid".to_owned()), (user.gid, "process.user.gid".to_owned())];
    if let Some((id, at)) = ids.into_iter().chain(groups).find(|(id, _)| *id == u32::MAX) {
        return Err(Error::new(format!("{id} is not an id that the kernel knows")).at(at));
    }
    match user.umask {
        Some(umask) if umask > 0o777 => Err(Error::new(format!("umask {umask} is out of range"))
            .at("process.user.umask")
            .hint("at most 511, which is 0777 in octal; JSON numbers are decimal")),
        _ => Ok(()),
    }
}

fn rlimits(list: &[Rlimit]) -> Result<()> {
    for (i, limit) in list.iter().enumerate() {
        let at = |part: &str| format!("process.rlimits[{i}].{part}");
        named(&limit.kind, RLIMITS, format!("wrong rlimit value: {}", limit.kind), at("type"))?;
        if limit.soft > limit.hard {
            return Err(Error::new(format!(
                "the soft {} is above the hard one, which is {}",
                limit.kind, limit.hard
            ))
            .at(at("soft")));
        }
    }
    match repeated(list.iter().map(|limit| limit.kind.as_str())) {
        Some(i) => {
            Err(Error::new("a resource limit is given twice")
                .at(format!("process.rlimits[{i}].type")))
        }
        None => Ok(()),
    }
}

/// sched_setattr(2); the rules and words are runc's.
fn scheduler(s: &Scheduler) -> Result<()> {
    let at = |part: &str| format!("process.scheduler.{part}");
    named(&s.policy, POLICIES, "the scheduling policy is unknown", at("policy"))?;
    for (i, flag) in s.flags.iter().enumerate() {
        let what = "the scheduling flag is unknown";
        named(flag, POLICY_FLAGS, what, format!("process.scheduler.flags[{i}]"))?;
    }
    let ordinary = matches!(&*s.policy, "SCHED_OTHER" | "SCHED_BATCH");
    if let Some(nice) = s.nice.filter(|nice| ordinary && !(-20..=19).contains(nice)) {
        return Err(Error::new(format!(
            "invalid scheduler.nice: {nice} when scheduler.policy is {}",
            s.policy
        ))
        .at(at("nice"))
        .hint("from -20 (first) to 19 (last)"));
    }
    let real_time = matches!(&*s.policy, "SCHED_FIFO" | "SCHED_RR");
    if !real_time && s.priority.unwrap_or_default() != 0 {
        return Err(Error::new(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        )
        .at(at("priority")));
    }
    if real_time && !(1..=99).contains(&s.priority.unwrap_or_default()) {
        return Err(Error::new(format!(
            "invalid scheduler.priority: {}",
            s.priority.unwrap_or_default()
        ))
        .at(at("priority"))
        .hint("from 1 (last) to 99 (first)"));
    }
    let times = [("runtime", s.runtime), ("deadline", s.deadline), ("period", s.period)];
    let given = times.iter().find(|(_, time)| time.unwrap_or_default() != 0);
    match given {
        Some((part, _)) if s.policy != "SCHED_DEADLINE" => Err(Error::new(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        )
        .at(at(part))),
        _ => Ok(()),
    }
}

/// ioprio_set(2).
fn io_priority(io: &IoPriority) -> Result<()> {
    if !(0..=7).contains(&io.priority) {
        return Err(Error::new(format!("invalid ioPriority.Priority: {}", io.priority))
            .at("process.ioPriority.priority")
            .hint("from 0 (first) to 7 (last)"));
    }
    let what = format!("invalid ioPriority.Class: {:?}", io.class);
    named(&io.class, IO_CLASSES, what, "process.ioPriority.class".to_owned())
}

/// CPUs of the processes that `exec` starts.
fn cpus(affinity: &ExecCpuAffinity) -> Result<()> {
    let lists = [("initial", "Initial", &affinity.initial), ("final", "Final", &affinity.last)];
    for (part, word, written) in lists {
        let written = written.as_deref().unwrap_or_default();
        if list::ranges(written, list::HIGHEST_CPU).is_none() {
            return Err(Error::new(format!("bad CPUAffinity.{word}: invalid range: {written}"))
                .at(format!("process.execCPUAffinity.{part}"))
                .hint("a list such as 0-3,7"));
        }
    }
    Ok(())
}
