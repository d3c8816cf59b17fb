//! `config.json`: its types, how it is read and checked, and the one that `tare spec` writes.

pub mod config;
pub mod load;
pub mod object;
pub mod position;
pub mod suggest;
