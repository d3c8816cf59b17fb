//! The runtime's side: executes the parent's steps around one clone, and undoes everything if a
//! step fails.

mod restore;
mod sources;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::cgroup::{CANNOT_APPLY, Cgroup, explain_threaded};
use crate::child::{self, Inherited};
use crate::criu;
use crate::error::{Doing, Error, Result};
use crate::hooks::{Hook, Point};
use crate::namespaces::{self, Excursion, KINDS, NEWPID, NEWTIME, Users};
use crate::netdev::{Move, Moved};
use crate::pipes::{Ends, Pipes};
use crate::plan::Plan;
use crate::rdt::Rdt;
use crate::seccomp::Listener;
use crate::spec::load::Config;
use crate::state::{Container, Stage, State, Status};
use crate::step::ParentStep;
use crate::sys::process::{ANY_SIGNAL, Fork, fork_into};
use crate::sys::{self, pidfd};
use crate::terminal;
use crate::trace::{Trace, Traces};
use crate::wire::{Channel, MOST_FDS, Msg, send_fd};

/// The name of the socket in the state directory on which a created container waits.
pub const START_SOCKET: &str = "start";

/// What the error of a child that ended without a word begins with.
pub const ENDED_EARLY: &str = "the container's process ended before its start";

/// The exit code of an init, runc's too, that fails once it has been told to start.
const INIT_FAILED: i32 = 255;

/// The child, as long as it is ours.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// A descriptor of it.
    pub fd: OwnedFd,
}

/// What the steps of a new container write down; an exec leaves no record.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its state directory, locked.
    pub container: &'a Container,
    /// Its state.
    pub state: State,
    /// Its configuration, which is kept with the state.
    pub config: &'a Config,
}

/// The running container that an exec joins.
#[derive(Debug)]
pub struct Joined {
    /// A process descriptor of its init.
    pub init: OwnedFd,
    /// Its state.
    pub state: State,
    /// Its namespaces, where the process descriptor is not enough to enter them.
    pub namespaces: Vec<(u64, OwnedFd)>,
}

/// What a successful run of the steps leaves.
#[derive(Debug)]
pub struct Made {
    /// The container's init, or the process of an exec.
    pub process: Process,
    /// The master of its terminal, if the runtime is to relay it.
    pub master: Option<OwnedFd>,
    /// The pipes that it is to relay.
    pub pipes: Pipes,
    /// The container's state as saved last; none for an exec.
    pub state: Option<State>,
}

/// Who runs the steps.
pub struct Parent<'a> {
    plan: &'a Plan,
    record: Option<Record<'a>>,
    joined: Option<Joined>,
    console: Option<OwnedFd>,
    start: Option<OwnedFd>,
    namespaces: Vec<(u64, OwnedFd)>,
    away: Excursion,
    channel: Option<Channel>,
    child: Option<Process>,
    master: Option<OwnedFd>,
    pipes: Pipes,
    /// The payload's ends of them, until it is there.
    ends: Ends,
    preserve: Preserve,
    /// Whether the child was made: what a hook of its end cleans up may be there from then on.
    cloned: bool,
    /// The conversation with criu (restore).
    criu: Option<criu::Session>,
    /// The numbers of the namespaces that criu gets.
    given: Vec<i32>,
    /// The folders in which criu works.
    folders: Vec<OwnedFd>,
    /// The group of resctrl, once it exists.
    rdt: Option<&'a Rdt>,
    /// The network devices that the container has got by now.
    devices: Vec<Moved>,
    /// The cgroups that exist by now.
    made: Vec<Cgroup>,
    /// The signals that the child may ignore, as [`Msg::Start`] has them.
    ignored: i32,
}

/// Which descriptors of the caller the payload gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preserve {
    /// How many after the standard ones.
    pub count: u32,
    /// How many of these are `LISTEN_FDS` (sd_listen_fds(3)).
    pub listen: Option<u32>,
}

