//! Device rules for cgroup v2: a small program that the kernel asks for every open and mknod
//! (cgroup-v2.rst, "Device controller"; bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The last rule that speaks of a device decides, for each of r, w and m by itself: so the program
//! goes through the rules from the last to the first, and what one has allowed is not asked any more.
//! Holes in earlier rules, which v1 cannot express, are no trouble here.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::devices::Rule;
use super::dir;
use crate::error::{Doing, Error, Result};
use crate::sys::bpf::{self, Insn, Name};

/// By this our programs are known among others', such as systemd's.
const NAME: &Name = b"tare_devices\0\0\0\0";

/// A device filter, planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Insn>,
    /// Whether no rule of the configuration forbids anything: then a caller who may not use bpf(2)
    /// goes without.
    optional: bool,
}

// What linux/bpf.h calls mknod, read and write, and kinds of devices.
const ACCESS: [(char, i32); 3] = [('m', 1), ('r', 2), ('w', 4)];
const ALL: i32 = 7;
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

// Registers: the verdict, the context; type, access, major and minor of what is asked for.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Codes of instructions (kernel, instruction-set.rst): class | source | operation.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

impl Filter {
    /// The filter for `rules` in their order; what none of them speaks of is allowed if `default`.
    pub fn new(rules: &[Rule], default: bool, optional: bool) -> Filter {
        let mut program = vec![
            Insn::new(LOAD_WORD, TYPE, CONTEXT, 0, 0),
            Insn::new(MOVE_REGISTER, WANTED, TYPE, 0, 0),
            Insn::new(SHIFT_RIGHT, WANTED, 0, 0, 16),
            Insn::new(AND, TYPE, 0, 0, 0xffff),
            Insn::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
            Insn::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        ];
        rules.iter().rev().for_each(|rule| append(&mut program, rule));
        program.extend(verdict(default));
        Filter { program, optional }
    }

    /// Whether who may not use bpf(2) goes without.
    #[cfg(test)]
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// Attaches the filter to the cgroup, in one stroke in the place of an earlier one of ours.
    pub fn attach(&self, dir: &str, at: &str) -> Result<()> {
        let program = match bpf::load_device_filter(&self.program, NAME) {
            Err(Errno::EPERM) if self.optional || in_user_namespace() => return Ok(()),
            loaded => loaded.map_err(|errno| refusal(errno, dir).at(at))?,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let cgroup = open(dir, flags, Mode::empty()).doing(|| format!("open {dir}"))?;
        let earlier = ours(&cgroup).map_err(|errno| refusal(errno, dir).at(at))?;
        let replaced = earlier.first().map(AsFd::as_fd);
        bpf::attach(cgroup.as_fd(), program.as_fd(), replaced)
            .and_then(|()| {
                earlier.iter().skip(1).try_for_each(|old| bpf::detach(cgroup.as_fd(), old.as_fd()))
            })
            .map_err(|errno| refusal(errno, dir).at(at))
    }
}

/// The filters of ours that are attached to a cgroup.
fn ours(cgroup: &OwnedFd) -> nix::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for id in bpf::attached(cgroup.as_fd())? {
        match bpf::open(id) {
            // Somebody else has detached it since.
            Err(Errno::ENOENT) => {}
            program => {
                let program = program?;
                if bpf::name(program.as_fd())? == *NAME {
                    found.push(program);
                }
            }
        }
    }
    Ok(found)
}

fn refusal(errno: Errno, dir: &str) -> Error {
    let err = Error::sys(format!("attach the device filter to {dir}"), errno);
    match errno {
        Errno::EPERM => err.hint(
            "on cgroup v2 device rules are a BPF program, which takes CAP_BPF and CAP_NET_ADMIN, and \
             no exclusive filter above; without them only rules that allow can be left out",
        ),
        Errno::ENOSYS | Errno::EINVAL => {
            err.hint("the kernel needs CONFIG_CGROUP_BPF for device rules on cgroup v2")
        }
        _ => err,
    }
}

