//! A stream thread: polls, processes, punctuates, commits. Owns its consumer, its producer and its tasks.
//!
//! Hot path. It is no member of the group: the control thread tells it, by command, which tasks it has. Nothing here waits for other threads
//! while there are records to process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::restore::{ReplyTo, Restored, Restorer};
use super::shared::{Shared, TaskState};
use super::sink::ProducerSink;
use super::state_dir::StateDir;
use crate::config::StreamsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{
    CommittedOffset, Consumer, GroupMetadata, OffsetCommitter, PartitionSlot, StartOffset,
};
use crate::task::{Step, StreamTask, TaskBuilder};
use crate::telemetry::{InputMetrics, Phase, ThreadMetrics, TopicLabels, Trigger};
use crate::time::{Clock, Timestamp};
use crate::topology::PartitionCounts;

/// Records that one task may process before the next one gets its turn.
const SLICE_RECORDS: usize = 500;
/// Records between two looks at the clock.
const LOOK_RECORDS: usize = 16;
/// The longest turn of all tasks together, before commits and commands are looked at again; `commit.interval.ms` if that is less.
const TURN_MAX: Duration = Duration::from_secs(1);
/// The longest sleep of an idle thread.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Back-off of a task whose record meets an error that goes away by itself.
pub(super) const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(50);
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Makes a producer for a stream thread.
pub(super) type NewSink = Box<dyn Fn() -> Result<ProducerSink> + Send>;

/// What a stream thread is told.
pub(super) enum Command {
    /// The thread has exactly these tasks now.
    Assign { tasks: Vec<TaskId>, group: GroupMetadata, committer: Arc<dyn OffsetCommitter> },
    /// Commit and suspend these of the thread's tasks, or all; then answer. The others go on.
    Revoke { tasks: Arc<Vec<TaskId>>, done: Sender<()> },
    /// All tasks belong to somebody else already: drop them without a commit; then answer.
    Lost { done: Sender<()> },
    /// The stores of a task are ready.
    Restored(Restored),
    /// They cannot be made ready.
    RestoreFailed(TaskId, Error),
    /// Commit, close everything, end.
    Stop,
}

/// What a stream thread tells the control thread.
pub(super) enum Report {
    /// It was fenced and has dropped its tasks: join the group anew.
    Migrated,
}

pub(super) struct Input {
    pub(super) slot: PartitionSlot,
    /// Where to read again after an abort.
    pub(super) start: StartOffset,
    /// What the group has; `None`: nothing committed.
    pub(super) committed: Option<i64>,
    pub(super) metrics: InputMetrics,
}

pub(super) struct Active {
    pub(super) task: StreamTask,
    pub(super) inputs: Vec<Input>,
    pub(super) suspended: bool,
    pub(super) retry_at: Option<Duration>,
    pub(super) retry_backoff: Duration,
    pub(super) retrying_since: Option<Duration>,
}

pub(super) struct StreamThread {
    pub(super) index: usize,
    pub(super) builder: TaskBuilder,
    pub(super) config: Arc<StreamsConfig>,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) sink: ProducerSink,
    /// Makes another producer of the same transactional id, after this one was fenced.
    pub(super) new_sink: NewSink,
    /// Of the membership that the tasks were assigned by.
    pub(super) committer: Option<Arc<dyn OffsetCommitter>>,
    pub(super) commands: Receiver<Command>,
    pub(super) reports: Sender<Report>,
    pub(super) restorer: Restorer,
    pub(super) reply: ReplyTo,
    pub(super) state_dir: Arc<StateDir>,
    pub(super) partition_counts: PartitionCounts,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: ThreadMetrics,
    pub(super) topic_labels: TopicLabels,
    /// Monotonic milliseconds of the last turn of the loop, for the watchdog.
    pub(super) alive_at_ms: Arc<AtomicU64>,
}

pub(super) struct Running {
    pub(super) thread: StreamThread,
    pub(super) tasks: BTreeMap<TaskId, Active>,
    /// Whose turn comes first, where the last turn was over before all had theirs.
    next_task: Option<TaskId>,
    pub(super) restoring: Vec<TaskId>,
    /// Revoked since the last assignment, ready or not.
    pub(super) revoked: Vec<TaskId>,
    pub(super) group: Option<GroupMetadata>,
    last_commit: Duration,
    /// When the first of a row of aborts without a commit was, on the monotonic clock.
    aborting_since: Option<Duration>,
    pub(super) last_report: Duration,
    pub(super) reports: u32,
    pub(super) stop: bool,
    /// All tasks were dropped: whoever took them over may have fenced the producer.
    pub(super) may_be_fenced: bool,
    offsets: Vec<(TopicPartition, CommittedOffset)>,
}

