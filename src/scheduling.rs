//! How the kernel is to treat a process: scheduling policy, I/O priority, CPUs, memory nodes,
//! execution domain (config.md "Linux Process", config-linux.md "Memory policy", "Personality").

use std::fmt;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::spec::{config, list, names};
use crate::sys::scheduling as sys;
use crate::sys::scheduling::SchedAttr;

/// One of these settings. What is set for a process holds for all that it becomes and makes.
#[derive(Debug)]
pub enum Scheduling {
    /// The scheduling policy.
    Policy(Scheduler),
    /// Class and priority of I/O.
    IoPriority(IoPriority),
    /// The execution domain.
    Personality(Personality),
    /// The memory policy.
    Memory(MemoryPolicy),
    /// The CPUs, once it is in its cgroup.
    FinalCpus(Cpus),
    /// All CPUs of the cgroup: what the runtime's caller is restricted to is not the container's.
    AllCpus,
}

impl Scheduling {
    /// Sets it for this process.
    pub fn apply(&self) -> Result<()> {
        match self {
            Self::Policy(scheduler) => scheduler.apply(),
            Self::IoPriority(priority) => priority.apply(),
            Self::Personality(personality) => personality.apply(),
            Self::Memory(policy) => policy.apply(),
            Self::FinalCpus(cpus) => cpus.apply("final"),
            Self::AllCpus => {
                forget_affinity();
                Ok(())
            }
        }
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(scheduler) => write!(f, "set the scheduler to {}", scheduler.policy),
            Self::IoPriority(io) => write!(f, "set the I/O class to {}", io.name),
            Self::Personality(personality) => {
                write!(f, "set the personality to {}", personality.name)
            }
            Self::Memory(policy) => write!(f, "set the memory policy to {}", policy.name),
            Self::FinalCpus(cpus) => write!(f, "run on the CPUs {}", cpus.list),
            Self::AllCpus => f.write_str("run on all CPUs of the cgroup"),
        }
    }
}

/// A scheduling policy.
#[derive(Debug)]
pub struct Scheduler {
    /// Its name, `SCHED_BATCH`.
    pub policy: String,
    attr: SchedAttr,
    /// Whether the container has CPUs of its own, which rules some policies out.
    cpuset: bool,
}

impl Scheduler {
    /// Reads `process.scheduler`, whose words and ranges have been checked.
    pub fn plan(config: &config::Scheduler, linux: &config::Linux) -> Result<Self> {
        let wrong = || Error::new("invalid scheduler").at("process.scheduler");
        let cpu = linux.resources.as_ref().and_then(|resources| resources.cpu.as_ref());
        let cpus = cpu.and_then(|cpu| cpu.cpus.as_deref());
        let attr = SchedAttr {
            policy: names::number(names::POLICIES, &config.policy).ok_or_else(wrong)?,
            flags: names::mask(names::POLICY_FLAGS, &config.flags).ok_or_else(wrong)?.into(),
            nice: config.nice.unwrap_or_default(),
            priority: config.priority.unwrap_or_default().try_into().map_err(|_| wrong())?,
            runtime: config.runtime.unwrap_or_default(),
            deadline: config.deadline.unwrap_or_default(),
            period: config.period.unwrap_or_default(),
            ..SchedAttr::default()
        };
        let cpuset = cpus.is_some_and(|cpus| !cpus.is_empty());
        Ok(Scheduler { policy: config.policy.clone(), attr, cpuset })
    }

    /// Sets it for this process.
    pub fn apply(&self) -> Result<()> {
        let errno = match sys::set_scheduler(self.attr) {
            Ok(()) => return Ok(()),
            Err(errno) => errno,
        };
        // The words are runc's.
        let err = match errno {
            Errno::EPERM if self.cpuset => {
                Error::new("process scheduler can't be used together with AllowedCPUs")
                    .hint("leave out linux.resources.cpu.cpus, or choose another policy")
            }
            _ => Error::sys("error setting scheduler", errno),
        };
        Err(match errno {
            Errno::EPERM => err.hint(
                "it needs CAP_SYS_NICE; SCHED_FIFO and SCHED_RR need \
                 linux.resources.cpu.realtimeRuntime where cgroup v1 shares out that time",
            ),
            Errno::EINVAL | Errno::EOPNOTSUPP => {
                err.hint("the kernel lacks this policy or flag, or refuses its numbers")
            }
            _ => err,
        })
    }
}

