//! Limits as properties of a unit of systemd (systemd.resource-control(5)), and the properties that
//! annotations ask for.
//!
//! They are made from the planned writes into cgroup files, so that there is one place only where
//! `linux.resources` is understood. What systemd has no property for is left to the files.

use std::borrow::Cow;

use super::{How, Setting, Unit};
use crate::dbus::{self, Value};
use crate::error::{Error, Result};
use crate::spec::config::Map;
use crate::spec::position::member;

/// Annotations that begin so become properties of the unit.
pub const ANNOTATION: &str = "org.systemd.property.";
/// The kernel's period of a processor quota unless told otherwise, in microseconds.
const PERIOD: u64 = 100_000;
/// systemd keeps a quota as a percentage of one processor: in microseconds per second, 1 %.
const PERCENT: u64 = 10_000;

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Its name: `MemoryMax`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Value,
    /// The JSON path that orders it.
    pub at: Cow<'static, str>,
}

/// A list of them as a call takes it.
pub(super) fn encode(properties: &[Property]) -> Vec<Value> {
    properties.iter().map(|p| pair(&p.name, p.value.clone())).collect()
}

/// One of them.
pub(super) fn pair(name: &str, value: Value) -> Value {
    Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value))])
}

/// Files whose number is a property's, on both versions; with the least that systemd takes.
const NUMBERS: [(&str, &str, u64); 12] = [
    ("memory.max", "MemoryMax", 1),
    ("memory.high", "MemoryHigh", 1),
    ("memory.low", "MemoryLow", 0),
    ("memory.min", "MemoryMin", 0),
    ("memory.swap.max", "MemorySwapMax", 0),
    ("cpu.weight", CPU_WEIGHT, 1),
    ("io.weight", IO_WEIGHT, 1),
    ("pids.max", "TasksMax", 1),
    ("memory.limit_in_bytes", "MemoryLimit", 1),
    ("cpu.shares", "CPUShares", 1),
    ("blkio.weight", "BlockIOWeight", 1),
    ("blkio.bfq.weight", "BlockIOWeight", 1),
];

/// The properties for what `settings` write.
pub fn limits(settings: &[Setting]) -> Vec<Property> {
    let mut list = Vec::new();
    let mut quota = Quota::default();
    for setting in settings {
        let (file, text) = match &setting.how {
            How::Or(file, Some(value)) => (file.as_ref(), value.as_str()),
            _ => (setting.file.as_ref(), setting.value.as_ref()),
        };
        let text = text.trim_start_matches("default ");
        let mut put = |name: &'static str, value| {
            list.push(Property { name: name.into(), value, at: setting.at.clone() });
        };
        match file {
            "cpu.max" => {
                let mut words = text.split(' ');
                quota.set(words.next(), setting);
                quota.period = words.next().and_then(|word| word.parse().ok()).or(quota.period);
            }
            "cpu.cfs_quota_us" => quota.set(Some(text), setting),
            "cpu.cfs_period_us" => quota.period = text.parse().ok(),
            "cpu.idle" if text == "1" => put(CPU_WEIGHT, Value::Fixed(b't', 0)),
            "cpu.weight.nice" => {
                nice(text)
                    .into_iter()
                    .for_each(|weight| put(CPU_WEIGHT, Value::Fixed(b't', weight)));
            }
            "io.bfq.weight" => {
                let weight = text.parse().map(from_bfq);
                weight.into_iter().for_each(|weight| put(IO_WEIGHT, Value::Fixed(b't', weight)));
            }
            "cpuset.cpus" => mask(text).into_iter().for_each(|value| put("AllowedCPUs", value)),
            "cpuset.mems" => {
                mask(text).into_iter().for_each(|value| put("AllowedMemoryNodes", value));
            }
            _ => {
                let known = NUMBERS.iter().find(|(name, _, _)| *name == file);
                if let (Some((_, name, least)), Some(number)) = (known, number(text)) {
                    put(name, Value::Fixed(b't', number.max(*least)));
                }
            }
        }
    }
    list.extend(quota.properties());
    list.extend(devices(settings));
    list
}

/// A number, or no limit.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The share of processors.
const CPU_WEIGHT: &str = "CPUWeight";

/// The weight of a nice value (`sched_prio_to_weight` in the kernel's kernel/sched/core.c), as
/// `cpu.weight` then shows it.
fn nice(text: &str) -> Option<u64> {
    const WEIGHTS: [u32; 40] = [
        88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100,
        4904, 3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172,
        137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
    ];
    let index = text.parse::<i8>().ok()?.checked_add(20)?;
    let weight = WEIGHTS.get(usize::try_from(index).ok()?)?;
    Some((u64::from(*weight) * 100 + 512) / 1024)
}

