//! Aggregations per key, without windows.

use std::sync::Arc;

use super::{Change, TableStore};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext};
use crate::record::Record;
use crate::store::PutResult;

/// `count`, `reduce` and `aggregate` of a grouped stream. Source: `KStreamAggregate`, `KStreamReduce`.
///
/// The step gets the aggregate so far (`None`: the first record of the key) and returns the next one; `None` deletes it.
pub(crate) struct KStreamAggregate<K: Nullable, VA, F> {
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<TableStore<K::NonNull, VA>>,
    pub(crate) step: Arc<F>,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
}

impl<K, V, VA, F> Processor<K, V, K::NonNull, Change<VA>> for KStreamAggregate<K, VA, F>
where
    K: Nullable,
    V: Nullable,
    VA: Clone + Send + 'static,
    F: Fn(&K::NonNull, V::NonNull, Option<VA>) -> Option<VA> + Send + Sync + 'static,
{
    fn init(
        &mut self,
        context: &mut ProcessorContext<'_, '_, K::NonNull, Change<VA>>,
    ) -> Result<()> {
        self.handle = Some(TableStore::open(context.frame, context.node, &self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K::NonNull, Change<VA>>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(key), Some(value)) = (key.into_non_null(), value.into_non_null()) else {
            context.drop_record("null_key_or_value");
            return Ok(());
        };
        let store = self.handle.expect("init looked the store up");
        let (old, timestamp) = match store.get(context.frame, &key)? {
            Some((old, since)) => (Some(old), timestamp.max(since)),
            None => (None, timestamp),
        };
        let new = (self.step)(&key, value, old.clone());
        let put = store.put(context.frame, &key, new.as_ref(), timestamp)?;
        if put == PutResult::NotPut {
            context.drop_record("older_than_history");
            return Ok(());
        }
        let old = old.filter(|_| self.send_old);
        let value = Change { new, old, is_latest: put == PutResult::Latest };
        context.forward(Record { key, value, timestamp, headers })
    }
}
