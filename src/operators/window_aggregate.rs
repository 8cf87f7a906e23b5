//! Aggregations per key and window: tumbling, hopping, unlimited and custom windows.

use std::sync::Arc;

use super::Change;
use super::cached::own_cache;
use super::idle::IdleTime;
use super::windows::{EmitStrategy, Windows, millis};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, PunctuatorId, StoreHandle};
use crate::record::{Headers, Record};
use crate::store::{StateStore as _, WindowStore};
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

/// Where an aggregate begins and how it goes on. Source: `Initializer`, `Aggregator`.
///
/// Values may be null here, as in Java: only sliding windows drop such records.
pub(crate) trait Aggregation<K, V, VA>: Send + Sync + 'static {
    /// The aggregate of no record; `None` in reductions, whose first value is the aggregate.
    fn init(&self) -> Option<VA>;
    /// The aggregate with one more record; `None` deletes it.
    fn add(&self, key: &K, value: V, aggregate: Option<VA>) -> Option<VA>;
}

/// An [`Aggregation`] out of two functions.
pub(crate) struct Steps<I, A> {
    pub(crate) init: I,
    pub(crate) add: A,
}

impl<K, V, VA, I, A> Aggregation<K, V, VA> for Steps<I, A>
where
    I: Fn() -> Option<VA> + Send + Sync + 'static,
    A: Fn(&K, V, Option<VA>) -> Option<VA> + Send + Sync + 'static,
{
    fn init(&self) -> Option<VA> {
        (self.init)()
    }

    fn add(&self, key: &K, value: V, aggregate: Option<VA>) -> Option<VA> {
        (self.add)(key, value, aggregate)
    }
}

/// How the results of a windowed aggregation are sent on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emit {
    pub(crate) strategy: EmitStrategy,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
    /// Which of the operators that share the store this is.
    pub(crate) operator: usize,
}

impl Emit {
    pub(super) fn is_final(self) -> bool {
        self.strategy == EmitStrategy::OnWindowClose
    }
}

/// Results of windows that have just closed.
pub(super) type Closed<K, VA> = Vec<(Windowed<K>, VA, Timestamp)>;

/// Sends final results on, under the headers of the record that closed their windows.
pub(super) fn forward_closed<K, VA>(
    closed: &mut Closed<K, VA>,
    headers: &Headers,
    context: &mut ProcessorContext<'_, '_, Windowed<K>, Change<VA>>,
) -> Result<()>
where
    K: Clone + Send + 'static,
    VA: Clone + Send + 'static,
{
    for (key, new, timestamp) in closed.drain(..) {
        let (value, headers) = (Change::latest(Some(new), None), headers.clone());
        context.forward(Record { key, value, timestamp, headers })?;
    }
    Ok(())
}

/// Writes a window's change and forwards it, unless results are final ones: now, or when the record cache lets go of it. `at` is the
/// timestamp of the record that made it.
pub(super) fn put_and_forward<K, VA>(
    handle: StoreHandle<WindowStore<K, VA>>,
    emit: Emit,
    record: Record<Windowed<K>, Change<VA>>,
    at: Timestamp,
    context: &mut ProcessorContext<'_, '_, Windowed<K>, Change<VA>>,
) -> Result<()>
where
    K: Clone + Send + 'static,
    VA: Clone + Send + 'static,
{
    let Record { key: Windowed { key, window }, value: change, timestamp, .. } = &record;
    if context.frame.is_caching(handle) {
        let origin = context.frame.origin(at, record.headers.clone());
        let store = context.store(handle);
        store.put_cached(key, change.new.as_ref(), window.start, *timestamp, origin)?;
        return context.frame.evict(handle);
    }
    let store = context.store(handle);
    match &change.new {
        Some(new) => store.put_with_timestamp(key, new, window.start, *timestamp)?,
        None => {
            store.set_record_timestamp(*timestamp);
            store.delete(key, window.start)?;
        }
    }
    if emit.is_final() { Ok(()) } else { context.forward(record) }
}

/// `count`, `reduce` and `aggregate` of a stream in windows. Source: `KStreamWindowAggregate`.
///
/// A record later than a window's end and grace period is dropped for that window alone. With final results, those of windows
/// that a record closes follow right after the record's own updates. Deviation: none of them is lost, however far stream time
/// leaps; in Java's stores, whose retention is counted from the record just put, they may be invisible by then.
pub(crate) struct WindowAggregate<K: Nullable, VA, A> {
    store: Arc<str>,
    windows: Arc<dyn Windows>,
    aggregation: Arc<A>,
    emit: Emit,
    handle: Option<StoreHandle<WindowStore<K::NonNull, VA>>>,
    size_ms: i64,
    grace_ms: i64,
    matched: Vec<Window>,
    closed: Closed<K::NonNull, VA>,
    idle: IdleTime,
}

