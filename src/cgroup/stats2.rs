//! The usage figures of cgroup v2, in the shape of v1's ([`super::Stats`]) as runc converts them.

use nix::errno::Errno;

use super::dir;
use super::stats::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Pressure, PressureTimes,
    Stats, Table, Throttling,
};
use crate::error::{Doing, Result};

/// Reads the usage of the cgroup `dir`.
pub fn read(dir: &str) -> Result<Stats> {
    let files = Files(dir);
    Ok(Stats {
        cpu: files.cpu()?,
        memory: files.memory()?,
        pids: files.tasks()?,
        blkio: files.blkio()?,
        hugetlb: files.hugetlb()?,
        ..Stats::default()
    })
}

/// The files of one cgroup; one that is lacking is empty.
struct Files<'a>(&'a str);

impl Files<'_> {
    fn text(&self, name: &str) -> Result<String> {
        let file = format!("{}/{name}", self.0);
        match dir::read(&file) {
            Err(Errno::ENOENT) if dir::is_there(self.0) => Ok(String::new()),
            // Pressure that the kernel was told not to measure.
            Err(Errno::EOPNOTSUPP) => Ok(String::new()),
            read => read.doing(|| format!("read {file}")),
        }
    }

    /// The file's number: `absent` without it, the greatest for `max`.
    fn number(&self, name: &str, absent: u64) -> Result<u64> {
        Ok(match self.text(name)?.trim() {
            "" => absent,
            number => number.parse().unwrap_or(u64::MAX),
        })
    }

    /// The file's lines of a name and a number.
    fn table(&self, name: &str) -> Result<Table<u64>> {
        Ok(Table::read(&self.text(name)?))
    }

    fn cpu(&self) -> Result<Cpu> {
        let stat = self.table("cpu.stat")?;
        let count = |key: &str| stat.get(key);
        let nanos = |key: &str| count(key).saturating_mul(1000);
        let usage = CpuUsage {
            total: nanos("usage_usec"),
            kernel: nanos("system_usec"),
            user: nanos("user_usec"),
            ..CpuUsage::default()
        };
        let throttling = Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanos("throttled_usec"),
        };
        Ok(Cpu { usage, throttling, psi: self.pressure("cpu.pressure")? })
    }

    fn memory(&self) -> Result<Memory> {
        let raw = self.table("memory.stat")?;
        let usage = self.memory_entry("memory")?;
        let mut swap = self.memory_entry("memory.swap")?;
        // v1 knows memory+swap only; their peaks need not be at the same time.
        swap.usage = swap.usage.saturating_add(usage.usage);
        swap.limit = swap.limit.saturating_add(usage.limit);
        swap.max = 0;
        Ok(Memory {
            cache: raw.get("file"),
            usage,
            swap,
            raw,
            psi: self.pressure("memory.pressure")?,
            ..Memory::default()
        })
    }

    fn memory_entry(&self, prefix: &str) -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: self.number(&format!("{prefix}.max"), 0)?,
            usage: self.number(&format!("{prefix}.current"), 0)?,
            max: self.number(&format!("{prefix}.peak"), 0)?,
            failcnt: 0,
        })
    }

    fn tasks(&self) -> Result<Pids> {
        let limit = self.number("pids.max", 0)?;
        // Without the controller processes can be counted all the same.
        let current = match self.number("pids.current", u64::MAX)? {
            u64::MAX => self.text("cgroup.procs").unwrap_or_default().lines().count() as u64,
            current => current,
        };
        Ok(Pids { current, limit: if limit == u64::MAX { 0 } else { limit } })
    }

    fn blkio(&self) -> Result<Blkio> {
        let mut blkio = Blkio { psi: self.pressure("io.pressure")?, ..Blkio::default() };
        for (key, entry) in self.text("io.stat")?.lines().flat_map(io_entries) {
            match key {
                "rbytes" | "wbytes" => blkio.io_service_bytes_recursive.push(entry),
                _ => blkio.io_serviced_recursive.push(entry),
            }
        }
        Ok(blkio)
    }

    fn hugetlb(&self) -> Result<Table<Hugetlb>> {
        let names = dir::files(self.0).doing(|| format!("list {}", self.0))?;
        let mut table = Table::default();
        for name in names {
            let size = name.strip_prefix("hugetlb.").and_then(|name| name.strip_suffix(".events"));
            let Some(size) = size else { continue };
            let current = self.number(&format!("hugetlb.{size}.current"), 0)?;
            let usage = self.number(&format!("hugetlb.{size}.rsvd.current"), current)?;
            let failcnt = self.table(&format!("hugetlb.{size}.events"))?.get("max");
            table.push(size, Hugetlb { usage, max: 0, failcnt });
        }
        Ok(table)
    }

    /// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
    fn pressure(&self, name: &str) -> Result<Option<Pressure>> {
        let text = self.text(name)?;
        let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind));
        let some = line("some ").map(pressure_times);
        Ok(some.map(|some| Pressure {
            some,
            full: line("full ").map(pressure_times).unwrap_or_default(),
        }))
    }
}

