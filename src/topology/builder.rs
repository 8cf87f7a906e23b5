//! Adds nodes and stores to the graph, and refuses what cannot work.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::internal_topics::TopicName;
use super::node::{NodeSpec, Role, TypeTag};
use super::source_options::{SourceOptions, StoreFeed};
use super::state_store::{GlobalStoreSpec, StoreSpec};
use super::topic_pattern::TopicPattern;
use crate::error::{Error, Result};
use crate::processor::{
    Node, ProcessorNode, ProcessorSupplier, ProcessorWrapper, SinkKind, SinkNode, SinkTopic,
    SourceNode, StreamPartitioner, WrappedNode, WrappedProcessorSupplier,
};
use crate::serdes::Serde;
use crate::store::StoreBuilder;

/// A graph of sources, processors, sinks and stores. Source: `org.apache.kafka.streams.Topology`.
///
/// Deviation: edges are typed; a node whose parents send another type is refused when it is added.
#[derive(Clone, Default)]
pub struct Topology {
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) stores: BTreeMap<Arc<str>, StoreSpec>,
    pub(crate) global_stores: Vec<GlobalStoreSpec>,
    /// Repartition topics with the number of partitions asked for.
    pub(crate) internal_topics: BTreeMap<Arc<str>, Option<i32>>,
    /// Stores whose changelog is a source topic of their task.
    pub(crate) source_changelogs: BTreeMap<Arc<str>, Arc<str>>,
    /// Groups of source nodes whose topics must have the same number of partitions.
    pub(crate) copartition_groups: Vec<Vec<usize>>,
    /// What stands around each processor.
    wrapper: Option<Arc<dyn ProcessorWrapper>>,
}

impl Topology {
    /// An empty topology.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty topology whose processors are wrapped as `wrapper` says. Source: `Topology(TopologyConfig)` with `processor.wrapper.class`.
    pub fn with_processor_wrapper(wrapper: impl ProcessorWrapper) -> Self {
        Self::wrapped_by(Some(Arc::new(wrapper)))
    }

    pub(crate) fn wrapped_by(wrapper: Option<Arc<dyn ProcessorWrapper>>) -> Self {
        Self { wrapper, ..Self::default() }
    }

    /// Adds a node that reads `topics`.
    pub fn add_source<K, V>(
        &mut self,
        name: &str,
        topics: &[&str],
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        options: SourceOptions<K, V>,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let topics = topics.iter().map(|topic| TopicName::External((*topic).into())).collect();
        self.add_source_of(name, topics, key_serde, value_serde, options).map(|_| ())
    }

