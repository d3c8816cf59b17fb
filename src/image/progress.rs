//! How far a pull is: a bar on a terminal, lines elsewhere, nothing when quiet. On stderr, so
//! that stdout stays for results.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two drawings of the bar.
const INTERVAL: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 30;

#[derive(PartialEq)]
enum Mode {
    Quiet,
    Lines,
    Bar,
}

/// Reports to the user; shared by all threads of a pull.
pub struct Progress {
    mode: Mode,
    total: AtomicU64,
    done: AtomicU64,
    started: Instant,
    drawn: Mutex<Instant>,
}

impl Progress {
    /// Chooses the way by what stderr is.
    pub fn new(quiet: bool) -> Progress {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bar,
            (false, false) => Mode::Lines,
        };
        let now = Instant::now();
        let (total, done) = (AtomicU64::new(0), AtomicU64::new(0));
        Progress { mode, total, done, started: now, drawn: Mutex::new(now) }
    }

    /// `count` more bytes will have to be read.
    pub fn announce(&self, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// `count` bytes have been read.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
        if self.mode != Mode::Bar {
            return;
        }
        // A thread that finds another one drawing has nothing to add.
        if let Ok(mut drawn) = self.drawn.try_lock()
            && drawn.elapsed() >= INTERVAL
        {
            *drawn = Instant::now();
            print(&format!("\r{}\x1b[K", self.bar()));
        }
    }

    /// Something is finished and worth a line of its own.
    pub fn line(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Lines => print(&format!("{text}\n")),
            Mode::Bar => print(&format!("\r\x1b[K{text}\n")),
        }
    }

    fn bar(&self) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed).max(done).max(1);
        let filled = (u128::from(done) * u128::from(WIDTH) / u128::from(total)) as usize;
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let bar = format!("{}{}", "=".repeat(filled), " ".repeat(WIDTH as usize - filled));
        format!("[{bar}] {} of {}, {}/s", bytes(done), bytes(total), bytes(rate as u64))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.mode == Mode::Bar {
            print("\r\x1b[K");
        }
    }
}

/// A broken stderr must not fail a pull.
fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A number of bytes for people, in powers of 1000 as networks and disks count.
pub fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in units {
        if value < 999.95 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "B" => format!("{count} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(1_234_567_890), "1.2 GB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }

    #[test]
    fn the_bar_is_full_at_the_end() {
        let progress = Progress::new(true);
        progress.announce(200);
        progress.add(100);
        assert!(progress.bar().starts_with("[===============               ] 100 B of 200 B"));
        progress.add(100);
        assert!(progress.bar().starts_with("[==============================] 200 B"));
    }
}
