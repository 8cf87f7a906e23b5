//! An active task: takes one record at a time through its subtopology, and prepares commits.
//!
//! Hot path: [`StreamTask::process_next`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::RecordSink;
use super::handover::{TopicHandles, check_sizes, send_all};
use super::offset_metadata;
use super::partition_group::PartitionGroup;
use super::spans::TaskSpans;
use super::task_store::{TaskStore, Watched};
use crate::dlq::{ErrorHandlers, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::TopicHandle;
use crate::processor::{
    CurrentRecord, Frame, NodeIndex, NodeKind, NodeSlot, PunctuationType, TaskState,
};
use crate::record::{Headers, RawRecord};
use crate::store::StateStore;
use crate::telemetry::{CacheMetrics, TaskMetrics};
use crate::time::Timestamp;

/// Latencies measured a commit: all of them at low load, the longest ones at high.
const LATENCY_SAMPLES: usize = 64;

/// What [`StreamTask::process_next`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record is done.
    Processed,
    /// There is no record, or the task waits for another partition's.
    Idle,
}

/// One subtopology on one partition. Source: `StreamTask`.
pub(crate) struct StreamTask {
    pub(super) nodes: Vec<NodeSlot>,
    /// In the order of `TaskState::store_names`.
    pub(super) stores: Vec<Box<dyn StateStore>>,
    pub(super) changelogs: Vec<Changelog>,
    /// By store.
    pub(super) watched: Vec<Watched>,
    pub(super) state: TaskState,
    pub(super) group: PartitionGroup,
    pub(super) handlers: Arc<ErrorHandlers>,
    pub(super) dead_letter_topics: Vec<Arc<str>>,
    pub(super) handles: TopicHandles,
    pub(super) dead_letter_handles: Vec<Option<TopicHandle>>,
    pub(super) metrics: TaskMetrics,
    pub(super) future_skew_max: Option<Duration>,
    /// See `TaskSettings::writer`.
    pub(super) writer: Option<Arc<str>>,
    /// Attempts at the first record of the queue in hand.
    pub(super) attempt: u32,
    pub(super) has_effects: bool,
    /// Nodes whose results come later than their records.
    pub(super) pending_nodes: Vec<NodeIndex>,
    /// Whether a store goes by stream time.
    pub(super) tells_stream_time: bool,
    /// Which source node's slot each partition has.
    pub(super) slots: Vec<usize>,
    /// Of the record caches, in the order of `TaskState::caches`.
    pub(super) cache_metrics: Vec<CacheMetrics>,
    /// Event times of the first records since the last commit; they have waited longest.
    pub(super) latency_samples: Vec<Timestamp>,
    /// What punctuators took since this was asked last.
    pub(super) punctuation_time: Duration,
    /// Where traces are on.
    pub(super) spans: Option<TaskSpans>,
}

pub(super) struct Changelog {
    pub(super) topic: Option<Arc<str>>,
    /// The input partition that is the changelog, where one is.
    pub(super) input: Option<usize>,
    pub(super) handle: Option<TopicHandle>,
    pub(super) position: i64,
    pub(super) unacknowledged: i64,
}

impl StreamTask {
    pub(crate) fn id(&self) -> TaskId {
        self.state.task_id
    }

    /// The input partitions, by the index that other methods take.
    pub(crate) fn partitions(&self) -> &[TopicPartition] {
        &self.state.partitions
    }

    /// Records that wait in a partition's queue.
    pub(crate) fn buffered(&self, partition: usize) -> (usize, usize) {
        let queue = &self.group.queues[partition];
        (queue.records.len(), queue.bytes)
    }

    pub(crate) fn has_buffered_records(&self) -> bool {
        self.group.buffered_records() > 0
    }

    /// The offset after the last record done on a partition; `None` before the first.
    pub(crate) fn consumed(&self, partition: usize) -> Option<i64> {
        self.group.queues[partition].consumed
    }

    /// The event time of the first record waiting on a partition.
    pub(crate) fn waiting_since(&self, partition: usize) -> Option<Timestamp> {
        self.group.queues[partition].records.front().map(|record| record.timestamp)
    }

    /// Adds a record to a partition's queue.
    pub(crate) fn push(&mut self, partition: usize, record: RawRecord) {
        self.group.push(partition, record);
    }

    pub(crate) fn set_caught_up(&mut self, partition: usize, caught_up: bool) {
        self.group.set_caught_up(partition, caught_up);
    }

