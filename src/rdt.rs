//! Intel RDT: shares of cache and memory bandwidth by groups of `resctrl` (config-linux.md,
//! "IntelRdt"; the kernel's Documentation/filesystems/resctrl.rst).
//!
//! ```text
//! /sys/fs/resctrl/           the default group; schemata, tasks, info/
//! └── CLASS/                 closID, or the container's id: then made here and removed by delete
//!     ├── schemata           `L3:0=7f0;1=1f`, `MB:0=20;1=70`
//!     ├── tasks
//!     └── mon_groups/ID/     with enableMonitoring
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::spec::config::IntelRdt;

const AT: &str = "linux.intelRdt";
/// What the kernel itself puts into a group.
const RESERVED: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// The group of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdt {
    group: PathBuf,
    monitor: Option<PathBuf>,
    /// Whether the group is removed with the container.
    own: bool,
    /// Whether the group is still to be made.
    #[serde(skip)]
    absent: bool,
    /// What is written to `schemata`, in this order, and where in the configuration it stands.
    #[serde(skip)]
    lines: Vec<(String, String)>,
}

/// Where resctrl is mounted, if it is.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn mounted() -> Result<Option<PathBuf>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = fs::read_to_string(TABLE).doing(|| format!("read {TABLE}"))?;
    Ok(find_mount(&table))
}

/// proc_pid_mountinfo(5): the fifth field is the mount point, the type follows a lone dash.
fn find_mount(table: &str) -> Option<PathBuf> {
    let line = table.lines().find(|line| {
        line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("resctrl "))
    })?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// What is said where there is no resctrl.
pub fn unavailable() -> Error {
    Error::new("intelRdt is specified in config, but Intel RDT is not supported or enabled")
        .at(AT)
        .hint("mount -t resctrl resctrl /sys/fs/resctrl, if the processor has it")
}

impl Rdt {
    /// Plans the group of container `id` in the resctrl mounted at `root`.
    ///
    /// # Errors
    /// The processor lacks what is asked for, or a group of the name has other shares.
    pub fn plan(config: &IntelRdt, id: &str, root: &Path) -> Result<Rdt> {
        let class = config.clos_id.as_deref().filter(|class| !class.is_empty());
        let name = class.unwrap_or(id);
        if RESERVED.contains(&name) {
            return Err(Error::new(format!("invalid intelRdt.ClosID {name:?}"))
                .at(format!("{AT}.closID"))
                .hint("resctrl has a directory of this name itself"));
        }
        let group = if name == "/" { root.to_path_buf() } else { root.join(name) };
        let lines = lines(config);
        supported(config, root)?;
        let absent = !group.exists();
        if absent && class.is_some() && lines.is_empty() {
            return Err(Error::new(
                "clos dir not accessible (must be pre created when l3CacheSchema and memBwSchema \
                 are empty)",
            )
            .at(format!("{AT}.closID"))
            .hint(format!("{} does not exist", group.display())));
        }
        if !absent && class.is_some() {
            let schemata = read(&group.join("schemata"))?;
            // `schemata` is written to a group that exists; the older members are compared.
            lines.iter().filter(|(_, at)| !at.contains('[')).try_for_each(|(line, at)| {
                matches(&schemata, line)
                    .ok_or_else(|| mismatch(&group, line, &schemata).at(at.as_str()))
            })?;
        }
        let monitor = config.enable_monitoring.then(|| group.join("mon_groups").join(id));
        Ok(Rdt { group, monitor, own: absent && class.is_none(), absent, lines })
    }

    /// Makes the group with its shares, and moves a process into it; nothing is left on failure.
    ///
    /// # Errors
    /// No class is left, or the kernel refuses a share.
    pub fn make(&self, pid: i32) -> Result<()> {
        self.fill(pid).inspect_err(|_| {
            // The failure itself is told.
            let _ = self.remove();
        })
    }

    fn fill(&self, pid: i32) -> Result<()> {
        if self.absent {
            mkdir(&self.group)?;
        }
        self.lines.iter().try_for_each(|(line, at)| {
            self.write("schemata", line).map_err(|err| err.at(at.as_str()))
        })?;
        if let Some(monitor) = &self.monitor {
            mkdir(monitor).map_err(|err| err.at(format!("{AT}.enableMonitoring")))?;
        }
        self.join(pid)
    }

