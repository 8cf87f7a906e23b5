//! Every metric of the engine: name, unit, labels. Handles are made once a task or thread; the hot path only increments.

use metrics::{Counter, Unit, counter, describe_counter};

use crate::dlq::{Decision, Stage};
use crate::ids::{TaskId, TopicPartition};

/// The metrics of one task.
pub(crate) struct TaskMetrics {
    app: String,
    subtopology: String,
    /// Records taken through the subtopology, skipped and dead-lettered ones included.
    pub(crate) processed: Counter,
}

impl TaskMetrics {
    pub(crate) fn new(app: &str, task: TaskId, partitions: &[TopicPartition]) -> Self {
        let labels = [("app", app.to_owned()), ("task", task.to_string())];
        for partition in partitions {
            // Zero from the start, so that the first bad record shows as an increase.
            for stage in [Stage::Deserialize, Stage::Process, Stage::Produce] {
                dead_letters(app, &partition.topic, stage, Decision::DeadLetter).increment(0);
            }
        }
        Self {
            app: app.to_owned(),
            subtopology: task.subtopology.to_string(),
            processed: counter!("kstreams_task_records_processed_total", &labels),
        }
    }

    pub(crate) fn dropped(&self, node: &str, reason: &'static str) {
        let labels = [
            ("app", self.app.clone()),
            ("subtopology", self.subtopology.clone()),
            ("node", node.to_owned()),
            ("reason", reason.to_owned()),
        ];
        counter!("kstreams_records_dropped_total", &labels).increment(1);
    }

    pub(crate) fn failed(&self, topic: &str, stage: Stage, decision: Decision) {
        dead_letters(&self.app, topic, stage, decision).increment(1);
    }

    pub(crate) fn punctuation_failed(&self, node: &str) {
        let labels = [
            ("app", self.app.clone()),
            ("subtopology", self.subtopology.clone()),
            ("node", node.to_owned()),
        ];
        counter!("kstreams_punctuation_failures_total", &labels).increment(1);
    }
}

fn dead_letters(app: &str, topic: &str, stage: Stage, decision: Decision) -> Counter {
    let disposition = match decision {
        Decision::Skip => "skip",
        Decision::DeadLetter => "dlq",
        Decision::Fail => "fail",
    };
    let labels = [
        ("app", app.to_owned()),
        ("topic", topic.to_owned()),
        ("stage", stage.to_string()),
        ("disposition", disposition.to_owned()),
    ];
    counter!("kstreams_dlq_records_total", &labels)
}

/// Tells the recorder what the metrics mean.
pub fn describe() {
    describe_counter!(
        "kstreams_task_records_processed_total",
        Unit::Count,
        "Records taken through a task's subtopology"
    );
    describe_counter!(
        "kstreams_records_dropped_total",
        Unit::Count,
        "Records dropped by an operator, by reason"
    );
    describe_counter!(
        "kstreams_dlq_records_total",
        Unit::Count,
        "Records that failed, by source topic, stage and what became of them"
    );
    describe_counter!(
        "kstreams_punctuation_failures_total",
        Unit::Count,
        "Punctuations that failed and were undone"
    );
}
