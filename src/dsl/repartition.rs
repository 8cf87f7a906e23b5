//! Streams through topics of their own: asked for, or before an operator that needs equal keys on one partition.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::optimise::MergeableRepartition;
use super::params::{Produced, Repartitioned};
use super::plan::{Optimisable, Plan};
use super::stream::{KStream, Serdes};
use crate::error::{Error, Result};
use crate::operators::Peek;
use crate::processor::{SinkKind, SinkTopic, StreamPartitioner};
use crate::serdes::Serde;
use crate::topology::{SourceOptions, TopicName, Topology, TypeTag};

/// A repartition topic takes no record without a key.
const REPARTITION: SinkKind = SinkKind::Repartition { drops_null_keys: true };

/// Writes the nodes around a repartition topic.
pub(super) type WriteRepartition =
    Box<dyn FnOnce(&mut Topology, RepartitionNames, &[&str]) -> Result<()>>;

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Sends the stream through a topic of its own, partitioned by key.
    pub fn repartition(&self, repartitioned: Repartitioned<K, V>) -> Self {
        let Repartitioned { produced, partitions } = repartitioned;
        let prefix = self.plan.borrow_mut().name_or(produced.name.as_ref(), "KSTREAM-REPARTITION-");
        let serdes = (produced.key_serde, produced.value_serde);
        let partitioner = produced.partitioner;
        let (node, source) = self.repartition_node(&prefix, move |topology, names, parents| {
            names.write(topology, parents, serdes, partitioner, partitions)
        });
        self.plan.borrow_mut().mark_optimisable(node, Optimisable::No);
        let serdes = self.serdes.clone();
        Self::new(self.plan.clone(), node, source.clone(), serdes, Rc::new([source]), false)
    }

    /// Sends the stream into the topic of a [`repartition`](Self::repartition) that is named `name`, from anywhere in the topology: for a
    /// later part that answers an earlier one, and for inputs that should not share a task. Deviation: Kafka Streams' DSL
    /// merges such streams first, which it cannot do in a circle.
    ///
    /// That repartition's number of partitions has to be given if the topology is a circle.
    pub fn repartition_to(&self, name: &str, produced: Produced<K, V>) {
        self.sink(SinkTopic::Fixed(format!("{name}-repartition").into()), produced, REPARTITION);
    }

    /// The stream behind a repartition topic made for a join; unnamed joins of one stream share it. Source: `repartitionForJoin`.
    ///
    /// Serdes that are not given are the stream's.
    pub(super) fn repartition_for_join(
        &self,
        name: Option<Arc<str>>,
        given: Option<(Serde<K>, Serde<V>)>,
    ) -> Self {
        let serdes: Serdes<K, V> = match given {
            Some((key, value)) => (Some(key), Some(value)),
            None => self.serdes.clone(),
        };
        let prefix = name.unwrap_or_else(|| self.name.clone());
        let reused = self.join_repartition.borrow().clone().filter(|_| prefix == self.name);
        let (node, source) = match reused {
            Some((node, source)) => {
                self.plan.borrow_mut().use_up_repartition_names();
                (node, source)
            }
            None => {
                let (owner, (key, value)) = (self.name.clone(), serdes.clone());
                let has_serdes = key.is_some() && value.is_some();
                let write: WriteRepartition = Box::new(move |topology, names, parents| {
                    let (Some(key), Some(value)) = (key, value) else {
                        return Err(missing_serde(&owner));
                    };
                    names.write(topology, parents, (key, value), None, None)
                });
                self.add_repartition(&prefix, has_serdes, write)
            }
        };
        *self.join_repartition.borrow_mut() = Some((node, source.clone()));
        Self::new(self.plan.clone(), node, source.clone(), serdes, Rc::new([source]), false)
    }

    /// Adds a repartition node (filter, sink, topic, source) below this stream. Source: `createRepartitionedSource`.
    pub(super) fn repartition_node(
        &self,
        prefix: &str,
        write: impl FnOnce(&mut Topology, RepartitionNames, &[&str]) -> Result<()> + 'static,
    ) -> (usize, Arc<str>) {
        self.add_repartition(prefix, true, Box::new(write))
    }

    fn add_repartition(
        &self,
        prefix: &str,
        has_serdes: bool,
        write: WriteRepartition,
    ) -> (usize, Arc<str>) {
        let mut plan = self.plan.borrow_mut();
        let drops_null_keys: Rc<Cell<bool>> = Rc::default();
        let names = RepartitionNames::new(&mut plan, prefix, drops_null_keys.clone());
        let (source, topic) = (names.source.clone(), names.topic.clone());
        // An optimisation may take it away and call it for another node.
        let write = Rc::new(RefCell::new(Some(write)));
        let mergeable = MergeableRepartition {
            topic,
            types: TypeTag::of::<K, V>(),
            has_serdes,
            write: write.clone(),
        };
        let write = move |topology: &mut Topology, parents: &[&str]| {
            let write = write.take().expect("a repartition node is written once");
            write(topology, names, parents)
        };
        let node = plan.add(source.clone(), &[self.node], Box::new(write));
        plan.mark_repartition(node, drops_null_keys);
        plan.mark_optimisable(node, Optimisable::Repartition(mergeable));
        (node, source)
    }
}

