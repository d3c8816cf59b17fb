//! Where users keep what they log in with: Docker's config.json, containers' auth.json, and
//! the helpers that both name (containers-auth.json(5), Docker's "Credential helpers").

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use crate::error::{Doing, Error, Result};
use crate::image::reference::{DOCKER_HUB, Reference};
use crate::image::transport::read_bounded;

/// The largest file or helper's answer that is read, bytes.
const LIMIT: u64 = 1 << 20;
/// What Docker calls its hub in these files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a registry is shown. Deliberately without `Debug`: it belongs in no message.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Password(String, String),
    /// An identity token, to be exchanged by OAuth2 (distribution's token spec).
    Identity(String),
    /// A bearer token that is used as it is.
    Bearer(String),
}

impl Credentials {
    /// The `Authorization` header of HTTP basic authentication (RFC 7617).
    pub fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default, deserialize_with = "or_null")]
    auths: HashMap<String, Option<Auth>>,
    creds_store: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    cred_helpers: HashMap<String, String>,
}

/// Tools in Go write `null` where there is nothing, and read it as that.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    json: D,
) -> std::result::Result<T, D::Error> {
    Option::deserialize(json).map(Option::unwrap_or_default)
}

#[derive(Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credentials for a repository at `registry` (the reference's own registry, or a mirror of
/// it). `named` is the file that the user chose; without it the usual places are asked in turn.
/// Errors: a file or helper that is there and does not work.
pub fn find(named: Option<&Path>, registry: &str, of: &Reference) -> Result<Option<Credentials>> {
    let registry = canonical(registry);
    for path in places(named)? {
        let file = load(&path)?;
        if let Some(found) = in_file(&file, &path, registry, &of.repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// The files that exist, in the order in which they are asked.
fn places(named: Option<&Path>) -> Result<Vec<PathBuf>> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let chosen = named.map(Path::to_owned).or_else(|| variable("REGISTRY_AUTH_FILE"));
    if let Some(chosen) = chosen {
        return Ok(vec![chosen]);
    }
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let uid = nix::unistd::getuid();
    let run = Some(PathBuf::from(format!("/run/containers/{uid}/auth.json")));
    let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|h| h.join(".docker")));
    let docker = docker.map(|dir| dir.join("config.json"));
    Ok([runtime, run, docker].into_iter().flatten().filter(|file| file.exists()).collect())
}

fn load(path: &Path) -> Result<File> {
    let what = path.display().to_string();
    let file = std::fs::File::open(path).doing(|| format!("open {what}"))?;
    let bytes = read_bounded(file, LIMIT, &what)?;
    // The parser's words name a place, never a value: what is wrong may be a password.
    serde_json::from_slice(&bytes).map_err(|err| {
        let (line, column) = (err.line(), err.column());
        Error::new(format!("{what}:{line}:{column}: not a file of registry credentials"))
    })
}

