//! The table of contents of a tar file: names and places, found by seeking over the content
//! (pax interchange format, POSIX.1-2017; GNU's long names).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Doing, Error, Result};
use crate::image::section::{Section, open_regular};
use crate::image::transport::read_bounded;

/// Entries that an archive may have; an image has a few hundred.
const ENTRIES: usize = 20_000;
/// Bytes of a name that is kept, as the kernel takes them: what is kept in memory has a limit.
const NAME_LIMIT: usize = 4096;
/// The largest header of long names or pax records that is read, bytes.
const HEADER_LIMIT: u64 = 64 << 10;
/// Links that are followed from a name to its content.
const LINKS: usize = 8;
const BLOCK: u64 = 512;

/// A tar file whose entries are known.
pub struct TarFile {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

enum Entry {
    File { start: u64, size: u64 },
    Link(String),
}

/// What headers before an entry say about it in place of its own fields.
#[derive(Default)]
struct Overrides {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl TarFile {
    /// Reads the headers of `path`. Errors: it is no tar file, is damaged or cut off.
    pub fn open(path: &Path) -> Result<TarFile> {
        let (file, length) = open_regular(path)?;
        TarFile::index(file, length).map_err(|err| err.context(path.display()))
    }

    /// The same for a file that is open already; `length` in bytes.
    pub fn index(file: File, length: u64) -> Result<TarFile> {
        let mut tar = TarFile { file: Arc::new(file), entries: HashMap::new() };
        let mut position = 0;
        let mut overrides = Overrides::default();
        while let Some(header) = tar.header(position, length)? {
            let start = position + BLOCK;
            let size = overrides.size.take().map_or_else(|| entry_size(&header), Ok)?;
            let end = start.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| damaged(position, "an entry reaches beyond the end"))?;
            tar.take(&header, start, size, &mut overrides)?;
            if tar.entries.len() > ENTRIES {
                return Err(Error::new(format!("more than {ENTRIES} entries")));
            }
            position = end.next_multiple_of(BLOCK);
        }
        Ok(tar)
    }

    /// The header at `position`; none at the end, which a block of zeros marks.
    fn header(&self, position: u64, length: u64) -> Result<Option<tar::Header>> {
        if position.saturating_add(BLOCK) > length {
            // Some writers leave the two blocks of zeros out.
            return match position >= length && position > 0 {
                true => Ok(None),
                false => Err(damaged(position, "it is cut off, or no tar file")),
            };
        }
        let mut header = tar::Header::new_old();
        self.file.read_exact_at(header.as_mut_bytes(), position).doing(|| "read a tar header")?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The checksum counts its own field as eight spaces.
        let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
        let own = sum(bytes.get(148..156).unwrap_or_default());
        match header.cksum() {
            Ok(found) if found == sum(bytes) - own + 8 * 32 => Ok(Some(header)),
            _ => Err(damaged(position, "it is damaged, or no tar file")),
        }
    }

