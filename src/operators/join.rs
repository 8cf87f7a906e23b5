//! Joins of a stream with a table: a look-up per record.

use std::sync::Arc;

use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{Frame, GlobalStoreHandle, NodeIndex, Processor, ProcessorContext};
use crate::record::Record;
use crate::store::KeyValueStore;
use crate::time::Timestamp;

/// Reads the current value of a table, materialised or derived. Source: `KTableValueGetter`.
pub(crate) trait ValueGetter<K, V>: Send {
    fn get(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V, Timestamp)>>;

    /// The value at a time; the current one where the table knows no other.
    fn get_as_of(
        &mut self,
        frame: &mut Frame<'_>,
        key: &K,
        at: Timestamp,
    ) -> Result<Option<(V, Timestamp)>> {
        let _ = at;
        self.get(frame, key)
    }
}

/// Makes a getter for the node that will use it. Source: `KTableValueGetterSupplier`.
pub(crate) type GetterSupplier<K, V> =
    Arc<dyn Fn(&mut Frame<'_>, NodeIndex) -> Result<Box<dyn ValueGetter<K, V>>> + Send + Sync>;

/// Inner and left join of a stream with a table. Source: `KStreamKTableJoinProcessor`.
///
/// A null value is dropped; a null key is dropped by the inner join and finds nothing in the left one.
pub(crate) struct StreamTableJoin<K: Nullable, VT, J> {
    pub(crate) getter: GetterSupplier<K::NonNull, VT>,
    pub(crate) opened: Option<Box<dyn ValueGetter<K::NonNull, VT>>>,
    pub(crate) joiner: Arc<J>,
    pub(crate) left: bool,
}

impl<K, V, VT, VO, J> Processor<K, V, K, VO> for StreamTableJoin<K, VT, J>
where
    K: Nullable,
    V: Nullable,
    VT: 'static,
    VO: Clone + 'static,
    J: Fn(&K, V, Option<VT>) -> VO + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VO>) -> Result<()> {
        let node = context.node;
        self.opened = Some((self.getter)(context.frame, node)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        if value.as_non_null().is_none() || (key.as_non_null().is_none() && !self.left) {
            context.drop_record("null_key_or_value");
            return Ok(());
        }
        let getter = self.opened.as_mut().expect("init opened the getter");
        let found = match key.as_non_null() {
            Some(key) => getter.get_as_of(context.frame, key, timestamp)?.map(|(value, _)| value),
            None => None,
        };
        if found.is_none() && !self.left {
            return Ok(());
        }
        let value = (self.joiner)(&key, value, found);
        context.forward(Record { key, value, timestamp, headers })
    }
}

/// Inner and left join of a stream with a global table, on a key taken from the record. Source: `KStreamGlobalKTableJoin`.
pub(crate) struct StreamGlobalTableJoin<KG, VG, S, J> {
    pub(crate) store_name: Arc<str>,
    pub(crate) store: Option<GlobalStoreHandle<KeyValueStore<KG, VG>>>,
    pub(crate) key_selector: Arc<S>,
    pub(crate) joiner: Arc<J>,
    pub(crate) left: bool,
}

impl<K, V, KS, VG, VO, S, J> Processor<K, V, K, VO>
    for StreamGlobalTableJoin<KS::NonNull, VG, (S, std::marker::PhantomData<fn() -> KS>), J>
where
    K: Clone + Send + 'static,
    V: Nullable,
    KS: Nullable,
    VG: Clone + Send + 'static,
    VO: Clone + 'static,
    S: Fn(&K, &V) -> KS + Send + Sync + 'static,
    J: Fn(&K, V, Option<VG>) -> VO + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VO>) -> Result<()> {
        self.store = Some(context.global_store(&self.store_name)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let selected = (self.key_selector.0)(&key, &value).into_non_null();
        if value.as_non_null().is_none() || (selected.is_none() && !self.left) {
            context.drop_record("null_key_or_value");
            return Ok(());
        }
        let store = self.store.as_ref().expect("init looked the store up");
        let found = match &selected {
            Some(key) => store.with(|store| store.get(key))?,
            None => None,
        };
        if found.is_none() && !self.left {
            return Ok(());
        }
        let value = (self.joiner)(&key, value, found);
        context.forward(Record { key, value, timestamp, headers })
    }
}
