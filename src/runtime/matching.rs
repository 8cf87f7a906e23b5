//! Sources by pattern on a cluster: new topics are noticed, and no task runs before all instances know the same ones.
//!
//! Which tasks there are, and which topic decides who owns one, follows from the topics that the patterns match. Two instances that have seen different
//! topics would disagree, and might both run a task. So each tells its view (a hash of matched topics and their partition counts) in the name of its
//! group member, and places no task before the group shows the same view of every member. An instance that sees another view looks at the topics at once,
//! and starts anew where they have changed; then a rebalance follows, in which all look again. Called by the control thread; cold.
//!
//! Source: in Java the group's leader alone decides, in its assignor's user data, which librdkafka's has not.

use std::sync::Arc;
use std::time::Duration;

use super::topics::{Prepared, matched, prepare};
use crate::config::StreamsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{Admin, view};
use crate::task::TaskSettings;
use crate::time::Clock;
use crate::topology::Topology;

/// Between two looks while the members of the group have different views.
const DISAGREEMENT_INTERVAL: Duration = Duration::from_millis(500);
/// Short: the group's events wait meanwhile.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the control thread knows of patterns.
pub(super) struct Matching {
    admin: Box<dyn Admin>,
    written: Arc<Topology>,
    view: String,
    /// When the topics were last looked at, on the monotonic clock.
    looked_at: Duration,
    /// Assigned, and not placed yet.
    waiting: Option<Vec<TopicPartition>>,
    /// When the group was last asked, on the monotonic clock; `None`: not since the assignment.
    asked_at: Option<Duration>,
}

impl Matching {
    pub(super) fn new(
        admin: Box<dyn Admin>,
        written: Arc<Topology>,
        view: String,
        clock: &dyn Clock,
    ) -> Self {
        let looked_at = clock.monotonic();
        Self { admin, written, view, looked_at, waiting: None, asked_at: None }
    }

    /// The view of this instance.
    pub(super) fn view(&self) -> &str {
        &self.view
    }

    /// Keeps an assignment until all members agree.
    pub(super) fn wait_for_agreement(&mut self, partitions: Vec<TopicPartition>) {
        (self.waiting, self.asked_at) = (Some(partitions), None);
    }

    /// The assignment is over.
    pub(super) fn revoked(&mut self) {
        self.waiting = None;
    }

    /// Looks at the cluster's topics, if it is time: `metadata.max.age.ms`, or soon while members disagree. Gives what there is to be started on
    /// where they have changed.
    pub(super) fn look(
        &mut self,
        config: &StreamsConfig,
        settings: &TaskSettings,
    ) -> Result<Option<Prepared>> {
        let now = settings.clock.monotonic();
        let disagrees = self.waiting.is_some() && self.asked_at.is_some();
        let interval = if disagrees { DISAGREEMENT_INTERVAL } else { config.metadata_max_age };
        if now.saturating_sub(self.looked_at) < interval {
            return Ok(None);
        }
        self.looked_at = now;
        let (handlers, admin) = (&settings.handlers, &mut *self.admin);
        let found = matched(&self.written, config, handlers, admin, LOOK_TIMEOUT);
        let Some((_, Some(view))) = unless_retriable(found)? else { return Ok(None) };
        if view == self.view {
            return Ok(None);
        }
        let prepared = unless_retriable(prepare(&self.written, config, handlers, admin))?;
        let prepared = prepared.filter(|prepared| prepared.view.as_ref() != Some(&self.view));
        if let Some(Prepared { topology, .. }) = &prepared {
            let topics = topology.external_source_topics();
            tracing::info!(?topics, "patterns match other topics; starting anew on them");
        }
        Ok(prepared)
    }

    /// The assignment that waits, once every member of the group has the same view.
    pub(super) fn agreed(
        &mut self,
        config: &StreamsConfig,
        settings: &TaskSettings,
    ) -> Result<Option<Vec<TopicPartition>>> {
        let now = settings.clock.monotonic();
        let is_recent = |at| now.saturating_sub(at) < DISAGREEMENT_INTERVAL;
        if self.waiting.is_none() || self.asked_at.is_some_and(is_recent) {
            return Ok(None);
        }
        self.asked_at = Some(now);
        let members = self.admin.describe_group(&config.application_id, LOOK_TIMEOUT);
        let Some(members) = unless_retriable(members)? else { return Ok(None) };
        let other = members.iter().find(|member| view(&member.client_id) != Some(&self.view));
        if let Some(other) = other {
            let member = &other.client_id;
            tracing::info!(member, "waiting for all members to know the same topics");
            return Ok(None);
        }
        Ok(self.waiting.take())
    }
}

/// What goes away by itself is tried again by the next look.
fn unless_retriable<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::Retriable => {
            tracing::warn!(error = ?error, "the topics of patterns are looked at again later");
            Ok(None)
        }
        Err(error) => Err(Error::context(error, "topics of patterns")),
    }
}
