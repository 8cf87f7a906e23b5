//! Metrics of a stream thread and of the topics that it reads and writes. Handles are made once; the hot path only adds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::board::Placed;
use crate::ids::TopicPartition;

/// What a stream thread spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Poll,
    Process,
    Punctuate,
    Commit,
    Idle,
}

const PHASES: [&str; 5] = ["poll", "process", "punctuate", "commit", "idle"];

/// Why a commit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Interval,
    Drained,
    Buffer,
    Request,
    Revoke,
    Close,
}

const TRIGGERS: [&str; 6] = ["interval", "drained", "buffer", "request", "revoke", "close"];

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Commit,
    Abort,
    Fenced,
}

const OUTCOMES: [&str; 3] = ["commit", "abort", "fenced"];

/// The metrics of a stream thread.
pub(crate) struct ThreadMetrics {
    time: [Placed; 5],
    phase_duration: [Histogram; 3],
    processed: Counter,
    commits: [Counter; 6],
    commit_duration: Histogram,
    transactions: [Counter; 3],
    transaction_duration: [Histogram; 2],
}

impl ThreadMetrics {
    pub(crate) fn new(app: &str, thread: usize) -> Self {
        let thread = thread.to_string();
        let time = PHASES.map(|phase| {
            let labels = [("app", app), ("thread", &thread), ("phase", phase)];
            Placed::new("kstreams_thread_time_seconds_total", &labels)
        });
        let one =
            |label: &'static str, value: &str| [("app", app.to_owned()), (label, value.to_owned())];
        let phase_duration = ["poll", "process", "punctuate"].map(|phase| {
            histogram!("kstreams_thread_phase_duration_seconds", &one("phase", phase))
        });
        let transaction_duration = ["commit", "abort"].map(|outcome| {
            histogram!("kstreams_transaction_duration_seconds", &one("outcome", outcome))
        });
        let metrics = Self {
            time,
            phase_duration,
            processed: counter!("kstreams_thread_records_processed_total", &one("thread", &thread)),
            commits: TRIGGERS
                .map(|trigger| counter!("kstreams_commits_total", &one("trigger", trigger))),
            commit_duration: histogram!("kstreams_commit_duration_seconds", "app" => app.to_owned()),
            transactions: OUTCOMES
                .map(|outcome| counter!("kstreams_transactions_total", &one("outcome", outcome))),
            transaction_duration,
        };
        for counter in metrics.commits.iter().chain(&metrics.transactions) {
            counter.increment(0);
        }
        metrics
    }

    /// Adds time spent on a phase, and what one go of it took where it had something to do.
    pub(crate) fn phase(&self, phase: Phase, spent: Duration, had_work: bool) {
        self.time[phase as usize].add(spent.as_secs_f64());
        if had_work && let Some(histogram) = self.phase_duration.get(phase as usize) {
            histogram.record(spent.as_secs_f64());
        }
    }

    pub(crate) fn processed(&self, records: usize) {
        self.processed.increment(records as u64);
    }

    pub(crate) fn committed(&self, trigger: Trigger, took: Duration) {
        self.phase(Phase::Commit, took, false);
        self.commits[trigger as usize].increment(1);
        self.commit_duration.record(took.as_secs_f64());
    }

    /// A transaction ended; `took`: since its first record.
    pub(crate) fn transaction(&self, outcome: Outcome, took: Duration) {
        self.transactions[outcome as usize].increment(1);
        if let Some(histogram) = self.transaction_duration.get(outcome as usize) {
            histogram.record(took.as_secs_f64());
        }
    }
}

/// Makes the metrics of topics.
#[derive(Clone)]
pub(crate) struct TopicLabels {
    app: Arc<str>,
    internal: Arc<BTreeSet<Arc<str>>>,
}

impl TopicLabels {
    pub(crate) fn new(app: &str, internal: impl Iterator<Item = Arc<str>>) -> Self {
        Self { app: app.into(), internal: Arc::new(internal.collect()) }
    }

    fn of(&self, topic: &Arc<str>) -> [(&'static str, String); 3] {
        let internal = self.internal.contains(topic).to_string();
        [("app", self.app.to_string()), ("topic", topic.to_string()), ("internal", internal)]
    }

    pub(crate) fn produced(&self, topic: &Arc<str>) -> TopicCounters {
        let labels = self.of(topic);
        TopicCounters {
            records: counter!("kstreams_topic_records_produced_total", &labels),
            bytes: counter!("kstreams_topic_produced_bytes_total", &labels),
        }
    }

    pub(crate) fn input(&self, partition: &TopicPartition) -> InputMetrics {
        let labels = self.of(&partition.topic);
        let number = partition.partition.to_string();
        let lag = |name| {
            let labels =
                [("app", &*self.app), ("topic", &*partition.topic), ("partition", &number)];
            Placed::new(name, &labels)
        };
        InputMetrics {
            consumed: TopicCounters {
                records: counter!("kstreams_topic_records_consumed_total", &labels),
                bytes: counter!("kstreams_topic_consumed_bytes_total", &labels),
            },
            lag_records: lag("kstreams_consumer_lag_records"),
            committed_lag_records: lag("kstreams_consumer_committed_lag_records"),
            lag_seconds: lag("kstreams_consumer_lag_seconds"),
        }
    }
}

/// Records and bytes of one topic in one direction.
pub(crate) struct TopicCounters {
    records: Counter,
    bytes: Counter,
}

impl TopicCounters {
    pub(crate) fn add(&self, records: usize, bytes: usize) {
        self.records.increment(records as u64);
        self.bytes.increment(bytes as u64);
    }
}

/// The metrics of an input partition of a task; they go with the task.
pub(crate) struct InputMetrics {
    pub(crate) consumed: TopicCounters,
    lag_records: Placed,
    committed_lag_records: Placed,
    lag_seconds: Placed,
}

impl InputMetrics {
    /// How far the partition is behind: `end` of the log, the position after what was processed, and after what was committed.
    pub(crate) fn lag(
        &self,
        end: Option<i64>,
        position: Option<i64>,
        committed: Option<i64>,
        waiting: Option<Duration>,
    ) {
        let behind = |position: Option<i64>| {
            let lag = end.zip(position).map_or(0, |(end, position)| (end - position).max(0));
            u64::try_from(lag).unwrap_or(0)
        };
        self.lag_records.set_count(behind(position));
        self.committed_lag_records.set_count(behind(committed));
        self.lag_seconds.set(waiting.unwrap_or_default().as_secs_f64());
    }
}
