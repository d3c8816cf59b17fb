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

/// What the files of `settings` hold now, as settings, the last one first. Those with a line for each
/// device are left out, and what cannot be read. What is made idle loses its weight, too.
pub(super) fn present(cgroup: &Cgroup, settings: &[Setting]) -> Vec<Setting> {
    let idle = settings.iter().find(|setting| setting.file == "cpu.idle");
    let weight = idle.map(|idle| Setting { file: "cpu.weight".into(), ..idle.clone() });
    let settings = weight.iter().chain(settings.iter().rev());
    settings.filter_map(|setting| held(cgroup, setting)).collect()
}

/// What the file of a setting holds, or the one that takes its place.
fn held(cgroup: &Cgroup, setting: &Setting) -> Option<Setting> {
    let dir = &cgroup.controller(setting.controller())?.dir;
    let read = |file: &Cow<'static, str>| {
        let text = dir::read(&format!("{dir}/{file}")).ok()?;
        Some((file.clone(), text))
    };
    let (file, text) = match &setting.how {
        How::Write | How::IfThere => read(&setting.file)?,
        // The weight of all devices comes first, those of single ones follow.
        How::Or(other, _) if !setting.value.contains(':') => {
            let (file, text) = read(&setting.file).or_else(|| read(other))?;
            (file, text.lines().next()?.to_owned())
        }
        How::Or(..) | How::Below | How::Attach(_) => return None,
    };
    let value = match text.trim_end() {
        // Nothing at all would not be written.
        "" => "\n".to_owned(),
        value if value.contains('\n') => return None,
        value => value.to_owned(),
    };
    // Nothing of the configuration orders it.
    Some(Setting { file, value: value.into(), at: Cow::default(), how: How::Write })
}

/// Writes what can be written of `settings`; twice, as some bound each other.
pub(super) fn put_back(cgroup: &Cgroup, settings: &[Setting]) {
    let mut writer = Writer { cgroup, open: None };
    for setting in settings.iter().chain(settings) {
        // The failure that led here is the one to tell.
        let _ = writer.write(setting);
    }
}

