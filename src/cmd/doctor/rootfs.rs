//! What will fail in the root file system: programs, mount points, devices. It is looked at as it is now;
//! of what the container's own steps make or cover by then nothing is said.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat, stat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use super::bundle::Found;
use crate::devices::Device;
use crate::error::Error;
use crate::hooks::Hook;
use crate::mounts::{Kind, Mount};
use crate::path::{Root, as_path, clean};
use crate::plan::Plan;
use crate::step::{ChildStep, Entry};
use crate::terminal::NO_DEVPTS;

/// Where terminals are made.
const PTS: &str = "/dev/pts";

/// The root file system, and what the steps so far have put elsewhere than it has it.
struct Image {
    root: Root,
    covered: Vec<PathBuf>,
    /// Whether something covers it at [`PTS`] that may have terminals.
    terminals: bool,
}

impl Image {
    fn is_covered(&self, path: &Path) -> bool {
        self.root.way(path).iter().any(|place| self.covered.contains(place))
    }

    fn cover(&mut self, path: &Path) {
        self.covered.extend(self.root.way(path).pop());
    }

    /// A devpts is a mount, or may come with one that has others in it.
    fn mount(&mut self, mount: &Mount) {
        if matches!(mount.kind, Kind::Remount) {
            return;
        }
        let way = self.root.way(Path::new(PTS));
        self.cover(&mount.destination);
        let is_on_way = self.covered.last().is_some_and(|place| way.contains(place));
        self.terminals |= is_on_way && (mount.is_bind() || mount.is_file_system(c"devpts"));
    }

    /// Type and mode of what is at `path`, or why nothing will be; `None` where that cannot be known.
    fn find(&self, path: &Path) -> Option<Result<Mode, Errno>> {
        if self.is_covered(path) {
            return None;
        }
        match self.root.resolve(path).and_then(fstat) {
            Ok(stat) => Some(Ok(Mode(stat.st_mode))),
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => Some(Err(errno)),
            Err(_) => None,
        }
    }

    /// Whether nothing that is known keeps `path` from being executed, by whatever user.
    fn executable(&self, path: &Path) -> Result<(), Errno> {
        let Some(mode) = self.find(path).transpose()? else { return Ok(()) };
        match mode.kind() {
            SFlag::S_IFDIR => Err(Errno::EISDIR),
            SFlag::S_IFREG if mode.0 & 0o111 == 0 => Err(Errno::EACCES),
            _ => Ok(()),
        }
    }
}

/// `st_mode` of a file.
struct Mode(u32);

impl Mode {
    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.0 & SFlag::S_IFMT.bits())
    }

    fn is_dir(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }
}

impl Found {
    /// What the child's steps will not find, or find to be something else.
    // Within its caller it would be half a kilobyte larger.
    #[inline(never)]
    pub(super) fn inside(&mut self, plan: &Plan) {
        let Ok(root) = Root::open(&plan.rootfs) else { return };
        let mut image = Image { root, covered: Vec::new(), terminals: false };
        for entry in &plan.child {
            match &entry.step {
                // They may change everything, as those do that bring drivers.
                ChildStep::SyncHooks => return,
                ChildStep::Mount(mount) | ChildStep::CgroupMounts { mount, .. } => {
                    self.place(&image, mount, plan, entry);
                    image.mount(mount);
                }
                ChildStep::Device(device, bind) => {
                    self.device(&image, device, *bind, entry);
                    image.cover(&device.path);
                }
                ChildStep::Link(path, _) | ChildStep::MaskPath(path) => image.cover(path),
                ChildStep::Terminal { .. } => self.terminal(&image),
                ChildStep::MakeCwd(path) => self.cwd(&image, path),
                ChildStep::FindProgram => self.program(&image, plan),
                // The first one may make the others.
                ChildStep::Hook(hook) if hook.index == 0 => self.inner_hook(&image, hook),
                _ => {}
            }
        }
    }

    /// What is mounted, and where: a directory goes on a directory, a file on a file, and what is missing
    /// is made.
    fn place(&mut self, image: &Image, mount: &Mount, plan: &Plan, entry: &Entry<ChildStep>) {
        let is_dir = match &mount.kind {
            Kind::Remount => return,
            Kind::FileSystem(_) => true,
            Kind::Bind(source, _) => {
                match self.source(image, &clean(as_path(source)), plan, &entry.at) {
                    Some(is_dir) => is_dir,
                    None => return,
                }
            }
        };
        let errno = match image.find(&mount.destination) {
            Some(Ok(mode)) if mode.is_dir() != is_dir => Errno::ENOTDIR,
            Some(Err(errno)) if errno != Errno::ENOENT => errno,
            _ => return,
        };
        self.stopped(mount.misplaced(errno), entry);
    }

    /// Whether the source of a bind mount is a directory, if it is known what it is.
    fn source(&mut self, image: &Image, path: &Path, plan: &Plan, at: &str) -> Option<bool> {
        match path.strip_prefix(&plan.rootfs) {
            Ok(inside) => match image.find(inside)? {
                Ok(mode) => Some(mode.is_dir()),
                Err(errno) => {
                    self.failed(path, errno, format!("{at}.source"));
                    None
                }
            },
            Err(_) => stat(path).ok().map(|stat| Mode(stat.st_mode).is_dir()),
        }
    }

    fn device(&mut self, image: &Image, device: &Device, bind: bool, entry: &Entry<ChildStep>) {
        if bind || entry.at.is_empty() || image.is_covered(&device.path) {
            return;
        }
        if let Err(err) = device.check_existing(&image.root)
            && err.errno() == Some(Errno::EEXIST)
        {
            self.stopped(err, entry);
        }
    }

    fn terminal(&mut self, image: &Image) {
        let path = Path::new(PTS);
        let is_there = match image.root.resolve(path).and_then(fstatfs) {
            _ if image.is_covered(path) => image.terminals,
            Ok(fs) => fs.filesystem_type() == DEVPTS_SUPER_MAGIC,
            Err(errno) => errno != Errno::ENOENT,
        };
        if !is_there {
            let err = Error::new("nothing on /dev/pts has terminals").at("process.terminal");
            self.report(err.hint(NO_DEVPTS));
        }
    }

    fn cwd(&mut self, image: &Image, path: &Path) {
        let errno = match image.find(path) {
            Some(Ok(mode)) if !mode.is_dir() => Errno::ENOTDIR,
            Some(Err(errno)) if errno != Errno::ENOENT => errno,
            _ => return,
        };
        self.failed(path, errno, "process.cwd".into());
    }

    fn program(&mut self, image: &Image, plan: &Plan) {
        let Some(payload) = &plan.payload else { return };
        let found = payload.find_by(&|name| image.executable(&payload.cwd.join(as_path(name))));
        if let Err(err) = found {
            self.report(err);
        }
    }

    fn inner_hook(&mut self, image: &Image, hook: &Hook) {
        if let Err(errno) = image.executable(hook.path()) {
            self.failed(hook.path(), errno, format!("{}.path", hook.at()));
        }
    }
}
