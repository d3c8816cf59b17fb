//! Refusals of `linux`, and of what only a namespace of `linux` makes possible.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::stat::stat;

use super::super::config::{Device, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Spec};
use super::super::names::{MEMORY_FLAGS, MEMORY_MODES, PERSONALITIES};
use super::super::{list, position};
use super::{mounts, named, one_of, repeated};
use crate::error::{Error, Result};

const NAMESPACES: &[&str] = &["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
const PROPAGATIONS: &[&str] =
    &["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];
/// System V message queues, semaphores and shared memory: the ipc namespace's own.
const IPC_SYSCTLS: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Refuses what contradicts itself or does not exist.
pub fn check(spec: &Spec) -> Result<()> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let list = &linux.namespaces;
    namespaces(list)?;
    names(spec, list)?;
    users(linux)?;
    time(linux)?;
    linux.devices.iter().enumerate().try_for_each(|(i, d)| device(d, i))?;
    sysctls(linux)?;
    paths(linux)?;
    words(linux)?;
    net_devices(linux)?;
    linux.intel_rdt.as_ref().map_or(Ok(()), intel_rdt)?;
    linux.memory_policy.as_ref().map_or(Ok(()), memory_policy)
}

fn find<'a>(list: &'a [Namespace], kind: &str) -> Option<&'a Namespace> {
    list.iter().find(|namespace| namespace.kind == kind)
}

/// The namespace that is joined; an empty path stands for none.
fn joined(namespace: &Namespace) -> Option<&str> {
    namespace.path.as_deref().filter(|path| !path.is_empty())
}

fn namespaces(list: &[Namespace]) -> Result<()> {
    for (i, namespace) in list.iter().enumerate() {
        let what = format!("namespace {:?} does not exist", namespace.kind);
        one_of(&namespace.kind, NAMESPACES, what, format!("linux.namespaces[{i}].type"))?;
        if joined(namespace).is_some_and(|path| !path.starts_with('/')) {
            return Err(Error::new("the path of a namespace to join must be absolute")
                .at(format!("linux.namespaces[{i}].path"))
                .hint("without a path a new namespace is made"));
        }
        if namespace.kind == "mount" && is_own(namespace) {
            return Err(Error::new("the mount namespace to be joined is the one that tare is in")
                .at(format!("linux.namespaces[{i}].path"))
                .hint("its root and its mounts would be taken away"));
        }
    }
    match repeated(list.iter().map(|namespace| namespace.kind.as_str())) {
        Some(i) => Err(Error::new("malformed spec file: duplicated ns")
            .at(format!("linux.namespaces[{i}].type"))
            .hint("a container is in one namespace of each type")),
        None => Ok(()),
    }
}

/// Host and domain name.
fn names(spec: &Spec, list: &[Namespace]) -> Result<()> {
    // __NEW_UTS_LEN of include/uapi/linux/utsname.h.
    const LONGEST: usize = 64;
    for (name, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let length = value.as_ref().map_or(0, String::len);
        let namespace = find(list, "uts");
        if length > 0 && namespace.is_none_or(is_own) {
            let hint = match namespace {
                None => "add {\"type\": \"uts\"} to linux.namespaces",
                Some(_) => "the uts namespace to be joined is the one that tare is in",
            };
            let what = format!("unable to set {name} without a private UTS namespace");
            return Err(Error::new(what).at(name).hint(hint));
        }
        if length > LONGEST {
            return Err(Error::new(format!(
                "the {name} has {length} bytes; the kernel takes {LONGEST}"
            ))
            .at(name));
        }
    }
    Ok(())
}

/// The user namespace and its mappings belong together.
fn users(linux: &Linux) -> Result<()> {
    let (uids, gids) = (&linux.uid_mappings, &linux.gid_mappings);
    let Some(namespace) = find(&linux.namespaces, "user") else {
        let given = match (uids.is_empty(), gids.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => "linux.uidMappings",
            (true, false) => "linux.gidMappings",
        };
        return Err(Error::new(
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        )
        .at(given)
        .hint("add {\"type\": \"user\"} to linux.namespaces"));
    };
    if joined(namespace).is_none() && (uids.is_empty() || gids.is_empty()) {
        let absent = if uids.is_empty() { "linux.uidMappings" } else { "linux.gidMappings" };
        return Err(Error::new(
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        )
        .at(absent)
        .hint("without a mapping no user and no group exists in the container"));
    }
    mounts::mappings(uids, "linux.uidMappings")?;
    mounts::mappings(gids, "linux.gidMappings")
}

