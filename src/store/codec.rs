//! Keys and values of a typed store, from and to bytes. Hot path; allocates nothing of its own.

use std::ops::Bound;
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

    /// As [`write_value`](Self::write_value), for a value that may have been deleted.
    pub(super) fn write_change(&self, value: Option<&V>, out: &mut Vec<u8>) -> Result<bool> {
        value.map_or(Ok(false), |value| self.write_value(value, out))
    }

    /// The bytes of a bound of keys.
    pub(super) fn bound(&self, bound: Bound<&K>) -> Result<Bound<Vec<u8>>> {
        let bytes = |key| {
            let mut out = Vec::new();
            self.write_key(key, &mut out).map(|()| out)
        };
        Ok(match bound {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(key) => Bound::Included(bytes(key)?),
            Bound::Excluded(key) => Bound::Excluded(bytes(key)?),
        })
    }
}

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.topic.clone(), self.key.clone(), self.value.clone())
    }
}

/// The smallest key after all keys that begin with `prefix`; `None` where there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
