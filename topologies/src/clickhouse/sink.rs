//! The sink's thread: takes records, makes rows, inserts, commits.
//!
//! ```text
//! reading ──(enough, or the oldest has waited long enough)──► inserting ──► reading
//!                                                  │ failed: degraded, nothing more is read
//!                                                  └──(after a pause that doubles)──► inserting
//! ```
//!
//! The thread serves its group all the time, also while ClickHouse is silent. What is buffered is bounded by a batch; what is not in yet lies
//! safe on the topic, since offsets are committed after the insert.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kstreams::kafka::{
    Consumer, ConsumerPurpose, KafkaClients, Membership, MembershipEvent, PartitionSlot,
    StartOffset,
};
use kstreams::serdes::Serde;
use kstreams::telemetry::Placed;
use kstreams::{Clock, Error, ErrorKind, RawRecord, Result, State, SystemClock, TopicPartition};
use serde_json::{Value, json};

use super::client::ClickHouse;
use super::rows::{self, Place};
use super::settings::Settings;
use super::{NAME, TABLE, TOPIC, metrics};
use crate::events::AuditEvent;
use crate::health;
use crate::http::Observed;

/// Records that are taken over from a partition at once.
const SLICE_RECORDS: usize = 500;
/// The longest sleep: signals of the group wait meanwhile.
const IDLE_WAIT: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// What the sink works with.
pub struct Sink {
    /// Makes clients of its consumer group.
    pub clients: Arc<dyn KafkaClients>,
    /// Reads the events.
    pub serde: Serde<AuditEvent>,
    /// How it works.
    pub settings: Settings,
    /// Bound of a single request to the cluster.
    pub request_timeout: Duration,
}

/// A running sink, for others.
#[derive(Clone, Default)]
pub struct SinkHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    state: Option<State>,
    failure: Option<String>,
    /// Next offset that is not in ClickHouse, by partition.
    positions: BTreeMap<i32, i64>,
}

impl SinkHandle {
    /// Asks for an ordered stop, and returns at once.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }

    fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn become_state(&self, state: State) {
        tracing::info!(component = NAME, %state, "sink state");
        self.status().state = Some(state);
    }
}

impl Observed for SinkHandle {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&self) -> State {
        self.status().state.unwrap_or(State::Created)
    }

    fn failure(&self) -> Option<String> {
        self.status().failure.clone()
    }

    fn describe(&self) -> String {
        format!("Sink: {NAME} (topics: [{TOPIC}]) --> table {TABLE}\n")
    }

    fn tasks(&self) -> Value {
        let status = self.status();
        let state = status.state.unwrap_or(State::Created).to_string().to_lowercase();
        let describe = |(partition, position): (&i32, &i64)| json!({ "task": format!("{NAME}-{partition}"), "state": state, "position": position });
        status.positions.iter().map(describe).collect()
    }
}

impl Sink {
    /// Runs until it is told to stop or fails for good.
    ///
    /// # Errors
    /// What the group can never get over; ClickHouse's errors are waited out.
    pub fn run(self, handle: &SinkHandle) -> Result<()> {
        let outcome = Running::new(self, handle.clone()).and_then(|mut running| running.run());
        health::set(NAME, "", None);
        match &outcome {
            Ok(()) => handle.become_state(State::NotRunning),
            Err(error) => {
                handle.status().failure = Some(error.to_string());
                handle.become_state(State::Error);
            }
        }
        outcome
    }
}

struct Input {
    slot: PartitionSlot,
    /// Everything before is in ClickHouse.
    done: i64,
    /// Rows from `done` on may be in ClickHouse already.
    uncertain: bool,
    lag: Placed,
}

/// A row that waits, and where it belongs.
struct Row {
    partition: i32,
    offset: i64,
    json: Vec<u8>,
}

struct Running {
    sink: Sink,
    handle: SinkHandle,
    server: ClickHouse,
    clock: SystemClock,
    /// `None` between leaving and joining.
    membership: Option<Box<dyn Membership>>,
    consumer: Box<dyn Consumer>,
    inputs: BTreeMap<i32, Input>,
    /// Taken over, not understood yet: the registry may be silent.
    records: VecDeque<(i32, RawRecord)>,
    rows: Vec<Row>,
    /// Of both.
    bytes: usize,
    /// When the oldest row came, on the monotonic clock.
    oldest: Option<Duration>,
    retry_at: Option<Duration>,
    backoff: Duration,
    buffered: Placed,
}

