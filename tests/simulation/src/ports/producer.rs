//! Writes logs, in transactions where it has an id. Records wait in the producer until they are delivered: when it is polled, at times, and
//! at the latest by a flush or a commit.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kstreams::kafka::{
    CommittedOffset, GroupMetadata, OutgoingRecord, Producer, TopicHandle, partition_for_key,
};
use kstreams::{Error, ErrorKind, Result, TopicPartition};

use super::Port;
use super::membership::Snapshot;
use crate::broker::{Ended, Entry, State as EntryState, migrated};
use crate::faults::Call;

/// Between two looks at whether an older transaction has ended.
const READY_PAUSE: Duration = Duration::from_millis(10);
/// After which a request whose answer was lost is sent again.
const LATE: Duration = Duration::from_millis(700);
/// Java's and librdkafka's default of `max.request.size`.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// As the engine's setting.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) struct LogWriter {
    port: Port,
    id: Option<String>,
    /// Since `init_transactions`.
    epoch: Option<i32>,
    topics: Vec<String>,
    queue: VecDeque<(TopicPartition, Entry)>,
    phase: Phase,
    /// The first failure of a delivery, not told yet.
    failure: Option<String>,
    /// Whether the broker knows of the transaction.
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    InTransaction,
    /// Only an abort helps.
    Failed,
    Fenced,
}

impl LogWriter {
    pub(super) fn new(port: Port, id: Option<&str>) -> Self {
        Self {
            port,
            id: id.map(ToOwned::to_owned),
            epoch: None,
            topics: Vec::new(),
            queue: VecDeque::new(),
            phase: Phase::Idle,
            failure: None,
            has_begun: false,
        }
    }

    fn transactional(&self) -> Option<(String, i32)> {
        self.id.clone().zip(self.epoch)
    }

    /// An answer of the transaction coordinator: being fenced is remembered.
    fn heed<T>(&mut self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && error.kind() == ErrorKind::TaskMigrated
        {
            self.phase = Phase::Fenced;
        }
        answer
    }

    fn check(&self) -> Result<()> {
        match self.phase {
            Phase::Fenced => Err(migrated("this producer is fenced")),
            Phase::Failed => Err(Error::new(
                ErrorKind::AbortTransaction,
                self.failure.clone().unwrap_or_else(|| "the transaction has failed".to_owned()),
            )),
            Phase::Idle | Phase::InTransaction => Ok(()),
        }
    }

    /// Waits until an older transaction's markers are written.
    fn wait_until_ready(&mut self, timeout: Duration) -> Result<()> {
        let Some((id, epoch)) = self.transactional().filter(|_| !self.has_begun) else {
            return Ok(());
        };
        let deadline = self.port.world.lock().now + timeout;
        loop {
            let ready = self.port.world.lock().broker.transactions.is_ready(&id, epoch);
            if self.heed(ready)? {
                return Ok(());
            }
            if self.port.world.lock().now >= deadline {
                return Err(Error::new(ErrorKind::Retriable, "the last transaction has not ended"));
            }
            self.port.pause(READY_PAUSE)?;
        }
    }

    /// Delivers up to `count` records.
    fn deliver(&mut self, count: usize, timeout: Duration) -> Result<()> {
        if self.queue.is_empty() || self.phase == Phase::Failed {
            return self.check();
        }
        self.check()?;
        self.port.reach(Call::Deliver, timeout)?;
        self.wait_until_ready(timeout)?;
        for _ in 0..count {
            let Some((partition, mut entry)) = self.queue.pop_front() else { break };
            let mut state = self.port.world.lock();
            if state.chance(|faults| faults.failed_deliveries_per_mille) {
                state.note(|| format!("a record to {partition} is not delivered"));
                drop(state);
                // What has waited behind it has waited for too long as well.
                self.queue.clear();
                self.failure = Some(format!("a record to {partition} timed out"));
                if self.id.is_some() {
                    self.phase = Phase::Failed;
                }
                return self.failed();
            }
            if let Some((id, epoch)) = self.transactional() {
                let now = state.now;
                let added = state.broker.transactions.add_partition(&id, epoch, &partition, now);
                match added {
                    Ok(producer) => entry.state = EntryState::Open(producer),
                    Err(error) => {
                        self.phase = Phase::Fenced;
                        return Err(error);
                    }
                }
                self.has_begun = true;
            }
            state.append(&partition, entry);
        }
        self.port.leave(Call::Deliver)
    }

    fn failed(&mut self) -> Result<()> {
        match self.failure.take() {
            Some(text) => Err(Error::new(ErrorKind::AbortTransaction, text)),
            None => Ok(()),
        }
    }

    /// Asks the coordinator to end the transaction; an answer that comes late makes the client ask twice.
    fn end(&mut self, ended: Ended, call: Call, timeout: Duration) -> Result<()> {
        let Some((id, epoch)) = self.transactional().filter(|_| self.has_begun) else {
            return Ok(());
        };
        for attempt in 0..2 {
            self.port.reach(call, timeout)?;
            let is_late = {
                let mut state = self.port.world.lock();
                let answer = state.broker.transactions.end(&id, epoch, ended);
                if answer.as_ref().is_ok_and(|decided| *decided) {
                    state.note(|| format!("transaction of {id}: {ended:?}"));
                    state.send_markers(&id);
                }
                let is_late = attempt == 0 && state.chance(|faults| faults.late_per_mille);
                drop(state);
                self.heed(answer)?;
                is_late
            };
            self.port.leave(call)?;
            if !is_late {
                break;
            }
            self.port.pause(LATE)?;
        }
        Ok(())
    }
}

