//! One planned write into a cgroup file, how it is done and how its failure reads.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Cgroup, dir};
use crate::error::{Error, Result};

/// One file to be written, planned: shown by `tare explain`, done by [`Cgroup::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller that the file belongs to: `memory`.
    pub controller: &'static str,
    /// The file's name: `memory.limit_in_bytes`.
    pub file: Cow<'static, str>,
    /// What is written, as the kernel takes it.
    pub value: Cow<'static, str>,
    /// The JSON path that orders it: `linux.resources.memory.limit`.
    pub at: Cow<'static, str>,
    /// What to do on a kernel that lacks the file.
    pub absent: Absent,
}

/// What to do if this kernel does not have a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The setting cannot be applied: an error.
    Refuse,
    /// What the file sets is the kernel's only behaviour then.
    Skip,
    /// The same setting has another name.
    Use(&'static str),
}

/// Writes all settings in order. One that the kernel finds invalid is tried again at the end:
/// some pairs bound each other, and which one has to go first depends on what was set before
/// (memory and memory+swap, period, quota and burst).
pub(super) fn apply(cgroup: &Cgroup, settings: &[Setting]) -> Result<()> {
    let mut writer = Writer { cgroup, open: None };
    let mut refused = Vec::new();
    for setting in settings {
        match writer.write(setting) {
            Err(err) if err.errno() == Some(Errno::EINVAL) => refused.push(setting),
            done => done?,
        }
    }
    refused.iter().try_for_each(|setting| writer.write(setting))
}

/// Writes one after the other, and keeps the file open for the next one: device rules go into
/// one file by the dozen.
struct Writer<'a> {
    cgroup: &'a Cgroup,
    open: Option<(&'a str, OwnedFd)>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, setting: &'a Setting) -> Result<()> {
        let Some(place) = self.cgroup.controller(setting.controller) else {
            let message = format!("the container has no {} cgroup", setting.controller);
            return Err(Error::new(message).at(setting.at.as_ref()));
        };
        let fail = |errno| Err(explain(setting, &place.dir, errno));
        let fd = match self.open.take().filter(|(name, _)| *name == setting.file) {
            Some((_, fd)) => fd,
            None => match open(setting, &place.dir) {
                Ok(Some(fd)) => fd,
                Ok(None) => return Ok(()),
                Err(errno) => return fail(errno),
            },
        };
        match dir::write_to(&fd, &setting.value) {
            Ok(()) => self.open = Some((&setting.file, fd)),
            Err(errno) => return fail(errno),
        }
        Ok(())
    }
}

/// Opens the setting's file; none if its absence does not matter.
fn open(setting: &Setting, dir: &str) -> nix::Result<Option<OwnedFd>> {
    match (dir::open_write(&format!("{dir}/{}", setting.file)), setting.absent) {
        (Err(Errno::ENOENT), Absent::Skip) if dir::exists(dir) => Ok(None),
        (Err(Errno::ENOENT), Absent::Use(other)) => {
            dir::open_write(&format!("{dir}/{other}")).map(Some)
        }
        (opened, _) => opened.map(Some),
    }
}

/// The error of a refused write, with what is known about its cause.
fn explain(setting: &Setting, dir: &str, errno: Errno) -> Error {
    let err = match (setting.file.as_ref(), errno) {
        ("memory.limit_in_bytes", Errno::EBUSY) => memory_in_use(setting, dir),
        _ => Error::sys(format!("write {:?} to {dir}/{}", setting.value, setting.file), errno),
    };
    let err = err.at(setting.at.as_ref());
    match hint(setting, dir, errno) {
        Some(hint) => err.hint(hint),
        None => err,
    }
}

/// The words of runc for a limit that the container has outgrown already.
fn memory_in_use(setting: &Setting, dir: &str) -> Error {
    let number = |file| dir::read_number(&format!("{dir}/{file}")).unwrap_or_default();
    Error::new(format!(
        "unable to set memory limit to {} (current usage: {}, peak usage: {})",
        setting.value,
        number("memory.usage_in_bytes"),
        number("memory.max_usage_in_bytes")
    ))
}

fn hint(setting: &Setting, dir: &str, errno: Errno) -> Option<Cow<'static, str>> {
    let available = |file: &str| {
        let parent = dir.rsplit_once('/').map_or(dir, |(parent, _)| parent);
        let text = dir::read(&format!("{parent}/{file}")).unwrap_or_default();
        Some(Cow::Owned(format!("the cgroup above has {}", text.trim())))
    };
    match (setting.file.as_ref(), errno) {
        (_, Errno::EROFS) => Some("the cgroup file system is mounted read-only".into()),
        ("cpuset.cpus" | "cpuset.mems", Errno::EACCES | Errno::EINVAL | Errno::ERANGE) => {
            available(&setting.file)
        }
        ("cpuset.mems", Errno::ENODEV) => available("cpuset.mems"),
        ("memory.limit_in_bytes", Errno::EINVAL) => {
            Some("a memory limit cannot be above the limit of memory+swap (memory.swap)".into())
        }
        ("memory.memsw.limit_in_bytes", Errno::EINVAL) => {
            Some("memory.swap is memory+swap: it cannot be below memory.limit".into())
        }
        ("memory.memsw.limit_in_bytes", Errno::ENOENT) => {
            Some("swap accounting is off: boot with swapaccount=1".into())
        }
        ("blkio.leaf_weight" | "blkio.leaf_weight_device", Errno::ENOENT) => {
            Some("kernels since 5.0 have no leaf weights".into())
        }
        ("blkio.weight" | "blkio.weight_device", Errno::ENOENT) => {
            Some("weights need the BFQ scheduler (CONFIG_BFQ_GROUP_IOSCHED)".into())
        }
        ("cpu.rt_runtime_us" | "cpu.rt_period_us", Errno::ENOENT) => {
            Some("real-time limits need a kernel with CONFIG_RT_GROUP_SCHED".into())
        }
        ("cpu.rt_runtime_us", Errno::EINVAL) => {
            Some("the cgroup above has to have at least as much real-time".into())
        }
        ("cpu.cfs_burst_us", Errno::EINVAL) => Some("a burst cannot be above the quota".into()),
        ("blkio.weight" | "blkio.weight_device", Errno::EINVAL | Errno::ERANGE) => {
            Some("a weight is a number from 10 to 1000 (from 1 with BFQ)".into())
        }
        (file, Errno::ENODEV) if file.starts_with("blkio.") => {
            Some("there is no block device with these numbers".into())
        }
        ("devices.allow", Errno::EPERM) => {
            Some("a cgroup above denies these devices, or CAP_SYS_ADMIN is missing".into())
        }
        (_, Errno::ENOENT) => Some("this kernel lacks the file: the limit is not supported".into()),
        _ => None,
    }
}
