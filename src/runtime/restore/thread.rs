//! A restore thread: opens the stores of its tasks and replays their changelogs, several side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::replay::Replay;
use super::{Placements, ReplyTo, RestoreCommand, Restored, close_stores};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{CommittedOffset, Consumer, StartOffset};
use crate::runtime::shared::{RestoreProgress, Shared};
use crate::runtime::stream_thread::Command;
use crate::task::{TaskBuilder, TaskStore};
use crate::telemetry::{Placed, RestoreMetrics};
use crate::time::Timestamp;
use crate::topology::AutoOffsetReset;

/// Changelogs read at once; with a batch of 8 MiB and the consumer's 2 to 3 MiB each, a thread stays below 50 MiB.
const CHANGELOGS_MAX: usize = 4;
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Between two times that progress is told to metrics and to `tasks()`, and to the log.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

struct Restoring {
    folder: PathBuf,
    reply: ReplyTo,
    stores: Vec<TaskStore>,
    committed: Vec<Option<CommittedOffset>>,
    starts: Vec<StartOffset>,
    /// Changelogs that are not complete.
    replays: Vec<Replay>,
    started: Timestamp,
    /// Of that moment and of the last word in the log, on the monotonic clock.
    started_at: Duration,
    logged_at: Duration,
    eta: Placed,
    records: u64,
}

pub(in crate::runtime) struct RestoreThread {
    pub(in crate::runtime) builder: TaskBuilder,
    pub(in crate::runtime) consumer: Box<dyn Consumer>,
    pub(in crate::runtime) commands: Receiver<RestoreCommand>,
    pub(in crate::runtime) placements: Placements,
    pub(in crate::runtime) shared: Arc<Shared>,
    pub(in crate::runtime) request_timeout: Duration,
    pub(in crate::runtime) metrics: RestoreMetrics,
}

impl RestoreThread {
    pub(in crate::runtime) fn run(mut self) {
        let mut restoring: BTreeMap<TaskId, Restoring> = BTreeMap::new();
        let mut told_at = self.now();
        while self.serve_commands(&mut restoring) && !self.shared.is_poisoned() {
            let moved = self.advance(&mut restoring);
            if self.now().saturating_sub(told_at) >= TELL_INTERVAL {
                told_at = self.now();
                self.tell(&mut restoring);
            }
            if !moved && let Err(error) = self.consumer.wait(IDLE_WAIT) {
                self.shared.fail(error.context("restore consumer"));
            }
        }
        for (id, task) in restoring {
            self.close(id, task);
        }
    }

    fn now(&self) -> Duration {
        self.builder.settings.clock.monotonic()
    }

