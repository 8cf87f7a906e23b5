//! The rights that topologies need on a cluster with access control: no more than these, and no less.
//!
//! Called by `aggregator acls`; cold. Rights of those who prepare the cluster (`topics apply`) are not among them. `Read` and `Write`
//! imply `Describe` (Kafka's `AclAuthorizer`, kept by its `StandardAuthorizer`), which is therefore not listed beside them.

use std::sync::Arc;

use kstreams::Result;
use kstreams::serdes::SchemaCache;

use crate::catalog::{self, CATALOG, TopologySpec};
use crate::clickhouse;
use crate::settings::Settings;

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Topics.
    Topic,
    /// Consumer groups.
    Group,
    /// Transactional ids.
    TransactionalId,
}

impl Resource {
    /// The option of `kafka-acls.sh` that names one.
    pub fn option(self) -> &'static str {
        match self {
            Self::Topic => "--topic",
            Self::Group => "--group",
            Self::TransactionalId => "--transactional-id",
        }
    }
}

/// Rights to some resources of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What they are about.
    pub resource: Resource,
    /// Whether `names` are the beginnings of names.
    pub is_prefix: bool,
    /// Names.
    pub names: Vec<String>,
    /// Operations by the names of `kafka-acls.sh`.
    pub operations: &'static [&'static str],
    /// What for.
    pub reason: &'static str,
}

/// What a topology needs.
///
/// # Errors
/// `Invalid` where the topologies cannot be built with these settings.
pub fn of_topology(
    spec: &TopologySpec,
    settings: &Settings,
    schemas: &Arc<SchemaCache>,
) -> Result<Vec<Right>> {
    let application_id = settings.application_id(spec.name);
    let mut sources: Vec<String> = spec.sources.iter().map(ToString::to_string).collect();
    if spec.reads_dead_letters() {
        let letters = catalog::dead_letter_topics(settings, schemas)?;
        sources.extend(letters.into_iter().map(|(name, _)| name));
    }
    let sinks = spec.sinks.iter().map(ToString::to_string).collect();
    let others = CATALOG.iter().map(|other| settings.application_id(other.name));
    let others = others.filter(|other| *other != application_id).collect();
    let own = format!("{application_id}-");
    Ok(vec![
        right(
            Resource::Topic,
            sources,
            &["Read", "DescribeConfigs"],
            "input, and how long it is kept",
        ),
        right(Resource::Topic, sinks, &["Write"], "results"),
        prefix(Resource::Topic, &own, &["Create", "Read", "Write", "Delete"], INTERNAL),
        prefix(Resource::TransactionalId, &own, &["Write"], "transactions"),
        right(Resource::Group, vec![application_id], &["Read"], "membership and offsets"),
        right(
            Resource::Group,
            others,
            &["Describe"],
            "instances to ask, for queries over all topologies",
        ),
    ])
}

const INTERNAL: &str =
    "changelogs, repartition topics (whose processed records are deleted) and dead letters";

/// What the sink to ClickHouse needs.
pub fn of_sink(settings: &Settings) -> Vec<Right> {
    let group = settings.application_id(clickhouse::NAME);
    vec![
        right(Resource::Topic, vec![clickhouse::TOPIC.to_owned()], &["Read"], "input"),
        right(Resource::Group, vec![group], &["Read"], "membership and offsets"),
    ]
}

fn right(
    resource: Resource,
    names: Vec<String>,
    operations: &'static [&'static str],
    reason: &'static str,
) -> Right {
    Right { resource, is_prefix: false, names, operations, reason }
}

fn prefix(
    resource: Resource,
    name: &str,
    operations: &'static [&'static str],
    reason: &'static str,
) -> Right {
    Right { is_prefix: true, ..right(resource, vec![name.to_owned()], operations, reason) }
}

#[cfg(test)]
mod tests {
    use kstreams::SystemClock;

    use super::*;
    use crate::events;

    /// A right by a beginning must not reach into another topology's topics.
    #[test]
    fn no_topologys_beginning_is_that_of_another() {
        let settings = Settings::default();
        let ids = || CATALOG.iter().map(|spec| settings.application_id(spec.name));
        for id in ids() {
            let reached: Vec<String> =
                ids().filter(|other| format!("{other}-").starts_with(&format!("{id}-"))).collect();
            assert_eq!(reached, [id]);
        }
    }

    #[test]
    fn rights_name_every_topic_of_a_topology() {
        let schemas = SchemaCache::new(
            Arc::new(events::memory_registry().unwrap()),
            Arc::new(SystemClock::default()),
        );
        let settings = Settings::default();
        for spec in CATALOG {
            let id = settings.application_id(spec.name);
            let rights = of_topology(spec, &settings, &schemas).unwrap();
            let may = |operation: &str, topic: &str| {
                rights.iter().any(|right| {
                    let named = |name: &String| match right.is_prefix {
                        true => topic.starts_with(name),
                        false => topic == name,
                    };
                    right.resource == Resource::Topic
                        && right.operations.contains(&operation)
                        && right.names.iter().any(named)
                })
            };
            assert!(spec.sources.iter().all(|topic| may("Read", topic)), "{}", spec.name);
            assert!(spec.sinks.iter().all(|topic| may("Write", topic)), "{}", spec.name);
            assert!(may("Create", &format!("{id}-store-changelog")));
            let foreign = |topic: &&&str| !spec.sinks.contains(*topic);
            assert!(!spec.sources.iter().filter(foreign).any(|topic| may("Write", topic)));
        }
    }
}
