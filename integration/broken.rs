//! Bundles that are refused only once the kernel is asked: each by one message with its place in
//! `config.json`, the same for people and for engines, with nothing left behind. What is refused
//! before anything is done has golden texts in `tests/`.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Cmd, Container, eventually, is_tare, peers_fail, runtime};
use serde_json::{Value, json};

/// What is wrong, the first line but for its aim, and the place; in both, ROOTFS is the root file
/// system and ID the container.
struct Case {
    change: fn(&mut Value, &Path),
    says: &'static str,
    at: &'static str,
    more: &'static str,
}

/// A case whose message has no lines after the place that matter here.
const fn case(change: fn(&mut Value, &Path), says: &'static str, at: &'static str) -> Case {
    Case { change, says, at, more: "" }
}

impl Case {
    /// Another line, the kernel's text or the hint.
    const fn and(self, more: &'static str) -> Case {
        Case { more, ..self }
    }
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

/// The only mount beside the default ones.
fn add(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().insert(0, mount);
}

fn hook(config: &mut Value, point: &str, script: &str) {
    config["hooks"][point] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
}

fn file(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const ROOT: &[Case] = &[
    case(
        |_, rootfs| fs::remove_dir_all(rootfs).unwrap(),
        "mount the root file system ROOTFS on itself: no such file or directory",
        "root.path = \"rootfs\"",
    )
    .and("hint: root.path is a directory: an absolute path, or one relative to the bundle"),
    case(
        |_, rootfs| {
            fs::remove_dir_all(rootfs).unwrap();
            fs::write(rootfs, "").unwrap();
        },
        "mount the root file system ROOTFS on itself: not a directory",
        "root.path = \"rootfs\"",
    ),
    case(
        |_, rootfs| {
            fs::remove_dir_all(rootfs).unwrap();
            symlink("rootfs", rootfs).unwrap();
        },
        "mount the root file system ROOTFS on itself: too many levels of symbolic links",
        "root.path = \"rootfs\"",
    ),
];

const MOUNTS: &[Case] = &[
    case(
        |c, _| add(c, mount("tmpfs", "tmpfs", "/data", &["nosuid", "size=banana"])),
        "mount tmpfs on /data: invalid argument",
        "mounts[0].options[1] = \"size=banana\"",
    )
    .and("kernel: tmpfs: Bad value for 'size'"),
    case(
        |c, _| add(c, mount("tmpfs", "tmpfs", "/data", &["uid=bob"])),
        "mount tmpfs on /data: invalid argument",
        "mounts[0].options[0] = \"uid=bob\"",
    )
    .and("kernel: tmpfs: Bad value for 'uid'\n"),
    case(
        |c, _| add(c, mount("proc", "proc", "/data", &["hidepid=99"])),
        "mount proc on /data: invalid argument",
        "mounts[0].options[0] = \"hidepid=99\"",
    )
    .and("kernel: proc: unknown value of hidepid - 99"),
    case(
        |c, _| add(c, mount("sysfs", "sysfs", "/data", &["banana"])),
        "mount sysfs on /data: invalid argument",
        "mounts[0].options[0] = \"banana\"",
    )
    .and("kernel: sysfs: Unknown parameter 'banana'"),
    case(
        |c, _| add(c, mount("devpts", "devpts", "/data", &["newinstance", "ptmxmode=x"])),
        "mount devpts on /data: invalid argument",
        "mounts[0].options[1] = \"ptmxmode=x\"",
    )
    .and("kernel: devpts: Bad value for 'ptmxmode'"),
    case(
        |c, _| add(c, mount("mqueue", "mqueue", "/data", &["banana=1"])),
        "mount mqueue on /data: invalid argument",
        "mounts[0].options[0] = \"banana=1\"",
    )
    .and("kernel: mqueue: Unknown parameter 'banana'"),
    case(
        |c, _| add(c, mount("bananafs", "none", "/data", &[])),
        "mount bananafs on /data: no such device",
        "mounts[0].type = \"bananafs\"",
    )
    .and("hint: the kernel has no file system of this type (see /proc/filesystems)"),
    case(
        |c, _| add(c, mount("bind", "/no/such", "/data", &["rbind"])),
        "rbind /no/such on /data: no such file or directory",
        "mounts[0].source = \"/no/such\"",
    )
    .and("hint: the source of a bind mount has to exist"),
    case(
        |c, rootfs| {
            file(&rootfs.join("file"), "", 0o644);
            add(c, mount("tmpfs", "tmpfs", "/file", &[]));
        },
        "mount tmpfs on /file: not a directory",
        "mounts[0].destination = \"/file\"",
    ),
    case(
        |c, rootfs| {
            symlink("loop", rootfs.join("loop")).unwrap();
            add(c, mount("tmpfs", "tmpfs", "/loop/a", &[]));
        },
        "mount tmpfs on /loop/a: too many levels of symbolic links",
        "mounts[0].destination = \"/loop/a\"",
    ),
];

const HOOKS: &[Case] = &[
    case(
        |c, _| c["hooks"]["prestart"] = json!([{"path": "/no/such"}]),
        "error running prestart hook #0: fork/exec /no/such: no such file or directory",
        "hooks.prestart[0].path = \"/no/such\"",
    ),
    case(
        |c, _| c["hooks"]["createRuntime"] = json!([{"path": "/etc"}]),
        "error running createRuntime hook #0: fork/exec /etc: permission denied",
        "hooks.createRuntime[0].path = \"/etc\"",
    ),
    case(
        |c, rootfs| {
            file(&rootfs.join("hook"), "true\n", 0o755);
            c["hooks"]["createContainer"] = json!([{"path": rootfs.join("hook")}]);
        },
        "error running createContainer hook #0: fork/exec ROOTFS/hook: exec format error",
        "hooks.createContainer[0].path = \"ROOTFS/hook\"",
    )
    .and("hint: it is neither a program for this architecture nor a script with #!"),
    case(
        |c, _| hook(c, "createRuntime", "echo out; echo err >&2; exit 3"),
        "error running createRuntime hook #0: exit status 3, stdout: out, stderr: err",
        "hooks.createRuntime[0] = ",
    ),
    case(
        |c, _| hook(c, "createContainer", "printf 'a\\0b' >&2; kill -KILL $$"),
        "error running createContainer hook #0: signal: killed, stdout: , stderr: a b",
        "hooks.createContainer[0] = ",
    ),
    case(
        |c, _| {
            hook(c, "createRuntime", "sleep 600");
            c["hooks"]["createRuntime"][0]["timeout"] = json!(1);
        },
        "error running createRuntime hook #0: hook ran past specified timeout of 1.0s",
        "hooks.createRuntime[0].timeout = 1",
    ),
];

const NAMESPACES: &[Case] = &[
    case(
        |c, _| c["linux"]["namespaces"][0] = json!({"type": "pid", "path": "/no/such"}),
        "enter the pid namespace /no/such for the child: no such file or directory",
        "linux.namespaces[0].path = \"/no/such\"",
    ),
    case(
        |c, _| c["linux"]["namespaces"][0] = json!({"type": "pid", "path": "/proc/self/ns/net"}),
        "enter the pid namespace /proc/self/ns/net for the child: invalid argument",
        "linux.namespaces[0].path = \"/proc/self/ns/net\"",
    ),
    case(
        |c, _| c["linux"]["namespaces"][1] = json!({"type": "network", "path": "/etc/passwd"}),
        "open the network namespace /etc/passwd: invalid argument",
        "linux.namespaces[1].path = \"/etc/passwd\"",
    ),
];

const PROGRAMS: &[Case] = &[
    case(
        |c, _| c["process"]["args"] = json!(["/no/such"]),
        "exec /no/such: no such file or directory",
        "process.args[0] = \"/no/such\"",
    ),
    case(
        |c, _| c["process"]["args"] = json!(["nosuch"]),
        "exec: \"nosuch\": executable file not found in $PATH",
        "process.args[0] = \"nosuch\"",
    ),
    case(
        |c, _| c["process"]["args"] = json!(["/bin"]),
        "exec /bin: is a directory",
        "process.args[0] = \"/bin\"",
    ),
    case(
        |c, rootfs| {
            file(&rootfs.join("run"), "#!/bin/sh\n", 0o644);
            c["process"]["args"] = json!(["/run"]);
        },
        "exec /run: permission denied",
        "process.args[0] = \"/run\"",
    )
    .and("hint: the file has to be executable by the user of the process"),
    case(
        |c, _| c["process"]["cwd"] = json!("/bin/busybox"),
        "chdir to cwd (\"/bin/busybox\") set in config.json failed: not a directory",
        "process.cwd = \"/bin/busybox\"",
    ),
];

/// Refused when it is started, so by `run` or `start`.
const AT_START: &[Case] = &[
    case(
        |c, rootfs| {
            file(&rootfs.join("run"), "#!/no/such\n", 0o755);
            c["process"]["args"] = json!(["/run"]);
        },
        "exec /run: no such file or directory",
        "process.args[0] = \"/run\"",
    )
    .and("hint: the file is there: the interpreter that it names is missing"),
    case(
        |c, rootfs| {
            file(&rootfs.join("run"), "no program\n", 0o755);
            c["process"]["args"] = json!(["/run"]);
        },
        "exec /run: exec format error",
        "process.args[0] = \"/run\"",
    )
    .and("hint: it is neither a program for this architecture nor a script with #!"),
    case(
        |c, _| c["process"]["args"] = json!(["/bin/true", "x".repeat(200_000)]),
        "exec /bin/true: argument list too long",
        "process.args[0] = \"/bin/true\"",
    ),
    case(
        |c, _| c["hooks"]["startContainer"] = json!([{"path": "/no/such"}]),
        "error running startContainer hook #0: fork/exec /no/such: no such file or directory",
        "hooks.startContainer[0].path = \"/no/such\"",
    ),
    case(
        |c, _| c["hooks"]["poststart"] = json!([{"path": "/no/such"}]),
        "error running poststart hook #0: fork/exec /no/such: no such file or directory",
        "hooks.poststart[0].path = \"/no/such\"",
    ),
];

const REST: &[Case] = &[
    case(
        |c, _| c["process"]["capabilities"] = json!({"effective": ["CAP_KILL"]}),
        "set capabilities: operation not permitted",
        "process.capabilities = { \"effective\": [ \"CAP_KILL\" ] }",
    ),
    case(
        |c, _| c["process"]["user"]["additionalGids"] = (0..70_000).collect(),
        "set the supplementary groups: invalid argument",
        "process.user.additionalGids = ",
    ),
    case(
        |c, _| c["linux"]["sysctl"] = json!({"net.ipv4.banana": "1"}),
        "set sysctl net.ipv4.banana to 1: no such file or directory",
        "linux.sysctl[\"net.ipv4.banana\"] = \"1\"",
    ),
    case(
        |c, _| c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "banana"}),
        "set sysctl net.ipv4.ip_forward to banana: invalid argument",
        "linux.sysctl[\"net.ipv4.ip_forward\"] = \"banana\"",
    ),
    case(
        |c, _| {
            let device = |minor| json!({"path": "/dev/a", "type": "c", "major": 1, "minor": minor});
            c["linux"]["devices"] = json!([device(3), device(5)]);
        },
        "make character device /dev/a (1:5): file exists",
        "linux.devices[1] = ",
    ),
];

