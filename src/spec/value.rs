//! A JSON text as a tree that borrows its strings from the text: parsed once by serde_json, then
//! read into the types by [`object`](super::object).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value (RFC 8259).
#[derive(Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer from 0.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// What nothing in the configuration takes: any other number, and what [`tolerant`] is for.
    Other,
    /// A string; borrowed unless it is written with escapes.
    Text(Cow<'a, str>),
    /// The elements of an array.
    Array(Vec<Value<'a>>),
    /// The members of an object in the order of the text, each as often as it is given.
    Object(Vec<(Name<'a>, Value<'a>)>),
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Any)
    }
}

/// The tree of a text with values that a tree cannot hold: nested too deeply, numbers out of range,
/// halves of surrogate pairs. They are not wrong where nothing reads them. `None`: it is not JSON.
pub fn tolerant(text: &str) -> Option<Value<'_>> {
    /// Deeper than anything in the configuration.
    const LEVELS: usize = 16;
    of_raw(serde_json::from_str(text).ok()?, LEVELS)
}

/// What a value holds down to so many levels. To find its end does not need the stack.
fn of_raw(raw: &RawValue, levels: usize) -> Option<Value<'_>> {
    let text = raw.get();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let below = |raw| of_raw(raw, levels.saturating_sub(1));
    match text.as_bytes().first()? {
        b'[' if levels > 0 => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            elements.into_iter().map(below).collect::<Option<_>>().map(Value::Array)
        }
        b'{' if levels > 0 => {
            let members = members(raw).ok()?.into_iter();
            let member = |(name, raw)| Some((name, below(raw)?));
            members.map(member).collect::<Option<_>>().map(Value::Object)
        }
        _ => Some(Value::Other),
    }
}

/// The members of an object, each as often as it is given.
pub fn members(object: &RawValue) -> serde_json::Result<Vec<(Name<'_>, &RawValue)>> {
    serde_json::Deserializer::from_str(object.get()).deserialize_map(Members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Negative(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

/// A member's name, borrowed from the text unless it is written with escapes.
#[derive(Debug)]
pub struct Name<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}
