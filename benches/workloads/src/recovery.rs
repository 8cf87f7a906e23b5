//! Recovery: two processes count keys, one of them is killed, and the time is taken until the first results of its partitions come again.
//!
//! The program starts itself twice as a member. Input goes on all the time, and a result counts if its record was sent after the kill and a reader of
//! committed records has seen it. So all is in the figure: the session's time-out, the rebalance, the dead transaction, the rest of the restoration.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use kstreams::{KafkaStreams, Materialized, StreamsBuilder, StreamsConfig, TaskState};
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use serde_json::{Value, json};

use crate::generate;
use crate::kafka::{Cluster, all_partitions};

const STORE: &str = "counts";
/// How long a step may take before the bench is given up.
const STEP_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two records of the input, while the time is taken.
const PACE: Duration = Duration::from_millis(5);
/// Records of all partitions come for so long before the kill.
const STEADY: Duration = Duration::from_secs(3);

/// What to recover.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Run {
    /// Also the start of the topics' names; new for each run.
    #[arg(long)]
    application: String,
    /// Keys in the store.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// `num.standby.replicas`.
    #[arg(long, default_value_t = 0)]
    standbys: usize,
}

/// One of the two processes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Member {
    #[command(flatten)]
    run: Run,
    #[arg(long)]
    state_dir: std::path::PathBuf,
}

impl Run {
    fn input(&self) -> String {
        format!("{}-in", self.application)
    }

    fn output(&self) -> String {
        format!("{}-out", self.application)
    }
}

/// Runs until it is killed; says on each line which tasks it has, once they are as they should be: half of them, and the others as standbys
/// without a lag.
pub(crate) fn member(cluster: &Cluster, member: &Member) -> Result<Value> {
    let run = &member.run;
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>(&run.input())
        .group_by_key()
        .count_with(Materialized::named(STORE))
        .to_stream()
        .to(&run.output());
    let mut config = StreamsConfig::new(&run.application, &cluster.bootstrap);
    config.state_dir.clone_from(&member.state_dir);
    config.num_standby_replicas = run.standbys;
    let mut streams = KafkaStreams::new(builder.build()?, config)?;
    streams.start()?;
    let half = run.partitions.unsigned_abs() as usize / 2;
    let mut said = String::new();
    loop {
        thread::park_timeout(Duration::from_millis(50));
        if let Some(failure) = streams.handle().failure() {
            bail!("the member failed: {failure}");
        }
        let tasks = streams.handle().tasks();
        let of = |state| tasks.iter().filter(move |task| task.state == state);
        let lags = streams.all_local_store_partition_lags();
        let lag = lags.get(STORE).map_or(0, |lags| lags.values().map(|lag| lag.offset_lag).sum());
        let running: Vec<String> =
            of(TaskState::Running).map(|task| task.id.partition.to_string()).collect();
        let standbys = of(TaskState::Standby).count();
        let replayed: u64 = of(TaskState::Running)
            .filter_map(|task| task.progress.map(|progress| progress.restored))
            .sum();
        let is_split = running.len() == half && (run.standbys == 0 || standbys == half);
        let line = format!("tasks {} replayed {replayed}", running.join(","));
        if (is_split && lag < 1_000 || running.len() == 2 * half) && line != said {
            println!("{line}");
            said = line;
        }
    }
}

/// A member, and what it says; killed when dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(cluster: &Cluster, run: &Run, state_dir: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["recovery-member", "--application", &run.application])
            .args(["--keys", &run.keys.to_string(), "--partitions", &run.partitions.to_string()])
            .args(["--standbys", &run.standbys.to_string(), "--bootstrap", &cluster.bootstrap])
            .arg("--state-dir")
            .arg(state_dir)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a member")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, lines })
    }

    fn next_line(&self) -> Result<String> {
        self.lines.recv_timeout(STEP_TIMEOUT).context("a member said nothing")
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?; // SIGKILL
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill(); // it may have ended
    }
}

