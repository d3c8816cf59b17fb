//! How a registry asks who we are, and what it is answered: basic authentication (RFC 7617) and
//! bearer tokens (RFC 6750, distribution's "Token Authentication" and "OAuth2").

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::image::credentials::Credentials;
use crate::image::http::{Host, Http, Request};
use crate::image::tls::Trust;
use crate::image::transport::read_bounded;
use crate::image::url::{Url, encode};

/// The largest token document that is read, bytes.
const TOKEN_LIMIT: u64 = 1 << 20;

/// One challenge of a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme in lower case.
    pub scheme: String,
    /// Parameters, names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses a header's value (RFC 9110, section 11.6.1): schemes, each with `key=value` or
/// `key="quoted value"` parameters. What cannot be read ends the list.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = parse_value(value);
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                found.push(Challenge { scheme, parameters: Vec::new() });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A token or a quoted string, and what stands after it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            other => value.push(other),
        }
    }
    (value, chars.as_str())
}

/// Whom an answer is for.
pub struct Asker<'a> {
    /// The registry that asked.
    pub host: &'a Host,
    /// What it is told.
    pub credentials: Option<&'a Credentials>,
    /// The repository that is read.
    pub repository: &'a str,
    /// What is trusted of token servers elsewhere.
    pub elsewhere: &'a Trust,
}

/// The `Authorization` header that answers the challenges. Errors: a scheme that is not known,
/// no credentials for one that needs them, a token server that refuses or that must not be
/// told our credentials.
pub fn answer(http: &Http, asker: &Asker, challenges: &[Challenge]) -> Result<String> {
    if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
        return match asker.credentials {
            Some(Credentials::Bearer(token)) => Ok(format!("Bearer {token}")),
            _ => fetch_token(http, asker, bearer),
        };
    }
    let origin = asker.host.origin.authority.as_str();
    if challenges.iter().any(|c| c.scheme == "basic") {
        return match asker.credentials {
            Some(Credentials::Password(user, password)) => Ok(Credentials::basic(user, password)),
            Some(_) => {
                Err(Error::new(format!("{origin} wants a user and a password, not a token")))
            }
            None => Err(Error::new(format!("{origin} wants a user and a password")).hint(format!(
                "log in first (docker login {origin}), or give --creds USER:PASSWORD"
            ))),
        };
    }
    let schemes: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
    Err(Error::new(format!(
        "{origin} asks for authentication as {schemes:?}; basic and bearer are known"
    )))
}

fn fetch_token(http: &Http, asker: &Asker, challenge: &Challenge) -> Result<String> {
    let origin = &asker.host.origin;
    let realm = challenge
        .get("realm")
        .ok_or_else(|| Error::new(format!("{}: its challenge names no realm", origin.authority)))?;
    let realm = Url::parse(realm)?;
    check_realm(origin, &realm, asker.credentials.is_some())?;
    let scope = format!("repository:{}:pull", asker.repository);
    let mut fields = vec![("scope", scope.as_str())];
    fields.extend(challenge.get("service").map(|service| ("service", service)));
    let (query, form, authorization) = match asker.credentials {
        Some(Credentials::Identity(token)) => {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "lade"),
                ("refresh_token", token.as_str()),
            ]);
            (None, Some(form(&fields)), None)
        }
        Some(Credentials::Password(user, password)) => {
            fields.push(("account", user.as_str()));
            (Some(form(&fields)), None, Some(Credentials::basic(user, password)))
        }
        _ => (Some(form(&fields)), None, None),
    };
    let url = with_query(&realm, query);
    // A token server that is the registry itself shares its trust and client certificate.
    let own = Host::new(realm.clone(), asker.elsewhere.clone(), Vec::new());
    let host = if realm.same_origin(origin) { asker.host } else { &own };
    let authorization = authorization.as_deref();
    let reply = http.send(host, &Request { url, headers: &[], authorization, form })?;
    if !reply.status.is_success() {
        return Err(reply.refusal().hint("the token server does not accept these credentials"));
    }
    let body = read_bounded(reply.body.into_reader(), TOKEN_LIMIT, "token")?;
    parse_token(&body).map_err(|err| err.context(realm.public()))
}

/// A realm is a URL of the registry's choice. Over plain http it is only followed if the registry
/// itself is spoken to so, and gets credentials only on the registry's own host (CVE-2020-15157).
fn check_realm(origin: &Url, realm: &Url, secret: bool) -> Result<()> {
    let text = format!("{} names {} to fetch a token", origin.authority, realm.public());
    if realm.https {
        return Ok(());
    }
    if origin.https {
        return Err(Error::new(format!("{text}, which is not https")));
    }
    match secret && realm.host() != origin.host() {
        true => Err(Error::new(format!("{text}: credentials are not sent there without https"))),
        false => Ok(()),
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn with_query(url: &Url, query: Option<String>) -> Url {
    match query {
        Some(query) => {
            let join = if url.path.contains('?') { '&' } else { '?' };
            url.with_path(format!("{}{join}{query}", url.path))
        }
        None => url.clone(),
    }
}

fn parse_token(body: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| Error::new("its answer holds no token"))?;
    let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token);
    match token.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic())) {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Error::new("its answer holds no token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_challenges() {
        let found = parse_challenges(
            r#"Bearer realm="https://a.io/t?x=1,2",service="s \"q\"", scope=a:b, Basic realm=x"#,
        );
        assert_eq!(found.len(), 2);
        let bearer = found.first().unwrap();
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.get("realm"), Some("https://a.io/t?x=1,2"));
        assert_eq!(bearer.get("service"), Some("s \"q\""));
        assert_eq!(bearer.get("scope"), Some("a:b"));
        assert_eq!(found.last().unwrap().scheme, "basic");
        assert_eq!(parse_challenges("Basic").len(), 1);
        for odd in ["", "=", "a=b", "\"", ", ,", "Bearer realm=\"open", "Bearer =x"] {
            assert!(parse_challenges(odd).len() <= 1, "{odd}");
        }
    }

    #[test]
    fn realms_that_leak_are_refused() {
        let url = |text| Url::parse(text).unwrap();
        let (tls, plain) = (url("https://a.io/"), url("http://a.io:5000/"));
        assert!(check_realm(&tls, &url("https://b.io/t"), true).is_ok());
        assert!(check_realm(&tls, &url("http://a.io/t"), false).is_err());
        assert!(check_realm(&plain, &url("http://a.io:5001/t"), true).is_ok());
        assert!(check_realm(&plain, &url("http://b.io/t"), true).is_err());
        assert!(check_realm(&plain, &url("http://b.io/t"), false).is_ok());
    }

    #[test]
    fn reads_both_token_names() {
        assert_eq!(parse_token(br#"{"token":"a"}"#).unwrap(), "Bearer a");
        assert_eq!(parse_token(br#"{"token":"","access_token":"b"}"#).unwrap(), "Bearer b");
        for bad in [&b"{}"[..], b"[]", br#"{"token":"a\r\nb"}"#, br#"{"token":""}"#] {
            assert!(parse_token(bad).is_err());
        }
    }

    #[test]
    fn queries_join() {
        let url = Url::parse("https://a.io/t?x=1").unwrap();
        let joined = with_query(&url, Some(form(&[("scope", "a b")])));
        assert_eq!(joined.path, "/t?x=1&scope=a%20b");
    }
}
