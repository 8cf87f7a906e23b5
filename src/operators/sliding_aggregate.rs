//! Aggregations per key in sliding windows.

use std::sync::Arc;

use super::Change;
use super::cached::own_cache;
use super::idle::IdleTime;
use super::window_aggregate::{
    Aggregation, Closed, Closing, Emit, forward_closed, put_and_forward,
};
use super::windows::{SlidingWindows, millis};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, PunctuatorId, StoreHandle, TimesHandle};
use crate::record::{Headers, Record};
use crate::store::{Direction, WindowStore};
use crate::time::Timestamp;
use crate::windowed::{Window, Windowed};

/// `count`, `reduce` and `aggregate` of a stream in sliding windows. Source: `KStreamSlidingWindowAggregate`.
///
/// Each record makes at most three windows: the one that ends with it, the one that begins right after the record before it, and
/// the one that begins right after itself, each only where it holds a record. A window carries the timestamp of its newest record. Windows that
/// would begin before the epoch are one, from 0 on.
pub(crate) struct SlidingAggregate<K: Nullable, VA, A> {
    store: Arc<str>,
    aggregation: Arc<A>,
    emit: Emit,
    handle: Option<StoreHandle<WindowStore<K::NonNull, VA>>>,
    times: Option<TimesHandle>,
    difference_ms: i64,
    grace_ms: i64,
    /// Windows of the key around the record in hand.
    found: Vec<Found<VA>>,
    closed: Closed<K::NonNull, VA>,
    idle: IdleTime,
}

/// A window in the store.
struct Found<VA> {
    start: i64,
    aggregate: VA,
    /// The timestamp of its newest record.
    newest: i64,
}

/// The record in hand, and when windows are closed.
struct Hand<K, V> {
    key: K,
    value: V,
    at: i64,
    headers: Headers,
    /// Windows that end before are closed.
    closed: i64,
}

type Context<'c, 'f, 'a, K, VA> = &'c mut ProcessorContext<'f, 'a, Windowed<K>, Change<VA>>;

