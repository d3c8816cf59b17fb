//! What an update has to know of the limits that are set. On v2 one file holds what the
//! specification has two members for, so the one that is not named is read first.

use std::borrow::Cow;

use super::{Cgroup, Place, dir};
use crate::spec::config::{Cpu, Memory, Resources};

impl Cgroup {
    /// `resources` with the members that an update leaves out but the kernel wants with the others,
    /// as they are set now. On v1 nothing is lacking.
    pub fn complete<'a>(&self, resources: &'a Resources) -> Cow<'a, Resources> {
        let Some(place) = self.v2() else { return Cow::Borrowed(resources) };
        let cpu = resources.cpu.as_ref().and_then(|cpu| quota(place, cpu));
        let memory = resources.memory.as_ref().and_then(|memory| complete_memory(place, memory));
        if cpu.is_none() && memory.is_none() {
            return Cow::Borrowed(resources);
        }
        let mut resources = resources.clone();
        if let (Some(quota), Some(cpu)) = (cpu, &mut resources.cpu) {
            cpu.quota = Some(quota);
        }
        resources.memory = memory.or(resources.memory);
        Cow::Owned(resources)
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

/// The limit of memory or of memory+swap, where the other is set alone. One that is lifted stays so.
fn complete_memory(place: &Place, memory: &Memory) -> Option<Memory> {
    let is_set = |limit: Option<i64>| limit.is_some_and(|limit| limit != 0);
    let read = |name| {
        let number = dir::read_number(&format!("{}/{name}", place.dir)).ok()?;
        Some(i64::try_from(number).unwrap_or(-1))
    };
    let mut memory = memory.clone();
    match (is_set(memory.limit), is_set(memory.swap)) {
        (false, true) => memory.limit = Some(read("memory.max")?),
        (true, false) if memory.limit != Some(-1) => {
            let (limit, swap) = (read("memory.max")?, read("memory.swap.max")?);
            // Without both there is no limit of memory+swap that could be kept.
            let both = (limit >= 0 && swap >= 0).then(|| limit.saturating_add(swap));
            memory.swap = Some(both?);
        }
        _ => return None,
    }
    Some(memory)
}
