//! Refusals of `mounts` and of id mappings, wherever they stand.

use super::super::config::{IdMapping, Mount};
use crate::error::{Error, Result};

/// Refuses mounts that can be made on no host. A relative destination is legal: it is taken
/// beneath the root.
pub fn check(mounts: &[Mount]) -> Result<()> {
    mounts.iter().enumerate().try_for_each(|(i, mount)| one(mount, &format!("mounts[{i}]")))
}

fn one(mount: &Mount, at: &str) -> Result<()> {
    if mount.destination.is_empty() {
        return Err(
            Error::new("the destination of a mount is empty").at(format!("{at}.destination"))
        );
    }
    let bind = mount.options.iter().any(|o| o == "bind" || o == "rbind");
    let remount = mount.options.iter().any(|o| o == "remount");
    let kind = mount.kind.as_deref().unwrap_or_default();
    let bind = bind || kind == "bind";
    if bind && !remount && mount.source.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::new(format!("bind mount on {}: no source", mount.destination))
            .at(format!("{at}.source"))
            .hint("the file or directory of the host that is to appear there"));
    }
    if !bind && !remount && kind.is_empty() {
        return Err(Error::new(format!("mount on {}: no type", mount.destination))
            .at(format!("{at}.type"))
            .hint("a type such as \"tmpfs\", or \"bind\" among the options"));
    }
    ids(mount, bind, at)
}

/// Per-mount id mappings (mount_setattr(2), MOUNT_ATTR_IDMAP).
fn ids(mount: &Mount, bind: bool, at: &str) -> Result<()> {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    let asked = mount.options.iter().any(|o| o == "idmap" || o == "ridmap");
    if !asked && uids.is_empty() && gids.is_empty() {
        return Ok(());
    }
    if !bind {
        return Err(Error::new("id-mapped mounts are only supported for bind-mounts").at(at));
    }
    if uids.is_empty() != gids.is_empty() {
        let absent = if uids.is_empty() { "uidMappings" } else { "gidMappings" };
        return Err(Error::new("id-mapped mounts must have both uid and gid mappings specified")
            .at(format!("{at}.{absent}")));
    }
    mappings(uids, &format!("{at}.uidMappings"))?;
    mappings(gids, &format!("{at}.gidMappings"))
}

/// Refuses mappings that user_namespaces(7) refuses: empty, beyond the last id, overlapping.
pub fn mappings(list: &[IdMapping], at: &str) -> Result<()> {
    // UID_GID_MAP_MAX_EXTENTS in include/linux/user_namespace.h.
    const MOST: usize = 340;
    // map_write() in kernel/user_namespace.c: less than a page of "0 100000 65536\n".
    const LONGEST: usize = 4095;
    let digits = |n: u32| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let line = |one: &IdMapping| {
        digits(one.container_id) + digits(one.host_id) + digits(one.size) + "  \n".len()
    };
    let bytes: usize = list.iter().map(line).sum();
    for (count, what, limit) in
        [(list.len(), "id mappings", MOST), (bytes, "bytes of id mappings", LONGEST)]
    {
        if count > limit {
            return Err(Error::new(format!("{count} {what}; the kernel takes {limit}")).at(at));
        }
    }
    for (i, one) in list.iter().enumerate() {
        let refuse = |what: &str, part: &str| {
            Err(Error::new(format!("invalid id mapping: {what}")).at(format!("{at}[{i}].{part}")))
        };
        if one.size == 0 {
            return refuse("its size is 0", "size");
        }
        // The last id is the kernel's -1, which is none.
        if one.container_id.checked_add(one.size).is_none() {
            return refuse("it ends beyond the last id in the container", "size");
        }
        if one.host_id.checked_add(one.size).is_none() {
            return refuse("it ends beyond the last id of the host", "size");
        }
        let earlier = list.iter().take(i);
        for other in earlier {
            if overlap(one.container_id, one.size, other.container_id, other.size) {
                return refuse(
                    "its ids in the container overlap an earlier mapping",
                    "containerID",
                );
            }
            if overlap(one.host_id, one.size, other.host_id, other.size) {
                return refuse("its ids on the host overlap an earlier mapping", "hostID");
            }
        }
    }
    Ok(())
}

fn overlap(a: u32, a_size: u32, b: u32, b_size: u32) -> bool {
    u64::from(a) < u64::from(b) + u64::from(b_size)
        && u64::from(b) < u64::from(a) + u64::from(a_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(list: &[(u32, u32, u32)]) -> Option<String> {
        let map = |m: &(u32, u32, u32)| IdMapping { container_id: m.0, host_id: m.1, size: m.2 };
        let list: Vec<IdMapping> = list.iter().map(map).collect();
        mappings(&list, "m").err().map(|err| err.path().unwrap().to_owned())
    }

    #[test]
    fn as_many_id_mappings_as_the_kernel_takes() {
        let list = |count, host: u32| (0..count).map(|i| (i, host + i, 1)).collect::<Vec<_>>();
        assert_eq!(refused(&list(340, 1000)), None);
        assert_eq!(refused(&list(341, 1000)).unwrap(), "m");
        assert_eq!(refused(&list(340, 1_000_000)).unwrap(), "m");
    }

    #[test]
    fn id_mappings() {
        assert_eq!(refused(&[(0, 1000, 1), (1, 100_000, 65536)]), None);
        assert_eq!(refused(&[(0, 0, u32::MAX)]), None);
        assert_eq!(refused(&[(0, 0, 0)]).unwrap(), "m[0].size");
        assert_eq!(refused(&[(1, 0, u32::MAX)]).unwrap(), "m[0].size");
        assert_eq!(refused(&[(0, 0, 2), (1, 10, 1)]).unwrap(), "m[1].containerID");
        assert_eq!(refused(&[(0, 10, 2), (5, 11, 1)]).unwrap(), "m[1].hostID");
        assert_eq!(refused(&[(0, 0, 1), (1, 1, 1)]), None);
    }
}
