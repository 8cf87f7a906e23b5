//! The typed window store: values by key and the start of a window.
//!
//! Called by the thread of its task. Hot path: `fetch`, `put`. Everything but serialisation is left to the segmented store.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::codec::Codec;
use super::segment_scan::{Keys, Query, SegmentScan};
use super::segments::{SegmentedStore, SegmentedStoreOptions};
use super::window_keys::{KeySchema, Parts};
use super::window_view::WindowView;
use super::{
    CachingStore, ChangelogRecord, ChangelogWriter, Direction, Engine, Origin, StateStore,
    StoreView,
};
use crate::error::Result;
use crate::serdes::Serde;
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

/// How a [`WindowStore`] works.
#[derive(Debug, Clone, Default)]
pub struct WindowStoreOptions {
    /// Retention, order of rows, and the layers below.
    pub segments: SegmentedStoreOptions,
    /// How long a window is; only to say where it ends.
    pub window_size: Duration,
    /// Whether a second value of a key and window stands beside the first instead of replacing it.
    pub retain_duplicates: bool,
}

/// A store of values by key and window start.
///
/// Rows that are the retention or more older than the highest window start ever put are gone: reads do not find them and writes
/// are dropped and counted. Times in ranges are window starts, both ends included.
///
/// Source: `WindowStore`, `TimestampedWindowStore`. Deviations: reading takes `&mut self`, an iterator borrows the store and needs
/// no `close`. The time that decides what is too old outlives a restart, and numbers of duplicates go on where they were; in Java both
/// begin anew, so that old rows come back and duplicates may replace earlier ones.
pub struct WindowStore<K, V> {
    segments: SegmentedStore,
    codec: Codec<K, V>,
    window_size_ms: i64,
    retain_duplicates: bool,
    key: Vec<u8>,
    last_key: Vec<u8>,
    value: Vec<u8>,
}

