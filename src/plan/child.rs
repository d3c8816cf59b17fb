//! The child's steps of a new container, up to what it shares with an exec.

use std::path::{Path, PathBuf};

use super::process::{Around, process_steps, terminal_step};
use super::{Context, Plan};
use crate::cgroup::Cgroup;
use crate::devices::{self, Device};
use crate::error::{Error, Result};
use crate::hooks::Point;
use crate::mounts::{Kind, Mount};
use crate::namespaces::{NEWCGROUP, NEWNET, NEWNS, NEWPID, NEWTIME, NEWUSER};
use crate::path::clean;
use crate::rootfs::PROPAGATION;
use crate::scheduling::Scheduling;
use crate::spec::check::is_own;
use crate::spec::config;
use crate::spec::position::member;
use crate::step::{ChildStep, Entry, ParentStep};
use crate::sys::process::euid;

impl Context<'_> {
    pub(super) fn child_steps(&self, plan: &mut Plan) -> Result<()> {
        self.namespace_steps(plan);
        self.mount_steps(plan)?;
        if self.shares_with_host() {
            pin_shared(plan);
        }
        supply_sources(plan);
        self.hold_sources(plan);
        self.device_steps(plan)?;
        let terminal = self.spec.process.as_ref().filter(|process| process.terminal);
        if let Some(process) = terminal {
            plan.child(terminal_step(process, self.options, true), "process.terminal");
        }
        if self.sync {
            plan.child(ChildStep::SyncHooks, "");
        }
        for hook in self.hooks(Point::CreateContainer) {
            let at = hook.at();
            plan.child(ChildStep::Hook(hook), at);
        }
        if let Some(payload) = &plan.payload {
            let cwd = payload.cwd.clone();
            if cwd != Path::new("/") {
                plan.child(ChildStep::MakeCwd(cwd), "process.cwd");
            }
        }
        if self.hands_out_namespaces() {
            plan.child(ChildStep::HoldNamespaces, "");
        }
        if self.namespaces.borrows_mounts {
            self.restriction_steps(plan)?;
            plan.child(ChildStep::LeaveMounts, "root.path");
        } else {
            plan.child(ChildStep::PivotRoot(self.options.no_pivot), "root.path");
            self.restriction_steps(plan)?;
        }
        match &self.spec.process {
            Some(process) => {
                let around = Around {
                    linux: self.linux,
                    host: self.host,
                    options: self.options,
                    user_namespace: self.namespaces.has(NEWUSER),
                    first: true,
                    hooks: !self.hooks(Point::StartContainer).is_empty(),
                };
                process_steps(plan, process, &around)?;
                self.start_steps(plan);
            }
            None => plan.child(ChildStep::AwaitStart, ""),
        }
        Ok(())
    }

    /// Whether an exec may have to ask the waiting process for its namespaces: who made them without
    /// privileges cannot open them before it has become the payload.
    fn hands_out_namespaces(&self) -> bool {
        !self.options.start && self.namespaces.has(NEWUSER) && crate::host::is_unprivileged()
    }

    fn start_steps(&self, plan: &mut Plan) {
        let hooks = self.hooks(Point::StartContainer);
        // Under the payload's filter, which is loaded by then.
        let Some(at) = plan.child.iter().position(|e| matches!(e.step, ChildStep::Exec)) else {
            return;
        };
        let entries =
            hooks.into_iter().map(|hook| Entry { at: hook.at(), step: ChildStep::Hook(hook) });
        plan.child.splice(at..at, entries);
    }

    fn namespace_steps(&self, plan: &mut Plan) {
        // A cgroup namespace belongs to the user namespace that it is made in.
        let late_cgroup = self.by_systemd() || (self.new_user() && self.second_fork());
        if !self.shares_time() && !late_cgroup {
            self.join_cgroup_steps(plan);
        }
        self.join_steps(plan);
        self.birth_steps(plan);
        if !self.shares_time() && late_cgroup {
            self.join_cgroup_steps(plan);
        }
        self.isolated_steps(plan);
    }

    fn join_steps(&self, plan: &mut Plan) {
        let ours = self.namespaces.joins.iter().filter(|j| !self.joined_by_parent(j.kind.flag));
        let ours: Vec<_> = ours.collect();
        if self.late_namespaces() {
            // One of the host's is joined with its rights, one of the user namespace's with those.
            for join in ours.iter().filter(|join| join.kind.flag != NEWUSER) {
                plan.child(ChildStep::TryJoinNamespace((*join).clone()), join.at.clone());
            }
        }
        for join in ours {
            plan.child(ChildStep::JoinNamespace(join.clone()), join.at.clone());
        }
        if self.late_namespaces() {
            plan.child(ChildStep::BecomeRoot, "linux.namespaces");
            let cgroup = if self.by_systemd() { NEWCGROUP } else { 0 };
            let late = self.namespaces.new & !(NEWPID | NEWTIME | cgroup);
            if late != 0 {
                plan.child(ChildStep::Unshare(late), "linux.namespaces");
            }
        }
    }

    /// Into the new namespaces that the child is not born in.
    fn birth_steps(&self, plan: &mut Plan) {
        if self.makes_time_late() {
            plan.child(ChildStep::UnshareTime(self.time_offsets()), "linux.timeOffsets");
        }
        let left = self.born_in() & !self.first_born_in() & !self.made_by_child();
        if self.makes_users_late() {
            plan.child(ChildStep::ForkInit(0), "linux.namespaces");
            plan.child(ChildStep::Await, "");
            self.hold_file_systems(plan);
            plan.child(ChildStep::Unshare(left), "linux.namespaces");
            plan.child(ChildStep::SyncNamespaces, "linux.uidMappings");
            return;
        }
        self.hold_file_systems(plan);
        if self.second_fork() {
            plan.child(ChildStep::ForkInit(left), "linux.namespaces");
        }
        if self.waits_early() {
            plan.child(ChildStep::Await, "");
        }
    }

    /// The new user namespace has no rights over the namespaces that were joined before.
    fn hold_file_systems(&self, plan: &mut Plan) {
        if self.new_user() && self.joins_before_birth() {
            let joined = self.namespaces.joins.iter().map(|join| join.kind.flag).sum();
            plan.child(ChildStep::HoldFileSystems(joined), "mounts");
        }
    }

    /// What is done in the new namespaces before any mount.
    fn isolated_steps(&self, plan: &mut Plan) {
        plan.child(ChildStep::IsolateMounts(self.receives_mounts()), "linux.rootfsPropagation");
        if self.new_user() {
            plan.child(ChildStep::PinRoot(plan.rootfs.clone()), "root.path");
            plan.child(ChildStep::BecomeRoot, "linux.uidMappings");
        }
        if self.made_by_child() != 0 {
            plan.child(ChildStep::Unshare(self.made_by_child()), "linux.namespaces");
        }
        if self.namespaces.new & NEWNET != 0 {
            plan.child(ChildStep::Loopback, "linux.namespaces");
        }
        if self.has_net_devices() {
            plan.child(ChildStep::SyncNamespaces, "linux.netDevices");
        }
        if let Some(name) = self.spec.hostname.as_ref().filter(|name| !name.is_empty()) {
            plan.child(ChildStep::Hostname(name.clone()), "hostname");
        }
        if let Some(name) = self.spec.domainname.as_ref().filter(|name| !name.is_empty()) {
            plan.child(ChildStep::Domainname(name.clone()), "domainname");
        }
    }

    /// Joins the cgroups, and makes the cgroup namespace: it has the process's cgroups of that moment
    /// as its roots, so all of them have to be right by then.
    fn join_cgroup_steps(&self, plan: &mut Plan) {
        let namespace = self.namespaces.new & NEWCGROUP != 0;
        if let Some(cgroup) = plan.cgroup.as_ref().filter(|_| self.has_v1() && !self.by_systemd()) {
            let step = join_cgroup(cgroup, namespace || self.copies_up());
            plan.child(step, "linux.cgroupsPath");
        }
        plan.child(ChildStep::Scheduling(Scheduling::AllCpus), "");
        // With the others of a user namespace that is joined, for it belongs to that.
        let with_others = self.late_namespaces() && !self.by_systemd();
        if namespace && !with_others {
            plan.child(ChildStep::Unshare(NEWCGROUP), "linux.namespaces");
        }
    }

    fn copies_up(&self) -> bool {
        let mut options = self.spec.mounts.iter().flat_map(|mount| &mount.options);
        options.any(|word| word == "tmpcopyup")
    }

    /// Mounts of the host come in if any mount may be a slave or shared with a group of its own; runc
    /// starts from a slave, too.
    fn receives_mounts(&self) -> bool {
        self.linux.rootfs_propagation.as_deref() != Some("rprivate")
    }

    /// Whether shared mounts stay so with the host: with any other root, as in runc, they are slaves of
    /// the host's before they are shared.
    fn shares_with_host(&self) -> bool {
        self.linux.rootfs_propagation.as_deref().is_some_and(|word| word.ends_with("shared"))
    }

    fn mount_steps(&self, plan: &mut Plan) -> Result<()> {
        plan.child(ChildStep::EnterRootfs(plan.rootfs.clone()), "root.path");
        let mut joined = !self.shares_time();
        for (index, entry) in self.spec.mounts.iter().enumerate() {
            let mut mount = Mount::plan(index, entry, &self.options.bundle)?;
            mount.map_ids(entry, self.linux, self.namespaces)?;
            plan.warnings.extend(mount.ignored(entry));
            if matches!(mount.kind, Kind::Remount) {
                mount.spare(mounted_at(plan, &mount.destination));
            }
            let is_cgroup = mount.is_file_system(c"cgroup");
            // A new mount of either version begins at the cgroup namespace's root of that moment.
            let shows_cgroups = is_cgroup || mount.is_file_system(c"cgroup2");
            // What is copied counts, and has to be allowed.
            let needs_cgroups = shows_cgroups || mount.copies_up();
            if needs_cgroups && !std::mem::replace(&mut joined, true) {
                self.await_cgroup_steps(plan);
            }
            if shows_cgroups && !self.has_v1() {
                mount.become_unified(self.has_cgroup_namespace());
            }
            let is_cgroup = is_cgroup && self.has_v1();
            if let Some(label) = self.linux.mount_label.as_deref().filter(|l| !l.is_empty()) {
                mount.set_label(label)?;
            }
            let step = match is_cgroup {
                true => {
                    let hierarchies = match &plan.cgroup {
                        Some(cgroup) => cgroup.mounts(),
                        None => Cgroup::of_caller(&self.host.hierarchies).mounts(),
                    };
                    let more = self.mounts_below(&mount.destination);
                    let read_only = mount.become_tmpfs(more);
                    let namespaced = self.has_cgroup_namespace();
                    ChildStep::CgroupMounts { mount, hierarchies, namespaced, read_only }
                }
                false => ChildStep::Mount(mount),
            };
            if self.wants_source(&step) {
                plan.child(ChildStep::WantSource(index), format!("mounts[{index}].source"));
            }
            plan.child(step, format!("mounts[{index}]"));
        }
        if !joined {
            self.await_cgroup_steps(plan);
        }
        Ok(())
    }

    /// Whether the runtime opens the source of a bind mount: the container's root may not reach it, or
    /// not map its ids. Without privileges the runtime can do no more than the child.
    fn wants_source(&self, step: &ChildStep) -> bool {
        match step {
            ChildStep::Mount(mount) if mount.is_bind() && euid() == 0 => {
                let pinned = self.shares_with_host() && mount.is_shared();
                mount.is_mapped() || (self.namespaces.has(NEWUSER) && !pinned)
            }
            _ => false,
        }
    }

    /// Whether the container's cgroup namespace is another than the runtime's.
    fn has_cgroup_namespace(&self) -> bool {
        let other =
            |namespace: &config::Namespace| namespace.kind == "cgroup" && !is_own(namespace);
        self.linux.namespaces.iter().any(other)
    }

    fn await_cgroup_steps(&self, plan: &mut Plan) {
        plan.child(ChildStep::Await, "");
        self.join_cgroup_steps(plan);
    }

    /// Whether anything is mounted below `destination`.
    fn mounts_below(&self, destination: &Path) -> bool {
        self.spec.mounts.iter().any(|entry| {
            let path = clean(Path::new(&entry.destination));
            path != destination && path.starts_with(destination)
        })
    }

    /// Devices and links, unless /dev is the host's or another's: then it is as it should be.
    fn device_steps(&self, plan: &mut Plan) -> Result<()> {
        let is_bind = |entry: &Entry<ChildStep>| match &entry.step {
            ChildStep::Mount(mount) => {
                matches!(mount.kind, Kind::Bind(..)) && mount.destination == Path::new("/dev")
            }
            _ => false,
        };
        if plan.child.iter().any(is_bind) {
            return Ok(());
        }
        let bind = self.namespaces.has(NEWUSER);
        let listed: Vec<Device> = self
            .linux
            .devices
            .iter()
            .enumerate()
            .map(|(index, entry)| Device::plan(index, entry))
            .collect::<Result<_>>()?;
        for device in Device::defaults() {
            if listed.iter().all(|other| other.path != device.path) {
                plan.child(ChildStep::Device(device, bind), "");
            }
        }
        // Where all devices of the host are listed, too, a link takes the place of its multiplexer.
        let is_own = |(_, device): &(usize, Device)| device.path != Path::new(devices::PTMX);
        for (index, device) in listed.into_iter().enumerate().filter(is_own) {
            plan.child(ChildStep::Device(device, bind), format!("linux.devices[{index}]"));
        }
        let core = self.host.kcore.then_some(devices::CORE);
        for (path, target) in devices::LINKS.into_iter().chain(core) {
            plan.child(ChildStep::Link(path.into(), target.into()), "");
        }
        Ok(())
    }

    fn restriction_steps(&self, plan: &mut Plan) -> Result<()> {
        for (key, value) in &self.linux.sysctl {
            let step = ChildStep::Sysctl(key.clone(), value.clone());
            plan.child(step, member("linux.sysctl", key));
        }
        // First of all, so that what a mask shows of /dev is read-only as well.
        let later = |step: &ChildStep| match step {
            ChildStep::Mount(mount) | ChildStep::CgroupMounts { mount, .. } => {
                mount.is_read_only_later()
            }
            _ => false,
        };
        if plan.mounts().any(later) {
            plan.child(ChildStep::ReadOnlyMounts, "mounts");
        }
        for (index, path) in self.linux.readonly_paths.iter().enumerate() {
            let step = ChildStep::ReadOnlyPath(PathBuf::from(path));
            plan.child(step, format!("linux.readonlyPaths[{index}]"));
        }
        for (index, path) in self.linux.masked_paths.iter().enumerate() {
            plan.child(
                ChildStep::MaskPath(PathBuf::from(path)),
                format!("linux.maskedPaths[{index}]"),
            );
        }
        // All began as private then, and is not any more where a mount has asked for something else.
        let done = |word: &&String| matches!(word.as_str(), "" | "rprivate");
        if let Some(word) = self.linux.rootfs_propagation.as_ref().filter(|word| !done(word)) {
            let known = PROPAGATION.iter().find(|(name, _)| name == word);
            let (_, flag) = known.ok_or_else(|| {
                Error::new(format!("rootfsPropagation=\"{word}\" is not supported"))
                    .at("linux.rootfsPropagation")
            })?;
            let recursive = word.starts_with('r');
            plan.child(ChildStep::RootPropagation(*flag, recursive), "linux.rootfsPropagation");
        }
        if self.spec.root.as_ref().is_some_and(|root| root.readonly) {
            plan.child(ChildStep::ReadOnlyRoot, "root.readonly");
        }
        Ok(())
    }

    /// The root of a user namespace may not reach what its unprivileged maker does.
    fn hold_sources(&self, plan: &mut Plan) {
        let leaves = |entry: &Entry<ChildStep>| match &entry.step {
            ChildStep::JoinNamespace(join) | ChildStep::TryJoinNamespace(join) => {
                matches!(join.kind.flag, NEWUSER | NEWNS)
            }
            ChildStep::BecomeRoot => true,
            _ => false,
        };
        let is_bind = |entry: &&Entry<ChildStep>| match &entry.step {
            ChildStep::Mount(mount) => mount.is_bind(),
            _ => false,
        };
        let becomes_root =
            plan.child.iter().any(|entry| matches!(entry.step, ChildStep::BecomeRoot));
        let at = plan.child.iter().find(is_bind).map(|entry| entry.at.clone());
        if let (true, Some(at), Some(index)) =
            (becomes_root && euid() != 0, at, plan.child.iter().position(leaves))
        {
            let [receive, share] = [self.receives_mounts(), self.shares_with_host()];
            plan.child.insert(index, Entry { step: ChildStep::HoldSources { receive, share }, at });
        }
    }
}

