//! Entry of the runtime.
fn main() {}
