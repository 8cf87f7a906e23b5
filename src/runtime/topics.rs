//! Topics before the start: the user's must exist and fit, the engine's are created.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::components::fingerprint;
use crate::config::StreamsConfig;
use crate::dlq::ErrorHandlers;
use crate::error::{Error, Result};
use crate::kafka::{Admin, NewTopic, TopicDescription};
use crate::topology::{InternalTopic, PartitionCounts, PartitionPlan, Topology, is_internal_topic};

/// Dead letters are kept this long, or as long as the source where that is longer.
const DEAD_LETTER_RETENTION_MS: i64 = 30 * 24 * 3600 * 1000;

/// A topology that names the topics of the cluster, and what follows from them.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) topology: Arc<Topology>,
    pub(super) plan: Arc<PartitionPlan>,
    /// The same for all instances that found the same topics for their patterns, with as many partitions; `None` without patterns.
    pub(super) view: Option<String>,
}

/// Finds the topics that patterns match, checks the user's topics, creates repartition, changelog and dead-letter topics, and works out all
/// partition counts.
///
/// # Errors
/// `Invalid`, naming every topic that is missing or has the wrong number of partitions; `Retriable` where no broker answers.
pub(super) fn prepare(
    written: &Arc<Topology>,
    config: &StreamsConfig,
    handlers: &ErrorHandlers,
    admin: &mut dyn Admin,
) -> Result<Prepared> {
    let (topology, view) = matched(written, config, handlers, admin, config.request_timeout)?;
    let sources = topology.external_source_topics();
    let globals = topology.global_topics();
    let sinks = topology.external_sink_topics();
    let wanted: BTreeSet<&str> =
        sources.iter().chain(&globals).chain(&sinks).map(|topic| &**topic).collect();
    let names: Vec<&str> = wanted.iter().copied().collect();
    let found = admin.describe_topics(&names, config.request_timeout)?;
    let missing: Vec<&str> =
        names.iter().copied().filter(|name| !found.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Error::invalid(format!(
            "found no topic {}, wanted by application \"{}\"; create it before the start",
            missing.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "),
            config.application_id
        )));
    }
    let external: BTreeMap<Arc<str>, i32> =
        sources.iter().map(|topic| (topic.clone(), found[&**topic].partitions)).collect();
    let plan = topology.plan(&config.application_id, &external)?;
    let dead_letters = dead_letter_topics(&plan, config, handlers, admin)?;
    create(&plan.internal_topics, &dead_letters, config, admin)?;
    Ok(Prepared { topology, plan: Arc::new(plan), view })
}

/// The topology with the topics that its patterns match now, and the view that it makes.
///
/// # Errors
/// `Invalid` where two patterns match a topic; `Retriable` where no broker answers.
pub(super) fn matched(
    written: &Arc<Topology>,
    config: &StreamsConfig,
    handlers: &ErrorHandlers,
    admin: &mut dyn Admin,
    timeout: Duration,
) -> Result<(Arc<Topology>, Option<String>)> {
    if written.patterns().next().is_none() {
        return Ok((written.clone(), None));
    }
    let cluster = admin.topics(timeout)?;
    let application_id = &config.application_id;
    let dead_letters: BTreeSet<Arc<str>> =
        cluster.keys().map(|topic| (handlers.topic)(application_id, topic)).collect();
    let is_own =
        |topic: &str| is_internal_topic(topic, application_id) || dead_letters.contains(topic);
    let topology = written.matching(cluster.keys().map(String::as_str), is_own)?;
    let sources: Vec<usize> = written.patterns().map(|(node, _)| node).collect();
    let topics = sources.iter().flat_map(|node| topology.source_topics_of(*node));
    let topics = topics.map(|topic| (&**topic.short(), cluster[&**topic.short()].partitions));
    let view: Vec<String> = topics.map(|(name, count)| format!("{name}:{count}")).collect();
    Ok((Arc::new(topology), Some(fingerprint(&view.join(" ")))))
}

fn dead_letter_topics(
    plan: &PartitionPlan,
    config: &StreamsConfig,
    handlers: &ErrorHandlers,
    admin: &mut dyn Admin,
) -> Result<Vec<InternalTopic>> {
    let mut topics = Vec::new();
    for (source, partitions) in &plan.source_topics {
        let name = (handlers.topic)(&config.application_id, source);
        // A source that is about to be created has no configuration to ask for.
        let retention = if plan.internal_topics.iter().any(|topic| topic.name == *source) {
            None
        } else {
            let configs = admin.topic_configs(source, config.request_timeout)?;
            configs.get("retention.ms").and_then(|value| value.parse::<i64>().ok())
        };
        let retention = match retention {
            Some(-1) => -1,
            Some(source) => source.max(DEAD_LETTER_RETENTION_MS),
            None => DEAD_LETTER_RETENTION_MS,
        };
        let configs = [
            ("cleanup.policy".to_owned(), "delete".to_owned()),
            ("retention.ms".to_owned(), retention.to_string()),
        ];
        topics.push(InternalTopic { name, partitions: *partitions, configs: configs.into() });
    }
    Ok(topics)
}

/// Creates what is missing. An internal topic of another size is refused: its records would be read by the wrong tasks.
fn create(
    internal: &[InternalTopic],
    dead_letters: &[InternalTopic],
    config: &StreamsConfig,
    admin: &mut dyn Admin,
) -> Result<()> {
    let all: Vec<&InternalTopic> = internal.iter().chain(dead_letters).collect();
    let names: Vec<&str> = all.iter().map(|topic| &*topic.name).collect();
    let found = admin.describe_topics(&names, config.request_timeout)?;
    for topic in internal {
        match found.get(&*topic.name) {
            Some(TopicDescription { partitions, .. }) if *partitions != topic.partitions => {
                return Err(Error::invalid(format!(
                    "internal topic \"{}\": found {partitions} partitions, wanted {}; the topology or its input topics have changed: reset the application, or give it a new application.id",
                    topic.name, topic.partitions
                )));
            }
            _ => {}
        }
    }
    let new: Vec<NewTopic> = all
        .iter()
        .filter(|topic| !found.contains_key(&*topic.name))
        .map(|topic| NewTopic {
            name: topic.name.to_string(),
            partitions: topic.partitions,
            replication_factor: config.replication_factor,
            configs: topic.configs.clone(),
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = new.iter().map(|topic| topic.name.as_str()).collect();
    tracing::info!(topics = ?names, "creating internal topics");
    admin.create_topics(&new, config.request_timeout)
}

/// Answers sinks with a partitioner of their own; each topic is asked for once.
pub(super) fn partition_counts(admin: Box<dyn Admin>, timeout: Duration) -> PartitionCounts {
    let state = Mutex::new((admin, BTreeMap::<String, i32>::new()));
    Arc::new(move |topic| {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (admin, known) = &mut *guard;
        if let Some(count) = known.get(topic) {
            return Ok(*count);
        }
        let found = admin.describe_topics(&[topic], timeout)?;
        let description = found.get(topic).ok_or_else(|| {
            Error::fatal(format!("found no topic \"{topic}\", wanted by a sink; create it"))
        })?;
        known.insert(topic.to_owned(), description.partitions);
        Ok(description.partitions)
    })
}
