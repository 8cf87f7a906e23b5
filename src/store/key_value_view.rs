//! Interactive queries of key-value stores: the committed entries of those partitions that this process has.
//!
//! Called by any thread but the task's. Reads pages of the engine (see [`EngineView`]), never what is uncommitted or cached.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::vec;

use super::codec::{ByteBounds, Codec};
use super::expiry::SharedExpiry;
use super::key_value::ROWS_OF_ENTRY;
use super::view::{EngineView, PageLimits, StoreView};
use super::{Direction, Entry, ValueFormat};
use crate::error::Result;
use crate::time::Timestamp;

const EVERYTHING: ByteBounds = (Bound::Unbounded, Bound::Unbounded);

/// What a scan reads at once.
pub(super) const PAGE: PageLimits = PageLimits { entries: 256, bytes: 1 << 20 };

/// What a query can ask a type of store. Source: `org.apache.kafka.streams.state.QueryableStoreType`.
pub trait QueryableStoreType {
    /// What one task's store hands out as [`StoreView::typed`].
    type View: Send + Sync + 'static;
    /// What the caller gets.
    type Store;
    /// Joins the views of the partitions asked for, by partition.
    fn create(&self, views: Vec<(i32, Arc<Self::View>)>) -> Self::Store;
}

/// The types of stores there are. Source: `org.apache.kafka.streams.state.QueryableStoreTypes`.
#[derive(Debug)]
pub struct QueryableStoreTypes;

impl QueryableStoreTypes {
    /// Key-value stores, plain and timestamped ones.
    pub fn key_value_store<K: 'static, V: 'static>() -> KeyValueStoreType<K, V> {
        KeyValueStoreType(std::marker::PhantomData)
    }
}

/// Key-value stores of these types; see [`QueryableStoreTypes::key_value_store`].
#[derive(Debug)]
pub struct KeyValueStoreType<K, V>(std::marker::PhantomData<fn() -> (K, V)>);

impl<K: 'static, V: 'static> QueryableStoreType for KeyValueStoreType<K, V> {
    type View = KeyValueView<K, V>;
    type Store = ReadOnlyKeyValueStore<K, V>;

    fn create(&self, views: Vec<(i32, Arc<Self::View>)>) -> Self::Store {
        ReadOnlyKeyValueStore { views }
    }
}

/// The committed entries of one task's key-value store.
pub struct KeyValueView<K, V> {
    name: Arc<str>,
    engine: Arc<dyn EngineView>,
    format: ValueFormat,
    codec: Codec<K, V>,
    expiry: Option<SharedExpiry>,
}

impl<K: 'static, V: 'static> KeyValueView<K, V> {
    pub(super) fn of(
        name: Arc<str>,
        engine: Arc<dyn EngineView>,
        format: ValueFormat,
        codec: Codec<K, V>,
        expiry: Option<SharedExpiry>,
    ) -> StoreView {
        let view = Self { name, engine: engine.clone(), format, codec, expiry };
        StoreView { typed: Arc::new(view), type_name: std::any::type_name::<Self>(), engine }
    }

    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let mut bytes = Vec::new();
        self.codec.write_key(key, &mut bytes)?;
        let Some(value) = self.engine.get(&bytes).map_err(|e| self.named(e))? else {
            return Ok(None);
        };
        let (value, timestamp) = self.format.decode(value)?;
        if self.expiry.as_ref().is_some_and(|expiry| expiry.is_expired(timestamp)) {
            return Ok(None);
        }
        Ok(Some((self.codec.read_value(&value)?, timestamp)))
    }

    /// Whether a row of a scan has outlived its time to live.
    fn is_expired(&self, (_, value): &Entry) -> bool {
        let Some(expiry) = &self.expiry else { return false };
        let decoded = self.format.decode(value.clone());
        decoded.is_ok_and(|(_, timestamp)| expiry.is_expired(timestamp))
    }

    fn approximate_entries(&self) -> Result<u64> {
        let rows = self.engine.approximate_entries().map_err(|e| self.named(e))?;
        Ok(if self.expiry.is_some() { rows / ROWS_OF_ENTRY } else { rows })
    }

    fn read(&self, (key, value): Entry) -> Result<(K, V, Timestamp)> {
        let (value, timestamp) = self.format.decode(value)?;
        Ok((self.codec.read_key(&key)?, self.codec.read_value(&value)?, timestamp))
    }

    fn named(&self, error: crate::Error) -> crate::Error {
        error.context(format_args!("query of store \"{}\"", self.name))
    }
}

/// The committed entries of a key-value store, over the partitions that this process has and the query asked for.
///
/// Nothing uncommitted is seen; a transaction becomes visible after its commit, each task's store at once. Between two
/// calls, and between two pages of a scan (256 entries or 1 MiB), commits may lie. Order is that of key bytes within a
/// partition, and partition after partition. Every call fails with `Retriable` once a partition has left this process:
/// ask [`KafkaStreams::store`](crate::KafkaStreams::store) again, or the key's new owner.
///
/// Source: `org.apache.kafka.streams.state.ReadOnlyKeyValueStore`, over `CompositeReadOnlyKeyValueStore`. Deviation:
/// Kafka Streams reads through the cache, and so what is not committed yet.
pub struct ReadOnlyKeyValueStore<K, V> {
    views: Vec<(i32, Arc<KeyValueView<K, V>>)>,
}

/// How many entries there are between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Entries found, at most the limit.
    pub entries: u64,
    /// Whether the count stopped at the limit: there may be more.
    pub is_limited: bool,
}