impl<'a> Parent<'a> {
    /// Prepares to run `plan`: for a new container with a `record`, for an exec with the container `joined`.
    pub fn new(
        plan: &'a Plan,
        record: Option<Record<'a>>,
        mut joined: Option<Joined>,
        preserve: Preserve,
    ) -> Self {
        let namespaces = joined.as_mut().map(|joined| std::mem::take(&mut joined.namespaces));
        Parent {
            plan,
            record,
            joined,
            console: None,
            start: None,
            namespaces: namespaces.unwrap_or_default(),
            away: Excursion::default(),
            channel: None,
            child: None,
            master: None,
            pipes: Pipes::default(),
            ends: Ends::default(),
            preserve,
            cloned: false,
            criu: None,
            given: Vec::new(),
            folders: Vec::new(),
            rdt: None,
            devices: Vec::new(),
            made: Vec::new(),
            ignored: ANY_SIGNAL,
        }
    }

    /// Runs all steps.
    ///
    /// # Errors
    /// The first failure of either side; by then nothing is left of what was made.
    pub fn run(mut self, traces: &Traces) -> Result<Made> {
        match self.steps(traces) {
            Ok(()) => {}
            Err(err) => {
                let err = self.with_cause(err);
                self.undo();
                return Err(err);
            }
        }
        let process = self.child.ok_or_else(|| Error::new("the plan made no process"))?;
        Ok(Made {
            process,
            master: self.master,
            pipes: self.pipes,
            state: self.record.map(|record| record.state),
        })
    }

    fn steps(&mut self, traces: &Traces) -> Result<()> {
        let plan = self.plan;
        let maps = |entry: &crate::step::Entry<ParentStep>| {
            matches!(entry.step, ParentStep::WriteIdMaps(..))
        };
        // The child's copy of this process must not be looked into before it is the payload. Where it
        // is to be mapped by an unprivileged runtime, it sees to that itself (`BecomeRoot`).
        if !plan.parent.iter().any(maps) || sys::process::euid() == 0 {
            sys::security::set_dumpable(false).doing(|| "hide the process from others")?;
        }
        for (index, entry) in plan.parent.iter().enumerate() {
            let run = || self.perform(&entry.step, &traces.child);
            traces.parent.step(index, run).map_err(|err| {
                let err = err.or_doing(|| entry.step.to_string());
                if entry.at.is_empty() { err } else { err.at(entry.at.as_str()) }
            })?;
        }
        Ok(())
    }

