//! Brings stores up to their changelogs' ends, off the stream threads.
//!
//! One thread a process, one consumer: partitions of all restoring tasks are read side by side, and ready tasks go on
//! meanwhile. For each task, in this order: committed offsets (once no open transaction can change them), stores opened, changelogs
//! replayed from where the store stands to the log's end. The end is the high watermark, not the last stable offset: a
//! transaction that is decided but whose markers are still on their way would else be missed. Where an input topic is the changelog, the
//! end is the committed offset: what comes after it will be processed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::shared::Shared;
use super::stream_thread::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{CommittedOffset, Consumer, PartitionSlot, StartOffset};
use crate::record::RawRecord;
use crate::store::{ChangelogRecord, StateStore};
use crate::task::{TaskBuilder, TaskStore};
use crate::telemetry::{Placed, RestoreMetrics};
use crate::time::Timestamp;
use crate::topology::AutoOffsetReset;

/// Records applied to a store at once.
const BATCH_RECORDS: usize = 5_000;
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// What the restore thread is told.
pub(super) enum RestoreCommand {
    /// Open and restore the stores of a task; the answer goes to `reply`.
    Start {
        task: TaskId,
        folder: PathBuf,
        reply: ReplyTo,
    },
    /// The task has gone elsewhere: close what is open of it, and answer nothing.
    Cancel(TaskId),
    Stop,
}

/// The stream thread that waits for a task.
#[derive(Clone)]
pub(super) struct ReplyTo {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl ReplyTo {
    fn send(&self, command: Command) {
        // A thread that is gone needs no answer.
        let _ = self.commands.send(command);
        (self.wake)();
    }
}

/// A task that is ready: its stores, and where its inputs go on.
pub(super) struct Restored {
    pub(super) task: TaskId,
    pub(super) stores: Vec<TaskStore>,
    /// What is committed of each input partition; `None`: nothing committed.
    pub(super) committed: Vec<Option<CommittedOffset>>,
    /// Where to read each input partition from.
    pub(super) starts: Vec<StartOffset>,
}

struct Restoring {
    task: TaskId,
    folder: PathBuf,
    reply: ReplyTo,
    stores: Vec<TaskStore>,
    committed: Vec<Option<CommittedOffset>>,
    starts: Vec<StartOffset>,
    /// Changelogs still being read: index of the store, the consumer's slot, and the gauge of what is left.
    open: Vec<(usize, PartitionSlot, Placed)>,
    started: Timestamp,
    records: u64,
}

/// What was read of a changelog at once.
struct Batch {
    records: usize,
    bytes: usize,
    /// The end was reached.
    complete: bool,
}

pub(super) struct RestoreThread {
    pub(super) builder: TaskBuilder,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) commands: Receiver<RestoreCommand>,
    pub(super) shared: Arc<Shared>,
    pub(super) request_timeout: Duration,
    pub(super) metrics: RestoreMetrics,
}

impl RestoreThread {
    pub(super) fn run(mut self) {
        let mut restoring: BTreeMap<TaskId, Restoring> = BTreeMap::new();
        loop {
            let command = if restoring.is_empty() {
                self.shared.receive(&self.commands, IDLE_WAIT)
            } else {
                self.commands.try_recv().ok()
            };
            match command {
                Some(RestoreCommand::Stop) => break,
                Some(RestoreCommand::Cancel(task)) => {
                    if let Some(gone) = restoring.remove(&task) {
                        self.close(gone);
                    }
                }
                Some(RestoreCommand::Start { task, folder, reply }) => {
                    self.start(task, folder, reply, &mut restoring);
                }
                None if self.shared.is_poisoned() => break,
                None => {}
            }
            if !restoring.is_empty() {
                self.advance(&mut restoring);
            }
        }
        for task in restoring.into_values() {
            self.close(task);
        }
    }

    fn start(
        &mut self,
        task: TaskId,
        folder: PathBuf,
        reply: ReplyTo,
        restoring: &mut BTreeMap<TaskId, Restoring>,
    ) {
        match self.open(task, &folder, &reply) {
            Ok(opened) => {
                restoring.insert(task, opened);
            }
            Err(error) => reply.send(Command::RestoreFailed(task, error)),
        }
    }

