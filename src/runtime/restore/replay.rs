//! One changelog on its way into its store: read as it comes, applied in large batches.

use std::collections::VecDeque;
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
/// As [`BATCH_BYTES`], once a standby has been at its changelog's end: many are followed at the same time.
const FOLLOWED_BATCH_BYTES: usize = 1 << 20;
/// A batch waits no longer for more, and at the end of a changelog that is followed.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
const FOLLOWED_AGE_MAX: Duration = Duration::from_millis(100);
/// Records taken from the consumer at once.
const DRAIN_RECORDS: usize = 5_000;

/// How far a changelog is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// To its end, once.
    End,
    /// For as long as the task is a standby.
    Stopped,
}

pub(super) struct Replay {
    until: Until,
    /// Which of the task's stores.
    pub(super) store: usize,
    pub(super) partition: TopicPartition,
    /// `None`: it waits in line.
    pub(super) slot: Option<PartitionSlot>,
    /// Where the changelog is an input topic: the committed offset, from which on nothing may be applied.
    limit: Option<i64>,
    /// Read beyond the limit, for when it moves.
    held: VecDeque<RawRecord>,
    records: Vec<ChangelogRecord>,
    bytes: usize,
    /// After the last record of the batch, or of the one before.
    next: Option<i64>,
    /// When the first record of the batch came, on the monotonic clock.
    since: Option<Duration>,
    /// The changelog's end, as far as it is known.
    pub(super) end: Option<i64>,
    remaining: Placed,
    /// Nothing is left to be read.
    pub(super) is_complete: bool,
    /// The end was reached, once at least.
    pub(super) has_caught_up: bool,
}

impl Replay {
    pub(super) fn new(
        until: Until,
        (task, index, store): (TaskId, usize, &TaskStore),
        partition: TopicPartition,
        limit: Option<i64>,
        metrics: &RestoreMetrics,
    ) -> Self {
        let is_at_limit = limit.is_some_and(|limit| limit <= store.store.position().unwrap_or(0));
        let name = store.store.name();
        Self {
            until,
            store: index,
            partition,
            slot: None,
            limit,
            held: VecDeque::new(),
            records: Vec::new(),
            bytes: 0,
            next: None,
            since: None,
            end: limit,
            remaining: match until {
                Until::End => metrics.remaining(task, name),
                Until::Stopped => metrics.standby_lag(task, name),
            },
            is_complete: until == Until::End && is_at_limit,
            has_caught_up: false,
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

    /// Moves the committed offset of a changelog that is an input topic.
    pub(super) fn set_limit(&mut self, limit: i64) {
        self.limit = self.limit.max(Some(limit));
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
        if !self.records.is_empty() {
            self.since.get_or_insert(now);
        }
        self.end = self.limit.or(consumer.cached_end_offset(&self.partition)).or(self.end);
        let end = self.reached_end(reached);
        let age = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let is_due = match self.until {
            Until::End => end.is_some(),
            Until::Stopped => end.is_some() && (self.records.is_empty() || age >= FOLLOWED_AGE_MAX),
        };
        if self.bytes >= self.batch_bytes() || age >= BATCH_AGE_MAX || is_due {
            self.apply(store, end, metrics)?;
        }
        self.is_complete = self.until == Until::End && end.is_some();
        self.has_caught_up |= end.is_some();
        if let Some(left) = self.left(store) {
            self.remaining.set_count(left);
        }
        Ok(read)
    }

    fn batch_bytes(&self) -> usize {
        if self.has_caught_up { FOLLOWED_BATCH_BYTES } else { BATCH_BYTES }
    }

    /// Takes records until the batch is full or none is left, and says how many; and the end, where it was reached.
    fn read(
        &mut self,
        consumer: &mut dyn Consumer,
        slot: PartitionSlot,
    ) -> Result<(usize, Option<i64>)> {
        let is_within = |limit: Option<i64>, offset| limit.is_none_or(|limit| offset < limit);
        while self.held.front().is_some_and(|raw| is_within(self.limit, raw.offset)) {
            let raw = self.held.pop_front();
            raw.into_iter().for_each(|raw| self.add(raw));
        }
        let mut read = 0;
        // What is beyond the limit waits, and nothing comes behind it.
        while self.held.is_empty() {
            let mut take = |raw: RawRecord| match is_within(self.limit, raw.offset) {
                true => self.add(raw),
                false => self.held.push_back(raw),
            };
            let drained = consumer.drain(slot, DRAIN_RECORDS, &mut take)?;
            read += drained.records;
            if drained.records < DRAIN_RECORDS || self.bytes >= self.batch_bytes() {
                return Ok((read, drained.end_of_partition));
            }
        }
        Ok((read, None))
    }

    fn add(&mut self, raw: RawRecord) {
        self.next = Some(raw.offset + 1);
        let RawRecord { key, value, timestamp, headers, .. } = raw;
        if let Some(key) = key {
            self.bytes += RECORD_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len());
            self.records.push(ChangelogRecord { key, value, timestamp, headers });
        }
    }

    /// The end, where it was reached: the whole log's, and not only the stable part's; a standby follows the stable part.
    fn reached_end(&self, reached: Option<i64>) -> Option<i64> {
        let is_at_limit = reached.is_some() || !self.held.is_empty() || self.next >= self.limit;
        match (self.limit, self.until) {
            (Some(limit), Until::End) => is_at_limit.then_some(limit),
            (Some(_), Until::Stopped) => self.next.filter(|_| is_at_limit),
            (None, Until::End) => {
                reached.filter(|reached| self.end.is_none_or(|end| end <= *reached))
            }
            (None, Until::Stopped) => reached,
        }
    }

    /// Applies what there is of a batch.
    pub(super) fn flush(&mut self, store: &mut TaskStore, metrics: &RestoreMetrics) -> Result<()> {
        self.apply(store, None, metrics)
    }

    /// At the end the position passes the markers too, which are never handed over.
    fn apply(
        &mut self,
        store: &mut TaskStore,
        end: Option<i64>,
        metrics: &RestoreMetrics,
    ) -> Result<()> {
        let Some(position) = end.or(self.next) else { return Ok(()) };
        if self.records.is_empty() && store.store.position() == Some(position) {
            return Ok(());
        }
        store.store.restore(&self.records, position)?;
        store.position = position;
        let records = self.records.len();
        let bytes = self.bytes - records * RECORD_BYTES;
        match self.until {
            Until::End => metrics.restored(store.store.name(), records as u64, bytes as u64),
            Until::Stopped => metrics.followed(store.store.name(), records as u64),
        }
        self.records = Vec::new();
        (self.bytes, self.since) = (0, None);
        Ok(())
    }

    /// Records between what was read and the end, as far as that is known.
    pub(super) fn left(&self, store: &TaskStore) -> Option<u64> {
        let position = self.next.unwrap_or(0).max(store.position);
        Some(u64::try_from(self.end? - position).unwrap_or(0))
    }
}