    /// Moves a process, and what it will fork, into the group.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn join(&self, pid: i32) -> Result<()> {
        let dirs = std::iter::once(&self.group).chain(&self.monitor);
        for dir in dirs {
            write(&dir.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes what was made for this container; the kernel moves processes to the default group.
    ///
    /// # Errors
    /// Something cannot be removed; what is absent is fine.
    pub fn remove(&self) -> Result<()> {
        let group = Some(&self.group).filter(|_| self.own);
        for dir in self.monitor.iter().chain(group) {
            match fs::remove_dir(dir) {
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                removed => removed.doing(|| format!("remove {}", dir.display()))?,
            }
        }
        Ok(())
    }

    /// Gives the group other shares.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn change(&self, config: &IntelRdt) -> Result<()> {
        lines(config).iter().try_for_each(|(line, _)| self.write("schemata", line))
    }

    /// The group's directory.
    pub fn group(&self) -> &Path {
        &self.group
    }

    /// The shares of the group, by the names that `events` prints.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn shares(&self) -> Result<BTreeMap<&'static str, String>> {
        let schemata = read(&self.group.join("schemata"))?;
        let kinds = [("l3_cache_schema", "L3"), ("mem_bw_schema", "MB")];
        let line = |kind: &str| {
            let lines = schemata.lines().map(str::trim);
            lines.filter(|line| line.starts_with(kind)).map(str::to_owned).next()
        };
        Ok(kinds.iter().filter_map(|(name, kind)| Some((*name, line(kind)?))).collect())
    }

    fn write(&self, file: &str, line: &str) -> Result<()> {
        write(&self.group.join(file), &format!("{line}\n"))
            .map_err(|err| self.with_kernels_words(err))
    }

    /// The kernel says what it disliked in a file at the root.
    fn with_kernels_words(&self, err: Error) -> Error {
        let files = self.group.ancestors().take(2).map(|dir| dir.join("info/last_cmd_status"));
        let text = files.filter_map(|file| fs::read_to_string(file).ok()).next();
        match text.as_deref().map(str::trim_end) {
            None | Some("" | "ok") => err,
            Some(text) => err.kernel(text),
        }
    }
}

/// What is written to `schemata`: the cache's shares, the bandwidth's, then the general list. Lines
/// for the bandwidth in the cache's member are ignored, as in runc.
fn lines(config: &IntelRdt) -> Vec<(String, String)> {
    let l3 = config.l3_cache_schema.iter().flat_map(|text| text.lines());
    let l3 = l3.filter(|line| !line.starts_with("MB:"));
    let l3 = l3.map(|line| (line.to_owned(), format!("{AT}.l3CacheSchema")));
    let mb = config.mem_bw_schema.iter();
    let mb = mb.map(|line| (line.clone(), format!("{AT}.memBwSchema")));
    let rest = config.schemata.iter().enumerate();
    let rest = rest.map(|(i, line)| (line.clone(), format!("{AT}.schemata[{i}]")));
    l3.chain(mb).chain(rest).filter(|(line, _)| !line.is_empty()).collect()
}

/// Refuses what this processor, or the way resctrl is mounted, does not have.
///
/// # Errors
/// What is asked for and missing, with its JSON path.
pub fn supported(config: &IntelRdt, root: &Path) -> Result<()> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let info = |name: &str| root.join("info").join(name).exists();
    let refuse = |member: &str, what: &str| {
        let words = format!(
            "intelRdt.{member} is specified in config, but Intel RDT/{what} is not enabled"
        );
        Err(Error::new(words).at(format!("{AT}.{member}")))
    };
    if given(&config.l3_cache_schema) && !info("L3") && !info("L3CODE") {
        return refuse("l3CacheSchema", "CAT");
    }
    if given(&config.mem_bw_schema) && !info("MB") {
        return refuse("memBwSchema", "MBA");
    }
    if config.enable_monitoring && !info("L3_MON") {
        return refuse("enableMonitoring", "CMT");
    }
    Ok(())
}

/// Whether `line` says nothing else than `schemata`, number by number; a mask may have zeros first.
fn matches(schemata: &str, line: &str) -> Option<()> {
    let (kind, wanted) = line.split_once(':')?;
    let found = schemata.lines().filter_map(|found| found.trim().split_once(':'));
    let found = found.filter(|(name, _)| *name == kind.trim()).map(|(_, pairs)| pairs).next()?;
    let has = |pair: &str| found.split(';').any(|other| pair_of(other) == pair_of(pair));
    wanted.split(';').all(has).then_some(())
}

fn pair_of(pair: &str) -> Option<(&str, &str)> {
    let (domain, share) = pair.split_once('=')?;
    Some((domain.trim(), share.trim().trim_start_matches('0')))
}

fn mismatch(group: &Path, line: &str, schemata: &str) -> Error {
    let has: Vec<&str> = schemata.lines().map(str::trim).collect();
    Error::new(format!("{line:?} does not match the schemata of {}", group.display()))
        .hint(format!("the group has {}", has.join(" ")))
}

fn mkdir(dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(|err| {
        let full = err.raw_os_error() == Some(libc::ENOSPC);
        let err = Error::io(format!("make the resctrl group {}", dir.display()), &err);
        if full { err.hint("the processor has no class or monitor left") } else { err }
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .doing(|| format!("write {:?} to {}", text.trim_end(), file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).doing(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests;
