//! The typed session store: values by key and session.
//!
//! Called by the thread of its task. Hot path: `find_sessions`, `put`, `remove`.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::Codec;
use super::segment_scan::{Keys, Query, SegmentScan};
use super::segments::{SegmentedStore, SegmentedStoreOptions};
use super::session_view::SessionView;
use super::window_keys::{KeySchema, Parts};
use super::{
    CachingStore, ChangelogRecord, ChangelogWriter, Direction, Engine, Origin, StateStore,
    StoreView,
};
use crate::error::Result;
use crate::serdes::Serde;
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

/// A store of values by key and session, whose start and end are both part of it.
///
/// Sessions whose end is the retention or more older than the highest end ever put are gone: reads do not find them and writes are
/// dropped and counted.
///
/// Source: `SessionStore`. Deviations: as of [`WindowStore`](super::WindowStore).
pub struct SessionStore<K, V> {
    segments: SegmentedStore,
    codec: Codec<K, V>,
    key: Vec<u8>,
    last_key: Vec<u8>,
    value: Vec<u8>,
}

impl<K: 'static, V: 'static> SessionStore<K, V> {
    /// Makes a store over an engine, with its own name as the topic that serdes are told.
    ///
    /// # Errors
    /// `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn open(
        name: Arc<str>,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        engine: Box<dyn Engine>,
        options: SegmentedStoreOptions,
    ) -> Result<Self> {
        let codec = Codec::new(name.clone(), key_serde, value_serde);
        let segments = SegmentedStore::open(name, KeySchema::Session, engine, options)?;
        Ok(Self { segments, codec, key: Vec::new(), last_key: Vec::new(), value: Vec::new() })
    }

    /// The same store, telling its serdes that what they read and write stands in `topic` (the changelog).
    #[must_use]
    pub fn with_topic(mut self, topic: Arc<str>) -> Self {
        self.codec.set_topic(topic);
        self
    }

    /// Sets the value of a session. A value that serialises to null deletes.
    ///
    /// # Errors
    /// What the serdes return, `BadRecord` for a null key or a negative end.
    pub fn put(&mut self, key: &K, session: Window, value: &V) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        let has_value = self.codec.write_value(value, &mut self.value)?;
        let parts = parts(&self.key, session);
        self.segments.put(parts, has_value.then_some(&self.value), None)
    }

    /// Deletes a session.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn remove(&mut self, key: &K, session: Window) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        self.segments.put(parts(&self.key, session), None, None)
    }

    /// The value of the session with exactly these bounds.
    ///
    /// # Errors
    /// What the serdes return; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn fetch_session(&mut self, key: &K, session: Window) -> Result<Option<V>> {
        self.codec.write_key(key, &mut self.key)?;
        match self.segments.get(parts(&self.key, session))? {
            None => Ok(None),
            Some((value, _)) => self.codec.read_value(value).map(Some),
        }
    }

    /// The sessions of `key` that end at `earliest_end` or later and begin at `latest_start` or earlier, by their ends.
    ///
    /// # Errors
    /// As [`fetch_session`](Self::fetch_session), at once or from the iterator.
    pub fn find_sessions(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionIter<'_, K, V>> {
        self.find_of(key, earliest_end, latest_start, Direction::Forward)
    }

    /// As [`find_sessions`](Self::find_sessions), newest first.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_find_sessions(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionIter<'_, K, V>> {
        self.find_of(key, earliest_end, latest_start, Direction::Backward)
    }

    fn find_of(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
        direction: Direction,
    ) -> Result<SessionIter<'_, K, V>> {
        self.codec.write_key(key, &mut self.key)?;
        let query = after(Keys::One(&self.key), earliest_end, direction);
        let latest_start = latest_start.as_millis();
        Ok(SessionIter { scan: self.segments.scan(query), codec: &self.codec, latest_start })
    }

    /// As [`find_sessions`](Self::find_sessions), for the keys from `first` to `last` (`None`: no bound; order of key bytes), in the order of
    /// the store's rows.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn find_sessions_of_keys(
        &mut self,
        first: Option<&K>,
        last: Option<&K>,
        earliest_end: Timestamp,
        latest_start: Timestamp,
        direction: Direction,
    ) -> Result<SessionIter<'_, K, V>> {
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
        let query = after(keys, earliest_end, direction);
        let latest_start = latest_start.as_millis();
        Ok(SessionIter { scan: self.segments.scan(query), codec: &self.codec, latest_start })
    }

    /// All sessions of `key`.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn fetch(&mut self, key: &K) -> Result<SessionIter<'_, K, V>> {
        self.find_sessions(key, Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// Everything, in the order of the store's rows.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn all(&mut self) -> Result<SessionIter<'_, K, V>> {
        let zero = Timestamp::from_millis(0);
        self.find_sessions_of_keys(None, None, zero, Timestamp::MAX, Direction::Forward)
    }

    /// The highest session end that was put; `None` before the first.
    pub fn observed_stream_time(&self) -> Option<Timestamp> {
        self.segments.observed().map(Timestamp::from_millis)
    }

    /// About how many entries were committed.
    pub fn approximate_entries(&self) -> u64 {
        self.segments.store().approximate_entries()
    }

    /// Sets or removes a session, and leaves the change to the record cache: it is forwarded later, as `origin`'s.
    /// Source: `CachingSessionStore.put`.
    pub(crate) fn put_cached(
        &mut self,
        key: &K,
        session: Window,
        value: Option<&V>,
        origin: Origin,
    ) -> Result<()> {
        self.codec.write_key(key, &mut self.key)?;
        let has_value = self.codec.write_change(value, &mut self.value)?;
        let value = has_value.then_some(&self.value[..]);
        self.segments.put_cached(parts(&self.key, session), value, None, (session.end, origin))
    }

    fn committed_view(&self) -> StoreView {
        SessionView::of(self.segments.view(), self.codec.clone())
    }

    /// As [`find_sessions`](Self::find_sessions), for the operator that the store belongs to: with what is kept for it alone.
    pub(crate) fn find_kept(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionIter<'_, K, V>> {
        self.codec.write_key(key, &mut self.key)?;
        let query = after(Keys::One(&self.key), earliest_end, Direction::Forward);
        let latest_start = latest_start.as_millis();
        Ok(SessionIter { scan: self.segments.scan_kept(query), codec: &self.codec, latest_start })
    }

    /// The sessions that end between two times, with those too that are no longer visible but were when the record in hand came; in order of
    /// time in a store whose rows are.
    pub(crate) fn find_closed(
        &mut self,
        earliest_end: Timestamp,
        latest_end: Timestamp,
    ) -> SessionIter<'_, K, V> {
        let keys = Keys::Range(None, None);
        let (from, to) = (earliest_end.as_millis(), latest_end.as_millis());
        let query = Query { keys, from, to, direction: Direction::Forward };
        let scan = self.segments.scan_closed(query);
        SessionIter { scan, codec: &self.codec, latest_start: i64::MAX }
    }

    /// The newest timestamp among the changelog's records, where the store was restored since it was opened.
    pub(crate) fn newest_restored(&self) -> Option<Timestamp> {
        self.segments.newest_restored()
    }
}

