//! Signals by number.

use nix::errno::Errno;

/// Sends signal `number`, 0 for a mere check, to process `pid` (kill(2)). nix's own call knows
/// no real-time signals, which any payload may ask for.
pub fn kill(pid: i32, number: i32) -> nix::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid, number) }).map(drop)
}
