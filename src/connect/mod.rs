//! External sinks: the records of topics in batches to something outside Kafka, such as a database; each at least once, and once where the other side
//! can say what it has.
//!
//! ```text
//! records ──convert──► rows ──(enough, or the oldest has waited long enough)──► find_present, write ──► offsets committed
//! ```
//!
//! A consumer group of its own, beside any topology; written once here are the batches and their bounds, the back-off, the group, and what is
//! done about doubles. What is the other side's own is an [`ExternalSink`]. Offsets are committed after a batch is written, so nothing is lost; and where
//! it is not certain whether rows are there (after a start, a rebalance, a failed write), the sink is asked for their offsets first.
//!
//! Called on a thread of the caller's choice, which [`SinkWorker::run`] keeps. Deliberately absent: what rows look like, metrics, transactions.
//! Kafka Streams has none; Kafka Connect's `SinkTask` is the nearest.

mod handle;
mod worker;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::Result;
use crate::ids::TopicPartition;
use crate::record::RawRecord;

pub use handle::SinkHandle;
pub use worker::SinkWorker;

/// The other side of a sink.
pub trait ExternalSink: Send {
    /// Makes a record's row. What cannot be read should become a row that says so, or nothing (no bytes).
    ///
    /// # Errors
    /// `Retriable` and `Invalid`: waited out, and tried again. Other kinds end the worker.
    fn convert(&mut self, partition: &TopicPartition, record: &RawRecord) -> Result<Vec<u8>>;

    /// Which of these offsets of a partition are written already. Asked where that is not certain; without an answer, rows may be written twice.
    ///
    /// # Errors
    /// As [`convert`](Self::convert).
    fn find_present(
        &mut self,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<BTreeSet<i64>> {
        let _ = (partition, offsets);
        Ok(BTreeSet::new())
    }

    /// Writes rows, in order within each partition; returns when they are durable.
    ///
    /// # Errors
    /// As [`convert`](Self::convert). It is not known then which rows were written: they come again.
    fn write(&mut self, rows: &[SinkRow]) -> Result<()>;

    /// Told of what happens, for metrics and health; must not block.
    fn observe(&mut self, event: SinkEvent<'_>) {
        let _ = event;
    }
}

/// A row, and the record that it came of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRow {
    /// The record's partition.
    pub partition: TopicPartition,
    /// The record's offset.
    pub offset: i64,
    /// What [`ExternalSink::convert`] made of it; never empty in a batch.
    pub bytes: Vec<u8>,
}

/// What happens in a sink.
#[derive(Debug)]
pub enum SinkEvent<'a> {
    /// So many rows were written.
    Written(usize),
    /// So many rows were there already.
    Present(usize),
    /// So many rows wait in memory.
    Buffered(usize),
    /// So many records of a partition are not written yet.
    Lag(&'a TopicPartition, i64),
    /// No partition is read any more; others may follow.
    Unassigned,
    /// Something failed, and is tried again after a pause.
    Failed(&'a str),
    /// It works again, or has ended.
    Recovered,
}

/// Bounds of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOptions {
    /// Its name, in logs.
    pub name: String,
    /// Rows of a batch at most; no more are kept in memory.
    pub batch_rows: usize,
    /// Bytes of a batch at most, but for the last record's.
    pub batch_bytes_max: usize,
    /// How long a row waits for others.
    pub batch_interval: Duration,
    /// The longest pause after failures in a row; the first is 200 ms, and each is twice as long as the one before.
    pub retry_backoff_max: Duration,
    /// Bound of a single request to the cluster.
    pub request_timeout: Duration,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            name: "sink".to_owned(),
            batch_rows: 10_000,
            batch_bytes_max: 8 << 20,
            batch_interval: Duration::from_secs(1),
            retry_backoff_max: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
        }
    }
}
