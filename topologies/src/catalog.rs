//! The topologies that exist: one row each, from which they are started, described and given their topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use kstreams::dlq::dead_letter_topic;
use kstreams::serdes::SchemaCache;
use kstreams::{Clock, Error, Result, StreamsBuilder, SystemClock, Topology};

use crate::queries::Queries;
use crate::settings::Settings;
use crate::{
    audit_fanout, contractor_access, delivery, events, hr_documents, manager_assignment,
    notifications, topics,
};

/// A topology of the application.
pub struct TopologySpec {
    /// Its name; `application.id` without the prefix.
    pub name: &'static str,
    /// Topics that it reads, but for dead letters.
    pub sources: &'static [&'static str],
    /// Topics that it writes, without internal ones and dead letters.
    pub sinks: &'static [&'static str],
    /// Builds its graph.
    pub build: fn(&Settings, &Arc<SchemaCache>) -> Result<Topology>,
}

impl TopologySpec {
    /// Whether it reads the dead letters of all topologies, its own included.
    pub fn reads_dead_letters(&self) -> bool {
        self.name == audit_fanout::NAME
    }
}

/// Every topology.
pub const CATALOG: &[TopologySpec] = &[
    TopologySpec {
        name: manager_assignment::NAME,
        sources: &["request-events", "workflow-events", "managers"],
        sinks: &["workflow-events"],
        build: |settings, schemas| {
            build(schemas, |builder, serdes| {
                manager_assignment::add_to(builder, serdes, &settings.manager_assignment)
            })
        },
    },
    TopologySpec {
        name: contractor_access::NAME,
        sources: &["request-events", "workflow-events", "security-events"],
        sinks: &["audit-events", "security-events"],
        build: |settings, schemas| {
            build(schemas, |builder, serdes| {
                contractor_access::add_to(builder, serdes, &settings.contractor_access)
            })
        },
    },
    TopologySpec {
        name: hr_documents::NAME,
        sources: &["request-events", "workflow-events", "security-events", "hr-events"],
        sinks: &["hr-events"],
        build: |settings, schemas| {
            build(schemas, |builder, serdes| {
                hr_documents::add_to(builder, serdes, &settings.hr_documents)
            })
        },
    },
    TopologySpec {
        name: notifications::NAME,
        sources: &[
            "request-events",
            "workflow-events",
            "security-events",
            "hr-events",
            "contacts",
            "managers",
        ],
        sinks: &["notification-commands", "notification-events"],
        build: |settings, schemas| {
            build(schemas, |builder, serdes| {
                notifications::add_to(builder, serdes, &settings.notifications)
            })
        },
    },
    TopologySpec {
        name: delivery::NAME,
        sources: &["notification-commands", "contacts", "managers"],
        sinks: &["notification-events"],
        build: |settings, schemas| {
            let courier = delivery::courier(&settings.delivery)?;
            build(schemas, |builder, serdes| {
                delivery::add_to(builder, serdes, &settings.delivery, courier)
            })
        },
    },
    TopologySpec {
        name: audit_fanout::NAME,
        sources: audit_fanout::WATCHED,
        sinks: &["audit-events"],
        build: |settings, schemas| {
            let letters: Vec<String> =
                dead_letter_topics(settings, schemas)?.into_iter().map(|(name, _)| name).collect();
            build(schemas, |builder, serdes| {
                audit_fanout::add_to(builder, serdes, &settings.audit_fanout, &letters)
            })
        },
    },
];

/// The dead-letter topics of all topologies, those of their repartition topics included, with their numbers of partitions.
///
/// # Errors
/// `Invalid` where a topology cannot be built.
pub fn dead_letter_topics(
    settings: &Settings,
    schemas: &Arc<SchemaCache>,
) -> Result<Vec<(String, i32)>> {
    let external = topics::TOPICS.iter().map(|topic| (Arc::from(topic.name), topic.partitions));
    let external: BTreeMap<Arc<str>, i32> = external.collect();
    let mut letters = Vec::new();
    for spec in CATALOG {
        let application_id = settings.application_id(spec.name);
        if spec.reads_dead_letters() {
            // Its graph is not known before this list is. Letters of letters there are none: they are read as bytes.
            let own = spec.sources.iter().map(|topic| (Arc::from(*topic), external.get(*topic)));
            letters.extend(own.map(|(topic, partitions): (Arc<str>, _)| {
                let name = dead_letter_topic(&application_id, &topic).to_string();
                (name, partitions.copied().unwrap_or(1))
            }));
            let figures = format!("{application_id}-{}-repartition", audit_fanout::FIGURES);
            letters.push((dead_letter_topic(&application_id, &figures).to_string(), 1));
            continue;
        }
        let plan = (spec.build)(settings, schemas)?.plan(&application_id, &external)?;
        letters.extend(plan.source_topics.iter().map(|(topic, partitions)| {
            (dead_letter_topic(&application_id, topic).to_string(), *partitions)
        }));
    }
    Ok(letters)
}

