//! From targets to classic BPF, of which seccomp takes a part (`seccomp_check_filter` in the
//! kernel's kernel/seccomp.c).
//!
//! Jumps lead forward only, a conditional one over at most 255 instructions. The program is
//! therefore written from its end to its start: what a jump leads to always stands already, and
//! if it stands too far off, a copy or a long jump is put in between. System call numbers are
//! told apart by comparisons alone, so that the kernel recognises calls that are always allowed
//! and stops running the filter for them (`seccomp_is_const_allow`).

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K,
};
use libc::{BPF_LD, BPF_RET, BPF_W, sock_filter};

use super::calls::{Clause, Decision, Segment, Target};
use super::rules::{Condition, Test};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const TOKEN: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A jump this far leaves room for two instructions that come between.
const REACH: usize = 250;

/// Numbers told apart one by one before a comparison halves them.
const RUN: usize = 3;

/// A place in the program, counted from its end.
type Place = usize;

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Target(Target),
    At(Place),
}

impl Goal {
    const fn returning(action: u32) -> Self {
        Goal::Target(Target::Return(action))
    }
}

/// A program, growing towards its start.
pub(super) struct Assembler {
    /// The last instruction first.
    code: Vec<sock_filter>,
    /// Where each target was last seen.
    places: Vec<(Target, Place)>,
    default: u32,
    low_half: u32,
}

/// A run of numbers with one target, but for some single ones.
struct Block {
    start: u32,
    target: Target,
    exceptions: Vec<(u32, Target)>,
}

impl Assembler {
    /// An empty program. `default` follows the last clause of a decision, `low_half` is the
    /// offset of an argument's lower 32 bits.
    pub(super) fn new(default: u32, low_half: u32) -> Self {
        Assembler { code: Vec::with_capacity(512), places: Vec::new(), default, low_half }
    }

    /// The finished program: `entries` are the architectures' tokens and where their parts start,
    /// the most frequent first; `otherwise` is for all other tokens.
    pub(super) fn finish(mut self, entries: &[(u32, Goal)], otherwise: u32) -> Vec<sock_filter> {
        let mut next = Goal::returning(otherwise);
        for (token, entry) in entries.iter().rev() {
            next = self.jump(BPF_JEQ, *token, *entry, next);
        }
        self.load(TOKEN);
        self.code.reverse();
        self.code
    }

    /// Writes what tells the numbers of `segments` apart; it expects the number to be loaded.
    pub(super) fn tree(&mut self, segments: &[Segment], decisions: &[Decision]) -> Goal {
        for segment in segments {
            self.decision(segment.target, decisions);
        }
        self.subtree(&blocks(segments))
    }

    /// Writes the part that leads to `marked` if the number has the marker, else to `plain`.
    pub(super) fn split(&mut self, marker: u32, marked: Goal, plain: Goal) -> Goal {
        self.jump(BPF_JGE, marker, marked, plain)
    }

    /// Makes [`Target::Native`] known: the marker is taken off, then `native` goes on.
    pub(super) fn unmark(&mut self, marker: u32, native: Goal) {
        let place = self.place(native);
        if place + 1 != self.code.len() {
            self.long_jump(place);
        }
        self.push(BPF_ALU | BPF_AND | BPF_K, !marker);
        self.places.push((Target::Native, self.code.len() - 1));
    }

    /// Loads the number for the part that was just written and starts with `entry`.
    pub(super) fn load_number(&mut self, entry: Goal) -> Goal {
        let place = self.place(entry);
        if place + 1 != self.code.len() {
            self.long_jump(place);
        }
        Goal::At(self.load(NUMBER))
    }

    fn subtree(&mut self, blocks: &[Block]) -> Goal {
        match blocks {
            [] => Goal::returning(self.default),
            [block] => self.block(block.target, &block.exceptions),
            _ => {
                let middle = middle(blocks);
                let (low, high) = blocks.split_at(middle);
                let start = high.first().map_or(0, |block| block.start);
                let high = self.subtree(high);
                let low = self.subtree(low);
                self.jump(BPF_JGE, start, high, low)
            }
        }
    }

