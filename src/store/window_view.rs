//! Interactive queries of window stores: the committed windows of those partitions that this process has.
//!
//! Called by any thread but the task's.

use std::sync::Arc;

use super::Direction;
use super::codec::Codec;
use super::key_value_view::{QueryableStoreType, QueryableStoreTypes};
use super::segment_scan::Found;
use super::segment_view::{SegmentPages, SegmentView, ViewKeys, ViewQuery};
use super::view::StoreView;
use super::window_keys::Parts;
use crate::error::Result;
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

impl QueryableStoreTypes {
    /// Window stores, plain and timestamped ones.
    pub fn window_store<K: 'static, V: 'static>() -> WindowStoreType<K, V> {
        WindowStoreType(std::marker::PhantomData)
    }
}

/// Window stores of these types; see [`QueryableStoreTypes::window_store`].
#[derive(Debug)]
pub struct WindowStoreType<K, V>(std::marker::PhantomData<fn() -> (K, V)>);

impl<K: 'static, V: 'static> QueryableStoreType for WindowStoreType<K, V> {
    type View = WindowView<K, V>;
    type Store = ReadOnlyWindowStore<K, V>;

    fn create(&self, views: Vec<(i32, Arc<Self::View>)>) -> Self::Store {
        ReadOnlyWindowStore { views }
    }
}

/// The committed windows of one task's window store.
pub struct WindowView<K, V> {
    segments: Arc<SegmentView>,
    codec: Codec<K, V>,
    window_size_ms: i64,
}

impl<K: 'static, V: 'static> WindowView<K, V> {
    pub(super) fn of(segments: SegmentView, codec: Codec<K, V>, window_size_ms: i64) -> StoreView {
        let engine = segments.engine.clone();
        let view = Self { segments: Arc::new(segments), codec, window_size_ms };
        StoreView { typed: Arc::new(view), type_name: std::any::type_name::<Self>(), engine }
    }

    fn key_bytes(&self, key: &K) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.codec.write_key(key, &mut bytes)?;
        Ok(bytes)
    }

    fn read(&self, found: Found) -> Result<(Windowed<K>, V, Timestamp)> {
        let window = Window::sized(found.time, self.window_size_ms);
        let key = Windowed::new(self.codec.read_key(&found.key)?, window);
        Ok((key, self.codec.read_value(&found.value)?, found.timestamp))
    }
}

/// The committed windows of a window store, over the partitions that this process has and the query asked for.
///
/// What is seen, and when a call fails, is as of [`ReadOnlyKeyValueStore`](super::ReadOnlyKeyValueStore). Times are window starts, both ends of a range included;
/// windows older than the retention are gone. Order is that of the store's rows within a partition (`all`, `fetch_all`: by key and time within a segment of
/// the retention, or by time in stores of windows that are emitted when they close), and partition after partition.
///
/// Source: `org.apache.kafka.streams.state.ReadOnlyWindowStore`, over `CompositeReadOnlyWindowStore`. Deviation: as of the key-value store.
pub struct ReadOnlyWindowStore<K, V> {
    views: Vec<(i32, Arc<WindowView<K, V>>)>,
}

impl<K: 'static, V: 'static> ReadOnlyWindowStore<K, V> {
    /// The partitions it reads.
    pub fn partitions(&self) -> Vec<i32> {
        self.views.iter().map(|(partition, _)| *partition).collect()
    }

    /// The value of `key` in the window that begins at `start`.
    ///
    /// # Errors
    /// What the serdes return; `Retriable` once a partition has left, `TaskCorrupted` or `Fatal` for an unreadable disk.
    pub fn fetch(&self, key: &K, start: Timestamp) -> Result<Option<V>> {
        Ok(self.fetch_with_timestamp(key, start)?.map(|(value, _)| value))
    }

