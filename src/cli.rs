//! The command line: the options of every command, typed.
//!
//! `cli/table.rs` holds the definition, `cli/flags.rs` reads arguments by it, `cli/help/` has the
//! texts made from it. Nothing here touches the system: `cmd` does what was asked.

pub mod criu;
pub mod flags;
pub mod table;
pub mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::Format;
pub use criu::{Checkpoint, Restore};
use flags::{Matches, Until, Verb};
use update::Update;

/// Whether missing cgroup permissions are tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// Tolerated when the caller is not root or in a user namespace.
    Auto,
    /// Always tolerated.
    Yes,
    /// Never tolerated.
    No,
}

impl Rootless {
    /// Whether they are, if the caller `lacks` privileges.
    pub fn applies(self, lacks: impl FnOnce() -> bool) -> bool {
        match self {
            Rootless::Auto => lacks(),
            Rootless::Yes => true,
            Rootless::No => false,
        }
    }
}

/// The options before the command.
#[derive(Debug)]
pub struct Global {
    /// `--root` as given; `state::Root` knows the default.
    pub root: Option<PathBuf>,
    /// Log debug messages too.
    pub debug: bool,
    /// File for log lines.
    pub log: Option<PathBuf>,
    /// Format of log lines.
    pub log_format: Format,
    /// systemd makes the cgroups.
    pub systemd_cgroup: bool,
    /// Whether missing cgroup permissions are tolerated.
    pub rootless: Rootless,
    /// Which criu is used.
    pub criu: Option<PathBuf>,
}

/// Options that `create` and `run` share.
#[derive(Debug)]
pub struct Create {
    /// The container's id, as given; `state::Root` checks it.
    pub id: String,
    /// Directory of config.json; `.` without `--bundle`.
    pub bundle: PathBuf,
    /// AF_UNIX socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// AF_UNIX socket that receives a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written, relative to the caller's working directory.
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors to pass after stdio and `$LISTEN_FDS`.
    pub preserve_fds: u32,
    /// Where the times of all steps are written.
    pub trace: Option<PathBuf>,
}

/// Options of `run`.
#[derive(Debug)]
pub struct Run {
    /// What it shares with `create`.
    pub create: Create,
    /// Return after the start.
    pub detach: bool,
    /// Keep the container after its end.
    pub keep: bool,
    /// Do not become a subreaper.
    pub no_subreaper: bool,
}

/// Options of `exec`.
#[derive(Debug)]
pub struct Exec {
    /// The container's id.
    pub id: String,
    /// Program and arguments; empty with `--process`.
    pub args: Vec<OsString>,
    /// File with a process object, instead of `args`.
    pub process: Option<PathBuf>,
    /// Return after the start.
    pub detach: bool,
    /// Give the process a terminal.
    pub tty: bool,
    /// AF_UNIX socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// AF_UNIX socket that receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Working directory in the container.
    pub cwd: Option<String>,
    /// `NAME=VALUE`, in order.
    pub env: Vec<String>,
    /// User id and, where given, group id.
    pub user: Option<(u32, Option<u32>)>,
    /// Additional groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Set no_new_privs; without it config.json's value stays.
    pub no_new_privs: Option<bool>,
    /// Capabilities to add.
    pub cap: Vec<String>,
    /// How many descriptors to pass after stdio and `$LISTEN_FDS`.
    pub preserve_fds: u32,
    /// `PATH` or `CONTROLLERS:PATH`, as given.
    pub cgroup: Vec<String>,
    /// Go on in a paused container.
    pub ignore_paused: bool,
    /// Where the times of all steps are written.
    pub trace: Option<PathBuf>,
}

/// Options of `explain`.
#[derive(Debug)]
pub struct Explain {
    /// The id that the plan is made for.
    pub id: Option<String>,
    /// Directory of config.json; `.` without `--bundle`.
    pub bundle: PathBuf,
    /// Print JSON.
    pub json: bool,
}

/// How `list` and `ps` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Options of `ps`.
#[derive(Debug)]
pub struct Ps {
    /// The container's id.
    pub id: String,
    /// Table or JSON.
    pub format: Output,
    /// Options for ps(1).
    pub args: Vec<OsString>,
}

