//! The builder of versioned key-value stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::internal_topics::versioned_changelog_configs;
use super::state_store::Stores;
use crate::error::{Error, Result};
use crate::serdes::{DefaultSerde, Serde};
use crate::store::{
    Engine, Retention, StateStore, StoreBuilder, StoreKind, TransactionalStoreOptions,
    VersionedKeyValueStore,
};

impl Stores {
    /// A persistent versioned key-value store of types that know their serdes, with versions as far back as `history_retention`
    /// behind stream time. Source: `persistentVersionedKeyValueStore`, `versionedKeyValueStoreBuilder`.
    pub fn versioned_key_value_store<K, V>(
        name: &str,
        history_retention: Duration,
    ) -> VersionedKeyValueStoreBuilder<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        Self::versioned_key_value_store_with(name, history_retention, K::serde(), V::serde())
    }

    /// A persistent versioned key-value store with given serdes.
    pub fn versioned_key_value_store_with<K, V>(
        name: &str,
        history_retention: Duration,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> VersionedKeyValueStoreBuilder<K, V> {
        VersionedKeyValueStoreBuilder {
            name: name.into(),
            key_serde,
            value_serde,
            kind: StoreKind::Persistent,
            history_retention,
            segment_interval: None,
            logging: Some(BTreeMap::new()),
        }
    }
}

/// Builds a [`VersionedKeyValueStore`]. Source: `VersionedKeyValueStoreBuilder`.
pub struct VersionedKeyValueStoreBuilder<K, V> {
    name: Arc<str>,
    key_serde: Serde<K>,
    value_serde: Serde<V>,
    kind: StoreKind,
    history_retention: Duration,
    segment_interval: Option<Duration>,
    logging: Option<BTreeMap<String, String>>,
}

impl<K, V> VersionedKeyValueStoreBuilder<K, V> {
    /// Keeps the state in memory. Deviation: Kafka Streams has versioned stores on disk only.
    pub fn in_memory(mut self) -> Self {
        self.kind = StoreKind::InMemory;
        self
    }

    /// Drops old versions in steps of this length, at least one millisecond; without it, a third to a 24th of the history.
    /// Source: the last argument of `persistentVersionedKeyValueStore`.
    pub fn segment_interval(mut self, interval: Duration) -> Self {
        self.segment_interval = Some(interval);
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

impl<K, V> StoreBuilder for VersionedKeyValueStoreBuilder<K, V>
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
        let mut configs = versioned_changelog_configs(self.history_retention);
        configs.extend(self.logging.clone()?);
        Some(configs)
    }

    fn history_retention(&self) -> Option<Duration> {
        Some(self.history_retention)
    }

    /// # Errors
    /// `Invalid` for a segment interval below a millisecond.
    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>> {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let mut retention = Retention::of_history(millis(self.history_retention));
        if let Some(interval) = self.segment_interval {
            retention.segment_ms = millis(interval);
        }
        if retention.segment_ms < 1 {
            return Err(Error::invalid(format!(
                "store \"{}\": found a segment interval of 0 ms, wanted at least 1",
                self.name
            )));
        }
        let options = TransactionalStoreOptions {
            is_logged: self.logging.is_some(),
            cache_bytes_max,
            ..TransactionalStoreOptions::default()
        };
        let serdes = (self.key_serde.clone(), self.value_serde.clone());
        let (name, topic) = (self.name.clone(), topic.clone());
        let store =
            VersionedKeyValueStore::open(name, serdes, topic, engine, (retention, options))?;
        Ok(Box::new(store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_is_not_compacted_within_the_history_and_a_day() {
        let history = Duration::from_secs(60);
        let builder = Stores::versioned_key_value_store::<String, String>("s", history);
        let configs = builder.changelog().unwrap();
        assert_eq!(configs["min.compaction.lag.ms"], "86460000");
        assert_eq!(configs["cleanup.policy"], "compact");
        let own = BTreeMap::from([("min.compaction.lag.ms".to_owned(), "5".to_owned())]);
        assert_eq!(
            builder.logging_enabled(own.clone()).changelog().unwrap()["min.compaction.lag.ms"],
            "5"
        );
        let builder = Stores::versioned_key_value_store::<String, String>("s", history);
        assert_eq!(builder.logging_disabled().changelog(), None);
    }
}
