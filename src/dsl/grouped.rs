//! Grouped streams: what comes between a stream and its aggregation.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::aggregates::{Aggregate, step};
use super::expiring::{TtlSpec, add_table_processor};
use super::params::{Grouped, Materialized, Named};
use super::stream::{KStream, SourceNode};
use super::table::{KTable, TableSpec, always_old_values};
use super::windowed_build::Placed;
use crate::nullable::Nullable;
use crate::operators::{Initializer, KStreamAggregate, store_getter};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::Topology;

/// What an aggregation does: an initial value, where it has one, and a step.
struct Fold<VA, S> {
    initial: Option<Initializer<VA>>,
    step: S,
}

/// One step of an aggregation.
trait Step<K, V, VA>: Fn(&K, V, Option<VA>) -> Option<VA> + Send + Sync + 'static {}

impl<K, V, VA, F> Step<K, V, VA> for F where
    F: Fn(&K, V, Option<VA>) -> Option<VA> + Send + Sync + 'static
{
}

/// A stream whose records of one key will be aggregated together. Source: `KGroupedStream`.
pub struct KGroupedStream<K, V> {
    pub(super) stream: KStream<K, V>,
    pub(super) grouped: Grouped<K, V>,
    /// The repartition node of a named grouping, which its aggregations share; clones are the same grouping.
    pub(super) repartition: Rc<RefCell<Option<SourceNode>>>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        let repartition = self.repartition.clone();
        Self { stream: self.stream.clone(), grouped: self.grouped.clone(), repartition }
    }
}

impl<K, V> KGroupedStream<K, V> {
    pub(super) fn new(stream: KStream<K, V>, grouped: Grouped<K, V>) -> Self {
        Self { stream, grouped, repartition: Rc::default() }
    }
}

