//! `linux.resources` as writes to cgroup v2's files (the kernel's cgroup-v2.rst). The specification
//! speaks of v1: what has other bounds here is converted as runc and crun convert it.
//!
//! Zero stands for "not set" where it does on v1; what v2 has nothing for is refused.

use super::writes::{HugetlbFiles, Writes, bytes, refuse, throttles};
use super::{Hierarchies, How, Setting};
use crate::error::{Error, Result};
use crate::spec::config::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};
use crate::spec::position::member;

const HUGETLB: HugetlbFiles = HugetlbFiles { limit: "max", reserved: "rsvd.max" };

/// Everything but the device rules, in the order of writing; `unified` last, as it overrides.
pub fn limits(resources: &Resources, host: &Hierarchies) -> Result<Vec<Setting>> {
    let mut writes = Writes::new(host);
    refuse_foreign(resources)?;
    if let Some(cpu) = &resources.cpu {
        self::cpu(&mut writes, cpu)?;
        writes.cpuset(cpu)?;
    }
    if let Some(memory) = &resources.memory {
        self::memory(&mut writes, memory)?;
    }
    writes.pids(resources)?;
    if let Some(block) = &resources.block_io {
        io(&mut writes, block)?;
    }
    writes.common(resources, &HUGETLB)?;
    for (file, value) in resources.unified.iter().flatten() {
        unified(&mut writes, file, value)?;
    }
    Ok(writes.list)
}