impl<K: 'static, V: 'static> WindowStore<K, V> {
    /// Makes a store over an engine, with its own name as the topic that serdes are told.
    ///
    /// # Errors
    /// `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn open(
        name: Arc<str>,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        engine: Box<dyn Engine>,
        options: WindowStoreOptions,
    ) -> Result<Self> {
        let codec = Codec::new(name.clone(), key_serde, value_serde);
        let segments = SegmentedStore::open(name, KeySchema::Window, engine, options.segments)?;
        Ok(Self {
            segments,
            codec,
            window_size_ms: i64::try_from(options.window_size.as_millis()).unwrap_or(i64::MAX),
            retain_duplicates: options.retain_duplicates,
            key: Vec::new(),
            last_key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// The same store, telling its serdes that what they read and write stands in `topic` (the changelog).
    #[must_use]
    pub fn with_topic(mut self, topic: Arc<str>) -> Self {
        self.codec.set_topic(topic);
        self
    }

    /// Sets the value of `key` in the window that begins at `start`, at the timestamp of the record in hand. A value that serialises to
    /// null deletes; where duplicates are kept it does nothing.
    ///
    /// # Errors
    /// What the serdes return, `BadRecord` for a null key or a negative start.
    pub fn put(&mut self, key: &K, value: &V, start: Timestamp) -> Result<()> {
        self.write(key, value, start, None)
    }

    /// As [`put`](Self::put), with a timestamp of its own; for stores whose format is
    /// [`ValueFormat::Timestamped`](super::ValueFormat::Timestamped).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with_timestamp(
        &mut self,
        key: &K,
        value: &V,
        start: Timestamp,
        timestamp: Timestamp,
    ) -> Result<()> {
        self.write(key, value, start, Some(timestamp))
    }

    fn write(
        &mut self,
        key: &K,
        value: &V,
        start: Timestamp,
        timestamp: Option<Timestamp>,
    ) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        let has_value = self.codec.write_value(value, &mut self.value)?;
        if self.retain_duplicates && !has_value {
            return Ok(());
        }
        let rest = if self.retain_duplicates { self.segments.next_sequence() } else { 0 };
        let parts = Parts { key: &self.key, time: start.as_millis(), rest };
        self.segments.put(parts, has_value.then_some(&self.value), timestamp)
    }

    /// Deletes the value of `key` in the window that begins at `start`; where duplicates are kept it does nothing.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: &K, start: Timestamp) -> Result<()> {
        if self.retain_duplicates {
            return Ok(());
        }
        self.codec.write_key(key, &mut self.key)?;
        let parts = Parts { key: &self.key, time: start.as_millis(), rest: 0 };
        self.segments.put(parts, None, None)
    }

    /// The value of `key` in the window that begins at `start`. Where duplicates are kept use
    /// [`fetch_range`](Self::fetch_range): a single one of them has no place here.
    ///
    /// # Errors
    /// What the serdes return; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn fetch(&mut self, key: &K, start: Timestamp) -> Result<Option<V>> {
        Ok(self.fetch_with_timestamp(key, start)?.map(|(value, _)| value))
    }

    /// As [`fetch`](Self::fetch), with the value's timestamp.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_with_timestamp(
        &mut self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<(V, Timestamp)>> {
        self.codec.write_key(key, &mut self.key)?;
        let parts = Parts { key: &self.key, time: start.as_millis(), rest: 0 };
        match self.segments.get(parts)? {
            None => Ok(None),
            Some((value, timestamp)) => Ok(Some((self.codec.read_value(value)?, timestamp))),
        }
    }

    /// The values of `key` in windows that begin between `from` and `to`, oldest first; duplicates in the order they were put.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), at once or from the iterator.
    pub fn fetch_range(
        &mut self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowIter<'_, K, V>> {
        self.fetch_of(key, from, to, Direction::Forward)
    }

    /// As [`fetch_range`](Self::fetch_range), newest first.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_fetch_range(
        &mut self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowIter<'_, K, V>> {
        self.fetch_of(key, from, to, Direction::Backward)
    }

    fn fetch_of(
        &mut self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<WindowIter<'_, K, V>> {
        self.codec.write_key(key, &mut self.key)?;
        let keys = Keys::One(&self.key);
        let query = Query { keys, from: from.as_millis(), to: to.as_millis(), direction };
        Ok(WindowIter { scan: self.segments.scan(query), codec: &self.codec })
    }

    /// The values of the keys from `first` to `last` (`None`: no bound; order of key bytes) in windows that begin between `from` and `to`,
    /// in the order of the store's rows.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn fetch_keys(
        &mut self,
        first: Option<&K>,
        last: Option<&K>,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<WindowedIter<'_, K, V>> {
        if let Some(first) = first {
            self.codec.write_key(first, &mut self.key)?;
        }
        if let Some(last) = last {
            self.codec.write_key(last, &mut self.last_key)?;
        }
        let keys = Keys::Range(
            first.is_some().then_some(&self.key[..]),
            last.is_some().then_some(&self.last_key[..]),
        );
        let query = Query { keys, from: from.as_millis(), to: to.as_millis(), direction };
        let window_size_ms = self.window_size_ms;
        Ok(WindowedIter { scan: self.segments.scan(query), codec: &self.codec, window_size_ms })
    }

    /// The values of all keys in windows that begin between `from` and `to`, in the order of the store's rows.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn fetch_all(&mut self, from: Timestamp, to: Timestamp) -> Result<WindowedIter<'_, K, V>> {
        self.fetch_keys(None, None, from, to, Direction::Forward)
    }

    /// As [`fetch_all`](Self::fetch_all), the other way round.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_fetch_all(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowedIter<'_, K, V>> {
        self.fetch_keys(None, None, from, to, Direction::Backward)
    }

    /// Everything, in the order of the store's rows.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn all(&mut self) -> Result<WindowedIter<'_, K, V>> {
        self.fetch_all(Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// Everything, the other way round.
    ///
    /// # Errors
    /// As [`fetch_range`](Self::fetch_range).
    pub fn backward_all(&mut self) -> Result<WindowedIter<'_, K, V>> {
        self.backward_fetch_all(Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// The highest window start that was put; `None` before the first.
    pub fn observed_stream_time(&self) -> Option<Timestamp> {
        self.segments.observed().map(Timestamp::from_millis)
    }

    /// About how many entries were committed.
    pub fn approximate_entries(&self) -> u64 {
        self.segments.store().approximate_entries()
    }

    /// Sets or deletes the value of `key` in the window that begins at `start`, and leaves the change to the record cache: it is forwarded
    /// later, as `origin`'s. Source: `CachingWindowStore.put`.
    pub(crate) fn put_cached(
        &mut self,
        key: &K,
        value: Option<&V>,
        start: Timestamp,
        timestamp: Timestamp,
        origin: Origin,
    ) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        let has_value = self.codec.write_change(value, &mut self.value)?;
        let parts = Parts { key: &self.key, time: start.as_millis(), rest: 0 };
        let forwarded_at = if has_value { timestamp } else { origin.timestamp };
        let value = has_value.then_some(&self.value[..]);
        self.segments.store_mut().set_record_timestamp(timestamp); // a deletion's in the changelog
        self.segments.put_cached(parts, value, Some(timestamp), (forwarded_at, origin))
    }

    fn committed_view(&self) -> StoreView {
        WindowView::of(self.segments.view(), self.codec.clone(), self.window_size_ms)
    }

    /// As [`fetch_range`](Self::fetch_range), for the operator that the store belongs to: with what is kept for it alone.
    pub(crate) fn fetch_kept(
        &mut self,
        key: &K,
        (from, to): (Timestamp, Timestamp),
        direction: Direction,
    ) -> Result<WindowIter<'_, K, V>> {
        self.codec.write_key(key, &mut self.key)?;
        let keys = Keys::One(&self.key);
        let query = Query { keys, from: from.as_millis(), to: to.as_millis(), direction };
        Ok(WindowIter { scan: self.segments.scan_kept(query), codec: &self.codec })
    }

    /// As [`fetch_all`](Self::fetch_all), with the rows too that are no longer visible but were when the record in hand came.
    pub(crate) fn fetch_closed(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> WindowedIter<'_, K, V> {
        let keys = Keys::Range(None, None);
        let (from, to) = (from.as_millis(), to.as_millis());
        let query = Query { keys, from, to, direction: Direction::Forward };
        let window_size_ms = self.window_size_ms;
        WindowedIter { scan: self.segments.scan_closed(query), codec: &self.codec, window_size_ms }
    }

    /// The newest timestamp among the changelog's records, where the store was restored since it was opened.
    pub(crate) fn newest_restored(&self) -> Option<Timestamp> {
        self.segments.newest_restored()
    }
}

