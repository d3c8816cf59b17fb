//! The library behind `tare`, the OCI runtime, and `lade`, its image companion.
//!
//! ARCHITECTURE.md has the map; a module uses only the levels above it in this list.
#![deny(unsafe_code)]
#![warn(missing_docs)]

// L0: one error type, typed system calls.
pub mod error;
pub mod sys;
// L1: resolved paths, log lines, messages to services.
pub mod dbus;
pub mod log;
pub mod path;
// L2: configuration, host, state, cgroups.
pub mod cgroup;
pub mod host;
pub mod rdt;
pub mod spec;
pub mod state;
pub mod wire;
// L3: the steps of a container, how each is planned and done.
pub mod copyup;
pub mod criu;
pub mod devices;
pub mod hooks;
pub mod labels;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod notify;
pub mod pipes;
pub mod process;
pub mod protect;
pub mod rootfs;
pub mod scheduling;
pub mod seccomp;
pub mod security;
pub mod step;
pub mod terminal;
// L4: the plan, and the two sides that execute it.
pub mod attach;
pub mod child;
pub mod parent;
pub mod plan;
pub mod trace;
// L5: the command lines.
pub mod cli;
pub mod cmd;
#[cfg(feature = "lade")]
pub mod image;
