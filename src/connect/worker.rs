//! The thread of a sink: takes records, makes rows, writes, commits.
//!
//! ```text
//! reading ──(enough, or the oldest has waited long enough)──► writing ──► reading
//!                                                  │ failed: nothing more is read
//!                                                  └──(after a pause that doubles)──► writing
//! ```
//!
//! It serves its group all the time, also while the other side is silent. What is buffered is bounded by a batch; what is not written yet lies
//! safe on the topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{ExternalSink, SinkEvent, SinkHandle, SinkOptions, SinkRow};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    Consumer, ConsumerPurpose, KafkaClients, Membership, MembershipEvent, PartitionSlot,
    StartOffset,
};
use crate::record::RawRecord;
use crate::runtime::State;
use crate::time::{Clock, SystemClock};

/// Records that are taken over from a partition at once.
const SLICE_RECORDS: usize = 500;
/// The longest sleep: signals of the group wait meanwhile.
const IDLE_WAIT: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(200);

struct Input {
    slot: PartitionSlot,
    /// Everything before is written.
    done: i64,
    /// Rows from `done` on may be written already.
    uncertain: bool,
}

/// Brings the records of topics to an [`ExternalSink`].
pub struct SinkWorker<S> {
    sink: S,
    options: SinkOptions,
    clients: Arc<dyn KafkaClients>,
    topics: Vec<Arc<str>>,
    handle: SinkHandle,
    clock: Arc<dyn Clock>,
    /// `None` between leaving and joining.
    membership: Option<Box<dyn Membership>>,
    consumer: Box<dyn Consumer>,
    inputs: BTreeMap<TopicPartition, Input>,
    /// Taken over, not converted yet.
    records: VecDeque<(TopicPartition, RawRecord)>,
    rows: Vec<SinkRow>,
    /// The offset after the last record converted, of every partition that has rows, or had them.
    ends: BTreeMap<TopicPartition, i64>,
    /// Of records and rows.
    bytes: usize,
    /// When the oldest row came, on the monotonic clock.
    oldest: Option<Duration>,
    retry_at: Option<Duration>,
    backoff: Duration,
}

impl<S: ExternalSink> SinkWorker<S> {
    /// A worker whose clients are members of one consumer group; it is joined by [`run`](Self::run).
    ///
    /// # Errors
    /// `Invalid` for bounds of 0 and for no topic, and what the clients return.
    pub fn new(
        clients: Arc<dyn KafkaClients>,
        topics: &[&str],
        sink: S,
        options: SinkOptions,
        handle: &SinkHandle,
    ) -> Result<Self> {
        if options.batch_rows == 0 || options.batch_bytes_max == 0 || topics.is_empty() {
            return Err(Error::invalid(format!(
                "sink \"{}\": found {} topics and batches of {} rows and {} bytes, wanted at least 1 of each",
                options.name,
                topics.len(),
                options.batch_rows,
                options.batch_bytes_max
            )));
        }
        Ok(Self {
            sink,
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            handle: handle.clone(),
            clock: Arc::new(SystemClock::default()),
            membership: None,
            consumer: clients.consumer(ConsumerPurpose::Main)?,
            clients,
            inputs: BTreeMap::new(),
            records: VecDeque::new(),
            rows: Vec::new(),
            ends: BTreeMap::new(),
            bytes: 0,
            oldest: None,
            retry_at: None,
            backoff: BACKOFF_MIN,
            options,
        })
    }

    /// Runs until the handle is closed, or it fails for good.
    ///
    /// # Errors
    /// What the group can never get over, and what ends the sink; the other side's outages are waited out.
    pub fn run(mut self) -> Result<()> {
        self.become_state(State::Rebalancing);
        let outcome = self.run_until_stopped();
        self.sink.observe(SinkEvent::Recovered);
        match &outcome {
            Ok(()) => self.become_state(State::NotRunning),
            Err(error) => self.handle.fail(error.to_string()),
        }
        outcome
    }

    fn run_until_stopped(&mut self) -> Result<()> {
        while !self.handle.is_stopping() {
            if let Err(error) = self.serve_group().and_then(|()| self.turn()) {
                self.react(error)?;
            }
        }
        // What is buffered stays on the topic; what is written is committed.
        self.leave()
    }