/// The share of disks, of which systemd makes a weight of its own for BFQ.
const IO_WEIGHT: &str = "IOWeight";

/// A weight of `blockIO.weight` for a cgroup in which BFQ has it: systemd converts the property with
/// other bounds than those of the specification, and would write something else when it is reloaded.
pub(super) fn for_bfq(property: &Property) -> Option<Property> {
    let Value::Fixed(b't', number) = property.value else { return None };
    if property.name != IO_WEIGHT || property.at != "linux.resources.blockIO.weight" {
        return None;
    }
    let number = from_bfq(super::v2::bfq_weight(number));
    Some(Property { value: Value::Fixed(b't', number), ..property.clone() })
}

/// What systemd makes this weight for BFQ of: it keeps those up to the default.
fn from_bfq(weight: u64) -> u64 {
    if weight <= 100 { weight } else { (weight - 100).saturating_mul(11).saturating_add(100) }
}

/// Processor time per period; the two come in one file or in two.
#[derive(Default)]
struct Quota {
    /// In microseconds; the greatest number for none.
    quota: Option<u64>,
    period: Option<u64>,
    at: Cow<'static, str>,
}

impl Quota {
    fn set(&mut self, quota: Option<&str>, setting: &Setting) {
        (self.quota, self.at) = (quota.and_then(number), setting.at.clone());
    }

    /// Rounded up, so that the file never has to hold more than systemd grants.
    fn properties(self) -> Vec<Property> {
        let per_second = |quota: u64| match quota {
            u64::MAX => quota,
            _ => {
                let exact = quota.saturating_mul(1_000_000) / self.period.unwrap_or(PERIOD).max(1);
                exact.min(u64::MAX - PERCENT).next_multiple_of(PERCENT)
            }
        };
        let values = [
            ("CPUQuotaPerSecUSec", self.quota.map(per_second)),
            ("CPUQuotaPeriodUSec", self.period),
        ];
        let known = values.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        known
            .map(|(name, value)| Property {
                name: name.into(),
                value: Value::Fixed(b't', value),
                at: self.at.clone(),
            })
            .collect()
    }
}

