//! `config.json`: its types, how it is read and checked, and the one that `tare spec` writes.

pub mod check;
pub mod config;
pub mod default;
pub mod list;
pub mod load;
pub mod names;
pub mod object;
pub mod position;
pub mod suggest;
pub mod value;

/// The version of the specification that is implemented.
pub const VERSION: &str = "1.3.0";
