//! A mount of type `cgroup`: what a container sees of its cgroups.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::{FsOption, Kind, Mount};
use crate::cgroup::CgroupMount;
use crate::error::{Doing, Result};
use crate::path::{Root, c_string};
use crate::sys::mount::{Attributes, FsContext, attach_at, attr, clone_tree, set_attributes};
use crate::sys::process::close_later;

impl Mount {
    /// Turns a mount of type cgroup into the tmpfs that holds the v1 hierarchies; whether that is to
    /// be read-only, once they are in place, or the tmpfs once all `more` mounts in it are.
    pub fn become_tmpfs(&mut self, more: bool) -> bool {
        self.kind = Kind::FileSystem(c"tmpfs".into());
        self.clear_options();
        for (key, value) in [(c"source", c"tmpfs"), (c"mode", c"755")] {
            let option = FsOption { key: key.into(), value: Some(value.into()), index: None };
            self.options.push(option);
        }
        let read_only = self.attributes.set & attr::RDONLY != 0;
        self.attributes.set &= !attr::RDONLY;
        self.read_only_later = read_only && more;
        read_only
    }

    /// Turns a mount of type cgroup or cgroup2 into the one of v2. Without a cgroup namespace it is a
    /// bind of the host's, as a new mount from there would reset the host's own options (`nsdelegate`).
    pub fn become_unified(&mut self, namespaced: bool) {
        self.kind = match namespaced {
            true => Kind::FileSystem(c"cgroup2".into()),
            false => Kind::Bind(c"/sys/fs/cgroup".into(), false),
        };
    }

    /// Makes the hierarchies below the tmpfs of [`Mount::become_tmpfs`]: the container's own
    /// directory of each or, in a cgroup namespace, a mount that shows nothing else anyway.
    pub fn perform_cgroups(
        &self,
        root: &Root,
        hierarchies: &[CgroupMount],
        namespaced: bool,
        read_only: bool,
    ) -> Result<OwnedFd> {
        let tmpfs = self.make(root, None)?;
        for hierarchy in hierarchies {
            let doing = || format!("mount the cgroup hierarchy {}", hierarchy.name);
            let mount = if namespaced { fresh(hierarchy) } else { own(hierarchy) }.doing(doing)?;
            let name = c_string(&hierarchy.name)?;
            mkdirat(&tmpfs, name.as_c_str(), Mode::from_bits_truncate(0o755)).doing(doing)?;
            attach_at(mount.as_fd(), tmpfs.as_fd(), &name).doing(doing)?;
            close_later(mount);
            for link in &hierarchy.links {
                symlinkat(&*hierarchy.name, &tmpfs, &**link).doing(doing)?;
            }
        }
        let read_only = if read_only { attr::RDONLY } else { 0 };
        let set = attr::NOSUID | attr::NODEV | attr::NOEXEC | read_only;
        set_attributes(tmpfs.as_fd(), Attributes { set, ..Attributes::default() }, None, true)?;
        if self.read_only_later {
            let writable = Attributes { clear: attr::RDONLY, ..Attributes::default() };
            set_attributes(tmpfs.as_fd(), writable, None, false)?;
        }
        Ok(tmpfs)
    }
}

/// The container's own directory of a hierarchy.
fn own(hierarchy: &CgroupMount) -> std::result::Result<OwnedFd, Errno> {
    clone_tree(nix::fcntl::AT_FDCWD, &c_string(&hierarchy.dir)?, false)
}

/// A new mount of a hierarchy, rooted at the cgroup namespace.
fn fresh(hierarchy: &CgroupMount) -> std::result::Result<OwnedFd, Errno> {
    let context = FsContext::open(c"cgroup")?;
    context.set(c"source", c"cgroup")?;
    for word in hierarchy.data.split(',') {
        match word.split_once('=') {
            Some((key, value)) => context.set(&c_string(key)?, &c_string(value)?)?,
            None => context.set_flag(&c_string(word)?)?,
        }
    }
    context.create()?;
    context.mount(0)
}