impl<K, V> KGroupedStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Counts the records of each key.
    pub fn count(&self) -> KTable<K, i64> {
        let step = |_: &K, _: V::NonNull, count: Option<i64>| Some(count.unwrap_or(0) + 1);
        let (zero, materialized): (Initializer<i64>, _) = (Arc::new(|| 0), Materialized::default());
        let fold = Fold { initial: Some(zero), step };
        self.build("KSTREAM-AGGREGATE-", fold, &Named::default(), materialized, i64::serde())
    }

    /// Counts the records of each key into the given store.
    pub fn count_with(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.count_named(&Named::default(), materialized)
    }

    /// As [`count_with`](Self::count_with), with the node named.
    pub fn count_named(&self, named: &Named, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.count_by(|| 0, |count| count + 1, named, materialized)
    }

    /// As [`count_named`](Self::count_named), in a type of your own, from `zero` on. Deviation: Kafka Streams counts with `Long` only.
    pub fn count_by<N>(
        &self,
        zero: impl Fn() -> N + Send + Sync + 'static,
        next: impl Fn(N) -> N + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N>
    where
        N: DefaultSerde + Clone + Send,
    {
        if materialized.name.is_none() {
            // Java uses a number up here, for topologies of former versions.
            self.stream.plan.borrow_mut().new_name("KSTREAM-AGGREGATE-STATE-STORE-");
        }
        let zero: Initializer<N> = Arc::new(zero);
        let first = zero.clone();
        let step =
            move |_: &K, _: V::NonNull, count: Option<N>| Some(next(count.unwrap_or_else(&*first)));
        let fold = Fold { initial: Some(zero), step };
        self.build("KSTREAM-AGGREGATE-", fold, named, materialized, N::serde())
    }

    /// Combines the values of each key; the first one starts. A null result deletes the key, and the next value starts again.
    pub fn reduce<R: Nullable<NonNull = V::NonNull>>(
        &self,
        reducer: impl Fn(V::NonNull, V::NonNull) -> R + Send + Sync + 'static,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<K, V::NonNull>
    where
        V::NonNull: DefaultSerde,
    {
        self.reduce_named(reducer, &Named::default(), materialized)
    }

    /// As [`reduce`](Self::reduce), with the node named.
    pub fn reduce_named<R: Nullable<NonNull = V::NonNull>>(
        &self,
        reducer: impl Fn(V::NonNull, V::NonNull) -> R + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<K, V::NonNull>
    where
        V::NonNull: DefaultSerde,
    {
        let step = move |_: &K, value: V::NonNull, sum: Option<V::NonNull>| match sum {
            Some(sum) => reducer(sum, value).into_non_null(),
            None => Some(value),
        };
        let fold = Fold { initial: None, step };
        self.build("KSTREAM-REDUCE-", fold, named, materialized, V::NonNull::serde())
    }

    /// Folds the values of each key, from `initializer`'s value on; an aggregator that returns `None` deletes the key.
    pub fn aggregate<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V::NonNull, VA) -> Option<VA> + Send + Sync + 'static,
        materialized: Materialized<K, VA>,
    ) -> KTable<K, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        self.aggregate_named(initializer, aggregator, &Named::default(), materialized)
    }

    /// As [`aggregate`](Self::aggregate), with the node named.
    pub fn aggregate_named<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V::NonNull, VA) -> Option<VA> + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<K, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        let step = move |key: &K, value: V::NonNull, sum: Option<VA>| aggregator(key, value, sum?);
        let initial: Initializer<VA> = Arc::new(initializer);
        let fold = Fold { initial: Some(initial), step };
        self.build("KSTREAM-AGGREGATE-", fold, named, materialized, VA::serde())
    }

    /// Folds the values of each key as `aggregate` says.
    pub fn aggregate_by<A>(
        &self,
        aggregate: A,
        materialized: Materialized<K, A::Result>,
    ) -> KTable<K, A::Result>
    where
        A: Aggregate<V::NonNull>,
        A::Result: DefaultSerde,
    {
        let step = move |_: &K, value: V::NonNull, result: Option<A::Result>| {
            Some(step(&aggregate, result, value))
        };
        let fold = Fold { initial: None, step };
        let serde = A::Result::serde();
        self.build("KSTREAM-AGGREGATE-", fold, &Named::default(), materialized, serde)
    }

    fn build<VA: Clone + Send + 'static>(
        &self,
        prefix: &str,
        fold: Fold<VA, impl Step<K, V::NonNull, VA>>,
        named: &Named,
        materialized: Materialized<K, VA>,
        value_serde: Serde<VA>,
    ) -> KTable<K, VA> {
        let key_serde = &self.grouped.key_serde;
        let Placed { store, name, parent, sources } =
            self.place(prefix, named, materialized.name.as_ref());
        let Fold { initial, step } = fold;
        let is_versioned = materialized.is_versioned();
        let ttl = TtlSpec::of(&materialized, Some(&store));
        let builder = materialized.store_builder(&store, key_serde, &value_serde);
        let (step, sends_old) = (Arc::new(step), Rc::new(Cell::new(false)));
        let write = {
            let (name, store, sends_old) = (name.clone(), store.clone(), sends_old.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let send_old = sends_old.get();
                let supplier = move || KStreamAggregate::<K, VA, _> {
                    store: store.clone(),
                    handle: None,
                    initial: initial.clone(),
                    step: step.clone(),
                    send_old,
                };
                let ttl = ttl.table(&name, |key: &K| key.as_non_null().cloned(), send_old)?;
                add_table_processor::<K, V, K, VA, _>(topology, &name, supplier, parents, ttl)?;
                topology.add_state_store_of(builder, &[&name])
            }
        };
        let mut plan = self.stream.plan.borrow_mut();
        let node = plan.add(name.clone(), &[parent], Box::new(write));
        plan.set_output_versioned(node, is_versioned);
        drop(plan);
        KTable::new(TableSpec {
            plan: self.stream.plan.clone(),
            node,
            name,
            key_serde: Some(key_serde.clone()),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&sends_old),
            getter: store_getter(store),
        })
    }

    /// The node to aggregate below, behind a repartition topic where the key was changed, and the sources that feed it.
    /// `topic` names that topic where the grouping does not; where it does, all its aggregations share the topic.
    /// Source: `GroupedStreamAggregateBuilder.build`.
    pub(super) fn repartitioned(&self, topic: &Arc<str>) -> (usize, Rc<[Arc<str>]>) {
        if !self.stream.repartition_required {
            return (self.stream.node, self.stream.sources.clone());
        }
        let mut repartition = self.repartition.borrow_mut();
        let (node, source) = match (&*repartition, &self.grouped.name) {
            (Some(shared), Some(_)) => {
                let mut plan = self.stream.plan.borrow_mut();
                plan.use_up_repartition_names();
                plan.add_again(shared.0);
                shared.clone()
            }
            _ => repartition.insert(self.repartitioned_alone(topic)).clone(),
        };
        (node, Rc::from([source]))
    }

    /// A repartition node that no other aggregation shares, and its source.
    pub(super) fn repartitioned_alone(&self, topic: &Arc<str>) -> SourceNode {
        let Grouped { key_serde, value_serde, name } = &self.grouped;
        let topic = name.as_ref().unwrap_or(topic);
        let serdes = (key_serde.clone(), value_serde.clone());
        self.stream.repartition_node(topic, move |topology, names, parents| {
            names.write(topology, parents, serdes, None, None)
        })
    }
}
