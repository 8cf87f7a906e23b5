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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::error::Error;
    use crate::kafka::{CommittedOffset, Drained};
    use crate::serdes::DefaultSerde;
    use crate::store::{KeyValueStore, MemoryEngine};
    use crate::time::Timestamp;

    /// A changelog of one partition: record `n` has offset and key `n`.
    #[derive(Default)]
    struct Log {
        arrived: VecDeque<RawRecord>,
        end_of_partition: Option<i64>,
        high_watermark: Option<i64>,
    }

    impl Log {
        fn append(&mut self, offsets: std::ops::Range<i64>) {
            self.arrived.extend(offsets.clone().map(|offset| RawRecord {
                offset,
                timestamp: Timestamp::from_millis(1),
                key: Some(Bytes::from(offset.to_string())),
                value: Some(Bytes::from_static(b"v")),
                headers: Default::default(),
            }));
            self.end_of_partition = Some(offsets.end);
            self.high_watermark = Some(offsets.end);
        }
    }

    impl Consumer for Log {
        fn assign(&mut self, _: &TopicPartition, _: StartOffset) -> Result<PartitionSlot> {
            Ok(PartitionSlot(0))
        }

        fn unassign(&mut self, _: PartitionSlot) -> Result<()> {
            Ok(())
        }

        fn drain(
            &mut self,
            _: PartitionSlot,
            max_records: usize,
            into: &mut dyn FnMut(RawRecord),
        ) -> Result<Drained> {
            let records = self.arrived.len().min(max_records);
            self.arrived.drain(..records).for_each(into);
            Ok(Drained { records, end_of_partition: self.end_of_partition })
        }

        fn wait(&mut self, _: Duration) -> Result<()> {
            Ok(())
        }

        fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
            Arc::new(|| ())
        }

        fn committed(
            &mut self,
            _: &[TopicPartition],
            _: Duration,
        ) -> Result<Vec<Option<CommittedOffset>>> {
            Err(Error::fatal("not asked for by a replay"))
        }

        fn offsets(&mut self, _: &TopicPartition, _: Duration) -> Result<(i64, i64)> {
            Err(Error::fatal("not asked for by a replay"))
        }

        fn cached_end_offset(&self, _: &TopicPartition) -> Option<i64> {
            self.high_watermark
        }

        fn offset_for_time(
            &mut self,
            _: &TopicPartition,
            _: Timestamp,
            _: Duration,
        ) -> Result<i64> {
            Err(Error::fatal("not asked for by a replay"))
        }
    }

    struct Case {
        log: Log,
        store: TaskStore,
        metrics: RestoreMetrics,
        replay: Replay,
    }

    impl Case {
        fn new(until: Until, limit: Option<i64>) -> Case {
            let (key, value) = (String::serde(), String::serde());
            let engine = Box::<MemoryEngine>::default();
            let store = KeyValueStore::open("s".into(), key, value, engine, Default::default());
            let store = TaskStore::of(Box::new(store), "log", limit.is_some());
            let (metrics, mut log) = (RestoreMetrics::new("app"), Log::default());
            let task = TaskId { subtopology: 0, partition: 0 };
            let partition = TopicPartition::new("log", 0);
            let mut replay = Replay::new(until, (task, 0, &store), partition, limit, &metrics);
            replay.open(&mut log, &store).unwrap();
            Case { log, store, metrics, replay }
        }

        /// Where the store stands after a step.
        fn step(&mut self, now_ms: u64) -> Option<i64> {
            let Case { log, store, metrics, replay } = self;
            replay.step(log, store, metrics, Duration::from_millis(now_ms)).unwrap();
            store.store.position()
        }

        fn keys(&self) -> u64 {
            self.store.store.view().unwrap().engine.approximate_entries().unwrap()
        }
    }

    #[test]
    fn a_standby_of_an_input_topic_waits_at_what_is_committed() {
        let mut case = Case::new(Until::Stopped, Some(0));
        case.log.append(0..5);
        assert_eq!((case.step(0), case.keys()), (None, 0), "nothing is committed");
        case.replay.set_limit(2);
        case.step(0);
        assert_eq!((case.step(100), case.keys()), (Some(2), 2));
        case.log.append(5..9);
        case.replay.set_limit(7);
        case.step(200);
        assert_eq!((case.step(300), case.keys()), (Some(7), 7));
        case.replay.set_limit(3);
        case.step(400);
        assert_eq!((case.step(500), case.keys()), (Some(7), 7), "it never goes back");
        assert!(!case.replay.is_complete);
    }

    #[test]
    fn a_restoration_from_an_input_topic_ends_at_what_is_committed() {
        let mut case = Case::new(Until::End, Some(3));
        case.log.append(0..5);
        assert_eq!((case.step(0), case.keys()), (Some(3), 3));
        assert!(case.replay.is_complete);
        assert!(Case::new(Until::End, Some(0)).replay.is_complete, "nothing is committed");
    }

    #[test]
    fn a_restoration_ends_with_the_log_and_not_with_its_stable_part() {
        let mut case = Case::new(Until::End, None);
        case.log.append(0..5);
        case.log.high_watermark = Some(8); // a transaction is decided, its markers are on their way
        assert_eq!((case.step(0), case.replay.left(&case.store)), (None, Some(3)));
        assert_eq!(case.step(999), None, "more may come");
        assert_eq!(case.step(1_000), Some(5), "old enough");
        assert!(!case.replay.is_complete);
        case.log.append(6..7);
        case.log.end_of_partition = Some(8);
        case.log.high_watermark = Some(8);
        assert_eq!((case.step(1_001), case.keys()), (Some(8), 6));
        assert!(case.replay.is_complete);
    }

    #[test]
    fn a_standby_follows_the_stable_part_and_passes_markers() {
        let mut case = Case::new(Until::Stopped, None);
        case.log.append(0..5);
        case.log.high_watermark = Some(8);
        case.step(0);
        assert_eq!((case.step(100), case.replay.left(&case.store)), (Some(5), Some(3)));
        case.log.end_of_partition = Some(8); // aborted records and markers
        assert_eq!((case.step(101), case.replay.left(&case.store)), (Some(8), Some(0)));
        assert!(case.replay.has_caught_up && !case.replay.is_complete);
    }
}
