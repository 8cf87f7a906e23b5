//! Streams of records, and what can be done with them.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::grouped::KGroupedStream;
use super::params::{Grouped, Named, Produced};
use super::plan::{Changes, SharedPlan};
use crate::operators::{Filter, FlatMap, FlatMapValues, Map, MapValues, Peek, SelectKey};
use crate::processor::{Processor, ProcessorSupplier, SinkKind, SinkTopic, TopicNameExtractor};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{Topology, TypeTag};

pub(super) type Serdes<K, V> = (Option<Serde<K>>, Option<Serde<V>>);
/// A node of the plan that is a source, with its name.
pub(super) type SourceNode = (usize, Arc<str>);

/// A stream of records, each a fact of its own. Source: `KStream`.
pub struct KStream<K, V> {
    pub(super) plan: SharedPlan,
    pub(super) node: usize,
    pub(super) name: Arc<str>,
    pub(super) serdes: Serdes<K, V>,
    /// The source nodes that feed this stream within its subtopology.
    pub(super) sources: Rc<[Arc<str>]>,
    /// The key was changed, so that equal keys may lie on different partitions.
    pub(super) repartition_required: bool,
    /// The unnamed repartition node that joins of this stream share.
    pub(super) join_repartition: Rc<RefCell<Option<SourceNode>>>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            name: self.name.clone(),
            serdes: self.serdes.clone(),
            sources: self.sources.clone(),
            repartition_required: self.repartition_required,
            join_repartition: self.join_repartition.clone(),
        }
    }
}

