//! The entry of the program without the standard library's own.
//!
//! What Rust runs before `main` costs some twenty system calls, among them a reading of
//! /proc/self/maps for the message of a stack overflow; arguments and environment are there without
//! it (the C library hands them to `.init_array`). A program that is gone after two milliseconds
//! does better without.

/// Makes `$main`, a `fn() -> i32`, the entry; its result is the exit code.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: the C library's start-up calls this symbol once, and nothing else defines it.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $main()
        }
    };
}
