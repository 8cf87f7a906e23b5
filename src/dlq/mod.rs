//! What becomes of a record that cannot be processed.
//!
//! Three handlers, one a stage, decide: skip, dead-letter or fail. A dead letter is the source record, byte for byte,
//! with headers that say why and where from; the task sends it in the transaction that moves past the record.
//! Source: KIP-1034. Deviation: at every stage the whole record is undone and dead-lettered, not a single output.

mod headers;

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::ids::TaskId;
use crate::record::RawRecord;

pub use headers::{ErrorHeaders, dead_letter_headers};

/// Where a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its bytes could not be read.
    Deserialize,
    /// A processor returned an error or panicked.
    Process,
    /// A result could not be written (too large).
    Produce,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deserialize => "deserialize",
            Self::Process => "process",
            Self::Produce => "produce",
        })
    }
}

/// What a handler decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The record is passed over, counted and logged.
    Skip,
    /// The record goes to the dead-letter topic.
    DeadLetter,
    /// The stream thread fails; nothing of the record is kept.
    Fail,
}

impl Decision {
    /// The word for it in metrics.
    pub(crate) fn disposition(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::DeadLetter => "dlq",
            Self::Fail => "fail",
        }
    }
}

/// A record that failed, as its handler sees it.
#[derive(Debug)]
pub struct FailedRecord<'a> {
    /// The source topic.
    pub topic: &'a str,
    /// The source partition.
    pub partition: i32,
    /// The record as it came.
    pub record: &'a RawRecord,
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub error: &'a Error,
    /// Whether the error is a caught panic.
    pub panicked: bool,
    /// The node that failed.
    pub node: &'a str,
    /// The task it failed in.
    pub task: TaskId,
    /// How many times it has been tried.
    pub attempt: u32,
}

/// Decides about failed records of one stage. Source: `DeserializationExceptionHandler` and its two siblings.
pub trait ErrorHandler: Send + Sync {
    /// The decision.
    fn handle(&self, failed: &FailedRecord<'_>) -> Decision;
}

impl<F> ErrorHandler for F
where
    F: Fn(&FailedRecord<'_>) -> Decision + Send + Sync,
{
    fn handle(&self, failed: &FailedRecord<'_>) -> Decision {
        self(failed)
    }
}

impl ErrorHandler for Decision {
    fn handle(&self, _: &FailedRecord<'_>) -> Decision {
        *self
    }
}

/// The handlers of an application.
#[derive(Clone)]
pub struct ErrorHandlers {
    /// For records that cannot be read.
    pub deserialization: Arc<dyn ErrorHandler>,
    /// For records whose processor fails.
    pub processing: Arc<dyn ErrorHandler>,
    /// For records whose result cannot be written.
    pub production: Arc<dyn ErrorHandler>,
    /// How many times a failed record is processed again before its handler is asked.
    pub processing_retries: u32,
    /// The dead-letter topic of a source topic, given the application id.
    pub topic: fn(application_id: &str, source_topic: &str) -> Arc<str>,
}

impl Default for ErrorHandlers {
    /// Everything is dead-lettered, without another try.
    fn default() -> Self {
        Self {
            deserialization: Arc::new(Decision::DeadLetter),
            processing: Arc::new(Decision::DeadLetter),
            production: Arc::new(Decision::DeadLetter),
            processing_retries: 0,
            topic: dead_letter_topic,
        }
    }
}

/// `<application.id>-<source topic>-dlq`; internal topics already carry the application id.
pub fn dead_letter_topic(application_id: &str, source_topic: &str) -> Arc<str> {
    match source_topic.strip_prefix(application_id) {
        Some(rest) if rest.starts_with('-') => format!("{source_topic}-dlq").into(),
        _ => format!("{application_id}-{source_topic}-dlq").into(),
    }
}
