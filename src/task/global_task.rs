//! Feeds a global store from its topic.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::processor::{
    CurrentRecord, Frame, NodeIndex, NodeKind, NodeSlot, SharedStore, TaskState,
};
use crate::record::RawRecord;
use crate::store::StateStore;

/// The node of the source, and of the processor below it.
const SOURCE: NodeIndex = NodeIndex(0);
const PROCESSOR: NodeIndex = NodeIndex(1);

/// Applies a topic to a global store, on the global thread. Source: `GlobalStateUpdateTask`.
pub(crate) struct GlobalTask {
    pub(crate) topic: Arc<str>,
    nodes: Vec<NodeSlot>,
    state: TaskState,
    store: SharedStore,
}

impl GlobalTask {
    pub(super) fn new(
        topic: Arc<str>,
        nodes: Vec<NodeSlot>,
        mut state: TaskState,
        store: Box<dyn StateStore>,
    ) -> Result<Self> {
        let mut stores = [store];
        if let NodeKind::Processor(node) = &nodes[PROCESSOR.0].node {
            let mut frame = Frame { nodes: &nodes, stores: &mut stores, task: &mut state };
            node.borrow_mut().init(&mut frame, PROCESSOR)?;
        }
        let [store] = stores;
        Ok(Self { topic, nodes, state, store: Arc::new(Mutex::new(store)) })
    }

    /// The store, to be shared with every stream task.
    pub(crate) fn store(&self) -> SharedStore {
        self.store.clone()
    }

    /// The topic's offset after what the store holds.
    pub(crate) fn position(&self) -> Option<i64> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).position()
    }

    /// Applies one record. Bad ones are skipped and logged: a global table has no dead-letter topic.
    pub(crate) fn apply(&mut self, record: &RawRecord) -> Result<()> {
        let mut guard = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let NodeKind::Source(source) = &self.nodes[SOURCE.0].node else {
            unreachable!("the first node of a global task is its source")
        };
        let loaded = source.borrow_mut().load(0, &self.topic, record, None);
        let time = match loaded {
            Ok(Some(time)) => time,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == crate::ErrorKind::BadRecord => {
                tracing::warn!(topic = %self.topic, offset = record.offset, error = %error, "record of a global table skipped");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let headers = record.headers.clone();
        self.state.current = CurrentRecord {
            partition: None,
            offset: record.offset,
            timestamp: time,
            headers,
            raw: None,
        };
        let stores = std::slice::from_mut(&mut *guard);
        let mut frame = Frame { nodes: &self.nodes, stores, task: &mut self.state };
        source.borrow_mut().emit(0, &mut frame, SOURCE)?;
        guard.accept_record();
        self.state.dropped.clear();
        Ok(())
    }

    /// Makes what was applied durable, with the offset after it.
    pub(crate) fn commit(&mut self, position: i64) -> Result<()> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).commit(Some(position))
    }
}
