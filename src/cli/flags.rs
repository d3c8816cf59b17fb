//! Reads an argument list by a table of options.
//!
//! The table is the one definition: this parser, the help texts, the manual pages and the
//! completions are all made from it. clap renders those when tests/manual.rs is run, and has no
//! part in the program: callers written for runc use single-dash long options (`-no-subreaper`),
//! options after the container's id and values that begin with a dash, so the table has to be
//! walked before any parser of clap's kind could start, and after that walk nothing is left to
//! parse.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name after the dashes.
    pub long: &'static str,
    /// The one-letter name.
    pub short: Option<char>,
    /// What its value is called in help texts; a switch has none.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// A positional argument of a command.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// The name in usage lines.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it takes all that follows.
    pub many: bool,
    /// One line of help.
    pub help: &'static str,
}

/// One command of the table.
#[derive(Debug)]
pub struct Verb {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// What the manual page and `--help` say beyond `about`.
    pub details: &'static str,
    /// Positional arguments in order.
    pub args: &'static [Arg],
    /// Its options, in groups that commands share.
    pub flags: &'static [&'static [Flag]],
    /// Whether everything after the first positional argument belongs to another program.
    pub stops: bool,
    /// The text of `tare COMMAND --help`, made from the rest by tests/manual.rs.
    pub help: &'static str,
}

/// What was given, by the table.
#[derive(Debug, Default)]
pub struct Matches {
    flags: Vec<(&'static Flag, Option<OsString>)>,
    /// Positional arguments in order.
    pub args: Vec<OsString>,
    /// Whether `-h` or `--help` was met.
    pub help: bool,
}

/// A switch without letter.
pub const fn switch(long: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, value: None, help }
}

/// An option with a value, without letter.
pub const fn option(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, value: Some(value), help }
}

impl Flag {
    /// The same option with a letter.
    pub const fn letter(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }
}

/// Where options end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At `--` only.
    End,
    /// At the first positional argument.
    First,
}

/// Reads `args` by the groups of options; `who` is named in errors.
///
/// # Errors
/// Unknown options, a value that is missing, a value for a switch that is not true or false.
pub fn read(
    args: impl Iterator<Item = OsString>,
    groups: &[&'static [Flag]],
    until: Until,
    who: &str,
) -> Result<Matches> {
    let mut args = args;
    let mut found = Matches::default();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            found.args.extend(args);
            break;
        }
        if bytes.len() < 2 || bytes.first() != Some(&b'-') {
            found.args.push(arg);
            if until == Until::First {
                found.args.extend(args);
                break;
            }
            continue;
        }
        found.option(&arg, groups, &mut args, who)?;
    }
    Ok(found)
}

