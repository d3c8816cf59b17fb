//! Where in a JSON text a value stands, by its path.
//!
//! Only for messages: each step down parses the value again. The offsets are differences of
//! addresses, as serde_json lends every value's text out of the whole.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::value::{self, Name};
use crate::error::printable;

/// One step of a JSON path.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Member(Cow<'a, str>),
    Index(usize),
}

/// A value and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where the value begins, in bytes from the beginning of the text.
    pub offset: usize,
    /// The value as written; `None` if the path leads to nothing, in which case `offset` is that
    /// of the innermost object or array that is there.
    pub value: Option<&'a str>,
}

/// Finds the value at `path` (`mounts[2].options[0]`, `linux.sysctl["net.ipv4.ip_forward"]`).
/// `None` if the text is not JSON or the path is not one.
pub fn find<'a>(text: &'a str, path: &str) -> Option<Found<'a>> {
    let mut here: &'a RawValue = serde_json::from_str(text).ok()?;
    for step in steps(path)? {
        // The last of several members of one name: it is the one that counts.
        match children(here).into_iter().rev().find(|(name, _)| *name == step) {
            Some((_, value)) => here = value,
            None => return Some(Found { offset: offset(text, here), value: None }),
        }
    }
    Some(Found { offset: offset(text, here), value: Some(here.get()) })
}

/// The path of the member `name` of the object at `path`: `path.name`, or `path["na.me"]` for
/// a name that is not a plain word.
pub fn member(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match (plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{}]", serde_json::to_string(name).unwrap_or_default()),
    }
}

/// Line and column, both from 1, of the byte at `offset`; the column counts characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before.get(start..).unwrap_or_default().chars().count() + 1)
}

/// A value on one line for people: white space as single blanks, at most 60 characters, nothing
/// that a terminal would obey.
pub fn shortened(value: &str) -> String {
    const LONGEST: usize = 60;
    let words = value.split_ascii_whitespace();
    let blanks = words.enumerate().flat_map(|(i, word)| [if i == 0 { "" } else { " " }, word]);
    let mut chars = blanks.flat_map(str::chars);
    let mut short = printable(&chars.by_ref().take(LONGEST).collect::<String>());
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// Where `value`, which was lent out of `text`, begins.
fn offset(text: &str, value: &RawValue) -> usize {
    value.get().as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The members or elements of a value, in order; none for a scalar.
fn children(value: &RawValue) -> Vec<(Step<'_>, &RawValue)> {
    if value.get().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        return elements.into_iter().enumerate().map(|(i, v)| (Step::Index(i), v)).collect();
    }
    let members = value::members(value).unwrap_or_default().into_iter();
    members.map(|(Name(name), value)| (Step::Member(name), value)).collect()
}

/// Takes a path apart; `None` if it is not one.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('[') {
            Some(quoted) if quoted.starts_with('"') => quoted_name(quoted)?,
            Some(index) => {
                let (number, after) = index.split_once(']')?;
                (Step::Index(number.parse().ok()?), after)
            }
            None => {
                let plain = rest.strip_prefix('.').unwrap_or(rest);
                let (name, after) = plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()));
                (Step::Member(Cow::Borrowed(name)), after)
            }
        };
        steps.push(step);
        rest = after;
    }
    Some(steps)
}

/// The name of `"name"]...`, written as a JSON string, and what follows the bracket.
fn quoted_name(text: &str) -> Option<(Step<'_>, &str)> {
    let mut names = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = names.next()?.ok()?;
    let after = text.get(names.byte_offset()..)?.strip_prefix(']')?;
    Some((Step::Member(Cow::Owned(name)), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "{\n  \"é\": [1, {\"a.b\": \"x\"}],\n  \"\\u0061\": true, \"a\": [[], 12]\n}";

    fn at(path: &str) -> ((usize, usize), Option<&'static str>) {
        let found = find(TEXT, path).unwrap();
        (line_column(TEXT, found.offset), found.value)
    }

    #[test]
    fn finds_values() {
        assert_eq!(at("é[0]"), ((2, 9), Some("1")));
        assert_eq!(at("é[1][\"a.b\"]"), ((2, 20), Some("\"x\"")));
        assert_eq!(at(""), ((1, 1), Some(TEXT)));
    }

    #[test]
    fn the_last_of_duplicates_counts_and_escapes_are_names() {
        assert_eq!(at("a[1]"), ((3, 29), Some("12")));
        assert_eq!(find(r#"{"\u0062": 1}"#, "b").unwrap().value, Some("1"));
    }

    #[test]
    fn what_is_absent_is_where_it_should_be() {
        assert_eq!(at("é[1].c"), ((2, 12), None));
        assert_eq!(at("é[7].c"), ((2, 8), None));
        assert_eq!(find("{", "a"), None);
        assert_eq!(find("{}", "a[x]"), None);
    }

    #[test]
    fn members_with_dots_are_quoted_and_found_again() {
        let path = member("linux.sysctl", "net.\"odd\".x");
        assert_eq!(path, r#"linux.sysctl["net.\"odd\".x"]"#);
        let text = r#"{"linux":{"sysctl":{"net.\"odd\".x":"1"}}}"#;
        assert_eq!(find(text, &path).unwrap().value, Some("\"1\""));
    }

    #[test]
    fn shortened_values_are_one_harmless_line() {
        assert_eq!(shortened("{\n\t\"a\":  1\n}"), "{ \"a\": 1 }");
        assert_eq!(shortened("\"\u{9b}31m\u{202e}\""), "\"\\u{9b}31m\\u{202e}\"");
        assert_eq!(shortened(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
    }
}
