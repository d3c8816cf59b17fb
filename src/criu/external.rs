//! What a container uses of the host: criu neither saves nor makes it, it has to be named at the
//! checkpoint and given again at the restore.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;

use crate::error::{Doing, Error, Result};
use crate::namespaces::{Join, NEWNET, NEWPID};
use crate::path::Root;
use crate::sys::mount;

/// The file in the images with the links of a container's standard descriptors, as runc has it.
const DESCRIPTORS: &str = "descriptors.json";

/// A mount whose source is the host's.
#[derive(Debug, PartialEq, Eq)]
pub struct External {
    /// Where it is in the container, as the configuration says it.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: PathBuf,
    /// The JSON path of what orders it.
    pub at: String,
}

impl External {
    /// The name by which criu knows it.
    ///
    /// # Errors
    /// criu would read another name.
    pub fn name(&self) -> Result<&str> {
        self.plain(&self.destination)
    }

    /// Where it is in the container whose root file system is `rootfs` on the host and `root` inside,
    /// with all links resolved; where the configuration says if no mount is there any more.
    ///
    /// # Errors
    /// /proc cannot be read; another mount is there.
    fn place(&self, rootfs: &Path, root: &Root) -> Result<PathBuf> {
        let found = root.resolve(&self.destination);
        let Some(fd) = found.ok().filter(|fd| mount::is_mount_root(fd.as_fd())) else {
            return Ok(self.destination.clone());
        };
        let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        let place = std::fs::read_link(&link).doing(|| format!("read {link}"))?;
        // What is below an earlier mount of the container is not to be seen from here.
        let source = Some(&self.source).filter(|source| !source.starts_with(rootfs));
        let source = source.and_then(|source| std::fs::metadata(source).ok());
        let own = fstat(&fd).doing(|| format!("stat {}", place.display()))?;
        match source.is_some_and(|source| source.dev() != own.st_dev) {
            true => Err(self.moved(&place)),
            false => Ok(place),
        }
    }

    fn moved(&self, place: &Path) -> Error {
        let (source, place) = (self.source.display(), place.display());
        Error::new(format!("the mount at {place} is not that of {source}"))
            .at(self.at.as_str())
            .hint("a restore would mix them up: what the payload has moved has to be where it was")
    }

    /// criu puts `mnt[PATH]:NAME` together, and takes that apart again.
    fn plain<'a>(&self, path: &'a Path) -> Result<&'a str> {
        path.to_str().filter(|text| !text.contains(']')).ok_or_else(|| {
            Error::new(format!("criu cannot name the mount at {}", path.display()))
                .at(self.at.as_str())
                .hint("its path has a ] or is not UTF-8")
        })
    }
}

/// What criu is told of `mounts`: where each is in the container whose root file system is `rootfs` on
/// the host and `root` inside, and its name. Directories may have been moved and replaced by links
/// since: the source of one mount must not be given to another by the restore (CVE-2026-119101).
///
/// # Errors
/// A mount is not where the configuration has put it.
pub fn places<'a>(
    mounts: &'a [External],
    rootfs: &Path,
    root: &Root,
) -> Result<Vec<(String, &'a str)>> {
    let mut found: Vec<(String, &External)> = Vec::new();
    for mount in mounts {
        let place = mount.place(rootfs, root)?;
        let other = found.iter().find(|(known, _)| Path::new(known) == place);
        if other.is_some_and(|(_, other)| other.source != mount.source) {
            return Err(mount.moved(&place));
        }
        found.push((mount.plain(&place)?.to_owned(), mount));
    }
    found.into_iter().map(|(place, mount)| Ok((place, mount.name()?))).collect()
}

/// The name under which a joined namespace is known in the images; none for those that criu joins
/// by path.
pub fn namespace_key(join: &Join) -> Option<&'static str> {
    match join.kind.flag {
        NEWNET => Some("extRootNetNS"),
        NEWPID => Some("extRootPidNS"),
        _ => None,
    }
}

/// What criu calls a joined namespace at the checkpoint.
pub fn namespace_id(join: &Join, key: &str) -> Result<String> {
    let found = std::fs::metadata(&join.path)
        .doing(|| format!("find the {} namespace {}", join.kind.name, join.path.display()))
        .map_err(|err| err.at(join.at.as_str()))?;
    Ok(format!("{}[{}]:{key}", join.kind.file, found.ino()))
}

/// What criu calls the standard descriptors of a container, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Descriptors(Vec<String>);

