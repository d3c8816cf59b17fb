//! Images in registries: the pull side of distribution-spec.
//!
//! ```text
//! manifest, blob ──► each endpoint in turn (mirrors, then the registry)
//!                      └─ ask: request ─401─► auth: token ─► request again
//! blob's reader ── cut or stalled ──► ask with Range from where it stands
//! ```
//!
//! An endpoint that once did not answer, or with an error of its own, is asked last from then on.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ureq::BodyReader;
use ureq::http::header;

use crate::error::{Error, Result};
use crate::image::auth::{self, Asker};
use crate::image::credentials::{self, Credentials};
use crate::image::digest::Digest;
use crate::image::hosts::{self, Endpoint};
use crate::image::http::{Http, Reply, Request, Timing, is_transient};
use crate::image::manifest::Descriptor;
use crate::image::media;
use crate::image::reference::Reference;
use crate::image::tls::Trust;
use crate::image::transport::{MANIFEST_LIMIT, Options, Source, read_bounded};

/// Connections that one blob may cost when it keeps breaking off.
const RECONNECTS: u32 = 40;

/// A repository in a registry, as a source of one image. Cheap to clone; clones share
/// connections and tokens.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    reference: Reference,
    options: Options,
    elsewhere: Trust,
    http: Http,
    servers: Vec<Server>,
}

/// An endpoint with the authorization that it last wanted.
struct Server {
    endpoint: Endpoint,
    credentials: OnceLock<Option<Credentials>>,
    authorization: Mutex<Option<String>>,
    failed: AtomicBool,
}

impl Registry {
    /// Prepares to pull `reference`. Loopback registries that nobody said are https are asked
    /// which they speak; nothing else is sent. Errors: wrong configuration of hosts.
    pub fn open(reference: Reference, options: &Options) -> Result<Registry> {
        Registry::with_timing(reference, options, Timing::default())
    }

    /// The same with other waiting times.
    pub fn with_timing(
        reference: Reference,
        options: &Options,
        timing: Timing,
    ) -> Result<Registry> {
        let elsewhere = Trust {
            ca: options.ca.iter().cloned().collect(),
            client: None,
            skip_verify: options.insecure_skip_verify,
        };
        let http = Http::new(timing, &elsewhere);
        let mut servers = Vec::new();
        for mut endpoint in hosts::endpoints(&reference, options)? {
            if endpoint.unsure {
                endpoint.host.origin.https = !speaks_plain_http(&http, &endpoint);
            }
            let (credentials, authorization) = (OnceLock::new(), Mutex::default());
            let failed = AtomicBool::new(false);
            servers.push(Server { endpoint, credentials, authorization, failed });
        }
        let options = options.clone();
        Ok(Registry(Arc::new(Inner { reference, options, elsewhere, http, servers })))
    }
}

impl Source for Registry {
    fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)> {
        let inner = &self.0;
        let named = inner.reference.digest.as_ref();
        let digest = digest.or(named);
        let target = digest.map_or(inner.reference.target(), Digest::as_str);
        let able = |endpoint: &Endpoint| endpoint.pull && (digest.is_some() || endpoint.resolve);
        inner.any(able, |server| inner.manifest(server, target, digest))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        if offset > descriptor.size {
            let (digest, size) = (&descriptor.digest, descriptor.size);
            return Err(Error::new(format!("blob {digest} has {size} bytes, none at {offset}")));
        }
        let mut blob = Blob {
            registry: self.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            position: offset,
            body: None,
            reconnects: 0,
            fruitless: 0,
        };
        if offset < descriptor.size {
            blob.body = Some(self.0.open_blob(&blob.digest, blob.position, blob.size)?);
        }
        Ok(Box::new(blob))
    }

    fn name(&self) -> String {
        self.0.reference.to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn pinned(&self) -> bool {
        self.0.reference.digest.is_some()
    }
}

impl Inner {
    /// The first endpoint that can answers; if none does, the error of the last one, or of the
    /// last one that had not failed before.
    fn any<T>(
        &self,
        able: impl Fn(&Endpoint) -> bool,
        ask: impl Fn(&Server) -> Result<T>,
    ) -> Result<T> {
        let able = self.servers.iter().filter(|server| able(&server.endpoint));
        let (failed, fresh): (Vec<_>, Vec<_>) =
            able.partition(|server| server.failed.load(Ordering::Relaxed));
        let mut last = None;
        for (i, server) in fresh.iter().chain(&failed).enumerate() {
            match ask(server) {
                Ok(found) => return Ok(found),
                Err(err) if i < fresh.len() || fresh.is_empty() => last = Some(err),
                Err(_) => {}
            }
        }
        let none = || Error::new("no endpoint in hosts.toml may be asked for this");
        Err(last.unwrap_or_else(none).context(&self.reference))
    }

