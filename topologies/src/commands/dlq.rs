//! `aggregator dlq`: which records were set aside, and why.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use kstreams::kafka::{Consumer, ConsumerPurpose, KafkaClients as _, StartOffset};
use kstreams::{Clock, Error, Result, SystemClock, TopicPartition};

use super::Report;
use super::letter::{Letter, Personal};
use crate::catalog;
use crate::settings::Settings;

/// Records taken from a partition at once.
const BATCH_RECORDS: usize = 500;
/// How long to sleep at most while records are on their way.
const WAIT: Duration = Duration::from_millis(200);

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// One line for each dead letter: where it is, since when, its class, its source, the reason
    List {
        /// Dead-letter topics; those of all topologies where none is given
        topics: Vec<String>,
        #[command(flatten)]
        #[expect(
            missing_docs,
            reason = "the type says it; a text here would become that of the command"
        )]
        filter: FilterArgs,
    },
    /// Everything about dead letters: headers, key, value, reason
    Show {
        /// TOPIC for all of a topic, or TOPIC-PARTITION@OFFSET for one
        #[arg(value_name = "TOPIC[-PARTITION@OFFSET]")]
        place: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        filter: FilterArgs,
        /// Show names, telephone numbers, e-mail addresses, and bytes that nobody can read
        #[arg(long)]
        personal_data: bool,
    },
}

/// Which letters.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only of this class, such as deserialization_error
    #[arg(long)]
    class: Option<String>,
    /// Only where the reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// At most so many of each partition, the newest
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl FilterArgs {
    fn takes(&self, letter: &Letter) -> bool {
        self.class.as_ref().is_none_or(|class| letter.class() == class)
            && self.reason.as_ref().is_none_or(|text| letter.reason().contains(text))
    }
}

pub(super) fn execute(command: &DlqCommand, settings: &Settings) -> Result<Report> {
    match command {
        DlqCommand::List { topics, filter } => list(topics, filter, settings),
        DlqCommand::Show { place, filter, personal_data } => {
            let data = if *personal_data { Personal::Shown } else { Personal::Hidden };
            show(place, filter, data, settings)
        }
    }
}

