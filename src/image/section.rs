//! Parts of files, read without moving a shared position: layers of one archive are read in
//! parallel.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Doing, Error, Result};

/// A range of a file as a stream.
#[derive(Clone)]
pub struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// `size` bytes from `start` on, less the first `skip`.
    pub fn new(file: Arc<File>, start: u64, size: u64, skip: u64) -> Section {
        let end = start.saturating_add(size);
        Section { file, position: start.saturating_add(skip).min(end), end }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Opens a regular file; without waiting if it is a FIFO. The size is in bytes. Errors: it
/// cannot be opened, it is something else.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    let shown = path.display();
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).doing(|| format!("open {shown}"))?;
    let metadata = file.metadata().doing(|| format!("stat {shown}"))?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(Error::new(format!("{shown} is not a regular file"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_part_and_no_more() {
        let file = Arc::new(File::open("/proc/self/exe").unwrap());
        let read = |start, size, skip| {
            let mut bytes = Vec::new();
            Section::new(file.clone(), start, size, skip).read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read(1, 3, 0), b"ELF");
        assert_eq!(read(1, 3, 2), b"F");
        assert_eq!(read(1, 3, 9), b"");
    }

    #[test]
    fn only_regular_files() {
        assert!(open_regular(Path::new("/dev/null")).is_err());
        assert!(open_regular(Path::new("/")).is_err());
    }
}
