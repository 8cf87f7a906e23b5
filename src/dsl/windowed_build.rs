//! What the windowed aggregations have in common: where they hang, and their stores.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::grouped::KGroupedStream;
use super::params::{Materialized, Named};
use super::windowed::retention;
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::{
    Aggregation, Emit, EmitStrategy, SlidingAggregate, SlidingWindows, WindowAggregate, Windows,
};
use crate::serdes::Serde;
use crate::store::{RowOrder, StoreBuilder, StoreKind};
use crate::topology::{Stores, Topology};

/// Windows of time.
#[derive(Clone)]
pub(super) enum Kind {
    Windows(Arc<dyn Windows>),
    Sliding(SlidingWindows),
}

impl Kind {
    /// How long a window is, as keys say it.
    pub(super) fn size(&self) -> Duration {
        match self {
            Self::Windows(windows) => windows.size(),
            Self::Sliding(windows) => windows.difference,
        }
    }

    /// How long a window waits for late records after its end.
    pub(super) fn grace(&self) -> Duration {
        match self {
            Self::Windows(windows) => windows.grace_period(),
            Self::Sliding(windows) => windows.grace,
        }
    }

    /// How long the store must keep a window. Source: `WindowStoreMaterializer`, `SlidingWindowStoreMaterializer`.
    fn retention(&self) -> Duration {
        match self {
            Self::Windows(windows) => windows.size().saturating_add(windows.grace_period()),
            Self::Sliding(windows) => {
                windows.difference.saturating_mul(2).saturating_add(windows.grace)
            }
        }
    }

    /// What a store must keep beyond Java's default: the oldest sliding window that a record in time may need lies exactly at the end
    /// of the retention, where Java no longer finds it.
    const fn additional_retention(&self) -> Duration {
        match self {
            Self::Windows(_) => Duration::ZERO,
            Self::Sliding(_) => Duration::from_millis(1),
        }
    }

    pub(super) fn validate(&self, strategy: EmitStrategy) -> Result<()> {
        let Self::Windows(windows) = self else { return Ok(()) };
        windows.validate()?;
        if strategy == EmitStrategy::OnWindowClose && !windows.has_fixed_size() {
            return Err(Error::invalid(
                "found emit strategy OnWindowClose for windows without a fixed size, wanted TimeWindows, SlidingWindows or SessionWindows",
            ));
        }
        Ok(())
    }

    pub(super) fn store<K, V>(
        &self,
        store: &str,
        materialized: &Materialized<K, V>,
        strategy: EmitStrategy,
        key_serde: &Serde<K>,
        value_serde: &Serde<V>,
    ) -> Result<Arc<dyn StoreBuilder>>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let retention = retention(store, materialized, self.retention())?;
        let (key_serde, value_serde) = (key_serde.clone(), value_serde.clone());
        let mut builder =
            Stores::window_store_with(store, retention, self.size(), key_serde, value_serde)
                .timestamped()
                .keep_longer(self.additional_retention());
        builder = match (strategy, self) {
            (EmitStrategy::OnWindowUpdate, _) => builder,
            (EmitStrategy::OnWindowClose, Self::Windows(_)) => {
                builder.row_order(RowOrder::TimeFirst)
            }
            (EmitStrategy::OnWindowClose, Self::Sliding(_)) => {
                builder.row_order(RowOrder::TimeFirstIndexed)
            }
        };
        // Source: `SlidingWindowStoreMaterializer`. Java lets tumbling ones cache all the same, which nobody can see.
        if materialized.caching && strategy == EmitStrategy::OnWindowUpdate {
            builder = builder.caching_enabled();
        }
        if materialized.kind == StoreKind::InMemory {
            builder = builder.in_memory();
        }
        Ok(Arc::new(match &materialized.logging {
            Some(configs) => builder.logging_enabled(configs.clone()),
            None => builder.logging_disabled(),
        }))
    }

    pub(super) fn add_processor<K, V, VA, A>(
        self,
        topology: &mut Topology,
        name: &str,
        parents: &[&str],
        store: Arc<str>,
        aggregation: Arc<A>,
        emit: Emit,
    ) -> Result<()>
    where
        K: Nullable<NonNull = K>,
        V: Nullable,
        VA: Clone + Send + 'static,
        A: Aggregation<K, V, VA>,
    {
        match self {
            Self::Windows(windows) => {
                let supplier = move || {
                    let (store, windows) = (store.clone(), windows.clone());
                    WindowAggregate::<K, VA, A>::new(store, windows, aggregation.clone(), emit)
                };
                topology.add_processor::<K, V, _, _, _>(name, supplier, parents, &[])
            }
            Self::Sliding(windows) => {
                let supplier = move || {
                    SlidingAggregate::<K, VA, A>::new(
                        store.clone(),
                        windows,
                        aggregation.clone(),
                        emit,
                    )
                };
                topology.add_processor::<K, V, _, _, _>(name, supplier, parents, &[])
            }
        }
    }
}

/// Names of an aggregation, and what it hangs below.
pub(super) struct Placed {
    pub(super) store: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) parent: usize,
    pub(super) sources: Rc<[Arc<str>]>,
}

impl<K, V> KGroupedStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Names an aggregation's store and node in Java's order, and repartitions the stream where it must be.
    pub(super) fn place(&self, prefix: &str, named: &Named, store: Option<&Arc<str>>) -> Placed {
        let mut plan = self.stream.plan.borrow_mut();
        let store = plan.name_or(store, &format!("{prefix}STATE-STORE-"));
        let name = plan.node_name(named.0.as_ref(), prefix);
        drop(plan);
        let (parent, sources) = self.repartitioned(&store);
        Placed { store, name, parent, sources }
    }
}
