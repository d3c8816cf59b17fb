//! The last page: a program of a few hundred bytes, in a sealed memory file, that stands between
//! the runtime and the payload.
//!
//! A payload such as `#!/proc/self/exe` makes the kernel open the binary of whoever called
//! execve(2). Were that the runtime itself, the container would get hold of the host's file
//! (CVE-2019-5736). So the child executes this stub, which closes the report descriptor on exec,
//! loads the seccomp filter, calls execve(2), and reports errno and path if that fails. It is one
//! execve(2) of one page; a second start of the whole runtime from a protected copy costs five
//! times as much.
//!
//! ```text
//! ELF header, two program headers | code | Params | filter (8 bytes each) | path, NUL
//! ```

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// No stub is larger, in bytes: the kernel takes 4,096 instructions of a filter and as long a path.
pub const MAX_SIZE: usize = 1 << 16;

/// What a stub does before it calls execve(2).
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// The descriptor that a failure is written to: [`Failure`].
    pub report: i32,
    /// The seccomp filter; empty for none.
    pub filter: &'a [libc::sock_filter],
    /// `SECCOMP_FILTER_FLAG_*`.
    pub filter_flags: u32,
    /// Whether a failed execve(2) is told on the standard error output, too.
    pub tells: bool,
    /// The program to execute.
    pub path: &'a CStr,
}

/// What the stub reports if it could not execute the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Whether it was seccomp(2) that failed, not execve(2).
    pub seccomp: bool,
    /// The errno.
    pub errno: i32,
    /// The program.
    pub path: &'a [u8],
}

impl<'a> Failure<'a> {
    /// Reads a report: the stage ("seccomp": 1, "exec": 2), the errno, and the path of the program.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (stage, rest) = bytes.split_first_chunk()?;
        let (errno, path) = rest.split_first_chunk()?;
        let (stage, errno) = (i32::from_ne_bytes(*stage), i32::from_ne_bytes(*errno));
        (1..=2).contains(&stage).then_some(Failure { seccomp: stage == 1, errno, path })
    }
}

/// Where the first program header has the sizes in the file and in memory.
#[cfg(target_arch = "x86_64")]
const FILE_SIZES: [usize; 2] = [0x60, 0x68];

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    r#"
    .pushsection .rodata.tare_stub, "a"
    .balign 8
    .global tare_stub_start
    .global tare_stub_end
tare_stub_start:
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .short 2, 62
    .long 1
    .quad 0x10000000 + (2f - tare_stub_start)
    .quad 64, 0
    .long 0
    .short 64, 56, 2, 0, 0, 0
    // PT_LOAD, readable and executable; the sizes are filled in
    .long 1, 5
    .quad 0, 0x10000000, 0x10000000, 0, 0, 0x1000
    // PT_GNU_STACK, not executable
    .long 0x6474e551, 6
    .quad 0, 0, 0, 0, 0, 16
2:
    mov rax, [rsp]                  // argc
    lea r14, [rsp + 8]              // argv
    lea r15, [rsp + rax*8 + 16]     // envp
    lea rbx, [rip + tare_stub_end]  // Params
    mov edi, [rbx]                  // fcntl(report, F_SETFD, FD_CLOEXEC)
    mov esi, 2
    mov edx, 1
    mov eax, 72
    syscall
    test eax, eax
    js 5f                           // closed: the payload has executed /proc/self/exe, this stub
    mov ecx, [rbx + 4]              // instructions of the filter
    lea r13, [rbx + rcx*8 + 24]     // the path
    test ecx, ecx
    jz 3f
    sub rsp, 16                     // sock_fprog
    mov [rsp], rcx
    lea rax, [rbx + 24]
    mov [rsp + 8], rax
    mov r12d, 1                     // stage: seccomp
    mov edi, 1                      // seccomp(SECCOMP_SET_MODE_FILTER, flags, prog)
    mov esi, [rbx + 8]
    mov rdx, rsp
    mov eax, 317
    syscall
    test eax, eax
    js 4f
3:
    mov r12d, 2                     // stage: exec
    mov rdi, r13                    // execve(path, argv, envp)
    mov rsi, r14
    mov rdx, r15
    mov eax, 59
    syscall
