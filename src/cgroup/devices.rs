//! Device rules, and their way into cgroup v1 (the kernel's device_controller documentation,
//! "devices.rst"); device_filter.rs is that into v2.
//!
//! v1 keeps "all allowed but …" or "nothing allowed but …" and a list of exceptions. A
//! rule takes away an exception only if it names the same devices: `deny c 1:3` after
//! `allow c 1:*` changes nothing. Such rules are refused here, because the container would get
//! more than the configuration says.

use std::borrow::Cow;

use super::device_filter::Filter;
use super::{Hierarchies, How, Setting, Version};
use crate::error::{Error, Result};
use crate::spec::config::DeviceRule;

/// What every container may use, whatever its own rules say: making any node, the default
/// devices of config-linux.md, pseudo-terminals, and TUN as in runc.
const DEFAULT: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
];
const ALLOW: &str = ", allow ";
const DENY: &str = ", deny ";
const ALL_ALLOWED: &str = "allow a";
const DEFAULT_AT: &str = "linux.resources.devices";

/// One rule, checked; no number means all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Or deny.
    pub allow: bool,
    /// `c`, `b`, or `a` for both.
    pub kind: char,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// Some of `r`, `w` and `m`; may be empty, for all, in an `a` that denies.
    pub access: &'a str,
}

/// The rules as writes, in order; before them everything is denied, after them come the default
/// devices. On v2 they are one filter, which a container that may use all devices does without.
pub fn settings(rules: &[DeviceRule], host: &Hierarchies) -> Result<Vec<Setting>> {
    let parsed = rules.iter().enumerate().map(|(index, rule)| parse(index, rule));
    let parsed = parsed.collect::<Result<Vec<_>>>()?;
    // What stands before a rule for all devices is undone by it.
    let reset = parsed.iter().rposition(Rule::is_all);
    let allow_all = reset.and_then(|index| parsed.get(index)).is_some_and(|rule| rule.allow);
    let first = reset.map_or(0, |index| index + 1);
    if host.version() == Version::V2 {
        let rest = parsed.get(first..).unwrap_or_default();
        return Ok(filter(rest, allow_all, reset.is_none()).into_iter().collect());
    }
    if host.find("devices").is_none() {
        return Err(Error::new("the devices controller is not mounted: cannot restrict devices")
            .at(DEFAULT_AT)
            .hint("mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices"));
    }
    refuse_holes(&parsed, first, allow_all)?;
    Ok(exceptions(&parsed, reset, allow_all))
}

/// The rules that are written, in the words of `tare explain`: `deny a, allow c 1:3 rwm, …`.
pub fn words(settings: &[Setting]) -> String {
    let mut words = String::new();
    for setting in settings {
        words += match (setting.file.as_ref(), words.is_empty()) {
            ("devices.allow", true) => "allow ",
            ("devices.allow", false) => ALLOW,
            ("devices.deny", true) => "deny ",
            ("devices.deny", false) => DENY,
            // v2 has one setting, of such words.
            _ => "",
        };
        words += &setting.value;
    }
    if words.is_empty() { ALL_ALLOWED.into() } else { words }
}

/// What has to be written for `new` where the rules of `old`, in [`words`], are in force: what both
/// allow is allowed all the time. On v2 the new filter takes the old one's place.
pub fn changes(old: &str, new: Vec<Setting>) -> Vec<Setting> {
    let words = words(&new);
    match new.first().map(|first| &first.how) {
        None => return vec![all_allowed()],
        Some(How::Write) if allows_all(old) == allows_all(&words) => {}
        Some(_) => return new,
    }
    // An exception is taken back by its opposite.
    let (exception, allow) = if allows_all(old) { (DENY, true) } else { (ALLOW, false) };
    let exceptions =
        |words| str::split(words, ',').filter_map(|word| word.strip_prefix(&exception[1..]));
    let mut changes = Vec::new();
    for rule in exceptions(old) {
        if exceptions(&words).all(|other| other != rule) {
            changes.push(setting(allow, rule.to_owned().into(), DEFAULT_AT.into()));
        }
    }
    changes.extend(new.into_iter().filter(|setting| setting.value != "a"));
    changes
}

/// v1: whether what [`words`] do not name is allowed.
fn allows_all(words: &str) -> bool {
    words.starts_with("deny a, allow a")
}

