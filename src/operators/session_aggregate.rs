//! Aggregations per key in sessions.

use std::sync::Arc;

use super::Change;
use super::cached::own_cache;
use super::idle::IdleTime;
use super::window_aggregate::{Aggregation, Closed, Closing, Emit, forward_closed};
use super::windows::{SessionWindows, millis};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, PunctuatorId, StoreHandle, TimesHandle};
use crate::record::{Headers, Record};
use crate::store::{SessionStore, StateStore as _};
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

/// `count`, `reduce` and `aggregate` of a stream in sessions. Source: `KStreamSessionWindowAggregate`.
///
/// A record and all sessions within the gap of it become one session; the merged ones are deleted and, where their bounds were others,
/// tombstones are sent for them. Results carry the session's end as their timestamp, and no headers unless they are final or were held
/// back by the record cache, as in Java.
pub(crate) struct SessionAggregate<K: Nullable, VA, A, M> {
    store: Arc<str>,
    aggregation: Arc<A>,
    merger: Arc<M>,
    emit: Emit,
    handle: Option<StoreHandle<SessionStore<K::NonNull, VA>>>,
    times: Option<TimesHandle>,
    gap_ms: i64,
    grace_ms: i64,
    merged: Vec<(Window, VA)>,
    closed: Closed<K::NonNull, VA>,
    idle: IdleTime,
}

impl<K: Nullable, VA, A, M> SessionAggregate<K, VA, A, M> {
    pub(crate) fn new(
        store: Arc<str>,
        windows: SessionWindows,
        aggregation: Arc<A>,
        merger: Arc<M>,
        emit: Emit,
    ) -> Self {
        Self {
            store,
            aggregation,
            merger,
            emit,
            handle: None,
            times: None,
            gap_ms: millis(windows.gap),
            grace_ms: millis(windows.grace),
            merged: Vec::new(),
            closed: Vec::new(),
            idle: IdleTime::default(),
        }
    }

    fn handle(&self) -> StoreHandle<SessionStore<K::NonNull, VA>> {
        self.handle.expect("init looked the store up")
    }

    fn times(&self) -> TimesHandle {
        self.times.expect("init looked the times up")
    }
}

impl<K, VA, A, M> SessionAggregate<K, VA, A, M>
where
    K: Nullable,
    VA: Clone + Send + 'static,
    M: Fn(&K::NonNull, Option<VA>, VA) -> Option<VA> + Send + Sync + 'static,
{
    /// The session that a record belongs to, and its aggregate without the record. What is merged into it goes to `self.merged`.
    fn merge(
        &mut self,
        key: &K::NonNull,
        at: Timestamp,
        mut aggregate: Option<VA>,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<(Window, Option<VA>)> {
        self.merged.clear();
        let mut session = Window::new(at, at);
        let earliest_end = Timestamp::from_millis(at.as_millis().saturating_sub(self.gap_ms));
        let latest_start = Timestamp::from_millis(at.as_millis().saturating_add(self.gap_ms));
        let store = context.store(self.handle());
        for entry in store.find_kept(key, earliest_end, latest_start)? {
            let (Windowed { window, .. }, value) = entry?;
            session.start = session.start.min(window.start);
            session.end = session.end.max(window.end);
            aggregate = (self.merger)(key, aggregate, value.clone());
            self.merged.push((window, value));
        }
        Ok((session, aggregate))
    }

    /// Writes a session's change and forwards it, unless results are final ones: now, or when the record cache lets go of it. `at` is the
    /// timestamp of the record that made it.
    fn put_and_forward(
        &self,
        key: Windowed<K::NonNull>,
        change: Change<VA>,
        (at, headers): (Timestamp, &Headers),
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let (handle, Windowed { key: inner, window }) = (self.handle(), &key);
        let is_caching = context.frame.is_caching(handle);
        let origin = is_caching.then(|| context.frame.origin(at, headers.clone()));
        let store = context.store(handle);
        // The changelog carries the time of the record that came here, which may be another than that of the task's record: stream time is
        // restored from it.
        store.set_record_timestamp(at);
        if let Some(origin) = origin {
            store.put_cached(inner, *window, change.new.as_ref(), origin)?;
            return context.frame.evict(handle);
        }
        match &change.new {
            Some(new) => store.put(inner, *window, new)?,
            None => store.remove(inner, *window)?,
        }
        if self.emit.is_final() {
            return Ok(());
        }
        let (timestamp, headers) = (window.end, Headers::default());
        context.forward(Record { key, value: change, timestamp, headers })
    }

    /// Deletes what went into another session.
    fn remove_merged(
        &mut self,
        key: &K::NonNull,
        record: (Timestamp, &Headers),
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        for (window, value) in std::mem::take(&mut self.merged) {
            let old = self.emit.send_old.then_some(value);
            let key = Windowed::new(key.clone(), window);
            self.put_and_forward(key, Change::latest(None, old), record, context)?;
        }
        Ok(())
    }

    /// Forwards what has closed.
    fn forward_final(
        &mut self,
        headers: &Headers,
        context: &mut ProcessorContext<'_, '_, Windowed<K::NonNull>, Change<VA>>,
    ) -> Result<()> {
        let closing = Closing { lag_ms: self.grace_ms.saturating_add(self.gap_ms), reach_ms: 0 };
        let closed = closing.take_closed(context.operator_times(self.times()));
        let Some((first, last)) = closed else { return Ok(()) };
        let store = context.store(self.handle());
        for entry in store.find_closed(first, last) {
            let (key, value) = entry?;
            let end = key.window.end;
            self.closed.push((key, value, end));
        }
        forward_closed(&mut self.closed, headers, context)
    }
}

impl<K, V, VA, A, M> Processor<K, V, Windowed<K::NonNull>, Change<VA>>
    for SessionAggregate<K, VA, A, M>
where
    K: Nullable,
    V: Nullable,
    VA: Clone + Send + 'static,
    A: Aggregation<K::NonNull, V, VA>,
    M: Fn(&K::NonNull, Option<VA>, VA) -> Option<VA> + Send + Sync + 'static,
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
        let closed = now.as_millis().saturating_sub(self.grace_ms).saturating_sub(self.gap_ms);
        let initial = self.aggregation.init();
        let (session, aggregate) = self.merge(&key, timestamp, initial, context)?;
        if session.end.as_millis() < closed {
            context.drop_record("late");
        } else {
            if session != Window::new(timestamp, timestamp) {
                self.remove_merged(&key, (timestamp, &headers), context)?;
            }
            let new = self.aggregation.add(&key, value, aggregate);
            let (key, change) = (Windowed::new(key, session), Change::latest(new, None));
            self.put_and_forward(key, change, (timestamp, &headers), context)?;
        }
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