    fn perform(&mut self, step: &'a ParentStep, trace: &Trace) -> Result<()> {
        match step {
            ParentStep::MakeState => self.make_state(),
            ParentStep::OpenNamespace(join) => {
                self.namespaces.push((join.kind.flag, namespaces::open(join)?));
                Ok(())
            }
            ParentStep::EnterForChild(join) => {
                let fd = namespaces::open(join)?;
                self.away.leave(join.kind)?;
                namespaces::enter(fd.as_fd(), join.kind)
            }
            ParentStep::CheckIdMaps(join, uids, gids) => {
                namespaces::check_id_maps(join, uids, gids)
            }
            ParentStep::EnterPidOfInit => self.enter_pid_of_init(),
            ParentStep::UnshareTime(offsets) => {
                self.leave(NEWTIME)?;
                namespaces::unshare_time(offsets)
            }
            ParentStep::ConnectConsole(path) => {
                self.console = Some(terminal::connect(path)?);
                Ok(())
            }
            ParentStep::ListenForStart => self.listen(),
            ParentStep::EnableControllers(cgroup) => {
                cgroup.enable_controllers();
                Ok(())
            }
            ParentStep::MakeCgroup(cgroup) => {
                cgroup.create()?;
                self.made.push(cgroup.clone());
                Ok(())
            }
            ParentStep::GiveCgroup(cgroup, uid, join) => {
                let users = join.as_ref();
                let outside = users.map(|join| namespaces::user_outside(join, *uid)).transpose()?;
                outside.unwrap_or(Some(*uid)).map_or(Ok(()), |uid| cgroup.give_to(uid))
            }
            ParentStep::StartUnit(cgroup, properties) => {
                cgroup.start_unit(self.pid(), properties)?;
                self.made.push(cgroup.clone());
                cgroup.settle(self.pid(), properties)
            }
            ParentStep::JoinUnit(cgroup) => {
                self.cgroup_of_init(cgroup).as_ref().unwrap_or(cgroup).join_unit(self.pid())
            }
            ParentStep::Limits(cgroup, limits) => cgroup.apply(limits),
            ParentStep::InitialCpus(cpus) => cpus.apply("initial"),
            ParentStep::MakePipes => {
                (self.pipes, self.ends) = Pipes::make()?;
                Ok(())
            }
            ParentStep::GiveStdio(users) => self.give_stdio(users),
            ParentStep::Clone(flags, cgroup) => self.clone_child(*flags, cgroup.as_ref(), trace),
            ParentStep::AwaitInitPid => self.await_init_pid(),
            ParentStep::ComeBack => self.away.come_back(),
            ParentStep::WriteIdMaps(uids, gids) => {
                namespaces::write_id_maps(self.pid(), uids, gids)
            }
            ParentStep::MakeRdt(rdt) => {
                rdt.make(self.pid())?;
                self.rdt = Some(rdt);
                Ok(())
            }
            ParentStep::JoinRdt(rdt) => rdt.join(self.pid()),
            ParentStep::OomScore(score) => self.set_oom_score(*score),
            ParentStep::Continue => self.send(&Msg::Continue),
            ParentStep::ContinueIntoCgroups => self.continue_into_cgroups(),
            ParentStep::AwaitNamespaces => match self.receive()? {
                Msg::InNamespaces => Ok(()),
                _ => Err(out_of_place()),
            },
            ParentStep::CheckNetDevice(device) => device.check(net_namespace(self.pid())?.as_fd()),
            ParentStep::MoveNetDevice(device) => self.move_device(device),
            ParentStep::SupplySources => self.supply_sources(),
            _ => self.perform_late(step),
        }
    }

    /// The steps once the child has made its mounts, and those of a restore.
    fn perform_late(&mut self, step: &'a ParentStep) -> Result<()> {
        match step {
            ParentStep::AwaitHooks => self.await_hooks(),
            ParentStep::Hook(hook) => self.hook(hook),
            ParentStep::SendListener(agent) => self.send_listener(agent),
            ParentStep::AwaitReady => self.await_ready(),
            ParentStep::Rlimit(limit) => limit.apply(self.pid()),
            ParentStep::SendPidfd(path) => self.send_pidfd(path),
            ParentStep::PidFile(path) => write_pid_file(path, self.pid()),
            ParentStep::SaveState => self.save_state(),
            ParentStep::Start => self.start(),
            ParentStep::StartBeforehand => self.start_beforehand(),
            ParentStep::ConnectCriu => self.connect_criu(),
            ParentStep::AwaitCriu => self.await_criu(),
            ParentStep::AttachCriu(cgroup) => cgroup.attach(self.pid()),
            ParentStep::Restore(restore) => self.restore(restore),
            other => Err(Error::new(format!("{other} is out of place"))),
        }
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    fn channel(&self) -> Result<&Channel> {
        self.channel.as_ref().ok_or_else(|| Error::new("there is no child to talk to"))
    }

    fn send(&self, msg: &Msg) -> Result<()> {
        self.channel()?.send(msg, None)
    }

    fn make_state(&mut self) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        record.container.save_config(record.config.text.as_bytes())?;
        record.container.save(&record.state)
    }

    fn give_stdio(&mut self, users: &Users) -> Result<()> {
        let init = self.joined.as_ref().map_or(0, |joined| joined.state.pid);
        users.root(init)?.map_or(Ok(()), |root| self.ends.give_to(root))
    }

    fn move_device(&mut self, device: &Move) -> Result<()> {
        self.devices.push(device.perform(net_namespace(self.pid())?.as_fd())?);
        Ok(())
    }

