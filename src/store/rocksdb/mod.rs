//! Stores on RocksDB: one database per store, in `<task folder>/rocksdb/<store>`.
//!
//! Used by [`TransactionalStore`](super::TransactionalStore), on the thread of the task: cache misses, scans, and one
//! sorted batch per commit. Deliberately absent: RocksDB's write-ahead log and its transactions. The changelog is the log,
//! and the layer above holds what is not committed.
//!
//! # Crash safety
//! The changelog position lies in the same column family as the entries, under the empty key, and every batch sets it. A
//! batch goes into one memtable as a whole, and memtables reach the disk whole and in order, so what a crash leaves is the
//! state after some earlier batch, with that batch's position. A second column family for positions would need
//! `atomic_flush` for the same, with one more memtable and one more file per flush.
//!
//! # Keys on disk
//! A key is stored as it is, but for the keys of zero or more zero bytes: they get one more zero byte, which keeps the order
//! of all keys and frees the empty key for the position.
//!
//! | key | on disk |
//! |---|---|
//! | (the position, big-endian `i64`) | (empty) |
//! | (empty) | `00` |
//! | `00 00` | `00 00 00` |
//! | `00 01` | `00 01` |

mod ingest;
mod options;

use std::borrow::Cow;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rocksdb::{DB, DBRawIterator, FlushOptions, ReadOptions, WriteBatch, WriteOptions};

use super::view::{EngineView, PageLimits, closed};
use super::{Change, Direction, Engine, EngineCache, EngineIter, Engines, Entry, is_empty_range};
use crate::error::{Error, ErrorKind, Result};
pub use options::RocksDbOptions;
use options::SharedOptions;

/// Where the changelog position lies.
const POSITION_KEY: &[u8] = b"";

/// The smallest key on disk that is not the position's.
const FIRST_KEY: &[u8] = b"\0";

/// A batch buffer starts no larger than this, whatever the last one needed.
const BATCH_CAPACITY_BYTES_MAX: usize = 1 << 20;

/// Opens stores on RocksDB that share one memory budget. One per process.
pub struct RocksDbEngines {
    options: Arc<SharedOptions>,
}

impl RocksDbEngines {
    /// Reserves the memory budget.
    pub fn new(options: &RocksDbOptions) -> Self {
        Self { options: Arc::new(SharedOptions::new(options)) }
    }

    /// Bytes that blocks, indexes, filters and memtables of all stores take now.
    pub fn memory_bytes(&self) -> usize {
        self.options.memory_bytes()
    }
}

fn store_path(folder: &Path, store: &str) -> PathBuf {
    folder.join("rocksdb").join(store)
}

impl Engines for RocksDbEngines {
    /// # Errors
    /// `Invalid` where another process has the store open or the folder cannot be written, `TaskCorrupted` where what lies
    /// there is damaged, `Fatal` for other failures of the disk.
    fn open(&self, folder: &Path, store: &str) -> Result<Box<dyn Engine>> {
        let path = store_path(folder, store);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::invalid(format!(
                "creating the folder of store \"{store}\": found {} not writable, wanted a folder of this process's own; \
                 check its owner and the setting of the state folder",
                path.display()
            ))
            .with_source(error)
        })?;
        let db = DB::open(self.options.database(), &path)
            .map_err(|error| open_error(store, &path, error))?;
        ingest::clean(&path);
        let position = read_position(&db, store)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let db = Arc::new(db);
        let shared = Arc::new(Shared {
            store: store.to_owned(),
            db: RwLock::new(Some(db.clone())),
            position: AtomicI64::new(position.unwrap_or(NO_POSITION)),
        });
        let options = Arc::clone(&self.options);
        Ok(Box::new(RocksDbEngine { db, options, shared, position, write_options, batch_bytes: 0 }))
    }

    fn wipe(&self, folder: &Path, store: &str) -> Result<()> {
        let path = store_path(folder, store);
        if !path.exists() {
            return Ok(());
        }
        // RocksDB goes first, because it refuses while the store is open somewhere; what it does not know is left to us.
        DB::destroy(self.options.database(), &path)
            .map_err(|error| open_error(store, &path, error))?;
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| {
                Error::fatal(format!("deleting store \"{store}\" at {}", path.display()))
                    .with_source(error)
            })?;
        }
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        true
    }

    fn cache(&self) -> Option<EngineCache> {
        Some(self.options.cache())
    }
}

