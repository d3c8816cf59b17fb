//! Reads `config.json` (and process.json, and resource files) and says where in it a mistake is.
//!
//! A good file is parsed once, straight into the types. Only a mistake costs a second look: for
//! the JSON path at the place where the parser stopped, and for line and column.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::config::Spec;
use super::object::{At, Mistake, Unknown, Wrong};
use super::{object, position, suggest, value};
use crate::error::{Doing, Error, Result};

/// Longer files are refused, in bytes; real ones have about ten thousand.
const LONGEST: u64 = 16 << 20;

/// A `config.json` as read.
#[derive(Debug)]
pub struct Config {
    /// What it says.
    pub spec: Spec,
    /// Its bytes: for positions in errors, and for the copy in the state directory.
    pub text: String,
    /// Its name as shown to people: `BUNDLE/config.json`.
    pub file: PathBuf,
    /// What is odd about it but no reason to refuse it: members that the specification does not
    /// have.
    pub warnings: Vec<String>,
}

impl Config {
    /// Adds line, column and value to an error that names a JSON path.
    pub fn place(&self, err: Error) -> Error {
        place(&self.text, &self.file, err)
    }
}

/// Reads and parses `config.json` in `bundle`.
///
/// # Errors
/// If it is absent, unreadable, not a regular file, over 16 MiB, not UTF-8, not JSON, or if a
/// member is missing, given twice or of the wrong type (runtime-spec, config.md).
pub fn load(bundle: &Path) -> Result<Config> {
    let file = match bundle == Path::new(".") {
        true => PathBuf::from("config.json"),
        false => bundle.join("config.json"),
    };
    let text = read_config(bundle, &file)?;
    let (spec, warnings) = parse(&text, &file)?;
    Ok(Config { spec, text, file, warnings })
}

/// Parses `text`, which was read from `file`, and says what was ignored in it.
///
/// # Errors
/// As [`load`], with their place.
pub fn parse<T: object::Read>(text: &str, file: &Path) -> Result<(T, Vec<String>)> {
    let tree = match serde_json::from_str(text) {
        Ok(tree) => tree,
        Err(err) => value::tolerant(text).ok_or_else(|| syntax(text, file, &err))?,
    };
    let unknown = RefCell::default();
    match T::read(&tree, &At::whole(&unknown)) {
        Ok(value) => {
            let unknown = unknown.into_inner();
            Ok((value, unknown.iter().map(|unknown| warning(text, file, unknown)).collect()))
        }
        Err(mistake) => Err(wrong(text, file, mistake)),
    }
}

/// Reads a part of a configuration from JSON, as tests write it.
///
/// # Errors
/// As [`parse`].
pub fn from_json<T: object::Read>(text: &str) -> Result<T> {
    parse(text, Path::new("config.json")).map(|(value, _)| value)
}

/// Reads a JSON text of at most 16 MiB from a file or a pipe (`exec --process /dev/fd/N`).
///
/// # Errors
/// If it cannot be read, is too long or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let file = File::open(path).doing(|| format!("open {}", path.display()))?;
    read_text(file, path, 0)
}

/// As [`read`], from standard input.
///
/// # Errors
/// As [`read`].
pub fn read_stdin() -> Result<String> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().doing(|| "open standard input")?;
    read_text(File::from(input), Path::new("stdin"), 0)
}

/// Adds to `err`, if it names a JSON path, where that is in `text`, which was read from `file`.
pub fn place(text: &str, file: &Path, err: Error) -> Error {
    place_part(text, file, "", err)
}