impl Descriptors {
    /// Those of process `pid`, which has to be frozen. Where a shell has redirected one for a
    /// moment, the one that it keeps for later (its first number is 10) is meant.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of(pid: i32) -> Result<Descriptors> {
        let mounts = format!("/proc/{pid}/mountinfo");
        let mounts = std::fs::read_to_string(&mounts).doing(|| format!("read {mounts}"))?;
        let name = |fd: i32| name_of(pid, fd, &mounts);
        let mut names = (0..3).map(name).collect::<Result<Vec<_>>>()?;
        let mut kept = (10..20).map(name).collect::<Result<Vec<_>>>()?;
        kept.retain(|name| is_given(name) && !names.contains(name));
        for place in names.iter_mut().filter(|name| name.starts_with('/')) {
            if !kept.is_empty() {
                *place = kept.remove(0);
            }
        }
        Ok(Descriptors(names))
    }

    /// Those saved beside the images in `dir`.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub fn load(dir: &Path) -> Result<Descriptors> {
        let file = dir.join(DESCRIPTORS);
        let what = || format!("read {}", file.display());
        let text = std::fs::read(&file).doing(what).map_err(|err| match err.errno() {
            Some(nix::errno::Errno::ENOENT) => {
                err.hint("--image-path names the folder that checkpoint has written")
            }
            _ => err,
        })?;
        let names = serde_json::from_slice(&text);
        Ok(Descriptors(names.map_err(|err| Error::new(format!("{}: {err}", what())))?))
    }

    /// Saves them beside the images in `dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let file = dir.join(DESCRIPTORS);
        let text = serde_json::to_vec(&self.0)
            .map_err(|err| Error::new(format!("write {DESCRIPTORS}: {err}")))?;
        std::fs::write(&file, text).doing(|| format!("write {}", file.display()))
    }

    /// Files and terminals of the host, which criu has to be told at the checkpoint.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| is_of_host(name))
    }

    /// What a restored container gets from its runtime: name and number.
    pub fn inherited(&self) -> impl Iterator<Item = (&str, i32)> {
        let names = self.0.iter().map(String::as_str).zip(0..3);
        names.filter(|(name, _)| is_given(name))
    }
}

/// Whether whoever starts the container gives it this one.
fn is_given(name: &str) -> bool {
    is_of_host(name) || name.contains("pipe:")
}

fn is_of_host(name: &str) -> bool {
    name.starts_with("file[") || name.starts_with("tty[")
}

/// A pipe is `pipe:[INODE]`; a file on a mount that the container does not have is
/// `file[MOUNT:INODE]`, a terminal there `tty[DEVICE:FILESYSTEM]`, all hexadecimal; anything else is
/// its path, and criu's own matter.
fn name_of(pid: i32, fd: i32, mounts: &str) -> Result<String> {
    let path = format!("/proc/{pid}/fd/{fd}");
    let link = match std::fs::read_link(&path) {
        Ok(link) => link.to_string_lossy().into_owned(),
        // A payload may close them.
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(err) => return Err(Error::io(format!("read {path}"), &err)),
    };
    if !link.starts_with('/') {
        return Ok(link);
    }
    let info = format!("/proc/{pid}/fdinfo/{fd}");
    let info = std::fs::read_to_string(&info).doing(|| format!("read {info}"))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let mount = mount.map(str::trim).unwrap_or_default();
    let own = |line: &str| line.split(' ').next() == Some(mount);
    if mounts.lines().any(own) {
        return Ok(link);
    }
    let found = std::fs::metadata(&path).doing(|| format!("stat {path}"))?;
    if found.file_type().is_char_device() && is_terminal(found.rdev()) {
        return Ok(format!("tty[{:x}:{:x}]", found.rdev(), found.dev()));
    }
    let inode = found.ino();
    let mount: u32 = mount.parse().unwrap_or_default();
    Ok(format!("file[{mount:x}:{inode:x}]"))
}

/// Consoles and terminals, real and pseudo (devices.txt of the kernel's documentation).
fn is_terminal(device: u64) -> bool {
    matches!(nix::sys::stat::major(device), 4 | 5 | 136..=143)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_the_names_of_criu() {
        let own = std::process::id() as i32;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (read, _write) = nix::unistd::pipe().unwrap();
        let pipe = name_of(own, read.as_raw_fd(), &mounts).unwrap();
        assert!(pipe.starts_with("pipe:["), "{pipe}");
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(name_of(own, null.as_raw_fd(), &mounts).unwrap(), "/dev/null");
        let outside = name_of(own, null.as_raw_fd(), "1 0 0:1 / / rw - x x rw").unwrap();
        let inode = std::fs::metadata("/dev/null").unwrap().ino();
        assert!(outside.starts_with("file[") && outside.ends_with(&format!(":{inode:x}]")));
        assert_eq!(name_of(own, 9999, &mounts).unwrap(), "");
        let terminal = nix::pty::openpty(None, None).unwrap().slave;
        let name = name_of(own, terminal.as_raw_fd(), "1 0 0:1 / / rw - x x rw").unwrap();
        assert!(name.starts_with("tty["), "{name}");
    }

    #[test]
    fn only_what_is_the_hosts_is_inherited() {
        let names = ["pipe:[7]", "/dev/pts/0", "file[5a:3]"].map(String::from);
        let descriptors = Descriptors(names.into());
        let inherited: Vec<_> = descriptors.inherited().collect();
        assert_eq!(inherited, [("pipe:[7]", 0), ("file[5a:3]", 2)]);
        assert_eq!(descriptors.files().collect::<Vec<_>>(), ["file[5a:3]"]);
    }
}
