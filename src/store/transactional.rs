//! The transactional layer over an engine: uncommitted writes, the undo of one record, and the row cache.
//!
//! The life of a write: `put` changes a row in memory and moves its earlier content to the journal → `accept_record` drops
//! the journal, or `undo_record` plays it back → `write_changelog` hands out each dirty row once → after Kafka's commit,
//! `commit` writes them to the engine in one sorted batch with the changelog's position. The rows stay, clean, as a cache
//! (also of keys that do not exist), so hot keys never reach the engine. `abort` forgets the dirty rows.
//!
//! Owned by the thread of its task. Hot path: `get`, `put`, `accept_record`. A hit of `get` allocates nothing; `put`
//! allocates the value's buffer only (reusing the old one would pay only for values of unchanged length).
//! Source: KIP-892, which Kafka Streams 4.3 does not have yet.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::restored::{INGEST_BYTES_MIN, bytes_of, last_of_each_key};
use super::rows::{Before, RowId, RowState, Rows, key_prefix};
use super::scan::{DirtyRows, Scan};
use super::write_batch::write_batch;
use super::{
    ChangelogRecord, ChangelogWriter, Direction, Engine, EngineView, RecordCache, StateStore,
    ValueFormat, is_empty_range,
};
use crate::error::{Error, Result};
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;

/// The batch buffer is cut back to this after a commit.
const BATCH_BYTES_KEPT: usize = 1 << 20;

/// How a [`TransactionalStore`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionalStoreOptions {
    /// Limit in bytes of the rows in memory. Uncommitted rows count, but are never evicted: the task bounds them by
    /// committing (see [`StateStore::uncommitted_bytes`]).
    pub cache_bytes_max: usize,
    /// How values lie in the engine.
    pub value_format: ValueFormat,
    /// Whether changes go to a changelog; without one, [`StateStore::write_changelog`] writes nothing.
    pub is_logged: bool,
}

impl Default for TransactionalStoreOptions {
    fn default() -> Self {
        Self { cache_bytes_max: 4 << 20, value_format: ValueFormat::Plain, is_logged: true }
    }
}

/// A store of bytes with uncommitted writes, an undo journal and a cache over an [`Engine`].
pub struct TransactionalStore {
    name: Arc<str>,
    engine: Box<dyn Engine>,
    pub(super) options: TransactionalStoreOptions,
    rows: Rows,
    /// Every dirty row once. Rows that the record in hand made dirty are at the end, in the journal's order.
    dirty: Vec<DirtyRow>,
    /// Whether `dirty` is in key order.
    is_sorted: bool,
    /// Dirty rows by key, kept up to date from the first scan on.
    dirty_by_key: Option<BTreeMap<Bytes, RowId>>,
    /// Whether there was a scan since the last commit; if not, the index is given up.
    is_scanned: bool,
    journal: Vec<JournalEntry>,
    /// Kept, undone and dropped with the rows.
    record_cache: Option<RecordCache>,
    pub(super) record_timestamp: Timestamp,
    /// Values of a batch with their timestamps in front.
    batch: Vec<u8>,
    figures: StoreFigures,
}

struct DirtyRow {
    /// The first eight bytes of the key, so that sorting rarely has to look at the row.
    key_prefix: u64,
    id: RowId,
}

struct JournalEntry {
    id: RowId,
    /// `None`: the row was not in memory.
    before: Option<Before>,
}

impl TransactionalStore {
    /// Makes a store over an engine.
    pub fn open(
        name: Arc<str>,
        engine: Box<dyn Engine>,
        options: TransactionalStoreOptions,
    ) -> Self {
        Self {
            name,
            engine,
            rows: Rows::new(options.cache_bytes_max),
            options,
            dirty: Vec::new(),
            is_sorted: true,
            dirty_by_key: None,
            is_scanned: false,
            journal: Vec::new(),
            record_cache: None,
            record_timestamp: Timestamp::default(),
            batch: Vec::new(),
            figures: StoreFigures::default(),
        }
    }

