//! Cgroups with real processes, as root: limits are proved by what they do, each with a control
//! that shows the same payload unhindered.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use common::{eventually, limit, runs, stands};
use tare::cgroup::{Cgroup, Hierarchies, settings};
use tare::error::Error;
use tare::spec::config::Resources;

/// A cgroup of its own for each test; processes and directories are gone at its end.
struct Tree {
    host: Hierarchies,
    cgroup: Cgroup,
    path: String,
}

impl Tree {
    /// Plans `/tare-test-PID-NAME`.
    fn plan(name: &str) -> Tree {
        let host = Hierarchies::probe().unwrap();
        let path = format!("/tare-test-{}-{name}", std::process::id());
        let cgroup = Cgroup::plan(&host, Some(&path), "unused").unwrap();
        Tree { host, cgroup, path }
    }

    fn new(name: &str) -> Tree {
        let tree = Tree::plan(name);
        tree.cgroup.create().unwrap();
        tree
    }

    /// Applies a `resources` object.
    fn limit(&self, json: &str) -> Result<(), Error> {
        let resources: Resources = tare::spec::load::from_json(json).unwrap();
        self.cgroup.apply(&settings(&resources, &self.host)?)
    }

    /// Starts `script` in the cgroup: the shell waits until it has been attached.
    fn start(&self, script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("read go; {script}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.cgroup.attach(child.id() as i32).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }

    /// Runs `script` to its end: its status and what it wrote to stderr.
    fn run(&self, script: &str) -> (ExitStatus, String) {
        let output = self.start(script).wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn dir(&self, controller: &str) -> String {
        self.cgroup.places().iter().find(|p| p.has(controller)).unwrap().dir.clone()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(format!("{}/{file}", self.dir(controller))).unwrap()
    }

    /// Directories of this tree that are there.
    fn left(&self) -> Vec<&str> {
        let dirs = self.cgroup.places().iter().map(|place| place.dir.as_str());
        dirs.filter(|dir| fs::exists(dir).unwrap()).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let killed = self.cgroup.kill(libc::SIGKILL);
        let removed = self.cgroup.remove();
        if !std::thread::panicking() {
            killed.unwrap();
            removed.unwrap();
            assert_eq!(self.left(), [""; 0]);
        }
    }
}

fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn every_hierarchy_is_joined_and_left() {
    let tree = Tree::new("join");
    let mut child = tree.start("exec sleep 60");
    let own = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let joined = own.lines().filter(|line| line.ends_with(&format!(":{}", tree.path))).count();
    assert_eq!(joined, tree.cgroup.places().len(), "{own}");
    assert_eq!(tree.cgroup.pids(false).unwrap(), [child.id() as i32]);
    assert!(tree.cgroup.exists());
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    tree.cgroup.remove().unwrap();
    child.wait().unwrap();
    assert!(!tree.cgroup.exists());
    assert!(tree.cgroup.pids(true).unwrap().is_empty());
    // All of it again, on what is gone.
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    tree.cgroup.remove().unwrap();
}

#[test]
fn pids_limit_refuses_forks() {
    let script = "sleep 5 & sleep 5 & sleep 5 & exit 7";
    let tree = Tree::new("pids");
    tree.limit(r#"{"pids":{"limit":3}}"#).unwrap();
    let (status, stderr) = tree.run(script);
    assert!(stderr.contains("fork"), "{status}: {stderr}");
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    tree.limit(r#"{"pids":{"limit":-1}}"#).unwrap();
    assert_eq!(tree.run(&format!("{script} 2>&1 >/dev/null")).0.code(), Some(7));
}

#[test]
fn memory_limit_kills() {
    let script = "exec dd if=/dev/zero of=/dev/null bs=48M count=1";
    let tree = Tree::new("memory");
    tree.limit(r#"{"memory":{"limit":16777216,"swap":16777216}}"#).unwrap();
    assert_eq!(tree.run(script).0.signal(), Some(libc::SIGKILL));
    // Both grow and shrink, whichever of the two has to be written first.
    tree.limit(r#"{"memory":{"limit":134217728,"swap":134217728}}"#).unwrap();
    assert_eq!(tree.run(script).0.code(), Some(0));
    tree.limit(r#"{"memory":{"limit":33554432,"swap":33554432}}"#).unwrap();
    assert_eq!(tree.read("memory", "memory.memsw.limit_in_bytes").trim(), "33554432");
    tree.limit(r#"{"memory":{"limit":-1}}"#).unwrap();
    assert_eq!(tree.run(script).0.code(), Some(0));
}

/// Kernels since 5.11 count what is below, whatever is asked for.
#[test]
fn what_no_kernel_takes_is_ignored() {
    let tree = Tree::new("hierarchy");
    let before = tree.read("memory", "memory.swappiness");
    let asked = format!(r#"{{"memory":{{"useHierarchy":false,"swappiness":{}}}}}"#, u64::MAX);
    tree.limit(&asked).unwrap();
    assert_eq!(tree.read("memory", "memory.swappiness"), before);
    assert_eq!(tree.read("memory", "memory.use_hierarchy"), "1\n");
}

#[test]
fn memory_limit_below_the_usage_is_refused() {
    let tree = Tree::new("usage");
    tree.limit(r#"{"memory":{"swappiness":0}}"#).unwrap();
    let mut child = tree.start("x=$(head -c 8000000 /dev/zero | tr '\\0' a); echo ready; sleep 60");
    assert_eq!(line(&mut child), "ready");
    let err = tree.limit(r#"{"memory":{"limit":1048576}}"#).unwrap_err();
    let words = "unable to set memory limit to 1048576 (current usage: ";
    assert!(err.message().starts_with(words), "{err}");
    assert!(err.message().contains(", peak usage: "), "{err}");
    assert_eq!(err.path(), Some("linux.resources.memory.limit"));
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn cpu_quota_throttles() {
    let tree = Tree::new("cpu");
    let script = "end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do :; done";
    let throttled = || {
        let stat = tree.read("cpu", "cpu.stat");
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    tree.run(script);
    assert_eq!(throttled(), 0);
    tree.limit(r#"{"cpu":{"period":50000,"quota":5000,"burst":1000,"shares":512}}"#).unwrap();
    tree.run(script);
    assert!(throttled() > 5, "{}", throttled());
    // A longer period, shorter quota and no burst, in whatever order the kernel can take them.
    tree.limit(r#"{"cpu":{"period":100000,"quota":2000,"burst":0}}"#).unwrap();
    assert_eq!(tree.read("cpu", "cpu.cfs_quota_us").trim(), "2000");
    tree.limit(r#"{"cpu":{"quota":-1}}"#).unwrap();
}

#[test]
fn cpuset_binds() {
    let tree = Tree::new("cpuset");
    let script = "grep Cpus_allowed_list /proc/self/status";
    let allowed = || line(&mut tree.start(script)).split_whitespace().last().unwrap().to_owned();
    let all = allowed();
    tree.limit(r#"{"cpu":{"cpus":"0","mems":"0"}}"#).unwrap();
    assert_eq!(allowed(), "0");
    assert_ne!(all, "0", "this machine has one processor only: the test says nothing");
    let err = tree.limit(r#"{"cpu":{"cpus":"4000"}}"#).unwrap_err();
    assert_eq!(err.path(), Some("linux.resources.cpu.cpus"));
    assert!(err.details().join("").contains("the cgroup above has"), "{err}");
}

/// A block device of this machine.
fn block_device() -> (String, String) {
    let table = fs::read_to_string("/proc/partitions").unwrap();
    let fields: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    (fields[0].to_owned(), fields[1].to_owned())
}

/// A node for /dev/fuse: opening it does nothing, and it is no default device.
const FUSE: (&str, &str) = ("10", "229");

#[test]
fn devices_are_refused() {
    let (major, minor) = FUSE;
    let node = std::env::temp_dir().join(format!("tare-test-{}-fuse", std::process::id()));
    let node = node.to_str().unwrap().to_owned();
    let made = Command::new("mknod").args([&node, "c", major, minor]).status().unwrap();
    assert!(made.success());
    let (read, write) = (format!("exec 3<{node}"), format!("exec 3>{node}"));

    let tree = Tree::new("devices");
    assert_eq!(tree.run(&read).0.code(), Some(0), "control: nothing is limited yet");
    assert_eq!(tree.run(&write).0.code(), Some(0), "control: nothing is limited yet");
    tree.limit(r#"{"devices":[]}"#).unwrap();
    let (status, stderr) = tree.run(&read);
    assert!(stderr.contains("Operation not permitted"), "{status}: {stderr}");
    let (status, stderr) = tree.run("exec dd if=/dev/zero of=/dev/null bs=512 count=1");
    assert!(status.success(), "default devices stay: {stderr}");
    let rule = format!(
        r#"{{"devices":[{{"allow":false}},{{"allow":true,"type":"c","major":{major},"minor":{minor},"access":"r"}}]}}"#
    );
    tree.limit(&rule).unwrap();
    assert_eq!(tree.run(&read).0.code(), Some(0));
    let (status, stderr) = tree.run(&write);
    assert!(stderr.contains("Operation not permitted"), "{status}: {stderr}");
    fs::remove_file(node).unwrap();
}

#[test]
fn devices_list_is_the_one_of_runc() {
    let tree = Tree::new("deviceslist");
    tree.limit(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
    let list = tree.read("devices", "devices.list");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort();
    let expected = [
        "b *:* m",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    assert_eq!(lines, expected);
    tree.limit(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap();
    assert_eq!(tree.read("devices", "devices.list").trim(), "a *:* rwm");
}

#[test]
fn weights_and_throttles() {
    let (major, minor) = block_device();
    let tree = Tree::new("blkio");
    let json = format!(
        r#"{{"blockIO":{{"weight":123,"throttleReadBpsDevice":[{{"major":{major},"minor":{minor},"rate":1048576}}]}}}}"#
    );
    tree.limit(&json).unwrap();
    let throttle = tree.read("blkio", "blkio.throttle.read_bps_device");
    assert_eq!(throttle.trim(), format!("{major}:{minor} 1048576"));
    let err = tree.limit(r#"{"blockIO":{"leafWeight":10}}"#).unwrap_err();
    assert!(err.message().ends_with("no such file or directory"), "{err}");
    assert_eq!(err.path(), Some("linux.resources.blockIO.leafWeight"));
    let json = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":4000,"minor":1,"rate":1}]}}"#;
    let err = tree.limit(json).unwrap_err();
    assert_eq!(err.path(), Some("linux.resources.blockIO.throttleReadBpsDevice[0]"));
}

#[test]
fn freezing_stops_and_thawing_goes_on() {
    let tree = Tree::new("freeze");
    let mut child = tree.start("while :; do :; done");
    let pid = child.id() as i32;
    runs(pid);
    tree.cgroup.freeze().unwrap();
    assert!(tree.cgroup.frozen().unwrap());
    assert!(stands(pid));
    tree.cgroup.thaw().unwrap();
    assert!(!tree.cgroup.frozen().unwrap());
    runs(pid);
    // SIGKILL ends a paused container; another signal leaves it paused.
    tree.cgroup.freeze().unwrap();
    tree.cgroup.kill(libc::SIGTERM).unwrap();
    assert!(tree.cgroup.frozen().unwrap());
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    assert!(child.wait().unwrap().signal().is_some());
}

#[test]
fn a_whole_forking_tree_is_killed_and_its_cgroups_removed() {
    let tree = Tree::new("tree");
    tree.limit(r#"{"pids":{"limit":60}}"#).unwrap();
    let nest = tree.cgroup.places().iter().map(|place| {
        let sub = format!("{}/sub/deep", place.dir);
        format!("mkdir -p {sub}; ")
    });
    let nest: String = nest.collect();
    let moved = format!("echo 0 > {}/sub/deep/cgroup.procs", tree.dir("devices"));
    // Two shells that fork without end, one of them in a cgroup below.
    let script = format!(
        "{nest} fill() {{ while :; do (sleep 60 &) 2>/dev/null; done; }}
         (sh -c '{moved}; while :; do (sleep 60 &) 2>/dev/null; done' &) ; echo ready; fill"
    );
    let mut child = tree.start(&script);
    assert_eq!(line(&mut child), "ready");
    eventually("they fork", || tree.cgroup.pids(true).unwrap().len() > 5);
    assert!(tree.cgroup.remove().is_err(), "processes are in it");
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(tree.cgroup.pids(true).unwrap().is_empty());
    tree.cgroup.remove().unwrap();
}

#[test]
fn leftovers_are_named() {
    let tree = Tree::new("leftover");
    let mut child = tree.start("exec sleep 60");
    let stat = format!("/proc/{}/stat", child.id());
    eventually("it sleeps", || fs::read_to_string(&stat).unwrap().contains(" (sleep) S "));
    let start = Instant::now();
    let err = tree.cgroup.remove().unwrap_err();
    assert!(start.elapsed() < limit());
    let details = err.details().join("\n");
    assert!(err.message().contains("device or resource busy"), "{err}");
    assert!(details.contains(&format!("{} (sleep, S)", child.id())), "{err}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_cgroup_in_use_is_not_taken_over() {
    let tree = Tree::new("reuse");
    // Empty: taken over.
    tree.cgroup.create().unwrap();
    let mut child = tree.start("exec sleep 60");
    let err = tree.cgroup.create().unwrap_err();
    assert!(err.message().starts_with("container's cgroup is not empty"), "{err}");
    child.kill().unwrap();
    child.wait().unwrap();
    tree.cgroup.freeze().unwrap();
    let err = tree.cgroup.create().unwrap_err();
    assert_eq!(err.message(), "container's cgroup unexpectedly frozen");
    tree.cgroup.thaw().unwrap();
}

#[test]
fn a_failed_create_leaves_nothing() {
    let tree = Tree::plan("undo");
    let freezer = tree.dir("freezer");
    fs::create_dir(&freezer).unwrap();
    fs::write(format!("{freezer}/freezer.state"), "FROZEN").unwrap();
    assert!(tree.cgroup.create().is_err());
    assert_eq!(tree.left(), [freezer.as_str()]);
    fs::write(format!("{freezer}/freezer.state"), "THAWED").unwrap();
    let long = Cgroup::plan(&tree.host, Some(&"x".repeat(5000)), "unused").unwrap();
    let err = long.create().unwrap_err();
    assert!(err.message().starts_with("unable to apply cgroup configuration: mkdir "), "{err}");
    assert!(err.message().ends_with("file name too long"), "{err}");
}

#[test]
fn deep_paths_inherit_their_cpuset() {
    let top = Tree::plan("deep");
    let path = format!("{}/a/b", top.path);
    let deep = Cgroup::plan(&top.host, Some(&path), "unused").unwrap();
    deep.create().unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    deep.attach(child.id() as i32).unwrap();
    let cpus = fs::read_to_string(format!("{}/a/b/cpuset.cpus", top.dir("cpuset"))).unwrap();
    assert!(!cpus.trim().is_empty());
    top.cgroup.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn joining_fails_in_the_words_of_runc() {
    let tree = Tree::new("words");
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id() as i32;
    let sub = tree.cgroup.sub(&["nonexistent".to_owned()]).unwrap();
    let message = sub.join(pid).unwrap_err().message();
    assert!(message.contains(&format!(" adding pid {pid} to cgroups")), "{message}");
    assert!(message.ends_with("no such file or directory"), "{message}");
    child.kill().unwrap();
    child.wait().unwrap();
    let message = tree.cgroup.attach(pid).unwrap_err().message();
    assert!(message.starts_with("unable to apply cgroup configuration: "), "{message}");
    assert!(message.ends_with("no such process"), "{message}");
}

#[test]
fn usage_is_counted() {
    let tree = Tree::new("stats");
    tree.limit(r#"{"memory":{"limit":67108864},"pids":{"limit":17},"cpu":{"cpus":"0"}}"#).unwrap();
    let mut child = tree.start("x=$(head -c 8000000 /dev/zero | tr '\\0' a); echo ready; sleep 60");
    assert_eq!(line(&mut child), "ready");
    let stats = tree.cgroup.stats().unwrap();
    assert_eq!((stats.memory.usage.limit, stats.pids.limit), (67108864, 17));
    assert!(stats.memory.usage.usage > 7_000_000, "{stats:?}");
    assert!(stats.memory.raw.get("rss") > 7_000_000, "{stats:?}");
    assert!(stats.cpu.usage.total > 100_000 && stats.cpu.usage.total < 60_000_000_000);
    assert!((1..=3).contains(&stats.pids.current), "{stats:?}");
    assert_eq!(stats.cpuset.cpus, [0]);
    assert!(!stats.cpu.usage.percpu_user.is_empty());
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    tree.cgroup.remove().unwrap();
    assert!(tree.cgroup.stats().is_err());
}

/// The same life on a pure cgroup v2: a private mount of it over `/sys/fs/cgroup`.
#[test]
fn life_on_v2() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none).unwrap();

    let tree = Tree::new("two");
    let [place] = tree.cgroup.places() else { panic!("{:?}", tree.cgroup) };
    assert_eq!((place.mountpoint.as_str(), place.controllers.as_str()), ("/sys/fs/cgroup", ""));
    fs::create_dir(format!("{}/sub", place.dir)).unwrap();
    let mut child = tree.start("while :; do :; done");
    let pid = child.id() as i32;
    tree.cgroup.freeze().unwrap();
    assert!(stands(pid));
    assert!(tree.cgroup.frozen().unwrap());
    tree.cgroup.thaw().unwrap();
    runs(pid);
    let err = tree.cgroup.create().unwrap_err();
    assert!(err.message().starts_with("container's cgroup is not empty"), "{err}");
    tree.cgroup.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}
