//! The image side: where images come from, and (in rooms of their own) how they are kept and
//! turned into bundles. Levels, lowest first: a module uses only those above it in this list.

// Sources: names, what manifests say, registries, layouts, archives.
pub mod digest;
pub mod media;
pub mod platform;
pub mod reference;

pub mod manifest;
pub mod url;

pub mod transport;

pub mod credentials;
pub mod tls;

pub mod http;

pub mod auth;
pub mod hosts;

pub mod section;
pub mod tarfile;

pub mod layout;

pub mod archive;
pub mod registry;

pub mod source;

// The store: trees of unpacked layers, and how they get there.
pub mod sparse;
pub mod tar;
pub mod tree;

pub mod userns;

pub mod layer;
pub mod store;
pub mod stream;

pub mod progress;

pub mod pull;

// Bundles: what a runtime is given.
pub mod copy;
pub mod overlay;
pub mod user;

pub mod config;

pub mod bundle;

pub mod run;

pub mod cli;
