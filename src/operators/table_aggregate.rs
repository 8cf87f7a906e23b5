//! Aggregations of a table by another key: what a row no longer says is taken back.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Change, TableStore};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext};
use crate::record::Record;
use crate::store::PutResult;

/// Sends a row's change under its new key, or under two where that has changed. Source: `KTableRepartitionMap`.
pub(crate) struct TableRepartitionMap<K2, V2, F> {
    pub(crate) selector: Arc<F>,
    /// The table is versioned: an aggregate consists of latest rows only (KIP-914).
    pub(crate) is_versioned: bool,
    pub(crate) types: PhantomData<fn() -> (K2, V2)>,
}

impl<K, V, K2, V2, F> Processor<K, Change<V>, K2::NonNull, Change<V2::NonNull>>
    for TableRepartitionMap<K2, V2, F>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    K2: Nullable,
    K2::NonNull: PartialEq,
    V2: Nullable,
    F: Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K2::NonNull, Change<V2::NonNull>>,
    ) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        if self.is_versioned && !change.is_latest {
            return Ok(());
        }
        let is_latest = change.is_latest;
        let select = |value: Option<V>| {
            let (key, value) = (self.selector)(&key, &value?);
            key.into_non_null().zip(value.into_non_null())
        };
        let record = |key, new, old| {
            let headers = headers.clone();
            Record { key, value: Change { new, old, is_latest }, timestamp, headers }
        };
        match (select(change.old), select(change.new)) {
            (Some((old_key, old)), Some((new_key, new))) if old_key == new_key => {
                context.forward(record(old_key, Some(new), Some(old)))
            }
            (old, new) => {
                // What is gone first, as the aggregation does it.
                if let Some((key, old)) = old {
                    context.forward(record(key, None, Some(old)))?;
                }
                match new {
                    Some((key, new)) => context.forward(record(key, Some(new), None)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// `count`, `reduce` and `aggregate` of a grouped table. Source: `KTableAggregate`, `KTableReduce`.
///
/// `add` gets the aggregate so far (`None`: the first of the key); both return the next one, `None` deletes it.
pub(crate) struct TableAggregate<K, VA, A, S> {
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<TableStore<K, VA>>,
    pub(crate) add: Arc<A>,
    pub(crate) subtract: Arc<S>,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
}

impl<K, V, VA, A, S> Processor<K, Change<V>, K, Change<VA>> for TableAggregate<K, VA, A, S>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    VA: Clone + Send + 'static,
    A: Fn(&K, V, Option<VA>) -> Option<VA> + Send + Sync + 'static,
    S: Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<VA>>) -> Result<()> {
        self.handle = Some(TableStore::own(context, &self.store, self.send_old)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K, Change<VA>>,
    ) -> Result<()> {
        let Record { key, value: change, timestamp: at, headers } = record;
        let store = self.handle.expect("init looked the store up");
        let (stored, since) = store.get_own(context.frame, &key)?.unzip();
        let old = stored.clone().filter(|_| self.send_old);
        let mut aggregate = stored;
        if let (Some(gone), Some(before)) = (change.old, aggregate.clone()) {
            aggregate = (self.subtract)(&key, gone, before);
        }
        if let Some(value) = change.new {
            aggregate = (self.add)(&key, value, aggregate);
        }
        let timestamp = since.map_or(at, |since| at.max(since));
        let value = Change::latest(aggregate, old);
        let record = Record { key, value, timestamp, headers };
        if store.put_and_forward(context, record, at)? == PutResult::NotPut {
            context.drop_record("older_than_history");
        }
        Ok(())
    }
}
