//! Every metric of the engine: name, unit, labels. Handles are made once a task or thread; the hot path only increments.
//!
//! Names and units follow the plan that the reference page is made from: prefix `kstreams_`, base units, histograms instead of averages,
//! and no label without a bound: `task` and `partition` on counters and gauges only.

mod describe;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::ids::{TaskId, TopicPartition};

pub use describe::{describe, histogram_buckets};

type Labels = Vec<(&'static str, String)>;

/// The metrics of one task.
pub(crate) struct TaskMetrics {
    labels: Labels,
    app: String,
    /// Records taken through the subtopology, skipped and dead-lettered ones included.
    pub(crate) processed: Counter,
    latency: Histogram,
}

impl TaskMetrics {
    pub(crate) fn new(app: &str, task: TaskId, partitions: &[TopicPartition]) -> Self {
        for partition in partitions {
            // Zero from the start, so that the first bad record shows as an increase.
            for stage in ["deserialize", "process", "produce"] {
                dead_letters(app, &partition.topic, stage, "dlq").increment(0);
            }
        }
        let of_task = vec![("app", app.to_owned()), ("task", task.to_string())];
        let labels = vec![("app", app.to_owned()), ("subtopology", task.subtopology.to_string())];
        Self {
            app: app.to_owned(),
            processed: counter!("kstreams_task_records_processed_total", &of_task),
            latency: histogram!("kstreams_record_e2e_latency_seconds", &labels),
            labels,
        }
    }

    /// From a record's event time to the commit that made its results readable.
    pub(crate) fn latency(&self, latency: Duration) {
        self.latency.record(latency.as_secs_f64());
    }

    /// A node, or a store whose retention was over, dropped records.
    pub(crate) fn dropped(&self, node: &str, reason: &'static str, count: u64) {
        let mut labels = self.labels.clone();
        labels.extend([("node", node.to_owned()), ("reason", reason.to_owned())]);
        counter!("kstreams_records_dropped_total", &labels).increment(count);
    }

    /// A record failed in `stage`, and `disposition` became of it.
    pub(crate) fn failed(&self, topic: &str, stage: &str, disposition: &'static str) {
        dead_letters(&self.app, topic, stage, disposition).increment(1);
    }

    pub(crate) fn punctuation_failed(&self, node: &str) {
        let mut labels = self.labels.clone();
        labels.push(("node", node.to_owned()));
        counter!("kstreams_punctuation_failures_total", &labels).increment(1);
    }
}

/// The metrics of a task's record cache of one store.
pub(crate) struct CacheMetrics {
    bytes: Gauge,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
}

impl CacheMetrics {
    pub(crate) fn new(app: &str, task: TaskId, store: &str) -> Self {
        let of_store = [("app", app.to_owned()), ("store", store.to_owned())];
        let requests = |result: &str| {
            let labels: Labels =
                of_store.iter().cloned().chain([("result", result.to_owned())]).collect();
            counter!("kstreams_cache_requests_total", &labels)
        };
        let of_task: Labels =
            of_store.iter().cloned().chain([("task", task.to_string())]).collect();
        Self {
            bytes: gauge!("kstreams_cache_bytes", &of_task),
            hits: requests("hit"),
            misses: requests("miss"),
            evictions: counter!("kstreams_cache_evictions_total", &of_store),
        }
    }

    /// Adds what has happened since the last commit.
    pub(crate) fn report(&self, [hits, misses, evictions]: [u64; 3], bytes: usize) {
        self.hits.increment(hits);
        self.misses.increment(misses);
        self.evictions.increment(evictions);
        #[allow(clippy::cast_precision_loss)] // a gauge
        self.bytes.set(bytes as f64);
    }

    /// A cache that has gone takes no memory here.
    pub(crate) fn closed(&self) {
        self.bytes.set(0.0);
    }
}

fn dead_letters(app: &str, topic: &str, stage: &str, disposition: &'static str) -> Counter {
    let labels = [
        ("app", app.to_owned()),
        ("topic", topic.to_owned()),
        ("stage", stage.to_owned()),
        ("disposition", disposition.to_owned()),
    ];
    counter!("kstreams_dlq_records_total", &labels)
}

/// The metrics of a client.
pub(crate) struct ClientMetrics {
    app: String,
    rebalances: Counter,
}

impl ClientMetrics {
    pub(crate) fn new(app: &str) -> Self {
        let rebalances = counter!("kstreams_rebalances_total", "app" => app.to_owned());
        rebalances.increment(0);
        Self { app: app.to_owned(), rebalances }
    }

    /// Sets the gauge of the state the client is in to 1, and those of the others to 0.
    pub(crate) fn set_state(&self, states: impl Iterator<Item = (String, bool)>) {
        for (state, is_current) in states {
            let labels = [("app", self.app.clone()), ("state", state)];
            gauge!("kstreams_client_state", &labels).set(if is_current { 1.0 } else { 0.0 });
        }
    }

    /// Sets the number of tasks in a state.
    pub(crate) fn set_tasks(&self, state: &'static str, count: usize) {
        let labels = [("app", self.app.clone()), ("state", state.to_owned())];
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("kstreams_tasks", &labels).set(count as f64);
    }

    /// The number of stream threads that run.
    pub(crate) fn set_threads(&self, alive: usize) {
        let labels = [("app", self.app.clone()), ("state", "alive".to_owned())];
        #[allow(clippy::cast_precision_loss)] // a handful
        gauge!("kstreams_threads", &labels).set(alive as f64);
    }

    pub(crate) fn rebalanced(&self) {
        self.rebalances.increment(1);
    }
}

/// What a stream thread spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Poll,
    Process,
    Commit,
}

