//! `tare update`.

use std::path::Path;

use crate::cgroup::{self, Cgroup, Hierarchies, Setting};
use crate::cli::Global;
use crate::cli::update::Update;
use crate::error::{Error, Result};
use crate::host;
use crate::log;
use crate::rdt::{self, Rdt};
use crate::spec::config::{DeviceRule, IntelRdt, Resources};
use crate::spec::load;
use crate::spec::object::Object;
use crate::state::{Container, Root, State, Status, not_running};

/// Changes the limits of a container. What is not named stays; so do device rules that are those the
/// container has already: engines send them with every update, and what a tool has added to them
/// since, such as a GPU, is to stay.
///
/// # Errors
/// The container is missing or not running, a limit is wrong, or the kernel refuses it.
pub fn run(global: &Global, options: Update) -> Result<i32> {
    let container = Root::open(global.root.as_deref())?.container(&options.id)?;
    container.lock_created("update")?;
    let state = container.load()?;
    if container.status(&state)? == Status::Stopped {
        return Err(not_running().hint("only what runs can be limited"));
    }
    let cgroup = state.cgroup.as_ref().ok_or_else(|| {
        Error::new(format!("container {} has no cgroup: it cannot be limited", options.id))
    })?;
    // First what most hosts lack: a refusal leaves everything as it was.
    let shares = options.rdt.as_ref();
    let shares = shares.map_or(Ok(()), |config| change_shares(&container, &state, config));
    let updated = shares.and_then(|()| match &options.file {
        Some(path) => from_file(path, &container, &state, cgroup),
        None => apply(options.limits, &container, &state, cgroup),
    });
    let failed = |err| super::or_ended(&container, &state, err);
    let context = |err: Error| failed(err).context(format!("cannot update \"{}\"", options.id));
    updated.map(|()| 0).map_err(context)
}

/// Gives the container other shares of cache and memory bandwidth, and a group of resctrl if it has
/// none.
fn change_shares(container: &Container, state: &State, config: &IntelRdt) -> Result<()> {
    let root = rdt::mounted()?.ok_or_else(rdt::unavailable)?;
    if let Some(rdt) = &state.rdt {
        rdt::supported(config, &root)?;
        return rdt.change(config);
    }
    let rdt = Rdt::plan(config, &state.id, &root)?;
    // Before it is made: a delete has to find it.
    container.save(&State { rdt: Some(rdt.clone()), ..state.clone() })?;
    rdt.make(state.pid)
}

fn from_file(path: &Path, container: &Container, state: &State, cgroup: &Cgroup) -> Result<()> {
    let (text, path) = match path == Path::new("-") {
        true => (load::read_stdin()?, Path::new("stdin")),
        false => (load::read(path)?, path),
    };
    let (resources, warnings) = load::parse::<Resources>(&text, path)?;
    log::warn_all(&warnings);
    let mut known = resources.members().iter();
    if !warnings.is_empty() && !known.any(|member| load::holds(&text, member.name)) {
        return Err(Error::new(format!("{} holds no limits", path.display()))
            .hint("an object like linux.resources of config.json is expected"));
    }
    // The paths of errors begin at config.json's root; this file holds the resources alone.
    apply(resources, container, state, cgroup)
        .map_err(|err| load::place_part(&text, path, "linux.resources.", err))
}

/// Writes the limits, and device rules where others than the container's are asked for.
fn apply(
    mut resources: Resources,
    container: &Container,
    state: &State,
    cgroup: &Cgroup,
) -> Result<()> {
    cgroup.complete(&mut resources);
    let host = Hierarchies::probe()?;
    let limits = cgroup::limits(&resources, &host)?;
    cgroup::ignored(&resources).for_each(|(at, why)| log::warn(&format!("{at}: {why}")));
    cgroup.check(&limits)?;
    let mut rules = cgroup::Change::default();
    let mut devices = None;
    if let Some((old, new)) = other_rules(&resources.devices, container, state, &host)? {
        devices = Some(cgroup::device_words(&new));
        rules = (cgroup::properties(&new), cgroup::device_changes(&old, new));
    }
    cgroup.update(&(cgroup::properties(&limits), limits), &rules)?;
    match devices {
        None => Ok(()),
        // As it is by now: its share of caches may be new, too.
        devices => container.save(&State { devices, ..container.load()? }),
    }
}

/// The container's device rules in words and those that are to take their place, unless they are the
/// same. None are asked for by an empty list, and none were set by a caller who may not.
fn other_rules(
    rules: &[DeviceRule],
    container: &Container,
    state: &State,
    host: &Hierarchies,
) -> Result<Option<(String, Vec<Setting>)>> {
    if rules.is_empty() || host::is_unprivileged() {
        return Ok(None);
    }
    let new = cgroup::device_settings(rules, host)?;
    let old = match &state.devices {
        Some(words) => words.clone(),
        None => {
            let resources = super::saved_spec(container)?.linux.and_then(|linux| linux.resources);
            let rules = resources.unwrap_or_default().devices;
            cgroup::device_words(&cgroup::device_settings(&rules, host)?)
        }
    };
    Ok((old != cgroup::device_words(&new)).then_some((old, new)))
}
