//! `tare ps`.

use std::ffi::OsString;
use std::process::Command;

use crate::cli::{Global, Output, Ps};
use crate::error::{Doing, Error, Result};
use crate::state::Root;
use crate::sys::spawn::output;

/// Shows the processes of a container: their ids as JSON, or the lines of ps(1).
///
/// # Errors
/// The container is missing, or ps(1) is, fails, or prints no column `PID`.
pub fn run(global: &Global, options: &Ps) -> Result<i32> {
    let container = Root::open(global.root.as_deref())?.container(&options.id)?;
    let pids = match container.load()?.cgroup {
        Some(cgroup) => cgroup.pids(true)?,
        None => {
            return Err(Error::new(format!("container {} has no cgroup", options.id))
                .hint("its processes are known by the cgroup only"));
        }
    };
    match options.format {
        Output::Json => super::print(&format!("{}\n", serde_json::json!(pids))),
        Output::Table => super::print(&filter(&ps(&options.args)?, &pids)?),
    }
}

/// What ps(1) prints, with `-ef` if nothing else is asked.
fn ps(args: &[OsString]) -> Result<String> {
    let mut command = Command::new("ps");
    if args.is_empty() {
        command.arg("-ef");
    }
    let output = output(command.args(args)).doing(|| "run ps")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("ps: {}: {}", output.status, text.trim_end())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The title line, and the lines whose column `PID` is among `pids`.
fn filter(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let lines = std::iter::once(title).chain(lines.filter(ours));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column() {
        let text = "UID   PID PPID CMD\nroot    7    1 a\nroot    1    7 b\n";
        assert_eq!(filter(text, &[7]).unwrap(), "UID   PID PPID CMD\nroot    7    1 a\n");
        assert_eq!(filter(text, &[]).unwrap(), "UID   PID PPID CMD\n");
        let err = filter("UID CMD\n", &[7]).unwrap_err();
        assert_eq!(err.message(), "couldn't find PID field in ps output");
    }
}
