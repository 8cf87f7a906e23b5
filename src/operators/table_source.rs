//! A topic read as a table.

use std::sync::Arc;

use super::join::{GetterSupplier, ValueGetter};
use super::{Change, TableStore};
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Frame, Processor, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::store::{KeyValueStore, PutResult};
use crate::time::Timestamp;

/// Keeps the latest value of each key and forwards the changes. Source: `KTableSource`.
///
/// Updates are applied in offset order, whatever their timestamps, but in a versioned store. `store` is `None` where nobody needs the table materialised.
pub(crate) struct TableSource<K, V> {
    store: Option<Arc<str>>,
    /// Somebody downstream asked for old values.
    send_old: bool,
    handle: Option<TableStore<K, V>>,
}

impl<K, V> TableSource<K, V> {
    pub(crate) fn new(store: Option<Arc<str>>, send_old: bool) -> Self {
        Self { store, send_old, handle: None }
    }
}

impl<K, V, KN, VN> Processor<KN, VN, K, Change<V>> for TableSource<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    KN: Nullable<NonNull = K>,
    VN: Nullable<NonNull = V>,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V>>) -> Result<()> {
        let send_old = self.send_old;
        let opened = self.store.as_ref().map(|name| TableStore::own(context, name, send_old));
        self.handle = opened.transpose()?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<KN, VN>,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let value = value.into_non_null();
        let Some(key) = key.into_non_null() else {
            context.drop_record("null_key");
            return Ok(());
        };
        let mut change = Change::latest(value, None);
        let Some(store) = self.handle else {
            return context.forward(Record { key, value: change, timestamp, headers });
        };
        if self.send_old {
            change.old = store.get_own(context.frame, &key)?.map(|(value, _)| value);
        }
        let record = Record { key, value: change, timestamp, headers };
        if store.put_and_forward(context, record, timestamp)? == PutResult::NotPut {
            context.drop_record("older_than_history");
        }
        Ok(())
    }
}

/// Writes a global table's store; forwards nothing.
pub(crate) struct GlobalTableSource<K, V> {
    store: Arc<str>,
    handle: Option<StoreHandle<KeyValueStore<K, V>>>,
}

impl<K, V> GlobalTableSource<K, V> {
    pub(crate) fn new(store: Arc<str>) -> Self {
        Self { store, handle: None }
    }
}

impl<K, V> Processor<Option<K>, Option<V>, (), ()> for GlobalTableSource<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, (), ()>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Option<K>, Option<V>>,
        context: &mut ProcessorContext<'_, '_, (), ()>,
    ) -> Result<()> {
        let (Some(key), Some(handle)) = (record.key, self.handle) else {
            context.drop_record("null_key");
            return Ok(());
        };
        let store = context.store(handle);
        match &record.value {
            Some(value) => store.put_with_timestamp(&key, value, record.timestamp),
            None => store.delete(&key).map(drop),
        }
    }
}

struct StoreGetter<K, V>(TableStore<K, V>);

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> ValueGetter<K, V> for StoreGetter<K, V> {
    fn get(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V, Timestamp)>> {
        self.0.get(frame, key)
    }

    fn get_as_of(
        &mut self,
        frame: &mut Frame<'_>,
        key: &K,
        at: Timestamp,
    ) -> Result<Option<(V, Timestamp)>> {
        self.0.get_as_of(frame, key, at)
    }
}

/// Reads a table's values out of its store. Source: `KTableSourceValueGetterSupplier`.
pub(crate) fn store_getter<K, V>(store: Arc<str>) -> GetterSupplier<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    Arc::new(move |frame, node| Ok(Box::new(StoreGetter(TableStore::open(frame, node, &store)?))))
}
