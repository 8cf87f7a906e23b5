//! Metrics of a task and its stores. Made with the task, gone with it, but for its counters.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::board::Placed;
use crate::ids::{TaskId, TopicPartition};

type Labels = Vec<(&'static str, String)>;

/// The metrics of one task.
pub(crate) struct TaskMetrics {
    labels: Labels,
    app: String,
    /// Records taken through the subtopology, skipped and dead-lettered ones included.
    pub(crate) processed: Counter,
    pub(crate) backoffs: Counter,
    latency: Histogram,
    lateness: Histogram,
    process: Histogram,
    buffered_records: Placed,
    buffered_bytes: Placed,
    stream_time: Placed,
    /// By node index.
    nodes: Vec<Counter>,
    /// Those that have dropped something, and why.
    dropped: Vec<(Arc<str>, &'static str, Counter)>,
    /// By input partition.
    retries: Vec<Counter>,
}

impl TaskMetrics {
    pub(crate) fn new<'a>(
        app: &str,
        task: TaskId,
        partitions: &[TopicPartition],
        nodes: impl Iterator<Item = &'a Arc<str>>,
    ) -> Self {
        for partition in partitions {
            // Zero from the start, so that the first bad record shows as an increase.
            for stage in ["deserialize", "process", "produce"] {
                dead_letters(app, &partition.topic, stage, "dlq").increment(0);
            }
        }
        let labels = vec![("app", app.to_owned()), ("subtopology", task.subtopology.to_string())];
        let task = task.to_string();
        let of_task = [("app", app), ("task", task.as_str())];
        let node =
            |name: &Arc<str>| counter!("kstreams_node_records_total", &with(&labels, "node", name));
        let retries = |partition: &TopicPartition| {
            let labels = [("app", app.to_owned()), ("topic", partition.topic.to_string())];
            let counter = counter!("kstreams_retries_total", &labels);
            counter.increment(0);
            counter
        };
        let metrics = Self {
            app: app.to_owned(),
            processed: counter!(
                "kstreams_task_records_processed_total",
                &[("app", app.to_owned()), ("task", task.clone())]
            ),
            backoffs: counter!("kstreams_task_backoffs_total", &labels),
            latency: histogram!("kstreams_record_e2e_latency_seconds", &labels),
            lateness: histogram!("kstreams_record_lateness_seconds", &labels),
            process: histogram!("kstreams_process_duration_seconds", &labels),
            buffered_records: Placed::new("kstreams_task_buffered_records", &of_task),
            buffered_bytes: Placed::new("kstreams_task_buffered_bytes", &of_task),
            stream_time: Placed::new("kstreams_task_stream_time_seconds", &of_task),
            nodes: nodes.map(node).collect(),
            dropped: Vec::new(),
            retries: partitions.iter().map(retries).collect(),
            labels,
        };
        metrics.backoffs.increment(0);
        metrics
    }

    /// From a record's event time to the commit that made its results readable.
    pub(crate) fn latency(&self, latency: Duration) {
        self.latency.record(latency.as_secs_f64());
    }

    /// How far a record lies behind stream time.
    pub(crate) fn lateness(&self, lateness: Duration) {
        self.lateness.record(lateness.as_secs_f64());
    }

    /// What a record's way through the subtopology took.
    pub(crate) fn process(&self, took: Duration) {
        self.process.record(took.as_secs_f64());
    }

    /// A record is tried again.
    pub(crate) fn retried(&self, partition: usize) {
        self.retries[partition].increment(1);
    }

    /// What waits, and how far time has come; once a second.
    pub(crate) fn report(&self, records: usize, bytes: usize, stream_time_ms: Option<i64>) {
        self.buffered_records.set_count(records as u64);
        self.buffered_bytes.set_count(bytes as u64);
        if let Some(millis) = stream_time_ms {
            #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact
            self.stream_time.set(millis as f64 / 1000.0);
        }
    }

    /// Records given to a node since the last call.
    pub(crate) fn node_records(&self, node: usize, records: u64) {
        self.nodes[node].increment(records);
    }

    /// A node, or a store whose retention was over, dropped records.
    pub(crate) fn dropped(&mut self, node: &Arc<str>, reason: &'static str, count: u64) {
        let known = |(name, why, _): &&(Arc<str>, &str, Counter)| name == node && *why == reason;
        if let Some((_, _, counter)) = self.dropped.iter().find(known) {
            return counter.increment(count);
        }
        let mut labels = with(&self.labels, "node", node);
        labels.push(("reason", reason.to_owned()));
        let counter = counter!("kstreams_records_dropped_total", &labels);
        counter.increment(count);
        self.dropped.push((node.clone(), reason, counter));
    }

    /// A record failed in `stage`, and `disposition` became of it.
    pub(crate) fn failed(&self, topic: &str, stage: &str, disposition: &'static str) {
        dead_letters(&self.app, topic, stage, disposition).increment(1);
    }

    pub(crate) fn punctuation_failed(&self, node: &str) {
        let labels = with(&self.labels, "node", node);
        counter!("kstreams_punctuation_failures_total", &labels).increment(1);
    }
}

fn with(labels: &Labels, label: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((label, value.to_owned()));
    labels
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

/// The metrics of a task's record cache of one store.
pub(crate) struct CacheMetrics {
    bytes: Placed,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
}

impl CacheMetrics {
    pub(crate) fn new(app: &str, store: &str) -> Self {
        let of_store = [("app", app.to_owned()), ("store", store.to_owned())];
        let requests = |result: &str| {
            let labels: Labels =
                of_store.iter().cloned().chain([("result", result.to_owned())]).collect();
            counter!("kstreams_cache_requests_total", &labels)
        };
        Self {
            bytes: Placed::new("kstreams_cache_bytes", &[("app", app), ("store", store)]),
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
        self.bytes.set_count(bytes as u64);
    }
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Reads of single rows.
    pub gets: u64,
    /// Those of them that were not in memory.
    pub misses: u64,
    /// Rows set.
    pub puts: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Scans of ranges.
    pub scans: u64,
    /// Bytes of all rows in memory, now.
    pub cached_bytes: u64,
}

/// Gauges of RocksDB: metric, its label `kind` where it has one, and the property of the database.
const ROCKSDB: [(&str, Option<&str>, &str); 15] = [
    ("kstreams_rocksdb_estimate_num_keys", None, "rocksdb.estimate-num-keys"),
    ("kstreams_rocksdb_memtable_bytes", Some("active"), "rocksdb.cur-size-active-mem-table"),
    ("kstreams_rocksdb_memtable_bytes", Some("all"), "rocksdb.cur-size-all-mem-tables"),
    ("kstreams_rocksdb_memtable_bytes", Some("all_and_pinned"), "rocksdb.size-all-mem-tables"),
    ("kstreams_rocksdb_table_readers_bytes", None, "rocksdb.estimate-table-readers-mem"),
    ("kstreams_rocksdb_sst_bytes", Some("live"), "rocksdb.live-sst-files-size"),
    ("kstreams_rocksdb_sst_bytes", Some("total"), "rocksdb.total-sst-files-size"),
    ("kstreams_rocksdb_immutable_memtables", None, "rocksdb.num-immutable-mem-table"),
    ("kstreams_rocksdb_flush_pending", None, "rocksdb.mem-table-flush-pending"),
    ("kstreams_rocksdb_running_flushes", None, "rocksdb.num-running-flushes"),
    ("kstreams_rocksdb_compaction_pending", None, "rocksdb.compaction-pending"),
    ("kstreams_rocksdb_running_compactions", None, "rocksdb.num-running-compactions"),
    (
        "kstreams_rocksdb_pending_compaction_bytes",
        None,
        "rocksdb.estimate-pending-compaction-bytes",
    ),
    ("kstreams_rocksdb_live_versions", None, "rocksdb.num-live-versions"),
    ("kstreams_rocksdb_background_errors", None, "rocksdb.background-errors"),
];

/// The metrics of one store of a task.
pub(crate) struct StoreMetrics {
    operations: [Counter; 4],
    requests: [Counter; 2],
    cached_bytes: Placed,
    uncommitted_bytes: Placed,
    engine: Vec<(&'static str, Placed)>,
    reported: StoreFigures,
}

impl StoreMetrics {
    /// `has_property` says what the store's engine can be asked for: one in memory has nothing of RocksDB's.
    pub(crate) fn new(app: &str, store: &str, has_property: impl Fn(&str) -> bool) -> Self {
        let labels = |label: &'static str, value: &str| {
            [("app", app.to_owned()), ("store", store.to_owned()), (label, value.to_owned())]
        };
        let of_store = [("app", app), ("store", store)];
        let engine = ROCKSDB.iter().filter(|(_, _, property)| has_property(property));
        let engine = engine.map(|(metric, kind, property)| {
            let labels = of_store.iter().copied().chain(kind.map(|kind| ("kind", kind)));
            (*property, Placed::new(metric, &labels.collect::<Vec<_>>()))
        });
        Self {
            operations: ["get", "put", "delete", "scan"]
                .map(|op| counter!("kstreams_store_operations_total", &labels("op", op))),
            requests: ["hit", "miss"].map(|result| {
                counter!("kstreams_row_cache_requests_total", &labels("result", result))
            }),
            cached_bytes: Placed::new("kstreams_row_cache_bytes", &of_store),
            uncommitted_bytes: Placed::new("kstreams_store_uncommitted_bytes", &of_store),
            engine: engine.collect(),
            reported: StoreFigures::default(),
        }
    }

    /// What was done since the last report, and what there is now.
    pub(crate) fn report(&mut self, now: StoreFigures, uncommitted_bytes: usize) {
        let before = std::mem::replace(&mut self.reported, now);
        let counts = [
            now.gets - before.gets,
            now.puts - before.puts,
            now.deletes - before.deletes,
            now.scans - before.scans,
        ];
        for (counter, count) in self.operations.iter().zip(counts) {
            counter.increment(count);
        }
        let misses = now.misses - before.misses;
        self.requests[0].increment(counts[0] - misses);
        self.requests[1].increment(misses);
        self.cached_bytes.set_count(now.cached_bytes);
        self.uncommitted_bytes.set_count(uncommitted_bytes as u64);
    }

    /// Asks the engine; rarer, since RocksDB takes a lock for some answers.
    pub(crate) fn report_engine(&self, property: impl Fn(&str) -> Option<u64>) {
        for (name, gauge) in &self.engine {
            if let Some(value) = property(name) {
                gauge.set_count(value);
            }
        }
    }
}
