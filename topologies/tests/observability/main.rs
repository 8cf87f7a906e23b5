//! Metrics, dashboards and alerts against a real Prometheus that scrapes two instances of the program, on a Kafka of three brokers of its own.
//! Run by `make test`.
//!
//! One test, because everything it starts serves all of its questions. Times of the alert rules are shortened by `docker/prometheus/scale.py`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
#[allow(dead_code, reason = "shared with the test that reads the files")]
mod lint;
mod prometheus;
mod queries;
mod registry_proxy;
mod stack;

use std::collections::{BTreeMap, BTreeSet};

use lint::documented;
use stack::{Instance, Stack};
use test_support::{DEADLINE, wait_until};

/// By how much the times of alert rules are divided.
pub(crate) const FACTOR: u32 = 10;

/// Documented metrics that this run does not make, and why.
const ABSENT: &[(&str, &str)] = &[
    ("svc_clickhouse_", "needs a ClickHouse, which tests/services has"),
    ("svc_unknown_events_total", "no producer is newer than this program"),
    ("svc_hr_completions_refused_total", "the simulated contractors keep the rules"),
    ("svc_hr_unmatched_total", "the simulated contractors keep the rules"),
    ("svc_access_revoked_total", "no grant need be revoked in so short a time"),
    ("kstreams_cache_", "no topology of the application has a table with a record cache"),
    ("kstreams_restore_remaining_records", "may be over between two looks"),
    ("kstreams_restore_eta_seconds", "may be over between two looks"),
    ("kstreams_standby_", "there are no standbys"),
    ("kstreams_records_dropped_total", "no topology drops records in this run"),
    ("kstreams_punctuation_failures_total", "no punctuation fails"),
];

/// Whether a metric's absence has a reason.
pub(crate) fn may_be_absent(name: &str) -> bool {
    let is_rocksdb = name.starts_with("kstreams_rocksdb_") && !cfg!(feature = "rocksdb");
    is_rocksdb || ABSENT.iter().any(|(prefix, _)| name.starts_with(prefix))
}

#[test]
fn two_instances_under_load_fill_every_panel_and_their_failures_fire_alerts() {
    let mut stack = Stack::start();
    let mut first = stack.instance("first");
    first.wait_until_running();
    let mut load = stack.load();
    let mut second = stack.instance("second");
    second.wait_until_running();
    first.wait_until_running();
    every_partition_is_told_by_one_instance(&first, &second);
    queries::every_panel_has_data(&stack);
    queries::a_planted_typo_is_found(&stack);
    documented_metrics_are_those_that_appear(&[&first, &second]);
    alerts::fire(&mut stack, &mut second);
    assert_eq!(first.process.exit_status(), None, "{}", first.process.tail());
    assert_eq!(load.exit_status(), None, "{}", load.tail());
}

/// Gauges of tasks that moved to the second instance are gone from the first one.
fn every_partition_is_told_by_one_instance(first: &Instance, second: &Instance) {
    const LAG: &str = "kstreams_consumer_lag_records";
    let lags = |instance: &Instance| -> BTreeSet<String> {
        let lines = instance.metrics();
        let samples = lines.lines().filter(|line| line.starts_with(&format!("{LAG}{{")));
        samples.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    wait_until("a place for every partition", DEADLINE, || {
        let (first, second) = (lags(first), lags(second));
        !second.is_empty() && first.is_disjoint(&second)
    });
}

/// What docs/metrics.md has appears, and nothing else does; histograms are histograms.
fn documented_metrics_are_those_that_appear(instances: &[&Instance]) {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for instance in instances {
        let text = instance.metrics();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for (name, kind) in types.map(|line| line.split_once(' ').unwrap()) {
            found.insert(name.to_owned(), kind.to_owned());
        }
        // Prometheus itself is the judge of the format.
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let known = documented();
    let found_names: BTreeSet<String> = found.keys().cloned().collect();
    let unknown: Vec<&String> = found_names.difference(&known).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    let missing: Vec<&String> =
        known.difference(&found_names).filter(|name| !may_be_absent(name)).collect();
    assert!(missing.is_empty(), "in docs/metrics.md, but nowhere to be seen: {missing:?}");
    for (name, kind) in &found {
        assert_ne!(kind, "summary", "{name}: summaries cannot be added up over instances");
    }
}
