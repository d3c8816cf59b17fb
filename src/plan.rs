//! From `config.json` to the lists of steps: computed once, without side effects. Every refusal of
//! a configuration lives here or in `spec::check`.

use std::path::{Path, PathBuf};

use crate::cgroup::{self, Cgroup};
use crate::devices::{self, Device};
use crate::error::{Error, Result};
use crate::hooks::{Hook, Point};
use crate::host::Host;
use crate::mounts::{Kind, Mount};
use crate::namespaces::{NEWCGROUP, NEWNET, NEWNS, NEWPID, NEWTIME, NEWUSER, Namespaces};
use crate::process::{Payload, Rlimit};
use crate::rootfs::PROPAGATION;
use crate::seccomp::{self, Filter};
use crate::security::{Capabilities, Credentials};
use crate::spec::config::{Linux, Process, Seccomp, Spec};
use crate::spec::position::member;
use crate::step::{ChildStep, Entry, ParentStep};

/// The umask of a payload whose configuration names none (runc's).
const DEFAULT_UMASK: u32 = 0o022;

/// What making and executing the stub takes: where the payload's filter denies one of them, the
/// runtime runs from a protected copy of its binary and executes the payload itself.
const STUB_CALLS: [&str; 4] = ["memfd_create", "write", "fcntl", "execveat"];

/// What a caller asks for beside `config.json`.
#[derive(Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// Who gets the terminal's master; without it the runtime keeps it.
    pub console_socket: Option<PathBuf>,
    /// Who gets a process descriptor of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// `run` and `exec` release the payload themselves; after `create`, `start` does.
    pub start: bool,
    /// The runtime stays and relays the terminal, so it can be the one that gets it.
    pub attached: bool,
}

/// Everything that is to be done, in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The runtime's steps.
    pub parent: Vec<Entry<ParentStep>>,
    /// The child's steps.
    pub child: Vec<Entry<ChildStep>>,
    /// What is executed in the end; `None` for a container that can be created only.
    pub payload: Option<Payload>,
    /// The container's cgroups.
    pub cgroup: Option<Cgroup>,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// Whether init shares its pid namespace with others.
    pub shared_pid_namespace: bool,
    /// Whether others can look at the child before it executes the payload, so that the runtime
    /// has to run from a protected copy of its binary.
    pub exposed: bool,
    /// What is odd but no reason to refuse.
    pub warnings: Vec<String>,
}

impl Plan {
    fn parent(&mut self, step: ParentStep, at: impl Into<String>) {
        self.parent.push(Entry { step, at: at.into() });
    }

    fn child(&mut self, step: ChildStep, at: impl Into<String>) {
        self.child.push(Entry { step, at: at.into() });
    }
}

/// Plans a new container.
///
/// # Errors
/// Whatever in `spec` cannot be done, with its JSON path.
pub fn container(spec: &Spec, host: &Host, options: &Options) -> Result<Plan> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    refuse_unsupported(spec, linux)?;
    let namespaces = Namespaces::plan(&linux.namespaces)?;
    if !namespaces.has(NEWNS) {
        return Err(Error::new(
            "a container without a mount namespace of its own would change the host's mounts",
        )
        .at("linux.namespaces")
        .hint("add {\"type\": \"mount\"}"));
    }
    let root = spec.root.as_ref().ok_or_else(|| Error::new("root must be set").at("root"))?;
    let mut plan = Plan { rootfs: options.bundle.join(&root.path), ..Plan::default() };
    plan.shared_pid_namespace = !namespaces.has(NEWPID);
    plan.exposed = namespaces.new & NEWPID == 0;
    plan.cgroup =
        Some(Cgroup::plan(host_hierarchies(host), linux.cgroups_path.as_deref(), &options.id)?);
    if let Some(process) = &spec.process {
        plan.payload = Some(Payload::plan(process)?);
        check_terminal(process, options)?;
    }
    let hooks = spec.hooks.clone().unwrap_or_default();
    let sync = [Point::Prestart, Point::CreateRuntime, Point::CreateContainer]
        .iter()
        .any(|point| !point.of(&hooks).is_empty());
    let context = Context { spec, linux, host, options, namespaces: &namespaces, sync };
    context.parent_steps(&mut plan)?;
    context.child_steps(&mut plan)?;
    Ok(plan)
}

