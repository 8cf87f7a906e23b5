//! Grouped streams: what comes between a stream and its aggregation.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::params::{Grouped, Materialized};
use super::stream::KStream;
use super::table::{KTable, TableSpec, always_old_values};
use crate::nullable::Nullable;
use crate::operators::{Initializer, KStreamAggregate, store_getter};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::Topology;

/// A stream whose records of one key will be aggregated together. Source: `KGroupedStream`.
pub struct KGroupedStream<K, V> {
    pub(super) stream: KStream<K, V>,
    pub(super) grouped: Grouped<K, V>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), grouped: self.grouped.clone() }
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
        self.build("KSTREAM-AGGREGATE-", Some(zero), step, materialized, i64::serde())
    }

    /// Counts the records of each key into the given store.
    pub fn count_with(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.count_by(|| 0, |count| count + 1, materialized)
    }

    /// As [`count_with`](Self::count_with), in a type of your own, from `zero` on. Deviation: Kafka Streams counts with `Long` only.
    pub fn count_by<N>(
        &self,
        zero: impl Fn() -> N + Send + Sync + 'static,
        next: impl Fn(N) -> N + Send + Sync + 'static,
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
        self.build("KSTREAM-AGGREGATE-", Some(zero), step, materialized, N::serde())
    }

    /// Combines the values of each key; the first one starts.
    pub fn reduce(
        &self,
        reducer: impl Fn(V::NonNull, V::NonNull) -> V::NonNull + Send + Sync + 'static,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<K, V::NonNull>
    where
        V::NonNull: DefaultSerde,
    {
        let step = move |_: &K, value: V::NonNull, sum: Option<V::NonNull>| {
            Some(match sum {
                Some(sum) => reducer(sum, value),
                None => value,
            })
        };
        self.build("KSTREAM-REDUCE-", None, step, materialized, V::NonNull::serde())
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
        let step = move |key: &K, value: V::NonNull, sum: Option<VA>| aggregator(key, value, sum?);
        let initial: Initializer<VA> = Arc::new(initializer);
        self.build("KSTREAM-AGGREGATE-", Some(initial), step, materialized, VA::serde())
    }

    fn build<VA: Clone + Send + 'static>(
        &self,
        prefix: &str,
        initial: Option<Initializer<VA>>,
        step: impl Fn(&K, V::NonNull, Option<VA>) -> Option<VA> + Send + Sync + 'static,
        materialized: Materialized<K, VA>,
        value_serde: Serde<VA>,
    ) -> KTable<K, VA> {
        let key_serde = &self.grouped.key_serde;
        let mut plan = self.stream.plan.borrow_mut();
        let store = plan.name_or(materialized.name.as_ref(), &format!("{prefix}STATE-STORE-"));
        let name = plan.new_name(prefix);
        drop(plan);
        let (parent, sources) = self.repartitioned(&store);
        let is_versioned = materialized.is_versioned();
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
                topology.add_processor::<K, V, _, _, _>(&name, supplier, parents, &[])?;
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
    /// `topic` names that topic where the grouping does not.
    pub(super) fn repartitioned(&self, topic: &Arc<str>) -> (usize, Rc<[Arc<str>]>) {
        if !self.stream.repartition_required {
            return (self.stream.node, self.stream.sources.clone());
        }
        let Grouped { key_serde, value_serde, name } = &self.grouped;
        let topic = name.as_ref().unwrap_or(topic);
        let serdes = (key_serde.clone(), value_serde.clone());
        let (node, source) =
            self.stream.repartition_node(topic, move |topology, names, parents| {
                names.write(topology, parents, serdes, None, None)
            });
        (node, Rc::from([source]))
    }
}
