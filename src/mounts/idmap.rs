//! Id-mapped bind mounts (mount_setattr(2), `MOUNT_ATTR_IDMAP`): files appear with other owners
//! than they have. Only who is privileged over the file system may map its ids, so the runtime
//! does that, while the mount is detached.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::wait::waitpid;

use super::{Kind, Mount};
use crate::error::{Doing, Error, Result};
use crate::namespaces::{self, Join, NEWUSER, Namespaces};
use crate::path::as_path;
use crate::spec::config::{self, IdMapping, Linux};
use crate::sys::mount::{Attributes, set_attributes};
use crate::sys::process::{Fork, euid, exit_now, fork_into};
use crate::wire::Channel;

/// How the ids of a bind mount are mapped.
#[derive(Debug)]
pub struct IdMap {
    /// By which user namespace.
    by: Mapping,
    /// Whether what is mounted below is mapped too.
    recursive: bool,
}

/// The user namespace whose maps a mount takes.
#[derive(Debug, Clone)]
enum Mapping {
    /// One made for the purpose: users, groups, and the JSON path of what has both.
    Own(Vec<IdMapping>, Vec<IdMapping>, String),
    /// The one that the container joins.
    Joined(Join),
}

impl IdMap {
    /// What the entry orders, with or without one of the words `idmap` and `ridmap` (`asked`: the
    /// last one of them is the recursive one). Without maps of its own a mount takes the container's.
    pub fn plan(
        entry: &config::Mount,
        at: &str,
        asked: Option<bool>,
        linux: &Linux,
        namespaces: &Namespaces,
    ) -> Result<Option<Self>> {
        let own = !entry.uid_mappings.is_empty();
        if !own && asked.is_none() {
            return Ok(None);
        }
        if euid() != 0 {
            let what = "id-mapped mounts are not supported for rootless containers";
            return Err(Error::new(what).at(at));
        }
        let joined = namespaces.joined(NEWUSER);
        let by = match joined {
            _ if own => {
                Mapping::Own(entry.uid_mappings.clone(), entry.gid_mappings.clone(), at.into())
            }
            Some(join) => Mapping::Joined(join.clone()),
            None if namespaces.has(NEWUSER) => {
                let maps = (linux.uid_mappings.clone(), linux.gid_mappings.clone());
                Mapping::Own(maps.0, maps.1, "linux".into())
            }
            None => {
                let what = "id-mapped mounts must have both uid and gid mappings specified";
                return Err(Error::new(what).at(format!("{at}.uidMappings")).hint(
                    "without mappings a mount takes those of the container's user namespace",
                ));
            }
        };
        Ok(Some(IdMap { by, recursive: asked.unwrap_or(false) }))
    }
}

/// The user namespaces that were made for mounts; equal maps share one.
#[derive(Debug, Default)]
pub struct Mappings(Vec<(Vec<IdMapping>, Vec<IdMapping>, OwnedFd)>);

impl Mappings {
    /// Maps the ids of `tree`, the detached source of `mount`, if that is asked for.
    ///
    /// # Errors
    /// The file system, the kernel or the maps do not allow it.
    pub fn map(&mut self, mount: &Mount, tree: BorrowedFd) -> Result<()> {
        let (Some(map), Kind::Bind(source, _)) = (&mount.id_map, &mount.kind) else {
            return Ok(());
        };
        let failed = |errno| {
            let source = as_path(source).display();
            refused(Error::sys(format!("failed to set MOUNT_ATTR_IDMAP on {source}"), errno))
        };
        let joined;
        let namespace = match &map.by {
            Mapping::Own(uids, gids, at) => self.namespace(uids, gids, at)?,
            Mapping::Joined(join) => {
                joined = namespaces::open(join).map_err(|err| err.at(join.at.as_str()))?;
                &joined
            }
        };
        let none = Attributes::default();
        set_attributes(tree, none, Some(namespace.as_fd()), map.recursive).map_err(failed)
    }

    fn namespace(&mut self, uids: &[IdMapping], gids: &[IdMapping], at: &str) -> Result<&OwnedFd> {
        let known = self.0.iter().position(|(u, g, _)| u == uids && g == gids);
        let index = match known {
            Some(index) => index,
            None => {
                let made = make_namespace(uids, gids, at)?;
                self.0.push((uids.to_vec(), gids.to_vec(), made));
                self.0.len() - 1
            }
        };
        Ok(self.0.get(index).map(|(_, _, made)| made).ok_or(Errno::EINVAL)?)
    }
}

/// A user namespace with these maps. The kernel takes maps for that of a process only, so one is
/// made that ends as soon as its namespace is held.
fn make_namespace(uids: &[IdMapping], gids: &[IdMapping], at: &str) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    let doing = || "make a user namespace for an id-mapped mount";
    match fork_into(NEWUSER, None).doing(doing)? {
        Fork::Child => {
            drop(ours);
            // The end of file: the runtime has what it wants, or has died.
            let _ = theirs.receive();
            exit_now(0)
        }
        Fork::Parent(pid, _) => {
            drop(theirs);
            let made = namespaces::write_maps(pid.as_raw(), uids, gids, at).and_then(|()| {
                let file = File::open(format!("/proc/{pid}/ns/user")).doing(doing)?;
                Ok(OwnedFd::from(file))
            });
            drop(ours);
            let _ = waitpid(pid, None);
            made
        }
    }
}

/// What the two answers of the kernel mean that leave a caller helpless.
fn refused(err: Error) -> Error {
    match err.errno() {
        Some(Errno::EINVAL) => {
            err.hint("maybe the file system does not support id-mapped mounts on this kernel")
        }
        Some(Errno::EPERM) => err.hint(
            "the ids of the mount are mapped already, or tare has no rights over its file system",
        ),
        _ => err,
    }
}
