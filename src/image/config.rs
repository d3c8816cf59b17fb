//! From an image's config to a bundle's `config.json` (image-spec conversion.md).
//!
//! What the image does not say comes from two files of data beside this one: `profile.json`, the
//! defaults that containerd gives (less its tmpfs on /run, which would hide what images keep
//! there), and `seccomp.json`, what containerd's default filter lets through with exactly its
//! capabilities, whichever the processor.
//! Images are data: of them only the conversions below reach the configuration.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::image::{Config, ImageConfiguration};
use oci_spec::runtime::{
    Arch, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp,
    Mount, MountBuilder, Spec, User,
};
use serde_json::Value;

use super::userns::{Map, Maps};
use super::{tree, user, userns};
use crate::error::{Doing, Error, Result};

/// Annotations of conversion.md start with this.
const PREFIX: &str = "org.opencontainers.image.";

/// Annotations by which runtimes are given orders, and with a dot or slash at the end all that begin
/// so. The caller may do so, an image's labels may not.
const ORDERS: [&str; 7] = [
    "org.systemd.property.",
    "org.criu.config",
    "run.oci.",
    "module.wasm.image/",
    "io.kubernetes.cri.container-type",
    "io.katacontainers.",
    // runc takes it for the path of the bundle.
    "bundle",
];
/// `PATH` for images that set none, as containerd and Docker have it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the user wants otherwise than the image says.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// Replaces `Cmd`.
    pub command: Vec<String>,
    /// Replaces `Entrypoint` and, as with Docker, `Cmd`; empty text for no entry point.
    pub entrypoint: Option<String>,
    /// `NAME=VALUE`, or `NAME` for the caller's own value.
    pub env: Vec<String>,
    /// Replaces `WorkingDir`.
    pub cwd: Option<String>,
    /// Replaces `User`.
    pub user: Option<String>,
    /// A terminal for the process.
    pub terminal: bool,
    /// Bind mounts beside those of the profile.
    pub mounts: Vec<Bind>,
    /// The host's network instead of an own one with nothing but a loopback interface.
    pub host_network: bool,
    /// Name of the host that the container sees.
    pub hostname: Option<String>,
    /// The ids of a user namespace that the container is to have of its own.
    pub maps: Option<Maps>,
}

/// A directory or file of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute.
    pub destination: PathBuf,
    /// Whether the container may not write to it.
    pub readonly: bool,
}

impl Bind {
    /// Parses `SOURCE:DESTINATION[:ro|:rw]`; both are absolute.
    ///
    /// # Errors
    /// Everything else.
    pub fn parse(text: &str) -> Result<Bind> {
        let bad =
            || Error::new(format!("{text:?} is not SOURCE:DESTINATION[:ro], with absolute paths"));
        let mut parts = text.split(':');
        let (source, destination) = (parts.next().unwrap_or_default(), parts.next());
        let destination = destination.ok_or_else(bad)?;
        let readonly = match (parts.next(), parts.next()) {
            (None | Some("rw"), None) => false,
            (Some("ro"), None) => true,
            _ => return Err(bad()),
        };
        match source.starts_with('/') && destination.starts_with('/') {
            true => Ok(Bind { source: source.into(), destination: destination.into(), readonly }),
            false => Err(bad()),
        }
    }

