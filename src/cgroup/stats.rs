//! A container's usage, in the JSON shape of `runc events --stats`.
//!
//! Zero members are left out where runc leaves them out: programs compare the two.

use std::collections::BTreeMap;

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::{Cgroup, dir, stats2};
use crate::error::{Doing, Result};

/// Nanoseconds of a clock tick as the kernel shows ticks to programs (`USER_HZ`, proc(5)).
const TICK: u64 = 1_000_000_000 / 100;

/// The `data` of a `stats` event.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    /// Processor time and throttling.
    pub cpu: Cpu,
    /// What processors and memory nodes there are to use.
    pub cpuset: Cpuset,
    /// Memory in use, limits, and the kernel's own list.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Disk traffic.
    pub blkio: Blkio,
    /// Huge pages by page size.
    pub hugetlb: Table<Hugetlb>,
    /// Shares of cache and memory bandwidth: not from cgroups, so whoever asked fills them in.
    pub intel_rdt: BTreeMap<&'static str, String>,
    /// Always null, as in runc.
    pub network_interfaces: Option<Vec<String>>,
}

/// Names and values, in the kernel's order: an object of JSON.
#[derive(Debug)]
pub struct Table<T>(Vec<(String, T)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T> Table<T> {
    /// Adds a value.
    pub fn push(&mut self, name: &str, value: T) {
        self.0.push((name.to_owned(), value));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Table<u64> {
    /// The lines of a name and a number.
    pub fn read(text: &str) -> Self {
        let mut table = Table::default();
        for (name, number) in text.lines().filter_map(|line| line.split_once(' ')) {
            if let Ok(number) = number.parse() {
                table.push(name, number);
            }
        }
        table
    }

    /// The number of that name, or 0.
    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, number)| *number)
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Processor time and throttling.
#[derive(Debug, Default, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// What the quota held back.
    pub throttling: Throttling,
    /// Time lost for want of processors (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Time lost for want of a resource (the kernel's psi.rst).
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// While at least one task waited.
    pub some: PressureTimes,
    /// While all tasks waited.
    pub full: PressureTimes,
}

/// Per cent of the last 10, 60 and 300 seconds; microseconds in all.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PressureTimes {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// Processor time in nanoseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// Periods passed, periods with throttling, and nanoseconds waited.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// The cpuset's files, by their names.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory in bytes.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: MemoryEntry,
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of `memory.stat`.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub raw: Table<u64>,
    /// Time lost for want of memory (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes; `failcnt` counts refusals.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// Tasks; a limit of 0 is none.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Disk traffic by device and operation.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Time lost for want of disk traffic (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One device and operation (`Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`).
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroup {
    /// Reads the usage. A controller or file that this host lacks counts as zero; a cgroup that
    /// is gone is an error (`ENODEV`, or `ENOENT` for the directory of processes).
    pub fn stats(&self) -> Result<Stats> {
        if let Some(place) = self.v2() {
            return stats2::read(&place.dir);
        }
        let files = Files(self);
        Ok(Stats {
            cpu: files.cpu()?,
            cpuset: files.cpuset()?,
            memory: files.memory()?,
            pids: files.tasks()?,
            blkio: files.blkio()?,
            hugetlb: files.hugetlb()?,
            ..Stats::default()
        })
    }
}

/// The container's control files; the controller is the beginning of a file's name.
struct Files<'a>(&'a Cgroup);

