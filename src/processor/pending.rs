//! Nodes whose results come later than their records, and what a task does for them between two records.
//!
//! The record that waits lies in a store of the node, so its result is a piece of work of its own: with its own effects, its own commit, and the
//! source record at hand for a dead letter.

use std::sync::Arc;
use std::time::Duration;

use super::frame::{Frame, NodeIndex};
use crate::error::Result;
use crate::record::{Headers, RawRecord};
use crate::time::Timestamp;

/// Where a record that waits came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceRecord {
    /// The source topic; the node's name where no source record led to it.
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The source record as it came; without an offset where there was none.
    pub(crate) raw: RawRecord,
}

/// A result that has come, and the record it belongs to.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) origin: SourceRecord,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
}

/// A node whose results come later. Called between two records: nothing is uncommitted but what was accepted.
pub(crate) trait Pending {
    /// Starts what may be started. The first record whose result is there; it stays the first until it is settled.
    ///
    /// # Errors
    /// What the store returns.
    fn arrived(&mut self, frame: &mut Frame<'_>) -> Result<Option<Arrived>>;
    /// Forwards the result of the first record, which waits no longer. Undone as any record is.
    ///
    /// # Errors
    /// What it waited for has failed, or a node below.
    fn finish(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()>;
    /// Lets the first record wait no longer, without a result.
    ///
    /// # Errors
    /// What the store returns.
    fn give_up(&mut self, frame: &mut Frame<'_>) -> Result<()>;
    /// The effects of [`finish`](Self::finish) or [`give_up`](Self::give_up) are kept.
    fn settle(&mut self);
    /// Whether no more record may be taken in.
    fn is_full(&self) -> bool;
    /// Whether nothing waits.
    fn is_empty(&self) -> bool;
    /// Blocks until all that is under way has come; says whether anything was. For tests.
    ///
    /// # Errors
    /// `Fatal` where that takes longer than `timeout`.
    fn wait(&mut self, timeout: Duration) -> Result<bool>;
}