    /// Whether the thread goes on.
    fn serve_commands(&mut self, restoring: &mut BTreeMap<TaskId, Restoring>) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                RestoreCommand::Stop => return false,
                RestoreCommand::Cancel(task) => {
                    if let Some(gone) = restoring.remove(&task) {
                        self.close(task, gone);
                    }
                }
                RestoreCommand::Start { task, folder, reply } => {
                    match self.open(task, &folder, &reply) {
                        Ok(opened) => drop(restoring.insert(task, opened)),
                        Err(error) => {
                            self.placements.leave(task);
                            reply.send(Command::RestoreFailed(task, error));
                        }
                    }
                }
            }
        }
        true
    }

    fn open(&mut self, task: TaskId, folder: &Path, reply: &ReplyTo) -> Result<Restoring> {
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
        let stores = names.iter().map(|name| self.open_store(task, name, folder));
        let stores = stores.collect::<Result<Vec<TaskStore>>>()?;
        let now = self.now();
        let mut opened = Restoring {
            folder: folder.to_owned(),
            reply: reply.clone(),
            stores,
            committed,
            starts,
            replays: Vec::new(),
            started: self.builder.settings.clock.now(),
            started_at: now,
            logged_at: now,
            eta: self.metrics.eta(task),
            records: 0,
        };
        for index in 0..opened.stores.len() {
            self.enter(task, &opened.stores[index]);
            opened.replays.extend(self.replay(task, &opened, index));
        }
        Ok(opened)
    }

    fn open_store(&self, task: TaskId, name: &str, folder: &Path) -> Result<TaskStore> {
        match self.builder.open_store(name, folder) {
            Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                tracing::warn!(%task, store = %name, error = ?error, "store is damaged; wiped, restoring it whole");
                self.builder.wipe_store(name, folder)?;
                self.builder.open_store(name, folder)
            }
            opened => opened,
        }
    }

    /// What has to be replayed of a store's changelog, if it has one.
    fn replay(&self, task: TaskId, restoring: &Restoring, index: usize) -> Option<Replay> {
        let store = &restoring.stores[index];
        let topic = store.changelog.clone()?;
        let limit = self.limit(task, &restoring.committed, store);
        let partition = TopicPartition::new(topic, task.partition);
        let replay = Replay::new((task, index, store), partition, limit, &self.metrics);
        (!replay.is_complete).then_some(replay)
    }

    /// Where the changelog is an input topic, the committed offset: nothing from there on may be applied. 0: nothing is committed.
    fn limit(
        &self,
        task: TaskId,
        committed: &[Option<CommittedOffset>],
        store: &TaskStore,
    ) -> Option<i64> {
        let topic = store.changelog.as_ref().filter(|_| store.is_source)?;
        let sources = self.builder.source_partitions(task);
        let input = sources.iter().position(|partition| partition.topic == *topic);
        let committed = input.and_then(|input| committed[input].as_ref());
        Some(committed.map_or(0, |committed| committed.offset))
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

    /// Reads what has come of the changelogs whose turn it is; answers for tasks that are complete. Says whether anything had come.
    fn advance(&mut self, restoring: &mut BTreeMap<TaskId, Restoring>) -> bool {
        let (mut moved, mut finished) = (false, Vec::new());
        let open = restoring.values().flat_map(|task| &task.replays);
        let mut room = CHANGELOGS_MAX.saturating_sub(open.filter(|r| r.slot.is_some()).count());
        for (id, task) in restoring.iter_mut() {
            match self.advance_task(*id, task, &mut room) {
                Ok(progress) => {
                    moved |= progress;
                    if task.replays.is_empty() {
                        finished.push((*id, None));
                    }
                }
                Err(error) => finished.push((*id, Some(error))),
            }
        }
        moved |= !finished.is_empty();
        for (id, error) in finished {
            let task = restoring.remove(&id).expect("it was just advanced");
            match error {
                None => self.finish(id, task),
                Some(error) => {
                    let reply = task.reply.clone();
                    self.close(id, task);
                    reply.send(Command::RestoreFailed(id, error));
                }
            }
        }
        moved
    }

    fn advance_task(&mut self, id: TaskId, task: &mut Restoring, room: &mut usize) -> Result<bool> {
        let (mut moved, now) = (false, self.now());
        for at in (0..task.replays.len()).rev() {
            let replay = &mut task.replays[at];
            let store = &mut task.stores[replay.store];
            if replay.slot.is_none() {
                if *room == 0 {
                    continue;
                }
                *room -= 1;
                replay.open(&mut *self.consumer, store)?;
            }
            match replay.step(&mut *self.consumer, store, &self.metrics, now) {
                Ok(read) => {
                    moved |= read > 0;
                    task.records += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                    let mut damaged = task.replays.remove(at);
                    damaged.close(&mut *self.consumer)?;
                    self.start_over(id, task, damaged.store, &error)?;
                    (moved, *room) = (true, *room + 1);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(task = %id, error = ?error, "restoration goes on when the broker does");
                }
                Err(error) => return Err(error),
            }
            if let Some(end) = replay.end {
                self.shared.stores.note_end(id, store.store.name(), end);
            }
            if replay.is_complete {
                replay.close(&mut *self.consumer)?;
                task.replays.remove(at);
                *room += 1;
            }
        }
        Ok(moved)
    }

    /// The store stands outside its changelog's range, or is damaged: wipe it alone, and read the changelog from the beginning.
    fn start_over(
        &mut self,
        id: TaskId,
        task: &mut Restoring,
        index: usize,
        error: &Error,
    ) -> Result<()> {
        let name = task.stores[index].store.name().clone();
        tracing::warn!(task = %id, store = %name, error = ?error, "store does not fit its changelog; wiped, restoring it whole");
        let damaged = task.stores.remove(index);
        damaged.store.close()?;
        self.builder.wipe_store(&name, &task.folder)?;
        task.stores.insert(index, self.builder.open_store(&name, &task.folder)?);
        self.enter(id, &task.stores[index]);
        let replay = self.replay(id, task, index);
        task.replays.extend(replay);
        Ok(())
    }

    fn enter(&self, task: TaskId, store: &TaskStore) {
        self.shared.enter_store(task, store.store.name(), store.store.view());
    }

    /// Tells how far the tasks are.
    fn tell(&mut self, restoring: &mut BTreeMap<TaskId, Restoring>) {
        let now = self.now();
        for (id, task) in restoring {
            let left = task.replays.iter().map(|replay| replay.left(&task.stores[replay.store]));
            let Some(remaining) = left.sum::<Option<u64>>() else { continue };
            let pace = Pace { restored: task.records, took: now.saturating_sub(task.started_at) };
            let eta = pace.eta(remaining);
            let restored = task.records;
            self.shared.set_progress(*id, RestoreProgress { restored, remaining, eta });
            if let Some(eta) = eta {
                task.eta.set(eta.as_secs_f64());
            }
            if now.saturating_sub(task.logged_at) >= LOG_INTERVAL {
                task.logged_at = now;
                let percent = restored * 100 / (restored + remaining).max(1);
                tracing::info!(task = %id, restored, remaining, percent, eta_s = eta.map(|eta| eta.as_secs()), "restoring");
            }
        }
    }

    fn finish(&mut self, id: TaskId, task: Restoring) {
        let now = self.builder.settings.clock.now();
        let elapsed = now.since(task.started);
        tracing::info!(task = %id, records = task.records, ms = elapsed.as_millis(), "task restored");
        self.metrics.finished(elapsed);
        let done =
            RestoreProgress { restored: task.records, remaining: 0, eta: Some(Duration::ZERO) };
        self.shared.set_progress(id, done);
        let Restoring { stores, committed, starts, reply, .. } = task;
        self.placements.leave(id);
        reply.send(Command::Restored(Restored { task: id, stores, committed, starts }));
    }

    fn close(&mut self, id: TaskId, task: Restoring) {
        for mut replay in task.replays {
            if let Err(error) = replay.close(&mut *self.consumer) {
                tracing::warn!(error = ?error, "unassign of a changelog failed");
            }
        }
        close_stores(id, task.stores);
        self.placements.leave(id);
    }
}

/// How fast a task's records have come so far.
struct Pace {
    restored: u64,
    took: Duration,
}

impl Pace {
    /// How long the rest takes at this pace; `None` before the first record.
    fn eta(&self, remaining: u64) -> Option<Duration> {
        if self.restored == 0 {
            return None;
        }
        let took_ms = self.took.as_millis();
        let eta_ms = took_ms * u128::from(remaining) / u128::from(self.restored);
        Some(Duration::from_millis(u64::try_from(eta_ms).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_pace_says() {
        let pace = |restored| Pace { restored, took: Duration::from_secs(10) };
        assert_eq!(pace(0).eta(1_000), None);
        assert_eq!(pace(500).eta(1_500), Some(Duration::from_secs(30)));
        assert_eq!(pace(1).eta(u64::MAX), Some(Duration::from_millis(u64::MAX)));
        assert_eq!(pace(1).eta(0), Some(Duration::ZERO));
    }
}
