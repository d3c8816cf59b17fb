//! Which servers stand for a registry: containerd's `hosts.toml` (mirrors, their trust and
//! capabilities), and Docker's `certs.d` (authorities and client certificates).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Doing, Error, Result};
use crate::image::http::Host;
use crate::image::reference::{DOCKER_HUB, Reference, is_loopback};
use crate::image::tls::Trust;
use crate::image::transport::{Options, read_bounded};
use crate::image::url::Url;

/// Folders that are searched unless the user names one.
const FOLDERS: [&str; 3] =
    ["/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"];
/// The largest hosts.toml that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// A server to ask.
pub struct Endpoint {
    /// The server and what belongs to it.
    pub host: Host,
    /// Path before `/NAME/manifests/…`: `/v2` unless overridden.
    pub base: String,
    /// May say what a tag means.
    pub resolve: bool,
    /// May serve content.
    pub pull: bool,
    /// Stands for another registry, whose name it is told.
    pub mirror: bool,
    /// Nobody said whether it speaks https: it has to be found out. Only on this machine.
    pub unsure: bool,
}

/// The servers for a reference in the order in which they are asked: mirrors first, the registry
/// itself last. Errors: configuration that is there and wrong.
pub fn endpoints(of: &Reference, options: &Options) -> Result<Vec<Endpoint>> {
    let folders = folders(options, &of.registry)?;
    let certificates = certificates(&folders)?;
    let file = folders.iter().map(|dir| dir.join("hosts.toml")).find(|file| file.exists());
    let config = match &file {
        Some(path) => Some(load(path)?),
        None => None,
    };
    let mut found = Vec::new();
    if let (Some(config), Some(path)) = (&config, &file) {
        for (url, table) in &config.host {
            found.push(configured(url, table, path, options)?);
        }
    }
    found.push(own(of, options, config.as_ref().zip(file.as_deref()), certificates)?);
    Ok(found)
}

/// The folders for a registry: `host:port`, containerd's `host_port_`, then `_default`.
fn folders(options: &Options, registry: &str) -> Result<Vec<PathBuf>> {
    let roots: Vec<PathBuf> = match &options.hosts_dir {
        Some(dir) => {
            // A mirror or an authority that was asked for must not be passed over in silence.
            std::fs::metadata(dir.join("."))
                .doing(|| format!("open --hosts-dir {}", dir.display()))?;
            vec![dir.clone()]
        }
        None => FOLDERS.iter().map(PathBuf::from).collect(),
    };
    let underscores = registry.replace(':', "_") + if registry.contains(':') { "_" } else { "" };
    let names = [registry, underscores.as_str(), "_default"];
    let all = roots.iter().flat_map(|root| names.iter().map(|name| root.join(name)));
    Ok(all.filter(|dir| dir.is_dir()).collect())
}

/// Docker's files: each `*.crt` an authority, `NAME.cert` with `NAME.key` for the client.
fn certificates(folders: &[PathBuf]) -> Result<Trust> {
    let mut trust = Trust::default();
    for dir in folders {
        let doing = || format!("read folder {}", dir.display());
        for entry in std::fs::read_dir(dir).doing(doing)? {
            let path = entry.doing(doing)?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => trust.ca.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(Error::new(format!(
                            "{} has no {}",
                            path.display(),
                            key.display()
                        )));
                    }
                    trust.client.get_or_insert((path, Some(key)));
                }
                _ => {}
            }
        }
    }
    trust.ca.sort();
    Ok(trust)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    server: Option<String>,
    host: toml::map::Map<String, toml::Value>,
    #[serde(flatten)]
    own: Table,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<String>>,
    client: Option<OneOrMany<OneOrMany<String>>>,
    skip_verify: Option<bool>,
    override_path: Option<bool>,
    header: HashMap<String, OneOrMany<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn list(&self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        }
    }
}

fn load(path: &Path) -> Result<Config> {
    let what = path.display().to_string();
    let file = std::fs::File::open(path).doing(|| format!("open {what}"))?;
    let bytes = read_bounded(file, LIMIT, &what)?;
    let wrong =
        |err: &dyn std::fmt::Display| Error::new(format!("{what}: {}", err.to_string().trim_end()));
    let text = String::from_utf8(bytes).map_err(|err| wrong(&err))?;
    toml::from_str(&text).map_err(|err| wrong(&err))
}