/// Class and priority of I/O.
#[derive(Debug)]
pub struct IoPriority {
    /// The class, `IOPRIO_CLASS_BE`.
    pub name: String,
    class: u32,
    priority: u32,
}

impl IoPriority {
    /// Reads `process.ioPriority`, which has been checked.
    pub fn plan(config: &config::IoPriority) -> Result<Self> {
        let class = names::number(names::IO_CLASSES, &config.class);
        match (class, u32::try_from(config.priority)) {
            (Some(class), Ok(priority)) => {
                Ok(IoPriority { name: config.class.clone(), class, priority })
            }
            _ => Err(Error::new("invalid ioPriority").at("process.ioPriority")),
        }
    }

    /// Sets it for this process, which has a process group of its own.
    pub fn apply(&self) -> Result<()> {
        sys::set_io_priority(self.class, self.priority).map_err(|errno| {
            let err = Error::sys("failed to set io priority", errno);
            match errno {
                Errno::EPERM => err.hint("IOPRIO_CLASS_RT needs CAP_SYS_NICE"),
                _ => err,
            }
        })
    }
}

/// The flag with which numbers of nodes are counted among those that there are (set_mempolicy(2)).
const RELATIVE: &str = "MPOL_F_RELATIVE_NODES";

/// A policy for the memory of a process.
#[derive(Debug)]
pub struct MemoryPolicy {
    /// Its mode, `MPOL_BIND`.
    pub name: String,
    mode: u32,
    nodes: Vec<u64>,
}

impl MemoryPolicy {
    /// Reads `linux.memoryPolicy`, which has been checked.
    pub fn plan(config: &config::MemoryPolicy) -> Result<Self> {
        let wrong = || Error::new("invalid memory policy").at("linux.memoryPolicy");
        let mode = names::number(names::MEMORY_MODES, &config.mode).ok_or_else(wrong)?;
        let flags = names::mask(names::MEMORY_FLAGS, &config.flags).ok_or_else(wrong)?;
        let nodes = config.nodes.as_deref().unwrap_or_default();
        let nodes = list::mask(nodes, list::HIGHEST_NODE).ok_or_else(wrong)?;
        Ok(MemoryPolicy { name: config.mode.clone(), mode: mode | flags, nodes })
    }

    /// Whether it names nodes, and none of those that are `there`: the kernel refuses it then.
    pub fn has_none_of(&self, there: &[u64]) -> bool {
        let names_any = self.nodes.iter().any(|word| *word != 0);
        let relative = names::number(names::MEMORY_FLAGS, RELATIVE).unwrap_or_default();
        let has_any = self.nodes.iter().zip(there).any(|(named, there)| named & there != 0);
        names_any && self.mode & relative == 0 && !has_any
    }

    /// Sets it for this process and what it executes.
    pub fn apply(&self) -> Result<()> {
        sys::set_memory_policy(self.mode, &self.nodes).map_err(|errno| {
            let err = Error::sys("set_mempolicy", errno);
            match errno {
                Errno::EINVAL => err.hint(
                    "a node that this host or the container's cpuset does not have, or a mode or \
                     flag that this kernel does not take",
                ),
                Errno::ENOSYS => err.hint("this kernel is built without NUMA"),
                _ => err,
            }
        })
    }
}

/// An execution domain.
#[derive(Debug)]
pub struct Personality {
    /// Its name, `LINUX32`.
    pub name: String,
    domain: u32,
}

impl Personality {
    /// Reads `linux.personality`, which has been checked.
    pub fn plan(config: &config::Personality) -> Result<Self> {
        let domain = names::number(names::PERSONALITIES, &config.domain);
        let domain = domain
            .ok_or_else(|| Error::new("invalid personality").at("linux.personality.domain"))?;
        Ok(Personality { name: config.domain.clone(), domain })
    }

    /// Enters it.
    pub fn apply(&self) -> Result<()> {
        sys::set_personality(self.domain).doing(|| "set the personality")
    }
}

/// CPUs that a process may run on.
#[derive(Debug, Clone)]
pub struct Cpus {
    /// As written: `0-3,7`.
    pub list: String,
    mask: Vec<u64>,
}

