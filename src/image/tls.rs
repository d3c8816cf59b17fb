//! Whom TLS trusts: the system's authorities, private ones beside them, a client certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::{Doing, Error, Result};
use crate::image::transport::read_bounded;

/// Where distributions keep their bundle of authorities; the first that exists is read.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The largest PEM file that is read, bytes.
const PEM_LIMIT: u64 = 8 << 20;

/// What is trusted for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM files of authorities beside the system's.
    pub ca: Vec<PathBuf>,
    /// The client's certificate and, if it is not in the same file, its key.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
    /// Accept any certificate.
    pub skip_verify: bool,
}

impl Trust {
    /// Reads the files. Errors: a file that cannot be read or holds no certificate, a key that
    /// does not belong to its certificate, no authority at all.
    pub fn config(&self) -> Result<TlsConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = match &self.client {
            Some((cert, key)) => Some(client(cert, key.as_deref().unwrap_or(cert), &provider)?),
            None => None,
        };
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::from(self.roots()?))
            .client_cert(client)
            .disable_verification(self.skip_verify)
            .build())
    }

    fn roots(&self) -> Result<Vec<Certificate<'static>>> {
        if self.skip_verify {
            return Ok(Vec::new());
        }
        let mut roots = Vec::new();
        if let Some(bundle) = system_bundle() {
            roots.extend(certificates(&bundle)?);
        }
        for file in &self.ca {
            roots.extend(certificates(file)?);
        }
        match roots.is_empty() {
            true => Err(Error::new("no certificate authorities to verify registries with")
                .hint("install ca-certificates, set SSL_CERT_FILE, or name one with --ca")),
            false => Ok(roots),
        }
    }
}

fn system_bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
    named
        .map(PathBuf::from)
        .or_else(|| SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|file| file.exists()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let what = file.display().to_string();
    read_bounded(std::fs::File::open(file).doing(|| format!("open {what}"))?, PEM_LIMIT, &what)
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = read(file)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(err) => return Err(Error::new(format!("{}: {err}", file.display()))),
        }
    }
    match found.is_empty() {
        true => Err(Error::new(format!("{} holds no PEM certificate", file.display()))),
        false => Ok(found),
    }
}

fn client(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert> {
    let chain = certificates(cert)?;
    let pem = read(key)?;
    let bad =
        |err: &dyn std::fmt::Display| Error::new(format!("client key {}: {err}", key.display()));
    // Checked here because the HTTP library takes it for granted that the two belong together.
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|err| bad(&err))?;
    let ders = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    rustls::sign::CertifiedKey::from_der(ders, der, provider).map_err(|err| bad(&err))?;
    let key = ureq::tls::PrivateKey::from_pem(&pem).map_err(|err| bad(&err))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