impl StreamThread {
    /// Runs until told to stop, or until an error that this thread cannot deal with.
    pub(super) fn run(self) -> Result<()> {
        let now = self.builder.settings.clock.monotonic();
        let mut running = Running {
            thread: self,
            tasks: BTreeMap::new(),
            next_task: None,
            restoring: Vec::new(),
            revoked: Vec::new(),
            group: None,
            last_commit: now,
            aborting_since: None,
            last_report: now,
            reports: 0,
            stop: false,
            may_be_fenced: false,
            offsets: Vec::new(),
        };
        let outcome = running.run();
        running.close(outcome.is_ok());
        outcome
    }
}

impl Running {
    fn run(&mut self) -> Result<()> {
        while !self.stop {
            self.serve_commands()?;
            if self.thread.shared.is_poisoned() {
                return Ok(());
            }
            if let Err(error) = self.turn() {
                self.react(error)?;
            }
        }
        let all: Vec<TaskId> = self.tasks.keys().copied().collect();
        match self.commit_and_suspend(Trigger::Close, &all) {
            Ok(()) => Ok(()),
            Err(error) => self.react(error),
        }
    }

    /// One turn: take what has arrived, process a slice of each task, commit if it is time, sleep if there is nothing to do.
    fn turn(&mut self) -> Result<()> {
        let start = self.now();
        let alive = u64::try_from(start.as_millis()).unwrap_or(u64::MAX);
        self.thread.alive_at_ms.store(alive, Ordering::Relaxed);
        let arrived = self.poll()?;
        let polled = self.now();
        let processed = self.process()?;
        self.thread.sink.poll()?;
        let now = self.now();
        let punctuations =
            self.tasks.values_mut().map(|active| active.task.take_punctuation_time());
        let punctuated: Duration = punctuations.sum();
        let spent = now.saturating_sub(polled).saturating_sub(punctuated);
        self.thread.metrics.phase(Phase::Poll, polled.saturating_sub(start), arrived > 0);
        self.thread.metrics.phase(Phase::Process, spent, processed > 0);
        self.thread.metrics.phase(Phase::Punctuate, punctuated, !punctuated.is_zero());
        if let Some(trigger) = self.commit_due(now, processed == 0) {
            self.commit(trigger)?;
        }
        self.report_when_due(now);
        if processed == 0 && arrived == 0 {
            let (timeout, start) = (self.sleep_time(), self.now());
            self.thread.consumer.wait(timeout)?;
            self.thread.metrics.phase(Phase::Idle, self.now().saturating_sub(start), false);
        }
        Ok(())
    }

    /// Moves what has arrived into the tasks' queues, as far as they have room.
    fn poll(&mut self) -> Result<usize> {
        let room = self.thread.config.buffered_records_per_partition;
        let bytes_max = self.thread.config.input_buffer_bytes_max;
        let inputs: usize = self.tasks.values().map(|active| active.inputs.len()).sum();
        let bytes_each = bytes_max / inputs.max(1);
        let mut arrived = 0;
        for active in self.tasks.values_mut().filter(|active| !active.suspended) {
            for index in 0..active.inputs.len() {
                let (records, bytes) = active.task.buffered(index);
                // Waiting for half the room to be free makes for larger batches.
                if records * 2 > room || bytes >= bytes_each {
                    continue;
                }
                let task = &mut active.task;
                let mut push = |record| task.push(index, record);
                let slot = active.inputs[index].slot;
                let drained = self.thread.consumer.drain(slot, room - records, &mut push)?;
                arrived += drained.records;
                if drained.records > 0 {
                    let added = active.task.buffered(index).1 - bytes;
                    active.inputs[index].metrics.consumed.add(drained.records, added);
                    active.task.note_arrival(index);
                }
                active.task.set_caught_up(index, drained.end_of_partition.is_some());
            }
        }
        Ok(arrived)
    }