impl<K: Nullable, VA, A> WindowAggregate<K, VA, A> {
    pub(crate) fn new(
        store: Arc<str>,
        windows: Arc<dyn Windows>,
        aggregation: Arc<A>,
        emit: Emit,
    ) -> Self {
        let (size_ms, grace_ms) = (millis(windows.size()), millis(windows.grace_period()));
        Self {
            store,
            windows,
            aggregation,
            emit,
            handle: None,
            size_ms,
            grace_ms,
            matched: Vec::new(),
            closed: Vec::new(),
            idle: IdleTime::default(),
        }
    }

    fn handle(&self) -> StoreHandle<WindowStore<K::NonNull, VA>> {
        self.handle.expect("init looked the store up")
    }
}

impl<K, VA, A> WindowAggregate<K, VA, A>
where
    K: Nullable,
    VA: Clone + Send + 'static,
{
    fn update<V>(
        &self,
        window: Window,
        record: Record<K::NonNull, V>,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()>
    where
        A: Aggregation<K::NonNull, V, VA>,
    {
        let Record { key, value, timestamp: at, headers } = record;
        let store = context.store(self.handle());
        let (old, timestamp) = match store.fetch_with_timestamp(&key, window.start)? {
            Some((old, since)) => (Some(old), at.max(since)),
            None => (self.aggregation.init(), at),
        };
        // As in Java, the old value of a new window is the initial one.
        let sent_old = if self.emit.send_old { old.clone() } else { None };
        let new = self.aggregation.add(&key, value, old);
        let (key, value) = (Windowed::new(key, window), Change::latest(new, sent_old));
        let record = Record { key, value, timestamp, headers };
        put_and_forward(self.handle(), self.emit, record, at, context)
    }

    /// Forwards what closed when stream time moved from `before` to `now`.
    fn forward_final(
        &mut self,
        before: Option<Timestamp>,
        now: Timestamp,
        headers: &Headers,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let last = now.as_millis().saturating_sub(self.grace_ms).saturating_sub(self.size_ms);
        let first = before.map_or(0, |before| {
            let closed = before.as_millis().saturating_sub(self.grace_ms);
            closed.saturating_sub(self.size_ms).saturating_add(1).max(0)
        });
        if last < first || !self.has_window_start(first, last) {
            return Ok(());
        }
        let (first, last) = (Timestamp::from_millis(first), Timestamp::from_millis(last));
        let store = context.store(self.handle());
        for entry in store.fetch_closed(first, last).with_timestamps() {
            self.closed.push(entry?);
        }
        forward_closed(&mut self.closed, headers, context)
    }

    /// Whether a window can begin between two times; spares most records a look into the store.
    fn has_window_start(&mut self, first: i64, last: i64) -> bool {
        if last - first >= self.size_ms {
            return true;
        }
        self.matched.clear();
        self.windows.windows_for(Timestamp::from_millis(last), &mut self.matched);
        self.matched.last().is_some_and(|window| window.start.as_millis() >= first)
    }
}

impl<K, V, VA, A> Processor<K, V, Windowed<K::NonNull>, Change<VA>> for WindowAggregate<K, VA, A>
where
    K: Nullable,
    V: Nullable,
    VA: Clone + Send + 'static,
    A: Aggregation<K::NonNull, V, VA>,
{
    fn init(
        &mut self,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let handle = context.state_store(&self.store)?;
        self.handle = Some(handle);
        if self.emit.is_final() {
            IdleTime::schedule(context);
        } else {
            own_cache(context, handle, self.emit.send_old);
        }
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(key) = key.into_non_null() else {
            context.drop_record("null_key");
            return Ok(());
        };
        let store = context.store(self.handle());
        let (before, now) = store.advance_stream_time(self.emit.operator, timestamp);
        let closed = now.as_millis().saturating_sub(self.grace_ms);
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.windows.windows_for(timestamp, &mut matched);
        for window in &matched {
            if window.end.as_millis() <= closed {
                context.drop_record("late");
                continue;
            }
            let (key, value, headers) = (key.clone(), value.clone(), headers.clone());
            self.update(*window, Record { key, value, timestamp, headers }, context)?;
        }
        self.matched = matched;
        if self.emit.is_final() && before != Some(now) {
            self.forward_final(before, now, &headers, context)?;
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        _: Timestamp,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let (handle, operator) = (self.handle(), self.emit.operator);
        let stream_time = context.store(handle).stream_time(operator);
        let Some(time) = self.idle.advance(stream_time, context) else { return Ok(()) };
        let (before, now) = context.store(handle).advance_stream_time(operator, time);
        if before == Some(now) {
            return Ok(());
        }
        self.forward_final(before, now, &Headers::default(), context)
    }
}
