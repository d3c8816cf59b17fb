//! Making a container's directories.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Uid, chown};

use super::properties::for_bfq;
use super::{CANNOT_APPLY, Cgroup, Place, Property, dir, freezer, tree};
use crate::error::{Doing, Error, Result};

/// What a cgroup's new owner gets where the kernel does not tell (config-linux.md, "Cgroup
/// ownership").
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes the directories, parents included. A cgroup that is there already is taken over
    /// unless a process is in it or it is frozen. On failure what was made is removed again.
    pub fn create(&self) -> Result<()> {
        let mut made = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match create_place(place, self.main() == Some(place)) {
                Ok(true) => made.push(place),
                Ok(false) => {}
                Err(err) => {
                    // The first failure is the one to tell.
                    for place in made {
                        let _ = dir::rmdir(&place.dir);
                        remove_parents(place);
                    }
                    return Err(err);
                }
            }
        }
        Ok(())
    }

    /// Enables the host's controllers in all cgroups above this one, which has to be there (v2
    /// alone). Where that fails, because a cgroup has processes of its own or belongs to somebody
    /// else, the setting that needs the controller tells: a container without such settings can do
    /// without.
    pub fn enable_controllers(&self) {
        if let Some(place) = self.v2() {
            enable_controllers(place);
        }
    }

    /// Lets a cgroup of v2 take processes that does not because one above it is threaded; whether
    /// there was something to change.
    pub fn make_threaded(&self) -> bool {
        self.v2().is_some_and(|place| make_threaded(&place.dir))
    }

    /// Has systemd make the cgroups and move process `pid` into them.
    ///
    /// # Errors
    /// systemd refuses. By then there is no unit.
    pub fn start_unit(&self, pid: i32, properties: &[Property]) -> Result<()> {
        self.unit.as_ref().map_or(Ok(()), |unit| unit.start(pid, !self.is_v2(), properties))
    }

    /// What is left to do once process `pid` is in the unit: the cgroups of hierarchies that systemd does
    /// not use are made and entered here, and controllers that it does not know are enabled.
    ///
    /// # Errors
    /// systemd has put the process elsewhere, or refuses the weight for BFQ. The unit has to be removed
    /// then, after the process has ended: systemd gives it a long time to.
    pub fn settle(&self, pid: i32, properties: &[Property]) -> Result<()> {
        self.enter_others(pid)?;
        self.check_place(pid)?;
        self.unit.as_ref().map_or(Ok(()), |unit| unit.set(&self.bfq_weights(properties)))
    }

    /// What of `properties` has to have another value because BFQ is at work here.
    fn bfq_weights(&self, properties: &[Property]) -> Vec<Property> {
        let weights: Vec<_> = properties.iter().filter_map(for_bfq).collect();
        let has_bfq = |place: &Place| dir::is_there(&format!("{}/io.bfq.weight", place.dir));
        if weights.is_empty() || !self.v2().is_some_and(has_bfq) { Vec::new() } else { weights }
    }

    /// Tells systemd of changed limits; without a unit there is nothing to tell.
    ///
    /// # Errors
    /// systemd refuses one of them.
    pub(super) fn tell(&self, properties: &[Property]) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        // Of two values of a property the last one holds.
        unit.set(&[properties, &self.bfq_weights(properties)].concat())
    }

    fn enter_others(&self, pid: i32) -> Result<()> {
        if let Some(place) = self.v2() {
            enable_controllers(place);
            return Ok(());
        }
        self.places.iter().try_for_each(|place| make_place(place).map(drop))?;
        self.attach(pid)
    }

    fn check_place(&self, pid: i32) -> Result<()> {
        let text = dir::read(&format!("/proc/{pid}/cgroup"))?;
        self.places.iter().filter(|place| place.controllers.is_empty()).try_for_each(|place| {
            let inside = place.dir.strip_prefix(&place.mountpoint).unwrap_or_default();
            match text.lines().any(|line| line.starts_with("0::") && line.ends_with(inside)) {
                true => Ok(()),
                false => Err(Error::new(format!(
                    "{CANNOT_APPLY}: systemd has put process {pid} elsewhere than into {inside}: {}",
                    text.trim()
                ))),
            }
        })
    }

    /// Gives the v2 cgroup to `uid`, so that a container with a cgroup namespace can make cgroups of
    /// its own (config-linux.md, "Cgroup ownership").
    pub fn give_to(&self, uid: u32) -> Result<()> {
        let Some(place) = self.v2() else { return Ok(()) };
        let names = dir::read("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| DELEGATED.into());
        for name in std::iter::once("").chain(names.lines()) {
            let path = format!("{}/{name}", place.dir);
            match chown(Path::new(&path), Some(Uid::from_raw(uid)), None) {
                // Not every kernel has every one of these files.
                Err(Errno::ENOENT) if !name.is_empty() => {}
                done => done.doing(|| format!("{CANNOT_APPLY}: chown {path}"))?,
            }
        }
        Ok(())
    }
}

