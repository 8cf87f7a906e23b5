//! How stores are made: what a task asks of a builder, whatever the store's type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, StateStore};
use crate::error::Result;

/// Where a store keeps its committed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// On disk (RocksDB), restored from where it stood.
    Persistent,
    /// In memory, restored whole.
    InMemory,
}

/// Makes one task's instance of a store. Source: `StoreBuilder`.
pub trait StoreBuilder: Send + Sync + 'static {
    /// The store's name.
    fn name(&self) -> &Arc<str>;
    /// Where it keeps its state.
    fn kind(&self) -> StoreKind;
    /// The changelog topic's configuration; `None`: logging is off, the state dies with its disk.
    fn changelog(&self) -> Option<BTreeMap<String, String>>;
    /// Whether a table's changes in this store may be held back by the record cache (`withCachingEnabled`).
    fn is_caching(&self) -> bool {
        false
    }
    /// How far back a versioned store goes; `None` for every other.
    fn history_retention(&self) -> Option<Duration> {
        None
    }
    /// How long an entry lives after its timestamp; `None`: until it is deleted. Such a store needs a changelog topic of its own, or none.
    fn ttl(&self) -> Option<Duration> {
        None
    }
    /// A new instance on an engine. `topic` is the name that serdes see; `cache_bytes_max` bounds its row cache.
    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>>;
}