/// Kills one of two, and gives the times.
pub(crate) fn run(cluster: &Cluster, run: &Run) -> Result<Value> {
    cluster.create_topics(
        &[(run.input(), run.partitions), (run.output(), run.partitions)],
        &[("message.timestamp.type", "CreateTime")],
    )?;
    let producer = producer(cluster)?;
    (0..run.keys).try_for_each(|number| send(&producer, run, number))?;
    producer.flush(STEP_TIMEOUT)?;
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut members = Vec::new();
    for folder in &folders {
        members.push(Process::start(cluster, run, folder.path())?);
    }
    wait_for_all_keys(cluster, run)?;
    let stop = Arc::new(AtomicBool::new(false));
    let feeding = {
        let (run, stop) = (run.clone(), stop.clone());
        thread::spawn(move || -> Result<()> {
            for number in (0..run.keys).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                send(&producer, &run, number)?;
                producer.poll(PACE);
            }
            Ok(())
        })
    };
    let outcome = kill_one(cluster, run, &mut members);
    stop.store(true, Ordering::Relaxed);
    feeding.join().map_err(|_| anyhow::anyhow!("the input's thread panicked"))??;
    outcome
}

#[allow(clippy::disallowed_methods)] // a bench measures the machine it runs on
fn kill_one(cluster: &Cluster, run: &Run, members: &mut [Process]) -> Result<Value> {
    let half = run.partitions.unsigned_abs() as usize / 2;
    // What was said last before the records became steady.
    let mut lost = Vec::new();
    while lost.len() != half {
        lost = partitions_of(&members[1].next_line()?)?;
    }
    let reader: BaseConsumer = cluster.consumer_config("bench-recovery").create()?;
    let mut places = all_partitions(&run.output(), run.partitions)?;
    places.set_all_offsets(Offset::End)?;
    reader.assign(&places)?;
    let steady = Instant::now();
    let mut seen = BTreeMap::new();
    while steady.elapsed() < STEADY || seen.len() < run.partitions.unsigned_abs() as usize {
        ensure!(steady.elapsed() < STEP_TIMEOUT, "results came of {seen:?} only");
        if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
            seen.insert(message.partition(), ());
        }
    }
    members[0].lines.try_iter().for_each(drop);
    members[1].kill()?;
    let (killed, killed_at) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
    let killed_ms = i64::try_from(killed_at.as_millis())?;
    let mut first = BTreeMap::new();
    while !lost.iter().all(|partition| first.contains_key(partition)) {
        ensure!(killed.elapsed() < STEP_TIMEOUT, "results came again of {first:?} only");
        if let Some(Ok(message)) = reader.poll(Duration::from_millis(100))
            && message.timestamp().to_millis().is_some_and(|sent| sent > killed_ms)
        {
            first.entry(message.partition()).or_insert_with(|| killed.elapsed().as_secs_f64());
        }
    }
    let times: Vec<f64> = lost.iter().map(|partition| first[partition]).collect();
    let says = members[0].next_line()?;
    let rounded = |seconds: f64| (seconds * 100.0).round() / 100.0;
    Ok(json!({
        "workload": "recovery",
        "keys": run.keys,
        "standbys": run.standbys,
        "lost_partitions": lost,
        "first_output_s": rounded(times.iter().copied().fold(f64::INFINITY, f64::min)),
        "all_partitions_s": rounded(times.iter().copied().fold(0.0, f64::max)),
        "survivor": says,
    }))
}

fn partitions_of(line: &str) -> Result<Vec<i32>> {
    let list = line.strip_prefix("tasks ").and_then(|rest| rest.split(' ').next());
    let list = list.with_context(|| format!("found the line \"{line}\", wanted tasks"))?;
    let numbers = list.split(',').map(str::parse);
    numbers.collect::<Result<_, _>>().with_context(|| format!("found the line \"{line}\""))
}

/// A key goes to the partition that the engine, too, gives it.
fn producer(cluster: &Cluster) -> Result<BaseProducer> {
    let mut config = cluster.config();
    config
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", "65536");
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, run: &Run, number: u64) -> Result<()> {
    let (topic, key) = (run.input(), format!("key-{number}"));
    generate::queue(producer, BaseRecord::to(&topic).key(key.as_bytes()).payload(&b"value"[..]))
}

#[allow(clippy::disallowed_methods)] // as above
fn wait_for_all_keys(cluster: &Cluster, run: &Run) -> Result<()> {
    let start = Instant::now();
    while cluster.committed_lag(&run.application, &run.input()).ok().flatten() != Some(0) {
        ensure!(start.elapsed() < STEP_TIMEOUT, "the members did not read the input to its end");
        thread::park_timeout(Duration::from_millis(500));
    }
    Ok(())
}
