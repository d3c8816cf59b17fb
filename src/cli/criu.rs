//! The options of `checkpoint` and `restore`, as on runc's command line.

use std::path::PathBuf;

use super::flags::Matches;
use super::{Create, bundle};
use crate::criu::{self, CGROUP_MODES, Dump, SWITCHES, Settings};
use crate::error::{Error, Result};

/// Options of `checkpoint`.
#[derive(Debug)]
pub struct Checkpoint {
    /// The container's id.
    pub id: String,
    /// What is saved, and where.
    pub dump: Dump,
}

/// Options of `restore`.
#[derive(Debug)]
pub struct Restore {
    /// What it shares with `create`.
    pub create: Create,
    /// Where from, and how.
    pub criu: criu::Restore,
    /// Return once the processes run.
    pub detach: bool,
    /// Do not become a subreaper.
    pub no_subreaper: bool,
}

/// Reads the options of `checkpoint`.
///
/// # Errors
/// A value that is not what it has to be.
pub fn checkpoint(id: String, found: &Matches) -> Result<Checkpoint> {
    let parent = found.path("parent-path");
    if parent.as_ref().is_some_and(|path| path.is_absolute()) {
        return Err(Error::new("--parent-path must be relative")
            .hint("it begins at the folder of --image-path"));
    }
    let page_server = found.text("page-server")?.filter(|text| !text.is_empty());
    let dump = Dump {
        settings: settings(found)?,
        parent,
        page_server: page_server.map(|text| address(&text)).transpose()?,
        pre_dump: found.on("pre-dump"),
        status_fd: found.number("status-fd")?.filter(|fd| *fd != -1),
    };
    let lazy = dump.settings.on("lazy-pages") && !dump.pre_dump;
    if lazy && dump.page_server.is_none() {
        // criu would wait for ever, at a port that nobody knows.
        return Err(Error::new("--lazy-pages needs --page-server ADDRESS:PORT")
            .hint("criu serves the memory there"));
    }
    Ok(Checkpoint { id, dump })
}

/// Reads the options of `restore`.
///
/// # Errors
/// A value that is not what it has to be.
pub fn restore(id: String, found: &Matches) -> Result<Restore> {
    let label = |option| Ok::<_, Error>(found.text(option)?.filter(|text| !text.is_empty()));
    let criu = criu::Restore {
        settings: settings(found)?,
        lsm_profile: label("lsm-profile")?,
        lsm_mount_context: label("lsm-mount-context")?,
        ..criu::Restore::default()
    };
    let create = Create {
        id,
        bundle: bundle(found),
        console_socket: found.path("console-socket"),
        pidfd_socket: None,
        pid_file: found.path("pid-file"),
        no_pivot: found.on("no-pivot"),
        no_new_keyring: false,
        preserve_fds: 0,
        trace: None,
    };
    Ok(Restore { create, criu, detach: found.on("detach"), no_subreaper: found.on("no-subreaper") })
}

fn settings(found: &Matches) -> Result<Settings> {
    for namespace in found.texts("empty-ns")? {
        if namespace != "network" {
            return Err(Error::new(format!("namespace {namespace:?} is not supported")));
        }
    }
    let mode = found.text("manage-cgroups-mode")?.unwrap_or_default();
    let known = CGROUP_MODES.iter().find(|(name, _)| *name == mode);
    let (_, cgroup_mode) = known.ok_or_else(|| {
        Error::new("invalid manage-cgroups-mode value").hint("it is soft, full, strict or ignore")
    })?;
    let switches = SWITCHES.iter().filter(|(name, _)| found.on(name));
    Ok(Settings {
        images: found.path("image-path").unwrap_or_else(|| PathBuf::from("checkpoint")),
        work: found.path("work-path"),
        switches: switches.map(|(_, field)| *field).collect(),
        cgroup_mode: *cgroup_mode,
    })
}

/// Reads `ADDRESS:PORT`; an IPv6 address stands in brackets.
fn address(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').map(|(address, port)| {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        (bare, address, port)
    });
    let (address, port) = match parts {
        Some((Some(bare), _, port)) if !bare.is_empty() && !port.is_empty() => (bare, port),
        Some((None, plain, port))
            if !plain.is_empty() && !plain.contains(':') && !port.is_empty() =>
        {
            (plain, port)
        }
        _ => return Err(Error::new("Use --page-server ADDRESS:PORT to specify page server")),
    };
    let port = port.parse().map_err(|_| Error::new("Invalid port number"))?;
    Ok((address.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_have_address_and_port() {
        assert_eq!(address("10.0.0.1:99").unwrap(), ("10.0.0.1".into(), 99));
        assert_eq!(address("[::1]:99").unwrap(), ("::1".into(), 99));
        for text in ["10.0.0.1", ":99", "10.0.0.1:", "::1:99", "[]:9"] {
            let message = address(text).unwrap_err().message();
            assert_eq!(message, "Use --page-server ADDRESS:PORT to specify page server", "{text}");
        }
        assert_eq!(address("a:99999").unwrap_err().message(), "Invalid port number");
    }
}