    fn leave(&mut self) -> Result<()> {
        self.membership.take().map_or(Ok(()), Membership::leave)
    }

    fn turn(&mut self) -> Result<()> {
        let now = self.clock.monotonic();
        if self.retry_at.is_some_and(|at| now < at) {
            return self.consumer.wait(IDLE_WAIT);
        }
        let taken = self.take()?;
        self.convert()?;
        let full = self.rows.len() >= self.options.batch_rows
            || self.bytes >= self.options.batch_bytes_max;
        let waited = |oldest: Duration| now.saturating_sub(oldest) >= self.options.batch_interval;
        if full || self.oldest.is_some_and(waited) {
            self.write()?;
        }
        if self.retry_at.take().is_some() {
            self.backoff = BACKOFF_MIN;
            self.sink.observe(SinkEvent::Recovered);
        }
        self.sink.observe(SinkEvent::Buffered(self.rows.len()));
        if taken == 0 {
            self.consumer.wait(IDLE_WAIT)?;
        }
        Ok(())
    }

    /// Takes over what has arrived, as far as there is room.
    fn take(&mut self) -> Result<usize> {
        let mut taken = 0;
        for (partition, input) in &self.inputs {
            let waiting = self.records.len() + self.rows.len();
            let room = self.options.batch_rows.saturating_sub(waiting).min(SLICE_RECORDS);
            if room == 0 || self.bytes >= self.options.batch_bytes_max {
                break;
            }
            let (records, bytes) = (&mut self.records, &mut self.bytes);
            let mut push = |record: RawRecord| {
                *bytes += value_bytes(&record);
                records.push_back((partition.clone(), record));
            };
            taken += self.consumer.drain(input.slot, room, &mut push)?.records;
            let end = self.consumer.cached_end_offset(partition);
            let lag = end.map_or(0, |end| (end - input.done).max(0));
            self.sink.observe(SinkEvent::Lag(partition, lag));
        }
        Ok(taken)
    }

    /// Makes rows of records, until the sink cannot.
    fn convert(&mut self) -> Result<()> {
        while let Some((partition, record)) = self.records.front() {
            let bytes = self.sink.convert(partition, record)?;
            self.bytes = self.bytes + bytes.len() - value_bytes(record);
            let (partition, offset) = (partition.clone(), record.offset);
            self.ends.insert(partition.clone(), offset + 1);
            if !bytes.is_empty() {
                self.rows.push(SinkRow { partition, offset, bytes });
            }
            self.records.pop_front();
            self.oldest.get_or_insert_with(|| self.clock.monotonic());
        }
        Ok(())
    }

    /// Writes all rows, and commits.
    fn write(&mut self) -> Result<()> {
        self.drop_present()?;
        if !self.rows.is_empty() {
            // Until it is known that they are.
            self.inputs.values_mut().for_each(|input| input.uncertain = true);
            self.sink.write(&self.rows)?;
            self.sink.observe(SinkEvent::Written(self.rows.len()));
        }
        self.rows.clear();
        self.bytes = self.records.iter().map(|(_, record)| value_bytes(record)).sum();
        self.oldest = None;
        for input in self.inputs.values_mut() {
            input.uncertain = false;
        }
        let ends = std::mem::take(&mut self.ends);
        for (partition, end) in &ends {
            if let Some(input) = self.inputs.get_mut(partition) {
                input.done = *end;
            }
        }
        self.tell_positions();
        let offsets: Vec<_> =
            ends.into_iter().map(|(partition, end)| (partition, end.into())).collect();
        match &self.membership {
            Some(membership) => membership.committer().commit(&offsets),
            None => Ok(()),
        }
    }
    /// Drops the rows that are written already, as far as the sink can say: after a start, a rebalance or a failed write.
    fn drop_present(&mut self) -> Result<()> {
        let uncertain = self.inputs.iter().filter(|(_, input)| input.uncertain);
        let mut present: BTreeMap<&TopicPartition, BTreeSet<i64>> = BTreeMap::new();
        for partition in uncertain.map(|(partition, _)| partition) {
            let of_partition = self.rows.iter().filter(|row| row.partition == *partition);
            let offsets = || of_partition.clone().map(|row| row.offset);
            let (Some(first), Some(last)) = (offsets().min(), offsets().max()) else { continue };
            present.insert(partition, self.sink.find_present(partition, first..=last)?);
        }
        let before = self.rows.len();
        self.rows.retain(|row| {
            !present.get(&row.partition).is_some_and(|offsets| offsets.contains(&row.offset))
        });
        let found = before - self.rows.len();
        if found > 0 {
            tracing::info!(sink = self.options.name, rows = found, "rows are written already");
            self.sink.observe(SinkEvent::Present(found));
        }
        Ok(())
    }