    /// As [`fetch`](Self::fetch), with the value's timestamp (zero in a store without timestamps).
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_with_timestamp(
        &self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<(V, Timestamp)>> {
        for (_, view) in &self.views {
            let key = view.key_bytes(key)?;
            let parts = Parts { key: &key, time: start.as_millis(), rest: 0 };
            if let Some((value, timestamp)) = view.segments.get(parts)? {
                return Ok(Some((view.codec.read_value(&value)?, timestamp)));
            }
        }
        Ok(None)
    }

    /// The values of `key` in windows that begin between `from` and `to`, oldest first.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), at once or from the iterator.
    pub fn fetch_range(
        &self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowViewIter<K, V>> {
        self.fetch_keys(Some(key), Some(key), from, to, Direction::Forward)
    }

    /// As [`fetch_range`](Self::fetch_range), newest first.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_fetch_range(
        &self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowViewIter<K, V>> {
        self.fetch_keys(Some(key), Some(key), from, to, Direction::Backward)
    }

    /// The values of the keys from `first` to `last` (`None`: no bound; order of key bytes) in windows that begin between `from` and `to`.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn fetch_keys(
        &self,
        first: Option<&K>,
        last: Option<&K>,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<WindowViewIter<K, V>> {
        let mut scans = Vec::with_capacity(self.views.len());
        for (_, view) in &self.views {
            let first = first.map(|key| view.key_bytes(key)).transpose()?;
            let last = last.map(|key| view.key_bytes(key)).transpose()?;
            let keys = keys_between(first, last);
            let (from, to) = (from.as_millis(), to.as_millis());
            let query = ViewQuery { keys, from, to, direction };
            scans.push((view.segments.scan(query)?, view.clone()));
        }
        scans.reverse();
        Ok(WindowViewIter { scans })
    }

    /// The values of all keys in windows that begin between `from` and `to`.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn fetch_all(&self, from: Timestamp, to: Timestamp) -> Result<WindowViewIter<K, V>> {
        self.fetch_keys(None, None, from, to, Direction::Forward)
    }

    /// As [`fetch_all`](Self::fetch_all), the other way round within each partition.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_fetch_all(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowViewIter<K, V>> {
        self.fetch_keys(None, None, from, to, Direction::Backward)
    }

    /// Everything.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn all(&self) -> Result<WindowViewIter<K, V>> {
        self.fetch_all(Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// Everything, the other way round within each partition.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_all(&self) -> Result<WindowViewIter<K, V>> {
        self.backward_fetch_all(Timestamp::from_millis(0), Timestamp::MAX)
    }
}

/// The keys between two, both included; the same one twice is one.
pub(super) fn keys_between(first: Option<Vec<u8>>, last: Option<Vec<u8>>) -> ViewKeys {
    match (first, last) {
        (Some(first), Some(last)) if first == last => ViewKeys::One(first),
        (first, last) => ViewKeys::Range(first, last),
    }
}

/// Windows and values of a [`ReadOnlyWindowStore`], read page by page. Ends after the first error of an engine, but goes on after an
/// entry that cannot be deserialised.
pub struct WindowViewIter<K, V> {
    /// Those still to be read, the one in hand last.
    scans: Vec<(SegmentPages, Arc<WindowView<K, V>>)>,
}

impl<K: 'static, V: 'static> WindowViewIter<K, V> {
    /// The same entries with their values' timestamps.
    pub fn with_timestamps(mut self) -> impl Iterator<Item = Result<(Windowed<K>, V, Timestamp)>> {
        std::iter::from_fn(move || self.next_read())
    }

    fn next_read(&mut self) -> Option<Result<(Windowed<K>, V, Timestamp)>> {
        loop {
            let (scan, view) = self.scans.last_mut()?;
            match scan.next() {
                Some(Ok(found)) => return Some(view.read(found)),
                Some(Err(error)) => {
                    self.scans.clear();
                    return Some(Err(error));
                }
                None => drop(self.scans.pop()),
            }
        }
    }
}

impl<K: 'static, V: 'static> Iterator for WindowViewIter<K, V> {
    type Item = Result<(Windowed<K>, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_read()?.map(|(key, value, _)| (key, value)))
    }
}
