//! The versioned key-value store: what a key's value was at a time, as far back as its history goes.
//!
//! [`history`] knows the versions, this file serialises, keeps what goes to the changelog, and is the store that tasks manage.
//! Called by the thread of the task. Hot path: `put`, `get`, `get_as_of`. Deliberately absent: ranges, as in Java.
//!
//! The changelog gets every put, in order, with the version's timestamp as the record's: two versions of one key are two
//! records, so that a reader has the whole history (the topic is compacted only behind `min.compaction.lag.ms`).

mod history;
mod row;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use history::Retention;
use history::{Found, History, Placed};

use super::codec::Codec;
use super::{
    ChangelogRecord, ChangelogWriter, Engine, StateStore, TransactionalStore,
    TransactionalStoreOptions, ValueFormat,
};
use crate::error::{Error, Result};
use crate::record::Headers;
use crate::serdes::Serde;
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;

/// What a record of the log costs beside key and value.
const LOGGED_OVERHEAD_BYTES: usize = 64;

/// What [`VersionedKeyValueStore::put`] did with a version. Source: the return codes of `VersionedKeyValueStore.put`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PutResult {
    /// Nothing: its timestamp is older than the history (`PUT_RETURN_CODE_NOT_PUT`).
    NotPut,
    /// It is the newest version of its key (`PUT_RETURN_CODE_VALID_TO_UNDEFINED`).
    Latest,
    /// It is valid until this time, exclusive: a newer version is known.
    ValidTo(Timestamp),
}

/// One version of a key's value. Source: `VersionedRecord`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    /// The value.
    pub value: V,
    /// From when on it is valid, inclusive.
    pub timestamp: Timestamp,
    /// Until when, exclusive; `None`: no newer version is known.
    pub valid_to: Option<Timestamp>,
}

/// A store of values by key and time.
///
/// Keeps the versions that were valid within the *history retention*, behind the highest timestamp put; the newest version of a
/// key is kept for ever. The history is the grace period too: an older put is not taken. Durability as for
/// [`KeyValueStore`](super::KeyValueStore).
///
/// Source: `org.apache.kafka.streams.state.VersionedKeyValueStore` (KIP-889). Deviations: what was not put is not logged either, because a
/// compacted changelog would keep it instead of the newest version; the highest timestamp outlives a restart, so that the same
/// puts are refused after it as without it.
pub struct VersionedKeyValueStore<K, V> {
    history: History,
    codec: Codec<K, V>,
    log: PutLog,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The puts since the last commit, for the changelog.
#[derive(Default)]
struct PutLog {
    records: Vec<ChangelogRecord>,
    /// How many of them belong to accepted records.
    accepted: usize,
    bytes: usize,
    is_logged: bool,
}

impl PutLog {
    fn push(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) {
        if self.is_logged {
            let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            let headers = Headers::default();
            let record = ChangelogRecord { key, value, timestamp, headers };
            self.bytes += bytes_of(&record);
            self.records.push(record);
        }
    }

    fn undo(&mut self) {
        let undone = self.records.drain(self.accepted..);
        self.bytes -= undone.map(|record| bytes_of(&record)).sum::<usize>();
    }

    fn clear(&mut self) {
        self.records.clear();
        (self.accepted, self.bytes) = (0, 0);
    }
}

fn bytes_of(record: &ChangelogRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + LOGGED_OVERHEAD_BYTES
}

impl<K: 'static, V: 'static> VersionedKeyValueStore<K, V> {
    /// Makes a store over an engine; `topic` is what serdes are told.
    ///
    /// # Errors
    /// `TaskCorrupted` for a damaged engine.
    pub(crate) fn open(
        name: Arc<str>,
        (key_serde, value_serde): (Serde<K>, Serde<V>),
        topic: Arc<str>,
        engine: Box<dyn Engine>,
        (retention, options): (Retention, TransactionalStoreOptions),
    ) -> Result<Self> {
        let log = PutLog { is_logged: options.is_logged, ..PutLog::default() };
        let options = TransactionalStoreOptions { value_format: ValueFormat::Plain, ..options };
        let rows = TransactionalStore::open(name, engine, options);
        let history = History::open(rows, retention)?;
        let codec = Codec::new(topic, key_serde, value_serde);
        Ok(Self { history, codec, log, key: Vec::new(), value: Vec::new() })
    }

