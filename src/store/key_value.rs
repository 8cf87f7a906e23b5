//! The typed key-value store that processors use.
//!
//! Serialises keys and values into buffers it keeps, and leaves everything else to [`TransactionalStore`]. Called by the
//! thread of its task. Hot path: `get`, `put`. Order is that of the key's *bytes*: integers serialised as Kafka does sort
//! negative after positive, as they do in Kafka Streams.

use std::any::Any;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::codec::{ByteBounds, Codec};
use super::expiry::{Due, ExpiredBy, Expiry, LoggedEntries};
use super::{
    CachedChange, CachingStore, ChangelogRecord, ChangelogWriter, Direction, Engine, KeyValueView,
    Origin, RecordCache, Scan, Scanned, StateStore, StoreView, TIMESTAMP_BYTES, TransactionalStore,
    TransactionalStoreOptions,
};
use crate::error::Result;
use crate::serdes::Serde;
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;

/// A store of values by key.
///
/// Writes are seen by every later read of the task, and are durable after the commit that follows; if the record in hand
/// fails, its writes are undone.
///
/// With a time to live, an entry whose timestamp is so long ago, by the task's stream time, reads as absent, and is deleted within a bounded
/// number of commits; see [`KeyValueStoreBuilder::with_ttl`](crate::topology::KeyValueStoreBuilder::with_ttl).
///
/// Source: `org.apache.kafka.streams.state.KeyValueStore` and `TimestampedKeyValueStore`. Deviations: reading takes
/// `&mut self` (it fills the cache); an iterator borrows the store, so writing while iterating does not compile (collect
/// first), and it needs no `close`.
pub struct KeyValueStore<K, V> {
    store: TransactionalStore,
    codec: Codec<K, V>,
    /// Of a store whose entries have a time to live.
    expiry: Option<Expiry>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<K: 'static, V: 'static> KeyValueStore<K, V> {
    /// Makes a store over an engine, with its own name as the topic that serdes are told.
    pub fn open(
        name: Arc<str>,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        engine: Box<dyn Engine>,
        options: TransactionalStoreOptions,
    ) -> Self {
        let topic = name.clone();
        let store = TransactionalStore::open(name, engine, options);
        let codec = Codec::new(topic, key_serde, value_serde);
        Self { store, codec, expiry: None, key: Vec::new(), value: Vec::new() }
    }

    /// The same store, still without entries read or written, whose entries live as long as `ttl` after their timestamp.
    #[must_use]
    pub(crate) fn with_ttl(mut self, ttl: Duration, by: ExpiredBy) -> Self {
        self.codec.prefix_keys();
        self.expiry = Some(Expiry::new(ttl, by));
        self
    }

    /// The same store, telling its serdes that what they read and write stands in `topic` (the changelog).
    #[must_use]
    pub fn with_topic(mut self, topic: Arc<str>) -> Self {
        self.codec.set_topic(topic);
        self
    }

    /// The store below, for operators that write their keys and values themselves.
    pub(crate) fn bytes(&mut self) -> &mut TransactionalStore {
        &mut self.store
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// What the serdes return; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn get(&mut self, key: &K) -> Result<Option<V>> {
        if self.expiry.is_some() {
            return Ok(self.get_with_timestamp(key)?.map(|(value, _)| value));
        }
        self.codec.write_key(key, &mut self.key)?;
        let found = self.store.get(&self.key)?;
        let bytes = found.map(Bytes::len);
        let value = found.map(|value| self.codec.read_value(value)).transpose();
        self.note_read(bytes);
        value
    }

    /// The value of `key` and its timestamp; for stores whose format is
    /// [`ValueFormat::Timestamped`](super::ValueFormat::Timestamped).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with_timestamp(&mut self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let found = self.get_undeleted(key)?;
        Ok(found.filter(|(_, timestamp)| !self.is_expired(*timestamp)))
    }

    /// As [`get_with_timestamp`](Self::get_with_timestamp), with an entry that has expired and is not deleted yet: what a table has told others.
    pub(crate) fn get_undeleted(&mut self, key: &K) -> Result<Option<(V, Timestamp)>> {
        self.codec.write_key(key, &mut self.key)?;
        let found = self.store.get_with_timestamp(&self.key)?;
        let bytes = found.map(|(value, _)| value.len());
        let value = found
            .map(|(value, timestamp)| Ok((self.codec.read_value(value)?, timestamp)))
            .transpose();
        self.note_read(bytes);
        value
    }

