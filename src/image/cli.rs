//! lade's command line: its definition, from which help and man pages are made, and the way from
//! each command to its room.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::bundle;
use super::config::{self, Bind, Overrides};
use super::platform::Platform;
use super::progress::{self, Progress};
use super::reference::Reference;
use super::store::{ImageRecord, Store};
use super::transport::Options;
use super::{pull, run, source, user, userns};
use crate::error::{Error, Result, printable};

/// The definition of the command line.
pub fn command() -> Command {
    Command::new("lade")
        .about("Pulls OCI images and prepares bundles for tare")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            path(
                "store",
                "DIR",
                "Where images are kept [default: /var/lib/lade, or \
            $XDG_DATA_HOME/lade without root]",
            )
            .global(true),
        )
        .subcommand(pull_command())
        .subcommand(images_command())
        .subcommand(
            Command::new("rm")
                .about("Remove images by name; `gc` frees their space")
                .arg(many("REF", 1, "Image to remove").required(true)),
        )
        .subcommand(Command::new("gc").about(
            "Remove layers that no image and no bundle needs, and what killed calls left, \
                 beginnings of blobs too",
        ))
        .subcommand(bundle_command())
        .subcommand(
            Command::new("unbundle")
                .about(
                    "Unmount and remove a bundle that `bundle` made and in which no container runs",
                )
                .arg(positional("DIR", "The bundle").value_parser(value_parser!(PathBuf))),
        )
        .subcommand(run_command())
        .subcommand(delete_command())
}

fn pull_command() -> Command {
    let about = "Pull an image into the store";
    let long = "Pull an image into the store.\n\nREF is a name in a registry, with docker.io, \
        library/ and :latest understood, or docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG] \
        or docker-archive:FILE[:NAME|:@N]. A pull that was interrupted goes on where it was.";
    source_arguments(Command::new("pull").about(about).long_about(long))
        .arg(positional("REF", "Image to pull"))
}

fn images_command() -> Command {
    Command::new("images").about("List the stored images").arg(
        option("format", "FORMAT", "How to print")
            .value_parser(["table", "json"])
            .default_value("table"),
    )
}

fn bundle_command() -> Command {
    let command = Command::new("bundle").about("Make a bundle of a stored image");
    image_arguments(command)
        .arg(positional("REF", "Stored image"))
        .arg(
            positional("DIR", "Directory for the bundle, empty or new")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(command_argument())
}

fn run_command() -> Command {
    let about = "Run a command in a new container of an image";
    let long = "Run a command in a new container of an image, which is pulled if it is not \
        stored. The container is removed when it ends; the exit code is the command's.\n\n\
        The runtime is $TARE, or the tare beside lade, or the one in $PATH.";
    image_arguments(source_arguments(Command::new("run").about(about).long_about(long)))
        .arg(flag(
            "detach",
            'd',
            "Return when it has started and print its name; its output goes \
            to run/NAME/.lade/log in the store",
        ))
        .arg(flag(
            "interactive",
            'i',
            "Nothing, for those used to it: a container in the foreground reads lade's input anyway",
        ))
        .arg(flag("rm", None, "Remove a detached container when it ends"))
        .arg(
            option("name", "NAME", "Name of the container [default: made up]")
                .value_parser(|name: &str| run::check_name(name).map(str::to_owned)),
        )
        .arg(positional("REF", "Image"))
        .arg(command_argument())
}

fn delete_command() -> Command {
    Command::new("delete")
        .about("Remove containers that `run --detach` has left")
        .arg(flag("force", 'f', "Kill what still runs"))
        .arg(flag("when-stopped", None, "Wait for its end first").hide(true))
        .arg(many("NAME", 1, "Container to remove").required(true))
}

/// Where images come from.
fn source_arguments(command: Command) -> Command {
    command
        .arg(flag("quiet", 'q', "Print nothing but errors"))
        .arg(option("platform", "OS/ARCH[/VARIANT]", "Platform of the image [default: this one]"))
        .arg(flag("plain-http", None, "Talk http, not https, to the registry"))
        .arg(path("ca", "FILE", "Certificate authority to trust as well (PEM)"))
        .arg(path("cert", "FILE", "Client's certificate (PEM)").requires("key"))
        .arg(path("key", "FILE", "Client's private key (PEM)").requires("cert"))
        .arg(flag("insecure-skip-verify", None, "Accept any certificate"))
        .arg(option("creds", "USER[:PASSWORD]", "Credentials for the registry"))
        .arg(path("authfile", "FILE", "Docker's config.json or containers' auth.json"))
        .arg(path("hosts-dir", "DIR", "Directory with a hosts.toml for each registry"))
}

/// What a container has otherwise than its image says.
fn image_arguments(command: Command) -> Command {
    command
        .arg(flag("copy", None, "Copy the layers into a plain directory instead of mounting them"))
        .arg(flag("tty", 't', "Give it a terminal"))
        .arg(
            repeated("env", 'e', "NAME[=VALUE]", "Set a variable, or pass the caller's on")
                .value_parser(|var: &str| config::variable_name(var).map(|_| var.to_owned())),
        )
        .arg(
            repeated("volume", 'v', "SOURCE:DESTINATION[:ro]", "Show it a file or directory")
                .value_parser(Bind::parse),
        )
        .arg(option("workdir", "DIR", "Working directory").short('w'))
        .arg(
            option("user", "USER[:GROUP]", "Who runs the command")
                .short('u')
                .value_parser(|name: &str| user::check(name).map(|()| name.to_owned())),
        )
        .arg(option("entrypoint", "PROGRAM", "Replace the image's entry point and command"))
        .arg(
            option(
                "net",
                "NETWORK",
                "An own network with a loopback interface only, or the host's \
                with its /etc/resolv.conf and /etc/hosts",
            )
            .value_parser(["none", "host"])
            .default_value("none"),
        )
        .arg(option("hostname", "NAME", "Its name of the host [default: its name]"))
}

fn command_argument() -> Arg {
    many("COMMAND", 0, "Replaces the image's command")
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
}

fn positional(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).required(true)
}