fn build(
    schemas: &Arc<SchemaCache>,
    add_to: impl FnOnce(&StreamsBuilder, &events::Serdes) -> Result<()>,
) -> Result<Topology> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let builder = StreamsBuilder::new();
    add_to(&builder, &events::serdes(schemas, &clock)?)?;
    builder.build()
}

/// What a topology can be asked.
pub fn queries(topology: &str) -> Option<&'static dyn Queries> {
    match topology {
        manager_assignment::NAME => Some(manager_assignment::queries::QUERIES),
        contractor_access::NAME => Some(contractor_access::queries::QUERIES),
        hr_documents::NAME => Some(hr_documents::queries::QUERIES),
        delivery::NAME => Some(delivery::queries::QUERIES),
        _ => None,
    }
}

/// The topologies with these names, or all of them where no name is given.
///
/// # Errors
/// `Invalid` for a name that none has; the nearest one is named.
pub fn select(names: &[String]) -> Result<Vec<&'static TopologySpec>> {
    if names.is_empty() {
        return Ok(CATALOG.iter().collect());
    }
    let mut selected: Vec<&'static TopologySpec> = Vec::new();
    for name in names {
        let spec = CATALOG.iter().find(|spec| spec.name == name).ok_or_else(|| unknown(name))?;
        if !selected.iter().any(|other| other.name == spec.name) {
            selected.push(spec);
        }
    }
    Ok(selected)
}

fn unknown(name: &str) -> Error {
    let known: Vec<&str> = CATALOG.iter().map(|spec| spec.name).collect();
    Error::invalid(format!("found no topology \"{name}\", wanted one of: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_the_topics_of_their_graphs() {
        let registry = Arc::new(events::memory_registry().unwrap());
        let schemas = SchemaCache::new(registry, Arc::new(SystemClock::default()));
        for spec in CATALOG {
            let topology = (spec.build)(&Settings::default(), &schemas).unwrap();
            let names = |topics: Vec<Arc<str>>| {
                let mut names: Vec<String> = topics.iter().map(ToString::to_string).collect();
                names.sort();
                names.dedup();
                names
            };
            let mut sources: Vec<_> = spec.sources.iter().map(ToString::to_string).collect();
            if spec.reads_dead_letters() {
                let letters = dead_letter_topics(&Settings::default(), &schemas).unwrap();
                sources.extend(letters.into_iter().map(|(name, _)| name));
            }
            sources.sort();
            assert_eq!(names(topology.external_source_topics()), sources);
            assert_eq!(names(topology.external_sink_topics()), spec.sinks);
        }
    }

    #[test]
    fn dead_letters_are_those_of_sources_and_repartition_topics() {
        let registry = Arc::new(events::memory_registry().unwrap());
        let schemas = SchemaCache::new(registry, Arc::new(SystemClock::default()));
        let letters = dead_letter_topics(&Settings::default(), &schemas).unwrap();
        for wanted in [
            ("manager-assignment-request-events-dlq", 6),
            ("manager-assignment-by-region-repartition-dlq", 6),
            ("notifications-contacts-dlq", 3),
            ("audit-fanout-hr-events-dlq", 3),
            ("audit-fanout-figures-repartition-dlq", 1),
        ] {
            assert!(letters.contains(&(wanted.0.to_owned(), wanted.1)), "{wanted:?}: {letters:?}");
        }
    }

    #[test]
    fn an_unknown_topology_names_the_known() {
        let Err(error) = select(&["menager".into()]) else { panic!("selected") };
        assert!(error.to_string().contains("manager-assignment"), "{error}");
        assert_eq!(select(&[]).unwrap().len(), CATALOG.len());
    }
}
