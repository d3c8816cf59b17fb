//! What an update has to know of the limits that are set. On v2 one file holds what the
//! specification has two members for, so the one that is not named is read first.

use super::{Cgroup, Place, dir};
use crate::spec::config::{Cpu, Memory, Resources};

impl Cgroup {
    /// Adds to `resources` what an update leaves out but the kernel wants with the others, as it is
    /// set now. On v1 nothing is lacking.
    pub fn complete(&self, resources: &mut Resources) {
        let Some(place) = self.v2() else { return };
        if let Some(cpu) = &mut resources.cpu {
            cpu.quota = quota(place, cpu).or(cpu.quota);
            cpu.shares = shares(place, cpu).or(cpu.shares);
        }
        if let Some(memory) = &mut resources.memory {
            complete_memory(place, memory);
        }
    }
}

/// The quota, where a period is set alone; -1 is none.
fn quota(place: &Place, cpu: &Cpu) -> Option<i64> {
    if cpu.period.is_none_or(|period| period == 0) || cpu.quota.is_some_and(|quota| quota != 0) {
        return None;
    }
    let text = dir::read_record(&format!("{}/cpu.max", place.dir)).ok()?;
    Some(text.split_whitespace().next()?.parse().unwrap_or(-1))
}

/// The shares that the kernel gives to what is no longer idle, which systemd has to know of.
fn shares(place: &Place, cpu: &Cpu) -> Option<u64> {
    const DEFAULT: u64 = 1024;
    if cpu.idle != Some(0) || cpu.shares.is_some_and(|shares| shares != 0) {
        return None;
    }
    let idle = dir::read_number(&format!("{}/cpu.idle", place.dir)).ok()?;
    (idle == 1).then_some(DEFAULT)
}

/// The limit of memory, where that of memory+swap is set alone. The other way round nothing is
/// lacking: swap has a limit of its own, which stays (runc, crun).
fn complete_memory(place: &Place, memory: &mut Memory) {
    let is_set = |limit: Option<i64>| limit.is_some_and(|limit| limit != 0);
    if is_set(memory.limit) || !is_set(memory.swap) {
        return;
    }
    let max = dir::read_number(&format!("{}/memory.max", place.dir)).ok();
    memory.limit = max.map(|number| i64::try_from(number).unwrap_or(-1));
}
