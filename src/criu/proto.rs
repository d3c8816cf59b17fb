//! The part of Protocol Buffers that criu's messages need (protobuf.dev, "Encoding"): numbers as
//! varints, and texts or messages with their length before them.

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a number: int32, uint32, bool or enum.
    pub fn number(&mut self, field: u32, value: i64) {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
    }

    /// Adds a string.
    pub fn text(&mut self, field: u32, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    /// Adds a message.
    pub fn message(&mut self, field: u32, message: &Message) {
        self.text(field, &message.0);
    }

    /// Adds a message of two strings, in the fields 1 and 2.
    pub fn pair(&mut self, field: u32, first: &str, second: &str) {
        let mut pair = Message::default();
        pair.text(1, first);
        pair.text(2, second);
        self.message(field, &pair);
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A varint.
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message in their order; ends early where the bytes are not one.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((field, value))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf.dev.
    #[test]
    fn bytes_are_as_documented() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        let mut outer = Message::default();
        outer.message(3, &message);
        assert_eq!(&message.bytes()[..3], [0x08, 0x96, 0x01]);
        assert_eq!(&message.bytes()[3..], b"\x12\x07testing");
        assert_eq!(&outer.bytes()[..2], [0x1a, 12]);
        let mut negative = Message::default();
        negative.number(1, -1);
        assert_eq!(negative.bytes().len(), 11);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::default();
        message.number(24, 1);
        message.text(300, "x");
        message.number(2, -2);
        let fields: Vec<_> = Fields(message.bytes()).collect();
        let minus = Value::Number(-2i64 as u64);
        assert_eq!(fields, [(24, Value::Number(1)), (300, Value::Bytes(b"x")), (2, minus)]);
    }

    #[test]
    fn broken_bytes_end_it() {
        for bytes in [&b"\x12\x05ab"[..], b"\x08", b"\x0b\x01", &[0xff; 12]] {
            assert_eq!(Fields(bytes).count(), 0, "{bytes:?}");
        }
    }
}