    /// The value of `key`, uncommitted writes included.
    ///
    /// # Errors
    /// `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&Bytes>> {
        let id = self.load(key)?;
        Ok(self.rows.row(id).value.as_ref())
    }

    /// The value of `key` and its timestamp; only meaningful in a [`ValueFormat::Timestamped`] store.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with_timestamp(&mut self, key: &[u8]) -> Result<Option<(&Bytes, Timestamp)>> {
        let id = self.load(key)?;
        let row = self.rows.row(id);
        Ok(row.value.as_ref().map(|value| (value, row.timestamp)))
    }

    /// Sets the value of `key`, at the record's timestamp. Durable after the commit that follows.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, Some(value), self.record_timestamp);
    }

    /// Sets the value of `key` with a timestamp of its own, which is also the changelog record's.
    pub fn put_with_timestamp(&mut self, key: &[u8], value: &[u8], timestamp: Timestamp) {
        self.change(key, Some(value), timestamp);
    }

    /// Deletes `key`. A key known not to exist costs nothing; otherwise the changelog gets a tombstone.
    pub fn delete(&mut self, key: &[u8]) {
        if self.rows.find(self.rows.hash(key), key).is_some_and(|id| self.rows.row(id).is_absent())
        {
            return;
        }
        self.change(key, None, self.record_timestamp);
    }

    /// As [`delete`](Self::delete), with a tombstone on the changelog even where it is known that there is nothing to delete: its timestamp
    /// counts.
    pub(super) fn delete_always(&mut self, key: &[u8]) {
        self.change(key, None, self.record_timestamp);
    }

    /// The entries between two bounds, in order of key bytes, uncommitted writes included. Leaves the cache as it is.
    ///
    /// # Errors
    /// As [`get`](Self::get), at once or from the iterator.
    pub fn scan(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Scan<'_>> {
        self.prepare_scan();
        self.scan_prepared(from, to, direction)
    }

    /// Makes [`scan_prepared`](Self::scan_prepared) possible until the next commit or abort.
    pub(super) fn prepare_scan(&mut self) {
        self.is_scanned = true;
        self.figures.scans += 1;
        let (rows, dirty) = (&self.rows, &self.dirty);
        self.dirty_by_key.get_or_insert_with(|| {
            dirty.iter().map(|dirty| (rows.row(dirty.id).key.clone(), dirty.id)).collect()
        });
    }

    /// As [`scan`](Self::scan), for one scan after another while the store stays borrowed.
    pub(super) fn scan_prepared(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Scan<'_>> {
        let dirty_by_key = self.dirty_by_key.as_ref().expect("prepare_scan came first");
        let range = (!is_empty_range(from, to)).then(|| dirty_by_key.range::<[u8], _>((from, to)));
        let engine = self.engine.range(from, to, direction)?;
        let dirty = DirtyRows { range, direction };
        Ok(Scan::new(engine, dirty, &self.rows, self.options.value_format))
    }

    /// As [`get_with_timestamp`](Self::get_with_timestamp), leaving the cache as it is.
    pub(super) fn peek(&self, key: &[u8]) -> Result<Option<(Bytes, Timestamp)>> {
        if let Some(id) = self.rows.peek(self.rows.hash(key), key) {
            let row = self.rows.row(id);
            return Ok(row.value.clone().map(|value| (value, row.timestamp)));
        }
        let format = self.options.value_format;
        self.engine.get(key)?.map(|value| format.decode(value)).transpose()
    }

    /// Deletes committed entries from `from` on and before `to`, which nobody will ask for again. Not part of a commit: a crash
    /// before it leaves entries, not a wrong state.
    ///
    /// # Errors
    /// `Fatal` where there are uncommitted writes, and what the engine returns.
    pub(super) fn expire(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if !self.dirty.is_empty() {
            return Err(Error::fatal(format!(
                "expiring entries of store \"{}\": found {} uncommitted ones, wanted none",
                self.name,
                self.dirty.len()
            )));
        }
        self.rows.remove_between(from, to);
        self.engine.delete_range(from, to)
    }

    /// Whether there are writes that were neither accepted nor undone.
    pub(super) fn has_record_in_hand(&self) -> bool {
        !self.journal.is_empty()
    }

    /// About how many entries were committed.
    pub fn approximate_entries(&self) -> u64 {
        self.engine.approximate_entries()
    }

    /// The committed state for other threads; values lie in it as [`value_format`](Self::value_format) says.
    pub fn engine_view(&self) -> Arc<dyn EngineView> {
        self.engine.view()
    }

    /// How values lie in the engine.
    pub fn value_format(&self) -> ValueFormat {
        self.options.value_format
    }

    /// Bytes of all rows in memory, clean and dirty.
    pub fn cached_bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// The row of `key`, read from the engine where it is not in memory.
    #[inline]
    fn load(&mut self, key: &[u8]) -> Result<RowId> {
        let hash = self.rows.hash(key);
        self.figures.gets += 1;
        if let Some(id) = self.rows.find(hash, key) {
            return Ok(id);
        }
        self.figures.misses += 1;
        let (value, timestamp) = match self.engine.get(key)? {
            None => (None, Timestamp::default()),
            Some(value) => {
                let (value, timestamp) = self.options.value_format.decode(value)?;
                (Some(value), timestamp)
            }
        };
        let key = Bytes::copy_from_slice(key);
        Ok(self.rows.insert(hash, key, value, timestamp, RowState::Clean))
    }

    fn change(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) {
        self.figures.puts += u64::from(value.is_some());
        self.figures.deletes += u64::from(value.is_none());
        let hash = self.rows.hash(key);
        let Some(id) = self.rows.find(hash, key) else {
            let (row_key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            let id = self.rows.insert(hash, row_key, value, timestamp, RowState::Dirty);
            self.rows.row_mut(id).is_journalled = true;
            self.journal.push(JournalEntry { id, before: None });
            self.add_dirty(id);
            return;
        };
        let value = value.map(Bytes::copy_from_slice);
        let before = self.rows.replace(id, value, timestamp, RowState::Dirty);
        if before.state == RowState::Clean {
            self.add_dirty(id);
        }
        if !std::mem::replace(&mut self.rows.row_mut(id).is_journalled, true) {
            self.journal.push(JournalEntry { id, before: Some(before) });
        }
    }

    fn add_dirty(&mut self, id: RowId) {
        let key = &self.rows.row(id).key;
        self.dirty.push(DirtyRow { key_prefix: key_prefix(key), id });
        self.is_sorted = false;
        if let Some(index) = &mut self.dirty_by_key {
            index.insert(key.clone(), id);
        }
    }

    /// Undoes the `add_dirty` that came last.
    fn pop_dirty(&mut self, id: RowId) {
        let popped = self.dirty.pop();
        debug_assert!(
            popped.is_some_and(|dirty| dirty.id == id),
            "the journal and the list differ"
        );
        if let Some(index) = &mut self.dirty_by_key {
            index.remove(&self.rows.row(id).key);
        }
    }

    fn sort_dirty(&mut self) {
        if !self.is_sorted {
            let rows = &self.rows;
            self.dirty.sort_unstable_by(|a, b| {
                let by_prefix = a.key_prefix.cmp(&b.key_prefix);
                by_prefix.then_with(|| rows.row(a.id).key.cmp(&rows.row(b.id).key))
            });
            self.is_sorted = true;
        }
    }

    /// After every dirty row was made clean or removed.
    fn clear_dirty(&mut self) {
        self.dirty.clear();
        self.is_sorted = true;
        // A store that is not scanned any more shall not pay for the index.
        self.dirty_by_key = std::mem::take(&mut self.is_scanned).then(BTreeMap::new);
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_KEPT);
    }

    pub(super) fn refuse_open_record(&self, attempted: &str) -> Result<()> {
        if self.journal.is_empty() {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "{attempted} store \"{}\": found {} writes of a record in hand, wanted it accepted or undone first",
            self.name,
            self.journal.len()
        )))
    }

    /// A result that is committed without being forwarded would be lost.
    fn refuse_changes(&self) -> Result<()> {
        match self.record_cache.as_ref().map_or(0, RecordCache::changes) {
            0 => Ok(()),
            changes => Err(Error::fatal(format!(
                "committing store \"{}\": found {changes} changes in its record cache, wanted them forwarded first",
                self.name
            ))),
        }
    }
}

