//! Parts of glibc in a plain form, for a static program that uses next to nothing of them.
//!
//! A failed assertion of glibc's own and the words of an error are translated; a translation may come
//! in another character set; that may need a shared object, and all of them print. So any static
//! program gets the locales, iconv, the loader and printf: 430 kB, a quarter of tare. The functions here
//! take the places of those few that lead there. None of them is called in the hot path.
//!
//! Like libc_start.rs this belongs to the versions of glibc that `.cargo/static` names: what is
//! missing or defined twice stops the linker.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc as reallocate};
use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::ptr::null_mut;

// SAFETY: glibc 2.34 and later.
unsafe extern "C" {
    fn _Fork() -> libc::pid_t;
    fn strerrordesc_np(errno: c_int) -> *const c_char;
}

/// What goes before each block of [`malloc`]: its size, padded to what blocks are aligned to.
const HEADER: usize = 16;

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// The block that begins at `start` as C gets it, with its size noted.
///
/// # Safety
/// `start` is null or a block of `layout(size)`.
// SAFETY: as said above.
unsafe fn hand_out(start: *mut u8, size: usize) -> *mut c_void {
    if start.is_null() {
        nix::errno::Errno::ENOMEM.set();
        return null_mut();
    }
    // SAFETY: a block is at least as large as its header, and aligned for it.
    unsafe {
        start.cast::<usize>().write(size);
        start.add(HEADER).cast()
    }
}

/// Where the block that C has as `block` begins, and its layout.
///
/// # Safety
/// `block` comes from [`hand_out`].
// SAFETY: as said above.
unsafe fn take_back(block: *mut c_void) -> (*mut u8, Layout) {
    // SAFETY: the header is before it.
    unsafe {
        let start = block.cast::<u8>().sub(HEADER);
        let size = start.cast::<usize>().read();
        (start, Layout::from_size_align_unchecked(size + HEADER, HEADER))
    }
}

/// malloc(3), from the heap of the program; for opendir(3) and posix_spawn(3).
// SAFETY: the only definition of the name: glibc's is in a file that is not linked then.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the layout is not empty.
    let start = layout(size).map_or(null_mut(), |layout| unsafe { alloc(layout) });
    // SAFETY: it is null or such a block.
    unsafe { hand_out(start, size) }
}

/// calloc(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, each: usize) -> *mut c_void {
    let size = count.checked_mul(each).unwrap_or(usize::MAX);
    // SAFETY: the layout is not empty.
    let start = layout(size).map_or(null_mut(), |layout| unsafe { alloc_zeroed(layout) });
    // SAFETY: it is null or such a block.
    unsafe { hand_out(start, size) }
}

/// realloc(3).
///
/// # Safety
/// `block` is null or comes from these functions.
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return malloc(size);
    }
    let wanted = layout(size).map_or(0, |layout| layout.size());
    // SAFETY: the block is one of ours, and the new size is that of a layout.
    unsafe {
        let (start, old) = take_back(block);
        let start = if wanted == 0 { null_mut() } else { reallocate(start, old, wanted) };
        hand_out(start, size)
    }
}

/// free(3).
///
/// # Safety
/// As for [`realloc`].
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: the block is one of ours.
        unsafe {
            let (start, layout) = take_back(block);
            dealloc(start, layout);
        }
    }
}

/// fork(2) without handlers and locks: there are none of the first, and one thread.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn fork() -> libc::pid_t {
    // SAFETY: the child goes on alone, as the caller of fork(2) expects.
    unsafe { _Fork() }
}

/// sysconf(3) for what is asked here; of everything else it says that there is no answer.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn sysconf(name: c_int) -> c_long {
    const PAGE: c_long = 4096;
    const NGROUPS_MAX: c_long = 65536;
    match name {
        libc::_SC_PAGESIZE => PAGE,
        libc::_SC_NGROUPS_MAX => NGROUPS_MAX,
        libc::_SC_OPEN_MAX => {
            let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
            limit.map_or(-1, |(soft, _)| soft.try_into().unwrap_or(c_long::MAX))
        }
        _ => -1,
    }
}

/// glibc's own name for sysconf(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn __sysconf(name: c_int) -> c_long {
    sysconf(name)
}

/// The words for an errno, untranslated, cut off to `size` bytes.
///
/// # Safety
/// `text` has room for `size` bytes.
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn __strerror_r(errno: c_int, text: *mut c_char, size: usize) -> *mut c_char {
    // SAFETY: a text without end, or null; `text` has room for `size` bytes.
    unsafe {
        let known = strerrordesc_np(errno);
        let words = match known.is_null() {
            true => format!("Unknown error {errno}"),
            false => std::ffi::CStr::from_ptr(known).to_string_lossy().into_owned(),
        };
        let count = words.len().min(size.saturating_sub(1));
        text.cast::<u8>().copy_from_nonoverlapping(words.as_ptr(), count);
        if size > 0 {
            text.add(count).write(0);
        }
    }
    text
}

/// strerror_r(3) of POSIX.
///
/// # Safety
/// As above.
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn __xpg_strerror_r(errno: c_int, text: *mut c_char, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { __strerror_r(errno, text, size) };
    0
}

/// Has nothing to prepare: no function of ctype.h is used, and the tables of the "C" locale that it
/// would look into are not there.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn __ctype_init() {}

/// What an assertion of glibc's own ends with; its text is glibc's and of no use to anybody else.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn __assert_fail(
    _text: *const c_char,
    _file: *const c_char,
    _line: c_uint,
    _function: *const c_char,
) -> ! {
    std::process::abort()
}