impl<K, V> KStream<K, V> {
    pub(super) fn new(
        plan: SharedPlan,
        node: usize,
        name: Arc<str>,
        serdes: Serdes<K, V>,
        sources: Rc<[Arc<str>]>,
        repartition_required: bool,
    ) -> Self {
        let join_repartition = Rc::default();
        Self { plan, node, name, serdes, sources, repartition_required, join_repartition }
    }
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Keeps the records for which `predicate` holds.
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_named(predicate, &Named::default())
    }

    /// As [`filter`](Self::filter), with the node named.
    pub fn filter_named(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        named: &Named,
    ) -> Self {
        self.filter_as(predicate, true, named)
    }

    /// Keeps the records for which `predicate` does not hold.
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_not_named(predicate, &Named::default())
    }

    /// As [`filter_not`](Self::filter_not), with the node named.
    pub fn filter_not_named(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        named: &Named,
    ) -> Self {
        self.filter_as(predicate, false, named)
    }

    fn filter_as(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        keep: bool,
        named: &Named,
    ) -> Self {
        let predicate = Arc::new(predicate);
        let supplier = move || Filter { predicate: predicate.clone(), keep };
        let serdes = self.serdes.clone();
        self.then("KSTREAM-FILTER-", named, supplier, serdes, self.repartition_required)
    }

    /// Makes another record of each; the key may change, so that a later key-based operator repartitions.
    pub fn map<K2, V2>(
        &self,
        mapper: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
    {
        self.map_named(mapper, &Named::default())
    }

    /// As [`map`](Self::map), with the node named.
    pub fn map_named<K2, V2>(
        &self,
        mapper: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
    {
        let mapper = Arc::new(mapper);
        let supplier = move || Map(mapper.clone());
        self.then("KSTREAM-MAP-", named, supplier, (None, None), true).changing(Changes::Key)
    }

    /// Makes another value of each; the key stays, and with it the partitioning.
    pub fn map_values<V2>(
        &self,
        mapper: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
    {
        self.map_values_named(mapper, &Named::default())
    }

    /// As [`map_values`](Self::map_values), with the node named.
    pub fn map_values_named<V2>(
        &self,
        mapper: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
    {
        let mapper = Arc::new(mapper);
        let supplier = move || MapValues(mapper.clone());
        let serdes = (self.serdes.0.clone(), None);
        let repartition = self.repartition_required;
        self.then("KSTREAM-MAPVALUES-", named, supplier, serdes, repartition)
            .changing(Changes::Value)
    }

    /// Makes any number of records of each.
    pub fn flat_map<K2, V2, I>(
        &self,
        mapper: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        I: IntoIterator<Item = (K2, V2)> + 'static,
    {
        self.flat_map_named(mapper, &Named::default())
    }

    /// As [`flat_map`](Self::flat_map), with the node named.
    pub fn flat_map_named<K2, V2, I>(
        &self,
        mapper: impl Fn(K, V) -> I + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        I: IntoIterator<Item = (K2, V2)> + 'static,
    {
        let mapper = Arc::new(mapper);
        let supplier = move || FlatMap { mapper: mapper.clone(), items: PhantomData };
        self.then("KSTREAM-FLATMAP-", named, supplier, (None, None), true).changing(Changes::Key)
    }

    /// Makes any number of values of each.
    pub fn flat_map_values<V2, I>(
        &self,
        mapper: impl Fn(&K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        I: IntoIterator<Item = V2> + 'static,
    {
        self.flat_map_values_named(mapper, &Named::default())
    }

    /// As [`flat_map_values`](Self::flat_map_values), with the node named.
    pub fn flat_map_values_named<V2, I>(
        &self,
        mapper: impl Fn(&K, V) -> I + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        I: IntoIterator<Item = V2> + 'static,
    {
        let mapper = Arc::new(mapper);
        let supplier = move || FlatMapValues { mapper: mapper.clone(), items: PhantomData };
        let serdes = (self.serdes.0.clone(), None);
        let repartition = self.repartition_required;
        self.then("KSTREAM-FLATMAPVALUES-", named, supplier, serdes, repartition)
            .changing(Changes::Value)
    }

    /// Gives each record a new key.
    pub fn select_key<K2>(
        &self,
        selector: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V>
    where
        K2: Clone + Send + 'static,
    {
        self.select_key_named(selector, &Named::default())
    }

    /// As [`select_key`](Self::select_key), with the node named.
    pub fn select_key_named<K2>(
        &self,
        selector: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K2, V>
    where
        K2: Clone + Send + 'static,
    {
        let selector = Arc::new(selector);
        let supplier = move || SelectKey(selector.clone());
        let serdes = (None, self.serdes.1.clone());
        self.then("KSTREAM-KEY-SELECT-", named, supplier, serdes, true).changing(Changes::Key)
    }

    /// Looks at each record and passes it on.
    pub fn peek(&self, action: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        self.peek_named(action, &Named::default())
    }

    /// As [`peek`](Self::peek), with the node named.
    pub fn peek_named(
        &self,
        action: impl Fn(&K, &V) + Send + Sync + 'static,
        named: &Named,
    ) -> Self {
        let action = Arc::new(action);
        let supplier = move || Peek(action.clone());
        let serdes = self.serdes.clone();
        self.then("KSTREAM-PEEK-", named, supplier, serdes, self.repartition_required)
    }

    /// Looks at each record, and ends there.
    pub fn foreach(&self, action: impl Fn(&K, &V) + Send + Sync + 'static) {
        self.foreach_named(action, &Named::default());
    }

    /// As [`foreach`](Self::foreach), with the node named.
    pub fn foreach_named(&self, action: impl Fn(&K, &V) + Send + Sync + 'static, named: &Named) {
        let action = Arc::new(action);
        let supplier = move || Peek(action.clone());
        self.then("KSTREAM-FOREACH-", named, supplier, self.serdes.clone(), false);
    }

    /// The records of both streams, in no order between them.
    pub fn merge(&self, other: &Self) -> Self {
        self.merge_named(other, &Named::default())
    }

    /// As [`merge`](Self::merge), with the node named.
    pub fn merge_named(&self, other: &Self, named: &Named) -> Self {
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-MERGE-");
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let supplier = || Peek(Arc::new(|_: &K, _: &V| ()));
                topology.add_processor::<K, V, K, V, _>(&name, supplier, parents, &[])
            }
        };
        let node = plan.add(name.clone(), &[self.node, other.node], Box::new(write));
        drop(plan);
        let sources = self.sources.iter().chain(other.sources.iter()).cloned().collect();
        let repartition = self.repartition_required || other.repartition_required;
        Self::new(self.plan.clone(), node, name, (None, None), sources, repartition)
            .changing(Changes::Merges)
    }

    /// Tells the plan what the stream's node does to the records.
    pub(super) fn changing(self, changes: Changes) -> Self {
        self.plan.borrow_mut().mark_changes(self.node, changes, TypeTag::of::<K, V>());
        self
    }

    /// Writes to `topic`, with the stream's serdes or those of the types.
    pub fn to(&self, topic: &str)
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        let key = self.serdes.0.clone().unwrap_or_else(K::serde);
        let value = self.serdes.1.clone().unwrap_or_else(V::serde);
        self.to_with(topic, Produced::with(key, value));
    }

    /// Writes to `topic`, which must exist.
    pub fn to_with(&self, topic: &str, produced: Produced<K, V>) {
        self.sink(SinkTopic::Fixed(topic.into()), produced, SinkKind::External);
    }

    /// Writes each record to the topic that `extractor` names.
    pub fn to_dynamic(
        &self,
        extractor: impl TopicNameExtractor<K, V> + 'static,
        produced: Produced<K, V>,
    ) {
        self.sink(SinkTopic::Dynamic(Arc::new(extractor)), produced, SinkKind::External);
    }

    pub(super) fn sink(&self, topic: SinkTopic<K, V>, produced: Produced<K, V>, kind: SinkKind) {
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(produced.name.as_ref(), "KSTREAM-SINK-");
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let Produced { key_serde, value_serde, partitioner, .. } = produced;
                topology.add_sink_of(
                    &name,
                    topic,
                    kind,
                    key_serde,
                    value_serde,
                    partitioner,
                    parents,
                )
            }
        };
        plan.add(name, &[self.node], Box::new(write));
    }

    /// Groups by the key as it is.
    pub fn group_by_key(&self) -> KGroupedStream<K, V>
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        let key = self.serdes.0.clone().unwrap_or_else(K::serde);
        let value = self.serdes.1.clone().unwrap_or_else(V::serde);
        self.group_by_key_with(Grouped::with(key, value))
    }

    /// Groups by the key as it is.
    pub fn group_by_key_with(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        KGroupedStream::new(self.clone(), grouped)
    }

    /// Groups by a new key.
    pub fn group_by<K2>(
        &self,
        selector: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KGroupedStream<K2, V>
    where
        K2: DefaultSerde + Clone + Send,
        V: DefaultSerde,
    {
        let value = self.serdes.1.clone().unwrap_or_else(V::serde);
        self.group_by_with(selector, Grouped::with(K2::serde(), value))
    }

    /// Groups by a new key.
    pub fn group_by_with<K2>(
        &self,
        selector: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V>
    where
        K2: Clone + Send + 'static,
    {
        let stream = self.select_key_named(selector, &Named(grouped.name.clone()));
        KGroupedStream::new(stream, grouped)
    }

    /// Adds a processor below this stream.
    pub(super) fn then<K2, V2, P>(
        &self,
        prefix: &str,
        named: &Named,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        serdes: Serdes<K2, V2>,
        repartition_required: bool,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        P: Processor<K, V, K2, V2>,
    {
        let stores = Vec::new();
        self.then_with_stores(prefix, named, supplier, stores, serdes, repartition_required)
    }

    pub(super) fn then_with_stores<K2, V2, S>(
        &self,
        prefix: &str,
        named: &Named,
        supplier: S,
        stores: Vec<String>,
        serdes: Serdes<K2, V2>,
        repartition_required: bool,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, K2, V2>,
    {
        let name = self.plan.borrow_mut().node_name(named.0.as_ref(), prefix);
        self.then_called(name, supplier, stores, serdes, repartition_required)
    }

    /// Adds a processor of this very name below this stream.
    pub(super) fn then_called<K2, V2, S>(
        &self,
        name: Arc<str>,
        supplier: S,
        stores: Vec<String>,
        serdes: Serdes<K2, V2>,
        repartition_required: bool,
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, K2, V2>,
    {
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
                topology.add_processor::<K, V, K2, V2, _>(&name, supplier, parents, &stores)
            }
        };
        let node = self.plan.borrow_mut().add(name.clone(), &[self.node], Box::new(write));
        let sources = self.sources.clone();
        KStream::new(self.plan.clone(), node, name, serdes, sources, repartition_required)
    }
}
