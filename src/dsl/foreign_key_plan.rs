//! Writes a foreign-key join into the plan.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::cogrouped::SharedStoreSpec;
use super::expiring::{TtlSpec, add_table_processor};
use super::foreign_key_join::Names;
use super::params::Materialized;
use super::plan::SharedPlan;
use super::table::{KTable, SourceState, TableSpec};
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::{
    ForeignTableJoin, GetterSupplier, Response, ResponseJoin, Subscription, SubscriptionJoin,
    SubscriptionReceive, SubscriptionSend, TableSource, response_serde, store_getter,
    subscription_serde,
};
use crate::processor::{SinkKind, SinkTopic, StreamPartitioner};
use crate::serdes::{Serde, option_serde};
use crate::topology::{SourceOptions, StoreBuilder, Stores, TopicName, Topology};

/// The serdes of both tables, where they are known.
pub(super) struct Serdes<K, V, KO, VO> {
    pub(super) key: Option<Serde<K>>,
    pub(super) value: Option<Serde<V>>,
    pub(super) foreign_key: Option<Serde<KO>>,
    pub(super) foreign_value: Option<Serde<VO>>,
}

/// A join being written into the plan: one plan node for each of Java's graph nodes, in its order.
pub(super) struct ForeignKeyJoin<K, V, KO, VO> {
    pub(super) plan: SharedPlan,
    pub(super) serdes: Serdes<K, V, KO, VO>,
    pub(super) names: Names,
    pub(super) left: bool,
}

/// The serde, or the error that says which is missing.
fn known<T>(serde: Option<Serde<T>>, what: &str, node: &str) -> Result<Serde<T>> {
    serde.ok_or_else(|| {
        Error::invalid(format!(
            "foreign-key join \"{node}\" needs the serde of {what}, which that table does not know; give it with KTable::with_serdes or Materialized::with_serdes"
        ))
    })
}

