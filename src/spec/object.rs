//! How the configuration is read out of a JSON tree: the macro behind every type in
//! [`config`](super::config), and the one loop that fills any of them.
//!
//! It stands in for serde's derive, which takes an array for a structure, drops unknown members
//! without a word, knows no JSON path, and is code of its own for each of seventy types.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::position;
use super::value::{Name, Value};

/// Declares a structure of the configuration: `"jsonName" field: Type,` for each member.
/// A member may be absent or null, and is then the type's default; `required` stands before
/// those that may not.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$fmeta:meta])* $($required:ident)? $json:literal $field:ident : $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        impl $crate::spec::object::Object for $name {
            fn members(&self) -> &'static [$crate::spec::object::Member] {
                &[$($crate::spec::object::Member {
                    name: $json,
                    required: $crate::spec::object::is_required!($($required)?),
                }),*]
            }

            fn set(
                &mut self,
                index: usize,
                value: &$crate::spec::value::Value<'_>,
                at: &$crate::spec::object::At<'_>,
            ) -> Result<(), $crate::spec::object::Mistake> {
                let mut member = 0;
                $(
                    if index == member {
                        self.$field = $crate::spec::object::Read::read(value, at)?;
                    }
                    member += 1;
                )*
                debug_assert!(index < member);
                Ok(())
            }
        }

        impl $crate::spec::object::Read for $name {
            fn read(
                value: &$crate::spec::value::Value<'_>,
                at: &$crate::spec::object::At<'_>,
            ) -> Result<Self, $crate::spec::object::Mistake> {
                let mut object = $name { $($field: Default::default(),)* };
                $crate::spec::object::fill(&mut object, value, at)?;
                Ok(object)
            }
        }
    };
}

macro_rules! is_required {
    (required) => {
        true
    };
    () => {
        false
    };
}

pub(super) use {is_required, object};

/// A member that an object of the configuration may have.
#[derive(Debug)]
pub struct Member {
    /// Its name in JSON.
    pub name: &'static str,
    /// Whether it has to be there.
    pub required: bool,
}

/// A structure of the configuration while it is being read.
pub trait Object {
    /// What members it may have, in their order.
    fn members(&self) -> &'static [Member];
    /// Reads the member of this number.
    fn set(&mut self, index: usize, value: &Value<'_>, at: &At<'_>) -> Result<(), Mistake>;
}

/// What can be read out of a JSON value.
pub trait Read: Sized {
    /// Reads `value`, which stands at `at`.
    ///
    /// # Errors
    /// It is of another type, or out of range.
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake>;
}

/// Why a JSON text is not what its reader expects, and where.
#[derive(Debug)]
pub struct Mistake {
    /// The JSON path.
    pub path: String,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What is wrong with a member.
#[derive(Debug)]
pub enum Wrong {
    /// It has to be there.
    Missing,
    /// It is given more than once.
    Twice,
    /// It, or its name, holds a NUL character: the kernel would take it for a shorter one.
    Nul,
    /// It is not what these words name.
    NotThis(&'static str),
}

/// Where in the text a value stands: a chain up to the whole.
pub struct At<'a> {
    above: Option<&'a At<'a>>,
    step: Step<'a>,
    unknown: &'a RefCell<Vec<Unknown>>,
}

enum Step<'a> {
    Whole,
    Member(&'a str),
    Element(usize),
}

/// A member that its object does not have.
#[derive(Debug)]
pub struct Unknown {
    /// The address of the name in the text that was read; `None` if it is written with escapes.
    pub address: Option<usize>,
    /// Its name.
    pub name: String,
    /// Its JSON path.
    pub path: String,
    /// The members that the object has.
    pub known: &'static [Member],
}

/// So many unknown members are noted; who has more reads the first ones first.
const NOTED: usize = 64;

impl<'a> At<'a> {
    /// The whole text; members that are not known are noted in `unknown`.
    pub fn whole(unknown: &'a RefCell<Vec<Unknown>>) -> Self {
        At { above: None, step: Step::Whole, unknown }
    }

    fn member(&'a self, name: &'a str) -> Self {
        At { above: Some(self), step: Step::Member(name), unknown: self.unknown }
    }

    fn element(&'a self, index: usize) -> Self {
        At { above: Some(self), step: Step::Element(index), unknown: self.unknown }
    }

    fn path(&self) -> String {
        let above = self.above.map(At::path).unwrap_or_default();
        match self.step {
            Step::Whole => above,
            Step::Member(name) => position::member(&above, name),
            Step::Element(index) => format!("{above}[{index}]"),
        }
    }

    #[cold]
    fn mistake(&self, wrong: Wrong) -> Mistake {
        Mistake { path: self.path(), wrong }
    }

