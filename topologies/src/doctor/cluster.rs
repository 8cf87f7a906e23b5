//! Brokers with their settings, and the topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use kstreams::{ProcessingGuarantee, Result};

use super::{Findings, Patient};
use crate::catalog::CATALOG;
use crate::commands;
use crate::topics::{self, Difference, Drift};

const APPLY: &str = "run `aggregator topics apply`";
/// The brokers' own topics without which no group and no transaction goes on.
const BROKERS_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
/// What an offset is committed with must fit; see `task/offset_metadata.rs` of the engine.
const OFFSET_METADATA_BYTES: i64 = 4096;
/// A group that is away for a night keeps its offsets.
const OFFSETS_RETENTION_MIN_MINUTES: i64 = 24 * 60;

/// Says whether any broker answers.
pub(super) fn find_brokers(patient: &mut Patient<'_>, findings: &mut Findings) -> bool {
    let about = patient.settings.kafka.bootstrap_servers.clone();
    let topics = patient.admin.topics(patient.timeout);
    let asked =
        topics.and_then(|topics| Ok((topics, patient.admin.broker_count(patient.timeout)?)));
    match asked {
        Ok((topics, brokers)) => {
            (patient.topics, patient.brokers) = (topics, brokers);
            findings.ok("brokers", &about, format!("{brokers} alive"));
            true
        }
        Err(error) => {
            let cure = "start the brokers, or correct kafka.bootstrap_servers and the table [client]; nothing behind them was looked at";
            findings.fail("brokers", &about, error.to_string(), cure);
            false
        }
    }
}

