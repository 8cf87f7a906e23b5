//! The records that a task has produced and not yet handed on.

use std::ops::Range;
use std::sync::Arc;

use crate::record::Headers;
use crate::time::Timestamp;

/// One record to be sent; key and value are ranges of the buffer's arena.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) topic: usize,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
}

/// Outputs of the record in hand, serialised into one reused arena. Hot path.
///
/// Invariant: what lies here belongs to the record in hand only; it is handed on when the record is done, or cleared when it failed.
#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    pub(crate) arena: Vec<u8>,
    pub(crate) records: Vec<Output>,
    topics: Vec<Arc<str>>,
}

impl OutputBuffer {
    /// The number of a topic, by which outputs name it.
    pub(crate) fn topic(&mut self, name: &Arc<str>) -> usize {
        if let Some(index) = self.topics.iter().position(|known| known == name) {
            return index;
        }
        self.topics.push(name.clone());
        self.topics.len() - 1
    }

    pub(crate) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    pub(crate) fn bytes(&self, range: Option<&Range<usize>>) -> Option<&[u8]> {
        range.map(|range| &self.arena[range.clone()])
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.records.clear();
    }
}
