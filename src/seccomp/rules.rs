//! From the words of `linux.seccomp` to rules: actions, operators and flags are checked here.

use crate::error::{Error, Result};
use crate::spec::config::{Seccomp, SyscallArg, SyscallRule};

use super::arch;
use crate::sys::seccomp::takes_flags;

/// System calls have six arguments.
const ARGUMENTS: u32 = 6;
/// The largest errno that the kernel returns (`MAX_ERRNO`); it cuts higher ones silently.
const MAX_ERRNO: u32 = 4095;

/// The words for actions, in runtime-spec's order.
const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_KILL", libc::SECCOMP_RET_KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", libc::SECCOMP_RET_KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", libc::SECCOMP_RET_KILL_THREAD),
    ("SCMP_ACT_TRAP", libc::SECCOMP_RET_TRAP),
    ("SCMP_ACT_ERRNO", libc::SECCOMP_RET_ERRNO),
    ("SCMP_ACT_TRACE", libc::SECCOMP_RET_TRACE),
    ("SCMP_ACT_ALLOW", libc::SECCOMP_RET_ALLOW),
    ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
    ("SCMP_ACT_NOTIFY", libc::SECCOMP_RET_USER_NOTIF),
];

/// The words for flags. The runtime loads the filter in its only thread, so `TSYNC` asks for
/// nothing more, and the kernel refuses it together with a listener.
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG as u32),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// All words of `actions`, operators and flags that are understood, for `features`.
pub(super) fn words() -> (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>) {
    (
        ACTIONS.iter().map(|(name, _)| *name).collect(),
        OPERATORS.iter().map(|(name, _)| *name).collect(),
        FLAGS.iter().map(|(name, _)| *name).collect(),
    )
}

/// The flags that the running kernel takes.
pub(super) fn supported_flags() -> Vec<&'static str> {
    let takes = |bits: u32| match bits {
        WAIT_KILLABLE_RECV => bits | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32,
        _ => bits,
    };
    let taken = FLAGS.iter().filter(|(_, bits)| takes_flags(takes(*bits)));
    taken.map(|(name, _)| *name).collect()
}

/// A comparison of a masked argument; the other three operators are these negated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// The words for operators: the test, and whether it has to fail.
const OPERATORS: [(&str, (Test, bool)); 7] = [
    ("SCMP_CMP_NE", (Test::Equal, true)),
    ("SCMP_CMP_LT", (Test::GreaterOrEqual, true)),
    ("SCMP_CMP_LE", (Test::Greater, true)),
    ("SCMP_CMP_EQ", (Test::Equal, false)),
    ("SCMP_CMP_GE", (Test::GreaterOrEqual, false)),
    ("SCMP_CMP_GT", (Test::Greater, false)),
    (MASKED_EQ, (Test::Equal, false)),
];
const MASKED_EQ: &str = "SCMP_CMP_MASKED_EQ";

/// What one argument has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) test: Test,
    pub(super) negated: bool,
    pub(super) mask: u64,
    /// Has no bit outside the mask.
    pub(super) value: u64,
}

impl Condition {
    /// `argument == value`, over all 64 bits.
    pub(super) fn equals(argument: u32, value: u64) -> Self {
        Condition { argument, test: Test::Equal, negated: false, mask: u64::MAX, value }
    }
}

/// What happens to the calls of one entry if all conditions hold.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
    /// The index in `syscalls`.
    pub(super) entry: usize,
}

/// The action for calls that no rule names.
pub(super) fn default_action(config: &Seccomp) -> Result<u32> {
    let at = || "linux.seccomp.defaultAction".to_owned();
    let data_at = || "linux.seccomp.defaultErrnoRet".to_owned();
    match action(&config.default_action, config.default_errno_ret, at, data_at)? {
        libc::SECCOMP_RET_USER_NOTIF => {
            Err(Error::new("SCMP_ACT_NOTIFY cannot be used as default action").at(at()))
        }
        action => Ok(action),
    }
}

/// The action of one entry of `syscalls`, its names checked.
pub(super) fn entry_action(index: usize, entry: &SyscallRule) -> Result<u32> {
    let at = |member: &str| format!("linux.seccomp.syscalls[{index}].{member}");
    let data_at = || at("errnoRet");
    let action = action(&entry.action, entry.errno_ret, || at("action"), data_at)?;
    if entry.names.is_empty() {
        return Err(Error::new("seccomp rule without names").at(at("names")));
    }
    if let Some(i) = entry.names.iter().position(String::is_empty) {
        return Err(Error::new("empty system call name").at(at(&format!("names[{i}]"))));
    }
    // The call that hands the listener over must not wait for the listener.
    if action == libc::SECCOMP_RET_USER_NOTIF && entry.names.iter().any(|name| name == "write") {
        let err = Error::new("SCMP_ACT_NOTIFY cannot be used for the write syscall");
        return Err(err.at(at("action")));
    }
    Ok(action)
}

