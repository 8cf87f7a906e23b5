//! Tables made of one table: filtered and mapped values, kept or worked out anew at each look-up.

use std::sync::Arc;

use super::join::{GetterSupplier, ValueGetter};
use super::{Change, TableStore};
use crate::error::Result;
use crate::processor::{Frame, Processor, ProcessorContext};
use crate::record::Record;
use crate::time::Timestamp;

/// `filter`, `filter_not` and `map_values` of a table. Source: `KTableFilter`, `KTableMapValues`.
///
/// The step gives a value's successor, `None` where there is none; it is not called for deletions.
pub(crate) struct TableStep<K, V2, F> {
    pub(crate) step: Arc<F>,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
    /// A filter of an unversioned table: where nothing was and nothing is, there is nothing to say.
    pub(crate) is_quiet: bool,
    pub(crate) store: Option<Arc<str>>,
    pub(crate) handle: Option<TableStore<K, V2>>,
}

impl<K, V, V2, F> Processor<K, Change<V>, K, Change<V2>> for TableStep<K, V2, F>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    V2: Clone + Send + 'static,
    F: Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V2>>) -> Result<()> {
        let send_old = self.send_old;
        let opened = self.store.as_ref().map(|name| TableStore::own(context, name, send_old));
        self.handle = opened.transpose()?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K, Change<V2>>,
    ) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        let is_latest = change.is_latest;
        let new = change.new.and_then(|value| (self.step)(&key, value));
        let old = match self.handle {
            _ if !self.send_old => None,
            Some(store) => store.get_own(context.frame, &key)?.map(|(value, _)| value),
            None => change.old.and_then(|value| (self.step)(&key, value)),
        };
        if self.is_quiet && self.send_old && new.is_none() && old.is_none() {
            return Ok(());
        }
        let record = Record { key, value: Change { new, old, is_latest }, timestamp, headers };
        match self.handle {
            Some(store) => store.put_and_forward(context, record, timestamp).map(drop),
            None => context.forward(record),
        }
    }
}

struct StepGetter<K, V, F> {
    parent: Box<dyn ValueGetter<K, V>>,
    step: Arc<F>,
}

impl<K, V, V2, F> ValueGetter<K, V2> for StepGetter<K, V, F>
where
    F: Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
{
    fn get(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V2, Timestamp)>> {
        let found = self.parent.get(frame, key)?;
        Ok(found.and_then(|(value, at)| (self.step)(key, value).map(|value| (value, at))))
    }

    fn get_as_of(
        &mut self,
        frame: &mut Frame<'_>,
        key: &K,
        at: Timestamp,
    ) -> Result<Option<(V2, Timestamp)>> {
        let found = self.parent.get_as_of(frame, key, at)?;
        Ok(found.and_then(|(value, at)| (self.step)(key, value).map(|value| (value, at))))
    }
}

/// Reads the parent table and takes the step. Source: `KTableFilterValueGetter`, `KTableMapValuesValueGetter`.
pub(crate) fn step_getter<K, V, V2, F>(
    parent: GetterSupplier<K, V>,
    step: Arc<F>,
) -> GetterSupplier<K, V2>
where
    K: 'static,
    V: 'static,
    V2: 'static,
    F: Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
{
    Arc::new(move |frame, node| {
        Ok(Box::new(StepGetter { parent: parent(frame, node)?, step: step.clone() }))
    })
}
