//! A reader of layer archives (ustar, pax and GNU; image-spec layer.md), bounded everywhere.
//!
//! The fields of a header are the `tar` crate's to parse. The walk over the headers is our own:
//! pax records may hold binary values (file capabilities), and what a hostile archive makes us
//! keep in memory has to have a limit.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::sparse::{self, Map};

/// Bytes of one block; headers and contents are padded to it.
const BLOCK: u64 = 512;
/// The most that one extension header (a long name, a set of pax records) may hold. The kernel
/// takes names of 4 KiB and 64 KiB of extended attributes.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content is read from the [`Reader`].
    File,
    /// A directory.
    Directory,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// Another name of the file [`Entry::link`].
    Hardlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// One member of an archive, with its extension headers applied.
#[derive(Debug)]
pub struct Entry {
    /// Name as written in the archive, unchecked.
    pub path: Vec<u8>,
    /// Target of a link as written in the archive, unchecked.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content in the archive.
    pub size: u64,
    /// Where the content belongs, if the file has holes.
    pub sparse: Option<Map>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extension headers that describe the entry after them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

/// Walks over the entries of an archive; reading from it gives the current entry's content.
pub struct Reader<R> {
    inner: R,
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Starts at the first header.
    pub fn new(inner: R) -> Self {
        Reader { inner, left: 0, padding: 0 }
    }

    /// The next entry, or `None` at the end of the archive.
    ///
    /// # Errors
    /// Those of the stream, and `InvalidData` for what is malformed, too large or unsupported.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let slot = match kind {
                EntryType::GNULongName => &mut extensions.name,
                EntryType::GNULongLink => &mut extensions.link,
                EntryType::XHeader => &mut extensions.pax,
                // Comments of `git archive`; nothing in it concerns a layer.
                EntryType::XGlobalHeader => &mut None,
                _ => return self.entry(&header, extensions).map(Some),
            };
            if slot.is_some() {
                return Err(invalid("two extension headers of one kind before one entry"));
            }
            let text = self.extension(&header)?;
            *slot = Some(if kind.is_pax_local_extensions() { text } else { until_nul(text) });
        }
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        self.skip(self.left)?;
        // Some builders leave out the padding of the last entry, and all that comes after it.
        io::copy(&mut self.inner.by_ref().take(self.padding), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        let Some(header) = self.block()? else { return Ok(None) };
        if is_empty(&header) {
            return match self.block()? {
                Some(next) if !is_empty(&next) => {
                    Err(invalid("entries after the end of the archive"))
                }
                _ => Ok(None),
            };
        }
        if header.cksum()? != checksum(&header) {
            return Err(invalid("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn block(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let mut rest = &mut header.as_mut_bytes()[..];
        while !rest.is_empty() {
            match self.inner.read(rest)? {
                0 if rest.len() as u64 == BLOCK => return Ok(None),
                0 => return Err(truncated()),
                n => rest = rest.get_mut(n..).unwrap_or_default(),
            }
        }
        Ok(Some(header))
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut self.inner.by_ref().take(count), &mut io::sink())? {
            n if n == count => Ok(()),
            _ => Err(truncated()),
        }
    }

    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        if size > MAX_EXTENSION {
            return Err(invalid(format!("an extension header of {size} bytes")));
        }
        self.content(size)?;
        let mut text = Vec::new();
        self.read_to_end(&mut text)?;
        Ok(text)
    }

    /// Declares the next `size` bytes of the stream to be content.
    fn content(&mut self, size: u64) -> io::Result<()> {
        let padded = size.checked_next_multiple_of(BLOCK);
        let padded = padded.ok_or_else(|| invalid("a size beyond 64 bits"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> io::Result<Entry> {
        let path = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = header.link_name_bytes().map(|l| l.into_owned());
        let old = header.as_old();
        let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
        let mut entry = Entry {
            kind: Kind::File,
            path,
            link: extensions.link.or(link).unwrap_or_default(),
            size: field(&old.size, header.entry_size())?,
            sparse: None,
            mode: field(&old.mode, header.mode())? & 0o7777,
            uid: id(field(&old.uid, header.uid())?)?,
            gid: id(field(&old.gid, header.gid())?)?,
            mtime: (field(&old.mtime, header.mtime())? as i64, 0),
            device: (device.0.unwrap_or(0), device.1.unwrap_or(0)),
            xattrs: Vec::new(),
        };
        let sparse = entry.apply(extensions.pax.as_deref().unwrap_or_default())?;
        // By the whole name: Go leaves what is not ASCII out of the header's, which may then end
        // in a slash.
        entry.kind = kind(header.entry_type(), &entry.path)?;
        if entry.kind != Kind::File {
            entry.size = 0;
        }
        self.content(entry.size)?;
        if !sparse.is_empty() {
            if entry.kind != Kind::File {
                return Err(invalid("a sparse file that is no file"));
            }
            entry.sparse = Some(sparse.map(self, entry.size)?);
        }
        Ok(entry)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(buf) = buf.get_mut(..want).filter(|b| !b.is_empty()) else { return Ok(0) };
        match self.inner.read(buf)? {
            0 => Err(truncated()),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

impl Entry {
    /// Applies pax records: `LENGTH KEY=VALUE\n`, the length counting the whole record. Returns
    /// those about a sparse file.
    fn apply(&mut self, mut records: &[u8]) -> io::Result<sparse::Records> {
        let mut sparse = sparse::Records::default();
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(|| invalid("a pax record"))?;
            records = rest;
            match key {
                b"path" => self.path = value.to_vec(),
                b"linkpath" => self.link = value.to_vec(),
                b"size" => self.size = number(value)?,
                b"uid" => self.uid = id(number(value)?)?,
                b"gid" => self.gid = id(number(value)?)?,
                b"mtime" => self.mtime = time(value)?,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        sparse.take(key, value)?;
                    }
                }
            }
        }
        if let Some(name) = sparse.name.take() {
            self.path = name;
        }
        Ok(sparse)
    }
}

/// Whether it is a block of zeros, two of which end an archive.
fn is_empty(header: &Header) -> bool {
    header.as_bytes() == &[0; BLOCK as usize]
}

/// The sum of all bytes, those of the checksum itself counted as spaces. Every header of every
/// entry goes through here, so it is a plain loop over the block.
fn checksum(header: &Header) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    sum(header.as_bytes()) - sum(&header.as_old().cksum) + 32 * 8
}

/// The value of a header's field; one that is left blank counts as zero, as everywhere.
fn field<T: Default>(raw: &[u8], value: io::Result<T>) -> io::Result<T> {
    match raw.iter().all(|b| matches!(b, 0 | b' ')) {
        true => Ok(T::default()),
        false => value,
    }
}

fn kind(kind: EntryType, path: &[u8]) -> io::Result<Kind> {
    match kind {
        // Archives older than ustar mark a directory by its name alone.
        EntryType::Regular if path.ends_with(b"/") => Ok(Kind::Directory),
        EntryType::Regular | EntryType::Continuous => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Directory),
        EntryType::Symlink => Ok(Kind::Symlink),
        EntryType::Link => Ok(Kind::Hardlink),
        EntryType::Char => Ok(Kind::Char),
        EntryType::Block => Ok(Kind::Block),
        EntryType::Fifo => Ok(Kind::Fifo),
        EntryType::GNUSparse => Err(invalid("a sparse file of GNU's own form, not of pax")),
        other => Err(invalid(format!("an entry of unknown type 0x{:02x}", other.as_byte()))),
    }
}

/// Splits the first pax record off: key, value, rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|b| *b == b' ')?;
    let len: usize = std::str::from_utf8(records.get(..space)?).ok()?.parse().ok()?;
    let body = records.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, records.get(len..)?))
}

