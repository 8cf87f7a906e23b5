//! `suppress`: a table's updates, held back until they are due. Hot path.

use std::sync::Arc;

use bytes::Bytes;

use super::Change;
use super::join::{GetterSupplier, ValueGetter};
use crate::error::{Error, ErrorKind, Result};
use crate::processor::{Frame, Processor, ProcessorContext, StoreHandle, TimesHandle};
use crate::record::{Headers, Record};
use crate::serdes::{Encoded, Serde};
use crate::store::{HeldBack, SuppressBuffer};
use crate::time::Timestamp;

/// What becomes of a buffer that is too full. Source: `BufferFullStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The oldest updates are forwarded early.
    EmitEarly,
    /// The thread ends with an error: no result may come early.
    ShutDown,
}

/// How much is held back at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) when_full: WhenFull,
}

/// What a suppression waits for. Source: `SuppressedInternal`.
pub(crate) struct SuppressRule<K> {
    /// From an update's time until it is due.
    pub(crate) wait_ms: i64,
    /// The time of an update, where that is not its timestamp.
    pub(crate) time_of: Option<fn(&K) -> Timestamp>,
    pub(crate) bounds: Bounds,
    /// Deletions of keys that were never forwarded are not forwarded either.
    pub(crate) drops_tombstones: bool,
}

impl<K> Clone for SuppressRule<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for SuppressRule<K> {}

/// Holds the updates of a table back. Source: `KTableSuppressProcessorSupplier`.
pub(crate) struct Suppress<K, V> {
    store: Arc<str>,
    handle: Option<StoreHandle<SuppressBuffer>>,
    times: Option<TimesHandle>,
    rule: SuppressRule<K>,
    keys: Serde<K>,
    values: Serde<V>,
    key: Vec<u8>,
}

impl<K, V> Suppress<K, V> {
    pub(crate) fn new(
        store: Arc<str>,
        rule: SuppressRule<K>,
        keys: Serde<K>,
        values: Serde<V>,
    ) -> Self {
        Self { store, handle: None, times: None, rule, keys, values, key: Vec::new() }
    }
}

type Context<'c, 'f, 'a, K, V> = &'c mut ProcessorContext<'f, 'a, K, Change<V>>;

impl<K, V> Processor<K, Change<V>, K, Change<V>> for Suppress<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V>>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        self.times = Some(context.own_times());
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        let timestamp = record.timestamp;
        self.hold_back(record, context)?;
        let times = self.times.expect("init looked the times up");
        let stream_time = context.operator_times(times).observe(timestamp);
        let due = stream_time.as_millis().saturating_sub(self.rule.wait_ms);
        while context.store(handle).min_time().is_some_and(|time| time <= due) {
            self.emit_first(context)?;
        }
        while let Some((records, bytes)) = self.excess(context.store(handle)) {
            let Bounds { records_max, bytes_max, when_full } = self.rule.bounds;
            if when_full == WhenFull::ShutDown {
                let text = format!(
                    "buffer \"{}\" of suppressed updates is full: found {records} records of {records_max} and {bytes} bytes of {bytes_max}; raise its bounds, or let it emit early",
                    self.store
                );
                return Err(Error::new(ErrorKind::Fatal, text));
            }
            self.emit_first(context)?;
        }
        Ok(())
    }
}

