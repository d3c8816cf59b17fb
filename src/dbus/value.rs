//! Values as D-Bus marshals them (D-Bus Specification, "Type System", "Marshaling").

use std::fmt;

/// A value that is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number of the type `y`, `b`, `n`, `q`, `i`, `u`, `x`, `t` or `d`, by its bits.
    Fixed(u8, u64),
    /// A string (`s`), object path (`o`) or signature (`g`).
    Text(u8, String),
    /// An array; with the signature of its elements, as it may be empty.
    Array(String, Vec<Value>),
    /// A structure.
    Struct(Vec<Value>),
    /// A value that brings its type along.
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(b's', text.into())
    }

    /// Its signature.
    pub fn signature(&self) -> String {
        match self {
            Value::Fixed(kind, _) | Value::Text(kind, _) => char::from(*kind).to_string(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(parts) => {
                format!("({})", parts.iter().map(Value::signature).collect::<String>())
            }
            Value::Variant(_) => "v".into(),
        }
    }

    /// Appends it to `out`, whose first byte has to be aligned to 8 in the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Fixed(kind, bits) => {
                let size = alignment(*kind);
                pad(out, size);
                out.extend(bits.to_le_bytes().iter().take(size));
            }
            Value::Text(kind, text) => {
                let length = text.len() as u32;
                match kind {
                    b'g' => out.push(length as u8),
                    _ => Value::Fixed(b'u', length.into()).encode(out),
                }
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Array(element, values) => array(element, values, out),
            Value::Struct(parts) => {
                pad(out, 8);
                parts.iter().for_each(|part| part.encode(out));
            }
            Value::Variant(value) => {
                Value::Text(b'g', value.signature()).encode(out);
                value.encode(out);
            }
        }
    }
}

/// As systemd's own tools print it: bytes as a number each, an array in brackets.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Fixed(b'b', bits) => write!(f, "{}", *bits != 0),
            Value::Fixed(b'd', bits) => {
                // Not by std, whose code for that is a hundredth of the binary.
                let number = serde_json::Number::from_f64(f64::from_bits(*bits));
                number.map_or(Ok(()), |number| write!(f, "{number}"))
            }
            Value::Fixed(b'n' | b'i' | b'x', bits) => write!(f, "{}", *bits as i64),
            Value::Fixed(_, u64::MAX) => f.write_str("infinity"),
            Value::Fixed(_, bits) => write!(f, "{bits}"),
            Value::Text(_, text) => f.write_str(text),
            Value::Variant(value) => value.fmt(f),
            Value::Array(_, values) | Value::Struct(values) => {
                let all: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", all.join(", "))
            }
        }
    }
}

/// The length does not count the padding before the first element.
fn array(element: &str, values: &[Value], out: &mut Vec<u8>) {
    pad(out, 4);
    let length_at = out.len();
    out.extend([0; 4]);
    pad(out, element.bytes().next().map_or(1, alignment));
    let start = out.len();
    values.iter().for_each(|value| value.encode(out));
    let length = (out.len() - start) as u32;
    for (byte, value) in out.iter_mut().skip(length_at).zip(length.to_le_bytes()) {
        *byte = value;
    }
}

/// Where a type begins, which is the size of one that is fixed.
fn alignment(kind: u8) -> usize {
    match kind {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// Reads values that were received; `None` where they are not what is asked for.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of a header or body.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    /// A byte (`y`).
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of 32 bits (`u`).
    pub fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string or an object path (`s`, `o`).
    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        self.terminated(length)
    }

    /// A signature (`g`), such as the one before the value of a variant.
    pub fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// The beginning of a structure whose first member is a byte, which is returned.
    pub fn structure(&mut self) -> Option<u8> {
        self.align(8);
        self.byte()
    }
}
