//! Partition counts: of repartition topics, of tasks, and whether joined topics agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::builder::Topology;
use super::internal_topics::{InternalTopic, TopicName, changelog_topic, repartition_configs};
use super::node::Role;
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// Partitions of everything, once the user's topics are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Number of tasks of each subtopology; 0 for global ones.
    pub tasks: Vec<i32>,
    /// Partitions of every source topic, by its name on the cluster.
    pub source_topics: BTreeMap<Arc<str>, i32>,
    /// Repartition topics and changelogs to be created.
    pub internal_topics: Vec<InternalTopic>,
}

impl PartitionPlan {
    /// All tasks.
    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().zip(0u32..).flat_map(|(count, subtopology)| {
            (0..*count).map(move |partition| TaskId { subtopology, partition })
        })
    }
}

impl Topology {
    /// The user's topics that are read by tasks, without repartition topics.
    pub fn external_source_topics(&self) -> Vec<Arc<str>> {
        let mut topics = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.global) {
            if let Role::Source { topics: names, .. } = &node.role {
                topics.extend(names.iter().filter_map(TopicName::external).cloned());
            }
        }
        topics
    }

    /// Topics that feed global stores.
    pub fn global_topics(&self) -> Vec<Arc<str>> {
        let sources = self.global_stores.iter().map(|global| &self.nodes[global.source]);
        sources
            .flat_map(|node| match &node.role {
                Role::Source { topics, .. } => {
                    topics.iter().map(|topic| topic.short().clone()).collect()
                }
                Role::Processor { .. } | Role::Sink { .. } => Vec::new(),
            })
            .collect()
    }

    /// Topics that sinks write to by name, without repartition topics.
    pub fn external_sink_topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> = self
            .nodes
            .iter()
            .filter_map(|node| match &node.role {
                Role::Sink { topic: Some(TopicName::External(name)), .. } => Some(name.clone()),
                Role::Sink { .. } | Role::Source { .. } | Role::Processor { .. } => None,
            })
            .collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// Works out all partition counts from those of the user's topics.
    ///
    /// Source: `RepartitionTopics`, `CopartitionedTopicsEnforcer`: a repartition topic has as many partitions as the largest source
    /// topic upstream of it, unless its number was given; a copartitioned one takes the number of the topics it is joined with.
    ///
    /// # Errors
    /// `Invalid` for a missing topic, or for joined topics of different partition counts.
    pub fn plan(
        &self,
        application_id: &str,
        external: &BTreeMap<Arc<str>, i32>,
    ) -> Result<PartitionPlan> {
        let mut counts = self.partition_counts(external)?;
        self.enforce_copartitioning(&mut counts)?;
        Ok(self.plan_of(application_id, &counts))
    }

    /// As [`plan`](Self::plan), with one partition for each of the user's topics, which then need not agree with a number that a repartition was
    /// given: the topics of the cluster are not known. Source: `TopologyTestDriver`.
    pub(crate) fn plan_without_cluster(&self, application_id: &str) -> Result<PartitionPlan> {
        let external = self.external_source_topics().into_iter().map(|topic| (topic, 1)).collect();
        let mut counts = self.partition_counts(&external)?;
        // Behind a pattern that matches nothing yet, a repartition topic would have no partition.
        counts.values_mut().for_each(|count| *count = (*count).max(1));
        Ok(self.plan_of(application_id, &counts))
    }

    fn partition_counts(
        &self,
        external: &BTreeMap<Arc<str>, i32>,
    ) -> Result<BTreeMap<TopicName, i32>> {
        let mut counts: BTreeMap<TopicName, i32> = BTreeMap::new();
        for topic in self.external_source_topics() {
            let count = external.get(&topic).ok_or_else(|| {
                Error::invalid(format!(
                    "topic \"{topic}\" does not exist; create it before the start (aggregator topics apply)"
                ))
            })?;
            counts.insert(TopicName::External(topic), *count);
        }
        for (name, asked) in &self.internal_topics {
            if let Some(count) = asked {
                if *count < 1 {
                    return Err(Error::invalid(format!(
                        "repartition topic \"{name}\": found {count} partitions, wanted 1 or more"
                    )));
                }
                counts.insert(TopicName::Internal(name.clone()), *count);
            }
        }
        self.infer_repartition_counts(&mut counts)?;
        Ok(counts)
    }

    fn plan_of(&self, application_id: &str, counts: &BTreeMap<TopicName, i32>) -> PartitionPlan {
        let mut plan = PartitionPlan::default();
        for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
            let resolved = name.resolve(application_id);
            if matches!(name, TopicName::Internal(_)) {
                let (name, configs) = (resolved.clone(), repartition_configs());
                plan.internal_topics.push(InternalTopic { name, partitions: *count, configs });
            }
            plan.source_topics.insert(resolved, *count);
        }
        for subtopology in self.subtopologies() {
            let sources = subtopology.nodes.iter().flat_map(|node| self.source_topics_of(*node));
            let tasks = if subtopology.global {
                0
            } else {
                sources.filter_map(|topic| counts.get(topic)).max().copied().unwrap_or(0)
            };
            plan.tasks.push(tasks);
            for (name, store) in &self.stores {
                if self.source_changelogs.contains_key(name) {
                    continue;
                }
                let used = self.users_of(name).any(|user| subtopology.nodes.contains(&user));
                let configs = store.builder.changelog().filter(|_| used && tasks > 0);
                if let Some(configs) = configs {
                    let name = changelog_topic(application_id, name);
                    plan.internal_topics.push(InternalTopic { name, partitions: tasks, configs });
                }
            }
        }
        plan
    }

    /// The names of a source node's topics.
    pub(crate) fn source_topics_of(&self, node: usize) -> &[TopicName] {
        match &self.nodes[node].role {
            Role::Source { topics, .. } => topics,
            Role::Processor { .. } | Role::Sink { .. } => &[],
        }
    }

    fn infer_repartition_counts(&self, counts: &mut BTreeMap<TopicName, i32>) -> Result<()> {
        let subtopologies = self.subtopologies();
        loop {
            let open: Vec<&Arc<str>> = self
                .internal_topics
                .keys()
                .filter(|name| !counts.contains_key(&TopicName::Internal((*name).clone())))
                .collect();
            if open.is_empty() {
                return Ok(());
            }
            let mut progress = false;
            for name in &open {
                let topic = TopicName::Internal((*name).clone());
                let writes = |node: &usize| matches!(&self.nodes[*node].role, Role::Sink { topic: Some(sink), .. } if *sink == topic);
                let writers = subtopologies.iter().filter(|sub| sub.nodes.iter().any(writes));
                let sources: Vec<&TopicName> = writers
                    .flat_map(|sub| sub.nodes.iter())
                    .flat_map(|node| self.source_topics_of(*node))
                    .collect();
                let upstream = sources.iter().filter_map(|source| counts.get(*source)).max();
                // Patterns that match nothing yet have no source topic: nothing will be written until they do.
                let nothing = (sources.is_empty() && self.patterns().next().is_some()).then_some(0);
                if let Some(count) = upstream.copied().or(nothing) {
                    counts.insert(topic, count);
                    progress = true;
                }
            }
            if !progress {
                return Err(Error::invalid(format!(
                    "the partition counts of repartition topics {open:?} follow from nothing; give one with Repartitioned"
                )));
            }
        }
    }

    fn enforce_copartitioning(&self, counts: &mut BTreeMap<TopicName, i32>) -> Result<()> {
        for group in &self.copartition_groups {
            let topics: Vec<&TopicName> =
                group.iter().flat_map(|node| self.source_topics_of(*node)).collect();
            let fixed: Vec<(&TopicName, i32)> = topics
                .iter()
                .filter(|topic| match topic {
                    TopicName::External(_) => true,
                    TopicName::Internal(name) => self.internal_topics[name].is_some(),
                })
                .map(|topic| (*topic, counts[*topic]))
                .collect();
            if let Some(((first, wanted), (other, found))) = fixed
                .first()
                .and_then(|first| Some((first, fixed.iter().find(|(_, count)| *count != first.1)?)))
            {
                return Err(Error::invalid(format!(
                    "topics \"{}\" ({wanted} partitions) and \"{}\" ({found} partitions) are joined and must have the same number; repartition() one of them",
                    first.short(),
                    other.short()
                )));
            }
            let count = fixed
                .first()
                .map(|(_, count)| *count)
                .or_else(|| topics.iter().map(|topic| counts[*topic]).max());
            if let Some(count) = count {
                for topic in topics {
                    counts.insert(topic.clone(), count);
                }
            }
        }
        Ok(())
    }
}
