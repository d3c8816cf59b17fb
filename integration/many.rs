//! Many containers at once: each is found, and nothing is left of any.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Cmd, Container, eventually, slowness};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::json;

/// How many run beside each other; fewer on an emulated machine.
fn count() -> usize {
    500 / slowness() as usize
}

/// Callers at once.
const CALLERS: usize = 4;
/// How many starts are timed.
const TIMED: usize = 9;

/// Containers of one root file system; dropped after a failure, all are deleted by force.
struct Crowd {
    common: Container,
    size: usize,
}

impl Crowd {
    fn new(size: usize) -> Self {
        let common = Container::idle();
        let crowd = Crowd { common, size };
        (0..=size).for_each(|number| crowd.write_bundle(number));
        crowd
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.common.id)
    }

    fn bundle(&self, number: usize) -> String {
        self.common.bundle().join(self.id(number)).to_string_lossy().into_owned()
    }

    fn write_bundle(&self, number: usize) {
        let mut config = self.common.config.clone();
        config["root"]["path"] = json!(self.common.rootfs());
        config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id(number)));
        std::fs::create_dir(self.bundle(number)).expect("make a bundle");
        let file = format!("{}/config.json", self.bundle(number));
        std::fs::write(file, config.to_string()).expect("write config.json");
    }

    fn start(&self, number: usize) -> Cmd {
        let words = ["--detach", "--bundle", &self.bundle(number), &self.id(number)];
        self.common.verb("run").args(&words)
    }

    fn act(&self, verb: &str, words: &[&str], number: usize) -> Cmd {
        self.common.verb(verb).args(words).args(&[self.id(number)])
    }

    /// A command for every container, by several callers at once; all have to succeed.
    fn each(&self, command: impl Fn(usize) -> Cmd + Sync) {
        let next = AtomicUsize::new(0);
        let turns = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let all = || turns.take_while(|number| *number < self.size);
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| all().for_each(|number| drop(command(number).ok())));
            }
        });
    }

    /// The median of the processor's time that one more takes to start; other load on the machine
    /// does not change it as it does that of the clock.
    fn time_of_start(&self) -> Duration {
        let mut times: Vec<Duration> = (0..TIMED).map(|_| self.start_one_more()).collect();
        times.sort();
        times[TIMED / 2]
    }

    fn start_one_more(&self) -> Duration {
        let before = used();
        self.start(self.size).ok();
        let taken = used() - before;
        self.act("delete", &["--force"], self.size).ok();
        taken
    }

    fn listed(&self) -> usize {
        self.common.verb("list").args(&["--quiet"]).ok().lines().count()
    }
}

/// The processor's time of all commands so far.
fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let time = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    time(usage.user_time()) + time(usage.system_time())
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (0..=self.size).for_each(|number| {
                self.act("delete", &["--force"], number).answer();
            });
        }
    }
}

#[test]
fn many_at_once_leave_nothing_and_hardly_slow_the_next_one() {
    let crowd = Crowd::new(count());
    let alone = crowd.time_of_start();
    crowd.each(|number| crowd.start(number));
    assert_eq!(crowd.listed(), crowd.size);
    let beside = crowd.time_of_start();
    crowd.each(|number| crowd.act("kill", &[], number).args(&["KILL"]));
    eventually("all have ended", || crowd.common.processes().is_empty());
    crowd.each(|number| crowd.act("delete", &[], number));
    crowd.common.assert_nothing_left();
    // What it is by the clock, without other load, is measured by benches/many.
    assert!(beside < alone * 3, "{beside:?} beside {}, {alone:?} alone", crowd.size);
}
