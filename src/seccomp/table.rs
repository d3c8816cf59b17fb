//! System call names and numbers.
//!
//! The tables are text, one call per line: the name, then its number on each architecture of the
//! family, `-` where the call does not exist. Families with `socketcall` and `ipc` have one more
//! column: the call's number inside the first, or 100 more than its number inside the second.
//! Names that only other families have are there without numbers, to be told from misspelt ones.
//! The text is what a lookup reads; a hash index into it is computed by the compiler, so that
//! nothing is parsed or relocated when a program starts.
//! Sources: the kernel's `unistd.h` of each architecture, `linux/net.h`, `linux/ipc.h`.

/// Slots of an index: a power of two, about twice the number of names in the longest table.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;

/// Columns of the widest table.
const COLUMNS: usize = 4;

/// The calls of one family of architectures.
pub(super) struct Table {
    text: &'static [u8],
    /// Offset of a line in `text`, found by the hash of its name.
    slots: [u16; SLOTS],
}

/// The numbers of one call, by the family's column.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Numbers([Option<u32>; COLUMNS]);

impl Numbers {
    /// The call's number on the architecture of this column, if it exists there.
    pub(super) fn on(&self, column: usize) -> Option<u32> {
        self.0.get(column).copied().flatten()
    }
}

impl Table {
    /// Indexes a table; evaluated at compile time, where a name too many is a build failure.
    pub(super) const fn new(text: &'static str) -> Self {
        let text = text.as_bytes();
        assert!(text.len() < EMPTY as usize);
        let mut slots = [EMPTY; SLOTS];
        let mut line = 0;
        while line < text.len() {
            let end = find(text, line, b' ');
            let mut slot = hash(text, line, end) % SLOTS;
            while slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = line as u16;
            line = find(text, end, b'\n') + 1;
        }
        Table { text, slots }
    }

    /// The numbers of the call `name`, or `None` if no machine has it.
    pub(super) fn lookup(&self, name: &str) -> Option<Numbers> {
        let name = name.as_bytes();
        let mut slot = hash(name, 0, name.len()) % SLOTS;
        loop {
            let line = *self.slots.get(slot).filter(|line| **line != EMPTY)?;
            let rest = self.text.get(line as usize..)?;
            match rest.strip_prefix(name) {
                Some([b' ', numbers @ ..]) => return Some(parse(numbers)),
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }

    /// All names, for tests.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let text = std::str::from_utf8(self.text).unwrap_or_default();
        text.lines().filter_map(|line| line.split(' ').next())
    }
}

/// The numbers that stand in the rest of a line.
fn parse(line: &[u8]) -> Numbers {
    let mut numbers = Numbers::default();
    let mut column = numbers.0.iter_mut();
    let mut field = column.next();
    for byte in line {
        match (byte, &mut field) {
            (b'0'..=b'9', Some(number)) => {
                **number = Some(number.unwrap_or(0) * 10 + u32::from(byte - b'0'));
            }
            (b' ', _) => field = column.next(),
            (b'\n', _) => break,
            _ => {}
        }
    }
    numbers
}

/// FNV-1a over `bytes[from..to]`, the high half folded in.
const fn hash(bytes: &[u8], mut from: usize, to: usize) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    while from < to {
        hash = (hash ^ bytes[from] as u32).wrapping_mul(0x0100_0193);
        from += 1;
    }
    (hash ^ (hash >> 16)) as usize
}

/// Where `byte` stands next; the end of the text counts as a line's end.
const fn find(text: &[u8], mut from: usize, byte: u8) -> usize {
    while from < text.len() && text[from] != byte {
        from += 1;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Table = Table::new("read 0 3 0\nwaitpid - 7 -\nioctl 16 54 514\n");

    #[test]
    fn finds_names_and_columns() {
        assert_eq!(SMALL.lookup("read"), Some(Numbers([Some(0), Some(3), Some(0), None])));
        assert_eq!(SMALL.lookup("waitpid"), Some(Numbers([None, Some(7), None, None])));
        assert_eq!(SMALL.lookup("ioctl").and_then(|n| n.on(2)), Some(514));
        assert_eq!(SMALL.lookup("ioctl").and_then(|n| n.on(3)), None);
    }

    #[test]
    fn refuses_parts_of_names() {
        for name in ["", "rea", "reads", "read 0", "16", "-", "\n"] {
            assert_eq!(SMALL.lookup(name), None, "{name:?}");
        }
    }
}