fn many(name: &'static str, least: usize, help: &'static str) -> Arg {
    Arg::new(name).help(help).num_args(least..)
}

fn flag(name: &'static str, short: impl Into<Option<char>>, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    match short.into() {
        Some(short) => arg.short(short),
        None => arg,
    }
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn repeated(name: &'static str, short: char, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).short(short).action(ArgAction::Append)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).value_parser(value_parser!(PathBuf))
}

/// Does what the command line asks; returns the exit code.
///
/// # Errors
/// Those of the command, to be printed once by the caller.
pub fn dispatch(matches: &ArgMatches) -> Result<u8> {
    let store = || Store::open(matches.get_one::<PathBuf>("store").map(PathBuf::as_path));
    // Before anything else: the process must have one thread.
    let maps = match matches.subcommand() {
        Some(("images", _)) => None,
        Some(("delete", m)) => enter_to_delete(&store()?, m)?,
        Some(("unbundle", m)) => {
            bundle::check_unused(&required_path(m, "DIR"))?;
            userns::enter()?
        }
        _ => userns::enter()?,
    };
    match matches.subcommand() {
        Some(("pull", m)) => pull_image(&store()?, m).map(|_| 0),
        Some(("images", m)) => images(&store()?, m).map(|()| 0),
        Some(("rm", m)) => remove_images(&store()?, m).map(|()| 0),
        Some(("gc", _)) => collect(&store()?).map(|()| 0),
        Some(("bundle", m)) => make_bundle(&store()?, m, maps).map(|()| 0),
        Some(("unbundle", m)) => bundle::remove(&required_path(m, "DIR")).map(|()| 0),
        Some(("run", m)) => run_image(&store()?, m),
        Some(("delete", m)) => delete(&store()?, m).map(|()| 0),
        _ => Err(Error::new("no command")),
    }
}

/// A container that still runs is reached from its own user namespace alone, since its processes
/// may be of any user there.
fn enter_to_delete(store: &Store, matches: &ArgMatches) -> Result<Option<userns::Maps>> {
    let names = matches.get_many::<String>("NAME").into_iter().flatten();
    match names.filter_map(|name| run::pid_of(store, name)).next() {
        Some(pid) => userns::enter_of(pid).map(|()| None),
        None => userns::enter(),
    }
}

fn pull_image(store: &Store, matches: &ArgMatches) -> Result<ImageRecord> {
    let options = source_options(matches)?;
    let source = source::open(&text(matches, "REF"), &options)?;
    let progress = Progress::new(matches.get_flag("quiet"));
    let image = pull::pull(store, source.as_ref(), &options.platform, &progress)?;
    progress.line(&format!("{} {}", image.name, image.manifest));
    Ok(image)
}

