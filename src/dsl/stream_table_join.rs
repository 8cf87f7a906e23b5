//! Joins of a stream with a table.

use std::rc::Rc;
use std::sync::Arc;

use super::params::Joined;
use super::stream::KStream;
use super::table::KTable;
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::{BufferedJoin, StreamTableJoin};
use crate::serdes::Serde;
use crate::topology::{JoinBufferBuilder, Topology};

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Joins each record with the table's current value of its key, or with that of the record's time where the table is versioned;
    /// records without one are dropped.
    pub fn join<VT, VO>(
        &self,
        table: &KTable<K::NonNull, VT>,
        joiner: impl Fn(&K, V, VT) -> VO + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, VO>
    where
        K: Nullable,
        V: Nullable,
        VT: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        let joiner = move |key: &K, value: V, found: Option<VT>| {
            joiner(key, value, found.expect("an inner join calls only with a value"))
        };
        self.join_table(table, joiner, joined, false)
    }

    /// Joins each record with the table's current value of its key, or `None`; a versioned table's value is that of the record's time.
    pub fn left_join<VT, VO>(
        &self,
        table: &KTable<K::NonNull, VT>,
        joiner: impl Fn(&K, V, Option<VT>) -> VO + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, VO>
    where
        K: Nullable,
        V: Nullable,
        VT: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        self.join_table(table, joiner, joined, true)
    }

    /// Source: `KStreamImpl.doStreamTableJoin`.
    fn join_table<VT, VO>(
        &self,
        table: &KTable<K::NonNull, VT>,
        joiner: impl Fn(&K, V, Option<VT>) -> VO + Send + Sync + 'static,
        joined: Joined<K, V>,
        left: bool,
    ) -> KStream<K, VO>
    where
        K: Nullable,
        V: Nullable,
        VT: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        let stream = if self.repartition_required {
            self.repartition_for_join(joined.name.clone(), joined.serdes.clone())
        } else {
            self.clone()
        };
        let (getter, joiner) = (table.value_getter(), Arc::new(joiner));
        let join = move || StreamTableJoin {
            getter: getter.clone(),
            opened: None,
            joiner: joiner.clone(),
            left,
        };
        let sources: Rc<[Arc<str>]> =
            stream.sources.iter().chain(table.spec.sources.iter()).cloned().collect();
        let Joined { serdes, name, grace } = joined;
        let (key_serde, value_serde) = match serdes {
            Some((key, value)) => (Some(key), Some(value)),
            None => stream.serdes.clone(),
        };
        let mut plan = stream.plan.borrow_mut();
        plan.copartition(sources.to_vec());
        let prefix = if left { "KSTREAM-LEFTJOIN-" } else { "KSTREAM-JOIN-" };
        let name = plan.node_name(name.as_ref(), prefix);
        let is_versioned = plan.is_output_versioned(table.spec.node);
        let write = {
            let (name, stores) = (name.clone(), table.spec.stores.clone());
            let serdes = (key_serde.clone(), value_serde);
            move |topology: &mut Topology, parents: &[&str]| {
                let Some(grace) = grace else {
                    topology.add_processor::<K, V, K, VO, _>(&name, join, parents, &[])?;
                    return connect(topology, &name, &stores);
                };
                let store: Arc<str> = format!("{name}-Buffer").into();
                let (key_serde, value_serde) = known(serdes, &name)?;
                let buffer = store.clone();
                let supplier = move || BufferedJoin::<K, V, VT, _> {
                    join: join(),
                    store: buffer.clone(),
                    handle: None,
                    due: Vec::new(),
                };
                topology.add_processor::<K, V, K, VO, _>(&name, supplier, parents, &[])?;
                let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
                let builder = JoinBufferBuilder { name: store, key_serde, value_serde, grace_ms };
                topology.add_state_store_of(Arc::new(builder), &[&name])?;
                connect(topology, &name, &stores)?;
                check_history(topology, &name, &stores, grace, is_versioned)
            }
        };
        let node = plan.add(name.clone(), &[stream.node], Box::new(write));
        if left {
            plan.mark_relaxed_null_key(node);
        }
        drop(plan);
        KStream::new(stream.plan.clone(), node, name, (key_serde, None), sources, false)
    }
}

fn connect(topology: &mut Topology, node: &str, stores: &[Arc<str>]) -> Result<()> {
    stores.iter().try_for_each(|store| topology.connect_processor_and_store(node, store))
}

fn known<K, V>(
    (key, value): (Option<Serde<K>>, Option<Serde<V>>),
    node: &str,
) -> Result<(Serde<K>, Serde<V>)> {
    key.zip(value).ok_or_else(|| {
        Error::invalid(format!(
            "join \"{node}\" with a grace period keeps records in a store, but the serdes of its stream are not known; give them with Joined::with"
        ))
    })
}

/// Source: `StreamTableJoinNode.writeToTopology`.
fn check_history(
    topology: &Topology,
    node: &str,
    stores: &[Arc<str>],
    grace: std::time::Duration,
    is_versioned: bool,
) -> Result<()> {
    let unversioned = || {
        Error::invalid(format!(
            "join \"{node}\" with a grace period: found an unversioned table, wanted one that is Materialized::versioned"
        ))
    };
    if !is_versioned {
        return Err(unversioned());
    }
    for store in stores {
        let builder = topology.stores.get(store).map(|spec| &spec.builder);
        let history = builder.and_then(|builder| builder.history_retention());
        let history = history.ok_or_else(unversioned)?;
        if history < grace {
            return Err(Error::invalid(format!(
                "join \"{node}\": found a grace period of {} ms and a history of {} ms in store \"{store}\", wanted a history of the grace period at least",
                grace.as_millis(),
                history.as_millis()
            )));
        }
    }
    Ok(())
}
