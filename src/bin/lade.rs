//! Entry of the image companion.
fn main() {}