impl Case {
    /// Lets `verb` fail on it, with a log as engines ask for; then starts it if it is `created`.
    fn check(&self, verb: &str, created: bool, code: i32) {
        let mut c = Container::new(&["/bin/true"]);
        let rootfs = c.rootfs();
        c = c.with(|config| (self.change)(config, &rootfs));
        if created {
            c.boot("create", &[]).ok();
        }
        let log = c.shared().join("log");
        let (root, bundle) = (c.root(), c.bundle().to_str().unwrap().to_owned());
        let globals =
            ["--root", root.to_str().unwrap(), "--log", log.to_str().unwrap(), "--log-format"];
        let cmd = Cmd::new(&[runtime().to_str().unwrap()]).args(&globals).args(&["json", verb]);
        let cmd = if created { cmd } else { cmd.args(&["--bundle", &bundle]) };
        let stderr = cmd.args(&[&c.id]).fails(code);
        if is_tare() {
            let says = self.says.replace("ROOTFS", rootfs.to_str().unwrap());
            self.compare(&stderr, &format!("cannot {verb} \"{}\": {says}", c.id), &bundle);
            // What engines read is what people read, but for the program's own failures.
            let log = fs::read_to_string(log).unwrap();
            let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let errors: Vec<Value> = entries.filter(|entry| entry["level"] == "error").collect();
            assert_eq!(errors.len(), 1, "{log}");
            let first = stderr.lines().next().unwrap();
            let message = errors[0]["msg"].as_str().unwrap();
            assert_eq!(message, first.strip_prefix("tare: ").unwrap_or(first));
            assert!(stderr.contains(errors[0]["at"].as_str().unwrap()), "{log}");
        }
        if created {
            c.act("delete").args(&["--force"]).ok();
        }
        eventually(self.says, || c.leftovers().is_empty());
    }