/// What stands for no position in [`Shared::position`].
const NO_POSITION: i64 = -1;

struct RocksDbEngine {
    db: Arc<DB>,
    options: Arc<SharedOptions>,
    shared: Arc<Shared>,
    position: Option<i64>,
    write_options: WriteOptions,
    /// What the last batch needed.
    batch_bytes: usize,
}

/// What views have of an engine. RocksDB serves any number of readers beside the one writer.
struct Shared {
    store: String,
    /// `None` once the engine is closed. Views hold the lock while they read, so that closing waits for a page at most, and
    /// the database is truly closed, its files' lock released, when the engine is dropped.
    db: RwLock<Option<Arc<DB>>>,
    position: AtomicI64,
}

impl Shared {
    fn error(&self, attempted: &str, error: rocksdb::Error) -> Error {
        engine_error(&self.store, attempted, error)
    }

    fn read<T>(&self, read: impl FnOnce(&DB) -> Result<T>) -> Result<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        read(db.as_ref().ok_or_else(|| closed(&self.store))?)
    }
}

impl Drop for RocksDbEngine {
    fn drop(&mut self) {
        *self.shared.db.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn engine_error(store: &str, attempted: &str, error: rocksdb::Error) -> Error {
    let kind = if is_damage(&error) { ErrorKind::TaskCorrupted } else { ErrorKind::Fatal };
    Error::new(kind, format!("{attempted} store \"{store}\": {error}"))
}

fn get(db: &DB, store: &str, key: &[u8]) -> Result<Option<Bytes>> {
    let value = db.get_pinned(key_on_disk(key));
    let value = value.map_err(|error| engine_error(store, "reading", error))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

fn scan<'a>(
    db: &'a DB,
    store: &'a str,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
) -> EngineIter<'a> {
    if is_empty_range(from, to) {
        return Box::new(std::iter::empty());
    }
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(match from {
        Bound::Unbounded => FIRST_KEY.to_vec(),
        Bound::Included(key) => key_on_disk(key).into_owned(),
        Bound::Excluded(key) => successor(key_on_disk(key)),
    });
    match to {
        Bound::Unbounded => {}
        Bound::Included(key) => options.set_iterate_upper_bound(successor(key_on_disk(key))),
        Bound::Excluded(key) => options.set_iterate_upper_bound(key_on_disk(key).into_owned()),
    }
    let mut iter = db.raw_iterator_opt(options);
    match direction {
        Direction::Forward => iter.seek_to_first(),
        Direction::Backward => iter.seek_to_last(),
    }
    Box::new(RocksDbIter { store, iter, direction, is_ended: false })
}

fn approximate_entries(db: &DB, position: Option<i64>) -> u64 {
    let estimate = db.property_int_value(rocksdb::properties::ESTIMATE_NUM_KEYS);
    let entries = estimate.ok().flatten().unwrap_or(0);
    entries.saturating_sub(u64::from(position.is_some()))
}

impl RocksDbEngine {
    fn set_position(&mut self, position: Option<i64>) {
        self.position = position;
        self.shared.position.store(position.unwrap_or(NO_POSITION), Ordering::Relaxed);
    }
}

impl Engine for RocksDbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        get(&self.db, &self.shared.store, key)
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<EngineIter<'_>> {
        Ok(scan(&self.db, &self.shared.store, from, to, direction))
    }

    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: Option<i64>,
    ) -> Result<()> {
        let capacity = self.batch_bytes.min(BATCH_CAPACITY_BYTES_MAX);
        let mut batch = WriteBatch::with_capacity_bytes(capacity);
        // First, because it is the smallest key.
        if let Some(position) = position {
            batch.put(POSITION_KEY, position.to_be_bytes());
        }
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key_on_disk(key), value),
                None => batch.delete(key_on_disk(key)),
            }
        }
        self.batch_bytes = batch.size_in_bytes();
        self.db
            .write_opt(batch, &self.write_options)
            .map_err(|error| self.shared.error("writing to", error))?;
        self.set_position(position.or(self.position));
        Ok(())
    }

    fn ingest(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: i64,
    ) -> Result<()> {
        ingest::ingest(&self.db, self.options.database(), changes, position)
            .map_err(|error| self.shared.error("restoring", error))?;
        self.set_position(Some(position));
        Ok(())
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let (from, to) = (key_on_disk(from), key_on_disk(to));
        if from >= to {
            return Ok(());
        }
        // One tombstone for the whole range; reads of what lies outside it do not meet it.
        let mut batch = WriteBatch::default();
        batch.delete_range(&*from, &*to);
        self.db
            .write_opt(batch, &self.write_options)
            .map_err(|error| self.shared.error("deleting a range of", error))
    }

    fn position(&self) -> Option<i64> {
        self.position
    }

    fn approximate_entries(&self) -> u64 {
        approximate_entries(&self.db, self.position)
    }

    fn view(&self) -> Arc<dyn EngineView> {
        self.shared.clone()
    }

    fn close(self: Box<Self>) -> Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(|error| self.shared.error("flushing", error))
    }
}

