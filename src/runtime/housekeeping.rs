//! What is done now and then, and waits for brokers or the disk: a thread of its own, so that neither the group nor records wait for it.
//!
//! Deletes what repartition topics hold before the committed offsets, and looks at what lies around the client: its folder's size, its disk,
//! the cluster's replicas, the memory that stores share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::components::Components;
use super::directory::Directory;
use super::shared::Shared;
use super::state::State;
use super::state_dir::StateDir;
use crate::config::StreamsConfig;
use crate::kafka::Admin;
use crate::store::Engines;
use crate::telemetry::SurroundingsMetrics;
use crate::time::Clock;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The brokers' own topics without which no group and no transaction goes on.
const BROKERS_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

pub(super) struct Housekeeping {
    admin: Box<dyn Admin>,
    config: Arc<StreamsConfig>,
    state_dir: Arc<StateDir>,
    engines: Arc<dyn Engines>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// Knows the topics of the application.
    directory: Arc<Directory>,
    metrics: SurroundingsMetrics,
}

impl Housekeeping {
    pub(super) fn new(
        admin: Box<dyn Admin>,
        directory: Arc<Directory>,
        parts: &Components,
        config: Arc<StreamsConfig>,
        state_dir: Arc<StateDir>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            admin,
            directory,
            metrics: SurroundingsMetrics::new(&config.application_id),
            config,
            state_dir,
            engines: parts.engines.clone(),
            shared,
            clock: parts.clock.clone(),
        }
    }

    pub(super) fn run(mut self) {
        let mut purged_at = self.clock.monotonic();
        let stopping =
            |state| !matches!(state, State::Created | State::Rebalancing | State::Running);
        loop {
            self.look();
            let interval = self.config.repartition_purge_interval;
            if self.shared.wait_for(stopping, INTERVAL.min(interval)) || self.shared.is_stopping() {
                return;
            }
            let now = self.clock.monotonic();
            if now.saturating_sub(purged_at) >= interval {
                purged_at = now;
                self.purge();
            }
        }
    }

    /// Source: `TaskManager.maybePurgeCommittedRecords`.
    fn purge(&mut self) {
        let processed = self.shared.take_processed();
        if processed.is_empty() {
            return;
        }
        if let Err(error) = self.admin.delete_records(&processed, TIMEOUT) {
            // The next round tries again with later offsets.
            tracing::warn!(error = ?error, "repartition topics could not be purged");
        }
    }

    fn look(&mut self) {
        if let Some(cache) = self.engines.cache() {
            self.metrics.block_cache(cache.capacity, cache.usage, cache.pinned);
        }
        let folder = self.state_dir.folder();
        match fs4::available_space(folder) {
            Ok(free) => self.metrics.disk(size(folder), free),
            Err(error) => tracing::debug!(%error, "the state folder's disk could not be asked"),
        }
        let builder = self.directory.builder();
        let internal = builder.plan.internal_topics.iter().map(|topic| &topic.name);
        let own = builder.plan.source_topics.keys().chain(internal).map(|topic| &**topic);
        let topics: Vec<&str> = own.chain(BROKERS_TOPICS).collect();
        match self.admin.cluster_health(&topics, TIMEOUT) {
            Ok(health) => {
                self.metrics.cluster(health.brokers, health.under_replicated, health.offline);
            }
            // Whoever needs the brokers says so louder.
            Err(error) => tracing::debug!(error = ?error, "the cluster could not be asked"),
        }
    }
}

/// Bytes of all files below a folder; what goes away meanwhile counts nothing.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_that_of_all_files_below() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("0_1")).unwrap();
        std::fs::write(root.path().join("0_1/file"), "1234").unwrap();
        std::fs::write(root.path().join("process"), "12").unwrap();
        assert_eq!(size(root.path()), 6);
        assert_eq!(size(&root.path().join("nothing")), 0);
    }
}
