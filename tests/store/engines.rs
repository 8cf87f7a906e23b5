//! The engines that every test of the contract runs on.

use std::path::Path;

use kstreams::store::{Engine, Engines, MemoryEngines};

/// An engine under test, with the folder it lives in.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    engines: Box<dyn Engines>,
    folder: tempfile::TempDir,
}

impl Subject {
    fn new(name: &'static str, engines: impl Engines + 'static) -> Self {
        Self { name, engines: Box::new(engines), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn open(&self) -> Box<dyn Engine> {
        self.engines.open(self.folder(), "store").unwrap()
    }

    pub(crate) fn wipe(&self) {
        self.engines.wipe(self.folder(), "store").unwrap();
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.engines.is_persistent()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// One subject of each kind, new and empty.
pub(crate) fn all() -> Vec<Subject> {
    vec![
        Subject::new("memory", MemoryEngines),
        #[cfg(feature = "rocksdb")]
        Subject::new("rocksdb", rocksdb()),
    ]
}

#[cfg(feature = "rocksdb")]
fn rocksdb() -> kstreams::store::rocksdb::RocksDbEngines {
    kstreams::store::rocksdb::RocksDbEngines::new(&Default::default())
}
