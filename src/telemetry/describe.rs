//! What the metrics mean, for the recorder and for the reference page.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Edges of the latency histograms, in seconds; 0.1 and 30 are the limits that the alerts ask about.
const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Every histogram with its edges: an exporter that does not set them would make summaries, which cannot be added up over instances.
pub fn histogram_buckets() -> &'static [(&'static str, &'static [f64])] {
    &[
        ("kstreams_record_e2e_latency_seconds", LATENCY_BUCKETS),
        ("kstreams_commit_duration_seconds", LATENCY_BUCKETS),
        ("kstreams_restore_duration_seconds", LATENCY_BUCKETS),
    ]
}

const COUNTERS: &[(&str, &str)] = &[
    ("kstreams_task_records_processed_total", "Records taken through a task's subtopology"),
    ("kstreams_thread_records_processed_total", "Records processed by a stream thread"),
    ("kstreams_thread_time_microseconds_total", "Time of a stream thread by what it was spent on"),
    ("kstreams_records_dropped_total", "Records dropped by an operator, by reason"),
    (
        "kstreams_dlq_records_total",
        "Records that failed, by source topic, stage and what became of them",
    ),
    ("kstreams_punctuation_failures_total", "Punctuations that failed and were undone"),
    ("kstreams_rebalances_total", "Assignments received from the group"),
    ("kstreams_transactions_total", "Transactions by outcome"),
    (
        "kstreams_cache_requests_total",
        "Look-ups of an operator in its store by whether the record cache had the key",
    ),
    (
        "kstreams_cache_evictions_total",
        "Entries that the record caches had no room for; their changes were forwarded early",
    ),
    ("kstreams_restore_records_total", "Changelog records applied to stores"),
];

const GAUGES: &[(&str, &str)] = &[
    ("kstreams_client_state", "1 for the state that the client is in"),
    ("kstreams_threads", "Stream threads that run"),
    ("kstreams_tasks", "Tasks of this instance by state"),
    ("kstreams_cache_bytes", "Size of a task's record cache of a store, at the last commit"),
    ("kstreams_consumer_lag_records", "Records on the broker that are not processed yet"),
    ("kstreams_consumer_lag_seconds", "Age of the oldest record that waits in a task's buffer"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "kstreams_record_e2e_latency_seconds",
        "From a record's event time to the commit of its results",
    ),
    ("kstreams_commit_duration_seconds", "Duration of a commit, changelogs included"),
    ("kstreams_restore_duration_seconds", "Duration of a task's restoration"),
];

/// Tells the recorder what the metrics mean.
pub fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(*name, Unit::Count, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *help);
    }
}
