//! From rules to numbers: what happens to each system call of one architecture.

use crate::error::{Error, Result};

use super::arch::Arch;
use super::rules::{Condition, Rule, Test};

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The filter returns this value.
    Return(u32),
    /// The arguments decide: an index into the decisions.
    Decide(usize),
    /// The same as to the native call of the same number.
    Native,
}

/// From this number on, up to the next segment's, all calls have the same target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) start: u32,
    pub(super) target: Target,
}

/// Conditions that hold together, and what then happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Clause {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// Clauses in the order in which they are tried; the default action follows the last.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Decision {
    pub(super) wide: bool,
    pub(super) clauses: Vec<Clause>,
}

/// One rule for one call, packed so that sorting brings calls into order and keeps, for each
/// call, the order of its rules: number, index of the rule, number inside a multiplexed call
/// (0 in a plain one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use(u64);

impl Use {
    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn rule(self, rules: &[Rule]) -> Option<&Rule> {
        rules.get((self.0 >> 8) as usize & Calls::MAX_RULES)
    }

    fn inner(self) -> u8 {
        self.0 as u8
    }
}

/// The calls of one architecture that the profile names.
pub(super) struct Calls {
    pub(super) arch: &'static Arch,
    uses: Vec<Use>,
    highest: Option<u32>,
}

impl Calls {
    /// The largest number of rules that can be counted.
    pub(super) const MAX_RULES: usize = (1 << 24) - 1;

    pub(super) fn new(arch: &'static Arch) -> Self {
        Calls { arch, uses: Vec::with_capacity(512), highest: None }
    }

    /// Notes that the profile's author knew of this call.
    pub(super) fn name(&mut self, number: u32) {
        self.highest = self.highest.max(Some(number));
    }

    /// Applies rule number `rule` to a call, or to the one `inner` of those that it carries.
    pub(super) fn apply(&mut self, number: u32, rule: usize, inner: u8) {
        self.uses.push(Use(u64::from(number) << 32 | (rule as u64) << 8 | u64::from(inner)));
    }

    /// What happens to every number. `beyond` is for numbers above all that the profile names.
    pub(super) fn segments(
        mut self,
        rules: &[Rule],
        default: Target,
        beyond: Target,
        decisions: &mut Vec<Decision>,
    ) -> Result<Vec<Segment>> {
        self.uses.sort_unstable();
        let mut segments = Vec::with_capacity(self.uses.len().min(256));
        let zero = if self.arch.zero_unknown { beyond } else { default };
        extend(&mut segments, 0, zero);
        let mut next = u32::from(self.arch.zero_unknown);
        for uses in self.uses.chunk_by(|a, b| a.number() == b.number()) {
            let Some(number) = uses.first().map(|first| first.number()) else { continue };
            if number > next {
                extend(&mut segments, next, default);
            }
            extend(&mut segments, number, target(uses, rules, self.arch, decisions)?);
            next = number + 1;
        }
        extend(&mut segments, next, default);
        if let Some(highest) = self.highest {
            extend(&mut segments, highest + 1, beyond);
        }
        Ok(segments)
    }
}

/// Lets a segment start, unless the one before goes on.
pub(super) fn extend(segments: &mut Vec<Segment>, start: u32, target: Target) {
    match segments.last_mut() {
        Some(last) if last.target == target => {}
        Some(last) if last.start == start => {
            last.target = target;
            let merged = segments.len() >= 2
                && segments.get(segments.len() - 2).is_some_and(|before| before.target == target);
            if merged {
                segments.pop();
            }
        }
        _ => segments.push(Segment { start, target }),
    }
}

