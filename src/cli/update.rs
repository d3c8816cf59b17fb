//! The options of `update`: limits as on runc's command line.

use std::path::PathBuf;
use std::str::FromStr;

use super::flags::Matches;
use crate::error::{Error, Result};
use crate::spec::config::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};

/// Options of `update`.
#[derive(Debug)]
pub struct Update {
    /// The container's id.
    pub id: String,
    /// File with a resources object, `-` for standard input; `limits` are not used then.
    pub file: Option<PathBuf>,
    /// What the other options ask for.
    pub limits: Resources,
    /// Other shares of cache and memory bandwidth.
    pub rdt: Option<IntelRdt>,
}

/// Reads the options.
///
/// # Errors
/// A value that is no number or no amount of memory.
pub fn read(id: String, found: &Matches) -> Result<Update> {
    let file = found.path("resources");
    Ok(Update { id, file, limits: limits(found)?, rdt: rdt(found)? })
}

fn rdt(found: &Matches) -> Result<Option<IntelRdt>> {
    let l3_cache_schema = given(found, "l3-cache-schema")?;
    let mem_bw_schema = given(found, "mem-bw-schema")?;
    let given = l3_cache_schema.is_some() || mem_bw_schema.is_some();
    Ok(given.then(|| IntelRdt {
        clos_id: None,
        schemata: Vec::new(),
        l3_cache_schema,
        mem_bw_schema,
        enable_monitoring: false,
    }))
}

fn limits(found: &Matches) -> Result<Resources> {
    let cpu = Cpu {
        shares: number(found, "cpu-share")?,
        quota: number(found, "cpu-quota")?,
        burst: number(found, "cpu-burst")?,
        period: number(found, "cpu-period")?,
        realtime_runtime: number(found, "cpu-rt-runtime")?,
        realtime_period: number(found, "cpu-rt-period")?,
        cpus: given(found, "cpuset-cpus")?,
        mems: given(found, "cpuset-mems")?,
        idle: number(found, "cpu-idle")?,
    };
    let memory = Memory {
        kernel: bytes(found, "kernel-memory")?,
        kernel_tcp: bytes(found, "kernel-memory-tcp")?,
        limit: bytes(found, "memory")?,
        reservation: bytes(found, "memory-reservation")?,
        swap: bytes(found, "memory-swap")?,
        ..Memory::default()
    };
    Ok(Resources {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: Some(Pids { limit: number(found, "pids-limit")? }),
        block_io: Some(BlockIo { weight: number(found, "blkio-weight")?, ..BlockIo::default() }),
        ..Resources::default()
    })
}

/// The value of an option; an empty one is none, as in runc.
fn given(found: &Matches, option: &str) -> Result<Option<String>> {
    Ok(found.text(option)?.filter(|text| !text.is_empty()))
}

fn number<T: FromStr>(found: &Matches, option: &str) -> Result<Option<T>> {
    let Some(text) = given(found, option)? else { return Ok(None) };
    let wrong = |_| {
        Error::new(format!("invalid value for {option}: {text:?}"))
            .hint("it is not a number, or out of range")
    };
    text.parse().map(Some).map_err(wrong)
}

fn bytes(found: &Matches, option: &str) -> Result<Option<i64>> {
    let Some(text) = given(found, option)? else { return Ok(None) };
    let wrong = || {
        Error::new(format!("invalid value for {option}: {text:?}"))
            .hint("an amount is a number with an optional k, m, g, t or p, or -1 for no limit")
    };
    amount(&text).map(Some).ok_or_else(wrong)
}

/// Bytes as `50M`, `50mb`, `50MiB`, `1.5G` or a number say them; -1 is no limit.
fn amount(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text.get(digits.len()..)?.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        _ => 1 + "kmgtp".find(unit).filter(|_| unit.len() == 1)?,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let (whole, unit) = (whole.parse::<u64>().ok()?, 1 << (10 * power));
    // Six digits are more than anybody writes, and bytes below one do not count.
    let part = format!("{part:0<6}").get(..6)?.parse::<u64>().ok()?;
    let bytes = u128::from(whole) * unit + u128::from(part) * unit / 1_000_000;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        let good = [
            ("-1", -1),
            ("0", 0),
            ("7", 7),
            ("50M", 50 << 20),
            ("50mb", 50 << 20),
            ("2GiB", 2 << 30),
            ("1.5G", 3 << 29),
            ("0.25k", 256),
        ];
        for (text, bytes) in good {
            assert_eq!(amount(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "-2", "1x", "1kk", "1km", "9999999999999p", "0x10", "1.x", "1.-5"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
