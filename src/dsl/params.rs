//! The optional arguments of DSL calls, under Kafka Streams' names. What is not given is inherited or taken from the type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::processor::{StreamPartitioner, TimestampExtractor};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{AutoOffsetReset, StoreKind};

/// A name for a node. Source: `Named`.
#[derive(Debug, Clone, Default)]
pub struct Named(pub(super) Option<Arc<str>>);

impl Named {
    /// Names the node `name`.
    pub fn new(name: &str) -> Self {
        Self(Some(name.into()))
    }
}

/// How a source reads. Source: `Consumed`.
pub struct Consumed<K, V> {
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V>,
    pub(super) extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    pub(super) offset_reset: Option<AutoOffsetReset>,
    pub(super) name: Option<Arc<str>>,
}

impl<K, V> Consumed<K, V> {
    /// Reads with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { key_serde, value_serde, extractor: None, offset_reset: None, name: None }
    }

    /// Says where to begin in a partition of which nothing is committed. A global table always begins at the first record, as in Java.
    pub fn with_offset_reset_policy(mut self, policy: AutoOffsetReset) -> Self {
        self.offset_reset = Some(policy);
        self
    }

    /// Takes event time out of the record.
    pub fn with_timestamp_extractor(
        mut self,
        extractor: impl TimestampExtractor<K, V> + 'static,
    ) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Names the source node.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Consumed<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a sink writes. Source: `Produced`.
pub struct Produced<K, V> {
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V>,
    pub(super) partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    pub(super) name: Option<Arc<str>>,
}

impl<K, V> Produced<K, V> {
    /// Writes with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { key_serde, value_serde, partitioner: None, name: None }
    }

    /// Chooses partitions.
    pub fn with_stream_partitioner(
        mut self,
        partitioner: impl StreamPartitioner<K, V> + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Names the sink node.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Produced<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a stream is repartitioned. Source: `Repartitioned`.
pub struct Repartitioned<K, V> {
    pub(super) produced: Produced<K, V>,
    pub(super) partitions: Option<i32>,
}

impl<K, V> Repartitioned<K, V> {
    /// Repartitions with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { produced: Produced::with(key_serde, value_serde), partitions: None }
    }

    /// Names the topic `<application.id>-<name>-repartition`.
    pub fn with_name(mut self, name: &str) -> Self {
        self.produced.name = Some(name.into());
        self
    }

    /// Fixes the number of partitions.
    pub fn with_number_of_partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Chooses partitions.
    pub fn with_stream_partitioner(
        mut self,
        partitioner: impl StreamPartitioner<K, V> + 'static,
    ) -> Self {
        self.produced.partitioner = Some(Arc::new(partitioner));
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Repartitioned<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a stream is grouped. Source: `Grouped`.
pub struct Grouped<K, V> {
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V>,
    pub(super) name: Option<Arc<str>>,
}

impl<K, V> Clone for Grouped<K, V> {
    fn clone(&self) -> Self {
        let (key_serde, value_serde) = (self.key_serde.clone(), self.value_serde.clone());
        Self { key_serde, value_serde, name: self.name.clone() }
    }
}

impl<K, V> Grouped<K, V> {
    /// Repartitions, where that is needed, with these serdes; the key's is the store's too.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { key_serde, value_serde, name: None }
    }

    /// Names the repartition topic, and the key-selecting node.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Grouped<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a stream is joined with a table: serdes of the stream's side, for a repartition topic where one is needed. Source: `Joined`.
pub struct Joined<K, V> {
    pub(super) serdes: Option<(Serde<K>, Serde<V>)>,
    pub(super) name: Option<Arc<str>>,
    pub(super) grace: Option<Duration>,
}

impl<K, V> Default for Joined<K, V> {
    fn default() -> Self {
        Self { serdes: None, name: None, grace: None }
    }
}

impl<K, V> Joined<K, V> {
    /// Repartitions, where that is needed, with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { serdes: Some((key_serde, value_serde)), ..Self::default() }
    }

    /// Names the join node, its repartition topic and its buffer.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds each record back until the stream is `grace` further, so that table updates which come late, by offset, still count.
    /// The table has to be versioned, with a history of `grace` at least. The stream's serdes have to be known: waiting records
    /// lie in a store. Source: `withGracePeriod` (KIP-923).
    pub fn with_grace_period(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }
}

/// How a table is kept. Source: `Materialized`.
pub struct Materialized<K, V> {
    pub(super) name: Option<Arc<str>>,
    pub(super) serdes: Option<(Serde<K>, Serde<V>)>,
    pub(super) kind: StoreKind,
    pub(super) logging: Option<BTreeMap<String, String>>,
    pub(super) caching: bool,
    pub(super) history_retention: Option<Duration>,
    /// How long a row lives after its timestamp; `None`: until it is deleted.
    pub(super) ttl: Option<Duration>,
    /// How long a windowed table is kept; `None`: as long as its windows need.
    pub(super) retention: Option<Duration>,
}

impl<K, V> Default for Materialized<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            serdes: None,
            kind: StoreKind::Persistent,
            logging: Some(BTreeMap::new()),
            caching: true,
            history_retention: None,
            ttl: None,
            retention: None,
        }
    }
}

impl<K, V> Materialized<K, V> {
    /// Keeps the table in a store of this name, which can be queried.
    pub fn named(store: &str) -> Self {
        Self { name: Some(store.into()), ..Self::default() }
    }

    /// Keeps the table with these serdes.
    pub fn with(key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        Self { serdes: Some((key_serde, value_serde)), ..Self::default() }
    }

    /// Keeps the table with these serdes.
    pub fn with_serdes(mut self, key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        self.serdes = Some((key_serde, value_serde));
        self
    }

    /// Keeps the table in memory.
    pub fn in_memory(mut self) -> Self {
        self.kind = StoreKind::InMemory;
        self
    }

    /// Keeps every version of each row in a store of this name, as far back as `history_retention` behind stream time, and tells late
    /// updates from latest ones: aggregations and joins of the table leave late ones out. Not for global and windowed tables.
    /// Source: `Materialized.as(Stores.persistentVersionedKeyValueStore(…))` (KIP-889, KIP-914).
    pub fn versioned(store: &str, history_retention: Duration) -> Self {
        Self { history_retention: Some(history_retention), ..Self::named(store) }
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.history_retention.is_some()
    }

    /// Keeps the windows of a windowed table for `retention` after the newest one began (a session: ended); at least as long as they may
    /// still change.
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Lets the record cache hold the table's changes back until the next commit, so that of several updates of a key only the last one
    /// is forwarded. The default, but for versioned tables and final results of windows, which are never held back.
    pub fn with_caching_enabled(mut self) -> Self {
        self.caching = true;
        self
    }

    /// Has every update forwarded at once.
    pub fn with_caching_disabled(mut self) -> Self {
        self.caching = false;
        self
    }

    /// Makes no changelog.
    pub fn with_logging_disabled(mut self) -> Self {
        self.logging = None;
        self
    }
}
