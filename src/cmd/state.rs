//! `tare state`, and the form in which `list` shows states too.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::Global;
use crate::error::{Error, Result};
use crate::spec::config::Map;
use crate::state::{Container, Root, Status};

/// A container as `state` and `list` print it; the members are in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The bundle's `ociVersion`.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its init, 0 when there is none.
    pub pid: i32,
    /// Its status in the specification's words.
    pub status: String,
    /// The bundle's path.
    pub bundle: PathBuf,
    /// The root file system's path.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// The bundle's annotations.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map,
    /// The user who created it.
    pub owner: String,
}

/// Names of users, looked up in /etc/passwd once.
#[derive(Debug)]
pub struct Users(HashMap<u32, String>);

impl Users {
    /// Reads /etc/passwd; without one, users have no names.
    pub fn read() -> Users {
        // Not through the C library: linked statically, it cannot load its name services.
        Users::parse(&std::fs::read("/etc/passwd").unwrap_or_default())
    }

    fn parse(passwd: &[u8]) -> Users {
        let text = String::from_utf8_lossy(passwd);
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_string();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        let mut users = HashMap::new();
        for (uid, name) in text.lines().filter_map(entry) {
            users.entry(uid).or_insert(name);
        }
        Users(users)
    }

    /// A user's name, or `#UID`.
    pub fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| format!("#{uid}"))
    }
}

/// Looks at a container.
///
/// # Errors
/// "container does not exist", or its state cannot be read.
pub fn view(container: &Container, users: &Users) -> Result<View> {
    let state = container.load()?;
    let status = container.status(&state)?;
    Ok(View {
        pid: if status == Status::Stopped { 0 } else { state.pid },
        status: status.to_string(),
        owner: users.name(container.uid()?),
        oci_version: state.oci_version,
        id: state.id,
        bundle: state.bundle,
        rootfs: state.rootfs,
        created: state.created,
        annotations: state.annotations,
    })
}

/// Prints a container's state as indented JSON.
///
/// # Errors
/// As [`view`].
pub fn run(global: &Global, id: &str) -> Result<i32> {
    let container = Root::open(global.root.as_deref())?.container(id)?;
    let view = view(&container, &Users::read())?;
    let json = serde_json::to_string_pretty(&view)
        .map_err(|err| Error::new(format!("write the state as JSON: {err}")))?;
    super::print(&(json + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_their_first_name_or_a_number() {
        let users = Users::parse(b"root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\nb:x:y:\n");
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(7), "#7");
    }
}
