//! bpf(2), as far as the device filter of cgroup v2 needs it.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::owned;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The name of a program, ended and filled up with zeros (`BPF_OBJ_NAME_LEN`).
pub type Name = [u8; 16];

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Class, source and operation.
    pub code: u8,
    registers: u8,
    /// Of a jump, in instructions from the next one; of a load, in bytes.
    pub offset: i16,
    /// The operand that is no register.
    pub value: i32,
}

impl Insn {
    /// An instruction with its operands.
    pub const fn new(code: u8, target: u8, source: u8, offset: i16, value: i32) -> Self {
        let registers = if cfg!(target_endian = "little") {
            source << 4 | target
        } else {
            target << 4 | source
        };
        Insn { code, registers, offset, value }
    }

    /// The registers: target and source.
    pub const fn registers(&self) -> (u8, u8) {
        let (low, high) = (self.registers & 15, self.registers >> 4);
        if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
    }
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: Name,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    more: [u64; 3],
    /// Nobody wants it, but kernels since 6.17 write it whatever the size that they are told (mended
    /// in 7.2).
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoOf {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    uid: u32,
    map_count: u32,
    maps: u64,
    name: Name,
}

/// # Safety
/// `T` has to be the members of `union bpf_attr` for `command`, and what its addresses name has to
/// be there for the whole call.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> libc::c_long {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `attr`; the rest is the caller's.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) }
}

/// Loads a program for the device filter of cgroups.
///
/// Errors: `EPERM` without CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN in the first user namespace;
/// `EINVAL` or `EACCES` for a program that the kernel does not accept; `ENOSYS`.
pub fn load_device_filter(program: &[Insn], name: &Name) -> Result<OwnedFd, Errno> {
    let license: &CStr = c"";
    let mut attr = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name: *name,
        ..Load::default()
    };
    // SAFETY: `Load` is what PROG_LOAD takes; the instructions and the license outlive the call.
    owned(unsafe { bpf(PROG_LOAD, &mut attr) })
}

/// Attaches a device filter to the cgroup whose directory is open as `cgroup`, beside those that
/// are there, or in one stroke in the place of `replaced`.
pub fn attach(
    cgroup: BorrowedFd,
    program: BorrowedFd,
    replaced: Option<BorrowedFd>,
) -> Result<(), Errno> {
    let mut attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: `Attach` is what PROG_ATTACH takes, and holds no address.
    Errno::result(unsafe { bpf(PROG_ATTACH, &mut attr) }).map(drop)
}

/// Detaches a device filter.
pub fn detach(cgroup: BorrowedFd, program: BorrowedFd) -> Result<(), Errno> {
    let mut attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: `Attach` is what PROG_DETACH takes, and holds no address.
    Errno::result(unsafe { bpf(PROG_DETACH, &mut attr) }).map(drop)
}

/// The ids of the device filters of a cgroup (not of those above it), in their order.
pub fn attached(cgroup: BorrowedFd) -> Result<Vec<u32>, Errno> {
    // The kernel's own bound (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0; 64];
    let mut attr = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    // SAFETY: `Query` is what PROG_QUERY takes; `ids` has room for `count` numbers.
    Errno::result(unsafe { bpf(PROG_QUERY, &mut attr) })?;
    ids.truncate(attr.count as usize);
    Ok(ids)
}

/// Opens the program with this id.
pub fn open(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = ById { id, ..ById::default() };
    // SAFETY: `ById` is what PROG_GET_FD_BY_ID takes, and holds no address.
    owned(unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) })
}

/// A program's name.
pub fn name(program: BorrowedFd) -> Result<Name, Errno> {
    let mut info = Info::default();
    let mut attr = InfoOf {
        program: program.as_raw_fd() as u32,
        length: size_of::<Info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: `InfoOf` is what OBJ_GET_INFO_BY_FD takes; `info` has room for `length` bytes, and its
    // own addresses and counts are zero, so that the kernel writes nowhere else.
    Errno::result(unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) })?;
    Ok(info.name)
}
