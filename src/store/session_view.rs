//! Interactive queries of session stores: the committed sessions of those partitions that this process has.
//!
//! Called by any thread but the task's.

use std::sync::Arc;

use super::Direction;
use super::codec::Codec;
use super::key_value_view::{QueryableStoreType, QueryableStoreTypes};
use super::segment_view::{SegmentPages, SegmentView, ViewQuery};
use super::view::StoreView;
use super::window_keys::Parts;
use super::window_view::keys_between;
use crate::error::Result;
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

impl QueryableStoreTypes {
    /// Session stores.
    pub fn session_store<K: 'static, V: 'static>() -> SessionStoreType<K, V> {
        SessionStoreType(std::marker::PhantomData)
    }
}

/// Session stores of these types; see [`QueryableStoreTypes::session_store`].
#[derive(Debug)]
pub struct SessionStoreType<K, V>(std::marker::PhantomData<fn() -> (K, V)>);

impl<K: 'static, V: 'static> QueryableStoreType for SessionStoreType<K, V> {
    type View = SessionView<K, V>;
    type Store = ReadOnlySessionStore<K, V>;

    fn create(&self, views: Vec<(i32, Arc<Self::View>)>) -> Self::Store {
        ReadOnlySessionStore { views }
    }
}

/// The committed sessions of one task's session store.
pub struct SessionView<K, V> {
    segments: Arc<SegmentView>,
    codec: Codec<K, V>,
}

impl<K: 'static, V: 'static> SessionView<K, V> {
    pub(super) fn of(segments: SegmentView, codec: Codec<K, V>) -> StoreView {
        let engine = segments.engine.clone();
        let view = Self { segments: Arc::new(segments), codec };
        StoreView { typed: Arc::new(view), type_name: std::any::type_name::<Self>(), engine }
    }

    fn key_bytes(&self, key: &K) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.codec.write_key(key, &mut bytes)?;
        Ok(bytes)
    }
}

/// The committed sessions of a session store, over the partitions that this process has and the query asked for.
///
/// What is seen, and when a call fails, is as of [`ReadOnlyKeyValueStore`](super::ReadOnlyKeyValueStore). Sessions that ended longer ago than the
/// retention are gone. Order is that of the store's rows within a partition, and partition after partition.
///
/// Source: `org.apache.kafka.streams.state.ReadOnlySessionStore`, over `CompositeReadOnlySessionStore`. Deviation: as of the key-value store.
pub struct ReadOnlySessionStore<K, V> {
    views: Vec<(i32, Arc<SessionView<K, V>>)>,
}

impl<K: 'static, V: 'static> ReadOnlySessionStore<K, V> {
    /// The partitions it reads.
    pub fn partitions(&self) -> Vec<i32> {
        self.views.iter().map(|(partition, _)| *partition).collect()
    }

    /// The value of the session with exactly these bounds.
    ///
    /// # Errors
    /// What the serdes return; `Retriable` once a partition has left, `TaskCorrupted` or `Fatal` for an unreadable disk.
    pub fn fetch_session(&self, key: &K, session: Window) -> Result<Option<V>> {
        for (_, view) in &self.views {
            let key = view.key_bytes(key)?;
            let (time, rest) = (session.end.as_millis(), session.start.as_millis());
            if let Some((value, _)) = view.segments.get(Parts { key: &key, time, rest })? {
                return view.codec.read_value(&value).map(Some);
            }
        }
        Ok(None)
    }

    /// The sessions of `key` that end at `earliest_end` or later and begin at `latest_start` or earlier, by their ends.
    ///
    /// # Errors
    /// As [`fetch_session`](Self::fetch_session), at once or from the iterator.
    pub fn find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionViewIter<K, V>> {
        let key = Some(key);
        self.find_sessions_of_keys(key, key, earliest_end, latest_start, Direction::Forward)
    }

    /// As [`find_sessions`](Self::find_sessions), newest first.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionViewIter<K, V>> {
        let key = Some(key);
        self.find_sessions_of_keys(key, key, earliest_end, latest_start, Direction::Backward)
    }

    /// As [`find_sessions`](Self::find_sessions), for the keys from `first` to `last` (`None`: no bound; order of key bytes).
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn find_sessions_of_keys(
        &self,
        first: Option<&K>,
        last: Option<&K>,
        earliest_end: Timestamp,
        latest_start: Timestamp,
        direction: Direction,
    ) -> Result<SessionViewIter<K, V>> {
        let mut scans = Vec::with_capacity(self.views.len());
        for (_, view) in &self.views {
            let first = first.map(|key| view.key_bytes(key)).transpose()?;
            let last = last.map(|key| view.key_bytes(key)).transpose()?;
            let keys = keys_between(first, last);
            let from = earliest_end.as_millis();
            let query = ViewQuery { keys, from, to: i64::MAX, direction };
            scans.push((view.segments.scan(query)?, view.clone()));
        }
        scans.reverse();
        Ok(SessionViewIter { scans, latest_start: latest_start.as_millis() })
    }

    /// All sessions of `key`, by their ends.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn fetch(&self, key: &K) -> Result<SessionViewIter<K, V>> {
        self.find_sessions(key, Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// All sessions of `key`, newest first.
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_fetch(&self, key: &K) -> Result<SessionViewIter<K, V>> {
        self.backward_find_sessions(key, Timestamp::from_millis(0), Timestamp::MAX)
    }

    /// All sessions of the keys from `first` to `last` (`None`: no bound; order of key bytes).
    ///
    /// # Errors
    /// As [`find_sessions`](Self::find_sessions).
    pub fn fetch_keys(
        &self,
        first: Option<&K>,
        last: Option<&K>,
        direction: Direction,
    ) -> Result<SessionViewIter<K, V>> {
        let zero = Timestamp::from_millis(0);
        self.find_sessions_of_keys(first, last, zero, Timestamp::MAX, direction)
    }
}

/// Sessions and values of a [`ReadOnlySessionStore`], read page by page. Ends after the first error of an engine, but goes on after an
/// entry that cannot be deserialised.
pub struct SessionViewIter<K, V> {
    /// Those still to be read, the one in hand last.
    scans: Vec<(SegmentPages, Arc<SessionView<K, V>>)>,
    latest_start: i64,
}

impl<K: 'static, V: 'static> Iterator for SessionViewIter<K, V> {
    type Item = Result<(Windowed<K>, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (scan, view) = self.scans.last_mut()?;
            let found = match scan.next() {
                Some(Ok(found)) if found.rest > self.latest_start => continue,
                Some(Ok(found)) => found,
                Some(Err(error)) => {
                    self.scans.clear();
                    return Some(Err(error));
                }
                None => {
                    self.scans.pop();
                    continue;
                }
            };
            let window = Window::between(found.rest, found.time);
            let key = view.codec.read_key(&found.key).map(|key| Windowed::new(key, window));
            return Some(key.and_then(|key| Ok((key, view.codec.read_value(&found.value)?))));
        }
    }
}