    /// Looks for the source, as the mount will.
    ///
    /// # Errors
    /// It is not there.
    pub fn find_source(&self) -> Result<()> {
        // Not stat(2), which a file system of another user may refuse even root.
        let source =
            nix::fcntl::open(&self.source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        source.map(drop).doing(|| format!("open the source of --volume {}", self.source.display()))
    }
}

/// The name in `NAME[=VALUE]`.
///
/// # Errors
/// There is none.
pub fn variable_name(text: &str) -> Result<&str> {
    match text.split('=').next() {
        None | Some("") => Err(Error::new(format!("{text:?} is not NAME[=VALUE]"))),
        Some(name) => Ok(name),
    }
}

/// Makes the configuration for a container of `image`. `user` is the resolved
/// [`user_of`]; `volumes` are the directories that stand in for the image's volumes.
///
/// # Errors
/// The image and the caller name no command; a variable without a name.
pub fn convert(
    image: &ImageConfiguration,
    user: &user::User,
    volumes: &[Bind],
    overrides: &Overrides,
) -> Result<Spec> {
    let mut spec: Spec = builtin("profile.json", include_str!("profile.json"))?;
    let none = Config::default();
    let config = image.config().as_ref().unwrap_or(&none);
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(arguments(config, overrides)?));
    process.set_env(Some(environment(config, overrides)?));
    process.set_cwd(working_directory(config, overrides));
    process.set_user(process_user(user));
    process.set_terminal(Some(overrides.terminal));
    process.set_no_new_privileges(Some(false));
    spec.set_process(Some(process));
    spec.set_hostname(overrides.hostname.clone());
    spec.set_annotations(Some(annotations(image, config)));
    let mounts = spec.mounts_mut().get_or_insert_default();
    for bind in volumes.iter().chain(&overrides.mounts) {
        mounts.push(bind_mount(bind)?);
    }
    if !tree::is_host_root() {
        mounts.iter_mut().for_each(|mount| without_root(mount, overrides));
    }
    let linux = spec.linux_mut().get_or_insert_default();
    linux.set_seccomp(Some(seccomp()?));
    let namespaces = linux.namespaces_mut().get_or_insert_default();
    if overrides.host_network {
        namespaces.retain(|ns| ns.typ() != LinuxNamespaceType::Network);
    }
    if let Some(maps) = &overrides.maps {
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User);
        namespaces.push(user);
        linux.set_uid_mappings(Some(id_mappings(&maps.uids)?));
        linux.set_gid_mappings(Some(id_mappings(&maps.gids)?));
    }
    Ok(spec)
}

