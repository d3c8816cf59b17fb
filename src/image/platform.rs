//! Platforms, `os/architecture[/variant]`, with the names that Go gives them (image-spec
//! image-index.md, "platform").

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What an image is made for, or what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    /// Operating system, `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor, `amd64`, `arm64`, ….
    #[serde(default)]
    pub architecture: String,
    /// Processor's variant, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Parses `linux/arm64/v8`; an architecture alone means Linux. Errors: other forms.
    pub fn parse(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match *parts.as_slice() {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(bad(text)),
        };
        let word = |s: &str| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !word(os) || !word(architecture) || !variant.is_none_or(word) {
            return Err(bad(text));
        }
        Ok(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
        .normal())
    }

    /// The platform of this program.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }.normal()
    }

    /// Go's name for what other worlds call differently, with the variant always said where
    /// an architecture has a usual one.
    fn normal(&self) -> Platform {
        let (architecture, implied) = match self.architecture.to_lowercase().as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), Some("v1")),
            "aarch64" | "arm64" => ("arm64".to_owned(), Some("v8")),
            "armhf" | "arm" => ("arm".to_owned(), Some("v7")),
            "armel" => ("arm".to_owned(), Some("v6")),
            "i386" | "i686" | "x86" | "386" => ("386".to_owned(), None),
            other => (other.to_owned(), None),
        };
        let given = self.variant.as_deref().filter(|v| !v.is_empty());
        let given =
            given.map(|v| if v.starts_with(char::is_numeric) { format!("v{v}") } else { v.into() });
        let variant = given.or(implied.map(str::to_owned));
        Platform { os: self.os.to_lowercase(), architecture, variant }
    }

    /// How well something made for `self` fits who wants `wanted`: `None` if not at all, more is
    /// better. An older variant runs on a newer processor, not the other way round.
    pub fn fit(&self, wanted: &Platform) -> Option<u32> {
        let (have, want) = (self.normal(), wanted.normal());
        if have.os != want.os || have.architecture != want.architecture {
            return None;
        }
        if have.variant == want.variant {
            return Some(u32::MAX);
        }
        let have = rank(have.variant.as_deref())?;
        (have <= rank(want.variant.as_deref())?).then_some(have)
    }
}

/// `v8` → 8000, `v8.1` → 8001.
fn rank(variant: Option<&str>) -> Option<u32> {
    let text = variant?.strip_prefix('v')?;
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let (major, minor) = (major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?);
    Some(u32::from(major) * 1000 + u32::from(minor.min(999)))
}

fn bad(text: &str) -> Error {
    Error::new(format!("{text:?} is no platform"))
        .hint("a platform is os/architecture[/variant], such as linux/arm64/v8")
}

impl fmt::Display for Platform {
    /// The usual variant is left out, as people write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        let usual = matches!(
            (self.architecture.as_str(), self.variant.as_deref()),
            ("amd64", Some("v1")) | ("arm64", Some("v8"))
        );
        match self.variant.as_deref() {
            Some(variant) if !usual && !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn parses_and_shows() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/7", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(platform(text).to_string(), shown);
        }
        for text in ["", "/", "linux/", "linux/a/b/c", "linux/a b", "linux//v8"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn older_variants_fit_newer_processors() {
        let fit = |have: &str, want: &str| platform(have).fit(&platform(want));
        assert_eq!(fit("linux/arm64", "linux/arm64/v8"), Some(u32::MAX));
        assert!(fit("linux/arm/v6", "linux/arm/v7").is_some());
        assert!(fit("linux/arm/v6", "linux/arm") < fit("linux/arm/v7", "linux/arm"));
        assert_eq!(fit("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(fit("linux/amd64/v3", "linux/amd64"), None);
        assert!(fit("linux/amd64/v2", "linux/amd64/v3").is_some());
        assert_eq!(fit("linux/amd64", "linux/arm64"), None);
        assert_eq!(fit("windows/amd64", "linux/amd64"), None);
    }
}
