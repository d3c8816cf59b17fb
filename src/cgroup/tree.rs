//! The cgroups below a container's, which its payload may have made: under any names, and so deep that
//! no path reaches them. So they are gone through by descriptors, two at a time.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The processes of a cgroup, with those of the cgroups below it if `recursive`. Processes of
/// a foreign pid namespace, which have no number here, are left out.
pub fn pids(cgroup: &str, recursive: bool) -> nix::Result<Vec<i32>> {
    let top = open(cgroup, DIRECTORY, Mode::empty())?;
    let mut list: fn(&OwnedFd) -> nix::Result<Vec<i32>> = processes;
    let mut pids = match list(&top) {
        // Threaded, as all below it is then.
        Err(Errno::EOPNOTSUPP) => {
            list = processes_of_threads;
            list(&top)?
        }
        pids => pids?,
    };
    if recursive {
        let add = |below: &OwnedFd| match list(below) {
            Ok(more) => {
                pids.extend(more);
                Ok(())
            }
            // A cgroup that goes away while we look has no processes; those of a threaded one (v2)
            // are listed above it.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        };
        walk(top, add, |_, _| Ok(()))?;
    }
    // Of a process's threads each may be in a cgroup of its own.
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Removes a cgroup with those below it, the deepest first. `EBUSY` while a process is in one.
pub fn remove(cgroup: &str) -> nix::Result<()> {
    match dir::rmdir(cgroup) {
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
        done => return done,
    }
    match open(cgroup, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        top => walk(top?, |_| Ok(()), remove_in)?,
    }
    dir::rmdir(cgroup)
}

fn remove_in(parent: &OwnedFd, name: &CStr) -> nix::Result<()> {
    dir::absent_is_fine(unlinkat(parent, name, UnlinkatFlags::RemoveDir))
}

fn processes(cgroup: &OwnedFd) -> nix::Result<Vec<i32>> {
    numbers(cgroup, c"cgroup.procs")
}

/// The processes that have threads in a threaded cgroup, which lists only these.
fn processes_of_threads(cgroup: &OwnedFd) -> nix::Result<Vec<i32>> {
    let process = |thread: i32| {
        let status = dir::read(&format!("/proc/{thread}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
    };
    Ok(numbers(cgroup, c"cgroup.threads")?.into_iter().filter_map(process).collect())
}

fn numbers(cgroup: &OwnedFd, file: &CStr) -> nix::Result<Vec<i32>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let text = dir::read_all(&openat(cgroup, file, flags, Mode::empty())?)?;
    let pids = text.lines().filter_map(|line| line.parse().ok());
    Ok(pids.filter(|pid| *pid > 0).collect())
}

/// Goes through what is below `top`: `enter` has each cgroup before those below it, `leave` has it
/// after them, by its parent and its name there.
fn walk(
    top: OwnedFd,
    mut enter: impl FnMut(&OwnedFd) -> nix::Result<()>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> nix::Result<()>,
) -> nix::Result<()> {
    let mut here = top;
    let mut path: Vec<CString> = Vec::new();
    let mut ahead = vec![children(&here)?];
    while let Some(names) = ahead.last_mut() {
        if let Some(name) = names.pop() {
            let below = match openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                below => below?,
            };
            enter(&below)?;
            ahead.push(children(&below)?);
            path.push(name);
            here = below;
            continue;
        }
        ahead.pop();
        if let Some(name) = path.pop() {
            here = openat(&here, c"..", DIRECTORY, Mode::empty())?;
            leave(&here, &name)?;
        }
    }
    Ok(())
}

/// The names of the cgroups directly below one; none if it has gone.
fn children(cgroup: &OwnedFd) -> nix::Result<Vec<CString>> {
    let mut found = Vec::new();
    let mut own = Dir::from_fd(openat(cgroup, c".", DIRECTORY, Mode::empty())?)?;
    for entry in own.iter() {
        let entry = match entry {
            Err(Errno::ENOENT | Errno::ENODEV) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On any file system: directories without files are removed there, too.
    #[test]
    fn the_deepest_and_the_oddest_are_removed() {
        let top = std::env::temp_dir().join(format!("tare-tree-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let text = top.to_str().unwrap();
        let name = CString::new([&[0xff][..], &[b'x'; 200]].concat()).unwrap();
        let mut here = open(&top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..50 {
            for name in [&name, &c"other".to_owned()] {
                nix::sys::stat::mkdirat(&here, name.as_c_str(), Mode::S_IRWXU).unwrap();
            }
            here = openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()).unwrap();
        }
        remove(text).unwrap();
        assert!(!top.exists());
        assert_eq!(remove(text), Ok(()));
        assert_eq!(pids(text, true), Err(Errno::ENOENT));
    }
}
