//! Sparse files in layers, as GNU tar writes them in pax archives ("Storing Sparse Files" in its
//! manual): the archive holds the data without the holes, and a map of where it belongs.
//!
//! Formats 0.0 and 0.1 have the map in pax records, 1.0 has it as text before the data.

use std::io::{self, Read};

use super::tar::{invalid, number};

/// Parts that one file may have, 16 MiB of map in memory.
const MAX_PARTS: u64 = 1 << 20;
/// Bytes of a block; the map of format 1.0 is padded to it.
const BLOCK: usize = 512;

/// A sparse file's real size, and the parts that have data, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Map {
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Offset in the file and length of each part, none beyond the size.
    pub parts: Vec<(u64, u64)>,
}

/// What the pax records of one entry say about a sparse file.
#[derive(Default)]
pub struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    /// The file's name, where the entry's own is one for tools that know no sparse files.
    pub name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    numbers: Option<Vec<u64>>,
}

impl Records {
    /// Takes the record `GNU.sparse.KEY`.
    ///
    /// # Errors
    /// `InvalidData` for a value or an order that no format has.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = Some(number(value)?),
            b"minor" => self.minor = Some(number(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            // How many parts follow is seen.
            b"numblocks" => {}
            b"offset" | b"numbytes" => {
                let numbers = self.numbers.get_or_insert_default();
                if numbers.len().is_multiple_of(2) != (key == b"offset") {
                    return Err(invalid("a sparse file's map is out of order"));
                }
                numbers.push(number(value)?);
            }
            b"map" => {
                let fields = value.split(|b| *b == b',').filter(|_| !value.is_empty());
                self.numbers = Some(fields.map(number).collect::<io::Result<_>>()?);
            }
            _ => return Err(invalid("a sparse file of an unknown form")),
        }
        Ok(())
    }

    /// Whether there was no such record.
    pub fn is_empty(&self) -> bool {
        let Records { major, minor, size, name, numbers } = self;
        [major, minor, size].iter().all(|n| n.is_none()) && name.is_none() && numbers.is_none()
    }

    /// The map. `content` is the entry's, of `stored` bytes; a map at its beginning is read.
    ///
    /// # Errors
    /// Those of the stream; `InvalidData` for a map that contradicts itself or the content.
    pub fn map(self, content: &mut impl Read, mut stored: u64) -> io::Result<Map> {
        let size = self.size.ok_or_else(|| invalid("a sparse file without its size"))?;
        let numbers = match (self.major.unwrap_or(0), self.minor.unwrap_or(0), self.numbers) {
            (0, 0 | 1, Some(numbers)) => numbers,
            (1, 0, None) => {
                let mut text = Text { from: content, block: [0; BLOCK], next: BLOCK, blocks: 0 };
                let numbers = text.numbers()?;
                stored = stored.saturating_sub(text.blocks * BLOCK as u64);
                numbers
            }
            _ => return Err(invalid("a sparse file of an unknown form")),
        };
        let parts = parts(&numbers, size)?;
        match parts.iter().map(|(_, length)| length).sum::<u64>() == stored {
            true => Ok(Map { size, parts }),
            false => Err(invalid("a sparse file's map is not that of its content")),
        }
    }
}

/// Checks the offsets and lengths of a file of `size` bytes.
fn parts(numbers: &[u64], size: u64) -> io::Result<Vec<(u64, u64)>> {
    let bad = || invalid("a sparse file's parts overlap, are out of order or beyond its size");
    let mut end = 0;
    let check = |pair: &[u64]| match *pair {
        [offset, length] if offset >= end => {
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(bad)?;
            Ok((offset, length))
        }
        _ => Err(bad()),
    };
    numbers.chunks(2).map(check).collect()
}

/// The map of format 1.0: lines of decimal numbers, read in whole blocks.
struct Text<'a, R> {
    from: &'a mut R,
    block: [u8; BLOCK],
    next: usize,
    blocks: u64,
}