impl Files<'_> {
    fn text(&self, name: &str) -> Result<String> {
        let controller = name.split('.').next().unwrap_or_default();
        let Some(place) = self.0.controller(controller) else { return Ok(String::new()) };
        let file = format!("{}/{name}", place.dir);
        match dir::read(&file) {
            Err(Errno::ENOENT) if dir::is_there(&place.dir) => Ok(String::new()),
            read => read.doing(|| format!("read {file}")),
        }
    }

    /// The file's number; 0 for `max`.
    fn number(&self, name: &str) -> Result<u64> {
        Ok(self.text(name)?.trim().parse().unwrap_or_default())
    }

    /// The file's lines of a name and a number.
    fn table(&self, name: &str) -> Result<Table<u64>> {
        Ok(Table::read(&self.text(name)?))
    }

    fn cpu(&self) -> Result<Cpu> {
        let stat = self.table("cpu.stat")?;
        let throttled = |key: &str| stat.get(key);
        let throttling = Throttling {
            periods: throttled("nr_periods"),
            throttled_periods: throttled("nr_throttled"),
            throttled_time: throttled("throttled_time"),
        };
        let ticks = self.table("cpuacct.stat")?;
        let time = |key: &str| ticks.get(key).saturating_mul(TICK);
        let (percpu_user, percpu_kernel) = per_cpu(&self.text("cpuacct.usage_all")?);
        let percpu = self.text("cpuacct.usage_percpu")?;
        let usage = CpuUsage {
            total: self.number("cpuacct.usage")?,
            percpu: percpu.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            percpu_kernel,
            percpu_user,
            kernel: time("system"),
            user: time("user"),
        };
        Ok(Cpu { usage, throttling, psi: None })
    }

    fn cpuset(&self) -> Result<Cpuset> {
        let level = self.text("cpuset.sched_relax_domain_level")?;
        Ok(Cpuset {
            cpus: numbers(&self.text("cpuset.cpus")?),
            cpu_exclusive: self.number("cpuset.cpu_exclusive")?,
            mems: numbers(&self.text("cpuset.mems")?),
            mem_hardwall: self.number("cpuset.mem_hardwall")?,
            mem_exclusive: self.number("cpuset.mem_exclusive")?,
            memory_migrate: self.number("cpuset.memory_migrate")?,
            memory_spread_page: self.number("cpuset.memory_spread_page")?,
            memory_spread_slab: self.number("cpuset.memory_spread_slab")?,
            memory_pressure: self.number("cpuset.memory_pressure")?,
            sched_load_balance: self.number("cpuset.sched_load_balance")?,
            sched_relax_domain_level: level.trim().parse().unwrap_or_default(),
        })
    }

    fn memory(&self) -> Result<Memory> {
        let raw = self.table("memory.stat")?;
        Ok(Memory {
            cache: raw.get("cache"),
            usage: self.memory_entry("memory")?,
            swap: self.memory_entry("memory.memsw")?,
            kernel: self.memory_entry("memory.kmem")?,
            kernel_tcp: self.memory_entry("memory.kmem.tcp")?,
            raw,
            psi: None,
        })
    }

    fn memory_entry(&self, prefix: &str) -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: self.number(&format!("{prefix}.limit_in_bytes"))?,
            usage: self.number(&format!("{prefix}.usage_in_bytes"))?,
            max: self.number(&format!("{prefix}.max_usage_in_bytes"))?,
            failcnt: self.number(&format!("{prefix}.failcnt"))?,
        })
    }

    fn tasks(&self) -> Result<Pids> {
        Ok(Pids { current: self.number("pids.current")?, limit: self.number("pids.max")? })
    }

    /// The throttle layer counts whatever the scheduler of the device is.
    fn blkio(&self) -> Result<Blkio> {
        let bytes = self.text("blkio.throttle.io_service_bytes_recursive")?;
        let serviced = self.text("blkio.throttle.io_serviced_recursive")?;
        Ok(Blkio {
            io_service_bytes_recursive: bytes.lines().filter_map(blkio_entry).collect(),
            io_serviced_recursive: serviced.lines().filter_map(blkio_entry).collect(),
            psi: None,
        })
    }

    fn hugetlb(&self) -> Result<Table<Hugetlb>> {
        let Some(place) = self.0.controller("hugetlb") else { return Ok(Table::default()) };
        let names = dir::files(&place.dir).doing(|| format!("list {}", place.dir))?;
        let mut table = Table::default();
        for name in names {
            let size =
                name.strip_prefix("hugetlb.").and_then(|n| n.strip_suffix(".limit_in_bytes"));
            let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
            let number = |what: &str| self.number(&format!("hugetlb.{size}.{what}"));
            let (usage, max) = (number("usage_in_bytes")?, number("max_usage_in_bytes")?);
            table.push(size, Hugetlb { usage, max, failcnt: number("failcnt")? });
        }
        Ok(table)
    }
}

/// User and system time from `cpuacct.usage_all`: a heading, then `CPU USER SYSTEM`.
fn per_cpu(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| -> Option<(u64, u64)> {
        let mut fields = line.split(' ').skip(1).filter_map(|n| n.parse().ok());
        Some((fields.next()?, fields.next()?))
    };
    text.lines().filter_map(line).unzip()
}

/// The numbers of a list such as `0-3,7` (cpuset(7), "List format").
fn numbers(list: &str) -> Vec<u16> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// A line `8:0 Read 4096`; the last one of a file, `Total 4096`, is of no device.
fn blkio_entry(line: &str) -> Option<BlkioEntry> {
    let mut fields = line.split(' ');
    let (major, minor) = fields.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let (op, value) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
    Some(BlkioEntry { major, minor, op, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(numbers("0-3,7\n"), [0, 1, 2, 3, 7]);
        assert!(numbers("\n").is_empty());
    }

    #[test]
    fn tables() {
        let all = "cpu user system\n0 5 6\n1 7 8\n";
        assert_eq!(per_cpu(all), (vec![5, 7], vec![6, 8]));
        let entry = BlkioEntry { major: 8, minor: 1, op: "Read".into(), value: 4096 };
        assert_eq!(blkio_entry("8:1 Read 4096"), Some(entry));
        assert_eq!(blkio_entry("Total 4096"), None);
    }

    /// As runc prints it for a container that has done nothing on a host without controllers.
    #[test]
    fn shape() {
        let json = serde_json::to_value(Stats::default()).unwrap();
        let entry = serde_json::json!({"limit": 0, "failcnt": 0});
        assert_eq!(json["memory"]["kernelTCP"], entry);
        assert_eq!(
            json["cpu"],
            serde_json::json!({"usage": {"kernel": 0, "user": 0}, "throttling": {}})
        );
        assert_eq!(json["pids"], serde_json::json!({}));
        assert!(json["network_interfaces"].is_null());
    }
}
