//! The headers of a dead letter.

use bytes::Bytes;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use super::FailedRecord;
use crate::record::Headers;
use crate::time::Timestamp;

const PREFIX: &str = "__streams.errors.";

/// Adds to the record's own headers why it failed and where it came from.
///
/// The first six are Kafka Streams' (KIP-1034): `exception`, `message`, `stacktrace`, `topic`, `partition`, `offset`, all text. The rest are ours.
pub fn dead_letter_headers(
    failed: &FailedRecord<'_>,
    application_id: &str,
    now: Timestamp,
) -> Headers {
    let mut headers = failed.record.headers.clone();
    // A letter that was redriven and failed again says its latest failure only.
    for name in ErrorHeaders::NAMES {
        headers.remove(&format!("{PREFIX}{name}"));
    }
    let mut add = |name: &str, value: String| {
        headers.add(format!("{PREFIX}{name}"), Some(Bytes::from(value)));
    };
    add("exception", format!("kstreams.{:?}", failed.error.kind()));
    add("message", chain(failed.error));
    add("stacktrace", format!("{:?}", failed.error));
    add("topic", failed.topic.to_owned());
    add("partition", failed.partition.to_string());
    add("offset", failed.record.offset.to_string());
    add("stage", failed.stage.to_string());
    add("class", class(failed).to_owned());
    add("task.id", failed.task.to_string());
    add("processor.node.id", failed.node.to_owned());
    add("application.id", application_id.to_owned());
    add("timestamp", now.as_millis().to_string());
    add("attempt", failed.attempt.to_string());
    if let Some(id) = schema_id(failed.record.value.as_deref()) {
        add("schema.id", id.to_string());
    }
    add("fingerprint", fingerprint(failed));
    headers
}

/// The error headers of a dead letter, read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorHeaders {
    /// Header name without its prefix, and text.
    pub entries: Vec<(String, String)>,
}

impl ErrorHeaders {
    const NAMES: [&str; 15] = [
        "exception",
        "message",
        "stacktrace",
        "topic",
        "partition",
        "offset",
        "stage",
        "class",
        "task.id",
        "processor.node.id",
        "application.id",
        "timestamp",
        "attempt",
        "schema.id",
        "fingerprint",
    ];

    /// Reads them out of a dead letter's headers.
    pub fn read(headers: &Headers) -> Self {
        let entries = headers.iter().filter_map(|header| {
            let name = header.key.strip_prefix(PREFIX)?;
            let text = String::from_utf8_lossy(header.value.as_deref()?).into_owned();
            Some((name.to_owned(), text))
        });
        Self { entries: entries.collect() }
    }

    /// The text of one of them, by its name without the prefix.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.entries.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A word of a closed set, for grouping and for metrics.
fn class(failed: &FailedRecord<'_>) -> &'static str {
    use super::Stage;
    match (failed.stage, failed.panicked) {
        (_, true) => "panic",
        (Stage::Deserialize, _) => "deserialization_error",
        (Stage::Process, _) => "processing_error",
        (Stage::Produce, _) => "production_error",
    }
}

fn schema_id(value: Option<&[u8]>) -> Option<i32> {
    let (magic, rest) = value?.split_first()?;
    let id = rest.first_chunk::<4>()?;
    (*magic == 0).then(|| i32::from_be_bytes(*id))
}

/// Equal for failures that look alike: same place, same message but for its numbers.
fn fingerprint(failed: &FailedRecord<'_>) -> String {
    let message: String =
        chain(failed.error).chars().filter(|c| !c.is_ascii_digit() && *c != '-').collect();
    let hash = FixedState::default().hash_one((failed.stage, failed.topic, failed.node, message));
    format!("{hash:016x}")
}