    fn manifest(
        &self,
        server: &Server,
        target: &str,
        digest: Option<&Digest>,
    ) -> Result<(Vec<u8>, String, Digest)> {
        let accept =
            [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST];
        let headers = [("accept", accept.join(", "))];
        let reply = self.ask(server, &format!("manifests/{target}"), &headers)?;
        if !reply.status.is_success() {
            return Err(explained(reply));
        }
        let media_type = reply.header(header::CONTENT_TYPE).unwrap_or_default();
        let media_type =
            media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let promised = reply.headers.get("docker-content-digest");
        let promised = promised.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes =
            read_bounded(reply.body.into_reader(), MANIFEST_LIMIT, &format!("manifest {target}"))?;
        let found = verify(&bytes, digest, promised.as_deref())?;
        Ok((bytes, media_type, found))
    }

    /// Opens a blob at `offset`; the stream ends where the server ends it.
    fn open_blob(&self, digest: &Digest, offset: u64, size: u64) -> Result<BodyReader<'static>> {
        let range = (offset > 0).then(|| ("range", format!("bytes={offset}-")));
        let headers: Vec<_> = range.into_iter().collect();
        let path = format!("blobs/{digest}");
        self.any(
            |endpoint| endpoint.pull,
            |server| {
                let mut reply = self.ask(server, &path, &headers)?;
                if !headers.is_empty() && is_misplaced(&reply, offset) {
                    // The whole blob has the rest, too.
                    reply = self.ask(server, &path, &[])?;
                }
                position(reply, offset, size)
            },
        )
    }

    /// A request below `/v2/NAME/`, which tells whether the server is of use.
    fn ask(
        &self,
        server: &Server,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Reply> {
        let reply = self.authorized(server, path, headers);
        if reply.as_ref().map_or(true, |reply| is_transient(reply.status)) {
            server.failed.store(true, Ordering::Relaxed);
        }
        reply
    }

    /// A request with the authorization that the server wants. A 401 is answered once: a token
    /// may have run out, but a fresh one that is refused stays refused.
    fn authorized(
        &self,
        server: &Server,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Reply> {
        let endpoint = &server.endpoint;
        let name = &self.reference.repository;
        let about = match endpoint.mirror {
            true => format!("?ns={}", self.reference.registry),
            false => String::new(),
        };
        let url = endpoint.host.origin.with_path(format!("{}/{name}/{path}{about}", endpoint.base));
        let known = server.authorization();
        let request =
            |authorization| Request { url: url.clone(), headers, authorization, form: None };
        let reply = self.http.send(&endpoint.host, &request(known.as_deref()))?;
        // Only the registry itself may ask who we are, never a server that it redirects to.
        if reply.status.as_u16() != 401 || !reply.url.same_origin(&endpoint.host.origin) {
            return Ok(reply);
        }
        let fresh = self.authorize(server, known.as_deref(), reply)?;
        self.http.send(&endpoint.host, &request(Some(&fresh)))
    }

    /// Answers a 401. Parallel requests that were refused with one old token fetch one new.
    fn authorize(&self, server: &Server, refused: Option<&str>, reply: Reply) -> Result<String> {
        let mut current = server.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = current.as_ref().filter(|_| current.as_deref() != refused) {
            return Ok(other.clone());
        }
        let challenges = reply.headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> = challenges
            .filter_map(|value| value.to_str().ok())
            .flat_map(auth::parse_challenges)
            .collect();
        if challenges.is_empty() {
            return Err(explained(reply));
        }
        let asker = Asker {
            host: &server.endpoint.host,
            credentials: self.credentials(server)?,
            repository: &self.reference.repository,
            elsewhere: &self.elsewhere,
        };
        let fresh = auth::answer(&self.http, &asker, &challenges)?;
        *current = Some(fresh.clone());
        Ok(fresh)
    }

    /// Looked up when first asked for: helpers are programs, and most pulls are anonymous.
    fn credentials<'a>(&self, server: &'a Server) -> Result<Option<&'a Credentials>> {
        if let Some(known) = server.credentials.get() {
            return Ok(known.as_ref());
        }
        let registry = match server.endpoint.mirror {
            true => &server.endpoint.host.origin.authority,
            false => &self.reference.registry,
        };
        let given = self.options.creds.as_ref().filter(|_| !server.endpoint.mirror);
        let found = match given {
            Some((user, password)) => Some(Credentials::Password(user.clone(), password.clone())),
            None => credentials::find(self.options.authfile.as_deref(), registry, &self.reference)?,
        };
        Ok(server.credentials.get_or_init(|| found).as_ref())
    }
}

