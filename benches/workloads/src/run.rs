//! Runs a workload on the engine over the whole input, and measures it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aggregator::traces;
use anyhow::{Context, Result, bail};
use kstreams::{Components, KafkaStreams, ProcessingGuarantee, State, StreamsConfig};
use serde_json::Value;

use crate::Guarantee;
use crate::assignment;
use crate::data::Topic;
use crate::kafka::Cluster;
use crate::topologies::{self, Progress};
use crate::usage::Stopwatch;

/// How often the client's health is looked at while it works.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest time the last commit and the orderly end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The workloads on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Least-loaded manager of each request's region.
    W1,
    /// Assignments joined with the contractors' latest status.
    W2,
    /// The application's whole topology.
    ManagerAssignment,
}

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Run {
    workload: Workload,
    /// The processing guarantee.
    guarantee: Guarantee,
    /// The topic to create and fill, and the application's id; manager-assignment has topics of its own.
    #[arg(long)]
    output: String,
    /// Folder of the stores; a temporary one if not given.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Producer settings of librdkafka, `key=value`.
    #[arg(long)]
    producer: Vec<String>,
    /// Where spans are posted; nothing is traced if not given.
    #[arg(long)]
    collector: Option<String>,
    /// How many of the records begin a trace.
    #[arg(long, default_value_t = 0.01)]
    sample_ratio: f64,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W2 => "w2",
            Self::ManagerAssignment => "manager-assignment",
        }
    }

    /// The topic whose records are counted; `None`: the workload has its own.
    fn driving(self) -> Option<Topic> {
        match self {
            Self::W1 => Some(Topic::Requests),
            Self::W2 => Some(Topic::Workflow),
            Self::ManagerAssignment => None,
        }
    }
}

/// Runs until every driving record is processed and committed.
pub(crate) fn run(cluster: &Cluster, run: &Run) -> Result<Value> {
    let expected = match run.workload.driving() {
        Some(driving) => prepare(cluster, run, driving)?,
        None => {
            assignment::prepare(cluster)?;
            assignment::REQUESTS.into()
        }
    };
    let progress = Arc::new(Progress::new(expected));
    let topology = match run.workload {
        Workload::W1 => topologies::w1(&cluster.prefix, &run.output, progress.clone())?,
        Workload::W2 => topologies::w2(&cluster.prefix, &run.output, progress.clone())?,
        Workload::ManagerAssignment => assignment::topology(&progress)?,
    };
    let temporary = tempfile::tempdir()?;
    let config = config(cluster, run, temporary.path().to_owned())?;
    let tracing = traces::start(&traces::Settings {
        endpoint: run.collector.clone().unwrap_or_default(),
        sample_ratio: run.sample_ratio,
        ..traces::Settings::default()
    })?;
    let traced = tracing.is_some();
    let components = Components { tracing, ..Components::from_config(&config)? };
    let streams = KafkaStreams::with_components(topology, config, components)?;
    let watch = measure(streams, &progress)?;
    // What is still to be sent belongs to the run.
    traces::finish(CLOSE_TIMEOUT);
    let mut figures = watch.figures(run.workload.name(), run.guarantee.name(), progress.done())?;
    figures["traced"] = traced.into();
    if run.workload == Workload::ManagerAssignment {
        assignment::check(cluster)?;
        cluster.delete_internal_topics(&run.output)?;
    }
    Ok(figures)
}

/// Creates the output topic; returns how many driving records there are.
fn prepare(cluster: &Cluster, run: &Run, driving: Topic) -> Result<u64> {
    let name = driving.name(&cluster.prefix);
    let expected = cluster.record_count(&name, driving.partitions())?;
    if expected == 0 {
        bail!("topic \"{name}\" is empty: fill it with `generate`");
    }
    cluster.create_topics(
        &[(run.output.clone(), driving.partitions())],
        &[("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")],
    )?;
    Ok(expected)
}

fn config(cluster: &Cluster, run: &Run, temporary: PathBuf) -> Result<StreamsConfig> {
    let mut config = StreamsConfig::new(&run.output, &cluster.bootstrap);
    config.state_dir = run.state_dir.clone().unwrap_or(temporary);
    config.processing_guarantee = match run.guarantee {
        Guarantee::Eos => ProcessingGuarantee::ExactlyOnceV2,
        Guarantee::Alo => ProcessingGuarantee::AtLeastOnce,
    };
    for setting in &run.producer {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("found --producer \"{setting}\", wanted key=value"))?;
        config.producer.insert(key.to_owned(), value.to_owned());
    }
    Ok(config)
}

/// From the first record to the end of the orderly close, which commits the last ones.
fn measure(mut streams: KafkaStreams, progress: &Progress) -> Result<Stopwatch> {
    streams.start()?;
    while !progress.wait(CHECK_INTERVAL) {
        if matches!(streams.state(), State::PendingError | State::Error | State::NotRunning) {
            streams.wait()?;
            bail!("the client stopped after {} records", progress.done());
        }
    }
    streams.close(CLOSE_TIMEOUT)?;
    progress.watch().context("no record was seen")
}
