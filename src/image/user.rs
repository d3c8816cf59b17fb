//! Who runs the process: `Config.User` and the image's own passwd and group files
//! (image-spec conversion.md, "Config.User").
//!
//! The files are the image's, so hostile: they are opened inside the root only, must be regular
//! files, and are read up to a limit.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::tree;
use crate::error::{Doing, Error, Result};

/// Bytes of the largest passwd or group file that is read.
const MAX_SIZE: u64 = 16 << 20;

/// Numeric identity of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub additional_gids: Vec<u32>,
}

/// Looks `user` up (`USER`, `UID`, each with an optional `:GROUP` or `:GID`) in the root
/// directory `root`. Numbers are taken as they are; a name must be known. A number that passwd
/// knows brings its group, but no supplementary ones.
///
/// # Errors
/// Unknown names, numbers out of range, files that are none.
pub fn resolve(root: BorrowedFd, user: &str) -> Result<User> {
    let (user, group) = parts(user)?;
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let passwd = read(root, b"etc/passwd")?;
    let account = lines(&passwd).find_map(|fields| Account::parse(&fields, user, number));
    let (name, uid, own_gid) = match (account, number) {
        (Some(account), _) => (account.name, account.uid, account.gid),
        (None, Some(uid)) => (String::new(), uid, 0),
        (None, None) => return Err(unknown("user", user, "etc/passwd")),
    };
    let Some(group) = group else {
        let groups = if number.is_none() { memberships(root, &name)? } else { Vec::new() };
        return Ok(User { uid, gid: own_gid, additional_gids: groups });
    };
    Ok(User { uid, gid: resolve_group(root, group)?, additional_gids: Vec::new() })
}

/// Checks the form of `user`, before there is an image to look it up in.
///
/// # Errors
/// It is not `USER[:GROUP]`; numbers out of range.
pub fn check(user: &str) -> Result<()> {
    let (user, group) = parts(user)?;
    number(user)?;
    group.map_or(Ok(None), number).map(drop)
}

fn parts(text: &str) -> Result<(&str, Option<&str>)> {
    match text.split_once(':') {
        Some((_, group)) if group.contains(':') => {
            Err(Error::new(format!("{text:?} is not USER[:GROUP]")))
        }
        Some((user, group)) => Ok((user, Some(group).filter(|g| !g.is_empty()))),
        None => Ok((text, None)),
    }
}

/// A line of passwd(5).
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account if it is the one that is looked for, by number or else by name.
    fn parse(fields: &[&str], user: &str, number: Option<u32>) -> Option<Account> {
        let [name, _, uid, gid, ..] = fields else { return None };
        let (uid, gid) = (id(uid)?, id(gid)?);
        let wanted = number.map_or(*name == user, |number| number == uid);
        wanted.then(|| Account { name: (*name).to_owned(), uid, gid })
    }
}

fn resolve_group(root: BorrowedFd, group: &str) -> Result<u32> {
    if let Some(gid) = number(group)? {
        return Ok(gid);
    }
    let text = read(root, b"etc/group")?;
    let gid = lines(&text).find_map(|fields| match fields.as_slice() {
        [name, _, gid, ..] if *name == group => id(gid),
        _ => None,
    });
    gid.ok_or_else(|| unknown("group", group, "etc/group"))
}

/// The groups that list `user` as a member (group(5)).
fn memberships(root: BorrowedFd, user: &str) -> Result<Vec<u32>> {
    let text = read(root, b"etc/group")?;
    let groups = lines(&text).filter_map(|fields| match fields.as_slice() {
        [_, _, gid, members] if members.split(',').any(|m| m.trim() == user) => id(gid),
        _ => None,
    });
    let mut gids: Vec<u32> = groups.collect();
    gids.sort_unstable();
    gids.dedup();
    Ok(gids)
}

/// Digits alone are a number, which must be one that the kernel knows; the highest means "none".
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse().ok().filter(|id| *id != u32::MAX);
    id.map(Some)
        .ok_or_else(|| Error::new(format!("{text} is out of the range of user and group numbers")))
}