/// Options of `kill`.
#[derive(Debug)]
pub struct Kill {
    /// The container's id.
    pub id: String,
    /// As given; SIGTERM without it.
    pub signal: Option<String>,
    /// Send it to all processes of the container.
    pub all: bool,
}

/// Options of `events`.
#[derive(Debug)]
pub struct Events {
    /// The container's id.
    pub id: String,
    /// Time between two prints of the usage.
    pub interval: Duration,
    /// Print the usage once, and nothing else.
    pub stats: bool,
}

/// A command with its options.
#[derive(Debug)]
#[allow(missing_docs)] // the commands' names
#[allow(clippy::large_enum_variant)] // there is one, for the life of the program
pub enum Command {
    Create(Create),
    Start { id: String },
    Run(Run),
    Exec(Exec),
    State { id: String },
    List { format: Output, quiet: bool },
    Ps(Ps),
    Kill(Kill),
    Delete { id: String, force: bool },
    Pause { id: String },
    Resume { id: String },
    Spec { bundle: PathBuf, rootless: bool },
    Features,
    Explain(Explain),
    Doctor { bundle: Option<PathBuf> },
    Update(Update),
    Events(Events),
    Checkpoint(Checkpoint),
    Restore(Restore),
}

/// The first reading: what stands before the command, and the rest.
#[derive(Debug)]
pub struct Line {
    /// Global options.
    pub global: Global,
    /// What is to be done.
    pub aim: Aim,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Aim {
    /// The help of the program or of a command.
    Help(Option<&'static Verb>),
    /// The version.
    Version,
    /// A command whose options are still to be read (by [`options`]).
    Run(&'static Verb, Vec<OsString>),
    /// A command that does not exist.
    Unknown(String),
}

/// Reads the global options and the command's name.
///
/// # Errors
/// Unknown or malformed global options.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Line> {
    let mut found = flags::read(args, &[table::GLOBAL], Until::First, "tare")?;
    let global = global(&found)?;
    let rest = found.args.split_off(found.args.len().min(1));
    let aim = match found.args.pop() {
        _ if found.on("version") => Aim::Version,
        _ if found.help => Aim::Help(None),
        None => Aim::Help(None),
        Some(name) if name == "help" || name == "h" => help_on(rest.into_iter().next()),
        Some(name) => match find(&name) {
            Some(verb) => Aim::Run(verb, rest),
            None => Aim::Unknown(name.to_string_lossy().into_owned()),
        },
    };
    Ok(Line { global, aim })
}

fn find(name: &OsString) -> Option<&'static Verb> {
    table::VERBS.iter().find(|verb| name == verb.name)
}

fn help_on(name: Option<OsString>) -> Aim {
    let Some(name) = name else { return Aim::Help(None) };
    match find(&name) {
        Some(verb) => Aim::Help(Some(verb)),
        None => Aim::Unknown(name.to_string_lossy().into_owned()),
    }
}

fn global(found: &Matches) -> Result<Global> {
    let log_format = match found.text("log-format")?.as_deref() {
        None | Some("" | "text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => {
            return Err(Error::new(format!("invalid log-format: {other}"))
                .hint("formats are text and json"));
        }
    };
    let rootless = match found.text("rootless")?.as_deref() {
        None | Some("" | "auto") => Rootless::Auto,
        Some(other) => match flags::truth(other.as_ref()) {
            Some(true) => Rootless::Yes,
            Some(false) => Rootless::No,
            None => {
                return Err(Error::new(format!(
                    "--rootless is true, false or auto, not {other:?}"
                )));
            }
        },
    };
    Ok(Global {
        // As in runc, an empty one is the working directory.
        root: found.value("root").map(PathBuf::from),
        debug: found.on("debug"),
        log: found.path("log"),
        log_format,
        systemd_cgroup: found.on("systemd-cgroup"),
        rootless,
        criu: found.path("criu"),
    })
}

/// Reads the options of a command; `None` means that its help is asked for.
///
/// # Errors
/// Unknown or malformed options, too few or too many arguments.
pub fn options(verb: &'static Verb, args: Vec<OsString>) -> Result<Option<Command>> {
    let until = if verb.stops { Until::First } else { Until::End };
    let who = format!("tare {}", verb.name);
    let mut found = flags::read(args.into_iter(), verb.flags, until, &who)?;
    if found.help {
        return Ok(None);
    }
    count(verb, found.args.len())?;
    // Positional arguments other than a program's own are names, and names are text.
    let mut args = std::mem::take(&mut found.args).into_iter();
    let mut name = || args.next().map(|arg| text(verb, arg)).transpose();
    let id = name()?;
    let command = match (verb.name, id) {
        ("list", _) => {
            Command::List { format: output(&found, "format")?, quiet: found.on("quiet") }
        }
        ("spec", _) => Command::Spec { bundle: bundle(&found), rootless: found.on("rootless") },
        ("features", _) => Command::Features,
        ("doctor", bundle) => Command::Doctor { bundle: bundle.map(PathBuf::from) },
        ("explain", id) => {
            Command::Explain(Explain { id, bundle: bundle(&found), json: found.on("json") })
        }
        ("create", Some(id)) => Command::Create(create(id, &found)?),
        ("run", Some(id)) => Command::Run(run(id, &found)?),
        ("start", Some(id)) => Command::Start { id },
        ("state", Some(id)) => Command::State { id },
        ("delete", Some(id)) => Command::Delete { id, force: found.on("force") },
        ("pause", Some(id)) => Command::Pause { id },
        ("resume", Some(id)) => Command::Resume { id },
        ("kill", Some(id)) => Command::Kill(Kill { id, signal: name()?, all: found.on("all") }),
        ("update", Some(id)) => Command::Update(update::read(id, &found)?),
        ("events", Some(id)) => Command::Events(events(id, &found)?),
        ("checkpoint", Some(id)) => Command::Checkpoint(criu::checkpoint(id, &found)?),
        ("restore", Some(id)) => Command::Restore(criu::restore(id, &found)?),
        ("exec", Some(id)) => Command::Exec(exec(id, args.collect(), &found)?),
        ("ps", Some(id)) => {
            Command::Ps(Ps { id, format: output(&found, "format")?, args: args.collect() })
        }
        (other, _) => return Err(Error::new(format!("{other} is not done yet"))),
    };
    Ok(Some(command))
}

/// Refuses a wrong number of positional arguments, in runc's words.
fn count(verb: &Verb, given: usize) -> Result<()> {
    let least = verb.args.iter().filter(|arg| arg.required).count();
    let most = if verb.args.iter().any(|arg| arg.many) { usize::MAX } else { verb.args.len() };
    let bound = match given {
        _ if given < least && least == most => format!("exactly {least}"),
        _ if given < least => format!("a minimum of {least}"),
        _ if given > most && least == most => format!("exactly {most}"),
        _ if given > most => format!("a maximum of {most}"),
        _ => return Ok(()),
    };
    Err(Error::new(format!("{:?} requires {bound} argument(s)", verb.name))
        .hint(format!("tare {} --help shows how it is used", verb.name)))
}

fn text(verb: &Verb, arg: OsString) -> Result<String> {
    arg.into_string()
        .map_err(|arg| Error::new(format!("argument of {} is not UTF-8: {arg:?}", verb.name)))
}

fn output(found: &Matches, long: &str) -> Result<Output> {
    match found.text(long)?.as_deref() {
        None | Some("table") => Ok(Output::Table),
        Some("json") => Ok(Output::Json),
        Some(other) => Err(Error::new(format!("invalid format option {other:?}"))
            .hint("formats are table and json")),
    }
}

fn bundle(found: &Matches) -> PathBuf {
    found.path("bundle").unwrap_or_else(|| PathBuf::from("."))
}

fn create(id: String, found: &Matches) -> Result<Create> {
    Ok(Create {
        id,
        bundle: bundle(found),
        console_socket: found.path("console-socket"),
        pidfd_socket: found.path("pidfd-socket"),
        pid_file: found.path("pid-file"),
        no_pivot: found.on("no-pivot"),
        no_new_keyring: found.on("no-new-keyring"),
        preserve_fds: found.number("preserve-fds")?.unwrap_or(0),
        trace: found.path("trace"),
    })
}

fn run(id: String, found: &Matches) -> Result<Run> {
    Ok(Run {
        create: create(id, found)?,
        detach: found.on("detach"),
        keep: found.on("keep"),
        no_subreaper: found.on("no-subreaper"),
    })
}

fn exec(id: String, args: Vec<OsString>, found: &Matches) -> Result<Exec> {
    let process = found.path("process");
    if args.is_empty() && process.is_none() {
        return Err(Error::new("process args cannot be empty")
            .hint("name a program after the id, or a file with --process"));
    }
    // As for runc, what is empty is not given: an empty profile must not take the container's away.
    let text = |long| found.text(long).map(|text| text.filter(|text| !text.is_empty()));
    Ok(Exec {
        id,
        args,
        process,
        detach: found.on("detach"),
        tty: found.on("tty"),
        console_socket: found.path("console-socket"),
        pidfd_socket: found.path("pidfd-socket"),
        pid_file: found.path("pid-file"),
        cwd: text("cwd")?,
        env: found.texts("env")?,
        user: text("user")?.map(|user| ids(&user)).transpose()?,
        additional_gids: found.numbers("additional-gids")?,
        process_label: text("process-label")?,
        apparmor: text("apparmor")?,
        no_new_privs: found.given("no-new-privs"),
        cap: found.texts("cap")?,
        preserve_fds: found.number("preserve-fds")?.unwrap_or(0),
        cgroup: found.texts("cgroup")?,
        ignore_paused: found.on("ignore-paused"),
        trace: found.path("trace"),
    })
}

fn events(id: String, found: &Matches) -> Result<Events> {
    let hint = "an interval is a number with ms, s, m or h, such as 5s";
    let interval = match found.text("interval")? {
        Some(text) => {
            duration(&text).ok_or_else(|| flags::invalid("interval", &text).hint(hint))?
        }
        None => EVENTS_INTERVAL,
    };
    if interval.is_zero() {
        return Err(Error::new("duration interval must be greater than 0").hint(hint));
    }
    Ok(Events { id, interval, stats: found.on("stats") })
}

/// How often `events` prints the usage unless told otherwise.
const EVENTS_INTERVAL: Duration = Duration::from_secs(5);

/// A time as Go writes it: `100ms`, `1.5s`, `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0u64;
    while !rest.is_empty() {
        let (number, more) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let end = more.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(more.len());
        let (unit, more) = more.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(times(number, unit)?)?;
        rest = more;
    }
    Some(Duration::from_nanos(nanos))
}