/// time_namespaces(7).
fn time(linux: &Linux) -> Result<()> {
    let Some(offsets) = linux.time_offsets.as_ref().filter(|map| !map.is_empty()) else {
        return Ok(());
    };
    let refuse = |what: &str| Err(Error::new(what).at("linux.timeOffsets"));
    match find(&linux.namespaces, "time") {
        None => {
            return refuse(
                "time namespace offsets specified, but time namespace isn't enabled in the config",
            );
        }
        Some(namespace) if joined(namespace).is_some() => {
            return refuse(
                "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
            );
        }
        Some(_) => (),
    }
    for (clock, offset) in offsets {
        let at = position::member("linux.timeOffsets", clock);
        one_of(clock, &["monotonic", "boottime"], "this clock has no offset", at.clone())?;
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::new("the offset has a second or more in nanoseconds")
                .at(position::member(&at, "nanosecs")));
        }
    }
    Ok(())
}

fn device(device: &Device, i: usize) -> Result<()> {
    let at = |part: &str| format!("linux.devices[{i}].{part}");
    if !device.path.starts_with('/') {
        return Err(Error::new("the path of a device must be absolute").at(at("path")));
    }
    if !matches!(&*device.kind, "b" | "c" | "u" | "p") {
        return Err(Error::new(format!("invalid device type {:?}", device.kind))
            .at(at("type"))
            .hint("b is a block device, c or u a character device, p a fifo"));
    }
    for (part, number) in [("major", device.major), ("minor", device.minor)] {
        match number {
            None if device.kind != "p" => {
                return Err(
                    Error::new(format!("device {} has no {part} number", device.path)).at(at(part))
                );
            }
            Some(number) if u32::try_from(number).is_err() => {
                return Err(
                    Error::new(format!("{part} number {number} is out of range")).at(at(part))
                );
            }
            _ => (),
        }
    }
    Ok(())
}

/// The file below /proc/sys of a sysctl, whose parts are parted by dots or by slashes: what
/// comes first parts, and the other one stands for itself, the other way round (sysctl(8)).
/// `None` if a part is empty or leads elsewhere.
pub fn sysctl_file(name: &str) -> Option<String> {
    let dots_part = name.chars().find(|c| matches!(c, '.' | '/')) == Some('.');
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let file: String = if dots_part { name.chars().map(swap).collect() } else { name.to_owned() };
    let harmless = |part: &str| !matches!(part, "" | "." | "..");
    file.split('/').all(harmless).then_some(file)
}

/// Most of /proc/sys is the host's: only what belongs to a namespace of the container is set.
fn sysctls(linux: &Linux) -> Result<()> {
    for name in linux.sysctl.keys() {
        sysctl(name, &linux.namespaces)
            .map_err(|err| err.at(position::member("linux.sysctl", name)))?;
    }
    Ok(())
}

fn sysctl(name: &str, list: &[Namespace]) -> Result<()> {
    let Some(file) = sysctl_file(name) else {
        return Err(Error::new(format!("sysctl {name:?} is not the name of one")));
    };
    let has = |kind| find(list, kind).is_some_and(|namespace| !is_own(namespace));
    let (owner, words) = if IPC_SYSCTLS.contains(&&*file) || file.starts_with("fs/mqueue/") {
        ("ipc", format!("sysctl {name:?} is not allowed in the hosts ipc namespace"))
    } else if file.starts_with("net/") {
        ("network", format!("sysctl {name:?} not allowed in host network namespace"))
    } else if file.starts_with("user/") {
        ("user", format!("setting ucounts without a user namespace not allowed: {name}"))
    } else if file == "kernel/hostname" && has("uts") {
        return Err(Error::new(format!(
            "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
        )));
    } else if file == "kernel/domainname" && has("uts") {
        return Ok(());
    } else {
        return Err(Error::new(format!("sysctl {name:?} is not in a separate kernel namespace"))
            .hint("it would change the host"));
    };
    match (has(owner), find(list, owner)) {
        (true, _) => Ok(()),
        (_, None) => {
            Err(Error::new(words).hint(format!("add {{\"type\": {owner:?}}} to linux.namespaces")))
        }
        _ => Err(Error::new(words)
            .hint(format!("the {owner} namespace to be joined is the one that tare is in"))),
    }
}