fn list(names: &[String], filter: &FilterArgs, settings: &Settings) -> Result<Report> {
    let partitions = partitions(names, settings)?;
    let mut text = String::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let letters = read(&partitions, None, filter, settings)?;
    for letter in &letters {
        let _ = writeln!(text, "{}", letter.line());
        *counts.entry(letter.class().to_owned()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(class, n)| format!("{n} {class}")).collect();
    let total = letters.len();
    let details = if total == 0 { String::new() } else { format!(": {}", counts.join(", ")) };
    let _ = writeln!(text, "{total} dead letters{details}");
    Ok(Report::good(text))
}

fn show(place: &str, filter: &FilterArgs, data: Personal, settings: &Settings) -> Result<Report> {
    let schemas = super::schema_cache(settings)?;
    let one = one_letter(place);
    let letters = match &one {
        Some((partition, offset)) => {
            let found = partitions(&[partition.topic.to_string()], settings)?;
            if !found.contains(partition) {
                return Err(Error::invalid(format!(
                    "found no partition {} in topic \"{}\", wanted one of {}",
                    partition.partition,
                    partition.topic,
                    found.len()
                )));
            }
            read(std::slice::from_ref(partition), Some(*offset), filter, settings)?
        }
        None => read(&partitions(&[place.to_owned()], settings)?, None, filter, settings)?,
    };
    if letters.is_empty() && one.is_some() {
        return Err(Error::invalid(format!(
            "found no dead letter at {place}; `aggregator dlq list` shows those there are"
        )));
    }
    let texts: Vec<String> = letters.iter().map(|letter| letter.details(&schemas, data)).collect();
    Ok(Report::good(texts.join("\n")))
}

/// `TOPIC-PARTITION@OFFSET`.
fn one_letter(place: &str) -> Option<(TopicPartition, i64)> {
    let (partition, offset) = place.rsplit_once('@')?;
    let (topic, partition) = partition.rsplit_once('-')?;
    let partition = TopicPartition { topic: topic.into(), partition: partition.parse().ok()? };
    Some((partition, offset.parse().ok()?))
}

/// All partitions of the named topics, which must exist; or of those of our topologies that do.
fn partitions(names: &[String], settings: &Settings) -> Result<Vec<TopicPartition>> {
    let own: Vec<String> = if names.is_empty() { own_topics(settings)? } else { names.to_vec() };
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut admin = super::clients(settings)?.admin()?;
    let found = admin.describe_topics(&own, settings.request_timeout())?;
    if let Some(missing) = names.iter().find(|name| !found.contains_key(*name)) {
        let known: Vec<String> = found.keys().cloned().collect();
        let known = if known.is_empty() { own_topics(settings)? } else { known };
        return Err(Error::invalid(format!(
            "found no topic \"{missing}\", wanted a dead-letter topic such as {}",
            known.join(", ")
        )));
    }
    let partitions = found.iter().flat_map(|(topic, description)| {
        (0..description.partitions)
            .map(|partition| TopicPartition { topic: topic.as_str().into(), partition })
    });
    Ok(partitions.collect())
}

/// The dead-letter topics of every topology, those of its repartition topics included.
fn own_topics(settings: &Settings) -> Result<Vec<String>> {
    let letters = catalog::dead_letter_topics(settings, &super::memory_schemas()?)?;
    Ok(letters.into_iter().map(|(name, _)| name).collect())
}

/// Reads partitions to their present end, or the one record at `only`; in order of the time of failure.
fn read(
    partitions: &[TopicPartition],
    only: Option<i64>,
    filter: &FilterArgs,
    settings: &Settings,
) -> Result<Vec<Letter>> {
    let mut consumer = super::clients(settings)?.consumer(ConsumerPurpose::Main)?;
    let timeout = settings.request_timeout();
    let mut letters = Vec::new();
    for partition in partitions {
        let (first, end) = consumer.offsets(partition, timeout)?;
        let (start, end) = match only {
            Some(offset) if (first..end).contains(&offset) => (offset, offset + 1),
            Some(_) => continue,
            None => (first, end),
        };
        if start < end {
            let range = Range { start, end, timeout };
            letters.extend(read_partition(&mut *consumer, partition, &range, filter)?);
        }
    }
    letters.sort_by_key(Letter::failed_at);
    Ok(letters)
}

struct Range {
    start: i64,
    end: i64,
    /// Between two records, at most.
    timeout: Duration,
}

fn read_partition(
    consumer: &mut dyn Consumer,
    partition: &TopicPartition,
    range: &Range,
    filter: &FilterArgs,
) -> Result<VecDeque<Letter>> {
    let clock = SystemClock::default();
    let slot = consumer.assign(partition, StartOffset::At(range.start))?;
    let mut letters = VecDeque::new();
    let mut next = range.start;
    let mut deadline = clock.monotonic() + range.timeout;
    while next < range.end {
        let drained = consumer.drain(slot, BATCH_RECORDS, &mut |record| {
            next = record.offset + 1;
            let letter = Letter::new(partition.clone(), record);
            if next <= range.end && filter.takes(&letter) {
                letters.push_back(letter);
            }
            if letters.len() > filter.limit {
                letters.pop_front();
            }
        })?;
        if drained.records > 0 {
            deadline = clock.monotonic() + range.timeout;
        } else if drained.end_of_partition.is_some() {
            break;
        } else if clock.monotonic() > deadline {
            return Err(Error::retriable(format!(
                "{partition}: no record came within {} ms, wanted those up to offset {}; try again",
                range.timeout.as_millis(),
                range.end
            )));
        } else {
            consumer.wait(WAIT)?;
        }
    }
    consumer.unassign(slot)?;
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_topic_or_one_letter() {
        let (partition, offset) = one_letter("a-b-dlq-3@17").unwrap();
        assert_eq!((&*partition.topic, partition.partition, offset), ("a-b-dlq", 3, 17));
        assert!(one_letter("a-b-dlq").is_none());
        assert!(one_letter("a@x").is_none());
    }

    #[test]
    fn own_topics_include_those_of_repartition_topics() {
        let names = own_topics(&Settings::default()).unwrap();
        assert!(names.contains(&"manager-assignment-request-events-dlq".to_owned()), "{names:?}");
        let internal = names.iter().filter(|name| name.contains("repartition"));
        assert!(internal.count() >= 2, "{names:?}");
    }
}
