//! Names and settings of the topics that the engine makes for itself, as Kafka Streams names and sets them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of a topic before the application id is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicName {
    /// A topic of the user.
    External(Arc<str>),
    /// A repartition topic; its real name has the application id in front.
    Internal(Arc<str>),
}

impl TopicName {
    /// The name as `describe` shows it.
    pub(crate) fn short(&self) -> &Arc<str> {
        match self {
            Self::External(name) | Self::Internal(name) => name,
        }
    }

    /// The name on the cluster.
    pub(crate) fn resolve(&self, application_id: &str) -> Arc<str> {
        match self {
            Self::External(name) => name.clone(),
            Self::Internal(name) => format!("{application_id}-{name}").into(),
        }
    }
}

/// The changelog topic of a store. Source: `ProcessorStateManager.storeChangelogTopic`.
pub(crate) fn changelog_topic(application_id: &str, store: &str) -> Arc<str> {
    format!("{application_id}-{store}-changelog").into()
}

/// A topic that the engine creates where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// The name on the cluster.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic configuration, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// Source: `RepartitionTopicConfig`: kept until the engine deletes what it has processed.
pub(crate) fn repartition_configs() -> BTreeMap<String, String> {
    configs(&[
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("segment.bytes", "52428800"),
        ("message.timestamp.type", "CreateTime"),
    ])
}

/// Source: `UnwindowedUnversionedChangelogTopicConfig`.
pub(crate) fn key_value_changelog_configs() -> BTreeMap<String, String> {
    configs(&[("cleanup.policy", "compact"), ("message.timestamp.type", "CreateTime")])
}

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
