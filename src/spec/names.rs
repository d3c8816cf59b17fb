//! Words of `config.json` that stand for numbers of the kernel. The one table of each kind: what
//! is checked, done and listed by `features` cannot differ.

/// Names and their numbers.
pub type Names = [(&'static str, u32)];

/// The resource limits of getrlimit(2).
pub const RLIMITS: &Names = &[
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// Scheduling policies (linux/sched.h). The kernel keeps a number for `SCHED_ISO` and has no such
/// policy.
pub const POLICIES: &Names = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags of sched_setattr(2) (linux/sched.h).
pub const POLICY_FLAGS: &Names = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Classes of ioprio_set(2).
pub const IO_CLASSES: &Names =
    &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// Modes of set_mempolicy(2) (linux/mempolicy.h).
pub const MEMORY_MODES: &Names = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags of the modes of set_mempolicy(2).
pub const MEMORY_FLAGS: &Names = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// Execution domains of personality(2).
pub const PERSONALITIES: &Names = &[("LINUX", 0), ("LINUX32", 8)];

/// The number of `name`.
pub fn number(table: &Names, name: &str) -> Option<u32> {
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The numbers of `names`, as one mask.
pub fn mask(table: &Names, names: &[String]) -> Option<u32> {
    names.iter().try_fold(0, |mask, name| Some(mask | number(table, name)?))
}

/// The names alone.
pub fn words(table: &Names) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_up() {
        let flags = ["SCHED_FLAG_RECLAIM".to_owned(), "SCHED_FLAG_KEEP_PARAMS".to_owned()];
        assert_eq!(mask(POLICY_FLAGS, &flags), Some(0x12));
        assert_eq!(mask(POLICY_FLAGS, &[]), Some(0));
        assert_eq!(mask(MEMORY_FLAGS, &flags), None);
    }
}
