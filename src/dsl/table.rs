//! Tables: the latest value of each key.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::plan::SharedPlan;
use super::stream::KStream;
use crate::operators::{GetterSupplier, TableToStream};
use crate::serdes::{Serde, option_serde};
use crate::topology::Topology;

/// A changelog stream, read as a table. Its values are never null; a null on the wire deletes the key. Source: `KTable`.
pub struct KTable<K, V> {
    pub(super) spec: TableSpec<K, V>,
}

pub(super) struct TableSpec<K, V> {
    pub(super) plan: SharedPlan,
    pub(super) node: usize,
    pub(super) name: Arc<str>,
    pub(super) key_serde: Option<Serde<K>>,
    pub(super) value_serde: Option<Serde<V>>,
    pub(super) sources: Rc<[Arc<str>]>,
    /// Stores that a reader of this table must be connected to.
    pub(super) stores: Rc<[Arc<str>]>,
    /// Set by whoever needs the table's values looked up.
    pub(super) materialise: Rc<Cell<bool>>,
    pub(super) getter: GetterSupplier<K, V>,
}

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new(spec: TableSpec<K, V>) -> Self {
        Self { spec }
    }

    /// The changes as a stream: each new value, `None` for a deletion.
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let spec = &self.spec;
        let mut plan = spec.plan.borrow_mut();
        let name = plan.new_name("KTABLE-TOSTREAM-");
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                topology.add_processor::<K, _, K, Option<V>, _>(
                    &name,
                    || TableToStream,
                    parents,
                    &[],
                )
            }
        };
        let node = plan.add(name.clone(), &[spec.node], Box::new(write));
        drop(plan);
        let serdes = (spec.key_serde.clone(), spec.value_serde.clone().map(option_serde));
        KStream::new(spec.plan.clone(), node, name, serdes, spec.sources.clone(), false)
    }

    /// Has the table's values kept, and says how to read them.
    pub(super) fn value_getter(&self) -> GetterSupplier<K, V> {
        self.spec.materialise.set(true);
        self.spec.getter.clone()
    }

    /// The name of the table's node.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}
