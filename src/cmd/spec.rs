//! `tare spec`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::cgroup::{Hierarchies, Version};
use crate::error::{Doing, Error, Result};
use crate::spec::default;

/// Writes a config.json to start from.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn run(bundle: &Path, rootless: bool) -> Result<i32> {
    let path = bundle.join("config.json");
    // Only the default's cgroup namespace depends on it, and a host without cgroups has none.
    let unified = Hierarchies::probe().is_ok_and(|host| host.version() == Version::V2);
    let what = || format!("write {}", path.display());
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::new(format!("File {} exists. Remove it first", path.display())));
        }
        file => file.doing(what)?,
    };
    file.write_all(default::json(rootless, unified).as_bytes()).doing(what)?;
    Ok(0)
}
