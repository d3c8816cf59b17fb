//! The runtime's steps of a new container.

use std::path::Path;

use super::{Context, Options, Plan};
use crate::cgroup::{self, Cgroup, Version};
use crate::error::Result;
use crate::hooks::Point;
use crate::host;
use crate::mounts::Mount;
use crate::namespaces::{Join, NEWCGROUP, NEWIPC, NEWNET, NEWTIME, NEWUSER, Namespaces, Users};
use crate::netdev::Move;
use crate::path::clean;
use crate::spec::config::{IdMapping, Process, TimeOffset};
use crate::step::ParentStep;

impl Context<'_> {
    pub(super) fn parent_steps(&self, plan: &mut Plan) -> Result<()> {
        let cgroup = plan.cgroup.clone().unwrap_or_default();
        let after_clone = self.shares_time() || self.by_systemd();
        let (before, meanwhile) = match self.shares_time() {
            // It wants a process for its unit.
            _ if self.by_systemd() => (Cgroup::default(), cgroup),
            true => cgroup.split(""),
            false => (cgroup, Cgroup::default()),
        };
        // The state is there before anything that has to be found by it. A child alone needs none: it
        // ends with the runtime.
        let late_state = self.shares_time() && before.places().is_empty();
        if !late_state {
            plan.parent(ParentStep::MakeState, "");
        }
        if let Some(process) = &self.spec.process {
            stdio_steps(plan, process, self.options, self.users());
        }
        if !self.options.start {
            plan.parent(ParentStep::ListenForStart, "");
        }
        self.cgroup_steps(plan, before)?;
        self.clone_steps(plan);
        if late_state {
            plan.parent(ParentStep::MakeState, "");
        }
        // Before the child can become another user, who may not be looked at.
        if let Some(score) = self.spec.process.as_ref().and_then(|p| p.oom_score_adj) {
            plan.parent(ParentStep::OomScore(score), "process.oomScoreAdj");
        }
        // In the order in which the child waits.
        if self.shares_time() {
            self.net_device_steps(plan)?;
        }
        if let Some(rdt) = plan.rdt.clone() {
            plan.parent(ParentStep::MakeRdt(rdt), "linux.intelRdt");
        }
        if after_clone {
            self.cgroup_steps(plan, meanwhile)?;
        }
        if after_clone || self.waits_early() {
            plan.parent(self.go_on(plan.cgroup.as_ref()), "");
        }
        if !self.shares_time() {
            self.net_device_steps(plan)?;
        }
        self.hook_steps(plan);
        finish(plan, self.options, self.sync);
        Ok(())
    }

    fn users(&self) -> Option<Users> {
        let root = |maps: &[IdMapping]| maps.iter().find_map(|map| map.outside(0));
        match self.namespaces.joined(NEWUSER) {
            Some(join) => Some(Users::Joined(join.clone())),
            None if !self.new_user() => None,
            None => {
                Some(Users::New(root(&self.linux.uid_mappings)?, root(&self.linux.gid_mappings)?))
            }
        }
    }

    /// Whether the cgroups of v1, or those of systemd, are made while the child makes its mounts: on
    /// two cores that hides their cost. A child that becomes another user has to be in them before, and
    /// one that asks for mounts is served meanwhile.
    pub(super) fn shares_time(&self) -> bool {
        let listens = self.new_user() || self.late_namespaces() || self.second_fork();
        let listens = listens || self.maps_ids();
        (self.has_v1() || self.by_systemd()) && !listens
    }

    /// The network namespace is the dearest of all: the child makes it while the runtime makes the
    /// cgroups. Message queues and the loopback interface's files in sysfs belong to whom their
    /// namespace is made by, who has to be root of the user namespace by then.
    pub(super) fn made_by_child(&self) -> u64 {
        let network = if self.shares_time() || self.new_user() { NEWNET } else { 0 };
        let queues = if self.new_user() { NEWIPC } else { 0 };
        self.namespaces.new & (network | queues)
    }

    /// Whether the child may ask for mapped mounts.
    fn maps_ids(&self) -> bool {
        self.spec.mounts.iter().any(Mount::maps_ids)
    }

    /// Whether systemd makes the cgroups.
    pub(super) fn by_systemd(&self) -> bool {
        self.host.systemd.is_some()
    }

    /// Whether there is more than v2, in which the child is born.
    pub(super) fn has_v1(&self) -> bool {
        self.host.hierarchies.version() == Version::V1
    }

    /// Who gets a v2 cgroup that is not the caller's own: the container's user, if he can do
    /// something with it (config-linux.md, "Cgroup ownership"). Only root can give files away.
    fn cgroup_owner(&self) -> Option<(u32, Option<Join>)> {
        let writable = self.spec.mounts.iter().any(|mount| {
            matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
                && clean(Path::new(&mount.destination)) == Path::new("/sys/fs/cgroup")
                && !mount.options.iter().any(|o| o == "ro")
        });
        if self.has_v1() || self.namespaces.new & NEWCGROUP == 0 || !writable {
            return None;
        }
        let uid = self.spec.process.as_ref().map_or(0, |process| process.user.uid);
        let joined = self.namespaces.joined(NEWUSER);
        let owner = match self.new_user() {
            true => self.linux.uid_mappings.iter().find_map(|map| map.outside(uid))?,
            false => uid,
        };
        let is_other = owner != 0 || joined.is_some();
        (crate::sys::process::euid() == 0 && is_other).then(|| (owner, joined.cloned()))
    }

    /// Makes the cgroups, with the limits but for a hybrid's v2, which has none.
    fn cgroup_steps(&self, plan: &mut Plan, cgroup: Cgroup) -> Result<()> {
        if cgroup.places().is_empty() {
            return Ok(());
        }
        if cgroup.unit().is_none() {
            plan.parent(ParentStep::MakeCgroup(cgroup.clone()), "linux.cgroupsPath");
        }
        let is_unified_part = cgroup == cgroup.unified() && Some(&cgroup) != plan.cgroup.as_ref();
        if is_unified_part {
            return Ok(());
        }
        if !self.has_v1() {
            plan.parent(ParentStep::EnableControllers(cgroup.clone()), "linux.cgroupsPath");
        }
        let none = Default::default();
        let resources = self.linux.resources.as_ref().unwrap_or(&none);
        // Who cannot make devices cannot be given any either: no rules are needed, and none allowed.
        let planned = match self.host.rootless && host::is_unprivileged() {
            true => cgroup::limits,
            false => cgroup::settings,
        };
        let limits = planned(resources, &self.host.hierarchies)?;
        let ignored = cgroup::ignored(resources);
        plan.warnings.extend(ignored.map(|(at, why)| format!("{at} is ignored: {why}")));
        if let Some(unit) = cgroup.unit() {
            let mut properties = cgroup::properties(&limits);
            properties.extend(cgroup::annotated(&self.spec.annotations, unit)?);
            let step = ParentStep::StartUnit(cgroup.clone(), properties);
            plan.parent(step, "linux.cgroupsPath");
        }
        if let Some((uid, users)) = self.cgroup_owner() {
            plan.parent(ParentStep::GiveCgroup(cgroup.clone(), uid, users), "linux.cgroupsPath");
        }
        if !limits.is_empty() {
            plan.parent(ParentStep::Limits(cgroup, limits), "linux.resources");
        }
        Ok(())
    }

    /// Where the runtime makes the cgroups while the child is busy, it opens what that would have to.
    fn go_on(&self, cgroup: Option<&Cgroup>) -> ParentStep {
        let is_meanwhile = self.shares_time() && !self.by_systemd();
        let is_v1 =
            |cgroup: &Cgroup| cgroup.places().iter().any(|place| !place.controllers.is_empty());
        match is_meanwhile && cgroup.is_some_and(is_v1) {
            true => ParentStep::ContinueIntoCgroups,
            false => ParentStep::Continue,
        }
    }

    fn clone_steps(&self, plan: &mut Plan) {
        for join in &self.namespaces.joins {
            let step = match self.joined_by_parent(join.kind.flag) {
                true => ParentStep::EnterForChild(join.clone()),
                false => ParentStep::OpenNamespace(join.clone()),
            };
            plan.parent(step, join.at.clone());
        }
        self.id_map_check(plan);
        if self.namespaces.borrows_mounts {
            plan.parent(ParentStep::OpenNamespace(Namespaces::of_runtime()), "linux.namespaces");
        }
        let makes_time = self.namespaces.new & NEWTIME != 0 && !self.makes_time_late();
        if makes_time {
            plan.parent(ParentStep::UnshareTime(self.time_offsets()), "linux.timeOffsets");
        }
        let own = plan.cgroup.as_ref().filter(|cgroup| cgroup.unit().is_none());
        let unified = own.map(Cgroup::unified);
        let flags = self.first_born_in() & !self.made_by_child();
        plan.parent(ParentStep::Clone(flags, unified), "linux.namespaces");
        if self.second_fork() {
            plan.parent(ParentStep::AwaitInitPid, "linux.namespaces");
        }
        if self.makes_users_late() {
            plan.parent(ParentStep::Continue, "");
            plan.parent(ParentStep::AwaitNamespaces, "linux.namespaces");
        }
        let away = self.namespaces.joins.iter().any(|join| self.joined_by_parent(join.kind.flag));
        if away || makes_time {
            plan.parent(ParentStep::ComeBack, "");
        }
        if self.new_user() {
            let maps = (self.linux.uid_mappings.clone(), self.linux.gid_mappings.clone());
            plan.parent(ParentStep::WriteIdMaps(maps.0, maps.1), "linux.uidMappings");
        }
    }

    /// A user namespace that is joined has its maps; those in `config.json` may not say otherwise.
    fn id_map_check(&self, plan: &mut Plan) {
        let (uids, gids) = (&self.linux.uid_mappings, &self.linux.gid_mappings);
        let joined = self.namespaces.joined(NEWUSER);
        let given = !uids.is_empty() || !gids.is_empty();
        if let Some(join) = joined.filter(|_| given) {
            let step = ParentStep::CheckIdMaps(join.clone(), uids.clone(), gids.clone());
            plan.parent(step, join.at.clone());
        }
    }

    pub(super) fn time_offsets(&self) -> Vec<(String, TimeOffset)> {
        let offsets = self.linux.time_offsets.iter().flatten();
        offsets.map(|(clock, by)| (clock.clone(), *by)).collect()
    }

    pub(super) fn has_net_devices(&self) -> bool {
        self.linux.net_devices.as_ref().is_some_and(|devices| !devices.is_empty())
    }

    fn net_device_steps(&self, plan: &mut Plan) -> Result<()> {
        if !self.has_net_devices() {
            return Ok(());
        }
        plan.parent(ParentStep::AwaitNamespaces, "linux.netDevices");
        let devices = Move::plan(self.linux)?;
        for device in &devices {
            plan.parent(ParentStep::CheckNetDevice(device.clone()), device.at());
        }
        for device in devices {
            let at = device.at();
            plan.parent(ParentStep::MoveNetDevice(device), at);
        }
        plan.parent(ParentStep::Continue, "");
        Ok(())
    }

    /// Whether the child waits before its mounts: for its ids, until its second fork has been noticed
    /// (two processes speak on one channel then), or for a cgroup that it cannot enter itself.
    pub(super) fn waits_early(&self) -> bool {
        self.new_user() || self.second_fork() || (self.by_systemd() && !self.shares_time())
    }

    fn hook_steps(&self, plan: &mut Plan) {
        if !self.sync {
            return;
        }
        plan.parent(ParentStep::AwaitHooks, "");
        for point in [Point::Prestart, Point::CreateRuntime] {
            for hook in self.hooks(point) {
                let at = hook.at();
                plan.parent(ParentStep::Hook(hook), at);
            }
        }
        plan.parent(ParentStep::Continue, "");
    }
}