/// The kernel's return value for an action's word and the errno (or the tracer's number) with it.
fn action(
    word: &str,
    data: Option<u32>,
    at: impl Fn() -> String,
    data_at: impl Fn() -> String,
) -> Result<u32> {
    let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == word) else {
        return Err(unknown("action", word, &ACTIONS.map(|(name, _)| name)).at(at()));
    };
    let limit = match *action {
        libc::SECCOMP_RET_ERRNO => MAX_ERRNO,
        libc::SECCOMP_RET_TRACE => libc::SECCOMP_RET_DATA,
        _ if data.is_none() => return Ok(*action),
        _ => return Err(Error::new(format!("{word} takes no errno")).at(data_at())),
    };
    match data.unwrap_or(libc::EPERM as u32) {
        data if data <= limit => Ok(action | data),
        data => {
            let err = Error::new(format!("{data} is too large for {word}"));
            Err(err.at(data_at()).hint(format!("the largest is {limit}")))
        }
    }
}

/// Makes the rules of an entry.
///
/// Its conditions hold together, but if two of them are about the same argument each is a rule of
/// its own: so runc reads such profiles.
pub(super) fn entry_rules(index: usize, entry: &SyscallRule, action: u32) -> Result<Vec<Rule>> {
    let mut conditions = Vec::with_capacity(entry.args.len());
    let mut seen = 0u32;
    let mut twice = false;
    for (i, arg) in entry.args.iter().enumerate() {
        let at = |member: &str| format!("linux.seccomp.syscalls[{index}].args[{i}].{member}");
        let condition = condition(arg, at)?;
        twice |= seen & (1 << condition.argument) != 0;
        seen |= 1 << condition.argument;
        conditions.push(condition);
    }
    conditions.sort_by_key(|condition| condition.argument);
    let rule = |conditions| Rule { action, conditions, entry: index };
    match twice {
        false => Ok(vec![rule(conditions)]),
        true => Ok(conditions.into_iter().map(|condition| rule(vec![condition])).collect()),
    }
}

/// Checks one element of `args`; `at` gives the path of its members.
fn condition(arg: &SyscallArg, at: impl Fn(&str) -> String) -> Result<Condition> {
    if arg.index >= ARGUMENTS {
        let err = Error::new(format!("system calls have no argument {}", arg.index));
        return Err(err.hint("arguments are numbered from 0 to 5").at(at("index")));
    }
    let Some((_, (test, negated))) = OPERATORS.iter().find(|(name, _)| *name == arg.op) else {
        let names = OPERATORS.map(|(name, _)| name);
        return Err(unknown("operator", &arg.op, &names).at(at("op")));
    };
    let (mask, value) = match arg.op == MASKED_EQ {
        true => (arg.value, arg.value_two & arg.value),
        false => (u64::MAX, arg.value),
    };
    Ok(Condition { argument: arg.index, test: *test, negated: *negated, mask, value })
}

/// The flags for seccomp(2), without the listener's. A profile that does not speak of them wants no
/// speculation controls (runc's default); an empty list wants none of the flags.
pub(super) fn flags(flags: Option<&[String]>, notifies: bool) -> Result<u32> {
    let Some(flags) = flags else { return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32) };
    let mut bits = 0;
    for (i, flag) in flags.iter().enumerate() {
        let at = || format!("linux.seccomp.flags[{i}]");
        let Some((_, bit)) = FLAGS.iter().find(|(name, _)| name == flag) else {
            return Err(unknown("flag", flag, &FLAGS.map(|(name, _)| name)).at(at()));
        };
        bits |= bit;
    }
    // It is about calls that wait for an agent. The kernel refuses it where none can.
    Ok(if notifies { bits } else { bits & !WAIT_KILLABLE_RECV })
}

/// Refuses names that are no architecture's.
pub(super) fn check_architectures(names: &[String]) -> Result<()> {
    match names.iter().enumerate().find(|(_, name)| !arch::NAMES.contains(&name.as_str())) {
        None => Ok(()),
        Some((i, name)) => Err(unknown("architecture", name, &arch::NAMES)
            .at(format!("linux.seccomp.architectures[{i}]"))),
    }
}

/// A word that is not in the list.
fn unknown(what: &str, word: &str, known: &[&str]) -> Error {
    Error::new(format!("unknown seccomp {what} {word:?}"))
        .hint(format!("one of {}", known.join(", ")))
}
