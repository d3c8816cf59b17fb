//! The rules of the house, kept by reading the source: which module may use which, where unsafe
//! code stands, what may not be written outside tests, and how long a function may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest function, in lines.
const FUNCTION_LIMIT: usize = 80;
/// The most crates that `tare` alone may be built from, itself included.
const CRATE_LIMIT: usize = 60;
/// What takes a program down on the spot.
const PANICS: [&str; 8] = [
    ".unwrap()",
    ".expect(",
    ".unwrap_err()",
    "panic!(",
    "unreachable!(",
    "todo!(",
    "unimplemented!(",
    "dbg!(",
];

/// A source file.
struct Source {
    /// Its path below src/.
    path: String,
    /// All of it.
    text: String,
    /// Without comments, literals and test code; the same length, line by line.
    code: String,
}

impl Source {
    /// The module of lib.rs that it belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// `src/PATH:LINE` of a place in the code.
    fn at(&self, offset: usize) -> String {
        format!("src/{}:{}", self.path, self.line(offset) + 1)
    }

    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count()
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = project().join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 10, "no source found below {}", src.display());
    let name = |path: &Path| path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        Source { path: name(path), code: without_tests(without_prose(&text)), text }
    };
    files.iter().filter(|path| !path.ends_with("tests.rs")).map(read).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Blanks comments and the contents of literals.
