//! Names and settings of the topics that the engine makes for itself, as Kafka Streams names and sets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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

    /// The name of a topic of the user.
    pub(crate) fn external(&self) -> Option<&Arc<str>> {
        match self {
            Self::External(name) => Some(name),
            Self::Internal(_) => None,
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

/// Source: `windowstore.changelog.additional.retention.ms`: a topic keeps longer than its store, since clocks differ.
const ADDITIONAL_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

/// Source: `WindowedChangelogTopicConfig`.
pub(crate) fn windowed_changelog_configs(retention: Duration) -> BTreeMap<String, String> {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let retention_ms = retention_ms.saturating_add(ADDITIONAL_RETENTION_MS).to_string();
    configs(&[
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", &retention_ms),
        ("message.timestamp.type", "CreateTime"),
    ])
}

/// How long a versioned store's changelog keeps a version behind the history.
const COMPACTION_LAG_ADDED: Duration = Duration::from_secs(24 * 60 * 60);

/// A reader needs every version within the history, so compaction stays a day behind it. Source: `VersionedChangelogTopicConfig`.
pub(crate) fn versioned_changelog_configs(history_retention: Duration) -> BTreeMap<String, String> {
    let lag = history_retention.saturating_add(COMPACTION_LAG_ADDED);
    let lag_ms = i64::try_from(lag.as_millis()).unwrap_or(i64::MAX);
    let mut configs = key_value_changelog_configs();
    configs.insert("min.compaction.lag.ms".to_owned(), lag_ms.to_string());
    configs
}

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
