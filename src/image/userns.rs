//! A user namespace for a caller who is not root (user_namespaces(7)), so that the images of such
//! a caller are handled as root's are: lade becomes root there, of the own id and of those that
//! /etc/subuid and /etc/subgid give to the caller. Files get the owners that an image wants, and
//! overlays can be mounted for as long as something lives in there.
//!
//! Without subordinate ids, or without newuidmap(1), the own id alone is mapped. What an image wants
//! to belong to others is then written down beside the file ([`note_owner`]).

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid, getpid};

use super::tree;
use crate::error::{Doing, Error, Result};
use crate::sys::process::{self, Fork};
use crate::sys::spawn::output;
use crate::sys::xattr;

/// Which ids of the host stand for those inside: first inside, first outside, how many.
pub type Map = Vec<[u32; 3]>;

/// The ids of users and of groups.
#[derive(Debug, Clone)]
pub struct Maps {
    /// Users.
    pub uids: Map,
    /// Groups.
    pub gids: Map,
}

const NEW_USER_AND_MOUNTS: u64 = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u64;

/// Enters a new user namespace with a mount namespace. The process must have one thread. `None` for
/// root, and where the kernel gives no user namespaces: then the caller stays what it is.
///
/// # Errors
/// The ids cannot be mapped.
pub fn enter() -> Result<Option<Maps>> {
    if geteuid().is_root() {
        return Ok(None);
    }
    let maps = Maps::of_caller();
    let entered = match maps.is_single() {
        true => enter_alone(&maps),
        false => enter_with_helpers(&maps),
    };
    Ok(entered?.then_some(maps))
}

/// Whether processes here may change their groups: not where the own id alone is mapped.
pub fn may_set_groups() -> bool {
    let answer = fs::read_to_string("/proc/self/setgroups");
    answer.map_or(true, |text| text.trim() != "deny")
}

/// Enters the user namespace that process `pid` lives in, so that it can be killed whoever it is;
/// does nothing for root.
///
/// # Errors
/// It belongs to somebody else.
pub fn enter_of(pid: i32) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let doing = || format!("enter the user namespace of process {pid}");
    let file = fs::File::open(format!("/proc/{pid}/ns/user")).doing(doing)?;
    process::enter(std::os::fd::AsFd::as_fd(&file), libc::CLONE_NEWUSER as u64).doing(doing)?;
    process::unshare(libc::CLONE_NEWNS as u64).doing(|| "make a mount namespace")
}

/// Writes down who a file that cannot be given away should belong to, as other tools for images do
/// (the extended attribute `user.rootlesscontainers`, two numbers as protocol buffer). Only files and
/// directories can have it, and root is who they belong to anyway.
pub fn note_owner(at: impl std::os::fd::AsFd, name: &[u8], uid: u32, gid: u32) {
    let mut value = Vec::new();
    for (tag, id) in [(0x08, uid), (0x10, gid)] {
        if id != 0 {
            value.push(tag);
            value.extend(varint(id));
        }
    }
    if !value.is_empty() {
        // A note that nobody has to read: a file system may keep none.
        let _ = xattr::set(&tree::proc_path(&at, name), c"user.rootlesscontainers", &value);
    }
}

fn varint(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

impl Maps {
    fn of_caller() -> Maps {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let own = |id| vec![[0, id, 1]];
        let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
        let ranges = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            subordinate(&text, name.as_deref(), uid)
        };
        let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        let helpers = ["newuidmap", "newgidmap"].iter().all(|name| is_program(name));
        match helpers && !uids.is_empty() && !gids.is_empty() {
            true => Maps { uids: [own(uid), uids].concat(), gids: [own(gid), gids].concat() },
            false => Maps { uids: own(uid), gids: own(gid) },
        }
    }

    /// Whether nobody else can be given files.
    pub fn is_single(&self) -> bool {
        self.uids.len() == 1
    }
}

/// The name of a user in passwd(5).
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let is_own = |line: &&str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid);
    passwd.lines().find(is_own).and_then(|line| line.split(':').next()).map(str::to_owned)
}

