//! Joins of two streams: each record with those of the other stream that are near it in time.
//!
//! Each side keeps its records in a window store and looks into the other's. A left or outer join also remembers, in one store of both sides, which records have found
//! nothing yet, and forwards them alone once their windows are closed. Hot path.

use std::sync::Arc;

use super::outer_join_store::{JoinSide, LeftOrRight, UnmatchedKey, UnmatchedStore};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, StoreHandle, TimesHandle};
use crate::record::{Headers, Record};
use crate::store::WindowStore;
use crate::time::Timestamp;

/// The names and times of a stream-stream join, as both of its sides see them.
#[derive(Debug)]
pub(crate) struct JoinShape {
    /// Under which the sides share their times.
    pub(crate) name: Arc<str>,
    pub(crate) left_store: Arc<str>,
    pub(crate) right_store: Arc<str>,
    /// Of unmatched records; none in an inner join.
    pub(crate) unmatched_store: Option<Arc<str>>,
    pub(crate) before_ms: i64,
    pub(crate) after_ms: i64,
    pub(crate) grace_ms: i64,
}

/// Keeps a side's records for the other side. Source: `KStreamJoinWindow`.
pub(crate) struct JoinWindow<K, V> {
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<StoreHandle<WindowStore<K, V>>>,
    /// The store is looked into below by the same record, which must not find itself yet.
    pub(crate) is_self_join: bool,
}

impl<K: Nullable, V: Nullable> Processor<K, V, K, V> for JoinWindow<K, V> {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, V>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        if record.key.as_non_null().is_none() || record.value.as_non_null().is_none() {
            return context.forward(record);
        }
        if self.is_self_join {
            let Record { key, value, timestamp, .. } = record.clone();
            context.forward(record)?;
            return context.store(handle).put(&key, &value, timestamp);
        }
        // Java puts after it has forwarded; nothing below looks into this store, and so nothing needs to be copied.
        context.store(handle).put(&record.key, &record.value, record.timestamp)?;
        context.forward(record)
    }
}

/// A side of a join, with the types of its own records and of the other's.
pub(crate) trait Side<L, R>: Send + 'static {
    type This: Nullable;
    type Other: Nullable;
    const SIDE: JoinSide;
    fn own(value: Self::This) -> LeftOrRight<L, R>;
    /// Puts an own value and another's in the order of left and right.
    fn pair<'a>(
        this: Option<&'a Self::This>,
        other: Option<&'a Self::Other>,
    ) -> (Option<&'a L>, Option<&'a R>);
}

pub(crate) struct LeftSide;
pub(crate) struct RightSide;

impl<L: Nullable, R: Nullable> Side<L, R> for LeftSide {
    type This = L;
    type Other = R;
    const SIDE: JoinSide = JoinSide::Left;

    fn own(value: L) -> LeftOrRight<L, R> {
        LeftOrRight::Left(value)
    }

    fn pair<'a>(this: Option<&'a L>, other: Option<&'a R>) -> (Option<&'a L>, Option<&'a R>) {
        (this, other)
    }
}

impl<L: Nullable, R: Nullable> Side<L, R> for RightSide {
    type This = R;
    type Other = L;
    const SIDE: JoinSide = JoinSide::Right;

    fn own(value: R) -> LeftOrRight<L, R> {
        LeftOrRight::Right(value)
    }

    fn pair<'a>(this: Option<&'a R>, other: Option<&'a L>) -> (Option<&'a L>, Option<&'a R>) {
        (other, this)
    }
}

/// A record without a match, read out of its store.
type Unmatched<K, L, R> = (UnmatchedKey<K>, Vec<LeftOrRight<L, R>>);

/// One side of a stream-stream join. Source: `KStreamKStreamJoin`, `KStreamKStreamJoinLeftSide`, `KStreamKStreamJoinRightSide`.
pub(crate) struct StreamStreamJoin<S: Side<L, R>, K, L, R, J> {
    shape: Arc<JoinShape>,
    /// This side's records without a match are results.
    outer: bool,
    joiner: Arc<J>,
    /// How far before and after a record of this side the other's may lie.
    before_ms: i64,
    after_ms: i64,
    times: Option<TimesHandle>,
    others: Option<StoreHandle<WindowStore<K, S::Other>>>,
    unmatched: Option<StoreHandle<UnmatchedStore<K, L, R>>>,
    /// What was found for the record in hand; kept for its room.
    found: Vec<(Timestamp, S::Other)>,
    closed: Vec<Unmatched<K, L, R>>,
}