4:
    neg eax
    mov ecx, [rbx + 12]             // bytes of the path
    lea edx, [rcx + 8]
    sub rsp, rdx
    sub rsp, 32                     // for the words
    mov [rsp], r12d
    mov [rsp + 4], eax
    lea rdi, [rsp + 8]
    mov rsi, r13
    rep movsb
    mov r14, rdi
    mov edi, [rbx]                  // write(report, {{stage, errno, path}}, rdx)
    mov rsi, rsp
    mov eax, 1
    syscall
    cmp dword ptr [rbx + 16], 0     // tells
    je 5f
    cmp r12d, 2
    jne 5f
    mov eax, [rsp + 4]              // the errno's words
    lea rsi, [rip + 9f]
6:
    movzx edx, byte ptr [rsi]
    movzx ecx, byte ptr [rsi + 1]
    add rsi, 2
    cmp edx, eax
    je 7f
    test edx, edx
    jz 7f
    add rsi, rcx
    jmp 6b
7:
    mov rdi, r14
    rep movsb
    mov dword ptr [rsp + 3], 0x63657865 // "exec ", before the path
    mov byte ptr [rsp + 7], 0x20
    lea rsi, [rsp + 3]              // write(2, "exec PATH: WORDS", rdx)
    mov rdx, rdi
    sub rdx, rsi
    mov edi, 2
    mov eax, 1
    syscall
5:
    mov edi, 255                    // exit_group(255)
    mov eax, 231
    syscall
    ud2
9:  // errno, length, words
    .byte 2, 28
    .ascii ": no such file or directory\n"
    .byte 7, 25
    .ascii ": argument list too long\n"
    .byte 8, 20
    .ascii ": exec format error\n"
    .byte 13, 20
    .ascii ": permission denied\n"
    .byte 0, 21
    .ascii ": cannot be executed\n"
    .balign 8
tare_stub_end:
    .popsection
"#
);

// SAFETY: the assembler above defines both symbols, as bytes that nobody writes.
#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    static tare_stub_start: u8;
    static tare_stub_end: u8;
}

/// The stub's header and code, without what [`image`] appends.
#[cfg(target_arch = "x86_64")]
fn template() -> &'static [u8] {
    let start = &raw const tare_stub_start;
    let end = &raw const tare_stub_end;
    // SAFETY: both symbols bound one read-only section that the assembler above made.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The stub as an ELF file.
#[cfg(target_arch = "x86_64")]
fn image(params: &Params) -> Result<Vec<u8>, Errno> {
    let count = u32::try_from(params.filter.len()).map_err(|_| Errno::E2BIG)?;
    let mut image = template().to_vec();
    image.extend_from_slice(&params.report.to_ne_bytes());
    image.extend_from_slice(&count.to_ne_bytes());
    image.extend_from_slice(&params.filter_flags.to_ne_bytes());
    image.extend_from_slice(&(params.path.count_bytes() as u32).to_ne_bytes());
    image.extend_from_slice(&u64::from(params.tells).to_ne_bytes());
    for op in params.filter {
        image.extend_from_slice(&op.code.to_ne_bytes());
        image.extend_from_slice(&[op.jt, op.jf]);
        image.extend_from_slice(&op.k.to_ne_bytes());
    }
    image.extend_from_slice(params.path.to_bytes_with_nul());
    let size = (image.len() as u64).to_ne_bytes();
    for at in FILE_SIZES {
        image.get_mut(at..at + 8).ok_or(Errno::ENOEXEC)?.copy_from_slice(&size);
    }
    Ok(image)
}

/// Makes the stub, sealed, ready for [`super::process::exec_fd`].
///
/// # Errors
/// `EACCES` where the host forbids executable memory files (sysctl vm.memfd_noexec).
#[cfg(target_arch = "x86_64")]
pub fn build(params: &Params) -> Result<OwnedFd, Errno> {
    let image = image(params)?;
    let file = executable_memory()?;
    if nix::unistd::write(&file, &image)? != image.len() {
        return Err(Errno::EIO);
    }
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file)
}

/// Other architectures have no stub yet: the runtime is started from a protected copy instead.
#[cfg(not(target_arch = "x86_64"))]
pub fn build(_: &Params) -> Result<OwnedFd, Errno> {
    Err(Errno::ENOSYS)
}

/// An empty memory file that may be executed. Kernels before 6.3 do not know the flag that says so.
fn executable_memory() -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    match memfd_create(c"tare-stub", flags | executable) {
        Err(Errno::EINVAL) => memfd_create(c"tare-stub", flags),
        other => other,
    }
}