    pub(crate) fn add_source_of<K, V>(
        &mut self,
        name: &str,
        topics: Vec<TopicName>,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        options: SourceOptions<K, V>,
    ) -> Result<usize>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        if topics.is_empty() {
            return Err(Error::invalid(format!("source \"{name}\" names no topic")));
        }
        for node in &self.nodes {
            let Role::Source { topics: taken, pattern, .. } = &node.role else { continue };
            let mut external = topics.iter().filter_map(TopicName::external);
            if let Some(pattern) = pattern
                && let Some(topic) = external.find(|topic| pattern.matches(topic))
            {
                return Err(Error::invalid(format!(
                    "topic \"{topic}\" of source \"{name}\" matches pattern \"{}\" of source \"{}\"",
                    pattern.as_str(),
                    node.name
                )));
            }
            if let Some(topic) = topics.iter().find(|topic| taken.contains(topic)) {
                return Err(Error::invalid(format!(
                    "topic \"{}\" of source \"{name}\" is already read by source \"{}\"; use that one's stream twice instead",
                    topic.short(),
                    node.name
                )));
            }
        }
        self.add_source_node(name, topics, None, key_serde, value_serde, options)
    }

    pub(super) fn add_source_node<K, V>(
        &mut self,
        name: &str,
        topics: Vec<TopicName>,
        pattern: Option<TopicPattern>,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        options: SourceOptions<K, V>,
    ) -> Result<usize>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let SourceOptions { timestamp_extractor: extractor, offset_reset } = options;
        let factory = Arc::new(move || {
            Box::new(SourceNode::new(key_serde.clone(), value_serde.clone(), extractor.clone()))
                as Box<_>
        });
        let role = Role::Source { topics, pattern, offset_reset, factory };
        self.add_node(name, role, &[], None, Some(TypeTag::of::<K, V>()))
    }

    /// Adds a processor below `parents`, connected to `stores` that were added before.
    pub fn add_processor<KIn, VIn, KOut, VOut, S>(
        &mut self,
        name: &str,
        supplier: S,
        parents: &[&str],
        stores: &[&str],
    ) -> Result<()>
    where
        S: ProcessorSupplier<KIn, VIn, KOut, VOut>,
        KIn: 'static,
        VIn: 'static,
        KOut: 'static,
        VOut: 'static,
    {
        let wrapped = self.wrapper.as_ref().and_then(|wrapper| wrapper.wrap(name));
        self.add_processor_of(name, supplier, parents, stores, wrapped)
    }

    fn add_processor_of<KIn, VIn, KOut, VOut, S>(
        &mut self,
        name: &str,
        supplier: S,
        parents: &[&str],
        stores: &[&str],
        wrapped: Option<Arc<dyn WrappedProcessorSupplier>>,
    ) -> Result<()>
    where
        S: ProcessorSupplier<KIn, VIn, KOut, VOut>,
        KIn: 'static,
        VIn: 'static,
        KOut: 'static,
        VOut: 'static,
    {
        let mut brought = supplier.stores();
        brought.extend(wrapped.iter().flat_map(|wrapped| wrapped.stores()));
        let factory = Arc::new(move || {
            let node = ProcessorNode::<_, KIn, VIn, KOut, VOut>::new(supplier.get());
            match &wrapped {
                None => Box::new(node) as Box<dyn Node>,
                Some(wrapped) => Box::new(WrappedNode::<_, KIn, VIn>::new(node, wrapped.get())),
            }
        });
        let input = Some(TypeTag::of::<KIn, VIn>());
        let output = Some(TypeTag::of::<KOut, VOut>());
        self.add_node(name, Role::Processor { factory }, parents, input, output)?;
        for builder in brought {
            self.share_state_store(builder, name)?;
        }
        stores.iter().try_for_each(|store| self.connect_processor_and_store(name, store))
    }

    /// Adds a node of the engine's own below `parents`.
    pub(crate) fn add_node_of<KIn, VIn, KOut, VOut>(
        &mut self,
        name: &str,
        factory: impl Fn() -> Box<dyn Node> + Send + Sync + 'static,
        parents: &[&str],
    ) -> Result<()>
    where
        KIn: 'static,
        VIn: 'static,
        KOut: 'static,
        VOut: 'static,
    {
        let role = Role::Processor { factory: Arc::new(factory) };
        let input = Some(TypeTag::of::<KIn, VIn>());
        let output = Some(TypeTag::of::<KOut, VOut>());
        self.add_node(name, role, parents, input, output).map(drop)
    }

    /// Adds a node that writes to `topic` what `parents` send it.
    pub fn add_sink<K, V>(
        &mut self,
        name: &str,
        topic: &str,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
        parents: &[&str],
    ) -> Result<()>
    where
        K: Send + 'static,
        V: Send + 'static,
    {
        let topic = SinkTopic::Fixed(topic.into());
        self.add_sink_of(
            name,
            topic,
            SinkKind::External,
            key_serde,
            value_serde,
            partitioner,
            parents,
        )
    }

    #[allow(clippy::too_many_arguments)] // as Java's; the DSL is what users see
    pub(crate) fn add_sink_of<K, V>(
        &mut self,
        name: &str,
        topic: SinkTopic<K, V>,
        kind: SinkKind,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
        parents: &[&str],
    ) -> Result<()>
    where
        K: Send + 'static,
        V: Send + 'static,
    {
        let topic_name = match &topic {
            SinkTopic::Fixed(topic) if kind != SinkKind::External => {
                Some(TopicName::Internal(topic.clone()))
            }
            SinkTopic::Fixed(topic) => Some(TopicName::External(topic.clone())),
            SinkTopic::Dynamic(_) => None,
        };
        let factory = Arc::new(move |resolved: Option<Arc<str>>, partitions| {
            let topic = resolved.map_or_else(|| topic.clone(), SinkTopic::Fixed);
            let (key_serde, value_serde) = (key_serde.clone(), value_serde.clone());
            let partitioner = partitioner.clone();
            Box::new(SinkNode::new(topic, kind, key_serde, value_serde, partitioner, partitions))
                as Box<_>
        });
        let role = Role::Sink { topic: topic_name, factory };
        self.add_node(name, role, parents, Some(TypeTag::of::<K, V>()), None).map(|_| ())
    }

    /// Adds a store, and connects it to `processors` that were added before.
    pub fn add_state_store(
        &mut self,
        builder: impl StoreBuilder,
        processors: &[&str],
    ) -> Result<()> {
        self.add_state_store_of(Arc::new(builder), processors)
    }

    pub(crate) fn add_state_store_of(
        &mut self,
        builder: Arc<dyn StoreBuilder>,
        processors: &[&str],
    ) -> Result<()> {
        let name = builder.name().clone();
        self.refuse_second_store(&name)?;
        self.stores.insert(name.clone(), StoreSpec { builder });
        processors.iter().try_for_each(|node| self.connect_processor_and_store(node, &name))
    }

    /// Adds a store, unless it was added by the same builder before, and connects it to `processor`. Source: `isCompatibleWith`.
    pub(crate) fn share_state_store(
        &mut self,
        builder: Arc<dyn StoreBuilder>,
        processor: &str,
    ) -> Result<()> {
        let known = self.stores.get(builder.name()).map(|spec| Arc::as_ptr(&spec.builder));
        if known.is_some_and(|known| std::ptr::addr_eq(known, Arc::as_ptr(&builder))) {
            return self.connect_processor_and_store(processor, builder.name());
        }
        self.add_state_store_of(builder, &[processor])
    }

    /// Adds a store that is fed from the whole of a topic on every instance, before anything else runs. `supplier`'s
    /// processor writes it. Source: `addGlobalStore`.
    ///
    /// # Errors
    /// `Invalid` where a name is taken already.
    pub fn add_global_store<K, V, S>(
        &mut self,
        builder: impl StoreBuilder,
        feed: StoreFeed<K, V>,
        supplier: S,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, (), ()>,
    {
        self.add_global_store_of(Arc::new(builder), feed, supplier)
    }

    pub(crate) fn add_global_store_of<K, V, S>(
        &mut self,
        builder: Arc<dyn StoreBuilder>,
        feed: StoreFeed<K, V>,
        supplier: S,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, (), ()>,
    {
        self.refuse_second_store(builder.name())?;
        refuse_ttl(&*builder)?;
        let StoreFeed { source_name, topic, key_serde, value_serde, options, processor_name } =
            feed;
        let topics = vec![TopicName::External(topic.into())];
        let source = self.add_source_of(&source_name, topics, key_serde, value_serde, options)?;
        self.add_processor_of(&processor_name, supplier, &[&source_name], &[], None)?;
        let processor = self.nodes.len() - 1;
        for node in [source, processor] {
            self.nodes[node].global = true;
        }
        self.nodes[processor].stores.push(builder.name().clone());
        self.global_stores.push(GlobalStoreSpec { builder, source, processor });
        Ok(())
    }

    /// Adds a store that each task holds for its own partition of a topic, written by `supplier`'s processor alone; other processors read it once they are
    /// connected. The topic is its changelog, too: after a loss of the disk its records are put in as they are, without the processor. Source:
    /// `addReadOnlyStateStore` (KIP-813).
    ///
    /// # Errors
    /// `Invalid` where a name is taken already.
    pub fn add_read_only_state_store<K, V, S>(
        &mut self,
        builder: impl StoreBuilder,
        feed: StoreFeed<K, V>,
        supplier: S,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, (), ()>,
    {
        let StoreFeed { source_name, topic, key_serde, value_serde, options, processor_name } =
            feed;
        let store = builder.name().clone();
        refuse_ttl(&builder)?;
        let topics = vec![TopicName::External(topic.as_str().into())];
        self.add_source_of(&source_name, topics, key_serde, value_serde, options)?;
        self.add_processor_of(&processor_name, supplier, &[&source_name], &[], None)?;
        self.add_state_store(builder, &[&processor_name])?;
        self.use_source_as_changelog(&store, &topic);
        Ok(())
    }

    /// Makes the topic that a store is filled from its changelog, so that it needs none of its own. Source: `connectSourceStoreAndTopic`.
    pub(crate) fn use_source_as_changelog(&mut self, store: &Arc<str>, topic: &str) {
        self.source_changelogs.insert(store.clone(), topic.into());
    }

    /// Lets a processor use a store. Source: `connectProcessorAndStateStores`.
    pub fn connect_processor_and_store(&mut self, processor: &str, store: &str) -> Result<()> {
        if self.global_stores.iter().any(|global| &**global.builder.name() == store) {
            return Ok(()); // global stores are open to everyone
        }
        let Some((store, _)) = self.stores.get_key_value(store) else {
            return Err(Error::invalid(format!(
                "processor \"{processor}\" is connected to store \"{store}\", which was not added; found {:?}",
                self.stores.keys().collect::<Vec<_>>()
            )));
        };
        let store = store.clone();
        let index = self.node_index(processor)?;
        if !self.nodes[index].stores.contains(&store) {
            self.nodes[index].stores.push(store);
        }
        Ok(())
    }

    pub(crate) fn add_internal_topic(&mut self, name: &Arc<str>, partitions: Option<i32>) {
        self.internal_topics.insert(name.clone(), partitions);
    }

    /// Demands that the topics of these source nodes have the same number of partitions.
    pub(crate) fn copartition(&mut self, sources: &[Arc<str>]) -> Result<()> {
        let group: Result<Vec<usize>> = sources.iter().map(|name| self.node_index(name)).collect();
        self.copartition_groups.push(group?);
        Ok(())
    }

    pub(crate) fn users_of(&self, store: &str) -> impl Iterator<Item = usize> {
        let uses = move |(index, node): (usize, &NodeSpec)| {
            node.stores.iter().any(|used| &**used == store).then_some(index)
        };
        self.nodes.iter().enumerate().filter_map(uses)
    }

    pub(crate) fn node_index(&self, name: &str) -> Result<usize> {
        self.nodes.iter().position(|node| &*node.name == name).ok_or_else(|| {
            Error::invalid(format!("there is no node \"{name}\"; add it before naming it"))
        })
    }

    fn refuse_second_store(&self, name: &str) -> Result<()> {
        let global = self.global_stores.iter().any(|global| &**global.builder.name() == name);
        if global || self.stores.contains_key(name) {
            return Err(Error::invalid(format!("store \"{name}\" was already added")));
        }
        Ok(())
    }

    fn add_node(
        &mut self,
        name: &str,
        role: Role,
        parents: &[&str],
        input: Option<TypeTag>,
        output: Option<TypeTag>,
    ) -> Result<usize> {
        if self.nodes.iter().any(|node| &*node.name == name) {
            return Err(Error::invalid(format!("node \"{name}\" was already added")));
        }
        let parents: Vec<usize> =
            parents.iter().map(|parent| self.node_index(parent)).collect::<Result<_>>()?;
        if parents.is_empty() && input.is_some() {
            return Err(Error::invalid(format!("node \"{name}\" has no parent")));
        }
        let index = self.nodes.len();
        for parent in &parents {
            let parent = &mut self.nodes[*parent];
            if let (Some(sent), Some(wanted)) = (parent.output, input)
                && sent != wanted
            {
                return Err(Error::invalid(format!(
                    "node \"{name}\" takes {}, but its parent \"{}\" sends {}",
                    wanted.name(),
                    parent.name,
                    sent.name()
                )));
            }
            if parent.output.is_none() {
                return Err(Error::invalid(format!(
                    "sink \"{}\" cannot be a parent (of \"{name}\")",
                    parent.name
                )));
            }
            parent.children.push(index);
        }
        self.nodes.push(NodeSpec {
            name: name.into(),
            role,
            parents,
            children: Vec::new(),
            stores: Vec::new(),
            output,
            global: false,
        });
        Ok(index)
    }
}

/// Where others write a store's topic, nothing can be deleted from it.
fn refuse_ttl(builder: &dyn StoreBuilder) -> Result<()> {
    match builder.ttl() {
        None => Ok(()),
        Some(ttl) => Err(Error::invalid(format!(
            "store \"{}\": found a time to live of {ttl:?}, wanted none: the topic that feeds it is its changelog, from which nothing can be deleted",
            builder.name()
        ))),
    }
}
