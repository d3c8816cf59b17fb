//! HTTP as a registry client needs it: retries, redirects that carry no secret away, limits on
//! time and size. Authorization is above this module; it only keeps secrets at home.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::{self, HeaderMap, StatusCode, header};
use ureq::{Agent, Body};

use crate::error::{Error, Result};
use crate::image::reference::is_loopback;
use crate::image::tls::Trust;
use crate::image::transport::read_bounded;
use crate::image::url::Url;

/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;
/// The largest error document that is read, bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For a connection with its TLS handshake.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub stall: Duration,
    /// Before the first retry; doubled for each further one.
    pub backoff: Duration,
    /// The longest `Retry-After` that is obeyed; beyond it the pull fails and says so.
    pub patience: Duration,
    /// Tries in all.
    pub attempts: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            backoff: Duration::from_millis(250),
            patience: Duration::from_secs(60),
            attempts: 5,
        }
    }
}

impl Timing {
    /// Sleeps before retry number `attempt` (from 1).
    pub fn pause(&self, attempt: u32) {
        std::thread::sleep(self.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(6)));
    }
}

/// A server that was chosen by name, with what belongs to it alone.
pub struct Host {
    /// Its origin; the path is not used.
    pub origin: Url,
    /// Whom TLS trusts there.
    pub trust: Trust,
    /// Headers that it gets with each request.
    pub headers: Vec<(String, String)>,
    agent: OnceLock<Agent>,
}

impl Host {
    /// A server at the origin of `url`.
    pub fn new(origin: Url, trust: Trust, headers: Vec<(String, String)>) -> Host {
        Host { origin, trust, headers, agent: OnceLock::new() }
    }
}

/// A request to a [`Host`].
pub struct Request<'a> {
    /// Where to, at the host's origin.
    pub url: Url,
    /// Headers without secrets: they follow redirects.
    pub headers: &'a [(&'static str, String)],
    /// The `Authorization` header: never leaves the host's origin.
    pub authorization: Option<&'a str>,
    /// A form to post; without it the request is a GET.
    pub form: Option<String>,
}

impl Request<'_> {
    fn method(&self) -> &'static str {
        if self.form.is_some() { "POST" } else { "GET" }
    }
}

/// An answer whose body has not been read yet.
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers, bounded by the HTTP library (64 KiB).
    pub headers: HeaderMap,
    /// Body.
    pub body: Body,
    /// Who answered, after redirects.
    pub url: Url,
    method: &'static str,
}

impl Reply {
    /// A header's value if it is text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The error that a status other than 2xx means, in the server's own words if it has any.
    pub fn refusal(self) -> Error {
        let (status, method, url) = (self.status, self.method, self.url.public());
        let body = read_bounded(self.body.into_reader(), ERROR_LIMIT, "error").unwrap_or_default();
        let words = server_words(&body).map(|words| format!(": {words}")).unwrap_or_default();
        Error::new(format!("{method} {url}: {status}{words}"))
    }
}

/// A try that failed, and whether another may do better.
struct Failure {
    error: Error,
    transient: bool,
}

/// Speaks to hosts, and to those that they redirect to.
pub struct Http {
    timing: Timing,
    elsewhere: Trust,
    others: Mutex<Vec<(Url, Agent)>>,
}

impl Http {
    /// `elsewhere` is what is trusted of servers that a registry redirects to; a client
    /// certificate in it is not shown to them.
    pub fn new(timing: Timing, elsewhere: &Trust) -> Http {
        let elsewhere = Trust { client: None, ..elsewhere.clone() };
        Http { timing, elsewhere, others: Mutex::default() }
    }

    /// How long this client waits.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Sends a request until there is an answer that a retry would not better: connection
    /// failures, 5xx and 429 are retried. Errors: no answer, redirects that must not be followed.
    pub fn send(&self, host: &Host, request: &Request) -> Result<Reply> {
        let mut attempt = 1;
        loop {
            let last = attempt >= self.timing.attempts;
            match self.follow(host, request) {
                Ok(reply) if !last && is_transient(reply.status) => self.wait(reply, attempt)?,
                Err(failure) if !last && failure.transient => self.timing.pause(attempt),
                Ok(reply) => return Ok(reply),
                Err(failure) => return Err(failure.error),
            }
            attempt += 1;
        }
    }

    /// One try at a server that may not speak HTTP: the status if it does.
    pub fn probe(&self, host: &Host, request: &Request) -> Option<u16> {
        self.once(host, &request.url, request).ok().map(|reply| reply.status.as_u16())
    }

