//! What a container is: a flat list of steps for the runtime, and one for the child that becomes
//! the container. Newcomers start here.
//!
//! The declaration order is the order of the protocol (`wire`): a plan takes the steps that a
//! configuration needs, in about this order, and leaves out the rest. `parent` and `child` execute
//! them; `Display` is what `explain` prints and what an error says was being done.

use std::fmt;
use std::path::PathBuf;

use nix::mount::MsFlags;

use crate::cgroup::{Cgroup, CgroupMount, Property, Setting};
use crate::criu;
use crate::devices::Device;
use crate::hooks::Hook;
use crate::labels::Label;
use crate::mounts::Mount;
use crate::namespaces::{Join, KINDS, Users};
use crate::netdev::Move;
use crate::process::Rlimit;
use crate::rdt::Rdt;
use crate::scheduling::{Cpus, Scheduling};
use crate::seccomp::{Filter, Listener};
use crate::security::Credentials;
use crate::spec::config::{IdMapping, TimeOffset};

/// A step and the JSON path in `config.json` that orders it; empty for what every container gets.
#[derive(Debug)]
pub struct Entry<S> {
    /// What is done.
    pub step: S,
    /// Where it comes from.
    pub at: String,
}

/// A step of the runtime.
#[derive(Debug)]
pub enum ParentStep {
    /// Makes the state directory and writes the journal: from here on `delete --force` finds all.
    MakeState,
    /// Opens a namespace that the child joins.
    OpenNamespace(Join),
    /// Enters a namespace for a moment, so that the child is born in it.
    EnterForChild(Join),
    /// Checks that the user namespace to be joined has these maps.
    CheckIdMaps(Join, Vec<IdMapping>, Vec<IdMapping>),
    /// Enters the pid namespace of a running container for a moment (exec).
    EnterPidOfInit,
    /// Makes a time namespace that the child is born in.
    UnshareTime(Vec<(String, TimeOffset)>),
    /// Connects to who wants the terminal.
    ConnectConsole(PathBuf),
    /// Makes the socket on which the child waits for `start`.
    ListenForStart,
    /// Makes the cgroups.
    MakeCgroup(Cgroup),
    /// Lets a v2 cgroup have the host's controllers.
    EnableControllers(Cgroup),
    /// Gives the v2 cgroup to the container's user, one of the user namespace that it joins, if any.
    GiveCgroup(Cgroup, u32, Option<Join>),
    /// Has systemd make the cgroups and move the child into them.
    StartUnit(Cgroup, Vec<Property>),
    /// Has systemd move the child into a cgroup that the runtime has no way into (exec).
    JoinUnit(Cgroup),
    /// Writes the limits.
    Limits(Cgroup, Vec<Setting>),
    /// Makes the group of resctrl, and moves the child into it.
    MakeRdt(Rdt),
    /// Moves the child into the group of resctrl (exec).
    JoinRdt(Rdt),
    /// Restricts the runtime to these CPUs, so that the child begins on them (exec).
    InitialCpus(Cpus),
    /// Makes pipes between the payload and those of the caller's standard descriptors that are files or
    /// terminals.
    MakePipes,
    /// Gives these pipes, and what the payload gets of the caller's, to the root of the container's user
    /// namespace, who may not take what belongs to a user that is not mapped.
    GiveStdio(Users),
    /// Makes the child in these new namespaces, and in this cgroup of v2.
    Clone(u64, Option<Cgroup>),
    /// Learns which process becomes init after the child's second fork.
    AwaitInitPid,
    /// Comes back from the namespaces entered for the child.
    ComeBack,
    /// Maps the ids of the child's new user namespace.
    WriteIdMaps(Vec<IdMapping>, Vec<IdMapping>),
    /// Sets the child's oom_score_adj.
    OomScore(i32),
    /// Tells the child to go on.
    Continue,
    /// The same, with the files by which it joins its cgroups.
    ContinueIntoCgroups,
    /// Waits until the child is in all of its namespaces.
    AwaitNamespaces,
    /// Looks whether a network device can be moved into the container.
    CheckNetDevice(Move),
    /// Moves a network device into the container.
    MoveNetDevice(Move),
    /// Opens the sources of bind mounts as the child asks for them, and maps their ids.
    SupplySources,
    /// Waits until the child has made its mounts.
    AwaitHooks,
    /// Runs a hook.
    Hook(Hook),
    /// Takes the listener of the child's filter and hands it to the agent.
    SendListener(Listener),
    /// Waits until the child has done everything but the start.
    AwaitReady,
    /// Sets a resource limit of the child: in a user namespace it could not raise one itself.
    Rlimit(Rlimit),
    /// Sends a process descriptor of the child to a socket.
    SendPidfd(PathBuf),
    /// Writes the child's pid to a file.
    PidFile(PathBuf),
    /// Notes that the container is created, or about to run.
    SaveState,
    /// Releases the payload (run, exec).
    Start,
    /// Releases the payload before the child is ready, then waits for both.
    StartBeforehand,
    /// Makes the socket over which criu is told what to do (restore).
    ConnectCriu,
    /// Waits until the child has become criu (restore).
    AwaitCriu,
    /// Moves criu into the cgroups of the container that it is to make (restore).
    AttachCriu(Cgroup),
    /// Has criu make the processes (restore).
    Restore(criu::Restore),
}