/// As [`place`], for a file that holds only the part of a `config.json` at the path `part`, such as
/// `process.`.
pub fn place_part(text: &str, file: &Path, part: &str, err: Error) -> Error {
    let Some(path) = err.path().map(|path| path.strip_prefix(part).unwrap_or(path)) else {
        return err;
    };
    let Some(found) = position::find(text, path) else { return err };
    let is_secret = path.rsplit('.').next().is_some_and(|last| last.starts_with("env"))
        || found.value.is_some_and(|value| value.contains("\"env\""));
    let value = found.value.map(position::shortened);
    let what = match value {
        // Values of variables may be secrets, and errors are logged.
        Some(_) if is_secret => path.to_owned(),
        Some(value) if path.is_empty() => value,
        Some(value) => format!("{path} = {value}"),
        None => format!("{path} (missing)"),
    };
    let place = format!("{}  {what}", spot(text, file, found.offset));
    err.placed(place)
}

/// Whether there is something at the JSON path `path` of `text`.
pub fn holds(text: &str, path: &str) -> bool {
    position::find(text, path).is_some_and(|found| found.value.is_some())
}

/// `FILE:LINE:COLUMN` of the byte at `offset`.
fn spot(text: &str, file: &Path, offset: usize) -> String {
    let (line, column) = position::line_column(text, offset);
    format!("{}:{line}:{column}", file.display())
}

fn read_config(bundle: &Path, path: &Path) -> Result<String> {
    // Not blocking: a FIFO of this name must not hang the caller.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(err) if err.kind() == ErrorKind::NotFound => return Err(absent(bundle)),
        opened => opened.doing(|| format!("open {}", path.display()))?,
    };
    let meta = file.metadata().doing(|| format!("stat {}", path.display()))?;
    if !meta.is_file() {
        return Err(Error::new(format!("{} is not a regular file", path.display())));
    }
    read_text(file, path, meta.len())
}

/// The words are runc's: engines pass them on.
fn absent(bundle: &Path) -> Error {
    if let Err(err) = std::fs::metadata(bundle) {
        return Error::io(format!("open bundle {}", bundle.display()), &err);
    }
    Error::new("JSON specification file config.json not found")
        .hint("`tare spec` writes a config.json, `lade bundle` prepares a whole bundle")
}

/// Reads all of `file`, which is expected to have `size` bytes.
fn read_text(file: File, path: &Path, size: u64) -> Result<String> {
    // Files that do not know their size are read to the end.
    let wanted = if size == 0 { LONGEST + 1 } else { size.min(LONGEST + 1) };
    let mut bytes = Vec::with_capacity(size.min(LONGEST) as usize + 1);
    file.take(wanted).read_to_end(&mut bytes).doing(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(format!("{} is longer than 16 MiB", path.display())));
    }
    String::from_utf8(bytes).map_err(|err| {
        let good = err.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(err.as_bytes());
        Error::new(format!("{} is not UTF-8 text", name(path))).placed(spot(&text, path, good))
    })
}

/// The last part of a path: the place shows the whole.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The byte that serde_json means, whose columns count the bytes of the line it has consumed.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).min(text.len())
}

/// A text that is not JSON: the parser's words, and the line as it is written.
fn syntax(text: &str, file: &Path, err: &serde_json::Error) -> Error {
    let words = err.to_string();
    let end = format!(" at line {} column {}", err.line(), err.column());
    let words = words.strip_suffix(&end).unwrap_or(&words);
    let consumed = offset(text, err.line(), err.column());
    if text.trim_start().is_empty() {
        return Error::new(format!("{} is empty", name(file)));
    }
    // The last byte consumed is the one that does not belong there.
    let mut wrong = consumed.saturating_sub(1);
    while !text.is_char_boundary(wrong) {
        wrong -= 1;
    }
    let (line, _) = position::line_column(text, wrong);
    let written = position::shortened(text.lines().nth(line - 1).unwrap_or_default());
    let err = Error::new(format!("{} is not valid JSON: {words}", name(file)))
        .placed(format!("{}  {written}", spot(text, file, wrong)));
    match slip(text, words, wrong) {
        Some(hint) => err.hint(hint),
        None => err,
    }
}

