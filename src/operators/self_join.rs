//! A stream joined with itself, kept once.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::stream_join::JoinShape;
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, StoreHandle, TimesHandle};
use crate::record::Record;
use crate::store::WindowStore;
use crate::time::Timestamp;

/// Joins a record with the earlier ones of its own stream, those with it, and it with itself. `L` and `R` are the same type, which only the optimiser
/// knows. Source: `KStreamKStreamSelfJoin`.
pub(crate) struct StreamSelfJoin<K, L, R, J> {
    shape: Arc<JoinShape>,
    joiner: Arc<J>,
    times: Option<TimesHandle>,
    store: Option<StoreHandle<WindowStore<K, L>>>,
    found: Vec<(Timestamp, L)>,
    right: PhantomData<fn() -> R>,
}

impl<K, L, R, J> StreamSelfJoin<K, L, R, J> {
    pub(crate) fn new(shape: Arc<JoinShape>, joiner: Arc<J>) -> Self {
        let found = Vec::new();
        Self { shape, joiner, times: None, store: None, found, right: PhantomData }
    }
}

impl<K, L, R, VO, J> Processor<K, L, K, VO> for StreamSelfJoin<K, L, R, J>
where
    K: Nullable,
    L: Nullable,
    R: Nullable,
    VO: Clone + 'static,
    J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VO>) -> Result<()> {
        self.store = Some(context.state_store(&self.shape.left_store)?);
        let times = context.times(&self.shape.name);
        self.times = Some(times);
        let observed = context.store(self.store.expect("just looked up")).observed_stream_time();
        context.operator_times(times).observe(observed.unwrap_or(Timestamp::MIN));
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, L>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        if record.key.as_non_null().is_none() || record.value.as_non_null().is_none() {
            context.drop_record("null_key_or_value");
            return Ok(());
        }
        let shape = self.shape.clone();
        let times = context.operator_times(self.times.expect("init looked the times up"));
        let stream_time = times.observe(record.timestamp);
        let retention_ms = shape.before_ms + shape.after_ms + shape.grace_ms;
        let oldest = stream_time.as_millis().saturating_sub(retention_ms);
        let mut joins_itself = record.timestamp.as_millis() > oldest + 1;
        // This one with the earlier ones comes before those with this one: the order of an inner join of two streams.
        let mut found = std::mem::take(&mut self.found);
        self.find(&record, shape.before_ms, shape.after_ms, &mut found, context)?;
        for (at, other) in found.drain(..) {
            let value = self.join(&record.key, &record.value, &other);
            self.forward(&record, value, at, context)?;
        }
        self.find(&record, shape.after_ms, shape.before_ms, &mut found, context)?;
        for (at, other) in found.drain(..) {
            // Results are in the order of their times.
            if joins_itself && record.timestamp < at {
                joins_itself = false;
                let value = self.join(&record.key, &record.value, &record.value);
                self.forward(&record, value, record.timestamp, context)?;
            }
            let value = self.join(&record.key, &other, &record.value);
            self.forward(&record, value, at, context)?;
        }
        self.found = found;
        if joins_itself {
            let value = self.join(&record.key, &record.value, &record.value);
            self.forward(&record, value, record.timestamp, context)?;
        }
        Ok(())
    }
}

impl<K, L, R, J> StreamSelfJoin<K, L, R, J>
where
    K: Nullable,
    L: Nullable,
    R: Nullable,
{
    fn find<VO>(
        &self,
        record: &Record<K, L>,
        before_ms: i64,
        after_ms: i64,
        found: &mut Vec<(Timestamp, L)>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        let at = record.timestamp.as_millis();
        let from = Timestamp::from_millis(at.saturating_sub(before_ms).max(0));
        let to = Timestamp::from_millis(at.saturating_add(after_ms).max(0));
        found.clear();
        let store = context.store(self.store.expect("init looked the store up"));
        for entry in store.fetch_range(&record.key, from, to)? {
            found.push(entry?);
        }
        Ok(())
    }

    fn join<VO>(&self, key: &K, left: &L, right: &L) -> VO
    where
        J: Fn(&K, Option<&L::NonNull>, Option<&R::NonNull>) -> VO,
    {
        let right: Option<&R> = (right as &dyn Any).downcast_ref();
        let right = right.expect("the optimiser found both sides to be one stream");
        (self.joiner)(key, left.as_non_null(), right.as_non_null())
    }

    fn forward<VO: Clone + 'static>(
        &self,
        record: &Record<K, L>,
        value: VO,
        at: Timestamp,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        let (key, headers) = (record.key.clone(), record.headers.clone());
        let timestamp = record.timestamp.max(at);
        context.forward(Record { key, value, timestamp, headers })
    }
}
