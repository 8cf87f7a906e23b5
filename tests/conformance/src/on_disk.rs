//! Stores on RocksDB, each case in a folder of its own.

use std::path::Path;
use std::sync::Arc;

use kstreams::store::rocksdb::{RocksDbEngines, RocksDbOptions};
use kstreams::store::{Engine, Engines};
use kstreams::{Error, Result};
use tempfile::TempDir;

use crate::run::Stores;

/// Makes RocksDB engines that share one memory budget.
pub struct OnDisk {
    engines: Arc<RocksDbEngines>,
}

impl Default for OnDisk {
    fn default() -> Self {
        Self { engines: Arc::new(RocksDbEngines::new(&RocksDbOptions::default())) }
    }
}

impl Stores for OnDisk {
    fn engines(&self) -> Result<Arc<dyn Engines>> {
        let folder = TempDir::new()
            .map_err(|error| Error::invalid("no temporary folder for stores").with_source(error))?;
        Ok(Arc::new(InFolder { engines: self.engines.clone(), folder }))
    }
}

struct InFolder {
    engines: Arc<RocksDbEngines>,
    folder: TempDir,
}

impl Engines for InFolder {
    fn open(&self, folder: &Path, store: &str) -> Result<Box<dyn Engine>> {
        self.engines.open(&self.folder.path().join(folder), store)
    }

    fn wipe(&self, folder: &Path, store: &str) -> Result<()> {
        self.engines.wipe(&self.folder.path().join(folder), store)
    }

    fn is_persistent(&self) -> bool {
        true
    }
}
