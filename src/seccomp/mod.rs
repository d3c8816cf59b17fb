//! `linux.seccomp` compiled to a BPF program (runtime-spec, config-linux.md, "Seccomp").
//!
//! A profile passes four stages, each a file: `rules` checks the words, `table` and `arch`
//! turn names into numbers, `calls` settles what happens to each number, `bpf` writes the
//! program. Where the specification is silent, libseccomp's and runc's readings hold; the tests
//! compare with libseccomp.

mod agent;
mod arch;
mod bpf;
mod calls;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::spec::config::{Seccomp, SyscallRule};

pub use agent::Listener;
use arch::Family;
use bpf::{Assembler, Goal};
use calls::{Calls, Decision, Target};
use rules::Rule;

/// The words that [`compile`] understands, as the specification's features.md lists them.
pub struct Words {
    /// Actions, such as `SCMP_ACT_ERRNO`.
    pub actions: Vec<&'static str>,
    /// Operators, such as `SCMP_CMP_EQ`.
    pub operators: Vec<&'static str>,
    /// Architectures. Those of other families need no program: the kernel runs none of their calls.
    pub archs: Vec<&'static str>,
    /// Filter flags.
    pub flags: Vec<&'static str>,
    /// Those of them that this kernel takes.
    pub supported_flags: Vec<&'static str>,
}

/// Everything that [`compile`] understands.
pub fn words() -> Words {
    let (actions, operators, flags) = rules::words();
    let (archs, supported_flags) = (arch::NAMES.to_vec(), rules::supported_flags());
    Words { actions, operators, archs, flags, supported_flags }
}

/// The kernel takes no longer program (`BPF_MAXINSNS`, linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;

