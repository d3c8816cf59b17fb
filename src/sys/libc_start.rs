//! glibc's start-up code, less what a container runtime has no use for.
//!
//! A static program of glibc asks the processor some 75 questions before `main` (which caches and
//! vector instructions it has), to copy large blocks faster. On a virtual machine each CPUID
//! instruction traps: 0.1 to 0.4 ms of the two that a whole run takes. `__libc_start_main` here does the
//! rest of glibc's (csu/libc-start.c) in the same order: the auxiliary vector, the functions that
//! are chosen at start (the plainest of each, since no feature is known), thread-local storage, the
//! guards, constructors. No shared object is ever loaded, so nothing prepares for that either.
//!
//! The names are glibc's own and may change with its version: `.cargo/static` sets `quick_start`
//! for those that this was tested with. A name that is missing or defined twice stops the linker.

use std::ffi::{c_char, c_int, c_long, c_void};

/// An entry of the table of functions chosen at start (`R_X86_64_IRELATIVE`, elf(5)).
#[repr(C)]
struct Relocation {
    place: *mut usize,
    info: u64,
    choose: extern "C" fn() -> usize,
}

type Main = extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;
type Constructor = extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char);

// SAFETY: glibc 2.34 and later, and the linker's own names.
unsafe extern "C" {
    static mut __environ: *mut *mut c_char;
    static mut __libc_stack_end: *mut c_void;
    static _dl_random: *const [usize; 2];
    static __rela_iplt_start: [Relocation; 0];
    static __rela_iplt_end: [Relocation; 0];
    static __init_array_start: [Constructor; 0];
    static __init_array_end: [Constructor; 0];
    fn _dl_aux_init(auxv: *mut c_void);
    fn __libc_setup_tls();
    fn __libc_early_init(initial: bool);
    fn exit(code: c_int) -> !;
}

/// From which size on memcpy(3) and memset(3) take other ways; glibc's own values before it has
/// asked the processor, and for the last what it takes for a cache of 1 MiB.
macro_rules! thresholds {
    ($($name:ident = $bytes:expr;)*) => {$(
        // SAFETY: the only definition of the name: glibc's is in the file that this one replaces.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals)]
        static $name: c_long = $bytes;
    )*};
}

thresholds! {
    __x86_data_cache_size_half = 16 * 1024;
    __x86_data_cache_size = 32 * 1024;
    __x86_shared_cache_size_half = 512 * 1024;
    __x86_shared_cache_size = 1024 * 1024;
    __x86_shared_non_temporal_threshold = 768 * 1024;
    __x86_memset_non_temporal_threshold = 768 * 1024;
    __x86_rep_movsb_threshold = 2048;
    __x86_rep_stosb_threshold = 2048;
    __x86_rep_movsb_stop_threshold = 768 * 1024;
}

/// Which string instructions to stay away from: none.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
static __x86_string_control: c_int = 0;

/// What `_start` calls with the stack as the kernel has left it. Never returns.
///
/// # Safety
/// For `_start` alone, once.
// SAFETY: the only definition of the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    _init: *const c_void,
    _fini: *const c_void,
    _rtld_fini: *const c_void,
    stack_end: *mut c_void,
) -> c_int {
    // SAFETY: the environment follows the arguments, the auxiliary vector the environment, each
    // after a null. No other thread, no memory that is not the kernel's, and until its functions
    // are chosen nothing of glibc is called but what needs none of them.
    unsafe {
        let environment = argv.add(argc as usize + 1);
        __environ = environment;
        __libc_stack_end = stack_end;
        let mut end = environment;
        while !(*end).is_null() {
            end = end.add(1);
        }
        _dl_aux_init(end.add(1).cast());
        choose_functions();
        __libc_setup_tls();
        set_guards(_dl_random.read_unaligned());
        __libc_early_init(true);
        construct(argc, argv, environment);
        exit(main(argc, argv, environment))
    }
}

/// Has each function with several forms choose one.
// SAFETY: once, before any of them is called.
unsafe fn choose_functions() {
    // SAFETY: the linker's table of such functions, in a program that is linked to its address.
    unsafe {
        let mut entry = (&raw const __rela_iplt_start).cast::<Relocation>();
        while entry < (&raw const __rela_iplt_end).cast() {
            *(*entry).place = ((*entry).choose)();
            entry = entry.add(1);
        }
    }
}

/// Sets the canary of the stack, whose first byte is 0 so that no string has it, and the guard of
/// pointers, to the kernel's random numbers (AT_RANDOM).
// SAFETY: once there is thread-local storage.
unsafe fn set_guards(random: [usize; 2]) {
    // SAFETY: the two words of the thread's control block that glibc's ABI has for them.
    unsafe {
        std::arch::asm!("mov fs:[0x28], {}", in(reg) random[0] & !0xff, options(nostack));
        std::arch::asm!("mov fs:[0x30], {}", in(reg) random[1], options(nostack));
    }
}

/// Calls the constructors; std's keeps the arguments.
// SAFETY: once, when everything but they is ready.
unsafe fn construct(argc: c_int, argv: *mut *mut c_char, environment: *mut *mut c_char) {
    // SAFETY: the linker's table of constructors, which glibc calls with these arguments.
    unsafe {
        let mut constructor = (&raw const __init_array_start).cast::<Constructor>();
        while constructor < (&raw const __init_array_end).cast() {
            (*constructor)(argc, argv, environment);
            constructor = constructor.add(1);
        }
    }
}