    /// A slice of every task, in turn; cut short where it takes so long that a commit is due. The next turn then goes on where this one stopped.
    fn process(&mut self) -> Result<usize> {
        let (clock, now) = (self.thread.builder.settings.clock.clone(), self.now());
        let slice = Slice {
            wall: clock.now(),
            end: now + self.thread.config.commit_interval.min(TURN_MAX),
        };
        let first = self.next_task.take().unwrap_or(TaskId { subtopology: 0, partition: 0 });
        let mut processed = 0;
        for range in
            [(Bound::Included(first), Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(first))]
        {
            for (id, active) in self.tasks.range_mut(range) {
                if active.suspended || active.retry_at.is_some_and(|at| now < at) {
                    continue;
                }
                // Something of every turn, even with a commit interval of 0.
                if processed > 0 && clock.monotonic() >= slice.end {
                    self.next_task = Some(*id);
                    return Ok(processed);
                }
                let before = processed;
                let outcome =
                    run_slice(active, &slice, &*clock, &mut self.thread.sink, &mut processed);
                self.thread.metrics.processed(processed - before);
                match outcome {
                    Ok(()) => {
                        if active.retrying_since.take().is_some() {
                            self.thread.shared.set_task_state(active.task.id(), TaskState::Running);
                        }
                        active.retry_at = None;
                        active.retry_backoff = RETRY_BACKOFF_MIN;
                    }
                    Err(error) if error.kind() == ErrorKind::Retriable => {
                        let timeout = self.thread.config.task_timeout;
                        back_off(active, now, timeout, error, &self.thread.shared)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(processed)
    }

    /// What makes a commit due, if anything does.
    fn commit_due(&self, now: Duration, drained: bool) -> Option<Trigger> {
        let config = &self.thread.config;
        let since = now.saturating_sub(self.last_commit);
        let active = self.tasks.values().filter(|active| active.task.needs_commit());
        let (mut any, mut requested, mut bytes) = (false, false, 0);
        for active in active {
            any = true;
            requested |= active.task.commit_requested();
            bytes += active.task.uncommitted_bytes();
        }
        let may_be_early = since >= config.commit_interval_min;
        match () {
            () if !any => None,
            () if bytes > config.uncommitted_bytes_max => Some(Trigger::Buffer),
            () if since >= config.commit_interval => Some(Trigger::Interval),
            () if requested && may_be_early => Some(Trigger::Request),
            () if drained && may_be_early => Some(Trigger::Drained),
            () => None,
        }
    }

    /// Commits all tasks. ARCHITECTURE.md has the steps, and what recovery does after a crash between any two.
    pub(super) fn commit(&mut self, trigger: Trigger) -> Result<()> {
        if self.thread.shared.is_poisoned() {
            return Ok(());
        }
        let start = self.now();
        self.offsets.clear();
        let mut any = false;
        for active in self.tasks.values_mut().filter(|active| active.task.needs_commit()) {
            any = true;
            active.task.prepare_commit(&mut self.thread.sink)?;
            active.task.offsets_to_commit(&mut self.offsets);
        }
        if !any {
            return Ok(());
        }
        let (Some(group), Some(committer)) = (&self.group, &self.thread.committer) else {
            let text = "there is something to commit, but no membership";
            return Err(Error::new(ErrorKind::TaskMigrated, text));
        };
        self.thread.sink.commit(&self.offsets, group, &**committer, &self.thread.metrics)?;
        let in_transaction = self.thread.config.is_exactly_once();
        let wall = self.thread.builder.settings.clock.now();
        for active in self.tasks.values_mut().filter(|active| active.task.needs_commit()) {
            for (index, input) in active.inputs.iter_mut().enumerate() {
                if let Some(offset) = active.task.consumed(index) {
                    input.start = StartOffset::At(offset);
                    input.committed = Some(offset);
                }
            }
            active.task.post_commit(in_transaction, wall)?;
        }
        for (partition, committed) in &self.offsets {
            if self.thread.builder.is_repartition_topic(&partition.topic) {
                self.thread.shared.note_processed(partition, committed.offset);
            }
        }
        self.last_commit = self.now();
        self.aborting_since = None;
        self.thread.metrics.committed(trigger, self.last_commit.saturating_sub(start));
        Ok(())
    }

    /// What is done about an error, by its kind. STYLE §7.
    pub(super) fn react(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Retriable | ErrorKind::AbortTransaction => {
                tracing::warn!(error = ?error, "transaction aborted; processing goes on from the last commit");
                self.bound_aborts(&error)?;
                match self.rewind() {
                    Err(worse) if worse.kind() == ErrorKind::TaskMigrated => self.migrated(worse),
                    other => other,
                }
            }
            ErrorKind::TaskMigrated => self.migrated(error),
            ErrorKind::TaskCorrupted
            | ErrorKind::BadRecord
            | ErrorKind::Invalid
            | ErrorKind::Fatal => Err(error),
        }
    }

    /// Gives up after `task.timeout.ms` of aborts without a commit.
    pub(super) fn bound_aborts(&mut self, error: &Error) -> Result<()> {
        let (now, limit) = (self.now(), self.thread.config.task_timeout);
        let since = *self.aborting_since.get_or_insert(now);
        if now.saturating_sub(since) <= limit {
            return Ok(());
        }
        let text = format!("no commit for {} s (task.timeout.ms): {error}", limit.as_secs());
        Err(Error::fatal(text))
    }

    /// Aborts, drops what is uncommitted, and reads again from the last commit.
    fn rewind(&mut self) -> Result<()> {
        self.abort_or_replace()?;
        for active in self.tasks.values_mut() {
            active.task.abort();
            let partitions = active.task.partitions().to_vec();
            for (input, partition) in active.inputs.iter_mut().zip(partitions) {
                self.thread.consumer.unassign(input.slot)?;
                input.slot = self.thread.consumer.assign(&partition, input.start)?;
            }
        }
        // Whatever it was gets a moment to go away.
        self.thread.consumer.wait(RETRY_BACKOFF_MIN)
    }

    fn close(&mut self, clean: bool) {
        self.drop_tasks();
        if let Err(error) = self.thread.sink.abort(&self.thread.metrics) {
            tracing::warn!(error = ?error, "abort at the end failed");
        }
        tracing::debug!(thread = self.thread.index, clean, "stream thread ended");
    }

    /// Until the next commit, punctuation or retry is due.
    fn sleep_time(&self) -> Duration {
        let (now, wall) = (self.now(), self.thread.builder.settings.clock.now());
        let mut timeout = IDLE_WAIT;
        for active in self.tasks.values() {
            if active.task.needs_commit() {
                let since = now.saturating_sub(self.last_commit);
                let due = self.thread.config.commit_interval_min.saturating_sub(since);
                timeout = timeout.min(due);
            }
            if let Some(due) = active.task.next_wall_clock_punctuation() {
                timeout = timeout.min(due.since(wall));
            }
            if let Some(at) = active.retry_at {
                timeout = timeout.min(at.saturating_sub(now));
            }
        }
        timeout.max(Duration::from_millis(1))
    }

    fn now(&self) -> Duration {
        self.thread.builder.settings.clock.monotonic()
    }
}

/// What one task may do in a turn.
struct Slice {
    wall: Timestamp,
    /// On the monotonic clock.
    end: Duration,
}

/// Takes up to a slice of a task's records through it, and calls what is due on either clock.
fn run_slice(
    active: &mut Active,
    slice: &Slice,
    clock: &dyn Clock,
    sink: &mut ProducerSink,
    processed: &mut usize,
) -> Result<()> {
    for count in 1..=SLICE_RECORDS {
        let start = (count == 1).then(|| clock.monotonic());
        match active.task.process_next(slice.wall, sink)? {
            Step::Processed => *processed += 1,
            Step::Idle => break,
        }
        if let Some(start) = start {
            active.task.note_process(clock.monotonic().saturating_sub(start));
        }
        active.task.punctuate_stream_time(sink)?;
        if count % LOOK_RECORDS == 0 && clock.monotonic() >= slice.end {
            break;
        }
    }
    active.task.punctuate_wall_clock(sink)?;
    Ok(())
}

/// Lets a task rest after a retriable error; too long a time of them ends it.
fn back_off(
    active: &mut Active,
    now: Duration,
    timeout: Duration,
    error: Error,
    shared: &Shared,
) -> Result<()> {
    let task = active.task.id();
    let since = *active.retrying_since.get_or_insert(now);
    if now.saturating_sub(since) >= timeout {
        let text =
            format!("task {task} made no progress for {} s (task.timeout.ms)", timeout.as_secs());
        return Err(Error::fatal(text).with_source(error));
    }
    tracing::warn!(%task, error = ?error, backoff_ms = active.retry_backoff.as_millis(), "task waits and tries again");
    shared.set_task_state(task, TaskState::Retrying);
    active.task.note_backoff();
    active.retry_at = Some(now + active.retry_backoff);
    active.retry_backoff = (active.retry_backoff * 2).min(RETRY_BACKOFF_MAX);
    Ok(())
}