/// Refuses limits that are not above the usage, where that is asked for.
pub(super) fn check(cgroup: &Cgroup, settings: &[Setting]) -> Result<()> {
    let mut checks = settings.iter().filter(|setting| setting.how == How::Below);
    checks.try_for_each(|setting| match cgroup.controller(setting.controller()) {
        Some(place) => check_usage(setting, &place.dir),
        None => Ok(()),
    })
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
            How::Or(file, value) => {
                match self.write_file(&setting.file, &setting.value, &place.dir) {
                    Err(Errno::ENOENT) => {
                        let value = value.clone().map_or(setting.value.clone(), Cow::Owned);
                        let other = Setting { file: file.clone(), value, ..setting.clone() };
                        let done = self.write_file(file, &other.value, &place.dir);
                        return done.map_err(|errno| explain(&other, &place.dir, errno));
                    }
                    done => done,
                }
            }
            How::Write | How::IfThere => self.write_file(&setting.file, &setting.value, &place.dir),
        };
        match done {
            Err(Errno::ENOENT) if setting.how == How::IfThere && dir::is_there(&place.dir) => {
                Ok(())
            }
            done => done.map_err(|errno| explain(setting, &place.dir, errno)),
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
                let read = |file| dir::read(&format!("{parent}/{file}")).unwrap_or_default();
                let why = match read("cgroup.threads").is_empty() {
                    false => ": it has processes of its own",
                    true if read("cgroup.type").contains("threaded") => ": it is threaded",
                    true => "",
                };
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

/// What is known about the kernel's refusals: the beginning of the file's name, the errno, a cure.
const HINTS: [(&str, Errno, &str); 31] = [
    ("", Errno::EROFS, "the cgroup file system is mounted read-only"),
    ("memory.limit_in_bytes", Errno::EINVAL, ABOVE_BOTH),
    ("memory.memsw.limit_in_bytes", Errno::EINVAL, BELOW_MEMORY),
    ("memory.memsw.limit_in_bytes", Errno::ENOENT, NO_SWAP),
    ("memory.swap.max", Errno::ENOENT, NO_SWAP),
    ("blkio.leaf_weight", Errno::ENOENT, "kernels since 5.0 have no leaf weights"),
    ("blkio.weight", Errno::ENOENT, NO_BFQ),
    ("blkio.bfq.weight", Errno::ENOENT, NO_BFQ),
    ("io.weight", Errno::ENOENT, NO_BFQ),
    ("blkio.bfq.weight", Errno::EOPNOTSUPP, OTHER_SCHEDULER),
    ("io.bfq.weight", Errno::EOPNOTSUPP, OTHER_SCHEDULER),
    ("blkio.weight", Errno::EINVAL, WEIGHT),
    ("blkio.weight", Errno::ERANGE, WEIGHT),
    ("blkio.bfq.weight", Errno::ERANGE, WEIGHT),
    ("io.bfq.weight", Errno::ERANGE, WEIGHT),
    ("io.weight", Errno::ERANGE, WEIGHT),
    ("blkio.", Errno::ENODEV, NO_DEVICE),
    ("io.", Errno::ENODEV, NO_DEVICE),
    ("cpu.rt_", Errno::ENOENT, "real-time limits need a kernel with CONFIG_RT_GROUP_SCHED"),
    ("cpu.rt_runtime_us", Errno::EINVAL, "the cgroup above has to have at least as much real-time"),
    ("cpu.weight", Errno::EINVAL, IDLE),
    ("cpu.shares", Errno::EINVAL, IDLE),
    ("cpu.cfs_burst_us", Errno::EINVAL, BURST),
    ("cpu.max.burst", Errno::EINVAL, BURST),
    ("cpu.cfs_quota_us", Errno::EINVAL, QUOTA),
    ("cpu.cfs_period_us", Errno::EINVAL, QUOTA),
    ("cpu.max", Errno::EINVAL, QUOTA),
    ("cpuset.", Errno::ENOSPC, EMPTY),
    ("pids.max", Errno::EINVAL, "at most 4194304 processes, or -1 for no limit"),
    (
        "devices.allow",
        Errno::EPERM,
        "a cgroup above denies these devices, or CAP_SYS_ADMIN is missing",
    ),
    ("", Errno::ENOENT, "this kernel lacks the file: the limit is not supported"),
];
const ABOVE_BOTH: &str = "a memory limit cannot be above the limit of memory+swap (memory.swap)";
const BELOW_MEMORY: &str = "memory.swap is memory+swap: it cannot be below memory.limit";
const NO_SWAP: &str = "swap accounting is off: boot with swapaccount=1";
const NO_BFQ: &str = "weights need BFQ (CONFIG_BFQ_GROUP_IOSCHED) or, on cgroup v2, io.cost";
const OTHER_SCHEDULER: &str = "the device has to have bfq in /sys/block/NAME/queue/scheduler";
const WEIGHT: &str = "a weight is a number from 10 to 1000 (from 1 with BFQ)";
const NO_DEVICE: &str = "there is no block device with these numbers";
const IDLE: &str = "a container with cpu.idle has no weight: set cpu.idle to 0 first";
const BURST: &str = "a burst cannot be above the quota";
const EMPTY: &str =
    "while processes are inside this kernel takes no empty set: name all of the cgroup above";
const QUOTA: &str = "a period is from 1000 to 1000000 microseconds, a quota 1000 or more, no less than \
                     the burst, and no larger a share of its period than that of the cgroup above";

fn hint(setting: &Setting, dir: &str, errno: Errno) -> Option<Cow<'static, str>> {
    let file = setting.file.as_ref();
    let is_set = matches!(file, "cpuset.cpus" | "cpuset.mems");
    if is_set && matches!(errno, Errno::EACCES | Errno::EINVAL | Errno::ERANGE | Errno::ENODEV) {
        let parent = dir::parent(dir).unwrap_or(dir);
        // On v2 the file itself is empty where the cgroup above has all that the one above it has.
        let text = dir::read(&format!("{parent}/{file}.effective"));
        let text = text.or_else(|_| dir::read(&format!("{parent}/{file}"))).unwrap_or_default();
        return Some(format!("the cgroup above has {}", text.trim()).into());
    }
    let known = HINTS.iter().find(|(name, of, _)| *of == errno && file.starts_with(name));
    known.map(|(_, _, hint)| Cow::Borrowed(*hint))
}
