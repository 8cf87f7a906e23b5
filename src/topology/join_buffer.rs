//! The builder of the buffer of a join with grace.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::internal_topics::key_value_changelog_configs;
use crate::error::Result;
use crate::serdes::Serde;
use crate::store::{
    Engine, JoinBuffer, StateStore, StoreBuilder, StoreKind, TransactionalStoreOptions,
};

/// Builds a [`JoinBuffer`]. Source: `RocksDBTimeOrderedKeyValueBuffer.Builder`.
pub(crate) struct JoinBufferBuilder<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) key_serde: Serde<K>,
    pub(crate) value_serde: Serde<V>,
    pub(crate) grace_ms: i64,
}

impl<K: Send + 'static, V: Send + 'static> StoreBuilder for JoinBufferBuilder<K, V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Persistent
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        Some(key_value_changelog_configs())
    }

    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        cache_bytes_max: usize,
    ) -> Result<Box<dyn StateStore>> {
        let options = TransactionalStoreOptions { cache_bytes_max, ..Default::default() };
        let serdes = (self.key_serde.clone(), self.value_serde.clone());
        let (name, topic) = (self.name.clone(), topic.clone());
        Ok(Box::new(JoinBuffer::open(name, serdes, topic, engine, (self.grace_ms, options))?))
    }
}
