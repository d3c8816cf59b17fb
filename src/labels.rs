//! Mandatory access control: AppArmor profiles and SELinux labels (config.md "Linux Process",
//! config-linux.md "Mount Label"). Where the kernel lacks what is asked for, nothing runs.

use std::fmt;

use nix::errno::Errno;
use nix::sys::statfs::{FsType, statfs};

use crate::error::{Error, Result};
use crate::path::Proc;

/// linux/magic.h
const SELINUX_MAGIC: FsType = FsType(0xf97c_ff8c);
const SELINUX_PATH: &str = "/sys/fs/selinux";

/// What the payload's program is executed under.
#[derive(Debug)]
pub enum Label {
    /// An AppArmor profile.
    AppArmor(String),
    /// An SELinux label.
    Selinux(String),
}

impl Label {
    /// Reads `process.apparmorProfile`.
    ///
    /// # Errors
    /// The host does not enforce AppArmor.
    pub fn apparmor(profile: &str) -> Result<Self> {
        if has_apparmor() {
            return Ok(Label::AppArmor(profile.to_owned()));
        }
        Err(Error::new("apparmor: config provided but apparmor not supported")
            .at("process.apparmorProfile")
            .hint("this host's kernel has no AppArmor, or it is switched off"))
    }

    /// Reads `process.selinuxLabel`.
    ///
    /// # Errors
    /// The host has no SELinux policy.
    pub fn selinux(label: &str) -> Result<Self> {
        check_selinux("process.selinuxLabel")?;
        Ok(Label::Selinux(label.to_owned()))
    }

    /// Has the next execve(2) of this process happen under it.
    ///
    /// The file is that of a procfs of our own: one of the image's could swallow what is written
    /// (CVE-2019-16884, CVE-2025-52881).
    pub fn apply(&self) -> Result<()> {
        let proc = Proc::open()?;
        match self {
            Label::AppArmor(profile) => apply_profile(&proc, profile),
            Label::Selinux(label) => {
                // Keyrings that are made from now on; kernels before 2.6.18 have no such file.
                match write(&proc, "keycreate", label) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(Error::sys("can't set key label", errno)),
                }
                write(&proc, "exec", label).map_err(|errno| {
                    let err = Error::sys("can't set process label", errno);
                    if errno != Errno::EINVAL {
                        return err;
                    }
                    err.hint("the policy of this host does not know the label")
                })
            }
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::AppArmor(profile) => write!(f, "execute under the AppArmor profile {profile}"),
            Label::Selinux(label) => write!(f, "execute under the SELinux label {label}"),
        }
    }
}

fn apply_profile(proc: &Proc, profile: &str) -> Result<()> {
    let order = format!("exec {profile}");
    // Where several security modules share the kernel, each has files of its own.
    let written = match write(proc, "apparmor/exec", &order) {
        Err(Errno::ENOENT) => write(proc, "exec", &order),
        written => written,
    };
    written.map_err(|errno| {
        let err = Error::sys("apparmor failed to apply profile", errno);
        match errno {
            Errno::ENOENT => err.hint("the profile is not loaded (see aa-status(8))"),
            _ => err,
        }
    })
}

fn write(proc: &Proc, file: &str, text: &str) -> std::result::Result<(), Errno> {
    proc.write(&proc.own()?.join("attr").join(file), text.as_bytes())
}

/// Refuses a label at the JSON path `at` where there is no SELinux.
///
/// # Errors
/// In runc's words.
pub fn check_selinux(at: &str) -> Result<()> {
    if has_selinux() {
        return Ok(());
    }
    let what = "selinux label is specified in config, but selinux is disabled or not supported";
    Err(Error::new(what).at(at).hint("this host's kernel has no SELinux, or no policy is loaded"))
}

/// Whether the kernel enforces AppArmor profiles.
pub fn has_apparmor() -> bool {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether SELinux has a policy: without one every process is labelled `kernel`.
pub fn has_selinux() -> bool {
    let mounted = statfs(SELINUX_PATH).is_ok_and(|fs| fs.filesystem_type() == SELINUX_MAGIC);
    mounted && std::fs::read("/proc/self/attr/current").is_ok_and(|own| !own.starts_with(b"kernel"))
}