/// The names around a repartition topic.
pub(super) struct RepartitionNames {
    sink: Arc<str>,
    filter: Arc<str>,
    source: Arc<str>,
    topic: Arc<str>,
    drops_null_keys: Rc<Cell<bool>>,
}

impl RepartitionNames {
    pub(super) fn new(plan: &mut Plan, prefix: &str, drops_null_keys: Rc<Cell<bool>>) -> Self {
        let names = Self {
            sink: plan.new_name("KSTREAM-SINK-"),
            filter: plan.new_name("KSTREAM-FILTER-"),
            source: plan.new_name("KSTREAM-SOURCE-"),
            topic: if prefix.ends_with("-repartition") {
                prefix.into()
            } else {
                format!("{prefix}-repartition").into()
            },
            drops_null_keys,
        };
        if is_generated(prefix) { names } else { names.after_topic() }
    }

    /// The name of the source node, which is the whole's in the plan.
    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// A topic named by the user names its nodes too.
    fn after_topic(mut self) -> Self {
        self.sink = format!("{}-sink", self.topic).into();
        self.filter = format!("{}-filter", self.topic).into();
        self.source = format!("{}-source", self.topic).into();
        self
    }

    pub(super) fn write<K, V>(
        self,
        topology: &mut Topology,
        parents: &[&str],
        serdes: (Serde<K>, Serde<V>),
        partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
        partitions: Option<i32>,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        topology.add_internal_topic(&self.topic, partitions);
        let (key_serde, value_serde) = serdes;
        // Java's node drops null keys; here the sink does, which learns from the serde whether a key is null.
        let supplier = || Peek(Arc::new(|_: &K, _: &V| ()));
        topology.add_processor::<K, V, K, V, _>(&self.filter, supplier, parents, &[])?;
        let topic = SinkTopic::Fixed(self.topic.clone());
        let (key, value) = (key_serde.clone(), value_serde.clone());
        let kind = SinkKind::Repartition { drops_null_keys: self.drops_null_keys.get() };
        topology.add_sink_of(&self.sink, topic, kind, key, value, partitioner, &[&self.filter])?;
        let topics = vec![TopicName::Internal(self.topic)];
        let options = SourceOptions::default();
        topology.add_source_of(&self.source, topics, key_serde, value_serde, options).map(|_| ())
    }
}

/// Whether a name was made by the builder: `KSTREAM…-` and ten digits.
fn is_generated(name: &str) -> bool {
    let digits = name.rsplit_once('-').map(|(_, digits)| digits);
    name.starts_with("KSTREAM")
        && digits.is_some_and(|d| d.len() == 10 && d.bytes().all(|b| b.is_ascii_digit()))
}

fn missing_serde(node: &str) -> Error {
    Error::invalid(format!(
        "node \"{node}\" needs a repartition topic, but the serdes of its stream are not known; give them with Joined::with or repartition()"
    ))
}