impl<K: Nullable, VA, A> SlidingAggregate<K, VA, A> {
    pub(crate) fn new(
        store: Arc<str>,
        windows: SlidingWindows,
        aggregation: Arc<A>,
        emit: Emit,
    ) -> Self {
        Self {
            store,
            aggregation,
            emit,
            handle: None,
            times: None,
            difference_ms: millis(windows.difference),
            grace_ms: millis(windows.grace),
            found: Vec::new(),
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

    fn window(&self, start: i64) -> Window {
        Window::sized(start, self.difference_ms)
    }
}

impl<K, VA, A> SlidingAggregate<K, VA, A>
where
    K: Nullable,
    VA: Clone + Send + 'static,
{
    /// Adds the record in hand to a window. Source: `updateWindowAndForward`.
    fn update<V: Clone>(
        &self,
        start: i64,
        old: Option<(VA, i64)>,
        hand: &Hand<K::NonNull, V>,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()>
    where
        A: Aggregation<K::NonNull, V, VA>,
    {
        let window = self.window(start);
        if window.end.as_millis() < hand.closed {
            context.drop_record("late");
            return Ok(());
        }
        let newest = old.as_ref().map_or(hand.at, |(_, newest)| hand.at.max(*newest));
        let old = old.map(|(old, _)| old);
        let sent_old = if self.emit.send_old { old.clone() } else { None };
        let new = self.aggregation.add(&hand.key, hand.value.clone(), old);
        self.put(window, new, sent_old, newest, hand, context)
    }

    fn put<V>(
        &self,
        window: Window,
        new: Option<VA>,
        old: Option<VA>,
        newest: i64,
        hand: &Hand<K::NonNull, V>,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()> {
        let timestamp = Timestamp::from_millis(newest);
        let (key, value) = (Windowed::new(hand.key.clone(), window), Change::latest(new, old));
        let record = Record { key, value, timestamp, headers: hand.headers.clone() };
        put_and_forward(self.handle(), self.emit, record, Timestamp::from_millis(hand.at), context)
    }

    /// A window that so far has no record.
    fn initial<V>(&self, hand: &Hand<K::NonNull, V>) -> Option<(VA, i64)>
    where
        A: Aggregation<K::NonNull, V, VA>,
    {
        self.aggregation.init().map(|initial| (initial, hand.at))
    }

    /// Source: `processReverse`, `createWindows`.
    fn process_regular<V: Clone>(
        &mut self,
        hand: &Hand<K::NonNull, V>,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()>
    where
        A: Aggregation<K::NonNull, V, VA>,
    {
        let at = hand.at;
        let from = at.saturating_sub(self.difference_ms.saturating_mul(2)).max(0);
        self.find(hand, from, context, Direction::Backward)?;
        let mut right: Option<(VA, i64)> = None;
        let mut left: Option<VA> = None;
        let (mut has_right, mut has_left, mut previous) = (false, false, None);
        for Found { start, aggregate, newest } in &self.found {
            let (start, newest) = (*start, *newest);
            let end = start.saturating_add(self.difference_ms);
            if start == at + 1 {
                has_right = true;
            } else if end > at {
                if right.is_none() {
                    right = Some((aggregate.clone(), newest));
                }
                self.update(start, Some((aggregate.clone(), newest)), hand, context)?;
            } else if end == at {
                has_left = true;
                self.update(start, Some((aggregate.clone(), newest)), hand, context)?;
                if newest >= at {
                    return Ok(()); // there was a record of this time: all its windows exist
                }
                previous = Some(newest);
            } else {
                left = Some(aggregate.clone());
                previous = Some(newest);
                break;
            }
        }
        if let Some(previous) = previous {
            let start = previous + 1;
            let exists = self.found.iter().any(|window| window.start == start);
            if !exists && start.saturating_add(self.difference_ms) >= at {
                self.update(start, self.initial(hand), hand, context)?;
            }
        }
        if !has_left {
            let start = at - self.difference_ms;
            let is_within = previous.is_some_and(|previous| start <= previous);
            let old = match left.filter(|_| is_within) {
                Some(left) => Some((left, at)),
                None => self.initial(hand),
            };
            self.update(start, old, hand, context)?;
        }
        if !has_right {
            self.create_right(right, hand, context)?;
        }
        Ok(())
    }

    /// The window right after the record in hand, where it holds one.
    fn create_right<V>(
        &self,
        right: Option<(VA, i64)>,
        hand: &Hand<K::NonNull, V>,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()> {
        match right {
            Some((aggregate, newest)) if newest > hand.at => {
                let window = self.window(hand.at + 1);
                self.put(window, Some(aggregate), None, newest, hand, context)
            }
            _ => Ok(()),
        }
    }

    /// A record whose window to the left would begin before the epoch. Source: `processEarly`.
    fn process_early<V: Clone>(
        &mut self,
        hand: &Hand<K::NonNull, V>,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()>
    where
        A: Aggregation<K::NonNull, V, VA>,
    {
        let at = hand.at;
        self.find(hand, 0, context, Direction::Forward)?;
        let mut combined: Option<(VA, i64)> = None;
        let mut right: Option<(VA, i64)> = None;
        let (mut has_right, mut previous) = (false, None);
        for Found { start, aggregate, newest } in &self.found {
            let (start, newest) = (*start, *newest);
            if start == 0 {
                combined = Some((aggregate.clone(), newest));
                previous = (newest < at).then_some(newest);
            } else if start <= at {
                right = Some((aggregate.clone(), newest));
                self.update(start, right.clone(), hand, context)?;
            } else {
                has_right = true;
            }
        }
        // Without a window between the two, what the combined one has lies after the record in hand, or it is not newer.
        if right.is_none() {
            right = combined.clone().filter(|(_, newest)| *newest > at);
        }
        if !has_right {
            self.create_right(right, hand, context)?;
        }
        if let Some(previous) = previous
            && !self.found.iter().any(|window| window.start == previous + 1)
        {
            self.update(previous + 1, self.initial(hand), hand, context)?;
        }
        let old = combined.or_else(|| self.initial(hand));
        self.update(0, old, hand, context)
    }

    /// Looks up the key's windows that begin between `from` and right after the record in hand.
    fn find<V>(
        &mut self,
        hand: &Hand<K::NonNull, V>,
        from: i64,
        context: Context<'_, '_, '_, K::NonNull, VA>,
        direction: Direction,
    ) -> Result<()> {
        self.found.clear();
        let store = context.store(self.handle());
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(hand.at + 1));
        for entry in store.fetch_kept(&hand.key, (from, to), direction)?.with_timestamps() {
            let (start, aggregate, newest) = entry?;
            let (start, newest) = (start.as_millis(), newest.as_millis());
            self.found.push(Found { start, aggregate, newest });
            // The first window that ends before the record is the last one that matters.
            if direction == Direction::Backward
                && start.saturating_add(self.difference_ms) < hand.at
            {
                break;
            }
        }
        Ok(())
    }

    /// Forwards what has closed.
    fn forward_final(
        &mut self,
        headers: &Headers,
        context: Context<'_, '_, '_, K::NonNull, VA>,
    ) -> Result<()> {
        let closing = Closing { lag_ms: self.grace_ms, reach_ms: self.difference_ms };
        let closed = closing.take_closed(context.operator_times(self.times()));
        let Some((first, last)) = closed else { return Ok(()) };
        let store = context.store(self.handle());
        for entry in store.fetch_closed(first, last).with_timestamps() {
            self.closed.push(entry?);
        }
        forward_closed(&mut self.closed, headers, context)
    }
}

impl<K, V, VA, A> Processor<K, V, Windowed<K::NonNull>, Change<VA>> for SlidingAggregate<K, VA, A>
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
        let (Some(key), true) = (key.into_non_null(), value.as_non_null().is_some()) else {
            context.drop_record("null_key_or_value");
            return Ok(());
        };
        let now = context.operator_times(self.times()).observe(timestamp);
        let closed = now.as_millis().saturating_sub(self.grace_ms);
        let hand = Hand { key, value, at: timestamp.as_millis(), headers, closed };
        if hand.at.saturating_add(self.difference_ms) < closed {
            context.drop_record("late");
            return Ok(());
        }
        if hand.at < self.difference_ms {
            self.process_early(&hand, context)?;
        } else {
            self.process_regular(&hand, context)?;
        }
        if self.emit.is_final() {
            self.forward_final(&hand.headers, context)?;
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