/// The metrics of a stream thread.
pub(crate) struct ThreadMetrics {
    app: String,
    seconds: [Counter; 3],
    nanos: [std::cell::Cell<u64>; 3],
    processed: Counter,
    commit_duration: Histogram,
}

impl ThreadMetrics {
    pub(crate) fn new(app: &str, thread: usize) -> Self {
        let seconds = ["poll", "process", "commit"].map(|phase| {
            let labels = [
                ("app", app.to_owned()),
                ("thread", thread.to_string()),
                ("phase", phase.to_owned()),
            ];
            counter!("kstreams_thread_time_microseconds_total", &labels)
        });
        for outcome in ["commit", "abort"] {
            transactions(app, outcome).increment(0);
        }
        let labels = [("app", app.to_owned()), ("thread", thread.to_string())];
        Self {
            app: app.to_owned(),
            seconds,
            nanos: Default::default(),
            processed: counter!("kstreams_thread_records_processed_total", &labels),
            commit_duration: histogram!("kstreams_commit_duration_seconds", "app" => app.to_owned()),
        }
    }

    /// Adds time spent on a phase; fractions of a microsecond are kept for the next call.
    pub(crate) fn phase(&self, phase: Phase, spent: Duration) {
        let rest = &self.nanos[phase as usize];
        let nanos = rest.get() + u64::try_from(spent.as_nanos()).unwrap_or(0);
        self.seconds[phase as usize].increment(nanos / 1000);
        rest.set(nanos % 1000);
    }

    pub(crate) fn processed(&self, records: usize) {
        self.processed.increment(records as u64);
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.phase(Phase::Commit, took);
        self.commit_duration.record(took.as_secs_f64());
    }

    pub(crate) fn transaction(&self, outcome: &'static str) {
        transactions(&self.app, outcome).increment(1);
    }

    /// How far a partition is behind, in records and in time.
    pub(crate) fn lag(
        &self,
        partition: &TopicPartition,
        end: Option<i64>,
        position: Option<i64>,
        waiting: Option<Duration>,
    ) {
        let lag = end.zip(position).map_or(0, |(end, position)| (end - position).max(0));
        #[allow(clippy::cast_precision_loss)] // a gauge
        self.lag_gauge("kstreams_consumer_lag_records", partition).set(lag as f64);
        let waiting = waiting.unwrap_or_default().as_secs_f64();
        self.lag_gauge("kstreams_consumer_lag_seconds", partition).set(waiting);
    }

    /// A partition that has gone elsewhere lags no more here.
    pub(crate) fn forget_lag(&self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.lag_gauge("kstreams_consumer_lag_records", partition).set(0.0);
            self.lag_gauge("kstreams_consumer_lag_seconds", partition).set(0.0);
        }
    }

    fn lag_gauge(&self, name: &'static str, partition: &TopicPartition) -> Gauge {
        let labels = [
            ("app", self.app.clone()),
            ("topic", partition.topic.to_string()),
            ("partition", partition.partition.to_string()),
        ];
        gauge!(name, &labels)
    }
}

fn transactions(app: &str, outcome: &'static str) -> Counter {
    let labels = [("app", app.to_owned()), ("outcome", outcome.to_owned())];
    counter!("kstreams_transactions_total", &labels)
}

/// The metrics of restoration.
pub(crate) struct RestoreMetrics {
    app: String,
    duration: Histogram,
}

impl RestoreMetrics {
    pub(crate) fn new(app: &str) -> Self {
        let duration = histogram!("kstreams_restore_duration_seconds", "app" => app.to_owned());
        Self { app: app.to_owned(), duration }
    }

    pub(crate) fn restored(&self, store: &str, records: u64) {
        let labels = [("app", self.app.clone()), ("store", store.to_owned())];
        counter!("kstreams_restore_records_total", &labels).increment(records);
    }

    pub(crate) fn finished(&self, took: Duration) {
        self.duration.record(took.as_secs_f64());
    }
}
