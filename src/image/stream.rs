//! The stages of a layer's one pass: bytes are counted and hashed while they are read.

use std::io::{self, BufReader, Read, Write};

use sha2::{Digest as _, Sha256, Sha512};

use super::digest::{Algorithm, Digest};
use super::media::Compression;
use crate::error::{Error, Result};

/// Bytes that are read from a compressed stream at once.
const BUFFER: usize = 64 * 1024;

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Hashes and counts what is read through it.
pub struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
    limit: u64,
}

impl<R: Read> Hashing<R> {
    /// Starts to hash for a comparison with `digest`. More than `limit` bytes are an error of
    /// the stream.
    pub fn new(inner: R, digest: &Digest, limit: u64) -> Self {
        let hasher = match digest.algorithm() {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        };
        Hashing { inner, hasher, count: 0, limit }
    }

    /// Reads what is left, then returns the digest and the number of all bytes.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        let digest = match self.hasher {
            Hasher::Sha256(h) => Digest::from_hash(Algorithm::Sha256, &h.finalize()),
            Hasher::Sha512(h) => Digest::from_hash(Algorithm::Sha512, &h.finalize()),
        };
        Ok((digest, self.count))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.count += len as u64;
        if self.count > self.limit {
            return Err(invalid(format!("more than {} bytes", self.limit)));
        }
        let part = buf.get(..len).unwrap_or_default();
        match &mut self.hasher {
            Hasher::Sha256(h) => h.update(part),
            Hasher::Sha512(h) => h.update(part),
        }
        Ok(len)
    }
}

/// Writes what is read through it to a file as well.
pub struct Tee<R, W> {
    /// Where the bytes come from.
    pub from: R,
    /// Where a copy goes, if one is kept.
    pub copy: Option<W>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(buf)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(buf.get(..len).unwrap_or_default())?;
        }
        Ok(len)
    }
}

/// Decompresses a layer. Content decides, because archives and some builders say "tar" of compressed
/// layers; a layer that is promised to be compressed must be, unless it has no bytes at all.
///
/// # Errors
/// Those of the stream; a compression that layers do not have; content that contradicts the media type.
pub fn inflate<'a>(mut from: impl Read + 'a, media_type: &str) -> Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    from.by_ref().take(6).read_to_end(&mut start).map_err(|err| Error::io("read layer", &err))?;
    let found = Compression::of_magic(&start);
    if start.starts_with(b"BZh") || start == *b"\xfd7zXZ\0" {
        return Err(Error::new("the layer is compressed with bzip2 or xz")
            .hint("layers are compressed with gzip or zstd, or not at all"));
    }
    let promised = Compression::of_media_type(media_type);
    if ![found, Compression::None].contains(&promised) && !start.is_empty() {
        return Err(Error::new(format!("layer is {found:?}, its media type says {media_type}")));
    }
    let from = io::Cursor::new(start).chain(BufReader::with_capacity(BUFFER, from));
    Ok(match found {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Compression::Zstd => Box::new(
            zstd::stream::read::Decoder::with_buffer(from)
                .map_err(|err| Error::io("read zstd layer", &err))?,
        ),
    })
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    fn read(data: &[u8], media_type: &str) -> Result<String> {
        let mut text = String::new();
        let res = inflate(data, media_type)?.read_to_string(&mut text);
        res.map(|_| text).map_err(|err| Error::io("read", &err))
    }

    /// A connection may give out as little at once.
    struct ByteByByte<'a>(&'a [u8]);

    impl Read for ByteByByte<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn content_decides_and_may_have_several_parts() {
        let two = [gzip(b"ab"), gzip(b"cd")].concat();
        assert_eq!(read(&two, "application/vnd.oci.image.layer.v1.tar+gzip").unwrap(), "abcd");
        assert_eq!(read(&two, TAR).unwrap(), "abcd");
        let mut text = String::new();
        inflate(ByteByByte(&two), TAR).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcd");
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"no"].concat();
        let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        let two = [skipped.clone(), frame(b"ab"), frame(b"cd"), skipped].concat();
        assert_eq!(read(&two, "application/vnd.oci.image.layer.v1.tar+zstd").unwrap(), "abcd");
        assert_eq!(read(b"plain", TAR).unwrap(), "plain");
        assert_eq!(read(b"", "application/vnd.oci.image.layer.v1.tar+gzip").unwrap(), "");
        for other in [&b"BZh9..."[..], b"\xfd7zXZ\0..."] {
            assert!(read(other, TAR).is_err());
        }
    }

    #[test]
    fn a_contradiction_is_refused() {
        assert!(read(b"plain", "application/vnd.oci.image.layer.v1.tar+gzip").is_err());
        assert!(read(&gzip(b"x"), "application/vnd.oci.image.layer.v1.tar+zstd").is_err());
    }

    #[test]
    fn hashes_counts_and_limits() {
        let expected = Digest::of_sha256(b"abc");
        let hashing = Hashing::new(&b"abc"[..], &expected, 3);
        assert_eq!(hashing.finish().unwrap(), (expected.clone(), 3));
        assert!(Hashing::new(&b"abcd"[..], &expected, 3).finish().is_err());
    }

    #[test]
    fn a_tee_keeps_a_copy() {
        let mut kept = Vec::new();
        let mut tee = Tee { from: &b"abc"[..], copy: Some(&mut kept) };
        io::copy(&mut tee, &mut io::sink()).unwrap();
        assert_eq!(kept, b"abc");
    }
}