    /// The child's time is the dearer one: it gets the files opened by which it joins its cgroups.
    fn continue_into_cgroups(&self) -> Result<()> {
        let mut fds: Vec<OwnedFd> = Vec::new();
        for cgroup in self.plan.joined_cgroups() {
            let opened = cgroup.entrances(&mut std::iter::empty());
            let opened = opened.map_err(|err| err.context(CANNOT_APPLY))?;
            fds.extend(opened.into_iter().map(OwnedFd::from));
        }
        // It opens the rest itself.
        fds.truncate(MOST_FDS);
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.channel()?.send_with_fds(&Msg::Continue, &borrowed)?;
        sys::process::close_all(fds);
        Ok(())
    }

    fn leave(&mut self, flag: u64) -> Result<()> {
        KINDS.iter().filter(|kind| kind.flag == flag).try_for_each(|kind| self.away.leave(*kind))
    }

    fn enter_pid_of_init(&mut self) -> Result<()> {
        self.leave(NEWPID)?;
        let joined = self.joined.as_ref().ok_or(Errno::ESRCH)?;
        Ok(sys::process::enter(joined.init.as_fd(), NEWPID)?)
    }

    fn listen(&mut self) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let path = start_socket(record.container);
        // A leftover of a create that was killed before its first save.
        let _ = std::fs::remove_file(&path);
        self.start = Some(UnixListener::bind(&path)?.into());
        Ok(())
    }

    fn clone_child(&mut self, flags: u64, cgroup: Option<&Cgroup>, trace: &Trace) -> Result<()> {
        crate::scheduling::log_affinity();
        let (ours, theirs) = Channel::pair()?;
        let (fork, to_join) = self.clone_in(flags, cgroup)?;
        match fork {
            Fork::Child => {
                let inherited = Inherited {
                    channel: Some(theirs),
                    namespaces: std::mem::take(&mut self.namespaces),
                    init: self.joined.take().map(|joined| joined.init),
                    console: self.console.take(),
                    stdio: std::mem::take(&mut self.ends),
                    start: self.start.take(),
                    state: self.record.take().map(|record| record.state),
                    preserve: self.preserve.count,
                    listen: self.preserve.listen,
                };
                child::main(self.plan, inherited, trace)
            }
            Fork::Parent(pid, fd) => {
                // An exec has nothing else to do meanwhile, and may ask for certain CPUs.
                if self.record.is_some() {
                    crate::scheduling::spread(pid.as_raw());
                }
                self.child = Some(Process { pid: pid.as_raw(), fd });
                self.cloned = true;
                self.channel = Some(ours);
                self.namespaces.clear();
                self.ends.pipes.clear();
                // criu leaves it to us to hand the terminal out.
                self.console = self.console.take().filter(|_| self.criu.is_some());
                self.start = None;
                match to_join {
                    Some(cgroup) if self.record.is_none() => cgroup.join(self.pid())?,
                    Some(cgroup) => cgroup.attach(self.pid())?,
                    None => {}
                }
                self.follow_init(cgroup);
                Ok(())
            }
        }
    }

    /// Clones in the v2 cgroup, where there is one, or in that of init below; also the cgroup that
    /// the child was not born in, but has to join.
    fn clone_in(&self, flags: u64, cgroup: Option<&Cgroup>) -> Result<(Fork, Option<Cgroup>)> {
        let Some(cgroup) = cgroup.filter(|cgroup| !cgroup.places().is_empty()) else {
            return Ok((clone_into(flags, None)?.0, None));
        };
        let first = self.cgroup_of_init(cgroup).unwrap_or_else(|| cgroup.clone());
        let is_exec = self.record.is_none();
        let cloned = clone_in_cgroup(flags, first.clone()).or_else(|err| {
            // What an exec finds is the payload's.
            if err.errno() == Some(Errno::EOPNOTSUPP) && !is_exec && first.make_threaded() {
                return clone_in_cgroup(flags, first.clone());
            }
            let is_full = matches!(err.errno(), Some(Errno::EBUSY | Errno::ENOENT | Errno::ENODEV));
            let other = self.plan.init_pid.filter(|_| is_full);
            match other.and_then(|pid| cgroup.of_process(pid)).filter(|other| *other != first) {
                Some(other) => clone_in_cgroup(flags, other),
                None => Err(err),
            }
        });
        cloned.map_err(|err| match (is_exec, err.errno()) {
            (true, _) => err.context(format!("error adding pid {} to cgroups", std::process::id())),
            (false, Some(Errno::EBUSY | Errno::EOPNOTSUPP)) => {
                err.context(CANNOT_APPLY).at("linux.cgroupsPath")
            }
            (false, _) => err.context(CANNOT_APPLY),
        })
    }

    /// The cgroup below the container's that its init has moved to, as systemd does: a process that
    /// was put into the upper one would keep it from enabling controllers there.
    fn cgroup_of_init(&self, cgroup: &Cgroup) -> Option<Cgroup> {
        let own = cgroup.of_process(self.plan.init_pid?)?;
        own.is_below(cgroup).then_some(own)
    }

    /// Moves the child after an init that has moved while it was born. Where that is denied, the
    /// child is where it was to be.
    fn follow_init(&self, cgroup: Option<&Cgroup>) {
        let Some(cgroup) = cgroup else { return };
        let Some(init) = self.cgroup_of_init(cgroup) else { return };
        if cgroup.of_process(self.pid()).is_some_and(|child| child != init) {
            let _ = init.join(self.pid());
        }
    }

    /// The child forked once more; its own child is init, and a child of ours too.
    fn await_init_pid(&mut self) -> Result<()> {
        let pid = match self.receive()? {
            Msg::InitPid(pid) => pid,
            _ => return Err(out_of_place()),
        };
        let first = self.child.replace(Process { pid, fd: pidfd::open(pid)? });
        if let Some(first) = first {
            let _ = sys::process::wait(first.pid, 0);
        }
        Ok(())
    }

    fn set_oom_score(&self, score: i32) -> Result<()> {
        let path = format!("/proc/{}/oom_score_adj", self.pid());
        std::fs::write(&path, score.to_string()).map_err(|err| {
            let denied = matches!(err.raw_os_error(), Some(libc::EACCES | libc::EPERM));
            let err = Error::io(format!("write {score} to {path}"), &err);
            if denied { err.hint("lowering the score needs CAP_SYS_RESOURCE") } else { err }
        })
    }

    /// Receives what is neither a failure nor the end.
    fn receive(&mut self) -> Result<Msg> {
        Ok(self.receive_with_fd()?.0)
    }

    fn receive_with_fd(&mut self) -> Result<(Msg, Option<OwnedFd>)> {
        loop {
            match self.channel()?.receive_with_fd()? {
                (Some(Msg::Failed(err)), _) => {
                    // It has said its last word.
                    self.channel = None;
                    return Err(err);
                }
                (Some(Msg::Terminal), fd) => self.take_master(fd)?,
                (Some(msg), fd) => return Ok((msg, fd)),
                (None, _) => return Err(self.died()),
            }
        }
    }

    fn take_master(&mut self, master: Option<OwnedFd>) -> Result<()> {
        let master = master.ok_or_else(out_of_place)?;
        terminal::prepare_relay(master.as_fd())?;
        self.master = Some(master);
        Ok(())
    }

    /// The child ended without a word.
    fn died(&mut self) -> Error {
        let status = self.reap();
        match self.memory_limit().filter(|_| status.contains("signal 9")) {
            Some(at) if self.lacked_memory() => {
                Error::new("container init was OOM-killed (memory limit too low?)").at(at)
            }
            _ => {
                let err = Error::new(format!("{ENDED_EARLY}: {status}"));
                let killed = status.contains("signal 9");
                if killed { err } else { self.plan.explain_filter(usize::MAX, err) }
            }
        }
    }

    /// The JSON path of the container's memory limit.
    fn memory_limit(&self) -> Option<String> {
        let limits = self.plan.parent.iter().find_map(|entry| match &entry.step {
            ParentStep::Limits(_, limits) => Some(limits),
            _ => None,
        });
        let memory = limits?.iter().find(|limit| limit.file.starts_with("memory."))?;
        Some(memory.at.to_string())
    }

    /// Whether the kernel ended a process of the container for want of memory.
    fn lacked_memory(&self) -> bool {
        self.plan.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills() > 0)
    }

    fn reap(&mut self) -> String {
        let Some(child) = self.child.take() else { return "it was never made".into() };
        let Ok(Some((_, status))) = sys::process::wait(child.pid, 0) else {
            return "its end could not be learned".into();
        };
        match (status.code(), status.signal().map(|number| (number, Signal::try_from(number)))) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some((number, Ok(signal)))) => format!("signal {number} ({})", signal.as_str()),
            (_, number) => format!("signal {}", number.map_or(0, |(number, _)| number)),
        }
    }

    fn await_hooks(&mut self) -> Result<()> {
        match self.receive()? {
            Msg::AtHooks => {}
            _ => return Err(out_of_place()),
        }
        // The hooks may ask for the state: it has to know the process by now.
        let pid = self.pid();
        if let Some(record) = &mut self.record {
            self.ignored = record.state.set_init(pid)?;
            record.container.save(&record.state)?;
        }
        Ok(())
    }

    fn hook(&self, hook: &Hook) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let state = record.state.for_hooks(Status::Creating);
        let init = self.child.as_ref().map(|child| child.fd.as_fd());
        hook.run(state.as_bytes(), &[], Some(&record.state.bundle), init)
    }

    /// The message for the agent tells of a container that is being made, or of the running one
    /// that the process joins.
    fn send_listener(&mut self, agent: &Listener) -> Result<()> {
        let (number, fd) = match self.receive_with_fd()? {
            (Msg::Listener(number), fd) => (number, fd),
            _ => return Err(out_of_place()),
        };
        let child = self.child.as_ref().ok_or(Errno::ESRCH)?;
        let listener = match fd {
            Some(fd) => fd,
            None => pidfd::get_fd(child.fd.as_fd(), number)
                .doing(|| "take the listener of the seccomp filter from the child")?,
        };
        let (state, status) = match (&self.record, &self.joined) {
            (Some(record), _) => {
                (State { pid: child.pid, ..record.state.clone() }, Status::Creating)
            }
            (None, Some(joined)) => (joined.state.clone(), Status::Running),
            (None, None) => return Err(out_of_place()),
        };
        agent.send(listener.as_fd(), child.pid, &state, status)
    }

    fn await_ready(&mut self) -> Result<()> {
        match self.receive()? {
            Msg::Ready => Ok(()),
            _ => Err(out_of_place()),
        }
    }

    fn send_pidfd(&self, path: &Path) -> Result<()> {
        let socket = UnixStream::connect(path)?;
        let child = self.child.as_ref().ok_or(Errno::ESRCH)?;
        send_fd(socket.as_fd(), child.fd.as_fd(), b"pidfd")
    }

    fn save_state(&mut self) -> Result<()> {
        let pid = self.pid();
        let starts = |step: &ParentStep| {
            use ParentStep::{Restore, Start, StartBeforehand};
            matches!(step, Start | StartBeforehand | Restore(_))
        };
        let started = self.plan.parent.iter().any(|entry| starts(&entry.step));
        let Some(record) = &mut self.record else { return Ok(()) };
        self.ignored = record.state.set_init(pid)?;
        record.state.stage = if started { Stage::Started } else { Stage::Created };
        record.container.save(&record.state)
    }

    /// Releases the payload, and waits until execve(2) has succeeded: it closes the channel.
    fn start(&mut self) -> Result<()> {
        self.release()?;
        self.await_exec()
    }

    /// The same for a child that need not be waited for: it finds the word there when it is ready.
    fn start_beforehand(&mut self) -> Result<()> {
        self.release()?;
        self.channel()?.await_hangup()?;
        self.await_ready()?;
        self.await_exec()
    }

    fn release(&self) -> Result<()> {
        match self.send(&Msg::Start(self.ignored)) {
            // It has ended: before it was ready, as its last word will tell, or killed since then, as
            // its exit code will.
            Err(err) if err.errno() == Some(Errno::EPIPE) => Ok(()),
            sent => sent,
        }
    }

    fn await_exec(&mut self) -> Result<()> {
        match self.channel()?.receive()? {
            None => Ok(()),
            Some(Msg::Failed(err)) => Err(err.code(INIT_FAILED)),
            Some(_) => Err(out_of_place()),
        }
    }

    /// A step that failed because the child is gone: the child's own last word says why.
    fn with_cause(&mut self, err: Error) -> Error {
        let gone = matches!(err.errno(), Some(Errno::ESRCH | Errno::EPIPE | Errno::ECONNRESET));
        if !gone || self.channel.is_none() {
            return err;
        }
        match self.receive() {
            Err(cause) => cause,
            Ok(_) => err,
        }
    }

    /// Takes everything back. What cannot be is reported beside the failure that led here.
    fn undo(&mut self) {
        if let Err(err) = self.away.come_back() {
            crate::log::warn(&err.message());
        }
        if let Some(child) = &self.child {
            let _ = pidfd::signal(child.fd.as_fd(), libc::SIGKILL);
            self.reap();
        }
        self.devices.iter().for_each(Moved::give_back);
        let Some(record) = &self.record else { return };
        // Only what this create has made: a cgroup that it refused because others are in it is theirs.
        // One that can be removed had nobody left in it, whatever came of the look for them.
        let removed = self.made.iter().try_for_each(|cgroup| {
            let killed = cgroup.kill(libc::SIGKILL);
            cgroup.remove().or_else(|err| killed.and(Err(err)))
        });
        let removed = removed.and_then(|()| self.rdt.map_or(Ok(()), Rdt::remove));
        let removed = removed.and_then(|()| record.container.remove());
        if let Err(err) = removed {
            crate::log::warn(&format!(
                "undo what was made of container {}: {err}",
                record.state.id
            ));
        }
        if self.cloned {
            poststop(&record.state);
        }
    }
}

