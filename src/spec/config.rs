//! The types of `config.json` (runtime-spec 1.3, config.md and config-linux.md), for Linux.
//!
//! Stricter than the field's usual ones: a member that the specification requires is not an
//! `Option`, and a wrong type is an error. `null` stands for absent, as engines written in Go
//! emit it. Names are the specification's in snake case, so they carry no comments of their own.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use super::object::object;

pub type Map = BTreeMap<String, String>;

object! { Spec {
    required "ociVersion" oci_version: String,
    "process" process: Option<Process>,
    "root" root: Option<Root>,
    "hostname" hostname: Option<String>,
    "domainname" domainname: Option<String>,
    "mounts" mounts: Vec<Mount>,
    "hooks" hooks: Option<Hooks>,
    "annotations" annotations: Map,
    "linux" linux: Option<Linux>,
}}

object! { Process {
    "terminal" terminal: bool,
    "consoleSize" console_size: Option<ConsoleSize>,
    "user" user: User,
    "args" args: Vec<String>,
    "env" env: Vec<String>,
    required "cwd" cwd: String,
    "capabilities" capabilities: Option<Capabilities>,
    "rlimits" rlimits: Vec<Rlimit>,
    "noNewPrivileges" no_new_privileges: bool,
    "apparmorProfile" apparmor_profile: Option<String>,
    "oomScoreAdj" oom_score_adj: Option<i32>,
    "scheduler" scheduler: Option<Scheduler>,
    "selinuxLabel" selinux_label: Option<String>,
    "ioPriority" io_priority: Option<IoPriority>,
    "execCPUAffinity" exec_cpu_affinity: Option<ExecCpuAffinity>,
}}

object! { ConsoleSize { required "height" height: u16, required "width" width: u16, }}

object! { User {
    required "uid" uid: u32,
    // Required by the specification, but suites written for runc leave it out.
    "gid" gid: u32,
    "umask" umask: Option<u32>,
    "additionalGids" additional_gids: Vec<u32>,
    "username" username: Option<String>,
}}

/// No user at all, and one that the kernel refuses: so who forgets to look does not run as root.
/// A `process` without `user` is refused in config.json and is root in `exec --process`.
impl Default for User {
    fn default() -> Self {
        User {
            uid: u32::MAX,
            gid: u32::MAX,
            umask: None,
            additional_gids: Vec::new(),
            username: None,
        }
    }
}

object! { Capabilities {
    "bounding" bounding: Vec<String>,
    "effective" effective: Vec<String>,
    "inheritable" inheritable: Vec<String>,
    "permitted" permitted: Vec<String>,
    "ambient" ambient: Vec<String>,
}}

object! { Rlimit {
    required "type" kind: String,
    required "hard" hard: u64,
    required "soft" soft: u64,
}}

object! { Scheduler {
    required "policy" policy: String,
    "nice" nice: Option<i32>,
    "priority" priority: Option<i32>,
    "flags" flags: Vec<String>,
    "runtime" runtime: Option<u64>,
    "deadline" deadline: Option<u64>,
    "period" period: Option<u64>,
}}

object! { IoPriority {
    required "class" class: String,
    "priority" priority: i32,
}}

object! { ExecCpuAffinity {
    "initial" initial: Option<String>,
    "final" last: Option<String>,
}}

object! { Root { required "path" path: String, "readonly" readonly: bool, }}

object! { Mount {
    required "destination" destination: String,
    "type" kind: Option<String>,
    "source" source: Option<String>,
    "options" options: Vec<String>,
    "uidMappings" uid_mappings: Vec<IdMapping>,
    "gidMappings" gid_mappings: Vec<IdMapping>,
}}

object! { #[derive(Copy, PartialEq, Eq)] IdMapping {
    required "containerID" container_id: u32,
    required "hostID" host_id: u32,
    required "size" size: u32,
}}

impl IdMapping {
    /// The host's id for `id` of the container, if it is one of these.
    pub fn outside(&self, id: u32) -> Option<u32> {
        let index = id.checked_sub(self.container_id).filter(|index| *index < self.size)?;
        self.host_id.checked_add(index)
    }
}

object! { #[derive(Default)] Hooks {
    "prestart" prestart: Vec<Hook>,
    "createRuntime" create_runtime: Vec<Hook>,
    "createContainer" create_container: Vec<Hook>,
    "startContainer" start_container: Vec<Hook>,
    "poststart" poststart: Vec<Hook>,
    "poststop" poststop: Vec<Hook>,
}}

object! { #[derive(serde::Serialize, serde::Deserialize)] Hook {
    required "path" path: String,
    "args" args: Vec<String>,
    "env" env: Option<Vec<String>>,
    "timeout" timeout: Option<i64>,
}}

object! { #[derive(Default)] Linux {
    "namespaces" namespaces: Vec<Namespace>,
    "uidMappings" uid_mappings: Vec<IdMapping>,
    "gidMappings" gid_mappings: Vec<IdMapping>,
    "timeOffsets" time_offsets: Option<BTreeMap<String, TimeOffset>>,
    "devices" devices: Vec<Device>,
    "netDevices" net_devices: Option<BTreeMap<String, NetDevice>>,
    "cgroupsPath" cgroups_path: Option<String>,
    "resources" resources: Option<Resources>,
    "rootfsPropagation" rootfs_propagation: Option<String>,
    "seccomp" seccomp: Option<Seccomp>,
    "sysctl" sysctl: Map,
    "maskedPaths" masked_paths: Vec<String>,
    "readonlyPaths" readonly_paths: Vec<String>,
    "mountLabel" mount_label: Option<String>,
    "intelRdt" intel_rdt: Option<IntelRdt>,
    "personality" personality: Option<Personality>,
    "memoryPolicy" memory_policy: Option<MemoryPolicy>,
}}

