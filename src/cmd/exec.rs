//! `tare exec`.

use crate::cli::{Exec, Global};
use crate::error::{Error, Result};

/// Runs another process in a container.
///
/// # Errors
/// Always, until it is done.
pub fn run(_global: &Global, _options: &Exec) -> Result<i32> {
    Err(Error::new("exec is not done yet"))
}