fn pressure_times(line: &str) -> PressureTimes {
    let text = |key: &str| {
        let mut pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    };
    let average = |key| serde_json::from_str(text(key)).unwrap_or_default();
    PressureTimes {
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
        total: text("total").parse().unwrap_or_default(),
    }
}

/// The figures of a line `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` that v1 has too.
fn io_entries(line: &str) -> impl Iterator<Item = (&str, BlkioEntry)> {
    let (device, figures) = line.split_once(' ').unwrap_or((line, ""));
    let numbers = device.split_once(':');
    let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    figures.split(' ').filter_map(move |figure| {
        let ((major, minor), (key, value)) = (numbers?, figure.split_once('=')?);
        let op = match key {
            "rbytes" | "rios" => "Read",
            "wbytes" | "wios" => "Write",
            _ => return None,
        };
        let value = value.parse().ok()?;
        Some((key, BlkioEntry { major, minor, op: op.to_owned(), value }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let times = pressure_times("avg10=0.50 avg60=1.25 avg300=0.00 total=1234");
        let expected = PressureTimes { avg10: 0.5, avg60: 1.25, avg300: 0.0, total: 1234 };
        assert_eq!(times, expected);
        let line = "8:16 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=9 dios=9";
        let found: Vec<_> = io_entries(line).collect();
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 16, op: op.into(), value };
        assert_eq!(found[0], ("rbytes", entry("Read", 4096)));
        assert_eq!(found[3], ("wios", entry("Write", 3)));
        assert_eq!(found.len(), 4);
        assert_eq!(io_entries("8:16 ").count() + io_entries("x").count(), 0);
    }

    /// A directory with the files of a cgroup.
    #[test]
    fn figures() {
        let dir = std::env::temp_dir().join(format!("tare-stats2-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
            ),
            ("memory.current", "100\n"),
            ("memory.max", "200\n"),
            ("memory.peak", "150\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.stat", "anon 60\nfile 40\n"),
            ("pids.current", "7\n"),
            ("pids.max", "max\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("hugetlb.2MB.current", "4\n"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let stats = read(dir.to_str().unwrap()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let json = serde_json::to_value(&stats).unwrap();
        let usage = serde_json::json!({"total": 30_000, "kernel": 20_000, "user": 10_000});
        assert_eq!(json["cpu"]["usage"], usage);
        assert_eq!(json["cpu"]["throttling"]["throttledTime"], 2000);
        assert_eq!(json["cpu"]["psi"]["some"]["total"], 5);
        let memory = serde_json::json!({"limit": 200, "usage": 100, "max": 150, "failcnt": 0});
        assert_eq!(json["memory"]["usage"], memory);
        let swap = serde_json::json!({"limit": u64::MAX, "usage": 110, "failcnt": 0});
        assert_eq!(json["memory"]["swap"], swap);
        assert_eq!((&json["memory"]["cache"], json["memory"].get("psi")), (&40.into(), None));
        assert_eq!(json["pids"], serde_json::json!({"current": 7}));
        assert_eq!(json["hugetlb"]["2MB"], serde_json::json!({"usage": 4, "failcnt": 3}));
    }
}
