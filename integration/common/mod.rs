//! What the root tests share: containers made of busybox, the runtime's commands, and the proof
//! that nothing is left of them.
//!
//! The runtime is the `tare` that cargo built, or the program named by `RUNTIME` (`runc`, `crun`
//! or a path): the same tests hold for all, which shows that a test asks for nothing odd.
#![allow(dead_code)] // Each test program uses its own part of this.

pub mod agent;
pub mod faults;
pub mod terminal;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How many times slower than others this machine is, as an emulated one says in SLOWNESS.
pub fn slowness() -> u32 {
    std::env::var("SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// No command of a runtime takes longer than this, even on a loaded machine.
pub fn limit() -> Duration {
    Duration::from_secs(30) * slowness()
}

const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "dd", "echo", "env", "false", "find", "grep", "head", "hostname", "id",
    "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "od", "ps", "pwd", "readlink",
    "rm", "sed", "seq", "sh", "sleep", "stat", "stty", "sync", "tail", "test", "touch", "tr",
    "true", "tty", "umount", "uname", "wc", "yes",
];

/// The program under test.
pub fn runtime() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: run scripts/test");
        match std::env::var("RUNTIME") {
            Ok(name) => find_program(&name),
            Err(_) => PathBuf::from(env!("CARGO_BIN_EXE_tare")),
        }
    })
}

/// Whether it is crun, whose error words are its own.
pub fn is_crun() -> bool {
    runtime().file_name().is_some_and(|name| name == "crun")
}

/// Whether the program under test is ours; peers have other words in places.
pub fn is_tare() -> bool {
    runtime().file_name().is_some_and(|name| name == "tare")
}

/// Whether the program under test is a peer that fails here for the reason given, which is why the
/// test goes no further with it.
pub fn peers_fail(reason: &str) -> bool {
    if !is_tare() {
        eprintln!("not for {}: {reason}", runtime().display());
    }
    !is_tare()
}

fn find_program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").expect("PATH is set");
    let dirs = if name.contains('/') { "" } else { &path };
    let found = dirs.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name}: no such runtime; is its Debian package installed?"))
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code, or 128 and the signal's number.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A command line that is being put together.
pub struct Cmd {
    argv: Vec<String>,
    stdin: Vec<u8>,
    dir: Option<PathBuf>,
    env: Vec<(String, String)>,
}

impl Cmd {
    /// A command by its words.
    pub fn new<S: AsRef<str>>(argv: &[S]) -> Self {
        let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        Cmd { argv, stdin: Vec::new(), dir: None, env: Vec::new() }
    }

    /// Adds words.
    pub fn args<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        self.argv.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Puts another program before the command, such as strace; without words it changes nothing.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.argv.splice(0..0, words.iter().map(|word| word.to_string()));
        self
    }

    /// Leaves out `count` words from the one numbered `first` on.
    pub fn without(mut self, first: usize, count: usize) -> Self {
        self.argv.drain(first..first + count);
        self
    }

    /// What the command reads.
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// The working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_path_buf());
        self
    }

    /// Adds a variable to the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command as the standard library has it, with nothing on stdin.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).envs(self.env.iter().cloned()).stdin(Stdio::null());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Starts it; output goes to files, because a container that stays keeps a pipe open.
    pub fn spawn(&self) -> Running {
        let (mut stdin, stdout, stderr) = (scratch(), scratch(), scratch());
        std::io::Write::write_all(&mut stdin, &self.stdin).expect("write stdin");
        stdin.rewind().expect("rewind stdin");
        let mut command = self.command();
        command.stdin(stdin);
        command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
        let child = command.spawn().unwrap_or_else(|err| panic!("{:?}: {err}", self.argv));
        Running { child, stdout, stderr, argv: self.argv.join(" ") }
    }

    /// Runs it to its end.
    pub fn answer(self) -> Answer {
        self.spawn().answer()
    }

    /// Runs it; it has to succeed. Returns its output.
    pub fn ok(self) -> String {
        let words = self.argv.join(" ");
        let answer = self.answer();
        assert_eq!(answer.code, 0, "{words}\n{}{}", answer.stdout, answer.stderr);
        answer.stdout
    }

    /// Runs it; it has to fail with this code and say something. Returns what it said.
    pub fn fails(self, code: i32) -> String {
        let words = self.argv.join(" ");
        let answer = self.answer();
        assert_eq!(answer.code, code, "{words}\n{}{}", answer.stdout, answer.stderr);
        assert!(!answer.stderr.trim().is_empty(), "{words}: failed without a word");
        answer.stderr
    }
}

