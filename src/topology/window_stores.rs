//! Builders of window and session stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::internal_topics::windowed_changelog_configs;
use super::state_store::Stores;
use crate::error::{Error, Result};
use crate::serdes::{DefaultSerde, Serde};
use crate::store::{
    Engine, KeepsHeaders, RowOrder, SegmentedStoreOptions, SessionStore, StateStore, StoreBuilder,
    StoreKind, TransactionalStoreOptions, ValueAndHeaders, ValueFormat, WindowStore,
    WindowStoreOptions,
};

impl Stores {
    /// A persistent window store of types that know their serdes, which keeps windows for `retention` after the newest one began.
    pub fn window_store<K, V>(
        name: &str,
        retention: Duration,
        window_size: Duration,
    ) -> WindowStoreBuilder<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        Self::window_store_with(name, retention, window_size, K::serde(), V::serde())
    }

    /// A persistent window store with given serdes.
    pub fn window_store_with<K, V>(
        name: &str,
        retention: Duration,
        window_size: Duration,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> WindowStoreBuilder<K, V> {
        WindowStoreBuilder {
            settings: Settings::new(name, retention),
            window_size,
            retain_duplicates: false,
            format: ValueFormat::Plain,
            key_serde,
            value_serde,
        }
    }

    /// A persistent window store that keeps timestamp and headers with every value, of types that know their serdes. Source:
    /// `timestampedWindowStoreWithHeadersBuilder` (KIP-1271).
    pub fn window_store_with_headers<K, V>(
        name: &str,
        retention: Duration,
        window_size: Duration,
    ) -> WindowStoreBuilder<K, ValueAndHeaders<V>>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        let mut builder = Self::window_store(name, retention, window_size).timestamped();
        builder.settings.keeps_headers = true;
        builder
    }

    /// A persistent session store that keeps headers with every aggregate, of types that know their serdes. Source:
    /// `sessionStoreWithHeadersBuilder` (KIP-1271).
    pub fn session_store_with_headers<K, V>(
        name: &str,
        retention: Duration,
    ) -> SessionStoreBuilder<K, ValueAndHeaders<V>>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        let mut builder = Self::session_store(name, retention);
        builder.settings.keeps_headers = true;
        builder
    }

    /// A persistent session store of types that know their serdes, which keeps sessions for `retention` after the newest one ended.
    pub fn session_store<K, V>(name: &str, retention: Duration) -> SessionStoreBuilder<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        Self::session_store_with(name, retention, K::serde(), V::serde())
    }

    /// A persistent session store with given serdes.
    pub fn session_store_with<K, V>(
        name: &str,
        retention: Duration,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> SessionStoreBuilder<K, V> {
        SessionStoreBuilder { settings: Settings::new(name, retention), key_serde, value_serde }
    }
}

/// What both kinds of store are told.
struct Settings {
    name: Arc<str>,
    retention: Duration,
    /// What the store keeps beyond its retention.
    additional: Duration,
    kind: StoreKind,
    order: RowOrder,
    /// The values are `ValueAndHeaders`.
    keeps_headers: bool,
    logging: Option<BTreeMap<String, String>>,
    caching: bool,
}

impl Settings {
    fn new(name: &str, retention: Duration) -> Self {
        Self {
            name: name.into(),
            retention,
            additional: Duration::ZERO,
            kind: StoreKind::Persistent,
            order: RowOrder::default(),
            keeps_headers: false,
            logging: Some(BTreeMap::new()),
            caching: false,
        }
    }

    fn finish(&self, store: impl StateStore) -> Box<dyn StateStore> {
        if self.keeps_headers { Box::new(KeepsHeaders(store)) } else { Box::new(store) }
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        let mut configs = windowed_changelog_configs(self.retention);
        configs.extend(self.logging.clone()?);
        Some(configs)
    }

    fn options(&self, value_format: ValueFormat, cache_bytes_max: usize) -> SegmentedStoreOptions {
        let is_logged = self.logging.is_some();
        SegmentedStoreOptions {
            store: TransactionalStoreOptions { cache_bytes_max, value_format, is_logged },
            retention: self.retention,
            additional_retention: self.additional,
            order: self.order,
        }
    }
}

