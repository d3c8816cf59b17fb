//! Checkpoint and restore: criu does the work, tare tells it what is the container's and what is
//! the host's.
//!
//! | file | what it knows |
//! |---|---|
//! | proto.rs | how criu's messages are written |
//! | session.rs | the conversation with `criu swrk` |
//! | options.rs | what criu is asked for, from the command line and the configuration |
//! | external.rs | mounts, namespaces and descriptors of the host that a container uses |
//! | log.rs | what criu's log says of a failure |
//!
//! A checkpoint is made by `cmd::checkpoint`. A restore is a plan like that of `create`, in which
//! criu takes the child's place (`plan::restore`): journal, cgroups, limits and undoing are the same.

mod external;
mod log;
mod options;
mod proto;
mod session;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::path::c_string;
use crate::sys::process::{Strings, exec, keep_on_exec};

pub use external::{Descriptors, External, namespace_key};
pub use options::{
    CGROUP_MODES, CONFIG_ANNOTATION, Dump, Restore, SWITCHES, Settings, Target, open,
};
pub use session::{Feature, Kind, Notice, Session};

/// The oldest criu that does all that is asked for here: 3.15, of 2020.
const OLDEST: u32 = 31_500;
/// The first one that can put other labels on restored processes and mounts.
pub const WITH_LABELS: u32 = 31_600;

/// The program: `named` (`--criu`), or the one in `$PATH`.
///
/// # Errors
/// It is not there, in runc's words.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    let name = named.unwrap_or(Path::new("criu"));
    let path = std::env::var_os("PATH").filter(|_| name.components().count() == 1);
    let path = path.unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    let is_program = |file: &Path| {
        file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
    };
    match places.find(|file| is_program(file)) {
        Some(found) => Ok(found),
        None if is_program(name) => Ok(name.to_path_buf()),
        None => Err(Error::new(format!(
            "CRIU version check failed: exec: {:?}: executable file not found in $PATH",
            name.display()
        ))
        .hint(
            "checkpoint and restore need criu (criu.org); most distributions have a package criu",
        )),
    }
}

/// Refuses a criu that is older than `least` or than what tare needs at all.
///
/// # Errors
/// In runc's words.
pub fn check_version(version: u32, least: u32) -> Result<()> {
    let least = least.max(OLDEST);
    match version >= least {
        true => Ok(()),
        false => Err(Error::new(format!("CRIU version {version} must be {least} or higher"))),
    }
}

/// Becomes `criu swrk`: the last of `descriptors` is its end of the conversation, the others are
/// namespaces that it is to inherit under their numbers. Returns only the reason why it could not.
pub fn become_criu(program: &Path, descriptors: &[BorrowedFd]) -> Error {
    let execute = || -> std::result::Result<Errno, Errno> {
        descriptors.iter().try_for_each(|fd| keep_on_exec(fd.as_raw_fd()))?;
        let socket = descriptors.last().ok_or(Errno::EBADF)?.as_raw_fd().to_string();
        let args = [c"criu".into(), c"swrk".into(), c_string(socket)?];
        let environment = std::env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name)
        });
        let environment = Strings::new(environment.collect::<std::result::Result<_, _>>()?);
        Ok(exec(c_string(program)?.as_c_str(), &Strings::new(args.into()), &environment))
    };
    let errno = execute().unwrap_or_else(|errno| errno);
    Error::sys(format!("execute {}", program.display()), errno)
}
