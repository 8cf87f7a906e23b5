//! Tables whose rows live for a time: what has expired is deleted, and the table says so. Hot path.

use std::sync::Arc;
use std::time::Duration;

use super::Change;
use crate::error::Result;
use crate::processor::{Processor, ProcessorContext, PunctuationType, PunctuatorId, StoreHandle};
use crate::record::{Headers, Record};
use crate::store::KeyValueStore;
use crate::time::Timestamp;

/// Rows looked at in one go; where more are due, each record does as many again, so that they are not left behind.
const BATCH: usize = 256;
/// How often stream time is looked at: so many times in a row's life, within these bounds.
const LOOKS: u32 = 100;
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What a table with a time to live needs to know.
pub(crate) struct TableTtl<KIn, K> {
    pub(crate) store: Arc<str>,
    pub(crate) ttl: Duration,
    /// The row that a record changes.
    pub(crate) key_of: fn(&KIn) -> Option<K>,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
}

impl<KIn, K> Clone for TableTtl<KIn, K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), ..*self }
    }
}

/// Runs a table's processor, and deletes the rows of its store that have expired.
///
/// A row that has expired is deleted, downstream too, before a record of its key is processed: so that the processor finds no row, and whoever
/// goes by old values is told of each row's end once. Other rows follow within an interval, by stream time, `BATCH` a record.
pub(crate) struct Expiring<P, KIn, K, V> {
    inner: P,
    table: TableTtl<KIn, K>,
    handle: Option<StoreHandle<KeyValueStore<K, V>>>,
    /// More is due than one batch.
    is_behind: bool,
}

impl<P, KIn, K, V> Expiring<P, KIn, K, V> {
    pub(crate) fn new(inner: P, table: TableTtl<KIn, K>) -> Self {
        Self { inner, table, handle: None, is_behind: false }
    }
}

impl<P, KIn, VIn, K, V> Processor<KIn, VIn, K, Change<V>> for Expiring<P, KIn, K, V>
where
    P: Processor<KIn, VIn, K, Change<V>>,
    KIn: 'static,
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V>>) -> Result<()> {
        self.inner.init(context)?;
        self.handle = Some(context.state_store(&self.table.store)?);
        let interval = (self.table.ttl / LOOKS).clamp(INTERVAL_MIN, INTERVAL_MAX);
        context.schedule(interval, PunctuationType::StreamTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<KIn, VIn>,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        if let Some(key) = (self.table.key_of)(&record.key)
            && let Some((value, at)) = context.store(handle).delete_if_expired(&key)?
        {
            self.forward_end(key, value, at, context)?;
        }
        if self.is_behind {
            self.remove_due(context)?;
        }
        self.inner.process(record, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        _: Timestamp,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        self.remove_due(context)
    }
}

impl<P, KIn, K, V> Expiring<P, KIn, K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn remove_due(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V>>) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        for (key, value, at) in context.store(handle).delete_expired(BATCH)? {
            self.forward_end(key, value, at, context)?;
        }
        self.is_behind = context.store(handle).has_due();
        Ok(())
    }

    /// Says that a row is gone, as of when it expired.
    fn forward_end(
        &self,
        key: K,
        value: V,
        at: Timestamp,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        let old = self.table.send_old.then_some(value);
        let (value, headers) = (Change::latest(None, old), Headers::default());
        context.forward(Record { key, value, timestamp: at, headers })
    }
}
