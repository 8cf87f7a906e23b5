//! What becomes of a record that has failed: its handler is asked, and obeyed.

use std::sync::Arc;

use super::RecordSink;
use super::stream_task::StreamTask;
use crate::dlq::{Decision, FailedRecord, Stage, dead_letter_headers};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::OutgoingRecord;
use crate::record::RawRecord;

/// A record that has failed, with all effects undone.
pub(super) struct Failed {
    /// The input partition whose dead-letter topic it goes to.
    pub(super) letters_of: usize,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) record: RawRecord,
    pub(super) attempt: u32,
}

impl StreamTask {
    /// As [`decide_on`](Self::decide_on), for the first record of a queue.
    pub(super) fn decide(
        &mut self,
        partition: usize,
        stage: Stage,
        error: Error,
        panicked: bool,
        sink: &mut dyn RecordSink,
    ) -> Result<()> {
        if error.kind() != ErrorKind::BadRecord {
            return Err(error);
        }
        let source = &self.state.partitions[partition];
        let record = self.group.queues[partition].records.front();
        let failed = Failed {
            letters_of: partition,
            topic: source.topic.clone(),
            partition: source.partition,
            record: record.expect("the failed record is first").clone(),
            attempt: self.attempt + 1,
        };
        self.decide_on(failed, stage, error, panicked, sink)
    }

    /// Asks the handler, and does what it says. Errors that are not the record's fault are passed up.
    pub(super) fn decide_on(
        &mut self,
        failed: Failed,
        stage: Stage,
        error: Error,
        panicked: bool,
        sink: &mut dyn RecordSink,
    ) -> Result<()> {
        if error.kind() != ErrorKind::BadRecord {
            return Err(error);
        }
        let Failed { letters_of, topic, partition, record, attempt } = failed;
        let source = TopicPartition { topic, partition };
        let failed = FailedRecord {
            topic: &source.topic,
            partition,
            record: &record,
            stage,
            error: &error,
            panicked,
            node: &self.nodes[self.state.current_node.0].name,
            task: self.state.task_id,
            attempt,
        };
        let handler = match stage {
            Stage::Deserialize => &self.handlers.deserialization,
            Stage::Process => &self.handlers.processing,
            Stage::Produce => &self.handlers.production,
        };
        let decision = handler.handle(&failed);
        let (task, offset, node) = (failed.task, record.offset, failed.node);
        self.metrics.failed(&source.topic, &stage.to_string(), decision.disposition());
        match decision {
            Decision::Fail => {
                let place = format!("record {source}@{offset} failed in node \"{node}\" ({stage})");
                return Err(Error::fatal(place).with_source(error));
            }
            Decision::Skip => {
                tracing::warn!(%task, topic = %source.topic, partition, offset, node, %stage, error = %error, "record skipped");
                return Ok(());
            }
            Decision::DeadLetter => {}
        }
        let size = record.key.as_ref().map_or(0, |key| key.len())
            + record.value.as_ref().map_or(0, |value| value.len());
        if size > sink.record_bytes_max() {
            return Err(Error::fatal(format!(
                "record {source}@{offset} of {size} bytes is too large for its dead-letter topic, wanted at most {}; raise message.max.bytes in [producer]",
                sink.record_bytes_max()
            ))
            .with_source(error));
        }
        tracing::warn!(%task, topic = %source.topic, partition, offset, node, %stage, error = %error, "record dead-lettered");
        let now = self.state.clock.now();
        let headers = dead_letter_headers(&failed, &self.state.application_id, now);
        let handle = match self.dead_letter_handles[letters_of] {
            Some(handle) => handle,
            None => sink.topic(&self.dead_letter_topics[letters_of])?,
        };
        sink.send(OutgoingRecord {
            topic: handle,
            partition: None,
            // Producers refuse a negative timestamp; such a record has none worth keeping.
            timestamp: if record.timestamp.as_millis() < 0 { now } else { record.timestamp },
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        })?;
        self.dead_letter_handles[letters_of] = Some(handle);
        Ok(())
    }
}