fn net_namespace(pid: i32) -> Result<File> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).doing(|| format!("open {path}"))
}

/// Runs the poststop hooks; a failing one is a warning and the rest still run (runtime.md).
pub fn poststop(state: &State) {
    for hook in later(state, Point::Poststop) {
        let json = state.for_hooks(Status::Stopped);
        if let Err(err) = hook.run(json.as_bytes(), &[], Some(&state.bundle), None) {
            crate::log::warn(&err.message());
        }
    }
}

/// Runs the poststart hooks.
///
/// # Errors
/// The first one that fails: the container has to be stopped then (runtime.md "Start", step 10).
pub fn poststart(state: &State) -> Result<()> {
    later(state, Point::Poststart).iter().try_for_each(|hook| {
        hook.run(state.for_hooks(Status::Running).as_bytes(), &[], Some(&state.bundle), None)
    })
}

fn later(state: &State, point: Point) -> Vec<Hook> {
    let hooks = crate::spec::config::Hooks {
        poststart: state.hooks.poststart.clone(),
        poststop: state.hooks.poststop.clone(),
        ..Default::default()
    };
    Hook::plan(point, &hooks).collect()
}

/// Where a created container waits for its start. The path goes through a descriptor, as socket
/// addresses hold 108 bytes only (unix(7)).
pub fn start_socket(container: &Container) -> PathBuf {
    use std::os::fd::AsRawFd;
    Path::new("/proc/self/fd").join(container.dir().as_raw_fd().to_string()).join(START_SOCKET)
}

