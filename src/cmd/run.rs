//! `tare run`.

use crate::cli::{Global, Run};
use crate::error::{Error, Result};

/// Creates and starts a container.
///
/// # Errors
/// Always, until it is done.
pub fn run(_global: &Global, _options: &Run) -> Result<i32> {
    Err(Error::new("run is not done yet"))
}
