//! The store of a table, of latest values or versioned, as its operators use it. Hot path.

use super::Change;
use super::cached::own_cache;
use crate::error::Result;
use crate::processor::{Frame, NodeIndex, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::store::{KeyValueStore, PutResult, VersionedKeyValueStore, VersionedRecord};
use crate::time::Timestamp;

/// A table's store. Source: `KeyValueStoreWrapper`.
pub(crate) enum TableStore<K, V> {
    /// The latest value by offset.
    Timestamped(StoreHandle<KeyValueStore<K, V>>),
    /// Every value by timestamp.
    Versioned(StoreHandle<VersionedKeyValueStore<K, V>>),
}

impl<K, V> Clone for TableStore<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for TableStore<K, V> {}

impl<K, V> TableStore<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Looks the store of `node` up.
    pub(crate) fn open(frame: &Frame<'_>, node: NodeIndex, name: &str) -> Result<Self> {
        match frame.store_handle(node, name) {
            Ok(versioned) => Ok(Self::Versioned(versioned)),
            Err(_) => frame.store_handle(node, name).map(Self::Timestamped),
        }
    }

    /// Looks the store of the operator up that forwards its changes; where it is a caching one they are held back from now on.
    pub(crate) fn own(
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
        name: &str,
        send_old: bool,
    ) -> Result<Self> {
        let store = Self::open(context.frame, context.node, name)?;
        if let Self::Timestamped(handle) = store {
            own_cache(context, handle, send_old);
        }
        Ok(store)
    }

    /// The latest value, for the operator that forwards the store's changes.
    pub(crate) fn get_own(self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V, Timestamp)>> {
        let found = self.get(frame, key)?;
        if let Self::Timestamped(handle) = self {
            frame.evict(handle)?;
        }
        Ok(found)
    }

    /// Writes a change and forwards it, now or when the record cache lets go of it; `at` is the timestamp of the record that made it.
    /// What was not put is not forwarded either. Source: `TimestampedTupleForwarder.maybeForward`.
    pub(crate) fn put_and_forward(
        self,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
        mut record: Record<K, Change<V>>,
        at: Timestamp,
    ) -> Result<PutResult> {
        let Record { key, value: change, timestamp, .. } = &record;
        if let Self::Timestamped(handle) = self
            && context.frame.is_caching(handle)
        {
            let origin = context.frame.origin(at, record.headers.clone());
            let store = context.frame.store(handle);
            store.put_cached(key, change.new.as_ref(), *timestamp, origin)?;
            context.frame.evict(handle)?;
            return Ok(PutResult::Latest);
        }
        let put = self.put(context.frame, key, change.new.as_ref(), *timestamp)?;
        if put != PutResult::NotPut {
            record.value.is_latest = put == PutResult::Latest;
            context.forward(record)?;
        }
        Ok(put)
    }

    /// The latest value, as the table has told of it: one that has expired counts until its deletion was forwarded.
    pub(crate) fn get(self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V, Timestamp)>> {
        match self {
            Self::Timestamped(handle) => frame.store(handle).get_undeleted(key),
            Self::Versioned(handle) => Ok(frame.store(handle).get(key)?.map(value_and_timestamp)),
        }
    }

    /// The value at a time; the latest one where the store knows no other. One that has expired is none.
    pub(crate) fn get_as_of(
        self,
        frame: &mut Frame<'_>,
        key: &K,
        at: Timestamp,
    ) -> Result<Option<(V, Timestamp)>> {
        match self {
            Self::Timestamped(handle) => frame.store(handle).get_with_timestamp(key),
            Self::Versioned(handle) => {
                Ok(frame.store(handle).get_as_of(key, at)?.map(value_and_timestamp))
            }
        }
    }

    /// Writes a value, or deletes the key. What was not put must not be forwarded either.
    fn put(
        self,
        frame: &mut Frame<'_>,
        key: &K,
        value: Option<&V>,
        timestamp: Timestamp,
    ) -> Result<PutResult> {
        match (self, value) {
            (Self::Versioned(handle), value) => frame.store(handle).put(key, value, timestamp),
            (Self::Timestamped(handle), Some(_)) if frame.store(handle).is_expired(timestamp) => {
                Ok(PutResult::NotPut)
            }
            (Self::Timestamped(handle), Some(value)) => {
                frame.store(handle).put_with_timestamp(key, value, timestamp)?;
                Ok(PutResult::Latest)
            }
            (Self::Timestamped(handle), None) => {
                frame.store(handle).delete(key)?;
                Ok(PutResult::Latest)
            }
        }
    }
}

fn value_and_timestamp<V>(record: VersionedRecord<V>) -> (V, Timestamp) {
    (record.value, record.timestamp)
}
