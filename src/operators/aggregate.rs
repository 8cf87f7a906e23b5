//! Aggregations per key, without windows.

use std::sync::Arc;

use super::{Change, TableStore};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext};
use crate::record::Record;
use crate::store::PutResult;

/// Makes the aggregate that a key begins with. Source: `Initializer`.
pub(crate) type Initializer<VA> = Arc<dyn Fn() -> VA + Send + Sync>;

/// `count`, `reduce` and `aggregate` of a grouped stream. Source: `KStreamAggregate`, `KStreamReduce`.
///
/// The step gets the aggregate so far and returns the next one; `None` deletes it. Before the first record of a key that is what `initial` makes
/// (downstream it counts as the old value, as in Java), or `None` for a reduction, which has no initial value.
pub(crate) struct KStreamAggregate<K: Nullable, VA, F> {
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<TableStore<K::NonNull, VA>>,
    pub(crate) initial: Option<Initializer<VA>>,
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
        self.handle = Some(TableStore::own(context, &self.store, self.send_old)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K::NonNull, Change<VA>>,
    ) -> Result<()> {
        let Record { key, value, timestamp: at, headers } = record;
        let (Some(key), Some(value)) = (key.into_non_null(), value.into_non_null()) else {
            context.drop_record("null_key_or_value");
            return Ok(());
        };
        let store = self.handle.expect("init looked the store up");
        let (before, timestamp) = match store.get_own(context.frame, &key)? {
            Some((before, since)) => (Some(before), at.max(since)),
            None => (self.initial.as_ref().map(|initial| initial()), at),
        };
        let old = if self.send_old { before.clone() } else { None };
        let new = (self.step)(&key, value, before);
        let value = Change::latest(new, old);
        let record = Record { key, value, timestamp, headers };
        if store.put_and_forward(context, record, at)? == PutResult::NotPut {
            context.drop_record("older_than_history");
        }
        Ok(())
    }
}

/// Passes everything on: where the parts of a cogrouping come together. Source: `KTablePassThrough`.
pub(crate) struct Passed;

impl<K, V> Processor<K, V, K, V> for Passed
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        context.forward(record)
    }
}
