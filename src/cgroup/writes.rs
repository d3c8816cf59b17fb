//! The list of writes that grows while `linux.resources` is read, and what both versions of
//! cgroups have in common.

use std::borrow::Cow;

use super::{Hierarchies, How, Setting, Version};
use crate::error::{Error, Result};
use crate::spec::config::{BlockIo, Cpu, HugepageLimit, Rdma, Resources, ThrottleDevice};

/// The list that grows, and the host that it is for.
pub struct Writes<'a> {
    host: &'a Hierarchies,
    /// In the order of writing.
    pub list: Vec<Setting>,
}

/// A text that is most often a constant.
pub type Text = Cow<'static, str>;

/// What a version calls the files of a huge page size: the beginning is `hugetlb.SIZE`.
pub struct HugetlbFiles {
    /// The limit of pages in use.
    pub limit: &'static str,
    /// The limit of reservations.
    pub reserved: &'static str,
}

/// An error at a JSON path.
pub fn refuse<T>(message: impl Into<String>, at: impl Into<String>) -> Result<T> {
    Err(Error::new(message).at(at))
}

impl<'a> Writes<'a> {
    /// An empty list.
    pub fn new(host: &'a Hierarchies) -> Self {
        Writes { host, list: Vec::with_capacity(16) }
    }

    /// Adds one write.
    pub fn put(
        &mut self,
        file: impl Into<Text>,
        value: impl Into<Text>,
        at: impl Into<Text>,
        how: How,
    ) -> Result<()> {
        let setting = Setting { file: file.into(), value: value.into(), at: at.into(), how };
        let controller = setting.controller();
        if self.host.version() == Version::V1 && self.host.find(controller).is_none() {
            let message = format!("the {controller} controller is not mounted as cgroup v1");
            return Err(Error::new(message)
                .at(setting.at)
                .hint("remove the limit, or mount the controller below /sys/fs/cgroup"));
        }
        self.list.push(setting);
        Ok(())
    }

    /// A number for a file that every kernel has.
    pub fn number(
        &mut self,
        file: &'static str,
        value: impl ToString,
        at: &'static str,
    ) -> Result<()> {
        self.put(file, value.to_string(), at, How::Write)
    }

    /// What has the same files in both versions.
    pub fn common(&mut self, resources: &Resources, hugetlb: &HugetlbFiles) -> Result<()> {
        for (index, limit) in resources.hugepage_limits.iter().enumerate() {
            self.hugepages(index, limit, hugetlb)?;
        }
        resources.rdma.iter().flatten().try_for_each(|(device, limit)| self.rdma(device, limit))
    }

    /// `cpu.idle`; a kernel without it (before 5.15) has nothing idle.
    pub fn idle(&mut self, cpu: &Cpu) -> Result<()> {
        const AT: &str = "linux.resources.cpu.idle";
        match cpu.idle {
            Some(0) => self.put("cpu.idle", "0", AT, How::IfThere),
            Some(1) => self.number("cpu.idle", 1, AT),
            Some(idle) => refuse(format!("cpu idle is 0 or 1, not {idle}"), AT),
            None => Ok(()),
        }
    }

    /// The burst, into `file`; a kernel without it (before 5.14) never bursts.
    pub fn burst(&mut self, cpu: &Cpu, file: &'static str) -> Result<()> {
        const AT: &str = "linux.resources.cpu.burst";
        let Some(burst) = cpu.burst else { return Ok(()) };
        let quota = cpu.quota.and_then(|quota| u64::try_from(quota).ok());
        if quota.is_some_and(|quota| quota > 0 && burst > quota) {
            return refuse("cpu burst is above the quota", AT);
        }
        let how = if burst == 0 { How::IfThere } else { How::Write };
        self.put(file, burst.to_string(), AT, how)
    }

