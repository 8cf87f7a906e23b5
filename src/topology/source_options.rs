//! What may be said of a source when it is added, and of what feeds a store from a topic.

use std::sync::Arc;

use super::offset_reset::AutoOffsetReset;
use crate::processor::TimestampExtractor;
use crate::serdes::Serde;

/// Optional settings of a source node.
pub struct SourceOptions<K, V> {
    /// Takes the event time out of the record; without one it is the record's timestamp.
    pub timestamp_extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    /// Where to begin in a partition of which nothing is committed; without one, at its first record. Global stores always begin there.
    pub offset_reset: Option<AutoOffsetReset>,
}

impl<K, V> Default for SourceOptions<K, V> {
    fn default() -> Self {
        Self { timestamp_extractor: None, offset_reset: None }
    }
}

/// What feeds a global or a read-only store: a topic, and the names of the nodes that read it.
pub struct StoreFeed<K, V> {
    /// Name of the source node.
    pub source_name: String,
    /// The topic.
    pub topic: String,
    /// Reads the keys.
    pub key_serde: Serde<K>,
    /// Reads the values.
    pub value_serde: Serde<V>,
    /// Optional settings of the source.
    pub options: SourceOptions<K, V>,
    /// Name of the processor that writes the store.
    pub processor_name: String,
}