/// A step of the child.
#[derive(Debug)]
pub enum ChildStep {
    /// Joins these of its cgroups, and takes hold of the memory one for later.
    JoinCgroup(Cgroup, Cgroup),
    /// Joins the memory cgroup, late: what it costs to set the container up is not charged to it.
    JoinMemoryCgroup,
    /// Joins the namespace that the runtime has opened for it.
    JoinNamespace(Join),
    /// Joins a namespace with the rights of the host, if these are enough for it.
    TryJoinNamespace(Join),
    /// Joins the namespaces (`CLONE_NEW*`) of the running container's init (exec).
    JoinNamespacesOfInit(u64),
    /// Makes new namespaces, owned by the user namespace just joined, or the cgroup one.
    Unshare(u64),
    /// Makes a time namespace for the second fork.
    UnshareTime(Vec<(String, TimeOffset)>),
    /// Forks once more, so that the child is born in these new namespaces, and in those just joined.
    ForkInit(u64),
    /// Waits for the runtime's Continue.
    Await,
    /// Takes hold of the root file system, while it still may.
    PinRoot(PathBuf),
    /// Takes hold of the sources of bind mounts that may be out of reach for the root of the user
    /// namespace, where the runtime has no more rights than the child.
    HoldSources {
        /// Whether mounts of the host still come in.
        receive: bool,
        /// Whether those that are to be shared stay so with the host.
        share: bool,
    },
    /// Makes the file systems that show what is in the namespaces just joined (`CLONE_NEW*`), while it
    /// still may.
    HoldFileSystems(u64),
    /// Has the runtime open the source of the mount with this number.
    WantSource(usize),
    /// Takes hold of the sources of bind mounts that are to be shared with the host, while they
    /// still are.
    PinShared,
    /// Becomes root of the user namespace.
    BecomeRoot,
    /// Takes hold of its own namespaces, for an exec that could not open them (create).
    HoldNamespaces,
    /// Brings up `lo`.
    Loopback,
    /// Tells the runtime that it is in all of its namespaces, and waits for what that does to them.
    SyncNamespaces,
    /// Sets the host name.
    Hostname(String),
    /// Sets the NIS domain name.
    Domainname(String),
    /// Cuts the mounts off from the host's; still receives from it if true.
    IsolateMounts(bool),
    /// Mounts the root file system on itself.
    EnterRootfs(PathBuf),
    /// Makes a mount of `mounts`.
    Mount(Mount),
    /// Makes a mount of type cgroup on v1: a tmpfs at the path with a directory for each hierarchy.
    CgroupMounts {
        /// The tmpfs.
        mount: Mount,
        /// What goes into it.
        hierarchies: Vec<CgroupMount>,
        /// Whether a cgroup namespace decides what is seen.
        namespaced: bool,
        /// Whether all of it is read-only.
        read_only: bool,
    },
    /// Makes a device; by a bind mount of the host's if true.
    Device(Device, bool),
    /// Makes a symbolic link: path and target.
    Link(PathBuf, PathBuf),
    /// Allocates the terminal and hands its master out.
    Terminal {
        /// Whether it is put on /dev/console.
        console: bool,
        /// Rows and columns.
        size: Option<(u16, u16)>,
        /// Whether the console socket gets the master, not the runtime.
        to_socket: bool,
    },
    /// Tells the runtime that its hooks may run, and waits for the end of them.
    SyncHooks,
    /// Runs a hook in the container's namespaces.
    Hook(Hook),
    /// Makes the working directory if it is missing.
    MakeCwd(PathBuf),
    /// Makes the root file system the root; without pivot_root(2) if true.
    PivotRoot(bool),
    /// Goes back to the host's mount namespace with the root file system, mounted nowhere, as root.
    LeaveMounts,
    /// Sets a kernel parameter.
    Sysctl(String, String),
    /// Makes the mounts read-only that were left writable until all in them was made.
    ReadOnlyMounts,
    /// Makes a path read-only.
    ReadOnlyPath(PathBuf),
    /// Hides a path.
    MaskPath(PathBuf),
    /// Makes the root read-only.
    ReadOnlyRoot,
    /// Sets the propagation of the root.
    RootPropagation(MsFlags, bool),
    /// Closes everything that setting up has opened: no directory of ours may serve as one through
    /// /proc/self/fd (CVE-2024-21626).
    CloseDescriptors,
    /// Joins the session keyring of this name; `true` for the first process, which makes it and
    /// lets those of `exec` find it.
    Keyring(String, bool),
    /// Starts a session, on the terminal if there is one.
    Session,
    /// Sets a resource limit.
    Rlimit(Rlimit),
    /// Has the kernel treat the process as is asked for.
    Scheduling(Scheduling),
    /// Has the program executed under a profile or label.
    Label(Label),
    /// Sets the umask.
    Umask(u32),
    /// Goes to the working directory; failing is for the second try, as the user, if true.
    Chdir(PathBuf, bool),
    /// Gives the standard descriptors to the user.
    OwnStdio(u32),
    /// Loads the seccomp filter; at the very end, with the exec, if true.
    Seccomp(Filter, bool),
    /// Takes the user's ids, groups and capabilities.
    Credentials(Credentials),
    /// Rules out new privileges by exec.
    NoNewPrivileges,
    /// Finds the program and completes the environment.
    FindProgram,
    /// Tells the runtime that all is done, and waits for the start.
    AwaitStart,
    /// Executes the program.
    Exec,
    /// Mounts the root file system on a directory of its own, as criu wants to find it (restore).
    RootForCriu(PathBuf, PathBuf),
    /// Takes away the mounts that were made only so that there are directories and files for them
    /// (restore).
    LeaveRootfs(PathBuf),
    /// Becomes this criu, which works in these folders (restore).
    BecomeCriu(PathBuf, Vec<PathBuf>),
}