impl Running {
    fn new(sink: Sink, handle: SinkHandle) -> Result<Self> {
        handle.become_state(State::Rebalancing);
        Ok(Self {
            server: ClickHouse::new(&sink.settings),
            clock: SystemClock::default(),
            membership: None,
            consumer: sink.clients.consumer(ConsumerPurpose::Main)?,
            inputs: BTreeMap::new(),
            records: VecDeque::new(),
            rows: Vec::new(),
            bytes: 0,
            oldest: None,
            retry_at: None,
            backoff: BACKOFF_MIN,
            buffered: metrics::buffered(),
            sink,
            handle,
        })
    }

    fn run(&mut self) -> Result<()> {
        while !self.handle.is_stopping() {
            if let Err(error) = self.serve_group().and_then(|()| self.turn()) {
                self.react(error)?;
            }
        }
        // What is buffered stays on the topic; what is in is committed.
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
        self.understand()?;
        let full = self.rows.len() >= self.sink.settings.batch_rows
            || self.bytes >= self.sink.settings.batch_max_bytes;
        let interval = Duration::from_millis(self.sink.settings.batch_interval_ms);
        let waited = self.oldest.is_some_and(|oldest| now.saturating_sub(oldest) >= interval);
        if full || waited {
            self.insert()?;
        }
        if self.retry_at.take().is_some() {
            self.backoff = BACKOFF_MIN;
            health::set(NAME, "", None);
        }
        self.buffered.set_count(self.rows.len() as u64);
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
            let room = self.sink.settings.batch_rows.saturating_sub(waiting).min(SLICE_RECORDS);
            if room == 0 || self.bytes >= self.sink.settings.batch_max_bytes {
                break;
            }
            let (records, bytes) = (&mut self.records, &mut self.bytes);
            let mut push = |record: RawRecord| {
                *bytes += record.value.as_ref().map_or(0, |value| value.len());
                records.push_back((*partition, record));
            };
            taken += self.consumer.drain(input.slot, room, &mut push)?.records;
            let end = self.consumer.cached_end_offset(&TopicPartition::new(TOPIC, *partition));
            let lag = end.map_or(0, |end| (end - input.done).max(0));
            input.lag.set_count(u64::try_from(lag).unwrap_or(0));
        }
        Ok(taken)
    }

    /// Makes rows of records, until the registry is silent.
    fn understand(&mut self) -> Result<()> {
        while let Some((partition, record)) = self.records.front() {
            let place = Place { topic: TOPIC, partition: *partition, offset: record.offset };
            let mut json = Vec::new();
            let read = self.sink.serde.deserializer();
            let why = match read.deserialize(TOPIC, &record.headers, record.value.as_ref()) {
                Ok(event) => match rows::event(place, &event, &mut json) {
                    Some(()) => None,
                    None => Some("an event type that this version does not know".to_owned()),
                },
                Err(error) if error.kind() == ErrorKind::BadRecord => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            if let Some(why) = why {
                metrics::unreadable();
                tracing::warn!(
                    topic = TOPIC,
                    partition,
                    offset = record.offset,
                    why,
                    "record is no audit event; it becomes a row as it is"
                );
                rows::unreadable(place, record, &why, &mut json);
            }
            let value_bytes = record.value.as_ref().map_or(0, |value| value.len());
            self.bytes = self.bytes + json.len() - value_bytes;
            self.rows.push(Row { partition: *partition, offset: record.offset, json });
            self.records.pop_front();
            self.oldest.get_or_insert_with(|| self.clock.monotonic());
        }
        Ok(())
    }

    /// Inserts all rows, and commits.
    fn insert(&mut self) -> Result<()> {
        self.skip_present()?;
        let ends = self.ends();
        let missing = || self.rows.iter().filter(|row| !row.json.is_empty());
        let body: Vec<u8> = missing().flat_map(|row| row.json.iter().copied()).collect();
        if !body.is_empty() {
            for input in self.inputs.values_mut() {
                input.uncertain = true; // until it is known to be in
            }
            self.server.insert(TABLE, body)?;
            metrics::inserted(missing().count());
        }
        self.rows.clear();
        self.bytes =
            self.records.iter().map(|(_, r)| r.value.as_ref().map_or(0, |v| v.len())).sum();
        self.oldest = None;
        for (partition, end) in &ends {
            let Some(input) = self.inputs.get_mut(partition) else { continue };
            input.done = *end;
        }
        for input in self.inputs.values_mut() {
            input.uncertain = false;
        }
        self.tell_positions();
        let offsets: Vec<_> = ends
            .into_iter()
            .map(|(partition, end)| (TopicPartition::new(TOPIC, partition), end.into()))
            .collect();
        match &self.membership {
            Some(membership) => membership.committer().commit(&offsets),
            None => Ok(()),
        }
    }

    /// Drops the rows that ClickHouse has already, where that is possible: after a start, a rebalance or a failed insert.
    fn skip_present(&mut self) -> Result<()> {
        let mut present: BTreeSet<(i32, i64)> = BTreeSet::new();
        let uncertain = self.inputs.iter().filter(|(_, input)| input.uncertain);
        for partition in uncertain.map(|(partition, _)| partition) {
            let of_partition = || self.rows.iter().filter(|row| row.partition == *partition);
            let (first, last) = (
                of_partition().map(|row| row.offset).min(),
                of_partition().map(|row| row.offset).max(),
            );
            let (Some(first), Some(last)) = (first, last) else { continue };
            let database = self.server.database();
            let answer = self.server.run(&format!(
                "SELECT DISTINCT kafka_offset FROM {database}.{TABLE} WHERE kafka_topic = '{TOPIC}' \
                 AND kafka_partition = {partition} AND kafka_offset >= {first} AND kafka_offset <= {last} FORMAT TSV"
            ))?;
            for line in answer.lines() {
                let offset = line.parse().map_err(|_| {
                    Error::retriable(format!("ClickHouse answered \"{line}\", wanted an offset"))
                })?;
                present.insert((*partition, offset));
            }
        }
        if !present.is_empty() {
            // Their offsets are committed with the others': `ends` goes by what was understood.
            metrics::present(present.len());
            tracing::info!(rows = present.len(), "rows are in ClickHouse already");
            for row in &mut self.rows {
                if present.contains(&(row.partition, row.offset)) {
                    row.json.clear();
                }
            }
        }
        Ok(())
    }

    /// The offset after the last row of every partition.
    fn ends(&self) -> BTreeMap<i32, i64> {
        let mut ends = BTreeMap::new();
        for row in &self.rows {
            ends.insert(row.partition, row.offset + 1);
        }
        ends
    }

    fn serve_group(&mut self) -> Result<()> {
        let membership = match &mut self.membership {
            Some(membership) => membership,
            None => self.membership.insert(self.sink.clients.membership(&[TOPIC.into()])?),
        };
        match membership.poll(Duration::ZERO)? {
            None => Ok(()),
            Some(MembershipEvent::Trouble(text)) => {
                tracing::warn!(text, "trouble with the brokers");
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
        let committed = self.consumer.committed(partitions, self.sink.request_timeout)?;
        for (partition, committed) in partitions.iter().zip(committed) {
            let committed = committed.map(|committed| committed.offset);
            let start = committed.map_or(StartOffset::Beginning, StartOffset::At);
            let slot = self.consumer.assign(partition, start)?;
            let done = committed.unwrap_or(0);
            let lag = metrics::lag(partition.partition);
            let input = Input { slot, done, uncertain: true, lag };
            self.inputs.insert(partition.partition, input);
        }
        tracing::info!(partitions = partitions.len(), topic = TOPIC, "sink assigned");
        self.tell_positions();
        self.handle.become_state(State::Running);
        Ok(())
    }

    /// Nothing is committed: offsets always are, right after their insert.
    fn drop_inputs(&mut self) -> Result<()> {
        for input in std::mem::take(&mut self.inputs).into_values() {
            self.consumer.unassign(input.slot)?;
        }
        self.records.clear();
        self.rows.clear();
        (self.bytes, self.oldest) = (0, None);
        self.tell_positions();
        Ok(())
    }

    fn rejoin(&mut self, error: &Error) -> Result<()> {
        tracing::warn!(error = ?error, "the sink joins its group anew");
        self.drop_inputs()?;
        self.leave()
    }

    /// What is down is waited for; only what can never be is passed up.
    fn react(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::TaskMigrated => self.rejoin(&error),
            // Records were deleted before they were read: there is nothing left to wait for.
            ErrorKind::TaskCorrupted => Err(error.context(format!(
                "topic \"{TOPIC}\" has lost records that are not in ClickHouse; reset the group's offsets"
            ))),
            ErrorKind::Retriable | ErrorKind::AbortTransaction | ErrorKind::Invalid => {
                metrics::failed();
                let text = error.to_string();
                tracing::warn!(error = ?error, backoff_ms = self.backoff.as_millis(), "the sink waits and tries again");
                health::set(NAME, "", Some(&text));
                self.retry_at = Some(self.clock.monotonic() + self.backoff);
                let max = Duration::from_millis(self.sink.settings.retry_backoff_max_ms);
                self.backoff = (2 * self.backoff).min(max.max(BACKOFF_MIN));
                Ok(())
            }
            ErrorKind::BadRecord | ErrorKind::Fatal => Err(error),
        }
    }

    fn tell_positions(&self) {
        let positions = self.inputs.iter().map(|(partition, input)| (*partition, input.done));
        self.handle.status().positions = positions.collect();
    }
}
