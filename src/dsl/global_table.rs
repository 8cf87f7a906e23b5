//! Global tables: a whole topic on every instance.

use std::marker::PhantomData;
use std::sync::Arc;

/// A table that every instance holds whole, so that a stream can look up any key. Source: `GlobalKTable`.
pub struct GlobalKTable<K, V> {
    pub(super) store: Arc<str>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> GlobalKTable<K, V> {
    pub(super) fn new(store: Arc<str>) -> Self {
        Self { store, types: PhantomData }
    }

    /// The name of the table's store.
    pub fn store_name(&self) -> &str {
        &self.store
    }
}
