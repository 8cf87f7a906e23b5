//! Checks a finished run: what is on the output topic, and what the group has committed.
//!
//! Neutral to the engine that ran: it reads topics only, as the peer's `Verify` does.

use anyhow::{Result, bail};
use rdkafka::Message;
use serde_json::{Value, json};

use crate::data::Topic;
use crate::hash::Checksum;
use crate::kafka::Cluster;

/// A run whose output is known for the full data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Expected {
    /// Least-loaded manager of each request's region.
    W1,
    /// Assignments joined with the contractors' latest status.
    W2,
    /// request-events, unchanged.
    Passthrough,
}

impl Expected {
    /// The first two are the peer's; the third follows from the data set.
    pub(crate) fn checksum(self) -> Checksum {
        match self {
            Self::W1 => Checksum { records: 2_000_000, sum: 0xf_40a5_ae80_e12b },
            Self::W2 => Checksum { records: 1_000_000, sum: 0x7_a1a9_4336_1357 },
            Self::Passthrough => Checksum { records: 2_000_000, sum: 0xf_4266_44a6_e100 },
        }
    }

    fn inputs(self) -> &'static [Topic] {
        match self {
            Self::W1 | Self::Passthrough => &[Topic::Requests],
            Self::W2 => &[Topic::Workflow, Topic::Security],
        }
    }
}

/// What to check.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Run {
    /// What ran.
    workload: Expected,
    /// Its output topic.
    #[arg(long)]
    output: String,
    /// Its consumer group, for the lag it left.
    #[arg(long)]
    group: Option<String>,
    /// Deletes the output topic and the group's internal topics afterwards.
    #[arg(long)]
    delete: bool,
}

/// Counts and sums the output as a committed reader sees it.
///
/// # Errors
/// Where count, checksum or lag differ from what a correct run leaves; nothing is deleted then.
pub(crate) fn verify(cluster: &Cluster, run: &Run) -> Result<Value> {
    let mut found = Checksum::default();
    cluster.read_topic(&run.output, |message| {
        found.add(message.key().unwrap_or_default(), message.payload().unwrap_or_default());
    })?;
    let mut lag = None;
    if let Some(group) = &run.group {
        for topic in run.workload.inputs() {
            let topic_lag = cluster.committed_lag(group, &topic.name(&cluster.prefix))?;
            lag = Some(lag.unwrap_or(0) + topic_lag.unwrap_or(0));
        }
    }
    let wanted = run.workload.checksum();
    if found != wanted {
        bail!(
            "output \"{}\": found {} records with checksum {:x}, wanted {} with {:x}",
            run.output,
            found.records,
            found.sum,
            wanted.records,
            wanted.sum
        );
    }
    if lag.is_some_and(|lag| lag != 0) {
        bail!("group {:?}: found a committed lag of {lag:?} records, wanted 0", run.group);
    }
    if run.delete {
        delete(cluster, run)?;
    }
    Ok(json!({
        "out_records": found.records,
        "out_checksum": format!("{:x}", found.sum),
        "committed_lag": lag,
    }))
}

fn delete(cluster: &Cluster, run: &Run) -> Result<()> {
    cluster.delete_topics(std::slice::from_ref(&run.output))?;
    match &run.group {
        Some(group) => cluster.delete_internal_topics(group),
        None => Ok(()),
    }
}