/// Who gets the terminal. Without one, a payload that the caller waits for gets none of the caller's
/// files and terminals themselves.
pub(super) fn stdio_steps(
    plan: &mut Plan,
    process: &Process,
    options: &Options,
    users: Option<Users>,
) {
    if let Some(path) = &options.console_socket {
        plan.parent(ParentStep::ConnectConsole(path.clone()), "process.terminal");
    } else if options.attached && options.start && !process.terminal {
        plan.parent(ParentStep::MakePipes, "");
        // Only root can give files away; those of others are mapped, or nothing is.
        if let Some(users) = users.filter(|_| crate::sys::process::euid() == 0) {
            plan.parent(ParentStep::GiveStdio(users), "");
        }
    }
}

/// The runtime's last steps, of a new container and of an exec alike. Where the runtime starts the
/// payload itself and no hook looks at the state, it is saved while the child is still at work.
pub(super) fn finish(plan: &mut Plan, options: &Options, hooks: bool) {
    let early = options.start && !hooks;
    if early {
        plan.parent(ParentStep::SaveState, "");
    }
    plan.parent(ParentStep::AwaitReady, "");
    if let Some(path) = &options.pidfd_socket {
        plan.parent(ParentStep::SendPidfd(path.clone()), "");
    }
    if let Some(path) = &options.pid_file {
        plan.parent(ParentStep::PidFile(path.clone()), "");
    }
    if !early {
        plan.parent(ParentStep::SaveState, "");
    }
    // The child waits for `start` only once its container can be found by its state.
    let release = if options.start { ParentStep::Start } else { ParentStep::Continue };
    plan.parent(release, "");
}