    /// Adds the version of `key` that is valid from `timestamp` on; `None`, or a value that serialises to null, deletes.
    /// One version is kept per key and timestamp: the last put.
    ///
    /// # Errors
    /// What the serdes return, `BadRecord` for a null key; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn put(&mut self, key: &K, value: Option<&V>, timestamp: Timestamp) -> Result<PutResult> {
        self.codec.write_key(key, &mut self.key)?;
        let is_value = match value {
            Some(value) => self.codec.write_value(value, &mut self.value)?,
            None => false,
        };
        let value = is_value.then_some(&self.value[..]);
        let placed = self.history.put(&self.key, value, timestamp.as_millis())?;
        if placed != Placed::Expired {
            self.log.push(&self.key, value, timestamp);
        }
        Ok(match placed {
            Placed::Expired => PutResult::NotPut,
            Placed::Newest => PutResult::Latest,
            Placed::ValidTo(millis) => PutResult::ValidTo(Timestamp::from_millis(millis)),
        })
    }

    /// Deletes `key` from `timestamp` on; returns what was valid then, `None` also where the timestamp is older than the history.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: &K, timestamp: Timestamp) -> Result<Option<VersionedRecord<V>>> {
        let before = self.get_as_of(key, timestamp)?;
        let put = self.put(key, None, timestamp)?;
        Ok(before.filter(|_| put != PutResult::NotPut))
    }

    /// The newest version of `key`.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get(&mut self, key: &K) -> Result<Option<VersionedRecord<V>>> {
        self.codec.write_key(key, &mut self.key)?;
        let found = self.history.get(&self.key)?;
        found.map(|found| self.read(found)).transpose()
    }

    /// The version of `key` that was valid at `timestamp`. Further back than the history, only a newest version that was valid
    /// then already is found.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get_as_of(
        &mut self,
        key: &K,
        timestamp: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>> {
        self.codec.write_key(key, &mut self.key)?;
        let found = self.history.get_as_of(&self.key, timestamp.as_millis())?;
        found.map(|found| self.read(found)).transpose()
    }

    /// About how many rows were committed: newest versions, and rows of older ones.
    pub fn approximate_entries(&self) -> u64 {
        self.history.rows.approximate_entries()
    }

    fn read(&self, found: Found) -> Result<VersionedRecord<V>> {
        Ok(VersionedRecord {
            value: self.codec.read_value(&found.value)?,
            timestamp: Timestamp::from_millis(found.timestamp),
            valid_to: found.valid_to.map(Timestamp::from_millis),
        })
    }
}

impl<K: 'static, V: 'static> StateStore for VersionedKeyValueStore<K, V> {
    fn name(&self) -> &Arc<str> {
        self.history.rows.name()
    }

    fn set_record_timestamp(&mut self, _: Timestamp) {
        // Every put has a timestamp of its own.
    }

    fn accept_record(&mut self) {
        self.log.accepted = self.log.records.len();
        self.history.accept_record();
    }

    fn undo_record(&mut self) {
        self.log.undo();
        self.history.undo_record();
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        self.history.rows.refuse_open_record("writing the changelog of")?;
        for ChangelogRecord { key, value, timestamp, .. } in &self.log.records {
            changelog.write(key, value.as_deref(), *timestamp)?;
        }
        Ok(self.log.records.len())
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        self.history.rows.refuse_open_record("committing")?;
        self.history.commit(position)?;
        self.log.clear();
        Ok(())
    }

    fn abort(&mut self) {
        self.history.abort();
        self.log.clear();
    }

    fn uncommitted_bytes(&self) -> usize {
        self.history.rows.uncommitted_bytes() + self.log.bytes
    }

    fn figures(&self) -> StoreFigures {
        self.history.rows.figures()
    }

    fn position(&self) -> Option<i64> {
        self.history.rows.position()
    }

    /// Puts the records again, as they were put first.
    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        if self.uncommitted_bytes() > 0 {
            return Err(Error::fatal(format!(
                "restoring store \"{}\": found {} bytes uncommitted, wanted none (abort first)",
                self.history.rows.name(),
                self.uncommitted_bytes()
            )));
        }
        for ChangelogRecord { key, value, timestamp, .. } in records {
            // One that is too old was too old before, or has been put already.
            let _ = self.history.put(key, value.as_deref(), timestamp.as_millis())?;
        }
        self.history.accept_record();
        self.history.commit(Some(position))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Box::new(self.history.rows).close()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