/// A command that is running.
pub struct Running {
    /// The process.
    pub child: Child,
    stdout: File,
    stderr: File,
    argv: String,
}

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal the runtime");
    }

    /// What it has printed so far.
    pub fn printed(&mut self) -> String {
        read_all(&mut self.stdout)
    }

    /// Waits for its end, no longer than [`limit`].
    pub fn answer(mut self) -> Answer {
        let end = Instant::now() + limit();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{}: hangs\n{}", self.argv, read_all(&mut self.stderr));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (stdout, stderr) = (read_all(&mut self.stdout), read_all(&mut self.stderr));
        Answer { code: code_of(status), stdout, stderr }
    }
}

/// The exit code as a shell has it.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn scratch() -> File {
    let path = scratch_path("io");
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    fs::remove_file(&path).expect("unlink scratch file");
    file.expect("scratch file")
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // A duplicate shares its offset with the writer: read through a description of our own.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    File::open(path).and_then(|mut own| own.read_to_end(&mut bytes)).expect("read scratch file");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn scratch_path(what: &str) -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    // The letter at the end: no id is the beginning of another.
    std::env::temp_dir().join(format!("tare-test-{what}-{}-{serial}x", std::process::id()))
}

/// Builds a static program from integration/programs.
pub fn compile(source: &str, out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/programs").join(source);
    let words = ["cc", "-O2", "-Wall", "-Wextra", "-static", "-o"];
    Cmd::new(&words).args(&[out.to_string_lossy(), source.to_string_lossy()]).ok();
}

/// Clock ticks of user and system time that a process has used (proc_pid_stat(5)).
pub fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("ticks");
    number(11) + number(12)
}

/// Waits until a process that is busy has used time.
pub fn runs(pid: i32) {
    let before = ticks(pid);
    eventually("it runs", || ticks(pid) > before);
}

/// Whether a process that is busy uses no time, for 300 ms.
pub fn stands(pid: i32) -> bool {
    let before = ticks(pid);
    std::thread::sleep(Duration::from_millis(300));
    ticks(pid) == before
}

