//! Tables grouped by another key, and their aggregations.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::expiring::{TtlSpec, add_table_processor};
use super::params::{Grouped, Materialized, Named};
use super::plan::SharedPlan;
use super::table::{KTable, TableSpec, always_old_values};
use crate::nullable::Nullable;
use crate::operators::{Change, TableAggregate, TableRepartitionMap, change_serde, store_getter};
use crate::processor::{SinkKind, SinkTopic};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{SourceOptions, TopicName, Topology};

/// A table whose rows of one new key will be aggregated together. Source: `KGroupedTable`.
///
/// Each aggregation has an adder for what rows say and a subtractor for what they no longer say.
pub struct KGroupedTable<K, V> {
    plan: SharedPlan,
    node: usize,
    grouped: Grouped<K, V>,
    /// The repartition node of a named grouping, which its aggregations share.
    repartition: RefCell<Option<(usize, Arc<str>)>>,
}

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Groups the rows by a new key, with a value made of each; a row is left out where either is null.
    pub fn group_by<K2, V2>(
        &self,
        selector: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
        grouped: Grouped<K2::NonNull, V2::NonNull>,
    ) -> KGroupedTable<K2::NonNull, V2::NonNull>
    where
        K2: Nullable,
        K2::NonNull: PartialEq,
        V2: Nullable,
    {
        let spec = &self.spec;
        let selector = Arc::new(selector);
        let mut plan = spec.plan.borrow_mut();
        let name = plan.node_name(grouped.name.as_ref(), "KTABLE-SELECT-");
        let versioned = Rc::new(Cell::new(false));
        let write = {
            let (name, versioned) = (name.clone(), versioned.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let is_versioned = versioned.get();
                let supplier = move || TableRepartitionMap::<K2, V2, _> {
                    selector: selector.clone(),
                    is_versioned,
                    types: PhantomData,
                };
                topology.add_processor::<K, Change<V>, _, _, _>(&name, supplier, parents, &[])
            }
        };
        let node = plan.add(name, &[spec.node], Box::new(write));
        plan.mark_versioned_semantics(node, vec![versioned]);
        drop(plan);
        (spec.enable_old_values)(true);
        KGroupedTable { plan: spec.plan.clone(), node, grouped, repartition: RefCell::default() }
    }
}

