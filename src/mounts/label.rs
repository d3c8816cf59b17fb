//! `linux.mountLabel`: SELinux labels of new file systems (config-linux.md, "Mount Label").

use std::ffi::CStr;

use nix::errno::Errno;

use super::{FsOption, Kind, Mount};
use crate::error::{Error, Result};
use crate::path::c_string;

/// The option by which SELinux labels all of a file system.
const CONTEXT: &CStr = c"context";

/// What the kernel makes of a label that its policy does not have.
const UNKNOWN: &str = "the SELinux policy has no such label: the kernel's log names it";

/// Those of the kernel's own are labelled by its policy; the last one takes no such option.
const UNLABELLED: [&CStr; 4] = [c"proc", c"sysfs", c"cgroup2", c"mqueue"];

impl FsOption {
    /// Why the kernel does not take it, if it is the label.
    pub(super) fn refused(&self, errno: Errno) -> Error {
        let err = Error::from(errno);
        match self.key.as_c_str() == CONTEXT {
            true => err.at("linux.mountLabel").hint(UNKNOWN),
            false => err,
        }
    }
}

impl Mount {
    /// Has a new file system labelled; what is bound keeps the labels that it has.
    pub fn set_label(&mut self, label: &str) -> Result<()> {
        let Kind::FileSystem(name) = &self.kind else { return Ok(()) };
        if !UNLABELLED.contains(&name.as_c_str()) {
            let value =
                c_string(label).map_err(|errno| Error::from(errno).at("linux.mountLabel"))?;
            self.options.push(FsOption { key: CONTEXT.into(), value: Some(value), index: None });
        }
        Ok(())
    }

    /// Forgets what the file system was to be told, but for its label.
    pub(super) fn clear_options(&mut self) {
        self.options.retain(|option| option.key.as_c_str() == CONTEXT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::config;

    fn options(kind: &str, options: &str) -> Vec<(String, String)> {
        let json =
            format!(r#"{{"destination":"/x","type":"{kind}","source":"/s","options":{options}}}"#);
        let entry: config::Mount = crate::spec::load::from_json(&json).unwrap();
        let mut mount = Mount::plan(0, &entry, "/".as_ref()).unwrap();
        mount.set_label("u:r:t:s0:c1,c2").unwrap();
        let text = |s: &CStr| s.to_str().unwrap().to_owned();
        let pair = |o: &FsOption| (text(&o.key), o.value.as_deref().map_or(String::new(), text));
        mount.options.iter().map(pair).collect()
    }

    #[test]
    fn new_file_systems_are_labelled() {
        let label = ("context".to_owned(), "u:r:t:s0:c1,c2".to_owned());
        assert!(options("tmpfs", "[]").contains(&label));
        for (kind, words) in [("proc", "[]"), ("mqueue", "[]"), ("none", r#"["bind"]"#)] {
            assert!(!options(kind, words).contains(&label), "{kind}");
        }
    }

    #[test]
    fn the_tmpfs_of_cgroups_is_labelled() {
        let entry = r#"{"destination":"/x","type":"cgroup","options":["nosuid"]}"#;
        let mut mount =
            Mount::plan(0, &crate::spec::load::from_json(entry).unwrap(), "/".as_ref()).unwrap();
        mount.set_label("l").unwrap();
        mount.become_tmpfs(false);
        let keys: Vec<_> = mount.options.iter().map(|o| o.key.to_str().unwrap()).collect();
        assert_eq!(keys, ["context", "source", "mode"]);
    }
}