fn without_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = prose_end(bytes, at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// Where the comment or literal that begins here ends; here itself if none begins.
fn prose_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return find(bytes, at + 2, b"*/");
    }
    if rest[0] == b'r' && !word && raw_hashes(&rest[1..]).is_some() {
        let hashes = raw_hashes(&rest[1..]).unwrap();
        let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
        return find(bytes, at + 2 + hashes, &close);
    }
    match rest {
        [b'"', ..] => quoted_end(bytes, at, b'"'),
        [b'\'', b'\\', ..] => quoted_end(bytes, at, b'\''),
        [b'\'', first, ..] => {
            let width = std::str::from_utf8(&rest[1..])
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            let is_char = *first != b'\'' && rest.get(1 + width) == Some(&b'\'');
            if is_char { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> usize {
    let tail = &bytes[from.min(bytes.len())..];
    let hit = tail.windows(wanted.len()).position(|window| window == wanted);
    hit.map_or(bytes.len(), |hit| from + hit + wanted.len())
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// Blanks items below `#[cfg(test)]`.
fn without_tests(mut code: String) -> String {
    while let Some(start) = code.find("#[cfg(test)]") {
        let body = block(&code, start + 12);
        let end = body.map_or(code.len(), |body| body.end);
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// The next block in braces, or the empty one at a `;` before it.
fn block(code: &str, from: usize) -> Option<Range<usize>> {
    let (mut depth, mut start, mut nested) = (0usize, None, 0i32);
    for (offset, byte) in code[from..].bytes().enumerate().map(|(i, byte)| (from + i, byte)) {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if start.is_none() && nested == 0 => return Some(offset..offset + 1),
            b'{' => {
                start.get_or_insert(offset);
                depth += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(start?..offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where a word stands alone in the code.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !code[..*at].ends_with(part) && !code[at + word.len()..].starts_with(part)
    })
}

/// The level of each module, from the comments of lib.rs.
fn levels() -> BTreeMap<String, u32> {
    let mut level = 0;
    let mut levels = BTreeMap::new();
    for line in fs::read_to_string(project().join("src/lib.rs")).unwrap().lines() {
        if let Some(number) = line.strip_prefix("// L") {
            level = number.split(':').next().unwrap().parse().expect("a level: // L0: …");
        }
        if let Some(name) = line.strip_prefix("pub mod ") {
            levels.insert(name.trim_end_matches(';').to_owned(), level);
        }
    }
    assert!(levels.len() > 5, "no levels in src/lib.rs");
    levels
}

/// The top modules that a file names, and where.
fn uses(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in words(&source.code, "crate").filter(|at| source.code[at + 5..].starts_with("::")) {
        let rest = &source.code[at + 7..];
        let names = match rest.strip_prefix('{') {
            Some(list) => top_names(list),
            None => vec![identifier(rest)],
        };
        found.extend(names.into_iter().map(|name| (name.to_owned(), at)));
    }
    found
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first name of each member of `{a, b::c, d::{e, f}}`, the opening brace taken off.
fn top_names(list: &str) -> Vec<&str> {
    let (mut names, mut depth, mut start) = (Vec::new(), 1, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (c == ',' && depth == 1) {
            names.push(identifier(list[start..at].trim_start()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn modules_use_only_lower_levels() {
    let levels = levels();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = levels.get(source.module()) else { continue };
        for (name, at) in uses(&source) {
            if levels.get(&name).is_some_and(|level| level > own) {
                wrong.push(format!("{}: {} uses {name}", source.at(at), source.module()));
            }
        }
    }
    assert!(wrong.is_empty(), "upward uses:\n{}", wrong.join("\n"));
}

#[test]
fn modules_have_no_cycles() {
    let levels = levels();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| levels.contains_key(source.module())) {
        let names = uses(source).into_iter().map(|(name, _)| name);
        let others = names.filter(|name| levels.contains_key(name) && name != source.module());
        graph.entry(source.module().to_owned()).or_default().extend(others);
    }
    // Takes away what uses nothing that is left; a cycle stays.
    while let Some(leaf) =
        graph.iter().find(|(_, uses)| uses.is_empty()).map(|(name, _)| name.clone())
    {
        graph.remove(&leaf);
        for uses in graph.values_mut() {
            uses.remove(&leaf);
        }
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        graph.values_mut().for_each(|uses| uses.retain(|name| left.contains(name)));
    }
    assert!(graph.is_empty(), "these use each other in circles: {graph:#?}");
}

#[test]
fn images_and_boot_do_not_know_each_other() {
    let levels = levels();
    let mut wrong = Vec::new();
    for source in sources() {
        let own = source.module();
        for (name, at) in uses(&source) {
            let upper = levels.get(&name).is_some_and(|level| *level > 2) && name != "image";
            if (own == "image" && upper)
                || (levels.contains_key(own) && own != "image" && name == "image")
            {
                wrong.push(format!("{}: {own} uses {name}", source.at(at)));
            }
        }
    }
    assert!(wrong.is_empty(), "uses across the wall:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_and_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines: Vec<_> = source.text.lines().collect();
        for at in words(&source.code, "unsafe") {
            let line = source.line(at);
            let near = &lines[line.saturating_sub(8)..=line];
            let reasoned =
                near.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if source.module() != "sys" || !reasoned {
                wrong.push(source.at(at));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe outside src/sys or without a SAFETY line:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_panics_on_purpose() {
    let mut wrong = Vec::new();
    for source in sources() {
        for word in PANICS {
            let hits = source.code.match_indices(word);
            wrong.extend(hits.map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
    }
    assert!(wrong.is_empty(), "outside tests an error is returned:\n{}", wrong.join("\n"));
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    let mut lengths = Vec::new();
    for source in sources() {
        for at in words(&source.code, "fn") {
            let Some(body) = block(&source.code, at).filter(|body| body.len() > 1) else {
                continue;
            };
            let lines = source.line(body.end - 1) - source.line(at) + 1;
            lengths.push(lines);
            if lines > FUNCTION_LIMIT {
                long.push(format!("{}: {lines} lines", source.at(at)));
            }
        }
    }
    assert!(lengths.len() > 50, "no functions found");
    assert!(long.is_empty(), "over {FUNCTION_LIMIT} lines:\n{}", long.join("\n"));
}

#[test]
fn tare_is_made_of_few_crates() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--no-default-features", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(project())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<_> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    assert!(crates.len() <= CRATE_LIMIT, "{} crates: {crates:#?}", crates.len());
    for heavy in ["tokio ", "async-", "rustls ", "ureq ", "hyper ", "openssl"] {
        assert!(!crates.iter().any(|name| name.starts_with(heavy)), "tare is built with {heavy}");
    }
}

#[test]
fn nothing_is_left_to_do_in_silence() {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "what is not done is refused and documented:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_source_is_right() {
    let text = "fn a() { \"unwrap() }\"; 'x'; '\\''; b\"{\"; r#\"{\"#; // {\n /* { */ }\n#[cfg(test)]\nmod t { fn b() { x.unwrap() } }\nfn c<'a>() {}\n";
    let code = without_tests(without_prose(text));
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("unwrap") && !code.contains("mod t"), "{code}");
    assert_eq!(words(&code, "fn").count(), 2);
    let body = block(&code, 0).unwrap();
    assert_eq!(code[body].matches('\n').count(), 1);
    assert_eq!(top_names("error::{Error, Result}, sys, path::Root};"), ["error", "sys", "path"]);
}