/// v2: a filter that takes an earlier one's place and forbids nothing.
fn all_allowed() -> Setting {
    Setting {
        file: "devices".into(),
        value: ALL_ALLOWED.into(),
        at: DEFAULT_AT.into(),
        how: How::Attach(Filter::new(&[], true, true)),
    }
}

/// v1: everything allowed or denied, then what is different.
fn exceptions(rules: &[Rule], reset: Option<usize>, allow_all: bool) -> Vec<Setting> {
    let first = reset.map_or(0, |index| index + 1);
    let at = reset.map_or(DEFAULT_AT.into(), at);
    let mut settings = Vec::with_capacity(rules.len() + DEFAULT.len() + 2);
    settings.push(setting(false, "a".into(), at.clone()));
    if allow_all {
        settings.push(setting(true, "a".into(), at));
    }
    for (index, rule) in rules.iter().enumerate().skip(first) {
        let lines =
            rule.kinds().map(|kind| setting(rule.allow, rule.line(kind).into(), self::at(index)));
        settings.extend(lines);
    }
    // Where everything is allowed but some, allowing those again is all that this would do.
    if !allow_all || settings.len() > 2 {
        settings
            .extend(DEFAULT.iter().map(|line| setting(true, (*line).into(), DEFAULT_AT.into())));
    }
    settings
}

/// v2: one filter for the rules and the default devices; none where everything is allowed.
/// `only_theirs`: the configuration has not asked to deny everything.
fn filter(rules: &[Rule], allow_all: bool, only_theirs: bool) -> Option<Setting> {
    if allow_all && rules.iter().all(|rule| rule.allow) {
        return None;
    }
    let full = |rule: &Rule| rule.allow && rule.access.len() == 3;
    let optional = only_theirs && rules.iter().all(full);
    let defaults = DEFAULT.iter().filter_map(|line| default(line));
    let all: Vec<Rule> = rules.iter().copied().chain(defaults).collect();
    let word = if allow_all { "allow" } else { "deny" };
    let mut value = format!("{word} a");
    for rule in &all {
        value += if rule.allow { ALLOW } else { DENY };
        value += &rule.line(rule.kind);
    }
    Some(Setting {
        file: "devices".into(),
        value: value.into(),
        at: DEFAULT_AT.into(),
        how: How::Attach(Filter::new(&all, allow_all, optional)),
    })
}

/// A line of [`DEFAULT`], parsed.
fn default(line: &'static str) -> Option<Rule<'static>> {
    let mut words = line.split([' ', ':']);
    let kind = words.next()?.chars().next()?;
    let (major, minor) = (words.next()?.parse().ok(), words.next()?.parse().ok());
    Some(Rule { allow: true, kind, major, minor, access: words.next()? })
}

fn at(index: usize) -> Cow<'static, str> {
    format!("{DEFAULT_AT}[{index}]").into()
}

fn setting(allow: bool, value: Cow<'static, str>, at: Cow<'static, str>) -> Setting {
    let file = if allow { "devices.allow" } else { "devices.deny" };
    Setting { file: file.into(), value, at, how: How::Write }
}

fn parse(index: usize, rule: &DeviceRule) -> Result<Rule<'_>> {
    let refuse =
        |member: &str, why: String| Error::new(why).at(format!("{DEFAULT_AT}[{index}].{member}"));
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => 'a',
        Some("c") => 'c',
        Some("b") => 'b',
        Some(other) => return Err(refuse("type", format!("invalid cgroup device type {other:?}"))),
    };
    let access = rule.access.as_deref().unwrap_or_default();
    if access.is_empty() && (kind != 'a' || rule.allow) {
        return Err(refuse("access", "a device rule needs access: some of r, w and m".into()));
    }
    if let Some(letter) = access.chars().find(|letter| !"rwm".contains(*letter)) {
        return Err(refuse("access", format!("unknown device access {letter:?}")));
    }
    let number = |member: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| refuse(member, format!("device number {value} is out of range"))),
    };
    let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
    Ok(Rule { allow: rule.allow, kind, major, minor, access })
}

