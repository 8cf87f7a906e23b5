//! The way in: a source's events become a topology's own inputs, keyed anew. Hot path.
//!
//! An input tells where its event stands ([`Origin`]), because what follows from it may be decided much later: an audit
//! event names the place, and a dead letter is the record as it came.

use bytes::Bytes;
use kstreams::dlq::{FailedRecord, Stage, dead_letter_headers, dead_letter_topic};
use kstreams::serdes::{Deserializer, Encoded, Serde, Serializer};
use kstreams::{Error, Headers, Processor, ProcessorContext, RawRecord, Record, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::business;
use crate::events::{TopicEvent, known};

/// An event with the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept<E> {
    /// The event.
    pub(crate) event: E,
    /// Its record's value; shares the memory of what was fetched.
    pub(crate) bytes: Bytes,
}

impl<E: Send + Sync + 'static> Kept<E> {
    /// The serde of a source whose events may become dead letters later.
    pub(crate) fn serde(event: Serde<E>) -> Serde<Self> {
        Serde::from_both(KeptSerde(event))
    }
}

struct KeptSerde<E>(Serde<E>);

impl<E> Serializer<Kept<E>> for KeptSerde<E> {
    fn serialize(&self, _: &str, value: &Kept<E>, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(&value.bytes);
        Ok(Encoded::Bytes)
    }
}

impl<E> Deserializer<Kept<E>> for KeptSerde<E> {
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<Kept<E>> {
        let event = self.0.deserializer().deserialize(topic, headers, data)?;
        Ok(Kept { event, bytes: data.cloned().unwrap_or_default() })
    }
}

/// Where an event stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// A record as it came, to be dead-lettered byte for byte even after it has waited in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Where it stands.
    pub origin: Origin,
    timestamp_ms: i64,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Original {
    /// The record of an event.
    pub(crate) fn new<E>(origin: Origin, record: &Record<String, Kept<E>>) -> Self {
        let header = |header: &kstreams::Header| {
            (header.key.to_string(), header.value.as_ref().map(|value| value.to_vec()))
        };
        Self {
            origin,
            timestamp_ms: record.timestamp.as_millis(),
            key: record.key.clone().into_bytes(),
            value: record.value.bytes.to_vec(),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    /// The dead letter of the record, for [`Letter::topic`]; `node` is who refuses it.
    pub(crate) fn refuse<K, V>(
        self,
        error: &Error,
        node: &str,
        context: &ProcessorContext<'_, '_, K, V>,
    ) -> Record<Bytes, Letter> {
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers.add(name, value);
        }
        let timestamp = Timestamp::from_millis(self.timestamp_ms);
        let (key, value) = (Bytes::from(self.key), Bytes::from(self.value));
        let record = RawRecord {
            offset: self.origin.offset,
            timestamp,
            key: Some(key.clone()),
            value: Some(value.clone()),
            headers,
        };
        let failed = FailedRecord {
            topic: &self.origin.topic,
            partition: self.origin.partition,
            record: &record,
            stage: Stage::Process,
            error,
            panicked: false,
            node,
            task: context.task_id(),
            attempt: 1,
        };
        let application_id = context.application_id();
        let headers = dead_letter_headers(&failed, application_id, context.current_system_time());
        business::dead_letter(application_id, &self.origin.topic);
        let topic = dead_letter_topic(application_id, &self.origin.topic);
        Record { key, value: Letter { topic, value }, timestamp, headers }
    }
}

/// A dead letter on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Letter {
    /// The dead-letter topic.
    pub(crate) topic: std::sync::Arc<str>,
    value: Bytes,
}

impl Letter {
    /// Writes the bytes alone.
    pub(crate) fn serde() -> Serde<Self> {
        Serde::from_both(LetterSerde)
    }

    /// The serde of the letters' keys.
    pub(crate) fn key_serde() -> Serde<Bytes> {
        Serde::from_both(LetterSerde)
    }
}

struct LetterSerde;

impl Serializer<Letter> for LetterSerde {
    fn serialize(&self, _: &str, letter: &Letter, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(&letter.value);
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Letter> for LetterSerde {
    fn deserialize(&self, topic: &str, _: &Headers, data: Option<&Bytes>) -> Result<Letter> {
        Ok(Letter { topic: topic.into(), value: data.cloned().unwrap_or_default() })
    }
}

impl Serializer<Bytes> for LetterSerde {
    fn serialize(&self, _: &str, bytes: &Bytes, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(bytes);
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Bytes> for LetterSerde {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<Bytes> {
        Ok(data.cloned().unwrap_or_default())
    }
}

/// What an event means to a topology: the key of the task that has to know, and what it is told; `None` for nothing.
pub(crate) type Meaning<E, K, V> = fn(&Record<String, Kept<E>>, Origin) -> Option<(K, V)>;

/// Turns events into inputs; counts those of a type that this version does not know.
pub(crate) struct Edge<E, K, V> {
    topology: &'static str,
    meaning: Meaning<E, K, V>,
}

impl<E, K, V> Edge<E, K, V> {
    pub(crate) fn new(topology: &'static str, meaning: Meaning<E, K, V>) -> Self {
        Self { topology, meaning }
    }
}

impl<E, K, V> Processor<String, Kept<E>, K, V> for Edge<E, K, V>
where
    E: TopicEvent + 'static,
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn process(
        &mut self,
        record: Record<String, Kept<E>>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        let Record { key, value: Kept { event, bytes }, timestamp, headers } = record;
        let Some(event) = known(self.topology, event) else { return Ok(()) };
        let record = Record { key, value: Kept { event, bytes }, timestamp, headers };
        let (partition, offset) =
            context.record_metadata().map_or((-1, -1), |place| (place.partition, place.offset));
        let origin = Origin { topic: E::TOPIC.to_owned(), partition, offset };
        let Some((key, value)) = (self.meaning)(&record, origin) else { return Ok(()) };
        context.forward(Record { key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
