//! The child: executes its steps, then the payload. It runs on a copy of the runtime's memory, so
//! the plan is there already; it never returns.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use crate::cgroup::{CANNOT_APPLY, Cgroup, Entrance};
use crate::criu;
use crate::error::{Doing, Error, Result};
use crate::hooks::{Hook, Point};
use crate::mounts::{self, Mount};
use crate::namespaces::{self, Kind, NEWNS, NEWUSER, Namespaces};
use crate::path::Root;
use crate::pipes::Ends;
use crate::plan::Plan;
use crate::rootfs::{self, Mask, PinnedRoot};
use crate::seccomp::{self, Filter};
use crate::state::{State, Status};
use crate::step::ChildStep;
use crate::sys::process::{ANY_SIGNAL, Fork, Strings, exec, exec_fd, exit_now, fork_into};
use crate::sys::stub;
use crate::terminal::{self, Pty};
use crate::trace::Trace;
use crate::wire::{Channel, Msg, Request, exec_failed, send_fd};
use crate::{devices, process, sys};

/// What the runtime has opened for the child.
#[derive(Debug)]
pub struct Inherited {
    /// The child's end of the channel, until it waits for `start`.
    pub channel: Option<Channel>,
    /// Namespaces to be joined, with their flags; of an exec, all of them or none.
    pub namespaces: Vec<(u64, OwnedFd)>,
    /// A process descriptor of the container's init (exec).
    pub init: Option<OwnedFd>,
    /// Who gets the terminal's master.
    pub console: Option<OwnedFd>,
    /// What the payload gets instead of the caller's standard descriptors.
    pub stdio: Ends,
    /// The socket on which `start` is waited for (create).
    pub start: Option<OwnedFd>,
    /// The container's state, for its hooks; without a pid yet.
    pub state: Option<State>,
    /// How many descriptors after stdio the payload gets, with those of `LISTEN_FDS`.
    pub preserve: u32,
    /// How many of them are `LISTEN_FDS`.
    pub listen: Option<u32>,
}

impl Inherited {
    fn descriptors(&self) -> Vec<i32> {
        let single = [&self.init, &self.console, &self.start];
        let pipes = self.stdio.pipes.iter().map(|(_, fd)| fd);
        let many = self.namespaces.iter().map(|(_, fd)| fd).chain(pipes);
        let single = single.into_iter().flatten().chain(many).map(AsRawFd::as_raw_fd);
        let channel = self.channel.iter().map(|channel| channel.as_fd().as_raw_fd());
        let preserved = (3..).take(self.preserve as usize);
        single.chain(channel).chain(preserved).collect()
    }
}

/// Where a failure is reported to.
enum Report {
    /// The runtime that made this child.
    Channel,
    /// `tare start`, at the other end of this connection.
    Start(OwnedFd),
}

struct Child<'a> {
    plan: &'a Plan,
    inherited: &'a mut Inherited,
    report: Report,
    root: Option<Root>,
    pinned_root: Option<PinnedRoot>,
    /// The source of the next mount, from the runtime.
    source: Option<OwnedFd>,
    /// The own namespaces.
    namespaces: Vec<(Kind, OwnedFd)>,
    /// Sources of bind mounts that were pinned early, in the order of the mounts.
    pinned: Vec<Option<OwnedFd>>,
    /// The same for what may turn out to be out of reach.
    held: Vec<Option<OwnedFd>>,
    /// Mounts that become read-only once everything in them has been made.
    writable: Vec<OwnedFd>,
    mask: Mask,
    pty: Option<Pty>,
    /// The payload's end of the terminal, once the rest is closed.
    slave: Option<OwnedFd>,
    /// Whether the working directory is reached.
    in_cwd: bool,
    program: CString,
    env: Option<Strings>,
    filter: Option<&'a Filter>,
    /// The files of its cgroups that the runtime has opened.
    cgroups: Vec<OwnedFd>,
    /// The way into the memory cgroup.
    memory: Vec<Entrance>,
    /// The signals that may be ignored, as [`Msg::Start`] has them.
    ignored: i32,
}