    /// Sets the value of `key`, at the timestamp of the record in hand. A value that serialises to null deletes.
    ///
    /// # Errors
    /// What the serdes return, `BadRecord` for a null key.
    pub fn put(&mut self, key: &K, value: &V) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        match self.codec.write_value(value, &mut self.value)? {
            true => {
                let timestamp = self.store.record_timestamp;
                self.write(timestamp)
            }
            false => {
                self.store.delete(&self.key);
                Ok(())
            }
        }
    }

    /// Sets the value of `key` with a timestamp of its own; for stores whose format is
    /// [`ValueFormat::Timestamped`](super::ValueFormat::Timestamped).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with_timestamp(&mut self, key: &K, value: &V, timestamp: Timestamp) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        match self.codec.write_value(value, &mut self.value)? {
            true => self.write(timestamp),
            false => {
                self.store.delete(&self.key);
                Ok(())
            }
        }
    }

    /// Writes the entry that lies in the buffers.
    fn write(&mut self, timestamp: Timestamp) -> Result<()> {
        match &mut self.expiry {
            None => self.store.put_with_timestamp(&self.key, &self.value, timestamp),
            Some(expiry) => expiry.put(&mut self.store, &self.key, &self.value, timestamp)?,
        }
        Ok(())
    }

    /// Sets the value of `key` where there is none; returns the value that was there.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`put`](Self::put).
    pub fn put_if_absent(&mut self, key: &K, value: &V) -> Result<Option<V>> {
        let old = self.get(key)?;
        if old.is_none() {
            self.put(key, value)?;
        }
        Ok(old)
    }

    /// Deletes `key`; returns the value that was there.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: &K) -> Result<Option<V>> {
        let old = self.get(key)?;
        if old.is_some() {
            self.store.delete(&self.key);
        }
        Ok(old)
    }

    /// The entries whose keys lie within bounds, in ascending order of key bytes: `range(from..=to)`.
    ///
    /// # Errors
    /// As [`get`](Self::get), at once or from the iterator.
    pub fn range(&mut self, keys: impl RangeBounds<K>) -> Result<KeyValueIter<'_, K, V>> {
        self.range_in(keys, Direction::Forward)
    }

    /// As [`range`](Self::range), in descending order.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn reverse_range(&mut self, keys: impl RangeBounds<K>) -> Result<KeyValueIter<'_, K, V>> {
        self.range_in(keys, Direction::Backward)
    }

    /// All entries, in ascending order of key bytes.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn all(&mut self) -> Result<KeyValueIter<'_, K, V>> {
        self.range(..)
    }

    /// All entries, in descending order of key bytes.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn reverse_all(&mut self) -> Result<KeyValueIter<'_, K, V>> {
        self.reverse_range(..)
    }

    /// The entries whose key bytes begin with `prefix`, in ascending order.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn prefix_scan(&mut self, prefix: &[u8]) -> Result<KeyValueIter<'_, K, V>> {
        self.scan(self.codec.prefix_bounds(prefix), Direction::Forward)
    }

    /// About how many entries were committed.
    pub fn approximate_entries(&self) -> u64 {
        let rows = self.store.approximate_entries();
        if self.expiry.is_some() { rows / ROWS_OF_ENTRY } else { rows }
    }

    /// Whether an entry of this timestamp has outlived its time to live, if it has one.
    pub(crate) fn is_expired(&self, timestamp: Timestamp) -> bool {
        is_expired(&self.expiry, timestamp)
    }

    /// Whether entries have expired that are not deleted yet, as far as that is known without a look.
    pub(crate) fn has_due(&self) -> bool {
        self.expiry.as_ref().is_some_and(Expiry::has_due)
    }

    /// Deletes entries that have expired, `limit` at most, earliest first, and says what and when it was. To be accepted or undone with the record in hand.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn delete_expired(&mut self, limit: usize) -> Result<Vec<(K, V, Timestamp)>> {
        let Some(expiry) = &mut self.expiry else { return Ok(Vec::new()) };
        let due = expiry.take_due(&mut self.store, limit)?;
        let read = |Due { key, value, expired_at }| {
            Ok((self.codec.read_key(&key)?, self.codec.read_value(&value)?, expired_at))
        };
        due.into_iter().map(read).collect()
    }

    /// As [`delete_expired`](Self::delete_expired), for the entry of `key` alone.
    pub(crate) fn delete_if_expired(&mut self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let Some(expiry) = &self.expiry else { return Ok(None) };
        self.codec.write_key(key, &mut self.key)?;
        let Some((value, timestamp)) = self.store.get_with_timestamp(&self.key)? else {
            return Ok(None);
        };
        if !expiry.is_expired(timestamp) {
            return Ok(None);
        }
        let expired = (self.codec.read_value(value)?, expiry.end_of(timestamp));
        self.store.delete(&self.key);
        Ok(Some(expired))
    }

    /// Sets or deletes the value of `key`, and leaves the change to the record cache: it is forwarded later, as `origin`'s. For stores
    /// whose format is [`ValueFormat::Timestamped`](super::ValueFormat::Timestamped). Source: `CachingKeyValueStore.put`.
    pub(crate) fn put_cached(
        &mut self,
        key: &K,
        value: Option<&V>,
        timestamp: Timestamp,
        origin: Origin,
    ) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        let has_value = self.codec.write_change(value, &mut self.value)?;
        let old = self.store.get(&self.key)?.cloned();
        match has_value {
            true => self.store.put_with_timestamp(&self.key, &self.value, timestamp),
            false => self.store.delete(&self.key),
        }
        let Some(Some(cache)) = self.store.record_cache() else { return Ok(()) };
        let change = CachedChange {
            key: Bytes::copy_from_slice(&self.key),
            old,
            new: has_value.then(|| Bytes::copy_from_slice(&self.value)),
            timestamp: if has_value { timestamp } else { origin.timestamp },
            origin,
        };
        cache.put(change, TIMESTAMP_BYTES);
        Ok(())
    }

    fn note_read(&mut self, value_bytes: Option<usize>) {
        if let Some(Some(cache)) = self.store.record_cache() {
            cache.read(&self.key, value_bytes.map(|bytes| bytes + TIMESTAMP_BYTES));
        }
    }

    fn range_in(
        &mut self,
        keys: impl RangeBounds<K>,
        direction: Direction,
    ) -> Result<KeyValueIter<'_, K, V>> {
        // Scans are rare beside gets: buffers of their own keep this simple.
        let bounds = self.codec.bounds(&keys)?;
        self.scan(bounds, direction)
    }

    fn scan(
        &mut self,
        (from, to): ByteBounds,
        direction: Direction,
    ) -> Result<KeyValueIter<'_, K, V>> {
        let (from, to) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let scan = self.store.scan(from, to, direction)?;
        Ok(KeyValueIter { scan, codec: &self.codec, expiry: &self.expiry })
    }
}