    /// Waits as the server asks, or else by our own backoff.
    fn wait(&self, reply: Reply, attempt: u32) -> Result<()> {
        let asked = reply.header(header::RETRY_AFTER).and_then(|text| retry_after(text.trim()));
        match asked {
            Some(asked) if asked > self.timing.patience => {
                let seconds = asked.as_secs();
                Err(reply.refusal().hint(format!(
                    "the server asks to come back in {seconds} seconds; logging in may raise its limit"
                )))
            }
            Some(asked) => {
                std::thread::sleep(asked);
                Ok(())
            }
            None => {
                self.timing.pause(attempt);
                Ok(())
            }
        }
    }

    /// One try, redirects followed.
    fn follow(&self, host: &Host, request: &Request) -> std::result::Result<Reply, Failure> {
        let fatal = |error| Failure { error, transient: false };
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            let reply = self.once(host, &url, request)?;
            let code = reply.status.as_u16();
            if !matches!(code, 301 | 302 | 303 | 307 | 308) || request.form.is_some() {
                return Ok(reply);
            }
            let location = reply.header(header::LOCATION).unwrap_or_default();
            let next = url.join(location).map_err(fatal)?;
            if url.https && !next.https {
                let text =
                    format!("{} redirects to {}, which is not https", url.public(), next.public());
                return Err(fatal(Error::new(text)));
            }
            url = next;
        }
        Err(fatal(Error::new(format!("{}: more than {REDIRECTS} redirects", request.url.public()))))
    }

    fn once(
        &self,
        host: &Host,
        url: &Url,
        request: &Request,
    ) -> std::result::Result<Reply, Failure> {
        let fatal = |error| Failure { error, transient: false };
        let at_home = url.same_origin(&host.origin);
        let agent = match at_home {
            true => cached(&host.agent, || agent(&self.timing, &host.trust, &host.origin)),
            false => self.other(url),
        };
        let agent = agent.map_err(fatal)?;
        let message = message(url, request, at_home.then_some(host)).map_err(fatal)?;
        let reply = match &request.form {
            Some(form) => agent.run(message.map(|()| form.as_str())),
            None => agent.run(message),
        };
        let method = request.method();
        let (parts, body) = reply.map_err(|err| failure(method, url, err))?.into_parts();
        Ok(Reply { status: parts.status, headers: parts.headers, body, url: url.clone(), method })
    }
}

impl Http {
    /// The agent for a server that a host redirected to; few, because mostly one store of blobs.
    fn other(&self, url: &Url) -> Result<Agent> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = others.iter().find(|(origin, _)| origin.same_origin(url)) {
            return Ok(known.clone());
        }
        let made = agent(&self.timing, &self.elsewhere, url)?;
        others.push((url.with_path("/"), made.clone()));
        Ok(made)
    }
}

/// The request for one hop: what belongs to the host goes along only at its own origin.
fn message(url: &Url, request: &Request, home: Option<&Host>) -> Result<http::Request<()>> {
    let mut builder = http::Request::builder().method(request.method()).uri(url.to_string());
    for (name, value) in request.headers {
        builder = builder.header(*name, value);
    }
    if request.form.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some(host) = home {
        for (name, value) in &host.headers {
            builder = builder.header(name, value);
        }
        if let Some(secret) = request.authorization {
            builder = builder.header(header::AUTHORIZATION, secret);
        }
    }
    builder.body(()).map_err(|err| Error::new(format!("request {}: {err}", url.public())))
}

fn cached(cell: &OnceLock<Agent>, make: impl FnOnce() -> Result<Agent>) -> Result<Agent> {
    match cell.get() {
        Some(agent) => Ok(agent.clone()),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made).clone())
        }
    }
}

