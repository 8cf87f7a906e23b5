//! State stores: what a processor reads and writes, made durable by the commit.
//!
//! A store is a stack: typed store ([`KeyValueStore`]) → [`TransactionalStore`] (uncommitted writes and row cache in memory,
//! an undo journal for the record in hand) → [`Engine`] (RocksDB or memory), which only ever holds committed state together
//! with the changelog position it stands at. Owned by one thread at a time; hot path: `get` and `put`.
//! Deliberately absent: Kafka. The commit hands changed keys to a [`ChangelogWriter`], which the task implements.

mod builder;
mod codec;
mod expiry;
mod headers;
mod join_buffer;
mod key_value;
mod key_value_view;
mod memory;
mod record_cache;
mod restored;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
mod rows;
mod scan;
mod segment_scan;
mod segment_state;
mod segment_view;
mod segmented_state_store;
mod segments;
mod session;
mod session_view;
mod suppress_buffer;
mod timers;
mod transactional;
mod versioned;
mod view;
mod window;
mod window_keys;
mod window_view;
mod write_batch;

use std::any::Any;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;
use segmented_state_store::segmented_state_store;

pub use builder::{StoreBuilder, StoreKind};
pub(crate) use expiry::ExpiredBy;
pub(crate) use headers::KeepsHeaders;
pub use headers::{ValueAndHeaders, value_and_headers_serde};
pub(crate) use join_buffer::{Buffered, JoinBuffer};
pub use key_value::{KeyValueIter, KeyValueStore};
pub use key_value_view::{
    Counted, KeyValueStoreType, KeyValueView, KeyValueViewIter, QueryableStoreType,
    QueryableStoreTypes, ReadOnlyKeyValueStore,
};
pub use memory::{MemoryEngine, MemoryEngines};
pub use record_cache::RecordCache;
pub(crate) use record_cache::{CacheBudget, CachedChange, CachingStore};
pub use scan::{Scan, Scanned};
pub use segments::{RowOrder, SegmentedStoreOptions};
pub use session::{SessionIter, SessionStore};
pub use session_view::{ReadOnlySessionStore, SessionStoreType, SessionView, SessionViewIter};
pub(crate) use suppress_buffer::{HeldBack, Origin, SuppressBuffer};
pub(crate) use timers::timer_serde;
pub use timers::{Timer, TimerStore};
pub use transactional::{TransactionalStore, TransactionalStoreOptions};
pub(crate) use versioned::Retention;
pub use versioned::{PutResult, VersionedKeyValueStore, VersionedRecord};
pub use view::{EngineView, PageLimits, StoreView};
pub use window::{WindowIter, WindowStore, WindowStoreOptions, WindowedIter};
pub use window_view::{ReadOnlyWindowStore, WindowStoreType, WindowView, WindowViewIter};

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending byte order of keys.
    Forward,
    /// Descending byte order of keys.
    Backward,
}

/// A key and its value, as bytes.
pub type Entry = (Bytes, Bytes);

/// An iterator over committed entries of an engine.
pub type EngineIter<'a> = Box<dyn Iterator<Item = Result<Entry>> + 'a>;

/// One change of a batch: key and new value, `None` deletes.
pub type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// An ordered map of bytes on disk or in memory that holds one store's committed state.
///
/// Entries and the position change together: after a crash at any moment the engine holds the state of some earlier
/// [`write`](Self::write) with exactly its position.
pub trait Engine: Send {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// Entries between two bounds in key order (unsigned bytes).
    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<EngineIter<'_>>;
    /// Applies changes (sorted by key, each key once) and sets the position (`None` leaves it), atomically.
    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: Option<i64>,
    ) -> Result<()>;
    /// As [`write`](Self::write), for the large batches of restoration, where an engine may have a cheaper way.
    fn ingest(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: i64,
    ) -> Result<()> {
        self.write(changes, Some(position))
    }
    /// Deletes the entries from `from` on and before `to`, without setting the position: only for entries that no state
    /// needs any more, since a crash may bring them back.
    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let range = self.range(Bound::Included(from), Bound::Excluded(to), Direction::Forward)?;
        let keys = range.map(|entry| entry.map(|(key, _)| key)).collect::<Result<Vec<Bytes>>>()?;
        self.write(&mut keys.iter().map(|key| (&key[..], None)), None)
    }
    /// The position of the last write: the changelog offset after the last record applied. `None`: never written.
    fn position(&self) -> Option<i64>;
    /// About how many entries there are.
    fn approximate_entries(&self) -> u64;
    /// The committed state for other threads; it ends with the engine.
    fn view(&self) -> Arc<dyn EngineView>;
    /// Makes everything written durable and closes.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Opens engines; one per process, so that memory is shared and bounded over all stores.
pub trait Engines: Send + Sync {
    /// Opens or creates the engine of a store in `folder` (which the caller has locked).
    fn open(&self, folder: &Path, store: &str) -> Result<Box<dyn Engine>>;
    /// Deletes what [`open`](Self::open) would find (a corrupted store).
    fn wipe(&self, folder: &Path, store: &str) -> Result<()>;
    /// Whether state outlives the process.
    fn is_persistent(&self) -> bool;
    /// The cache that all engines share, for metrics; `None`: there is none.
    fn cache(&self) -> Option<EngineCache> {
        None
    }
}