/// Refuses what only v1 has.
fn refuse_foreign(resources: &Resources) -> Result<()> {
    let memory = resources.memory.as_ref();
    let cpu = resources.cpu.as_ref();
    let network = resources.network.as_ref();
    let is_set = |number: Option<u64>| number.is_some_and(|number| number != 0);
    let asked = [
        (
            memory.is_some_and(|m| m.swappiness.is_some_and(|value| value != u64::MAX)),
            "memory.swappiness",
        ),
        (memory.is_some_and(|m| m.disable_oom_killer == Some(true)), "memory.disableOOMKiller"),
        (cpu.is_some_and(|c| is_set(c.realtime_period)), "cpu.realtimePeriod"),
        (cpu.is_some_and(|c| c.realtime_runtime.is_some_and(|n| n != 0)), "cpu.realtimeRuntime"),
        (
            resources.block_io.as_ref().is_some_and(|b| is_set(b.leaf_weight.map(u64::from))),
            "blockIO.leafWeight",
        ),
        (network.is_some_and(|n| is_set(n.class_id.map(u64::from))), "network.classID"),
        (network.is_some_and(|n| !n.priorities.is_empty()), "network.priorities"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        None => Ok(()),
        Some((_, at)) => {
            let name = at.rsplit('.').next().unwrap_or(at);
            refuse(format!("{name} cannot be set on cgroup v2"), format!("linux.resources.{at}"))
        }
    }
}

fn cpu(writes: &mut Writes, cpu: &Cpu) -> Result<()> {
    let shares = cpu.shares.filter(|shares| *shares != 0);
    if cpu.idle == Some(1) && shares.is_some() {
        let message = "unable to apply both cpu.weight and cpu.idle";
        return refuse(message, "linux.resources.cpu.shares");
    }
    writes.idle(cpu)?;
    if let Some(shares) = shares {
        writes.number("cpu.weight", weight(shares), "linux.resources.cpu.shares")?;
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let quota = quota.map(|q| if q < 0 { "max".into() } else { q.to_string() });
    // Without a period the kernel keeps the one it has.
    let (max, at) = match (quota, cpu.period.filter(|period| *period != 0)) {
        (None, None) => return writes.burst(cpu, "cpu.max.burst"),
        (Some(quota), None) => (quota, "linux.resources.cpu.quota"),
        (Some(quota), Some(period)) => (format!("{quota} {period}"), "linux.resources.cpu.quota"),
        (None, Some(period)) => (format!("max {period}"), "linux.resources.cpu.period"),
    };
    writes.put("cpu.max", max, at, How::Write)?;
    writes.burst(cpu, "cpu.max.burst")
}

fn memory(writes: &mut Writes, memory: &Memory) -> Result<()> {
    const LIMIT: &str = "linux.resources.memory.limit";
    const SWAP: &str = "linux.resources.memory.swap";
    const RESERVATION: &str = "linux.resources.memory.reservation";
    let (limit, both) = (bytes(memory.limit, LIMIT)?, bytes(memory.swap, SWAP)?);
    if memory.check_before_update == Some(true) {
        for (value, at) in [(both, SWAP), (limit, LIMIT)] {
            if let Some(value) = value.filter(|value| *value > 0) {
                writes.put("memory.current", value.to_string(), at, How::Below)?;
            }
        }
    }
    if let Some(swap) = swap(limit, both)? {
        // A kernel without swap accounting has no limit, and one without swap no swap.
        let how = if swap <= 0 { How::IfThere } else { How::Write };
        let at = if both.is_some() { SWAP } else { LIMIT };
        writes.put("memory.swap.max", or_max(swap), at, how)?;
    }
    if let Some(limit) = limit {
        writes.put("memory.max", or_max(limit), LIMIT, How::Write)?;
    }
    match bytes(memory.reservation, RESERVATION)? {
        Some(low) => writes.put("memory.low", or_max(low), RESERVATION, How::Write),
        None => Ok(()),
    }
}

fn io(writes: &mut Writes, block: &BlockIo) -> Result<()> {
    const BFQ: &str = "io.bfq.weight";
    let other = |value| How::Or("io.weight".into(), Some(value));
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        let at = "linux.resources.blockIO.weight";
        writes.put(BFQ, weight.to_string(), at, other(io_weight(weight).to_string()))?;
    }
    for (index, device) in block.weight_device.iter().enumerate() {
        let at = format!("linux.resources.blockIO.weightDevice[{index}]");
        let Some(weight) = device.weight else {
            return refuse("a weight device needs weight on cgroup v2", at);
        };
        let line = |weight: u64| format!("{}:{} {weight}", device.major, device.minor);
        writes.put(BFQ, line(weight.into()), at, other(line(io_weight(weight))))?;
    }
    for (at, device, key) in throttles(block, ["rbps", "wbps", "riops", "wiops"]) {
        let ThrottleDevice { major, minor, rate } = device;
        let value = match rate {
            // On v1 a zero lifts the limit.
            0 => format!("{major}:{minor} {key}=max"),
            rate => format!("{major}:{minor} {key}={rate}"),
        };
        writes.put("io.max", value, at, How::Write)?;
    }
    Ok(())
}

/// Files that move processes, of the host too, or end them.
const MOVES: [&str; 3] = ["cgroup.procs", "cgroup.threads", "cgroup.kill"];

/// Any file of the cgroup; the kernel takes one line at a time. An empty one lifts limits of cpuset, and
/// would set others to 0.
fn unified(writes: &mut Writes, file: &str, value: &str) -> Result<()> {
    let at = member("linux.resources.unified", file);
    if file.contains('/') {
        let message = format!("unified resource {file:?} must be a file name (no slashes)");
        return refuse(message, at);
    }
    if MOVES.contains(&file) {
        return refuse(format!("unified resource {file:?} is no limit: it acts on processes"), at);
    }
    if value.is_empty() && !file.starts_with("cpuset.") {
        return refuse(format!("unified resource {file:?} has no value"), at);
    }
    if !file.split_once('.').is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty()) {
        let form = "must be in the form CONTROLLER.PARAMETER";
        return refuse(format!("unified resource {file:?} {form}"), at);
    }
    let lines = if value.is_empty() { "\n" } else { value };
    let mut lines = lines.split_inclusive('\n');
    lines.try_for_each(|line| {
        let line = if line == "\n" { line } else { line.trim_end_matches('\n') };
        writes.put(file.to_owned(), line.to_owned(), at.clone(), How::Write)
    })
}