impl<K, V, KO, VO> ForeignKeyJoin<K, V, KO, VO>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    KO: Clone + Send + 'static,
    VO: Clone + Send + 'static,
{
    fn keys(&self) -> Result<Serde<K>> {
        known(self.serdes.key.clone(), "the left table's key", &self.names.result)
    }

    fn values(&self) -> Result<Serde<V>> {
        known(self.serdes.value.clone(), "the left table's value", &self.names.result)
    }

    fn foreign_keys(&self) -> Result<Serde<KO>> {
        known(self.serdes.foreign_key.clone(), "the right table's key", &self.names.result)
    }

    fn foreign_values(&self) -> Result<Serde<VO>> {
        known(self.serdes.foreign_value.clone(), "the right table's value", &self.names.result)
    }

    fn add(
        &self,
        name: &Arc<str>,
        parents: &[usize],
        write: impl FnOnce(&mut Topology, &[&str]) -> Result<()> + 'static,
    ) -> usize {
        self.plan.borrow_mut().add(name.clone(), parents, Box::new(write))
    }

    /// Demands equal partition counts of a table and an inner topic; returns the sources of both.
    pub(super) fn copartition(&self, table: &Rc<[Arc<str>]>, inner: &Arc<str>) -> Rc<[Arc<str>]> {
        let sources: Rc<[Arc<str>]> = table.iter().chain([inner]).cloned().collect();
        self.plan.borrow_mut().copartition(sources.to_vec());
        sources
    }

    /// The left table's changes, sent as subscriptions; returns their source on the right side.
    pub(super) fn add_subscriptions<KF, E>(
        &self,
        table: usize,
        extractor: E,
        partitioner: Option<Arc<dyn StreamPartitioner<KO, ()>>>,
    ) -> usize
    where
        KF: Nullable<NonNull = KO>,
        E: Fn(&K, &V) -> KF + Send + Sync + 'static,
    {
        let Names { send, subscription_sink: sink, subscription_source: source, .. } = &self.names;
        let (topic, left) = (self.names.subscription_topic.clone(), self.left);
        let serdes = self.foreign_keys().and_then(|foreign| Ok((foreign, self.values()?)));
        let versioned = Rc::new(Cell::new(false));
        let write = {
            let (name, topic, versioned) = (send.clone(), topic.clone(), versioned.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let (foreign_keys, values) = serdes?;
                let extractor = Arc::new((Arc::new(extractor), PhantomData::<fn() -> KF>));
                let is_versioned = versioned.get();
                let supplier = move || {
                    let (keys, values) = (foreign_keys.clone(), values.clone());
                    SubscriptionSend::new(extractor.clone(), left, keys, values, topic.clone())
                        .of_versioned(is_versioned)
                };
                topology.add_processor::<K, _, Option<KO>, Subscription<K>, _>(
                    &name,
                    supplier,
                    parents,
                    &[],
                )
            }
        };
        let send = self.add(send, &[table], write);
        self.plan.borrow_mut().mark_versioned_semantics(send, vec![versioned]);
        let wire = self
            .foreign_keys()
            .and_then(|foreign| Ok((option_serde(foreign), subscription_serde(self.keys()?))));
        let wire = wire.map_err(|error| error.message().to_owned());
        let write = {
            let (name, topic, wire) = (sink.clone(), topic.clone(), wire.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let (key, value) = wire.map_err(Error::invalid)?;
                let partitioner = partitioner.map(|given| Arc::new(ByForeignKey(given)) as Arc<_>);
                topology.add_internal_topic(&topic, None);
                let topic = SinkTopic::Fixed(topic);
                topology.add_sink_of(&name, topic, INNER, key, value, partitioner, parents)
            }
        };
        let sink = self.add(sink, &[send], write);
        let write = {
            let name = source.clone();
            move |topology: &mut Topology, _: &[&str]| {
                let (key, value) = wire.map_err(Error::invalid)?;
                let topics = vec![TopicName::Internal(topic)];
                let options = SourceOptions::default();
                topology.add_source_of(&name, topics, key, value, options).map(|_| ())
            }
        };
        self.add(source, &[sink], write)
    }

    /// The right side, from its source to that of the answers.
    pub(super) fn add_right_side(
        &self,
        subscriptions: usize,
        other: &KTable<KO, VO>,
        partitioner: Option<Arc<dyn StreamPartitioner<K, ()>>>,
    ) -> usize {
        let store = SharedStoreSpec::new(&self.names.store, Ok(self.store_builder()));
        let receive = self.add_receiver(subscriptions, store.clone());
        let join = {
            let (name, getter) = (self.names.join.clone(), other.value_getter());
            let stores = other.spec.stores.clone();
            self.add(&self.names.join, &[receive], move |topology, parents| {
                let supplier = move || SubscriptionJoin::new(getter.clone());
                topology.add_processor::<Option<KO>, Subscription<K>, K, Response<VO>, _>(
                    &name,
                    supplier,
                    parents,
                    &[],
                )?;
                connect(topology, &name, &stores)
            })
        };
        let foreign_join = {
            let name = self.names.foreign_join.clone();
            let topic = self.names.subscription_topic.clone();
            let serdes = self.keys().and_then(|keys| Ok((keys, self.foreign_keys()?)));
            let versioned = Rc::new(Cell::new(false));
            let used_versioned = versioned.clone();
            let parent = other.spec.node;
            let node = self.add(&self.names.foreign_join, &[parent], move |topology, parents| {
                let (keys, foreign) = serdes?;
                let (used, is_versioned) = (store.name.clone(), used_versioned.get());
                let supplier = move || {
                    let (store, topic) = (used.clone(), topic.clone());
                    ForeignTableJoin::new(store, topic, keys.clone(), foreign.clone())
                        .of_versioned(is_versioned)
                };
                topology.add_processor::<KO, _, K, Response<VO>, _>(
                    &name,
                    supplier,
                    parents,
                    &[],
                )?;
                store.connect(topology, &name)
            });
            self.plan.borrow_mut().mark_versioned_semantics(node, vec![versioned]);
            node
        };
        let wire = self.keys().and_then(|keys| Ok((keys, response_serde(self.foreign_values()?))));
        let wire = wire.map_err(|error| error.message().to_owned());
        let topic = self.names.response_topic.clone();
        let sink = {
            let (name, topic) = (self.names.response_sink.clone(), topic.clone());
            let wire = wire.clone();
            self.add(&self.names.response_sink, &[join, foreign_join], move |topology, parents| {
                let (key, value) = wire.map_err(Error::invalid)?;
                topology.add_internal_topic(&topic, None);
                let topic = SinkTopic::Fixed(topic);
                let partitioner = Some(Arc::new(ToAsker(partitioner)) as Arc<_>);
                topology.add_sink_of(&name, topic, INNER, key, value, partitioner, parents)
            })
        };
        let name = self.names.response_source.clone();
        self.add(&self.names.response_source, &[sink], move |topology, _| {
            let (key, value) = wire.map_err(Error::invalid)?;
            let topics = vec![TopicName::Internal(topic)];
            topology.add_source_of(&name, topics, key, value, SourceOptions::default()).map(|_| ())
        })
    }

    /// The store of subscriptions, which two nodes use: whichever is written first adds it.
    fn store_builder(&self) -> Arc<dyn StoreBuilder> {
        let builder = Stores::key_value_store::<bytes::Bytes, bytes::Bytes>(&self.names.store);
        Arc::new(builder.timestamped())
    }

    /// The node that keeps subscriptions.
    fn add_receiver(&self, subscriptions: usize, store: SharedStoreSpec) -> usize {
        let name = self.names.receive.clone();
        let topic = self.names.subscription_topic.clone();
        let serdes = self.keys().and_then(|keys| Ok((keys, self.foreign_keys()?)));
        self.add(&self.names.receive, &[subscriptions], move |topology, parents| {
            let (keys, foreign) = serdes?;
            let used = store.name.clone();
            let supplier = move || {
                let (store, topic) = (used.clone(), topic.clone());
                SubscriptionReceive::new(store, topic, keys.clone(), foreign.clone())
            };
            topology.add_processor::<Option<KO>, Subscription<K>, _, _, _>(
                &name,
                supplier,
                parents,
                &[],
            )?;
            store.connect(topology, &name)
        })
    }

    pub(super) fn add_resolver<VR, J>(
        &self,
        answers: usize,
        stores: Rc<[Arc<str>]>,
        getter: GetterSupplier<K, V>,
        joiner: J,
    ) -> usize
    where
        VR: Clone + Send + 'static,
        J: Fn(&V, Option<&VO>) -> Option<VR> + Send + Sync + 'static,
    {
        let (name, topic) = (self.names.resolver.clone(), self.names.subscription_topic.clone());
        let (values, left, joiner) = (self.values(), self.left, Arc::new(joiner));
        self.add(&self.names.resolver, &[answers], move |topology, parents| {
            let values = values?;
            let supplier = move || {
                let (getter, values) = (getter.clone(), values.clone());
                ResponseJoin::new(getter, values, topic.clone(), joiner.clone(), left)
            };
            topology.add_processor::<K, Response<VO>, Option<K>, Option<VR>, _>(
                &name,
                supplier,
                parents,
                &[],
            )?;
            connect(topology, &name, &stores)
        })
    }

    /// The joined rows as a table, which keeps them where somebody looks them up.
    pub(super) fn result<VR: Clone + Send + 'static>(
        self,
        resolved: usize,
        sources: Rc<[Arc<str>]>,
        materialized: Materialized<K, VR>,
    ) -> KTable<K, VR> {
        let Names { result: name, result_store: store, .. } = &self.names;
        let ttl = TtlSpec::of(&materialized, Some(store));
        let state = SourceState::new(materialized.name.is_some() || ttl.is_some());
        let is_versioned = materialized.is_versioned();
        let (key_serde, value_serde) = materialized.serdes_or(&self.serdes.key, &None);
        let builder = materialized.builder_of(store, key_serde.as_ref(), value_serde.as_ref());
        let write = {
            let (name, store, state) = (name.clone(), store.clone(), state.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let materialised = state.materialised.get();
                let (used, send_old) = (materialised.then_some(store), state.sends_old.get());
                let supplier = move || TableSource::<K, VR>::new(used.clone(), send_old);
                let ttl = ttl.table(&name, Option::<K>::clone, send_old)?;
                add_table_processor::<Option<K>, Option<VR>, _, VR, _>(
                    topology, &name, supplier, parents, ttl,
                )?;
                if materialised {
                    topology.add_state_store_of(builder?, &[&name])?;
                }
                Ok(())
            }
        };
        let node = self.add(name, &[resolved], write);
        self.plan.borrow_mut().set_output_versioned(node, is_versioned);
        KTable::new(TableSpec {
            plan: self.plan.clone(),
            node,
            name: name.clone(),
            key_serde,
            value_serde,
            sources,
            stores: Rc::new([store.clone()]),
            materialise: state.materialise(),
            enable_old_values: state.enable_old_values(),
            getter: store_getter(store.clone()),
        })
    }
}