    #[cold]
    fn note_unknown(&self, name: &str, address: Option<usize>, known: &'static [Member]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() < NOTED {
            unknown.push(Unknown { address, name: name.to_string(), path: self.path(), known });
        }
    }
}

/// Reads the members of `value` into `object`.
///
/// # Errors
/// It is no object, or a member is missing, given twice or not what it has to be.
pub fn fill(object: &mut dyn Object, value: &Value<'_>, at: &At<'_>) -> Result<(), Mistake> {
    let Value::Object(entries) = value else {
        return Err(at.mistake(Wrong::NotThis("an object")));
    };
    let known = object.members();
    let mut seen: u64 = 0;
    let mut next = 0;
    for (name, value) in entries {
        let at = at.member(&name.0);
        let Some((index, member)) = find(known, &name.0, next) else {
            at.note_unknown(&name.0, address(name), known);
            continue;
        };
        if seen & (1 << index) != 0 {
            return Err(at.mistake(Wrong::Twice));
        }
        (seen, next) = (seen | 1 << index, index + 1);
        if member.required || !matches!(value, Value::Null) {
            match object.set(index, value, &at) {
                // What is no size is ignored with the rest of it (config.md).
                Err(_) if name.0 == "consoleSize" && !has_terminal(entries) => {}
                set => set?,
            }
        }
    }
    let is_missing = |(index, member): &(usize, &Member)| member.required && seen >> index & 1 == 0;
    match known.iter().enumerate().find(is_missing) {
        Some((_, member)) => Err(at.member(member.name).mistake(Wrong::Missing)),
        None => Ok(()),
    }
}

/// Whether a process has a terminal.
fn has_terminal(process: &[(Name<'_>, Value<'_>)]) -> bool {
    process.iter().any(|(name, value)| name.0 == "terminal" && matches!(value, Value::Bool(true)))
}

/// Where a name stands, if it is borrowed from the text.
fn address(name: &Name<'_>) -> Option<usize> {
    match &name.0 {
        Cow::Borrowed(name) => Some(name.as_ptr().addr()),
        Cow::Owned(_) => None,
    }
}

/// The member of this name. Most texts have them in the order of the specification, so the search
/// begins after the one that was found last.
fn find(known: &'static [Member], name: &str, next: usize) -> Option<(usize, &'static Member)> {
    let after = known.iter().enumerate().skip(next);
    let mut all = after.chain(known.iter().enumerate().take(next));
    all.find(|(_, member)| member.name == name)
}

impl Read for bool {
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
        match value {
            Value::Bool(value) => Ok(*value),
            _ => Err(at.mistake(Wrong::NotThis("true or false"))),
        }
    }
}

impl Read for String {
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
        match value {
            Value::Text(text) if text.contains('\0') => Err(at.mistake(Wrong::Nul)),
            Value::Text(text) => Ok(text.clone().into_owned()),
            _ => Err(at.mistake(Wrong::NotThis("a string"))),
        }
    }
}

/// Integers of a type, with the words for its range.
macro_rules! integer {
    ($($ty:ident $words:literal,)*) => {$(
        impl Read for $ty {
            fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
                let number = match value {
                    Value::Unsigned(number) => $ty::try_from(*number).ok(),
                    Value::Negative(number) => $ty::try_from(*number).ok(),
                    _ => None,
                };
                number.ok_or_else(|| at.mistake(Wrong::NotThis($words)))
            }
        }
    )*};
}

integer! {
    u16 "an integer from 0 to 65535",
    u32 "an integer from 0 to 4294967295",
    u64 "an integer from 0 to 18446744073709551615",
    i32 "an integer from -2147483648 to 2147483647",
    i64 "an integer from -9223372036854775808 to 9223372036854775807",
}

impl<T: Read> Read for Option<T> {
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
        T::read(value, at).map(Some)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
        let Value::Array(elements) = value else {
            return Err(at.mistake(Wrong::NotThis("an array")));
        };
        let elements = elements.iter().enumerate();
        elements.map(|(index, value)| T::read(value, &at.element(index))).collect()
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: &Value<'_>, at: &At<'_>) -> Result<Self, Mistake> {
        let Value::Object(members) = value else {
            return Err(at.mistake(Wrong::NotThis("an object")));
        };
        let read = |(name, value): &(Name<'_>, Value<'_>)| {
            let at = at.member(&name.0);
            match name.0.contains('\0') {
                true => Err(at.mistake(Wrong::Nul)),
                false => Ok((name.0.to_string(), T::read(value, &at)?)),
            }
        };
        members.iter().map(read).collect()
    }
}
