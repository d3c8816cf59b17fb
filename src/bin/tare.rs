//! Entry of the runtime.
#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(target_env = "gnu")]
tare::entry!(tare::cmd::main);

#[cfg(not(target_env = "gnu"))]
fn main() {
    std::process::exit(tare::cmd::main());
}