/// Waits until `done` holds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit();
    while !done() {
        assert!(Instant::now() < end, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A bundle with a root file system of busybox, a runtime's state directory, and an id that no
/// other test has. Dropped, it is deleted by force.
pub struct Container {
    /// The container's id, also in its environment as TEST_ID.
    pub id: String,
    /// What config.json holds.
    pub config: Value,
    dir: PathBuf,
    /// Whether every command is to have --systemd-cgroup.
    by_systemd: bool,
    /// Who calls the runtime, if not root.
    user: Option<u32>,
}

impl Container {
    /// A container that runs `args`, configured as runc's default spec has it, without terminal.
    pub fn new(args: &[&str]) -> Self {
        runtime();
        let dir = scratch_path("box");
        let id = dir.file_name().expect("has a name").to_string_lossy().into_owned();
        make_rootfs(&dir.join("rootfs"));
        fs::create_dir(dir.join("shared")).expect("make shared directory");
        let container =
            Container { config: default_config(&id, args), id, dir, by_systemd: false, user: None };
        container.write();
        container
    }

    /// A container that runs a shell script.
    pub fn sh(script: &str) -> Self {
        Container::new(&["/bin/sh", "-c", script])
    }

    /// A container that runs until it is killed.
    pub fn idle() -> Self {
        Container::new(&["/bin/sleep", "600"])
    }

    /// Changes config.json.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.write();
        self
    }

    /// Has systemd make its cgroups: `test-ID.scope` in `slice`.
    pub fn systemd(mut self, slice: &str) -> Self {
        self.by_systemd = true;
        let path = format!("{slice}:test:{}", self.id);
        self.with(|c| c["linux"]["cgroupsPath"] = json!(path))
    }

    /// Has the user `uid` call the runtime, with a configuration that needs no privileges: the own id
    /// is root inside, the network is the host's, and there are no limits.
    pub fn rootless(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        let chown =
            ["chown", "-R", &format!("{uid}:{uid}"), &self.dir.to_string_lossy()].map(String::from);
        Cmd::new(&chown).ok();
        self.namespace("network", None).with(|c| {
            let map = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
            let linux = &mut c["linux"];
            linux["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
            linux["cgroupsPath"] = json!("");
            linux["resources"] = json!({});
            for mount in c["mounts"].as_array_mut().expect("mounts") {
                match mount["destination"].as_str() {
                    Some("/dev/pts") => {
                        drop(mount["options"].as_array_mut().expect("options").pop())
                    }
                    Some("/sys") => {
                        *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
                    }
                    _ => {}
                }
            }
        })
    }

    /// Adds a mount.
    pub fn mount(self, kind: &str, source: &str, destination: &str, options: &[&str]) -> Self {
        let mount =
            json!({"type": kind, "source": source, "destination": destination, "options": options});
        self.with(|c| c["mounts"].as_array_mut().expect("mounts").push(mount))
    }

    /// Adds the directory [`Container::shared`] at /shared, writable.
    pub fn share(self) -> Self {
        let source = self.shared().to_string_lossy().into_owned();
        self.mount("bind", &source, "/shared", &["bind", "rw"])
    }

    /// Removes a namespace from the list and, with a path, joins that one instead.
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        self.with(|c| {
            let list = c["linux"]["namespaces"].as_array_mut().expect("namespaces");
            list.retain(|ns| ns["type"] != kind);
            if let Some(path) = path {
                list.push(json!({"type": kind, "path": path}));
            }
        })
    }

    /// Adds a namespace of its own to the list.
    pub fn new_namespace(self, kind: &str) -> Self {
        self.with(|c| {
            let list = c["linux"]["namespaces"].as_array_mut().expect("namespaces");
            list.push(json!({"type": kind}));
        })
    }

    fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("serialise");
        fs::write(self.bundle().join("config.json"), text).expect("write config.json");
    }

    /// The bundle's directory.
    pub fn bundle(&self) -> &Path {
        &self.dir
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A directory for what test and container share.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// The runtime's state directory.
    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// `RUNTIME --root R VERB`.
    pub fn verb(&self, verb: &str) -> Cmd {
        let runtime = runtime().to_string_lossy();
        let systemd: &[&str] = if self.by_systemd { &["--systemd-cgroup"] } else { &[] };
        let cmd = Cmd::new(&[&runtime, "--root", &*self.root().to_string_lossy()]);
        let cmd = cmd.args(systemd).args(&[verb]);
        match self.user.map(|uid| uid.to_string()) {
            Some(uid) => cmd
                .under(&["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
                .env("XDG_RUNTIME_DIR", &format!("/run/user/{uid}")),
            None => cmd,
        }
    }

    /// A command that takes the id alone.
    pub fn act(&self, verb: &str) -> Cmd {
        self.verb(verb).args(&[&self.id])
    }

    /// `create`, `run` and their flags with this bundle.
    pub fn boot(&self, verb: &str, flags: &[&str]) -> Cmd {
        let bundle = self.dir.to_string_lossy();
        self.verb(verb).args(&["--bundle", &bundle]).args(flags).args(&[&self.id])
    }

    /// `run`, attached: the payload's output; it has to succeed.
    pub fn run(&self) -> String {
        self.boot("run", &[]).ok()
    }

    /// `run --detach`.
    pub fn run_detached(&self) -> &Self {
        self.boot("run", &["--detach"]).ok();
        self
    }

    /// `create`.
    pub fn create(&self) -> &Self {
        self.boot("create", &[]).ok();
        self
    }

    /// `start`.
    pub fn start(&self) -> &Self {
        self.act("start").ok();
        self
    }

    /// `exec` with flags and a command.
    pub fn exec(&self, flags: &[&str], command: &[&str]) -> Cmd {
        self.verb("exec").args(flags).args(&[&self.id]).args(command)
    }

    /// `exec` of a shell script: its output; it has to succeed.
    pub fn exec_sh(&self, script: &str) -> String {
        self.exec(&[], &["/bin/sh", "-c", script]).ok()
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> &Self {
        self.act("kill").args(&[signal]).ok();
        self
    }

    /// What `state` prints.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.act("state").ok()).expect("state prints JSON")
    }

    /// The pid of the container's process.
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().expect("pid") as i32
    }

    /// Waits for a status.
    pub fn wait_for(&self, status: &str) -> &Self {
        eventually(status, || self.state()["status"] == status);
        self
    }

    /// `delete --force`, then the proof that nothing is left.
    pub fn end(&self) {
        self.verb("delete").args(&["--force", &self.id]).ok();
        self.assert_nothing_left();
    }

    /// No state, no process, no mount, no cgroup of this container.
    pub fn assert_nothing_left(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left of {}: {left:#?}", self.id);
    }

    /// Whatever there is of this container, in words.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            left.push(format!("state {}", entry.path().display()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = self.dir.to_string_lossy();
        left.extend(mounts.lines().filter(|l| l.contains(&*dir)).map(|l| format!("mount {l}")));
        find_cgroups(Path::new("/sys/fs/cgroup"), &self.id, &mut left);
        left.extend(
            self.processes().into_iter().map(|(pid, what)| format!("process {pid}: {what}")),
        );
        left
    }

    /// Processes that carry the id in their arguments or environment, but for this test itself.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| Some((pid, self.trace_in(pid)?))).collect()
    }

    fn trace_in(&self, pid: i32) -> Option<String> {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        let ours = text.contains(&self.id) || String::from_utf8_lossy(&environ).contains(&self.id);
        ours.then_some(text)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let answer = self.verb("delete").args(&["--force", &self.id]).answer();
        if std::thread::panicking() {
            eprintln!("delete --force {}: {answer:?}", self.id);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn find_cgroups(dir: &Path, id: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(id) && is_cgroup(&path) {
            left.push(format!("cgroup {}", path.display()));
        }
        find_cgroups(&path, id, left);
    }
}

/// Whether a directory is a cgroup: beside the hierarchies there is the tmpfs they are mounted on.
fn is_cgroup(dir: &Path) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    let kind = statfs(dir).map(|fs| fs.filesystem_type());
    kind.is_ok_and(|kind| kind == CGROUP_SUPER_MAGIC || kind == CGROUP2_SUPER_MAGIC)
}

fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
        fs::create_dir_all(rootfs.join(dir)).expect("make rootfs");
    }
    fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod tmp");
    // Debian's busybox-static. Not by this process: what another thread forks meanwhile would hold the
    // file open for writing for a moment, and it could not be executed.
    Cmd::new(&["cp", "/bin/busybox", &rootfs.join("bin").to_string_lossy()]).ok();
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link applet");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::write(rootfs.join("etc/passwd"), passwd).expect("write passwd");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("write group");
}

/// runc's default spec, without terminal, with a cgroup and a mark of its own.
fn default_config(id: &str, args: &[&str]) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", format!("TEST_ID={id}")],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "mounts": default_mounts(),
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"]
        }
    })
}

fn default_mounts() -> Value {
    let safe = ["nosuid", "noexec", "nodev"];
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": safe},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}
