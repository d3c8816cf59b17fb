//! Architectures as seccomp sees them, and the families that run on one kernel.
//!
//! A kernel reports only system calls of its own family, so the rules of other architectures are
//! accepted and need no code. Tokens: `AUDIT_ARCH_*` in the kernel's `linux/audit.h`.

use super::table::Table;

/// The bit that marks a call of the x32 ABI (`__X32_SYSCALL_BIT`).
const X32_BIT: u32 = 0x4000_0000;

/// One ABI of a family.
pub(super) struct Arch {
    /// The name in config.json.
    pub(super) name: &'static str,
    /// What `seccomp_data.arch` holds.
    pub(super) token: u32,
    /// The bit in all its numbers that tells it from the native ABI of the same token (x32).
    pub(super) marker: u32,
    /// The column in the family's table.
    pub(super) column: usize,
    /// Whether arguments are compared as 64 bits; otherwise as their lower 32, x32 included.
    pub(super) wide: bool,
    /// Whether `socketcall` and `ipc` carry many calls, their number in the first argument.
    pub(super) multiplexed: bool,
    /// Whether the unused call 0 stands for numbers that the kernel does not know (s390).
    pub(super) zero_unknown: bool,
}

/// The ABIs of one kernel, the native one first.
pub(super) struct Family {
    pub(super) archs: &'static [Arch],
    pub(super) table: Table,
    /// The table's column for calls inside `socketcall` and `ipc`.
    pub(super) multiplexed: Option<usize>,
    /// The offset of an argument's lower 32 bits in its 64.
    pub(super) low_half: u32,
}

impl Family {
    /// The native ABI, which is always meant, and those of the others that `listed` holds.
    pub(super) fn chosen(&self, listed: &[String]) -> Vec<&'static Arch> {
        let listed = |arch: &Arch| listed.iter().any(|name| name == arch.name);
        self.archs
            .iter()
            .enumerate()
            .filter(|(i, a)| *i == 0 || listed(a))
            .map(|(_, a)| a)
            .collect()
    }

    /// The marker of an ABI that shares the native token, listed or not.
    pub(super) fn marker(&self) -> Option<u32> {
        self.archs.iter().map(|arch| arch.marker).find(|marker| *marker != 0)
    }
}

/// Every name that runtime-spec lists for `architectures`.
pub(super) const NAMES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// An ABI without peculiarities.
const fn plain(name: &'static str, token: u32, column: usize, wide: bool) -> Arch {
    Arch { name, token, marker: 0, column, wide, multiplexed: false, zero_unknown: false }
}

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) static X86: Family = Family {
    archs: &[
        plain("SCMP_ARCH_X86_64", 0xc000_003e, 0, true),
        Arch { multiplexed: true, ..plain("SCMP_ARCH_X86", 0x4000_0003, 1, false) },
        Arch { marker: X32_BIT, ..plain("SCMP_ARCH_X32", 0xc000_003e, 2, false) },
    ],
    table: Table::new(include_str!("syscalls/x86.tbl")),
    multiplexed: Some(3),
    low_half: 0,
};

#[cfg(any(test, target_arch = "aarch64"))]
pub(super) static ARM: Family = Family {
    archs: &[
        plain("SCMP_ARCH_AARCH64", 0xc000_00b7, 0, true),
        plain("SCMP_ARCH_ARM", 0x4000_0028, 1, false),
    ],
    table: Table::new(include_str!("syscalls/arm.tbl")),
    multiplexed: None,
    low_half: 0,
};

#[cfg(any(test, target_arch = "riscv64"))]
pub(super) static RISCV: Family = Family {
    archs: &[plain("SCMP_ARCH_RISCV64", 0xc000_00f3, 0, true)],
    table: Table::new(include_str!("syscalls/riscv.tbl")),
    multiplexed: None,
    low_half: 0,
};

#[cfg(any(test, target_arch = "s390x"))]
pub(super) static S390: Family = Family {
    archs: &[
        Arch {
            multiplexed: true,
            zero_unknown: true,
            ..plain("SCMP_ARCH_S390X", 0x8000_0016, 0, true)
        },
        Arch {
            multiplexed: true,
            zero_unknown: true,
            ..plain("SCMP_ARCH_S390", 0x0000_0016, 1, false)
        },
    ],
    table: Table::new(include_str!("syscalls/s390.tbl")),
    multiplexed: Some(2),
    low_half: 4,
};

#[cfg(any(test, all(target_arch = "powerpc64", target_endian = "little")))]
pub(super) static POWERPC: Family = Family {
    archs: &[Arch { multiplexed: true, ..plain("SCMP_ARCH_PPC64LE", 0xc000_0015, 0, true) }],
    table: Table::new(include_str!("syscalls/powerpc.tbl")),
    multiplexed: Some(1),
    low_half: 0,
};

#[cfg(target_arch = "aarch64")]
pub(super) use ARM as NATIVE;
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
pub(super) use POWERPC as NATIVE;
#[cfg(target_arch = "riscv64")]
pub(super) use RISCV as NATIVE;
#[cfg(target_arch = "s390x")]
pub(super) use S390 as NATIVE;
#[cfg(target_arch = "x86_64")]
pub(super) use X86 as NATIVE;
