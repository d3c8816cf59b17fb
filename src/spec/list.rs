//! The kernel's lists of CPUs and memory nodes: `0-3,7` (cpuset(7), "List format").

/// The ranges of a list, first and last included, in the order written; none for an empty list.
/// `None` if it is not a list, or has a number above `highest`.
pub fn ranges(text: &str, highest: u32) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| *n <= highest);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    match text.trim().is_empty() {
        true => Some(Vec::new()),
        false => text.split(',').map(range).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(ranges("0-3,7", 7).unwrap(), [(0, 3), (7, 7)]);
        assert_eq!(ranges(" 0 - 1 , 5", 7).unwrap(), [(0, 1), (5, 5)]);
        assert!(ranges("", 7).unwrap().is_empty());
        for bad in ["3-1", "8", "0,,1", "a", "-1", "1-", "0-9876543210"] {
            assert_eq!(ranges(bad, 7), None, "{bad}");
        }
    }
}
