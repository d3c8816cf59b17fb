//! What every source of images can do, whatever it is read from.

use std::io::Read;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::platform::Platform;

/// The largest manifest, index or image config that is read: 4 MiB, as distribution-spec
/// proposes for manifests. Bytes.
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// Where an image comes from: a registry, a layout, an archive.
pub trait Source: Sync {
    /// Bytes, media type and digest of a manifest or index; `None` is the one that the reference
    /// names. At most [`MANIFEST_LIMIT`] bytes; a digest that is given has been verified.
    /// Errors: it is not there, it is too large, its bytes are not those of the digest.
    fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)>;

    /// The bytes of a blob from `offset` on. Not verified here: the reader of the stream does
    /// that. The stream never holds more than the descriptor's size.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;

    /// The name under which a pulled image is stored, such as `docker.io/library/nginx:latest`
    /// or the archive's own tag.
    fn name(&self) -> String;

    /// Whether what was read of a blob is worth keeping for another try: reading it again costs
    /// more than a second copy on the disk.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether the user named the image by digest, so that nothing about it is left to choose.
    fn pinned(&self) -> bool {
        false
    }
}

/// What the user chose about where images come from.
#[derive(Clone)]
pub struct Options {
    /// The platform that is chosen from an index.
    pub platform: Platform,
    /// Talk http, not https, to the registry that the reference names.
    pub plain_http: bool,
    /// PEM file of certificate authorities that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate; `client_key` belongs to it.
    pub client_cert: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub client_key: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Docker's config.json or containers' auth.json; default: where those programs look.
    pub authfile: Option<PathBuf>,
    /// User name and password for the registry that the reference names.
    pub creds: Option<(String, String)>,
    /// The folder that holds a folder for each registry; default: containerd's and Docker's.
    pub hosts_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            platform: Platform::host(),
            plain_http: false,
            ca: None,
            client_cert: None,
            client_key: None,
            insecure_skip_verify: false,
            authfile: None,
            creds: None,
            hosts_dir: None,
        }
    }
}

/// Reads a stream to its end, refusing more than `limit` bytes. Errors: as `what` says.
pub fn read_bounded(from: impl Read, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| Error::io(format!("read {what}"), &err))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(format!("{what} is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a small blob whole and verifies size and digest. Errors: those of the source, and a
/// content that is not what the descriptor says.
pub fn read_verified(source: &dyn Source, of: &Descriptor, what: &str) -> Result<Vec<u8>> {
    if of.size > MANIFEST_LIMIT {
        let size = of.size;
        return Err(Error::new(format!("{what} has {size} bytes, more than {MANIFEST_LIMIT}")));
    }
    let bytes = read_bounded(source.blob(of, 0)?, of.size, what)?;
    if bytes.len() as u64 != of.size || !of.digest.matches(&bytes) {
        return Err(Error::new(format!("{what} is not what its digest {} says", of.digest)));
    }
    Ok(bytes)
}