impl<S: Side<L, R>, K, L, R, J> StreamStreamJoin<S, K, L, R, J> {
    pub(crate) fn new(shape: Arc<JoinShape>, outer: bool, joiner: Arc<J>) -> Self {
        let (before_ms, after_ms) = match S::SIDE {
            JoinSide::Left => (shape.before_ms, shape.after_ms),
            JoinSide::Right => (shape.after_ms, shape.before_ms),
        };
        Self {
            shape,
            outer,
            joiner,
            before_ms,
            after_ms,
            times: None,
            others: None,
            unmatched: None,
            found: Vec::new(),
            closed: Vec::new(),
        }
    }
}

impl<S, K, L, R, VO, J> Processor<K, S::This, K, VO> for StreamStreamJoin<S, K, L, R, J>
where
    S: Side<L, R>,
    K: Nullable,
    L: Nullable,
    R: Nullable,
    VO: Clone + 'static,
    J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VO>) -> Result<()> {
        let others = match S::SIDE {
            JoinSide::Left => &self.shape.right_store,
            JoinSide::Right => &self.shape.left_store,
        };
        self.others = Some(context.state_store(others)?);
        let unmatched = self.shape.unmatched_store.as_ref();
        self.unmatched = unmatched.map(|name| context.state_store(name)).transpose()?;
        let times = context.times(&self.shape.name);
        self.times = Some(times);
        // At least the stores of an application taken over from Java say how far time was; there it begins anew.
        let observed = context.store(self.others.expect("just looked up")).observed_stream_time();
        context.operator_times(times).observe(observed.unwrap_or(Timestamp::MIN));
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, S::This>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let times = context.operator_times(self.times.expect("init looked the times up"));
        let stream_time = times.observe(timestamp);
        let (has_key, has_value) = (key.as_non_null().is_some(), value.as_non_null().is_some());
        if self.outer && !has_key && has_value {
            let value = self.join(&key, Some(&value), None);
            return context.forward(Record { key, value, timestamp, headers });
        }
        if !has_key || !has_value {
            context.drop_record("null_key_or_value");
            return Ok(());
        }
        if timestamp == stream_time {
            self.forward_closed(&headers, context)?;
        }
        let at = timestamp.as_millis();
        let from = at.saturating_sub(self.before_ms).max(0);
        let to = Timestamp::from_millis(at.saturating_add(self.after_ms).max(0));
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let others = context.store(self.others.expect("init looked the store up"));
        for entry in others.fetch_range(&key, Timestamp::from_millis(from), to)? {
            found.push(entry?);
        }
        let record = Record { key, value, timestamp, headers };
        let outcome = match found.is_empty() {
            false => self.forward_found(record, &found, context),
            true if self.outer => self.keep_or_forward(record, to < stream_time, context),
            true => Ok(()),
        };
        self.found = found;
        outcome
    }
}

