//! Turns the result lines of a bench into a Markdown table of medians.
//!
//! Reads our lines and the peer's, which share their field names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The raw limit, which the other rows of its guarantee are compared with.
const PASSTHROUGH: &str = "passthrough";
/// What the peer calls itself.
const PEER: &str = "kafka-streams";

/// One row before it is printed: the runs of a workload, with one guarantee, on one engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    workload: String,
    mode: String,
    engine: String,
}

/// The medians of a cell.
#[derive(Debug, Clone, Copy)]
struct Medians {
    runs: usize,
    rec_per_s: f64,
    rec_per_cpu_s: f64,
    peak_rss_mb: f64,
    foreign_cores: f64,
}

/// The table for a file of JSON lines.
///
/// # Errors
/// Names the line that is not a result.
pub(crate) fn print(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading results from \"{}\"", file.display()))?;
    let mut runs: BTreeMap<Cell, Vec<Value>> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let run: Value = serde_json::from_str(line)
            .with_context(|| format!("line {}: wanted a JSON object", index + 1))?;
        let word = |field: &str| Some(run.get(field)?.as_str()?.to_owned());
        let cell = (|| {
            let (workload, mode) = (word("workload")?, word("mode")?);
            Some(Cell { workload, mode, engine: word("engine")? })
        })();
        let cell = cell.with_context(|| format!("line {}: not a result", index + 1))?;
        runs.entry(cell).or_default().push(run);
    }
    let medians = runs.into_iter().map(|(cell, runs)| Ok((cell, Medians::of(&runs)?)));
    Ok(render(&medians.collect::<Result<_>>()?))
}

impl Medians {
    fn of(runs: &[Value]) -> Result<Self> {
        let field = |run: &Value, name: &str| {
            run.get(name).and_then(Value::as_f64).with_context(|| format!("no \"{name}\" in {run}"))
        };
        let median = |value: &dyn Fn(&Value) -> Result<f64>| {
            let mut values = runs.iter().map(value).collect::<Result<Vec<f64>>>()?;
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            anyhow::Ok(match values.len() % 2 {
                0 => f64::midpoint(values[middle - 1], values[middle]),
                _ => values[middle],
            })
        };
        Ok(Self {
            runs: runs.len(),
            rec_per_s: median(&|run| field(run, "rec_per_s"))?,
            rec_per_cpu_s: median(&|run| field(run, "rec_per_cpu_s"))?,
            peak_rss_mb: median(&|run| field(run, "peak_rss_mb"))?,
            // The peer counts others' work since it was started, so both are taken as a rate.
            foreign_cores: median(&|run| {
                let span = field(run, "span_s").or_else(|_| field(run, "first_to_committed_s"))?;
                Ok(field(run, "foreign_cpu_s")? / span)
            })?,
        })
    }
}

fn render(rows: &BTreeMap<Cell, Medians>) -> String {
    let mut table = String::from(
        "| workload | guarantee | engine | records/s | records per CPU-second | of passthrough | \
         times the peer | peak RSS, MB | others' load, cores | runs |\n\
         |---|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let cpu_of = |workload: &str, mode: &str, engine: &str| {
        let (workload, mode, engine) = (workload.into(), mode.into(), engine.into());
        rows.get(&Cell { workload, mode, engine }).map(|medians| medians.rec_per_cpu_s)
    };
    for (cell, row) in rows {
        let limit = cpu_of(PASSTHROUGH, &cell.mode, "kstreams");
        let peer = cpu_of(&cell.workload, &cell.mode, PEER).filter(|_| cell.engine != PEER);
        let of_limit = limit.map(|limit| format!("{:.0} %", row.rec_per_cpu_s / limit * 100.0));
        let of_peer = peer.map(|peer| format!("{:.1}", row.rec_per_cpu_s / peer));
        let engine = if cell.workload == PASSTHROUGH { "librdkafka" } else { &cell.engine };
        let guarantee = if cell.mode == "eos" { "exactly once" } else { "at least once" };
        let line = writeln!(
            table,
            "| {} | {guarantee} | {engine} | {} | {} | {} | {} | {:.0} | {:.1} | {} |",
            cell.workload,
            grouped(row.rec_per_s),
            grouped(row.rec_per_cpu_s),
            of_limit.as_deref().unwrap_or("–"),
            of_peer.as_deref().unwrap_or("–"),
            row.peak_rss_mb,
            row.foreign_cores,
            row.runs
        );
        line.expect("writing to a string cannot fail");
    }
    table
}

/// A whole number with commas between its thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_come_out_per_workload_and_guarantee() {
        let run = |engine: &str, workload: &str, per_cpu: f64| {
            format!(
                "{{\"engine\":\"{engine}\",\"workload\":\"{workload}\",\"mode\":\"eos\",\
                 \"rec_per_s\":1234567,\"rec_per_cpu_s\":{per_cpu},\"peak_rss_mb\":150,\
                 \"foreign_cpu_s\":1,\"first_to_committed_s\":4}}\n"
            )
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = [
            run("kstreams", "passthrough", 800_000.0),
            run("kstreams", "w1", 100_000.0),
            run("kstreams", "w1", 900_000.0),
            run("kstreams", "w1", 400_000.0),
            run(PEER, "w1", 100_000.0),
        ];
        std::fs::write(file.path(), lines.concat()).unwrap();
        let table = print(file.path()).unwrap();
        let row =
            "| w1 | exactly once | kstreams | 1,234,567 | 400,000 | 50 % | 4.0 | 150 | 0.2 | 3 |";
        assert!(table.contains(row), "{table}");
        std::fs::write(file.path(), "{}").unwrap();
        assert!(print(file.path()).is_err());
    }
}