impl Cpus {
    /// Reads a part of `process.execCPUAffinity`; `None` if it is absent or empty.
    pub fn plan(written: Option<&str>) -> Result<Option<Self>> {
        let list = written.unwrap_or_default();
        let mask = list::mask(list, list::HIGHEST_CPU)
            .ok_or_else(|| Error::new("bad CPUAffinity").at("process.execCPUAffinity"))?;
        Ok((!mask.is_empty()).then(|| Cpus { list: list.to_owned(), mask }))
    }

    /// Restricts this process to them.
    pub fn apply(&self, which: &str) -> Result<()> {
        sys::set_affinity(0, &self.mask).map_err(|errno| {
            let err = Error::sys(format!("error setting {which} CPU affinity"), errno);
            match errno {
                Errno::EINVAL => err.hint("none of these CPUs is there for it (see cpuset(7))"),
                _ => err,
            }
        })
    }
}

/// For the kernel, those of them that there are.
const ALL_CPUS: sys::CpuMask = [u64::MAX; sys::CPU_WORDS];

/// Where that is denied, the restriction of the runtime's caller stays, as with runc.
fn forget_affinity() {
    let _ = sys::set_affinity(0, &ALL_CPUS);
}

/// Puts a new process that waits for this CPU on another one, if there is one, so that both run at
/// once; its CPUs are those of [`Scheduling::AllCpus`] then. Schedulers that pack processes on few
/// CPUs would have it wait for the runtime to sleep, which is a sixth of the container's start.
pub fn spread(pid: i32) {
    let elsewhere = || -> std::result::Result<(), Errno> {
        let (mut others, here) = (sys::affinity()?, sys::current_cpu()?);
        if let Some(word) = others.get_mut(here / 64) {
            *word &= !(1 << (here % 64));
        }
        sys::set_affinity(pid, &others)?;
        sys::set_affinity(pid, &ALL_CPUS)
    };
    // With a single CPU the kernel says EINVAL. It is about speed alone, so no reason to fail.
    let _ = elsewhere();
}

/// Logs the CPUs of this process in runc's words; only for whoever debugs.
pub fn log_affinity() {
    crate::log::debug(|| match sys::affinity() {
        Ok(mask) => format!("affinity: {:#x}", mask[0]),
        Err(errno) => format!("sched_getaffinity: {errno}"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_lists_of_cpus_are_none() {
        assert!(Cpus::plan(None).unwrap().is_none());
        assert!(Cpus::plan(Some(" ")).unwrap().is_none());
        assert_eq!(Cpus::plan(Some("0,65")).unwrap().unwrap().mask, [1, 2]);
        assert!(Cpus::plan(Some("8192")).is_err());
    }

    #[test]
    fn a_process_that_is_spread_may_run_on_all_cpus() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let pid = child.id() as i32;
        sys::set_affinity(pid, &[1]).unwrap();
        spread(pid);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let cpus = std::thread::available_parallelism().unwrap().get();
        let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).unwrap();
        match cpus {
            1 => assert_eq!(allowed, "0"),
            _ => assert_ne!(allowed, "0"),
        }
    }

    #[test]
    fn a_memory_policy_has_its_flags_in_the_mode() {
        let json = r#"{"mode": "MPOL_BIND", "nodes": "0,2", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let policy = MemoryPolicy::plan(&crate::spec::load::from_json(json).unwrap()).unwrap();
        assert_eq!((policy.mode, &*policy.nodes), (0x8002, &[0b101][..]));
        assert!(policy.has_none_of(&[0b10]) && policy.has_none_of(&[]));
        assert!(!policy.has_none_of(&[0b11]));
        let json = json.replace("STATIC", "RELATIVE");
        let policy = MemoryPolicy::plan(&crate::spec::load::from_json(&json).unwrap()).unwrap();
        assert!(!policy.has_none_of(&[0b10]));
    }

    #[test]
    fn a_scheduler_knows_whether_there_is_a_cpuset() {
        let json = r#"{"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}"#;
        let config = crate::spec::load::from_json(json).unwrap();
        let mut linux = config::Linux::default();
        let plan = Scheduler::plan(&config, &linux).unwrap();
        assert_eq!((plan.attr.policy, plan.attr.flags, plan.attr.nice), (3, 1, 5));
        assert!(!plan.cpuset);
        linux.resources = crate::spec::load::from_json(r#"{"cpu": {"cpus": "0"}}"#).unwrap();
        assert!(Scheduler::plan(&config, &linux).unwrap().cpuset);
    }
}
