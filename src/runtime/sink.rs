//! The stream thread's producer as tasks see it: opens a transaction with the first record.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    CommittedOffset, GroupMetadata, OffsetCommitter, OutgoingRecord, Producer, TopicHandle,
};
use crate::task::RecordSink;
use crate::telemetry::{Outcome, ThreadMetrics, TopicCounters, TopicLabels};
use crate::time::Clock;

/// librdkafka's `message.max.bytes` unless the producer's settings say otherwise.
pub(super) const RECORD_BYTES_MAX: usize = 1_000_000;

pub(super) struct ProducerSink {
    producer: Box<dyn Producer>,
    /// By handle: tasks keep handles, and another producer must give the same ones.
    topics: Vec<(Arc<str>, TopicCounters)>,
    labels: TopicLabels,
    is_transactional: bool,
    /// Since when, on the monotonic clock, a transaction is open.
    in_transaction: Option<Duration>,
    record_bytes_max: usize,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl RecordSink for ProducerSink {
    fn topic(&mut self, name: &Arc<str>) -> Result<TopicHandle> {
        let handle = self.producer.topic(name)?;
        if handle.0 == self.topics.len() {
            self.topics.push((Arc::clone(name), self.labels.produced(name)));
        }
        Ok(handle)
    }

    fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()> {
        self.begin()?;
        let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        self.topics[record.topic.0].1.add(1, size);
        // What the client refuses by itself cannot be undone any more once other records of the batch are out.
        self.producer.send(record).map_err(|error| match error.kind() {
            ErrorKind::BadRecord => {
                Error::new(ErrorKind::AbortTransaction, "a result was refused").with_source(error)
            }
            _ => error,
        })
    }
}

impl ProducerSink {
    pub(super) fn new(
        mut producer: Box<dyn Producer>,
        is_transactional: bool,
        record_bytes_max: usize,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        labels: TopicLabels,
    ) -> Result<Self> {
        if is_transactional {
            producer.init_transactions(timeout).map_err(|e| e.context("init_transactions"))?;
        }
        let (topics, in_transaction) = (Vec::new(), None);
        Ok(Self {
            producer,
            topics,
            labels,
            is_transactional,
            in_transaction,
            record_bytes_max,
            timeout,
            clock,
        })
    }

    /// Takes the place of `old`: the topic handles that tasks have of it are valid here.
    pub(super) fn replacing(mut self, old: &Self) -> Result<Self> {
        for (name, _) in &old.topics {
            self.topic(name)?;
        }
        Ok(self)
    }

    fn begin(&mut self) -> Result<()> {
        if self.is_transactional && self.in_transaction.is_none() {
            self.producer.begin_transaction()?;
            self.in_transaction = Some(self.clock.monotonic());
        }
        Ok(())
    }

    /// Serves delivery callbacks; the first failure comes back.
    pub(super) fn poll(&mut self) -> Result<()> {
        self.producer.poll()
    }

    /// Commits what was sent together with `offsets`.
    pub(super) fn commit(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        group: &GroupMetadata,
        committer: &dyn OffsetCommitter,
        metrics: &ThreadMetrics,
    ) -> Result<()> {
        if !self.is_transactional {
            self.producer.flush(self.timeout)?;
            return if offsets.is_empty() { Ok(()) } else { committer.commit(offsets) };
        }
        if offsets.is_empty() && self.in_transaction.is_none() {
            return Ok(());
        }
        self.begin()?;
        if !offsets.is_empty() {
            self.producer.send_offsets(offsets, group, self.timeout)?;
        }
        let deadline = self.clock.monotonic() + self.timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            match self.producer.commit_transaction(left) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Retriable && !left.is_zero() => {
                    tracing::warn!(error = ?error, "commit is tried again");
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    let text =
                        "the transaction could not be committed in time; its outcome is not known";
                    return Err(Error::new(ErrorKind::TaskMigrated, text).with_source(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.end(Outcome::Commit, metrics);
        Ok(())
    }

    /// Aborts the open transaction, if there is one.
    pub(super) fn abort(&mut self, metrics: &ThreadMetrics) -> Result<()> {
        if self.in_transaction.is_some() {
            self.producer.abort_transaction(self.timeout)?;
            self.end(Outcome::Abort, metrics);
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome, metrics: &ThreadMetrics) {
        if let Some(start) = self.in_transaction.take() {
            metrics.transaction(outcome, self.clock.monotonic().saturating_sub(start));
        }
    }
}
