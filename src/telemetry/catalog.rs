//! Every metric of the engine: the reference page, the recorder and the tests read this table.

use super::metric::{Kind, Metric};

/// Edges of the latency histograms, in seconds; 0.1 and 30 are the limits that the alerts ask about.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];
/// Edges in seconds, from a cached read to a stall.
const PROCESS_BUCKETS: &[f64] =
    &[0.000_001, 0.000_003, 0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.01, 0.1, 1.0];
/// Edges in seconds, from a record in order to one that is a day late.
const LATENESS_BUCKETS: &[f64] = &[0.1, 1.0, 10.0, 30.0, 60.0, 600.0, 3_600.0, 86_400.0];

const fn latency(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric::histogram(name, LATENCY_BUCKETS, labels, help)
}

/// Every metric of the engine, by what it tells about.
#[rustfmt::skip] // a table
pub const METRICS: &[Metric] = &[
    // The client.
    Metric::gauge("kstreams_build_info", &["app", "version"], "1; which engine runs"),
    Metric::gauge("kstreams_topology_info", &["app", "topology_hash", "subtopologies", "guarantee"], "1; which topology runs, by a hash of its description"),
    Metric::gauge("kstreams_client_state", &["app", "state"], "1 for the state that the client is in, 0 for the others"),
    Metric::gauge("kstreams_threads", &["app", "state"], "Stream threads that run (`alive`), and the client's failure (`failed`)"),
    Metric::counter("kstreams_thread_failures_total", &["app", "reason"], "Failures that ended the client, by the error's kind"),
    Metric::counter("kstreams_rebalances_total", &["app", "event"], "Answers of the group protocol: assigned, revoked, lost (thrown out), fenced (a commit was refused)"),
    latency("kstreams_rebalance_duration_seconds", &["app"], "From the first task that stops to the moment when all tasks process"),
    Metric::gauge("kstreams_last_rebalance_timestamp_seconds", &["app"], "When the last rebalance ended, since 1970"),
    Metric::counter("kstreams_tasks_moved_total", &["app", "direction"], "Tasks that came (`in`) and went (`out`) with assignments"),
    // Stream threads.
    Metric::counter("kstreams_thread_time_seconds_total", &["app", "thread", "phase"], "Time of a thread by what it was spent on: poll, process, punctuate, commit, idle"),
    latency("kstreams_thread_phase_duration_seconds", &["app", "phase"], "Duration of one turn's poll, process and punctuate, where it had something to do"),
    Metric::counter("kstreams_thread_records_processed_total", &["app", "thread"], "Records processed by a stream thread"),
    Metric::counter("kstreams_commits_total", &["app", "trigger"], "Commits by what made them due: interval, drained input, buffer (uncommitted rows), request (a processor), revoke, close"),
    latency("kstreams_commit_duration_seconds", &["app"], "Duration of a commit, changelogs included"),
    Metric::counter("kstreams_transactions_total", &["app", "outcome"], "Transactions by outcome: commit, abort, fenced"),
    latency("kstreams_transaction_duration_seconds", &["app", "outcome"], "From a transaction's first record to its end"),
    // Tasks.
    Metric::gauge("kstreams_tasks", &["app", "state"], "Tasks of this instance by state"),
    Metric::gauge("kstreams_task_info", &["app", "task", "thread", "state"], "1; where a task is and what it does"),
    Metric::counter("kstreams_task_records_processed_total", &["app", "task"], "Records taken through a task's subtopology, dead-lettered and skipped ones included"),
    Metric::gauge("kstreams_task_buffered_records", &["app", "task"], "Records that have arrived and wait in the task's queues"),
    Metric::gauge("kstreams_task_buffered_bytes", &["app", "task"], "Bytes of the records that wait in the task's queues"),
    Metric::gauge("kstreams_task_stream_time_seconds", &["app", "task"], "The task's stream time, since 1970"),
    Metric::counter("kstreams_task_backoffs_total", &["app", "subtopology"], "Rests of a task before it tries the same record again, for an error that goes away by itself (a registry's outage)"),
    Metric::histogram("kstreams_process_duration_seconds", PROCESS_BUCKETS, &["app", "subtopology"], "Duration of a record's way through its subtopology; the first record of a slice is measured"),
    latency("kstreams_record_e2e_latency_seconds", &["app", "subtopology"], "From a record's event time to the commit of its results"),
    Metric::histogram("kstreams_record_lateness_seconds", LATENESS_BUCKETS, &["app", "subtopology"], "How far a record's event time lies behind stream time; sampled as the latency is"),
    Metric::counter("kstreams_node_records_total", &["app", "subtopology", "node"], "Records given to a node, those of failed attempts included"),
    Metric::counter("kstreams_records_dropped_total", &["app", "subtopology", "node", "reason"], "Records dropped by an operator or a store, by reason"),
    Metric::counter("kstreams_punctuation_failures_total", &["app", "subtopology", "node"], "Punctuations that failed and were undone"),
    // Topics.
    Metric::counter("kstreams_topic_records_consumed_total", &["app", "topic", "internal"], "Records read from a topic"),
    Metric::counter("kstreams_topic_consumed_bytes_total", &["app", "topic", "internal"], "Bytes of keys, values and headers read from a topic"),
    Metric::counter("kstreams_topic_records_produced_total", &["app", "topic", "internal"], "Records sent to a topic, those of aborted transactions included"),
    Metric::counter("kstreams_topic_produced_bytes_total", &["app", "topic", "internal"], "Bytes of keys and values sent to a topic"),
    Metric::gauge("kstreams_consumer_lag_records", &["app", "topic", "partition"], "Records on the broker that are not processed yet"),
    Metric::gauge("kstreams_consumer_committed_lag_records", &["app", "topic", "partition"], "Records on the broker whose results are not committed yet"),
    Metric::gauge("kstreams_consumer_lag_seconds", &["app", "topic", "partition"], "Age of the oldest record that waits in a task's queue; 0: none waits"),
    // Bad records.
    Metric::counter("kstreams_dlq_records_total", &["app", "topic", "stage", "disposition"], "Records that failed, by source topic, stage (deserialize, process, produce) and what became of them (dlq, skip, fail)"),
    Metric::counter("kstreams_retries_total", &["app", "topic"], "Repeated attempts at a record that had failed in a processor"),
    // Restoration.
    Metric::gauge("kstreams_restore_remaining_records", &["app", "task", "store"], "Changelog records that a store still lacks; there while it is restored"),
    Metric::gauge("kstreams_restore_eta_seconds", &["app", "task"], "How long the rest of a task's restoration takes at its pace so far; there while it is restored"),
    Metric::counter("kstreams_restore_records_total", &["app", "store"], "Changelog records applied to stores"),
    Metric::counter("kstreams_restore_bytes_total", &["app", "store"], "Bytes of keys and values applied to stores"),
    Metric::gauge("kstreams_standby_lag_records", &["app", "task", "store"], "Changelog offsets that the store of a standby task is behind"),
    Metric::counter("kstreams_standby_records_total", &["app", "store"], "Changelog records applied to stores of standby tasks"),
    latency("kstreams_restore_duration_seconds", &["app"], "Duration of a task's restoration"),
    // Stores: sums over the tasks of this instance.
    Metric::counter("kstreams_store_operations_total", &["app", "store", "op"], "Operations of processors on a store: get, put, delete, scan"),
    Metric::counter("kstreams_cache_requests_total", &["app", "store", "result"], "Look-ups of an operator in its store by whether the record cache had the key (hit, miss)"),
    Metric::counter("kstreams_cache_evictions_total", &["app", "store"], "Entries that the record caches had no room for; their changes were forwarded early"),
    Metric::gauge("kstreams_cache_bytes", &["app", "store"], "Bytes of the record caches, at the last commit"),
    Metric::counter("kstreams_row_cache_requests_total", &["app", "store", "result"], "Reads of single rows, by whether they were in memory (hit) or had to be asked of the engine (miss)"),
    Metric::gauge("kstreams_row_cache_bytes", &["app", "store"], "Bytes of the rows in memory, uncommitted ones included"),
    Metric::gauge("kstreams_store_uncommitted_bytes", &["app", "store"], "Bytes of the rows that the next commit writes"),
    Metric::gauge("kstreams_rocksdb_estimate_num_keys", &["app", "store"], "About how many keys a store has, by RocksDB's estimate"),
    Metric::gauge("kstreams_rocksdb_memtable_bytes", &["app", "store", "kind"], "Bytes of memtables: active, all, and all with those that readers pin"),
    Metric::gauge("kstreams_rocksdb_table_readers_bytes", &["app", "store"], "Bytes of indexes and filters outside the block cache"),
    Metric::gauge("kstreams_rocksdb_sst_bytes", &["app", "store", "kind"], "Bytes of table files: live ones, and all with those that readers pin"),
    Metric::gauge("kstreams_rocksdb_immutable_memtables", &["app", "store"], "Memtables that wait to be flushed"),
    Metric::gauge("kstreams_rocksdb_flush_pending", &["app", "store"], "Stores with a flush that waits"),
    Metric::gauge("kstreams_rocksdb_running_flushes", &["app", "store"], "Flushes that run"),
    Metric::gauge("kstreams_rocksdb_compaction_pending", &["app", "store"], "Stores with a compaction that waits"),
    Metric::gauge("kstreams_rocksdb_running_compactions", &["app", "store"], "Compactions that run"),
    Metric::gauge("kstreams_rocksdb_pending_compaction_bytes", &["app", "store"], "Bytes that compactions have yet to rewrite, about"),
    Metric::gauge("kstreams_rocksdb_live_versions", &["app", "store"], "Versions of the tree that readers keep alive"),
    Metric::gauge("kstreams_rocksdb_background_errors", &["app", "store"], "Errors of flushes and compactions since the store was opened"),
    Metric::gauge("kstreams_rocksdb_block_cache_bytes", &["app", "kind"], "Bytes of the block cache that all stores share: capacity, usage, pinned"),
    Metric::gauge("kstreams_state_dir_bytes", &["app"], "Bytes of files in the state folder"),
    Metric::gauge("kstreams_state_dir_free_bytes", &["app"], "Bytes free on the state folder's disk"),
    // Around it.
    Metric::gauge("kstreams_cluster_brokers", &["app"], "Brokers that the cluster's metadata lists"),
    Metric::gauge("kstreams_cluster_under_replicated_partitions", &["app"], "Partitions of the application's topics, and of the brokers' own for groups and transactions, with fewer replicas in sync than they have"),
    Metric::gauge("kstreams_cluster_offline_partitions", &["app"], "Partitions of these topics without a leader"),
    Metric::counter("kstreams_schema_registry_requests_total", &["op", "outcome"], "Requests to the schema registry: found, not_found, refused, unreachable"),
    latency("kstreams_schema_registry_request_duration_seconds", &["op"], "Duration of a request to the schema registry, all addresses tried"),
];

/// Every histogram of a table with its edges: an exporter that does not set them would make summaries, which cannot be added up over instances.
pub fn histogram_buckets(
    metrics: &'static [Metric],
) -> impl Iterator<Item = (&'static str, &'static [f64])> {
    metrics.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(edges) => Some((metric.name, edges)),
        Kind::Counter | Kind::Gauge => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_keep_the_rules() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("kstreams_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(METRICS.iter().filter(|other| other.name == name).count(), 1, "{name}");
            let unbounded = ["task", "partition"].iter().any(|label| metric.labels.contains(label));
            assert!(!(matches!(metric.kind, Kind::Histogram(_)) && unbounded), "{name}");
            assert!(!metric.help.ends_with('.') && !metric.help.contains('|'), "{name}");
        }
        for (name, edges) in histogram_buckets(METRICS) {
            assert!(edges.is_sorted(), "{name}");
            let is_latency = edges == LATENCY_BUCKETS;
            assert!(!is_latency || (edges.contains(&0.1) && edges.contains(&30.0)), "{name}");
        }
    }
}
