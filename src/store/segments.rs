//! What window and session stores have in common: rows by key and time, kept for as long as the retention says.
//!
//! The store knows the highest time ever put into it, its *observed time*. What is `retention` or more older is neither read
//! nor written any more; it leaves the engine a whole segment at a time, after a commit, by one range deletion. Nothing of
//! that goes to the changelog: the topic forgets by its own retention. The observed time is undone, rewound and committed
//! with the rows, in a row of its own that the changelog does not get: there it is the highest time of all records.
//!
//! Used by [`WindowStore`](super::WindowStore) and [`SessionStore`](super::SessionStore), on the thread of their task.
//! Hot path: `get`, `put`, `scan`. Source: `AbstractRocksDBSegmentedBytesStore`,
//! `AbstractRocksDBTimeOrderedSegmentedBytesStore`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::segment_scan::{Keys, Path, Plan, Query, SegmentScan};
use super::segment_state::{NOTHING_OBSERVED, SegmentState as State, decode_marker, encode_marker};
use super::segment_view::SegmentView;
use super::window_keys::{KEY_FIRST_PREFIX, KeySchema, MARKER, Parts, write_segment, write_time};
use super::{
    CachedChange, ChangelogRecord, ChangelogWriter, Engine, Origin, StateStore as _,
    TransactionalStore, TransactionalStoreOptions,
};
use crate::error::{Error, Result};
use crate::record::Headers;
use crate::time::Timestamp;

/// Segments are no shorter. Source: `Stores.defaultSegmentInterval`.
const SEGMENT_INTERVAL_MS_MIN: i64 = 60_000;

/// Java's caches have the segment in front of each key. Source: `SegmentedCacheFunction`.
const CACHE_SEGMENT_BYTES: usize = 8;

/// In which order a window or session store keeps its rows, and so hands out all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowOrder {
    /// By segment, key and time: as Java's persistent stores. The windows of a key lie together.
    #[default]
    KeyFirst,
    /// By time and key: as Java's stores of windows that are emitted when they close.
    TimeFirst,
    /// As [`TimeFirst`](Self::TimeFirst), with an index by key.
    TimeFirstIndexed,
}

impl RowOrder {
    /// Where the rows of these keys are looked for.
    pub(super) fn path(self, keys: Keys<'_>) -> Path {
        match self {
            Self::KeyFirst => Path::KeyFirst,
            Self::TimeFirstIndexed if !matches!(keys, Keys::Range(None, None)) => Path::Index,
            Self::TimeFirst | Self::TimeFirstIndexed => Path::TimeFirst,
        }
    }
}

/// How a window or session store works.
#[derive(Debug, Clone, Default)]
pub struct SegmentedStoreOptions {
    /// The layer below.
    pub store: TransactionalStoreOptions,
    /// How long rows are visible, by the times put into the store.
    pub retention: Duration,
    /// How much longer they are kept, for the operator that the store belongs to.
    pub additional_retention: Duration,
    /// How rows are ordered.
    pub order: RowOrder,
}

pub(super) struct SegmentedStore {
    store: TransactionalStore,
    schema: KeySchema,
    order: RowOrder,
    retention_ms: i64,
    additional_ms: i64,
    segment_interval_ms: i64,
    /// Now, as of the last accepted record, and as of the last commit.
    state: State,
    accepted: State,
    committed: State,
    newest_restored: Option<Timestamp>,
    /// Segments below are gone from the engine.
    expired_below: i64,
    expired_writes: u64,
    row: Vec<u8>,
    index_row: Vec<u8>,
    cache_key: Vec<u8>,
}

