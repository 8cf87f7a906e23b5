//! The sink's metrics.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `aggregator_clickhouse_rows_total` | `outcome`: `inserted`, `present` | rows written, and rows found to be there already |
//! | `aggregator_clickhouse_unreadable_records_total` | | records that became a row of the kind `unreadable` |
//! | `aggregator_clickhouse_errors_total` | | requests that failed |
//! | `aggregator_clickhouse_lag_records` | `partition` | records of the topic that are not in ClickHouse yet |
//! | `aggregator_clickhouse_buffered_rows` | | rows that wait here |

use metrics::{counter, gauge};

pub(super) fn inserted(rows: usize) {
    counter!("aggregator_clickhouse_rows_total", "outcome" => "inserted").increment(rows as u64);
}

pub(super) fn present(rows: usize) {
    counter!("aggregator_clickhouse_rows_total", "outcome" => "present").increment(rows as u64);
}

pub(super) fn unreadable() {
    counter!("aggregator_clickhouse_unreadable_records_total").increment(1);
}

pub(super) fn failed() {
    counter!("aggregator_clickhouse_errors_total").increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(super) fn lag(partition: i32, records: i64) {
    gauge!("aggregator_clickhouse_lag_records", "partition" => partition.to_string())
        .set(records as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(super) fn buffered(rows: usize) {
    gauge!("aggregator_clickhouse_buffered_rows").set(rows as f64);
}