    fn serve_group(&mut self) -> Result<()> {
        let membership = match &mut self.membership {
            Some(membership) => membership,
            None => self.membership.insert(self.clients.membership(&self.topics)?),
        };
        match membership.poll(Duration::ZERO)? {
            None => Ok(()),
            Some(MembershipEvent::Trouble(text)) => {
                tracing::warn!(sink = self.options.name, text, "trouble with the brokers");
                Ok(())
            }
            Some(MembershipEvent::Revoked(_) | MembershipEvent::Lost(_)) => {
                membership.acknowledge()?;
                self.drop_inputs()
            }
            Some(MembershipEvent::Assigned(partitions)) => {
                membership.acknowledge()?;
                self.drop_inputs()?;
                match self.assign(&partitions) {
                    Err(error) if error.kind() == ErrorKind::Retriable => self.rejoin(&error),
                    done => done,
                }
            }
        }
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let committed = self.consumer.committed(partitions, self.options.request_timeout)?;
        for (partition, committed) in partitions.iter().zip(committed) {
            let committed = committed.map(|committed| committed.offset);
            let start = committed.map_or(StartOffset::Beginning, StartOffset::At);
            let slot = self.consumer.assign(partition, start)?;
            let input = Input { slot, done: committed.unwrap_or(0), uncertain: true };
            self.inputs.insert(partition.clone(), input);
        }
        tracing::info!(sink = self.options.name, partitions = partitions.len(), "sink assigned");
        self.tell_positions();
        self.become_state(State::Running);
        Ok(())
    }

    /// Nothing is committed: offsets always are, right after their rows were written.
    fn drop_inputs(&mut self) -> Result<()> {
        for input in std::mem::take(&mut self.inputs).into_values() {
            self.consumer.unassign(input.slot)?;
        }
        self.records.clear();
        self.rows.clear();
        self.ends.clear();
        (self.bytes, self.oldest) = (0, None);
        self.sink.observe(SinkEvent::Unassigned);
        self.tell_positions();
        Ok(())
    }

    fn rejoin(&mut self, error: &Error) -> Result<()> {
        tracing::warn!(sink = self.options.name, error = ?error, "the sink joins its group anew");
        self.drop_inputs()?;
        self.leave()
    }

    /// What is down is waited for; only what can never be is passed up.
    fn react(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::TaskMigrated => self.rejoin(&error),
            // Records were deleted before they were read: there is nothing left to wait for.
            ErrorKind::TaskCorrupted => Err(error.context(format!(
                "sink \"{}\": its topics have lost records that are not written; reset the group's offsets",
                self.options.name
            ))),
            ErrorKind::Retriable | ErrorKind::AbortTransaction | ErrorKind::Invalid => {
                let backoff_ms = self.backoff.as_millis();
                tracing::warn!(sink = self.options.name, error = ?error, backoff_ms, "the sink waits and tries again");
                self.sink.observe(SinkEvent::Failed(&error.to_string()));
                self.retry_at = Some(self.clock.monotonic() + self.backoff);
                let max = self.options.retry_backoff_max.max(BACKOFF_MIN);
                self.backoff = (2 * self.backoff).min(max);
                Ok(())
            }
            ErrorKind::BadRecord | ErrorKind::Fatal => Err(error),
        }
    }

    fn tell_positions(&self) {
        let position =
            |(partition, input): (&TopicPartition, &Input)| (partition.clone(), input.done);
        self.handle.tell_positions(self.inputs.iter().map(position));
    }

    fn become_state(&self, state: State) {
        tracing::info!(sink = self.options.name, %state, "sink state");
        self.handle.become_state(state);
    }
}

fn value_bytes(record: &RawRecord) -> usize {
    record.value.as_ref().map_or(0, |value| value.len())
}
