//! Restoration: a changelog of distinct keys into an empty store, on the engine; `java/Restore.java` is the same on Kafka Streams.
//!
//! Both are given the same changelog and an empty input, so that nothing but restoration is measured: from the moment the first task
//! restores to the moment the last one runs. What comes before (the group's settling) and after (closing) is left out on both sides.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kstreams::{
    KafkaStreams, Materialized, QueryableStoreTypes, State, StoreQueryParameters, StreamsBuilder,
    StreamsConfig, TaskState, Topology,
};
use rdkafka::producer::Producer as _;
use serde_json::{Value, json};

use crate::data::{InputRecord, Topic};
use crate::generate;
use crate::kafka::Cluster;
use crate::usage::Stopwatch;

/// How often the tasks are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
const STORE: &str = "rows";
const VALUE_BYTES: usize = 100;

/// Which changelog.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Changelog {
    /// The application whose changelog it is.
    #[arg(long)]
    application: String,
    /// How many keys it has, each once.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    #[arg(long, default_value_t = 4)]
    partitions: i32,
}

impl Changelog {
    fn input(&self) -> String {
        format!("{}-in", self.application)
    }

    fn topology(&self) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, String>(&self.input())
            .group_by_key()
            .reduce(|_, new| new, Materialized::named(STORE));
        Ok(builder.build()?)
    }
}

/// Spreads keys over the store as hashes do (splitmix64).
fn mix(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key(number: u64) -> String {
    format!("{:016x}", mix(number))
}

/// Half of it compresses.
fn value(number: u64) -> String {
    let words = (0..).map(|word| format!("{:016x}", mix(number ^ word << 40)));
    let mut text = String::with_capacity(VALUE_BYTES);
    words.take(VALUE_BYTES / 32 + 1).for_each(|word| text.push_str(&word));
    text.truncate(VALUE_BYTES / 2);
    format!("{text:-<VALUE_BYTES$}")
}

/// Creates the input, empty, and fills the changelog.
pub(crate) fn fill(cluster: &Cluster, changelog: &Changelog) -> Result<Value> {
    let name = format!("{}-{STORE}-changelog", changelog.application);
    cluster.create_topics(&[(changelog.input(), changelog.partitions)], &[])?;
    let configs = [("cleanup.policy", "compact"), ("message.timestamp.type", "CreateTime")];
    cluster.create_topics(&[(name.clone(), changelog.partitions)], &configs)?;
    let producer = generate::producer(cluster)?;
    for number in 0..changelog.records {
        let (key, value) = (key(number), value(number));
        let record = InputRecord {
            topic: Topic::Requests, // only its bytes and place count
            partition: i32::try_from(number % u64::try_from(changelog.partitions)?)?,
            timestamp_ms: 1_700_000_000_000,
            key: key.as_bytes(),
            value: value.as_bytes(),
        };
        generate::send(&producer, &name, &record)?;
    }
    producer.flush(Duration::from_secs(120)).context("waiting for the last records")?;
    Ok(json!({"changelog": name, "records": changelog.records}))
}

/// Restores the whole changelog, checks what came of it, and gives the figures.
pub(crate) fn run(cluster: &Cluster, changelog: &Changelog) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let mut config = StreamsConfig::new(&changelog.application, &cluster.bootstrap);
    config.state_dir = folder.path().to_owned();
    let mut streams = KafkaStreams::new(changelog.topology()?, config)?;
    streams.start()?;
    let is = |state: TaskState, count: usize| {
        streams.handle().tasks().iter().filter(|task| task.state == state).count() >= count
    };
    wait(&streams, || is(TaskState::Restoring, 1))?;
    let watch = Stopwatch::start();
    wait(&streams, || is(TaskState::Running, changelog.partitions as usize))?;
    let figures = watch.figures("restore", "eos", changelog.records)?;
    check(&streams, changelog)?;
    streams.close(CLOSE_TIMEOUT)?;
    Ok(figures)
}

fn wait(streams: &KafkaStreams, done: impl Fn() -> bool) -> Result<()> {
    while !done() {
        if matches!(streams.state(), State::PendingError | State::Error | State::NotRunning) {
            bail!("the client failed: {:?}", streams.handle().failure());
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

/// Every key is there, and some of them with their values.
fn check(streams: &KafkaStreams, changelog: &Changelog) -> Result<()> {
    let rows = QueryableStoreTypes::key_value_store::<String, String>();
    let store = streams.store(&StoreQueryParameters::from_name_and_type(STORE, rows))?;
    let counted = store.count(.., changelog.records + 1)?;
    let wanted = changelog.records;
    ensure!(counted.entries == wanted, "found {} keys, wanted {wanted}", counted.entries);
    for number in (0..changelog.records).step_by(9_973) {
        let found = store.get(&key(number))?;
        ensure!(found == Some(value(number)), "key {number}: found {found:?}");
    }
    Ok(())
}
