//! The commands: one file each, and the way from the command line to them.

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explain;
pub mod features;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use crate::cli::{self, Aim, Command, Global, table};
use crate::error::{Doing, Error, Result};
use crate::log;
use crate::spec::{config::Spec, load};
use crate::state::{Container, State, Status, not_running};

/// Exit code of a failed `exec`: callers tell the runtime's failures from the payload's by it.
const EXEC_FAILED: i32 = 255;
/// Exit code for a command that does not exist, as runc has it.
const UNKNOWN_COMMAND: i32 = 3;

/// `tare` from arguments to exit code.
pub fn main() -> i32 {
    let mut failed = 1;
    dispatch(std::env::args_os().skip(1), &mut failed).unwrap_or_else(|err| {
        let failed = err.exit_code().unwrap_or(failed);
        // What the kernel says of the payload's program is compared as a whole line by callers.
        match err.is_of_program() {
            true => log::error_bare(&err),
            false => log::error(&err, failed),
        }
        failed
    })
}

/// Does what the arguments ask for; `failed` is set to the exit code that a failure will have.
fn dispatch(args: impl Iterator<Item = OsString>, failed: &mut i32) -> Result<i32> {
    let line = cli::parse(args)?;
    let global = &line.global;
    log::init(global.log.as_deref(), global.log_format, global.debug)?;
    let (verb, rest) = match line.aim {
        Aim::Help(of) => return print(of.map_or(table::HELP, |verb| verb.help)),
        Aim::Version => return print(&version()),
        Aim::Run(verb, rest) => (verb, rest),
        Aim::Unknown(name) => {
            *failed = UNKNOWN_COMMAND;
            return Err(Error::new(format!("No help topic for '{name}'"))
                .hint("tare --help lists the commands"));
        }
    };
    if verb.name == "exec" {
        *failed = EXEC_FAILED;
    }
    match cli::options(verb, rest)? {
        None => print(verb.help),
        Some(command) => perform(global, command),
    }
}

fn perform(global: &Global, command: Command) -> Result<i32> {
    match command {
        Command::Create(options) => create::run(global, &options),
        Command::Start { id } => start::run(global, &id),
        Command::Run(options) => run::run(global, &options),
        Command::Exec(options) => exec::run(global, &options),
        Command::Explain(options) => explain::run(global, &options),
        Command::Doctor { bundle } => doctor::run(global, bundle.as_deref()),
        Command::State { id } => state::run(global, &id),
        Command::List { format, quiet } => list::run(global, format, quiet),
        Command::Ps(options) => ps::run(global, &options),
        Command::Kill(options) => kill::run(global, &options),
        Command::Delete { id, force } => delete::run(global, &id, force),
        Command::Pause { id } => pause::pause(global, &id),
        Command::Resume { id } => pause::resume(global, &id),
        Command::Spec { bundle, rootless } => spec::run(&bundle, rootless),
        Command::Features => features::run(),
        Command::Update(options) => update::run(global, options),
        Command::Events(options) => events::run(global, &options),
        Command::Checkpoint(options) => checkpoint::run(global, options),
        Command::Restore(options) => restore::run(global, options),
    }
}

/// The commit that was built, if the builder says so.
const COMMIT: &str = match option_env!("TARE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

fn version() -> String {
    let (version, spec) = (env!("CARGO_PKG_VERSION"), crate::spec::VERSION);
    format!("tare version {version}\ncommit: {COMMIT}\nspec: {spec}\n")
}

/// The configuration as it was at `create`, as text.
fn saved_config(container: &Container) -> Result<String> {
    String::from_utf8(container.config()?)
        .map_err(|_| Error::new("the saved config.json is not UTF-8"))
}

/// The configuration as it was at `create`.
fn saved_spec(container: &Container) -> Result<Spec> {
    Ok(load::parse(&saved_config(container)?, Path::new("config.json"))?.0)
}

/// A failure as what it is where the container has ended meanwhile under another caller's hands.
fn or_ended(container: &Container, state: &State, err: Error) -> Error {
    match container.status(state) {
        Ok(Status::Stopped) => not_running().hint(err.message()),
        _ => err,
    }
}

/// Writes to standard output; a reader that went away is no failure.
pub(crate) fn print(text: &str) -> Result<i32> {
    print_to_reader(text).map(|_| 0)
}

/// As [`print`]; whether the reader is still there.
fn print_to_reader(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).doing(|| "write to standard output"),
    }
}
