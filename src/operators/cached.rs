//! What an operator with a record cache gives its task: how changes of its store's type are forwarded.

use super::Change;
use crate::error::Result;
use crate::processor::{CacheOwner, Frame, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::store::{CachedChange, CachingStore};

/// Has the changes of the operator's store held back, where it is a caching one. Source: `TimestampedTupleForwarder`.
pub(super) fn own_cache<S>(
    context: &mut ProcessorContext<'_, '_, S::Key, Change<S::Value>>,
    handle: StoreHandle<S>,
    send_old: bool,
) where
    S: CachingStore,
    S::Key: Clone + 'static,
    S::Value: Clone + 'static,
{
    context.frame.own_cache(handle, context.node, send_old, forward::<S>);
}

/// Source: `TimestampedCacheFlushListener`, `SessionCacheFlushListener`.
fn forward<S>(frame: &mut Frame<'_>, owner: CacheOwner, change: &CachedChange) -> Result<()>
where
    S: CachingStore,
    S::Key: Clone + 'static,
    S::Value: Clone + 'static,
{
    let store = frame.stores[owner.store].as_any().downcast_ref::<S>();
    let store = store.expect("the owner's handle was made for this type");
    let read = |value: &Option<_>| value.as_ref().map(|value| store.read_value(value)).transpose();
    let key = store.read_key(&change.key)?;
    let new = read(&change.new)?;
    let old = if owner.send_old { read(&change.old)? } else { None };
    let (value, timestamp) = (Change::latest(new, old), change.timestamp);
    let headers = change.origin.headers.clone();
    frame.forward(owner.node, Record { key, value, timestamp, headers })
}
