//! What criu is asked for (`criu_opts` of criu's images/rpc.proto).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::external::{self, Descriptors, External, namespace_key};
use super::proto::Message;
use super::{WITH_LABELS, check_version, log};
use crate::error::{Doing, Error, Result};
use crate::hooks::Hook;
use crate::namespaces::{Join, NEWCGROUP, NEWNET};
use crate::netdev::Move;
use crate::path::Root;
use crate::spec::config::Map;

/// The switches of the command line that are criu's own: name and field.
pub const SWITCHES: [(&str, u32); 9] = [
    ("leave-running", 3),
    ("ext-unix-sk", 4),
    ("tcp-established", 5),
    ("shell-job", 7),
    ("file-locks", 8),
    ("auto-dedup", 16),
    ("link-remap", 18),
    ("tcp-skip-in-flight", 46),
    ("lazy-pages", 48),
];

/// What `--manage-cgroups-mode` may be, with criu's number for it (`criu_cg_mode`).
pub const CGROUP_MODES: [(&str, i64); 5] =
    [("", 6), ("soft", 3), ("full", 4), ("strict", 5), ("ignore", 0)];

/// The configuration file of criu's that runc's users know; without it criu goes on.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// The annotation that names another one, or none if it is empty.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Everything but the details of memory.
const LOG_LEVEL: i64 = 4;

/// Opens the folders of images and log.
///
/// # Errors
/// One of them is missing.
pub fn open(folders: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |path: &PathBuf| {
        nix::fcntl::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
    };
    folders.iter().map(open).collect()
}

/// What the command line says of checkpoints and restores alike.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where the images are.
    pub images: PathBuf,
    /// Where the log is; the images' folder without it.
    pub work: Option<PathBuf>,
    /// Fields of [`SWITCHES`] that are on.
    pub switches: Vec<u32>,
    /// One of [`CGROUP_MODES`].
    pub cgroup_mode: i64,
}

impl Settings {
    /// Whether the switch of this name is on.
    pub fn on(&self, name: &str) -> bool {
        SWITCHES.iter().any(|(known, field)| *known == name && self.switches.contains(field))
    }

    /// The folders of images and log.
    pub fn folders(&self) -> Vec<PathBuf> {
        [Some(&self.images), self.work.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Begins the options. criu reaches `folders` through /proc/PID/fd of tare.
    fn begin(&self, annotations: &Map, log: &str, folders: &[OwnedFd]) -> Message {
        let mut options = Message::default();
        for (field, folder) in [1, 17].into_iter().zip(folders) {
            options.number(field, folder.as_raw_fd().into());
        }
        self.switches.iter().for_each(|field| options.number(*field, 1));
        options.number(9, LOG_LEVEL);
        options.text(10, log);
        options.number(12, 1);
        options.number(34, self.cgroup_mode);
        // Interfaces and addresses are the engine's matter: its hooks set them up again.
        options.number(38, NEWNET as i64);
        options.number(50, 1);
        let file = annotations.get(CONFIG_ANNOTATION).map_or(CONFIG_FILE, String::as_str);
        if !file.is_empty() {
            options.text(51, file);
        }
        options
    }
}

/// A container that is to be saved.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its first process.
    pub pid: i32,
    /// Its root file system on the host.
    pub rootfs: &'a Path,
    /// Its annotations.
    pub annotations: &'a Map,
    /// Its mounts that are the host's.
    pub mounts: Vec<External>,
    /// The namespaces that it has joined.
    pub joins: &'a [Join],
    /// The cgroup by which it can be frozen.
    pub freezer: Option<&'a str>,
}

/// What the command line says of a checkpoint.
#[derive(Debug, Default)]
pub struct Dump {
    /// As for a restore.
    pub settings: Settings,
    /// The images of the dump before, relative to the folder of these.
    pub parent: Option<PathBuf>,
    /// Where another criu takes the memory: address and port.
    pub page_server: Option<(String, u16)>,
    /// Memory only, and the container goes on.
    pub pre_dump: bool,
    /// Where a zero byte is written once memory can be fetched.
    pub status_fd: Option<i32>,
}

impl Dump {
    /// The name of criu's log.
    pub const LOG: &'static str = "dump.log";

    /// The options for criu; `folders` are those of the settings, which have to stay open.
    ///
    /// # Errors
    /// The container's descriptors or a joined namespace cannot be read.
    pub fn options(&self, target: &Target, folders: &[OwnedFd]) -> Result<Message> {
        let mut options = self.settings.begin(target.annotations, Dump::LOG, folders);
        options.number(2, target.pid.into());
        options.text(13, target.rootfs.as_os_str().as_bytes());
        if let Some((address, port)) = &self.page_server {
            let mut server = Message::default();
            server.text(1, address);
            server.number(2, i64::from(*port));
            options.message(11, &server);
        }
        if let Some(parent) = &self.parent {
            options.text(14, parent.as_os_str().as_bytes());
            options.number(15, 1);
        }
        if let Some(freezer) = target.freezer {
            options.text(44, freezer);
        }
        for join in target.joins {
            if let Some(key) = namespace_key(join) {
                options.text(37, external::namespace_id(join, key)?);
            }
        }
        if !self.pre_dump {
            self.container(&mut options, target)?;
        }
        Ok(options)
    }

