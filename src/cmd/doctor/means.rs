//! What a bundle needs of the host beside its own files: file systems, CPUs, memory nodes, network devices,
//! an agent's socket, ids.

use std::fs::read_to_string;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::time::{ClockId, clock_gettime};

use super::bundle::Found;
use super::facts::{has, read};
use crate::cgroup::Setting;
use crate::mounts::{Kind, Mount};
use crate::netdev::Move;
use crate::path::file_type;
use crate::plan::Plan;
use crate::scheduling::{MemoryPolicy, Scheduling};
use crate::seccomp::Listener;
use crate::security::Credentials;
use crate::spec::config::{IdMapping, TimeOffset};
use crate::spec::list;
use crate::spec::position::member;
use crate::step::{ChildStep, Entry, ParentStep};

/// The latest that a clock can be set to, in seconds (half of the kernel's KTIME_SEC_MAX).
const LATEST: i64 = i64::MAX / 1_000_000_000 / 2;

/// The id maps of a new user namespace; none for a container without one.
type Maps<'a> = Option<[&'a [IdMapping]; 2]>;

fn maps(plan: &Plan) -> Maps<'_> {
    plan.parent.iter().find_map(|entry| match &entry.step {
        ParentStep::WriteIdMaps(users, groups) => Some([&**users, &**groups]),
        _ => None,
    })
}

/// Whether the container has this user, or with `is_group` this group.
fn exists(maps: Maps, is_group: bool, id: u32) -> bool {
    let of_kind = |[users, groups]: [_; 2]| if is_group { groups } else { users };
    maps.map(of_kind).is_none_or(|maps: &[IdMapping]| maps.iter().any(|m| m.outside(id).is_some()))
}

impl Found {
    /// What the steps of the plan will not find.
    // Within its caller it would be larger.
    #[inline(never)]
    pub(super) fn means(&mut self, plan: &Plan, bundle: &Path) {
        let maps = maps(plan);
        // They may start one.
        let hooks = plan.child.iter().any(|entry| matches!(entry.step, ChildStep::SyncHooks));
        let mut unified = false;
        for entry in &plan.parent {
            match &entry.step {
                // Only v2 has them to be enabled.
                ParentStep::EnableControllers(_) => unified = true,
                ParentStep::Limits(_, settings) => self.cpusets(settings, unified),
                ParentStep::CheckNetDevice(device) => self.net_device(device),
                ParentStep::UnshareTime(offsets) => self.clocks(offsets),
                ParentStep::SendListener(agent) if !hooks => self.agent(agent, bundle),
                _ => {}
            }
        }
        for entry in &plan.child {
            match &entry.step {
                ChildStep::Mount(mount) => self.file_system(mount, maps, entry),
                ChildStep::UnshareTime(offsets) => self.clocks(offsets),
                ChildStep::Scheduling(Scheduling::Memory(policy)) => self.nodes(policy),
                ChildStep::Credentials(user) => self.ids(user, maps),
                _ => {}
            }
        }
    }

    fn file_system(&mut self, mount: &Mount, maps: Maps, entry: &Entry<ChildStep>) {
        let Kind::FileSystem(name) = &mount.kind else { return };
        let name = name.to_string_lossy();
        if lacks_file_system(&name) {
            self.add(format!("the kernel has no file system {name}"), format!("{}.type", entry.at));
        }
        if let Err(err) = mount.check_values(|is_group, id| exists(maps, is_group, id)) {
            self.stopped(err, entry);
        }
    }

    /// The kernel takes those alone that are there: v1 now, v2 at any time.
    fn cpusets(&mut self, settings: &[Setting], unified: bool) {
        for setting in settings {
            let (what, now, ever) = match &*setting.file {
                "cpuset.cpus" => ("CPUs", "cpu/online", "cpu/possible"),
                "cpuset.mems" => ("memory nodes", "node/has_memory", "node/possible"),
                _ => continue,
            };
            let asked = list::mask(&setting.value, list::HIGHEST_CPU).unwrap_or_default();
            let lacks = |there: &[u64]| goes_beyond(&asked, there);
            self.compare(what, if unified { ever } else { now }, &lacks, &setting.at);
        }
    }

    fn nodes(&mut self, policy: &MemoryPolicy) {
        let lacks = |there: &[u64]| policy.has_none_of(there);
        self.compare("memory nodes", "node/has_memory", &lacks, "linux.memoryPolicy.nodes");
    }