impl<R: Read> Text<'_, R> {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        let count = self.number()?;
        if count > MAX_PARTS {
            return Err(invalid(format!("a sparse file of {count} parts")));
        }
        (0..2 * count).map(|_| self.number()).collect()
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return number(&line),
                // As many digits as 64 bits can have.
                digit @ b'0'..=b'9' if line.len() < 20 => line.push(digit),
                _ => return Err(invalid("a number in a sparse file's map")),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.next == BLOCK {
            self.from.read_exact(&mut self.block)?;
            (self.next, self.blocks) = (0, self.blocks + 1);
        }
        let byte = self.block.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(records: &[(&str, &str)], content: &[u8]) -> io::Result<Map> {
        let mut taken = Records::default();
        for (key, value) in records {
            taken.take(key.as_bytes(), value.as_bytes())?;
        }
        taken.map(&mut &*content, content.len() as u64)
    }

    fn refused(records: &[(&str, &str)], content: &[u8]) -> bool {
        map(records, content).is_err_and(|err| err.to_string().contains("sparse file"))
    }

    fn block(text: &str) -> Vec<u8> {
        let mut block = text.as_bytes().to_vec();
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    }

    const V1: [(&str, &str); 3] = [("major", "1"), ("minor", "0"), ("realsize", "1000")];

    #[test]
    fn all_forms_are_read() {
        let expected = Map { size: 1000, parts: vec![(3, 2), (7, 0)] };
        let old = [("size", "1000"), ("numblocks", "2"), ("offset", "3"), ("numbytes", "2")];
        let old = [&old[..], &[("offset", "7"), ("numbytes", "0")]].concat();
        assert_eq!(map(&old, b"ab").unwrap(), expected);
        assert_eq!(map(&[("size", "1000"), ("map", "3,2,7,0")], b"ab").unwrap(), expected);
        assert_eq!(map(&[("size", "9"), ("map", "")], b"").unwrap().parts, []);
        let content = [block("2\n3\n2\n7\n0\n"), b"ab".to_vec()].concat();
        assert_eq!(map(&V1, &content).unwrap(), expected);
        let zeros = "1000\n0\n".repeat(200);
        let long = map(&V1, &block(&format!("200\n{zeros}"))).unwrap();
        assert_eq!(long.parts, [(1000, 0); 200]);
    }

    #[test]
    fn maps_that_contradict_themselves_are_refused() {
        for bad in ["3,2,4,1", "7,1,3,1", "999,2", "1,2,3", "18446744073709551615,2", "1,-1", "x"] {
            let refused = map(&[("size", "1000"), ("map", bad)], b"abc");
            assert!(refused.is_err(), "{bad}");
        }
        assert!(refused(&[("size", "9"), ("map", "0,2")], b"abc"), "more than the map");
        assert!(refused(&[("size", "9"), ("map", "0,4")], b"abc"), "less than the map");
        assert!(refused(&[("map", "0,3")], b"abc"), "no size");
        assert!(refused(&[("size", "9"), ("numbytes", "3")], b"abc"));
        assert!(refused(&[("size", "9"), ("offset", "3")], b""));
        assert!(refused(&[("size", "9")], b""), "no map");
        assert!(refused(&[("size", "9"), ("major", "2"), ("map", "0,3")], b"abc"));
        assert!(refused(&[("size", "9"), ("map", "0,3"), ("blocks", "1")], b"abc"));
    }

    #[test]
    fn maps_in_the_content_are_bounded() {
        assert!(refused(&V1, &block("9999999\n")));
        assert!(refused(&V1, &block("1\n00000000000000000000001\n1\n")));
        assert!(refused(&V1, &block("1\n0x1\n1\n")));
        assert!(map(&V1, &block("\n")).is_err());
        assert!(map(&V1, b"1\n0\n1\n").is_err(), "less than a block");
        assert!(map(&V1, &block(&"1".repeat(600))).is_err());
    }
}
