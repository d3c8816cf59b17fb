//! How this host mounts cgroups (cgroups(7)).
//!
//! The usual layouts need one read of `/proc/self/cgroup` and a `statfs` for each hierarchy;
//! `/proc/self/mountinfo`, which may be long, is read only when one of them is not where it is
//! on every distribution, or when a container sees only its own part of the tree.

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::{Place, dir};
use crate::error::{Doing, Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The mounted hierarchies, with the caller's own place in each.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// As in `/proc/self/cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    pub controllers: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The caller's own cgroup below the mount point, `""` or `/a/b`; none if it lies outside.
    own: Option<String>,
}

/// Which of the kernel's two interfaces resources are set by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller; with a controllerless v2 beside them it is called hybrid.
    V1,
    /// One hierarchy for all.
    V2,
}

impl Hierarchies {
    /// Looks at this host. Hierarchies that are mounted nowhere are left out.
    pub fn probe() -> Result<Hierarchies> {
        const OWN: &str = "/proc/self/cgroup";
        let text = dir::read_record(OWN).doing(|| format!("read {OWN}"))?;
        let unified = is_mounted(ROOT, "");
        let mut mountinfo = None;
        let mut list = Vec::with_capacity(12);
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else { continue };
            if unified && !controllers.is_empty() {
                continue;
            }
            match usual(controllers, own, unified) {
                Some(hierarchy) => list.push(hierarchy),
                // Nobody mounts a hybrid's v2 elsewhere, and most v1 hosts do not mount it.
                None if controllers.is_empty() && !unified => {}
                None => {
                    let table = match &mut mountinfo {
                        Some(table) => table,
                        empty => empty.insert(read_mountinfo()?),
                    };
                    let found = from_mountinfo(table, controllers, own);
                    list.extend(found.filter(|h| is_mounted(&h.mountpoint, controllers)));
                }
            }
        }
        Ok(Hierarchies { list })
    }

    /// All of them, in the kernel's order.
    pub fn list(&self) -> &[Hierarchy] {
        &self.list
    }

    /// The hierarchy that `controller` (or `name=NAME`) is mounted with on v1.
    pub fn find(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.controllers.split(',').any(|name| name == controller))
    }

    /// v2 only if nothing but v2 is mounted.
    pub fn version(&self) -> Version {
        match self.list.iter().all(|hierarchy| hierarchy.controllers.is_empty()) {
            true => Version::V2,
            false => Version::V1,
        }
    }

    /// Hierarchies as data, for tests: `(controllers, mountpoint, own)`.
    #[cfg(test)]
    pub fn fixed(list: &[(&str, &str, &str)]) -> Hierarchies {
        let hierarchy = |(controllers, mountpoint, own): &(&str, &str, &str)| Hierarchy {
            controllers: controllers.to_string(),
            mountpoint: mountpoint.to_string(),
            own: Some(own.to_string()),
        };
        Hierarchies { list: list.iter().map(hierarchy).collect() }
    }
}

impl Hierarchy {
    /// The place of a container whose cleaned path is `path`. A relative one begins at the caller's
    /// own cgroup or, on a host with nothing but v2 (`pure`), beside it: a cgroup with processes
    /// cannot give controllers to those below it (cgroup-v2.rst, "No Internal Process Constraint").
    pub(super) fn place(&self, path: &str, absolute: bool, pure: bool) -> Result<Place> {
        let base = match (absolute, &self.own) {
            (true, _) => "",
            (false, Some(own)) if pure => own.rsplit_once('/').map_or("", |(parent, _)| parent),
            (false, Some(own)) => own,
            (false, None) => {
                let message = format!("own cgroup is outside of {}", self.mountpoint);
                return Err(Error::new(message)
                    .at("linux.cgroupsPath")
                    .hint("use an absolute path"));
            }
        };
        Ok(Place {
            controllers: self.controllers.clone(),
            mountpoint: self.mountpoint.clone(),
            dir: format!("{}{base}/{path}", self.mountpoint),
            there: None,
        })
    }
}

/// The hierarchy where distributions mount it, if the caller's own cgroup is visible there.
fn usual(controllers: &str, own: &str, unified: bool) -> Option<Hierarchy> {
    let name = match controllers {
        "" if unified => "",
        "" => "/unified",
        named => &format!("/{}", named.strip_prefix("name=").unwrap_or(named)),
    };
    let mountpoint = format!("{ROOT}{name}");
    let own = own.trim_end_matches('/');
    let visible = !climbs(own) && is_mounted(&format!("{mountpoint}{own}"), controllers);
    visible.then(|| Hierarchy {
        controllers: controllers.to_owned(),
        mountpoint,
        own: Some(own.to_owned()),
    })
}

