//! Records as they travel: typed inside a subtopology, raw at its borders.
//!
//! Hot path: a [`Record`] is moved from node to node; its headers are shared, so that fan-out is cheap.

use std::sync::Arc;

use bytes::Bytes;

use crate::time::Timestamp;

/// A typed record on an edge of the topology.
///
/// Source: `org.apache.kafka.streams.processor.api.Record`. Deviation: whether a key or value may be null is
/// a matter of its type (`Option<V>`), not of luck.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp: Timestamp,
    /// Headers, shared between copies.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: Headers::default() }
    }

    /// The same record with another key.
    pub fn with_key<K2>(self, key: K2) -> Record<K2, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another timestamp.
    pub fn with_timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp, ..self }
    }
}

/// One header: a name and a value that may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub key: Arc<str>,
    /// The header's value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// The headers of a record, in order, duplicates allowed. Clones share one list; empty ones own nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|list| list.is_empty())
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter().flat_map(|list| list.iter())
    }

    /// The value of the last header named `key`, as Kafka's `lastHeader`.
    pub fn last(&self, key: &str) -> Option<&Bytes> {
        self.0.as_ref()?.iter().rev().find(|header| &*header.key == key)?.value.as_ref()
    }

    /// Appends a header; copies the list first where it is shared.
    pub fn add(&mut self, key: impl Into<Arc<str>>, value: Option<impl Into<Bytes>>) {
        let header = Header { key: key.into(), value: value.map(Into::into) };
        Arc::make_mut(self.0.get_or_insert_default()).push(header);
    }

    /// Removes every header named `key`.
    pub fn remove(&mut self, key: &str) {
        if let Some(list) = &mut self.0 {
            Arc::make_mut(list).retain(|header| &*header.key != key);
        }
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        let list: Vec<Header> = headers.into_iter().collect();
        Self((!list.is_empty()).then(|| Arc::new(list)))
    }
}

/// A record as the broker has it: bytes, and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecord {
    /// Offset in its partition.
    pub offset: i64,
    /// The broker's or producer's timestamp; -1 where the record has none.
    pub timestamp: Timestamp,
    /// Key bytes; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

impl RawRecord {
    /// Bytes that the record holds in memory, as `input.buffer.max.bytes` counts them.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.key.len() + header.value.as_ref().map_or(0, Bytes::len))
            .sum();
        size_of::<Self>()
            + headers
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Where the record being processed came from. Source: `RecordMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The source topic's full name.
    pub topic: Arc<str>,
    /// The source partition.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
}