/// A mirror from hosts.toml.
fn configured(url: &str, table: &toml::Value, path: &Path, options: &Options) -> Result<Endpoint> {
    let place = |err: Error| err.context(format!("{}: host.{url:?}", path.display()));
    let table: Table =
        table.clone().try_into().map_err(|err| place(Error::new(err.to_string())))?;
    let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let origin = Url::parse(&full).map_err(place)?;
    let mut trust = trusted(&table, path).map_err(place)?;
    trust.ca.extend(options.ca.clone());
    trust.skip_verify |= options.insecure_skip_verify;
    endpoint(origin, &table, trust, true).map_err(place)
}

/// The registry itself: `server` of hosts.toml, or what the reference says.
fn own(
    of: &Reference,
    options: &Options,
    config: Option<(&Config, &Path)>,
    mut trust: Trust,
) -> Result<Endpoint> {
    let empty = Table::default();
    let table = config.map_or(&empty, |(config, _)| &config.own);
    if let Some((_, path)) = config {
        let more = trusted(table, path).map_err(|err| err.context(path.display()))?;
        trust.ca.extend(more.ca);
        trust.client = more.client.or(trust.client);
        trust.skip_verify = more.skip_verify;
    }
    trust.ca.extend(options.ca.clone());
    trust.skip_verify |= options.insecure_skip_verify;
    match (&options.client_cert, &options.client_key) {
        (Some(cert), key) => trust.client = Some((cert.clone(), key.clone())),
        (None, Some(_)) => return Err(Error::new("a client key without its certificate")),
        (None, None) => {}
    }
    let server = config.and_then(|(config, _)| config.server.as_deref());
    let mut origin = match server {
        Some(server) if server.contains("://") => Url::parse(server)?,
        Some(server) => Url::parse(&format!("https://{server}"))?,
        None => default_origin(of)?,
    };
    origin.https &= !options.plain_http;
    // Someone who says whom to trust means TLS.
    let unsure = origin.https
        && server.is_none()
        && trust == Trust::default()
        && is_loopback(origin.host())
        && of.host_and_port().1 != Some(443);
    Ok(Endpoint { unsure, ..endpoint(origin, table, trust, false)? })
}

fn default_origin(of: &Reference) -> Result<Url> {
    let host = match of.registry.as_str() {
        DOCKER_HUB => "registry-1.docker.io",
        other => other,
    };
    Url::parse(&format!("https://{host}"))
}

fn endpoint(origin: Url, table: &Table, trust: Trust, mirror: bool) -> Result<Endpoint> {
    let path = origin.path.trim_end_matches('/');
    let base = match table.override_path.unwrap_or(false) || path.ends_with("/v2") {
        true => path.to_owned(),
        false => format!("{path}/v2"),
    };
    let can = |what: &str| match &table.capabilities {
        Some(list) => list.iter().any(|word| word == what),
        None => true,
    };
    let headers = table.header.iter();
    let headers = headers.flat_map(|(name, values)| {
        values.list().into_iter().map(move |value| (name.to_ascii_lowercase(), value))
    });
    let headers: Vec<_> = headers.collect();
    if headers.iter().any(|(name, _)| name == "host" || name == "content-length") {
        return Err(Error::new("header: host and content-length cannot be set"));
    }
    Ok(Endpoint {
        host: Host::new(origin, trust, headers),
        base,
        resolve: can("resolve"),
        pull: can("pull"),
        mirror,
        unsure: false,
    })
}

