//! Tables: the latest value of each key.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::expiring::{TtlSpec, add_table_processor};
use super::params::{Materialized, Named};
use super::plan::SharedPlan;
use super::stream::KStream;
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::{
    Change, GetterSupplier, TableStep, TableToStream, step_getter, store_getter,
};
use crate::serdes::{Serde, option_serde};
use crate::topology::{StoreBuilder, Topology};

/// A changelog stream, read as a table. Its values are never null; a null on the wire deletes the key. Source: `KTable`.
pub struct KTable<K, V> {
    pub(super) spec: TableSpec<K, V>,
}

/// Has a table send old values with its changes; says whether it does. With `true` the table is materialised if it must be.
/// Source: `enableSendingOldValues`.
pub(super) type EnableOldValues = Rc<dyn Fn(bool) -> bool>;

pub(super) struct TableSpec<K, V> {
    pub(super) plan: SharedPlan,
    pub(super) node: usize,
    pub(super) name: Arc<str>,
    pub(super) key_serde: Option<Serde<K>>,
    pub(super) value_serde: Option<Serde<V>>,
    pub(super) sources: Rc<[Arc<str>]>,
    /// Stores that a reader of this table must be connected to.
    pub(super) stores: Rc<[Arc<str>]>,
    /// Called by whoever needs the table's values looked up.
    pub(super) materialise: Rc<dyn Fn()>,
    pub(super) enable_old_values: EnableOldValues,
    pub(super) getter: GetterSupplier<K, V>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        let spec = &self.spec;
        Self::new(TableSpec {
            plan: spec.plan.clone(),
            node: spec.node,
            name: spec.name.clone(),
            key_serde: spec.key_serde.clone(),
            value_serde: spec.value_serde.clone(),
            sources: spec.sources.clone(),
            stores: spec.stores.clone(),
            materialise: spec.materialise.clone(),
            enable_old_values: spec.enable_old_values.clone(),
            getter: spec.getter.clone(),
        })
    }
}

/// What later calls decide about a table that is read from a topic. Source: the fields of `KTableSource`.
#[derive(Clone, Default)]
pub(super) struct SourceState {
    pub(super) materialised: Rc<Cell<bool>>,
    pub(super) sends_old: Rc<Cell<bool>>,
}

impl SourceState {
    pub(super) fn new(materialised: bool) -> Self {
        Self { materialised: Rc::new(Cell::new(materialised)), ..Self::default() }
    }

    pub(super) fn materialise(&self) -> Rc<dyn Fn()> {
        let materialised = self.materialised.clone();
        Rc::new(move || materialised.set(true))
    }

    pub(super) fn enable_old_values(&self) -> EnableOldValues {
        let Self { materialised, sends_old } = self.clone();
        Rc::new(move |force| {
            if !force && !materialised.get() {
                return false;
            }
            materialised.set(true);
            sends_old.set(true);
            true
        })
    }
}

/// For a table that always has a store: whoever asks gets old values.
pub(super) fn always_old_values(sends_old: &Rc<Cell<bool>>) -> EnableOldValues {
    let sends_old = sends_old.clone();
    Rc::new(move |_| {
        sends_old.set(true);
        true
    })
}

impl<K, V> KTable<K, V> {
    pub(super) fn new(spec: TableSpec<K, V>) -> Self {
        Self { spec }
    }

    /// The same table with serdes given for what needs them later: a derived table does not know those of its values.
    /// Deviation: Java falls back to `default.value.serde`.
    #[must_use]
    pub fn with_serdes(&self, key_serde: Serde<K>, value_serde: Serde<V>) -> Self {
        let mut table = self.clone();
        table.spec.key_serde = Some(key_serde);
        table.spec.value_serde = Some(value_serde);
        table
    }

    /// As [`with_serdes`](Self::with_serdes), for a table that knows the serde of its keys.
    #[must_use]
    pub fn with_value_serde(&self, value_serde: Serde<V>) -> Self {
        let mut table = self.clone();
        table.spec.value_serde = Some(value_serde);
        table
    }

