//! How stores are made: builders, given to the topology, that every task calls for its own instance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::internal_topics::key_value_changelog_configs;
use crate::error::Result;
use crate::serdes::{DefaultSerde, Serde};
use crate::store::{
    Engine, ExpiredBy, KeepsHeaders, KeyValueStore, StateStore, StoreBuilder, StoreKind, Timer,
    TransactionalStoreOptions, ValueAndHeaders, ValueFormat, timer_serde,
};

/// Entry to the store builders. Source: `org.apache.kafka.streams.state.Stores`.
#[derive(Debug)]
pub struct Stores;

impl Stores {
    /// A persistent store of timers by key, each with a payload, of types that know their serdes.
    pub fn timer_store<K, V>(name: &str) -> KeyValueStoreBuilder<Timer<K>, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        Self::key_value_store_with(name, timer_serde(K::serde()), V::serde())
    }

    /// A persistent key-value store that keeps timestamp and headers with every value, of types that know their serdes. Source:
    /// `timestampedKeyValueStoreWithHeadersBuilder` (KIP-1271).
    ///
    /// ```
    /// use kstreams::store::{KeyValueStore, ValueAndHeaders};
    /// use kstreams::{Processor, ProcessorContext, Record, Result, Stores, StreamsBuilder};
    ///
    /// struct Keep;
    ///
    /// impl Processor<String, i64, String, i64> for Keep {
    ///     fn process(
    ///         &mut self,
    ///         record: Record<String, i64>,
    ///         context: &mut ProcessorContext<'_, '_, String, i64>,
    ///     ) -> Result<()> {
    ///         let Record { key, value, timestamp, headers } = record;
    ///         let handle = context.state_store::<KeyValueStore<String, ValueAndHeaders<i64>>>("kept")?;
    ///         let kept = ValueAndHeaders { value, headers };
    ///         context.store(handle).put_with_timestamp(&key, &kept, timestamp)
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.add_state_store(Stores::key_value_store_with_headers::<String, i64>("kept"));
    /// builder.stream::<String, i64>("in").process::<String, i64, _>(|| Keep, &["kept"]);
    /// assert!(builder.build().is_ok());
    /// ```
    pub fn key_value_store_with_headers<K, V>(
        name: &str,
    ) -> KeyValueStoreBuilder<K, ValueAndHeaders<V>>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        let builder = Self::key_value_store::<K, ValueAndHeaders<V>>(name).timestamped();
        KeyValueStoreBuilder { keeps_headers: true, ..builder }
    }

    /// A persistent key-value store of types that know their serdes.
    pub fn key_value_store<K, V>(name: &str) -> KeyValueStoreBuilder<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        Self::key_value_store_with(name, K::serde(), V::serde())
    }

    /// A persistent key-value store with given serdes.
    pub fn key_value_store_with<K, V>(
        name: &str,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> KeyValueStoreBuilder<K, V> {
        KeyValueStoreBuilder {
            name: name.into(),
            key_serde,
            value_serde,
            kind: StoreKind::Persistent,
            format: ValueFormat::Plain,
            keeps_headers: false,
            logging: Some(BTreeMap::new()),
            ttl: None,
            expired_by: ExpiredBy::Store,
            caching: false,
        }
    }
}

/// Builds a [`KeyValueStore`].
pub struct KeyValueStoreBuilder<K, V> {
    name: Arc<str>,
    key_serde: Serde<K>,
    value_serde: Serde<V>,
    kind: StoreKind,
    format: ValueFormat,
    /// The values are `ValueAndHeaders`.
    keeps_headers: bool,
    logging: Option<BTreeMap<String, String>>,
    ttl: Option<Duration>,
    expired_by: ExpiredBy,
    caching: bool,
}

impl<K, V> KeyValueStoreBuilder<K, V> {
    /// Keeps the state in memory (`Stores.inMemoryKeyValueStore`).
    pub fn in_memory(mut self) -> Self {
        self.kind = StoreKind::InMemory;
        self
    }

    /// Keeps a timestamp with every value (`timestampedKeyValueStoreBuilder`).
    pub fn timestamped(mut self) -> Self {
        self.format = ValueFormat::Timestamped;
        self
    }

    /// Keeps a timestamp with every value, and lets an entry live until `ttl` (a millisecond at least) after it, by stream time: the highest timestamp that the
    /// task has seen. Then it reads as absent, to interactive queries too; it is deleted in a later commit, with a tombstone on the changelog.
    ///
    /// A commit looks at 1000 expired entries, and two more for each entry written since the last one. An entry that has outlived its time when it is
    /// written is not written (`kstreams_records_dropped_total`, reason `expired`). What a punctuation on the wall clock writes with
    /// [`put`](KeyValueStore::put) has the wall clock's time. Nothing is forwarded; a table that tells of each row's end is
    /// [`Materialized::with_ttl`](crate::Materialized::with_ttl). Not for stores that another topic is the changelog of.
    ///
    /// Deviation: Kafka Streams has none (KAFKA-4212).
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self.timestamped()
    }

    /// Leaves what has expired to the store's processor, which tells others.
    pub(crate) fn expired_by_processor(mut self) -> Self {
        self.expired_by = ExpiredBy::Processor;
        self
    }

    /// Lets the record cache hold back what a table forwards of its changes in this store (`withCachingEnabled`). Nothing changes for
    /// processors of one's own, which forward themselves.
    pub fn caching_enabled(mut self) -> Self {
        self.caching = true;
        self
    }

    /// Holds nothing back (`withCachingDisabled`), the default.
    pub fn caching_disabled(mut self) -> Self {
        self.caching = false;
        self
    }

    /// Makes no changelog: the state is lost with its disk (`withLoggingDisabled`).
    pub fn logging_disabled(mut self) -> Self {
        self.logging = None;
        self
    }

    /// Adds configuration to the changelog topic (`withLoggingEnabled`).
    pub fn logging_enabled(mut self, configs: BTreeMap<String, String>) -> Self {
        self.logging = Some(configs);
        self
    }
}

impl<K, V> StoreBuilder for KeyValueStoreBuilder<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> StoreKind {
        self.kind
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        let mut configs = key_value_changelog_configs();
        configs.extend(self.logging.clone()?);
        Some(configs)
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn is_caching(&self) -> bool {
        self.caching
    }

    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>> {
        let options = TransactionalStoreOptions {
            value_format: self.format,
            is_logged: self.logging.is_some(),
            cache_bytes_max,
        };
        let (key_serde, value_serde) = (self.key_serde.clone(), self.value_serde.clone());
        let store = KeyValueStore::open(self.name.clone(), key_serde, value_serde, engine, options);
        let store = store.with_topic(topic.clone());
        let store = match self.ttl {
            Some(ttl) => store.with_ttl(ttl, self.expired_by),
            None => store,
        };
        Ok(if self.keeps_headers { Box::new(KeepsHeaders(store)) } else { Box::new(store) })
    }
}

/// A store of the topology and who uses it.
#[derive(Clone)]
pub(crate) struct StoreSpec {
    pub(crate) builder: Arc<dyn StoreBuilder>,
}

/// A global store: fed from its topic by the global thread, read by everyone.
#[derive(Clone)]
pub(crate) struct GlobalStoreSpec {
    pub(crate) builder: Arc<dyn StoreBuilder>,
    pub(crate) source: usize,
    pub(crate) processor: usize,
}
