//! What a running node can reach: the other nodes, the task's stores and its state.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::caching::Caches;
use super::node::{Node, Source};
use super::output::OutputBuffer;
use super::punctuator::PunctuationQueue;
use super::times::TaskTimes;
use crate::error::Result;
use crate::ids::{TaskId, TopicPartition};
use crate::record::{Headers, RawRecord, Record};
use crate::store::StateStore;
use crate::telemetry::SpanContext;
use crate::time::{Clock, Timestamp};

/// A node's number within its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeIndex(pub(crate) usize);

/// A node and its place in the graph.
pub(crate) struct NodeSlot {
    pub(crate) name: Arc<str>,
    pub(crate) children: Vec<NodeIndex>,
    pub(crate) node: NodeKind,
    /// Records given to the node since this was collected last.
    pub(crate) records: Cell<u64>,
}

impl NodeSlot {
    pub(crate) fn count(&self) {
        self.records.set(self.records.get() + 1);
    }
}

pub(crate) enum NodeKind {
    Source(RefCell<Box<dyn Source>>),
    Processor(RefCell<Box<dyn Node>>),
}

/// A store that global tables share between all tasks. The lock is free but while the global thread applies an update.
pub(crate) type SharedStore = Arc<Mutex<Box<dyn StateStore>>>;

/// The record in hand.
#[derive(Debug, Default)]
pub(crate) struct CurrentRecord {
    /// Index into [`TaskState::partitions`]; `None` in a punctuation.
    pub(crate) partition: Option<usize>,
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    /// The source record, in tasks with nodes whose results come later.
    pub(crate) raw: Option<RawRecord>,
}

/// The task's state that processors see through their context.
pub(crate) struct TaskState {
    pub(crate) task_id: TaskId,
    pub(crate) application_id: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) stream_time: Option<Timestamp>,
    pub(crate) current: CurrentRecord,
    pub(crate) current_node: NodeIndex,
    /// Where the record in hand stands in a trace, where traces are on.
    pub(crate) trace: Option<SpanContext>,
    pub(crate) outputs: OutputBuffer,
    pub(crate) punctuations: PunctuationQueue,
    pub(crate) times: TaskTimes,
    /// The shortest wall-clock time between two searches for results of closed windows.
    pub(crate) emit_interval: Duration,
    /// How long input has to be silent before time goes on by the wall clock.
    pub(crate) idle_timeout: Option<Duration>,
    /// Since when, by the wall clock, nothing has been left to process; `None`: something has.
    pub(crate) silent_since: Option<Timestamp>,
    /// How many transactions were aborted since the task was built.
    pub(crate) aborts: u64,
    /// Ends the sleep of whoever runs the task; from any thread.
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
    pub(crate) commit_requested: bool,
    /// Records dropped by operators, with the reason, since last collected.
    pub(crate) dropped: Vec<(NodeIndex, &'static str)>,
    pub(crate) caches: Caches,
    /// Names of the task's stores, in their order.
    pub(crate) store_names: Vec<Arc<str>>,
    pub(crate) global_stores: Vec<(Arc<str>, SharedStore)>,
    /// Connected stores of each node, by node index.
    pub(crate) node_stores: Vec<Vec<Arc<str>>>,
}

/// The view of a task that a call into a node gets.
pub(crate) struct Frame<'a> {
    pub(crate) nodes: &'a [NodeSlot],
    pub(crate) stores: &'a mut [Box<dyn StateStore>],
    pub(crate) task: &'a mut TaskState,
}

impl Frame<'_> {
    /// Gives a record to a node, and through it to everything below.
    ///
    /// The record travels in an `Option` behind `dyn Any`: the node checks the type and takes it out, so that nothing is
    /// boxed. The topology has checked the types when it was built.
    pub(crate) fn deliver<K: 'static, V: 'static>(
        &mut self,
        to: NodeIndex,
        record: Record<K, V>,
    ) -> Result<()> {
        let mut slot = Some(record);
        self.deliver_any(to, &mut slot)
    }

    fn deliver_any(&mut self, to: NodeIndex, record: &mut dyn Any) -> Result<()> {
        let from = std::mem::replace(&mut self.task.current_node, to);
        let slot = &self.nodes[to.0];
        slot.count();
        let NodeKind::Processor(node) = &slot.node else {
            unreachable!("a source node has no parent");
        };
        // Invariant: the graph has no cycle, so a node is never entered twice on one stack.
        node.borrow_mut().process(record, self, to)?;
        // After an error the failed node stays the current one, for the dead letter's header.
        self.task.current_node = from;
        Ok(())
    }

    /// Gives a record to every child; all but the last get a copy.
    pub(crate) fn forward<K: Clone + 'static, V: Clone + 'static>(
        &mut self,
        from: NodeIndex,
        record: Record<K, V>,
    ) -> Result<()> {
        let nodes = self.nodes;
        let Some((last, others)) = nodes[from.0].children.split_last() else { return Ok(()) };
        for child in others {
            self.deliver(*child, record.clone())?;
        }
        self.deliver(*last, record)
    }
}
