//! Keys and values of a typed store, from and to bytes. Hot path; allocates nothing of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::record::Headers;
use crate::serdes::{Encoded, Serde};

/// The serdes of a typed store.
pub(super) struct Codec<K, V> {
    /// The topic that serdes are told: the changelog's, or the store's name where it has none.
    topic: Arc<str>,
    key: Serde<K>,
    value: Serde<V>,
    headers: Headers,
}

impl<K, V> Codec<K, V> {
    pub(super) fn new(topic: Arc<str>, key: Serde<K>, value: Serde<V>) -> Self {
        Self { topic, key, value, headers: Headers::default() }
    }

    pub(super) fn set_topic(&mut self, topic: Arc<str>) {
        self.topic = topic;
    }

    pub(super) fn read_key(&self, bytes: &Bytes) -> Result<K> {
        self.key.deserializer().deserialize(&self.topic, &self.headers, Some(bytes))
    }

    pub(super) fn read_value(&self, bytes: &Bytes) -> Result<V> {
        self.value.deserializer().deserialize(&self.topic, &self.headers, Some(bytes))
    }

    pub(super) fn write_key(&self, key: &K, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self.key.serializer().serialize(&self.topic, key, out)? {
            Encoded::Bytes => Ok(()),
            Encoded::Null => {
                Err(Error::bad_record("found a null key, wanted one that is not null"))
            }
        }
    }

    /// Whether there is a value, not null.
    pub(super) fn write_value(&self, value: &V, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        Ok(self.value.serializer().serialize(&self.topic, value, out)? == Encoded::Bytes)
    }
}
