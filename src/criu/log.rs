//! criu's log: where it is, and what it says of a failure.

use super::Settings;
use crate::error::Error;

/// How many of the last errors are quoted.
const QUOTED: usize = 3;

/// Adds to criu's failure what its log says; an error that is not criu's stays as it is.
pub fn explain(err: Error, settings: &Settings, name: &str) -> Error {
    let message = err.message();
    if !message.starts_with("criu failed") && !message.starts_with("criu ended") {
        return err;
    }
    let file = settings.work.as_ref().unwrap_or(&settings.images).join(name);
    let text = std::fs::read(&file).unwrap_or_default();
    let errors = errors(&String::from_utf8_lossy(&text));
    let Some(words) = errors else { return err };
    let cure = cure(&words);
    Error::new(format!("{message}: {words}"))
        .hint(format!("{cure}criu's log is {}", file.display()))
}

/// Words of criu's that do not say what helps, and what does.
const CURES: &[(&str, &str)] = &[
    // criu looks at the vDSO of the kernel, which newer kernels lay out in new ways.
    ("vdso", TOO_NEW),
    ("kerndat", TOO_NEW),
    // What is inherited has the path of its number.
    ("file fd/", OTHER_FILE),
    ("File fd/", OTHER_FILE),
    (
        "without peer",
        "a socket whose other end is in another network namespace, such as the host's, cannot be saved; ",
    ),
    (
        "restore of existing cgroups",
        "the cgroup is there by now, for the limits: --manage-cgroups-mode has to be full or soft; ",
    ),
];
const TOO_NEW: &str = "this kernel is too new for this version of criu: a newer one is needed; ";
const OTHER_FILE: &str = "input and output that were files have to be files of the same length; ";

fn cure(words: &str) -> &'static str {
    CURES.iter().find(|(of, _)| words.contains(of)).map_or("", |(_, cure)| cure)
}

/// The last errors in the log, without time and place in criu's source.
fn errors(text: &str) -> Option<String> {
    let mut found: Vec<&str> = text.lines().filter_map(error).collect();
    found.drain(..found.len().saturating_sub(QUOTED));
    (!found.is_empty()).then(|| found.join("; "))
}

/// `(00.1) Error (criu/x.c:7): words`; also with a pid before `Error`.
fn error(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Error (")?;
    rest.split_once("): ").map(|(_, words)| words.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Settings;

    const LOG: &str = "\
(00.000001) Version: 3.17.1\n\
(00.081023) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n\
(00.081025)     12: Error (criu/vdso.c:613): vdso: Failed to fill self vdso symtable\n";

    #[test]
    fn the_last_errors_are_quoted() {
        let words = "vdso: Unexpected rt vDSO area bounds; vdso: Failed to fill self vdso symtable";
        assert_eq!(errors(LOG).as_deref(), Some(words));
        assert_eq!(errors("(00.1) Warn (criu/x.c:1): hm\n"), None);
        let many: String = (0..9).map(|n| format!("Error (x:{n}): no {n}\n")).collect();
        assert_eq!(errors(&many).as_deref(), Some("no 6; no 7; no 8"));
    }

    #[test]
    fn a_file_of_another_length_is_named() {
        for words in ["Can't open file fd/1: Illegal seek", "File fd/2 has bad size 6 (expect 0)"] {
            assert!(cure(words).contains("files of the same length"), "{words}");
        }
        assert_eq!(cure("File etc/fd/1 is gone"), "");
    }

    #[test]
    fn a_socket_of_another_namespace_is_named() {
        let words = "unix: Unix socket 13406 without peer 13402";
        assert!(cure(words).contains("another network namespace"));
    }

    #[test]
    fn a_kernel_that_is_too_new_is_named() {
        let dir = std::env::temp_dir().join(format!("tare-criu-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("dump.log"), LOG).unwrap();
        let settings = Settings { images: dir.clone(), ..Settings::default() };
        let failed = || Error::new("criu failed: type DUMP errno 0");
        let err = explain(failed(), &settings, "dump.log");
        assert!(err.message().contains("errno 0: vdso: Unexpected rt vDSO area bounds; "), "{err}");
        assert!(err.to_string().contains("kernel is too new for this version of criu"), "{err}");
        assert_eq!(explain(failed(), &settings, "none.log").to_string(), failed().to_string());
        let other = explain(Error::new("a hook failed"), &settings, "dump.log");
        assert_eq!(other.to_string(), "a hook failed");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