/// Whether `dir` is in a cgroup file system of the version that `controllers` tell. Other
/// programs make plain directories for controllers that are not mounted: only the magic number
/// shows the difference.
fn is_mounted(dir: &str, controllers: &str) -> bool {
    let magic = if controllers.is_empty() { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC };
    statfs(dir).is_ok_and(|found| found.filesystem_type() == magic)
}

/// A path outside of the caller's cgroup namespace begins with `/..` (cgroup_namespaces(7)).
fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

fn read_mountinfo() -> Result<String> {
    const TABLE: &str = "/proc/self/mountinfo";
    dir::read(TABLE).doing(|| format!("read {TABLE}"))
}

/// Looks a hierarchy up in the mount table (proc_pid_mountinfo(5)).
fn from_mountinfo(table: &str, controllers: &str, own: &str) -> Option<Hierarchy> {
    table.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mountpoint) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        let options = filesystem.nth(1)?;
        let fits = match controllers {
            "" => kind == "cgroup2",
            names => {
                let has = |name: &str| options.split(',').any(|option| option == name);
                kind == "cgroup" && names.split(',').all(has)
            }
        };
        fits.then(|| Hierarchy {
            controllers: controllers.to_owned(),
            mountpoint: unescape(mountpoint),
            own: below(&unescape(root), own),
        })
    })
}

/// `own` as seen from the mounted `root`.
fn below(root: &str, own: &str) -> Option<String> {
    let rest = own.strip_prefix(root.trim_end_matches('/'))?.trim_end_matches('/');
    ((rest.is_empty() || rest.starts_with('/')) && !climbs(rest)).then(|| rest.to_owned())
}

/// Undoes the octal escapes of the mount table's fields.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /cg\\040v1/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /mnt/two rw - cgroup2 cgroup2 rw
";

    fn find(controllers: &str, own: &str) -> (String, Option<String>) {
        let found = from_mountinfo(TABLE, controllers, own).unwrap();
        assert_eq!(found.controllers, controllers);
        (found.mountpoint, found.own)
    }

    #[test]
    fn mount_table() {
        let own = |text: &str| Some(text.to_owned());
        assert_eq!(find("cpu,cpuacct", "/"), ("/cg v1/cpu,cpuacct".into(), own("")));
        assert_eq!(find("name=systemd", "/a"), ("/sys/fs/cgroup/systemd".into(), own("/a")));
        assert_eq!(find("", "/user/1"), ("/mnt/two".into(), own("/user/1")));
        assert!(from_mountinfo(TABLE, "pids", "/").is_none());
        assert!(from_mountinfo(TABLE, "cpu,pids", "/").is_none());
    }

    /// In a container without a cgroup namespace the own path is the host's.
    #[test]
    fn own_cgroup_below_the_mounted_root() {
        assert_eq!(find("memory", "/docker/abc").1.unwrap(), "");
        assert_eq!(find("memory", "/docker/abc/x").1.unwrap(), "/x");
        assert_eq!(find("memory", "/docker/abcdef").1, None);
        assert_eq!(find("memory", "/").1, None);
        assert_eq!(find("cpu,cpuacct", "/../x").1, None);
    }

    #[test]
    fn versions() {
        assert_eq!(Hierarchies::fixed(&[("", "/c", "")]).version(), Version::V2);
        let hybrid = Hierarchies::fixed(&[("pids", "/p", ""), ("", "/c", "")]);
        assert_eq!(hybrid.version(), Version::V1);
        assert!(hybrid.find("pids").is_some() && hybrid.find("memory").is_none());
    }

    /// The real thing: whatever this host mounts has this process in it.
    #[test]
    fn this_host() {
        let host = Hierarchies::probe().unwrap();
        for hierarchy in host.list() {
            let own = hierarchy.own.as_deref().unwrap_or_default();
            let procs = format!("{}{own}/cgroup.procs", hierarchy.mountpoint);
            let pids = std::fs::read_to_string(procs).unwrap();
            let me = std::process::id().to_string();
            assert!(pids.lines().any(|pid| pid == me), "{hierarchy:?}");
        }
    }
}