/// Bytes of a cache that engines share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCache {
    /// How much it may take.
    pub capacity: usize,
    /// How much it takes.
    pub usage: usize,
    /// How much of that cannot be evicted now.
    pub pinned: usize,
}

/// Receives the changed keys of a store at commit; the task's collector sends them to the changelog topic.
pub trait ChangelogWriter {
    /// One changed key with its last value (`None`: deleted) and the timestamp of the record that changed it.
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()>;

    /// As [`write`](Self::write), with headers, which only some stores' changelogs have; a writer that has no use for them drops them.
    fn write_with_headers(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<()> {
        let _ = headers;
        self.write(key, value, timestamp)
    }
}

/// How values lie in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueFormat {
    /// The serialised value alone (`keyValueStoreBuilder`).
    Plain,
    /// Eight bytes big-endian timestamp, then the value (`timestampedKeyValueStoreBuilder`); the changelog carries the
    /// value alone, and the timestamp as the record's.
    Timestamped,
}

/// Bytes of the timestamp in front of a [`ValueFormat::Timestamped`] value.
const TIMESTAMP_BYTES: usize = 8;

impl ValueFormat {
    /// How many bytes `value` takes in the engine.
    fn encoded_bytes(self, value: &[u8]) -> usize {
        match self {
            Self::Plain => value.len(),
            Self::Timestamped => TIMESTAMP_BYTES + value.len(),
        }
    }

    /// Appends the engine's bytes of a value to `out`.
    fn encode(self, value: &[u8], timestamp: Timestamp, out: &mut Vec<u8>) {
        if self == Self::Timestamped {
            out.extend_from_slice(&timestamp.as_millis().to_be_bytes());
        }
        out.extend_from_slice(value);
    }

    /// Splits the engine's bytes into value and timestamp (zero where the format has none).
    fn decode(self, mut bytes: Bytes) -> Result<(Bytes, Timestamp)> {
        if self == Self::Plain {
            return Ok((bytes, Timestamp::default()));
        }
        let Some(millis) = bytes.first_chunk::<TIMESTAMP_BYTES>() else {
            return Err(Error::new(
                ErrorKind::TaskCorrupted,
                format!(
                    "reading a timestamped value: found {} bytes, wanted at least {TIMESTAMP_BYTES}",
                    bytes.len()
                ),
            ));
        };
        let timestamp = Timestamp::from_millis(i64::from_be_bytes(*millis));
        bytes.advance(TIMESTAMP_BYTES);
        Ok((bytes, timestamp))
    }
}

/// Whether no key can lie between two bounds; ordered maps panic on some of these.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
    }
}

/// A record of a changelog, to be restored.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangelogRecord {
    /// Key bytes.
    pub key: Bytes,
    /// Value bytes, `None` deletes.
    pub value: Option<Bytes>,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The record's headers, for stores that keep them.
    pub headers: Headers,
}

/// A store as its task manages it, whatever its type. Called by the task only; see the module doc for the life of a write.
pub trait StateStore: Any + Send {
    /// The store's name.
    fn name(&self) -> &Arc<str>;
    /// Sets the timestamp that the following writes carry to the changelog.
    fn set_record_timestamp(&mut self, timestamp: Timestamp);
    /// Whether the store goes by the task's stream time, and so has to be told of it.
    fn needs_stream_time(&self) -> bool {
        false
    }
    /// Tells the task's stream time, before a record is processed. It goes back after an abort.
    fn set_stream_time(&mut self, time: Timestamp) {
        let _ = time;
    }
    /// Keeps the writes of the record in hand.
    fn accept_record(&mut self);
    /// Undoes the writes of the record in hand (it failed).
    fn undo_record(&mut self);
    /// Hands every key changed since the last commit to `changelog`, once each; returns how many. Without a changelog the
    /// caller skips this.
    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize>;
    /// Moves the uncommitted writes to the engine; `position` is the changelog's after them.
    fn commit(&mut self, position: Option<i64>) -> Result<()>;
    /// Drops the uncommitted writes.
    fn abort(&mut self);
    /// Bytes of uncommitted writes.
    fn uncommitted_bytes(&self) -> usize;
    /// What was done to the store, for metrics; nothing where it does not count.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }
    /// How many writes came too late for the store's retention and were dropped since this was asked last.
    fn take_expired_writes(&mut self) -> u64 {
        0
    }
    /// The changelog position of the engine.
    fn position(&self) -> Option<i64>;
    /// Applies changelog records, in order, straight to the engine (restoration, standby, global stores).
    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()>;
    /// Event times that the store knows and its changelog may not tell, such as of a record that has left no row. Whoever restores
    /// the store while its task goes on gives them back.
    fn times(&self) -> Vec<i64> {
        Vec::new()
    }
    /// Takes what [`times`](Self::times) gave.
    fn keep_times(&mut self, times: &[i64]) {
        let _ = times;
    }
    /// Where the store's record cache is, once an operator that forwards its changes has set one up; `None`: this type of store has none.
    fn record_cache(&mut self) -> Option<&mut Option<RecordCache>> {
        None
    }
    /// Closes the engine; uncommitted writes are dropped.
    fn close(self: Box<Self>) -> Result<()>;
    /// The committed state for interactive queries; `None`: this type of store cannot be queried.
    fn view(&self) -> Option<StoreView> {
        None
    }
    /// For the typed store behind a handle.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// For the typed store behind a read-only view.
    fn as_any(&self) -> &dyn Any;
}
