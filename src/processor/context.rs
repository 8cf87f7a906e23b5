//! What a processor may do: forward, use its stores, schedule, look at the record's origin.

use std::marker::PhantomData;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::{Frame, NodeIndex, SharedStore};
use super::punctuator::{PunctuationType, PunctuatorId};
use super::times::{OperatorTimes, TimesHandle};
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::record::{Headers, Record, RecordMetadata};
use crate::store::{KeyValueStore, StateStore};
use crate::telemetry::SpanContext;
use crate::time::Timestamp;

/// A processor's key to one of its stores, looked up once in `init`.
pub struct StoreHandle<S> {
    index: usize,
    store: PhantomData<fn() -> S>,
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StoreHandle<S> {}

impl<S> StoreHandle<S> {
    /// Which of the task's stores it is.
    pub(super) fn index(self) -> usize {
        self.index
    }
}

/// A processor's key to one of its child nodes, looked up once in `init`.
#[derive(Debug, Clone, Copy)]
pub struct ChildHandle(NodeIndex);

/// A read-only view of a global store, looked up once in `init`; reading locks the store for the moment. Source: `GlobalStateStoreProvider`.
pub struct GlobalStoreHandle<S> {
    store: SharedStore,
    kind: PhantomData<fn() -> S>,
}

impl<S: StateStore> GlobalStoreHandle<S> {
    /// Runs `read` on the store.
    pub(crate) fn with<R>(&self, read: impl FnOnce(&mut S) -> R) -> R {
        let mut guard: MutexGuard<'_, _> =
            self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let store = guard.as_any_mut().downcast_mut::<S>();
        read(store.expect("the handle was made for this type"))
    }
}

impl<K: 'static, V: 'static> GlobalStoreHandle<KeyValueStore<K, V>> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`KeyValueStore::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        self.with(|store| store.get(key))
    }

    /// The value of `key` and its timestamp.
    ///
    /// # Errors
    /// As [`KeyValueStore::get_with_timestamp`].
    pub fn get_with_timestamp(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        self.with(|store| store.get_with_timestamp(key))
    }
}

/// The access of a running processor to its task. Source: `org.apache.kafka.streams.processor.api.ProcessorContext`.
pub struct ProcessorContext<'f, 'a, K, V> {
    pub(crate) frame: &'f mut Frame<'a>,
    pub(crate) node: NodeIndex,
    pub(crate) types: PhantomData<fn(K, V)>,
}

impl<'f, 'a, K, V> ProcessorContext<'f, 'a, K, V> {
    pub(crate) fn new(frame: &'f mut Frame<'a>, node: NodeIndex) -> Self {
        Self { frame, node, types: PhantomData }
    }

    /// The handle of a store that was connected to this processor.
    ///
    /// # Errors
    /// `Invalid` where the store is not connected or is of another type.
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Result<StoreHandle<S>> {
        self.frame.store_handle(self.node, name)
    }

    /// A read-only view of a global store, which is open to every processor.
    ///
    /// # Errors
    /// `Invalid` where there is no global store of this name and type.
    pub fn global_store<S: StateStore>(&self, name: &str) -> Result<GlobalStoreHandle<S>> {
        let known = self.frame.task.global_stores.iter().find(|(store, _)| &**store == name);
        let (_, store) =
            known.ok_or_else(|| Error::invalid(format!("there is no global store \"{name}\"")))?;
        if !store.lock().unwrap_or_else(PoisonError::into_inner).as_any().is::<S>() {
            return Err(Error::invalid(format!(
                "global store \"{name}\" is asked for as {}, which it is not",
                std::any::type_name::<S>()
            )));
        }
        Ok(GlobalStoreHandle { store: store.clone(), kind: PhantomData })
    }

    /// The store behind a handle. What is written belongs to the record in hand.
    pub fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        self.frame.store(handle)
    }

    /// Has [`Processor::punctuate`](super::Processor::punctuate) called every `interval`. On stream time the first call is aligned to the epoch and so comes with the first record; on
    /// wall-clock time it comes one interval from now.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> PunctuatorId {
        let first = match kind {
            PunctuationType::StreamTime => Timestamp::from_millis(0),
            PunctuationType::WallClockTime => self.frame.task.clock.now() + interval,
        };
        self.frame.task.punctuations.schedule(self.node, kind, interval, first)
    }

    /// As [`schedule`](Self::schedule), anchored: due at `start`, `start + interval` … (KIP-1146); a start in the past is moved to the next
    /// such time after now. Source: `StreamTask.getInitialSchedule`.
    pub fn schedule_from(
        &mut self,
        start: Timestamp,
        interval: Duration,
        kind: PunctuationType,
    ) -> PunctuatorId {
        let now = match kind {
            PunctuationType::StreamTime => self.frame.task.stream_time.unwrap_or(Timestamp::MIN),
            PunctuationType::WallClockTime => self.frame.task.clock.now(),
        };
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let behind = now.as_millis().saturating_sub(start.as_millis());
        let missed = if behind > 0 { behind / interval_ms + 1 } else { 0 };
        let first = Timestamp::from_millis(
            start.as_millis().saturating_add(missed.saturating_mul(interval_ms)),
        );
        self.frame.task.punctuations.schedule(self.node, kind, interval, first)
    }

    /// As [`schedule`](Self::schedule), at the times that `rule` gives: for calendars and cron expressions. It is asked for the first time after the
    /// present, and after each call again; times that were missed are one call, and with `None` the schedule ends. Each task has its own: what
    /// is to happen once in the whole application belongs to a task of one partition.
    ///
    /// Deviation: Kafka Streams has fixed intervals alone. There is no parser here, because a calendar needs a time zone that the application chooses;
    /// with the crate `croner`, `rule` is its `find_next_occurrence`.
    pub fn schedule_by(
        &mut self,
        rule: impl FnMut(Timestamp) -> Option<Timestamp> + Send + 'static,
        kind: PunctuationType,
    ) -> PunctuatorId {
        let now = match kind {
            PunctuationType::StreamTime => self.frame.task.stream_time.unwrap_or(Timestamp::MIN),
            PunctuationType::WallClockTime => self.frame.task.clock.now(),
        };
        self.frame.task.punctuations.schedule_by(self.node, kind, Box::new(rule), now)
    }

    /// Ends a schedule.
    pub fn cancel(&mut self, punctuator: PunctuatorId) {
        self.frame.task.punctuations.cancel(punctuator);
    }

    /// The task this processor belongs to.
    pub fn task_id(&self) -> TaskId {
        self.frame.task.task_id
    }

    /// The application's id.
    pub fn application_id(&self) -> &Arc<str> {
        &self.frame.task.application_id
    }

    /// Where the record in hand came from; `None` in a punctuation.
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        let current = &self.frame.task.current;
        let source = &self.frame.task.partitions[current.partition?];
        Some(RecordMetadata {
            topic: source.topic.clone(),
            partition: source.partition,
            offset: current.offset,
        })
    }

    /// The headers of the record in hand.
    pub fn headers(&self) -> &Headers {
        &self.frame.task.current.headers
    }

    /// Where the record in hand stands in a trace; `None` in a punctuation, without a trace, and where traces are off. For what is kept in a store and
    /// written later: [`SpanContext::put`] it into the headers of what is forwarded then. What is forwarded now needs nothing.
    pub fn trace_context(&self) -> Option<SpanContext> {
        self.frame.task.trace
    }

    /// The highest timestamp that the task has seen; `None` before the first record.
    pub fn current_stream_time(&self) -> Option<Timestamp> {
        self.frame.task.stream_time
    }

    /// Wall-clock time.
    pub fn current_system_time(&self) -> Timestamp {
        self.frame.task.clock.now()
    }

    /// Asks for a commit soon, rather than at the end of the commit interval.
    pub fn commit(&mut self) {
        self.frame.task.commit_requested = true;
    }

    /// The handle of this operator's times.
    pub(crate) fn own_times(&mut self) -> TimesHandle {
        let frame = &mut *self.frame;
        frame.task.times.handle(&frame.nodes[self.node.0].name)
    }

    /// The handle of the times called `name`, which operators of a task may share.
    pub(crate) fn times(&mut self, name: &str) -> TimesHandle {
        self.frame.task.times.handle(name)
    }

    /// Has it committed with the offsets, under Java's name, up to when the closed windows of `store` have been sent.
    ///
    /// Source: `InternalProcessorContext.addProcessorMetadataKeyValue`.
    pub(crate) fn keep_sent(&mut self, times: TimesHandle, store: &Arc<str>) {
        self.frame.task.times.keep_sent(times, store);
    }

    /// The times behind a handle; what is changed belongs to the record in hand.
    pub(crate) fn operator_times(&mut self, handle: TimesHandle) -> &mut OperatorTimes {
        self.frame.task.times.get_mut(handle)
    }

    /// The shortest wall-clock time between two searches for results of closed windows.
    pub(crate) fn emit_interval(&self) -> Duration {
        self.frame.task.emit_interval
    }

    /// How long input has to be silent before time goes on by the wall clock.
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.frame.task.idle_timeout
    }

    /// Since when, by the wall clock, the task has had nothing left to process and nothing to wait for.
    pub(crate) fn silent_since(&self) -> Option<Timestamp> {
        self.frame.task.silent_since
    }

    /// Counts the record in hand as dropped, for a reason out of a closed set.
    pub(crate) fn drop_record(&mut self, reason: &'static str) {
        self.frame.task.dropped.push((self.node, reason));
    }

    /// The handle of a child node by name, for [`forward_to`](Self::forward_to).
    ///
    /// # Errors
    /// `Invalid` where no child has this name.
    pub fn child(&self, name: &str) -> Result<ChildHandle> {
        let nodes = self.frame.nodes;
        let slot = &nodes[self.node.0];
        let child = slot.children.iter().find(|child| &*nodes[child.0].name == name);
        child.map(|child| ChildHandle(*child)).ok_or_else(|| {
            Error::invalid(format!("node \"{}\" has no child named \"{name}\"", slot.name))
        })
    }
}

impl Frame<'_> {
    /// Looks a connected store up, and checks its type.
    pub(crate) fn store_handle<S: StateStore>(
        &self,
        node: NodeIndex,
        name: &str,
    ) -> Result<StoreHandle<S>> {
        let connected = &self.task.node_stores[node.0];
        let node = &self.nodes[node.0].name;
        let index = connected
            .iter()
            .find(|store| &***store == name)
            .and_then(|store| self.task.store_names.iter().position(|known| known == store))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "processor \"{node}\" asks for store \"{name}\", but is connected to {connected:?}; name it where the processor is added"
                ))
            })?;
        if !self.stores[index].as_any().is::<S>() {
            return Err(Error::invalid(format!(
                "processor \"{node}\" asks for store \"{name}\" as {}, which it is not",
                std::any::type_name::<S>()
            )));
        }
        Ok(StoreHandle { index, store: PhantomData })
    }

    /// The store behind a handle; what is written carries the timestamp of the record in hand to the changelog.
    pub(crate) fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        let store = &mut self.stores[handle.index];
        store.set_record_timestamp(self.task.current.timestamp);
        let store = store.as_any_mut().downcast_mut::<S>();
        store.expect("store_handle checked the type when it made the handle")
    }
}

impl<K: Clone + 'static, V: Clone + 'static> ProcessorContext<'_, '_, K, V> {
    /// Gives `record` to every child node; returns when all of them, and all below, are done with it.
    pub fn forward(&mut self, record: Record<K, V>) -> Result<()> {
        self.frame.forward(self.node, record)
    }

    /// Gives `record` to one child node.
    pub fn forward_to(&mut self, child: ChildHandle, record: Record<K, V>) -> Result<()> {
        self.frame.deliver(child.0, record)
    }
}
