//! Results that come later than their records: each is taken on as a record of its own.

use std::time::Duration;

use super::RecordSink;
use super::failure::Failed;
use super::handover::check_sizes;
use super::stream_task::StreamTask;
use crate::dlq::Stage;
use crate::error::{Error, ErrorKind, Result};
use crate::processor::{Arrived, CurrentRecord, Frame, NodeIndex, NodeKind, Pending};

impl StreamTask {
    /// Whether some node has results still to come.
    pub(super) fn awaits_results(&self) -> bool {
        self.any_pending(|pending| !pending.is_empty())
    }

    /// Whether some node can take no further record.
    pub(super) fn is_full(&self) -> bool {
        self.any_pending(|pending| pending.is_full())
    }

    /// Blocks until the results of all that is under way have come; says whether anything was. For tests.
    pub(crate) fn wait_for_results(&mut self, timeout: Duration) -> Result<bool> {
        let mut waited = false;
        for index in self.pending_nodes.clone() {
            let NodeKind::Processor(node) = &self.nodes[index.0].node else { continue };
            if let Some(pending) = node.borrow_mut().pending() {
                waited |= pending.wait(timeout)?;
            }
        }
        Ok(waited)
    }

    /// Takes on every result that has come; says how many.
    ///
    /// # Errors
    /// As [`process_next`](Self::process_next): after a `Retriable` one the same result comes again.
    pub(super) fn take_results(&mut self, sink: &mut dyn RecordSink) -> Result<usize> {
        let mut taken = 0;
        for position in 0..self.pending_nodes.len() {
            let index = self.pending_nodes[position];
            while let Some(arrived) = self.next_arrived(index)? {
                self.take_result(index, arrived, sink)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn take_result(
        &mut self,
        index: NodeIndex,
        arrived: Arrived,
        sink: &mut dyn RecordSink,
    ) -> Result<()> {
        let source = &arrived.origin;
        let partitions = &self.state.partitions;
        let partition = partitions
            .iter()
            .position(|known| known.topic == source.topic && known.partition == source.partition);
        let current = || CurrentRecord {
            partition,
            offset: source.raw.offset,
            timestamp: arrived.timestamp,
            headers: arrived.headers.clone(),
            raw: Some(source.raw.clone()),
        };
        let mut attempt = 0;
        loop {
            self.state.current = current();
            self.state.current_node = index;
            if let Some(spans) = &mut self.spans {
                self.state.trace = spans.begin(&arrived.headers, None);
            }
            let (outcome, panicked) = self.guarded(|frame| {
                with_pending(frame, index, |pending, frame| pending.finish(frame, index))
            });
            let outcome = outcome.map_err(|e| (Stage::Process, e)).and_then(|()| {
                check_sizes(&self.state.outputs, sink.record_bytes_max())
                    .map_err(|e| (Stage::Produce, e))
            });
            let Err((stage, error)) = outcome else { break };
            let error = self.undo_failed(error);
            if error.kind() == ErrorKind::BadRecord && attempt < self.handlers.processing_retries {
                attempt += 1;
                continue;
            }
            let failed = Failed {
                // What no source record led to goes where the task's first input's dead letters go.
                letters_of: partition.unwrap_or(0),
                topic: source.topic.clone(),
                partition: source.partition,
                record: source.raw.clone(),
                attempt: attempt + 1,
            };
            self.decide_on(failed, stage, error, panicked, sink)?;
            self.state.current = current();
            self.guarded(|frame| {
                with_pending(frame, index, |pending, frame| pending.give_up(frame))
            })
            .0?;
            break;
        }
        self.keep_effects(sink)?;
        let in_hand = self.release();
        self.end_spans(in_hand, None);
        self.count_dropped();
        if let NodeKind::Processor(node) = &self.nodes[index.0].node
            && let Some(pending) = node.borrow_mut().pending()
        {
            pending.settle();
        }
        Ok(())
    }

    fn next_arrived(&mut self, index: NodeIndex) -> Result<Option<Arrived>> {
        let mut frame =
            Frame { nodes: &self.nodes, stores: &mut self.stores, task: &mut self.state };
        let mut arrived = None;
        with_pending(&mut frame, index, |pending, frame| {
            arrived = pending.arrived(frame)?;
            Ok(())
        })?;
        Ok(arrived)
    }

    fn any_pending(&self, is: impl Fn(&dyn Pending) -> bool) -> bool {
        self.pending_nodes.iter().any(|index| match &self.nodes[index.0].node {
            NodeKind::Processor(node) => {
                node.borrow_mut().pending().is_some_and(|pending| is(&*pending))
            }
            NodeKind::Source(_) => false,
        })
    }
}

fn with_pending(
    frame: &mut Frame<'_>,
    index: NodeIndex,
    run: impl FnOnce(&mut dyn Pending, &mut Frame<'_>) -> Result<()>,
) -> Result<()> {
    let nodes = frame.nodes;
    let NodeKind::Processor(node) = &nodes[index.0].node else {
        return Err(Error::fatal("found a source node, wanted one whose results come later"));
    };
    match node.borrow_mut().pending() {
        Some(pending) => run(pending, frame),
        None => Ok(()),
    }
}