    /// Looks whether the host `lacks` something of this kind; it has those of the list in `file`.
    fn compare(&mut self, what: &str, file: &str, lacks: &dyn Fn(&[u64]) -> bool, at: &str) {
        let list = read(&format!("/sys/devices/system/{file}"));
        let there = list::mask(&list, list::HIGHEST_CPU).unwrap_or_default();
        if !there.is_empty() && lacks(&there) {
            self.add(format!("this host has the {what} {list}"), at.into());
        }
    }

    fn net_device(&mut self, device: &Move) {
        if let Err(err) = device.check_here()
            && matches!(err.errno(), Some(Errno::ENODEV | Errno::EINVAL))
        {
            self.report(err.at(device.at()));
        }
    }

    /// Clocks begin at 0 at the earliest (time_namespaces(7)).
    fn clocks(&mut self, offsets: &[(String, TimeOffset)]) {
        // In a time namespace of its own tare does not see the clocks that count.
        if read("/proc/self/timens_offsets").bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
            return;
        }
        for (clock, by) in offsets {
            let id = match clock.as_str() {
                "monotonic" => ClockId::CLOCK_MONOTONIC,
                _ => ClockId::CLOCK_BOOTTIME,
            };
            let Ok(now) = clock_gettime(id) else { continue };
            let then = by.secs.saturating_add(now.tv_sec());
            // What is below a second may add one.
            if !(-1..=LATEST).contains(&then) {
                let at = member("linux.timeOffsets", clock);
                self.add(format!("the clock would be at {then} seconds"), at);
            }
        }
    }

    fn agent(&mut self, agent: &Listener, bundle: &Path) {
        let path = bundle.join(&agent.path);
        let errno = match stat(&path) {
            // An abstract name has no file.
            _ if agent.path.starts_with('@') => return,
            Ok(stat) if file_type(&stat) == SFlag::S_IFSOCK => return,
            // As connect(2) says it.
            Ok(_) => Errno::ECONNREFUSED,
            Err(errno) => errno,
        };
        self.failed(&path, errno, "linux.seccomp.listenerPath".into());
    }

    /// The payload's, and those of root, which the child is until then.
    fn ids(&mut self, user: &Credentials, maps: Maps) {
        let ids = [
            ("process.user.uid", false, &[user.uid][..]),
            ("process.user.gid", true, &[user.gid]),
            ("process.user.additionalGids", true, &user.groups),
            ("linux.uidMappings", false, &[0]),
            ("linux.gidMappings", true, &[0]),
        ];
        for (at, is_group, ids) in ids {
            if let Some(id) = ids.iter().find(|id| !exists(maps, is_group, **id)) {
                let words = format!("{id} has no mapping in the container's user namespace");
                self.add(words, at.into());
            }
        }
    }
}

fn goes_beyond(asked: &[u64], there: &[u64]) -> bool {
    let there = there.iter().copied().chain(std::iter::repeat(0));
    asked.iter().zip(there).any(|(asked, there)| asked & !there != 0)
}

/// Whether the kernel has no file system `name` and cannot load it; false where that is not to be known.
fn lacks_file_system(name: &str) -> bool {
    // Behind a dot comes what FUSE has in it.
    let name = name.split('.').next().unwrap_or(name);
    let known = read_to_string("/proc/filesystems").unwrap_or_default();
    !known.is_empty() && !has(&known, &format!("\t{name}\n")) && !may_load(name)
}

/// Whether there may be a module for the file system `name`.
fn may_load(name: &str) -> bool {
    let modules = Path::new("/proc/modules").exists();
    if !modules || read("/proc/sys/kernel/modules_disabled") == "1" {
        return false;
    }
    let release = read("/proc/sys/kernel/osrelease");
    let aliases = read(&format!("/lib/modules/{release}/modules.alias"));
    aliases.is_empty() || provides(&aliases, name)
}

/// Whether a module has the alias that the kernel asks for; modprobe(8) takes `-` for `_`.
fn provides(aliases: &str, name: &str) -> bool {
    has(&aliases.replace('-', "_"), &format!("alias fs_{} ", name.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_file_systems() {
        let aliases = "# Aliases\nalias fs-nfs4 nfsv4\nalias fs-x-y xy\nalias net-pf-1 unix\n";
        for name in ["nfs4", "x_y", "x-y"] {
            assert!(provides(aliases, name), "{name}");
        }
        for name in ["nfs", "nfsv4", "unix", "fs4", ""] {
            assert!(!provides(aliases, name), "{name}");
        }
    }

    #[test]
    fn a_mask_beyond_another() {
        assert!(!goes_beyond(&[0b11], &[0b111]));
        assert!(!goes_beyond(&[0b11, 0], &[0b11]));
        assert!(goes_beyond(&[0b100], &[0b11]));
        assert!(goes_beyond(&[0, 1], &[u64::MAX]));
    }
}