/// An entry that expires has a row that says when, too.
pub(super) const ROWS_OF_ENTRY: u64 = 2;

fn is_expired(expiry: &Option<Expiry>, timestamp: Timestamp) -> bool {
    expiry.as_ref().is_some_and(|expiry| expiry.is_expired(timestamp))
}

/// Entries of a [`KeyValueStore`], uncommitted writes included. Borrows the store; ends after the first error of the
/// engine, but goes on after an entry that cannot be deserialised.
pub struct KeyValueIter<'a, K, V> {
    scan: Scan<'a>,
    codec: &'a Codec<K, V>,
    expiry: &'a Option<Expiry>,
}

impl<'a, K: 'static, V: 'static> KeyValueIter<'a, K, V> {
    /// The same entries with their values' timestamps.
    pub fn with_timestamps(
        self,
    ) -> impl Iterator<Item = Result<(K, V, Timestamp)>> + use<'a, K, V> {
        let mut iter = self;
        std::iter::from_fn(move || {
            let scanned = iter.next_scanned()?;
            Some(scanned.and_then(|scanned| {
                let key = iter.codec.read_key(&scanned.key)?;
                Ok((key, iter.codec.read_value(&scanned.value)?, scanned.timestamp))
            }))
        })
    }
}

impl<K, V> KeyValueIter<'_, K, V> {
    fn next_scanned(&mut self) -> Option<Result<Scanned>> {
        let is_alive = |scanned: &Result<Scanned>| match scanned {
            Ok(scanned) => !is_expired(self.expiry, scanned.timestamp),
            Err(_) => true,
        };
        self.scan.find(is_alive)
    }
}

impl<K, V> Iterator for KeyValueIter<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let scanned = match self.next_scanned()? {
            Ok(scanned) => scanned,
            Err(error) => return Some(Err(error)),
        };
        let key = self.codec.read_key(&scanned.key);
        Some(key.and_then(|key| Ok((key, self.codec.read_value(&scanned.value)?))))
    }
}

impl<K: 'static, V: 'static> StateStore for KeyValueStore<K, V> {
    fn name(&self) -> &Arc<str> {
        self.store.name()
    }

    fn set_record_timestamp(&mut self, timestamp: Timestamp) {
        self.store.set_record_timestamp(timestamp);
    }

    fn needs_stream_time(&self) -> bool {
        self.expiry.is_some()
    }

    fn set_stream_time(&mut self, time: Timestamp) {
        if let Some(expiry) = &mut self.expiry {
            expiry.set_stream_time(time);
        }
    }

    fn accept_record(&mut self) {
        self.store.accept_record();
        self.expiry.iter_mut().for_each(Expiry::accept_record);
    }

    fn undo_record(&mut self) {
        self.store.undo_record();
        self.expiry.iter_mut().for_each(Expiry::undo_record);
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        let Some(expiry) = &mut self.expiry else { return self.store.write_changelog(changelog) };
        expiry.clean(&mut self.store)?;
        let mut entries = LoggedEntries { changelog, count: 0 };
        self.store.write_changelog(&mut entries)?;
        Ok(entries.count)
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        if let Some(expiry) = &mut self.expiry {
            expiry.commit(&mut self.store)?;
        }
        self.store.commit(position)
    }