/// Nobody may use bpf(2) for this in a user namespace, and nobody there may make devices, or reach
/// one that its owner in the host could not: peers leave the filter out too.
fn in_user_namespace() -> bool {
    let map = dir::read("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// The rule's instructions: a verdict if it settles the matter, else on to the next.
fn append(program: &mut Vec<Insn>, rule: &Rule) {
    let bits = ACCESS.iter().filter(|(letter, _)| rule.access.contains(*letter));
    // An `a` that denies needs no access.
    let access = if rule.access.is_empty() { ALL } else { bits.map(|(_, bit)| bit).sum() };
    let mut tests = Vec::with_capacity(3);
    match rule.kind {
        'b' => tests.push((TYPE, BLOCK)),
        'c' => tests.push((TYPE, CHAR)),
        _ => {}
    }
    let number = |register, number: Option<u32>| number.map(|n| (register, n.cast_signed()));
    tests.extend(number(MAJOR, rule.major));
    tests.extend(number(MINOR, rule.minor));
    let body = body(rule.allow, access);
    for (index, (register, value)) in tests.iter().enumerate() {
        let skipped = tests.len() - index - 1 + body.len();
        program.push(Insn::new(JUMP_UNEQUAL, *register, 0, skipped as i16, *value));
    }
    program.extend(body);
}

fn body(allow: bool, access: i32) -> Vec<Insn> {
    // The verdict is two instructions.
    const PAST_VERDICT: i16 = 2;
    let mut body = match (allow, access) {
        (_, ALL) => Vec::new(),
        // What is allowed need not be asked any more; all of it has to be.
        (true, _) => vec![
            Insn::new(AND, WANTED, 0, 0, ALL & !access),
            Insn::new(JUMP_UNEQUAL, WANTED, 0, PAST_VERDICT, 0),
        ],
        // Any of it is enough.
        (false, _) => vec![
            Insn::new(MOVE_REGISTER, VERDICT, WANTED, 0, 0),
            Insn::new(AND, VERDICT, 0, 0, access),
            Insn::new(JUMP_EQUAL, VERDICT, 0, PAST_VERDICT, 0),
        ],
    };
    body.extend(verdict(allow));
    body
}

fn verdict(allow: bool) -> [Insn; 2] {
    [Insn::new(MOVE, VERDICT, 0, 0, allow.into()), Insn::new(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel asks for.
    #[derive(Clone, Copy, Debug)]
    struct Asked {
        kind: i32,
        access: i32,
        major: u32,
        minor: u32,
    }

    /// Executes a program as the kernel does.
    fn run(program: &[Insn], asked: Asked) -> bool {
        let mut registers = [0u32; 16];
        let mut next = 0;
        loop {
            let insn = program[next];
            let (target, source) = insn.registers();
            let (source, value) = (registers[source as usize], insn.value.cast_unsigned());
            let target = &mut registers[target as usize];
            let mut skip = 0;
            match insn.code {
                LOAD_WORD => {
                    let words = [asked.access << 16 | asked.kind; 1].map(i32::cast_unsigned);
                    *target = [words[0], asked.major, asked.minor][insn.offset as usize / 4];
                }
                MOVE => *target = value,
                MOVE_REGISTER => *target = source,
                AND => *target &= value,
                SHIFT_RIGHT => *target >>= value,
                JUMP_EQUAL if *target == value => skip = insn.offset as usize,
                JUMP_UNEQUAL if *target != value => skip = insn.offset as usize,
                JUMP_EQUAL | JUMP_UNEQUAL => {}
                EXIT => return registers[VERDICT as usize] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
            next += 1 + skip;
        }
    }

    /// The meaning: for each letter the last rule that speaks of the device decides.
    fn expected(rules: &[Rule], default: bool, asked: Asked) -> bool {
        let speaks = |rule: &&Rule| {
            let kind = rule.kind == 'a' || (rule.kind == 'b') == (asked.kind == BLOCK);
            kind && rule.major.is_none_or(|n| n == asked.major)
                && rule.minor.is_none_or(|n| n == asked.minor)
        };
        ACCESS.iter().filter(|(_, bit)| asked.access & bit != 0).all(|(letter, _)| {
            let has = |rule: &&Rule| rule.access.is_empty() || rule.access.contains(*letter);
            let last = rules.iter().rev().filter(speaks).find(has);
            last.map_or(default, |rule| rule.allow)
        })
    }

    fn rules() -> Vec<Rule<'static>> {
        let mut all = Vec::new();
        for (allow, kind, access) in [
            (true, 'c', "rwm"),
            (false, 'c', "w"),
            (true, 'a', "r"),
            (false, 'a', ""),
            (true, 'b', "mr"),
            (false, 'b', "rwm"),
        ] {
            for (major, minor) in
                [(None, Some(3)), (Some(1), None), (Some(1), Some(3)), (Some(u32::MAX), None)]
            {
                all.push(Rule { allow, kind, major, minor, access });
            }
        }
        all
    }

    /// Every question about every three rules out of two dozen.
    #[test]
    fn the_last_rule_decides_for_each_letter() {
        let mut asked = Vec::new();
        for kind in [BLOCK, CHAR] {
            for (major, minor) in [(1, 3), (1, 4), (2, 3), (u32::MAX, 0)] {
                asked.extend((1..=ALL).map(|access| Asked { kind, access, major, minor }));
            }
        }
        let rules = rules();
        for a in &rules {
            for b in &rules {
                for (c, default) in rules.iter().zip([true, false].into_iter().cycle()) {
                    let list = [*a, *b, *c];
                    let filter = Filter::new(&list, default, false);
                    for asked in &asked {
                        let allowed = run(&filter.program, *asked);
                        assert_eq!(allowed, expected(&list, default, *asked), "{list:?} {asked:?}");
                    }
                }
            }
        }
    }

    /// As on v1: a question without any letter is answered by a rule for the whole device or else
    /// by the default.
    #[test]
    fn mere_existence() {
        let rule = Rule { allow: true, kind: 'c', major: Some(1), minor: Some(3), access: "rwm" };
        let filter = Filter::new(&[rule], false, false);
        let asked = Asked { kind: CHAR, access: 0, major: 1, minor: 3 };
        assert!(run(&filter.program, asked));
        assert!(!run(&filter.program, Asked { minor: 4, ..asked }));
    }
}
