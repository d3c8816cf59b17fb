//! The types of `config.json` (runtime-spec 1.3, config.md and config-linux.md), for Linux.
//!
//! Stricter than the field's usual ones: a member that the specification requires is not an
//! `Option`, and a wrong type is an error. `null` stands for absent, as engines written in Go
//! emit it. Names are the specification's in snake case, so they carry no comments of their own.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Declares a structure of the configuration: every member has the JSON name in camel case.
/// `Option`, `Vec` and map members may be absent or null; all others are required.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    };
}

/// Takes `null` for the type's default, as an absent member is taken.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

pub type Map = BTreeMap<String, String>;

object! { Spec {
    oci_version: String,
    process: Option<Process>,
    root: Option<Root>,
    hostname: Option<String>,
    domainname: Option<String>,
    #[serde(default, deserialize_with = "nullable")] mounts: Vec<Mount>,
    hooks: Option<Hooks>,
    #[serde(default, deserialize_with = "nullable")] annotations: Map,
    linux: Option<Linux>,
}}

object! { Process {
    #[serde(default, deserialize_with = "nullable")] terminal: bool,
    console_size: Option<ConsoleSize>,
    user: User,
    #[serde(default, deserialize_with = "nullable")] args: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] env: Vec<String>,
    cwd: String,
    capabilities: Option<Capabilities>,
    #[serde(default, deserialize_with = "nullable")] rlimits: Vec<Rlimit>,
    #[serde(default, deserialize_with = "nullable")] no_new_privileges: bool,
    apparmor_profile: Option<String>,
    oom_score_adj: Option<i32>,
    scheduler: Option<Scheduler>,
    selinux_label: Option<String>,
    io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")] exec_cpu_affinity: Option<ExecCpuAffinity>,
}}

object! { ConsoleSize { height: u16, width: u16, }}

object! { User {
    uid: u32,
    gid: u32,
    umask: Option<u32>,
    #[serde(default, deserialize_with = "nullable")] additional_gids: Vec<u32>,
    username: Option<String>,
}}

object! { Capabilities {
    #[serde(default, deserialize_with = "nullable")] bounding: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] effective: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] inheritable: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] permitted: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] ambient: Vec<String>,
}}

object! { Rlimit { #[serde(rename = "type")] kind: String, hard: u64, soft: u64, }}

object! { Scheduler {
    policy: String,
    nice: Option<i32>,
    priority: Option<i32>,
    #[serde(default, deserialize_with = "nullable")] flags: Vec<String>,
    runtime: Option<u64>,
    deadline: Option<u64>,
    period: Option<u64>,
}}

object! { IoPriority {
    class: String,
    #[serde(default, deserialize_with = "nullable")] priority: i32,
}}

object! { ExecCpuAffinity {
    initial: Option<String>,
    #[serde(rename = "final")] last: Option<String>,
}}

object! { Root { path: String, #[serde(default, deserialize_with = "nullable")] readonly: bool, }}

object! { Mount {
    destination: String,
    #[serde(rename = "type")] kind: Option<String>,
    source: Option<String>,
    #[serde(default, deserialize_with = "nullable")] options: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] uid_mappings: Vec<IdMapping>,
    #[serde(default, deserialize_with = "nullable")] gid_mappings: Vec<IdMapping>,
}}

object! { #[derive(Copy, PartialEq, Eq)] IdMapping {
    #[serde(rename = "containerID")] container_id: u32,
    #[serde(rename = "hostID")] host_id: u32,
    size: u32,
}}

object! { #[derive(Default)] Hooks {
    #[serde(default, deserialize_with = "nullable")] prestart: Vec<Hook>,
    #[serde(default, deserialize_with = "nullable")] create_runtime: Vec<Hook>,
    #[serde(default, deserialize_with = "nullable")] create_container: Vec<Hook>,
    #[serde(default, deserialize_with = "nullable")] start_container: Vec<Hook>,
    #[serde(default, deserialize_with = "nullable")] poststart: Vec<Hook>,
    #[serde(default, deserialize_with = "nullable")] poststop: Vec<Hook>,
}}

object! { #[derive(serde::Serialize)] Hook {
    path: String,
    #[serde(default, deserialize_with = "nullable")] args: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")] timeout: Option<i64>,
}}

object! { #[derive(Default)] Linux {
    #[serde(default, deserialize_with = "nullable")] namespaces: Vec<Namespace>,
    #[serde(default, deserialize_with = "nullable")] uid_mappings: Vec<IdMapping>,
    #[serde(default, deserialize_with = "nullable")] gid_mappings: Vec<IdMapping>,
    time_offsets: Option<BTreeMap<String, TimeOffset>>,
    #[serde(default, deserialize_with = "nullable")] devices: Vec<Device>,
    net_devices: Option<BTreeMap<String, NetDevice>>,
    cgroups_path: Option<String>,
    resources: Option<Resources>,
    rootfs_propagation: Option<String>,
    seccomp: Option<Seccomp>,
    #[serde(default, deserialize_with = "nullable")] sysctl: Map,
    #[serde(default, deserialize_with = "nullable")] masked_paths: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] readonly_paths: Vec<String>,
    mount_label: Option<String>,
    intel_rdt: Option<IntelRdt>,
    personality: Option<Personality>,
    memory_policy: Option<MemoryPolicy>,
}}