fn in_file(
    file: &File,
    path: &Path,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>> {
    let keys = keys(registry, repository);
    let server = if registry == DOCKER_HUB { HUB_KEY } else { registry };
    let helper = file.cred_helpers.iter().find(|(name, _)| keys.contains(&normal(name)));
    for helper in helper.map(|(_, helper)| helper).into_iter().chain(&file.creds_store) {
        if let Some(found) = ask(helper, server)? {
            return Ok(Some(found));
        }
    }
    for key in &keys {
        let entry = file.auths.iter().find(|(name, _)| normal(name) == *key);
        if let Some((name, Some(auth))) = entry {
            let found =
                decode(auth).map_err(|err| err.context(format!("{}: {name}", path.display())))?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// The keys to look for, the most precise first: `host/a/b`, `host/a`, `host`.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = vec![registry.to_owned()];
    for (i, _) in repository.match_indices('/') {
        keys.push(format!("{registry}/{}", repository.get(..i).unwrap_or_default()));
    }
    keys.push(format!("{registry}/{repository}"));
    keys.reverse();
    keys
}

/// A file's key without scheme and API version, as old Dockers wrote it.
fn normal(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/');
    let bare = bare.trim_end_matches("/v1").trim_end_matches("/v2");
    match bare.split_once('/') {
        Some((host, path)) => format!("{}/{path}", canonical(host)),
        None => canonical(bare).to_owned(),
    }
}

fn decode(auth: &Auth) -> Result<Option<Credentials>> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(token) = some(&auth.identitytoken) {
        return Ok(Some(Credentials::Identity(token)));
    }
    if let Some(token) = some(&auth.registrytoken) {
        return Ok(Some(Credentials::Bearer(token)));
    }
    if let Some(encoded) = some(&auth.auth) {
        let bad = || Error::new("auth is not user:password in base64");
        let bytes = STANDARD.decode(encoded.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        let password = password.trim_end_matches('\0');
        return Ok(Some(Credentials::Password(user.to_owned(), password.to_owned())));
    }
    Ok(some(&auth.username).zip(some(&auth.password)).map(|(u, p)| Credentials::Password(u, p)))
}

/// Runs `docker-credential-HELPER get` (docker-credential-helpers' protocol).
fn ask(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if helper.is_empty() || !helper.bytes().all(word) {
        return Err(Error::new(format!("{helper:?} is no name of a credential helper")));
    }
    let program = format!("docker-credential-{helper}");
    let (success, output) = run(&program, server)?;
    parse_answer(success, &output).map_err(|err| err.context(format!("{program} get {server}")))
}

/// What a helper printed, as credentials; none if it has none for the server.
fn parse_answer(success: bool, output: &[u8]) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        username: String,
        #[serde(rename = "Secret")]
        secret: String,
    }
    if !success {
        let words: String = String::from_utf8_lossy(output).trim().chars().take(200).collect();
        return match words.contains("credentials not found") {
            true => Ok(None),
            false => Err(Error::new(words)),
        };
    }
    // Without the parser's words: they may hold a part of the secret.
    let answer: Answer =
        serde_json::from_slice(output).map_err(|_| Error::new("its answer is not understood"))?;
    Ok(match answer.username.as_str() {
        "" => None,
        "<token>" => Some(Credentials::Identity(answer.secret)),
        _ => Some(Credentials::Password(answer.username, answer.secret)),
    })
}

/// The helper's success and standard output.
fn run(program: &str, input: &str) -> Result<(bool, Vec<u8>)> {
    let doing = || format!("run {program}");
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .doing(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading says why in its own exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = match child.stdout.take() {
        Some(stdout) => read_bounded(stdout, LIMIT, program),
        None => Ok(Vec::new()),
    };
    let status = child.wait().doing(doing)?;
    Ok((status.success(), output?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(json: &str, registry: &str, repository: &str) -> Result<Option<String>> {
        let file: File = serde_json::from_str(json).unwrap();
        let found = in_file(&file, Path::new("f"), registry, repository)?;
        Ok(found.map(|found| match found {
            Credentials::Password(user, password) => format!("{user}:{password}"),
            Credentials::Identity(token) => format!("identity {token}"),
            Credentials::Bearer(token) => format!("bearer {token}"),
        }))
    }

    #[test]
    fn finds_the_most_precise_entry() {
        // dTpw is u:p, YTpiOmM= is a:b:c.
        let json = r#"{"auths":{"a.io":{"auth":"dTpw"},"a.io/team":{"auth":"YTpiOmM="},
            "https://index.docker.io/v1/":{"auth":"dTpw"},"b.io:5000":{"identitytoken":"t"},
            "https://c.io/v2/":{"username":"x","password":"y"},"e.io":{},"n.io":null},
            "credHelpers":null}"#;
        let found = |registry, repository| look(json, registry, repository).unwrap();
        assert_eq!(found("a.io", "other/x").as_deref(), Some("u:p"));
        assert_eq!(found("a.io", "team/x").as_deref(), Some("a:b:c"));
        assert_eq!(found("docker.io", "library/x").as_deref(), Some("u:p"));
        assert_eq!(found("b.io:5000", "x").as_deref(), Some("identity t"));
        assert_eq!(found("c.io", "x").as_deref(), Some("x:y"));
        for registry in ["b.io", "e.io", "n.io", "evil-a.io", "a.io.evil"] {
            assert_eq!(found(registry, "x"), None, "{registry}");
        }
        assert_eq!(look(r#"{"auths":null}"#, "a.io", "x").unwrap(), None);
    }

    #[test]
    fn a_bad_entry_is_an_error_without_its_secret() {
        let json = r#"{"auths":{"a.io":{"auth":"c2VjcmV0"}}}"#;
        let err = look(json, "a.io", "x").unwrap_err().message();
        assert_eq!(err, "f: a.io: auth is not user:password in base64");
    }

    #[test]
    fn understands_helpers() {
        let parse = |success, text: &str| parse_answer(success, text.as_bytes());
        let token = parse(true, r#"{"Username":"<token>","Secret":"s"}"#).unwrap();
        assert!(token == Some(Credentials::Identity("s".into())));
        let user = parse(true, r#"{"Username":"u","Secret":"s"}"#).unwrap();
        assert!(user == Some(Credentials::Password("u".into(), "s".into())));
        assert!(parse(true, r#"{"Username":"","Secret":""}"#).unwrap().is_none());
        let none = "credentials not found in native keychain\n";
        assert!(parse(false, none).unwrap().is_none());
        assert!(parse(false, "the keychain is locked").is_err());
        assert!(parse(true, "{}").is_err());
    }

    #[test]
    fn helper_names_are_words() {
        for helper in ["", "../x", "a b", "x;y"] {
            assert!(ask(helper, "a.io").is_err());
        }
        let missing = look(r#"{"credsStore":"no-such-helper"}"#, "a.io", "x").unwrap_err();
        let message = missing.message();
        assert_eq!(message, "run docker-credential-no-such-helper: no such file or directory");
    }
}