/// A number of a line of the image's; a line with another one is as if it were not there.
fn id(text: &str) -> Option<u32> {
    number(text).ok().flatten()
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::new(format!("the image has no {what} {name:?} in its /{file}"))
        .hint("a number needs no entry there")
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim().split(':').collect())
}

/// A file of the image as text; one that does not exist is empty.
fn read(root: BorrowedFd, path: &[u8]) -> Result<String> {
    let doing = || format!("read the image's /{}", tree::show(path));
    // A fifo must not make us wait, nor a device do anything.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match tree::beneath(root, path, flags) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        other => File::from(other.doing(doing)?),
    };
    let metadata = file.metadata().doing(doing)?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(Error::new(format!(
            "{}: not a regular file of at most {MAX_SIZE} bytes",
            doing()
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut bytes).doing(doing)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            let dir = std::env::temp_dir().join(format!("lade-user-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join("etc")).unwrap();
            Root(dir)
        }
        fn resolve(&self, user: &str) -> Result<(u32, u32, Vec<u32>)> {
            let user = resolve(tree::open(&self.0).unwrap().as_fd(), user)?;
            Ok((user.uid, user.gid, user.additional_gids))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn names_and_numbers() {
        let root = Root::new("names");
        let passwd = "root:x:0:0::/:/bin/sh\nbad line\nweb:x:33:34::/:/bin/sh\n7:x:8:9::/:/\n";
        fs::write(root.0.join("etc/passwd"), passwd).unwrap();
        fs::write(root.0.join("etc/group"), "adm:x:4:web,x\nwww:x:35:\nlog:x:3:a,web\n").unwrap();
        assert_eq!(root.resolve("").unwrap(), (0, 0, vec![]));
        assert_eq!(root.resolve("web").unwrap(), (33, 34, vec![3, 4]));
        assert_eq!(root.resolve("web:www").unwrap(), (33, 35, vec![]));
        assert_eq!(root.resolve("33").unwrap(), (33, 34, vec![]));
        assert_eq!(root.resolve("1000").unwrap(), (1000, 0, vec![]));
        assert_eq!(root.resolve("1000:www").unwrap(), (1000, 35, vec![]));
        assert_eq!(root.resolve("4294967294:5").unwrap(), (4_294_967_294, 5, vec![]));
        // Digits are never a name, or an image could call root "7".
        assert_eq!(root.resolve("7").unwrap().0, 7);
        for bad in ["nobody", "web:nobody", "4294967295", "4294967296", "-1", "+1", " 1", "0x0"] {
            assert!(root.resolve(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forms_are_checked_without_an_image() {
        for good in ["", "web", "web:", "0:0", "web:www", "4294967294"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["a:b:c", "::", "4294967295", "web:4294967296"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_without_usable_numbers_do_not_count() {
        let root = Root::new("lines");
        let passwd = "none:x:4294967295:0::/:/x\nplus:x:+0:0::/:/x\nweb:x:33:4294967295::/:/x\n";
        fs::write(root.0.join("etc/passwd"), passwd).unwrap();
        fs::write(root.0.join("etc/group"), "g:x:4294967295:ok\nh:x:+0:ok\n").unwrap();
        for bad in ["none", "plus", "web", "5:g", "5:h"] {
            assert!(root.resolve(bad).unwrap_err().message().contains("the image has no"), "{bad}");
        }
        fs::write(root.0.join("etc/passwd"), "ok:x:7:8::/:/x\n").unwrap();
        assert_eq!(root.resolve("ok").unwrap(), (7, 8, vec![]));
    }

    #[test]
    fn files_that_are_none() {
        let root = Root::new("files");
        assert_eq!(root.resolve("5").unwrap(), (5, 0, vec![]));
        std::os::unix::fs::symlink("/etc/shadow", root.0.join("etc/passwd")).unwrap();
        assert!(root.resolve("root").unwrap_err().message().contains("no user"));
        fs::remove_file(root.0.join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&root.0.join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(root.resolve("root").unwrap_err().message().contains("not a regular file"));
        fs::remove_file(root.0.join("etc/passwd")).unwrap();
        let huge = fs::File::create(root.0.join("etc/passwd")).unwrap();
        huge.set_len(MAX_SIZE + 1).unwrap();
        assert!(root.resolve("root").unwrap_err().message().contains("at most"));
    }
}