impl EngineView for Shared {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.read(|db| get(db, &self.store, key))
    }

    fn page(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Vec<Entry>> {
        // An iterator of RocksDB reads the state of the moment it was made.
        self.read(|db| limits.collect(&mut *scan(db, &self.store, from, to, direction)))
    }

    fn approximate_entries(&self) -> Result<u64> {
        let position = EngineView::position(self)?;
        self.read(|db| Ok(approximate_entries(db, position)))
    }

    fn property(&self, name: &str) -> Option<u64> {
        self.read(|db| Ok(db.property_int_value(name).ok().flatten())).ok().flatten()
    }

    fn position(&self) -> Result<Option<i64>> {
        let position = self.position.load(Ordering::Relaxed);
        self.read(|_| Ok((position != NO_POSITION).then_some(position)))
    }
}

struct RocksDbIter<'a> {
    store: &'a str,
    iter: DBRawIterator<'a>,
    direction: Direction,
    is_ended: bool,
}

impl Iterator for RocksDbIter<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let Some((key, value)) = self.iter.item() else {
            self.is_ended = true;
            let error = self.iter.status().err()?;
            return Some(Err(engine_error(self.store, "scanning", error)));
        };
        let entry = (Bytes::copy_from_slice(user_key(key)), Bytes::copy_from_slice(value));
        match self.direction {
            Direction::Forward => self.iter.next(),
            Direction::Backward => self.iter.prev(),
        }
        Some(Ok(entry))
    }
}

fn is_zeros(key: &[u8]) -> bool {
    key.iter().all(|&byte| byte == 0)
}

fn key_on_disk(key: &[u8]) -> Cow<'_, [u8]> {
    if is_zeros(key) { Cow::Owned(vec![0; key.len() + 1]) } else { Cow::Borrowed(key) }
}

fn user_key(on_disk: &[u8]) -> &[u8] {
    match on_disk {
        [zero @ .., _] if is_zeros(on_disk) => zero,
        key => key,
    }
}

/// The key right after `key`.
fn successor(key: Cow<'_, [u8]>) -> Vec<u8> {
    let mut key = key.into_owned();
    key.push(0);
    key
}