/// How much of the place's directory is there, if it lacks parents.
pub fn missing_parents(place: &Place) -> nix::Result<Option<usize>> {
    let parents = std::iter::successors(dir::parent(&place.dir), |dir| dir::parent(dir))
        .take_while(|parent| parent.len() >= place.mountpoint.len());
    let mut lacks = false;
    for parent in parents {
        if dir::exists(parent)? {
            return Ok(lacks.then_some(parent.len()));
        }
        lacks = true;
    }
    Ok(None)
}

/// Removes the parents that were made for the place. Others may use them by now.
pub fn remove_parents(place: &Place) {
    let Some(there) = place.there else { return };
    let mut parent = dir::parent(&place.dir);
    while let Some(dir) = parent.filter(|dir| dir.len() > there) {
        if dir::rmdir(dir).is_err() {
            return;
        }
        parent = dir::parent(dir);
    }
}

/// Makes one directory, or takes over one in which nothing is going on; whether it is new.
fn create_place(place: &Place, main: bool) -> Result<bool> {
    let new = make_place(place)?;
    if !new {
        check_reusable(place, main)?;
    }
    Ok(new)
}

/// Makes one directory, ready for processes; whether it is new.
fn make_place(place: &Place) -> Result<bool> {
    let new = match dir::make(&place.dir) {
        Ok(new) => new,
        Err(errno) => {
            remove_parents(place);
            let message = format!("{CANNOT_APPLY}: mkdir {}", place.dir);
            return Err(Error::sys(message, errno));
        }
    };
    if place.has("cpuset") {
        let inherited = dir::inherit_cpuset(&place.mountpoint, &place.dir, new);
        if let Err(errno) = inherited {
            if new {
                let _ = dir::rmdir(&place.dir);
                remove_parents(place);
            }
            let message = format!("{CANNOT_APPLY}: give {} its parent's cpus and mems", place.dir);
            return Err(Error::sys(message, errno));
        }
    }
    Ok(new)
}

/// Enables all controllers for the cgroup, even before it is made. It is asked first: for a write that
/// changes nothing, too, the kernel walks all cgroups below (`cgroup_lock_and_drain_offline`).
fn enable_controllers(place: &Place) {
    let Ok(all) = dir::read(&format!("{}/cgroup.controllers", place.mountpoint)) else { return };
    let enabled = |parent| dir::read(&format!("{parent}/cgroup.subtree_control"));
    if dir::parent(&place.dir).is_some_and(|parent| enabled(parent).is_ok_and(|own| own == all)) {
        return;
    }
    let words: Vec<String> = all.split_whitespace().map(|name| format!("+{name}")).collect();
    let mut ends = place.dir.match_indices('/').map(|(end, _)| end);
    while let Some(end) = ends.find(|end| *end >= place.mountpoint.len()) {
        let Some(parent) = place.dir.get(..end) else { return };
        let file = format!("{parent}/cgroup.subtree_control");
        // One that cannot be enabled must not keep the others back. A cgroup with processes of its own
        // takes those of threads, such as pids, and is threaded then, with all below it.
        if dir::write(&file, &words.join(" ")).is_err() {
            make_threaded(parent);
            for word in &words {
                let _ = dir::write(&file, word);
            }
        }
    }
}

/// Makes a cgroup threaded that could not be used otherwise, being below one that is
/// (cgroup-v2.rst, "Threads"); whether it was such.
fn make_threaded(dir: &str) -> bool {
    let file = format!("{dir}/cgroup.type");
    dir::read(&file).is_ok_and(|kind| kind == "domain invalid\n")
        && dir::write(&file, "threaded").is_ok()
}

/// Refuses a cgroup in which something is going on already.
fn check_reusable(place: &Place, main: bool) -> Result<()> {
    // Only the hierarchy that speaks for all is searched for processes, as in runc: engines keep
    // helpers in others, named ones above all.
    let found = if main { count_processes(place)? } else { 0 };
    if found > 0 {
        let message = format!("container's cgroup is not empty: {found} process(es) found");
        return Err(Error::new(message)
            .at("linux.cgroupsPath")
            .hint(format!("another container or service uses {}", place.dir)));
    }
    if freezer::can_freeze(place) && freezer::is_frozen(place)? {
        return Err(Error::new("container's cgroup unexpectedly frozen")
            .at("linux.cgroupsPath")
            .hint(format!("{} was frozen by somebody else: thaw it first", place.dir)));
    }
    Ok(())
}

fn count_processes(place: &Place) -> Result<usize> {
    match tree::pids(&place.dir, true) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(0),
        pids => Ok(pids.doing(|| format!("list processes in {}", place.dir))?.len()),
    }
}