fn host_hierarchies(host: &Host) -> &cgroup::Hierarchies {
    &host.hierarchies
}

/// A terminal has to go somewhere.
fn check_terminal(process: &Process, options: &Options) -> Result<()> {
    if process.terminal && options.console_socket.is_none() && !options.attached {
        return Err(Error::new(
            "cannot allocate tty if tare will detach without setting console socket",
        )
        .at("process.terminal")
        .hint("give a --console-socket, run without --detach, or set terminal to false"));
    }
    if !process.terminal && options.console_socket.is_some() {
        return Err(Error::new(
            "cannot use console socket if tare will not detach or allocate tty",
        )
        .at("process.terminal")
        .hint("leave out --console-socket, or set terminal to true"));
    }
    Ok(())
}

/// What the planning functions share.
struct Context<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    host: &'a Host,
    options: &'a Options,
    namespaces: &'a Namespaces,
    /// Whether hooks need a point at which both sides meet.
    sync: bool,
}

impl Context<'_> {
    fn hooks(&self, point: Point) -> Vec<Hook> {
        self.spec.hooks.as_ref().map_or_else(Vec::new, |hooks| Hook::plan(point, hooks).collect())
    }

    fn new_user(&self) -> bool {
        self.namespaces.new & NEWUSER != 0
    }

    /// Whether the child can only get its new namespaces after it has joined the user namespace
    /// that is to own them.
    fn late_namespaces(&self) -> bool {
        self.namespaces.joins(NEWUSER)
    }

    /// Whether a namespace has to be joined by the runtime: the pid and the time namespace are
    /// entered by being born, and a process in a new user namespace may not join others' at all.
    fn joined_by_parent(&self, flag: u64) -> bool {
        flag & (NEWPID | NEWTIME) != 0 || (self.new_user() && flag != NEWNS)
    }

    fn parent_steps(&self, plan: &mut Plan) -> Result<()> {
        plan.parent(ParentStep::MakeState, "");
        if let Some(path) = &self.options.console_socket {
            plan.parent(ParentStep::ConnectConsole(path.clone()), "process.terminal");
        }
        if !self.options.start {
            plan.parent(ParentStep::ListenForStart, "");
        }
        let cgroup = plan.cgroup.clone().unwrap_or_default();
        let (before, meanwhile) = match self.shares_time() {
            true => cgroup.split(""),
            false => (cgroup, Cgroup::default()),
        };
        self.cgroup_steps(plan, before)?;
        self.clone_steps(plan);
        if self.new_user() {
            plan.parent(ParentStep::Continue, "");
        }
        if self.shares_time() {
            self.cgroup_steps(plan, meanwhile)?;
            plan.parent(ParentStep::Continue, "");
        }
        if let Some(score) = self.spec.process.as_ref().and_then(|p| p.oom_score_adj) {
            plan.parent(ParentStep::OomScore(score), "process.oomScoreAdj");
        }
        self.hook_steps(plan);
        finish(plan, self.options, self.sync);
        Ok(())
    }

    /// Whether the runtime makes the v1 cgroups while the child makes its mounts: on two cores that
    /// hides their cost. A child that becomes another user has to have joined them before.
    fn shares_time(&self) -> bool {
        !self.new_user() && !self.late_namespaces()
    }

    /// Makes the cgroups, with the limits if v1's are among them: v2 has none yet.
    fn cgroup_steps(&self, plan: &mut Plan, cgroup: Cgroup) -> Result<()> {
        if cgroup.places().is_empty() {
            return Ok(());
        }
        plan.parent(ParentStep::MakeCgroup(cgroup.clone()), "linux.cgroupsPath");
        let is_unified_part = cgroup == cgroup.unified() && Some(&cgroup) != plan.cgroup.as_ref();
        if is_unified_part {
            return Ok(());
        }
        let none = Default::default();
        let resources = self.linux.resources.as_ref().unwrap_or(&none);
        let limits = cgroup::settings(resources, host_hierarchies(self.host))?;
        let ignored = cgroup::ignored(resources).into_iter();
        plan.warnings.extend(ignored.map(|(at, why)| format!("{at} is ignored: {why}")));
        if !limits.is_empty() {
            plan.parent(ParentStep::Limits(cgroup, limits), "linux.resources");
        }
        Ok(())
    }

    fn clone_steps(&self, plan: &mut Plan) {
        for join in &self.namespaces.joins {
            let step = match self.joined_by_parent(join.kind.flag) {
                true => ParentStep::EnterForChild(join.clone()),
                false => ParentStep::OpenNamespace(join.clone()),
            };
            plan.parent(step, join.at.clone());
        }
        if self.namespaces.new & NEWTIME != 0 {
            let offsets = self.linux.time_offsets.iter().flatten();
            let offsets = offsets.map(|(clock, by)| (clock.clone(), *by)).collect();
            plan.parent(ParentStep::UnshareTime(offsets), "linux.timeOffsets");
        }
        let flags = match self.late_namespaces() {
            true => 0,
            false => self.namespaces.new & !(NEWTIME | NEWCGROUP),
        };
        let unified = plan.cgroup.as_ref().map(Cgroup::unified);
        plan.parent(ParentStep::Clone(flags, unified), "linux.namespaces");
        if self.second_fork() {
            plan.parent(ParentStep::AwaitInitPid, "linux.namespaces");
        }
        let away = self.namespaces.joins.iter().any(|join| self.joined_by_parent(join.kind.flag));
        if away || self.namespaces.new & NEWTIME != 0 {
            plan.parent(ParentStep::ComeBack, "");
        }
        if self.new_user() {
            let maps = (self.linux.uid_mappings.clone(), self.linux.gid_mappings.clone());
            plan.parent(ParentStep::WriteIdMaps(maps.0, maps.1), "linux.uidMappings");
        }
    }

    fn second_fork(&self) -> bool {
        self.late_namespaces() && self.namespaces.new & NEWPID != 0
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

    fn child_steps(&self, plan: &mut Plan) -> Result<()> {
        self.namespace_steps(plan);
        self.mount_steps(plan)?;
        pin_shared(plan);
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
        plan.child(ChildStep::PivotRoot(self.options.no_pivot), "root.path");
        self.restriction_steps(plan)?;
        match &self.spec.process {
            Some(process) => {
                let filter = self.linux.seccomp.as_ref();
                process_steps(
                    plan,
                    process,
                    filter,
                    self.host,
                    self.options,
                    self.groups_denied(),
                )?;
                self.start_steps(plan);
            }
            None => plan.child(ChildStep::AwaitStart, ""),
        }
        Ok(())
    }

    fn groups_denied(&self) -> bool {
        self.new_user() && crate::sys::process::euid() != 0
    }

    fn start_steps(&self, plan: &mut Plan) {
        let hooks = self.hooks(Point::StartContainer);
        let await_start = plan.child.iter().position(|e| matches!(e.step, ChildStep::AwaitStart));
        let Some(at) = await_start else { return };
        let entries =
            hooks.into_iter().map(|hook| Entry { at: hook.at(), step: ChildStep::Hook(hook) });
        plan.child.splice(at + 1..at + 1, entries);
    }

    fn namespace_steps(&self, plan: &mut Plan) {
        if !self.shares_time() {
            self.join_cgroup_steps(plan);
        }
        let ours = self.namespaces.joins.iter().filter(|j| !self.joined_by_parent(j.kind.flag));
        for join in ours {
            plan.child(ChildStep::JoinNamespace(join.clone()), join.at.clone());
        }
        if self.late_namespaces() {
            plan.child(ChildStep::BecomeRoot, "linux.namespaces");
            let late = self.namespaces.new & !(NEWPID | NEWTIME | NEWCGROUP);
            if late != 0 {
                plan.child(ChildStep::Unshare(late), "linux.namespaces");
            }
        }
        if self.second_fork() {
            plan.child(ChildStep::ForkInit, "linux.namespaces");
        }
        if self.new_user() {
            plan.child(ChildStep::Await, "");
        }
        plan.child(ChildStep::IsolateMounts(self.receives_mounts()), "linux.rootfsPropagation");
        if self.new_user() {
            plan.child(ChildStep::PinSources(plan.rootfs.clone()), "root.path");
            plan.child(ChildStep::BecomeRoot, "linux.uidMappings");
        }
        if self.namespaces.new & NEWNET != 0 {
            plan.child(ChildStep::Loopback, "linux.namespaces");
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
        if let Some(cgroup) = &plan.cgroup {
            let step = join_cgroup(cgroup, namespace);
            plan.child(step, "linux.cgroupsPath");
        }
        if namespace {
            plan.child(ChildStep::Unshare(NEWCGROUP), "linux.namespaces");
        }
    }

    /// Mounts of the host come in if the root or any mount is to be a slave or shared; runc starts
    /// from a slave unless told otherwise.
    fn receives_mounts(&self) -> bool {
        let word = self.linux.rootfs_propagation.as_deref().unwrap_or("rslave");
        !word.ends_with("private")
    }

    fn mount_steps(&self, plan: &mut Plan) -> Result<()> {
        plan.child(ChildStep::EnterRootfs(plan.rootfs.clone()), "root.path");
        let mut joined = !self.shares_time();
        for (index, entry) in self.spec.mounts.iter().enumerate() {
            let mut mount = Mount::plan(index, entry, &self.options.bundle)?;
            let is_cgroup =
                matches!(&mount.kind, Kind::FileSystem(name) if name.as_c_str() == c"cgroup");
            if is_cgroup && !std::mem::replace(&mut joined, true) {
                self.await_cgroup_steps(plan);
            }
            let hierarchies = plan.cgroup.as_ref().filter(|_| is_cgroup).map(Cgroup::mounts);
            let step = match hierarchies {
                Some(hierarchies) => {
                    let read_only = mount.become_tmpfs();
                    let namespaced = self.namespaces.has(NEWCGROUP);
                    ChildStep::CgroupMounts { mount, hierarchies, namespaced, read_only }
                }
                None => ChildStep::Mount(mount),
            };
            plan.child(step, format!("mounts[{index}]"));
        }
        if !joined {
            self.await_cgroup_steps(plan);
        }
        Ok(())
    }

    fn await_cgroup_steps(&self, plan: &mut Plan) {
        plan.child(ChildStep::Await, "");
        self.join_cgroup_steps(plan);
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
        for (index, device) in listed.into_iter().enumerate() {
            plan.child(ChildStep::Device(device, bind), format!("linux.devices[{index}]"));
        }
        for (path, target) in devices::LINKS {
            plan.child(ChildStep::Link(path.into(), target.into()), "");
        }
        Ok(())
    }

    fn restriction_steps(&self, plan: &mut Plan) -> Result<()> {
        for (key, value) in &self.linux.sysctl {
            let step = ChildStep::Sysctl(key.clone(), value.clone());
            plan.child(step, member("linux.sysctl", key));
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
        if let Some(word) = &self.linux.rootfs_propagation {
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
}

/// Joins the v1 cgroups; the memory one too if it is to be `early`, else later. The child is born in
/// the v2 one.
fn join_cgroup(cgroup: &Cgroup, early: bool) -> ChildStep {
    let (_, v1) = cgroup.split("");
    let (memory, rest) = v1.split("memory");
    match early {
        true => ChildStep::JoinCgroup(v1, Cgroup::default()),
        false => ChildStep::JoinCgroup(rest, memory),
    }
}

/// The runtime's last steps, of a new container and of an exec alike. Where the runtime starts the
/// payload itself and no hook looks at the state, it is saved while the child is still at work.
fn finish(plan: &mut Plan, options: &Options, hooks: bool) {
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

fn terminal_step(process: &Process, options: &Options, console: bool) -> ChildStep {
    let size = process.console_size.as_ref().map(|size| (size.height, size.width));
    ChildStep::Terminal { console, size, to_socket: options.console_socket.is_some() }
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

/// The child's steps from the set-up container to the payload: the same for init and exec.
fn process_steps(
    plan: &mut Plan,
    process: &Process,
    seccomp: Option<&Seccomp>,
    host: &Host,
    options: &Options,
    groups_denied: bool,
) -> Result<()> {
    plan.child(ChildStep::CloseDescriptors, "");
    if !options.no_new_keyring {
        plan.child(ChildStep::Keyring(format!("_ses.{}", options.id)), "");
    }
    plan.child(ChildStep::Session, "process.terminal");
    for (index, entry) in process.rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{index}]");
        plan.child(ChildStep::Rlimit(Rlimit::plan(index, entry)?), at);
    }
    plan.child(ChildStep::Umask(process.user.umask.unwrap_or(DEFAULT_UMASK)), "process.user.umask");
    let cwd = PathBuf::from(&process.cwd);
    plan.child(ChildStep::Chdir(cwd.clone(), true), "process.cwd");
    plan.child(ChildStep::OwnStdio(process.user.uid), "process.user.uid");
    plan.child(ChildStep::JoinMemoryCgroup, "linux.cgroupsPath");
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which goes with the credentials.
    let mut filter = seccomp.map(|config| filter(config, plan)).transpose()?.flatten();
    if !process.no_new_privileges
        && let Some(filter) = filter.take()
    {
        plan.child(ChildStep::Seccomp(filter, false), "linux.seccomp");
        let denied = |call: &&str| seccomp.is_some_and(|config| !seccomp::allows(config, call));
        plan.exposed |= STUB_CALLS.iter().any(denied);
    }
    let credentials = credentials(process, host, plan, groups_denied);
    plan.child(ChildStep::Credentials(credentials), "process.user");
    plan.child(ChildStep::Chdir(cwd, false), "process.cwd");
    if process.no_new_privileges {
        plan.child(ChildStep::NoNewPrivileges, "process.noNewPrivileges");
    }
    plan.child(ChildStep::FindProgram, "process.args[0]");
    plan.child(ChildStep::AwaitStart, "");
    if let Some(filter) = filter {
        plan.child(ChildStep::Seccomp(filter, true), "linux.seccomp");
    }
    plan.child(ChildStep::Exec, "process.args");
    Ok(())
}

fn filter(config: &Seccomp, _plan: &mut Plan) -> Result<Option<Filter>> {
    let filter = seccomp::compile(config)?;
    match filter {
        Some(filter) if filter.listener.is_some() => {
            Err(Error::new("seccomp notification is not supported by this version of tare")
                .at("linux.seccomp.listenerPath"))
        }
        filter => Ok(filter),
    }
}

fn credentials(
    process: &Process,
    host: &Host,
    plan: &mut Plan,
    groups_denied: bool,
) -> Credentials {
    let (capabilities, missing) =
        Capabilities::plan(process.capabilities.as_ref(), host.capabilities);
    if !missing.is_empty() {
        let names = missing.join(" ");
        plan.warnings.push(format!("ignoring unknown or unavailable capabilities: [{names}]"));
    }
    for name in capabilities.ambient_refused(process.capabilities.as_ref()) {
        plan.warnings
            .push(format!("can't raise ambient capability {name}: operation not permitted"));
    }
    Credentials {
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        capabilities,
        groups_denied,
    }
}

/// What an exec needs to know of the container that it goes into.
#[derive(Debug)]
pub struct Target<'a> {
    /// The container's configuration.
    pub spec: &'a Spec,
    /// The cgroup that the process joins.
    pub cgroup: Option<Cgroup>,
}

/// Plans one more process in a running container.
///
/// # Errors
/// Whatever in `process` cannot be done, with its JSON path in the process object.
pub fn exec(process: &Process, target: &Target, host: &Host, options: &Options) -> Result<Plan> {
    refuse_in_process(process)?;
    let none = Linux::default();
    let linux = target.spec.linux.as_ref().unwrap_or(&none);
    let namespaces = Namespaces::plan(&linux.namespaces)?;
    let mut plan = Plan { exposed: true, ..Plan::default() };
    plan.payload = Some(Payload::plan(process)?);
    check_terminal(process, options)?;
    if let Some(path) = &options.console_socket {
        plan.parent(ParentStep::ConnectConsole(path.clone()), "process.terminal");
    }
    let has_pid = namespaces.has(NEWPID);
    if has_pid {
        plan.parent(ParentStep::EnterPidOfInit, "");
    }
    let unified = target.cgroup.as_ref().map(Cgroup::unified);
    plan.parent(ParentStep::Clone(0, unified), "");
    if has_pid {
        plan.parent(ParentStep::ComeBack, "");
    }
    if let Some(score) = process.oom_score_adj {
        plan.parent(ParentStep::OomScore(score), "process.oomScoreAdj");
    }
    finish(&mut plan, options, false);
    if let Some(cgroup) = &target.cgroup {
        plan.child(join_cgroup(cgroup, true), "");
    }
    let flags = crate::namespaces::KINDS.iter().map(|kind| kind.flag);
    let flags = flags.filter(|flag| namespaces.has(*flag) && *flag != NEWPID && *flag != NEWTIME);
    plan.child(ChildStep::JoinNamespacesOfInit(flags.sum()), "");
    if namespaces.has(NEWUSER) {
        plan.child(ChildStep::BecomeRoot, "");
    }
    if process.terminal {
        plan.child(terminal_step(process, options, false), "process.terminal");
    }
    process_steps(&mut plan, process, linux.seccomp.as_ref(), host, options, false)?;
    Ok(plan)
}

/// Refuses what this version does not do, before anything is done. `features` leaves it out.
fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<()> {
    if let Some(process) = &spec.process {
        refuse_in_process(process)?;
    }
    let asked = [
        (linux.net_devices.as_ref().is_some_and(|d| !d.is_empty()), "linux.netDevices"),
        (linux.intel_rdt.is_some(), "linux.intelRdt"),
        (linux.personality.is_some(), "linux.personality"),
        (linux.memory_policy.is_some(), "linux.memoryPolicy"),
        (linux.mount_label.as_ref().is_some_and(|l| !l.is_empty()), "linux.mountLabel"),
    ];
    asked.iter().find(|(asked, _)| *asked).map_or(Ok(()), |(_, at)| Err(not_supported(at)))
}

fn refuse_in_process(process: &Process) -> Result<()> {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    let asked = [
        (is_set(&process.apparmor_profile), "process.apparmorProfile"),
        (is_set(&process.selinux_label), "process.selinuxLabel"),
        (process.scheduler.is_some(), "process.scheduler"),
        (process.io_priority.is_some(), "process.ioPriority"),
        (process.exec_cpu_affinity.is_some(), "process.execCPUAffinity"),
    ];
    asked.iter().find(|(asked, _)| *asked).map_or(Ok(()), |(_, at)| Err(not_supported(at)))
}

fn not_supported(at: &str) -> Error {
    let name = at.rsplit('.').next().unwrap_or(at);
    Error::new(format!("{name} is not supported by this version of tare")).at(at)
}