impl<K, V> KGroupedTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Counts the rows of each key; a key without rows left has the count 0.
    pub fn count(&self) -> KTable<K, i64> {
        self.count_with(&Named::default(), Materialized::default())
    }

    /// As [`count`](Self::count), into the given store.
    pub fn count_with(&self, named: &Named, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let add = |_: &K, _: V, count: Option<i64>| Some(count.unwrap_or(0) + 1);
        let subtract = |_: &K, _: V, count: i64| Some(count - 1);
        self.build("KTABLE-AGGREGATE-", (add, subtract), named, materialized, i64::serde())
    }

    /// Combines the values of each key; the first one starts. A null result deletes the key, and the next value starts again.
    pub fn reduce<R: Nullable<NonNull = V>>(
        &self,
        adder: impl Fn(V, V) -> R + Send + Sync + 'static,
        subtractor: impl Fn(V, V) -> R + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let add = move |_: &K, value: V, sum: Option<V>| match sum {
            Some(sum) => adder(sum, value).into_non_null(),
            None => Some(value),
        };
        let subtract = move |_: &K, value: V, sum: V| subtractor(sum, value).into_non_null();
        let value_serde = self.grouped.value_serde.clone();
        self.build("KTABLE-REDUCE-", (add, subtract), named, materialized, value_serde)
    }

    /// Folds the values of each key, from `initializer`'s value on; an adder or subtractor that returns `None` deletes the key.
    pub fn aggregate<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        adder: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
        subtractor: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<K, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        let add = move |key: &K, value: V, sum: Option<VA>| {
            adder(key, value, sum.unwrap_or_else(&initializer))
        };
        self.build("KTABLE-AGGREGATE-", (add, subtractor), named, materialized, VA::serde())
    }

    /// Source: `KGroupedTableImpl.doAggregate`.
    fn build<VA, A, S>(
        &self,
        prefix: &str,
        (add, subtract): (A, S),
        named: &Named,
        materialized: Materialized<K, VA>,
        value_serde: Serde<VA>,
    ) -> KTable<K, VA>
    where
        VA: Clone + Send + 'static,
        A: Fn(&K, V, Option<VA>) -> Option<VA> + Send + Sync + 'static,
        S: Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
    {
        let mut plan = self.plan.borrow_mut();
        // The store of a reduction is called AGGREGATE too, as in Java.
        let store = plan.name_or(materialized.name.as_ref(), "KTABLE-AGGREGATE-STATE-STORE-");
        let mut around = |suffix: &str, prefix: &str| {
            let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-{suffix}")));
            plan.node_name(given.as_ref(), prefix)
        };
        let sink: Arc<str> = around("sink", "KSTREAM-SINK-");
        let source: Arc<str> = around("source", "KSTREAM-SOURCE-");
        let name = plan.node_name(named.0.as_ref(), prefix);
        drop(plan);
        let topic = self.grouped.name.clone().unwrap_or_else(|| store.clone());
        let (parent, source) = self.repartitioned(&format!("{topic}-repartition"), sink, source);
        let key_serde = &self.grouped.key_serde;
        let is_versioned = materialized.is_versioned();
        let ttl = TtlSpec::of(&materialized, Some(&store));
        let builder = materialized.store_builder(&store, key_serde, &value_serde);
        let (add, subtract, sends_old) =
            (Arc::new(add), Arc::new(subtract), Rc::new(Cell::new(false)));
        let write = {
            let (name, store, sends_old) = (name.clone(), store.clone(), sends_old.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let send_old = sends_old.get();
                let supplier = move || TableAggregate::<K, VA, _, _> {
                    store: store.clone(),
                    handle: None,
                    add: add.clone(),
                    subtract: subtract.clone(),
                    send_old,
                };
                let ttl = ttl.table(&name, |key: &K| Some(key.clone()), send_old)?;
                add_table_processor::<K, Change<V>, K, VA, _>(
                    topology, &name, supplier, parents, ttl,
                )?;
                topology.add_state_store_of(builder, &[&name])
            }
        };
        let mut plan = self.plan.borrow_mut();
        let node = plan.add(name.clone(), &[parent], Box::new(write));
        plan.set_output_versioned(node, is_versioned);
        drop(plan);
        KTable::new(TableSpec {
            plan: self.plan.clone(),
            node,
            name,
            key_serde: Some(key_serde.clone()),
            value_serde: Some(value_serde),
            sources: Rc::new([source]),
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&sends_old),
            getter: store_getter(store),
        })
    }

    /// The repartition topic below the key-selecting node, with its source. Source: `GroupedTableOperationRepartitionNode`.
    fn repartitioned(&self, topic: &str, sink: Arc<str>, source: Arc<str>) -> (usize, Arc<str>) {
        if let Some(shared) = self.repartition.borrow().clone() {
            self.plan.borrow_mut().add_again(shared.0);
            return shared;
        }
        let topic: Arc<str> = topic.into();
        let keys = self.grouped.key_serde.clone();
        let changes = change_serde(self.grouped.value_serde.clone());
        let write = {
            let source = source.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                topology.add_internal_topic(&topic, None);
                let kind = SinkKind::Repartition { drops_null_keys: false };
                let (key, value) = (keys.clone(), changes.clone());
                let fixed = SinkTopic::Fixed(topic.clone());
                topology.add_sink_of(&sink, fixed, kind, key, value, None, parents)?;
                let topics = vec![TopicName::Internal(topic)];
                let options = SourceOptions::default();
                topology.add_source_of(&source, topics, keys, changes, options).map(|_| ())
            }
        };
        let node = self.plan.borrow_mut().add(source.clone(), &[self.node], Box::new(write));
        if self.grouped.name.is_some() {
            *self.repartition.borrow_mut() = Some((node, source.clone()));
        }
        (node, source)
    }
}