/// Writes the pid into place by rename: a reader sees all of it or nothing. The directory may be
/// others' too: what is there under the name that they can guess, such as a link, is never opened.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().ok_or(Errno::EISDIR)?.to_string_lossy().into_owned();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // A leftover of a killed process that had this number.
    let _ = std::fs::remove_file(&new);
    let mut file = File::create_new(&new)?;
    file.write_all(pid.to_string().as_bytes())?;
    Ok(std::fs::rename(&new, path)?)
}

/// Makes the child, in the v2 cgroup `dir` at once where the kernel can do that; whether it did.
fn clone_into(flags: u64, dir: Option<&Path>) -> Result<(Fork, bool)> {
    let failed = |errno| clone_failed(errno, flags);
    let Some(dir) = dir else { return Ok((fork_into(flags, None).map_err(failed)?, false)) };
    let in_dir =
        |errno| clone_failed(errno, flags).or_doing(|| format!("clone into {}", dir.display()));
    let open = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let cgroup = nix::fcntl::open(dir, open, Mode::empty())
        .doing(|| format!("open the cgroup {}", dir.display()))?;
    match fork_into(flags, Some(cgroup.as_fd())) {
        Ok(fork) => {
            // The child closes it with all others.
            if matches!(fork, Fork::Child) {
                sys::process::close_later(cgroup);
            }
            Ok((fork, true))
        }
        // Older kernels.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG) => {
            Ok((fork_into(flags, None).map_err(failed)?, false))
        }
        Err(errno) => Err(explain_threaded(in_dir(errno))),
    }
}