/// A filter, ready for seccomp(2).
#[derive(Debug)]
pub struct Filter {
    /// The program: not empty, at most 4,096 instructions.
    pub program: Vec<libc::sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`; `NEW_LISTENER` is among them if and only if there is a listener.
    pub flags: u32,
    /// Who gets the calls of `SCMP_ACT_NOTIFY`, if the profile has that action.
    pub listener: Option<Listener>,
    /// Names that no architecture has, of entries stricter than the default: each with its path.
    pub unknown: Vec<(String, String)>,
}

/// Compiles a profile; neither looks at the host nor changes it.
///
/// The native architecture is always included; calls of those that are not named are kept out, by
/// a profile that allows all, too. Errors: words that the specification does not
/// know, values that cannot be applied, rules that contradict each other, a program too long;
/// each with its path from the root of config.json.
pub fn compile(config: &Seccomp) -> Result<Filter> {
    compile_for(config, &arch::NATIVE)
}

fn compile_for(config: &Seccomp, family: &Family) -> Result<Filter> {
    let default = rules::default_action(config)?;
    rules::check_architectures(&config.architectures)?;
    let profile = Profile::read(config, family, default)?;
    let listener = Listener::plan(config, profile.notifies)?;
    let mut flags = rules::flags(config.flags.as_deref(), profile.notifies)?;
    if listener.is_some() {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    }
    let Profile { rules, calls, unknown, .. } = profile;
    let program = assemble(family, default, &rules, calls)?;
    if program.len() > MAX_INSTRUCTIONS {
        let length = program.len();
        let err = Error::new(format!("seccomp profile of {length} instructions is too large"));
        return Err(err.at("linux.seccomp").hint("the kernel takes 4096"));
    }
    Ok(Filter { program, flags, listener, unknown })
}

/// The error of a seccomp(2) that refused a filter.
pub fn refused(errno: Errno) -> Error {
    let err = Error::from(errno);
    match errno {
        Errno::EBUSY => {
            err.hint("tare runs under a filter with an agent already: one is the limit")
        }
        Errno::EINVAL => err.hint("the kernel lacks one of the flags: see tare features"),
        _ => err,
    }
}

/// Whether a profile surely lets the call `name` through, whatever its arguments.
pub fn allows(config: &Seccomp, name: &str) -> bool {
    let mut entries = config.syscalls.iter().filter(|entry| entry.names.iter().any(|n| n == name));
    let lets_through = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    match lets_through(&config.default_action) {
        true => entries.all(|entry| lets_through(&entry.action)),
        false => entries.any(|entry| lets_through(&entry.action) && entry.args.is_empty()),
    }
}

/// Whether a profile surely keeps the call `name` from being made, whatever its arguments.
pub fn denies(config: &Seccomp, name: &str) -> bool {
    const PASSING: [&str; 4] =
        ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"];
    let stops = |action: &str| !PASSING.contains(&action);
    let named = |entry: &&SyscallRule| {
        entry.action != config.default_action && entry.names.iter().any(|n| n == name)
    };
    let mut entries = config.syscalls.iter().filter(named);
    // The first without conditions outdoes all others.
    match entries.clone().find(|entry| entry.args.is_empty()) {
        Some(first) => stops(&first.action),
        None => stops(&config.default_action) && entries.all(|entry| stops(&entry.action)),
    }
}

/// Whether `action` lets less through than `than`, both as the filter returns them: so the kernel
/// ranks them where filters differ.
fn is_stricter(action: u32, than: u32) -> bool {
    let rank = |action: u32| (action & libc::SECCOMP_RET_ACTION_FULL) as i32;
    rank(action) < rank(than)
}

/// A profile whose names are resolved.
struct Profile {
    rules: Vec<Rule>,
    /// By architecture, the native one first.
    calls: Vec<Calls>,
    unknown: Vec<(String, String)>,
    notifies: bool,
}

impl Profile {
    fn read(config: &Seccomp, family: &Family, default: u32) -> Result<Profile> {
        let archs = family.chosen(&config.architectures);
        let mut profile = Profile {
            rules: Vec::with_capacity(config.syscalls.len()),
            calls: archs.into_iter().map(Calls::new).collect(),
            unknown: Vec::new(),
            notifies: false,
        };
        // Only lookups of these two names are needed for all calls inside them.
        let carriers = ["socketcall", "ipc"].map(|name| family.table.lookup(name));
        for (index, entry) in config.syscalls.iter().enumerate() {
            let action = rules::entry_action(index, entry)?;
            let rules = rules::entry_rules(index, entry, action)?;
            profile.notifies |= action == libc::SECCOMP_RET_USER_NOTIF;
            let first = profile.rules.len();
            // A rule for what happens anyway must not outdo later ones.
            if action != default {
                profile.rules.extend(rules);
            }
            if profile.rules.len() > Calls::MAX_RULES {
                return Err(Error::new("too many seccomp rules").at("linux.seccomp.syscalls"));
            }
            for (i, name) in entry.names.iter().enumerate() {
                let is_known = profile.resolve(name, first, family, carriers);
                if !is_known && is_stricter(action, default) {
                    let at = format!("linux.seccomp.syscalls[{index}].names[{i}]");
                    profile.unknown.push((at, name.clone()));
                }
            }
        }
        Ok(profile)
    }

    /// Applies the rules from `first` on to the call `name` of every architecture; `false`: no
    /// machine's has it.
    fn resolve(
        &mut self,
        name: &str,
        first: usize,
        family: &Family,
        carriers: [Option<table::Numbers>; 2],
    ) -> bool {
        let Some(numbers) = family.table.lookup(name) else { return false };
        let inner = family.multiplexed.and_then(|column| numbers.on(column));
        for calls in &mut self.calls {
            let arch = calls.arch;
            if let Some(number) = numbers.on(arch.column) {
                calls.name(number);
                (first..self.rules.len()).for_each(|rule| calls.apply(number, rule, 0));
            }
            let Some(inner) = inner.filter(|_| arch.multiplexed) else { continue };
            let [socketcall, ipc] = carriers;
            let (carrier, inner) =
                if inner < 100 { (socketcall, inner) } else { (ipc, inner - 100) };
            if let Some(number) = carrier.and_then(|carrier| carrier.on(arch.column)) {
                (first..self.rules.len()).for_each(|rule| calls.apply(number, rule, inner as u8));
            }
        }
        true
    }
}

/// What calls get that are newer than the profile: programs take ENOSYS for "not there" and fall
/// back to older calls, while EPERM or a signal ends them. A default that lets calls through
/// lets these through as well.
fn beyond(default: u32) -> u32 {
    match default & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_TRACE => default,
        _ => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    }
}

/// Writes the program: the architectures one after the other, each with its own entry. Calls of
/// an architecture without one kill the thread.
fn assemble(
    family: &Family,
    default: u32,
    rules: &[Rule],
    calls: Vec<Calls>,
) -> Result<Vec<libc::sock_filter>> {
    let other_arch = libc::SECCOMP_RET_KILL_THREAD;
    let (default_target, beyond) = (Target::Return(default), Target::Return(beyond(default)));
    let mut decisions: Vec<Decision> = Vec::new();
    let mut parts = Vec::with_capacity(calls.len());
    for calls in calls {
        let arch = calls.arch;
        parts.push((arch, calls.segments(rules, default_target, beyond, &mut decisions)?));
    }
    // An ABI with the native token does not get an entry of its own.
    let marked =
        parts.iter().position(|(arch, _)| arch.marker != 0).map(|i| parts.swap_remove(i).1);
    let mut code = Assembler::new(default, family.low_half);
    let mut entries = Vec::with_capacity(parts.len());
    for (i, (arch, mut segments)) in parts.into_iter().enumerate().rev() {
        let marker = family.marker().filter(|_| i == 0);
        if let (Some(marker), None) = (marker, &marked) {
            calls::extend(&mut segments, marker, Target::Return(other_arch));
            // A tracer's way to skip a call is the number -1, which no ABI has.
            calls::extend(&mut segments, u32::MAX, default_target);
        }
        let mut root = code.tree(&segments, &decisions);
        if let (Some(marker), Some(marked)) = (marker, &marked) {
            root = with_marked(&mut code, root, &segments, marked, marker, &decisions);
        }
        entries.insert(0, (arch.token, code.load_number(root)));
    }
    Ok(code.finish(&entries, other_arch))
}

/// Writes, before the native tree, the few numbers that the marked ABI treats otherwise.
fn with_marked(
    code: &mut Assembler,
    native: Goal,
    segments: &[calls::Segment],
    marked: &[calls::Segment],
    marker: u32,
    decisions: &[Decision],
) -> Goal {
    let mut differences = calls::differences(segments, marked);
    differences.iter_mut().for_each(|segment| segment.start += marker);
    code.unmark(marker, native);
    let marked = code.tree(&differences, decisions);
    code.split(marker, marked, native)
}