object! { Namespace { required "type" kind: String, "path" path: Option<String>, }}

object! { #[derive(Copy)] TimeOffset {
    "secs" secs: i64,
    "nanosecs" nanosecs: u32,
}}

object! { Device {
    required "path" path: String,
    required "type" kind: String,
    "major" major: Option<i64>,
    "minor" minor: Option<i64>,
    "fileMode" file_mode: Option<u32>,
    "uid" uid: Option<u32>,
    "gid" gid: Option<u32>,
}}

object! { NetDevice { "name" name: Option<String>, }}

object! { #[derive(Default)] Resources {
    "devices" devices: Vec<DeviceRule>,
    "memory" memory: Option<Memory>,
    "cpu" cpu: Option<Cpu>,
    "pids" pids: Option<Pids>,
    "blockIO" block_io: Option<BlockIo>,
    "hugepageLimits" hugepage_limits: Vec<HugepageLimit>,
    "network" network: Option<Network>,
    "rdma" rdma: Option<BTreeMap<String, Rdma>>,
    "unified" unified: Option<Map>,
}}

object! { DeviceRule {
    required "allow" allow: bool,
    "type" kind: Option<String>,
    "major" major: Option<i64>,
    "minor" minor: Option<i64>,
    "access" access: Option<String>,
}}

object! { #[derive(Default)] Memory {
    "limit" limit: Option<i64>,
    "reservation" reservation: Option<i64>,
    "swap" swap: Option<i64>,
    "kernel" kernel: Option<i64>,
    "kernelTCP" kernel_tcp: Option<i64>,
    "swappiness" swappiness: Option<u64>,
    "disableOOMKiller" disable_oom_killer: Option<bool>,
    "useHierarchy" use_hierarchy: Option<bool>,
    "checkBeforeUpdate" check_before_update: Option<bool>,
}}

object! { #[derive(Default)] Cpu {
    "shares" shares: Option<u64>,
    "quota" quota: Option<i64>,
    "burst" burst: Option<u64>,
    "period" period: Option<u64>,
    "realtimeRuntime" realtime_runtime: Option<i64>,
    "realtimePeriod" realtime_period: Option<u64>,
    "cpus" cpus: Option<String>,
    "mems" mems: Option<String>,
    "idle" idle: Option<i64>,
}}

object! { #[derive(Default)] Pids { "limit" limit: Option<i64>, }}

object! { #[derive(Default)] BlockIo {
    "weight" weight: Option<u16>,
    "leafWeight" leaf_weight: Option<u16>,
    "weightDevice" weight_device: Vec<WeightDevice>,
    "throttleReadBpsDevice" throttle_read_bps_device: Vec<ThrottleDevice>,
    "throttleWriteBpsDevice" throttle_write_bps_device: Vec<ThrottleDevice>,
    "throttleReadIOPSDevice" throttle_read_iops_device: Vec<ThrottleDevice>,
    "throttleWriteIOPSDevice" throttle_write_iops_device: Vec<ThrottleDevice>,
}}

object! { WeightDevice {
    required "major" major: i64,
    required "minor" minor: i64,
    "weight" weight: Option<u16>,
    "leafWeight" leaf_weight: Option<u16>,
}}

object! { ThrottleDevice {
    required "major" major: i64,
    required "minor" minor: i64,
    required "rate" rate: u64,
}}

object! { HugepageLimit { required "pageSize" page_size: String, required "limit" limit: u64, }}

object! { Network {
    "classID" class_id: Option<u32>,
    "priorities" priorities: Vec<InterfacePriority>,
}}

object! { InterfacePriority { required "name" name: String, required "priority" priority: u32, }}

object! { Rdma { "hcaHandles" hca_handles: Option<u32>, "hcaObjects" hca_objects: Option<u32>, }}

object! { Seccomp {
    required "defaultAction" default_action: String,
    "defaultErrnoRet" default_errno_ret: Option<u32>,
    "architectures" architectures: Vec<String>,
    "flags" flags: Option<Vec<String>>,
    "listenerPath" listener_path: Option<String>,
    "listenerMetadata" listener_metadata: Option<String>,
    "syscalls" syscalls: Vec<SyscallRule>,
}}

object! { SyscallRule {
    required "names" names: Vec<String>,
    required "action" action: String,
    "errnoRet" errno_ret: Option<u32>,
    "args" args: Vec<SyscallArg>,
}}

object! { SyscallArg {
    required "index" index: u32,
    required "value" value: u64,
    "valueTwo" value_two: u64,
    required "op" op: String,
}}

object! { IntelRdt {
    "closID" clos_id: Option<String>,
    "schemata" schemata: Vec<String>,
    "l3CacheSchema" l3_cache_schema: Option<String>,
    "memBwSchema" mem_bw_schema: Option<String>,
    "enableMonitoring" enable_monitoring: bool,
}}

object! { Personality {
    required "domain" domain: String,
    "flags" flags: Vec<String>,
}}

object! { MemoryPolicy {
    // Its absence is worded as a wrong mode: suites read that.
    "mode" mode: String,
    "nodes" nodes: Option<String>,
    "flags" flags: Vec<String>,
}}