/// What happens to one call, by all its rules. The first rule without conditions outdoes all
/// others, as libseccomp has it.
fn target(
    uses: &[Use],
    rules: &[Rule],
    arch: &Arch,
    decisions: &mut Vec<Decision>,
) -> Result<Target> {
    let mut clauses = Vec::new();
    for one in uses {
        let Some(rule) = one.rule(rules) else { continue };
        if rule.conditions.is_empty() && one.inner() == 0 {
            return Ok(Target::Return(rule.action));
        }
        clauses.push((rule, effective(&rule.conditions, one.inner(), arch.wide)));
    }
    if let Some((rule, _)) = clauses.iter().find(|(_, conditions)| conditions.is_empty()) {
        return Ok(Target::Return(rule.action));
    }
    let mut ordered = Vec::with_capacity(clauses.len());
    for (rule, conditions) in clauses {
        insert(&mut ordered, Clause { conditions, action: rule.action }, rule.entry)?;
    }
    let decision = Decision { wide: arch.wide, clauses: ordered };
    let known = decisions.iter().position(|one| *one == decision);
    Ok(Target::Decide(known.unwrap_or_else(|| {
        decisions.push(decision);
        decisions.len() - 1
    })))
}

/// The conditions as this architecture compares them, without those that always hold.
///
/// In a multiplexed call the first argument tells the call; the others are compared where they
/// stand, although the call's own arguments lie in memory: libseccomp's reading.
fn effective(conditions: &[Condition], inner: u8, wide: bool) -> Vec<Condition> {
    let bits = if wide { u64::MAX } else { u32::MAX.into() };
    let inner_is = (inner != 0).then(|| Condition::equals(0, inner.into()));
    let kept = conditions.iter().filter(|c| inner == 0 || c.argument != 0);
    inner_is
        .into_iter()
        .chain(kept.copied())
        .map(|c| Condition { mask: c.mask & bits, value: c.value & bits, ..c })
        .filter(|c| c.mask != 0)
        .collect()
}

/// Puts a clause where libseccomp tries it.
///
/// Errors: another clause leaves it, or it leaves another, nothing to decide, and wants something
/// else; `entry` is named as the culprit. (runc fails here too, with "file exists".)
fn insert(clauses: &mut Vec<Clause>, new: Clause, entry: usize) -> Result<()> {
    let covered = |clause: &Clause| clause.conditions.starts_with(&new.conditions);
    if clauses.iter().any(|clause| covered(clause) && clause.action != new.action) {
        let err = Error::new("seccomp rules for one call contradict each other");
        return Err(err.at(format!("linux.seccomp.syscalls[{entry}]")).hint(
            "an earlier entry has the same conditions, or more of them, and another action; on \
             32-bit architectures only the lower halves of values count, and of a call inside \
             socketcall or ipc the first argument does not",
        ));
    }
    let at = clauses.iter().position(|clause| later(clause, &new)).unwrap_or(clauses.len());
    clauses.insert(at, new);
    Ok(())
}

/// Whether libseccomp tries `a` after `b`: later arguments first, equalities before limits,
/// larger values before smaller ones unless they are upper limits.
fn later(a: &Clause, b: &Clause) -> bool {
    let pairs = a.conditions.iter().zip(&b.conditions);
    let Some((a, b)) = pairs.into_iter().find(|(a, b)| a != b) else {
        return a.conditions.len() > b.conditions.len();
    };
    let upper = |c: &Condition| c.negated && c.test != Test::Equal;
    let rank = |c: &Condition| match c.test {
        Test::Equal => 3,
        _ if c.negated => 2,
        _ => 1,
    };
    let mask_high = |c: &Condition| c.mask >> 32;
    if (a.argument, rank(a)) != (b.argument, rank(b)) {
        return (a.argument, rank(a)) < (b.argument, rank(b));
    }
    if a.value >> 32 == b.value >> 32 && mask_high(a) != mask_high(b) {
        return false;
    }
    if upper(b) { a.value > b.value } else { a.value < b.value }
}

/// The targets of an ABI that shares the native token, where they are not the native ones.
pub(super) fn differences(native: &[Segment], other: &[Segment]) -> Vec<Segment> {
    let (mut native, mut other) = (native.iter().peekable(), other.iter().peekable());
    let (mut here, mut there) = (Target::Native, Target::Native);
    let mut segments = Vec::new();
    while let Some(start) = native.peek().into_iter().chain(other.peek()).map(|s| s.start).min() {
        if let Some(segment) = native.next_if(|segment| segment.start == start) {
            here = segment.target;
        }
        if let Some(segment) = other.next_if(|segment| segment.start == start) {
            there = segment.target;
        }
        extend(&mut segments, start, if here == there { Target::Native } else { there });
    }
    segments
}
