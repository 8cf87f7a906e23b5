//! Large batches of restoration: a sorted file made beside the database and taken into it as it is.
//!
//! Against a write batch this saves the memtable (a search in a skip list for each entry) and its flush, and what is in the database is
//! durable at once: a process that is killed goes on after the last file. The position lies in the file as in a batch, so that both come
//! together. It lies in the memtable too, where a batch came before: RocksDB sees the overlap, and flushes the memtable first, so that the file is
//! the newer one.

use std::path::Path;

use rocksdb::{DB, Error, IngestExternalFileOptions, Options, SstFileWriter};

use super::{POSITION_KEY, key_on_disk};
use crate::store::Change;

/// Beside the database's own files, whose names are numbers; moved into the database or, after a crash, deleted by the next start.
const FILE: &str = "restore.sst";

/// Takes changes, sorted by key, and the position into the database.
pub(super) fn ingest(
    db: &DB,
    options: &Options,
    changes: &mut dyn Iterator<Item = Change<'_>>,
    position: i64,
) -> Result<(), Error> {
    let path = db.path().join(FILE);
    let mut file = SstFileWriter::create(options);
    file.open(&path)?;
    // First, because it is the smallest key.
    file.put(POSITION_KEY, position.to_be_bytes())?;
    for (key, value) in changes {
        match value {
            Some(value) => file.put(key_on_disk(key), value)?,
            None => file.delete(key_on_disk(key))?,
        }
    }
    file.finish()?;
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    db.ingest_external_file_opts(&options, vec![path])
}

/// Deletes what a crash has left.
pub(super) fn clean(folder: &Path) {
    // Nothing is lost where it cannot be deleted: the next file takes its place.
    let _ = std::fs::remove_file(folder.join(FILE));
}
