//! The agent that decides calls of `SCMP_ACT_NOTIFY`: the runtime hands it the filter's listener
//! with the container process state (config-linux.md, "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use super::allows;
use crate::error::{Doing, Error, Result};
use crate::spec::config::Seccomp;
use crate::state::{State, Status};
use crate::wire::send_fd;

/// Whom the listener is for, and how it gets there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `listenerPath`: the agent's UNIX socket, seen from the runtime, relative to the bundle; an
    /// abstract one (unix(7)) begins with `@`, as engines in Go write it.
    pub path: String,
    /// `listenerMetadata`: handed to the agent as it is.
    pub metadata: Option<String>,
    /// The filter may stop sendmsg(2), so the child writes the listener's number alone and the
    /// runtime fetches it.
    pub by_number: bool,
}

impl Listener {
    /// The agent, if there is something to tell it; else its members are ignored, as the
    /// specification wants it.
    pub(super) fn plan(config: &Seccomp, notifies: bool) -> Result<Option<Self>> {
        let path = config.listener_path.as_deref().unwrap_or_default();
        let metadata = config.listener_metadata.clone().filter(|metadata| !metadata.is_empty());
        if path.is_empty() && metadata.is_some() {
            let err = Error::new("seccomp listenerMetadata without listenerPath");
            return Err(err.at("linux.seccomp.listenerMetadata"));
        }
        if !notifies {
            return Ok(None);
        }
        if path.is_empty() {
            let err = Error::new("seccomp listenerPath is not set").at("linux.seccomp");
            return Err(err.hint("SCMP_ACT_NOTIFY needs an agent's socket there"));
        }
        let by_number = !allows(config, "sendmsg");
        Ok(Some(Listener { path: path.to_owned(), metadata, by_number }))
    }

    /// Hands `listener`, of the process `pid`, to the agent: one connection, one message.
    ///
    /// # Errors
    /// Nobody listens there, or whoever does goes away.
    pub fn send(&self, listener: BorrowedFd, pid: i32, of: &State, status: Status) -> Result<()> {
        let agent = self
            .connect(of)
            .doing(|| "failed to connect with seccomp agent specified in the seccomp profile")?;
        let message = self.message(pid, &of.for_hooks(status));
        // In one piece: agents expect to receive it whole.
        send_fd(agent.as_fd(), listener, message.as_bytes())
            .map_err(|err| err.or_doing(|| format!("cannot send seccomp fd to {}", self.path)))
    }

    fn connect(&self, of: &State) -> std::io::Result<UnixStream> {
        match self.path.strip_prefix('@') {
            Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
            None => UnixStream::connect(of.bundle.join(&self.path)),
        }
    }

    /// The container process state; `state` is the container's own, as JSON.
    fn message(&self, pid: i32, state: &str) -> String {
        let version = crate::spec::VERSION;
        let metadata = self.metadata.as_ref().map_or_else(String::new, |metadata| {
            format!("\"metadata\":{},", serde_json::Value::from(metadata.as_str()))
        });
        format!(
            "{{\"ociVersion\":\"{version}\",\"fds\":[\"seccompFd\"],\"pid\":{pid},{metadata}\
             \"state\":{state}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_opaque() {
        let mut listener =
            Listener { path: "/a".into(), metadata: Some("a\"b\n".into()), by_number: false };
        let json = |listener: &Listener| -> serde_json::Value {
            serde_json::from_str(&listener.message(7, r#"{"id":"x"}"#)).unwrap()
        };
        let message = json(&listener);
        assert_eq!(message["metadata"], "a\"b\n");
        assert_eq!((&message["pid"], &message["state"]["id"]), (&7.into(), &"x".into()));
        assert_eq!(message["fds"], serde_json::json!(["seccompFd"]));
        listener.metadata = None;
        assert!(json(&listener).get("metadata").is_none());
    }
}