    /// One block: single numbers in a row, or halved if they are many.
    fn block(&mut self, target: Target, exceptions: &[(u32, Target)]) -> Goal {
        if exceptions.len() > RUN {
            let (low, high) = exceptions.split_at(exceptions.len() / 2);
            let start = high.first().map_or(0, |(number, _)| *number);
            let high = self.block(target, high);
            let low = self.block(target, low);
            return self.jump(BPF_JGE, start, high, low);
        }
        exceptions.iter().rev().fold(Goal::Target(target), |next, (number, target)| {
            self.jump(BPF_JEQ, *number, Goal::Target(*target), next)
        })
    }

    /// Writes a decision's clauses, if the target is one and not written yet.
    fn decision(&mut self, target: Target, decisions: &[Decision]) {
        let Target::Decide(index) = target else { return };
        let Some(decision) = decisions.get(index) else { return };
        if self.places.iter().any(|(known, _)| *known == target) {
            return;
        }
        let mut next = Goal::returning(self.default);
        for run in decision.clauses.chunk_by(alike).rev() {
            next = self.run(run, decision.wide, next);
        }
        let place = self.place(next);
        self.places.push((target, place));
    }

    /// Writes clauses that differ only in the lower half of one value, or a single one.
    fn run(&mut self, run: &[Clause], wide: bool, no: Goal) -> Goal {
        match run {
            [clause] => {
                let yes = Goal::returning(clause.action);
                let conditions = clause.conditions.iter().rev();
                conditions.fold(yes, |yes, condition| self.condition(condition, wide, yes, no))
            }
            _ => {
                let mut next = no;
                let mut first = None;
                for clause in run.iter().rev() {
                    let Some(condition) = clause.conditions.first() else { continue };
                    let yes = Goal::returning(clause.action);
                    next = self.jump(BPF_JEQ, condition.value as u32, yes, next);
                    first = Some(condition);
                }
                let Some(condition) = first else { return no };
                let low = Goal::At(self.load(self.low(condition)));
                if wide { self.high(condition, low, no) } else { low }
            }
        }
    }

    /// Writes one comparison.
    fn condition(&mut self, condition: &Condition, wide: bool, yes: Goal, no: Goal) -> Goal {
        let (yes, no) = if condition.negated { (no, yes) } else { (yes, no) };
        let value = condition.value as u32;
        let low = match condition.test {
            Test::Equal => self.equal(self.low(condition), condition.mask as u32, value, yes, no),
            Test::Greater => self.limit(self.low(condition), BPF_JGT, value, yes, no),
            Test::GreaterOrEqual => self.limit(self.low(condition), BPF_JGE, value, yes, no),
        };
        match (wide, condition.test) {
            (false, _) => low,
            (true, Test::Equal) => self.high(condition, low, no),
            (true, _) => {
                let high = (condition.value >> 32) as u32;
                let equal = self.jump(BPF_JEQ, high, low, no);
                self.jump(BPF_JGT, high, yes, equal);
                Goal::At(self.load(self.high_half(condition)))
            }
        }
    }

    /// Compares the upper halves for equality.
    fn high(&mut self, condition: &Condition, yes: Goal, no: Goal) -> Goal {
        let (mask, value) = ((condition.mask >> 32) as u32, (condition.value >> 32) as u32);
        self.equal(self.high_half(condition), mask, value, yes, no)
    }