/// The limit of swap alone, from those of memory and of memory+swap; -1 is no limit.
fn swap(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>> {
    const AT: &str = "linux.resources.memory.swap";
    match (limit, both) {
        // As on v1: who lifts the one limit lifts the other.
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(both)) => Ok(Some(both)),
        (None, Some(_)) => Err(Error::new("unable to set swap limit without memory limit")
            .at(AT)
            .hint("swap is memory+swap: set memory.limit too")),
        (Some(limit), Some(both)) if both < limit => Err(Error::new(format!(
            "memory+swap limit should be >= memory limit: {both} is below {limit}"
        ))
        .at(AT)
        .hint("swap is memory+swap, and stays in an update without it: set it too")),
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}

fn or_max(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

/// `cpu.weight` (1 to 10,000) for `cpu.shares` (2 to 262,144): the curve of runc 1.3 and crun 1.23,
/// which meets both ends and gives the default, 1,024, the default, 100.
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = log2(shares as f64);
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Rounding errors must not lift what is exactly a whole number.
            (exp10(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// The C library's functions would be ten times the code, for precision that is lost here.
fn log2(x: f64) -> f64 {
    let whole = (x as u64).max(1).ilog2();
    let t = {
        let mantissa = x / (1u64 << whole) as f64;
        (mantissa - 1.0) / (mantissa + 1.0)
    };
    // ln((1+t)/(1-t)) = 2 (t + t³/3 + t⁵/5 + …), with t at most 1/3.
    let (mut sum, mut power, mut n) = (0.0, t, 1.0);
    while n < 40.0 {
        sum += power / n;
        power *= t * t;
        n += 2.0;
    }
    f64::from(whole) + 2.0 * sum / std::f64::consts::LN_2
}

/// For exponents from 0 to 4.
fn exp10(exponent: f64) -> f64 {
    let bits = exponent * std::f64::consts::LOG2_10;
    let whole = bits.floor();
    let x = (bits - whole) * std::f64::consts::LN_2;
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while n < 22.0 {
        term *= x / n;
        sum += term;
        n += 1.0;
    }
    sum * (1u64 << whole as u32) as f64
}

/// `io.weight` (1 to 10,000) for a weight of v1 (10 to 1,000).
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// The inverse of [`io_weight`].
pub fn bfq_weight(weight: u64) -> u64 {
    10 + (weight.clamp(1, 10_000) - 1).saturating_mul(990).div_ceil(9999)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writes for a `resources` object: `file=value @path below linux.resources`.
    fn plan(json: &str) -> Result<Vec<String>> {
        let resources: Resources = crate::spec::load::from_json(json).unwrap();
        let settings = limits(&resources, &Hierarchies::fixed(&[("", "/sys/fs/cgroup", "")]))?;
        Ok(settings.iter().map(show).collect())
    }

    fn show(s: &Setting) -> String {
        let at = s.at.strip_prefix("linux.resources.").unwrap();
        let how = match &s.how {
            How::Or(file, Some(value)) => format!(" or {file}={value}"),
            How::Below => " above usage".into(),
            How::IfThere => " if there".into(),
            _ => String::new(),
        };
        format!("{}={}{how} @{at}", s.file, s.value)
    }

    fn assert_refused(json: &str, words: &str, at: &str) {
        let err = plan(json).unwrap_err();
        assert!(err.message().contains(words), "{err}");
        assert_eq!(err.path().unwrap(), format!("linux.resources.{at}"));
    }

    #[test]
    fn nothing_asked_nothing_written() {
        let zeros = r#"{"memory":{"limit":0,"swap":0,"reservation":0,"disableOOMKiller":false,
            "useHierarchy":false,"swappiness":18446744073709551615},
            "cpu":{"shares":0,"quota":0,"period":0,"realtimePeriod":0,"cpus":""},"pids":{},
            "blockIO":{"weight":0,"leafWeight":0},"network":{"classID":0},"unified":{}}"#;
        assert!(plan(zeros).unwrap().is_empty());
    }

    /// The functions of the C library are the oracle, for each value there is.
    #[test]
    fn weights_follow_the_curve() {
        for shares in 3..262_144u64 {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            let exact = 10f64.powf(exponent);
            let expected = if shares == 1024 { 100 } else { exact.ceil() as u64 };
            assert_eq!(weight(shares), expected, "{shares}: {exact}");
        }
        assert_eq!([0, 1, 2, 262_144, u64::MAX].map(weight), [1, 1, 1, 10_000, 10_000]);
        assert_eq!([10, 100, 500, 1000].map(io_weight), [1, 910, 4950, 10_000]);
    }

    #[test]
    fn cpu() {
        let json = r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"burst":1000,"idle":0,
            "cpus":"0-1","mems":"0"}}"#;
        assert_eq!(
            plan(json).unwrap(),
            [
                "cpu.idle=0 if there @cpu.idle",
                "cpu.weight=59 @cpu.shares",
                "cpu.max=50000 100000 @cpu.quota",
                "cpu.max.burst=1000 @cpu.burst",
                "cpuset.cpus=0-1 @cpu.cpus",
                "cpuset.mems=0 @cpu.mems",
            ]
        );
        assert_eq!(plan(r#"{"cpu":{"quota":-1}}"#).unwrap(), ["cpu.max=max @cpu.quota"]);
        assert_eq!(plan(r#"{"cpu":{"quota":7}}"#).unwrap(), ["cpu.max=7 @cpu.quota"]);
        assert_eq!(plan(r#"{"cpu":{"period":7}}"#).unwrap(), ["cpu.max=max 7 @cpu.period"]);
        assert_refused(r#"{"cpu":{"idle":1,"shares":5}}"#, "unable to apply both", "cpu.shares");
        assert_eq!(plan(r#"{"cpu":{"idle":1,"shares":0}}"#).unwrap(), ["cpu.idle=1 @cpu.idle"]);
    }

    #[test]
    fn memory() {
        let of = |inner: &str| plan(&format!(r#"{{"memory":{{{inner}}}}}"#)).unwrap();
        assert_eq!(
            of(r#""limit":64,"swap":100,"reservation":32,"checkBeforeUpdate":true"#),
            [
                "memory.current=100 above usage @memory.swap",
                "memory.current=64 above usage @memory.limit",
                "memory.swap.max=36 @memory.swap",
                "memory.max=64 @memory.limit",
                "memory.low=32 @memory.reservation",
            ]
        );
        // Swap alone: none, any, as much as that.
        let swap = |inner: &str| of(inner).remove(0);
        assert_eq!(swap(r#""limit":64,"swap":64"#), "memory.swap.max=0 if there @memory.swap");
        assert_eq!(swap(r#""swap":-1"#), "memory.swap.max=max if there @memory.swap");
        assert_eq!(swap(r#""limit":-1,"swap":7"#), "memory.swap.max=7 @memory.swap");
        assert_eq!(swap(r#""limit":-1"#), "memory.swap.max=max if there @memory.limit");
        assert_eq!(of(r#""limit":64"#), ["memory.max=64 @memory.limit"]);
        assert_refused(r#"{"memory":{"swap":7}}"#, "without memory limit", "memory.swap");
        let json = r#"{"memory":{"limit":8,"swap":7}}"#;
        assert_refused(json, "memory+swap limit should be >= memory limit", "memory.swap");
    }

    #[test]
    fn what_v2_lacks_is_refused() {
        for (member, value) in [
            ("memory.swappiness", "60"),
            ("memory.disableOOMKiller", "true"),
            ("cpu.realtimePeriod", "5"),
            ("cpu.realtimeRuntime", "5"),
            ("blockIO.leafWeight", "5"),
            ("network.classID", "5"),
            ("network.priorities", r#"[{"name":"eth0","priority":1}]"#),
        ] {
            let (outer, inner) = member.split_once('.').unwrap();
            let json = format!(r#"{{"{outer}":{{"{inner}":{value}}}}}"#);
            assert_refused(&json, "cannot be set on cgroup v2", member);
        }
    }

    #[test]
    fn io() {
        let json = r#"{"blockIO":{"weight":100,"weightDevice":[{"major":8,"minor":0,"weight":500}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#;
        assert_eq!(
            plan(json).unwrap(),
            [
                "io.bfq.weight=100 or io.weight=910 @blockIO.weight",
                "io.bfq.weight=8:0 500 or io.weight=8:0 4950 @blockIO.weightDevice[0]",
                "io.max=8:0 rbps=600 @blockIO.throttleReadBpsDevice[0]",
                "io.max=8:16 wiops=max @blockIO.throttleWriteIOPSDevice[0]",
            ]
        );
        let json = r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#;
        assert_refused(json, "needs weight", "blockIO.weightDevice[0]");
    }

    #[test]
    fn the_same_on_both_versions() {
        let json = r#"{"pids":{"limit":0},"hugepageLimits":[{"pageSize":"2MB","limit":4}],
            "rdma":{"mlx5_1":{"hcaHandles":3}}}"#;
        assert_eq!(
            plan(json).unwrap(),
            [
                "pids.max=1 @pids.limit",
                "hugetlb.2MB.max=4 @hugepageLimits[0]",
                "hugetlb.2MB.rsvd.max=4 if there @hugepageLimits[0]",
                "rdma.max=mlx5_1 hca_handle=3 @rdma.mlx5_1",
            ]
        );
    }

    #[test]
    fn unified() {
        let json = r#"{"pids":{"limit":9},"unified":{"pids.max":"7","io.max":"8:0 rbps=1\n8:1 wbps=2\n",
            "cpuset.cpus":""}}"#;
        assert_eq!(
            plan(json).unwrap(),
            [
                "pids.max=9 @pids.limit",
                "cpuset.cpus=\n @unified[\"cpuset.cpus\"]",
                "io.max=8:0 rbps=1 @unified[\"io.max\"]",
                "io.max=8:1 wbps=2 @unified[\"io.max\"]",
                "pids.max=7 @unified[\"pids.max\"]",
            ]
        );
        assert!(
            plan(r#"{"unified":{"../memory.max":"1"}}"#)
                .unwrap_err()
                .message()
                .contains("no slashes")
        );
        assert_refused(r#"{"unified":{"memory.max":""}}"#, "no value", "unified[\"memory.max\"]");
        for file in MOVES {
            let json = format!(r#"{{"unified":{{"{file}":"1"}}}}"#);
            assert_refused(&json, "acts on processes", &format!("unified[{file:?}]"));
        }
        let message = plan(r#"{"unified":{"memory":"1"}}"#).unwrap_err().message();
        assert!(message.contains("must be in the form CONTROLLER.PARAMETER"), "{message}");
    }
}
