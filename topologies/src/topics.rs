//! The topics: one table, from which they are created, compared and documented.
//!
//! Called by `aggregator topics` and by start-up checks; cold. Nothing here deletes or shrinks anything. Internal topics
//! are the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kstreams::dlq::dead_letter_topic;
use kstreams::kafka::{Admin, NewTopic, TopicDescription};
use kstreams::serdes::SchemaCache;
use kstreams::{Clock, Error, Result, SystemClock};

use crate::catalog::{self, CATALOG, TopologySpec};
use crate::events::{self, SCHEMAS};
use crate::settings::Settings;

/// Replicas of every topic, on a cluster with that many brokers.
pub const REPLICATION_FACTOR: i32 = 3;
/// Replicas that must have a record before it counts as written.
const MIN_INSYNC_REPLICAS: i32 = 2;
/// As the engine's producers compress, so that brokers store batches as they come.
const COMPRESSION: &str = "lz4";
/// The shortest retention of dead letters, so that a long week-end loses none.
const DEAD_LETTER_DAYS: u64 = 30;
/// Between two looks at changes that were just made.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const DAY_MS: u64 = 24 * 3_600_000;

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records of the last so many days.
    DeleteAfterDays(u64),
    /// The latest record of each key.
    Compact,
}

/// A topic of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: &'static str,
    /// What its keys are, as UTF-8 text.
    pub key: &'static str,
    /// Number of partitions.
    pub partitions: i32,
    /// What it keeps.
    pub cleanup: Cleanup,
}

const fn topic(
    name: &'static str,
    key: &'static str,
    partitions: i32,
    cleanup: Cleanup,
) -> TopicSpec {
    TopicSpec { name, key, partitions, cleanup }
}

/// Every topic but dead letters and internal ones.
pub const TOPICS: &[TopicSpec] = &[
    topic("request-events", "region", 6, Cleanup::DeleteAfterDays(7)),
    topic("workflow-events", "request_id", 3, Cleanup::DeleteAfterDays(30)),
    topic("notification-events", "recipient", 3, Cleanup::DeleteAfterDays(3)),
    topic("security-events", "contractor_id", 3, Cleanup::DeleteAfterDays(90)),
    topic("hr-events", "contractor_id", 3, Cleanup::DeleteAfterDays(365)),
    topic("audit-events", "entity", 6, Cleanup::DeleteAfterDays(365)),
    topic("managers", "manager_id", 3, Cleanup::Compact),
    topic("contacts", "recipient", 3, Cleanup::Compact),
    topic("notification-commands", "recipient", 3, Cleanup::DeleteAfterDays(3)),
];

impl TopicSpec {
    /// The event types that it may hold.
    pub fn event_types(&self) -> impl Iterator<Item = &'static str> {
        let name = self.name;
        SCHEMAS
            .iter()
            .filter(move |(topic, ..)| *topic == name)
            .map(|(_, event_type, _)| *event_type)
    }

    /// The dead letters of this topic in an application.
    fn dead_letters(&self, application_id: &str, replication_factor: i32) -> NewTopic {
        let days = match self.cleanup {
            Cleanup::DeleteAfterDays(days) => days.max(DEAD_LETTER_DAYS),
            Cleanup::Compact => DEAD_LETTER_DAYS,
        };
        let name = dead_letter_topic(application_id, self.name).to_string();
        new_topic(name, self.partitions, Cleanup::DeleteAfterDays(days), replication_factor)
    }
}

/// Finds a topic in the table.
pub fn find(name: &str) -> Option<&'static TopicSpec> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The replication factor for a cluster of so many brokers.
pub fn replication_factor(brokers: usize) -> i32 {
    i32::try_from(brokers).unwrap_or(i32::MAX).clamp(1, REPLICATION_FACTOR)
}