fn read_position(db: &DB, store: &str) -> Result<Option<i64>> {
    let corrupted = |found: String| {
        let message = format!("opening store \"{store}\": found {found}, wanted its position");
        Error::new(ErrorKind::TaskCorrupted, message)
    };
    let Some(bytes) = db.get_pinned(POSITION_KEY).map_err(|error| corrupted(error.to_string()))?
    else {
        return Ok(None);
    };
    let bytes: [u8; 8] =
        bytes.as_ref().try_into().map_err(|_| corrupted(format!("{} bytes", bytes.len())))?;
    Ok(Some(i64::from_be_bytes(bytes)))
}

/// Whether wiping and restoring helps. A file missing from a database is damage as much as a wrong checksum.
fn is_damage(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::Corruption
        || error.as_ref().contains("No such file or directory")
}

fn open_error(store: &str, path: &Path, error: rocksdb::Error) -> Error {
    let text: &str = error.as_ref();
    // RocksDB has one kind for all failures of files; only the text tells them apart.
    let is_locked = text.contains("While lock file") || text.contains("lock hold by");
    let is_refused = text.contains("Permission denied") || text.contains("Read-only file system");
    let path = path.display();
    let attempted = format!("opening store \"{store}\"");
    if is_damage(&error) {
        return Error::new(ErrorKind::TaskCorrupted, format!("{attempted} at {path}: {text}"));
    }
    match error.kind() {
        rocksdb::ErrorKind::IOError if is_locked => Error::invalid(format!(
            "{attempted}: found {path} in use by another instance, wanted it free; give each instance a state folder of its own"
        )),
        rocksdb::ErrorKind::IOError if is_refused => Error::invalid(format!(
            "{attempted}: found {path} not writable, wanted a folder of this process's own; check its owner ({text})"
        )),
        rocksdb::ErrorKind::InvalidArgument => Error::invalid(format!(
            "{attempted}: found {path} not readable by this version ({text}); delete it, and the changelog restores it"
        )),
        _ => Error::fatal(format!("{attempted} at {path}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_on_disk_as_documented() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b"", b"\0"), (b"\0\0", b"\0\0\0"), (b"\0\x01", b"\0\x01"), (b"a\0", b"a\0")];
        for (key, on_disk) in cases {
            assert_eq!(key_on_disk(key), on_disk);
            assert_eq!(user_key(on_disk), key);
        }
    }

    #[test]
    fn keys_on_disk_keep_the_order() {
        // Every key of up to four bytes out of {0, 1}, beside itself and every other.
        let mut keys = vec![vec![]];
        for length in 1..=4u32 {
            for bits in 0..1u32 << length {
                keys.push((0..length).map(|i| (bits >> i & 1) as u8).collect());
            }
        }
        for a in &keys {
            for b in &keys {
                assert_eq!(a.cmp(b), key_on_disk(a).cmp(&key_on_disk(b)), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_store_in_use_is_refused_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let engines = RocksDbEngines::new(&RocksDbOptions::default());
        let open = engines.open(folder.path(), "s").unwrap();
        for error in [
            engines.open(folder.path(), "s").err().unwrap(),
            engines.wipe(folder.path(), "s").err().unwrap(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.message().contains("in use by another instance"), "{error}");
        }
        open.close().unwrap();
        engines.wipe(folder.path(), "s").unwrap();
        assert!(!store_path(folder.path(), "s").exists());
    }

    #[test]
    fn damage_is_corruption() {
        let folder = tempfile::tempdir().unwrap();
        let engines = RocksDbEngines::new(&RocksDbOptions::default());
        engines.open(folder.path(), "s").unwrap().close().unwrap();
        let path = store_path(folder.path(), "s");
        std::fs::write(path.join("CURRENT"), "MANIFEST-999999\n").unwrap();
        let error = engines.open(folder.path(), "s").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TaskCorrupted, "{error}");
        engines.wipe(folder.path(), "s").unwrap();
        assert_eq!(engines.open(folder.path(), "s").unwrap().position(), None);
    }
}