impl Server {
    fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asked without any secret. A TLS server answers a plain request with 400 or not in HTTP at all.
fn speaks_plain_http(http: &Http, endpoint: &Endpoint) -> bool {
    let mut origin = endpoint.host.origin.clone();
    origin.https = false;
    let host = crate::image::http::Host::new(origin.clone(), Trust::default(), Vec::new());
    let url = origin.with_path("/v2/");
    let request = Request { url, headers: &[], authorization: None, form: None };
    http.probe(&host, &request).is_some_and(|status| status != 400)
}

/// The digest of the bytes, if they are what was asked for and what the server says they are.
fn verify(bytes: &[u8], wanted: Option<&Digest>, promised: Option<&str>) -> Result<Digest> {
    let promised = promised.map(Digest::parse).transpose()?;
    for digest in wanted.into_iter().chain(&promised) {
        if !digest.matches(bytes) {
            let found = Digest::of_sha256(bytes);
            return Err(Error::new(format!("manifest {digest} has other content, {found}")));
        }
    }
    Ok(wanted.cloned().unwrap_or_else(|| Digest::of_sha256(bytes)))
}

/// The error that a status other than 2xx means, with what a user can do about it.
fn explained(reply: Reply) -> Error {
    let hint = match reply.status.as_u16() {
        400 if !reply.url.https => "it may expect https: try without --plain-http",
        401 | 403 => "are the user and the password right, and may this user pull from here?",
        404 => "are name and tag right? A registry may also hide what one has to log in for",
        429 => "the registry limits how often one may pull; logging in may raise the limit",
        500.. => "the registry has a problem of its own; try again later",
        _ => return reply.refusal(),
    };
    reply.refusal().hint(hint)
}

/// Where a part of a blob starts, as the server says.
fn part_start(reply: &Reply) -> Option<u64> {
    let range = reply.header(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

/// Whether an answer shows that the server does not understand ranges.
fn is_misplaced(reply: &Reply, offset: u64) -> bool {
    match reply.status.as_u16() {
        206 => part_start(reply) != Some(offset),
        status => status == 416,
    }
}

/// Brings an answer's body to `offset`: the server did so (206), or the bytes are skipped (200).
fn position(reply: Reply, offset: u64, size: u64) -> Result<BodyReader<'static>> {
    let url = reply.url.public();
    match reply.status.as_u16() {
        206 if part_start(&reply) == Some(offset) => Ok(reply.body.into_reader()),
        206 => {
            let range = reply.header(header::CONTENT_RANGE).unwrap_or_default();
            Err(Error::new(format!("GET {url}: range {range:?} instead of {offset}-")))
        }
        200 => {
            if let Some(length) = reply.body.content_length().filter(|length| *length != size) {
                return Err(Error::new(format!("GET {url}: {length} bytes instead of {size}")));
            }
            let mut body = reply.body.into_reader();
            let skipped = io::copy(&mut body.by_ref().take(offset), &mut io::sink());
            match skipped.map_err(|err| Error::io(format!("GET {url}"), &err))? {
                skipped if skipped == offset => Ok(body),
                skipped => Err(Error::new(format!("GET {url}: it ends at {skipped} of {size}"))),
            }
        }
        _ => Err(explained(reply)),
    }
}

/// A blob's stream, which opens new connections when one breaks off or stalls.
struct Blob {
    registry: Registry,
    digest: Digest,
    size: u64,
    position: u64,
    body: Option<BodyReader<'static>>,
    reconnects: u32,
    fruitless: u32,
}

impl Blob {
    /// Another connection, unless they keep failing.
    fn reconnect(&mut self, why: &str) -> io::Result<()> {
        let timing = self.registry.0.http.timing();
        self.reconnects += 1;
        self.fruitless += 1;
        if self.reconnects > RECONNECTS || self.fruitless > timing.attempts {
            let (digest, position, size) = (&self.digest, self.position, self.size);
            let name = &self.registry.0.reference;
            return Err(io::Error::other(format!(
                "{name}: blob {digest} breaks off at {position} of {size} bytes: {why}"
            )));
        }
        timing.pause(self.fruitless);
        // An endpoint that refuses now has been retried below; it ends the stream.
        let opened = self.registry.0.open_blob(&self.digest, self.position, self.size);
        self.body = Some(opened.map_err(|err| io::Error::other(err.message()))?);
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        loop {
            let why = match self.body.as_mut().map(|body| body.read(buffer)) {
                Some(Ok(0)) => "the server ended it".to_owned(),
                Some(Ok(count)) => {
                    self.position += count as u64;
                    self.fruitless = 0;
                    return Ok(count);
                }
                Some(Err(err)) if err.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(err)) => err.to_string(),
                None => "there is no connection".to_owned(),
            };
            self.body = None;
            self.reconnect(&why)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_disagree_are_refused() {
        let right = Digest::of_sha256(b"x");
        let wrong = Digest::of_sha256(b"y");
        assert_eq!(verify(b"x", Some(&right), Some(right.as_str())).unwrap(), right);
        assert_eq!(verify(b"x", None, None).unwrap(), right);
        assert!(verify(b"x", Some(&wrong), None).is_err());
        assert!(verify(b"x", None, Some(wrong.as_str())).is_err());
        assert!(verify(b"x", None, Some("sha256:../..")).is_err());
    }
}
