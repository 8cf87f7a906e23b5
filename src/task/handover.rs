//! Hands the outputs of a finished record to the sink.

use std::sync::Arc;

use super::RecordSink;
use crate::error::{Error, Result};
use crate::kafka::{OutgoingRecord, TopicHandle};
use crate::processor::{Output, OutputBuffer};

/// Bytes that Kafka's record format adds at most, beside key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 70;

/// The sink's numbers of the topics that a task writes to.
#[derive(Debug, Default)]
pub(super) struct TopicHandles(Vec<TopicHandle>);

impl TopicHandles {
    fn get(
        &mut self,
        index: usize,
        topics: &[Arc<str>],
        sink: &mut dyn RecordSink,
    ) -> Result<TopicHandle> {
        while self.0.len() <= index {
            self.0.push(sink.topic(&topics[self.0.len()])?);
        }
        Ok(self.0[index])
    }
}

/// Refuses, before any of them is sent, outputs that are too large.
pub(super) fn check_sizes(outputs: &OutputBuffer, bytes_max: usize) -> Result<()> {
    if outputs.arena.len() + RECORD_OVERHEAD_BYTES <= bytes_max {
        return Ok(()); // all of them together fit: the common case
    }
    let size = |output: &Output| {
        let headers = output
            .headers
            .iter()
            .map(|header| header.key.len() + header.value.as_ref().map_or(0, |value| value.len()));
        output.key.as_ref().map_or(0, |range| range.len())
            + output.value.as_ref().map_or(0, |range| range.len())
            + headers.sum::<usize>()
            + RECORD_OVERHEAD_BYTES
    };
    match outputs.records.iter().find(|output| size(output) > bytes_max) {
        None => Ok(()),
        Some(output) => Err(Error::bad_record(format!(
            "found a result of {} bytes for topic \"{}\", wanted at most {bytes_max} (producer setting message.max.bytes)",
            size(output),
            outputs.topics()[output.topic]
        ))),
    }
}

/// Sends all outputs, in order, and clears the buffer. Hot path.
pub(super) fn send_all(
    outputs: &mut OutputBuffer,
    handles: &mut TopicHandles,
    sink: &mut dyn RecordSink,
) -> Result<()> {
    for output in &outputs.records {
        let topic = handles.get(output.topic, outputs.topics(), sink)?;
        sink.send(OutgoingRecord {
            topic,
            partition: output.partition,
            timestamp: output.timestamp,
            key: outputs.bytes(output.key.as_ref()),
            value: outputs.bytes(output.value.as_ref()),
            headers: &output.headers,
        })?;
    }
    outputs.clear();
    Ok(())
}
