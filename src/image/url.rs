//! The little of URLs that a registry client needs: http and https, origins, redirects.

use std::fmt;

use crate::error::{Error, Result};

/// An absolute http or https URL without user information and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is https.
    pub https: bool,
    /// `host[:port]`, in lower case, without the scheme's own port.
    pub authority: String,
    /// Path and query, starting with `/`.
    pub path: String,
}

impl Url {
    /// Parses `http(s)://host[:port][/path]`. Errors: other schemes, user information (which
    /// would be sent as a password), characters that no URL holds.
    pub fn parse(text: &str) -> Result<Url> {
        let bad = |why: &str| Error::new(format!("{:?} is no URL to follow: {why}", shorten(text)));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad("its scheme is not http or https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err(bad("its host is empty or has a user"));
        }
        if !text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
            return Err(bad("it holds spaces or characters that are not ASCII"));
        }
        let usual = if https { ":443" } else { ":80" };
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(usual).unwrap_or(&authority).to_owned();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url { https, authority, path: format!("{slash}{path}") })
    }

    /// The URL that a `Location` header means, seen from this one (RFC 3986, section 5.2).
    pub fn join(&self, location: &str) -> Result<Url> {
        // A fragment is for the reader of the content.
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.https { "https" } else { "http" };
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}:{location}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let folder = path.rfind('/').and_then(|i| path.get(..=i)).unwrap_or("/");
        let before = match location.chars().next() {
            Some('/') => "",
            Some('?') => path,
            _ => folder,
        };
        Url::parse(&format!("{scheme}://{}{}", self.authority, without_dots(before, location)))
    }

    /// Whether both have the same scheme, host and port: what may see the same secrets.
    pub fn same_origin(&self, other: &Url) -> bool {
        self.https == other.https && self.authority == other.authority
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        crate::image::reference::split_port(&self.authority).0
    }

    /// The same origin with another path.
    pub fn with_path(&self, path: impl Into<String>) -> Url {
        Url { path: path.into(), ..self.clone() }
    }

    /// The URL without its query, which may hold signatures that belong in no log.
    pub fn public(&self) -> String {
        let text = self.to_string();
        text.split('?').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Encodes a query's or form's value: everything but unreserved characters (RFC 3986).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn shorten(text: &str) -> String {
    text.split('?').next().unwrap_or_default().chars().take(200).collect()
}

/// The path and query of two parts, where `.` and `..` mean what they say (RFC 3986, section 5.2.4).
fn without_dots(before: &str, location: &str) -> String {
    let (path, query) = match location.find('?') {
        Some(at) => location.split_at(at),
        None => (location, ""),
    };
    let mut parts = Vec::new();
    let path = format!("{before}{path}");
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(part) = rest.next() {
        let last = rest.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    parts.pop();
                }
                // What they name is a folder.
                if last {
                    parts.push("");
                }
            }
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        for (text, shown) in [
            ("https://A.io", "https://a.io/"),
            ("https://a.io:443/x?y#z", "https://a.io/x?y"),
            ("http://a.io:443/x", "http://a.io:443/x"),
            ("http://[::1]:80?q", "http://[::1]/?q"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        for text in ["a.io/x", "ftp://a.io", "https://", "https://u:p@a.io/", "https://a.io/a b"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn joins_redirects() {
        let base = Url::parse("https://a.io:5000/v2/x/blobs/d?q=1").unwrap();
        for (location, shown) in [
            ("https://b.io/y", "https://b.io/y"),
            ("//b.io/y", "https://b.io/y"),
            ("/y?to=http://z", "https://a.io:5000/y?to=http://z"),
            ("y", "https://a.io:5000/v2/x/blobs/y"),
            ("?p", "https://a.io:5000/v2/x/blobs/d?p"),
            ("../../y/./z?at=../..#end", "https://a.io:5000/v2/y/z?at=../.."),
            ("../../../../../y", "https://a.io:5000/y"),
            ("/a/../b/..", "https://a.io:5000/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), shown, "{location}");
        }
        assert!(base.join("file:///etc/passwd").is_err());
        assert!(base.same_origin(&base.with_path("/")));
        for other in ["http://a.io:5000/", "https://a.io/", "https://a.io.evil:5000/"] {
            assert!(!base.same_origin(&Url::parse(other).unwrap()));
        }
    }

    #[test]
    fn encodes() {
        assert_eq!(encode("repository:a/b:pull &"), "repository%3Aa%2Fb%3Apull%20%26");
    }
}
