//! Aggregations per key and window: tumbling, hopping, unlimited and custom windows.

use std::sync::Arc;

use super::Change;
use super::cached::own_cache;
use super::idle::IdleTime;
use super::windows::{EmitStrategy, Windows, millis};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{
    OperatorTimes, Processor, ProcessorContext, PunctuatorId, StoreHandle, TimesHandle,
};
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
    /// Other operators write to the store, too.
    pub(crate) shares_store: bool,
}

impl Emit {
    pub(super) fn is_final(self) -> bool {
        self.strategy == EmitStrategy::OnWindowClose
    }

    /// Finds an operator's times, as they were before a restart. Who takes over from Kafka Streams, which keeps no operator's stream time, goes on from
    /// `newest`, the newest record in the changelog, unless it may be another operator's.
    pub(super) fn times<K, V>(
        self,
        store: &Arc<str>,
        newest: Option<Timestamp>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> TimesHandle {
        let handle = context.own_times();
        if self.is_final() {
            context.keep_sent(handle, store);
            IdleTime::schedule(context);
        }
        let newest = newest.filter(|_| !self.shares_store);
        context.operator_times(handle).observe(newest.unwrap_or(Timestamp::MIN));
        handle
    }
}

/// When windows close, to an operator that sends final results alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    /// Stream time minus this is the *close time*: windows that end before are closed. What Java keeps of the last sending.
    pub(super) lag_ms: i64,
    /// How long after its time in the store, which is its start or a session's end, a window has its last millisecond.
    pub(super) reach_ms: i64,
}

impl Closing {
    /// The times in the store of windows that are closed, and were not when final results were sent last; takes note that they are sent now.
    ///
    /// Not what stream time was before the record says where to begin: whoever sent last may have waited (Java sends once a second), and have gone since.
    /// Source: `emitRangeLowerBound`, `emitRangeUpperBound`.
    pub(super) fn take_closed(self, times: &mut OperatorTimes) -> Option<(Timestamp, Timestamp)> {
        let close = times.stream_time.as_millis().saturating_sub(self.lag_ms);
        let first = times.sent_closed.as_millis().saturating_sub(self.reach_ms).max(0);
        let last = close.saturating_sub(self.reach_ms).saturating_sub(1);
        if last < first {
            return None;
        }
        times.sent_closed = Timestamp::from_millis(close);
        Some((Timestamp::from_millis(first), Timestamp::from_millis(last)))
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
    times: Option<TimesHandle>,
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
            times: None,
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

    fn times(&self) -> TimesHandle {
        self.times.expect("init looked the times up")
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

    /// Forwards what has closed.
    fn forward_final(
        &mut self,
        headers: &Headers,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let closing = Closing { lag_ms: self.grace_ms, reach_ms: self.size_ms - 1 };
        let closed = closing.take_closed(context.operator_times(self.times()));
        let Some((first, last)) = closed.filter(|closed| self.has_window_start(*closed)) else {
            return Ok(());
        };
        let store = context.store(self.handle());
        for entry in store.fetch_closed(first, last).with_timestamps() {
            self.closed.push(entry?);
        }
        forward_closed(&mut self.closed, headers, context)
    }

    /// Whether a window can begin between two times; spares most records a look into the store.
    fn has_window_start(&mut self, (first, last): (Timestamp, Timestamp)) -> bool {
        if last.as_millis() - first.as_millis() >= self.size_ms {
            return true;
        }
        self.matched.clear();
        self.windows.windows_for(last, &mut self.matched);
        self.matched.last().is_some_and(|window| window.start >= first)
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
        let handle = *self.handle.insert(context.state_store(&self.store)?);
        let newest = context.store(handle).newest_restored();
        self.times = Some(self.emit.times(&self.store, newest, context));
        if !self.emit.is_final() {
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
        let now = context.operator_times(self.times()).observe(timestamp);
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
        if self.emit.is_final() {
            self.forward_final(&headers, context)?;
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        _: Timestamp,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let stream_time = context.operator_times(self.times()).stream_time;
        let Some(time) = self.idle.advance(stream_time, context) else { return Ok(()) };
        context.operator_times(self.times()).observe(time);
        self.forward_final(&Headers::default(), context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_closed_window_is_taken_once_and_those_that_another_engine_left_too() {
        let closing = Closing { lag_ms: 5, reach_ms: 9 };
        let mut times = OperatorTimes::default();
        let mut take = |stream_time: i64, sent_closed: Option<i64>| {
            let at = Timestamp::from_millis;
            times.observe(at(stream_time));
            times.sent_closed = sent_closed.map_or(times.sent_closed, at);
            let taken = closing.take_closed(&mut times);
            (taken.map(|(first, last)| (first.as_millis(), last.as_millis())), times.sent_closed)
        };
        assert_eq!(take(14, None), (None, Timestamp::MIN));
        assert_eq!(take(20, None), (Some((0, 5)), Timestamp::from_millis(15)));
        assert_eq!(take(20, None), (None, Timestamp::from_millis(15)));
        assert_eq!(take(24, None), (Some((6, 9)), Timestamp::from_millis(19)));
        // Nothing moves stream time, and yet windows are due that the other engine had not come to.
        assert_eq!(take(24, Some(17)), (Some((8, 9)), Timestamp::from_millis(19)));
    }
}
