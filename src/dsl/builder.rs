//! Where every stream and table begins.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::global_table::GlobalKTable;
use super::params::{Consumed, Materialized};
use super::plan::SharedPlan;
use super::stream::KStream;
use super::table::{KTable, SourceState, TableSpec};
use crate::error::Result;
use crate::operators::{GlobalTableSource, TableSource, store_getter};
use crate::serdes::{DefaultSerde, option_serde};
use crate::topology::{SourceOptions, StoreBuilder, Stores, TopicName, Topology, TypeTag};

/// Builds a topology out of streams and tables. Source: `org.apache.kafka.streams.StreamsBuilder`.
///
/// ```
/// use kstreams::{StreamsBuilder, Result};
///
/// fn word_count() -> Result<kstreams::Topology> {
///     let builder = StreamsBuilder::new();
///     builder
///         .stream::<String, String>("lines")
///         .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///         .group_by(|_, word| word.clone())
///         .count()
///         .to_stream()
///         .to("counts");
///     builder.build()
/// }
/// assert!(word_count().unwrap().describe().contains("KSTREAM-AGGREGATE"));
/// ```
#[derive(Default)]
pub struct StreamsBuilder {
    pub(super) plan: SharedPlan,
}

impl StreamsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream of the records of `topic`, of types that know their serdes.
    pub fn stream<K, V>(&self, topic: &str) -> KStream<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        self.stream_with(&[topic], Consumed::default())
    }

    /// A stream of the records of `topics`.
    pub fn stream_with<K, V>(&self, topics: &[&str], consumed: Consumed<K, V>) -> KStream<K, V>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let Consumed { key_serde, value_serde, extractor, name } = consumed;
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(name.as_ref(), "KSTREAM-SOURCE-");
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let write = {
            let (name, topics) = (name.clone(), topics.clone());
            let (key_serde, value_serde) = (key_serde.clone(), value_serde.clone());
            move |topology: &mut Topology, _: &[&str]| {
                let topics = topics.iter().map(|topic| TopicName::External(topic.as_str().into()));
                let options = SourceOptions { timestamp_extractor: extractor };
                let topics = topics.collect();
                topology.add_source_of(&name, topics, key_serde, value_serde, options).map(|_| ())
            }
        };
        let node = plan.add(name.clone(), &[], Box::new(write));
        plan.mark_source(node, topics, TypeTag::of::<K, V>());
        drop(plan);
        let serdes = (Some(key_serde), Some(value_serde));
        KStream::new(self.plan.clone(), node, name.clone(), serdes, Rc::new([name]), false)
    }

    /// The topic as a table: the latest value of each key.
    pub fn table<K, V>(&self, topic: &str) -> KTable<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        self.table_with(topic, Consumed::default(), Materialized::default())
    }

    /// The topic as a table, with serdes and store given.
    pub fn table_with<K, V>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let (source, processor, store) = self.table_names(topic, &consumed, &materialized);
        let state = SourceState::new(materialized.name.is_some());
        let Consumed { key_serde, value_serde, .. } = consumed;
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let write = {
            let (source, processor, store) = (source.clone(), processor.clone(), store.clone());
            let (key, value) = (option_serde(key_serde.clone()), option_serde(value_serde.clone()));
            let (topic, state) = (topic.to_owned(), state.clone());
            move |topology: &mut Topology, _: &[&str]| {
                let topics = vec![TopicName::External(topic.as_str().into())];
                topology.add_source_of(&source, topics, key, value, SourceOptions::default())?;
                let materialised = state.materialised.get();
                let used = materialised.then(|| store.clone());
                let send_old = state.sends_old.get();
                let supplier = move || TableSource::<K, V>::new(used.clone(), send_old);
                topology.add_processor::<Option<K>, Option<V>, _, _, _>(
                    &processor,
                    supplier,
                    &[&source],
                    &[],
                )?;
                if materialised {
                    topology.add_state_store_of(builder, &[&processor])?;
                }
                Ok(())
            }
        };
        let node = self.plan.borrow_mut().add(processor.clone(), &[], Box::new(write));
        KTable::new(TableSpec {
            plan: self.plan.clone(),
            node,
            name: processor,
            key_serde: Some(key_serde),
            value_serde: Some(value_serde),
            sources: Rc::new([source]),
            stores: Rc::new([store.clone()]),
            materialise: state.materialise(),
            enable_old_values: state.enable_old_values(),
            getter: store_getter(store),
        })
    }

    /// The topic as a table that every instance holds whole, for look-ups by any key.
    pub fn global_table<K, V>(&self, topic: &str) -> GlobalKTable<K, V>
    where
        K: DefaultSerde + Clone + Send,
        V: DefaultSerde + Clone + Send,
    {
        self.global_table_with(topic, Consumed::default(), Materialized::default())
    }

    /// The topic as a global table, with serdes and store given.
    pub fn global_table_with<K, V>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> GlobalKTable<K, V>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let (source, processor, store) = self.table_names(topic, &consumed, &materialized);
        let Consumed { key_serde, value_serde, .. } = consumed;
        let materialized = materialized.with_logging_disabled();
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let write = {
            let (processor, store, topic) = (processor.clone(), store.clone(), topic.to_owned());
            let (key, value) = (option_serde(key_serde), option_serde(value_serde));
            move |topology: &mut Topology, _: &[&str]| {
                let supplier = move || GlobalTableSource::<K, V>::new(store.clone());
                topology
                    .add_global_store(builder, &source, &topic, key, value, &processor, supplier)
            }
        };
        self.plan.borrow_mut().add(processor, &[], Box::new(write));
        GlobalKTable::new(store)
    }

    /// Adds a store for processors to use.
    pub fn add_state_store(&self, builder: impl StoreBuilder) -> &Self {
        let builder: Arc<dyn StoreBuilder> = Arc::new(builder);
        let name = builder.name().clone();
        let write =
            move |topology: &mut Topology, _: &[&str]| topology.add_state_store_of(builder, &[]);
        self.plan.borrow_mut().add(name, &[], Box::new(write));
        self
    }

    /// Writes the plan into a topology.
    ///
    /// # Errors
    /// `Invalid` where two nodes or stores share a name, a store is missing, or types do not fit.
    pub fn build(self) -> Result<Topology> {
        RefCell::borrow_mut(&self.plan).write()
    }

    /// Names in Java's order: store, source, processor.
    fn table_names<K, V>(
        &self,
        topic: &str,
        consumed: &Consumed<K, V>,
        materialized: &Materialized<K, V>,
    ) -> (Arc<str>, Arc<str>, Arc<str>) {
        let mut plan = self.plan.borrow_mut();
        let store = plan.name_or(materialized.name.as_ref(), &format!("{topic}-STATE-STORE-"));
        let source = plan.new_name("KSTREAM-SOURCE-");
        let processor = plan.new_name("KTABLE-SOURCE-");
        match &consumed.name {
            Some(name) => (format!("{name}-source").into(), name.clone(), store),
            None => (source, processor, store),
        }
    }
}

impl<K, V> Materialized<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The builder of a table's store; its serdes are those given, or else the table's.
    pub(super) fn store_builder(
        &self,
        name: &str,
        key_serde: &crate::serdes::Serde<K>,
        value_serde: &crate::serdes::Serde<V>,
    ) -> Arc<dyn StoreBuilder> {
        let (key, value) =
            self.serdes.clone().unwrap_or_else(|| (key_serde.clone(), value_serde.clone()));
        let mut builder = Stores::key_value_store_with(name, key, value).timestamped();
        if self.kind == crate::topology::StoreKind::InMemory {
            builder = builder.in_memory();
        }
        builder = match &self.logging {
            Some(configs) => builder.logging_enabled(configs.clone()),
            None => builder.logging_disabled(),
        };
        Arc::new(builder)
    }
}