    /// Processors and memory nodes.
    pub fn cpuset(&mut self, cpu: &Cpu) -> Result<()> {
        let sets = [
            ("cpuset.cpus", &cpu.cpus, "linux.resources.cpu.cpus"),
            ("cpuset.mems", &cpu.mems, "linux.resources.cpu.mems"),
        ];
        for (file, set, at) in sets {
            let Some(set) = set.as_ref().filter(|set| !set.is_empty()) else { continue };
            if !set.chars().all(|c| c.is_ascii_digit() || ",-:/ ".contains(c)) {
                return refuse(format!("{set:?} is not a list of numbers such as 0-3,7"), at);
            }
            self.put(file, set.clone(), at, How::Write)?;
        }
        Ok(())
    }

    /// The number of tasks; -1 is no limit. 0 leaves the first process alone, which counts: so does 1,
    /// and systemd knows no 0.
    pub fn pids(&mut self, resources: &Resources) -> Result<()> {
        const AT: &str = "linux.resources.pids.limit";
        match resources.pids.as_ref().and_then(|pids| pids.limit) {
            None => Ok(()),
            Some(-1) => self.put("pids.max", "max", AT, How::Write),
            Some(limit @ 0..) => self.number("pids.max", limit.max(1), AT),
            Some(limit) => refuse(format!("pids limit {limit} is below -1, which means none"), AT),
        }
    }

    fn hugepages(
        &mut self,
        index: usize,
        limit: &HugepageLimit,
        files: &HugetlbFiles,
    ) -> Result<()> {
        let at = format!("linux.resources.hugepageLimits[{index}]");
        let size = &limit.page_size;
        if !is_page_size(size) {
            return refuse(format!("{size:?} is not a page size such as 2MB"), at + ".pageSize");
        }
        let value = limit.limit.to_string();
        let file = format!("hugetlb.{size}.{}", files.limit);
        self.put(file, value.clone(), at.clone(), How::Write)?;
        // Reservations are accounted since Linux 5.7.
        self.put(format!("hugetlb.{size}.{}", files.reserved), value, at, How::IfThere)
    }

    fn rdma(&mut self, device: &str, limit: &Rdma) -> Result<()> {
        let at = format!("linux.resources.rdma.{device}");
        let handles = limit.hca_handles.map(|n| format!(" hca_handle={n}")).unwrap_or_default();
        let objects = limit.hca_objects.map(|n| format!(" hca_object={n}")).unwrap_or_default();
        if handles.is_empty() && objects.is_empty() {
            return refuse("an rdma limit needs hcaHandles or hcaObjects", at);
        }
        self.put("rdma.max", format!("{device}{handles}{objects}"), at, How::Write)
    }
}

/// The four lists of throttles: the end of the JSON member's name, the list, and a word of the
/// version's own for it out of `words`.
pub fn throttles<'a>(
    block: &'a BlockIo,
    words: [&'static str; 4],
) -> impl Iterator<Item = (String, &'a ThrottleDevice, &'static str)> {
    let lists = [
        ("ReadBps", &block.throttle_read_bps_device),
        ("WriteBps", &block.throttle_write_bps_device),
        ("ReadIOPS", &block.throttle_read_iops_device),
        ("WriteIOPS", &block.throttle_write_iops_device),
    ];
    lists.into_iter().zip(words).flat_map(|((name, list), word)| {
        list.iter().enumerate().map(move |(index, device)| {
            (format!("linux.resources.blockIO.throttle{name}Device[{index}]"), device, word)
        })
    })
}

/// A limit in bytes: none if absent or 0, -1 for no limit.
pub fn bytes(value: Option<i64>, at: &'static str) -> Result<Option<i64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(limit) if limit >= -1 => Ok(value),
        Some(limit) => refuse(format!("{limit} bytes is below -1, which means no limit"), at),
    }
}

/// Digits and one of KB, MB, GB: it becomes a part of a file's name.
fn is_page_size(size: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    digits.is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_ascii_digit()))
}