impl Rule<'_> {
    /// Whether this is the kernel's `a`, which takes neither numbers nor access into account.
    fn is_all(&self) -> bool {
        let access =
            self.access.is_empty() || "rwm".chars().all(|letter| self.access.contains(letter));
        self.kind == 'a' && self.major.is_none() && self.minor.is_none() && access
    }

    /// The kinds to write it for: the kernel would take an `a` with numbers for all devices.
    fn kinds(&self) -> impl Iterator<Item = char> + use<> {
        let kind = self.kind;
        ['c', 'b'].into_iter().filter(move |k| kind == 'a' || kind == *k)
    }

    fn line(&self, kind: char) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let access = if self.access.is_empty() { "rwm" } else { self.access };
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }

    /// Whether the two name some device both, but not the same set of devices.
    fn crosses(&self, other: &Rule) -> bool {
        let kinds = self.kinds().any(|kind| other.kinds().any(|k| k == kind));
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        let access = self.access.chars().any(|letter| other.access.contains(letter));
        let same = self.major == other.major && self.minor == other.minor;
        kinds && access && !same && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

/// Refuses a rule that should take something out of the middle of an earlier one.
fn refuse_holes(rules: &[Rule], first: usize, allow_all: bool) -> Result<()> {
    for (index, rule) in rules.iter().enumerate().skip(first).filter(|(_, r)| r.allow == allow_all)
    {
        let earlier = rules.iter().enumerate().take(index).skip(first);
        let mut opposed = earlier.filter(|(_, e)| e.allow != rule.allow && rule.crosses(e));
        if let Some((other, _)) = opposed.next() {
            let word = if rule.allow { "allow" } else { "deny" };
            let message = format!("cgroup v1 cannot {word} a part of the devices of {}", at(other));
            return Err(Error::new(message)
                .at(at(index))
                .hint("its rules are exceptions: take one back only as it was given"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `file value @index` for each write before the default devices, and how many of those.
    fn plan(json: &str) -> Result<(Vec<String>, usize)> {
        let rules: Vec<DeviceRule> = crate::spec::load::from_json(json).unwrap();
        let host = Hierarchies::fixed(&[("devices", "/sys/fs/cgroup/devices", "")]);
        let all = settings(&rules, &host)?;
        let defaults =
            all.iter().rev().zip(DEFAULT.iter().rev()).take_while(|(s, d)| s.value == **d);
        let defaults = defaults.count();
        let own = all.iter().take(all.len() - defaults);
        let show = |s: &Setting| {
            let at = s.at.strip_prefix(DEFAULT_AT).unwrap();
            format!("{} {} @{at}", s.file.strip_prefix("devices.").unwrap(), s.value)
        };
        Ok((own.map(show).collect(), defaults))
    }

    fn own(json: &str) -> Vec<String> {
        let (own, defaults) = plan(json).unwrap();
        assert_eq!(defaults, DEFAULT.len());
        own
    }

    #[test]
    fn everything_is_denied_first() {
        assert_eq!(own("[]"), ["deny a @"]);
        assert_eq!(own(r#"[{"allow":false,"access":"rwm"}]"#), ["deny a @[0]"]);
        assert_eq!(own(r#"[{"allow":false,"type":"a","major":-1,"minor":-1}]"#), ["deny a @[0]"]);
        let json = r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
        assert_eq!(own(json), ["deny a @", "allow c 10:229 rw @[0]"]);
    }

    #[test]
    fn order_is_kept() {
        let json = r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"b","major":8,"access":"r"},
            {"allow":false,"type":"b","major":8,"access":"r"},
            {"allow":true,"type":"c","access":"m"}]"#;
        let expected =
            ["deny a @[0]", "allow b 8:* r @[1]", "deny b 8:* r @[2]", "allow c *:* m @[3]"];
        assert_eq!(own(json), expected);
    }

    #[test]
    fn privileged_needs_no_default_devices() {
        let json = r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#;
        let all = vec!["deny a @[1]".to_owned(), "allow a @[1]".to_owned()];
        assert_eq!(plan(json).unwrap(), (all, 0));
    }

    #[test]
    fn all_but_some() {
        let json = r#"[{"allow":true,"access":"rwm"},
            {"allow":false,"type":"b","major":8,"minor":0,"access":"rwm"}]"#;
        assert_eq!(own(json), ["deny a @[0]", "allow a @[0]", "deny b 8:0 rwm @[1]"]);
    }

    /// The kernel takes `a 10:* rw` for everything; it must not get that to read.
    #[test]
    fn both_kinds_are_not_all_devices() {
        let json = r#"[{"allow":true,"type":"a","major":10,"access":"rw"}]"#;
        assert_eq!(own(json), ["deny a @", "allow c 10:* rw @[0]", "allow b 10:* rw @[0]"]);
        let json = r#"[{"allow":true,"access":"r"}]"#;
        assert_eq!(own(json), ["deny a @", "allow c *:* r @[0]", "allow b *:* r @[0]"]);
    }

    #[test]
    fn holes_are_refused() {
        let json = r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},
            {"allow":false,"type":"c","major":1,"minor":3,"access":"rw"}]"#;
        let err = plan(json).unwrap_err();
        assert_eq!(err.path(), Some("linux.resources.devices[1]"));
        assert!(err.message().contains("cannot deny a part of the devices"), "{err}");
        let wide = r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
            {"allow":false,"type":"c","access":"w"}]"#;
        assert!(plan(wide).is_err());
        let apart = r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},
            {"allow":false,"type":"b","major":1,"minor":3,"access":"rw"}]"#;
        assert!(plan(apart).is_ok());
    }

    #[test]
    fn letters_and_numbers_are_checked() {
        let refused = |json: &str, member: &str| {
            let err = plan(json).unwrap_err();
            assert_eq!(err.path().unwrap(), format!("linux.resources.devices[0].{member}"));
        };
        refused(r#"[{"allow":true,"type":"x","access":"r"}]"#, "type");
        refused(r#"[{"allow":true,"type":"c","access":"rx"}]"#, "access");
        refused(r#"[{"allow":true,"type":"c"}]"#, "access");
        refused(r#"[{"allow":true}]"#, "access");
        refused(r#"[{"allow":true,"type":"c","access":"r","major":-2}]"#, "major");
        refused(r#"[{"allow":true,"type":"c","access":"r","minor":4294967296}]"#, "minor");
    }

    #[test]
    fn without_the_controller_nothing_is_planned() {
        let err = settings(&[], &Hierarchies::fixed(&[("pids", "/p", "")])).unwrap_err();
        assert!(err.message().contains("the devices controller is not mounted"));
    }

    /// The filter of v2 in words, and whether a caller without bpf(2) may leave it out.
    fn filter(json: &str) -> Option<(String, bool)> {
        let rules: Vec<DeviceRule> = crate::spec::load::from_json(json).unwrap();
        let host = Hierarchies::fixed(&[("", "/sys/fs/cgroup", "")]);
        let [setting] = &settings(&rules, &host).unwrap()[..] else { return None };
        let How::Attach(filter) = &setting.how else { panic!("{setting:?}") };
        Some((setting.value.clone().into_owned(), filter.is_optional()))
    }

    #[test]
    fn filters_of_v2() {
        let defaults = DEFAULT.map(|line| format!(", allow {line}")).concat();
        let none = Some((format!("deny a{defaults}"), true));
        assert_eq!(filter("[]"), none);
        let all = r#"{"allow":true,"access":"rwm"}"#;
        assert_eq!(filter(&format!(r#"[{{"allow":false,"access":"rwm"}},{all}]"#)), None);
        assert_eq!(filter(&format!("[{all},{all}]")), None);
        // Whoever forbids something gets it or an error; so does who forbids everything.
        let deny =
            filter(&format!(r#"[{all},{{"allow":false,"type":"b","major":8,"access":"w"}}]"#));
        assert_eq!(deny, Some((format!("allow a, deny b 8:* w{defaults}"), false)));
        assert_eq!(filter(r#"[{"allow":false}]"#), Some((format!("deny a{defaults}"), false)));
        let some = filter(r#"[{"allow":true,"type":"c","major":10,"access":"rwm"}]"#);
        assert_eq!(some, Some((format!("deny a, allow c 10:* rwm{defaults}"), true)));
        let part = filter(r#"[{"allow":true,"type":"c","major":10,"access":"r"}]"#).unwrap();
        assert!(!part.1, "what is not allowed is forbidden");
    }

    /// v1 refuses these; a program can do them.
    #[test]
    fn holes_are_fine_on_v2() {
        let json = r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},
            {"allow":false,"type":"c","major":1,"minor":3,"access":"rw"}]"#;
        assert!(filter(json).unwrap().0.starts_with("deny a, allow c 1:* rwm, deny c 1:3 rw, "));
    }
}