impl StateStore for TransactionalStore {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn set_record_timestamp(&mut self, timestamp: Timestamp) {
        self.record_timestamp = timestamp;
    }

    fn accept_record(&mut self) {
        for entry in self.journal.drain(..) {
            self.rows.row_mut(entry.id).is_journalled = false;
        }
        if let Some(cache) = &mut self.record_cache {
            cache.accept_record();
        }
    }

    fn undo_record(&mut self) {
        while let Some(JournalEntry { id, before }) = self.journal.pop() {
            let Some(before) = before else {
                self.pop_dirty(id);
                self.rows.remove(id);
                continue;
            };
            if before.state == RowState::Clean {
                self.pop_dirty(id);
            }
            self.rows.replace(id, before.value, before.timestamp, before.state);
            self.rows.row_mut(id).is_journalled = false;
        }
        if let Some(cache) = &mut self.record_cache {
            cache.undo_record();
        }
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        if !self.options.is_logged {
            return Ok(0);
        }
        self.refuse_open_record("writing the changelog of")?;
        self.sort_dirty();
        for dirty in &self.dirty {
            let row = self.rows.row(dirty.id);
            changelog.write(&row.key, row.value.as_deref(), row.timestamp)?;
        }
        Ok(self.dirty.len())
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        self.refuse_open_record("committing")?;
        self.refuse_changes()?;
        if self.dirty.is_empty() && (position.is_none() || position == self.engine.position()) {
            return Ok(());
        }
        self.sort_dirty();
        let (rows, format) = (&self.rows, self.options.value_format);
        let rows_to_write = self.dirty.iter().map(|dirty| rows.row(dirty.id));
        let changes =
            rows_to_write.map(|row| (row.key.as_ref(), row.value.as_deref(), row.timestamp));
        let engine = &mut self.engine;
        write_batch(format, &mut self.batch, changes, |changes| engine.write(changes, position))
            .map_err(|e| e.context(format_args!("committing store \"{}\"", self.name)))?;
        for dirty in &self.dirty {
            self.rows.mark_clean(dirty.id);
        }
        self.clear_dirty();
        self.rows.evict_all();
        Ok(())
    }

