//! Tasks: one subtopology on one partition, the unit of work.
//!
//! A task has no I/O of its own. It is given raw records, punctuations and a clock, and hands out effects: records to send (to a
//! [`RecordSink`]), store writes (kept uncommitted), offsets. The runtime, the test driver and the simulation drive the same code.
//! Called by the stream thread that owns the task; hot path. Deliberately absent: clients, threads, commits.

mod build;
mod commit;
mod failure;
mod figures;
mod global_task;
mod handover;
mod offset_metadata;
mod partition_group;
mod results;
mod spans;
mod stream_task;
mod task_store;

pub(crate) use build::{TaskBuilder, TaskSettings};
pub(crate) use global_task::GlobalTask;
pub(crate) use stream_task::{Step, StreamTask};
pub(crate) use task_store::TaskStore;

use std::sync::Arc;

use crate::error::Result;
use crate::kafka::{OutgoingRecord, TopicHandle};

/// The `transactional.id` of the producer that committed an offset with this text beside it; `None`: none of ours.
pub(crate) fn writer_of(metadata: &str) -> Option<String> {
    offset_metadata::writer_of(metadata)
}

/// Takes the records that a task sends: results, dead letters, changelog entries.
pub(crate) trait RecordSink {
    /// The number of a topic, made once a task.
    fn topic(&mut self, name: &Arc<str>) -> Result<TopicHandle>;
    /// The largest record that [`send`](Self::send) accepts, in bytes of key, value and headers together.
    fn record_bytes_max(&self) -> usize;
    /// Sends a record; its bytes are copied.
    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()>;
}