    fn take(
        &mut self,
        header: &tar::Header,
        start: u64,
        size: u64,
        overrides: &mut Overrides,
    ) -> Result<()> {
        use tar::EntryType;
        let kind = header.entry_type();
        match kind {
            EntryType::XHeader => return pax(&self.small(start, size)?, overrides),
            EntryType::GNULongName => {
                overrides.path = Some(text(&self.small(start, size)?));
                return Ok(());
            }
            EntryType::GNULongLink => {
                overrides.link = Some(text(&self.small(start, size)?));
                return Ok(());
            }
            _ => {}
        }
        let said = std::mem::take(overrides);
        let name = said.path.unwrap_or_else(|| text(&header.path_bytes()));
        let Some(name) = within("", &name) else { return Ok(()) };
        let link = || said.link.or_else(|| header.link_name_bytes().map(|bytes| text(&bytes)));
        let entry = match kind {
            EntryType::Regular | EntryType::Continuous => Some(Entry::File { start, size }),
            EntryType::Symlink => link().and_then(|to| within(folder(&name), &to)).map(Entry::Link),
            EntryType::Link => link().and_then(|to| within("", &to)).map(Entry::Link),
            // Nothing else holds content of an image.
            _ => None,
        };
        if let Some(entry) = entry {
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    fn small(&self, start: u64, size: u64) -> Result<Vec<u8>> {
        let section = Section::new(self.file.clone(), start, size, 0);
        read_bounded(section, HEADER_LIMIT, "a tar header")
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = within("", name)?;
        for _ in 0..=LINKS {
            match self.entries.get(&name)? {
                Entry::File { start, size } => return Some((*start, *size)),
                Entry::Link(to) => name = to.clone(),
            }
        }
        None
    }

    /// The size in bytes of the file `name`, if there is one; links are followed.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    /// The content of `name` from `offset` on. Errors: there is no such file.
    pub fn read(&self, name: &str, offset: u64) -> Result<Section> {
        let (start, size) = self
            .find(name)
            .ok_or_else(|| Error::new(format!("the archive holds no file {name}")))?;
        Ok(Section::new(self.file.clone(), start, size, offset))
    }
}

/// Directories and links may carry a size that no content follows.
fn entry_size(header: &tar::Header) -> Result<u64> {
    use tar::EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Symlink};
    match header.entry_type() {
        Directory | Link | Symlink | Char | Block | Fifo => Ok(0),
        GNUSparse => Err(Error::new("sparse entries are not known")),
        _ => header.entry_size().map_err(|err| Error::io("a tar header", &err)),
    }
}

/// Pax records, `LENGTH KEY=VALUE\n`.
fn pax(records: &[u8], overrides: &mut Overrides) -> Result<()> {
    let bad = || Error::new("a pax header is damaged");
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length = std::str::from_utf8(rest.get(..space).unwrap_or_default());
        let length: usize = length.ok().and_then(|l| l.parse().ok()).ok_or_else(bad)?;
        let record = rest.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n"));
        let record = record.ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let value = text(record.get(equals + 1..).unwrap_or_default());
        match record.get(..equals).unwrap_or_default() {
            b"path" => overrides.path = Some(value),
            b"linkpath" => overrides.link = Some(value),
            b"size" => overrides.size = Some(value.parse().map_err(|_| bad())?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::new("sparse entries are not known"));
            }
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `path` seen from `base`, without `.` and `..`; none if it leads out of the archive, or is longer
/// than any name of an image.
fn within(base: &str, path: &str) -> Option<String> {
    if base.len() + path.len() > NAME_LIMIT {
        return None;
    }
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn damaged(position: u64, why: &str) -> Error {
    Error::new(format!("tar header at byte {position}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn file(bytes: &[u8]) -> Result<TarFile> {
        let path = std::env::temp_dir().join(format!("lade-tar-{:?}", std::thread::current().id()));
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        let opened = TarFile::open(&path);
        std::fs::remove_file(&path).unwrap();
        opened
    }

    fn builder() -> tar::Builder<Vec<u8>> {
        tar::Builder::new(Vec::new())
    }

    fn add(to: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        to.append_data(&mut header, name, content).unwrap();
    }

    fn link(to: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        to.append_link(&mut header, name, target).unwrap();
    }

    fn content(tar: &TarFile, name: &str) -> Result<String> {
        let mut text = String::new();
        tar.read(name, 0)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn finds_files_through_links() {
        let mut b = builder();
        add(&mut b, "a/layer.tar", b"content");
        add(&mut b, &format!("{}x", "long/".repeat(40)), b"deep");
        link(&mut b, tar::EntryType::Symlink, "b/layer.tar", "../a/layer.tar");
        link(&mut b, tar::EntryType::Link, "c", "b/layer.tar");
        link(&mut b, tar::EntryType::Symlink, "out", "../../etc/passwd");
        link(&mut b, tar::EntryType::Symlink, "loop", "loop");
        let tar = file(&b.into_inner().unwrap()).unwrap();
        for name in ["a/layer.tar", "./a/layer.tar", "b/layer.tar", "c"] {
            assert_eq!(content(&tar, name).unwrap(), "content", "{name}");
        }
        assert_eq!(content(&tar, &format!("{}x", "long/".repeat(40))).unwrap(), "deep");
        assert_eq!(tar.size("c"), Some(7));
        for name in ["out", "loop", "nothing", "a", "../a/layer.tar", ""] {
            assert!(content(&tar, name).is_err(), "{name}");
        }
    }

    #[test]
    fn reads_pax_records() {
        let mut b = builder();
        b.append_pax_extensions([("path", &b"new/name"[..]), ("size", b"3")]).unwrap();
        add(&mut b, "old", b"abc");
        let tar = file(&b.into_inner().unwrap()).unwrap();
        assert_eq!(content(&tar, "new/name").unwrap(), "abc");
        assert!(pax(b"99 path=x\n", &mut Overrides::default()).is_err());
        assert!(pax(b"10 size=x\n", &mut Overrides::default()).is_err());
        assert!(pax(b"x", &mut Overrides::default()).is_err());
        assert!(pax(b"0 a=b\n", &mut Overrides::default()).is_err());
    }

    #[test]
    fn endless_names_are_not_kept() {
        let mut b = builder();
        add(&mut b, &"n/".repeat(3000), b"x");
        link(&mut b, tar::EntryType::Symlink, "a", &"n/".repeat(3000));
        add(&mut b, "b", b"y");
        let tar = file(&b.into_inner().unwrap()).unwrap();
        assert_eq!((tar.entries.len(), tar.size("b")), (1, Some(1)));
    }

    #[test]
    fn refuses_damage() {
        let mut b = builder();
        add(&mut b, "a", &[7; 2000]);
        let whole = b.into_inner().unwrap();
        assert!(file(&whole).is_ok());
        assert!(file(&whole[..1500]).is_err());
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        assert!(file(&flipped).is_err());
        assert!(file(b"").is_err());
        assert!(file(&[0x41; 600]).is_err());
    }

    #[test]
    fn huge_sizes_are_refused() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(u64::MAX - 5);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 1024]);
        assert!(file(&bytes).is_err());
    }
}
