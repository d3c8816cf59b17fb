//! The one error type of both programs.
//!
//! An [`Error`] says once what was being done, to what, where in `config.json` the order came
//! from, what the kernel answered, and what to do about it. [`Error::message`] is the one line
//! that engines read; [`Error::details`] are the lines for people.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, with everything a person needs to act on it. See the module's documentation.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug, Default)]
struct Inner {
    doing: String,
    errno: Option<i32>,
    at: Option<String>,
    place: Option<String>,
    kernel: Option<String>,
    hint: Option<Cow<'static, str>>,
    code: Option<i32>,
}

impl Error {
    /// A failure without an errno: `doing` is the whole first line.
    pub fn new(doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { doing: doing.into(), ..Inner::default() }))
    }

    /// A failed system call: `doing` says what was tried, the errno's words are appended.
    pub fn sys(doing: impl Into<String>, errno: Errno) -> Self {
        Error::new(doing).with_errno(errno as i32)
    }

    /// A failed operation of the standard library; its errno is kept where it has one.
    pub fn io(doing: impl Into<String>, err: &std::io::Error) -> Self {
        match err.raw_os_error() {
            Some(code) => Error::new(doing).with_errno(code),
            None => Error::unnumbered(doing.into(), err),
        }
    }

    fn unnumbered(doing: String, err: &std::io::Error) -> Self {
        let words = err.to_string();
        // The standard library's words for it are a macro's name.
        let words = match words.contains("SUN_LEN") {
            true => "the path of a socket has at most 107 bytes",
            false => &words,
        };
        Error::new(format!("{doing}: {words}"))
    }

    fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// The JSON path in `config.json` that ordered what failed, such as `mounts[2].options[0]`.
    /// The first path that is set stays: it is the most precise one.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.0.at.get_or_insert_with(|| path.into());
        self
    }

    /// The JSON path, if one is known.
    pub fn path(&self) -> Option<&str> {
        self.0.at.as_deref()
    }

    /// The rendered place, `config.json:31:47  mounts[2].options[0] = "size=banana"`; without
    /// it the bare JSON path is shown.
    pub fn placed(mut self, place: impl Into<String>) -> Self {
        self.0.place = Some(place.into());
        self
    }

    /// The kernel's own text, such as the fs context's log.
    pub fn kernel(mut self, text: impl Into<String>) -> Self {
        self.0.kernel = Some(text.into());
        self
    }

    /// What to do about it.
    pub fn hint(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert_with(|| text.into());
        self
    }

    /// The exit code of a runtime that ends with it, where that is not the command's.
    pub fn code(mut self, code: i32) -> Self {
        self.0.code = Some(code);
        self
    }

    /// The exit code, if it has one of its own.
    pub fn exit_code(&self) -> Option<i32> {
        self.0.code
    }

    /// Names what was being done where the error came up without it (see `From<Errno>`).
    pub fn or_doing(mut self, doing: impl FnOnce() -> String) -> Self {
        if self.0.doing.is_empty() {
            self.0.doing = doing();
        }
        self
    }

    /// Only the first line, for callers that read exactly one.
    pub fn in_one_line(self) -> Self {
        Error::new(self.message())
    }

    /// Whether it is about the payload's program. Such a failure speaks for itself: callers of runc
    /// compare `exec /run.sh: no such file or directory` as a whole line.
    pub fn is_of_program(&self) -> bool {
        self.0.doing.starts_with("exec ") || self.0.doing.starts_with("exec: ")
    }

    /// Puts `prefix: ` before the first line, for the caller's own aim (`cannot create "web"`).
    pub fn context(mut self, prefix: impl fmt::Display) -> Self {
        self.0.doing = format!("{prefix}: {}", self.0.doing);
        self
    }

    /// The errno, if the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno.map(Errno::from_raw)
    }

    /// The first line: what was being done and the errno's words, as runc spells them.
    pub fn message(&self) -> String {
        match self.0.errno {
            Some(code) => format!("{}: {}", self.0.doing, errno_words(code)),
            None => self.0.doing.clone(),
        }
    }

    /// The members as they cross the wire: doing, errno (0: none), JSON path, kernel's words, hint.
    pub fn parts(&self) -> (&str, i32, [Option<&str>; 3]) {
        let inner = &self.0;
        let rest = [inner.at.as_deref(), inner.kernel.as_deref(), inner.hint.as_deref()];
        (&inner.doing, inner.errno.unwrap_or(0), rest)
    }

    /// The lines after the first: place, kernel's words, hint; empty if there is nothing to add.
    pub fn details(&self) -> Vec<String> {
        let line = |(name, value): (&str, String)| match name {
            "at" => format!("  --> {value}"),
            name => format!("  {name}: {value}"),
        };
        self.fields().into_iter().map(line).collect()
    }

    /// The fields beside `msg` that the JSON log line carries: name and value.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let place = self.0.place.as_ref().or(self.0.at.as_ref());
        let place = place.map(|p| ("at", p.clone()));
        let kernel = self.0.kernel.as_ref().map(|k| ("kernel", k.clone()));
        let missing = (self.errno() == Some(Errno::ENOSYS)).then_some(MISSING_CALL);
        let hint = self.0.hint.as_deref().or(missing).map(|h| ("hint", h.to_owned()));
        place.into_iter().chain(kernel).chain(hint).collect()
    }
}