    /// What a dump of memory alone can do without.
    fn container(&self, options: &mut Message, target: &Target) -> Result<()> {
        let root = format!("/proc/{}/root", target.pid);
        let root = Root::open(Path::new(&root)).doing(|| format!("open {root}"))?;
        for (place, name) in external::places(&target.mounts, target.rootfs, &root)? {
            options.pair(23, &place, name);
        }
        let descriptors = Descriptors::of(target.pid)?;
        descriptors.save(&self.settings.images)?;
        descriptors.files().for_each(|file| options.text(37, file));
        Ok(())
    }

    /// Adds to criu's failure what its log says.
    pub fn explain(&self, err: Error) -> Error {
        log::explain(err, &self.settings, Dump::LOG)
    }
}

/// What a restore asks for.
#[derive(Debug, Default)]
pub struct Restore {
    /// As for a checkpoint.
    pub settings: Settings,
    /// `TYPE:LABEL` that the processes get in place of their old one.
    pub lsm_profile: Option<String>,
    /// SELinux context of mounts that have one.
    pub lsm_mount_context: Option<String>,
    /// The container's annotations.
    pub annotations: Map,
    /// Its mounts that are the host's.
    pub mounts: Vec<External>,
    /// The namespaces that it joins.
    pub joins: Vec<Join>,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Where its root file system is mounted for criu.
    pub root: PathBuf,
    /// Whether it has a network namespace of its own, which criu leaves as the kernel makes it.
    pub loopback: bool,
    /// Network devices of the host that it gets.
    pub devices: Vec<Move>,
    /// The hooks of the runtime, which run once the namespaces are made.
    pub hooks: Vec<Hook>,
}

impl Restore {
    /// The name of criu's log.
    pub const LOG: &'static str = "restore.log";

    /// Refuses what criu cannot restore.
    ///
    /// # Errors
    /// A joined cgroup namespace.
    pub fn check(&self) -> Result<()> {
        match self.joins.iter().find(|join| join.kind.flag == NEWCGROUP) {
            None => Ok(()),
            Some(join) => {
                Err(Error::new("criu cannot restore into a joined cgroup namespace").at(&*join.at))
            }
        }
    }

    /// Refuses a criu that would ignore what is asked for.
    ///
    /// # Errors
    /// It is too old.
    pub fn check_version(&self, version: u32) -> Result<()> {
        let labels = [
            ("--lsm-profile", &self.lsm_profile),
            ("--lsm-mount-context", &self.lsm_mount_context),
        ];
        check_version(version, 0)?;
        for (option, _) in labels.iter().filter(|(_, value)| value.is_some()) {
            if version < WITH_LABELS {
                return Err(Error::new(format!("{option} requires at least CRIU 3.16")));
            }
        }
        Ok(())
    }

    /// The options for criu; `folders` are those of the settings, as it sees them. `inherited` are
    /// the names and numbers of the namespaces that it has been given, `cgroups` the text of its
    /// /proc/PID/cgroup.
    ///
    /// # Errors
    /// The saved descriptors cannot be read.
    pub fn options(
        &self,
        folders: &[OwnedFd],
        inherited: &[(&str, i32)],
        cgroups: &str,
    ) -> Result<Message> {
        let mut options = self.settings.begin(&self.annotations, Restore::LOG, folders);
        // A device file may be reached by another path than before.
        options.number(6, 1);
        options.text(13, self.root.as_os_str().as_bytes());
        // The first process becomes a child of tare, not of criu.
        options.number(26, 1);
        for mount in &self.mounts {
            options.pair(23, mount.name()?, &mount.source.to_string_lossy());
        }
        for (controllers, path) in cgroups.lines().filter_map(cgroup) {
            options.pair(25, controllers, path);
        }
        for join in self.joins.iter().filter(|join| namespace_key(join).is_none()) {
            options.pair(39, join.kind.file, &join.path.to_string_lossy());
        }
        let descriptors = Descriptors::load(&self.settings.images)?;
        for (name, fd) in descriptors.inherited().chain(inherited.iter().copied()) {
            let mut inherit = Message::default();
            inherit.text(1, name);
            inherit.number(2, fd.into());
            options.message(27, &inherit);
        }
        let labels = [(53, &self.lsm_profile), (63, &self.lsm_mount_context)];
        for (field, label) in labels {
            label.iter().for_each(|label| options.text(field, label));
        }
        Ok(options)
    }

    /// Adds to criu's failure what its log says.
    pub fn explain(&self, err: Error) -> Error {
        log::explain(err, &self.settings, Restore::LOG)
    }
}

/// Controllers and path of a line of /proc/PID/cgroup (cgroups(7)).
fn cgroup(line: &str) -> Option<(&str, &str)> {
    line.split_once(':')?.1.split_once(':')
}
