//! Values as people write them: GVariant's text format, without dictionaries and byte strings
//! (GLib manual, "GVariant Text Format").

use super::Value;

/// How deep arrays and structures may nest.
const DEPTH: u32 = 8;
/// The names of types that may stand before a value, and their signatures.
const NAMES: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Reads one value, such as `true`, `uint64 5`, `'text'`, `['a', 'b']` or `@as []`. A number without
/// a type is an `i` or, with a point, a `d`.
pub fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value("", 0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes `wanted` if it comes next.
    fn skip(&mut self, wanted: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes what comes before the first character that is not `part` of it.
    fn word(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    /// A value of the type `kind`, or of any if that is empty.
    fn value(&mut self, kind: &str, depth: u32) -> Option<Value> {
        self.skip_space();
        match self.rest.chars().next().filter(|_| depth < DEPTH)? {
            '@' => {
                self.skip('@');
                let named = self.word(|c| c.is_ascii_alphabetic() || "()".contains(c));
                self.typed(named, kind, depth)
            }
            quote @ ('\'' | '"') => {
                let text = self.string(quote)?;
                let kind = if kind.is_empty() { "s" } else { kind };
                matches!(kind, "s" | "o" | "g")
                    .then(|| Value::Text(*kind.as_bytes().first().unwrap_or(&b's'), text))
            }
            '[' => self.array(kind, depth),
            '(' => self.structure(kind, depth),
            '<' => {
                self.skip('<');
                let value = Value::Variant(Box::new(self.value("", depth + 1)?));
                (self.skip('>') && matches!(kind, "" | "v")).then_some(value)
            }
            c if c.is_ascii_alphabetic() => match self.word(|c| c.is_ascii_alphanumeric()) {
                word @ ("true" | "false") => {
                    matches!(kind, "" | "b").then(|| Value::Fixed(b'b', (word == "true").into()))
                }
                word => {
                    let (_, named) = NAMES.iter().find(|(name, _)| *name == word)?;
                    self.typed(named, kind, depth)
                }
            },
            _ => {
                let word = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                number(word, kind)
            }
        }
    }

    /// The value behind the name of a type, which is not to contradict one that is asked for.
    fn typed(&mut self, named: &str, kind: &str, depth: u32) -> Option<Value> {
        let fits = !named.is_empty() && (kind.is_empty() || kind == named);
        fits.then(|| self.value(named, depth + 1)).flatten()
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        chars.next()?;
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => text.push(escaped(&mut chars)?),
                // The protocol has no such byte in a string.
                '\0' => return None,
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn array(&mut self, kind: &str, depth: u32) -> Option<Value> {
        self.skip('[');
        let mut element = match kind {
            "" => String::new(),
            _ => kind.strip_prefix('a')?.to_owned(),
        };
        let mut values = Vec::new();
        while !self.skip(']') {
            if !values.is_empty() && !self.skip(',') {
                return None;
            }
            let value = self.value(&element, depth + 1)?;
            element = value.signature();
            values.push(value);
        }
        (!element.is_empty()).then_some(Value::Array(element, values))
    }

    fn structure(&mut self, kind: &str, depth: u32) -> Option<Value> {
        self.skip('(');
        let mut kinds = match kind {
            "" => "",
            _ => kind.strip_prefix('(')?.strip_suffix(')')?,
        };
        let mut parts = Vec::new();
        while !self.skip(')') {
            if !parts.is_empty() && !self.skip(',') {
                return None;
            }
            let (first, rest) = kinds.split_at_checked(first_type(kinds))?;
            kinds = rest;
            parts.push(self.value(first, depth + 1)?);
        }
        let value = Value::Struct(parts);
        (kind.is_empty() || kind == value.signature()).then_some(value)
    }
}

/// How long the first type of a signature is.
fn first_type(signature: &str) -> usize {
    let mut open = 0;
    let end = signature.bytes().position(|byte| {
        match byte {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        open <= 0 && byte != b'a'
    });
    end.map_or(signature.len(), |end| end + 1)
}

/// The character that is written as what follows a backslash.
fn escaped(chars: &mut std::str::Chars) -> Option<char> {
    Some(match chars.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'u' => unicode(chars, 4)?,
        'U' => unicode(chars, 8)?,
        other => other,
    })
}

/// The character with the number that the next `count` digits are; never 0, as above.
fn unicode(chars: &mut std::str::Chars, count: usize) -> Option<char> {
    let (digits, rest) = chars.as_str().split_at_checked(count)?;
    *chars = rest.chars();
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, 16).ok().filter(|number| is_hex && *number != 0)?;
    char::from_u32(number)
}

/// A number of the type `kind`, if it has room for it.
fn number(word: &str, kind: &str) -> Option<Value> {
    let is_whole = word.starts_with("0x") || !word.contains(['.', 'e']);
    let kind = match (kind, is_whole) {
        ("", true) => b'i',
        ("", false) => b'd',
        (kind, _) => *kind.as_bytes().first().filter(|_| kind.len() == 1)?,
    };
    if kind == b'd' {
        // Not by std, see `Value`. JSON wants a digit on both sides of the point.
        let word = word.strip_prefix('+').unwrap_or(word);
        let (sign, digits) = word.strip_prefix('-').map_or(("", word), |digits| ("-", digits));
        let lead = if digits.starts_with('.') { "0" } else { "" };
        let end = if digits.ends_with('.') { "0" } else { "" };
        let value: f64 = serde_json::from_str(&format!("{sign}{lead}{digits}{end}")).ok()?;
        return Some(Value::Fixed(b'd', value.to_bits()));
    }
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None if word.starts_with('-') => word.parse::<i64>().ok()? as u64,
        None => word.parse().ok()?,
    };
    let negative = word.starts_with('-');
    let most = match kind {
        b'y' => u8::MAX.into(),
        b'n' => i16::MAX as u64,
        b'q' => u16::MAX.into(),
        b'i' => i32::MAX as u64,
        b'u' => u32::MAX.into(),
        b'x' => i64::MAX as u64,
        b't' => u64::MAX,
        _ => return None,
    };
    let fits = match negative {
        true => "nix".contains(char::from(kind)) && !value <= most,
        false => value <= most,
    };
    fits.then_some(Value::Fixed(kind, value))
}