/// The hint for a system call that is not there, if nobody knows a better one.
const MISSING_CALL: &str = "tare needs Linux 5.12, and all of its system calls from a seccomp profile \
    that it runs under (as in a container: fsopen, open_tree, mount_setattr, openat2 and others)";

/// A bare errno from a step: the executor adds what was being done ([`Error::or_doing`]).
impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::sys("", errno)
    }
}

/// As a bare errno.
impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Error::io("", &err)
    }
}

/// For people, whose terminal nothing in it may steer: the text may be an image's.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [vec![self.message()], self.details()].concat().join("\n");
        let lines = lines.split('\n').map(printable);
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

/// A text of unknown origin on one line: what would steer a terminal is written out.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hostile(c) {
            true => safe.extend(c.escape_unicode()),
            false => safe.push(c),
        }
    }
    safe
}

/// Control characters, those that turn the direction of writing, and the byte order mark.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl std::error::Error for Error {}

/// Adds what was being done to a foreign error: `open(p).doing(|| format!("open {p}"))?`.
pub trait Doing<T> {
    /// Turns the error into an [`Error`] whose first line starts with `what()`.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::sys(what(), errno))
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|err| Error::io(what(), &err))
    }
}

/// The words of an errno as Go and runc print them: the C library's, in lower case. (nix has words
/// of its own for some: "Bad file number", "Try again".)
pub fn errno_words(code: i32) -> String {
    if Errno::from_raw(code) == Errno::UnknownErrno {
        return format!("errno {code}");
    }
    let text = std::io::Error::from_raw_os_error(code).to_string();
    let words = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_everything_once() {
        let err = Error::sys("mount tmpfs on /data", Errno::EINVAL)
            .at("mounts[2].options[0]")
            .at("mounts[2]")
            .kernel("tmpfs: Bad value for 'size'")
            .hint("a size is a number with an optional k, m, g or %")
            .context("cannot create \"web\"");
        assert_eq!(err.message(), "cannot create \"web\": mount tmpfs on /data: invalid argument");
        assert_eq!(
            err.to_string(),
            "cannot create \"web\": mount tmpfs on /data: invalid argument\n  \
             --> mounts[2].options[0]\n  kernel: tmpfs: Bad value for 'size'\n  \
             hint: a size is a number with an optional k, m, g or %"
        );
    }

    #[test]
    fn nothing_in_it_steers_a_terminal() {
        let err = Error::new("unpack a\x1b]0;b\u{9b}2J\u{202e}\tc\nd").hint("\r");
        let text = "unpack a\\u{1b}]0;b\\u{9b}2J\\u{202e}\\u{9}c\nd\n  hint: \\u{d}";
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn errno_words_are_lower_case() {
        assert_eq!(errno_words(libc::ENOENT), "no such file or directory");
        assert_eq!(errno_words(libc::ENOEXEC), "exec format error");
        assert_eq!(errno_words(libc::EBADF), "bad file descriptor");
        assert_eq!(errno_words(libc::EIO), "input/output error");
        assert_eq!(errno_words(libc::ELOOP), "too many levels of symbolic links");
        assert_eq!(errno_words(libc::ERANGE), "numerical result out of range");
        assert_eq!(errno_words(9999), "errno 9999");
    }
}
