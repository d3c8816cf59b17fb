//! How an object of the configuration is read: the macro behind every type in
//! [`config`](super::config).
//!
//! It stands in for serde's derive, which takes an array for a structure, and which drops
//! unknown members without a word; here they are noted, at no cost to a file that has none.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

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

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                /// One value, so that giving up in the middle is one call and not one for
                /// each member.
                #[derive(Default)]
                struct Found { $($field: Option<$ty>,)* }

                struct Members;
                impl<'de> serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A>(self, mut map: A) -> Result<$name, A::Error>
                    where
                        A: serde::de::MapAccess<'de>,
                    {
                        const KNOWN: &[&str] = &[$($json),*];
                        let mut found = Found::default();
                        while let Some(key) = map.next_key::<$crate::spec::object::Key<'de>>()? {
                            match key.name() {
                                $($json => {
                                    if found.$field.is_some() {
                                        return Err(serde::de::Error::duplicate_field($json));
                                    }
                                    found.$field =
                                        $crate::spec::object::member!(map, $ty, $($required)?);
                                })*
                                _ => {
                                    key.unknown(KNOWN);
                                    $crate::spec::object::value::<A, serde::de::IgnoredAny>(&mut map)?;
                                }
                            }
                        }
                        $($crate::spec::object::present!(found.$field, $json, $($required)?);)*
                        Ok($name { $($field: found.$field.unwrap_or_default(),)* })
                    }
                }
                d.deserialize_map(Members)
            }
        }
    };
}

/// The value of one member: null stands for absent unless the member is required.
macro_rules! member {
    ($map:ident, $ty:ty, required) => {
        Some($crate::spec::object::value::<A, $ty>(&mut $map)?)
    };
    ($map:ident, $ty:ty,) => {
        $crate::spec::object::value::<A, Option<$ty>>(&mut $map)?
    };
}

/// Reads one value. Not inlined: one copy for each type in place of one for each member is less
/// code, and no slower.
#[inline(never)]
pub(super) fn value<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
) -> Result<T, A::Error> {
    map.next_value()
}

/// Refuses the absence of a required member.
macro_rules! present {
    ($found:ident.$field:ident, $json:literal, required) => {
        if $found.$field.is_none() {
            return Err(serde::de::Error::missing_field($json));
        }
    };
    ($found:ident.$field:ident, $json:literal,) => {};
}

pub(super) use {member, object, present};

/// A member's name, borrowed from the text unless it is written with escapes.
pub struct Key<'a>(Cow<'a, str>);

/// A member that its object does not have.
#[derive(Debug)]
pub(super) struct Unknown {
    /// The address of the name in the text that was read; `None` if it is written with escapes.
    pub address: Option<usize>,
    /// The name as written in the file.
    pub name: String,
    /// The names that the object has.
    pub known: &'static [&'static str],
}

/// So many unknown members are noted; who has more reads the first ones first.
const NOTED: usize = 64;

thread_local! {
    // serde hands no context down to `visit_map`, so the notes wait here for the reader.
    static UNKNOWN: RefCell<Vec<Unknown>> = const { RefCell::new(Vec::new()) };
}

/// Takes the unknown members noted on this thread since the last call.
pub(super) fn take_unknown() -> Vec<Unknown> {
    UNKNOWN.with_borrow_mut(std::mem::take)
}

impl<'a> Key<'a> {
    /// The name itself.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Notes that the object, whose members are `known`, has no member of this name.
    #[cold]
    pub fn unknown(&self, known: &'static [&'static str]) {
        let address = match &self.0 {
            Cow::Borrowed(name) => Some(name.as_ptr().addr()),
            Cow::Owned(_) => None,
        };
        UNKNOWN.with_borrow_mut(|list| {
            if list.len() < NOTED {
                list.push(Unknown { address, name: self.0.to_string(), known });
            }
        });
    }

    /// The name, with the text's lifetime where it has one.
    pub fn into_cow(self) -> Cow<'a, str> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(name.to_owned())))
    }
}