/// The usual slips, by what stands where the parser stopped.
fn slip(text: &str, words: &str, wrong: usize) -> Option<&'static str> {
    let (before, after) = text.split_at_checked(wrong)?;
    let before = before.trim_end();
    match after.chars().next()? {
        '\u{feff}' => Some("the file begins with a byte order mark: save it without"),
        ']' | '}' if before.ends_with(',') => Some("JSON has no comma after the last entry"),
        '/' | '#' if before.ends_with([',', '{', '[']) => Some("JSON has no comments"),
        '"' if words.starts_with("expected `,`") => Some("a comma is missing before it"),
        '\'' => Some("JSON quotes with \""),
        _ => None,
    }
}

/// JSON that does not fit the types.
fn wrong(text: &str, file: &Path, mistake: Mistake) -> Error {
    let Mistake { path, wrong } = mistake;
    let name = name(file);
    let err = match wrong {
        Wrong::Missing => Error::new(format!("invalid {name}: a required member is missing")),
        Wrong::Twice => Error::new(format!("invalid {name}: a member is given twice"))
            .hint("keep one of them: readers disagree about which counts"),
        Wrong::Nul => Error::new(format!("invalid {name}: a string holds a NUL character")),
        Wrong::NotThis(wanted) => {
            let value = position::find(text, &path).and_then(|found| found.value);
            unexpected(&name, wanted, value.unwrap_or_default())
        }
    };
    place(text, file, err.at(path))
}

/// A value of another type than `wanted`.
fn unexpected(file: &str, wanted: &str, value: &str) -> Error {
    let found = match kind_of(value) {
        // Not to be told from it by its kind.
        kind if kind == wanted => "one with half of a surrogate pair",
        kind => kind,
    };
    let err = Error::new(format!("invalid {file}: expected {wanted}, found {found}"));
    let bare = value.trim_matches('"');
    let quoted = match wanted {
        "true or false" => matches!(bare, "true" | "false"),
        _ => wanted.starts_with("an integer") && bare.parse::<i64>().is_ok(),
    };
    match quoted && found == "a string" {
        true => err.hint(format!("write it without quotes: {bare}")),
        false => err,
    }
}

/// What kind of value this JSON text is; a number is named itself.
fn kind_of(value: &str) -> &str {
    match value.bytes().next() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => value,
    }
}