/// Joins the v1 cgroups; the memory one too if it is to be `early`, else later. The child is born in
/// the v2 one.
pub(super) fn join_cgroup(cgroup: &Cgroup, early: bool) -> ChildStep {
    let (_, v1) = cgroup.split("");
    let (memory, rest) = v1.split("memory");
    match early {
        true => ChildStep::JoinCgroup(v1, Cgroup::default()),
        false => ChildStep::JoinCgroup(rest, memory),
    }
}

/// What is mounted at `destination` by then.
fn mounted_at<'a>(plan: &'a Plan, destination: &Path) -> Option<&'a Mount> {
    let mounts = plan.mounts().filter_map(|step| match step {
        ChildStep::Mount(mount) => Some(mount),
        _ => None,
    });
    mounts.filter(|m| m.destination == destination && !matches!(m.kind, Kind::Remount)).last()
}

/// The sources of binds that are to be shared are held before the mount namespace is cut off.
fn pin_shared(plan: &mut Plan) {
    let shared = |entry: &Entry<ChildStep>| match &entry.step {
        ChildStep::Mount(mount) => mount.is_shared(),
        _ => false,
    };
    let isolate = |entry: &Entry<ChildStep>| matches!(entry.step, ChildStep::IsolateMounts(_));
    let at = plan.child.iter().find(|entry| shared(entry)).map(|entry| entry.at.clone());
    if let (Some(at), Some(index)) = (at, plan.child.iter().position(isolate)) {
        plan.child.insert(index, Entry { step: ChildStep::PinShared, at });
    }
}

/// The runtime serves the child right after what that waits for before its mounts.
fn supply_sources(plan: &mut Plan) {
    let wants = |entry: &&Entry<ChildStep>| matches!(entry.step, ChildStep::WantSource(_));
    let next = |entry: &Entry<ParentStep>| {
        use ParentStep::{AwaitHooks, AwaitReady, SaveState};
        matches!(entry.step, AwaitHooks | AwaitReady | SaveState)
    };
    let at = plan.child.iter().find(wants).map(|entry| entry.at.clone());
    if let (Some(at), Some(index)) = (at, plan.parent.iter().position(next)) {
        plan.parent.insert(index, Entry { step: ParentStep::SupplySources, at });
    }
}
