//! A stream read as a table.

use std::rc::Rc;

use super::expiring::{TtlSpec, add_table_processor};
use super::params::{Materialized, Named};
use super::stream::KStream;
use super::table::{KTable, SourceState, TableSpec};
use crate::nullable::Nullable;
use crate::operators::{TableSource, store_getter};
use crate::serdes::DefaultSerde;
use crate::topology::Topology;

impl<K, V> KStream<K, V>
where
    K: Nullable<NonNull = K> + DefaultSerde,
    V: Nullable + DefaultSerde,
    V::NonNull: DefaultSerde,
{
    /// The stream as a table: the latest value of each key. Records without a key are dropped, null deletes.
    pub fn to_table(&self) -> KTable<K, V::NonNull> {
        self.to_table_with(&Named::default(), Materialized::default())
    }

    /// As [`to_table`](Self::to_table), with node and store given.
    pub fn to_table_with(
        &self,
        named: &Named,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<K, V::NonNull> {
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-TOTABLE-");
        let given = materialized.name.as_ref();
        let store = plan.name_or(given, "KSTREAM-TOTABLE-STATE-STORE-");
        drop(plan);
        let stream_key = self.serdes.0.clone().unwrap_or_else(K::serde);
        let (key_serde, value_serde) = materialized
            .serdes
            .clone()
            .unwrap_or_else(|| (stream_key.clone(), V::NonNull::serde()));
        let (parent, sources) = if self.repartition_required {
            let serdes = (stream_key, self.serdes.1.clone().unwrap_or_else(V::serde));
            let (node, source) = self.repartition_node(&name, move |topology, names, parents| {
                names.write(topology, parents, serdes, None, None)
            });
            (node, Rc::from([source]))
        } else {
            (self.node, self.sources.clone())
        };
        let ttl = TtlSpec::of(&materialized, Some(&store));
        let state = SourceState::new(materialized.name.is_some() || ttl.is_some());
        let is_versioned = materialized.is_versioned();
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let write = {
            let (name, store, state) = (name.clone(), store.clone(), state.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let materialised = state.materialised.get();
                let (used, send_old) = (materialised.then_some(store), state.sends_old.get());
                let supplier = move || TableSource::<K, V::NonNull>::new(used.clone(), send_old);
                let ttl = ttl.table(&name, |key: &K| Some(key.clone()), send_old)?;
                add_table_processor::<K, V, K, V::NonNull, _>(
                    topology, &name, supplier, parents, ttl,
                )?;
                if materialised {
                    topology.add_state_store_of(builder, &[&name])?;
                }
                Ok(())
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
            key_serde: Some(key_serde),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: state.materialise(),
            enable_old_values: state.enable_old_values(),
            getter: store_getter(store),
        })
    }
}
