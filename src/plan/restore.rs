//! The steps of a container that is made from a checkpoint: those of a new one, with criu in the
//! place of the child that becomes the container.

use std::path::{Path, PathBuf};

use super::{Options, Plan, container};
use crate::criu::{External, Restore, namespace_key};
use crate::error::{Error, Result};
use crate::hooks::{Hook, Point};
use crate::host::Host;
use crate::mounts::Kind;
use crate::namespaces::{NEWNET, NEWNS, Namespaces};
use crate::netdev::Move;
use crate::path::as_path;
use crate::spec::config::Spec;
use crate::step::{ChildStep, Entry, ParentStep};

/// Plans a container that `criu` makes from the images that `restore` names; the rest of it is
/// filled in here. `restore.root` is a directory that is to be made.
///
/// # Errors
/// As for a new container; what criu cannot restore.
pub fn restore(
    spec: &Spec,
    host: &Host,
    options: &Options,
    mut restore: Restore,
    criu: PathBuf,
) -> Result<Plan> {
    let new = container(spec, host, options)?;
    let namespaces = spec.linux.as_ref().map_or(&[][..], |linux| &linux.namespaces);
    let namespaces = Namespaces::plan(namespaces)?;
    restore.loopback = namespaces.new & NEWNET != 0;
    restore.joins = namespaces.joins;
    restore.annotations = spec.annotations.clone();
    restore.read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
    restore.devices = spec.linux.as_ref().map_or(Ok(Vec::new()), Move::plan)?;
    restore.mounts = external(&new)?;
    restore.hooks = [Point::Prestart, Point::CreateRuntime]
        .iter()
        .flat_map(|point| spec.hooks.iter().flat_map(|hooks| Hook::plan(*point, hooks)))
        .collect();
    restore.check()?;
    // Its warnings were given when the container was created.
    let Plan { parent, child, rootfs, cgroup, rdt, shared_pid_namespace, .. } = new;
    let mut plan =
        Plan { rootfs, cgroup, rdt, shared_pid_namespace, restored: true, ..Plan::default() };
    child_steps(&mut plan, child, &restore, criu);
    parent_steps(&mut plan, parent, restore, options);
    Ok(plan)
}

/// The child is in a mount namespace of its own, so that nothing has to be unmounted whatever
/// happens. All mounts are made there once: criu finds the directories and files for them then.
fn child_steps(plan: &mut Plan, new: Vec<Entry<ChildStep>>, restore: &Restore, criu: PathBuf) {
    let rootfs = plan.rootfs.clone();
    plan.child(ChildStep::IsolateMounts(true), "");
    plan.child(ChildStep::RootForCriu(rootfs.clone(), restore.root.clone()), "root.path");
    let mounts = new
        .into_iter()
        .filter(|entry| matches!(entry.step, ChildStep::EnterRootfs(_) | ChildStep::Mount(_)));
    plan.child.extend(mounts);
    plan.child(ChildStep::LeaveRootfs(rootfs), "");
    plan.child(ChildStep::BecomeCriu(criu, restore.settings.folders()), "");
}

fn parent_steps(plan: &mut Plan, new: Vec<Entry<ParentStep>>, restore: Restore, options: &Options) {
    let (cgroup, before): (Vec<_>, Vec<_>) = new
        .into_iter()
        .filter(|entry| stays(&entry.step))
        .partition(|entry| is_cgroup(&entry.step));
    plan.parent.extend(before);
    for join in restore.joins.iter().filter(|join| namespace_key(join).is_some()) {
        plan.parent(ParentStep::OpenNamespace(join.clone()), join.at.clone());
    }
    plan.parent(ParentStep::ConnectCriu, "");
    plan.parent(ParentStep::Clone(NEWNS, None), "");
    plan.parent(ParentStep::AwaitCriu, "");
    plan.parent.extend(cgroup);
    if let Some(cgroup) = &plan.cgroup {
        plan.parent(ParentStep::AttachCriu(cgroup.clone()), "linux.cgroupsPath");
    }
    plan.parent(ParentStep::Restore(restore), "");
    if let Some(path) = &options.pid_file {
        plan.parent(ParentStep::PidFile(path.clone()), "");
    }
    plan.parent(ParentStep::SaveState, "");
}

