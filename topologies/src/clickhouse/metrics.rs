//! The sink's metrics; docs/metrics.md says what they mean.

use kstreams::telemetry::Placed;
use metrics::counter;

use crate::business::{
    CLICKHOUSE_BUFFERED, CLICKHOUSE_ERRORS, CLICKHOUSE_LAG, CLICKHOUSE_ROWS, CLICKHOUSE_UNREADABLE,
};

pub(super) fn inserted(rows: usize) {
    counter!(CLICKHOUSE_ROWS, "outcome" => "inserted").increment(rows as u64);
}

pub(super) fn present(rows: usize) {
    counter!(CLICKHOUSE_ROWS, "outcome" => "present").increment(rows as u64);
}

pub(super) fn unreadable() {
    counter!(CLICKHOUSE_UNREADABLE).increment(1);
}

pub(super) fn failed() {
    counter!(CLICKHOUSE_ERRORS).increment(1);
}

/// The gauge of rows that wait. Also sets what alerts divide to zero, from the start.
pub(super) fn buffered() -> Placed {
    counter!(CLICKHOUSE_ERRORS).increment(0);
    counter!(CLICKHOUSE_UNREADABLE).increment(0);
    Placed::new(CLICKHOUSE_BUFFERED, &[])
}

/// The gauge of a partition's lag; gone with it.
pub(super) fn lag(partition: i32) -> Placed {
    Placed::new(CLICKHOUSE_LAG, &[("partition", &partition.to_string())])
}