fn hierarchies(count: usize) -> String {
    match count {
        1 => "1 hierarchy".into(),
        count => format!("{count} hierarchies"),
    }
}

impl fmt::Display for ParentStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeState => f.write_str("make the state directory"),
            Self::OpenNamespace(join) => {
                write!(f, "open the {} namespace {}", join.kind.name, join.path.display())
            }
            Self::EnterForChild(join) => {
                let (kind, path) = (join.kind.name, join.path.display());
                write!(f, "enter the {kind} namespace {path} for the child")
            }
            Self::CheckIdMaps(join, ..) => write!(f, "compare the maps of {}", join.path.display()),
            Self::EnterPidOfInit => {
                f.write_str("enter the pid namespace of the container for the child")
            }
            Self::MakePipes => f.write_str("make pipes to the caller's files and terminals"),
            Self::GiveStdio(_) => f.write_str("give the payload's ends to the container's root"),
            Self::UnshareTime(_) => f.write_str("make a time namespace for the child"),
            Self::ConnectConsole(path) => {
                write!(f, "connect to the console socket {}", path.display())
            }
            Self::ListenForStart => f.write_str("make the socket that start connects to"),
            Self::EnableControllers(_) => f.write_str("enable the controllers above the cgroup"),
            Self::MakeCgroup(cgroup) => {
                let path = cgroup.places().first().map_or("", |place| place.dir.as_str());
                write!(f, "make the cgroup {path} in {}", hierarchies(cgroup.places().len()))
            }
            Self::GiveCgroup(_, uid, _) => write!(f, "give the cgroup to user {uid}"),
            Self::StartUnit(cgroup, properties) => {
                let name = cgroup.unit().map_or("", |unit| unit.name.as_str());
                write!(f, "have systemd start {name} with {} properties", properties.len())
            }
            Self::JoinUnit(cgroup) => {
                let name = cgroup.unit().map_or("", |unit| unit.name.as_str());
                write!(f, "have systemd move the child into {name}")
            }
            Self::Limits(_, limits) => write!(f, "write {} limits", limits.len()),
            Self::InitialCpus(cpus) => write!(f, "begin on the CPUs {}", cpus.list),
            Self::Clone(0, _) => f.write_str("clone the child"),
            Self::Clone(flags, _) => {
                write!(f, "clone the child into new namespaces: {}", names(*flags))
            }
            Self::AwaitInitPid => f.write_str("wait for the second fork of the child"),
            Self::ComeBack => f.write_str("come back to the namespaces of tare"),
            Self::WriteIdMaps(uids, gids) => {
                write!(f, "write id maps ({} for users, {} for groups)", uids.len(), gids.len())
            }
            Self::MakeRdt(rdt) => write!(f, "make the resctrl group {}", rdt.group().display()),
            Self::JoinRdt(rdt) => write!(f, "join the resctrl group {}", rdt.group().display()),
            Self::OomScore(score) => write!(f, "set oom_score_adj to {score}"),
            Self::Continue => f.write_str("tell the child to go on"),
            Self::ContinueIntoCgroups => {
                f.write_str("open the cgroups for the child to go on into")
            }
            Self::AwaitNamespaces => f.write_str("wait until the child is in its namespaces"),
            Self::CheckNetDevice(device) => write!(f, "see whether it is possible to {device}"),
            Self::MoveNetDevice(device) => device.fmt(f),
            Self::SupplySources => f.write_str("open the sources of bind mounts for the child"),
            Self::AwaitHooks => f.write_str("wait until the child has made its mounts"),
            Self::Hook(hook) => hook.fmt(f),
            Self::SendListener(agent) => {
                write!(f, "hand the listener of the seccomp filter to the agent at {}", agent.path)
            }
            Self::AwaitReady => f.write_str("wait until the child is ready"),
            Self::Rlimit(limit) => write!(f, "set {} of the child", limit.name),
            Self::SendPidfd(path) => write!(f, "send a process descriptor to {}", path.display()),
            Self::PidFile(path) => write!(f, "write the pid to {}", path.display()),
            Self::SaveState => f.write_str("save the state"),
            Self::Start => f.write_str("release the payload"),
            Self::StartBeforehand => f.write_str("release the payload once the child is ready"),
            Self::ConnectCriu => f.write_str("make the socket for criu"),
            Self::AwaitCriu => f.write_str("wait for criu"),
            Self::AttachCriu(_) => f.write_str("move criu into the cgroups of the container"),
            Self::Restore(restore) => {
                write!(f, "restore the processes from {}", restore.settings.images.display())
            }
        }
    }
}