    fn compare(&self, stderr: &str, says: &str, bundle: &str) {
        let mut lines = stderr.lines();
        let first = lines.next().unwrap();
        assert!(first == format!("tare: {says}") || says.ends_with(first), "{stderr}");
        let place = lines.next().and_then(|line| line.strip_prefix("  --> ")).expect(stderr);
        let (spot, what) = place.split_once("  ").expect(place);
        let at = self.at.replace("ROOTFS", &format!("{bundle}/rootfs"));
        assert!(what.starts_with(&at), "{stderr}");
        let spot = spot.strip_prefix(&format!("{bundle}/config.json:")).expect(spot);
        let (line, column) = spot.split_once(':').expect(spot);
        assert!(line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok(), "{stderr}");
        assert!(stderr.contains(self.more), "{}: {stderr}", self.more);
        assert_eq!(stderr.matches(self.says).count().min(1), stderr.matches(self.says).count());
    }
}

fn check(cases: &[Case]) {
    for case in cases {
        case.check("create", false, 1);
        case.check("run", false, 1);
    }
}

#[test]
fn roots() {
    check(ROOT);
}

#[test]
fn mounts() {
    check(MOUNTS);
}

#[test]
fn hooks() {
    if peers_fail("runc waits for what a hook that ran too long has left behind") {
        return;
    }
    check(HOOKS);
}

#[test]
fn namespaces() {
    check(NAMESPACES);
}

#[test]
fn programs() {
    check(PROGRAMS);
}

#[test]
fn what_only_the_start_shows() {
    if peers_fail("runc's start does not wait until the program is executed") {
        return;
    }
    for case in AT_START {
        // A failed init's exit code, but where the runtime itself has failed.
        let of_runtime = case.at.starts_with("hooks.poststart");
        case.check("run", false, if of_runtime { 1 } else { 255 });
        // What execve(2) refuses counts as started: lifecycle.rs.
        if !case.says.starts_with("exec ") {
            case.check("start", true, 1);
        }
    }
}

#[test]
fn the_rest() {
    if peers_fail("runc takes the first of two devices at one path") {
        return;
    }
    check(REST);
}
