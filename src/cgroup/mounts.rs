//! What a mount of type `cgroup` shows inside of a container.

use super::Cgroup;

/// One entry below the container's `/sys/fs/cgroup` on cgroup v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// The directory's name: `cpu,cpuacct`, `systemd`.
    pub name: String,
    /// Without a cgroup namespace: the host directory to bind, the container's own cgroup.
    pub dir: String,
    /// With a cgroup namespace: the data of a fresh mount of type `cgroup`.
    pub data: String,
    /// Names of symbolic links to `name`, for controllers that are mounted together.
    pub links: Vec<String>,
}

impl Cgroup {
    /// The entries for the container's v1 hierarchies. A hybrid's v2 is left out, as in runc:
    /// programs would take its presence for a pure v2.
    pub fn mounts(&self) -> Vec<CgroupMount> {
        let v1 = self.places.iter().filter(|place| !place.controllers.is_empty());
        v1.map(|place| {
            let name = place.mountpoint.rsplit('/').next().unwrap_or_default().to_owned();
            let named = place.controllers.starts_with("name=");
            let links = place.controllers.split(',').filter(|link| !named && *link != name);
            CgroupMount {
                dir: place.dir.clone(),
                data: if named {
                    format!("none,{}", place.controllers)
                } else {
                    place.controllers.clone()
                },
                links: links.map(str::to_owned).collect(),
                name,
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hierarchies;
    use super::*;

    #[test]
    fn co_mounted_controllers_get_links() {
        let host = Hierarchies::fixed(&[
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ""),
            ("pids", "/sys/fs/cgroup/pids", ""),
            ("name=systemd", "/sys/fs/cgroup/systemd", ""),
            ("", "/sys/fs/cgroup/unified", ""),
        ]);
        let mounts = Cgroup::plan(&host, Some("/web"), "x").unwrap().mounts();
        let [cpu, pids, systemd] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((cpu.name.as_str(), cpu.data.as_str()), ("cpu,cpuacct", "cpu,cpuacct"));
        assert_eq!(cpu.links, ["cpu", "cpuacct"]);
        assert_eq!(pids.dir, "/sys/fs/cgroup/pids/web");
        assert!(pids.links.is_empty() && systemd.links.is_empty());
        assert_eq!(
            (systemd.name.as_str(), systemd.data.as_str()),
            ("systemd", "none,name=systemd")
        );
    }
}