    fn abort(&mut self) {
        self.store.abort();
        self.expiry.iter_mut().for_each(Expiry::undo_record);
    }

    fn uncommitted_bytes(&self) -> usize {
        self.store.uncommitted_bytes()
    }

    fn take_expired_writes(&mut self) -> u64 {
        self.expiry.as_mut().map_or(0, Expiry::take_expired_writes)
    }

    fn figures(&self) -> StoreFigures {
        self.store.figures()
    }

    fn position(&self) -> Option<i64> {
        self.store.position()
    }

    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        match &mut self.expiry {
            None => self.store.restore(records, position),
            Some(expiry) => self.store.restore(&expiry.rows_of(records), position),
        }
    }

    fn record_cache(&mut self) -> Option<&mut Option<RecordCache>> {
        self.store.record_cache()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Box::new(self.store).close()
    }

    fn view(&self) -> Option<StoreView> {
        Some(KeyValueView::of(
            self.store.name().clone(),
            self.store.engine_view(),
            self.store.value_format(),
            self.codec.clone(),
            self.expiry.as_ref().map(Expiry::shared),
        ))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<K: 'static, V: 'static> CachingStore for KeyValueStore<K, V> {
    type Key = K;
    type Value = V;

    fn read_key(&self, key: &Bytes) -> Result<K> {
        self.codec.read_key(key)
    }

    fn read_value(&self, value: &Bytes) -> Result<V> {
        self.codec.read_value(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryEngine, ValueFormat};
    use super::*;
    use crate::serdes::DefaultSerde;

    fn open<K: DefaultSerde, V: DefaultSerde>(value_format: ValueFormat) -> KeyValueStore<K, V> {
        let options = TransactionalStoreOptions { value_format, ..Default::default() };
        let engine = Box::<MemoryEngine>::default();
        KeyValueStore::open("test".into(), K::serde(), V::serde(), engine, options)
    }

    #[test]
    fn typed_reads_and_writes() {
        let mut store = open::<String, i64>(ValueFormat::Plain);
        let key = |key: &str| key.to_owned();
        assert_eq!(store.put_if_absent(&key("a"), &1).unwrap(), None);
        assert_eq!(store.put_if_absent(&key("a"), &2).unwrap(), Some(1));
        store.put(&key("ab"), &3).unwrap();
        store.put(&key("b"), &4).unwrap();
        assert_eq!(store.delete(&key("b")).unwrap(), Some(4));
        assert_eq!(store.delete(&key("b")).unwrap(), None);
        store.put(&key("b"), &5).unwrap();
        let entries = |iter: KeyValueIter<'_, String, i64>| -> Vec<_> {
            iter.map(|entry| entry.unwrap().1).collect()
        };
        assert_eq!(entries(store.all().unwrap()), [1, 3, 5]);
        assert_eq!(entries(store.reverse_all().unwrap()), [5, 3, 1]);
        assert_eq!(entries(store.range(key("a")..=key("ab")).unwrap()), [1, 3]);
        assert_eq!(entries(store.range(&key("a")..&key("ab")).unwrap()), [1]);
        assert_eq!(entries(store.range(key("b")..key("a")).unwrap()), [0; 0]);
        assert_eq!(entries(store.prefix_scan(b"a").unwrap()), [1, 3]);
        assert_eq!(store.get(&key("ab")).unwrap(), Some(3));
    }

    #[test]
    fn timestamps_stay_with_values() {
        let mut store = open::<String, String>(ValueFormat::Timestamped);
        store.set_record_timestamp(Timestamp::from_millis(8));
        store.put(&"a".to_owned(), &"1".to_owned()).unwrap();
        let at = Timestamp::from_millis(9);
        store.put_with_timestamp(&"b".to_owned(), &"2".to_owned(), at).unwrap();
        store.accept_record();
        store.commit(None).unwrap();
        assert_eq!(store.get_with_timestamp(&"b".to_owned()).unwrap(), Some(("2".to_owned(), at)));
        let timestamps: Vec<_> = store
            .all()
            .unwrap()
            .with_timestamps()
            .map(|entry| entry.unwrap().2.as_millis())
            .collect();
        assert_eq!(timestamps, [8, 9]);
    }

    #[test]
    fn null_values_delete_and_null_keys_are_refused() {
        let mut store = open::<Option<String>, Option<i64>>(ValueFormat::Plain);
        let key = Some("a".to_owned());
        store.put(&key, &Some(1)).unwrap();
        store.put(&key, &None).unwrap();
        assert_eq!(store.get(&key).unwrap(), None);
        assert_eq!(store.put(&None, &Some(1)).unwrap_err().kind(), crate::ErrorKind::BadRecord);
    }
}
