//! `aggregator topics`.

use std::fmt::Write as _;

use clap::Subcommand;
use kstreams::Result;
use kstreams::kafka::{Admin, KafkaClients as _, NewTopic};

use super::Report;
use crate::settings::Settings;
use crate::topics::{self, Cleanup, Difference, Drift, REPLICATION_FACTOR, TOPICS};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create missing topics, add partitions, correct configurations; never deletes or shrinks
    Apply,
    /// Show every difference between the cluster and the table; exit code 1 where there is one
    Diff,
    /// Print the table
    List,
}

pub(super) fn execute(command: &TopicsCommand, settings: &Settings) -> Result<Report> {
    match command {
        TopicsCommand::List => Ok(Report::good(list(settings)?)),
        TopicsCommand::Diff => {
            let (mut admin, wanted) = connect(settings)?;
            let drifts = topics::diff(&mut *admin, &wanted, settings.request_timeout())?;
            let mut text = lines("", &drifts);
            let _ = writeln!(text, "{} topics, {} differences", wanted.len(), drifts.len());
            Ok(Report { text, good: drifts.is_empty() })
        }
        TopicsCommand::Apply => {
            let (mut admin, wanted) = connect(settings)?;
            let (done, left) = topics::apply(&mut *admin, &wanted, settings.request_timeout())?;
            let mut text = String::new();
            for drift in &done {
                let _ = match drift.what {
                    Difference::Missing => writeln!(text, "created topic \"{}\"", drift.topic),
                    _ => writeln!(text, "changed {drift}"),
                };
            }
            text.push_str(&lines("left ", &left));
            let (total, changed) = (wanted.len(), done.len());
            let _ = writeln!(text, "{total} topics, {changed} changes, {} left", left.len());
            Ok(Report { text, good: left.is_empty() })
        }
    }
}

fn connect(settings: &Settings) -> Result<(Box<dyn Admin>, Vec<NewTopic>)> {
    let mut admin = super::clients(settings)?.admin()?;
    let brokers = admin.broker_count(settings.request_timeout())?;
    let replicas = topics::replication_factor(brokers);
    if replicas < REPLICATION_FACTOR {
        tracing::warn!(
            brokers,
            "replication factor falls from {REPLICATION_FACTOR} to {replicas}, the number of brokers"
        );
    }
    Ok((admin, topics::wanted(settings, replicas)?))
}

fn lines(before: &str, drifts: &[Drift]) -> String {
    drifts.iter().map(|drift| format!("{before}{drift}\n")).collect()
}

fn list(settings: &Settings) -> Result<String> {
    let mut text = String::from(
        "| topic | key | partitions | replicas | keeps | event types |\n|---|---|---|---|---|---|\n",
    );
    for topic in TOPICS {
        let keeps = match topic.cleanup {
            Cleanup::DeleteAfterDays(days) => format!("{days} d"),
            Cleanup::Compact => "latest per key".to_owned(),
        };
        let types: Vec<&str> = topic.event_types().collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {REPLICATION_FACTOR} | {keeps} | {} |",
            topic.name,
            topic.key,
            topic.partitions,
            types.join(", ")
        );
    }
    for topic in topics::wanted(settings, REPLICATION_FACTOR)?.iter().skip(TOPICS.len()) {
        let ms = topic.configs.get("retention.ms").and_then(|ms| ms.parse::<u64>().ok());
        let days = ms.unwrap_or(0) / (24 * 3_600_000);
        let (name, partitions) = (&topic.name, topic.partitions);
        let _ = writeln!(
            text,
            "| {name} | the record's own | {partitions} | {REPLICATION_FACTOR} | {days} d | dead letters |"
        );
    }
    Ok(text)
}
