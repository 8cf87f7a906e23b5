//! Values that exist as long as what they tell about: gauges of tasks, partitions and stores, and counters of fractions.
//!
//! The `metrics` facade knows no end of a metric. A task that moved would go on being told by its old owner, and sums over instances would
//! count it twice; a zero in its place would say that it has no lag. So these values live on a board of the process, and leave it
//! when their [`Placed`] is dropped. The rejected alternative, the exporter's idle time-out, keeps them for a while, and drops those of a thread
//! that is only slow. Setting a value is one store to memory; the lock is for coming, going and reading.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metric::Metric;

type Labels = Vec<(&'static str, String)>;
/// The holders of one series; what it shows is their sum.
type Holders = Vec<Arc<AtomicU64>>;

static BOARD: Mutex<BTreeMap<(&'static str, Labels), Holders>> = Mutex::new(BTreeMap::new());

fn board() -> MutexGuard<'static, BTreeMap<(&'static str, Labels), Holders>> {
    BOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One value on the board, from its making to its drop. Nothing is shown before it is first set. Several of one name and one set of labels show
/// their sum: a store's over the tasks of this process, say.
#[derive(Debug)]
pub struct Placed {
    key: (&'static str, Labels),
    cell: Arc<AtomicU64>,
}

impl Placed {
    /// Takes a place on the board.
    pub fn new(name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        let cell = Arc::new(AtomicU64::new(f64::NAN.to_bits()));
        let key = (name, labels);
        board().entry(key.clone()).or_default().push(Arc::clone(&cell));
        Self { key, cell }
    }

    /// Shows `value`.
    pub fn set(&self, value: f64) {
        self.cell.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to what is shown; nothing yet counts as zero. Of one thread only.
    pub fn add(&self, value: f64) {
        let shown = f64::from_bits(self.cell.load(Ordering::Relaxed));
        self.set(if shown.is_nan() { value } else { shown + value });
    }

    /// Shows a number of things.
    #[allow(clippy::cast_precision_loss)] // beyond 2^53 nobody counts
    pub fn set_count(&self, count: u64) {
        self.set(count as f64);
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut board = board();
        let Some(holders) = board.get_mut(&self.key) else { return };
        holders.retain(|holder| !Arc::ptr_eq(holder, &self.cell));
        if holders.is_empty() {
            board.remove(&self.key);
        }
    }
}

/// A value on the board, as an exporter reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: &'static str,
    /// Its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The sum over its holders.
    pub value: f64,
}

/// What the board shows, by name; for an exporter that is not Prometheus's.
pub fn placed() -> Vec<Sample> {
    let board = board();
    let shown = board.iter().filter_map(|((name, labels), holders)| {
        let values = holders.iter().map(|holder| f64::from_bits(holder.load(Ordering::Relaxed)));
        let value = values.filter(|value| !value.is_nan()).reduce(|sum, value| sum + value)?;
        Some(Sample { name, labels: labels.clone(), value })
    });
    shown.collect()
}

/// What the board shows in Prometheus's text format, to follow what the recorder renders. `known` has the types and meanings.
pub fn render_placed(known: &[&[Metric]]) -> String {
    let (mut text, mut last) = (String::new(), "");
    for Sample { name, labels, value } in placed() {
        if name != last {
            let metric = known.iter().flat_map(|list| list.iter()).find(|m| m.name == name);
            if let Some(metric) = metric {
                let (help, kind) = (metric.help, metric.type_name());
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            }
            last = name;
        }
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = match labels.is_empty() {
            true => writeln!(text, "{name} {value}"),
            false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric::Kind;

    fn lines(name: &str) -> Vec<String> {
        const KNOWN: &[Metric] = &[Metric {
            name: "test_board_records",
            kind: Kind::Gauge,
            labels: &["task"],
            help: "Of a test",
        }];
        let text = render_placed(&[KNOWN]);
        text.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
    }

    #[test]
    fn value_is_shown_from_its_first_setting_to_its_drop_and_holders_add_up() {
        let name = "test_board_records";
        let first = Placed::new(name, &[("task", "0_1")]);
        assert_eq!(lines(name), Vec::<String>::new());
        first.set_count(3);
        let second = Placed::new(name, &[("task", "0_1")]);
        second.add(0.5);
        second.add(0.25);
        let other = Placed::new(name, &[("task", "a\"b\\c\n")]);
        other.set(0.0);
        assert_eq!(
            lines(name),
            [
                "# HELP test_board_records Of a test",
                "# TYPE test_board_records gauge",
                "test_board_records{task=\"0_1\"} 3.75",
                "test_board_records{task=\"a\\\"b\\\\c\\n\"} 0",
            ]
        );
        drop(first);
        assert_eq!(lines(name)[2], "test_board_records{task=\"0_1\"} 0.75");
        drop((second, other));
        assert_eq!(lines(name), Vec::<String>::new());
    }
}