impl Producer for LogWriter {
    fn init_transactions(&mut self, timeout: Duration) -> Result<()> {
        let id = self.id.clone().ok_or_else(|| Error::fatal("this producer has no id"))?;
        let deadline = self.port.world.lock().now + timeout;
        loop {
            let left = deadline.saturating_sub(self.port.world.lock().now);
            self.port.reach(Call::Init, left)?;
            let found = {
                let mut state = self.port.world.lock();
                let (found, aborts) = state.broker.transactions.init(&id, TRANSACTION_TIMEOUT);
                if aborts {
                    state.note(|| format!("{id} is fenced, what it left open is aborted"));
                    state.broker.transactions.abort(&id);
                    state.send_markers(&id);
                }
                found
            };
            if let Some((_, epoch)) = found {
                self.epoch = Some(epoch);
                return self.port.leave(Call::Init);
            }
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Retriable, "an older transaction has not ended"));
            }
            self.port.pause(READY_PAUSE)?;
        }
    }

    fn begin_transaction(&mut self) -> Result<()> {
        self.port.enter(Call::Begin)?;
        self.check()?;
        if self.epoch.is_none() || self.phase != Phase::Idle {
            return Err(Error::fatal("a transaction cannot begin here"));
        }
        self.phase = Phase::InTransaction;
        Ok(())
    }

    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<()> {
        let snapshot = group.0.downcast_ref::<Snapshot>().expect("of the same clients");
        snapshot.fence(offsets)?;
        self.check()?;
        let (id, epoch) = self.transactional().expect("a transaction has begun");
        self.port.reach(Call::SendOffsets, timeout)?;
        self.wait_until_ready(timeout)?;
        let answer = {
            let mut state = self.port.world.lock();
            let now = state.now;
            match state.broker.transactions.is_ready(&id, epoch) {
                Err(error) => Err((error, true)),
                Ok(_) => match state.check_commit(snapshot, offsets) {
                    Err(error) => Err((error, false)),
                    Ok(()) => state
                        .broker
                        .transactions
                        .add_offsets(&id, epoch, offsets, now)
                        .map_err(|error| (error, true)),
                },
            }
        };
        match answer {
            Ok(()) => {
                self.has_begun = true;
                self.port.leave(Call::SendOffsets)
            }
            Err((error, fenced)) => {
                self.phase = if fenced { Phase::Fenced } else { Phase::Failed };
                Err(error)
            }
        }
    }

    fn commit_transaction(&mut self, timeout: Duration) -> Result<()> {
        self.check()?;
        while !self.queue.is_empty() {
            let count = self.port.world.lock().rng.usize(1..40);
            self.deliver(count, timeout)?;
        }
        self.end(Ended::Committed, Call::EndTransaction, timeout)?;
        (self.phase, self.has_begun) = (Phase::Idle, false);
        Ok(())
    }

    fn abort_transaction(&mut self, timeout: Duration) -> Result<()> {
        if self.phase == Phase::Fenced {
            return Err(migrated("this producer is fenced"));
        }
        self.queue.clear();
        self.failure = None;
        self.end(Ended::Aborted, Call::Abort, timeout)?;
        (self.phase, self.has_begun) = (Phase::Idle, false);
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<TopicHandle> {
        let known = self.topics.iter().position(|topic| topic == name);
        let index = known.unwrap_or_else(|| {
            self.topics.push(name.to_owned());
            self.topics.len() - 1
        });
        Ok(TopicHandle(index))
    }

    fn partition_count(&mut self, topic: TopicHandle, _: Duration) -> Result<i32> {
        let state = self.port.world.lock();
        let found = state.broker.topics.get(&self.topics[topic.0]);
        let count = found.map(|topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        count.ok_or_else(|| Error::new(ErrorKind::Retriable, "the topic is not known"))
    }

    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()> {
        self.port.enter(Call::Send)?;
        self.check()?;
        if self.id.is_some() && self.phase != Phase::InTransaction {
            return Err(Error::new(ErrorKind::AbortTransaction, "no transaction is open"));
        }
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if bytes > RECORD_BYTES_MAX || record.timestamp.as_millis() < 0 {
            return Err(Error::new(ErrorKind::BadRecord, format!("a record of {bytes} bytes")));
        }
        let count = self.partition_count(record.topic, Duration::ZERO)?;
        let partition = record.partition.unwrap_or_else(|| match record.key {
            Some(key) => partition_for_key(key, count),
            None => self.port.world.lock().rng.i32(0..count),
        });
        let entry = Entry {
            state: EntryState::Committed,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers: record.headers.clone(),
        };
        let partition = TopicPartition::new(self.topics[record.topic.0].as_str(), partition);
        self.queue.push_back((partition, entry));
        self.port.leave(Call::Send)
    }

    fn flush(&mut self, timeout: Duration) -> Result<()> {
        self.port.enter(Call::Flush)?;
        while !self.queue.is_empty() {
            let count = self.port.world.lock().rng.usize(1..40);
            self.deliver(count, timeout)?;
        }
        self.failed()?;
        self.port.leave(Call::Flush)
    }

    fn poll(&mut self) -> Result<()> {
        self.failed()?;
        let (lucky, count) = {
            let mut state = self.port.world.lock();
            (state.rng.u32(0..4) == 0 && state.is_connected(self.port.life), state.rng.usize(1..10))
        };
        if !lucky || self.queue.is_empty() {
            return self.check();
        }
        match self.deliver(count, Duration::from_secs(1)) {
            Err(error) if error.kind() == ErrorKind::Retriable => Ok(()), // it stays in the queue
            other => other,
        }
    }
}