fn parts(key: &[u8], session: Window) -> Parts<'_> {
    Parts { key, time: session.end.as_millis(), rest: session.start.as_millis() }
}

fn after(keys: Keys<'_>, earliest_end: Timestamp, direction: Direction) -> Query<'_> {
    Query { keys, from: earliest_end.as_millis(), to: i64::MAX, direction }
}

impl<K: 'static, V: 'static> CachingStore for SessionStore<K, V> {
    type Key = Windowed<K>;
    type Value = V;

    fn read_key(&self, key: &Bytes) -> Result<Windowed<K>> {
        let parts = KeySchema::Session.parse(key).expect("put_cached wrote the key");
        let inner = self.codec.read_key(&key.slice(..parts.key.len()))?;
        Ok(Windowed::new(inner, Window::between(parts.rest, parts.time)))
    }

    fn read_value(&self, value: &Bytes) -> Result<V> {
        self.codec.read_value(value)
    }
}

/// Sessions and their values. Borrows the store; ends after the first error of the engine.
pub struct SessionIter<'a, K, V> {
    scan: SegmentScan<'a>,
    codec: &'a Codec<K, V>,
    latest_start: i64,
}

impl<K, V> Iterator for SessionIter<'_, K, V> {
    type Item = Result<(Windowed<K>, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.scan.next()? {
                Ok(found) if found.rest > self.latest_start => continue,
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let window = Window::between(found.rest, found.time);
            let key = self.codec.read_key(&found.key).map(|key| Windowed::new(key, window));
            return Some(key.and_then(|key| Ok((key, self.codec.read_value(&found.value)?))));
        }
    }
}

super::segmented_state_store!(SessionStore);