/// The configuration as data, the same each time for the same image: members of objects are sorted,
/// and so are capabilities, which are a set.
///
/// # Errors
/// It cannot be written as JSON.
pub fn value(spec: &Spec) -> Result<Value> {
    let mut value = serde_json::to_value(spec)
        .map_err(|err| Error::new(format!("write config.json: {err}")))?;
    let sets = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
        if let Some(names) = set.as_array_mut() {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    Ok(value)
}

/// Leaves out of a mount what only the host's root could do: a group that may not be mapped, and a
/// sysfs of network devices that are not the container's.
fn without_root(mount: &mut Mount, overrides: &Overrides) {
    match mount.typ().as_deref() {
        Some("devpts") => {
            let options = mount.options().clone().unwrap_or_default();
            let options = options.into_iter().filter(|option| !option.starts_with("gid="));
            mount.set_options(Some(options.collect()));
        }
        Some("sysfs") if overrides.host_network => {
            mount.set_typ(Some("bind".into()));
            mount.set_source(Some("/sys".into()));
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            mount.set_options(Some(options.map(str::to_owned).to_vec()));
        }
        _ => {}
    }
}

fn id_mappings(map: &Map) -> Result<Vec<LinuxIdMapping>> {
    let mapping = |[inside, outside, size]: &[u32; 3]| {
        let builder = LinuxIdMappingBuilder::default().container_id(*inside).host_id(*outside);
        builder.size(*size).build().map_err(|err| Error::new(format!("map ids: {err}")))
    };
    map.iter().map(mapping).collect()
}

/// The user that the caller or the image names, unresolved.
pub fn user_of(image: &ImageConfiguration, overrides: &Overrides) -> String {
    let image = image.config().as_ref().and_then(|config| config.user().clone());
    overrides.user.clone().or(image).unwrap_or_default()
}

/// The image's volumes: clean absolute paths in the container, sorted, each once.
pub fn volumes_of(image: &ImageConfiguration) -> Vec<PathBuf> {
    let config = image.config().as_ref();
    let volumes = config.and_then(|config| config.volumes().as_ref()).into_iter().flatten();
    let clean = volumes.filter_map(|volume| {
        let parts: Vec<&str> = volume.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
        let usable = !parts.is_empty() && !parts.contains(&"..");
        usable.then(|| PathBuf::from(format!("/{}", parts.join("/"))))
    });
    let mut volumes: Vec<PathBuf> = clean.collect();
    volumes.sort();
    volumes.dedup();
    volumes
}

fn arguments(config: &Config, overrides: &Overrides) -> Result<Vec<String>> {
    let image_command = config.cmd().clone().unwrap_or_default();
    let (entrypoint, default) = match &overrides.entrypoint {
        Some(own) => {
            (Some(own.clone()).into_iter().filter(|e| !e.is_empty()).collect(), Vec::new())
        }
        None => (config.entrypoint().clone().unwrap_or_default(), image_command),
    };
    let command = if overrides.command.is_empty() { default } else { overrides.command.clone() };
    let args = [entrypoint, command].concat();
    match args.is_empty() {
        true => Err(Error::new("neither the image nor the command line names a command")),
        false => Ok(args),
    }
}

/// The image's environment in its order, with the caller's values in place of or after it.
fn environment(config: &Config, overrides: &Overrides) -> Result<Vec<String>> {
    let mut env = config.env().clone().unwrap_or_default();
    if !env.iter().any(|var| var.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    if overrides.terminal && !env.iter().any(|var| var.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    for var in &overrides.env {
        let name = variable_name(var)?;
        env.retain(|old| old.split('=').next() != Some(name));
        match var.contains('=') {
            true => env.push(var.clone()),
            // A variable that the caller does not have is not set at all, as with Docker.
            false => env.extend(std::env::var(name).ok().map(|value| format!("{name}={value}"))),
        }
    }
    Ok(env)
}

fn working_directory(config: &Config, overrides: &Overrides) -> PathBuf {
    let wanted = overrides.cwd.clone().or_else(|| config.working_dir().clone());
    // The runtime wants it absolute; images may leave the slash out, or everything.
    Path::new("/").join(wanted.unwrap_or_default())
}

fn process_user(user: &user::User) -> User {
    let mut process = User::default();
    process.set_uid(user.uid);
    process.set_gid(user.gid);
    let gids = Some(user.additional_gids.clone());
    let gids = gids.filter(|gids| !gids.is_empty() && userns::may_set_groups());
    process.set_additional_gids(gids);
    process
}

/// conversion.md, "Annotation Fields" and "Config.ExposedPorts"; labels come first.
fn annotations(image: &ImageConfiguration, config: &Config) -> HashMap<String, String> {
    let mut ports = config.exposed_ports().clone().unwrap_or_default();
    ports.sort();
    let features = image.os_features().clone().unwrap_or_default();
    let fields: BTreeMap<&str, Option<String>> = [
        ("os", Some(image.os().to_string())),
        ("architecture", Some(image.architecture().to_string())),
        ("variant", image.variant().clone()),
        ("os.version", image.os_version().clone()),
        ("os.features", Some(features.join(","))),
        ("author", image.author().clone()),
        ("created", image.created().clone()),
        ("stopSignal", config.stop_signal().clone()),
        ("exposedPorts", Some(ports.join(","))),
    ]
    .into();
    let mut annotations = config.labels().clone().unwrap_or_default();
    annotations.retain(|key, _| !ORDERS.iter().any(|order| is_order(key, order)));
    for (key, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.entry(format!("{PREFIX}{key}")).or_insert(value);
        }
    }
    annotations
}

fn is_order(key: &str, order: &str) -> bool {
    key == order || order.ends_with(['.', '/']) && key.starts_with(order)
}

fn bind_mount(bind: &Bind) -> Result<Mount> {
    let mode = if bind.readonly { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", mode].map(str::to_owned);
    let mount = MountBuilder::default()
        .destination(&bind.destination)
        .typ("bind")
        .source(&bind.source)
        .options(options.to_vec())
        .build();
    mount.map_err(|err| Error::new(format!("mount {}: {err}", bind.destination.display())))
}

fn seccomp() -> Result<LinuxSeccomp> {
    let profile = filter(cfg!(target_arch = "s390x"))?;
    let mut seccomp: LinuxSeccomp = serde_json::from_value(profile)
        .map_err(|err| Error::new(format!("built-in seccomp.json: {err}")))?;
    let architectures = match std::env::consts::ARCH {
        "x86_64" => Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]),
        "aarch64" => Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]),
        "s390x" => Some(vec![Arch::ScmpArchS390x, Arch::ScmpArchS390]),
        // No entry: the native one alone.
        _ => None,
    };
    seccomp.set_architectures(architectures);
    Ok(seccomp)
}

