//! Entry of the runtime.

fn main() {
    std::process::exit(tare::cmd::main());
}
