//! `tare doctor`: what this host can and cannot do, and what in a bundle will fail for it.
//!
//! Nothing is tried out: everything is read from /proc and /sys, or asked for in a way that the
//! kernel answers without doing anything.

mod bundle;
mod facts;
mod means;
mod rootfs;

use std::fmt;
use std::path::Path;

use crate::cli::Global;
use crate::error::Result;

/// What a fact means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It works.
    Works,
    /// It works in part.
    Partly,
    /// It does not, and only what needs it fails.
    Lacks,
    /// It does not, and no container can be run.
    Fatal,
}

/// One thing that containers need of a host.
#[derive(Debug)]
struct Fact {
    mark: Mark,
    topic: &'static str,
    words: String,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Works => "ok",
            Mark::Partly => "part",
            Mark::Lacks => "no",
            Mark::Fatal => "FAIL",
        };
        writeln!(f, "{mark:4} {:17} {}", self.topic, self.words)
    }
}

/// Prints what the host can do and, for each thing in the bundle that will fail, why.
///
/// The exit code is 0, or 1 if this host cannot run containers, or not those of the bundle.
///
/// # Errors
/// The host cannot be looked at.
pub fn run(global: &Global, bundle: Option<&Path>) -> Result<i32> {
    let facts = facts::all(global)?;
    let mut text: String = facts.iter().map(Fact::to_string).collect();
    let mut fails = facts.iter().any(|fact| fact.mark == Mark::Fatal);
    if let Some(bundle) = bundle {
        let problems = bundle::problems(global, bundle);
        fails |= !problems.is_empty();
        let problems: String = problems.iter().map(|err| format!("FAIL {err}\n")).collect();
        text += &format!("\n{}\n{problems}", bundle.display());
        text += if fails { "" } else { "ok   nothing in it is known to fail here\n" };
    }
    super::print(&text)?;
    Ok(i32::from(fails))
}