    fn open(
        &mut self,
        task: TaskId,
        folder: &std::path::Path,
        reply: &ReplyTo,
    ) -> Result<Restoring> {
        let sources = self.builder.source_partitions(task);
        let committed = self
            .consumer
            .committed(&sources, self.request_timeout)
            .map_err(|e| e.context(format!("committed offsets of task {task}")))?;
        let inputs = sources.iter().zip(&committed);
        let starts = inputs
            .map(|(partition, committed)| self.start_of(partition, committed.as_ref()))
            .collect::<Result<_>>()?;
        let names = self.builder.store_names(task);
        let mut stores = Vec::with_capacity(names.len());
        for name in &names {
            let store = match self.builder.open_store(name, folder) {
                Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                    tracing::warn!(%task, store = %name, error = ?error, "store is damaged; wiped, restoring it whole");
                    self.builder.wipe_store(name, folder)?;
                    self.builder.open_store(name, folder)?
                }
                opened => opened?,
            };
            stores.push(store);
        }
        let mut opened = Restoring {
            task,
            folder: folder.to_owned(),
            reply: reply.clone(),
            stores,
            committed,
            starts,
            open: Vec::new(),
            started: self.builder.settings.clock.now(),
            records: 0,
        };
        for index in 0..opened.stores.len() {
            self.enter(&opened, index);
            if opened.stores[index].changelog.is_some() && !self.is_complete(&opened, index) {
                self.read_changelog(&mut opened, index)?;
            }
        }
        Ok(opened)
    }

    /// Where an input partition is read from: where the group goes on, or what the source's policy says where nothing is committed. Source:
    /// `StreamThread.resetOffsets`.
    fn start_of(
        &mut self,
        partition: &TopicPartition,
        committed: Option<&CommittedOffset>,
    ) -> Result<StartOffset> {
        if let Some(committed) = committed {
            return Ok(StartOffset::At(committed.offset));
        }
        let settings = &self.builder.settings;
        let (topology, timeout) = (&self.builder.topology, self.request_timeout);
        // A position is fixed once: after an abort it is read from there again.
        match topology.offset_reset_of(&partition.topic, &settings.application_id) {
            AutoOffsetReset::Earliest => Ok(StartOffset::Beginning),
            AutoOffsetReset::Latest => {
                Ok(StartOffset::At(self.consumer.offsets(partition, timeout)?.1))
            }
            AutoOffsetReset::ByDuration(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                let since = settings.clock.now().as_millis().saturating_sub(age_ms).max(0);
                let since = Timestamp::from_millis(since);
                Ok(StartOffset::At(self.consumer.offset_for_time(partition, since, timeout)?))
            }
            AutoOffsetReset::None => Err(Error::invalid(format!(
                "found no committed offset of {partition}, wanted one, since its source has the offset reset policy None; commit an offset for group \"{}\", or choose another policy",
                settings.application_id
            ))),
        }
    }

    /// Where the changelog is an input topic, the committed offset: nothing from there on may be applied. 0: nothing is committed.
    fn limit(&self, restoring: &Restoring, index: usize) -> Option<i64> {
        let store = &restoring.stores[index];
        let topic = store.changelog.as_ref().filter(|_| store.is_source)?;
        let sources = self.builder.source_partitions(restoring.task);
        let input = sources.iter().position(|partition| partition.topic == *topic);
        let committed = input.and_then(|input| restoring.committed[input].as_ref());
        Some(committed.map_or(0, |committed| committed.offset))
    }

    /// Whether nothing is left to be read of an input topic.
    fn is_complete(&self, restoring: &Restoring, index: usize) -> bool {
        let position = restoring.stores[index].store.position().unwrap_or(0);
        self.limit(restoring, index).is_some_and(|limit| limit <= position)
    }

    fn read_changelog(&mut self, restoring: &mut Restoring, index: usize) -> Result<()> {
        let store = &restoring.stores[index];
        let topic = store.changelog.clone().expect("only logged stores are read");
        let start = match store.store.position() {
            Some(position) => StartOffset::At(position),
            None => StartOffset::Beginning,
        };
        tracing::info!(task = %restoring.task, store = %store.store.name(), topic = %topic, from = ?start, "restoring");
        let partition = TopicPartition::new(topic, restoring.task.partition);
        let slot = self.consumer.assign(&partition, start)?;
        let remaining = self.metrics.remaining(restoring.task, store.store.name());
        restoring.open.push((index, slot, remaining));
        Ok(())
    }

    /// Reads a batch of every open changelog; answers for tasks that are complete.
    fn advance(&mut self, restoring: &mut BTreeMap<TaskId, Restoring>) {
        let mut moved = false;
        let mut finished = Vec::new();
        for (id, task) in restoring.iter_mut() {
            match self.advance_task(task) {
                Ok(progress) => {
                    moved |= progress;
                    if task.open.is_empty() {
                        finished.push((*id, None));
                    }
                }
                Err(error) => finished.push((*id, Some(error))),
            }
        }
        for (id, error) in finished {
            let task = restoring.remove(&id).expect("it was just advanced");
            match error {
                None => self.finish(task),
                Some(error) => {
                    let reply = task.reply.clone();
                    self.close(task);
                    reply.send(Command::RestoreFailed(id, error));
                }
            }
        }
        if !moved
            && !restoring.is_empty()
            && let Err(error) = self.consumer.wait(IDLE_WAIT)
        {
            self.shared.fail(error.context("restore consumer"));
        }
    }

    fn advance_task(&mut self, task: &mut Restoring) -> Result<bool> {
        let mut moved = false;
        let mut position = 0;
        while position < task.open.len() {
            let (index, slot, _) = task.open[position];
            match self.read_batch(task, index, slot) {
                Ok(Batch { records, bytes, complete }) => {
                    moved |= records > 0;
                    task.records += records as u64;
                    let name = task.stores[index].store.name();
                    self.metrics.restored(name, records as u64, bytes as u64);
                    if let Some(left) = self.remaining(task, index) {
                        task.open[position].2.set_count(left);
                    }
                    if complete {
                        self.consumer.unassign(slot)?;
                        task.open.swap_remove(position);
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                    self.consumer.unassign(slot)?;
                    task.open.swap_remove(position);
                    self.start_over(task, index, &error)?;
                    moved = true;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(task = %task.task, error = ?error, "restoration goes on when the broker does");
                }
                Err(error) => return Err(error),
            }
            position += 1;
        }
        Ok(moved)
    }

    /// The store stands outside its changelog's range, or is damaged: wipe it alone, and read the changelog from the beginning.
    fn start_over(&mut self, task: &mut Restoring, index: usize, error: &Error) -> Result<()> {
        let name = task.stores[index].store.name().clone();
        tracing::warn!(task = %task.task, store = %name, error = ?error, "store does not fit its changelog; wiped, restoring it whole");
        let damaged = task.stores.remove(index);
        damaged.store.close()?;
        self.builder.wipe_store(&name, &task.folder)?;
        task.stores.insert(index, self.builder.open_store(&name, &task.folder)?);
        self.enter(task, index);
        self.read_changelog(task, index)
    }

    fn enter(&self, task: &Restoring, index: usize) {
        let store = &task.stores[index].store;
        self.shared.enter_store(task.task, store.name(), store.view());
    }

    /// Records between where a store stands and where its restoration ends, as far as the end is known.
    fn remaining(&self, task: &Restoring, index: usize) -> Option<u64> {
        let store = &task.stores[index];
        let partition = TopicPartition::new(store.changelog.clone()?, task.task.partition);
        let end = self.limit(task, index).or(self.consumer.cached_end_offset(&partition))?;
        Some(u64::try_from(end - store.position).unwrap_or(0))
    }

    /// Applies up to a batch.
    fn read_batch(
        &mut self,
        task: &mut Restoring,
        index: usize,
        slot: PartitionSlot,
    ) -> Result<Batch> {
        let mut records = Vec::new();
        let mut next = None;
        let limit = self.limit(task, index);
        let mut take = |raw: RawRecord| {
            next = Some(raw.offset + 1);
            if limit.is_some_and(|limit| raw.offset >= limit) {
                return;
            }
            if let Some(key) = raw.key.clone() {
                let RawRecord { value, timestamp, headers, .. } = raw;
                records.push(ChangelogRecord { key, value, timestamp, headers });
            }
        };
        let drained = self.consumer.drain(slot, BATCH_RECORDS, &mut take)?;
        let store = &mut task.stores[index];
        let end = match limit {
            None => self.log_end(store, task.task, drained.end_of_partition),
            Some(limit) => {
                let reached = drained.end_of_partition.is_some() || next >= Some(limit);
                reached.then_some(limit)
            }
        };
        // At the end the position passes the markers too, which are never handed over.
        let position = end.or(next);
        if let Some(position) = position {
            store.store.restore(&records, position)?;
            store.position = position;
        }
        let size = |record: &ChangelogRecord| {
            record.key.len() + record.value.as_ref().map_or(0, |value| value.len())
        };
        let bytes = records.iter().map(size).sum();
        Ok(Batch { records: drained.records, bytes, complete: end.is_some() })
    }

    /// The end that was reached, if it is the whole log's and not only the stable part's.
    fn log_end(&self, store: &TaskStore, task: TaskId, reached: Option<i64>) -> Option<i64> {
        let topic = store.changelog.clone()?;
        let end = self.consumer.cached_end_offset(&TopicPartition::new(topic, task.partition));
        if let Some(end) = end {
            self.shared.stores.note_end(task, store.store.name(), end);
        }
        reached.filter(|reached| end.is_none_or(|end| end <= *reached))
    }

    fn finish(&mut self, task: Restoring) {
        let now = self.builder.settings.clock.now();
        let elapsed = now.since(task.started);
        tracing::info!(task = %task.task, records = task.records, ms = elapsed.as_millis(), "task restored");
        self.metrics.finished(elapsed);
        let Restoring { task, stores, committed, starts, reply, .. } = task;
        reply.send(Command::Restored(Restored { task, stores, committed, starts }));
    }

    fn close(&mut self, task: Restoring) {
        for (_, slot, _) in task.open {
            if let Err(error) = self.consumer.unassign(slot) {
                tracing::warn!(error = ?error, "unassign of a changelog failed");
            }
        }
        close_stores(task.task, task.stores);
    }
}

/// Closes stores; what cannot be closed is logged, and restored the next time.
pub(super) fn close_stores(task: TaskId, stores: Vec<TaskStore>) {
    for store in stores {
        let name = store.store.name().clone();
        if let Err(error) = StateStore::close(store.store) {
            tracing::warn!(%task, store = %name, error = ?error, "store did not close cleanly");
        }
    }
}