/// The ranges of a user in subuid(5), one after the other from id 1 on.
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Map {
    let mut next = 1_u32;
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let is_own = Some(owner) == name || owner.parse() == Ok(uid);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (is_own && count > 0).then_some((first, count))
    };
    let place = |(first, count): (u32, u32)| {
        let inside = next;
        next = inside.checked_add(count)?;
        Some([inside, first, count])
    };
    text.lines().filter_map(range).map_while(place).collect()
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// The user namespace, or false where the kernel has none for this caller.
fn unshare() -> Result<bool> {
    match process::unshare(NEW_USER_AND_MOUNTS) {
        Ok(()) => Ok(true),
        Err(Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::ENOSYS | Errno::EINVAL) => {
            Ok(false)
        }
        Err(errno) => Err(Error::sys("make a user namespace", errno)),
    }
}

/// Maps the own id, which everybody may.
fn enter_alone(maps: &Maps) -> Result<bool> {
    if !unshare()? {
        return Ok(false);
    }
    let files = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", words(&maps.uids).join(" ")),
        ("gid_map", words(&maps.gids).join(" ")),
    ];
    for (file, text) in files {
        fs::write(Path::new("/proc/self").join(file), text).doing(|| format!("write {file}"))?;
    }
    Ok(true)
}

/// Has a child, which stays outside, call the programs that may map more: they only serve a caller
/// in the parent of the new namespace.
fn enter_with_helpers(maps: &Maps) -> Result<bool> {
    let (mut ready, mut go) = std::io::pipe().doing(|| "make a pipe")?;
    let (mut said, mut say) = std::io::pipe().doing(|| "make a pipe")?;
    let target = getpid().as_raw();
    match process::fork_into(0, None).doing(|| "start a helper")? {
        Fork::Child => {
            drop((go, said));
            // The end of file without a word: there is no namespace to map.
            let told = ready.read(&mut [0]).unwrap_or(0) == 1;
            let failure = if told { map_with_helpers(target, maps).err() } else { None };
            let text = failure.unwrap_or_default();
            let _ = say.write_all(text.as_bytes());
            process::exit_now(0)
        }
        Fork::Parent(child, _) => {
            drop((ready, say));
            let entered = unshare()?;
            if entered {
                go.write_all(b"!").doing(|| "tell the helper")?;
            }
            drop(go);
            let mut failure = String::new();
            said.read_to_string(&mut failure).doing(|| "hear of the helper")?;
            let _ = nix::sys::wait::waitpid(child, None);
            match failure.is_empty() {
                true => Ok(entered),
                false => Err(Error::new(failure).hint(
                    "Debian's package uidmap has these programs; they need their set-uid bit",
                )),
            }
        }
    }
}

/// Calls newuidmap(1) and newgidmap(1); says what went wrong.
fn map_with_helpers(pid: i32, maps: &Maps) -> std::result::Result<(), String> {
    for (program, map) in [("newuidmap", &maps.uids), ("newgidmap", &maps.gids)] {
        let mut command = Command::new(program);
        let run = output(command.arg(pid.to_string()).args(words(map)));
        let output = run.map_err(|err| format!("run {program}: {err}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("map ids with {program}: {}", said.trim()));
        }
    }
    Ok(())
}

fn words(map: &Map) -> Vec<String> {
    map.iter().flatten().map(u32::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other() {
        let text = "a:100000:65536\nb:1:1\n1001:300000:10\na:x:y\na:5\n";
        assert_eq!(subordinate(text, Some("a"), 1001), [[1, 100000, 65536], [65537, 300000, 10]]);
        assert!(subordinate(text, None, 7).is_empty());
        let much = "a:1:4294967290\na:2:100\n";
        assert_eq!(subordinate(much, Some("a"), 0).len(), 1);
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0::/:/bin/sh\nme:x:1001:1001::/home/me:/bin/sh\n";
        assert_eq!(user_name(passwd, 1001).as_deref(), Some("me"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn numbers_of_a_note() {
        assert_eq!(varint(5), [5]);
        assert_eq!(varint(300), [0xac, 0x02]);
    }
}