fn agent(timing: &Timing, trust: &Trust, url: &Url) -> Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(8)
        .user_agent(concat!("lade/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_connect(Some(timing.connect))
        .timeout_recv_response(Some(timing.stall))
        .timeout_per_read(Some(timing.stall))
        .timeout_per_write(Some(timing.stall));
    // A proxy elsewhere cannot reach what listens on this machine alone.
    let proxy = ureq::Proxy::try_from_env().filter(|_| !is_loopback(url.host()));
    if url.https || proxy.is_some() {
        config = config.tls_config(trust.config()?);
    }
    config = config.proxy(proxy);
    Ok(config.build().new_agent())
}

/// Whether a status speaks of the server's own state: another try may fare better.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// What a failed connection means: broken and stalled ones are worth a retry, those that
/// nobody accepts, that have no address or the wrong certificate are not.
fn failure(method: &str, url: &Url, err: ureq::Error) -> Failure {
    use std::io::ErrorKind::ConnectionRefused;
    let doing = format!("{method} {}", url.public());
    let transient = match &err {
        ureq::Error::Io(io) => {
            io.kind() != ConnectionRefused && tls_error(io).is_none() && !is_unknown_host(io)
        }
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => true,
        _ => false,
    };
    let error = match &err {
        ureq::Error::Rustls(tls) => explain_tls(doing, tls),
        ureq::Error::Io(io) => match tls_error(io) {
            Some(tls) => explain_tls(doing, tls),
            None if is_unknown_host(io) => unknown_host(doing),
            None if io.kind() == ConnectionRefused => Error::io(doing, io)
                .hint("nothing listens there: is the registry up, and are host and port right?"),
            None => Error::io(doing, io),
        },
        ureq::Error::Timeout(_) => Error::new(format!("{doing}: the server does not answer")),
        ureq::Error::HostNotFound => unknown_host(doing),
        other => Error::new(format!("{doing}: {other}")),
    };
    Failure { error, transient }
}

/// The standard library gives getaddrinfo's answer only in words.
fn is_unknown_host(io: &std::io::Error) -> bool {
    let words = io.to_string();
    words.starts_with("failed to lookup address") && !words.contains("emporary")
}

fn unknown_host(doing: String) -> Error {
    Error::new(format!("{doing}: no such host"))
        .hint("is the name of the registry right, and is there a network?")
}

fn tls_error(io: &std::io::Error) -> Option<&rustls::Error> {
    io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

fn explain_tls(doing: String, err: &rustls::Error) -> Error {
    use rustls::CertificateError::{self, UnknownIssuer};
    let error = Error::new(format!("{doing}: {err}"));
    match err {
        rustls::Error::InvalidMessage(_) => {
            error.hint("the server speaks no TLS; if that is intended, use --plain-http")
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => error.hint(
            "name the registry's authority with --ca FILE, or put it in /etc/docker/certs.d/HOST/ca.crt",
        ),
        rustls::Error::InvalidCertificate(CertificateError::Other(_)) => error.hint(
            "the certificate is an authority itself; the server needs one signed by it (CA:FALSE)",
        ),
        _ => error,
    }
}

/// The messages of an error document (distribution-spec, "Error Codes"), fit for a terminal.
fn server_words(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    let words = document.errors.into_iter().map(|one| match one.message.is_empty() {
        true => one.code,
        false => one.message,
    });
    let words = words.collect::<Vec<_>>().join("; ");
    let safe: String = words.chars().filter(|c| !c.is_control()).take(300).collect();
    (!safe.is_empty()).then_some(safe)
}

/// How long `Retry-After` asks to wait: a number of seconds, or until a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(date(text)?))?;
    Some(then.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<_> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() else { return None };
    let number = |word: &&str| word.parse::<u64>().ok().filter(|number| *number < 10_000);
    // Counted from March on, so that the day that some years have more is the last one.
    let month = MONTHS.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? as u64 / 3;
    let year = number(year)?.checked_sub(u64::from(month < 2))?;
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + number(day)?.checked_sub(1)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + number(hour)?) * 60 + number(minute)?) * 60 + number(second)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_understood() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in ["", "soon", "Sun, 06 nov 1994 08:49:37 GMT", "Mon, 01 Jan 1900 00:00:00 GMT"] {
            assert_eq!(retry_after(bad), None, "{bad}");
        }
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn secrets_stay_at_home() {
        let url = Url::parse("https://a.io/x").unwrap();
        let host = Host::new(url.clone(), Trust::default(), vec![("x-key".into(), "k".into())]);
        let request = Request {
            url: url.clone(),
            headers: &[("accept", "a/b".into())],
            authorization: Some("Bearer t"),
            form: None,
        };
        let home = message(&url, &request, Some(&host)).unwrap();
        assert!(
            home.headers().contains_key("authorization") && home.headers().contains_key("x-key")
        );
        let away = message(&url, &request, None).unwrap();
        assert!(away.headers().contains_key("accept") && away.headers().len() == 1);
    }

    #[test]
    fn a_secret_with_a_line_break_is_refused() {
        let url = Url::parse("https://a.io/x").unwrap();
        let host = Host::new(url.clone(), Trust::default(), vec![]);
        let authorization = Some("Bearer a\r\nHost: b");
        let request = Request { url: url.clone(), headers: &[], authorization, form: None };
        let err = message(&url, &request, Some(&host)).unwrap_err().message();
        assert!(!err.contains("Bearer"), "{err}");
    }

    #[test]
    fn server_words_are_cleaned() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"},{"code":"X"}]}"#;
        assert_eq!(server_words(body).unwrap(), "no[2J; X");
        assert_eq!(server_words(b"<html>"), None);
    }
}
