//! One changelog on its way into its store: read as it comes, applied in large batches.

use std::time::Duration;

use crate::error::Result;
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{Consumer, PartitionSlot, StartOffset};
use crate::record::RawRecord;
use crate::store::ChangelogRecord;
use crate::task::TaskStore;
use crate::telemetry::{Placed, RestoreMetrics};

/// A batch is applied at this size, counted with [`RECORD_BYTES`]: the larger, the fewer files and the more records of one key that never
/// reach the store; one lies in memory for each changelog that is read.
const BATCH_BYTES: usize = 8 << 20;
/// What a record takes beside its key and value.
const RECORD_BYTES: usize = std::mem::size_of::<ChangelogRecord>();
/// A batch waits no longer for more.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
/// Records taken from the consumer at once.
const DRAIN_RECORDS: usize = 5_000;

pub(super) struct Replay {
    /// Which of the task's stores.
    pub(super) store: usize,
    pub(super) partition: TopicPartition,
    /// `None`: it waits in line.
    pub(super) slot: Option<PartitionSlot>,
    /// Where the changelog is an input topic: the committed offset, from which on nothing may be applied.
    limit: Option<i64>,
    records: Vec<ChangelogRecord>,
    bytes: usize,
    /// After the last record read.
    next: Option<i64>,
    /// When the first record of the batch came, on the monotonic clock.
    since: Option<Duration>,
    /// The changelog's end, as far as it is known.
    pub(super) end: Option<i64>,
    remaining: Placed,
    pub(super) is_complete: bool,
}

impl Replay {
    pub(super) fn new(
        (task, index, store): (TaskId, usize, &TaskStore),
        partition: TopicPartition,
        limit: Option<i64>,
        metrics: &RestoreMetrics,
    ) -> Self {
        Self {
            store: index,
            partition,
            slot: None,
            limit,
            records: Vec::new(),
            bytes: 0,
            next: None,
            since: None,
            end: limit,
            remaining: metrics.remaining(task, store.store.name()),
            is_complete: limit.is_some_and(|limit| limit <= store.store.position().unwrap_or(0)),
        }
    }

    /// Begins to read where the store stands.
    pub(super) fn open(&mut self, consumer: &mut dyn Consumer, store: &TaskStore) -> Result<()> {
        let start = match store.store.position() {
            Some(position) => StartOffset::At(position),
            None => StartOffset::Beginning,
        };
        tracing::info!(store = %store.store.name(), partition = %self.partition, from = ?start, "restoring");
        self.slot = Some(consumer.assign(&self.partition, start)?);
        Ok(())
    }

    pub(super) fn close(&mut self, consumer: &mut dyn Consumer) -> Result<()> {
        self.slot.take().map_or(Ok(()), |slot| consumer.unassign(slot))
    }

    /// Reads what has come, and applies it if it is a batch, the changelog's end, or old enough; says how many records were read. What
    /// was read before an error stays.
    pub(super) fn step(
        &mut self,
        consumer: &mut dyn Consumer,
        store: &mut TaskStore,
        metrics: &RestoreMetrics,
        now: Duration,
    ) -> Result<usize> {
        let Some(slot) = self.slot else { return Ok(0) };
        let (read, reached) = self.read(consumer, slot)?;
        if read > 0 {
            self.since.get_or_insert(now);
        }
        self.end = self.limit.or(consumer.cached_end_offset(&self.partition)).or(self.end);
        let end = self.reached_end(reached);
        let is_old = self.since.is_some_and(|since| now.saturating_sub(since) >= BATCH_AGE_MAX);
        if self.bytes >= BATCH_BYTES || is_old || end.is_some() {
            self.apply(store, end, metrics)?;
        }
        self.is_complete = end.is_some();
        if let Some(left) = self.left(store) {
            self.remaining.set_count(left);
        }
        Ok(read)
    }

    /// Takes records until the batch is full or none is left, and says how many; and the end, where it was reached.
    fn read(
        &mut self,
        consumer: &mut dyn Consumer,
        slot: PartitionSlot,
    ) -> Result<(usize, Option<i64>)> {
        let mut read = 0;
        loop {
            let Self { limit, records, bytes, next, .. } = self;
            let mut take = |raw: RawRecord| {
                *next = Some(raw.offset + 1);
                if limit.is_some_and(|limit| raw.offset >= limit) {
                    return;
                }
                let RawRecord { key, value, timestamp, headers, .. } = raw;
                if let Some(key) = key {
                    *bytes += RECORD_BYTES + key.len() + value.as_ref().map_or(0, |v| v.len());
                    records.push(ChangelogRecord { key, value, timestamp, headers });
                }
            };
            let drained = consumer.drain(slot, DRAIN_RECORDS, &mut take)?;
            read += drained.records;
            if drained.records < DRAIN_RECORDS || self.bytes >= BATCH_BYTES {
                return Ok((read, drained.end_of_partition));
            }
        }
    }

    /// Where restoration ends, once it was reached: the whole log's end, and not only the stable part's.
    fn reached_end(&self, reached: Option<i64>) -> Option<i64> {
        match self.limit {
            Some(limit) => (reached.is_some() || self.next >= Some(limit)).then_some(limit),
            None => reached.filter(|reached| self.end.is_none_or(|end| end <= *reached)),
        }
    }

    /// At the end the position passes the markers too, which are never handed over.
    fn apply(
        &mut self,
        store: &mut TaskStore,
        end: Option<i64>,
        metrics: &RestoreMetrics,
    ) -> Result<()> {
        let Some(position) = end.or(self.next) else { return Ok(()) };
        store.store.restore(&self.records, position)?;
        store.position = position;
        let records = self.records.len();
        let bytes = self.bytes - records * RECORD_BYTES;
        metrics.restored(store.store.name(), records as u64, bytes as u64);
        self.records.clear();
        (self.bytes, self.since) = (0, None);
        Ok(())
    }

    /// Records between what was read and the end, as far as that is known.
    pub(super) fn left(&self, store: &TaskStore) -> Option<u64> {
        let position = self.next.unwrap_or(0).max(store.position);
        Some(u64::try_from(self.end? - position).unwrap_or(0))
    }
}