fn images(store: &Store, matches: &ArgMatches) -> Result<()> {
    let images = store.images()?;
    if text(matches, "format") == "json" {
        let json = serde_json::to_string_pretty(&images);
        return print(&json.map_err(|err| Error::new(format!("print images: {err}")))?);
    }
    let rows: Vec<[String; 4]> = images.iter().map(row).collect();
    let header = ["NAME", "DIGEST", "PLATFORM", "SIZE"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(String::len).max().unwrap_or(0);
    let (name, digest, platform) = (width(0), width(1), width(2));
    let lines =
        rows.iter().map(|[n, d, p, s]| format!("{n:name$}  {d:digest$}  {p:platform$}  {s}"));
    print(&lines.collect::<Vec<_>>().join("\n"))
}

fn row(image: &ImageRecord) -> [String; 4] {
    let digest = image.manifest.hex().get(..12).unwrap_or_default().to_owned();
    [image.name.clone(), digest, printable(&image.platform), progress::bytes(image.size)]
}

fn remove_images(store: &Store, matches: &ArgMatches) -> Result<()> {
    for reference in matches.get_many::<String>("REF").into_iter().flatten() {
        let image = stored(store, reference)?.ok_or_else(|| missing(reference))?;
        store.remove_image(&image.name)?;
    }
    Ok(())
}

fn collect(store: &Store) -> Result<()> {
    run::clean(store)?;
    let (layers, size) = store.collect()?;
    print(&format!("removed {layers} layers, {}", progress::bytes(size)))
}

/// Whoever is not root gets a plain directory and the ids mapped as they are here: an overlay would
/// be gone with lade, and so would its user namespace.
fn make_bundle(store: &Store, matches: &ArgMatches, maps: Option<userns::Maps>) -> Result<()> {
    let reference = text(matches, "REF");
    let image = stored(store, &reference)?.ok_or_else(|| missing(&reference))?;
    let dir = required_path(matches, "DIR");
    let copy = matches.get_flag("copy") || maps.is_some();
    bundle::create(store, &image, &dir, copy, &Overrides { maps, ..overrides(matches) })
}

fn run_image(store: &Store, matches: &ArgMatches) -> Result<u8> {
    let overrides = overrides(matches);
    overrides.mounts.iter().try_for_each(Bind::find_source)?;
    let (detach, remove) = (matches.get_flag("detach"), matches.get_flag("rm"));
    if detach && overrides.terminal {
        return Err(Error::new(
            "a detached container cannot have a terminal: nobody would hold it",
        ));
    }
    let image = match stored(store, &text(matches, "REF"))? {
        Some(image) if fits(&image, matches) => image,
        _ => pull_image(store, matches)?,
    };
    let name = matches.get_one::<String>("name").cloned();
    let copy = matches.get_flag("copy");
    run::run(store, &image, &run::Options { name, detach, remove, copy, overrides })
}

fn delete(store: &Store, matches: &ArgMatches) -> Result<()> {
    for name in matches.get_many::<String>("NAME").into_iter().flatten() {
        match matches.get_flag("when-stopped") {
            true => run::delete_when_stopped(store, name)?,
            false => run::delete(store, name, matches.get_flag("force"))?,
        }
    }
    Ok(())
}

/// The stored image that `reference` means: by the name that `images` prints, by a name as a
/// registry would understand it, by (the beginning of) its digest, or by a file that has it.
fn stored(store: &Store, reference: &str) -> Result<Option<ImageRecord>> {
    if ["oci:", "oci-archive:", "docker-archive:"].iter().any(|kind| reference.starts_with(kind)) {
        return stored_of_file(store, reference);
    }
    if let Some(image) = store.image(reference)? {
        return Ok(Some(image));
    }
    let name = reference.strip_prefix("docker://").unwrap_or(reference);
    if let Ok(name) = Reference::parse(name)
        && let Some(image) = store.image(&name.to_string())?
    {
        return Ok(Some(image));
    }
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    let is_digest = hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let images = if is_digest { store.images()? } else { Vec::new() };
    Ok(images.into_iter().find(|image| image.manifest.hex().starts_with(hex)))
}

/// The stored image that a layout or archive has now. Its name alone says little: files in other
/// directories have the same, and this one may have been written anew.
fn stored_of_file(store: &Store, reference: &str) -> Result<Option<ImageRecord>> {
    let source = source::open(reference, &Options::default())?;
    let is_there = |image: &ImageRecord| {
        // An index may say otherwise than the config, which the record's platform is of.
        [Platform::parse(&image.platform), Ok(Platform::host())].into_iter().any(|platform| {
            let found = platform.and_then(|platform| source::resolve(source.as_ref(), &platform));
            found.is_ok_and(|found| found.manifest_digest == image.manifest)
        })
    };
    Ok(store.image(&source.name())?.filter(is_there))
}

/// Whether a stored image is for the platform that was asked for, if one was.
fn fits(image: &ImageRecord, matches: &ArgMatches) -> bool {
    let wanted = matches.get_one::<String>("platform").map(|p| Platform::parse(p));
    match (wanted, Platform::parse(&image.platform)) {
        (None, _) => true,
        (Some(Ok(wanted)), Ok(is)) => is.fit(&wanted).is_some(),
        _ => false,
    }
}

fn missing(reference: &str) -> Error {
    Error::new(format!("there is no image {reference:?} in the store"))
        .hint(format!("`lade images` lists them; `lade pull {reference}` brings it"))
}

fn source_options(matches: &ArgMatches) -> Result<Options> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let platform = matches.get_one::<String>("platform").map(|p| Platform::parse(p)).transpose()?;
    Ok(Options {
        platform: platform.unwrap_or_else(Platform::host),
        plain_http: matches.get_flag("plain-http"),
        ca: path("ca"),
        client_cert: path("cert"),
        client_key: path("key"),
        insecure_skip_verify: matches.get_flag("insecure-skip-verify"),
        authfile: path("authfile"),
        creds: matches.get_one::<String>("creds").map(|creds| credentials(creds)),
        hosts_dir: path("hosts-dir"),
    })
}