impl SegmentedStore {
    /// Makes a store over an engine.
    pub(super) fn open(
        name: Arc<str>,
        schema: KeySchema,
        engine: Box<dyn Engine>,
        options: SegmentedStoreOptions,
    ) -> Result<Self> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let retention_ms = millis(options.retention);
        let mut store = TransactionalStore::open(name, engine, options.store);
        let state = match store.get(MARKER)? {
            None => State { observed: NOTHING_OBSERVED, sequence: 0 },
            Some(marker) => decode_marker(marker)?,
        };
        Ok(Self {
            store,
            schema,
            order: options.order,
            retention_ms,
            additional_ms: millis(options.additional_retention),
            segment_interval_ms: (retention_ms / 2).max(SEGMENT_INTERVAL_MS_MIN),
            accepted: state,
            committed: state,
            state,
            newest_restored: None,
            expired_below: 0,
            expired_writes: 0,
            row: Vec::new(),
            index_row: Vec::new(),
            cache_key: Vec::new(),
        })
    }

    pub(super) fn store(&self) -> &TransactionalStore {
        &self.store
    }

    pub(super) fn store_mut(&mut self) -> &mut TransactionalStore {
        &mut self.store
    }

    /// The committed rows for other threads.
    pub(super) fn view(&self) -> SegmentView {
        SegmentView {
            name: self.store.name().clone(),
            engine: self.store.engine_view(),
            format: self.store.value_format(),
            schema: self.schema,
            order: self.order,
            retention_ms: self.retention_ms,
            segment_interval_ms: self.segment_interval_ms,
        }
    }

    /// The highest time put so far.
    pub(super) fn observed(&self) -> Option<i64> {
        (self.state.observed != NOTHING_OBSERVED).then_some(self.state.observed)
    }

    /// The smallest time that is still read.
    fn visible_from(&self) -> i64 {
        self.state.visible_from(self.retention_ms)
    }

    /// The smallest time that is still written, and read by the operator that the store belongs to.
    fn kept_from(&self) -> i64 {
        self.visible_from().saturating_sub(self.additional_ms)
    }

    /// The newest timestamp among the changelog's records, where the store was restored since it was opened.
    pub(super) fn newest_restored(&self) -> Option<Timestamp> {
        self.newest_restored
    }

    /// A sequence number for a row that is not to replace another.
    pub(super) fn next_sequence(&mut self) -> i64 {
        self.state.sequence = self.state.sequence.wrapping_add(1) & i32::MAX;
        i64::from(self.state.sequence)
    }

    /// The value of a row that is visible.
    pub(super) fn get(&mut self, parts: Parts<'_>) -> Result<Option<(&Bytes, Timestamp)>> {
        if let Some(Some(cache)) = self.store.record_cache() {
            self.cache_key.clear();
            self.schema.write(parts, &mut self.cache_key);
            cache.touch(&self.cache_key);
        }
        if parts.time < self.visible_from() || parts.time < 0 {
            return Ok(None);
        }
        self.write_row(parts);
        self.store.get_with_timestamp(&self.row)
    }

    /// Sets the value of a row, unless it is too old; `None` deletes it. Without a timestamp it carries the record's.
    pub(super) fn put(
        &mut self,
        parts: Parts<'_>,
        value: Option<&[u8]>,
        timestamp: Option<Timestamp>,
    ) -> Result<()> {
        if parts.time < 0 {
            return Err(Error::bad_record(format!(
                "writing to store \"{}\": found window time {}, wanted one that is not negative",
                self.store.name(),
                parts.time
            )));
        }
        self.state.observed = self.state.observed.max(parts.time);
        if parts.time < self.kept_from() {
            self.expired_writes += 1;
            return Ok(());
        }
        self.write_row(parts);
        match (value, timestamp) {
            // Stream time is restored from the changelog, so a record that moves it must leave a trace there. Java's stores, too, log every
            // deletion.
            (None, _) => self.store.delete_always(&self.row),
            (Some(value), None) => self.store.put(&self.row, value),
            (Some(value), Some(timestamp)) => {
                self.store.put_with_timestamp(&self.row, value, timestamp);
            }
        }
        if self.order == RowOrder::TimeFirstIndexed {
            self.schema.write_key_first(self.segment(parts.time), parts, &mut self.index_row);
            match value {
                None => self.store.delete(&self.index_row),
                Some(_) if self.store.get(&self.index_row)?.is_none() => {
                    self.store.put(&self.index_row, &[]);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// As [`put`](Self::put), leaving the change to the record cache: it is forwarded later, as `origin`'s, with `forwarded_at` where that
    /// is not the value's timestamp.
    pub(super) fn put_cached(
        &mut self,
        parts: Parts<'_>,
        value: Option<&[u8]>,
        timestamp: Option<Timestamp>,
        (forwarded_at, origin): (Timestamp, Origin),
    ) -> Result<()> {
        let old = if parts.time < self.kept_from() {
            None
        } else {
            self.write_row(parts);
            self.store.get(&self.row)?.cloned()
        };
        self.put(parts, value, timestamp)?;
        let extra = CACHE_SEGMENT_BYTES + self.store.value_format().encoded_bytes(&[]);
        let Some(Some(cache)) = self.store.record_cache() else { return Ok(()) };
        self.cache_key.clear();
        self.schema.write(parts, &mut self.cache_key);
        let change = CachedChange {
            key: Bytes::copy_from_slice(&self.cache_key),
            old,
            new: value.map(Bytes::copy_from_slice),
            timestamp: forwarded_at,
            origin,
        };
        cache.put(change, extra);
        Ok(())
    }

    /// The visible rows that a query wants.
    pub(super) fn scan<'a>(&'a mut self, mut query: Query<'a>) -> SegmentScan<'a> {
        query.from = query.from.max(self.visible_from());
        self.scan_closed(query)
    }

    /// The rows that a query of the store's operator wants: those that are kept, visible or not.
    pub(super) fn scan_kept<'a>(&'a mut self, mut query: Query<'a>) -> SegmentScan<'a> {
        query.from = query.from.max(self.kept_from());
        self.scan_closed(query)
    }

    /// The rows that a query wants, whatever their age: those of the time since the last commit are all still there.
    pub(super) fn scan_closed<'a>(&'a mut self, mut query: Query<'a>) -> SegmentScan<'a> {
        self.store.prepare_scan();
        query.from = query.from.max(0);
        let path = self.order.path(query.keys);
        // No row is newer than the observed time.
        let last = query.to.min(self.state.observed);
        let segments =
            if query.from > last { 0..0 } else { self.segment(query.from)..self.segment(last) + 1 };
        SegmentScan::new(&self.store, Plan { schema: self.schema, path, query }, segments)
    }

    pub(super) fn accept_record(&mut self) {
        self.store.accept_record();
        self.accepted = self.state;
    }

    pub(super) fn undo_record(&mut self) {
        self.store.undo_record();
        self.state.observed = self.accepted.observed;
    }

    pub(super) fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        let mut keys = ChangelogKeys {
            changelog,
            schema: self.schema,
            order: self.order,
            key: Vec::new(),
            written: 0,
        };
        self.store.write_changelog(&mut keys)?;
        Ok(keys.written)
    }

    pub(super) fn commit(&mut self, position: Option<i64>) -> Result<()> {
        // With a record in hand the layer below refuses the commit.
        if self.state != self.committed && !self.store.has_record_in_hand() {
            self.store.put(MARKER, &encode_marker(self.state));
            self.store.accept_record();
        }
        self.store.commit(position)?;
        self.accepted = self.state;
        self.committed = self.state;
        self.expire_segments()
    }

    pub(super) fn abort(&mut self) {
        self.store.abort();
        self.state.observed = self.committed.observed;
        self.accepted = self.state;
    }

    pub(super) fn take_expired_writes(&mut self) -> u64 {
        std::mem::take(&mut self.expired_writes)
    }

    /// The observed time.
    pub(super) fn times(&self) -> Vec<i64> {
        vec![self.committed.observed]
    }

    pub(super) fn keep_times(&mut self, times: &[i64]) {
        let Some(observed) = times.first() else { return };
        for state in [&mut self.state, &mut self.accepted, &mut self.committed] {
            state.observed = state.observed.max(*observed);
        }
    }

    pub(super) fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        let mut state = self.committed;
        let mut parsed = Vec::with_capacity(records.len());
        for record in records {
            let parts = self.schema.parse(&record.key).filter(|parts| parts.time >= 0);
            let parts = parts.ok_or_else(|| {
                Error::fatal(format!(
                    "restoring store \"{}\": found the changelog key {:?}, wanted a windowed one",
                    self.store.name(),
                    record.key
                ))
            })?;
            state.observed = state.observed.max(parts.time);
            self.newest_restored = self.newest_restored.max(Some(record.timestamp));
            if self.schema == KeySchema::Window {
                // After a wrap this is too high at worst, and then wraps again: numbers only have to differ.
                state.sequence = state.sequence.max(i32::try_from(parts.rest).unwrap_or(i32::MAX));
            }
            parsed.push((parts, record));
        }
        (self.accepted, self.committed, self.state) = (state, state, state);
        let mut rows = Vec::with_capacity(parsed.len() + 1);
        let kept_from = self.kept_from();
        for (parts, record) in parsed {
            if parts.time < kept_from {
                continue;
            }
            self.write_row(parts);
            let mut push = |row: &[u8], value: Option<Bytes>| {
                let (key, timestamp) = (Bytes::copy_from_slice(row), record.timestamp);
                rows.push(ChangelogRecord { key, value, timestamp, headers: Headers::default() });
            };
            push(&self.row, record.value.clone());
            if self.order == RowOrder::TimeFirstIndexed {
                self.schema.write_key_first(
                    parts.time / self.segment_interval_ms,
                    parts,
                    &mut self.index_row,
                );
                push(&self.index_row, record.value.as_ref().map(|_| Bytes::new()));
            }
        }
        rows.push(ChangelogRecord {
            key: Bytes::from_static(MARKER),
            value: Some(encode_marker(state).into()),
            timestamp: Timestamp::default(),
            headers: Headers::default(),
        });
        self.store.restore(&rows, position)?;
        self.expire_segments()
    }

    pub(super) fn close(self) -> Result<()> {
        Box::new(self.store).close()
    }

    fn segment(&self, time: i64) -> i64 {
        time / self.segment_interval_ms
    }

    /// Puts the row that has the value into `self.row`.
    fn write_row(&mut self, parts: Parts<'_>) {
        match self.order {
            RowOrder::KeyFirst => {
                let segment = self.segment(parts.time);
                self.schema.write_key_first(segment, parts, &mut self.row);
            }
            RowOrder::TimeFirst | RowOrder::TimeFirstIndexed => {
                self.schema.write_time_first(parts, &mut self.row);
            }
        }
    }

    /// Takes whole segments that nobody can read any more out of the engine.
    fn expire_segments(&mut self) -> Result<()> {
        let live = self.segment(self.kept_from().max(0));
        if live <= self.expired_below {
            return Ok(());
        }
        let (from, to) = (&mut self.row, &mut self.index_row);
        if self.order != RowOrder::TimeFirst {
            write_segment(self.expired_below, from);
            write_segment(live, to);
            self.store.expire(from, to)?;
        }
        if self.order != RowOrder::KeyFirst {
            write_time(self.expired_below * self.segment_interval_ms, from);
            write_time(live * self.segment_interval_ms, to);
            self.store.expire(from, to)?;
        }
        self.expired_below = live;
        Ok(())
    }
}

/// Gives rows the keys that Java writes to the changelog.
struct ChangelogKeys<'a> {
    changelog: &'a mut dyn ChangelogWriter,
    schema: KeySchema,
    order: RowOrder,
    key: Vec<u8>,
    written: usize,
}

impl ChangelogWriter for ChangelogKeys<'_> {
    fn write(&mut self, row: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        let is_key_first = row.first() == Some(&super::window_keys::KEY_FIRST);
        if is_key_first != (self.order == RowOrder::KeyFirst) {
            return Ok(()); // a row of the index
        }
        self.written += 1;
        if is_key_first {
            return self.changelog.write(&row[KEY_FIRST_PREFIX..], value, timestamp);
        }
        self.key.clear();
        let parts = self.schema.parse_row(row).ok_or_else(|| {
            Error::fatal(format!(
                "writing a changelog: found the row {row:?}, wanted a windowed one"
            ))
        })?;
        self.schema.write(parts, &mut self.key);
        self.changelog.write(&self.key, value, timestamp)
    }
}
