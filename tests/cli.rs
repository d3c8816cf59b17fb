//! The command line of `tare` as its callers see it. Needs no root.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory of its own for each test, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("tare-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    /// Puts a container there whose runtime has recorded `json` beyond the usual members.
    fn container(&self, id: &str, json: &str) {
        let dir = self.0.join(id);
        std::fs::create_dir_all(&dir).unwrap();
        let state = format!(
            r#"{{"version":1,"ociVersion":"1.0.2","id":"{id}","bundle":"/b","rootfs":"/b/rootfs",
            "created":"2026-01-02T03:04:05.000000006Z",{json}}}"#
        );
        std::fs::write(dir.join("state.json"), state).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tare(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tare")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs what has to succeed silently on stderr; its stdout.
fn good(args: &[&str]) -> String {
    let output = tare(args);
    assert_eq!(text(&output.stderr), "", "{args:?}");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    text(&output.stdout).to_string()
}

/// Runs what has to fail; the first line of stderr.
fn bad(args: &[&str], code: i32) -> String {
    let output = tare(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "{args:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.ends_with(&format!("level=error exit={code}\n")), "{args:?}: {stderr}");
    stderr.lines().next().unwrap().to_string()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn version_is_in_runcs_form() {
    for flag in ["--version", "-v"] {
        let output = good(&[flag]);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], format!("tare version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2..], ["spec: 1.3.0"]);
    }
}

#[test]
fn help_is_there_for_everything() {
    for args in [&[][..], &["-h"], &["--help"], &["help"]] {
        let output = good(args);
        assert!(output.contains("Usage: tare [OPTIONS] [COMMAND]"), "{output}");
        for verb in tare::cli::table::VERBS {
            assert!(output.contains(verb.about), "{}", verb.name);
        }
    }
    for verb in tare::cli::table::VERBS {
        let usage = format!("Usage: tare {}", verb.name);
        for args in [[verb.name, "-h"], [verb.name, "--help"], ["help", verb.name]] {
            assert!(good(&args).contains(&usage), "{args:?}");
        }
    }
}

#[test]
fn unknown_commands_and_options_are_named() {
    assert_eq!(bad(&["foo"], 3), "tare: No help topic for 'foo'");
    assert_eq!(bad(&["foo", "-h"], 3), "tare: No help topic for 'foo'");
    assert_eq!(bad(&["help", "foo"], 3), "tare: No help topic for 'foo'");
    assert_eq!(bad(&["--bogus"], 1), "tare: flag provided but not defined: -bogus");
    assert_eq!(bad(&["state", "x", "--bogus"], 1), "tare: flag provided but not defined: -bogus");
    assert_eq!(bad(&["--log-format", "xml", "list"], 1), "tare: invalid log-format: xml");
    assert_eq!(bad(&["list", "--format", "x"], 1), "tare: invalid format option \"x\"");
}

#[test]
fn arguments_are_counted() {
    assert_eq!(bad(&["state"], 1), "tare: \"state\" requires exactly 1 argument(s)");
    assert_eq!(bad(&["state", "a", "b"], 1), "tare: \"state\" requires exactly 1 argument(s)");
    assert_eq!(bad(&["list", "a"], 1), "tare: \"list\" requires exactly 0 argument(s)");
    assert_eq!(bad(&["kill"], 1), "tare: \"kill\" requires a minimum of 1 argument(s)");
    assert_eq!(
        bad(&["kill", "a", "9", "b"], 1),
        "tare: \"kill\" requires a maximum of 2 argument(s)"
    );
}

#[test]
fn failures_of_exec_itself_are_255() {
    let place = Place::new("exec");
    let root = place.join("");
    assert_eq!(bad(&["exec"], 255), "tare: \"exec\" requires a minimum of 1 argument(s)");
    assert_eq!(bad(&["exec", "x"], 255), "tare: process args cannot be empty");
    assert_eq!(bad(&["exec", "-zz", "x", "ls"], 255), "tare: flag provided but not defined: -zz");
    bad(&["--root", &root, "exec", "x", "ls", "-l"], 255);
}

#[test]
fn missing_containers_have_runcs_words() {
    let place = Place::new("missing");
    let root = place.join("");
    for command in ["state", "kill", "delete", "pause", "resume", "ps"] {
        assert_eq!(
            bad(&["--root", &root, command, "web"], 1),
            "tare: container does not exist",
            "{command}"
        );
    }
    assert_eq!(good(&["--root", &root, "delete", "--force", "web"]), "");
    assert_eq!(good(&["--root", &root, "delete", "web", "-f"]), "");
}

#[test]
fn ids_are_checked_before_anything_else() {
    for id in ["a/b", "..", "a b"] {
        let first = bad(&["state", id], 1);
        assert!(first.starts_with("tare: invalid container ID format"), "{first}");
    }
    assert_eq!(bad(&["state", ""], 1), "tare: container id cannot be empty");
    bad(&["delete", "--force", "../x"], 1);
}

#[test]
fn the_root_is_named_and_never_the_file_system() {
    let refusal = "tare: Option --root argument should not be set to /";
    assert_eq!(bad(&["--root", "/", "list"], 1), refusal);
    let first = bad(&["--root", "/nonexistent/dir", "list"], 1);
    assert_eq!(first, "tare: open state directory /nonexistent/dir: no such file or directory");
}

#[test]
fn an_empty_root_lists_nothing() {
    let place = Place::new("empty");
    let root = format!("--root={}", place.join(""));
    assert_eq!(
        good(&[&root, "list"]),
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    );
    assert_eq!(good(&[&root, "list", "-f", "json"]), "[]\n");
    assert_eq!(good(&[&root, "list", "-q"]), "");
}

#[test]
fn a_container_whose_process_is_gone_is_stopped() {
    let place = Place::new("stopped");
    let root = place.join("");
    place.container("b", r#""stage":"started","pid":1,"pidStart":1,"annotations":{"k":"v"}"#);
    place.container("a", r#""stage":"created""#);
    std::fs::create_dir(place.0.join("half-made")).unwrap();
    std::fs::write(place.0.join("file"), "").unwrap();
    assert_eq!(good(&["--root", &root, "list", "--quiet"]), "a\nb\n");
    let state = good(&["--root", &root, "state", "b"]);
    assert!(
        state.starts_with("{\n  \"ociVersion\": \"1.0.2\",\n  \"id\": \"b\",\n  \"pid\": 0,\n")
    );
    let order = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations"];
    let places: Vec<_> = order.iter().map(|name| state.find(&format!("\"{name}\": "))).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{state}");
    let state = json(&state);
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["annotations"]["k"], "v");
    let listed = json(&good(&["--root", &root, "list", "--format", "json"]));
    assert_eq!(listed[1], state);
    assert_eq!(bad(&["--root", &root, "kill", "b"], 1), "tare: container not running");
    assert_eq!(good(&["--root", &root, "kill", "b", "KILL", "--all"]), "");
    good(&["--root", &root, "delete", "b"]);
    good(&["--root", &root, "delete", "-f", "half-made"]);
    assert_eq!(good(&["--root", &root, "list", "-q"]), "a\n");
    assert!(!place.0.join("b").exists() && !place.0.join("half-made").exists());
}

#[test]
fn a_running_container_is_signalled_and_deleted() {
    let place = Place::new("running");
    let root = place.join("");
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    let members = format!(r#""stage":"started","pid":{},"pidStart":{start}"#, child.id());
    place.container("web", &members);
    let state = json(&good(&["--root", &root, "state", "web"]));
    assert_eq!(
        (state["status"].as_str(), state["pid"].as_u64()),
        (Some("running"), Some(child.id().into()))
    );
    good(&["--root", &root, "kill", "web", "0"]);
    let first = bad(&["--root", &root, "kill", "web", "NOPE"], 1);
    assert_eq!(first, "tare: unknown signal \"NOPE\"");
    assert_eq!(
        bad(&["--root", &root, "delete", "web"], 1),
        "tare: cannot delete container web that is not stopped: running"
    );
    good(&["--root", &root, "delete", "--force", "web"]);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(!place.0.join("web").exists());
}

#[test]
fn a_damaged_state_is_explained_and_removed_by_force_only() {
    let place = Place::new("damaged");
    let root = place.join("");
    std::fs::create_dir(place.0.join("web")).unwrap();
    std::fs::write(place.0.join("web/state.json"), "{").unwrap();
    assert!(bad(&["--root", &root, "delete", "web"], 1).contains("state.json"));
    let output = tare(&["--root", &root, "list"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("level=warning"), "{}", text(&output.stderr));
    assert_eq!(tare(&["--root", &root, "delete", "-f", "web"]).status.code(), Some(0));
    assert!(!place.0.join("web").exists());
}

#[test]
fn a_state_of_a_later_version_is_left_alone() {
    let place = Place::new("later");
    let root = place.join("");
    std::fs::create_dir(place.0.join("web")).unwrap();
    for state in [r#"{"version": 2, "all": "else"}"#, r#"{"version": 4000000000}"#] {
        std::fs::write(place.0.join("web/state.json"), state).unwrap();
        for command in [&["state", "web"][..], &["delete", "web"], &["delete", "--force", "web"]] {
            let args = [&["--root", &root][..], command].concat();
            let first = bad(&args, 1);
            assert_eq!(first, "tare: the container was created by a later version of tare");
        }
    }
    assert!(place.0.join("web").exists());
}

#[test]
fn global_options_of_runc_are_accepted() {
    let place = Place::new("globals");
    let root = place.join("");
    for options in [
        &["--rootless", "auto"][..],
        &["--rootless=true"],
        &["-rootless", "false"],
        &["--criu", "/usr/sbin/criu"],
        &["-debug"],
        &["--debug=false", "-log-format", "json"],
    ] {
        let args = [&["-root", &root][..], options, &["list", "-q"]].concat();
        assert_eq!(good(&args), "", "{options:?}");
    }
    let first = bad(&["--rootless", "maybe", "list"], 1);
    assert_eq!(first, "tare: --rootless is true, false or auto, not \"maybe\"");
}

#[test]
fn options_stand_where_runcs_callers_put_them() {
    let place = Place::new("places");
    let root = format!("--root={}", place.join(""));
    let absent = "tare: container does not exist";
    // After the id, with values that begin with a dash, with one dash, with `=`.
    assert_eq!(bad(&[&root, "update", "web", "--cpu-quota", "-1"], 1), absent);
    assert_eq!(bad(&[&root, "update", "-cpu-quota=-1", "web", "-r", "-"], 1), absent);
    assert_eq!(bad(&[&root, "update", "--resources=-", "web"], 1), absent);
    assert_eq!(bad(&[&root, "kill", "--all", "web", "9"], 1), absent);
    assert_eq!(bad(&[&root, "kill", "web", "KILL", "-a"], 1), absent);
    assert_eq!(bad(&[&root, "events", "web", "--stats", "-interval", "1m30s"], 1), absent);
    // What follows the id of exec and ps is another program's.
    assert_eq!(bad(&[&root, "ps", "-f", "json", "web", "--bogus"], 1), absent);
    assert!(bad(&[&root, "exec", "-t=false", "web", "ls", "--bogus"], 255).ends_with(&absent[6..]));
}

#[test]
fn values_are_refused_in_runcs_words() {
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["exec", "--preserve-fds", "x", "web", "ls"],
            255,
            "invalid value \"x\" for flag -preserve-fds",
        ),
        (&["events", "--interval", "soon", "web"], 1, "invalid value \"soon\" for flag -interval"),
        (&["events", "--interval", "0s", "web"], 1, "duration interval must be greater than 0"),
        (&["update", "--cpu-share", "x", "web"], 1, "invalid value for cpu-share"),
        (&["delete", "--force=x", "web"], 1, "invalid boolean value \"x\" for -force"),
    ];
    for (args, code, words) in cases {
        let first = bad(args, code);
        assert!(first.starts_with(&format!("tare: {words}")), "{first}");
    }
    assert_eq!(bad(&["list", "--format"], 1), "tare: flag needs an argument: -format");
}

#[test]
fn engines_find_their_line_in_the_log() {
    let place = Place::new("log");
    let (root, log) = (place.join(""), place.join("log.json"));
    let args = ["--root", &root, "--log", &log, "--log-format", "json", "state", "web"];
    let output = tare(&args);
    let hint = "tare list shows all; --root DIR names another place";
    let words = format!("tare: container does not exist\n  hint: {hint}\n");
    assert_eq!(text(&output.stderr), words);
    tare(&args);
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 2, "lines are appended");
    let first = lines.lines().next().unwrap();
    assert!(first.starts_with(r#"{"level":"error","msg":"container does not exist","time":"20"#));
    assert!(json(first)["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_text_log_has_logrus_form() {
    let place = Place::new("text");
    let (root, log) = (place.join(""), place.join("log"));
    tare(&["--root", &root, "--log", &log, "--debug", "delete", "web"]);
    let line = std::fs::read_to_string(&log).unwrap();
    assert!(line.starts_with("time=\"20"), "{line}");
    assert!(line.contains("Z\" level=error msg=\"container does not exist\" hint="), "{line}");
}

#[test]
fn json_without_a_file_is_on_stderr_alone() {
    let place = Place::new("stderr");
    let output = tare(&["--root", &place.join(""), "--log-format=json", "state", "web"]);
    assert_eq!(json(text(&output.stderr))["msg"], "container does not exist");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error() {
    let first = bad(&["--log", "/nonexistent/log", "list"], 1);
    assert_eq!(first, "tare: open log file /nonexistent/log: no such file or directory");
}

#[test]
fn a_closed_stderr_or_stdout_changes_nothing() {
    let shell = |script: &str| {
        let status = Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_tare")])
            .status()
            .unwrap();
        status.code()
    };
    assert_eq!(shell("\"$1\" foo 2>&-"), Some(3));
    assert_eq!(shell("{ \"$1\" foo; echo $? >&3; } 3>&1 2>&1 >/dev/null | true"), Some(0));
    assert_eq!(shell("\"$1\" features >&-"), Some(0));
    assert_eq!(shell("\"$1\" features >/dev/full"), Some(1));
}

#[test]
fn the_log_file_does_not_take_the_place_of_a_closed_stderr() {
    let place = Place::new("closed");
    let log = place.join("log");
    let script = "exec \"$@\" 2>&-";
    let tare = [env!("CARGO_BIN_EXE_tare"), "--log", &log, "foo"];
    let status = Command::new("sh").args(["-c", script, "sh"]).args(tare).status().unwrap();
    assert_eq!(status.code(), Some(3));
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn spec_is_written_once() {
    let place = Place::new("spec");
    let bundle = place.join("");
    good(&["spec", "-b", &bundle]);
    let file = place.0.join("config.json");
    let config = std::fs::read_to_string(&file).unwrap();
    assert_eq!(json(&config)["process"]["args"][0], "sh");
    assert!(json(&config)["linux"]["uidMappings"].is_null());
    let first = bad(&["spec", "--bundle", &bundle], 1);
    assert!(first.ends_with("config.json exists. Remove it first"), "{first}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), config);
    std::fs::remove_file(&file).unwrap();
    good(&["spec", "--rootless", "--bundle", &bundle]);
    let rootless = json(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(rootless["linux"]["uidMappings"][0]["size"], 1);
    let first = bad(&["spec", "-b", "/nonexistent"], 1);
    assert!(first.ends_with("/nonexistent/config.json: no such file or directory"), "{first}");
}

/// A line of text for each step in JSON, and what single writes a step makes in both.
#[test]
fn a_plan_is_explained_in_text_and_in_json() {
    let place = Place::new("explain");
    let bundle = place.join("");
    std::fs::create_dir(place.join("rootfs")).unwrap();
    good(&["spec", "--bundle", &bundle]);
    let mut config = json(&std::fs::read_to_string(place.join("config.json")).unwrap());
    config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 77});
    std::fs::write(place.join("config.json"), config.to_string()).unwrap();
    let explain = ["--rootless", "false", "explain", "--bundle", &bundle, "box"];
    let path = ["--rootless", "false", "explain", bundle.as_str()];
    assert!(bad(&path, 1).contains("invalid container ID"));
    let shown = good(&explain);
    let plan = json(&good(&[&explain[..], &["--json"]].concat()));
    assert_eq!(
        plan["rootfs"],
        std::fs::canonicalize(place.join("rootfs")).unwrap().to_str().unwrap()
    );
    let (mut expected, mut side) = (String::new(), "");
    for step in plan["steps"].as_array().unwrap() {
        if step["side"] != side {
            side = step["side"].as_str().unwrap();
            let title = "The child that becomes the container";
            expected += &format!("{}:\n", if side == "child" { title } else { "The runtime" });
        }
        let [what, at] = ["what", "at"].map(|member| step[member].as_str().unwrap());
        expected += &match at {
            "" => format!("    {what}\n"),
            _ => format!("    {what:<72} {at}\n"),
        };
        for detail in step["details"].as_array().into_iter().flatten() {
            expected += &format!("        {}\n", detail["what"].as_str().unwrap());
        }
    }
    assert_eq!(shown, expected);
    for (at, what) in [
        ("mounts[0]", "mount proc on /proc"),
        ("process.args", "execute the program"),
        ("linux.resources.pids.limit", "pids.max = 77"),
    ] {
        let steps = plan["steps"].as_array().unwrap().iter();
        let mut all = steps
            .flat_map(|s| [s].into_iter().chain(s["details"].as_array().into_iter().flatten()));
        assert!(all.any(|s| s["at"] == at && s["what"] == what), "{at}: {plan:#}");
    }
}

/// What a bundle asks for beyond the default is explained with its place.
#[test]
fn steps_of_every_kind_are_explained() {
    let place = Place::new("explain-all");
    let bundle = place.join("");
    std::fs::create_dir(place.join("rootfs")).unwrap();
    good(&["spec", "--bundle", &bundle]);
    let mut config = json(&std::fs::read_to_string(place.join("config.json")).unwrap());
    let hook = serde_json::json!([{"path": "/bin/hook"}]);
    let more = serde_json::json!({
        "domainname": "example.org",
        "process": {
            "cwd": "/made", "oomScoreAdj": 5, "user": {"umask": 63},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}],
            "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        },
        "hooks": {
            "createRuntime": hook, "createContainer": hook, "startContainer": hook,
        },
        "linux": {
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "timeOffsets": {"monotonic": {"secs": 5}},
            "rootfsPropagation": "slave",
            "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"},
            "netDevices": {"eth7": {"name": "eth0"}},
            "devices": [{"path": "/dev/pipe", "type": "p", "fileMode": 420}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]},
        },
    });
    merge(&mut config, &more);
    let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
    kinds.push(serde_json::json!({"type": "time"}));
    std::fs::write(place.join("config.json"), config.to_string()).unwrap();
    let shown = good(&["explain", "--bundle", &bundle]);
    for line in shown.lines().filter(|line| line.starts_with("    ")) {
        let first = line.trim_start().chars().next();
        assert!(first.is_some_and(|c| !c.is_uppercase()), "{line}");
    }
    for (what, at) in [
        ("set the domain name to example.org", "domainname"),
        ("make the working directory /made", "process.cwd"),
        ("set oom_score_adj to 5", "process.oomScoreAdj"),
        ("set the umask to 0077", "process.user.umask"),
        ("set RLIMIT_CORE", "process.rlimits[0]"),
        ("set the scheduler to SCHED_BATCH", "process.scheduler"),
        ("set the I/O class to IOPRIO_CLASS_IDLE", "process.ioPriority"),
        ("run createRuntime hook #0 /bin/hook", "hooks.createRuntime[0]"),
        ("run createContainer hook #0 /bin/hook", "hooks.createContainer[0]"),
        ("run startContainer hook #0 /bin/hook", "hooks.startContainer[0]"),
        ("set sysctl net.ipv4.ip_forward to 1", "linux.sysctl"),
        ("set the propagation of the root", "linux.rootfsPropagation"),
        ("set the personality to LINUX32", "linux.personality"),
        ("set the memory policy to MPOL_BIND", "linux.memoryPolicy"),
        ("move network device eth7 into the container as eth0", "linux.netDevices"),
        ("make FIFO /dev/pipe", "linux.devices[0]"),
        ("hand the listener of the seccomp filter to the agent at /run/agent", "linux.seccomp"),
    ] {
        let found = shown.lines().find(|line| line.contains(what));
        assert!(found.is_some_and(|line| line.contains(at)), "{what} of {at}: {shown}");
    }
    for part in ["load the seccomp filter (", "make a time namespace"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// Adds `more` to `value`, object by object.
fn merge(value: &mut serde_json::Value, more: &serde_json::Value) {
    match more.as_object() {
        Some(members) if value.is_object() => {
            members.iter().for_each(|(name, member)| merge(&mut value[name], member));
        }
        _ => *value = more.clone(),
    }
}

#[test]
fn without_systemd_there_are_no_cgroups_of_it() {
    if std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    let place = Place::new("systemd");
    let bundle = place.0.to_str().unwrap();
    good(&["spec", "-b", bundle]);
    let first = bad(&["--systemd-cgroup", "explain", "-b", bundle], 1);
    let words =
        "systemd cgroup flag passed, but systemd support for managing cgroups is not available";
    assert!(first.ends_with(words), "{first}");
}

#[test]
fn features_follow_the_specification() {
    let features = json(&good(&["features"]));
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
    let has = |pointer: &str, word: &str| {
        features.pointer(pointer).unwrap().as_array().unwrap().iter().any(|entry| entry == word)
    };
    assert!(has("/mountOptions", "rbind") && has("/linux/namespaces", "mount"));
    assert!(has("/linux/capabilities", "CAP_SYS_ADMIN"));
    let unsafe_annotations = "/potentiallyUnsafeConfigAnnotations";
    assert!(has(unsafe_annotations, "org.systemd.property."));
    assert!(has(unsafe_annotations, "org.criu.config"));
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_ERRNO"));
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"));
    let archs = features["linux"]["seccomp"]["archs"].as_array().unwrap();
    assert_eq!(archs.len(), 23, "all of the specification");
    let flags = |list: &str| {
        let flags = features["linux"]["seccomp"][list].as_array().unwrap().iter();
        flags.map(|flag| flag.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(flags("knownFlags").len(), 4);
    assert!(flags("supportedFlags").iter().all(|flag| flags("knownFlags").contains(flag)));
    assert!(has("/linux/seccomp/supportedFlags", "SECCOMP_FILTER_FLAG_LOG"));
}

#[test]
fn doctor_tells_of_the_host() {
    let output = tare(&["doctor"]);
    let said = text(&output.stdout);
    for topic in ["kernel", "namespaces", "user", "seccomp", "cgroups", "criu", "Intel RDT"] {
        let line = said.lines().find(|line| line.get(5..).is_some_and(|l| l.starts_with(topic)));
        let mark = line.and_then(|line| line.get(..4)).unwrap_or_else(|| panic!("{topic}: {said}"));
        assert!(["ok  ", "part", "no  ", "FAIL"].contains(&mark), "{said}");
    }
    let fatal = said.lines().any(|line| line.starts_with("FAIL"));
    assert_eq!(output.status.code(), Some(i32::from(fatal)), "{said}");
}

#[test]
fn doctor_finds_every_problem_of_a_bundle() {
    let place = Place::new("doctor");
    let bundle = place.join("");
    good(&["spec", "-b", &bundle]);
    let file = place.0.join("config.json");
    let mut config = json(&std::fs::read_to_string(&file).unwrap());
    let write = |config: &serde_json::Value| std::fs::write(&file, config.to_string()).unwrap();
    config["process"]["rlimits"] = serde_json::json!([]);
    config["root"]["path"] = "no-root".into();
    let bind = serde_json::json!({"destination": "/x", "source": "/no/dir", "options": ["bind"]});
    config["mounts"].as_array_mut().unwrap().push(bind);
    config["linux"]["namespaces"][0]["path"] = "/no/namespace".into();
    config["linux"]["sysctl"] = serde_json::json!({"net.no.such": "1"});
    // The plan refuses these on any host, one after the other.
    config["linux"]["intelRdt"] = serde_json::json!({"closID": "../x"});
    config["linux"]["resources"] = serde_json::json!({"pids": {"limit": -5}});
    config["hooks"] = serde_json::json!({"poststop": [{"path": "/no/hook"}],
        "startContainer": [{"path": "/in/the/container"}]});
    write(&config);
    let output = tare(&["doctor", &bundle]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for at in [
        "root.path",
        "mounts[7].source",
        "linux.namespaces[0].path",
        "linux.sysctl[\"net.no.such\"]",
        "hooks.poststop[0].path",
        "linux.intelRdt.closID",
        "linux.resources.pids.limit",
    ] {
        assert_eq!(said.matches(&format!("  {at} ")).count(), 1, "{at}: {said}");
    }
    assert!(!said.contains("startContainer"), "{said}");
    std::fs::write(&file, "{").unwrap();
    let output = tare(&["doctor", &bundle]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("config.json:1:"), "{}", text(&output.stdout));
}

#[test]
fn doctor_finds_nothing_in_a_good_bundle() {
    let place = Place::new("healthy");
    let bundle = place.join("");
    good(&["spec", "--rootless", "-b", &bundle]);
    let file = place.0.join("config.json");
    let mut config = json(&std::fs::read_to_string(&file).unwrap());
    config["process"]["rlimits"] = serde_json::json!([]);
    std::fs::write(&file, config.to_string()).unwrap();
    std::fs::create_dir_all(place.0.join("rootfs/bin")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_tare"), place.0.join("rootfs/bin/sh")).unwrap();
    let output = tare(&["doctor", &bundle]);
    let said = text(&output.stdout);
    let (host, bundle) = said.split_once("\n\n").unwrap();
    if !host.contains("FAIL") {
        assert!(bundle.ends_with("nothing in it is known to fail here\n"), "{said}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn an_unprivileged_user_has_a_root_of_their_own() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    // The binary may lie where another user cannot reach it.
    let place = Place::new("user");
    let binary = place.0.join("tare");
    // Not copied by this process: what other tests start meanwhile would inherit the writable
    // file, and a file that is open for writing cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tare")).arg(&binary).status().unwrap();
    assert!(copied.success());
    std::fs::create_dir(place.0.join("run")).unwrap();
    let below = Place(place.0.join("run/tare"));
    below.container("web", r#""stage":"started""#);
    let list = |uid: u32| {
        std::os::unix::fs::chown(&below.0, Some(uid), Some(uid)).unwrap();
        let mut command = Command::new(&binary);
        command.args(["list", "-q"]).env("XDG_RUNTIME_DIR", place.0.join("run"));
        command.uid(uid).gid(uid).output().unwrap()
    };
    assert_eq!(text(&list(65534).stdout), "web\n");
    assert_ne!(text(&list(0).stdout), "web\n", "root's own is /run/tare");
}
