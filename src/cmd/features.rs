//! `tare features`: the document of runtime-spec's features.md, made from the tables that the
//! code itself works by, so that it cannot claim what is not there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::COMMIT;
use crate::cli::table::VERBS;
use crate::error::{Error, Result};
use crate::spec::names;
use crate::{cgroup, hooks, mounts, namespaces, seccomp};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: Vec<&'static str>,
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    memory_policy: MemoryPolicy,
    apparmor: Enabled,
    selinux: Enabled,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
    intel_rdt: IntelRdt,
}

/// What the runtime can do; whether the processor can, is for `doctor` to say.
#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<&'static str>,
    operators: Vec<&'static str>,
    archs: Vec<&'static str>,
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

/// Prints the document, and nothing else.
///
/// # Errors
/// Standard output cannot be written.
pub fn run() -> Result<i32> {
    let json = serde_json::to_string_pretty(&features())
        .map_err(|err| Error::new(format!("write the features as JSON: {err}")))?;
    super::print(&(json + "\n"))
}

fn features() -> Features {
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: crate::spec::VERSION,
        hooks: hooks::Point::ALL.iter().map(|point| point.name()).collect(),
        mount_options: sorted(mounts::option_names()),
        linux: Linux {
            namespaces: sorted(namespaces::KINDS.iter().map(|kind| kind.name)),
            capabilities: capabilities(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: seccomp_words(),
            net_devices: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            mount_extensions: MountExtensions {
                idmap: Enabled { enabled: mounts::option_names().any(|name| name == "idmap") },
            },
            memory_policy: MemoryPolicy {
                modes: sorted(names::words(names::MEMORY_MODES).into_iter()),
                flags: sorted(names::words(names::MEMORY_FLAGS).into_iter()),
            },
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
        },
        annotations: BTreeMap::from([
            // The name that engines look for, whatever the runtime.
            ("org.opencontainers.runc.checkpoint.enabled", has_command("checkpoint").to_string()),
            ("org.tare.commit", COMMIT.to_string()),
            ("org.tare.version", env!("CARGO_PKG_VERSION").to_string()),
        ]),
        potentially_unsafe_config_annotations: vec![
            crate::criu::CONFIG_ANNOTATION,
            cgroup::ANNOTATION,
        ],
    }
}

fn has_command(name: &str) -> bool {
    VERBS.iter().any(|verb| verb.name == name)
}

fn seccomp_words() -> Seccomp {
    let words = seccomp::words();
    Seccomp {
        enabled: true,
        actions: sorted(words.actions.into_iter()),
        operators: sorted(words.operators.into_iter()),
        archs: sorted(words.archs.into_iter()),
        known_flags: words.flags,
        supported_flags: words.supported_flags,
    }
}

/// All that this program knows by name, in the kernel's order.
fn capabilities() -> Vec<String> {
    let mut known: Vec<caps::Capability> = caps::all().into_iter().collect();
    known.sort_by_key(|cap| cap.index());
    known.iter().map(ToString::to_string).collect()
}

fn sorted(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}
