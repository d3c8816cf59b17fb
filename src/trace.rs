//! When each step began and ended, for `--trace`, in Chrome's trace event format.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::error::{Doing, Result};
use crate::log;
use crate::plan::Plan;
use crate::step::Entry;
use crate::sys::shared::Words;

/// The times of the steps of one side: for each its begin and end, in nanoseconds since boot.
/// Without `--trace` nothing is recorded.
#[derive(Debug, Default)]
pub struct Trace(Option<Words>);

impl Trace {
    /// A trace for `steps` steps, in memory that the child shares.
    fn new(steps: usize) -> Result<Self> {
        let words = Words::new(steps * 2).doing(|| "make memory for the trace")?;
        Ok(Trace(Some(words)))
    }

    /// Runs step `index` and notes its times.
    pub fn step<T>(&self, index: usize, run: impl FnOnce() -> T) -> T {
        let Some(words) = &self.0 else { return run() };
        words.set(index * 2, now());
        let result = run();
        words.set(index * 2 + 1, now());
        result
    }

    fn events<S: Display>(&self, name: &str, thread: u32, steps: &[Entry<S>]) -> Vec<String> {
        let Some(words) = &self.0 else { return Vec::new() };
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let event = |(index, entry): (usize, &Entry<S>)| {
            let begin = words.get(index * 2);
            // The last step, execve(2), does not come back: it ends when the trace is written.
            let end = Some(words.get(index * 2 + 1)).filter(|end| *end != 0).unwrap_or_else(now);
            (begin != 0).then(|| {
                json!({
                    "name": entry.step.to_string(), "cat": name, "ph": "X",
                    "ts": micros(begin), "dur": micros(end.saturating_sub(begin)),
                    "pid": 1, "tid": thread, "args": {"config": entry.at},
                })
            })
        };
        let thread_name = json!({
            "name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": {"name": name},
        });
        let events = steps.iter().enumerate().filter_map(event);
        // One after the other as text: the values of all of them are a third of a megabyte.
        std::iter::once(thread_name).chain(events).map(|event| event.to_string()).collect()
    }
}

/// The traces of both sides.
#[derive(Debug, Default)]
pub struct Traces {
    /// The runtime's.
    pub parent: Trace,
    /// The child's, shared with it.
    pub child: Trace,
    file: Option<(PathBuf, File)>,
}

impl Traces {
    /// Prepares to trace the steps of `plan` if `path` says where to write it.
    ///
    /// # Errors
    /// The file cannot be made, which is told before there is a container.
    pub fn new(plan: &Plan, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Traces::default()) };
        // One that is there loses its content only once there is something to write.
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.doing(|| writing(path))?;
        Ok(Traces {
            parent: Trace::new(plan.parent.len())?,
            child: Trace::new(plan.child.len())?,
            file: Some((path.to_owned(), file)),
        })
    }

    /// Writes them. What cannot be written is told: the container is there, or has ended.
    pub fn write(&self, plan: &Plan) {
        let Some((path, file)) = &self.file else { return };
        let mut events = self.parent.events("parent", 1, &plan.parent);
        events.extend(self.child.events("child", 2, &plan.child));
        let text = format!("{{\"traceEvents\":[{}],\"displayTimeUnit\":\"ns\"}}", events.join(","));
        // A pipe has no length to be set.
        let _ = file.set_len(0);
        let mut file: &File = file;
        if let Err(err) = file.write_all(text.as_bytes()).doing(|| writing(path)) {
            log::warn(&err.message());
        }
    }
}

fn writing(path: &Path) -> String {
    format!("write the trace to {}", path.display())
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}