    /// The name of the table's node.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The changes as a stream: each new value, `None` for a deletion.
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        self.to_stream_named(&Named::default())
    }

    /// As [`to_stream`](Self::to_stream), with the node named.
    pub fn to_stream_named(&self, named: &Named) -> KStream<K, Option<V>> {
        let mut stream = self.to_stream_of(|key, value| (key, value), named);
        let TableSpec { key_serde, value_serde, .. } = &self.spec;
        stream.serdes = (key_serde.clone(), value_serde.clone().map(option_serde));
        stream
    }

    /// As [`to_stream`](Self::to_stream), with each key and each new value (`None` for a deletion) in a type of your own, such as one that has a null
    /// or holds windows. Keys must stay as distinct as they were: nothing is repartitioned because of this.
    pub fn to_stream_of<K2, V2>(
        &self,
        convert: impl Fn(K, Option<V>) -> (K2, V2) + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
    {
        let spec = &self.spec;
        let convert = Arc::new(convert);
        let mut plan = spec.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KTABLE-TOSTREAM-");
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let supplier = move || TableToStream(convert.clone());
                topology.add_processor::<K, _, K2, V2, _>(&name, supplier, parents, &[])
            }
        };
        let node = plan.add(name.clone(), &[spec.node], Box::new(write));
        drop(plan);
        let sources = spec.sources.clone();
        KStream::new(spec.plan.clone(), node, name, (None, None), sources, false)
    }

    /// The changes as a stream under a new key.
    pub fn to_stream_by<K2>(
        &self,
        selector: impl Fn(&K, &Option<V>) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, Option<V>>
    where
        K2: Clone + Send + 'static,
    {
        self.to_stream().select_key(selector)
    }

    /// Keeps the rows for which `predicate` holds; a row that no longer does is deleted.
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_with(predicate, &Named::default(), None)
    }

    /// As [`filter`](Self::filter); kept in a store of its own if `materialized` names one.
    pub fn filter_with(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, V>>,
    ) -> Self {
        let step = move |key: &K, value: V| predicate(key, &value).then_some(value);
        self.step("KTABLE-FILTER-", step, true, named, materialized, self.spec.value_serde.clone())
    }

    /// Keeps the rows for which `predicate` does not hold.
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_not_with(predicate, &Named::default(), None)
    }

    /// As [`filter_not`](Self::filter_not); kept in a store of its own if `materialized` names one.
    pub fn filter_not_with(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, V>>,
    ) -> Self {
        self.filter_with(move |key, value| !predicate(key, value), named, materialized)
    }

    /// Makes another value of each row's; null deletes the row.
    pub fn map_values<V2: Nullable>(
        &self,
        mapper: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2::NonNull> {
        self.map_values_with(mapper, &Named::default(), None)
    }

    /// As [`map_values`](Self::map_values); kept in a store of its own if `materialized` names one, which needs serdes then.
    pub fn map_values_with<V2: Nullable>(
        &self,
        mapper: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
        named: &Named,
        materialized: Option<Materialized<K, V2::NonNull>>,
    ) -> KTable<K, V2::NonNull> {
        let step = move |key: &K, value: V| mapper(key, value).into_non_null();
        self.step("KTABLE-MAPVALUES-", step, false, named, materialized, None)
    }

    fn step<V2: Clone + Send + 'static>(
        &self,
        prefix: &str,
        step: impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
        is_filter: bool,
        named: &Named,
        materialized: Option<Materialized<K, V2>>,
        value_serde: Option<Serde<V2>>,
    ) -> KTable<K, V2> {
        let spec = &self.spec;
        let store = materialized.as_ref().and_then(|materialized| materialized.name.clone());
        let mut plan = spec.plan.borrow_mut();
        plan.check_name(store.as_ref());
        if materialized.is_some() && store.is_none() {
            plan.new_name(prefix); // Java uses a number up for a store that it then does not make
        }
        let name = plan.node_name(named.0.as_ref(), prefix);
        drop(plan);
        let output_versioned = materialized.as_ref().map(Materialized::is_versioned);
        let materialized = materialized.unwrap_or_default();
        let ttl = TtlSpec::of(&materialized, store.as_ref());
        let (key_serde, value_serde) = materialized.serdes_or(&spec.key_serde, &value_serde);
        // Where the parent has a store already, a filter can keep quiet about rows that it never let through.
        let sends_old = Rc::new(Cell::new(is_filter && (spec.enable_old_values)(false)));
        let (step, versioned) = (Arc::new(step), Rc::new(Cell::new(false)));
        let builder = store
            .as_ref()
            .map(|store| materialized.builder_of(store, key_serde.as_ref(), value_serde.as_ref()));
        let write = {
            let (name, store, step) = (name.clone(), store.clone(), step.clone());
            let (sends_old, versioned) = (sends_old.clone(), versioned.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let send_old = sends_old.get();
                // Of a versioned table, a change without values may be an out-of-order one that matters further down.
                let is_quiet = is_filter && !versioned.get();
                let supplier = move || TableStep {
                    step: step.clone(),
                    send_old,
                    is_quiet,
                    store: store.clone(),
                    handle: None,
                };
                let ttl = ttl.table(&name, |key: &K| Some(key.clone()), send_old)?;
                add_table_processor::<K, Change<V>, K, V2, _>(
                    topology, &name, supplier, parents, ttl,
                )?;
                builder.map_or(Ok(()), |builder| topology.add_state_store_of(builder?, &[&name]))
            }
        };
        let mut plan = spec.plan.borrow_mut();
        let node = plan.add(name.clone(), &[spec.node], Box::new(write));
        plan.mark_versioned_semantics(node, vec![versioned]);
        if let Some(output_versioned) = output_versioned {
            plan.set_output_versioned(node, output_versioned);
        }
        drop(plan);
        let (stores, materialise, enable_old_values, getter) = match store {
            Some(store) => {
                let stores: Rc<[Arc<str>]> = Rc::new([store.clone()]);
                let nothing: Rc<dyn Fn()> = Rc::new(|| ());
                (stores, nothing, always_old_values(&sends_old), store_getter(store))
            }
            None => {
                let parent = spec.enable_old_values.clone();
                let enable: EnableOldValues = Rc::new(move |force| {
                    if parent(force) {
                        sends_old.set(true);
                    }
                    sends_old.get()
                });
                let getter = step_getter(spec.getter.clone(), step);
                (spec.stores.clone(), spec.materialise.clone(), enable, getter)
            }
        };
        KTable::new(TableSpec {
            plan: spec.plan.clone(),
            node,
            name,
            key_serde,
            value_serde,
            sources: spec.sources.clone(),
            stores,
            materialise,
            enable_old_values,
            getter,
        })
    }

    /// Has the table's values kept, and says how to read them.
    pub(super) fn value_getter(&self) -> GetterSupplier<K, V> {
        (self.spec.materialise)();
        self.spec.getter.clone()
    }
}

impl<K, V> Materialized<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The serdes given, or else those of the table.
    pub(super) fn serdes_or(
        &self,
        key: &Option<Serde<K>>,
        value: &Option<Serde<V>>,
    ) -> (Option<Serde<K>>, Option<Serde<V>>) {
        match self.serdes.clone() {
            Some((key, value)) => (Some(key), Some(value)),
            None => (key.clone(), value.clone()),
        }
    }

    /// The builder of a store whose serdes may not be known.
    pub(super) fn builder_of(
        &self,
        store: &str,
        key: Option<&Serde<K>>,
        value: Option<&Serde<V>>,
    ) -> Result<Arc<dyn StoreBuilder>> {
        let (Some(key), Some(value)) = (key, value) else {
            return Err(Error::invalid(format!(
                "store \"{store}\" needs serdes that its table does not know; give them with Materialized::with_serdes"
            )));
        };
        Ok(self.store_builder(store, key, value))
    }
}