/// The files of a table; relative ones are beside hosts.toml.
fn trusted(table: &Table, path: &Path) -> Result<Trust> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let ca = table.ca.iter().flat_map(OneOrMany::list).map(|file| dir.join(file)).collect();
    let pairs = table.client.iter().flat_map(OneOrMany::list);
    let mut pairs = pairs.map(|pair| match pair.list().as_slice() {
        [cert] => Ok((dir.join(cert), None)),
        [cert, key] if key.is_empty() => Ok((dir.join(cert), None)),
        [cert, key] => Ok((dir.join(cert), Some(dir.join(key)))),
        _ => Err(Error::new("client: a certificate, or [certificate, key]")),
    });
    let client = pairs.next().transpose()?;
    if pairs.next().is_some() {
        return Err(Error::new("client: more than one certificate"));
    }
    Ok(Trust { ca, client, skip_verify: table.skip_verify.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Folder {
            let dir =
                std::env::temp_dir().join(format!("lade-hosts-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = dir.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Folder(dir)
        }

        fn endpoints(&self, reference: &str) -> Result<Vec<Endpoint>> {
            let options = Options { hosts_dir: Some(self.0.clone()), ..Options::default() };
            endpoints(&Reference::parse(reference).unwrap(), &options)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn without_configuration_the_registry_stands_for_itself() {
        let dir = Folder::new("none", &[("x/y", "")]);
        let ask = |name: &str| dir.endpoints(name).unwrap().pop().unwrap();
        assert_eq!(ask("nginx").host.origin.to_string(), "https://registry-1.docker.io/");
        let remote = ask("a.io:5000/x");
        assert_eq!(remote.host.origin.to_string(), "https://a.io:5000/");
        assert!(remote.resolve && remote.pull && !remote.unsure && remote.base == "/v2");
        assert!(ask("localhost:5000/x").unsure);
        assert!(!ask("localhost:443/x").unsure);
    }

    #[test]
    fn reads_mirrors_in_order() {
        let toml = r#"
            server = "https://up.io"
            ca = "up.crt"
            [host."https://z.io"]
              capabilities = ["pull"]
              ca = ["/a.crt", "b.crt"]
              client = [["c.cert", "c.key"]]
              [host."https://z.io".header]
                x-key = "k"
            [host."http://a.io/proxy/v2"]
              skip_verify = true
              override_path = true
        "#;
        let dir = Folder::new("order", &[("docker.io/hosts.toml", toml)]);
        let found = dir.endpoints("nginx").unwrap();
        let urls: Vec<String> = found.iter().map(|e| e.host.origin.to_string()).collect();
        assert_eq!(urls, ["https://z.io/", "http://a.io/proxy/v2", "https://up.io/"]);
        let [z, a, up] = found.as_slice() else { panic!("three") };
        assert!(z.pull && !z.resolve && z.mirror && !up.mirror);
        assert_eq!(z.host.trust.ca, [PathBuf::from("/a.crt"), dir.0.join("docker.io/b.crt")]);
        assert_eq!(z.host.headers, [("x-key".to_owned(), "k".to_owned())]);
        assert!(z.host.trust.client.is_some());
        assert!(a.host.trust.skip_verify && a.base == "/proxy/v2");
        assert_eq!(up.host.trust.ca, [dir.0.join("docker.io/up.crt")]);
    }

    #[test]
    fn wrong_types_are_refused() {
        for toml in ["skip_verify = \"no\"", "[host.\"https://a.io\"]\nskip_verify = 1", "server ="]
        {
            let dir = Folder::new("wrong", &[("a.io/hosts.toml", toml)]);
            let err = dir.endpoints("a.io/x").err().map(|err| err.message());
            assert!(err.as_ref().is_some_and(|err| err.contains("hosts.toml")), "{toml}: {err:?}");
        }
    }

    #[test]
    fn a_folder_that_is_named_has_to_be_there() {
        let dir = Folder::new("named", &[("file", "")]);
        let ask = |hosts_dir: Option<PathBuf>| {
            let options = Options { hosts_dir, ..Options::default() };
            endpoints(&Reference::parse("a.io/x").unwrap(), &options).err().map(|e| e.message())
        };
        let absent = dir.0.join("absent");
        let words = format!("open --hosts-dir {}: no such file or directory", absent.display());
        assert_eq!(ask(Some(absent)), Some(words));
        assert!(ask(Some(dir.0.join("file"))).unwrap().contains("not a directory"));
        assert_eq!(ask(Some(dir.0.clone())), None);
        assert!(folders(&Options::default(), "nowhere.invalid").is_ok());
    }

    #[test]
    fn dockers_files_are_found_with_ports() {
        let files =
            [("a.io:5000/ca.crt", ""), ("a.io:5000/client.cert", ""), ("a.io:5000/client.key", "")];
        let dir = Folder::new("docker", &files);
        let found = dir.endpoints("a.io:5000/x").unwrap().pop().unwrap();
        assert_eq!(found.host.trust.ca.len(), 1);
        assert!(found.host.trust.client.is_some());
        assert!(dir.endpoints("a.io/x").unwrap().pop().unwrap().host.trust.ca.is_empty());
        let alone = Folder::new("alone", &[("a.io/client.cert", "")]);
        assert!(alone.endpoints("a.io/x").is_err());
    }
}