impl<K: 'static, V: 'static> ReadOnlyKeyValueStore<K, V> {
    /// The partitions it reads.
    pub fn partitions(&self) -> Vec<i32> {
        self.views.iter().map(|(partition, _)| *partition).collect()
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// What the serdes return; `Retriable` once a partition has left, `TaskCorrupted` or `Fatal` for an unreadable disk.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of `key` and its timestamp (zero in a store without timestamps).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with_timestamp(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        for (_, view) in &self.views {
            if let Some(found) = view.get(key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The entries whose keys lie within bounds: `range(from..=to)`.
    ///
    /// # Errors
    /// What the key's serde returns; reading fails from the iterator, as [`get`](Self::get) does.
    pub fn range(&self, keys: impl RangeBounds<K>) -> Result<KeyValueViewIter<K, V>> {
        self.scan(&keys, Direction::Forward)
    }

    /// As [`range`](Self::range), in descending order within each partition.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn reverse_range(&self, keys: impl RangeBounds<K>) -> Result<KeyValueViewIter<K, V>> {
        self.scan(&keys, Direction::Backward)
    }

    /// All entries.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn all(&self) -> Result<KeyValueViewIter<K, V>> {
        self.range(..)
    }

    /// All entries, in descending order within each partition.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn reverse_all(&self) -> Result<KeyValueViewIter<K, V>> {
        self.reverse_range(..)
    }

    /// The entries whose key bytes begin with `prefix`.
    pub fn prefix_scan(&self, prefix: &[u8]) -> KeyValueViewIter<K, V> {
        let bounds = self.views.first().map(|(_, view)| view.codec.prefix_bounds(prefix));
        self.iterate(bounds.unwrap_or(EVERYTHING), Direction::Forward)
    }

    /// About how many entries there are, without a scan (`approximateNumEntries`): exact in memory, RocksDB's estimate on
    /// disk, which deletions and overwritten entries that are not compacted yet can make too high or too low.
    ///
    /// # Errors
    /// `Retriable` once a partition has left.
    pub fn approximate_entries(&self) -> Result<u64> {
        let mut sum = 0u64;
        for (_, view) in &self.views {
            sum = sum.saturating_add(view.approximate_entries()?);
        }
        Ok(sum)
    }

    /// Counts the entries within bounds, one by one and no further than `limit`; values are not read.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn count(&self, keys: impl RangeBounds<K>, limit: u64) -> Result<Counted> {
        let mut scan = self.scan(&keys, Direction::Forward)?;
        let mut entries = 0;
        while entries < limit {
            match scan.next_entry() {
                None => return Ok(Counted { entries, is_limited: false }),
                Some(entry) => drop(entry?),
            }
            entries += 1;
        }
        Ok(Counted { entries, is_limited: scan.next_entry().transpose()?.is_some() })
    }

    fn scan(
        &self,
        keys: &impl RangeBounds<K>,
        direction: Direction,
    ) -> Result<KeyValueViewIter<K, V>> {
        let Some((_, view)) = self.views.first() else {
            return Ok(self.iterate(EVERYTHING, direction));
        };
        Ok(self.iterate(view.codec.bounds(keys)?, direction))
    }

    fn iterate(&self, (from, to): ByteBounds, direction: Direction) -> KeyValueViewIter<K, V> {
        let mut views: Vec<_> = self.views.iter().map(|(_, view)| view.clone()).collect();
        views.reverse();
        let rest = (from.clone(), to.clone());
        KeyValueViewIter { views, from, to, rest, direction, page: Vec::new().into_iter() }
    }
}

/// Entries of a [`ReadOnlyKeyValueStore`], read page by page. Ends after the first error of an engine, but goes on after an
/// entry that cannot be deserialised.
pub struct KeyValueViewIter<K, V> {
    /// Those still to be read, the one in hand last.
    views: Vec<Arc<KeyValueView<K, V>>>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    /// What is left of the bounds in the view in hand.
    rest: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    direction: Direction,
    page: vec::IntoIter<Entry>,
}

impl<K: 'static, V: 'static> KeyValueViewIter<K, V> {
    /// The same entries with their values' timestamps.
    pub fn with_timestamps(mut self) -> impl Iterator<Item = Result<(K, V, Timestamp)>> {
        std::iter::from_fn(move || self.next_read())
    }

    fn next_read(&mut self) -> Option<Result<(K, V, Timestamp)>> {
        match self.next_entry()? {
            Ok(entry) => self.views.last().map(|view| view.read(entry)),
            Err(error) => Some(Err(error)),
        }
    }

    /// The next entry; it belongs to the last of `views`.
    fn next_entry(&mut self) -> Option<Result<Entry>> {
        loop {
            let view = self.views.last()?;
            if let Some(entry) = self.page.find(|entry| !view.is_expired(entry)) {
                return Some(Ok(entry));
            }
            let (from, to) = (self.rest.0.as_ref(), self.rest.1.as_ref());
            let (from, to) = (from.map(Vec::as_slice), to.map(Vec::as_slice));
            match view.engine.page(from, to, self.direction, PAGE) {
                Err(error) => {
                    let error = view.named(error);
                    self.views.clear();
                    return Some(Err(error));
                }
                Ok(page) => match page.last() {
                    None => {
                        self.views.pop();
                        self.rest = (self.from.clone(), self.to.clone());
                    }
                    Some((last, _)) => {
                        let last = Bound::Excluded(last.to_vec());
                        match self.direction {
                            Direction::Forward => self.rest.0 = last,
                            Direction::Backward => self.rest.1 = last,
                        }
                        self.page = page.into_iter();
                    }
                },
            }
        }
    }
}

impl<K: 'static, V: 'static> Iterator for KeyValueViewIter<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_read()?.map(|(key, value, _)| (key, value)))
    }
}