pub(super) fn look(patient: &mut Patient<'_>, findings: &mut Findings) {
    type Look = fn(&mut Patient<'_>, &mut Findings) -> Result<()>;
    let looks: [(&'static str, Look); 4] = [
        ("replicas", replicas),
        ("settings", broker_settings),
        ("topics", topic_drift),
        ("internal", internal_topics),
    ];
    let about = patient.settings.kafka.bootstrap_servers.clone();
    for (check, look) in looks {
        if let Err(error) = look(patient, findings) {
            findings.blind(check, &about, &error);
        }
    }
}

fn replicas(patient: &mut Patient<'_>, findings: &mut Findings) -> Result<()> {
    let about = patient.settings.kafka.bootstrap_servers.clone();
    let own = patient.wanted.iter().map(|topic| topic.name.as_str());
    let names: Vec<&str> = own.chain(BROKERS_TOPICS).collect();
    let health = patient.admin.cluster_health(&names, patient.timeout)?;
    if health.offline > 0 {
        let found = format!("found {} partitions without a leader", health.offline);
        findings.fail(
            "replicas",
            &about,
            found,
            "start the brokers that hold them; see docs/runbook/KafkaUnderReplicatedPartitions.md",
        );
    } else if health.under_replicated > 0 {
        let found = format!(
            "found {} partitions with fewer replicas in sync than they have",
            health.under_replicated
        );
        findings.warn(
            "replicas",
            &about,
            found,
            "start the broker that is missing; see docs/runbook/KafkaUnderReplicatedPartitions.md",
        );
    } else {
        findings.ok("replicas", &about, "every partition has its leader and its replicas");
    }
    Ok(())
}

/// A broker's setting that is not as this application needs it.
struct Misfit {
    setting: &'static str,
    found: String,
    cure: String,
    fails: bool,
}

fn broker_settings(patient: &mut Patient<'_>, findings: &mut Findings) -> Result<()> {
    let brokers = patient.admin.broker_configs(patient.timeout)?;
    let before = findings.0.len();
    for (id, configs) in &brokers {
        for misfit in misfits(patient, configs) {
            let about = format!("broker {id}, {}", misfit.setting);
            if misfit.fails {
                findings.fail("settings", &about, misfit.found, &misfit.cure);
            } else {
                findings.warn("settings", &about, misfit.found, &misfit.cure);
            }
        }
    }
    if findings.0.len() == before {
        let about = &patient.settings.kafka.bootstrap_servers;
        findings.ok("settings", about, format!("those of {} brokers fit ours", brokers.len()));
    }
    Ok(())
}

fn misfits(patient: &Patient<'_>, configs: &BTreeMap<String, String>) -> Vec<Misfit> {
    let config = patient.settings.streams_config("any");
    let is_exactly_once = config.processing_guarantee == ProcessingGuarantee::ExactlyOnceV2;
    let number = |name: &str| configs.get(name).and_then(|text| text.parse::<i64>().ok());
    let millis =
        |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let mut list = Vec::new();
    let mut add = |setting, found: String, cure: &str, fails| {
        list.push(Misfit { setting, found, cure: cure.to_owned(), fails });
    };
    let session = millis(config.session_timeout);
    let (min, max) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms");
    if number(min).is_some_and(|least| session < least) {
        add(
            min,
            format!("found {}, more than kafka.session_timeout_ms = {session}", configs[min]),
            "no instance can join its group: raise kafka.session_timeout_ms to that, or lower the broker's setting",
            true,
        );
    }
    if number(max).is_some_and(|most| session > most) {
        add(
            max,
            format!("found {}, less than kafka.session_timeout_ms = {session}", configs[max]),
            "no instance can join its group: lower kafka.session_timeout_ms to that, or raise the broker's setting",
            true,
        );
    }
    let (transaction, max) = (millis(config.transaction_timeout), "transaction.max.timeout.ms");
    if is_exactly_once && number(max).is_some_and(|most| transaction > most) {
        add(
            max,
            format!(
                "found {}, less than kafka.transaction_timeout_ms = {transaction}",
                configs[max]
            ),
            "no transaction can begin: lower kafka.transaction_timeout_ms to that, or raise the broker's setting",
            true,
        );
    }
    let protocols = "group.coordinator.rebalance.protocols";
    if configs
        .get(protocols)
        .is_some_and(|list| !list.split(',').any(|name| name.trim() == "classic"))
    {
        add(
            protocols,
            format!("found \"{}\", wanted classic among them", configs[protocols]),
            "no instance can join its group: add classic to the broker's setting",
            true,
        );
    }
    let (in_sync, brokers) =
        ("transaction.state.log.min.isr", i64::try_from(patient.brokers).unwrap_or(i64::MAX));
    if is_exactly_once && number(in_sync).is_some_and(|least| least > brokers) {
        add(
            in_sync,
            format!("found {}, more than the {brokers} brokers that are alive", configs[in_sync]),
            "no transaction can begin: start the brokers that are missing",
            true,
        );
    }
    let metadata = "offset.metadata.max.bytes";
    if number(metadata).is_some_and(|most| most < OFFSET_METADATA_BYTES) {
        add(
            metadata,
            format!("found {}, wanted at least {OFFSET_METADATA_BYTES}", configs[metadata]),
            "commits that carry stream times will be refused: put the broker's setting back to its default",
            true,
        );
    }
    let auto = "auto.create.topics.enable";
    if configs.get(auto).is_some_and(|text| text == "true") {
        add(
            auto,
            "found true, wanted false".to_owned(),
            "a misspelt name makes a topic with a wrong number of partitions: set it to false",
            false,
        );
    }
    let retention = "offsets.retention.minutes";
    if number(retention).is_some_and(|minutes| minutes < OFFSETS_RETENTION_MIN_MINUTES) {
        add(
            retention,
            format!(
                "found {}, wanted at least {OFFSETS_RETENTION_MIN_MINUTES}",
                configs[retention]
            ),
            "a group that is away for longer begins anew: raise the broker's setting",
            false,
        );
    }
    list
}

fn topic_drift(patient: &mut Patient<'_>, findings: &mut Findings) -> Result<()> {
    let before = findings.0.len();
    for drift in topics::diff(&mut *patient.admin, &patient.wanted, patient.timeout)? {
        tell(&drift, findings);
    }
    for topic in &patient.wanted {
        if let Some(found) = patient.topics.get(&topic.name) {
            let replicas =
                i32::try_from(patient.brokers).unwrap_or(i32::MAX).min(found.replication_factor);
            let configs = patient.admin.topic_configs(&topic.name, patient.timeout)?;
            let least =
                configs.get("min.insync.replicas").and_then(|text| text.parse::<i32>().ok());
            if let Some(least) = least.filter(|least| *least > replicas) {
                let found = format!(
                    "found min.insync.replicas = {least}, more than the {replicas} replicas that can be alive"
                );
                let cure = "every write is refused: start the brokers that are missing, or lower the topic's setting (`aggregator topics apply`)";
                findings.fail("in-sync", &topic.name, found, cure);
            }
        }
    }
    if findings.0.len() == before {
        let about = &patient.settings.kafka.bootstrap_servers;
        findings.ok("topics", about, format!("all {} as specified", patient.wanted.len()));
    }
    Ok(())
}

fn tell(drift: &Drift, findings: &mut Findings) {
    let Drift { topic, what, found, wanted } = drift;
    let number = |text: &str| text.parse::<i64>().unwrap_or(-1);
    let mut fail = |found: String, cure: &str| findings.fail("topics", topic, found, cure);
    match what {
        Difference::Missing => fail("found none, wanted it".to_owned(), APPLY),
        Difference::Partitions if number(found) < number(wanted) => fail(
            format!("found {found} partitions, wanted {wanted}"),
            "run `aggregator topics apply`; keys then move to other partitions, so let the topologies drain first",
        ),
        Difference::Config(name) if name == "cleanup.policy" => {
            let found = format!(
                "found {name} = {found}, wanted {wanted}: records that are needed are thrown away, or none ever is"
            );
            fail(found, APPLY);
        }
        // -1 is for ever.
        Difference::Config(name)
            if name == "retention.ms" && number(found) >= 0 && number(found) < number(wanted) =>
        {
            let found =
                format!("found {name} = {found}, wanted {wanted}: records go before they must");
            fail(found, APPLY);
        }
        Difference::Partitions => {
            let found = format!("found {found} partitions, wanted {wanted}");
            findings.warn("topics", topic, found, drift.advice().unwrap_or(APPLY));
        }
        Difference::ReplicationFactor => {
            let found = format!("found {found} replicas, wanted {wanted}");
            findings.warn("topics", topic, found, drift.advice().unwrap_or(APPLY));
        }
        Difference::Config(name) => {
            let found = format!("found {name} = {found}, wanted {wanted}");
            findings.warn("topics", topic, found, APPLY);
        }
    }
}

/// Changelogs and repartition topics, which the engine makes at the first start: all of a topology's, or none yet.
fn internal_topics(patient: &mut Patient<'_>, findings: &mut Findings) -> Result<()> {
    let schemas = commands::memory_schemas()?;
    let external: BTreeMap<Arc<str>, i32> =
        patient.wanted.iter().map(|topic| (topic.name.as_str().into(), topic.partitions)).collect();
    for spec in CATALOG {
        let application_id = patient.settings.application_id(spec.name);
        let plan = (spec.build)(patient.settings, &schemas)?.plan(&application_id, &external)?;
        let (there, missing): (Vec<_>, Vec<_>) = plan
            .internal_topics
            .iter()
            .partition(|topic| patient.topics.contains_key(&*topic.name));
        if there.is_empty() {
            findings.ok("internal", &application_id, "none yet: the first start makes them");
            continue;
        }
        let before = findings.0.len();
        for topic in missing {
            let cure = "the next start makes it anew and empty: stop all instances, and see whether its store was restored from it meanwhile";
            findings.fail(
                "internal",
                &topic.name,
                "found none, although others of its topology are there",
                cure,
            );
        }
        for topic in &there {
            let (found, wanted) = (patient.topics[&*topic.name].partitions, topic.partitions);
            if found != wanted {
                let found = format!("found {found} partitions, wanted {wanted}");
                let cure = "set the topology's internal_partitions back, or begin it anew: stop all instances, delete its internal topics, offsets and state folders";
                findings.fail("internal", &topic.name, found, cure);
            }
            let configs = patient.admin.topic_configs(&topic.name, patient.timeout)?;
            if let (Some(found), Some(wanted)) =
                (configs.get("cleanup.policy"), topic.configs.get("cleanup.policy"))
                && found != wanted
            {
                let found = format!("found cleanup.policy = {found}, wanted {wanted}");
                let cure = "set it back with kafka-configs: rows of the store are thrown away, or the topic grows for ever";
                findings.fail("internal", &topic.name, found, cure);
            }
        }
        if findings.0.len() == before {
            findings.ok("internal", &application_id, format!("{} as planned", there.len()));
        }
    }
    Ok(())
}