/// A line about a member that the specification does not have: it wants them ignored.
fn warning(text: &str, file: &Path, unknown: &Unknown) -> String {
    let spot = match unknown.address.map(|a| a.wrapping_sub(text.as_ptr().addr())) {
        Some(start) => spot(text, file, start - 1),
        None => file.display().to_string(),
    };
    let path = position::shortened(&unknown.path);
    let known: Vec<&str> = unknown.known.iter().map(|member| member.name).collect();
    match suggest::nearest(&unknown.name, &known) {
        Some(near) => format!("{spot}: unknown member {path} is ignored; did you mean {near:?}?"),
        None => format!("{spot}: unknown member {path} is ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
	"ociVersion": "1.3.0",
	"hostname": "größe", "process": {"user": {"uid": UID, "gid": 0}, "cwd": "/"}
}"#;

    fn parsed(text: &str) -> Result<(Spec, Vec<String>)> {
        parse(text, Path::new("config.json"))
    }

    fn refusal(text: &str) -> String {
        parsed(text).unwrap_err().to_string()
    }

    fn with_uid(uid: &str) -> String {
        CONFIG.replace("UID", uid)
    }

    #[test]
    fn good_and_null() {
        let (spec, warnings) = parsed(&with_uid("7")).unwrap();
        assert_eq!(spec.process.unwrap().user.uid, 7);
        assert!(warnings.is_empty());
        let (spec, _) = parsed(r#"{"ociVersion":"1.0.0","mounts":null,"linux":null}"#).unwrap();
        assert!(spec.mounts.is_empty() && spec.linux.is_none());
    }

    #[test]
    fn wrong_types_name_path_and_place() {
        assert_eq!(
            refusal(&with_uid("\"1000\"")),
            "invalid config.json: expected an integer from 0 to 4294967295, found a string\n  \
             --> config.json:3:51  process.user.uid = \"1000\"\n  \
             hint: write it without quotes: 1000"
        );
        for (uid, found) in [
            ("-1", "-1"),
            ("1.5", "1.5"),
            ("null", "null"),
            ("[1]", "an array"),
            ("{}", "an object"),
        ] {
            let text = refusal(&with_uid(uid));
            assert!(text.contains(&format!("found {found}\n")), "{text}");
            assert!(text.contains(&format!(":3:51  process.user.uid = {uid}")), "{text}");
        }
    }

    #[test]
    fn an_array_is_no_object() {
        let text = refusal(r#"{"ociVersion":"1.0.0","root":["rootfs", true]}"#);
        assert!(text.contains("expected an object, found an array"), "{text}");
        assert!(refusal("[]").contains("config.json:1:1  []"), "{}", refusal("[]"));
    }

    #[test]
    fn missing_and_duplicate_members() {
        let text = refusal(r#"{"ociVersion":"1.0.0","process":{"user":{"uid":0,"gid":0}}}"#);
        assert!(text.ends_with("config.json:1:33  process.cwd (missing)"), "{text}");
        let text = refusal(r#"{"ociVersion":"1.0.0","hostname":"a","hostname":"b"}"#);
        assert!(text.contains("given twice\n  --> config.json:1:49  hostname = \"b\""), "{text}");
    }

    #[test]
    fn a_syntax_error_wins_over_an_earlier_wrong_type() {
        let text = refusal("{\n \"ociVersion\": 1,\n \"hostname\": \"ü\" \"x\"}");
        assert!(text.starts_with("config.json is not valid JSON: expected `,` or `}`"), "{text}");
        assert!(text.contains("--> config.json:3:18  \"hostname\""), "{text}");
    }

    #[test]
    fn what_nothing_reads_may_be_any_json() {
        let deep = |levels: usize| format!("{}0{}", "[".repeat(levels), "]".repeat(levels));
        for odd in [&deep(200), &deep(1_000_000), "1e999", r#""\ud800""#, r#"{"a":[1e999]}"#] {
            let text = format!(r#"{{"ociVersion":"1.0.0","x":{odd},"hostname":"\u0061"}}"#);
            let (spec, warnings) = parsed(&text).unwrap();
            assert_eq!((spec.hostname.as_deref(), warnings.len()), (Some("a"), 1));
        }
        let text = refusal(&with_uid(&deep(200)));
        assert!(text.contains("found an array\n"), "{text}");
        assert!(refusal(&deep(1_000_000)).contains("expected an object, found an array"));
        // Names have to be told from each other.
        assert!(refusal(r#"{"\ud800":1}"#).contains("not valid JSON"));
        assert!(refusal(&"[".repeat(1_000_000)).contains("not valid JSON"));
    }

    #[test]
    fn syntax_errors_of_odd_files() {
        assert_eq!(refusal(" \n"), "config.json is empty");
        assert!(refusal("\u{feff}{}").contains("byte order mark"));
        assert!(refusal("{\"a\":1,}").contains("config.json:1:8"), "{}", refusal("{\"a\":1,}"));
        assert!(refusal("{").contains("config.json:1:1"), "{}", refusal("{"));
    }

    #[test]
    fn unknown_members_are_warned_about() {
        let text = r#"{"ociVersion":"1.0.0","vm":{},"root":{"path":"r","readOnly":true}}"#;
        let (_, warnings) = parsed(text).unwrap();
        assert_eq!(
            warnings,
            [
                "config.json:1:23: unknown member vm is ignored",
                "config.json:1:50: unknown member root.readOnly is ignored; \
                 did you mean \"readonly\"?"
            ]
        );
        let (_, warnings) = parsed(r#"{"ociVersion":"1.0.0","h\u006fstnam":1}"#).unwrap();
        assert_eq!(
            warnings,
            ["config.json: unknown member hostnam is ignored; did you mean \"hostname\"?"]
        );
        assert!(parsed(r#"{"ociVersion":"1.0.0"}"#).unwrap().1.is_empty());
    }
}
