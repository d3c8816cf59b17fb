//! Typed system calls: what `nix` lacks, and nothing else. No policy lives here.
//!
//! This is the only room where `unsafe` is allowed; every block says why it is sound.
#![allow(unsafe_code)]

pub mod overlay;
pub mod spawn;
pub mod xattr;