    /// Calls every processor's `init`.
    pub(crate) fn init(&mut self) -> Result<()> {
        for index in 0..self.nodes.len() {
            if let NodeKind::Processor(node) = &self.nodes[index].node {
                let mut frame =
                    Frame { nodes: &self.nodes, stores: &mut self.stores, task: &mut self.state };
                node.borrow_mut().init(&mut frame, NodeIndex(index)).map_err(|e| {
                    e.context(format!("init of processor \"{}\"", self.nodes[index].name))
                })?;
            }
        }
        let length = offset_metadata::length_of(self.state.times.names(), self.writer.as_deref());
        if length > offset_metadata::LENGTH_MAX {
            tracing::warn!(task = %self.state.task_id, found = length, wanted = offset_metadata::LENGTH_MAX, "the times of the task's operators are too many for the metadata of an offset; after a restart without local state some late records are taken. Give the operators shorter names, or split the topology");
            self.state.times.leave_out_stream_times();
        }
        self.state.times.accept_record();
        self.state.times.commit();
        self.stores.iter_mut().for_each(|store| store.accept_record());
        Ok(())
    }

    /// Takes the next record through the subtopology, to the end.
    ///
    /// # Errors
    /// Bad records are dealt with here, by the handlers; any other error has left no effect of the record and asks the caller for its reaction.
    /// After a `Retriable` one the same record comes again.
    pub(crate) fn process_next(
        &mut self,
        now: Timestamp,
        sink: &mut dyn RecordSink,
    ) -> Result<Step> {
        if !self.pending_nodes.is_empty() {
            if self.take_results(sink)? > 0 {
                return Ok(Step::Processed);
            }
            if self.is_full() {
                return Ok(Step::Idle);
            }
        }
        self.load_heads(now, sink)?;
        let Some(partition) = self.group.next(now) else {
            let is_silent = self.group.is_drained() && !self.awaits_results();
            if self.state.silent_since.is_none() && is_silent {
                self.state.silent_since = Some(now);
            }
            return Ok(Step::Idle);
        };
        self.state.silent_since = None;
        let queue = &mut self.group.queues[partition];
        let time = queue.head.expect("the chosen queue has a head");
        // Also if it fails, as in Java: stream time must not go back to before it in the next transaction.
        queue.partition_time = queue.partition_time.max(Some(time));
        if self.state.stream_time < Some(time) {
            self.state.stream_time = Some(time);
            self.tell_stream_time();
        }
        self.set_current(partition, time);
        let source = self.group.queues[partition].source;
        let slot = self.slots[partition];
        let (outcome, panicked) = self.guarded(|frame| {
            let NodeKind::Source(node) = &frame.nodes[source.0].node else {
                unreachable!("queues are read by source nodes")
            };
            frame.task.current_node = source;
            frame.nodes[source.0].count();
            node.borrow_mut().emit(slot, frame, source)
        });
        let outcome = outcome.map_err(|e| (Stage::Process, e)).and_then(|()| {
            check_sizes(&self.state.outputs, sink.record_bytes_max())
                .map_err(|e| (Stage::Produce, e))
        });
        match outcome {
            Ok(()) => {
                self.keep_effects(sink)?;
                let in_hand = self.release();
                self.end_spans(in_hand, None);
            }
            Err((stage, error)) => {
                let in_hand = self.release();
                let error = self.undo_failed(error);
                if self.try_again(partition, &error) {
                    return Ok(Step::Processed);
                }
                let text = in_hand.is_some().then(|| error.to_string());
                self.decide(partition, stage, error, panicked, sink)?;
                self.end_spans(in_hand, text);
            }
        }
        self.finish(partition);
        Ok(Step::Processed)
    }

    /// Tells the stores that go by stream time.
    pub(super) fn tell_stream_time(&mut self) {
        if self.tells_stream_time {
            let time = self.state.stream_time.unwrap_or(Timestamp::MIN);
            self.stores.iter_mut().for_each(|store| store.set_stream_time(time));
        }
    }

    /// Whether a failed record stays the first of its queue, to be processed again.
    fn try_again(&mut self, partition: usize, error: &Error) -> bool {
        self.group.queues[partition].head = None; // it has to be read again
        let again =
            error.kind() == ErrorKind::BadRecord && self.attempt < self.handlers.processing_retries;
        if again {
            self.attempt += 1;
            self.metrics.retried(partition);
        }
        again
    }

