//! The kernel's lists of CPUs and memory nodes: `0-3,7` (cpuset(7), "List format").

/// The highest CPU that a list may name: CONFIG_NR_CPUS goes up to 8192.
pub const HIGHEST_CPU: u32 = 8191;
/// The highest memory node: MAX_NUMNODES with the largest CONFIG_NODES_SHIFT.
pub const HIGHEST_NODE: u32 = 1023;

/// The ranges of a list, first and last included, in the order written; none for an empty list.
/// Extra commas are nothing, as for the kernel. `None` if it is not a list, names nothing although
/// it is not empty, or has a number above `highest`.
pub fn ranges(text: &str, highest: u32) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| *n <= highest);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let ranges: Vec<_> = parts.map(range).collect::<Option<_>>()?;
    (!ranges.is_empty() || text.trim().is_empty()).then_some(ranges)
}

/// The list as the kernel's bit mask, a bit a number; empty for an empty list. `None` as for
/// [`ranges`].
pub fn mask(text: &str, highest: u32) -> Option<Vec<u64>> {
    let ranges = ranges(text, highest)?;
    let bits = ranges.iter().map(|(_, last)| last + 1).max().unwrap_or(0);
    let mut mask = vec![0; bits.div_ceil(u64::BITS) as usize];
    for number in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        if let Some(word) = mask.get_mut((number / u64::BITS) as usize) {
            *word |= 1 << (number % u64::BITS);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(ranges("0-3,7", 7).unwrap(), [(0, 3), (7, 7)]);
        assert_eq!(ranges(" 0 - 1 , 5", 7).unwrap(), [(0, 1), (5, 5)]);
        assert_eq!(ranges("0,,1,", 7).unwrap(), [(0, 0), (1, 1)]);
        assert!(ranges("", 7).unwrap().is_empty());
        for bad in ["3-1", "8", ",", "a", "-1", "1-", "0-9876543210"] {
            assert_eq!(ranges(bad, 7), None, "{bad}");
        }
    }

    #[test]
    fn masks() {
        assert_eq!(mask("0-1,4", 70).unwrap(), [0b10011]);
        assert_eq!(mask("64,70", 70).unwrap(), [0, 0b1000001]);
        assert!(mask("", 70).unwrap().is_empty());
        assert_eq!(mask("71", 70), None);
    }
}