/// A list of numbers such as `0-3,7` as bits, the lowest first; of `0-9:1/2` every other one is taken.
/// None for what is no such list, which the kernel refuses when the file is written.
fn mask(list: &str) -> Option<Value> {
    /// More processors and nodes than any kernel knows.
    const MOST: usize = 1 << 16;
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim) {
        let (range, part) = range.split_once(':').unwrap_or((range, "1/1"));
        let (used, group) = numbers(part.split_once('/')?)?;
        let (first, last) = numbers(range.split_once('-').unwrap_or((range, range)))?;
        let is_used = |bit: &usize| (bit - first).checked_rem(group).is_some_and(|bit| bit < used);
        for bit in (first..=last.min(MOST)).filter(is_used) {
            bytes.resize(bytes.len().max(bit / 8 + 1), 0);
            *bytes.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    let bytes = bytes.into_iter().map(|byte| Value::Fixed(b'y', byte.into()));
    (!list.is_empty()).then(|| Value::Array("y".into(), bytes.collect()))
}

fn numbers((one, other): (&str, &str)) -> Option<(usize, usize)> {
    one.parse().ok().zip(other.parse().ok())
}

/// The device rules of v1. There systemd writes its own into the same files whenever it is reloaded;
/// on v2 it leaves the programs of others alone.
fn devices(settings: &[Setting]) -> Vec<Property> {
    let mut rules: Vec<&str> = Vec::new();
    let mut strict = None;
    let mut at = Cow::default();
    for setting in settings {
        match (setting.file.as_ref(), setting.value.as_ref()) {
            (file @ ("devices.allow" | "devices.deny"), "a") => {
                rules.clear();
                (strict, at) = (Some(file == "devices.deny"), setting.at.clone());
            }
            ("devices.allow", rule) => rules.push(rule),
            ("devices.deny", rule) => rules.retain(|allowed| *allowed != rule),
            _ => {}
        }
    }
    let Some(strict) = strict else { return Vec::new() };
    let allowed = rules.iter().filter(|_| strict).filter_map(|rule| device(rule));
    let allow = Value::Array("(ss)".into(), allowed.collect());
    let policy = Value::text(if strict { "strict" } else { "auto" });
    [("DevicePolicy", policy), ("DeviceAllow", allow)]
        .map(|(name, value)| Property { name: name.into(), value, at: at.clone() })
        .into()
}

/// `c 1:3 rwm` as systemd takes it: a path that tells the numbers, or a group of devices.
fn device(rule: &str) -> Option<Value> {
    let mut words = rule.split(' ');
    let kind = match words.next()? {
        "b" => "block",
        _ => "char",
    };
    let path = match words.next()?.split_once(':')? {
        ("*", _) => format!("{kind}-*"),
        (major, "*") => format!("{kind}-{}", group(kind, major)?),
        (major, minor) => format!("/dev/{kind}/{major}:{minor}"),
    };
    Some(Value::Struct(vec![Value::text(path), Value::text(words.next()?)]))
}

/// The name of the driver with this major number, as systemd wants it (proc_devices(5)).
fn group(kind: &str, major: &str) -> Option<String> {
    let table = super::dir::read("/proc/devices").ok()?;
    let (char, block) = table.split_once("Block devices:")?;
    let lines = if kind == "block" { block } else { char }.lines();
    let mut entries = lines.filter_map(|line| line.trim().split_once(' '));
    entries.find(|(number, _)| *number == major).map(|(_, name)| name.trim().to_owned())
}

/// The properties that annotations ask for, as in runc: `org.systemd.property.NAME`, with a value
/// in GVariant's text format. Names that end in `Sec` take seconds.
///
/// # Errors
/// No name of a property, a value that cannot be read, or another slice than that of the unit.
pub fn annotated(annotations: &Map, unit: &Unit) -> Result<Vec<Property>> {
    let asked = annotations.iter();
    asked
        .filter_map(|(key, text)| key.strip_prefix(ANNOTATION).map(|name| (key, name, text)))
        .map(|(key, name, text)| {
            let refuse = |why: &str| {
                let what = format!("annotation {key}={text:?}: {why}");
                Error::new(what).at(member("annotations", key))
            };
            if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(refuse("name incorrect: it is made of letters, three at least"));
            }
            let value = dbus::parse(text).ok_or_else(|| {
                refuse("value parse error").hint(
                    "values are written as in GVariant's text format: true, 5, uint64 5, 'text', \
                     ['a', 'b']",
                )
            })?;
            let (name, value) = match in_microseconds(name) {
                Some(name) => {
                    let value = microseconds(&value).ok_or_else(|| refuse("not a number"))?;
                    (name, value)
                }
                None => (name.to_owned(), value),
            };
            if name == "Slice" && value != Value::text(unit.slice.as_str()) {
                let why = format!("the container's slice is {}", unit.slice);
                return Err(refuse(&why).hint("the slice is the first part of linux.cgroupsPath"));
            }
            Ok(Property { name: name.into(), value, at: member("annotations", key).into() })
        })
        .collect()
}

