//! A task's part of a commit: changelog records, offsets, and what happens to its stores afterwards.
//!
//! Called by the stream thread, in this order: [`StreamTask::prepare_commit`], [`StreamTask::offsets_to_commit`], the broker's commit,
//! [`StreamTask::post_commit`]; or [`StreamTask::abort`] at any point before the last.

use std::sync::Arc;

use super::RecordSink;
use super::handover::check_sizes;
use super::offset_metadata;
use super::stream_task::StreamTask;
use crate::error::{ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{CommittedOffset, OutgoingRecord, TopicHandle};
use crate::processor::{CacheOwner, CurrentRecord, NodeIndex, NodeKind, TaskTimes};
use crate::record::Headers;
use crate::store::{ChangelogWriter, StateStore};
use crate::telemetry::CacheMetrics;
use crate::time::Timestamp;

impl StreamTask {
    /// Takes partition times, stream time and the operators' times from the committed offsets, before the processors are initialised.
    ///
    /// Source: `StreamTask.initializeTaskTimeAndProcessorMetadata`.
    pub(crate) fn go_on_from(&mut self, committed: &[Option<CommittedOffset>]) {
        let mut times = Vec::new();
        for (queue, committed) in self.group.queues.iter_mut().zip(committed) {
            let Some(committed) = committed else { continue };
            let metadata = offset_metadata::decode(&committed.metadata);
            queue.committed = (Some(committed.offset), metadata.partition_time);
            queue.partition_time = metadata.partition_time;
            times.extend(metadata.times);
        }
        self.state.stream_time = self.group.stream_time();
        self.state.times = TaskTimes::restored(times);
        self.tell_stream_time();
    }

    /// After the processors, which set the caches up, are initialised.
    pub(super) fn open_cache_metrics(&mut self) {
        let app = &self.state.application_id;
        let store = |owner: &CacheOwner| self.stores[owner.store].name();
        let metrics = |owner| CacheMetrics::new(app, store(owner));
        self.cache_metrics = self.state.caches.owners.iter().map(metrics).collect();
    }

    /// Whether anything has happened since the last commit.
    pub(crate) fn needs_commit(&self) -> bool {
        self.has_effects
    }

    /// Whether the input since the last commit is to be read again, after an abort.
    pub(crate) fn wants_input_again(&self) -> bool {
        self.state.caches.wants_input_again
    }

    pub(crate) fn commit_requested(&self) -> bool {
        self.state.commit_requested
    }

    /// Bytes of uncommitted store writes.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.stores.iter().map(|store| store.uncommitted_bytes()).sum()
    }

    /// Step 1 of a commit: forwards what record caches hold back, and sends every changed key to its changelog, once.
    ///
    /// # Errors
    /// `AbortTransaction` where a change that was held back is a bad record's; what is to be read again then is processed with none held back.
    pub(crate) fn prepare_commit(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        self.flush_caches(sink)?;
        let partition = self.state.task_id.partition;
        for (store, changelog) in self.stores.iter_mut().zip(&mut self.changelogs) {
            let topic = changelog.topic.as_ref().filter(|_| changelog.input.is_none());
            let Some(topic) = topic else { continue };
            let handle = match changelog.handle {
                Some(handle) => handle,
                None => *changelog.handle.insert(sink.topic(topic)?),
            };
            let mut writer = ChangelogSink { handle, partition, sink: &mut *sink };
            let count = store.write_changelog(&mut writer)?;
            changelog.unacknowledged += i64::try_from(count).unwrap_or(i64::MAX);
        }
        Ok(())
    }

    /// Forwards the changes of every record cache, each as a record of its own. What that changes in a cache further down is forwarded
    /// with it, since the caches come in the order of the nodes. Source: `ProcessorStateManager.flushCache`.
    fn flush_caches(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        for index in 0..self.state.caches.owners.len() {
            let owner = self.state.caches.owners[index];
            loop {
                let mut is_done = false;
                let (outcome, _) = self.guarded(|frame| {
                    is_done = !frame.flush_next(owner)?;
                    Ok(())
                });
                let outcome = outcome
                    .and_then(|()| check_sizes(&self.state.outputs, sink.record_bytes_max()));
                if let Err(error) = outcome {
                    self.undo_effects();
                    let now = self.state.clock.now();
                    return Err(self.state.caches.find_bad_record(error, now));
                }
                self.keep_effects(sink)?;
                if is_done {
                    break;
                }
            }
        }
        self.count_dropped();
        Ok(())
    }

    /// The offsets to commit: those that moved since the last commit; all that are known where an operator's times have, as in Java.
    pub(crate) fn offsets_to_commit(&self, into: &mut Vec<(TopicPartition, CommittedOffset)>) {
        let (times, have_moved) = (self.state.times.to_commit(), self.state.times.have_moved());
        for (queue, partition) in self.group.queues.iter().zip(&self.state.partitions) {
            let offset = queue.consumed.or(queue.committed.0);
            if let Some(offset) = offset.filter(|_| queue.is_dirty || have_moved) {
                let metadata =
                    offset_metadata::encode(queue.partition_time, &times, self.writer.as_deref());
                into.push((partition.clone(), CommittedOffset { offset, metadata }));
            }
        }
    }

    /// What the group has for each input partition, in the task's order, right after a commit.
    pub(crate) fn committed(&self) -> Vec<Option<CommittedOffset>> {
        let times = self.state.times.to_commit();
        let queues = self.group.queues.iter();
        queues
            .map(|queue| {
                let writer = self.writer.as_deref();
                let metadata = offset_metadata::encode(queue.committed.1, &times, writer);
                queue.committed.0.map(|offset| CommittedOffset { offset, metadata })
            })
            .collect()
    }

    /// Last step of a commit, after the broker has it: moves the store writes to disk, with the changelog position.
    ///
    /// `in_transaction`: the changelog also got a commit marker, if anything was written to it.
    /// `now` is the wall-clock time, for the latency of what has just become readable.
    pub(crate) fn post_commit(&mut self, in_transaction: bool, now: Timestamp) -> Result<()> {
        for time in self.latency_samples.drain(..) {
            self.metrics.latency(now.since(time));
        }
        for (store, changelog) in self.stores.iter_mut().zip(&mut self.changelogs) {
            if changelog.unacknowledged > 0 {
                changelog.position += changelog.unacknowledged + i64::from(in_transaction);
                changelog.unacknowledged = 0;
            }
            if let Some(offset) =
                changelog.input.and_then(|input| self.group.queues[input].consumed)
            {
                changelog.position = offset;
            }
            store.commit(changelog.topic.as_ref().map(|_| changelog.position))?;
            let expired = store.take_expired_writes();
            if expired > 0 {
                self.metrics.dropped(store.name(), "expired", expired);
            }
        }
        for (owner, metrics) in self.state.caches.owners.iter().zip(&self.cache_metrics) {
            if let Some(Some(cache)) = self.stores[owner.store].record_cache() {
                metrics.report(cache.take_figures(), cache.bytes());
            }
        }
        if let Some(spans) = &mut self.spans {
            spans.commit();
        }
        self.state.caches.committed(now);
        self.state.times.commit();
        self.state.punctuations.commit();
        self.group.committed();
        self.has_effects = false;
        self.state.commit_requested = false;
        for slot in &self.nodes {
            if let NodeKind::Processor(node) = &slot.node {
                node.borrow_mut().committed();
            }
        }
        Ok(())
    }

    /// Before the last commit of a task that is given up for the moment: every processor's `suspend`, with what it forwards and stores.
    ///
    /// # Errors
    /// What is not the processor's own fault; a failed `suspend` is undone and logged, and the task is suspended all the same.
    pub(crate) fn suspend(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        for index in 0..self.nodes.len() {
            if !matches!(self.nodes[index].node, NodeKind::Processor(_)) {
                continue;
            }
            let timestamp = self.state.clock.now();
            self.state.current =
                CurrentRecord { partition: None, offset: -1, timestamp, ..Default::default() };
            self.state.current_node = NodeIndex(index);
            let (outcome, panicked) = self.guarded(|frame| {
                let NodeKind::Processor(node) = &frame.nodes[index].node else { return Ok(()) };
                node.borrow_mut().suspend(frame, NodeIndex(index))
            });
            let outcome =
                outcome.and_then(|()| check_sizes(&self.state.outputs, sink.record_bytes_max()));
            match outcome {
                Ok(()) if self.has_new_effects() => self.keep_effects(sink)?,
                Ok(()) => self.stores.iter_mut().for_each(|store| store.accept_record()),
                Err(error) => {
                    let error = self.undo_failed(error);
                    if error.kind() != ErrorKind::BadRecord {
                        return Err(error);
                    }
                    let (task, node) = (self.state.task_id, &self.nodes[index].name);
                    tracing::error!(%task, node = %node, panicked, error = %error, "suspend of a processor failed and was undone");
                }
            }
        }
        Ok(())
    }

    /// Whether the call in hand has sent or stored anything. Without, there is nothing to commit.
    fn has_new_effects(&self) -> bool {
        !self.state.outputs.records.is_empty() || self.uncommitted_bytes() > 0
    }

    /// Puts another store, in the same state, in the place of each; `replace` also gets its changelog. Right after a commit only.
    pub(crate) fn replace_stores(
        &mut self,
        mut replace: impl FnMut(Box<dyn StateStore>, Option<&Arc<str>>) -> Result<Box<dyn StateStore>>,
    ) -> Result<()> {
        let stores = std::mem::take(&mut self.stores);
        let changelogs = self.changelogs.iter().map(|changelog| changelog.topic.as_ref());
        let replaced = stores.into_iter().zip(changelogs).map(|(mut store, topic)| {
            let cache = store.record_cache().and_then(Option::take);
            let mut store = replace(store, topic)?;
            if let Some(place) = store.record_cache() {
                *place = cache;
            }
            Ok(store)
        });
        self.stores = replaced.collect::<Result<_>>()?;
        self.tell_stream_time();
        Ok(())
    }

    /// Drops everything uncommitted: store writes, outputs, buffered records. The caller seeks back.
    pub(crate) fn abort(&mut self) {
        self.undo_effects();
        self.state.caches.wants_input_again = false;
        self.state.trace = None;
        if let Some(spans) = &mut self.spans {
            spans.abort();
        }
        self.state.times.abort();
        self.state.punctuations.abort();
        self.state.aborts += 1;
        self.stores.iter_mut().for_each(|store| store.abort());
        for changelog in &mut self.changelogs {
            changelog.unacknowledged = 0;
        }
        for slot in &self.nodes {
            if let NodeKind::Source(node) = &slot.node {
                node.borrow_mut().clear();
            }
        }
        self.group.clear();
        self.state.stream_time = self.group.stream_time();
        self.tell_stream_time();
        self.state.silent_since = None;
        self.attempt = 0;
        self.has_effects = false;
        self.state.commit_requested = false;
    }
}

struct ChangelogSink<'a> {
    handle: TopicHandle,
    partition: i32,
    sink: &'a mut dyn RecordSink,
}

impl ChangelogWriter for ChangelogSink<'_> {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        self.write_with_headers(key, value, timestamp, &Headers::default())
    }

    fn write_with_headers(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<()> {
        self.sink.send(OutgoingRecord {
            topic: self.handle,
            partition: Some(self.partition),
            timestamp,
            key: Some(key),
            value,
            headers,
        })
    }
}