impl<K, V> Suppress<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn hold_back(
        &mut self,
        record: Record<K, Change<V>>,
        context: Context<'_, '_, '_, K, V>,
    ) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        let time = self.rule.time_of.map_or(timestamp, |time_of| time_of(&key));
        let origin = context.frame.origin(timestamp, headers);
        let store = context.store(self.handle.expect("init looked the store up"));
        let topic = store.topic().clone();
        write_key(&self.keys, &topic, &key, &mut self.key)?;
        let write = |value: &Option<V>| -> Result<Option<Bytes>> {
            let Some(value) = value else { return Ok(None) };
            let mut bytes = Vec::new();
            let written = self.values.serializer().serialize(&topic, value, &mut bytes)?;
            Ok((written == Encoded::Bytes).then(|| bytes.into()))
        };
        let (old, new) = (write(&change.old)?, write(&change.new)?);
        let update = HeldBack { prior: old.clone(), old, new, origin };
        store.put(time.as_millis(), &self.key, update);
        Ok(())
    }

    /// Whether more is held back than allowed, and how much.
    fn excess(&self, store: &SuppressBuffer) -> Option<(usize, usize)> {
        let (records, bytes) = (store.records(), store.bytes());
        let Bounds { records_max, bytes_max, .. } = self.rule.bounds;
        (records > records_max || bytes > bytes_max).then_some((records, bytes))
    }

    /// Forwards the update that is due first, as the record that made it, and forgets it.
    fn emit_first(&mut self, context: Context<'_, '_, '_, K, V>) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        let store = context.store(handle);
        let Some((bytes, update)) = store.first() else { return Ok(()) };
        let topic = store.topic().clone();
        let HeldBack { old, new, origin, .. } = update;
        if new.is_some() || !self.rule.drops_tombstones {
            let key =
                self.keys.deserializer().deserialize(&topic, &origin.headers, Some(&bytes))?;
            let read = |value: Option<Bytes>| -> Result<Option<V>> {
                let Some(value) = value else { return Ok(None) };
                let values = self.values.deserializer();
                values.deserialize(&topic, &origin.headers, Some(&value)).map(Some)
            };
            let value = Change::latest(read(new)?, read(old)?);
            let headers = origin.headers.clone();
            let record = Record { key, value, timestamp: origin.timestamp, headers };
            let before = context.frame.enter(origin);
            let forwarded = context.forward(record);
            context.frame.task.current = before;
            forwarded?;
        }
        // Only now: while it is forwarded, the table still looks as before to those that look it up.
        context.store(handle).remove(&bytes);
        Ok(())
    }
}

fn write_key<K>(keys: &Serde<K>, topic: &str, key: &K, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    match keys.serializer().serialize(topic, key, out)? {
        Encoded::Bytes => Ok(()),
        Encoded::Null => {
            Err(Error::bad_record("found a key that is written as null, wanted one that is not"))
        }
    }
}

/// A suppressed table as others see it: what is held back has not happened yet.
struct SuppressGetter<K, V> {
    handle: StoreHandle<SuppressBuffer>,
    parent: Box<dyn ValueGetter<K, V>>,
    keys: Serde<K>,
    values: Serde<V>,
    key: Vec<u8>,
}

impl<K: Send + 'static, V: Send + 'static> SuppressGetter<K, V> {
    /// The value before the update that is held back; the outer `None`: none is.
    fn prior(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<Option<(V, Timestamp)>>> {
        let store = frame.store(self.handle);
        let topic = store.topic().clone();
        write_key(&self.keys, &topic, key, &mut self.key)?;
        let Some(prior) = store.prior(&self.key) else { return Ok(None) };
        let Some(prior) = prior else { return Ok(Some(None)) };
        let values = self.values.deserializer();
        let value = values.deserialize(&topic, &Headers::default(), Some(prior))?;
        // Nobody knows when that was, as in Java.
        Ok(Some(Some((value, Timestamp::from_millis(-1)))))
    }
}

impl<K: Send + 'static, V: Send + 'static> ValueGetter<K, V> for SuppressGetter<K, V> {
    fn get(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(V, Timestamp)>> {
        match self.prior(frame, key)? {
            Some(prior) => Ok(prior),
            None => self.parent.get(frame, key),
        }
    }
}

/// Reads a suppressed table: what it was before the updates held back, else its parent.
pub(crate) fn suppress_getter<K, V>(
    store: Arc<str>,
    parent: GetterSupplier<K, V>,
    keys: Serde<K>,
    values: Serde<V>,
) -> GetterSupplier<K, V>
where
    K: Send + 'static,
    V: Send + 'static,
{
    Arc::new(move |frame, node| {
        let handle = frame.store_handle(node, &store)?;
        let (parent, keys, values) = (parent(frame, node)?, keys.clone(), values.clone());
        Ok(Box::new(SuppressGetter { handle, parent, keys, values, key: Vec::new() }))
    })
}
