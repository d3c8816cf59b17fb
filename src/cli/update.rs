//! The options of `update`: limits as on runc's command line.

use std::path::PathBuf;

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
    let file = found.path("resources").filter(|path| !path.as_os_str().is_empty());
    Ok(Update { id, file, limits: limits(found)?, rdt: rdt(found)? })
}

fn rdt(found: &Matches) -> Result<Option<IntelRdt>> {
    let given = |text: &String| !text.is_empty();
    let l3_cache_schema = found.text("l3-cache-schema")?.filter(given);
    let mem_bw_schema = found.text("mem-bw-schema")?.filter(given);
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
        shares: found.number("cpu-share")?,
        quota: found.number("cpu-quota")?,
        burst: found.number("cpu-burst")?,
        period: found.number("cpu-period")?,
        realtime_runtime: found.number("cpu-rt-runtime")?,
        realtime_period: found.number("cpu-rt-period")?,
        cpus: found.text("cpuset-cpus")?,
        mems: found.text("cpuset-mems")?,
        idle: found.number("cpu-idle")?,
    };
    let memory = Memory {
        limit: bytes(found, "memory")?,
        reservation: bytes(found, "memory-reservation")?,
        swap: bytes(found, "memory-swap")?,
        ..Memory::default()
    };
    Ok(Resources {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: Some(Pids { limit: found.number("pids-limit")? }),
        block_io: Some(BlockIo { weight: found.number("blkio-weight")?, ..BlockIo::default() }),
        ..Resources::default()
    })
}

fn bytes(found: &Matches, option: &str) -> Result<Option<i64>> {
    let Some(text) = found.text(option)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || {
        Error::new(format!("invalid value for {option}: {text:?}"))
            .hint("an amount is a number with an optional k, m, g, t or p, or -1 for no limit")
    };
    amount(&text).map(Some).ok_or_else(wrong)
}

/// Bytes as `50M`, `50mb`, `50MiB` or a number say them; -1 is no limit.
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
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << (10 * power))?.try_into().ok()
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
        ];
        for (text, bytes) in good {
            assert_eq!(amount(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "-2", "1x", "1kk", "1km", "9999999999999p", "0x10"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