impl fmt::Display for ChildStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinCgroup(cgroup, _) => {
                let names = cgroup.places().iter().map(|place| match place.controllers.as_str() {
                    "" => "unified",
                    controllers => controllers,
                });
                write!(f, "join the cgroups of {}", names.collect::<Vec<_>>().join(" "))
            }
            Self::JoinMemoryCgroup => f.write_str("join the cgroup of memory"),
            Self::TryJoinNamespace(join) => {
                write!(f, "try to join the {} namespace {}", join.kind.name, join.path.display())
            }
            Self::JoinNamespace(join) => {
                write!(f, "join the {} namespace {}", join.kind.name, join.path.display())
            }
            Self::JoinNamespacesOfInit(flags) => {
                write!(f, "join the container's namespaces: {}", names(*flags))
            }
            Self::Unshare(flags) => write!(f, "make new namespaces: {}", names(*flags)),
            Self::UnshareTime(_) => f.write_str("make a time namespace"),
            Self::ForkInit(0) => f.write_str("fork into the namespaces joined or made before"),
            Self::ForkInit(flags) => write!(f, "fork into new namespaces: {}", names(*flags)),
            Self::Await => f.write_str("wait for the runtime"),
            Self::HoldSources { .. } => f.write_str("take hold of the sources of bind mounts"),
            Self::HoldFileSystems(_) => f.write_str("make the file systems of joined namespaces"),
            Self::PinShared => f.write_str("take hold of the sources of shared bind mounts"),
            Self::PinRoot(root) => write!(f, "take hold of {}", root.display()),
            Self::WantSource(_) => f.write_str("have the runtime open the next mount's source"),
            Self::BecomeRoot => f.write_str("become root of the user namespace"),
            Self::HoldNamespaces => f.write_str("take hold of the own namespaces"),
            Self::Loopback => f.write_str("bring up the loopback interface"),
            Self::SyncNamespaces => f.write_str("wait for the runtime to see to the namespaces"),
            Self::Hostname(name) => write!(f, "set the host name to {name}"),
            Self::Domainname(name) => write!(f, "set the domain name to {name}"),
            Self::IsolateMounts(false) => f.write_str("make all mounts private"),
            Self::IsolateMounts(true) => f.write_str("make all mounts slaves of the host's"),
            Self::EnterRootfs(path) => {
                write!(f, "mount the root file system {} on itself", path.display())
            }
            Self::Mount(mount) => mount.fmt(f),
            Self::CgroupMounts { mount, hierarchies, .. } => {
                write!(
                    f,
                    "mount {} cgroup hierarchies on {}",
                    hierarchies.len(),
                    mount.destination.display()
                )
            }
            Self::Device(device, false) => device.fmt(f),
            Self::Device(device, true) => {
                write!(f, "bind the host's {} into the root", device.path.display())
            }
            Self::Link(path, to) => write!(f, "link {} to {}", path.display(), to.display()),
            Self::Terminal { .. } => f.write_str("allocate the terminal"),
            Self::SyncHooks => f.write_str("wait for the hooks of the runtime"),
            Self::Hook(hook) => hook.fmt(f),
            Self::MakeCwd(path) => write!(f, "make the working directory {}", path.display()),
            Self::PivotRoot(false) => f.write_str("make the root file system the root"),
            Self::PivotRoot(true) => f.write_str("move the root file system to the root"),
            Self::LeaveMounts => f.write_str("go back to the host's mounts in a detached root"),
            Self::Sysctl(key, value) => write!(f, "set sysctl {key} to {value}"),
            Self::ReadOnlyMounts => f.write_str("make tmpfs mounts and /dev read-only as asked"),
            Self::ReadOnlyPath(path) => write!(f, "make {} read-only", path.display()),
            Self::MaskPath(path) => write!(f, "mask {}", path.display()),
            Self::ReadOnlyRoot => f.write_str("make the root file system read-only"),
            Self::RootPropagation(..) => f.write_str("set the propagation of the root"),
            _ => self.fmt_late(f),
        }
    }
}

