//! Reads the values of windowed tables.

use std::marker::PhantomData;
use std::sync::Arc;

use super::join::{GetterSupplier, ValueGetter};
use crate::error::Result;
use crate::processor::{Frame, StoreHandle};
use crate::store::{SessionStore, WindowStore};
use crate::time::Timestamp;
use crate::windowed::Windowed;

struct WindowGetter<K, V> {
    handle: StoreHandle<WindowStore<K, V>>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> ValueGetter<Windowed<K>, V> for WindowGetter<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn get(&mut self, frame: &mut Frame<'_>, key: &Windowed<K>) -> Result<Option<(V, Timestamp)>> {
        frame.store(self.handle).fetch_with_timestamp(&key.key, key.window.start)
    }
}

struct SessionGetter<K, V> {
    handle: StoreHandle<SessionStore<K, V>>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> ValueGetter<Windowed<K>, V> for SessionGetter<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn get(&mut self, frame: &mut Frame<'_>, key: &Windowed<K>) -> Result<Option<(V, Timestamp)>> {
        let value = frame.store(self.handle).fetch_session(&key.key, key.window)?;
        Ok(value.map(|value| (value, key.window.end)))
    }
}

/// Reads a windowed table out of its window store. Source: `KStreamWindowAggregateValueGetter`.
pub(crate) fn window_getter<K, V>(store: Arc<str>) -> GetterSupplier<Windowed<K>, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    Arc::new(move |frame, node| {
        let handle = frame.store_handle(node, &store)?;
        Ok(Box::new(WindowGetter { handle, types: PhantomData }))
    })
}

/// Reads a windowed table out of its session store. Source: `KTableSessionWindowValueGetter`.
pub(crate) fn session_getter<K, V>(store: Arc<str>) -> GetterSupplier<Windowed<K>, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    Arc::new(move |frame, node| {
        let handle = frame.store_handle(node, &store)?;
        Ok(Box::new(SessionGetter { handle, types: PhantomData }))
    })
}
