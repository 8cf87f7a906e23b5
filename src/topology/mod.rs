//! The topology: an immutable graph of named nodes, stores and topics, and what follows from it.
//!
//! Built by hand through [`Topology`]'s `add_…` methods (the Processor API) or by the DSL; read by the runtime, by the test driver
//! and by [`Topology::describe`]. Cold: everything here happens before the first record. Deliberately absent: how
//! nodes are run, and any knowledge of Kafka beyond topic names.

mod builder;
mod copartition;
mod describe;
mod internal_topics;
mod join_buffer;
mod node;
mod offset_reset;
mod source_options;
mod state_store;
mod subtopology;
mod suppress_store;
mod topic_pattern;
mod tree_set;
mod versioned_store;
mod window_stores;

pub use crate::store::{StoreBuilder, StoreKind};
pub use builder::Topology;
pub use copartition::PartitionPlan;
pub use internal_topics::InternalTopic;
pub(crate) use internal_topics::{TopicName, changelog_topic};
pub(crate) use join_buffer::JoinBufferBuilder;
pub(crate) use node::{PartitionCounts, Role, TypeTag};
pub use offset_reset::AutoOffsetReset;
pub use source_options::{SourceOptions, StoreFeed};
pub use state_store::{KeyValueStoreBuilder, Stores};
pub use subtopology::Subtopology;
pub(crate) use suppress_store::SuppressBufferBuilder;
pub use topic_pattern::TopicPattern;
pub(crate) use topic_pattern::is_internal_topic;
pub use versioned_store::VersionedKeyValueStoreBuilder;
pub use window_stores::{SessionStoreBuilder, WindowStoreBuilder};
