//! The transaction coordinator: epochs fence, and decisions reach partitions and offsets later, as markers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kstreams::kafka::CommittedOffset;
use kstreams::{Error, ErrorKind, Result, TopicPartition};

use super::migrated;

/// A producer as logs know it.
pub(crate) type ProducerId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    /// Since when.
    Ongoing(Duration),
    /// Decided; markers are on their way.
    Ending,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    Aborted,
}

pub(crate) struct Transaction {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i32,
    pub(crate) phase: Phase,
    timeout: Duration,
    /// Partitions whose markers are missing.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// The last decision, for requests that come twice.
    last: Option<Ended>,
}

/// All transactional ids.
#[derive(Default)]
pub(crate) struct Transactions {
    pub(crate) by_id: BTreeMap<String, Transaction>,
}

impl Transactions {
    /// A new epoch for `id`; `None`: what an older one left must end first, ask again. The decision that this makes, if any, is to be carried
    /// out by the caller.
    pub(crate) fn init(
        &mut self,
        id: &str,
        timeout: Duration,
    ) -> (Option<(ProducerId, i32)>, bool) {
        let next = self.by_id.len() as ProducerId + 1;
        let transaction = self.by_id.entry(id.to_owned()).or_insert_with(|| Transaction {
            producer: next,
            epoch: -1,
            phase: Phase::Empty,
            timeout,
            partitions: BTreeSet::new(),
            offsets: BTreeMap::new(),
            last: None,
        });
        match transaction.phase {
            Phase::Empty => {
                transaction.epoch += 1;
                transaction.timeout = timeout;
                (Some((transaction.producer, transaction.epoch)), false)
            }
            Phase::Ongoing(_) => {
                transaction.epoch += 1;
                (None, true)
            }
            Phase::Ending => (None, false),
        }
    }

    fn of(&mut self, id: &str, epoch: i32) -> Result<&mut Transaction> {
        match self.by_id.get_mut(id) {
            Some(transaction) if transaction.epoch == epoch => Ok(transaction),
            _ => Err(migrated(format!("producer \"{id}\" of epoch {epoch} is fenced"))),
        }
    }

    /// Whether the producer may go on: not while its last transaction's markers are on their way.
    ///
    /// # Errors
    /// `TaskMigrated` when fenced.
    pub(crate) fn is_ready(&mut self, id: &str, epoch: i32) -> Result<bool> {
        self.of(id, epoch).map(|transaction| transaction.phase != Phase::Ending)
    }

    /// Adds a partition, and with the first one begins.
    pub(crate) fn add_partition(
        &mut self,
        id: &str,
        epoch: i32,
        partition: &TopicPartition,
        now: Duration,
    ) -> Result<ProducerId> {
        let transaction = self.of(id, epoch)?;
        transaction.begin(now);
        transaction.partitions.insert(partition.clone());
        Ok(transaction.producer)
    }

    pub(crate) fn add_offsets(
        &mut self,
        id: &str,
        epoch: i32,
        offsets: &[(TopicPartition, CommittedOffset)],
        now: Duration,
    ) -> Result<()> {
        let transaction = self.of(id, epoch)?;
        transaction.begin(now);
        transaction.offsets.extend(offsets.iter().cloned());
        Ok(())
    }

    /// Decides. `true`: markers are to be written; `false`: it was decided so before.
    ///
    /// # Errors
    /// `TaskMigrated` when fenced, `Fatal` where it was decided otherwise.
    pub(crate) fn end(&mut self, id: &str, epoch: i32, ended: Ended) -> Result<bool> {
        let transaction = self.of(id, epoch)?;
        match transaction.phase {
            Phase::Ongoing(_) => {
                transaction.decide(ended);
                Ok(true)
            }
            _ if transaction.last == Some(ended) => Ok(false),
            _ => Err(Error::new(ErrorKind::Fatal, "the transaction has ended otherwise")),
        }
    }

    /// Aborts whatever an ongoing transaction of an older epoch left.
    pub(crate) fn abort(&mut self, id: &str) {
        if let Some(transaction) = self.by_id.get_mut(id) {
            transaction.decide(Ended::Aborted);
        }
    }

    /// Whether a transaction that has not ended may change this committed offset.
    pub(crate) fn holds(&self, partition: &TopicPartition) -> bool {
        self.by_id.values().any(|transaction| transaction.offsets.contains_key(partition))
    }

    /// Ids whose transactions have been open for too long; their producers are fenced.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<String> {
        let mut expired = Vec::new();
        for (id, transaction) in &mut self.by_id {
            if let Phase::Ongoing(since) = transaction.phase
                && now.saturating_sub(since) > transaction.timeout
            {
                transaction.epoch += 1;
                expired.push(id.clone());
            }
        }
        expired
    }
}

impl Transaction {
    fn begin(&mut self, now: Duration) {
        if self.phase == Phase::Empty {
            self.phase = Phase::Ongoing(now);
        }
    }

    fn decide(&mut self, ended: Ended) {
        self.phase = Phase::Ending;
        self.last = Some(ended);
    }

    /// The decision that markers carry.
    pub(crate) fn decision(&self) -> Ended {
        self.last.unwrap_or(Ended::Aborted)
    }

    pub(crate) fn complete_if_marked(&mut self) {
        if self.phase == Phase::Ending && self.partitions.is_empty() && self.offsets.is_empty() {
            self.phase = Phase::Empty;
        }
    }
}
