//! `linux.resources` as writes to cgroup v1's files (the kernel's cgroup-v1 documentation).
//!
//! Zero stands for "not set" where a zero makes no sense and engines written in Go emit it for
//! an absent member: memory, shares, quota, period, real-time and weights, as in runc.

use super::writes::{HugetlbFiles, Writes, bytes, refuse, throttles};
use super::{Hierarchies, How, Setting};
use crate::error::{Error, Result};
use crate::spec::config::{BlockIo, Cpu, Memory, Network, Resources, ThrottleDevice, WeightDevice};

/// Bounds of `cpu.shares` (kernel/sched/sched.h); outside of them the kernel silently clamps.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

const HUGETLB: HugetlbFiles =
    HugetlbFiles { limit: "limit_in_bytes", reserved: "rsvd.limit_in_bytes" };

/// Everything but the device rules, in the order of writing.
pub fn limits(resources: &Resources, host: &Hierarchies) -> Result<Vec<Setting>> {
    let mut writes = Writes::new(host);
    if resources.unified.as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(Error::new("invalid configuration: cannot use unified on cgroup v1")
            .at("linux.resources.unified"));
    }
    if let Some(cpu) = &resources.cpu {
        writes.cpu(cpu)?;
        writes.cpuset(cpu)?;
    }
    if let Some(memory) = &resources.memory {
        writes.memory(memory)?;
    }
    writes.pids(resources)?;
    if let Some(block) = &resources.block_io {
        writes.block_io(block)?;
    }
    writes.common(resources, &HUGETLB)?;
    if let Some(network) = &resources.network {
        writes.network(network)?;
    }
    Ok(writes.list)
}

/// Members that are accepted without effect, for warnings: the JSON path and why.
///
/// Kernels since 5.11 have no limit for kernel memory alone; the specification advises against
/// both members, and runc ignores them with a warning too. Nor can cgroups be without the hierarchy
/// since then, or on v2. Of shares and idleness the latter is written last, and takes the shares away
/// (v2 refuses the two).
pub fn ignored(resources: &Resources) -> impl Iterator<Item = (&'static str, &'static str)> {
    const KERNEL: &str = "kernel memory settings are ignored";
    let memory = resources.memory.as_ref();
    let kernel = match memory.map(|memory| (memory.kernel, memory.kernel_tcp)) {
        Some((Some(_), _)) => Some(("linux.resources.memory.kernel", KERNEL)),
        Some((None, Some(_))) => Some(("linux.resources.memory.kernelTCP", KERNEL)),
        _ => None,
    };
    let cpu = resources.cpu.as_ref().filter(|cpu| cpu.idle == Some(1));
    let shares = cpu.and_then(|cpu| cpu.shares).filter(|shares| *shares != 0);
    const IDLE: &str = "a container with cpu.idle has no shares";
    let flat = memory.filter(|memory| memory.use_hierarchy == Some(false));
    const FLAT: &str = "the limits of a cgroup hold for those below it, too";
    let flat = flat.map(|_| ("linux.resources.memory.useHierarchy", FLAT));
    kernel.into_iter().chain(flat).chain(shares.map(|_| ("linux.resources.cpu.shares", IDLE)))
}