/// What is the same in both builders.
macro_rules! settings {
    () => {
        /// Keeps the state in memory, with rows in order of time and key as Java's in-memory stores have them.
        pub fn in_memory(mut self) -> Self {
            self.settings.kind = StoreKind::InMemory;
            self.settings.order = match self.settings.order {
                RowOrder::KeyFirst => RowOrder::TimeFirstIndexed,
                order => order,
            };
            self
        }

        /// Orders the rows otherwise than by segment, key and time.
        pub fn row_order(mut self, order: RowOrder) -> Self {
            self.settings.order = order;
            self
        }

        /// Keeps rows for longer than the retention says, for the operator alone that the store belongs to.
        pub(crate) fn keep_longer(mut self, additional: Duration) -> Self {
            self.settings.additional = additional;
            self
        }

        /// Lets the record cache hold back what a table forwards of its changes in this store (`withCachingEnabled`).
        pub fn caching_enabled(mut self) -> Self {
            self.settings.caching = true;
            self
        }

        /// Holds nothing back (`withCachingDisabled`), the default.
        pub fn caching_disabled(mut self) -> Self {
            self.settings.caching = false;
            self
        }

        /// Makes no changelog: the state is lost with its disk (`withLoggingDisabled`).
        pub fn logging_disabled(mut self) -> Self {
            self.settings.logging = None;
            self
        }

        /// Adds configuration to the changelog topic (`withLoggingEnabled`); its `retention.ms` is the store's and a day if not given.
        pub fn logging_enabled(mut self, configs: BTreeMap<String, String>) -> Self {
            self.settings.logging = Some(configs);
            self
        }
    };
}

/// Builds a [`WindowStore`]. Source: `Stores.persistentWindowStore`, `Stores.inMemoryWindowStore`.
pub struct WindowStoreBuilder<K, V> {
    settings: Settings,
    window_size: Duration,
    retain_duplicates: bool,
    format: ValueFormat,
    key_serde: Serde<K>,
    value_serde: Serde<V>,
}

impl<K, V> WindowStoreBuilder<K, V> {
    settings!();

    /// Keeps a timestamp with every value (`timestampedWindowStoreBuilder`).
    pub fn timestamped(mut self) -> Self {
        self.format = ValueFormat::Timestamped;
        self
    }

    /// Lets several values of a key stand in one window, in the order they were put (`retainDuplicates`).
    pub fn retain_duplicates(mut self) -> Self {
        self.retain_duplicates = true;
        self
    }
}

impl<K, V> StoreBuilder for WindowStoreBuilder<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    fn kind(&self) -> StoreKind {
        self.settings.kind
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        self.settings.changelog()
    }

    fn is_caching(&self) -> bool {
        self.settings.caching
    }

    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>> {
        if self.settings.retention < self.window_size {
            return Err(Error::invalid(format!(
                "window store \"{}\": found retention {:?}, wanted at least the window size {:?}",
                self.settings.name, self.settings.retention, self.window_size
            )));
        }
        let options = WindowStoreOptions {
            segments: self.settings.options(self.format, cache_bytes_max),
            window_size: self.window_size,
            retain_duplicates: self.retain_duplicates,
        };
        let (key_serde, value_serde) = (self.key_serde.clone(), self.value_serde.clone());
        let name = self.settings.name.clone();
        let store = WindowStore::open(name, key_serde, value_serde, engine, options)?;
        Ok(self.settings.finish(store.with_topic(topic.clone())))
    }
}

/// Builds a [`SessionStore`]. Source: `Stores.persistentSessionStore`, `Stores.inMemorySessionStore`.
pub struct SessionStoreBuilder<K, V> {
    settings: Settings,
    key_serde: Serde<K>,
    value_serde: Serde<V>,
}

impl<K, V> SessionStoreBuilder<K, V> {
    settings!();
}

impl<K, V> StoreBuilder for SessionStoreBuilder<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    fn kind(&self) -> StoreKind {
        self.settings.kind
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        self.settings.changelog()
    }

    fn is_caching(&self) -> bool {
        self.settings.caching
    }

    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>> {
        let options = self.settings.options(ValueFormat::Plain, cache_bytes_max);
        let (key_serde, value_serde) = (self.key_serde.clone(), self.value_serde.clone());
        let name = self.settings.name.clone();
        let store = SessionStore::open(name, key_serde, value_serde, engine, options)?;
        Ok(self.settings.finish(store.with_topic(topic.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_keeps_a_day_longer_than_the_store() {
        let retention = Duration::from_millis(5);
        let builder = Stores::window_store::<String, i64>("s", retention, retention);
        let configs = builder.changelog().unwrap();
        assert_eq!(configs["cleanup.policy"], "compact,delete");
        assert_eq!(configs["retention.ms"], "86400005");
        let own = BTreeMap::from([("retention.ms".to_owned(), "7".to_owned())]);
        let builder = Stores::session_store::<String, i64>("s", retention).logging_enabled(own);
        assert_eq!(builder.changelog().unwrap()["retention.ms"], "7");
        assert_eq!(builder.logging_disabled().changelog(), None);
    }

    #[test]
    fn a_retention_below_the_window_is_refused() {
        let size = Duration::from_millis(5);
        let builder =
            Stores::window_store::<String, i64>("s", Duration::from_millis(4), size).timestamped();
        let engine = Box::<crate::store::MemoryEngine>::default();
        let error = builder.build(engine, &"t".into(), 0).err().unwrap();
        assert!(error.message().contains("wanted at least the window size 5ms"), "{error}");
    }
}
