//! Where every stream and table begins.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::expiring::{TtlSpec, add_table_processor};
use super::global_table::GlobalKTable;
use super::params::{Consumed, Materialized};
use super::plan::{Optimisable, SharedPlan, SourceTopics, StreamSource};
use super::stream::KStream;
use super::table::{KTable, SourceState, TableSpec};
use crate::config::TopologyOptimization;
use crate::error::{Error, Result};
use crate::operators::{GlobalTableSource, TableSource, store_getter};
use crate::processor::{
    NegativeTimestamp, ProcessorSupplier, ProcessorWrapper, TimestampExtractor,
};
use crate::record::RawRecord;
use crate::serdes::{DefaultSerde, option_serde};
use crate::time::Timestamp;
use crate::topology::{
    AutoOffsetReset, SourceOptions, StoreBuilder, StoreFeed, Stores, TopicName, TopicPattern,
    Topology, TypeTag,
};

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

    /// An empty builder of a topology whose processors are wrapped as `wrapper` says, those that the DSL makes included. Source:
    /// `StreamsBuilder(TopologyConfig)` with `processor.wrapper.class` (KIP-1112).
    pub fn with_processor_wrapper(wrapper: impl ProcessorWrapper) -> Self {
        let builder = Self::default();
        builder.plan.borrow_mut().wrapper = Some(Arc::new(wrapper));
        builder
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
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.stream_of(SourceTopics::Named(topics), consumed)
    }

    /// A stream of the records of every topic whose whole name matches `pattern`. Topics that are made later join within
    /// [`metadata_max_age`](crate::StreamsConfig::metadata_max_age), once all instances know them: all of them stop for a moment, and go on with one
    /// topic more. The number of tasks is that of the matched topic with the most partitions, so a new topic with more of them than a
    /// store's changelog or a repartition topic has is an error, as in Java. Source: `StreamsBuilder.stream(Pattern)`.
    pub fn stream_matching<K, V>(
        &self,
        pattern: TopicPattern,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        self.stream_of(SourceTopics::Matching(pattern), consumed)
    }

    fn stream_of<K, V>(&self, topics: SourceTopics, consumed: Consumed<K, V>) -> KStream<K, V>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        let Consumed { key_serde, value_serde, extractor, offset_reset, name } = consumed;
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(name.as_ref(), "KSTREAM-SOURCE-");
        let write = {
            let (name, topics) = (name.clone(), topics.clone());
            let (key, value) = (key_serde.clone(), value_serde.clone());
            let options = SourceOptions { timestamp_extractor: extractor, offset_reset };
            move |topology: &mut Topology, _: &[&str]| match topics {
                SourceTopics::Named(topics) => {
                    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                    topology.add_source(&name, &topics, key, value, options)
                }
                SourceTopics::Matching(pattern) => {
                    topology.add_source_matching(&name, pattern, key, value, options)
                }
            }
        };
        let node = plan.add(name.clone(), &[], Box::new(write));
        plan.mark_source(node, StreamSource { topics, types: TypeTag::of::<K, V>(), offset_reset });
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

    /// The topic as a table, with serdes, store and timestamp extractor given; the extractor is not asked about records whose key or value is null, which keep
    /// their own timestamp.
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
        let ttl = TtlSpec::of(&materialized, Some(&store));
        let state = SourceState::new(materialized.name.is_some() || ttl.is_some());
        let (expires, reuses_topic): (_, Rc<Cell<bool>>) = (ttl.is_some(), Rc::default());
        let Consumed { key_serde, value_serde, extractor, offset_reset, .. } = consumed;
        let is_versioned = materialized.is_versioned();
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let write = {
            let (source, processor, store) = (source.clone(), processor.clone(), store.clone());
            let (key, value) = (option_serde(key_serde.clone()), option_serde(value_serde.clone()));
            let (topic, state) = (topic.to_owned(), state.clone());
            let reuses_topic = reuses_topic.clone();
            move |topology: &mut Topology, _: &[&str]| {
                let topics = vec![TopicName::External(topic.as_str().into())];
                let options = table_options(extractor, offset_reset);
                topology.add_source_of(&source, topics, key, value, options)?;
                let materialised = state.materialised.get();
                let used = materialised.then(|| store.clone());
                let send_old = state.sends_old.get();
                let supplier = move || TableSource::<K, V>::new(used.clone(), send_old);
                let ttl = ttl.table(&processor, Option::<K>::clone, send_old)?;
                add_table_processor::<Option<K>, Option<V>, _, V, _>(
                    topology,
                    &processor,
                    supplier,
                    &[&source],
                    ttl,
                )?;
                if materialised {
                    let store = builder.name().clone();
                    topology.add_state_store_of(builder, &[&processor])?;
                    if reuses_topic.get() {
                        topology.use_source_as_changelog(&store, &topic);
                    }
                }
                Ok(())
            }
        };
        let mut plan = self.plan.borrow_mut();
        let node = plan.add(processor.clone(), &[], Box::new(write));
        plan.set_output_versioned(node, is_versioned);
        if !expires {
            // Deletions of what has expired cannot be written to the topic.
            plan.mark_optimisable(node, Optimisable::TableSource(reuses_topic));
        }
        drop(plan);
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
        let Consumed { key_serde, value_serde, extractor, .. } = consumed;
        let materialized = materialized.with_logging_disabled();
        let is_versioned = materialized.is_versioned();
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let write = {
            let (store, topic) = (store.clone(), topic.to_owned());
            let feed = StoreFeed {
                source_name: source.to_string(),
                topic,
                key_serde: option_serde(key_serde),
                value_serde: option_serde(value_serde),
                options: table_options(extractor, None),
                processor_name: processor.to_string(),
            };
            move |topology: &mut Topology, _: &[&str]| {
                if is_versioned {
                    return Err(Error::invalid(format!(
                        "global store \"{store}\": found a versioned one, wanted an unversioned one: global tables have no history"
                    )));
                }
                let supplier = move || GlobalTableSource::<K, V>::new(store.clone());
                topology.add_global_store_of(builder, feed, supplier)
            }
        };
        self.plan.borrow_mut().add(processor, &[], Box::new(write));
        GlobalKTable::new(store)
    }

    /// Adds a store that every instance holds whole, fed from `topic` by processors of your own before anything else runs. The store makes no
    /// changelog: its topic is one. Source: `addGlobalStore`.
    ///
    /// The processors see every record of the topic again after a restart from an empty disk, and must only write their store.
    pub fn add_global_store<K, V, S>(
        &self,
        builder: impl StoreBuilder,
        topic: &str,
        consumed: Consumed<K, V>,
        supplier: S,
    ) -> &Self
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, (), ()>,
    {
        let Consumed { key_serde, value_serde, extractor, name, .. } = consumed;
        let mut plan = self.plan.borrow_mut();
        let source = plan.new_name("KSTREAM-SOURCE-");
        let processor = plan.new_name("KTABLE-SOURCE-");
        let (source, processor) = match name {
            Some(name) => (format!("{name}-source").into(), name),
            None => (source, processor),
        };
        let feed = StoreFeed {
            source_name: source.to_string(),
            topic: topic.to_owned(),
            key_serde,
            value_serde,
            options: SourceOptions { timestamp_extractor: extractor, offset_reset: None },
            processor_name: processor.to_string(),
        };
        let builder: Arc<dyn StoreBuilder> = Arc::new(builder);
        let write = move |topology: &mut Topology, _: &[&str]| {
            topology.add_global_store_of(builder, feed, supplier)
        };
        plan.add(processor, &[], Box::new(write));
        drop(plan);
        self
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
        self.build_with(TopologyOptimization::NONE)
    }

    /// As [`build`](Self::build), with `topology.optimization`. Source: `StreamsBuilder.build(Properties)`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(self, optimization: TopologyOptimization) -> Result<Topology> {
        RefCell::borrow_mut(&self.plan).write(optimization)
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
        plan.check_name(consumed.name.as_ref());
        match &consumed.name {
            Some(name) => (format!("{name}-source").into(), name.clone(), store),
            None => (source, processor, store),
        }
    }
}