/// `TimeoutStopUSec` for `TimeoutStopSec`.
fn in_microseconds(name: &str) -> Option<String> {
    let stem = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U'))?;
    Some(format!("{stem}USec"))
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let seconds = match seconds {
        Value::Fixed(b'd', bits) => f64::from_bits(*bits),
        Value::Fixed(b'b', _) => return None,
        Value::Fixed(_, number) => *number as i64 as f64,
        _ => return None,
    };
    (seconds >= 0.0).then_some(Value::Fixed(b't', (seconds * 1e6) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[(&'static str, &'static str)]) -> Vec<String> {
        let settings: Vec<Setting> = list
            .iter()
            .map(|(file, value)| Setting {
                file: (*file).into(),
                value: (*value).into(),
                at: "x".into(),
                how: How::Write,
            })
            .collect();
        limits(&settings).iter().map(|p| format!("{}={}", p.name, p.value)).collect()
    }

    #[test]
    fn limits_of_v2() {
        let found = words(&[
            ("memory.max", "33554432"),
            ("memory.swap.max", "max"),
            ("cpu.weight", "100"),
            ("cpu.max", "50000 200000"),
            ("cpuset.cpus", "0-2,9"),
            ("cpuset.mems", "0"),
            ("pids.max", "0"),
            ("io.weight", "default 200"),
            ("hugetlb.2MB.max", "1"),
        ]);
        let expected = [
            "MemoryMax=33554432",
            "MemorySwapMax=infinity",
            "CPUWeight=100",
            "AllowedCPUs=[7, 2]",
            "AllowedMemoryNodes=[1]",
            "TasksMax=1",
            "IOWeight=200",
            "CPUQuotaPerSecUSec=250000",
            "CPUQuotaPeriodUSec=200000",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn quotas_are_rounded_up_to_a_percent() {
        assert_eq!(words(&[("cpu.max", "33333")]), ["CPUQuotaPerSecUSec=340000"]);
        assert_eq!(words(&[("cpu.max", "max")]), ["CPUQuotaPerSecUSec=infinity"]);
        let v1 = words(&[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "-1")]);
        assert_eq!(v1, ["CPUQuotaPerSecUSec=infinity", "CPUQuotaPeriodUSec=50000"]);
    }

    #[test]
    fn lists_that_are_none_are_left_to_the_kernel() {
        for text in ["", "x", "0-", "3-1x", "0-1:2", "0-1:1/0x"] {
            assert!(words(&[("cpuset.cpus", text)]).is_empty(), "{text}");
        }
        assert_eq!(words(&[("cpuset.cpus", "0-5:1/3,8-11:2/4")]), ["AllowedCPUs=[9, 3]"]);
        assert_eq!(words(&[("cpu.idle", "1")]), ["CPUWeight=0"]);
        for (nice, weight) in [("-20", "8668"), ("0", "100"), ("5", "33"), ("19", "1")] {
            assert_eq!(words(&[("cpu.weight.nice", nice)]), [format!("CPUWeight={weight}")]);
        }
        assert!(words(&[("cpu.weight.nice", "20")]).is_empty());
        assert_eq!(words(&[("io.bfq.weight", "default 150")]), ["IOWeight=650"]);
        assert!(words(&[("io.bfq.weight", "8:0 150")]).is_empty());
        assert!(words(&[("cpu.idle", "0")]).is_empty());
    }

    #[test]
    fn weights_of_bfq_come_back_from_systemd() {
        for weight in 10..=1000 {
            let property = |number, at: &'static str| Property {
                name: IO_WEIGHT.into(),
                value: Value::Fixed(b't', number),
                at: at.into(),
            };
            let told = super::super::v2::io_weight(weight);
            let exact = for_bfq(&property(told, "linux.resources.blockIO.weight")).unwrap();
            let Value::Fixed(b't', number) = exact.value else { panic!() };
            // BFQ_WEIGHT in systemd's src/core/cgroup.c
            let bfq = if number <= 100 { number } else { 100 + (number - 100) * 900 / 9900 };
            assert_eq!(bfq, u64::from(weight));
            assert_eq!(for_bfq(&property(told, "linux.resources.unified")), None);
        }
    }

    #[test]
    fn device_rules_of_v1() {
        let found = words(&[
            ("devices.deny", "a"),
            ("devices.allow", "c *:* m"),
            ("devices.allow", "c 1:3 rwm"),
            ("devices.allow", "b 254:0 r"),
            ("devices.deny", "b 254:0 r"),
            ("devices.allow", "c 136:* rwm"),
        ]);
        let allowed = "[[char-*, m], [/dev/char/1:3, rwm], [char-pts, rwm]]";
        assert_eq!(found, ["DevicePolicy=strict".to_owned(), format!("DeviceAllow={allowed}")]);
        let all =
            words(&[("devices.deny", "a"), ("devices.allow", "a"), ("devices.allow", "c 1:3 r")]);
        assert_eq!(all, ["DevicePolicy=auto", "DeviceAllow=[]"]);
    }

    fn unit() -> Unit {
        Unit { name: "runc-x.scope".into(), slice: "a.slice".into(), user: false }
    }

    fn annotation(name: &str, value: &str) -> Result<String> {
        let map = Map::from([(format!("{ANNOTATION}{name}"), value.to_owned())]);
        let found = annotated(&map, &unit())?;
        Ok(found
            .iter()
            .map(|p| format!("{} {} {}", p.name, p.value.signature(), p.value))
            .collect())
    }

    #[test]
    fn annotations_are_properties() {
        let good = [
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec t 123456789"),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec t 1500000"),
            ("CollectMode", "'inactive'", "CollectMode s inactive"),
            ("After", "['a.service']", "After as [a.service]"),
            ("Slice", "'a.slice'", "Slice s a.slice"),
        ];
        for (name, value, expected) in good {
            assert_eq!(annotation(name, value).unwrap(), expected);
        }
        let bad =
            [("x", "1"), ("A-b", "1"), ("Foo", "x"), ("TimeoutSec", "'x'"), ("Slice", "'b.slice'")];
        for (name, value) in bad {
            let err = annotation(name, value).unwrap_err();
            assert!(err.path().unwrap().starts_with("annotations["), "{err}");
        }
        let other = Map::from([("org.other".into(), "x".into())]);
        assert!(annotated(&other, &unit()).unwrap().is_empty());
    }
}
