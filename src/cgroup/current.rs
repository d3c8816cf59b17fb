//! What an update has to know of the limits that are set: where two members of the specification share
//! a file, or bound each other, the one that is not named is read first.

use super::{Cgroup, Place, dir};
use crate::spec::config::{Cpu, Memory, Resources};

impl Cgroup {
    /// Adds to `resources` what an update leaves out but the kernel, or systemd, wants with the others,
    /// as it is set now.
    pub fn complete(&self, resources: &mut Resources) {
        if let Some(cpu) = &mut resources.cpu {
            self.complete_bandwidth(cpu);
        }
        let Some(place) = self.v2() else { return };
        self.complete_max(resources);
        complete_shares(place, resources);
        if let Some(memory) = &mut resources.memory {
            complete_memory(place, memory);
        }
    }

    /// The period, where a quota is set alone, and the other way round: systemd knows their quotient.
    fn complete_bandwidth(&self, cpu: &mut Cpu) {
        let alone = is_set(cpu.quota);
        if alone == is_set(cpu.period) {
            return;
        }
        match self.bandwidth() {
            Some((_, period)) if alone => cpu.period = Some(period),
            Some((quota, _)) => cpu.quota = Some(quota),
            None => {}
        }
    }

    /// The same where the quota comes by the name of its file.
    fn complete_max(&self, resources: &mut Resources) {
        let Some(max) = resources.unified.as_mut().and_then(|files| files.get_mut("cpu.max"))
        else {
            return;
        };
        let period =
            resources.cpu.as_ref().and_then(|cpu| cpu.period).filter(|period| *period != 0);
        let period = period.or_else(|| Some(self.bandwidth()?.1));
        if let Some(period) = period.filter(|_| max.split_whitespace().count() == 1) {
            *max = format!("{} {period}", max.trim());
        }
    }

    /// Quota and period of the processor; a quota of -1 is none.
    fn bandwidth(&self) -> Option<(i64, u64)> {
        let dir = &self.controller("cpu")?.dir;
        let read = |file| dir::read_record(&format!("{dir}/{file}")).ok();
        let text = match self.is_v2() {
            true => read("cpu.max")?,
            false => read("cpu.cfs_quota_us")? + &read("cpu.cfs_period_us")?,
        };
        let mut words = text.split_whitespace();
        Some((words.next()?.parse().unwrap_or(-1), words.next()?.parse().ok()?))
    }
}

fn is_set<T: Default + PartialEq>(limit: Option<T>) -> bool {
    limit.is_some_and(|limit| limit != T::default())
}

/// The shares that the kernel gives to what is no longer idle, which systemd has to know of.
fn complete_shares(place: &Place, resources: &mut Resources) {
    const DEFAULT: u64 = 1024;
    let cpu = resources.cpu.as_ref();
    let unified = |file| resources.unified.as_ref().and_then(|files| files.get(file));
    let asked = cpu.is_some_and(|cpu| cpu.idle == Some(0))
        || unified("cpu.idle").is_some_and(|text| text.trim() == "0");
    let is_weighed = cpu.is_some_and(|cpu| is_set(cpu.shares))
        || unified("cpu.weight").or(unified("cpu.weight.nice")).is_some();
    let is_idle = || dir::read_number(&format!("{}/cpu.idle", place.dir)) == Ok(1);
    if asked && !is_weighed && is_idle() {
        resources.cpu.get_or_insert_default().shares = Some(DEFAULT);
    }
}

/// The limit of memory, where that of memory+swap is set alone. The other way round that of both stays,
/// as in runc, but for swap that has no limit, or that there is none of: without one of memory it was
/// that of swap.
fn complete_memory(place: &Place, memory: &mut Memory) {
    let number = |file| dir::read_number(&format!("{}/{file}", place.dir)).ok();
    let limit = |file| number(file).and_then(|number| i64::try_from(number).ok());
    match (memory.limit.unwrap_or(0), is_set(memory.swap)) {
        (0, true) => {
            let max = number("memory.max");
            memory.limit = max.map(|number| i64::try_from(number).unwrap_or(-1));
        }
        (1.., false) => {
            let swap = limit("memory.swap.max").filter(|swap| *swap > 0);
            let unlimited = |max| i64::try_from(max).unwrap_or(0);
            let both = number("memory.max").map(unlimited).zip(swap);
            memory.swap = both.map(|(memory, swap)| memory.saturating_add(swap));
        }
        _ => {}
    }
}
