use std::collections::VecDeque;

use super::*;
use crate::cgroup::{Hierarchies, Manager};
use crate::spec::load::from_json;

/// What crosses the channel before the child is ready.
#[derive(Debug, PartialEq)]
enum Word {
    Continue,
    InitPid,
    InNamespaces,
    WantSource,
    Source,
    AtHooks,
}

/// What a side does with the channel: says a word, or waits for one.
enum Turn {
    Say(Word),
    Hear(Word),
}
use Turn::{Hear, Say};

fn runtime_turns(plan: &Plan) -> VecDeque<Turn> {
    let wants = plan.child.iter().filter(|entry| matches!(entry.step, ChildStep::WantSource(_)));
    let sources = wants.count();
    let turns = plan.parent.iter().flat_map(|entry| match entry.step {
        ParentStep::Continue | ParentStep::ContinueIntoCgroups => vec![Say(Word::Continue)],
        ParentStep::AwaitInitPid => vec![Hear(Word::InitPid)],
        ParentStep::AwaitNamespaces => vec![Hear(Word::InNamespaces)],
        ParentStep::SupplySources => {
            (0..sources).flat_map(|_| [Hear(Word::WantSource), Say(Word::Source)]).collect()
        }
        ParentStep::AwaitHooks => vec![Hear(Word::AtHooks)],
        _ => vec![],
    });
    turns.collect()
}

fn child_turns(plan: &Plan) -> VecDeque<Turn> {
    let turns = plan.child.iter().flat_map(|entry| match entry.step {
        ChildStep::Await => vec![Hear(Word::Continue)],
        ChildStep::ForkInit(_) => vec![Say(Word::InitPid)],
        ChildStep::SyncNamespaces => vec![Say(Word::InNamespaces), Hear(Word::Continue)],
        ChildStep::WantSource(_) => vec![Say(Word::WantSource), Hear(Word::Source)],
        ChildStep::SyncHooks => vec![Say(Word::AtHooks), Hear(Word::Continue)],
        _ => vec![],
    });
    turns.collect()
}

/// Takes turns as far as `side` comes by what it has been told; whether it came any further.
fn advance(
    side: &mut VecDeque<Turn>,
    told: &mut VecDeque<Word>,
    tells: &mut VecDeque<Word>,
) -> bool {
    let before = side.len();
    while let Some(turn) = side.pop_front() {
        match turn {
            Say(word) => tells.push_back(word),
            Hear(word) => match told.pop_front() {
                Some(heard) => assert_eq!(heard, word),
                None => {
                    side.push_front(Hear(word));
                    break;
                }
            },
        }
    }
    side.len() < before
}

/// Neither side waits for ever, and each hears what it waits for.
fn assert_meets(plan: &Plan, what: &str) {
    let (mut runtime, mut child) = (runtime_turns(plan), child_turns(plan));
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    while advance(&mut runtime, &mut up, &mut down) | advance(&mut child, &mut down, &mut up) {}
    assert!(runtime.is_empty() && child.is_empty(), "{what}: both sides wait");
    assert!(up.is_empty(), "{what}: {up:?} is never heard");
    // The rest is heard by the child that waits for its start.
    assert!(down.iter().all(|word| *word == Word::Continue) && down.len() <= 1, "{what}: {down:?}");
}

/// Where the runtime opens cgroups, the child joins some; whether it does.
fn assert_opened(plan: &Plan, what: &str) -> bool {
    let opens = |entry: &Entry<ParentStep>| matches!(entry.step, ParentStep::ContinueIntoCgroups);
    let opened = plan.parent.iter().any(opens);
    let joined = plan.joined_cgroups().any(|cgroup| !cgroup.places().is_empty());
    assert!(!opened || joined, "{what}");
    opened
}

/// The ids of a mount.
const MAPPED: &str = r#","uidMappings":[{"containerID":0,"hostID":9,"size":1}],
    "gidMappings":[{"containerID":0,"hostID":9,"size":1}]"#;

fn spec(user: &str, extra: &str, net_devices: &str, hook: &str, mount: &str) -> Spec {
    let text = format!(
        r#"{{"ociVersion":"1.3.0","root":{{"path":"rootfs"}},
        "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["/x"]}},
        "mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup"}},
            {{"destination":"/a","source":"/b","options":["bind"]{mount}}}],
        "hooks":{{{hook}}},
        "linux":{{"namespaces":[{{"type":"mount"}},{{"type":"network"}}{user}{extra}],
        "uidMappings":[{{"containerID":0,"hostID":9,"size":1}}],
        "gidMappings":[{{"containerID":0,"hostID":9,"size":1}}],
        "cgroupsPath":"a.slice:b:c","netDevices":{{{net_devices}}}}}}}"#
    );
    from_json(&text).unwrap()
}