/// Every topic as it shall be, dead letters of all topologies included.
///
/// # Errors
/// `Invalid` where a topology cannot be built with these settings.
pub fn wanted(settings: &Settings, replication_factor: i32) -> Result<Vec<NewTopic>> {
    let mut topics: Vec<NewTopic> = TOPICS
        .iter()
        .map(|t| new_topic(t.name.to_owned(), t.partitions, t.cleanup, replication_factor))
        .collect();
    let mut longer = BTreeMap::new();
    for topology in CATALOG {
        let application_id = settings.application_id(topology.name);
        for topic in topology.sources.iter().filter_map(|name| find(name)) {
            let letters = topic.dead_letters(&application_id, replication_factor);
            longer.insert(letters.name.clone(), letters);
        }
    }
    let registry = Arc::new(events::memory_registry()?);
    let schemas = SchemaCache::new(registry, Arc::new(SystemClock::default()));
    for (name, partitions) in catalog::dead_letter_topics(settings, &schemas)? {
        let days = Cleanup::DeleteAfterDays(DEAD_LETTER_DAYS);
        let letters = longer.remove(&name);
        topics
            .push(letters.unwrap_or_else(|| new_topic(name, partitions, days, replication_factor)));
    }
    Ok(topics)
}

fn new_topic(name: String, partitions: i32, cleanup: Cleanup, replication_factor: i32) -> NewTopic {
    // With fewer than three replicas, one lost broker would stop every writer.
    let in_sync = if replication_factor >= 3 { MIN_INSYNC_REPLICAS } else { 1 };
    let mut configs = BTreeMap::from([
        ("compression.type".to_owned(), COMPRESSION.to_owned()),
        ("min.insync.replicas".to_owned(), in_sync.to_string()),
        // A record's time is its event's, not that of its arrival.
        ("message.timestamp.type".to_owned(), "CreateTime".to_owned()),
    ]);
    let mut set = |name: &str, value: String| configs.insert(name.to_owned(), value);
    match cleanup {
        Cleanup::Compact => {
            set("cleanup.policy", "compact".to_owned());
        }
        Cleanup::DeleteAfterDays(days) => {
            set("cleanup.policy", "delete".to_owned());
            set("retention.ms", (days * DAY_MS).to_string());
        }
    }
    NewTopic { name, partitions, replication_factor, configs }
}

/// A difference between what a topic is and what it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The topic.
    pub topic: String,
    /// What differs.
    pub what: Difference,
    /// What the cluster has.
    pub found: String,
    /// What it shall have.
    pub wanted: String,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// There is no such topic.
    Missing,
    /// Number of partitions.
    Partitions,
    /// Replication factor.
    ReplicationFactor,
    /// A configuration entry.
    Config(String),
}

