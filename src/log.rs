//! Log lines, and the final error.
//!
//! Engines read the file named by `--log`: JSON objects one per line whose `level`, `msg` and
//! `time` have exactly these names, or logrus' text form. People read standard error. Nothing
//! here ever fails after [`init`], or ends the program: a closed standard error is no reason to
//! lose a container.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Doing, Error, Result};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();
static DEFAULT: Log = Log { file: None, format: Format::Text, debug: false };

/// Says where log lines go; to be called once, before anything is logged.
///
/// # Errors
/// The log file cannot be opened.
pub fn init(file: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        // Opening a FIFO that nobody reads must not hang.
        options.append(true).create(true).mode(0o644).custom_flags(libc::O_NONBLOCK);
        options.open(path).doing(|| format!("open log file {}", path.display()))
    };
    let file = file.map(open).transpose()?;
    // A second call changes nothing: the first one's file is in use already.
    let _ = LOG.set(Log { file, format, debug });
    Ok(())
}

/// Logs something that does not stop the work but should be known.
pub fn warn(message: &str) {
    log().line("warning", message, &[]);
}

/// Logs several such things, with one system call.
pub fn warn_all(messages: &[String]) {
    if messages.is_empty() {
        return;
    }
    let (log, time) = (log(), now(false));
    let lines = messages.iter().map(|message| log.text(&time, "warning", message, &[]));
    log.put(&lines.collect::<String>());
}

/// Logs something of interest.
pub fn info(message: &str) {
    log().line("info", message, &[]);
}

/// Logs with `--debug`; the message is made only then.
pub fn debug(message: impl FnOnce() -> String) {
    let log = log();
    if log.debug {
        log.line("debug", &message(), &[]);
    }
}

/// Reports the error that ends the program with `exit`.
///
/// The log file gets one line. Standard error gets the form for people; where it is no terminal
/// and there is no log file, a closing `level=error exit=N` lets programs that read only standard
/// error tell a failure from a warning (youki's contest looks for the word "error" alone).
pub fn error(err: &Error, exit: i32) {
    let log = log();
    if log.file.is_some() || log.format == Format::Json {
        log.line("error", &err.message(), &err.fields());
    }
    if log.file.is_none() && log.format == Format::Json {
        return;
    }
    let mut text = format!("tare: {err}\n");
    if log.file.is_none() && !std::io::stderr().is_terminal() {
        let _ = writeln!(text, "level=error exit={exit}");
    }
    put(&text);
}

/// Reports an error whose first line callers compare as a whole (`exec /run.sh: no such file or
/// directory`): standard error gets it without prefix.
pub fn error_bare(err: &Error) {
    let log = log();
    if log.file.is_some() {
        log.line("error", &err.message(), &err.fields());
    }
    put(&format!("{err}\n"));
}

fn log() -> &'static Log {
    LOG.get().unwrap_or(&DEFAULT)
}

impl Log {
    fn line(&self, level: &str, message: &str, fields: &[(&'static str, String)]) {
        self.put(&self.text(&now(false), level, message, fields));
    }

    fn text(&self, time: &str, level: &str, message: &str, fields: &[(&str, String)]) -> String {
        match self.format {
            Format::Json => json_line(time, level, message, fields),
            Format::Text => text_line(time, level, message, fields),
        }
    }

    /// Writes whole lines with one system call, so that those of several processes do not mix.
    fn put(&self, lines: &str) {
        match &self.file {
            // A full disk must not stop a container; there is nobody else to tell.
            Some(file) => drop((&*file).write_all(lines.as_bytes())),
            None => put(lines),
        }
    }
}

fn put(text: &str) {
    // EPIPE and the like: see the module's documentation.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn json_line(time: &str, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut line =
        format!("{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"", quoted(message));
    for (name, value) in fields {
        let _ = write!(line, ",\"{name}\":{}", quoted(value));
    }
    line.push_str("}\n");
    line
}

fn text_line(time: &str, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let mut line = format!("time=\"{time}\" level={level} msg={}", logrus(message));
    for (name, value) in fields {
        let _ = write!(line, " {name}={}", logrus(value));
    }
    line.push('\n');
    line
}

/// Quotes as logrus does: only where a reader that splits at spaces would go wrong.
fn logrus(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The time of the real-time clock as RFC 3339 in UTC, with nanoseconds where asked.
pub fn now(nanos: bool) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    rfc3339(since.as_secs(), nanos.then(|| since.subsec_nanos()))
}

/// Seconds since 1970, in UTC, as RFC 3339.
fn rfc3339(seconds: u64, nanos: Option<u32>) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text =
        format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}", days + 1);
    if let Some(nanos) = nanos {
        let _ = write!(text, ".{nanos:09}");
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_agree_with_date() {
        assert_eq!(rfc3339(0, None), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400, None), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_735_689_599, None), "2024-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_399, Some(7)), "2100-02-28T23:59:59.000000007Z");
        assert_eq!(rfc3339(4_107_542_400, None), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn json_has_no_spaces_and_fields_after_time() {
        assert_eq!(
            json_line("T", "error", "a \"b\"\n", &[("at", "x[0]".into())]),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"T\",\"at\":\"x[0]\"}\n"
        );
    }

    #[test]
    fn text_quotes_like_logrus() {
        assert_eq!(logrus("plain-1.0/x@y^z+"), "plain-1.0/x@y^z+");
        assert_eq!(logrus(""), "\"\"");
        assert_eq!(logrus("a b"), "\"a b\"");
        assert_eq!(logrus("a=\"b\\\"\n\u{1b}é"), "\"a=\\\"b\\\\\\\"\\n\\x1bé\"");
        assert_eq!(text_line("T", "debug", "x y", &[]), "time=\"T\" level=debug msg=\"x y\"\n");
    }
}
