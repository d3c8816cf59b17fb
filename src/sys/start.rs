//! The way from the C library's start-up code into a program, without Rust's own.
//!
//! Before `main`, Rust's start-up code looks up where the stack ends, to be able to explain an
//! overflow. With glibc that means reading and parsing /proc/self/maps (pthread_getattr_np(3)),
//! and scanf with all it can read makes a static binary a hundred kilobytes larger. A stack that
//! overflows ends the program here as there; only the words are missing.

use nix::errno::Errno;

/// Makes the C function `main` of a `no_main` program, which exits with what `$main` returns. It has
/// flushed what it has written: no handler runs at the exit.
///
/// glibc alone passes the arguments to std at an earlier time (see `std::env::args`).
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: a `no_main` program has no other function of this name, and the C library's
        // start-up code wants just this one. It may well take no parameters.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $crate::sys::start::prepare();
            $crate::sys::process::exit_now($main())
        }
    };
}

/// What is needed of Rust's start-up code: standard streams that are open, so that no file of
/// ours ever takes the place of one, and no death by SIGPIPE. The end of a child is told even if the
/// caller ignores that of its own: such a disposition is inherited, and nothing could be waited for.
///
/// Aborts if a stream is missing and /dev/null cannot stand in for it.
pub fn prepare() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll(2) writes to the three elements of the array, nothing else.
    let polled = Errno::result(unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) });
    for stream in &streams {
        let missing = match polled {
            Ok(_) => stream.revents & libc::POLLNVAL != 0,
            // SAFETY: asks for flags by number.
            Err(_) => unsafe { libc::fcntl(stream.fd, libc::F_GETFD) == -1 },
        };
        // SAFETY: opens a file by a constant name; takes the lowest free number, the missing one.
        if missing && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } != stream.fd {
            std::process::abort();
        }
    }
    // SAFETY: no handler is installed, the one signal is ignored, the other is not.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}