    fn abort(&mut self) {
        self.accept_record();
        for dirty in &self.dirty {
            self.rows.remove(dirty.id);
        }
        self.clear_dirty();
        if let Some(cache) = &mut self.record_cache {
            cache.clear();
        }
    }

    fn uncommitted_bytes(&self) -> usize {
        self.rows.dirty_bytes()
    }

    fn figures(&self) -> StoreFigures {
        StoreFigures { cached_bytes: self.cached_bytes() as u64, ..self.figures }
    }

    fn position(&self) -> Option<i64> {
        self.engine.position()
    }

    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        if !self.dirty.is_empty() {
            return Err(Error::fatal(format!(
                "restoring store \"{}\": found {} uncommitted entries, wanted none (abort first)",
                self.name,
                self.dirty.len()
            )));
        }
        let last = last_of_each_key(records);
        let changes =
            last.iter().map(|record| (&record.key[..], record.value.as_deref(), record.timestamp));
        let (format, engine) = (self.options.value_format, &mut self.engine);
        let is_large = bytes_of(&last) >= INGEST_BYTES_MIN;
        write_batch(format, &mut self.batch, changes, |changes| match is_large {
            true => engine.ingest(changes, position),
            false => engine.write(changes, Some(position)),
        })
        .map_err(|e| e.context(format_args!("restoring store \"{}\"", self.name)))?;
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_KEPT);
        // Nothing is cached of a store that no task has yet.
        let cached = if self.rows.bytes() == 0 { Vec::new() } else { last };
        for record in cached {
            // A global store is read while it follows its topic: what is cached must follow too.
            if let Some(id) = self.rows.find(self.rows.hash(&record.key), &record.key) {
                let value = record.value.as_deref().map(Bytes::copy_from_slice);
                self.rows.replace(id, value, record.timestamp, RowState::Clean);
            }
        }
        self.rows.evict_all();
        Ok(())
    }

    fn record_cache(&mut self) -> Option<&mut Option<RecordCache>> {
        Some(&mut self.record_cache)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.engine.close()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryEngine;
    use super::*;

    #[derive(Default)]
    struct Log(Vec<(Vec<u8>, Option<Vec<u8>>, i64)>);

    impl ChangelogWriter for Log {
        fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
            self.0.push((key.to_vec(), value.map(<[u8]>::to_vec), timestamp.as_millis()));
            Ok(())
        }
    }

    fn store(value_format: ValueFormat) -> TransactionalStore {
        let options = TransactionalStoreOptions { value_format, ..Default::default() };
        TransactionalStore::open("test".into(), Box::<MemoryEngine>::default(), options)
    }

    fn value(store: &mut TransactionalStore, key: &str) -> Option<String> {
        let value = store.get(key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn all(store: &mut TransactionalStore, direction: Direction) -> Vec<String> {
        let scan = store.scan(Bound::Unbounded, Bound::Unbounded, direction).unwrap();
        scan.map(|scanned| {
            let scanned = scanned.unwrap();
            format!("{}{}", scanned.key.escape_ascii(), scanned.value.escape_ascii())
        })
        .collect()
    }

    #[test]
    fn undo_restores_every_kind_of_earlier_content() {
        let mut store = store(ValueFormat::Plain);
        store.put(b"committed", b"1");
        store.accept_record();
        store.commit(Some(1)).unwrap();
        store.put(b"accepted", b"1");
        store.accept_record();
        let bytes = store.uncommitted_bytes();

        for key in [&b"committed"[..], b"accepted", b"new"] {
            store.put(key, b"22");
            store.put(key, b"333");
            store.delete(key);
        }
        assert_eq!(all(&mut store, Direction::Forward), [""; 0]);
        store.undo_record();

        assert_eq!(store.uncommitted_bytes(), bytes);
        assert_eq!(value(&mut store, "new"), None);
        assert_eq!(all(&mut store, Direction::Forward), ["accepted1", "committed1"]);
        let mut log = Log::default();
        assert_eq!(store.write_changelog(&mut log).unwrap(), 1);
        assert_eq!(log.0, [(b"accepted".to_vec(), Some(b"1".to_vec()), 0)]);
    }

    #[test]
    fn the_changelog_gets_each_key_once_in_order_with_its_last_value() {
        let mut store = store(ValueFormat::Timestamped);
        store.set_record_timestamp(Timestamp::from_millis(5));
        for key in ["b", "aaaaaaaab", "a", "aaaaaaaaa", "b"] {
            store.put(key.as_bytes(), b"x");
        }
        store.put_with_timestamp(b"a", b"y", Timestamp::from_millis(7));
        store.set_record_timestamp(Timestamp::from_millis(9));
        store.delete(b"b");
        store.accept_record();
        let mut log = Log::default();
        assert_eq!(store.write_changelog(&mut log).unwrap(), 4);
        let x = Some(b"x".to_vec());
        assert_eq!(
            log.0,
            [
                (b"a".to_vec(), Some(b"y".to_vec()), 7),
                (b"aaaaaaaaa".to_vec(), x.clone(), 5),
                (b"aaaaaaaab".to_vec(), x, 5),
                (b"b".to_vec(), None, 9),
            ]
        );
        store.commit(Some(4)).unwrap();
        assert_eq!(store.position(), Some(4));
        assert_eq!(store.write_changelog(&mut Log::default()).unwrap(), 0);
        assert_eq!(store.engine.get(b"a").unwrap().unwrap(), b"\0\0\0\0\0\0\0\x07y"[..]);
        let (found, timestamp) = store.get_with_timestamp(b"a").unwrap().unwrap();
        assert_eq!((found.as_ref(), timestamp.as_millis()), (&b"y"[..], 7));
    }

    #[test]
    fn abort_returns_to_the_committed_state() {
        let mut store = store(ValueFormat::Timestamped);
        store.put_with_timestamp(b"a", b"1", Timestamp::from_millis(3));
        store.accept_record();
        store.commit(Some(1)).unwrap();
        store.put(b"a", b"2");
        store.accept_record();
        store.put(b"b", b"2");
        store.abort();
        assert_eq!((store.uncommitted_bytes(), store.position()), (0, Some(1)));
        assert_eq!(all(&mut store, Direction::Backward), ["a1"]);
        let (found, timestamp) = store.get_with_timestamp(b"a").unwrap().unwrap();
        assert_eq!((found.as_ref(), timestamp.as_millis()), (&b"1"[..], 3));
    }

    #[test]
    fn restore_keeps_the_last_record_of_a_key_and_refreshes_the_cache() {
        let mut store = store(ValueFormat::Timestamped);
        assert_eq!(value(&mut store, "a"), None);
        let record = |key: &'static str, value: Option<&'static str>, millis| ChangelogRecord {
            key: Bytes::from(key),
            value: value.map(Bytes::from),
            timestamp: Timestamp::from_millis(millis),
            headers: crate::record::Headers::default(),
        };
        let records = [
            record("b", Some("1"), 1),
            record("a", Some("1"), 2),
            record("b", None, 3),
            record("a", None, 4),
            record("a", Some("2"), 5),
        ];
        store.restore(&records, 5).unwrap();
        assert_eq!(store.position(), Some(5));
        assert_eq!(all(&mut store, Direction::Forward), ["a2"]);
        let (_, timestamp) = store.get_with_timestamp(b"a").unwrap().unwrap();
        assert_eq!(timestamp.as_millis(), 5);
        assert_eq!(store.uncommitted_bytes(), 0);
    }

    #[test]
    fn a_record_in_hand_is_not_committed() {
        let mut store = store(ValueFormat::Plain);
        store.put(b"a", b"1");
        let error = store.commit(None).unwrap_err();
        assert!(error.message().contains("1 writes of a record in hand"), "{error}");
        assert!(store.write_changelog(&mut Log::default()).is_err());
    }

    #[test]
    fn a_truncated_timestamp_is_corruption() {
        let mut engine = MemoryEngine::default();
        engine.write(&mut [(&b"a"[..], Some(&b"short"[..]))].into_iter(), None).unwrap();
        let options = TransactionalStoreOptions {
            value_format: ValueFormat::Timestamped,
            ..Default::default()
        };
        let mut store = TransactionalStore::open("test".into(), Box::new(engine), options);
        let error = store.get(b"a").unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::TaskCorrupted);
    }
}
