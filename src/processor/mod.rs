//! Processors: the user's code, and the little machine that runs a graph of them.
//!
//! A [`Processor`] gets one record at a time and forwards results through its [`ProcessorContext`]. Inside a task the nodes
//! of a subtopology lie in a slice, and a record moves from node to node as an owned value: one virtual call and one type
//! check a hop, no allocation, no serialisation. Hot path. Deliberately absent: Kafka. Outputs are data in an
//! `OutputBuffer`, which the task hands on once the record in hand is done.

mod caching;
mod context;
mod fixed_key;
mod frame;
mod node;
mod output;
mod pending;
mod punctuator;
mod supplier;
mod times;
mod wrapper;

pub(crate) use caching::{CacheOwner, Caches};
pub use context::{ChildHandle, GlobalStoreHandle, ProcessorContext, StoreHandle};
pub(crate) use fixed_key::FixedKey;
pub use fixed_key::{
    FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyProcessorSupplier, FixedKeyRecord,
};
pub(crate) use frame::{
    CurrentRecord, Frame, NodeIndex, NodeKind, NodeSlot, SharedStore, TaskState,
};
pub(crate) use node::{
    Node, PartitionCounts, ProcessorNode, SinkKind, SinkNode, SinkTopic, Source, SourceNode, take,
};
pub(crate) use output::{Output, OutputBuffer};
pub(crate) use pending::{Arrived, Pending, SourceRecord};
pub(crate) use punctuator::PunctuationQueue;
pub use punctuator::{PunctuationType, PunctuatorId};
pub use supplier::{ProcessorSupplier, WithStores};
pub(crate) use times::{OperatorTimes, TaskTimes, TimesHandle};
pub(crate) use wrapper::WrappedNode;
pub use wrapper::{Invocation, ProcessorWrapper, WrappedProcessor, WrappedProcessorSupplier};

use std::sync::Arc;

use crate::error::Result;
use crate::record::{RawRecord, Record};
use crate::time::Timestamp;

/// Processes records of one node, one at a time; each task has its own instance.
///
/// Source: `org.apache.kafka.streams.processor.api.Processor`. Deviation: `init`, `process` and `punctuate` return errors; an error or a
/// panic goes to the processing exception handler, with every effect of the record undone.
pub trait Processor<KIn, VIn, KOut, VOut>: Send + 'static {
    /// Called once, before the first record: look up stores, schedule punctuations.
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, KOut, VOut>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one record.
    ///
    /// # Errors
    /// `BadRecord` for a record that should be dead-lettered; any other kind asks for its reaction.
    fn process(
        &mut self,
        record: Record<KIn, VIn>,
        context: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<()>;

    /// Called when a punctuation scheduled with [`ProcessorContext::schedule`] is due; `timestamp` is stream time or wall-clock time.
    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        context: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<()> {
        let _ = (punctuator, timestamp, context);
        Ok(())
    }

    /// Called after every commit of the task: what was forwarded and stored before is durable, and this instance owned the task when it was
    /// committed. For effects outside Kafka that must follow a commit; must not block. After an abort it is not called.
    ///
    /// Deviation: Kafka Streams has no such call.
    fn committed(&mut self) {}

    /// Called before the commit with which the task is given up for the moment: its partitions are revoked, or the client stops. What is forwarded
    /// and stored here is in that commit, so results that are still outside can be fetched in; the whole group waits meanwhile. The task may go
    /// on afterwards, or be closed. Not called where the task was lost or has failed.
    ///
    /// Deviation: Kafka Streams has no such call.
    ///
    /// # Errors
    /// As [`punctuate`](Self::punctuate).
    fn suspend(&mut self, context: &mut ProcessorContext<'_, '_, KOut, VOut>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called once, when the task is closed; nothing can be forwarded any more.
    fn close(&mut self) {}
}

/// Takes the event time out of a record. Source: `TimestampExtractor`.
pub trait TimestampExtractor<K, V>: Send + Sync {
    /// The record's event time; a negative one is handled as [`NegativeTimestamp`] says.
    /// `partition_time` is the highest timestamp seen so far on the record's partition.
    fn extract(
        &self,
        raw: &RawRecord,
        key: &K,
        value: &V,
        partition_time: Option<Timestamp>,
    ) -> Result<Timestamp>;

    /// What becomes of a record whose timestamp is negative.
    fn on_negative(&self) -> NegativeTimestamp {
        NegativeTimestamp::Fail
    }
}

/// What becomes of a record with a negative timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NegativeTimestamp {
    /// It is a bad record (`FailOnInvalidTimestamp`; here the deserialisation handler decides).
    #[default]
    Fail,
    /// It is dropped and counted (`LogAndSkipOnInvalidTimestamp`).
    Skip,
    /// It takes its partition's time (`UsePartitionTimeOnInvalidTimestamp`).
    UsePartitionTime,
}

/// Chooses the partition of an outgoing record, or several. Source: `StreamPartitioner`.
pub trait StreamPartitioner<K, V>: Send + Sync {
    /// The partition in `0..partitions`; `None` leaves it to the client (murmur2 of the key bytes).
    fn partition(&self, topic: &str, key: &K, value: &V, partitions: i32) -> Option<i32>;

    /// The partitions of a record that goes to several of them, or to none, put into `chosen`, which is empty. The default asks
    /// [`partition`](Self::partition).
    fn partitions(
        &self,
        topic: &str,
        key: &K,
        value: &V,
        partitions: i32,
        chosen: &mut Vec<i32>,
    ) -> PartitionChoice {
        match self.partition(topic, key, value, partitions) {
            None => PartitionChoice::ByKey,
            Some(partition) => {
                chosen.push(partition);
                PartitionChoice::Chosen
            }
        }
    }
}

/// What a [`StreamPartitioner`] has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionChoice {
    /// The client chooses, by the murmur2 hash of the key bytes (Java: `Optional.empty()`).
    ByKey,
    /// The record goes to each partition that was chosen, each once; to none drops it (Java: a set).
    Chosen,
}

/// Chooses the topic of an outgoing record. Source: `TopicNameExtractor`.
pub trait TopicNameExtractor<K, V>: Send + Sync {
    /// The topic's full name; it must exist.
    fn topic(&self, record: &Record<K, V>) -> Arc<str>;
}

impl<K, V, F> TopicNameExtractor<K, V> for F
where
    F: Fn(&Record<K, V>) -> Arc<str> + Send + Sync,
{
    fn topic(&self, record: &Record<K, V>) -> Arc<str> {
        self(record)
    }
}
