//! Keys and values of a typed store, from and to bytes. Hot path; allocates nothing of its own.

use std::ops::{Bound, RangeBounds};
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
    /// Whether [`ENTRY`] stands before every key, since other rows lie beside the entries.
    is_prefixed: bool,
}

/// Before the keys of entries, in stores that have other rows too; those have higher bytes.
pub(super) const ENTRY: u8 = 0;

impl<K, V> Codec<K, V> {
    pub(super) fn new(topic: Arc<str>, key: Serde<K>, value: Serde<V>) -> Self {
        Self { topic, key, value, headers: Headers::default(), is_prefixed: false }
    }

    /// From now on, [`ENTRY`] stands before every key.
    pub(super) fn prefix_keys(&mut self) {
        self.is_prefixed = true;
    }

    pub(super) fn set_topic(&mut self, topic: Arc<str>) {
        self.topic = topic;
    }

    pub(super) fn read_key(&self, bytes: &Bytes) -> Result<K> {
        let without;
        let bytes = match self.is_prefixed {
            true => {
                without = bytes.slice(1..);
                &without
            }
            false => bytes,
        };
        self.key.deserializer().deserialize(&self.topic, &self.headers, Some(bytes))
    }

    pub(super) fn read_value(&self, bytes: &Bytes) -> Result<V> {
        self.value.deserializer().deserialize(&self.topic, &self.headers, Some(bytes))
    }

    pub(super) fn write_key(&self, key: &K, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        if self.is_prefixed {
            out.push(ENTRY);
        }
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

    /// The bytes of the bounds of a range of keys.
    pub(super) fn bounds(&self, keys: &impl RangeBounds<K>) -> Result<ByteBounds> {
        let bytes = |bound: Bound<&K>, open: Bound<Vec<u8>>| {
            let key_bytes = |key| {
                let mut out = Vec::new();
                self.write_key(key, &mut out).map(|()| out)
            };
            Ok(match bound {
                Bound::Unbounded => open,
                Bound::Included(key) => Bound::Included(key_bytes(key)?),
                Bound::Excluded(key) => Bound::Excluded(key_bytes(key)?),
            })
        };
        let (first, end) = match self.is_prefixed {
            true => (Bound::Included(vec![ENTRY]), Bound::Excluded(vec![ENTRY + 1])),
            false => (Bound::Unbounded, Bound::Unbounded),
        };
        Ok((bytes(keys.start_bound(), first)?, bytes(keys.end_bound(), end)?))
    }

    /// The bounds of the keys that begin with these bytes.
    pub(super) fn prefix_bounds(&self, prefix: &[u8]) -> ByteBounds {
        let mut from = Vec::with_capacity(prefix.len() + 1);
        if self.is_prefixed {
            from.push(ENTRY);
        }
        from.extend_from_slice(prefix);
        let to = prefix_end(&from).map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(from), to)
    }
}

/// From where to where in the order of bytes.
pub(super) type ByteBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        let (key, value) = (self.key.clone(), self.value.clone());
        Self { is_prefixed: self.is_prefixed, ..Self::new(self.topic.clone(), key, value) }
    }
}

/// The smallest key after all keys that begin with `prefix`; `None` where there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
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
