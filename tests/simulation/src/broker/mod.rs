//! A cluster in memory: logs, transactions, one consumer group. What a call changes is done at once; what brokers do among themselves
//! (markers, rebalances, time-outs) are events that come later.

mod group;
mod log;
mod transactions;

use std::collections::BTreeMap;

use kstreams::{Error, ErrorKind, TopicPartition};

pub(crate) use group::{Group, GroupEvent, Joined, Limits, MemberId};
pub(crate) use log::{Entry, Log, State};
pub(crate) use transactions::{Ended, ProducerId, Transactions};

/// The cluster.
#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) transactions: Transactions,
    pub(crate) group: Group,
}

/// A topic.
pub(crate) struct Topic {
    pub(crate) partitions: Vec<Log>,
    pub(crate) configs: BTreeMap<String, String>,
}

impl Broker {
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: usize,
        configs: BTreeMap<String, String>,
    ) {
        self.topics.entry(name.to_owned()).or_insert_with(|| Topic {
            partitions: std::iter::repeat_with(Log::default).take(partitions).collect(),
            configs,
        });
    }

    pub(crate) fn log(&mut self, partition: &TopicPartition) -> Option<&mut Log> {
        let topic = self.topics.get_mut(&*partition.topic)?;
        topic.partitions.get_mut(usize::try_from(partition.partition).ok()?)
    }

    /// Every partition of every topic.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&String, &Topic)| {
            let name: std::sync::Arc<str> = name.as_str().into();
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (0..count).map(move |number| TopicPartition::new(name.clone(), number))
        };
        self.topics.iter().flat_map(of).collect()
    }
}

/// Why a broker refuses a request of a client that somebody else has replaced.
pub(crate) fn migrated(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::TaskMigrated, text.into())
}