/// A table's source reads nulls too, of which an extractor for its types can make nothing.
fn table_options<K: 'static, V: 'static>(
    extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    offset_reset: Option<AutoOffsetReset>,
) -> SourceOptions<Option<K>, Option<V>> {
    let extractor = extractor.map(|extractor| {
        Arc::new(OfNonNull(extractor)) as Arc<dyn TimestampExtractor<Option<K>, Option<V>>>
    });
    SourceOptions { timestamp_extractor: extractor, offset_reset }
}

struct OfNonNull<K, V>(Arc<dyn TimestampExtractor<K, V>>);

impl<K, V> TimestampExtractor<Option<K>, Option<V>> for OfNonNull<K, V> {
    fn extract(
        &self,
        raw: &RawRecord,
        key: &Option<K>,
        value: &Option<V>,
        partition_time: Option<Timestamp>,
    ) -> Result<Timestamp> {
        match (key, value) {
            (Some(key), Some(value)) => self.0.extract(raw, key, value, partition_time),
            _ => Ok(raw.timestamp),
        }
    }

    fn on_negative(&self) -> NegativeTimestamp {
        self.0.on_negative()
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
        let in_memory = self.kind == crate::store::StoreKind::InMemory;
        if let Some(history) = self.history_retention {
            let mut builder = Stores::versioned_key_value_store_with(name, history, key, value);
            if in_memory {
                builder = builder.in_memory();
            }
            return Arc::new(match &self.logging {
                Some(configs) => builder.logging_enabled(configs.clone()),
                None => builder.logging_disabled(),
            });
        }
        let mut builder = Stores::key_value_store_with(name, key, value).timestamped();
        if let Some(ttl) = self.ttl {
            // The end of a row is forwarded at once: what was held back would come after it.
            builder = builder.with_ttl(ttl).expired_by_processor();
        } else if self.caching {
            builder = builder.caching_enabled();
        }
        if in_memory {
            builder = builder.in_memory();
        }
        builder = match &self.logging {
            Some(configs) => builder.logging_enabled(configs.clone()),
            None => builder.logging_disabled(),
        };
        Arc::new(builder)
    }
}
