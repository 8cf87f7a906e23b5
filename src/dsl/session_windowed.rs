//! Streams grouped by key and session.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::aggregates::{Aggregate, step_unless_null};
use super::grouped::KGroupedStream;
use super::params::{Materialized, Named};
use super::table::{KTable, TableSpec, always_old_values};
use super::windowed::retention;
use super::windowed_build::Placed;
use crate::error::Result;
use crate::nullable::Nullable;
use crate::operators::{
    Aggregation, Emit, EmitStrategy, SessionAggregate, SessionWindows, Steps, session_getter,
};
use crate::serdes::{DefaultSerde, Serde, WindowedSerdes};
use crate::store::{RowOrder, StoreBuilder, StoreKind};
use crate::topology::{Stores, Topology};
use crate::windowed::Windowed;

/// A grouped stream in sessions. Source: `SessionWindowedKStream`.
///
/// Records with a null key are dropped; one with a null value counts as any other.
pub struct SessionWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: SessionWindows,
    strategy: EmitStrategy,
}

impl<K, V> SessionWindowedKStream<K, V> {
    pub(super) fn new(grouped: KGroupedStream<K, V>, windows: SessionWindows) -> Self {
        Self { grouped, windows, strategy: EmitStrategy::default() }
    }

    /// Decides when results are sent.
    #[must_use]
    pub fn emit_strategy(self, strategy: EmitStrategy) -> Self {
        Self { strategy, ..self }
    }
}

