//! `tare events`.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cgroup::oom::{OomWatch, Seen};
use crate::cgroup::{Cgroup, Stats};
use crate::cli::{Events, Global};
use crate::error::{Error, Result};
use crate::state::{Root, State, Status};

/// A line of output: the shape is runc's.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints the usage of a container once, or at intervals until it is deleted (v1) or has ended (v2), or
/// nobody reads on; then also each time that it runs out of memory.
///
/// # Errors
/// The container is missing, not running or without cgroup, or its figures cannot be read.
pub fn run(global: &Global, options: &Events) -> Result<i32> {
    let container = Root::open(global.root.as_deref())?.container(&options.id)?;
    let state = container.load()?;
    if matches!(container.status(&state)?, Status::Stopped | Status::Creating) {
        return Err(Error::new(format!("container with id {} is not running", options.id)));
    }
    let cgroup = state.cgroup.as_ref().ok_or_else(|| {
        Error::new(format!("container {} has no cgroup: its usage is not known", options.id))
    })?;
    match options.stats {
        true => stats(&state, cgroup)
            .map(drop)
            .map_err(|err| super::or_ended(&container, &state, err))?,
        false => watch(&state, cgroup, options.interval)?,
    }
    Ok(0)
}

fn watch(state: &State, cgroup: &Cgroup, interval: Duration) -> Result<()> {
    let watch = OomWatch::new(cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let seen = watch.wait(next.saturating_duration_since(Instant::now()))?;
        let mut is_read = match seen {
            Seen::End => return Ok(()),
            Seen::Oom => line(&Event { kind: "oom", id: &state.id, data: None })?,
            Seen::Nothing => true,
        };
        if Instant::now() >= next {
            next += interval;
            is_read &= match stats(state, cgroup) {
                // Deleted between look and read.
                Err(_) if !cgroup.exists() => return Ok(()),
                printed => printed?,
            };
        }
        if !is_read {
            return Ok(());
        }
    }
}

/// Whether somebody reads them.
fn stats(state: &State, cgroup: &Cgroup) -> Result<bool> {
    let mut data = cgroup.stats()?;
    if let Some(rdt) = &state.rdt {
        data.intel_rdt = rdt.shares()?;
    }
    line(&Event { kind: "stats", id: &state.id, data: Some(data) })
}

fn line(event: &Event) -> Result<bool> {
    let json = serde_json::to_string(event)
        .map_err(|err| Error::new(format!("write an event as JSON: {err}")))?;
    super::print_to_reader(&(json + "\n"))
}