impl<K: 'static, V: 'static> CachingStore for WindowStore<K, V> {
    type Key = Windowed<K>;
    type Value = V;

    /// As long as the store was told that windows are, whatever the operator's is. Source: `WindowKeySchema.fromStoreKey`.
    fn read_key(&self, key: &Bytes) -> Result<Windowed<K>> {
        let parts = KeySchema::Window.parse(key).expect("put_cached wrote the key");
        let inner = self.codec.read_key(&key.slice(..parts.key.len()))?;
        Ok(Windowed::new(inner, Window::sized(parts.time, self.window_size_ms)))
    }

    fn read_value(&self, value: &Bytes) -> Result<V> {
        self.codec.read_value(value)
    }
}

/// Window starts and values of one key. Borrows the store; ends after the first error of the engine.
pub struct WindowIter<'a, K, V> {
    scan: SegmentScan<'a>,
    codec: &'a Codec<K, V>,
}

impl<'a, K: 'static, V: 'static> WindowIter<'a, K, V> {
    /// The same entries with their values' timestamps.
    pub fn with_timestamps(
        self,
    ) -> impl Iterator<Item = Result<(Timestamp, V, Timestamp)>> + use<'a, K, V> {
        let Self { scan, codec } = self;
        scan.map(move |found| {
            let found = found?;
            let start = Timestamp::from_millis(found.time);
            Ok((start, codec.read_value(&found.value)?, found.timestamp))
        })
    }
}

impl<K, V> Iterator for WindowIter<'_, K, V> {
    type Item = Result<(Timestamp, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.scan.next()?.and_then(|found| {
            Ok((Timestamp::from_millis(found.time), self.codec.read_value(&found.value)?))
        }))
    }
}

/// Windowed keys and values. Borrows the store; ends after the first error of the engine.
pub struct WindowedIter<'a, K, V> {
    scan: SegmentScan<'a>,
    codec: &'a Codec<K, V>,
    window_size_ms: i64,
}

impl<'a, K: 'static, V: 'static> WindowedIter<'a, K, V> {
    /// The same entries with their values' timestamps.
    pub fn with_timestamps(
        self,
    ) -> impl Iterator<Item = Result<(Windowed<K>, V, Timestamp)>> + use<'a, K, V> {
        let Self { scan, codec, window_size_ms } = self;
        scan.map(move |found| {
            let found = found?;
            let window = Window::sized(found.time, window_size_ms);
            let key = Windowed::new(codec.read_key(&found.key)?, window);
            Ok((key, codec.read_value(&found.value)?, found.timestamp))
        })
    }
}

impl<K, V> Iterator for WindowedIter<'_, K, V> {
    type Item = Result<(Windowed<K>, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.scan.next()?.and_then(|found| {
            let window = Window::sized(found.time, self.window_size_ms);
            let key = Windowed::new(self.codec.read_key(&found.key)?, window);
            Ok((key, self.codec.read_value(&found.value)?))
        }))
    }
}

super::segmented_state_store!(WindowStore);
