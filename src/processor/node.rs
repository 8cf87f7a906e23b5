//! The three kinds of node as the task runs them, with their types erased.

use std::any::{Any, type_name};
use std::marker::PhantomData;
use std::sync::Arc;

use super::context::ProcessorContext;
use super::frame::{Frame, NodeIndex};
use super::output::Output;
use super::pending::Pending;
use super::punctuator::PunctuatorId;
use super::{
    NegativeTimestamp, PartitionChoice, Processor, StreamPartitioner, TimestampExtractor,
    TopicNameExtractor,
};
use crate::error::{Error, Result};
use crate::record::{RawRecord, Record};
use crate::serdes::{Encoded, Serde};
use crate::time::Timestamp;

/// How many partitions a topic has; asked by sinks with a partitioner of their own.
pub(crate) type PartitionCounts = Arc<dyn Fn(&str) -> Result<i32> + Send + Sync>;

/// A processor or sink node with its types erased.
pub(crate) trait Node: Send {
    fn init(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()>;
    /// `record` is an `Option<Record<K, V>>` of this node's input type; it is taken out.
    fn process(
        &mut self,
        record: &mut dyn Any,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()>;
    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()>;
    fn committed(&mut self) {}
    fn suspend(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        let _ = (frame, index);
        Ok(())
    }
    fn close(&mut self);
    /// The same node, if its results come later than its records.
    fn pending(&mut self) -> Option<&mut dyn Pending> {
        None
    }
}

/// A source node with its types erased. Each of the task's partitions has a slot, which holds its head record, read but not processed yet.
pub(crate) trait Source: Send {
    /// Reads `raw` into the slot and says its event time; `None`: skip it (negative timestamp).
    fn load(
        &mut self,
        slot: usize,
        topic: &str,
        raw: &RawRecord,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>>;
    /// Sends the slot's record to the children.
    fn emit(&mut self, slot: usize, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()>;
    /// Drops what the slots hold (rewind).
    fn clear(&mut self);
}

/// Takes the record out of what [`Node::process`] is given.
pub(crate) fn take<K: 'static, V: 'static>(record: &mut dyn Any) -> Record<K, V> {
    let slot = record.downcast_mut::<Option<Record<K, V>>>();
    let record = slot.and_then(Option::take);
    record.unwrap_or_else(|| {
        panic!(
            "the topology checked that this node gets Record<{}, {}>",
            type_name::<K>(),
            type_name::<V>()
        )
    })
}

/// Runs a [`Processor`].
pub(crate) struct ProcessorNode<P, KIn, VIn, KOut, VOut> {
    processor: P,
    input: PhantomData<fn(KIn, VIn)>,
    output: PhantomData<fn() -> (KOut, VOut)>,
}

impl<P, KIn, VIn, KOut, VOut> ProcessorNode<P, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(processor: P) -> Self {
        Self { processor, input: PhantomData, output: PhantomData }
    }
}

impl<P, KIn, VIn, KOut, VOut> Node for ProcessorNode<P, KIn, VIn, KOut, VOut>
where
    P: Processor<KIn, VIn, KOut, VOut>,
    KIn: 'static,
    VIn: 'static,
    KOut: 'static,
    VOut: 'static,
{
    fn init(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        self.processor.init(&mut ProcessorContext::new(frame, index))
    }

    fn process(
        &mut self,
        record: &mut dyn Any,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()> {
        self.processor.process(take::<KIn, VIn>(record), &mut ProcessorContext::new(frame, index))
    }

    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()> {
        self.processor.punctuate(punctuator, timestamp, &mut ProcessorContext::new(frame, index))
    }

    fn committed(&mut self) {
        self.processor.committed();
    }

    fn suspend(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        self.processor.suspend(&mut ProcessorContext::new(frame, index))
    }

    fn close(&mut self) {
        self.processor.close();
    }
}

/// Reads raw records of its topics.
pub(crate) struct SourceNode<K, V> {
    pub(crate) key_serde: Serde<K>,
    pub(crate) value_serde: Serde<V>,
    pub(crate) extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    heads: Vec<Option<Record<K, V>>>,
}

impl<K, V> SourceNode<K, V> {
    pub(crate) fn new(
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    ) -> Self {
        Self { key_serde, value_serde, extractor, heads: Vec::new() }
    }
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> Source for SourceNode<K, V> {
    fn load(
        &mut self,
        slot: usize,
        topic: &str,
        raw: &RawRecord,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>> {
        let headers = &raw.headers;
        let key = self
            .key_serde
            .deserializer()
            .deserialize(topic, headers, raw.key.as_ref())
            .map_err(|e| e.context("key"))?;
        let value = self
            .value_serde
            .deserializer()
            .deserialize(topic, headers, raw.value.as_ref())
            .map_err(|e| e.context("value"))?;
        let (mut timestamp, on_negative) = match &self.extractor {
            None => (raw.timestamp, NegativeTimestamp::Fail),
            Some(extractor) => {
                (extractor.extract(raw, &key, &value, partition_time)?, extractor.on_negative())
            }
        };
        if timestamp.as_millis() < 0 {
            match on_negative {
                NegativeTimestamp::Fail => {
                    return Err(Error::bad_record(format!(
                        "found timestamp {timestamp}, wanted one that is not negative; set a timestamp extractor for such records"
                    )));
                }
                NegativeTimestamp::Skip => return Ok(None),
                NegativeTimestamp::UsePartitionTime => match partition_time {
                    Some(time) => timestamp = time,
                    None => return Ok(None),
                },
            }
        }
        if self.heads.len() <= slot {
            self.heads.resize_with(slot + 1, || None);
        }
        let headers = headers.clone();
        self.heads[slot] = Some(Record { key, value, timestamp, headers });
        Ok(Some(timestamp))
    }

    fn emit(&mut self, slot: usize, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        let record = self.heads[slot].take().expect("a head was loaded before it is emitted");
        frame.forward(index, record)
    }

    fn clear(&mut self) {
        self.heads.clear();
    }
}

/// Where a sink sends.
pub(crate) enum SinkTopic<K, V> {
    Fixed(Arc<str>),
    Dynamic(Arc<dyn TopicNameExtractor<K, V>>),
}

impl<K, V> Clone for SinkTopic<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed(topic) => Self::Fixed(topic.clone()),
            Self::Dynamic(extractor) => Self::Dynamic(extractor.clone()),
        }
    }
}

/// What a sink feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkKind {
    /// A topic of the user.
    External,
    /// A repartition topic; records whose key is written as null are dropped unless a relaxed join follows (KIP-962).
    Repartition { drops_null_keys: bool },
}

/// Serialises records into the task's output buffer.
pub(crate) struct SinkNode<K, V> {
    topic: SinkTopic<K, V>,
    kind: SinkKind,
    topic_index: Option<usize>,
    key_serde: Serde<K>,
    value_serde: Serde<V>,
    partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    partitions: PartitionCounts,
    /// What the partitioner chose for the record in hand.
    chosen: Vec<i32>,
}

impl<K, V> SinkNode<K, V> {
    pub(crate) fn new(
        topic: SinkTopic<K, V>,
        kind: SinkKind,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
        partitions: PartitionCounts,
    ) -> Self {
        let chosen = Vec::new();
        Self {
            topic,
            kind,
            topic_index: None,
            key_serde,
            value_serde,
            partitioner,
            partitions,
            chosen,
        }
    }

    /// Asks the partitioner, and checks its answer.
    fn choose(&mut self, topic: &str, record: &Record<K, V>) -> Result<PartitionChoice> {
        let Some(partitioner) = &self.partitioner else { return Ok(PartitionChoice::ByKey) };
        let count = (self.partitions)(topic)?;
        self.chosen.clear();
        let (key, value) = (&record.key, &record.value);
        let choice = partitioner.partitions(topic, key, value, count, &mut self.chosen);
        self.chosen.sort_unstable();
        self.chosen.dedup();
        if let Some(wrong) = self.chosen.iter().find(|chosen| !(0..count).contains(*chosen)) {
            return Err(Error::bad_record(format!(
                "found partition {wrong} of topic \"{topic}\" chosen by its partitioner, wanted one in 0..{count}"
            )));
        }
        Ok(choice)
    }
}

impl<K: Send + 'static, V: Send + 'static> Node for SinkNode<K, V> {
    fn init(&mut self, frame: &mut Frame<'_>, _: NodeIndex) -> Result<()> {
        if let SinkTopic::Fixed(topic) = &self.topic {
            self.topic_index = Some(frame.task.outputs.topic(topic));
        }
        Ok(())
    }

    fn process(
        &mut self,
        record: &mut dyn Any,
        frame: &mut Frame<'_>,
        node: NodeIndex,
    ) -> Result<()> {
        let record = take::<K, V>(record);
        if record.timestamp.as_millis() < 0 {
            return Err(Error::bad_record(format!(
                "found output timestamp {}, wanted one that is not negative",
                record.timestamp
            )));
        }
        let outputs = &mut frame.task.outputs;
        let index = match (&self.topic, self.topic_index) {
            (_, Some(index)) => index,
            (SinkTopic::Fixed(topic), None) => outputs.topic(topic),
            (SinkTopic::Dynamic(extractor), None) => outputs.topic(&extractor.topic(&record)),
        };
        let topic = outputs.topics()[index].clone();
        let choice = self.choose(&topic, &record)?;
        if choice == PartitionChoice::Chosen && self.chosen.is_empty() {
            frame.task.dropped.push((node, "no_partition_chosen"));
            return Ok(());
        }
        let outputs = &mut frame.task.outputs;
        let start = outputs.arena.len();
        let key = self.key_serde.serializer().serialize(&topic, &record.key, &mut outputs.arena);
        let key = (key.map_err(|e| e.context("key"))? == Encoded::Bytes)
            .then_some(start..outputs.arena.len());
        if key.is_none() && self.kind == (SinkKind::Repartition { drops_null_keys: true }) {
            frame.task.dropped.push((node, "null_key"));
            return Ok(());
        }
        let start = outputs.arena.len();
        let value =
            self.value_serde.serializer().serialize(&topic, &record.value, &mut outputs.arena);
        let value = (value.map_err(|e| e.context("value"))? == Encoded::Bytes)
            .then_some(start..outputs.arena.len());
        let output = |partition| Output {
            topic: index,
            partition,
            timestamp: record.timestamp,
            headers: record.headers.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        match choice {
            PartitionChoice::ByKey => outputs.records.push(output(None)),
            PartitionChoice::Chosen => {
                outputs.records.extend(self.chosen.iter().map(|chosen| output(Some(*chosen))));
            }
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        _: Timestamp,
        _: &mut Frame<'_>,
        _: NodeIndex,
    ) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) {}
}