impl Writes<'_> {
    fn memory(&mut self, memory: &Memory) -> Result<()> {
        const LIMIT: &str = "linux.resources.memory.limit";
        const SWAP: &str = "linux.resources.memory.swap";
        let (limit, swap) = (bytes(memory.limit, LIMIT)?, bytes(memory.swap, SWAP)?);
        if let (Some(limit), Some(swap @ 1..)) = (limit, swap)
            && (limit == -1 || swap < limit)
        {
            let message = format!("memory+swap limit {swap} is below the memory limit {limit}");
            return refuse(message, SWAP);
        }
        if let Some(limit) = limit {
            self.number("memory.limit_in_bytes", limit, LIMIT)?;
            // A limit that is lifted has to lift the one of memory+swap, where there is one.
            if limit == -1 && swap.is_none() {
                self.put("memory.memsw.limit_in_bytes", "-1", LIMIT, How::IfThere)?;
            }
        }
        if let Some(swap) = swap {
            // No limit is what a kernel without swap accounting has.
            let how = if swap == -1 { How::IfThere } else { How::Write };
            self.put("memory.memsw.limit_in_bytes", swap.to_string(), SWAP, how)?;
        }
        const RESERVATION: &str = "linux.resources.memory.reservation";
        if let Some(reservation) = bytes(memory.reservation, RESERVATION)? {
            self.number("memory.soft_limit_in_bytes", reservation, RESERVATION)?;
        }
        if memory.disable_oom_killer == Some(true) {
            self.number("memory.oom_control", 1, "linux.resources.memory.disableOOMKiller")?;
        }
        self.swappiness(memory.swappiness)?;
        // checkBeforeUpdate asks for what v1 always does: a limit below the usage is refused. And
        // kernels since 5.11 always do what useHierarchy asks for.
        Ok(())
    }

    fn swappiness(&mut self, swappiness: Option<u64>) -> Result<()> {
        const AT: &str = "linux.resources.memory.swappiness";
        match swappiness {
            // A -1 that has lost its sign is no wish, as in runc.
            None | Some(u64::MAX) => Ok(()),
            Some(value @ 0..=100) => self.number("memory.swappiness", value, AT),
            Some(value) => {
                let words = "invalid memory swappiness value";
                refuse(format!("{words}: {value} (valid range is 0-100)"), AT)
            }
        }
    }

    fn cpu(&mut self, cpu: &Cpu) -> Result<()> {
        if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            const AT: &str = "linux.resources.cpu.shares";
            let (min, max) = SHARES.into_inner();
            if shares < min {
                return refuse(format!("the minimum allowed cpu-shares is {min}"), AT);
            }
            if shares > max {
                return refuse(format!("the maximum allowed cpu-shares is {max}"), AT);
            }
            self.number("cpu.shares", shares, AT)?;
        }
        // The kernel bounds runtime by period and burst by quota: periods and quota come first.
        if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
            self.number("cpu.rt_period_us", period, "linux.resources.cpu.realtimePeriod")?;
        }
        if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
            self.number("cpu.rt_runtime_us", runtime, "linux.resources.cpu.realtimeRuntime")?;
        }
        if let Some(period) = cpu.period.filter(|period| *period != 0) {
            self.number("cpu.cfs_period_us", period, "linux.resources.cpu.period")?;
        }
        if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
            self.number("cpu.cfs_quota_us", quota, "linux.resources.cpu.quota")?;
        }
        self.burst(cpu, "cpu.cfs_burst_us")?;
        self.idle(cpu)
    }

    fn block_io(&mut self, block: &BlockIo) -> Result<()> {
        if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
            let at = "linux.resources.blockIO.weight";
            self.put(
                "blkio.weight",
                weight.to_string(),
                at,
                How::Or("blkio.bfq.weight".into(), None),
            )?;
        }
        if let Some(weight) = block.leaf_weight.filter(|weight| *weight != 0) {
            self.number("blkio.leaf_weight", weight, "linux.resources.blockIO.leafWeight")?;
        }
        for (index, device) in block.weight_device.iter().enumerate() {
            self.weight_device(index, device)?;
        }
        let files = [
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ];
        for (at, ThrottleDevice { major, minor, rate }, file) in throttles(block, files) {
            self.put(file, format!("{major}:{minor} {rate}"), at, How::Write)?;
        }
        Ok(())
    }

    fn weight_device(&mut self, index: usize, device: &WeightDevice) -> Result<()> {
        let WeightDevice { major, minor, weight, leaf_weight } = device;
        let at = format!("linux.resources.blockIO.weightDevice[{index}]");
        if weight.is_none() && leaf_weight.is_none() {
            return refuse("a weight device needs weight or leafWeight", at);
        }
        if let Some(weight) = weight {
            let value = format!("{major}:{minor} {weight}");
            let other = How::Or("blkio.bfq.weight_device".into(), None);
            self.put("blkio.weight_device", value, at.clone(), other)?;
        }
        if let Some(weight) = leaf_weight {
            let value = format!("{major}:{minor} {weight}");
            self.put("blkio.leaf_weight_device", value, at, How::Write)?;
        }
        Ok(())
    }

    fn network(&mut self, network: &Network) -> Result<()> {
        if let Some(class) = network.class_id.filter(|class| *class != 0) {
            self.number("net_cls.classid", class, "linux.resources.network.classID")?;
        }
        for (index, interface) in network.priorities.iter().enumerate() {
            let at = format!("linux.resources.network.priorities[{index}]");
            let value = format!("{} {}", interface.name, interface.priority);
            self.put("net_prio.ifpriomap", value, at, How::Write)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [(&str, &str, &str); 5] = [
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ""),
        ("memory", "/sys/fs/cgroup/memory", ""),
        ("cpuset", "/sys/fs/cgroup/cpuset", ""),
        ("blkio", "/sys/fs/cgroup/blkio", ""),
        ("pids", "/sys/fs/cgroup/pids", ""),
    ];

    /// The writes for a `resources` object: `file=value @path below linux.resources`.
    fn plan(json: &str, host: &[(&str, &str, &str)]) -> Result<Vec<String>> {
        let resources: Resources = crate::spec::load::from_json(json).unwrap();
        let settings = limits(&resources, &Hierarchies::fixed(host))?;
        Ok(settings.iter().map(show).collect())
    }

    fn show(s: &Setting) -> String {
        let at = s.at.strip_prefix("linux.resources.").unwrap();
        format!("{}: {}={} @{at}", s.controller(), s.file, s.value)
    }

    fn refusal(json: &str) -> (String, String) {
        let err = plan(json, &HOST).unwrap_err();
        (err.message(), err.path().unwrap_or_default().to_owned())
    }

    fn assert_refused(json: &str, words: &str, at: &str) {
        let (message, path) = refusal(json);
        assert!(message.contains(words), "{message}");
        assert_eq!(path, format!("linux.resources.{at}"));
    }

    #[test]
    fn nothing_asked_nothing_written() {
        assert!(plan("{}", &[]).unwrap().is_empty());
        assert!(plan(r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{}}"#, &[]).unwrap().is_empty());
    }

    #[test]
    fn memory() {
        let json = r#"{"memory":{"limit":536870912,"reservation":268435456,"swap":-1,
            "swappiness":0,"disableOOMKiller":true,"useHierarchy":true,"kernel":1,"kernelTCP":1,
            "checkBeforeUpdate":true}}"#;
        assert_eq!(
            plan(json, &HOST).unwrap(),
            [
                "memory: memory.limit_in_bytes=536870912 @memory.limit",
                "memory: memory.memsw.limit_in_bytes=-1 @memory.swap",
                "memory: memory.soft_limit_in_bytes=268435456 @memory.reservation",
                "memory: memory.oom_control=1 @memory.disableOOMKiller",
                "memory: memory.swappiness=0 @memory.swappiness",
            ]
        );
        assert!(
            plan(
                r#"{"memory":{"limit":0,"swap":0,"disableOOMKiller":false,"useHierarchy":false,
                "swappiness":18446744073709551615}}"#,
                &HOST
            )
            .unwrap()
            .is_empty()
        );
        // Lifting the limit lifts the one of memory+swap.
        assert_eq!(
            plan(r#"{"memory":{"limit":-1}}"#, &HOST).unwrap(),
            [
                "memory: memory.limit_in_bytes=-1 @memory.limit",
                "memory: memory.memsw.limit_in_bytes=-1 @memory.limit",
            ]
        );
    }

    #[test]
    fn memory_refusals() {
        let swappiness = "invalid memory swappiness value: 101 (valid range is 0-100)";
        assert_refused(r#"{"memory":{"swappiness":101}}"#, swappiness, "memory.swappiness");
        assert_refused(r#"{"memory":{"limit":-2}}"#, "below -1", "memory.limit");
        let json = r#"{"memory":{"limit":4096,"swap":4095}}"#;
        assert_refused(json, "below the memory limit", "memory.swap");
        let json = r#"{"memory":{"limit":-1,"swap":4096}}"#;
        assert_refused(json, "below the memory limit", "memory.swap");
    }

    #[test]
    fn what_is_ignored_is_named() {
        let named = |json: &str| -> Vec<&str> {
            let resources: Resources = crate::spec::load::from_json(json).unwrap();
            ignored(&resources).map(|(at, _)| at).collect()
        };
        assert_eq!(named(r#"{"memory":{"kernelTCP":1}}"#), ["linux.resources.memory.kernelTCP"]);
        let flat = r#"{"memory":{"useHierarchy":false}}"#;
        assert_eq!(named(flat), ["linux.resources.memory.useHierarchy"]);
        assert_eq!(named(r#"{"cpu":{"idle":1,"shares":9}}"#), ["linux.resources.cpu.shares"]);
        let nothing: [&str; 0] = [];
        assert_eq!(named(r#"{"cpu":{"idle":0,"shares":9}}"#), nothing);
        assert_eq!(named(r#"{"cpu":{"idle":1}}"#), nothing);
    }

    #[test]
    fn cpu() {
        let json = r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"burst":1000,"idle":0,
            "realtimeRuntime":950000,"realtimePeriod":1000000,"cpus":"0-1","mems":"0"}}"#;
        assert_eq!(
            plan(json, &HOST).unwrap(),
            [
                "cpu: cpu.shares=512 @cpu.shares",
                "cpu: cpu.rt_period_us=1000000 @cpu.realtimePeriod",
                "cpu: cpu.rt_runtime_us=950000 @cpu.realtimeRuntime",
                "cpu: cpu.cfs_period_us=100000 @cpu.period",
                "cpu: cpu.cfs_quota_us=50000 @cpu.quota",
                "cpu: cpu.cfs_burst_us=1000 @cpu.burst",
                "cpu: cpu.idle=0 @cpu.idle",
                "cpuset: cpuset.cpus=0-1 @cpu.cpus",
                "cpuset: cpuset.mems=0 @cpu.mems",
            ]
        );
    }

    #[test]
    fn cpu_refusals() {
        let min = "the minimum allowed cpu-shares is 2";
        assert_refused(r#"{"cpu":{"shares":1}}"#, min, "cpu.shares");
        let max = "the maximum allowed cpu-shares is 262144";
        assert_refused(r#"{"cpu":{"shares":262145}}"#, max, "cpu.shares");
        assert_refused(r#"{"cpu":{"idle":2}}"#, "0 or 1", "cpu.idle");
        assert_refused(r#"{"cpu":{"burst":2,"quota":1}}"#, "above the quota", "cpu.burst");
        assert_refused(r#"{"cpu":{"cpus":"banana"}}"#, "not a list of numbers", "cpu.cpus");
        assert_eq!(plan(r#"{"cpu":{"burst":2,"quota":-1}}"#, &HOST).unwrap().len(), 2);
    }

    #[test]
    fn pids() {
        let max = |json| plan(json, &HOST).unwrap().join("");
        assert_eq!(max(r#"{"pids":{"limit":0}}"#), "pids: pids.max=1 @pids.limit");
        assert_eq!(max(r#"{"pids":{"limit":-1}}"#), "pids: pids.max=max @pids.limit");
        assert_refused(r#"{"pids":{"limit":-2}}"#, "below -1", "pids.limit");
    }

    #[test]
    fn block_io() {
        let json = r#"{"blockIO":{"weight":10,"leafWeight":20,
            "weightDevice":[{"major":8,"minor":0,"weight":500,"leafWeight":300}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
            "throttleWriteBpsDevice":[{"major":8,"minor":16,"rate":601}],
            "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":602}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":1},{"major":9,"minor":1,"rate":2}]}}"#;
        assert_eq!(
            plan(json, &HOST).unwrap(),
            [
                "blkio: blkio.weight=10 @blockIO.weight",
                "blkio: blkio.leaf_weight=20 @blockIO.leafWeight",
                "blkio: blkio.weight_device=8:0 500 @blockIO.weightDevice[0]",
                "blkio: blkio.leaf_weight_device=8:0 300 @blockIO.weightDevice[0]",
                "blkio: blkio.throttle.read_bps_device=8:0 600 @blockIO.throttleReadBpsDevice[0]",
                "blkio: blkio.throttle.write_bps_device=8:16 601 @blockIO.throttleWriteBpsDevice[0]",
                "blkio: blkio.throttle.read_iops_device=8:0 602 @blockIO.throttleReadIOPSDevice[0]",
                "blkio: blkio.throttle.write_iops_device=8:0 1 @blockIO.throttleWriteIOPSDevice[0]",
                "blkio: blkio.throttle.write_iops_device=9:1 2 @blockIO.throttleWriteIOPSDevice[1]",
            ]
        );
        let json = r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#;
        assert_refused(json, "needs weight or leafWeight", "blockIO.weightDevice[0]");
    }

    #[test]
    fn controllers_that_are_not_mounted_are_named() {
        let huge = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#;
        assert_refused(huge, "the hugetlb controller is not mounted", "hugepageLimits[0]");
        let class = r#"{"network":{"classID":1}}"#;
        assert_refused(class, "the net_cls controller is not mounted", "network.classID");
        let priority = r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#;
        assert_refused(priority, "the net_prio controller", "network.priorities[0]");
        let rdma = r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#;
        assert_refused(rdma, "the rdma controller is not mounted", "rdma.mlx5_1");
    }

    #[test]
    fn rare_controllers_where_they_are_mounted() {
        let host = [("hugetlb", "/h", ""), ("net_cls,net_prio", "/n", ""), ("rdma", "/r", "")];
        let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":209715200}],
            "network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500}]},
            "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"rxe3":{"hcaObjects":7}}}"#;
        assert_eq!(
            plan(json, &host).unwrap(),
            [
                "hugetlb: hugetlb.2MB.limit_in_bytes=209715200 @hugepageLimits[0]",
                "hugetlb: hugetlb.2MB.rsvd.limit_in_bytes=209715200 @hugepageLimits[0]",
                "rdma: rdma.max=mlx5_1 hca_handle=3 hca_object=10000 @rdma.mlx5_1",
                "rdma: rdma.max=rxe3 hca_object=7 @rdma.rxe3",
                "net_cls: net_cls.classid=1048577 @network.classID",
                "net_prio: net_prio.ifpriomap=eth0 500 @network.priorities[0]",
            ]
        );
        let json = r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#;
        let err = plan(json, &host).unwrap_err();
        assert_eq!(err.path(), Some("linux.resources.hugepageLimits[0].pageSize"));
        assert!(plan(r#"{"rdma":{"rxe3":{}}}"#, &host).is_err());
    }

    #[test]
    fn unified_is_for_v2() {
        let json = r#"{"unified":{"memory.max":"1"}}"#;
        assert_refused(json, "invalid configuration", "unified");
        assert!(plan(r#"{"unified":{}}"#, &HOST).unwrap().is_empty());
    }
}