/// As [`clone_into`]; the cgroup is returned if the child has to join it.
fn clone_in_cgroup(flags: u64, cgroup: Cgroup) -> Result<(Fork, Option<Cgroup>)> {
    let dir = cgroup.places().first().map(|place| Path::new(&place.dir));
    let (fork, born_there) = clone_into(flags, dir)?;
    Ok((fork, Some(cgroup).filter(|_| !born_there)))
}

fn clone_failed(errno: Errno, flags: u64) -> Error {
    match errno {
        Errno::EBUSY => Error::from(errno)
            .hint("the cgroup has controllers for cgroups below: it takes no processes"),
        Errno::EAGAIN => {
            Error::from(errno).hint("a limit of processes is reached (pids.max, ulimit -u)")
        }
        _ => namespaces::not_made(errno, flags),
    }
}

fn out_of_place() -> Error {
    Error::new("tare and its child do not follow the same plan")
}

/// Prepares this process for making a child: the caller's descriptors stay out of it.
///
/// # Errors
/// The last descriptor that is to be preserved is not open. Others may be missing, as Podman's
/// `--preserve-fd N` passes a single one.
pub fn settle_descriptors(preserve_fds: u32) -> Result<Preserve> {
    let listen = listen_fds();
    let last = u64::from(preserve_fds) + u64::from(listen.unwrap_or(0)) + 2;
    // 2 is the last where none is passed.
    let open = i32::try_from(last).ok().filter(|fd| *fd == 2 || sys::process::is_open(*fd));
    let Some(last) = open else {
        return Err(Error::new(format!("unable to pass descriptor {last}: it is not open"))
            .hint("--preserve-fds N passes the descriptors 3 to N+2, after those of LISTEN_FDS"));
    };
    fill_descriptors(last).doing(|| "open /dev/null in place of descriptors that are not open")?;
    let count = last as u32 - 2;
    sys::process::close_on_exec_from(3 + count).doing(|| "close descriptors of the caller")?;
    Ok(Preserve { count, listen })
}

/// Sees to it that nothing of the runtime gets a number up to `last`, which the program keeps; what
/// takes their place here is closed before it runs.
fn fill_descriptors(last: i32) -> nix::Result<()> {
    for _ in (3..last).filter(|fd| !sys::process::is_open(*fd)) {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        sys::process::close_later(nix::fcntl::open(c"/dev/null", flags, Mode::empty())?);
    }
    Ok(())
}

/// The descriptors that a service manager has passed: to this process, not to one before it whose
/// environment is still there (sd_listen_fds(3)).
fn listen_fds() -> Option<u32> {
    let pid: u32 = std::env::var("LISTEN_PID").ok()?.parse().ok()?;
    if pid != std::process::id() {
        return None;
    }
    let count = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
    (1..=1024).contains(&count).then_some(count)
}