    /// Compares the masked word at `offset`; without a mask there is nothing to compare.
    fn equal(&mut self, offset: u32, mask: u32, value: u32, yes: Goal, no: Goal) -> Goal {
        match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, _) => drop(self.jump(BPF_JEQ, value, yes, no)),
            (_, 0) => drop(self.jump(BPF_JSET, mask, no, yes)),
            _ => {
                self.jump(BPF_JEQ, value, yes, no);
                self.push(BPF_ALU | BPF_AND | BPF_K, mask);
            }
        }
        Goal::At(self.load(offset))
    }

    fn limit(&mut self, offset: u32, test: u32, value: u32, yes: Goal, no: Goal) -> Goal {
        self.jump(test, value, yes, no);
        Goal::At(self.load(offset))
    }

    fn low(&self, condition: &Condition) -> u32 {
        ARGUMENTS + 8 * condition.argument + self.low_half
    }

    fn high_half(&self, condition: &Condition) -> u32 {
        ARGUMENTS + 8 * condition.argument + (4 - self.low_half)
    }

    /// Writes a conditional jump.
    fn jump(&mut self, test: u32, value: u32, yes: Goal, no: Goal) -> Goal {
        let (yes, no) = (self.place(yes), self.place(no));
        // What the second may have put in between is what REACH leaves room for.
        let here = self.code.len();
        let skip = |place: Place| (here - 1 - place) as u8;
        self.code.push(sock_filter {
            code: (BPF_JMP | test | BPF_K) as u16,
            jt: skip(yes),
            jf: skip(no),
            k: value,
        });
        Goal::At(here)
    }

    /// A place in reach that leads to the goal.
    fn place(&mut self, goal: Goal) -> Place {
        let known = match goal {
            Goal::At(place) => Some(place),
            Goal::Target(target) => self.last(target),
        };
        match (known, goal) {
            (Some(place), _) if self.code.len() - place <= REACH => place,
            (_, Goal::Target(Target::Return(action))) => {
                let place = self.push(BPF_RET | BPF_K, action);
                self.remember(Target::Return(action), place)
            }
            (Some(place), Goal::At(_)) => self.long_jump(place),
            (Some(place), Goal::Target(target)) => {
                let jump = self.long_jump(place);
                self.remember(target, jump)
            }
            // Decisions are written before the trees that lead to them.
            (None, _) => self.place(Goal::returning(self.default)),
        }
    }

    fn last(&self, target: Target) -> Option<Place> {
        self.places.iter().find(|(known, _)| *known == target).map(|(_, place)| *place)
    }

    fn remember(&mut self, target: Target, place: Place) -> Place {
        match self.places.iter_mut().find(|(known, _)| *known == target) {
            Some(known) => known.1 = place,
            None => self.places.push((target, place)),
        }
        place
    }

    fn long_jump(&mut self, place: Place) -> Place {
        let skip = self.code.len() - 1 - place;
        self.push(BPF_JMP | BPF_JA, skip as u32)
    }

    fn load(&mut self, offset: u32) -> Place {
        self.push(BPF_LD | BPF_W | BPF_ABS, offset)
    }

    fn push(&mut self, code: u32, k: u32) -> Place {
        self.code.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
        self.code.len() - 1
    }
}

/// Whether two clauses can share the load and the comparison of the upper half.
fn alike(a: &Clause, b: &Clause) -> bool {
    let (Some(x), Some(y)) = (a.conditions.first(), b.conditions.first()) else { return false };
    let plain = |c: &Condition| c.test == Test::Equal && !c.negated && c.mask as u32 == u32::MAX;
    let single = a.conditions.len() == 1 && b.conditions.len() == 1;
    single
        && plain(x)
        && plain(y)
        && (x.argument, x.mask, x.value >> 32) == (y.argument, y.mask, y.value >> 32)
}

/// Joins segments: a number that interrupts a run alone costs one comparison, not two.
fn blocks(segments: &[Segment]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity(segments.len());
    let mut rest = segments;
    while let [first, more @ ..] = rest {
        let mut block = Block { start: first.start, target: first.target, exceptions: Vec::new() };
        rest = more;
        while let Some(singles) = interruption(rest, block.target) {
            let (inside, after) = rest.split_at(singles);
            block.exceptions.extend(inside.iter().map(|one| (one.start, one.target)));
            rest = after.get(1..).unwrap_or_default();
        }
        blocks.push(block);
    }
    blocks
}

/// How many segments of a single number stand before the target comes again.
fn interruption(segments: &[Segment], target: Target) -> Option<usize> {
    let starts = segments.iter().zip(segments.iter().skip(1));
    let singles = starts.take_while(|(one, next)| one.start + 1 == next.start).take(RUN);
    let again = |(_, next): (&Segment, &Segment)| next.target == target;
    singles.map(again).position(|again| again).map(|before| before + 1)
}

/// Where to halve blocks so that both sides take about as many comparisons.
fn middle(blocks: &[Block]) -> usize {
    let weight = |block: &Block| 1 + block.exceptions.len();
    let total: usize = blocks.iter().map(weight).sum();
    let mut sum = 0;
    let half = blocks.iter().position(|block| {
        sum += weight(block);
        sum * 2 >= total
    });
    half.map_or(1, |half| half + 1).clamp(1, blocks.len() - 1)
}