#[test]
fn both_sides_follow_one_protocol() {
    let v1 = || Hierarchies::fixed(&[("devices", "/c/devices", "/"), ("", "/c/unified", "/")]);
    let v2 = || Hierarchies::fixed(&[("", "/sys/fs/cgroup", "/")]);
    let users = ["", r#",{"type":"user"}"#, r#",{"type":"user","path":"/proc/1/ns/user"}"#];
    let extras = [
        "",
        r#",{"type":"pid"}"#,
        r#",{"type":"pid"},{"type":"cgroup"}"#,
        r#",{"type":"pid","path":"/proc/1/ns/pid"}"#,
        r#",{"type":"ipc","path":"/proc/1/ns/ipc"},{"type":"time"}"#,
        r#",{"type":"ipc"}"#,
        r#",{"type":"pid","path":"/proc/1/ns/pid"},{"type":"ipc"}"#,
    ];
    let mut opened = 0;
    for hierarchies in [v1, v2] {
        for systemd in [None, Some(Manager::fixed())] {
            let host = Host {
                hierarchies: hierarchies(),
                capabilities: u64::MAX,
                kcore: true,
                systemd,
                rootless: false,
            };
            for (user, extra) in users.iter().flat_map(|user| extras.map(|extra| (user, extra))) {
                // Only root may move network devices and map mounts.
                let devices = ["", r#""eth0":{}"#];
                let most = if crate::sys::process::euid() == 0 { 2 } else { 1 };
                for device in devices.into_iter().take(most) {
                    for hook in ["", r#""createRuntime":[{"path":"/h"}]"#] {
                        for mount in ["", MAPPED].into_iter().take(most) {
                            let what = format!("{host:?} {user}{extra} {device} {hook} {mount}");
                            let spec = spec(user, extra, device, hook, mount);
                            let options = Options { id: "x".into(), ..Options::default() };
                            let plan = container(&spec, &host, &options).expect(&what);
                            assert_meets(&plan, &what);
                            opened += usize::from(assert_opened(&plan, &what));
                        }
                    }
                }
            }
        }
    }
    assert_ne!(opened, 0);
}

/// The plan of a container with more in its process, and more in linux.
fn plain(process: &str, linux: &str, start: bool) -> Plan {
    let text = format!(
        r#"{{"ociVersion":"1.3.0","root":{{"path":"rootfs"}},
        "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["/x"],{process}}},
        "linux":{{"namespaces":[{{"type":"mount"}},{{"type":"pid"}}]{linux}}}}}"#
    );
    let host = Host {
        hierarchies: Hierarchies::fixed(&[("", "/sys/fs/cgroup", "/")]),
        capabilities: u64::MAX,
        kcore: true,
        systemd: None,
        rootless: false,
    };
    let options = Options { id: "x".into(), start, attached: start, ..Options::default() };
    container(&from_json(&text).unwrap(), &host, &options).unwrap()
}

/// Others of the container may be beside what waits for its start, and could trace the stub.
#[test]
fn the_stub_loads_no_filter_that_others_could_take_away() {
    let end = |start: bool, denied: &str| {
        let seccomp = format!(
            r#","seccomp":{{"defaultAction":"SCMP_ACT_ALLOW",
            "syscalls":[{{"names":["{denied}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
        );
        let plan = plain(r#""noNewPrivileges":true"#, &seccomp, start);
        let filter = plan.child.iter().find_map(|entry| match entry.step {
            ChildStep::Seccomp(_, by_stub) => Some(by_stub),
            _ => None,
        });
        (filter, plan.exposed)
    };
    assert_eq!(end(true, "acct"), (Some(true), false));
    assert_eq!(end(false, "acct"), (Some(false), false));
    // The runtime could not go on under such a one: it runs from a protected copy, without the stub.
    for denied in ["rt_sigprocmask", "execveat"] {
        assert_eq!(end(false, denied), (Some(true), true), "{denied}");
    }
}

#[test]
fn a_payload_waits_until_its_terminal_is_prepared() {
    let last = |terminal: bool| {
        let plan = plain(&format!(r#""terminal":{terminal}"#), "", true);
        let end = &plan.parent[plan.parent.len() - 2..];
        end.iter().map(|entry| entry.step.to_string()).collect::<Vec<_>>()
    };
    let released = ParentStep::StartBeforehand.to_string();
    assert_eq!(last(false), [ParentStep::SaveState.to_string(), released]);
    assert_eq!(last(true), [ParentStep::AwaitReady, ParentStep::Start].map(|s| s.to_string()));
}
