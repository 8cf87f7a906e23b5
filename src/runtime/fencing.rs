//! Fences the writers that tasks are taken over from, so that what a dead one left open does not hold up its readers.
//!
//! A process that was killed leaves a transaction open, and until its time-out every reader of committed records waits at it: those of its results, and the
//! restoration of its stores. `init_transactions` with the dead producer's `transactional.id` aborts it at once, and fences the producer should it come
//! back. Which id that is stands beside the committed offsets (see `task::writer_of`). The ids of processes that are members of the group are left alone:
//! a task that moves between living members has been committed by the one, which goes on with its other tasks.
//!
//! Each restore thread has one, and calls it before each task is restored; cold. Never fails: without it the transaction ends by its time-out. Source: Kafka
//! Streams has nothing like it; its readers wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::StreamsConfig;
use crate::error::Result;
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{Admin, KafkaClients};
use crate::task::writer_of;
use crate::time::Clock;

/// The `transactional.id` of a stream thread; `process` outlives restarts of the process.
pub(super) fn transactional_id(application_id: &str, process: &str, thread: usize) -> String {
    format!("{application_id}-{process}-{thread}")
}

/// Process and thread of an id of this application.
fn parts<'a>(application_id: &str, id: &'a str) -> Option<(&'a str, usize)> {
    let rest = id.strip_prefix(application_id)?.strip_prefix('-')?;
    let (process, thread) = rest.rsplit_once('-')?;
    Some((process, thread.parse().ok()?))
}

/// Fences dead writers of this application.
pub(super) struct Fencer {
    clients: Arc<dyn KafkaClients>,
    config: Arc<StreamsConfig>,
    clock: Arc<dyn Clock>,
    /// What this process's own ids are made of.
    process: String,
    /// Made when it is first needed.
    admin: Option<Box<dyn Admin>>,
    /// When each id was fenced, on the monotonic clock.
    fenced: BTreeMap<String, Duration>,
}

impl Fencer {
    pub(super) fn new(
        clients: Arc<dyn KafkaClients>,
        config: Arc<StreamsConfig>,
        clock: Arc<dyn Clock>,
        process: String,
    ) -> Self {
        Self { clients, config, clock, process, admin: None, fenced: BTreeMap::new() }
    }

    /// Aborts what the last writers of a task left open, unless they live.
    pub(super) fn clear_the_way(&mut self, task: TaskId, inputs: &[TopicPartition]) {
        if !self.config.is_exactly_once() {
            return;
        }
        if let Err(error) = self.fence_writers(task, inputs) {
            tracing::warn!(%task, error = ?error, "the task's last writer is not fenced; what it may have left open ends by its time-out");
        }
    }

    fn fence_writers(&mut self, task: TaskId, inputs: &[TopicPartition]) -> Result<()> {
        let now = self.clock.monotonic();
        // A process that came back after that has to be lost for a session before its tasks are taken over again.
        let is_recent = |at: &Duration| now.saturating_sub(*at) < self.config.session_timeout;
        self.fenced.retain(|_, at| is_recent(at));
        // Waiting longer than the transaction lasts brings nothing.
        let timeout = self.config.request_timeout.min(self.config.transaction_timeout);
        let group = self.config.application_id.clone();
        // One that has failed is not kept.
        let mut admin = match self.admin.take() {
            Some(admin) => admin,
            None => self.clients.admin()?,
        };
        let committed = admin.group_offsets(&group, inputs, timeout)?;
        let writers = committed.iter().filter_map(|committed| writer_of(&committed.metadata));
        let mut writers: BTreeSet<String> = writers.collect();
        writers.retain(|id| !self.fenced.contains_key(id) && !self.is_own(id));
        let members = match writers.is_empty() {
            true => Vec::new(),
            false => admin.describe_group(&group, timeout)?,
        };
        self.admin = Some(admin);
        for id in writers {
            let Some((process, _)) = parts(&group, &id) else { continue };
            if members.iter().any(|member| member.has_process(process)) {
                continue;
            }
            tracing::info!(%task, transactional_id = id, "fencing a writer that is no member any more");
            self.clients.producer(Some(&id))?.init_transactions(timeout)?;
            self.fenced.insert(id, now);
        }
        Ok(())
    }

    /// Whether a thread of this process writes with an id. One that an earlier life of it had more threads for is not.
    fn is_own(&self, id: &str) -> bool {
        parts(&self.config.application_id, id).is_some_and(|(process, thread)| {
            process == self.process && thread < self.config.num_stream_threads
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_process_and_thread_also_where_names_have_dashes() {
        let id = transactional_id("my-app", "node-1", 2);
        assert_eq!(id, "my-app-node-1-2");
        assert_eq!(parts("my-app", &id), Some(("node-1", 2)));
        for other in ["my-ap-p-1", "other-node-1", "my-app-node", "my-app"] {
            assert_eq!(parts("my-app", other), None, "{other}");
        }
    }
}
