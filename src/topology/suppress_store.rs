//! Makes the buffers of suppressed tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::internal_topics::key_value_changelog_configs;
use crate::error::Result;
use crate::store::{Engine, StateStore, StoreBuilder, StoreKind, SuppressBuffer};

/// Builds a [`SuppressBuffer`]. Source: `InMemoryTimeOrderedKeyValueChangeBuffer.Builder`.
pub(crate) struct SuppressBufferBuilder {
    name: Arc<str>,
    /// Configuration of the changelog; `None`: there is none.
    logging: Option<BTreeMap<String, String>>,
}

impl SuppressBufferBuilder {
    pub(crate) fn new(name: Arc<str>, logging: Option<BTreeMap<String, String>>) -> Self {
        Self { name, logging }
    }
}

impl StoreBuilder for SuppressBufferBuilder {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> StoreKind {
        StoreKind::InMemory
    }

    fn changelog(&self) -> Option<BTreeMap<String, String>> {
        let mut configs = key_value_changelog_configs();
        configs.extend(self.logging.clone()?);
        Some(configs)
    }

    fn build(
        &self,
        engine: Box<dyn Engine>,
        topic: &Arc<str>,
        _: usize,
    ) -> Result<Box<dyn StateStore>> {
        let (name, is_logged) = (self.name.clone(), self.logging.is_some());
        Ok(Box::new(SuppressBuffer::open(name, topic.clone(), engine, is_logged)))
    }
}
