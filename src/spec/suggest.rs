//! "Did you mean": the known word that a misspelt one is nearest to.

/// The word of `known` that `word` is a slip of: the same but for case, or one or two letters
/// away. `None` if no word is that near.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = if word.chars().count() <= 4 { 1 } else { 2 };
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    near.filter(|(far, _)| *far <= allowed).min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

/// Levenshtein's distance between two words, regardless of case (one row of the matrix at a time).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().flat_map(char::to_lowercase).enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let up = *cell;
            left = (left + 1).min(up + 1).min(corner + usize::from(x != *y));
            corner = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("readOnly", "readonly"), 0);
        assert_eq!(distance("arsg", "args"), 2);
    }

    #[test]
    fn nearest_is_near_enough() {
        let known = ["args", "env", "cwd", "noNewPrivileges"];
        assert_eq!(nearest("argss", &known), Some("args"));
        assert_eq!(nearest("NoNewPrivilege", &known), Some("noNewPrivileges"));
        assert_eq!(nearest("commandLine", &known), None);
        assert_eq!(nearest("vm", &known), None);
    }
}
