//! Names of images: `[host[:port]/]path[:tag][@digest]`, with docker.io's short forms
//! (distribution-spec, "Pulling manifests", and Docker's reference grammar).

use std::fmt;

use crate::error::{Error, Result};
use crate::image::digest::Digest;

/// The registry that a name without a host means.
pub const DOCKER_HUB: &str = "docker.io";

/// An image's name in a registry, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, with its port if one was given; `docker.io` for short names.
    pub registry: String,
    /// Path in the registry, `library/nginx`.
    pub repository: String,
    /// Tag; `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest; it alone decides if there is a tag too.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses a name as users write it. Errors: anything that is no name, with what is wrong.
    pub fn parse(text: &str) -> Result<Reference> {
        let bad = |why: &str| Error::new(format!("{text:?} is no image name: {why}"));
        if let Some(rest) = text.strip_prefix("http://").or(text.strip_prefix("https://")) {
            return Err(bad("it is a URL").hint(format!("leave the scheme out: {rest}")));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_host(&registry).map_err(bad)?;
        check_path(path).map_err(|why| match path.chars().any(char::is_uppercase) {
            true => bad(why).hint("repository names are in lower case"),
            false => bad(why),
        })?;
        if !tag.is_none_or(is_tag) {
            return Err(bad("its tag is not 1 to 128 letters, digits, '_', '.', '-'"));
        }
        let library = registry == DOCKER_HUB && !path.contains('/');
        let repository = if library { format!("library/{path}") } else { path.to_owned() };
        if repository.len() > 255 {
            return Err(bad("its path is longer than 255 bytes"));
        }
        let latest = digest.is_none().then_some("latest");
        Ok(Reference { registry, repository, tag: tag.or(latest).map(str::to_owned), digest })
    }

    /// The host's name without the port, and the port.
    pub fn host_and_port(&self) -> (&str, Option<u16>) {
        split_port(&self.registry)
    }

    /// What stands after `/manifests/` to fetch it: the digest, or else the tag.
    pub fn target(&self) -> &str {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// Splits `host:port`; `[::1]:5000` keeps its brackets.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// Whether a host (without port) is this machine: localhost, 127.0.0.0/8, ::1.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first part is a host if it looks like one: a dot, a port, or `localhost`.
fn split_registry(text: &str) -> (String, &str) {
    if let Some((first, rest)) = text.split_once('/') {
        let host = first.contains(['.', ':'])
            || first.starts_with('[')
            || first == "localhost"
            || first.chars().any(char::is_uppercase);
        if host {
            let hub = ["index.docker.io", "registry-1.docker.io"].contains(&first);
            let name = if hub { DOCKER_HUB } else { first };
            return (name.to_owned(), rest);
        }
    }
    (DOCKER_HUB.to_owned(), text)
}

fn check_host(authority: &str) -> std::result::Result<(), &'static str> {
    let (host, port) = split_port(authority);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let ipv6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(label),
    };
    match valid && port != Some(0) {
        true => Ok(()),
        false => Err("its registry is not a host[:port]"),
    }
}

/// Components of lower-case letters and digits, separated inside by `.`, `_`, `__` or dashes.
fn check_path(path: &str) -> std::result::Result<(), &'static str> {
    let component = |part: &str| {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = [part.bytes().next(), part.bytes().next_back()];
        ends.iter().flatten().filter(|b| alphanumeric(b)).count() == 2
            && part
                .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
    };
    if path.is_empty() {
        return Err("it has no repository");
    }
    if !path.contains('/') && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("64 hexadecimal digits are an image's id, not a name");
    }
    match path.split('/').all(component) {
        true => Ok(()),
        false => {
            Err("its repository holds more than lower-case words joined by '.', '_', '-', '/'")
        }
    }
}

/// Whether a text is a tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn completes_names() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/me/app:x", "docker.io/me/app:x"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b_c/d--e:T.1", "localhost:5000/a/b_c/d--e:T.1"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("ghcr.io/x/y", "ghcr.io/x/y:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
        let pinned = Reference::parse(&format!("nginx:1@{D}")).unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx:1@{D}"));
        assert_eq!(pinned.target(), D);
        let bare = Reference::parse(&format!("nginx@{D}")).unwrap();
        assert_eq!(bare.tag, None);
    }

    #[test]
    fn a_full_name_parses_to_itself() {
        for text in ["nginx", "localhost:1/a:b", "[::1]:5/x"] {
            let once = Reference::parse(text).unwrap();
            assert_eq!(Reference::parse(&once.to_string()).unwrap(), once);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let id = "a".repeat(64);
        let long = format!("x/{}", "a/".repeat(130) + "a");
        for text in [
            "",
            ":",
            "/",
            "@",
            "Nginx",
            "nginx:",
            "nginx:a/b",
            "nginx::a",
            "a//b",
            "../a",
            "a/../b",
            "a.io/",
            "a_.io/x",
            "-a.io/x",
            "a.io:99999/x",
            "a.io:0/x",
            "nginx@sha256:00",
            "x y",
            "x\n",
            "a/b___c",
            "a/.b",
            "a/b-",
            "[::g]:5/x",
            "user@host/x",
            "https://docker.io/nginx",
            &id,
            &long,
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        let hint = Reference::parse("Nginx").unwrap_err().to_string();
        assert!(hint.contains("lower case"), "{hint}");
    }

    #[test]
    fn knows_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.org", "10.0.0.1", "localhost.example.org", "[::2]"] {
            assert!(!is_loopback(host), "{host}");
        }
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
    }
}