impl Matches {
    /// Takes one argument that begins with a dash, and the value behind it.
    fn option(
        &mut self,
        arg: &OsStr,
        groups: &[&'static [Flag]],
        rest: &mut impl Iterator<Item = OsString>,
        who: &str,
    ) -> Result<()> {
        let (name, inline) = split(arg);
        if name == b"h" || name == b"help" {
            self.help = true;
            return Ok(());
        }
        if let Some(flag) = lookup(groups, name) {
            let value = value_of(flag, inline, rest)?;
            self.flags.push((flag, value));
            return Ok(());
        }
        self.letters(arg, groups, rest).ok_or_else(|| unknown(arg, who))?
    }

    /// Takes letters that were written together (`-it`, `-eK=V`); `None`: one is unknown.
    fn letters(
        &mut self,
        arg: &OsStr,
        groups: &[&'static [Flag]],
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Option<Result<()>> {
        let mut letters = arg.as_bytes().strip_prefix(b"-")?;
        while let Some((letter, more)) = letters.split_first() {
            let flag = by_letter(groups, *letter)?;
            if flag.value.is_some() {
                let attached = (!more.is_empty()).then(|| OsString::from_vec(more.to_vec()));
                let value = value_of(flag, attached, rest);
                return Some(value.map(|value| self.flags.push((flag, value))));
            }
            self.flags.push((flag, None));
            letters = more;
        }
        Some(Ok(()))
    }

    fn last(&self, long: &str) -> Option<&Option<OsString>> {
        self.flags.iter().rev().find(|(flag, _)| flag.long == long).map(|(_, value)| value)
    }

    /// Whether a switch is on.
    pub fn on(&self, long: &str) -> bool {
        self.last(long).is_some_and(|value| value.as_deref() != Some(OsStr::new("false")))
    }

    /// Whether a switch is on, if it is given at all.
    pub fn given(&self, long: &str) -> Option<bool> {
        self.last(long).map(|_| self.on(long))
    }

    /// The last value of an option as it was given, the empty one too.
    pub fn value(&self, long: &str) -> Option<&OsString> {
        self.last(long)?.as_ref()
    }

    /// The last value of an option, as a path; an empty one is none, as in runc.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.value(long).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The last value of an option, as text.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn text(&self, long: &str) -> Result<Option<String>> {
        self.last(long).and_then(Option::as_ref).map(|value| utf8(long, value)).transpose()
    }

    /// All values of an option, as texts, in order.
    ///
    /// # Errors
    /// A value is not UTF-8.
    pub fn texts(&self, long: &str) -> Result<Vec<String>> {
        let given = self.flags.iter().filter(|(flag, _)| flag.long == long);
        given.filter_map(|(_, value)| value.as_ref()).map(|value| utf8(long, value)).collect()
    }

    /// The last value of an option, as a number.
    ///
    /// # Errors
    /// The value is not a number of that type.
    pub fn number<T: FromStr>(&self, long: &str) -> Result<Option<T>> {
        self.text(long)?.map(|text| number(long, &text)).transpose()
    }

    /// All values of an option, as numbers.
    ///
    /// # Errors
    /// A value is not a number of that type.
    pub fn numbers<T: FromStr>(&self, long: &str) -> Result<Vec<T>> {
        self.texts(long)?.iter().map(|text| number(long, text)).collect()
    }
}

fn number<T: FromStr>(long: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| invalid(long, text).hint("it is not a number, or out of range"))
}

/// The refusal of a value, in the words of runc's parser.
pub fn invalid(long: &str, text: &str) -> Error {
    Error::new(format!("invalid value {text:?} for flag -{long}: parse error"))
}

fn utf8(long: &str, value: &OsStr) -> Result<String> {
    let text = value.to_str().map(String::from);
    // It may be a secret of `--env`.
    text.ok_or_else(|| Error::new(format!("the value of --{long} is not UTF-8")))
}

fn unknown(arg: &OsStr, who: &str) -> Error {
    let name = OsString::from_vec(split(arg).0.to_vec());
    Error::new(format!("flag provided but not defined: -{}", name.to_string_lossy()))
        .hint(format!("{who} --help lists its options"))
}

/// Splits `--name=value` and `-name=value`; the dashes are dropped.
fn split(arg: &OsStr) -> (&[u8], Option<OsString>) {
    let bytes = arg.as_bytes();
    let bytes = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or(bytes);
    let mut parts = bytes.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or(bytes);
    (name, parts.next().map(|value| OsString::from_vec(value.to_vec())))
}

fn lookup(groups: &[&'static [Flag]], name: &[u8]) -> Option<&'static Flag> {
    let all = || groups.iter().copied().flatten();
    all().find(|flag| flag.long.as_bytes() == name).or_else(|| match name {
        [letter] => by_letter(groups, *letter),
        _ => None,
    })
}

fn by_letter(groups: &[&'static [Flag]], letter: u8) -> Option<&'static Flag> {
    groups.iter().copied().flatten().find(|flag| flag.short == Some(char::from(letter)))
}

/// The value of an option: the one behind `=`, else the next argument whatever it begins with.
fn value_of(
    flag: &'static Flag,
    inline: Option<OsString>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<Option<OsString>> {
    match (flag.value, inline) {
        (Some(_), Some(value)) => Ok(Some(value)),
        (Some(_), None) => match rest.next() {
            Some(value) => Ok(Some(value)),
            None => Err(Error::new(format!("flag needs an argument: -{}", flag.long))),
        },
        (None, None) => Ok(None),
        (None, Some(value)) => match truth(&value) {
            Some(on) => Ok(Some(if on { "true" } else { "false" }.into())),
            None => {
                let why =
                    format!("invalid boolean value {value:?} for -{}: parse error", flag.long);
                Err(Error::new(why).hint("a switch takes no value, or true or false"))
            }
        },
    }
}

/// A truth value in the spellings that runc's parser takes.
pub fn truth(text: &OsStr) -> Option<bool> {
    match text.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[&[Flag]] = &[&[
        option("bundle", "DIR", "").letter('b'),
        switch("detach", "").letter('d'),
        switch("tty", "").letter('t'),
        option("env", "K=V", "").letter('e'),
        switch("no-subreaper", ""),
        option("cpu-quota", "N", ""),
    ]];

    fn parse(args: &[&str], until: Until) -> Result<Matches> {
        read(args.iter().map(OsString::from), FLAGS, until, "x")
    }

    fn message(args: &[&str]) -> String {
        parse(args, Until::End).map(|_| String::new()).unwrap_or_else(|err| err.message())
    }

    #[test]
    fn takes_every_spelling() {
        for args in [
            &["--bundle", "/b", "id"][..],
            &["-bundle", "/b", "id"],
            &["--bundle=/b", "id"],
            &["-bundle=/b", "id"],
            &["-b", "/b", "id"],
            &["-b=/b", "id"],
            &["-b/b", "id"],
            &["id", "-b", "/b"],
        ] {
            let found = parse(args, Until::End).unwrap();
            assert_eq!(found.path("bundle"), Some("/b".into()), "{args:?}");
            assert_eq!(found.args, ["id"], "{args:?}");
        }
    }

    #[test]
    fn switches_may_stand_together_or_carry_a_value() {
        let found = parse(&["-dt", "-eA=1", "--env", "B=2", "id"], Until::End).unwrap();
        assert!(found.on("detach") && found.on("tty") && !found.on("no-subreaper"));
        assert_eq!(found.texts("env").unwrap(), ["A=1", "B=2"]);
        for value in ["0", "f", "F", "false", "FALSE", "False"] {
            let arg = format!("--detach={value}");
            assert!(!parse(&[&arg], Until::End).unwrap().on("detach"), "{arg}");
        }
        for value in ["1", "t", "T", "true", "TRUE", "True"] {
            let arg = format!("-d={value}");
            assert!(parse(&[&arg], Until::End).unwrap().on("detach"), "{arg}");
        }
        assert!(parse(&["-no-subreaper"], Until::End).unwrap().on("no-subreaper"));
    }

    #[test]
    fn values_may_begin_with_a_dash() {
        let found = parse(&["id", "--cpu-quota", "-1"], Until::End).unwrap();
        assert_eq!(found.number("cpu-quota").unwrap(), Some(-1));
    }

    #[test]
    fn stops_where_told() {
        let found = parse(&["-d", "id", "ls", "-t", "--", "x"], Until::First).unwrap();
        assert_eq!(found.args, ["id", "ls", "-t", "--", "x"]);
        let found = parse(&["id", "--", "-t"], Until::End).unwrap();
        assert_eq!(found.args, ["id", "-t"]);
    }

    #[test]
    fn refuses_with_words() {
        assert_eq!(message(&["--bogus"]), "flag provided but not defined: -bogus");
        assert_eq!(message(&["-dx"]), "flag provided but not defined: -dx");
        assert_eq!(message(&["--bundle"]), "flag needs an argument: -bundle");
        assert_eq!(
            message(&["--detach=maybe"]),
            "invalid boolean value \"maybe\" for -detach: parse error"
        );
        let found = parse(&["--cpu-quota", "many"], Until::End).unwrap();
        let err = found.number::<i64>("cpu-quota").unwrap_err();
        assert_eq!(err.message(), "invalid value \"many\" for flag -cpu-quota: parse error");
    }
}
