//! Joins of two tables by their keys.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::expiring::{TtlSpec, add_table_processor};
use super::params::{Materialized, Named};
use super::table::{EnableOldValues, KTable, TableSpec};
use crate::nullable::Nullable;
use crate::operators::{Change, Required, TableMerge, TableTableJoin, join_getter, store_getter};
use crate::topology::Topology;

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The rows whose key is in both tables; a joiner that returns null leaves the row out.
    pub fn join<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(&V, &VT) -> VO + Send + Sync + 'static,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        self.join_with(other, joiner, &Named::default(), None)
    }

    /// As [`join`](Self::join), with names; kept in a store if `materialized` is given, which needs serdes then.
    pub fn join_with<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(&V, &VT) -> VO + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, VO::NonNull>>,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        let joiner =
            move |own: Option<&V>, other: Option<&VT>| joiner(own?, other?).into_non_null();
        self.join_tables(other, joiner, Required { own: true, other: true }, named, materialized)
    }

    /// The rows of this table, each with the other's value of its key where there is one.
    pub fn left_join<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(&V, Option<&VT>) -> VO + Send + Sync + 'static,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        self.left_join_with(other, joiner, &Named::default(), None)
    }

    /// As [`left_join`](Self::left_join), with names; kept in a store if `materialized` is given, which needs serdes then.
    pub fn left_join_with<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(&V, Option<&VT>) -> VO + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, VO::NonNull>>,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        let joiner = move |own: Option<&V>, other: Option<&VT>| joiner(own?, other).into_non_null();
        self.join_tables(other, joiner, Required { own: true, other: false }, named, materialized)
    }

    /// The rows whose key is in either table.
    pub fn outer_join<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(Option<&V>, Option<&VT>) -> VO + Send + Sync + 'static,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        self.outer_join_with(other, joiner, &Named::default(), None)
    }

    /// As [`outer_join`](Self::outer_join), with names; kept in a store if `materialized` is given, which needs serdes then.
    pub fn outer_join_with<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(Option<&V>, Option<&VT>) -> VO + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, VO::NonNull>>,
    ) -> KTable<K, VO::NonNull>
    where
        VT: Clone + Send + 'static,
        VO: Nullable,
    {
        let joiner = move |own: Option<&V>, other: Option<&VT>| joiner(own, other).into_non_null();
        self.join_tables(other, joiner, Required { own: false, other: false }, named, materialized)
    }

    /// Source: `KTableImpl.doJoin`, `KTableKTableJoinNode`.
    fn join_tables<VT, VO>(
        &self,
        other: &KTable<K, VT>,
        joiner: impl Fn(Option<&V>, Option<&VT>) -> Option<VO> + Send + Sync + 'static,
        required: Required,
        named: &Named,
        materialized: Option<Materialized<K, VO>>,
    ) -> KTable<K, VO>
    where
        VT: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        let mut plan = self.spec.plan.borrow_mut();
        let store = materialized.as_ref().map(|materialized| {
            plan.name_or(materialized.name.as_ref(), "KTABLE-MERGE-STATE-STORE-")
        });
        let merge = plan.node_name(named.0.as_ref(), "KTABLE-MERGE-");
        let mut side = |suffix: &str, prefix: &str| {
            let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-join-{suffix}")));
            plan.node_name(given.as_ref(), prefix)
        };
        let this_name: Arc<str> = side("this", "KTABLE-JOINTHIS-");
        let other_name: Arc<str> = side("other", "KTABLE-JOINOTHER-");
        drop(plan);
        // A side whose rows can stand alone must tell of deletions, even of rows that it did not keep.
        if required.own && !required.other {
            (self.spec.enable_old_values)(true);
        }
        if !required.own && !required.other {
            (self.spec.enable_old_values)(true);
            (other.spec.enable_old_values)(true);
        }
        let sources: Rc<[Arc<str>]> =
            self.spec.sources.iter().chain(other.spec.sources.iter()).cloned().collect();
        let (this_getter, other_getter) = (self.value_getter(), other.value_getter());
        let materialized = materialized.unwrap_or_default();
        let is_versioned = materialized.is_versioned();
        let ttl = TtlSpec::of(&materialized, store.as_ref());
        let versioned: [Rc<Cell<bool>>; 2] = Default::default();
        let (key_serde, value_serde) = materialized.serdes_or(&self.spec.key_serde, &None);
        let builder = store
            .as_ref()
            .map(|store| materialized.builder_of(store, key_serde.as_ref(), value_serde.as_ref()));
        let (joiner, sends_old) = (Arc::new(joiner), Rc::new(Cell::new(false)));
        let write = {
            let (merge, store, joiner) = (merge.clone(), store.clone(), joiner.clone());
            let (this_getter, other_getter) = (this_getter.clone(), other_getter.clone());
            let (this_stores, other_stores) = (self.spec.stores.clone(), other.spec.stores.clone());
            let (sends_old, versioned) = (sends_old.clone(), versioned.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let send_old = sends_old.get();
                let [this_versioned, other_versioned] = versioned.map(|versioned| versioned.get());
                let reversed = {
                    let joiner = joiner.clone();
                    Arc::new(move |own: Option<&VT>, other: Option<&V>| joiner(other, own))
                };
                let supplier = move || TableTableJoin {
                    getter: other_getter.clone(),
                    opened: None,
                    joiner: joiner.clone(),
                    required,
                    is_versioned: this_versioned,
                    send_old,
                };
                topology.add_processor::<K, _, K, _, _>(
                    &this_name,
                    supplier,
                    &parents[..1],
                    &[],
                )?;
                let supplier = move || TableTableJoin {
                    getter: this_getter.clone(),
                    opened: None,
                    joiner: reversed.clone(),
                    required: required.reversed(),
                    is_versioned: other_versioned,
                    send_old,
                };
                let below = &parents[parents.len() - 1..];
                topology.add_processor::<K, _, K, _, _>(&other_name, supplier, below, &[])?;
                let supplier =
                    move || TableMerge::<K, VO> { store: store.clone(), send_old, handle: None };
                let sides = [&*this_name, &*other_name];
                let ttl = ttl.table(&merge, |key: &K| Some(key.clone()), send_old)?;
                add_table_processor::<K, Change<VO>, K, VO, _>(
                    topology, &merge, supplier, &sides, ttl,
                )?;
                if let Some(builder) = builder {
                    topology.add_state_store_of(builder?, &[&merge])?;
                }
                let mut connect = |node: &str, stores: &[Arc<str>]| {
                    let mut stores = stores.iter();
                    stores.try_for_each(|store| topology.connect_processor_and_store(node, store))
                };
                connect(&this_name, &other_stores)?;
                connect(&other_name, &this_stores)
            }
        };
        let mut plan = self.spec.plan.borrow_mut();
        plan.copartition(sources.to_vec());
        let parents = [self.spec.node, other.spec.node];
        let node = plan.add(merge.clone(), &parents, Box::new(write));
        plan.mark_versioned_semantics(node, versioned.to_vec());
        plan.set_output_versioned(node, is_versioned);
        drop(plan);
        let (stores, getter) = match store {
            Some(store) => (Rc::new([store.clone()]) as Rc<[_]>, store_getter(store)),
            None => {
                let stores = self.spec.stores.iter().chain(other.spec.stores.iter());
                (
                    stores.cloned().collect(),
                    join_getter(this_getter, other_getter, joiner, required),
                )
            }
        };
        let enable_old_values: EnableOldValues = {
            let parents =
                [&self.spec.enable_old_values, &other.spec.enable_old_values].map(Rc::clone);
            Rc::new(move |_| {
                for parent in &parents {
                    parent(true);
                }
                sends_old.set(true);
                true
            })
        };
        KTable::new(TableSpec {
            plan: self.spec.plan.clone(),
            node,
            name: merge,
            key_serde,
            value_serde,
            sources,
            stores,
            materialise: Rc::new(|| ()),
            enable_old_values,
            getter,
        })
    }
}