/// The inner topics take null keys: a left join's rows without a foreign key have one.
const INNER: SinkKind = SinkKind::Repartition { drops_null_keys: false };

fn connect(topology: &mut Topology, node: &str, stores: &[Arc<str>]) -> Result<()> {
    stores.iter().try_for_each(|store| topology.connect_processor_and_store(node, store))
}

/// Partitions subscriptions as the user partitions the right table.
struct ByForeignKey<KO>(Arc<dyn StreamPartitioner<KO, ()>>);

impl<K, KO> StreamPartitioner<Option<KO>, Subscription<K>> for ByForeignKey<KO> {
    fn partition(
        &self,
        topic: &str,
        key: &Option<KO>,
        _: &Subscription<K>,
        partitions: i32,
    ) -> Option<i32> {
        key.as_ref().and_then(|key| self.0.partition(topic, key, &(), partitions))
    }
}

/// Sends an answer to the partition that asked, or as the user partitions the left table.
struct ToAsker<K>(Option<Arc<dyn StreamPartitioner<K, ()>>>);

impl<K, VO> StreamPartitioner<K, Response<VO>> for ToAsker<K> {
    fn partition(
        &self,
        topic: &str,
        key: &K,
        response: &Response<VO>,
        partitions: i32,
    ) -> Option<i32> {
        match &self.0 {
            Some(given) => given.partition(topic, key, &(), partitions),
            None => response.primary_partition,
        }
    }
}
