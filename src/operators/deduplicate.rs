//! `deduplicate`: the first record of each id within a span of event time. Hot path.

use std::sync::Arc;

use crate::error::Result;
use crate::processor::{Processor, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::store::WindowStore;
use crate::time::Timestamp;

/// What the store remembers of an id: that it was there.
pub(crate) type SeenIds<I> = WindowStore<I, i32>;

/// Forwards a record unless one with the same id was forwarded less than a window away from it.
pub(crate) struct Deduplicate<I, F> {
    store: Arc<str>,
    handle: Option<StoreHandle<SeenIds<I>>>,
    id: Arc<F>,
    window_ms: i64,
}

impl<I, F> Deduplicate<I, F> {
    pub(crate) fn new(store: Arc<str>, id: Arc<F>, window_ms: i64) -> Self {
        Self { store, handle: None, id, window_ms }
    }
}

impl<K, V, I, F> Processor<K, V, K, V> for Deduplicate<I, F>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    I: Clone + Send + 'static,
    F: Fn(&K, &V) -> I + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, V>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        let id = (self.id)(&record.key, &record.value);
        let store = context.store(self.handle.expect("init looked the store up"));
        let (at, window_ms) = (record.timestamp.as_millis(), self.window_ms);
        let newest = store.observed_stream_time().unwrap_or(Timestamp::MIN);
        if at < newest.as_millis().saturating_sub(window_ms) {
            context.drop_record("late");
            return Ok(());
        }
        let from = Timestamp::from_millis(at.saturating_sub(window_ms - 1).max(0));
        let to = Timestamp::from_millis(at.saturating_add(window_ms - 1));
        let seen = store.fetch_range(&id, from, to)?.next().transpose()?;
        if seen.is_some() {
            context.drop_record("duplicate");
            return Ok(());
        }
        store.put(&id, &1, record.timestamp)?;
        context.forward(record)
    }
}