/// Whether the namespace that is joined is that of this process. Engines name the host's by a path,
/// too.
pub fn is_own(namespace: &Namespace) -> bool {
    let file = match &*namespace.kind {
        "network" => "net",
        "mount" => "mnt",
        kind => kind,
    };
    let own = || stat(&*Path::new("/proc/self/ns").join(file)).ok();
    let named = joined(namespace).and_then(|path| stat(path).ok());
    named.is_some_and(|named| {
        own().is_some_and(|own| (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
    })
}

/// Masked and read-only paths.
fn paths(linux: &Linux) -> Result<()> {
    for (part, list) in
        [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)]
    {
        if !list.is_empty() && find(&linux.namespaces, "mount").is_none() {
            return Err(Error::new(
                "unable to restrict sys entries without a private MNT namespace",
            )
            .at(format!("linux.{part}"))
            .hint("add {\"type\": \"mount\"} to linux.namespaces"));
        }
        if let Some(i) = list.iter().position(|path| !path.starts_with('/')) {
            return Err(Error::new("a path to be masked or made read-only must be absolute")
                .at(format!("linux.{part}[{i}]")));
        }
    }
    Ok(())
}

/// Propagation of the root, and personality(2).
fn words(linux: &Linux) -> Result<()> {
    if let Some(word) = linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty()) {
        let what = format!("rootfsPropagation={word} is not supported");
        one_of(word, PROPAGATIONS, what, "linux.rootfsPropagation".to_owned())?;
    }
    let Some(personality) = &linux.personality else { return Ok(()) };
    let what = format!("invalid personality domain {}", personality.domain);
    let at = "linux.personality.domain".to_owned();
    named(&personality.domain, PERSONALITIES, what, at)?;
    match personality.flags.is_empty() {
        true => Ok(()),
        false => Err(Error::new("personality flags are not supported")
            .at("linux.personality.flags")
            .hint("the specification defines none")),
    }
}

fn net_devices(linux: &Linux) -> Result<()> {
    let Some(devices) = linux.net_devices.as_ref().filter(|map| !map.is_empty()) else {
        return Ok(());
    };
    if find(&linux.namespaces, "network").is_none() {
        return Err(Error::new("unable to move network devices without a NET namespace")
            .at("linux.netDevices"));
    }
    let mut taken = BTreeSet::new();
    for (name, NetDevice { name: new }) in devices {
        let at = position::member("linux.netDevices", name);
        interface(name).map_err(|err| err.at(at.clone()))?;
        let new = new.as_deref().filter(|new| !new.is_empty());
        let at = || new.map_or(at.clone(), |_| position::member(&at, "name"));
        let new = new.unwrap_or(name);
        new_interface(new).map_err(|err| err.at(at()))?;
        if !new.contains("%d") && !taken.insert(new) {
            let what = format!("two network devices cannot both be {new} in the container");
            return Err(Error::new(what).at(at()));
        }
    }
    Ok(())
}

/// What a device may be called in the container: the kernel would find only after the move that a
/// name is that of a folder of sysctls, or no template (`__dev_alloc_name` of net/core/dev.c).
fn new_interface(name: &str) -> Result<()> {
    interface(name)?;
    let hint = match name {
        "all" | "default" => "sysctls of all network devices have that name",
        _ if name.replacen("%d", "", 1).contains('%') => "the only '%' may be that of one \"%d\"",
        _ => return Ok(()),
    };
    Err(Error::new(format!("invalid network device name {name:?}")).hint(hint))
}

/// dev_valid_name() of net/core/dev.c: shorter than IFNAMSIZ.
fn interface(name: &str) -> Result<()> {
    let fits = (1..libc::IFNAMSIZ).contains(&name.len()) && name != "." && name != "..";
    if fits && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Ok(());
    }
    Err(Error::new(format!("invalid network device name {name:?}"))
        .hint("1 to 15 bytes without '/', ':' and blanks"))
}

