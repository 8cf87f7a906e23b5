//! What tracing costs: pairs of runs, one without and one with it right after each other, compared by CPU time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A line for each workload: the median of the pairs' ratios, and all of them.
///
/// # Errors
/// Names the line that is not a result, and a run without its pair.
pub(crate) fn print(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading results from \"{}\"", file.display()))?;
    let mut runs: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let run: Value = serde_json::from_str(line)
            .with_context(|| format!("line {}: wanted a JSON object", index + 1))?;
        let found = (|| {
            let name = format!("{} {}", run["workload"].as_str()?, run["mode"].as_str()?);
            Some((name, usize::from(run["traced"].as_bool()?), run["cpu_run_s"].as_f64()?))
        })();
        let (name, traced, cpu) =
            found.with_context(|| format!("line {}: not a result", index + 1))?;
        runs.entry(name).or_default()[traced].push(cpu);
    }
    let mut lines = String::new();
    for (name, [plain, traced]) in runs {
        anyhow::ensure!(plain.len() == traced.len(), "{name}: found a run without its pair");
        let mut percents: Vec<f64> = plain
            .iter()
            .zip(&traced)
            .map(|(plain, traced)| (traced / plain - 1.0) * 100.0)
            .collect();
        percents.sort_by(f64::total_cmp);
        let median = percents[percents.len() / 2];
        let all: Vec<String> = percents.iter().map(|percent| format!("{percent:+.1}")).collect();
        let sum = |runs: &[f64]| runs.iter().sum::<f64>();
        let total = (sum(&traced) / sum(&plain) - 1.0) * 100.0;
        let pairs = percents.len();
        writeln!(
            lines,
            "{name}: {median:+.1} % CPU in the median of {pairs} pairs ({}), {total:+.1} % over all",
            all.join(", ")
        )?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_compared_in_their_order() {
        let run = |traced: bool, cpu: f64| {
            format!(
                "{{\"workload\":\"w1\",\"mode\":\"eos\",\"traced\":{traced},\"cpu_run_s\":{cpu}}}\n"
            )
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let pairs = [(2.0, 2.02), (4.0, 4.2), (1.0, 1.0)];
        let lines: String = pairs.iter().map(|(a, b)| run(false, *a) + &run(true, *b)).collect();
        std::fs::write(file.path(), &lines).unwrap();
        let wanted =
            "w1 eos: +1.0 % CPU in the median of 3 pairs (+0.0, +1.0, +5.0), +3.1 % over all\n";
        assert_eq!(print(file.path()).unwrap(), wanted);
        std::fs::write(file.path(), lines + &run(true, 1.0)).unwrap();
        assert!(print(file.path()).unwrap_err().to_string().contains("without its pair"));
    }
}
