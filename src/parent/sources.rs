//! The sources of bind mounts that the container's root may not reach, or whose ids it may not map.
//! The child asks for each right before it mounts it. A helper looks the path up: with the runtime's
//! rights, but in the child's mount namespace, so that what an earlier mount has brought is found.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{Parent, out_of_place};
use crate::error::{Doing, Error, Result};
use crate::mounts::{Mappings, Mount};
use crate::namespaces::NEWNS;
use crate::plan::Plan;
use crate::rootfs;
use crate::step::ChildStep;
use crate::sys::process::{
    Fork, close_others, enter, exit_now, fork_into, set_parent_death_signal,
};
use crate::wire::{Channel, Msg};

impl Parent<'_> {
    /// Answers the child until it has all the sources that it wants.
    pub(super) fn supply_sources(&mut self) -> Result<()> {
        let plan = self.plan;
        let mut helper = None;
        let mut mappings = Mappings::default();
        let wants = |step: &ChildStep| matches!(step, ChildStep::WantSource(_));
        for _ in plan.child.iter().filter(|entry| wants(&entry.step)) {
            let (Msg::WantSource(index), early) = self.receive_with_fd()? else {
                return Err(out_of_place());
            };
            let mount = mount(plan, index)?;
            let supply = || {
                let tree = early.map_or_else(|| self.look_up(&mut helper, index), Ok)?;
                mappings.map(mount, tree.as_fd())?;
                Ok(tree)
            };
            let tree = supply().map_err(|err: Error| err.or_doing(|| mount.to_string()))?;
            self.channel()?.send(&Msg::Source, Some(tree.as_fd()))?;
        }
        Ok(())
    }

    fn look_up(&self, helper: &mut Option<Helper>, index: i32) -> Result<OwnedFd> {
        let known = match helper.take() {
            Some(known) => known,
            None => {
                let child = self.child.as_ref().ok_or(Errno::ESRCH)?;
                Helper::fork(self.plan, child.fd.as_fd())?
            }
        };
        helper.insert(known).look_up(index)
    }
}

/// The mount with this number.
fn mount(plan: &Plan, index: i32) -> Result<&Mount> {
    match plan.mounts().nth(usize::try_from(index).unwrap_or(usize::MAX)) {
        Some(ChildStep::Mount(mount)) => Ok(mount),
        _ => Err(out_of_place()),
    }
}

/// A process of the runtime's in the mount namespace of the child.
struct Helper {
    channel: Option<Channel>,
    pid: Pid,
}

impl Helper {
    fn fork(plan: &Plan, child: BorrowedFd) -> Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        match fork_into(0, None).doing(|| "make a process that opens the sources of mounts")? {
            Fork::Parent(pid, _) => Ok(Helper { channel: Some(ours), pid }),
            Fork::Child => {
                if let Err(err) = serve(plan, child, &theirs) {
                    let _ = theirs.send(&Msg::Failed(err), None);
                }
                exit_now(0)
            }
        }
    }

    fn look_up(&self, index: i32) -> Result<OwnedFd> {
        let channel = self.channel.as_ref().ok_or_else(out_of_place)?;
        channel.send(&Msg::WantSource(index), None)?;
        match channel.receive_with_fd()? {
            (Some(Msg::Source), Some(tree)) => Ok(tree),
            (Some(Msg::Failed(err)), _) => Err(err),
            _ => Err(out_of_place()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It ends when it reads the end of its channel.
        self.channel = None;
        let _ = waitpid(self.pid, None);
    }
}

/// The helper's whole life.
fn serve(plan: &Plan, child: BorrowedFd, channel: &Channel) -> Result<()> {
    set_parent_death_signal(libc::SIGKILL)?;
    close_others(&[channel.as_fd(), child].map(|fd| fd.as_raw_fd()))?;
    // Its root, too, which need not be the root of the namespace.
    let root = rootfs::root_of(child)?;
    enter(child, NEWNS).doing(|| "enter the mount namespace of the container")?;
    rootfs::change_root(root.as_fd())?;
    while let Some(Msg::WantSource(index)) = channel.receive()? {
        channel.send(&Msg::Source, Some(mount(plan, index)?.pin()?.as_fd()))?;
    }
    Ok(())
}