fn credentials(text: &str) -> (String, String) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    (user.to_owned(), password.to_owned())
}

/// What names mean in the host's network, read-only as the network is the host's. Where the image
/// has no such file, an empty one is made in the container's root.
fn network_files() -> impl Iterator<Item = Bind> {
    let paths = ["/etc/resolv.conf", "/etc/hosts"].map(PathBuf::from).into_iter();
    let files = paths.filter(|path| path.is_file());
    files.map(|path| Bind { source: path.clone(), destination: path, readonly: true })
}

fn overrides(matches: &ArgMatches) -> Overrides {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let host_network = text("net").as_deref() == Some("host");
    let binds = matches.get_many::<Bind>("volume").into_iter().flatten().cloned();
    // Before the caller's own, which may take their place.
    let files = network_files().filter(|_| host_network);
    let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned();
    Overrides {
        command: texts("COMMAND").collect(),
        entrypoint: text("entrypoint"),
        env: texts("env").collect(),
        cwd: text("workdir"),
        user: text("user"),
        terminal: matches.get_flag("tty"),
        mounts: files.chain(binds).collect(),
        host_network,
        hostname: text("hostname"),
        maps: None,
    }
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn required_path(matches: &ArgMatches, name: &str) -> PathBuf {
    matches.get_one::<PathBuf>(name).cloned().unwrap_or_default()
}

/// Prints a result; a reader that has gone away is no error.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("print the result", &err))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_of_the_command_are_its_own() {
        let line = ["lade", "run", "-e", "A=1", "-v", "/a:/b:ro", "img", "ls", "-l", "--", "-t"];
        let matches = command().try_get_matches_from(line).unwrap();
        let (_, run) = matches.subcommand().unwrap();
        let overrides = overrides(run);
        assert_eq!(overrides.command, ["ls", "-l", "--", "-t"]);
        assert!(!overrides.terminal && overrides.mounts[0].readonly);
        assert_eq!(overrides.env, ["A=1"]);
    }

    #[test]
    fn usage_tells_how_many_are_needed() {
        for (name, words) in
            [("rm", "<REF>..."), ("delete", "<NAME>..."), ("run", "<REF> [COMMAND]...")]
        {
            let mut command = command();
            let usage = command.find_subcommand_mut(name).unwrap().render_usage().to_string();
            assert!(usage.ends_with(words), "{usage}");
        }
    }

    #[test]
    fn passwords_may_hold_colons() {
        assert_eq!(credentials("me:a:b"), ("me".to_owned(), "a:b".to_owned()));
        assert_eq!(credentials("me"), ("me".to_owned(), String::new()));
    }
}