impl ChildStep {
    /// The steps after everything is mounted.
    fn fmt_late(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloseDescriptors => f.write_str("close what setting up has opened"),
            Self::Keyring(name, _) => write!(f, "join the session keyring {name}"),
            Self::Session => f.write_str("start a new session"),
            Self::Rlimit(limit) => write!(f, "set {}", limit.name),
            Self::Scheduling(scheduling) => fmt::Display::fmt(scheduling, f),
            Self::Label(label) => fmt::Display::fmt(label, f),
            Self::Umask(mask) => write!(f, "set the umask to {mask:04o}"),
            Self::Chdir(path, _) => write!(f, "go to the working directory {}", path.display()),
            Self::OwnStdio(uid) => write!(f, "give the standard descriptors to user {uid}"),
            Self::Seccomp(filter, _) => {
                write!(f, "load the seccomp filter ({} instructions)", filter.program.len())
            }
            Self::Credentials(user) => write!(f, "become user {} and group {}", user.uid, user.gid),
            Self::NoNewPrivileges => f.write_str("rule out new privileges"),
            Self::FindProgram => f.write_str("find the program"),
            Self::AwaitStart => f.write_str("wait for the start"),
            Self::Exec => f.write_str("execute the program"),
            Self::RootForCriu(root, _) => write!(f, "mount {} for criu", root.display()),
            Self::LeaveRootfs(_) => f.write_str("unmount what was mounted to make mount points"),
            Self::BecomeCriu(program, _) => write!(f, "execute {}", program.display()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The names of the namespaces in `flags`, in the order of the kernel's documentation.
fn names(flags: u64) -> String {
    let names: Vec<_> = KINDS.iter().filter(|k| flags & k.flag != 0).map(|k| k.name).collect();
    names.join(", ")
}
