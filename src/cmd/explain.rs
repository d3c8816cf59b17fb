//! `tare explain`.

use crate::cli::{Explain, Global};
use crate::error::{Error, Result};

/// Prints the plan.
///
/// # Errors
/// Always, until it is done.
pub fn run(_global: &Global, _options: &Explain) -> Result<i32> {
    Err(Error::new("explain is not done yet"))
}
