//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>` and nothing else.
//!
//! The parser is strict because digests become file names and URL parts: what is no digest can
//! be neither (image-spec descriptor.md, "Digests"; CVE-2024-3727).

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, Result};

/// The hash functions that image-spec registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which nearly every image uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A digest that is known to be well-formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Parses `algorithm:hex`. Errors: an unknown algorithm, a wrong length, anything but
    /// lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Digest> {
        let (name, hex) = text
            .split_once(':')
            .ok_or_else(|| bad(text, "it has no algorithm").hint("a digest is sha256:<64 hex>"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(bad(text, "its algorithm is not sha256 or sha512")),
        };
        if hex.len() != algorithm.hex_len() {
            let wanted = algorithm.hex_len();
            return Err(bad(text, &format!("{} digits where {wanted} belong", hex.len())));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad(text, "it holds more than lower-case hexadecimal digits"));
        }
        Ok(Digest { algorithm, text: text.to_owned() })
    }

    /// The sha256 of some bytes.
    pub fn of_sha256(bytes: &[u8]) -> Digest {
        Digest::from_hash(Algorithm::Sha256, &Sha256::digest(bytes))
    }

    /// Makes a digest of a finished hash, for code that hashes while it streams.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Digest {
        let mut text = String::with_capacity(8 + 2 * hash.len());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
        }
        Digest { algorithm, text }
    }

    /// Whether the bytes hash to this digest, with this digest's own algorithm.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let found = match self.algorithm {
            Algorithm::Sha256 => Digest::from_hash(self.algorithm, &Sha256::digest(bytes)),
            Algorithm::Sha512 => Digest::from_hash(self.algorithm, &Sha512::digest(bytes)),
        };
        found == *self
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits after the colon.
    pub fn hex(&self) -> &str {
        self.text.get(self.algorithm.name().len() + 1..).unwrap_or_default()
    }
}

fn bad(text: &str, why: &str) -> Error {
    let shown: String = text.chars().take(140).collect();
    Error::new(format!("{shown:?} is no digest: {why}"))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Digest> {
        Digest::parse(text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        Digest::parse(&text).map_err(|err| D::Error::custom(err.message()))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_verifies() {
        let digest = Digest::parse(EMPTY).unwrap();
        assert_eq!(digest, Digest::of_sha256(b""));
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        assert_eq!(digest.algorithm().name(), "sha256");
        assert!(digest.hex().starts_with("e3b0") && digest.hex().len() == 64);
        let long = Digest::from_hash(Algorithm::Sha512, &Sha512::digest(b"x"));
        assert!(Digest::parse(long.as_str()).unwrap().matches(b"x"));
    }

    #[test]
    fn refuses_everything_else() {
        let upper = EMPTY.to_uppercase();
        let short = EMPTY.get(..70).unwrap();
        for text in ["", "sha256", "sha256:", "md5:00", "sha256:../../etc/passwd", short, &upper] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
        let slash = EMPTY.replace("e3b0", "../a");
        assert!(Digest::parse(&slash).is_err());
        assert!(Digest::parse(&format!("{EMPTY}\n")).is_err());
    }
}