    fn finish(&mut self, partition: usize) {
        self.attempt = 0;
        let queue = &mut self.group.queues[partition];
        if let Some(time) = queue.head.filter(|_| self.latency_samples.len() < LATENCY_SAMPLES) {
            self.latency_samples.push(time);
            self.metrics.lateness(
                self.state.stream_time.map_or(Duration::ZERO, |stream| stream.since(time)),
            );
        }
        self.group.pop(partition);
        self.has_effects = true;
        self.metrics.processed.increment(1);
        self.count_dropped();
    }

    pub(super) fn count_dropped(&mut self) {
        for (node, reason) in self.state.dropped.drain(..) {
            self.metrics.dropped(&self.nodes[node.0].name, reason, 1);
        }
    }

    /// Reads the first record of every queue into its source node; those that cannot be read are dealt with.
    fn load_heads(&mut self, now: Timestamp, sink: &mut dyn RecordSink) -> Result<()> {
        for partition in 0..self.group.queues.len() {
            while self.group.queues[partition].head.is_none() {
                let queue = &self.group.queues[partition];
                let Some(raw) = queue.records.front() else { break };
                let NodeKind::Source(node) = &self.nodes[queue.source.0].node else {
                    unreachable!("queues are read by source nodes")
                };
                let topic = &self.state.partitions[partition].topic;
                let loaded = catch_unwind(AssertUnwindSafe(|| {
                    node.borrow_mut().load(self.slots[partition], topic, raw, queue.partition_time)
                }));
                let source = queue.source;
                let loaded = loaded.map(|loaded| self.check_future(loaded, now));
                match loaded {
                    Ok(Ok(Some(time))) => self.group.queues[partition].head = Some(time),
                    Ok(Ok(None)) => {
                        self.state.dropped.push((source, "negative_timestamp"));
                        self.finish(partition);
                    }
                    Ok(Err(error)) => self.refuse(partition, source, (error, false), sink)?,
                    Err(panic) => {
                        self.refuse(partition, source, (panic_error(&*panic), true), sink)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Deals with the first record of a queue, which its source node cannot read; `why`, and whether it panicked.
    fn refuse(
        &mut self,
        partition: usize,
        source: NodeIndex,
        why: (Error, bool),
        sink: &mut dyn RecordSink,
    ) -> Result<()> {
        let (error, panicked) = why;
        self.state.current_node = source;
        self.begin_spans(partition);
        let in_hand = self.release();
        let text = in_hand.is_some().then(|| error.to_string());
        self.decide(partition, Stage::Deserialize, error, panicked, sink)?;
        self.end_spans(in_hand, text);
        self.finish(partition);
        Ok(())
    }

    /// A record too far ahead of the wall clock is a bad one: taken as it is, it would make all others late.
    fn check_future(
        &self,
        loaded: Result<Option<Timestamp>>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let (Ok(Some(time)), Some(skew)) = (&loaded, self.future_skew_max) else { return loaded };
        if *time <= now + skew {
            return loaded;
        }
        Err(Error::bad_record(format!(
            "found timestamp {time}, {:?} ahead of the clock, wanted at most {skew:?}",
            time.since(now)
        )))
    }

    /// Calls the punctuators that are due on stream time; after every record.
    pub(crate) fn punctuate_stream_time(&mut self, sink: &mut dyn RecordSink) -> Result<bool> {
        match self.state.stream_time {
            Some(now) => self.punctuate(PunctuationType::StreamTime, now, sink),
            None => Ok(false),
        }
    }

    /// Calls the punctuators that are due on wall-clock time.
    pub(crate) fn punctuate_wall_clock(&mut self, sink: &mut dyn RecordSink) -> Result<bool> {
        let now = self.state.clock.now();
        self.punctuate(PunctuationType::WallClockTime, now, sink)
    }

    /// When the next wall-clock punctuation is due.
    pub(crate) fn next_wall_clock_punctuation(&self) -> Option<Timestamp> {
        self.state.punctuations.next_due(PunctuationType::WallClockTime)
    }

    fn punctuate(
        &mut self,
        kind: PunctuationType,
        now: Timestamp,
        sink: &mut dyn RecordSink,
    ) -> Result<bool> {
        let mut called = false;
        while let Some((node, id)) = self.state.punctuations.take_due(kind, now) {
            called = true;
            let start = self.state.clock.monotonic();
            self.state.current = CurrentRecord {
                partition: None,
                offset: -1,
                timestamp: now,
                headers: Headers::default(),
                raw: None,
            };
            self.state.current_node = node;
            let (outcome, panicked) = self.guarded(|frame| {
                let NodeKind::Processor(processor) = &frame.nodes[node.0].node else {
                    unreachable!("only processors schedule")
                };
                processor.borrow_mut().punctuate(id, now, frame, node)
            });
            let outcome =
                outcome.and_then(|()| check_sizes(&self.state.outputs, sink.record_bytes_max()));
            match outcome {
                Ok(()) => self.keep_effects(sink)?,
                Err(error) => {
                    let error = self.undo_failed(error);
                    if error.kind() != ErrorKind::BadRecord {
                        return Err(error);
                    }
                    // There is no record to dead-letter; the schedule calls again at its next time.
                    let (task, node) = (self.state.task_id, &self.nodes[node.0].name);
                    self.metrics.punctuation_failed(node);
                    tracing::error!(%task, node = %node, panicked, error = %error, "punctuation failed and was undone");
                }
            }
            self.punctuation_time += self.state.clock.monotonic().saturating_sub(start);
        }
        Ok(called)
    }

    /// Runs user code; a panic becomes a bad-record error.
    pub(super) fn guarded(
        &mut self,
        run: impl FnOnce(&mut Frame<'_>) -> Result<()>,
    ) -> (Result<()>, bool) {
        let mut frame =
            Frame { nodes: &self.nodes, stores: &mut self.stores, task: &mut self.state };
        match catch_unwind(AssertUnwindSafe(|| run(&mut frame))) {
            Ok(outcome) => (outcome, false),
            Err(panic) => (Err(panic_error(&*panic)), true),
        }
    }

    pub(super) fn keep_effects(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        self.has_effects = true;
        if let Some(spans) = &mut self.spans {
            spans.stamp(&mut self.state.outputs);
        }
        send_all(&mut self.state.outputs, &mut self.handles, sink)?;
        self.state.times.accept_record();
        self.state.caches.has_evicted = false;
        self.stores.iter_mut().for_each(|store| store.accept_record());
        Ok(())
    }

    pub(super) fn undo_effects(&mut self) {
        self.state.outputs.clear();
        self.state.dropped.clear();
        self.state.times.undo_record();
        self.state.caches.has_evicted = false;
        self.stores.iter_mut().for_each(|store| store.undo_record());
    }

    /// Undoes what has failed. Where changes of other records were forwarded with it, it may be one of them that is bad.
    pub(super) fn undo_failed(&mut self, error: Error) -> Error {
        let has_evicted = self.state.caches.has_evicted;
        self.undo_effects();
        if !has_evicted {
            return error;
        }
        let now = self.state.clock.now();
        self.state.caches.find_bad_record(error, now)
    }

    fn set_current(&mut self, partition: usize, time: Timestamp) {
        let record = self.group.queues[partition].records.front().expect("the head is the first");
        let current = &mut self.state.current;
        current.partition = Some(partition);
        current.offset = record.offset;
        current.timestamp = time;
        current.headers = record.headers.clone();
        current.raw = (!self.pending_nodes.is_empty()).then(|| record.clone());
        self.begin_spans(partition);
    }

    /// Closes the processors and gives the stores back.
    pub(crate) fn close(mut self) -> Vec<TaskStore> {
        for slot in &self.nodes {
            if let NodeKind::Processor(node) = &slot.node {
                let name = &slot.name;
                if catch_unwind(AssertUnwindSafe(|| node.borrow_mut().close())).is_err() {
                    tracing::error!(task = %self.state.task_id, node = %name, "close of a processor panicked");
                }
            }
        }
        let changelogs = std::mem::take(&mut self.changelogs);
        let watched = std::mem::take(&mut self.watched);
        let stores = std::mem::take(&mut self.stores);
        let join = |((store, changelog), watched): ((Box<dyn StateStore>, Changelog), Watched)| {
            TaskStore {
                store,
                changelog: changelog.topic,
                is_source: changelog.input.is_some(),
                position: changelog.position,
                watched,
            }
        };
        stores.into_iter().zip(changelogs).zip(watched).map(join).collect()
    }

    /// A store by name, for queries and tests.
    pub(crate) fn store_mut(&mut self, name: &str) -> Option<&mut Box<dyn StateStore>> {
        self.stores.iter_mut().find(|store| &**store.name() == name)
    }
}

fn panic_error(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    Error::bad_record(format!("panicked: {text}"))
}
