//! Where a source begins in a partition of which nothing is committed.

use std::time::Duration;

use super::builder::Topology;
use super::node::Role;

/// Where a source begins in a partition of which the group has committed nothing. Source: `AutoOffsetReset` (KIP-1106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// At the first record there is. What sources without a policy do, and repartition topics always.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record whose timestamp is no older than so long before the start; after the last one where there is none.
    ByDuration(Duration),
    /// Nowhere: the client ends with an error that names the partition. Offsets have to be committed first.
    None,
}

impl Topology {
    /// The policy of a source topic, by its name on the cluster.
    pub(crate) fn offset_reset_of(&self, topic: &str, application_id: &str) -> AutoOffsetReset {
        let reset = self.nodes.iter().find_map(|node| match &node.role {
            Role::Source { topics, offset_reset, .. } => {
                let reads = topics.iter().any(|name| &*name.resolve(application_id) == topic);
                reads.then_some(*offset_reset)
            }
            Role::Processor { .. } | Role::Sink { .. } => None,
        });
        reset.flatten().unwrap_or_default()
    }
}
