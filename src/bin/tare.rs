//! Entry of the runtime.
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

// Others link all of std, which has uses for what is left out.
#[cfg(all(quick_start, any(panic = "abort", clippy)))]
#[path = "../sys/libc_lean.rs"]
mod libc_lean;
#[cfg(quick_start)]
#[path = "../sys/libc_start.rs"]
mod libc_start;

#[global_allocator]
static HEAP: tare::sys::heap::Heap = tare::sys::heap::Heap::new();

#[cfg(all(target_env = "gnu", not(test)))]
tare::entry!(tare::cmd::main);

// Only glibc hands the arguments over before Rust's own start; a test program has that start.
#[cfg(not(all(target_env = "gnu", not(test))))]
#[cfg_attr(test, allow(dead_code))]
fn main() {
    std::process::exit(tare::cmd::main());
}
