//! What the kernel's schedulers and its memory allocator know of a process.

use nix::errno::Errno;

/// `struct sched_attr` of sched_setattr(2), all that it had in Linux 5.3.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the policies other and batch.
    pub nice: i32,
    /// For the policies fifo and rr.
    pub priority: u32,
    /// For the policy deadline, in nanoseconds.
    pub runtime: u64,
    /// As `runtime`.
    pub deadline: u64,
    /// As `runtime`.
    pub period: u64,
    /// Bounds of the utilisation, which the configuration has no members for.
    pub utilisation: [u32; 2],
}

/// Sets the scheduling policy of this thread (sched_setattr(2)).
pub fn set_scheduler(attr: SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: the structure is whole and says its size.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
        .map(drop)
}

/// Sets the I/O class and priority of this thread (ioprio_set(2)).
pub fn set_io_priority(class: u32, priority: u32) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = class << 13 | priority;
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// As many as the kernel can be built for; it refuses less than its own number.
pub const CPU_WORDS: usize = 8192 / 64;
/// A bit for each CPU.
pub type CpuMask = [u64; CPU_WORDS];

/// Sets the CPUs that a process may run on, a bit a CPU; 0 is this one (sched_setaffinity(2)).
pub fn set_affinity(pid: i32, mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: pointer and length in bytes are those of one slice.
    Errno::result(unsafe {
        libc::sched_setaffinity(pid, size_of_val(mask), mask.as_ptr().cast::<libc::cpu_set_t>())
    })
    .map(drop)
}

/// The CPUs that this thread may run on (sched_getaffinity(2)).
pub fn affinity() -> Result<CpuMask, Errno> {
    let mut mask: CpuMask = [0; CPU_WORDS];
    // SAFETY: the length is that of the array, which the kernel fills.
    Errno::result(unsafe {
        libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast::<libc::cpu_set_t>())
    })?;
    Ok(mask)
}

/// The CPU that this thread runs on now (sched_getcpu(3)).
pub fn current_cpu() -> Result<usize, Errno> {
    // SAFETY: nothing is passed.
    Errno::result(unsafe { libc::sched_getcpu() }).map(|cpu| cpu as usize)
}

/// Sets the memory policy of this thread; `nodes` has a bit a node (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told.
    let count = if nodes.is_empty() { 0 } else { nodes.len() * u64::BITS as usize + 1 };
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads as many bits as the slice has, or nothing.
    Errno::result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, count) }).map(drop)
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: only an integer is passed.
    Errno::result(unsafe { libc::personality(libc::c_ulong::from(domain)) }).map(drop)
}