/// The rules; the flags of clone(2) are its second argument on s390, its first elsewhere.
fn filter(flags_come_second: bool) -> Result<Value> {
    let mut profile: Value = builtin("seccomp.json", include_str!("seccomp.json"))?;
    let rules = profile.get_mut("syscalls").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten().filter(|rule| is_about(rule, "clone")) {
        if let Some(index) = rule.pointer_mut("/args/0/index") {
            *index = u8::from(flags_come_second).into();
        }
    }
    Ok(profile)
}

fn is_about(rule: &Value, call: &str) -> bool {
    rule.pointer("/names/0").and_then(Value::as_str) == Some(call)
}

fn builtin<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|err| Error::new(format!("built-in {name}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: user::User = user::User { uid: 0, gid: 0, additional_gids: Vec::new() };

    fn image(config: &str) -> ImageConfiguration {
        serde_json::from_str(&format!(
            r#"{{"os":"linux","architecture":"amd64","author":"me","created":"2020-01-02T03:04:05Z",
                "rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
        ))
        .unwrap()
    }

    fn spec(config: &str, overrides: &Overrides) -> serde_json::Value {
        let spec = convert(&image(config), &ROOT, &[], overrides).unwrap();
        serde_json::to_value(spec).unwrap()
    }

    #[test]
    fn entrypoint_and_command() {
        let config = r#"{"Entrypoint":["/e"],"Cmd":["a","b"]}"#;
        let args = |overrides: Overrides| spec(config, &overrides)["process"]["args"].clone();
        let text = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(args(Overrides::default()), serde_json::json!(["/e", "a", "b"]));
        let command = Overrides { command: text(&["c"]), ..Default::default() };
        assert_eq!(args(command), serde_json::json!(["/e", "c"]));
        let entrypoint = Overrides {
            entrypoint: Some("/own".into()),
            command: text(&["d"]),
            ..Default::default()
        };
        assert_eq!(args(entrypoint), serde_json::json!(["/own", "d"]));
        let none = convert(&image("{}"), &ROOT, &[], &Overrides::default());
        assert!(none.unwrap_err().message().contains("names a command"));
    }

    #[test]
    fn environment_and_directory() {
        let config = r#"{"Cmd":["x"],"Env":["A=1","PATH=/p"],"WorkingDir":"srv"}"#;
        let env = vec!["A=2".to_owned(), "B=".to_owned(), "LADE_UNSET_VARIABLE".to_owned()];
        let spec = spec(config, &Overrides { env, ..Default::default() });
        assert_eq!(spec["process"]["env"], serde_json::json!(["PATH=/p", "A=2", "B="]));
        assert_eq!(spec["process"]["cwd"], "/srv");
        let bad = Overrides { env: vec!["=x".into()], ..Default::default() };
        assert!(convert(&image(config), &ROOT, &[], &bad).is_err());
    }

    #[test]
    fn annotations_yield_to_labels() {
        let config = r#"{"Cmd":["x"],"StopSignal":"SIGINT","ExposedPorts":{"80/tcp":{},"443/tcp":{}},
            "Labels":{"org.opencontainers.image.author":"label","other":"kept"}}"#;
        let annotations = &spec(config, &Overrides::default())["annotations"];
        let expected = serde_json::json!({
            "org.opencontainers.image.os": "linux",
            "org.opencontainers.image.architecture": "amd64",
            "org.opencontainers.image.author": "label",
            "org.opencontainers.image.created": "2020-01-02T03:04:05Z",
            "org.opencontainers.image.stopSignal": "SIGINT",
            "org.opencontainers.image.exposedPorts": "443/tcp,80/tcp",
            "other": "kept",
        });
        assert_eq!(annotations, &expected);
    }

    #[test]
    fn labels_give_no_orders() {
        let labels = r#"{"Cmd":["x"],"Labels":{"org.systemd.property.DevicePolicy":"'auto'",
            "org.criu.config":"/etc/shadow","run.oci.keep_original_groups":"1","bundle":"/etc",
            "module.wasm.image/variant":"compat","io.katacontainers.config.hypervisor.path":"/x",
            "io.kubernetes.cri.container-type":"sandbox","bundled":"1","hooks":"{\"prestart\":[]}","cdi.k8s.io/all":"vendor.com/gpu=all"}}"#;
        let [plain, mut labelled] = [r#"{"Cmd":["x"]}"#, labels]
            .map(|config| convert(&image(config), &ROOT, &[], &Overrides::default()).unwrap());
        let mut annotations = labelled.annotations().clone().unwrap();
        assert!(annotations.remove("hooks").is_some() && annotations.remove("bundled").is_some());
        assert!(annotations.remove("cdi.k8s.io/all").is_some());
        labelled.set_annotations(Some(annotations));
        assert!(labelled == plain, "a label is an annotation without a meaning, and nothing else");
    }

    #[test]
    fn the_text_is_the_same_each_time() {
        let config = r#"{"Cmd":["x"],"Labels":{"b":"1","a":"2","c":"3"},
            "ExposedPorts":{"3/udp":{},"1/tcp":{},"2/tcp":{}},"Volumes":{"/z":{},"/a":{}}}"#;
        let text = || {
            let spec = convert(&image(config), &ROOT, &[], &Overrides::default()).unwrap();
            value(&spec).unwrap().to_string()
        };
        let first = text();
        assert!((0..20).all(|_| text() == first));
    }

    #[test]
    fn the_profile_is_complete() {
        let spec = spec(r#"{"Cmd":["x"]}"#, &Overrides::default());
        let count = |path: &str| spec.pointer(path).unwrap().as_array().unwrap().len();
        assert_eq!(count("/process/capabilities/bounding"), 14);
        assert!(spec["process"]["capabilities"].get("inheritable").is_none());
        assert_eq!(count("/linux/namespaces"), 6);
        assert_eq!(count("/linux/maskedPaths"), 12);
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
        let host =
            Overrides { host_network: true, command: vec!["x".into()], ..Default::default() };
        let spec = convert(&image("{}"), &ROOT, &[], &host).unwrap();
        assert_eq!(spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 5);
    }

    #[test]
    fn clone_is_filtered_by_its_flags() {
        for second in [false, true] {
            let profile = filter(second).unwrap();
            let rule = |name| {
                let rules = profile["syscalls"].as_array().unwrap();
                rules.iter().find(|rule| rule["names"] == serde_json::json!([name])).unwrap()
            };
            let [clone, socket] = ["clone", "socket"].map(|name| &rule(name)["args"][0]);
            assert_eq!((&clone["index"], &socket["index"]), (&u8::from(second).into(), &0.into()));
        }
    }

    #[test]
    fn volumes_are_cleaned() {
        let image = image(r#"{"Volumes":{"/data//":{},"/":{},"/a/../b":{},"rel":{},"/data":{}}}"#);
        assert_eq!(volumes_of(&image), [PathBuf::from("/data"), PathBuf::from("/rel")]);
    }

    #[test]
    fn binds_are_parsed() {
        let bind =
            |s: &str, d: &str, readonly| Bind { source: s.into(), destination: d.into(), readonly };
        assert_eq!(Bind::parse("/a:/b").unwrap(), bind("/a", "/b", false));
        assert_eq!(Bind::parse("/a:/b:ro").unwrap(), bind("/a", "/b", true));
        for bad in ["/a", "a:/b", "/a:b", "/a:/b:x", "/a:/b:ro:z", ""] {
            assert!(Bind::parse(bad).is_err(), "{bad}");
        }
    }
}
