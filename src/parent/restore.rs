//! The runtime's side of a restore: criu is the child, and what it makes takes its place.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::{Parent, Process, net_namespace, out_of_place};
use crate::cgroup::Cgroup;
use crate::criu::{Kind, Notice, Restore, Session, namespace_key};
use crate::error::{Doing, Result};
use crate::namespaces::NEWNS;
use crate::netdev;
use crate::path::Root;
use crate::rootfs;
use crate::step::ChildStep;
use crate::sys::pidfd;
use crate::sys::process::{self, Fork, exit_now, fork_into};
use crate::terminal;
use crate::wire::{Channel, Msg, send_fd};

impl Parent<'_> {
    /// criu's end goes to the child behind the namespaces.
    pub(super) fn connect_criu(&mut self) -> Result<()> {
        let (ours, theirs) = Session::pair()?;
        self.criu = Some(ours);
        self.given = self.namespaces.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        self.namespaces.push((0, theirs));
        Ok(())
    }

    /// The child hands over the folders of images and log; the channel ends at its execve(2).
    pub(super) fn await_criu(&mut self) -> Result<()> {
        loop {
            match self.channel()?.receive_with_fd()? {
                (None, _) => break,
                (Some(Msg::Failed(err)), _) => return Err(err),
                (Some(Msg::Ready), Some(folder)) => self.folders.push(folder),
                _ => return Err(out_of_place()),
            }
        }
        self.channel = None;
        Ok(())
    }

    /// Has criu make the processes; the first of them is the child from then on.
    pub(super) fn restore(&mut self, restore: &Restore) -> Result<()> {
        let session = self.criu.take().ok_or_else(out_of_place)?;
        restore.check_version(session.version()?)?;
        let keys = restore.joins.iter().filter_map(namespace_key);
        let inherited: Vec<_> = keys.zip(std::mem::take(&mut self.given)).collect();
        let cgroups = format!("/proc/{}/cgroup", self.pid());
        let cgroups = std::fs::read_to_string(&cgroups).doing(|| format!("read {cgroups}"))?;
        let options = restore.options(&self.folders, &inherited, &cgroups)?;
        let criu = self.pid();
        if let Some(record) = &mut self.record {
            record.state.set_criu(criu)?;
            record.container.save(&record.state)?;
        }
        let mut notify = |notice| self.notice(notice, restore);
        let pid = session.perform(Kind::Restore, &options, &mut notify);
        let pid = pid.map_err(|err| restore.explain(err))?;
        if self.pid() == criu {
            self.adopt(pid)?;
        }
        // It has nothing left to do but to end.
        let _ = process::wait(criu, 0);
        // Of use to criu only; with the state directory it goes at the latest.
        let _ = std::fs::remove_dir(&restore.root);
        self.plan.cgroup.as_ref().map_or(Ok(()), Cgroup::thaw)
    }

    /// With `--manage-cgroups-mode full` criu freezes the container at the end, as it was while it
    /// was saved: it must not be frozen itself.
    fn spare_criu(&self) -> Result<()> {
        self.plan.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.leave_freezer(self.pid()))
    }

    fn notice(&mut self, notice: Notice, restore: &Restore) -> Result<()> {
        match notice.script.as_str() {
            "setup-namespaces" => {
                let namespace = net_namespace(notice.pid)?;
                if restore.loopback {
                    netdev::loopback(namespace.as_fd())?;
                }
                for device in &restore.devices {
                    let moved = device.perform(namespace.as_fd());
                    self.devices.push(moved.map_err(|e| e.or_doing(|| device.to_string()))?);
                }
                self.restore_hooks(restore, notice.pid)
            }
            "post-restore" => {
                self.spare_criu()?;
                self.adopt(notice.pid)?;
                self.restrict_mounts(notice.pid, restore.read_only)
            }
            "orphan-pts-master" => {
                let master = notice.fd.ok_or_else(out_of_place)?;
                match self.console.take() {
                    Some(socket) => {
                        send_fd(socket.as_fd(), master.as_fd(), b"/dev/ptmx").map_err(|e| {
                            e.or_doing(|| "send the terminal to the console socket".into())
                        })
                    }
                    None => {
                        terminal::prepare_relay(master.as_fd())?;
                        self.master = Some(master);
                        Ok(())
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// The hooks that set up the network, above all; the namespaces are those of process `pid`.
    fn restore_hooks(&mut self, restore: &Restore, pid: i32) -> Result<()> {
        if restore.hooks.is_empty() {
            return Ok(());
        }
        if let Some(record) = &mut self.record {
            record.state.set_init(pid)?;
            record.container.save(&record.state)?;
        }
        restore.hooks.iter().try_for_each(|hook| self.hook(hook))
    }

    /// Gives root and bind mounts their attributes again, before any process goes on: criu forgets
    /// those of a second mount of the same file (seen with 4.2), and of the root (3.17).
    fn restrict_mounts(&self, pid: i32, read_only: bool) -> Result<()> {
        let binds = self.plan.mounts().filter_map(|step| match step {
            ChildStep::Mount(mount) if mount.is_bind() => Some(mount),
            _ => None,
        });
        let binds: Vec<_> = binds.collect();
        if binds.is_empty() && !read_only {
            return Ok(());
        }
        // In a process of its own: this one has its working directory, and hooks, at the host.
        let (ours, theirs) = Channel::pair()?;
        match fork_into(0, None)? {
            Fork::Child => {
                let restricted = enter(pid).and_then(|root| {
                    if read_only {
                        rootfs::read_only_root(&root)
                            .map_err(|e| e.or_doing(|| "make the root read-only".into()))?;
                    }
                    binds.iter().try_for_each(|mount| {
                        mount.restrict(&root).map_err(|e| e.or_doing(|| mount.to_string()))
                    })
                });
                let told = match restricted {
                    Ok(()) => theirs.send(&Msg::Ready, None),
                    Err(err) => theirs.send(&Msg::Failed(err), None),
                };
                exit_now(i32::from(told.is_err()))
            }
            Fork::Parent(child, _) => {
                drop(theirs);
                let told = ours.receive();
                process::wait(child.as_raw(), 0)
                    .doing(|| "wait for the process that sets mounts")?;
                match told? {
                    Some(Msg::Ready) => Ok(()),
                    Some(Msg::Failed(err)) => Err(err),
                    _ => Err(out_of_place()),
                }
            }
        }
    }

    /// Takes the restored process for the child, before it goes on from where it was.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        let fd = pidfd::open(pid).doing(|| format!("open process {pid}"))?;
        if let Some(record) = &mut self.record {
            record.state.set_init(pid)?;
            record.container.save(&record.state)?;
        }
        self.child = Some(Process { pid, fd });
        Ok(())
    }
}

/// Enters the mount namespace of process `pid`.
fn enter(pid: i32) -> Result<Root> {
    let process = pidfd::open(pid)?;
    process::enter(process.as_fd(), NEWNS).doing(|| "enter the restored mounts")?;
    Ok(Root::open(Path::new("/"))?)
}
