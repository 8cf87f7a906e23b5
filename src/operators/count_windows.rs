//! Count windows: an aggregate of every so many records of a key. Hot path.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::processor::{Processor, ProcessorContext, StoreHandle};
use crate::record::{Headers, Record};
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};
use crate::store::KeyValueStore;

/// An aggregate that is not complete yet: how many records it has, and what they make.
///
/// In the store: the count (4 bytes, big-endian), then the aggregate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counted<VA> {
    pub(crate) count: u32,
    pub(crate) aggregate: VA,
}

struct CountedSerde<VA>(Serde<VA>);

/// The serde of an aggregate that is not complete yet.
pub(crate) fn counted_serde<VA: 'static>(values: Serde<VA>) -> Serde<Counted<VA>> {
    Serde::from_both(CountedSerde(values))
}

impl<VA> Serializer<Counted<VA>> for CountedSerde<VA> {
    fn serialize(&self, topic: &str, value: &Counted<VA>, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(&value.count.to_be_bytes());
        match self.0.serializer().serialize(topic, &value.aggregate, out)? {
            Encoded::Bytes => Ok(Encoded::Bytes),
            Encoded::Null => Err(Error::bad_record("found a null aggregate, wanted a value")),
        }
    }
}

impl<VA> Deserializer<Counted<VA>> for CountedSerde<VA> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Counted<VA>> {
        let wrong = || Error::bad_record(format!("found {data:?}, wanted a counted aggregate"));
        let mut rest = data.cloned().ok_or_else(wrong)?;
        let count = rest.try_get_u32().map_err(|_| wrong())?;
        let aggregate = self.0.deserializer().deserialize(topic, headers, Some(&rest))?;
        Ok(Counted { count, aggregate })
    }
}

/// Forwards the aggregate of every `size` records of a key, and begins anew. `add` gets no aggregate with the first of them.
pub(crate) struct CountWindowAggregate<K: Nullable, VA, F> {
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<StoreHandle<KeyValueStore<K::NonNull, Counted<VA>>>>,
    pub(crate) size: u32,
    pub(crate) add: Arc<F>,
}

impl<K, V, VA, F> Processor<K, V, K::NonNull, VA> for CountWindowAggregate<K, VA, F>
where
    K: Nullable,
    V: Nullable,
    VA: Clone + Send + 'static,
    F: Fn(&K::NonNull, V::NonNull, Option<VA>) -> VA + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K::NonNull, VA>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K::NonNull, VA>,
    ) -> Result<()> {
        let Record { key, value, mut timestamp, headers } = record;
        let (Some(key), Some(value)) = (key.into_non_null(), value.into_non_null()) else {
            context.drop_record("null_key_or_value");
            return Ok(());
        };
        let store = context.store(self.handle.expect("init looked the store up"));
        let (count, aggregate) = match store.get_with_timestamp(&key)? {
            Some((counted, since)) => {
                timestamp = timestamp.max(since);
                (counted.count, Some(counted.aggregate))
            }
            None => (0, None),
        };
        let aggregate = (self.add)(&key, value, aggregate);
        if count + 1 < self.size {
            let counted = Counted { count: count + 1, aggregate };
            return store.put_with_timestamp(&key, &counted, timestamp);
        }
        store.delete(&key)?;
        context.forward(Record { key, value: aggregate, timestamp, headers })
    }
}
