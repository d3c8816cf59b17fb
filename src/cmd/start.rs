//! `tare start`.

use crate::cli::Global;
use crate::error::{Error, Result};

/// Releases a created container.
///
/// # Errors
/// Always, until it is done.
pub fn run(_global: &Global, _id: &str) -> Result<i32> {
    Err(Error::new("start is not done yet"))
}