/// Executes the child's steps.
pub fn main(plan: &Plan, mut inherited: Inherited, trace: &Trace) -> ! {
    let mut child = Child {
        plan,
        inherited: &mut inherited,
        report: Report::Channel,
        root: None,
        pinned_root: None,
        namespaces: Vec::new(),
        source: None,
        pinned: Vec::new(),
        held: Vec::new(),
        writable: Vec::new(),
        mask: Mask::default(),
        pty: None,
        slave: None,
        in_cwd: false,
        program: CString::default(),
        env: None,
        filter: None,
        cgroups: Vec::new(),
        memory: Vec::new(),
        ignored: ANY_SIGNAL,
    };
    if let Err(err) = child.run(trace) {
        child.fail(err);
    }
    exit_now(1)
}

impl<'a> Child<'a> {
    fn run(&mut self, trace: &Trace) -> Result<()> {
        // Nothing of the runtime's or its caller's may stay open here (CVE-2024-21626), not even
        // until execve(2): a waiting child can be looked at by others.
        sys::process::close_others(&self.inherited.descriptors()).doing(|| "close descriptors")?;
        sys::process::set_parent_death_signal(libc::SIGKILL)
            .doing(|| "have the child end with the runtime")?;
        let plan = self.plan;
        for (index, entry) in plan.child.iter().enumerate() {
            trace.step(index, || self.perform(&entry.step)).map_err(|err| {
                let err = err.or_doing(|| entry.step.to_string());
                let err = match err.errno() {
                    Some(Errno::EPERM | Errno::ENOSYS) => plan.explain_filter(index, err),
                    _ => err,
                };
                if entry.at.is_empty() { err } else { err.at(entry.at.as_str()) }
            })?;
        }
        Err(no_process())
    }

    /// Sends a failure to whoever waits for this child. Nobody may be there any more.
    fn fail(&self, err: Error) {
        let sent = match &self.report {
            Report::Channel => self.channel().and_then(|to| to.send(&Msg::Failed(err), None)),
            Report::Start(connection) => {
                let bytes = Msg::Failed(err).encode();
                nix::unistd::write(connection, &bytes).map(drop).map_err(Error::from)
            }
        };
        drop(sent);
    }

    #[inline(never)] // It is called at many places, and all but never fails.
    fn channel(&self) -> Result<&Channel> {
        self.inherited.channel.as_ref().ok_or_else(|| Error::new("the runtime is gone"))
    }

    fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(|| Error::new("the root file system is not entered yet"))
    }

    fn perform(&mut self, step: &'a ChildStep) -> Result<()> {
        match step {
            ChildStep::JoinCgroup(now, late) => self.join_cgroups(now, late),
            ChildStep::Scheduling(scheduling) => scheduling.apply(),
            ChildStep::TryJoinNamespace(join) => match self.join(join.kind) {
                Err(err) if err.errno() == Some(Errno::EPERM) => Ok(()),
                other => other,
            },
            ChildStep::JoinNamespace(join) => self.join(join.kind),
            ChildStep::JoinNamespacesOfInit(flags) => self.join_init(*flags),
            ChildStep::Unshare(flags) => namespaces::unshare(*flags),
            ChildStep::UnshareTime(offsets) => namespaces::unshare_time(offsets),
            ChildStep::ForkInit(flags) => self.fork_again(*flags),
            ChildStep::Await => self.await_continue(),
            ChildStep::PinRoot(root) => {
                self.pinned_root = Some(PinnedRoot::open(root)?);
                Ok(())
            }
            ChildStep::WantSource(index) => self.want_source(*index),
            ChildStep::HoldSources { receive, share } => {
                self.hold(|mount| mount.pin_apart(*receive, *share).ok());
                Ok(())
            }
            ChildStep::HoldFileSystems(joined) => {
                self.hold(|mount| mount.make_early(*joined));
                Ok(())
            }
            ChildStep::PinShared => self.pin_shared(),
            ChildStep::BecomeRoot => namespaces::become_root(),
            ChildStep::HoldNamespaces => {
                self.namespaces = namespaces::own()?;
                Ok(())
            }
            ChildStep::Loopback => Ok(sys::process::loopback_up()?),
            ChildStep::SyncNamespaces => {
                self.channel()?.send(&Msg::InNamespaces, None)?;
                self.await_continue()
            }
            ChildStep::Hostname(name) => Ok(nix::unistd::sethostname(name)?),
            ChildStep::Domainname(name) => Ok(sys::process::set_domainname(name)?),
            ChildStep::IsolateMounts(receive) => rootfs::isolate(*receive),
            ChildStep::EnterRootfs(path) => {
                let pinned = self.pinned_root.take().map_or_else(|| PinnedRoot::open(path), Ok)?;
                self.root = Some(pinned.enter()?);
                Ok(())
            }
            ChildStep::Mount(_) | ChildStep::CgroupMounts { .. } => self.mount(step),
            ChildStep::Device(device, bind) => device.perform(self.root()?, *bind),
            ChildStep::Link(path, to) => devices::link(self.root()?, path, to),
            ChildStep::Terminal { console, size, to_socket } => {
                self.terminal(*console, *size, *to_socket)
            }
            ChildStep::SyncHooks => {
                self.channel()?.send(&Msg::AtHooks, None)?;
                self.await_continue()
            }
            ChildStep::Hook(hook) => self.hook(hook),
            _ => self.perform_late(step),
        }
    }

    /// The steps from pivot_root(2) on.
    fn perform_late(&mut self, step: &'a ChildStep) -> Result<()> {
        match step {
            ChildStep::MakeCwd(path) => process::make_directory(self.root()?, path),
            ChildStep::PivotRoot(false) => rootfs::pivot(self.root()?),
            ChildStep::PivotRoot(true) => rootfs::move_to_slash(self.root()?),
            ChildStep::LeaveMounts => self.leave_mounts(),
            ChildStep::Sysctl(key, value) => namespaces::set_sysctl(key, value),
            ChildStep::ReadOnlyPath(path) => rootfs::read_only_path(self.root()?, path),
            ChildStep::MaskPath(path) => {
                let root = self.root.as_ref().ok_or(Errno::EBADF)?;
                self.mask.hide(root, path)
            }
            ChildStep::ReadOnlyMounts => self.writable.drain(..).try_for_each(|mount| {
                mounts::read_only(mount.as_fd())?;
                sys::process::close_later(mount);
                Ok(())
            }),
            ChildStep::ReadOnlyRoot => rootfs::read_only_root(self.root()?),
            ChildStep::RootPropagation(flag, recursive) => rootfs::propagate(*flag, *recursive),
            ChildStep::CloseDescriptors => self.close_descriptors(),
            ChildStep::Keyring(name, first) => join_keyring(name, *first),
            ChildStep::Session => terminal::new_session(self.slave.as_ref().map(AsFd::as_fd)),
            ChildStep::Rlimit(limit) => limit.apply(0),
            ChildStep::Label(label) => label.apply(),
            ChildStep::Umask(mask) => {
                umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            ChildStep::Chdir(path, first) => self.change_directory(path, *first),
            ChildStep::OwnStdio(uid) => self.own_stdio(*uid),
            ChildStep::JoinMemoryCgroup => {
                let memory = std::mem::take(&mut self.memory);
                memory.iter().try_for_each(Entrance::enter).map_err(|e| e.context(CANNOT_APPLY))
            }
            ChildStep::Seccomp(filter, false) => self.load(filter),
            ChildStep::Seccomp(filter, true) => {
                self.filter = Some(filter);
                Ok(())
            }
            ChildStep::Credentials(user) => user.assume(),
            ChildStep::NoNewPrivileges => Ok(sys::security::set_no_new_privileges()?),
            ChildStep::FindProgram => self.find_program(),
            ChildStep::AwaitStart => self.await_start(),
            ChildStep::Exec => self.exec(),
            ChildStep::RootForCriu(root, place) => rootfs::bind(root, place),
            ChildStep::LeaveRootfs(path) => rootfs::leave(path),
            ChildStep::BecomeCriu(program, folders) => self.become_criu(program, folders),
            other => Err(Error::new(format!("{other} is out of place"))),
        }
    }

    fn mount(&mut self, step: &ChildStep) -> Result<()> {
        let next = |sources: &mut Vec<Option<OwnedFd>>| match sources.is_empty() {
            true => None,
            false => sources.remove(0),
        };
        let pinned = next(&mut self.pinned).or(self.source.take());
        let held = next(&mut self.held);
        let root = self.root()?;
        match step {
            ChildStep::Mount(mount) => {
                let made = mount.perform(root, pinned, held)?;
                if mount.is_root() {
                    self.root = Some(Root::new(made.try_clone().map_err(|_| Errno::EMFILE)?));
                }
                self.finish(mount, made);
            }
            ChildStep::CgroupMounts { mount, hierarchies, namespaced, read_only } => {
                let made = mount.perform_cgroups(root, hierarchies, *namespaced, *read_only)?;
                self.finish(mount, made);
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps what was `made` if it is to become read-only in the end.
    fn finish(&mut self, mount: &Mount, made: OwnedFd) {
        match mount.is_read_only_later() {
            true => self.writable.push(made),
            false => sys::process::close_later(made),
        }
    }

    /// Joins the cgroups while their files can still be reached.
    fn join_cgroups(&mut self, now: &Cgroup, late: &Cgroup) -> Result<()> {
        let is_exec = self.inherited.state.is_none();
        let mut opened = std::mem::take(&mut self.cgroups).into_iter();
        let mut join = || -> Result<Vec<Entrance>> {
            for entrance in now.entrances(&mut opened)? {
                entrance.enter()?;
                sys::process::close_later(entrance.into());
            }
            late.entrances(&mut opened)
        };
        self.memory = join().map_err(|err| match is_exec {
            true => err.context(format!("error adding pid {} to cgroups", host_pid())),
            false => err.context(CANNOT_APPLY),
        })?;
        Ok(())
    }

    /// Joins the namespace that the runtime has opened, unless that is done.
    fn join(&mut self, kind: Kind) -> Result<()> {
        let opened = &mut self.inherited.namespaces;
        let Some(index) = opened.iter().position(|(flag, _)| *flag == kind.flag) else {
            return Ok(());
        };
        if kind.flag == NEWUSER {
            namespaces::drop_groups()?;
        }
        if let Some((_, fd)) = opened.get(index) {
            namespaces::enter(fd.as_fd(), kind)?;
        }
        opened.remove(index);
        Ok(())
    }

    /// The copy of the root file system is in no mount namespace: it ends with its last process.
    fn leave_mounts(&mut self) -> Result<()> {
        let tree = rootfs::detached(self.root()?)?;
        self.join(Namespaces::of_runtime().kind)?;
        rootfs::change_root(tree.as_fd())
    }

    fn join_init(&mut self, flags: u64) -> Result<()> {
        let init = self.inherited.init.as_ref().ok_or(Errno::ESRCH)?;
        if flags & NEWUSER != 0 {
            namespaces::drop_groups()?;
        }
        if flags & NEWNS == 0 {
            rootfs::change_root(rootfs::root_of(init.as_fd())?.as_fd())?;
        }
        let mut given = std::mem::take(&mut self.inherited.namespaces);
        if given.is_empty() && flags != 0 {
            sys::process::enter(init.as_fd(), flags)?;
        }
        // As in a plan: some with the rights that are there now, the rest with the user namespace's.
        given.retain(|(flag, fd)| {
            let now = flags & flag & !NEWUSER != 0;
            flags & flag != 0 && !(now && sys::process::enter(fd.as_fd(), *flag).is_ok())
        });
        for (flag, fd) in &given {
            sys::process::enter(fd.as_fd(), *flag)?;
        }
        let root = Root::open(Path::new("/"))?;
        umask(Mode::empty());
        self.root = Some(root);
        Ok(())
    }

    /// Forks once more: the pid and the time namespace are entered by birth alone, and this process is
    /// where it has to be to make or join them by now.
    fn fork_again(&mut self, flags: u64) -> Result<()> {
        let forked = fork_into(flags | libc::CLONE_PARENT as u64, None);
        match forked.map_err(|errno| namespaces::not_made(errno, flags))? {
            Fork::Child => Ok(sys::process::set_parent_death_signal(libc::SIGKILL)?),
            Fork::Parent(pid, _) => {
                self.channel()?.send(&Msg::InitPid(pid.as_raw()), None)?;
                exit_now(0)
            }
        }
    }

    fn await_continue(&mut self) -> Result<()> {
        match self.channel()?.receive_with_fds()? {
            (Some(Msg::Continue), fds) => {
                self.cgroups.extend(fds);
                Ok(())
            }
            // The runtime is gone.
            _ => exit_now(1),
        }
    }

    /// As [`Child::await_continue`], where no files come along: by calls that a payload makes, too.
    fn go_on(&self) -> Result<()> {
        match self.channel()?.receive()? {
            Some(Msg::Continue) => Ok(()),
            _ => exit_now(1),
        }
    }

    /// A hook in the container's namespaces: `pid` is the one that is seen there (runtime.md, "State").
    /// It starts where runc's does: in the root file system, or in the payload's working directory.
    fn hook(&self, hook: &Hook) -> Result<()> {
        let Some(state) = &self.inherited.state else { return Ok(()) };
        let state = State { pid: nix::unistd::getpid().as_raw(), ..state.clone() };
        let run = |status, env| hook.run(state.for_hooks(status).as_bytes(), env, None, None);
        if hook.point == Point::StartContainer {
            // A program of the container, as its user: that has its environment, as with runc.
            let env = self.env.as_ref().map_or(&[][..], Strings::strings);
            return run(Status::Created, env);
        }
        nix::unistd::fchdir(self.root()?)?;
        // What it makes is not for everyone to write, as what the steps make may be.
        let before = umask(Mode::S_IWGRP | Mode::S_IWOTH);
        // Its program is the host's: what the image sets is not for it (CVE-2025-23266).
        let done = run(Status::Creating, &[]);
        umask(before);
        done
    }

    /// Takes hold of what `found` finds for a mount. What cannot be held fails when it is mounted.
    fn hold(&mut self, found: impl Fn(&Mount) -> Option<OwnedFd>) {
        let mut before = std::mem::take(&mut self.held).into_iter();
        self.held = self
            .plan
            .mounts()
            .map(|step| match (before.next().flatten(), step) {
                (None, ChildStep::Mount(mount)) => found(mount),
                (held, _) => held,
            })
            .collect();
    }

    /// Takes hold of the sources of the mounts that are shared with the host.
    fn pin_shared(&mut self) -> Result<()> {
        for step in self.plan.mounts() {
            let pinned = match step {
                ChildStep::Mount(mount) if mount.is_shared() => {
                    Some(mount.pin().map_err(|e| e.or_doing(|| mount.to_string()))?)
                }
                _ => None,
            };
            self.pinned.push(pinned);
        }
        Ok(())
    }

    /// The runtime opens what the container's root may not reach, and maps ids. It gets what is held
    /// already.
    fn want_source(&mut self, index: usize) -> Result<()> {
        let early = self.pinned.first_mut().and_then(Option::take);
        let channel = self.channel()?;
        channel.send(&Msg::WantSource(index as i32), early.as_ref().map(OwnedFd::as_fd))?;
        match channel.receive_with_fd()? {
            (Some(Msg::Source), source) => self.source = source,
            // The runtime is gone, or has failed.
            _ => exit_now(1),
        }
        Ok(())
    }

    fn terminal(&mut self, console: bool, size: Option<(u16, u16)>, to_socket: bool) -> Result<()> {
        let root = self.root()?;
        let pty = Pty::open(root, size)?;
        if console {
            pty.bind_console(root)?;
        }
        match self.inherited.console.take().filter(|_| to_socket) {
            Some(socket) => send_fd(socket.as_fd(), pty.master.as_fd(), b"/dev/ptmx")
                .map_err(|e| e.or_doing(|| "send the terminal to the console socket".into()))?,
            None => self.channel()?.send(&Msg::Terminal, Some(pty.master.as_fd()))?,
        }
        self.pty = Some(pty);
        Ok(())
    }

    fn close_descriptors(&mut self) -> Result<()> {
        // What is not kept goes with the rest, in one call.
        self.root.take().into_iter().for_each(Root::close_later);
        std::mem::take(&mut self.mask).close_later();
        let terminal = self.pty.as_ref().map(|pty| pty.slave.as_raw_fd());
        let memory = self.memory.iter().map(|entrance| entrance.as_fd().as_raw_fd());
        let namespaces = self.namespaces.iter().map(|(_, fd)| fd.as_raw_fd());
        let keep = self.inherited.descriptors().into_iter().chain(terminal).chain(memory);
        let keep = keep.chain(namespaces);
        let keep: Vec<i32> = keep.collect();
        if let Some(pty) = self.pty.take() {
            let Pty { master, slave } = pty;
            drop(master);
            self.slave = Some(slave);
        }
        sys::process::close_others(&keep)?;
        // Not as late as the exec itself: the payload's filter may not know close_range(2).
        Ok(sys::process::close_on_exec_from(3 + self.inherited.preserve)?)
    }

    /// Goes to the working directory; as root first, and where root may not (NFS), as the user.
    fn change_directory(&mut self, path: &Path, first: bool) -> Result<()> {
        if !first && self.in_cwd {
            return Ok(());
        }
        match process::change_directory(path) {
            Err(err) if first && err.errno() == Some(Errno::EACCES) => return Ok(()),
            other => other.map_err(|err| {
                let path = path.display();
                err.or_doing(|| format!("chdir to cwd (\"{path}\") set in config.json failed"))
            })?,
        }
        self.in_cwd = true;
        Ok(())
    }

    /// Its ends of the pipes take the place of the caller's descriptors.
    fn own_stdio(&mut self, uid: u32) -> Result<()> {
        for (numbers, end) in self.inherited.stdio.pipes.drain(..) {
            numbers.iter().try_for_each(|number| sys::process::dup_to(end.as_fd(), *number))?;
        }
        process::own_stdio(uid, self.inherited.stdio.callers)
    }

    fn find_program(&mut self) -> Result<()> {
        let Some(payload) = &self.plan.payload else { return Ok(()) };
        self.program = payload.find()?;
        self.env = Some(payload.environment(self.inherited.listen)?);
        Ok(())
    }

    /// Loads the filter. Its listener goes to the runtime, which hands it to the agent: every call
    /// after that may have to wait for the agent's answer.
    fn load(&mut self, filter: &Filter) -> Result<()> {
        let loaded = sys::seccomp::set_filter(&filter.program, filter.flags);
        let Some(listener) = loaded.map_err(seccomp::refused)? else { return Ok(()) };
        let msg = Msg::Listener(listener.as_raw_fd());
        if filter.listener.as_ref().is_some_and(|agent| agent.by_number) {
            self.channel()?.send(&msg, None)?;
            return self.go_on();
        }
        self.channel()?.send(&msg, Some(listener.as_fd()))?;
        // Nobody else may hold it: with the agent gone, the kernel has to answer the calls.
        drop(listener);
        self.go_on()
    }

    /// From here on the container is created. A process that waits for long keeps nothing open that
    /// it needs no more.
    fn await_start(&mut self) -> Result<()> {
        self.slave = None;
        sys::process::set_parent_death_signal(0)?;
        self.channel()?.send(&Msg::Ready, None)?;
        let Some(listener) = self.inherited.start.take() else {
            return match self.channel()?.receive()? {
                Some(Msg::Start(ignored)) => {
                    self.ignored = ignored;
                    Ok(())
                }
                _ => exit_now(1),
            };
        };
        self.go_on()?;
        self.inherited.channel = None;
        let listener = UnixListener::from(listener);
        loop {
            // A caller that goes away before it has said `start` releases nothing.
            let (connection, _) = listener.accept().doing(|| "wait for start")?;
            let connection = OwnedFd::from(connection);
            match Request::read(connection.as_fd()) {
                Some(Request::Start) => self.report = Report::Start(connection),
                Some(Request::Enter) => {
                    self.hand_out_namespaces(&connection.into());
                    continue;
                }
                None => continue,
            }
            if self.plan.payload.is_some() {
                return Ok(());
            }
            // An error leaves the container as it was (runtime.md, "Errors").
            self.fail(no_process());
            self.report = Report::Channel;
        }
    }

    /// Gives an exec what it may not open: a waiting process cannot be looked into.
    fn hand_out_namespaces(&self, asking: &Channel) {
        for (kind, fd) in &self.namespaces {
            // It may have gone away.
            let _ = asking.send(&Msg::Namespace(kind.flag as i32), Some(fd.as_fd()));
        }
    }

    /// Whether the container was created before it was started: for whoever did that it runs, and what
    /// becomes of it is told by its output and its exit code.
    fn is_created(&self) -> bool {
        matches!(self.report, Report::Start(_))
    }

    /// The last step. Returns only if the payload cannot be executed.
    fn exec(&mut self) -> Result<()> {
        process::reset_signals(self.ignored)?;
        if let Some(filter) = self.filter.filter(|_| self.plan.exposed) {
            self.load(filter)?;
        }
        let (Some(payload), Some(env)) = (&self.plan.payload, &self.env) else { return Ok(()) };
        let errno = match self.plan.exposed {
            true => exec(&self.program, &payload.args, env),
            false => self.exec_stub(&payload.args, env)?,
        };
        let err = exec_failed(&self.program.to_string_lossy(), errno);
        if self.is_created() {
            // Nobody is left to be told if this cannot be written.
            let _ = nix::unistd::write(sys::process::stdio(2), (err.message() + "\n").as_bytes());
        }
        Err(err)
    }

    /// criu works in folders that the runtime holds open, but has to see them in its own mount
    /// namespace.
    fn become_criu(&self, program: &Path, folders: &[PathBuf]) -> Result<()> {
        for folder in criu::open(folders)? {
            self.channel()?.send(&Msg::Ready, Some(folder.as_fd()))?;
        }
        sys::process::set_parent_death_signal(0)?;
        process::reset_signals(ANY_SIGNAL)?;
        let given: Vec<_> = self.inherited.namespaces.iter().map(|(_, fd)| fd.as_fd()).collect();
        Err(criu::become_criu(program, &given))
    }

    fn exec_stub(&self, args: &Strings, env: &Strings) -> Result<Errno> {
        let report = match &self.report {
            Report::Channel => self.channel()?.as_fd().as_raw_fd(),
            Report::Start(connection) => connection.as_raw_fd(),
        };
        let none: &[libc::sock_filter] = &[];
        let stub = stub::build(&stub::Params {
            report,
            filter: self.filter.map_or(none, |filter| &filter.program),
            filter_flags: self.filter.map_or(0, |filter| filter.flags),
            tells: self.is_created(),
            path: &self.program,
        });
        let stub = stub.map_err(|errno| {
            let err = Error::sys("make the memory file that executes the payload", errno);
            match errno {
                Errno::EACCES => err.hint("vm.memfd_noexec has to be 0 or 1"),
                _ => err,
            }
        })?;
        sys::process::keep_on_exec(report)?;
        Ok(exec_fd(stub.as_fd(), args, env))
    }
}

/// This process's number in the pid namespace of the host's /proc.
fn host_pid() -> String {
    let link = std::fs::read_link("/proc/self");
    link.map_or_else(|_| "?".into(), |pid| pid.to_string_lossy().into_owned())
}

fn no_process() -> Error {
    Error::new("cannot start a container without a process").at("process")
}

const NO_KEYRING: &str = "--no-new-keyring keeps the caller's keyring";

fn join_keyring(name: &str, first: bool) -> Result<()> {
    let name = crate::path::c_string(name)?;
    match sys::process::join_session_keyring(&name) {
        // A kernel without keyrings has none to protect.
        Err(Errno::ENOSYS) => Ok(()),
        // 0: this process has it already, in a container of the same id.
        Ok(serial) if first && serial != 0 => sys::process::share_keyring(serial)
            .doing(|| "let the processes of exec find the session keyring")
            .map_err(|err| err.hint(NO_KEYRING)),
        other => other.map(drop).map_err(|errno| Error::from(errno).hint(NO_KEYRING)),
    }
}