fn intel_rdt(rdt: &IntelRdt) -> Result<()> {
    let class = rdt.clos_id.as_deref().unwrap_or_default();
    // "/" alone is the default class.
    let outside = class.len() > 1 && class.contains('/');
    if class == "." || class == ".." || outside {
        return Err(
            Error::new(format!("invalid intelRdt.ClosID {class:?}")).at("linux.intelRdt.closID")
        );
    }
    let bandwidth = rdt.mem_bw_schema.as_deref().unwrap_or_default();
    if !bandwidth.is_empty() && !bandwidth.starts_with("MB:") {
        return Err(
            Error::new("memBwSchema must begin with \"MB:\"").at("linux.intelRdt.memBwSchema")
        );
    }
    let lines = rdt.schemata.iter().enumerate();
    let lines = lines.map(|(i, line)| (line.as_str(), format!("linux.intelRdt.schemata[{i}]")));
    let bandwidth = (bandwidth, "linux.intelRdt.memBwSchema".to_owned());
    match lines.chain([bandwidth]).find(|(line, _)| line.contains('\n')) {
        Some((_, at)) => Err(Error::new("a schema of intelRdt is one line").at(at)),
        None => Ok(()),
    }
}

/// set_mempolicy(2); the words are those that suites read.
fn memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let at = |part: &str| format!("linux.memoryPolicy.{part}");
    let what = format!("invalid memory policy mode {:?}", policy.mode);
    named(&policy.mode, MEMORY_MODES, what, at("mode"))?;
    let written = policy.nodes.as_deref().unwrap_or_default();
    let Some(nodes) = list::ranges(written, list::HIGHEST_NODE) else {
        return Err(Error::new(format!("invalid memory policy nodes {written:?}"))
            .at(at("nodes"))
            .hint("a list such as 0-3,7, with numbers up to 1023"));
    };
    for (i, flag) in policy.flags.iter().enumerate() {
        let what = format!("invalid memory policy flag {flag:?}");
        named(flag, MEMORY_FLAGS, what, format!("linux.memoryPolicy.flags[{i}]"))?;
    }
    let count: u32 = nodes.iter().map(|(first, last)| last - first + 1).sum();
    let wrong = match &*policy.mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if count > 0 => format!("0 nodes but got {count}"),
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => return Ok(()),
        _ if count == 0 => "at least one node but got 0".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::new(format!("memory policy mode requires {wrong}")).at(at("nodes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(kinds: &[&str]) -> Vec<Namespace> {
        kinds.iter().map(|kind| Namespace { kind: (*kind).to_owned(), path: None }).collect()
    }

    fn refusal(name: &str, kinds: &[&str]) -> Option<String> {
        sysctl(name, &listed(kinds)).err().map(|err| err.message())
    }

    #[test]
    fn sysctl_files() {
        let file = |name| sysctl_file(name).unwrap();
        assert_eq!(file("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(file("net.ipv4.conf.eno2/100.rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(file("net/ipv4/conf/eno2.100/rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
        for bad in ["", "net/../kernel/x", "net..x", "net.//.x", "/net/x", "net/x/"] {
            assert_eq!(sysctl_file(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sysctls_need_their_namespace() {
        for (name, kind) in [
            ("kernel.shmmax", "ipc"),
            ("kernel/sem", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("net.core.somaxconn", "network"),
            ("user.max_user_namespaces", "user"),
            ("kernel.domainname", "uts"),
        ] {
            assert_eq!(refusal(name, &[kind]), None, "{name}");
            assert!(refusal(name, &[]).is_some(), "{name}");
        }
        for name in ["kernel.hostname", "kernel.panic", "vm.swappiness", "net", "fs.file-max"] {
            assert!(refusal(name, &["ipc", "network", "user", "uts"]).is_some(), "{name}");
        }
    }

    #[test]
    fn a_host_sysctl_does_not_pass_as_the_names_of_the_other_separator() {
        assert!(refusal("kernel.msgmax/..", &["ipc"]).is_some());
        assert!(refusal("fs/mqueue.x", &["ipc"]).is_some());
        assert!(refusal("kernel/shm.max", &["ipc"]).is_some());
    }

    #[test]
    fn interfaces() {
        assert!(interface("eth0").is_ok() && interface("veth-1.2").is_ok());
        for bad in ["", ".", "..", "a/b", "a:1", "a b", "sixteen-bytes-xx"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
