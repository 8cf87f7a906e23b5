//! What a run costs: wall time, CPU time and memory of this process, and what else kept the machine busy.
//!
//! A run beside which others worked is slower than one alone, also per CPU-second, for cores share caches: figures
//! of two programs may be compared where `foreign_cpu_s` of both is small.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Runs from the first record of the input to the last commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    start: Instant,
    cpu_seconds: f64,
    broker_cpu_s: f64,
    machine_cpu_s: f64,
}

impl Stopwatch {
    // A bench measures the machine it runs on: no clock port between.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu_seconds: cpu_seconds(),
            broker_cpu_s: broker_cpu_s(),
            machine_cpu_s: machine_cpu_s(),
        }
    }

    /// The figures of `records` records as the peer names them.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub(crate) fn figures(&self, workload: &str, mode: &str, records: u64) -> Result<Value> {
        let wall_s = self.start.elapsed().as_secs_f64();
        let cpu_total_s = cpu_seconds();
        let cpu_run_s = cpu_total_s - self.cpu_seconds;
        let broker_cpu_s = broker_cpu_s() - self.broker_cpu_s;
        let foreign_cpu_s = machine_cpu_s() - self.machine_cpu_s - broker_cpu_s - cpu_run_s;
        Ok(json!({
            "engine": "kstreams",
            "workload": workload,
            "mode": mode,
            "records": records,
            "first_to_committed_s": rounded(wall_s),
            "cpu_run_s": rounded(cpu_run_s),
            "cpu_total_s": rounded(cpu_total_s),
            "rec_per_s": (records as f64 / wall_s).round(),
            "rec_per_cpu_s": (records as f64 / cpu_run_s).round(),
            "peak_rss_mb": peak_rss_mb()?,
            "broker_cpu_s": rounded(broker_cpu_s),
            "foreign_cpu_s": rounded(foreign_cpu_s.max(0.0)),
        }))
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// User and system time of this process.
#[allow(unsafe_code)]
fn cpu_seconds() -> f64 {
    // SAFETY: `rusage` is plain data for which zeros are valid, and getrusage only writes into it. It cannot fail
    // for RUSAGE_SELF and a valid pointer.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The largest resident set so far, as the peer takes it (`VmHWM`). Not `ru_maxrss`, which a child inherits from the
/// process that started it.
fn peak_rss_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading peak memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("/proc/self/status has no VmHWM")?.parse()?;
    Ok(kilobytes / 1024)
}

/// Linux counts in `/proc` in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the broker whose process id is in `BENCH_BROKER_PID`; 0 where none is given.
fn broker_cpu_s() -> f64 {
    let Ok(pid) = std::env::var("BENCH_BROKER_PID") else { return 0.0 };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name, in parentheses, may hold spaces. After it, utime and stime are fields 11 and 12 from 0.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    ticks(fields.split_whitespace().skip(11).take(2))
}

/// Busy time of the whole machine: user, nice, system, irq and softirq, as the peer adds them up.
fn machine_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<_> = stat.lines().next().unwrap_or_default().split_whitespace().collect();
    ticks([1, 2, 3, 6, 7].into_iter().filter_map(|index| fields.get(index).copied()))
}

fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> f64 {
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
