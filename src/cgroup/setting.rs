//! One planned write into a cgroup file, how it is done and how its failure reads.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::device_filter::Filter;
use super::permitted::delegation;
use super::{Cgroup, dir};
use crate::error::{Error, Result};

/// One file to be written, planned: shown by `tare explain`, done by [`Cgroup::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The file's name: `memory.limit_in_bytes`. It begins with the controller's.
    pub file: Cow<'static, str>,
    /// What is written, as the kernel takes it.
    pub value: Cow<'static, str>,
    /// The JSON path that orders it: `linux.resources.memory.limit`.
    pub at: Cow<'static, str>,
    /// What is done with the file.
    pub how: How,
}

impl Setting {
    /// The controller that the file belongs to: `memory`.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// What is done with a setting's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It is written; refused where the kernel lacks it.
    Write,
    /// It is written where it is there: what it sets is the only behaviour of other kernels.
    IfThere,
    /// It is written, or else this other file, with a value of its own if that differs.
    Or(Cow<'static, str>, Option<String>),
    /// It is read: its number has to be below the value (`checkBeforeUpdate`).
    Below,
    /// There is no file: a program for the device filter of cgroup v2 is attached.
    Attach(Filter),
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
        let Some(place) = self.cgroup.controller(setting.controller()) else {
            let message = format!("the container has no {} cgroup", setting.controller());
            return Err(Error::new(message).at(setting.at.as_ref()));
        };
        let done = match &setting.how {
            How::Below => return check_usage(setting, &place.dir),
            How::Attach(filter) => return filter.attach(&place.dir, &setting.at),
            How::Or(file, value) => self.write_either(setting, &place.dir, file, value.as_deref()),
            How::Write | How::IfThere => self.write_file(&setting.file, &setting.value, &place.dir),
        };
        match done {
            Err(Errno::ENOENT) if setting.how == How::IfThere && dir::exists(&place.dir) => Ok(()),
            done => done.map_err(|errno| explain(setting, &place.dir, errno)),
        }
    }

    fn write_either(
        &mut self,
        setting: &'a Setting,
        dir: &str,
        file: &'a str,
        value: Option<&str>,
    ) -> nix::Result<()> {
        match self.write_file(&setting.file, &setting.value, dir) {
            Err(Errno::ENOENT) => self.write_file(file, value.unwrap_or(&setting.value), dir),
            done => done,
        }
    }

    fn write_file(&mut self, file: &'a str, value: &str, dir: &str) -> nix::Result<()> {
        let fd = match self.open.take().filter(|(name, _)| *name == file) {
            Some((_, fd)) => fd,
            None => dir::open_write(&format!("{dir}/{file}"))?,
        };
        dir::write_to(&fd, value)?;
        self.open = Some((file, fd));
        Ok(())
    }
}

/// Refuses a limit that is not above the usage: the kernel would end processes to meet it. Where
/// the usage cannot be read there is none yet.
fn check_usage(setting: &Setting, dir: &str) -> Result<()> {
    let limit = setting.value.parse().unwrap_or(u64::MAX);
    match dir::read_number(&format!("{dir}/{}", setting.file)) {
        Ok(usage) if limit <= usage => {
            let of = if setting.at.ends_with(".swap") { "memory+swap" } else { "memory" };
            let message = format!("rejecting {of} limit {limit} <= usage {usage}");
            Err(Error::new(message).at(setting.at.as_ref()))
        }
        _ => Ok(()),
    }
}

/// The error of a refused write, with what is known about its cause.
fn explain(setting: &Setting, dir: &str, errno: Errno) -> Error {
    let denied = matches!(errno, Errno::ENOENT | Errno::EPERM | Errno::EACCES);
    let lacking = denied && has_controller(setting.controller(), dir) == Some(false);
    let err = match (setting.file.as_ref(), errno) {
        ("memory.limit_in_bytes", Errno::EBUSY) => memory_in_use(setting, dir),
        (file, _) if setting.at.starts_with("linux.resources.unified") => {
            unified_refused(file, setting.controller(), errno, lacking)
        }
        _ => Error::sys(format!("write {:?} to {dir}/{}", setting.value, setting.file), errno),
    };
    let err = err.at(setting.at.as_ref());
    if lacking {
        return err.hint(not_enabled(setting.controller(), dir));
    }
    match hint(setting, dir, errno) {
        Some(hint) => err.hint(hint),
        None => err,
    }
}

/// Whether a cgroup of v2 has a controller; none on v1, which has no such list.
fn has_controller(controller: &str, dir: &str) -> Option<bool> {
    let list = dir::read(&format!("{dir}/cgroup.controllers")).ok()?;
    Some(controller == "cgroup" || list.split_whitespace().any(|name| name == controller))
}

/// In the words of runc.
fn unified_refused(file: &str, controller: &str, errno: Errno, lacking: bool) -> Error {
    match lacking {
        true => Error::new(format!(
            "unified resource {file:?} can't be set: controller {controller:?} not available"
        )),
        false => Error::sys(format!("unable to set unified resource {file:?}"), errno),
    }
}

/// Why a cgroup of v2 lacks a controller: the first one above it that does not hand it on.
fn not_enabled(controller: &str, dir: &str) -> String {
    let mut above = dir::parent(dir);
    while let Some(parent) = above {
        match has_controller(controller, parent) {
            Some(false) => above = dir::parent(parent),
            None => break,
            Some(true) => {
                let procs = dir::read(&format!("{parent}/cgroup.procs")).unwrap_or_default();
                let why = if procs.is_empty() { "" } else { ": it has processes of its own" };
                let file = format!("{parent}/cgroup.subtree_control");
                if nix::unistd::eaccess(file.as_str(), nix::unistd::AccessFlags::W_OK).is_err() {
                    return delegation(controller);
                }
                return format!("the {controller} controller is not enabled in {file}{why}");
            }
        }
    }
    format!("this host has no {controller} controller on cgroup v2")
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
        ("cpu.weight", Errno::EINVAL) => {
            Some("a container with cpu.idle has no weight: set cpu.idle to 0 first".into())
        }
        ("memory.swap.max", Errno::ENOENT) => {
            Some("swap accounting is off: boot with swapaccount=1".into())
        }
        ("io.bfq.weight", Errno::ENOENT) => {
            Some("weights need the BFQ scheduler or io.cost (CONFIG_BLK_CGROUP_IOCOST)".into())
        }
        ("cpu.cfs_burst_us" | "cpu.max.burst", Errno::EINVAL) => {
            Some("a burst cannot be above the quota".into())
        }
        ("blkio.weight" | "blkio.weight_device", Errno::EINVAL | Errno::ERANGE) => {
            Some("a weight is a number from 10 to 1000 (from 1 with BFQ)".into())
        }
        (file, Errno::ENODEV) if file.starts_with("blkio.") || file.starts_with("io.") => {
            Some("there is no block device with these numbers".into())
        }
        ("devices.allow", Errno::EPERM) => {
            Some("a cgroup above denies these devices, or CAP_SYS_ADMIN is missing".into())
        }
        (_, Errno::ENOENT) => Some("this kernel lacks the file: the limit is not supported".into()),
        _ => None,
    }
}
