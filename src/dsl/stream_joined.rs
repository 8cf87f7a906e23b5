//! How two streams are joined: names, serdes and stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::serdes::{DefaultSerde, Serde};
use crate::topology::StoreKind;

/// How a stream-stream join keeps its records. Source: `StreamJoined`.
///
/// ```
/// use kstreams::StreamJoined;
///
/// let joined: StreamJoined<String, i64, i64> =
///     StreamJoined::default().with_name("paid-orders").with_store_name("paid-orders");
/// ```
pub struct StreamJoined<K, V1, V2> {
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V1>,
    pub(super) other_value_serde: Serde<V2>,
    pub(super) name: Option<Arc<str>>,
    pub(super) store_name: Option<Arc<str>>,
    pub(super) kind: StoreKind,
    pub(super) logging: Option<BTreeMap<String, String>>,
}

impl<K, V1, V2> StreamJoined<K, V1, V2> {
    /// Stores, and repartitions where that is needed, with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V1>, other_value_serde: Serde<V2>) -> Self {
        Self {
            key_serde,
            value_serde,
            other_value_serde,
            name: None,
            store_name: None,
            kind: StoreKind::Persistent,
            logging: Some(BTreeMap::new()),
        }
    }

    /// Names the join's nodes, and its repartition topics `<name>-left-repartition` and `<name>-right-repartition`.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Names the join's stores, and with them its changelogs.
    pub fn with_store_name(mut self, name: &str) -> Self {
        self.store_name = Some(name.into());
        self
    }

    /// Keeps the records in memory (`withThisStoreSupplier`, `withOtherStoreSupplier` with in-memory stores).
    pub fn in_memory(mut self) -> Self {
        self.kind = StoreKind::InMemory;
        self
    }

    /// Makes no changelogs: what the join keeps is lost with its disk.
    pub fn with_logging_disabled(mut self) -> Self {
        self.logging = None;
        self
    }

    /// Adds configuration to the changelogs; their `cleanup.policy` stays with the engine.
    pub fn with_logging_enabled(mut self, configs: BTreeMap<String, String>) -> Self {
        self.logging = Some(configs);
        self
    }
}

impl<K: DefaultSerde, V1: DefaultSerde, V2: DefaultSerde> Default for StreamJoined<K, V1, V2> {
    fn default() -> Self {
        Self::with(K::serde(), V1::serde(), V2::serde())
    }
}
