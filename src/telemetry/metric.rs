//! What a metric is, for the recorder and for the reference page.

use std::fmt::Write as _;

use metrics::{Unit, describe_counter, describe_histogram};

/// How a metric's values are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only ever grows, but for a restart.
    Counter,
    /// Goes up and down; a [`Placed`](super::Placed) value, gone with what it tells about.
    Gauge,
    /// Counted into buckets with these upper edges.
    Histogram(&'static [f64]),
}

/// One metric: its name ends in its unit, as Prometheus wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The whole name.
    pub name: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// Its labels, apart from those that a scraper adds.
    pub labels: &'static [&'static str],
    /// One sentence without a full stop.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// A histogram.
    pub const fn histogram(
        name: &'static str,
        edges: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Histogram(edges), labels, help }
    }

    /// The unit that the name ends in; `None`: it counts something, which the name says.
    pub fn unit(&self) -> Option<Unit> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        match name {
            _ if name.ends_with("_seconds") => Some(Unit::Seconds),
            _ if name.ends_with("_bytes") => Some(Unit::Bytes),
            _ => None,
        }
    }

    /// Prometheus's word for the kind.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// Tells the recorder what metrics mean.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        let unit = metric.unit().unwrap_or(Unit::Count);
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => {} // on the board, which renders itself
            Kind::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// The rows of metrics in a reference page: a Markdown table in their order.
pub fn reference(metrics: &[Metric]) -> String {
    let mut page = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.type_name(),
            labels.join(" "),
            metric.help
        );
    }
    page
}
