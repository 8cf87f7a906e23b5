//! Operators without state.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Change;
use crate::error::Result;
use crate::processor::{Processor, ProcessorContext};
use crate::record::Record;

/// `filter` and `filterNot`. Source: `KStreamFilter`.
pub(crate) struct Filter<F> {
    pub(crate) predicate: Arc<F>,
    pub(crate) keep: bool,
}

impl<K, V, F> Processor<K, V, K, V> for Filter<F>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Fn(&K, &V) -> bool + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        if (self.predicate)(&record.key, &record.value) == self.keep {
            context.forward(record)?;
        }
        Ok(())
    }
}

/// `map`. Source: `KStreamMap`.
pub(crate) struct Map<F>(pub(crate) Arc<F>);

impl<K, V, K2, V2, F> Processor<K, V, K2, V2> for Map<F>
where
    K2: Clone + 'static,
    V2: Clone + 'static,
    F: Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K2, V2>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (key, value) = (self.0)(key, value);
        context.forward(Record { key, value, timestamp, headers })
    }
}

/// `mapValues`. Source: `KStreamMapValues`.
pub(crate) struct MapValues<F>(pub(crate) Arc<F>);

impl<K, V, V2, F> Processor<K, V, K, V2> for MapValues<F>
where
    K: Clone + 'static,
    V2: Clone + 'static,
    F: Fn(&K, V) -> V2 + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V2>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let value = (self.0)(&key, value);
        context.forward(Record { key, value, timestamp, headers })
    }
}

/// `selectKey`. Source: `KStreamMap`, as `internalSelectKey` uses it.
pub(crate) struct SelectKey<F>(pub(crate) Arc<F>);

impl<K, V, K2, F> Processor<K, V, K2, V> for SelectKey<F>
where
    K2: Clone + 'static,
    V: Clone + 'static,
    F: Fn(&K, &V) -> K2 + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K2, V>,
    ) -> Result<()> {
        let key = (self.0)(&record.key, &record.value);
        context.forward(record.with_key(key))
    }
}

/// `flatMap`. Source: `KStreamFlatMap`.
pub(crate) struct FlatMap<F, I> {
    pub(crate) mapper: Arc<F>,
    pub(crate) items: PhantomData<fn() -> I>,
}

impl<K, V, K2, V2, F, I> Processor<K, V, K2, V2> for FlatMap<F, I>
where
    K2: Clone + 'static,
    V2: Clone + 'static,
    I: IntoIterator<Item = (K2, V2)> + 'static,
    F: Fn(K, V) -> I + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K2, V2>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        (self.mapper)(key, value).into_iter().try_for_each(|(key, value)| {
            context.forward(Record { key, value, timestamp, headers: headers.clone() })
        })
    }
}

/// `flatMapValues`. Source: `KStreamFlatMapValues`.
pub(crate) struct FlatMapValues<F, I> {
    pub(crate) mapper: Arc<F>,
    pub(crate) items: PhantomData<fn() -> I>,
}

impl<K, V, V2, F, I> Processor<K, V, K, V2> for FlatMapValues<F, I>
where
    K: Clone + 'static,
    V2: Clone + 'static,
    I: IntoIterator<Item = V2> + 'static,
    F: Fn(&K, V) -> I + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V2>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        (self.mapper)(&key, value).into_iter().try_for_each(|value| {
            context.forward(Record { key: key.clone(), value, timestamp, headers: headers.clone() })
        })
    }
}

/// `peek`; with a function that does nothing also `merge`. Source: `KStreamPeek`, `PassThrough`.
pub(crate) struct Peek<F>(pub(crate) Arc<F>);

impl<K, V, F> Processor<K, V, K, V> for Peek<F>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Fn(&K, &V) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        (self.0)(&record.key, &record.value);
        context.forward(record)
    }
}

/// `KTable::to_stream`: the new value of each change. Source: `KTableImpl.toStream`.
pub(crate) struct TableToStream<F>(pub(crate) Arc<F>);

impl<K, V, K2, V2, F> Processor<K, Change<V>, K2, V2> for TableToStream<F>
where
    K: 'static,
    V: 'static,
    K2: Clone + 'static,
    V2: Clone + 'static,
    F: Fn(K, Option<V>) -> (K2, V2) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K2, V2>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (key, value) = (self.0)(key, value.new);
        context.forward(Record { key, value, timestamp, headers })
    }
}
