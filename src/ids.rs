//! The names of things: tasks, partitions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A task: one subtopology on one partition; written `<subtopology>_<partition>`.
///
/// Source: `org.apache.kafka.streams.processor.TaskId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The number of the subtopology, as `Topology::describe` prints it.
    pub subtopology: u32,
    /// The partition that all of the task's source topics share.
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('_')
            .and_then(|(subtopology, partition)| {
                Some(Self {
                    subtopology: subtopology.parse().ok()?,
                    partition: partition.parse().ok()?,
                })
            })
            .ok_or_else(|| {
                Error::invalid(format!("task id \"{text}\" is not <subtopology>_<partition>"))
            })
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's full name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