/// A decimal number of `unit`s. The parser of floating-point numbers would be a hundredth of the binary.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| match text.bytes().all(|digit| digit.is_ascii_digit()) {
        true if text.is_empty() => Some(0),
        true => text.parse::<u64>().ok(),
        false => None,
    };
    // Of more, no unit is left.
    let part = part.bytes().all(|digit| digit.is_ascii_digit()).then_some(part)?;
    let part = part.get(..part.len().min(15))?;
    let scale = 10u128.pow(part.len() as u32);
    let rest = u128::from(digits(part)?) * u128::from(unit) / scale;
    let has_digits = !(whole.is_empty() && part.is_empty());
    let sum = digits(whole)?.checked_mul(unit)?.checked_add(u64::try_from(rest).ok()?);
    sum.filter(|_| has_digits)
}

/// Reads `UID[:GID]`.
fn ids(user: &str) -> Result<(u32, Option<u32>)> {
    let number = |text: &str| {
        let hint = match text.contains(':') {
            true => "--user is UID[:GID]",
            false => "names are the image's: take the number from its /etc/passwd",
        };
        let wrong = |_| Error::new(format!("--user {user}: not a numeric id")).hint(hint);
        text.parse::<u32>().map_err(wrong)
    };
    match user.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(user)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_go_writes_them() {
        let good = [
            ("100ms", 100),
            ("1.5s", 1500),
            ("+.5s", 500),
            ("0.0000050000000h", 18),
            ("2m", 120_000),
            ("1h30m5s", 5_405_000),
            ("", 0),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["5", "s", "1x", "1.123456789-5s", "1.-5s", ".s", "--1s", "-1s", "1s5", "1 s", "infs"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