impl<K, V> SessionWindowedKStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Counts the records of each key and session.
    pub fn count(&self) -> KTable<Windowed<K>, i64> {
        let steps = (|| 0, |count| count + 1, |one, two| one + two);
        self.do_count(steps, &Named::default(), Materialized::default())
    }

    /// As [`count`](Self::count), into the given store.
    pub fn count_with(
        &self,
        named: &Named,
        materialized: Materialized<K, i64>,
    ) -> KTable<Windowed<K>, i64> {
        self.count_by((|| 0, |count| count + 1, |one, two| one + two), named, materialized)
    }

    /// As [`count_with`](Self::count_with), in a type of your own: zero, the count after one more record, and the count of two
    /// sessions. Deviation: Kafka Streams counts with `Long` only.
    pub fn count_by<N>(
        &self,
        steps: (
            impl Fn() -> N + Send + Sync + 'static,
            impl Fn(N) -> N + Send + Sync + 'static,
            impl Fn(N, N) -> N + Send + Sync + 'static,
        ),
        named: &Named,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N>
    where
        N: DefaultSerde + Clone + Send,
    {
        if materialized.name.is_none() {
            // Java uses a number up here, for topologies of former versions.
            self.grouped.stream.plan.borrow_mut().new_name("KSTREAM-AGGREGATE-STATE-STORE-");
        }
        self.do_count(steps, named, materialized)
    }

    fn do_count<N>(
        &self,
        (zero, next, sum): (
            impl Fn() -> N + Send + Sync + 'static,
            impl Fn(N) -> N + Send + Sync + 'static,
            impl Fn(N, N) -> N + Send + Sync + 'static,
        ),
        named: &Named,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N>
    where
        N: DefaultSerde + Clone + Send,
    {
        let init = move || Some(zero());
        let add = move |_: &K, _: V, count: Option<N>| count.map(&next);
        let merge = move |_: &K, one: Option<N>, two: N| one.map(|one| sum(one, two));
        let steps = Steps { init, add };
        self.build("KSTREAM-AGGREGATE-", steps, merge, named, materialized, N::serde())
    }

    /// Combines the values of each key and session; the first one starts. A null result deletes the session.
    pub fn reduce(
        &self,
        reducer: impl Fn(V::NonNull, V) -> V + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<Windowed<K>, V::NonNull>
    where
        V: From<V::NonNull>,
        V::NonNull: DefaultSerde,
    {
        let reducer = Arc::new(reducer);
        let merge = {
            let reducer = reducer.clone();
            move |_: &K, one: Option<V::NonNull>, two: V::NonNull| match one {
                Some(one) => reducer(one, V::from(two)).into_non_null(),
                None => Some(two),
            }
        };
        let add = move |_: &K, value: V, sum: Option<V::NonNull>| {
            let reduced = match sum {
                Some(sum) => reducer(sum, value),
                None => value,
            };
            reduced.into_non_null()
        };
        let (steps, serde) = (Steps { init: || None, add }, V::NonNull::serde());
        self.build("KSTREAM-REDUCE-", steps, merge, named, materialized, serde)
    }

    /// Folds the values of each key and session, from `initializer`'s value on; `merger` joins the aggregates of two sessions, of which the first
    /// is at first the initial one. An aggregator that returns `None` deletes the session.
    pub fn aggregate<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
        merger: impl Fn(&K, VA, VA) -> VA + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        let initializer = Arc::new(initializer);
        let start = initializer.clone();
        let add = move |key: &K, value: V, sum: Option<VA>| {
            aggregator(key, value, sum.unwrap_or_else(|| start()))
        };
        let merge = move |key: &K, one: Option<VA>, two: VA| match one {
            Some(one) => Some(merger(key, one, two)),
            None => Some(two),
        };
        let steps = Steps { init: move || Some(initializer()), add };
        self.build("KSTREAM-AGGREGATE-", steps, merge, named, materialized, VA::serde())
    }

    /// Folds the values of each key and session as `aggregate` says; a null value changes nothing.
    pub fn aggregate_by<A>(
        &self,
        aggregate: A,
        named: &Named,
        materialized: Materialized<K, A::Result>,
    ) -> KTable<Windowed<K>, A::Result>
    where
        A: Aggregate<V::NonNull>,
        A::Result: DefaultSerde,
    {
        let aggregate = Arc::new(aggregate);
        let merge = {
            let aggregate = aggregate.clone();
            move |_: &K, one: Option<A::Result>, two: A::Result| {
                Some(match one {
                    Some(one) => aggregate.merge(one, two),
                    None => two,
                })
            }
        };
        let add = move |_: &K, value: V, result: Option<A::Result>| {
            step_unless_null(&*aggregate, result, value)
        };
        let (steps, serde) = (Steps { init: || None, add }, A::Result::serde());
        self.build("KSTREAM-AGGREGATE-", steps, merge, named, materialized, serde)
    }

    fn build<VA, A, M>(
        &self,
        prefix: &str,
        aggregation: A,
        merger: M,
        named: &Named,
        materialized: Materialized<K, VA>,
        value_serde: Serde<VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: Clone + Send + 'static,
        A: Aggregation<K, V, VA>,
        M: Fn(&K, Option<VA>, VA) -> Option<VA> + Send + Sync + 'static,
    {
        let Placed { store, name, parent, sources } =
            self.grouped.place(prefix, named, materialized.name.as_ref());
        let (key_serde, value_serde) = materialized
            .serdes
            .clone()
            .unwrap_or_else(|| (self.grouped.grouped.key_serde.clone(), value_serde));
        let serdes = (key_serde.clone(), value_serde.clone());
        let builder = session_store(self.windows, self.strategy, &store, &materialized, &serdes);
        let (windows, strategy) = (self.windows, self.strategy);
        let (aggregation, merger) = (Arc::new(aggregation), Arc::new(merger));
        let sends_old = Rc::new(Cell::new(false));
        let write = {
            let (name, store, sends_old) = (name.clone(), store.clone(), sends_old.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let emit = Emit { strategy, send_old: sends_old.get(), shares_store: false };
                let supplier = move || {
                    let (aggregation, merger) = (aggregation.clone(), merger.clone());
                    SessionAggregate::<K, VA, A, M>::new(
                        store.clone(),
                        windows,
                        aggregation,
                        merger,
                        emit,
                    )
                };
                topology.add_processor::<K, V, _, _, _>(&name, supplier, parents, &[])?;
                topology.add_state_store_of(builder?, &[&name])
            }
        };
        let mut plan = self.grouped.stream.plan.borrow_mut();
        let node = plan.add(name.clone(), &[parent], Box::new(write));
        plan.set_output_versioned(node, false);
        plan.mark_grace(node, windows.gap.saturating_add(windows.grace));
        drop(plan);
        KTable::new(TableSpec {
            plan: self.grouped.stream.plan.clone(),
            node,
            name,
            key_serde: Some(WindowedSerdes::session(key_serde)),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&sends_old),
            getter: session_getter(store),
        })
    }
}

/// Source: `SessionStoreMaterializer`. A session whose end lies exactly gap and grace period back is still open, but no longer
/// visible in a store of Java's default retention: ours keeps it a millisecond longer.
pub(super) fn session_store<K, VA>(
    windows: SessionWindows,
    strategy: EmitStrategy,
    store: &str,
    materialized: &Materialized<K, VA>,
    (key_serde, value_serde): &(Serde<K>, Serde<VA>),
) -> Result<Arc<dyn StoreBuilder>>
where
    K: Clone + Send + 'static,
    VA: Clone + Send + 'static,
{
    let wanted = windows.gap.saturating_add(windows.grace);
    let retention = retention(store, materialized, wanted)?;
    let (key_serde, value_serde) = (key_serde.clone(), value_serde.clone());
    let mut builder = Stores::session_store_with(store, retention, key_serde, value_serde)
        .keep_longer(Duration::from_millis(1));
    if strategy == EmitStrategy::OnWindowClose {
        builder = builder.row_order(RowOrder::TimeFirstIndexed);
    } else if materialized.caching {
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
