//! `tare create`.

use crate::cli::{Create, Global};
use crate::error::{Error, Result};

/// Creates a container.
///
/// # Errors
/// Always, until it is done.
pub fn run(_global: &Global, _options: &Create) -> Result<i32> {
    Err(Error::new("create is not done yet"))
}