/// A decimal number of a pax record.
///
/// # Errors
/// `InvalidData` for everything else.
pub fn number(value: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|t| t.parse().ok()).ok_or_else(|| invalid("a number in a pax record"))
}

/// An owner; the highest number means "none" to the kernel.
fn id(value: u64) -> io::Result<u32> {
    let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| invalid(format!("{value} as an owner")))
}

/// Decimal seconds with an optional fraction, possibly negative.
fn time(value: &[u8]) -> io::Result<(i64, i64)> {
    let bad = || invalid("a time in a pax record");
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().map_err(|_| bad())?;
    match whole.starts_with('-') && nanos > 0 {
        true => Ok((seconds.checked_sub(1).ok_or_else(bad)?, 1_000_000_000 - nanos)),
        false => Ok((seconds, nanos)),
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
    text
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of an entry")
}

/// The error for what no layer archive holds.
pub fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a valid layer archive: {}", what.into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_values_may_hold_newlines() {
        let data = b"30 SCHILY.xattr.user.k=a\nb=c\0\n11 mtime=1\n";
        let (key, value, rest) = record(data).unwrap();
        assert_eq!((key, value), (&b"SCHILY.xattr.user.k"[..], &b"a\nb=c\0"[..]));
        assert_eq!(record(rest).unwrap().1, b"1");
        assert!(record(b"99 path=x\n").is_none());
        assert!(record(b"2 path=x\n").is_none());
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"7").unwrap(), (7, 0));
        assert_eq!(time(b"7.1234567899").unwrap(), (7, 123_456_789));
        assert!(time(b"1.-5").is_err());
        assert!(time(b"x").is_err());
    }

    #[test]
    fn huge_extension_headers_are_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let archive = header.as_bytes().chain(io::repeat(b'a'));
        let err = Reader::new(archive).next_entry().unwrap_err();
        assert!(err.to_string().contains("extension header of"), "{err}");
    }

    #[test]
    fn a_file_is_no_directory_for_what_go_leaves_out_of_its_name() {
        let mut records = Header::new_ustar();
        records.set_entry_type(EntryType::XHeader);
        records.set_size(13);
        records.set_cksum();
        let mut file = Header::new_ustar();
        file.as_old_mut().name[..2].copy_from_slice(b"a/");
        file.set_size(1);
        file.set_cksum();
        let mut text = "13 path=a/\u{fc}\n".as_bytes().to_vec();
        text.resize(512, 0);
        let archive = [&records.as_bytes()[..], &text, &file.as_bytes()[..], b"z"].concat();
        let entry = Reader::new(archive.as_slice()).next_entry().unwrap().unwrap();
        assert_eq!((entry.kind, entry.size), (Kind::File, 1));
        assert_eq!(entry.path, "a/\u{fc}".as_bytes());
    }

    #[test]
    fn the_last_padding_may_be_missing() {
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        let archive = [&header.as_bytes()[..], b"abc"].concat();
        let mut reader = Reader::new(archive.as_slice());
        assert_eq!(reader.next_entry().unwrap().unwrap().size, 3);
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let mut header = Header::new_gnu();
        header.set_size(100);
        header.set_cksum();
        let mut reader = Reader::new(&header.as_bytes()[..]);
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!(entry.size, 100);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        assert!(Reader::new(&header.as_bytes()[..300]).next_entry().is_err());
    }
}