/// Whether a step is about the cgroups or the group of resctrl, which criu joins.
fn is_cgroup(step: &ParentStep) -> bool {
    matches!(
        step,
        ParentStep::MakeCgroup(_)
            | ParentStep::GiveCgroup(..)
            | ParentStep::StartUnit(..)
            | ParentStep::EnableControllers(_)
            | ParentStep::Limits(..)
            | ParentStep::MakeRdt(_)
    )
}

/// Whether a step of a new container is one of a restored one too: what has to do with the child
/// that becomes the container is criu's matter.
fn stays(step: &ParentStep) -> bool {
    match step {
        ParentStep::MakeState | ParentStep::ConnectConsole(_) => true,
        step if is_cgroup(step) => true,
        ParentStep::MakeCgroup(_)
        | ParentStep::GiveCgroup(..)
        | ParentStep::StartUnit(..)
        | ParentStep::EnableControllers(_)
        | ParentStep::Limits(..)
        | ParentStep::JoinUnit(_)
        | ParentStep::OpenNamespace(_)
        | ParentStep::EnterForChild(_)
        | ParentStep::CheckIdMaps(..)
        | ParentStep::MakePipes
        | ParentStep::GiveStdio(_)
        | ParentStep::EnterPidOfInit
        | ParentStep::UnshareTime(_)
        | ParentStep::ListenForStart
        | ParentStep::Clone(..)
        | ParentStep::AwaitInitPid
        | ParentStep::ComeBack
        | ParentStep::WriteIdMaps(..)
        | ParentStep::OomScore(_)
        | ParentStep::Continue
        | ParentStep::ContinueIntoCgroups
        | ParentStep::AwaitHooks
        | ParentStep::Hook(_)
        | ParentStep::AwaitReady
        | ParentStep::SendPidfd(_)
        | ParentStep::PidFile(_)
        | ParentStep::SaveState
        | ParentStep::Start
        | ParentStep::StartBeforehand
        | ParentStep::SupplySources
        | ParentStep::InitialCpus(_)
        | ParentStep::AwaitNamespaces
        | ParentStep::CheckNetDevice(_)
        | ParentStep::MoveNetDevice(_)
        | ParentStep::SendListener(_)
        | ParentStep::Rlimit(_)
        | ParentStep::MakeRdt(_)
        | ParentStep::JoinRdt(_)
        | ParentStep::ConnectCriu
        | ParentStep::AwaitCriu
        | ParentStep::AttachCriu(_)
        | ParentStep::Restore(_) => false,
    }
}

/// The mounts of a new container whose source is the host's.
///
/// # Errors
/// An id-mapped mount: criu does not know of them, and would make it again without its mapping.
pub fn external(plan: &Plan) -> Result<Vec<External>> {
    let mapped = |e: &&Entry<ChildStep>| matches!(&e.step, ChildStep::Mount(m) if m.is_mapped());
    if let Some(entry) = plan.child.iter().find(mapped) {
        return Err(Error::new("criu cannot restore id-mapped mounts").at(entry.at.as_str()));
    }
    let mut found = Vec::new();
    for entry in &plan.child {
        let mut add = |destination: &Path, source: &Path| {
            let (destination, source) = (destination.into(), source.into());
            found.push(External { destination, source, at: entry.at.clone() });
        };
        match &entry.step {
            ChildStep::Mount(mount) => {
                if let Kind::Bind(source, _) = &mount.kind {
                    add(&mount.destination, as_path(source));
                }
            }
            ChildStep::CgroupMounts { mount, hierarchies, namespaced: false, .. } => {
                for hierarchy in hierarchies {
                    add(&mount.destination.join(&hierarchy.name), Path::new(&hierarchy.dir));
                }
            }
            ChildStep::Device(device, true) => add(&device.path, &device.path),
            _ => {}
        }
    }
    Ok(found)
}