impl Drift {
    /// What to do by hand about a difference that [`apply`] leaves.
    pub fn advice(&self) -> Option<&'static str> {
        match self.what {
            Difference::Partitions if number(&self.found) > number(&self.wanted) => {
                Some("partitions are never taken away; correct the table, or make the topic anew")
            }
            Difference::ReplicationFactor => Some("move replicas with kafka-reassign-partitions"),
            _ => None,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.what {
            Difference::Missing => return write!(f, "topic \"{}\": missing", self.topic),
            Difference::Partitions => "partitions",
            Difference::ReplicationFactor => "replication factor",
            Difference::Config(name) => name,
        };
        let Self { topic, found, wanted, .. } = self;
        write!(f, "topic \"{topic}\", {what}: found {found}, wanted {wanted}")?;
        self.advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Compares the cluster with what is wanted.
///
/// # Errors
/// `Retriable` where no broker answers, `Fatal` where it refuses us.
pub fn diff(admin: &mut dyn Admin, wanted: &[NewTopic], timeout: Duration) -> Result<Vec<Drift>> {
    let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
    let found = admin.describe_topics(&names, timeout)?;
    let mut drifts = Vec::new();
    for topic in wanted {
        match found.get(&topic.name) {
            None => drifts.push(drift(topic, Difference::Missing, "", "")),
            Some(description) => {
                let configs = admin.topic_configs(&topic.name, timeout)?;
                compare(topic, description, &configs, &mut drifts);
            }
        }
    }
    Ok(drifts)
}

fn compare(
    wanted: &NewTopic,
    found: &TopicDescription,
    configs: &BTreeMap<String, String>,
    drifts: &mut Vec<Drift>,
) {
    for (what, found, wanted_number) in [
        (Difference::Partitions, found.partitions, wanted.partitions),
        (Difference::ReplicationFactor, found.replication_factor, wanted.replication_factor),
    ] {
        if found != wanted_number {
            drifts.push(drift(wanted, what, found, wanted_number));
        }
    }
    for (name, value) in &wanted.configs {
        let found = configs.get(name).map_or("", String::as_str);
        if found != value {
            drifts.push(drift(wanted, Difference::Config(name.clone()), found, value));
        }
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

fn drift(topic: &NewTopic, what: Difference, found: impl ToString, wanted: impl ToString) -> Drift {
    let (found, wanted) = (found.to_string(), wanted.to_string());
    Drift { topic: topic.name.clone(), what, found, wanted }
}

/// Creates what is missing, adds partitions and corrects configurations; returns what it did and what it had to leave.
///
/// # Errors
/// As [`diff`]; `Invalid` or `Fatal` where the broker refuses a change. What was done before stays.
pub fn apply(
    admin: &mut dyn Admin,
    wanted: &[NewTopic],
    timeout: Duration,
) -> Result<(Vec<Drift>, Vec<Drift>)> {
    let drifts = diff(admin, wanted, timeout)?;
    let missing = |topic: &&NewTopic| {
        drifts.iter().any(|d| d.topic == topic.name && d.what == Difference::Missing)
    };
    let create: Vec<NewTopic> = wanted.iter().filter(missing).cloned().collect();
    if !create.is_empty() {
        admin.create_topics(&create, timeout)?;
    }
    let (left, done): (Vec<Drift>, Vec<Drift>) =
        drifts.into_iter().partition(|drift| drift.advice().is_some());
    for topic in wanted {
        let mut configs = BTreeMap::new();
        for drift in done.iter().filter(|drift| drift.topic == topic.name) {
            match &drift.what {
                Difference::Config(name) => {
                    configs.insert(name.clone(), drift.wanted.clone());
                }
                Difference::Partitions => {
                    admin.create_partitions(&topic.name, topic.partitions, timeout)?;
                }
                Difference::Missing | Difference::ReplicationFactor => {}
            }
        }
        if !configs.is_empty() {
            admin.alter_topic_configs(&topic.name, &configs, timeout)?;
        }
    }
    settle(admin, wanted, &left, timeout)?;
    Ok((done, left))
}

/// Waits until nothing differs but what was left: brokers learn of changes after the answer to them.
fn settle(
    admin: &mut dyn Admin,
    wanted: &[NewTopic],
    left: &[Drift],
    timeout: Duration,
) -> Result<()> {
    let clock = SystemClock::default();
    let deadline = clock.monotonic() + timeout;
    loop {
        let drifts = diff(admin, wanted, timeout)?;
        let Some(pending) = drifts.iter().find(|drift| !left.contains(drift)) else {
            return Ok(());
        };
        if clock.monotonic() > deadline {
            return Err(Error::retriable(format!("{pending}, although it was changed; try again")));
        }
        std::thread::park_timeout(SETTLE_PAUSE);
    }
}

/// Checks before a topology starts that its topics exist with as many partitions as the table says, or more.
///
/// # Errors
/// `Invalid`, naming every topic with what was found and wanted; `Retriable` where no broker answers.
pub fn check(admin: &mut dyn Admin, topology: &TopologySpec, timeout: Duration) -> Result<()> {
    // Each once: a topology may read what it writes.
    let names: BTreeSet<&str> = topology.sources.iter().chain(topology.sinks).copied().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let found = admin.describe_topics(&names, timeout)?;
    let mut problems = Vec::new();
    for name in names {
        let wanted = find(name).map_or(1, |topic| topic.partitions);
        match found.get(name).map(|topic| topic.partitions) {
            None => {
                problems.push(format!("topic \"{name}\": found none, wanted {wanted} partitions"))
            }
            Some(found) if found < wanted => problems
                .push(format!("topic \"{name}\": found {found} partitions, wanted {wanted}")),
            Some(found) if found > wanted => {
                tracing::warn!(
                    topic = name,
                    found,
                    wanted,
                    "topic has more partitions than the table says"
                );
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: {}; run `aggregator topics apply`",
        topology.name,
        problems.join("; ")
    )))
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