object! { Namespace { #[serde(rename = "type")] kind: String, path: Option<String>, }}

object! { #[derive(Copy)] TimeOffset {
    #[serde(default, deserialize_with = "nullable")] secs: i64,
    #[serde(default, deserialize_with = "nullable")] nanosecs: u32,
}}

object! { Device {
    path: String,
    #[serde(rename = "type")] kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}}

object! { NetDevice { name: Option<String>, }}

object! { #[derive(Default)] Resources {
    #[serde(default, deserialize_with = "nullable")] devices: Vec<DeviceRule>,
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    pids: Option<Pids>,
    #[serde(rename = "blockIO")] block_io: Option<BlockIo>,
    #[serde(default, deserialize_with = "nullable")] hugepage_limits: Vec<HugepageLimit>,
    network: Option<Network>,
    rdma: Option<BTreeMap<String, Rdma>>,
    unified: Option<Map>,
}}

object! { DeviceRule {
    allow: bool,
    #[serde(rename = "type")] kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    access: Option<String>,
}}

object! { #[derive(Default)] Memory {
    limit: Option<i64>,
    reservation: Option<i64>,
    swap: Option<i64>,
    kernel: Option<i64>,
    #[serde(rename = "kernelTCP")] kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")] disable_oom_killer: Option<bool>,
    use_hierarchy: Option<bool>,
    check_before_update: Option<bool>,
}}

object! { #[derive(Default)] Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    burst: Option<u64>,
    period: Option<u64>,
    realtime_runtime: Option<i64>,
    realtime_period: Option<u64>,
    cpus: Option<String>,
    mems: Option<String>,
    idle: Option<i64>,
}}

object! { #[derive(Default)] Pids { limit: Option<i64>, }}

object! { #[derive(Default)] BlockIo {
    weight: Option<u16>,
    leaf_weight: Option<u16>,
    #[serde(default, deserialize_with = "nullable")] weight_device: Vec<WeightDevice>,
    #[serde(default, deserialize_with = "nullable")] throttle_read_bps_device: Vec<ThrottleDevice>,
    #[serde(default, deserialize_with = "nullable")] throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(default, deserialize_with = "nullable", rename = "throttleReadIOPSDevice")]
    throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(default, deserialize_with = "nullable", rename = "throttleWriteIOPSDevice")]
    throttle_write_iops_device: Vec<ThrottleDevice>,
}}

object! { WeightDevice {
    major: i64, minor: i64, weight: Option<u16>, leaf_weight: Option<u16>,
}}

object! { ThrottleDevice { major: i64, minor: i64, rate: u64, }}

object! { HugepageLimit { page_size: String, limit: u64, }}

object! { Network {
    #[serde(rename = "classID")] class_id: Option<u32>,
    #[serde(default, deserialize_with = "nullable")] priorities: Vec<InterfacePriority>,
}}

object! { InterfacePriority { name: String, priority: u32, }}

object! { Rdma { hca_handles: Option<u32>, hca_objects: Option<u32>, }}

object! { Seccomp {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")] architectures: Vec<String>,
    #[serde(default, deserialize_with = "nullable")] flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "nullable")] syscalls: Vec<SyscallRule>,
}}

object! { SyscallRule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")] args: Vec<SyscallArg>,
}}

object! { SyscallArg {
    index: u32,
    value: u64,
    #[serde(default, deserialize_with = "nullable")] value_two: u64,
    op: String,
}}

object! { IntelRdt {
    #[serde(rename = "closID")] clos_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")] schemata: Vec<String>,
    #[serde(rename = "l3CacheSchema")] l3_cache_schema: Option<String>,
    mem_bw_schema: Option<String>,
    #[serde(default, deserialize_with = "nullable")] enable_monitoring: bool,
}}

object! { Personality {
    domain: String,
    #[serde(default, deserialize_with = "nullable")] flags: Vec<String>,
}}

object! { MemoryPolicy {
    mode: String,
    nodes: Option<String>,
    #[serde(default, deserialize_with = "nullable")] flags: Vec<String>,
}}
