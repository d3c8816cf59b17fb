//! `tare restore`.

use crate::cli::{Global, Restore};
use crate::cmd::create::{Mode, create};
use crate::cmd::run::{attend, prepare};
use crate::error::Result;
use crate::state::{Root, check_id};
use crate::{criu, plan};

/// The directory in the state directory on which criu finds the root file system.
const CRIU_ROOT: &str = "criu-root";

/// Makes a container from a checkpoint. Without `--detach` waits for its end and deletes it.
///
/// # Errors
/// Any failure of the runtime or of criu; by then nothing of the container is left. The payload's
/// own is its exit code.
pub fn run(global: &Global, options: Restore) -> Result<i32> {
    let Restore { create: options, criu: restore, detach, no_subreaper } = options;
    let id = options.id.clone();
    let aim = |err: crate::error::Error| err.context(format!("cannot restore \"{id}\""));
    check_id(&id)?;
    let program = criu::find(global.criu.as_deref()).map_err(aim)?;
    let root = Root::open(global.root.as_deref())?.path().join(&id).join(CRIU_ROOT);
    let restore = criu::Restore { root, ..restore };
    let mode = if detach { Mode::Detached } else { Mode::Attached };
    prepare(mode, no_subreaper)?;
    let created = create(global, &options, mode, |spec, host, options| {
        plan::restore(spec, host, options, restore, program)
    });
    attend(created.map_err(aim)?, mode, false).map_err(aim)
}
