//! Numbers among a mount's options that the kernel will refuse, known without a mount.

use nix::errno::Errno;

use super::{Kind, Mount, explain};
use crate::error::Result;

impl Mount {
    /// Looks whether the kernel will take the numbers that a tmpfs or devpts is told. `exists` tells
    /// whether the container has the user of this id, or with true the group.
    ///
    /// # Errors
    /// In the kernel's words.
    pub fn check_values(&self, exists: impl Fn(bool, u32) -> bool) -> Result<()> {
        let Kind::FileSystem(name) = &self.kind else { return Ok(()) };
        let is_tmpfs = name.as_c_str() == c"tmpfs";
        if !is_tmpfs && name.as_c_str() != c"devpts" {
            return Ok(());
        }
        for option in &self.options {
            let key = option.key.to_str().unwrap_or_default();
            let value = option.value.as_deref().and_then(|value| value.to_str().ok());
            let (Some(value), Some(index)) = (value.filter(|v| !v.is_empty()), option.index) else {
                continue;
            };
            let fits = match key {
                "size" if is_tmpfs => is_size(value.strip_suffix('%').unwrap_or(value)),
                "nr_inodes" if is_tmpfs => is_size(value),
                "mode" if is_tmpfs => u32::from_str_radix(value.trim_end(), 8).is_ok(),
                "uid" | "gid" => number(value).map_or(!is_tmpfs, |id| exists(key == "gid", id)),
                _ => true,
            };
            if !fits {
                let err = self.fault(Errno::EINVAL, &format!("options[{index}]"));
                let said = format!("{}: Bad value for '{key}'", name.to_string_lossy());
                return Err(explain(err, &said));
            }
        }
        Ok(())
    }
}

/// A number of the kernel's without its mark for the radix.
fn radix(text: &str) -> (u32, &str) {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    }
}

/// As kstrtouint() of the kernel.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_end();
    let (radix, digits) = radix(text.strip_prefix('+').unwrap_or(text));
    u32::from_str_radix(digits, radix).ok()
}

/// As memparse() of the kernel: no digits are 0.
fn is_size(text: &str) -> bool {
    let (radix, digits) = radix(text);
    let unit = digits.trim_start_matches(|c: char| c.is_digit(radix));
    unit.len() < 2 && unit.bytes().all(|b| b"kmgtpe".contains(&b.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(kind: &str, option: &str) -> Option<String> {
        let entry =
            serde_json::json!({"destination": "/a", "type": kind, "options": ["rw", option]});
        let entry = crate::spec::load::from_json(&entry.to_string()).unwrap();
        let mount = Mount::plan(3, &entry, Path::new("/")).unwrap();
        let exists = |is_group: bool, id: u32| id == if is_group { 5 } else { 0 };
        mount.check_values(exists).err().map(|err| err.path().unwrap().to_owned())
    }

    #[test]
    fn numbers_that_the_kernel_takes() {
        let good = [
            "size=64k",
            "size=50%",
            "size=0x10",
            "size=1E",
            "size=010m",
            "size=",
            "nr_inodes=10k",
            "mode=1777",
            "mode=0",
            "uid=0",
            "gid=5",
            "gid=+0x5",
            "gid=05",
            "huge=banana",
        ];
        for option in good {
            assert_eq!(refused("tmpfs", option), None, "{option}");
        }
        for option in ["gid=5", "mode=banana", "uid=banana"] {
            assert_eq!(refused("devpts", option), None, "{option}");
        }
        assert_eq!(refused("overlay", "size=banana"), None);
    }

    #[test]
    fn numbers_that_the_kernel_refuses() {
        let bad = [
            "size=banana",
            "size=-1",
            "size=1kk",
            "size=1.5g",
            "size=08",
            "size=10%%",
            "size=64 k",
            "nr_inodes=10%",
            "mode=899",
            "mode=rwx",
            "mode=0o755",
            "uid=x",
            "uid=1",
            "gid=-1",
            "gid=0",
        ];
        for option in bad {
            assert_eq!(
                refused("tmpfs", option).as_deref(),
                Some("mounts[3].options[1]"),
                "{option}"
            );
        }
        assert!(refused("devpts", "gid=6").is_some());
    }
}