impl<S, K, L, R, J> StreamStreamJoin<S, K, L, R, J>
where
    S: Side<L, R>,
    K: Nullable,
    L: Nullable,
    R: Nullable,
{
    fn join<VO>(&self, key: &K, this: Option<&S::This>, other: Option<&S::Other>) -> VO
    where
        J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO,
    {
        let (left, right) = S::pair(this, other);
        (self.joiner)(key, left.and_then(L::as_non_null), right.and_then(R::as_non_null))
    }

    /// Joins a record with what was found; none of that is without a match any more.
    fn forward_found<VO: Clone + 'static>(
        &mut self,
        record: Record<K, S::This>,
        found: &[(Timestamp, S::Other)],
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()>
    where
        J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO,
    {
        let side = match S::SIDE {
            JoinSide::Left => JoinSide::Right,
            JoinSide::Right => JoinSide::Left,
        };
        let Record { key, value: this, timestamp, headers } = record;
        let mut other_key =
            self.unmatched.map(|_| UnmatchedKey { timestamp, side, key: key.clone() });
        for (at, other) in found {
            if let (Some(handle), Some(other_key)) = (self.unmatched, &mut other_key) {
                other_key.timestamp = *at;
                context.store(handle).delete(other_key)?;
            }
            let value = self.join(&key, Some(&this), Some(other));
            let timestamp = timestamp.max(*at);
            let (key, headers) = (key.clone(), headers.clone());
            context.forward(Record { key, value, timestamp, headers })?;
        }
        Ok(())
    }

    /// A record that found nothing waits until nothing can match it any more; that may be so already (KAFKA-10847).
    fn keep_or_forward<VO: Clone + 'static>(
        &mut self,
        record: Record<K, S::This>,
        is_closed: bool,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()>
    where
        J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO,
    {
        let Record { key, value, timestamp, headers } = record;
        let Some(handle) = self.unmatched.filter(|_| !is_closed) else {
            let value = self.join(&key, Some(&value), None);
            return context.forward(Record { key, value, timestamp, headers });
        };
        let times = context.operator_times(self.times.expect("init looked the times up"));
        times.waiting_since = times.waiting_since.min(timestamp);
        let store = context.store(handle);
        let key = UnmatchedKey { timestamp, side: S::SIDE, key };
        let mut values = store.get(&key)?.unwrap_or_default();
        values.push(S::own(value));
        store.put(&key, &values)
    }

    /// Forwards the records whose windows are closed, oldest first, each alone. Source: `emitNonJoinedOuterRecords`.
    fn forward_closed<VO: Clone + 'static>(
        &mut self,
        headers: &Headers,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()>
    where
        J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO,
    {
        let Some(handle) = self.unmatched else { return Ok(()) };
        let (now, interval) = (context.current_system_time(), context.emit_interval());
        let times = context.operator_times(self.times.expect("init looked the times up"));
        let wait_ms = self.after_ms.saturating_add(self.shape.grace_ms);
        let first_end = times.waiting_since.as_millis().saturating_add(wait_ms);
        if first_end >= times.stream_time.as_millis() || now < times.next_emit {
            return Ok(());
        }
        if times.waiting_since > Timestamp::MIN {
            times.next_emit = now + interval; // the first look, at what a restart left, is none of the regular ones
        }
        let stream_time = times.stream_time;
        let mut closed = std::mem::take(&mut self.closed);
        closed.clear();
        let waiting_since = self.find_closed(stream_time, &mut closed, context)?;
        context.operator_times(self.times.expect("init looked the times up")).waiting_since =
            waiting_since;
        for (unmatched, values) in closed.drain(..) {
            for value in &values {
                let (left, right) = match value {
                    LeftOrRight::Left(left) => (left.as_non_null(), None),
                    LeftOrRight::Right(right) => (None, right.as_non_null()),
                };
                let value = (self.joiner)(&unmatched.key, left, right);
                let (key, timestamp) = (unmatched.key.clone(), unmatched.timestamp);
                context.forward(Record { key, value, timestamp, headers: headers.clone() })?;
            }
            context.store(handle).put(&unmatched, &Vec::new())?;
        }
        self.closed = closed;
        Ok(())
    }

    /// Collects the records whose windows are closed; returns the time of the last record that was looked at, the largest one if there was none.
    ///
    /// As in Java that time may pass over a record of the other side that still waits, so that it is found a little later.
    fn find_closed<VO>(
        &self,
        stream_time: Timestamp,
        closed: &mut Vec<Unmatched<K, L, R>>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<Timestamp> {
        let shape = &self.shape;
        let store = context.store(self.unmatched.expect("the caller checked that there is one"));
        let (mut left_open, mut right_open) = (false, false);
        let mut waiting_since = Timestamp::MAX;
        for entry in store.all()? {
            let (key, values) = entry?;
            waiting_since = key.timestamp;
            if left_open && right_open {
                break;
            }
            let (after_ms, open) = match key.side {
                JoinSide::Left => (shape.after_ms, &mut left_open),
                JoinSide::Right => (shape.before_ms, &mut right_open),
            };
            let wait_ms = after_ms.saturating_add(shape.grace_ms);
            let end = key.timestamp.as_millis().saturating_add(wait_ms);
            if end < stream_time.as_millis() {
                closed.push((key, values));
                continue;
            }
            *open = true;
            // Java looks at each value of the list for itself.
            if left_open && right_open && values.len() > 1 {
                break;
            }
        }
        Ok(waiting_since)
    }
}
