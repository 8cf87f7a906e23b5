//! Several grouped streams, aggregated into one table.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::grouped::KGroupedStream;
use super::params::{Materialized, Named};
use super::plan::{SharedPlan, Write};
use super::table::{KTable, TableSpec, always_old_values};
use crate::nullable::Nullable;
use crate::operators::{Change, Initializer, KStreamAggregate, Passed, store_getter};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{StoreBuilder, Topology};

/// Grouped streams of one key type, each with its own aggregator, that will share one aggregate per key.
/// Source: `CogroupedKStream` (KIP-150).
///
/// ```
/// use kstreams::{Materialized, Named, StreamsBuilder, testing::TopologyTestDriver};
///
/// let builder = StreamsBuilder::new();
/// let clicks = builder.stream::<String, String>("clicks").group_by_key();
/// let orders = builder.stream::<String, i64>("orders").group_by_key();
/// clicks
///     .cogroup(|_, page, score: i64| Some(score + page.len() as i64))
///     .cogroup(&orders, |_, amount, score| Some(score + 100 * amount))
///     .aggregate(|| 0, &Named::default(), Materialized::default())
///     .to_stream()
///     .to("scores");
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, String>("clicks").pipe("ada".into(), "home".into())?;
/// driver.input_topic::<String, i64>("orders").pipe("ada".into(), 2)?;
/// let scores = driver.output_topic::<String, i64>("scores").read_key_values()?;
/// assert_eq!(scores, [("ada".to_owned(), 4), ("ada".to_owned(), 204)]);
/// # Ok::<(), kstreams::Error>(())
/// ```
pub struct CogroupedKStream<K, VA> {
    pub(super) plan: SharedPlan,
    pub(super) key_serde: Serde<K>,
    pub(super) members: Vec<Rc<dyn Member<K, VA>>>,
}

/// A node to aggregate below, and the sources that feed it.
pub(super) type Parent = (usize, Rc<[Arc<str>]>);

/// One of the grouped streams, its value type erased.
pub(super) trait Member<K, VA> {
    /// The parent, behind a repartition topic where one is needed; `topic` names that where the grouping does not.
    fn parent(&self, topic: &Arc<str>) -> Parent;
    /// Writes the node that aggregates this stream without windows.
    fn write(&self, spec: MemberSpec<VA>) -> Write;
}

/// What the aggregating nodes of all members share.
#[derive(Clone)]
pub(super) struct MemberSpec<VA> {
    pub(super) name: Arc<str>,
    pub(super) initializer: Initializer<VA>,
    pub(super) sends_old: Rc<Cell<bool>>,
    pub(super) store: SharedStoreSpec,
}

/// The one store of all members: whoever is written first adds it.
#[derive(Clone)]
pub(super) struct SharedStoreSpec {
    pub(super) name: Arc<str>,
    builder: Rc<RefCell<Option<Arc<dyn StoreBuilder>>>>,
}

impl SharedStoreSpec {
    pub(super) fn new(builder: Arc<dyn StoreBuilder>) -> Self {
        let name = builder.name().clone();
        Self { name, builder: Rc::new(RefCell::new(Some(builder))) }
    }

    pub(super) fn connect(&self, topology: &mut Topology, node: &str) -> crate::Result<()> {
        match self.builder.take() {
            Some(builder) => topology.add_state_store_of(builder, &[node]),
            None => topology.connect_processor_and_store(node, &self.name),
        }
    }
}

struct MemberOf<K, V, A> {
    grouped: KGroupedStream<K, V>,
    aggregator: Arc<A>,
    repartitioned: RefCell<Option<Parent>>,
}

impl<K, V, A> MemberOf<K, V, A>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    fn new(grouped: &KGroupedStream<K, V>, aggregator: A) -> Self {
        let grouped = grouped.clone();
        Self { grouped, aggregator: Arc::new(aggregator), repartitioned: RefCell::default() }
    }
}

impl<K, V, VA, A> Member<K, VA> for MemberOf<K, V, A>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
    VA: Clone + Send + 'static,
    A: Fn(&K, V::NonNull, VA) -> Option<VA> + Send + Sync + 'static,
{
    fn parent(&self, topic: &Arc<str>) -> Parent {
        let mut repartitioned = self.repartitioned.borrow_mut();
        match &*repartitioned {
            Some(parent) => {
                if self.grouped.stream.repartition_required {
                    let mut plan = self.grouped.stream.plan.borrow_mut();
                    (0..3).for_each(|_| drop(plan.new_name(""))); // used up all the same
                }
                parent.clone()
            }
            None => repartitioned.insert(self.grouped.repartitioned(topic)).clone(),
        }
    }

    fn write(&self, spec: MemberSpec<VA>) -> Write {
        let MemberSpec { name, initializer, sends_old, store } = spec;
        let aggregator = self.aggregator.clone();
        let step = Arc::new(move |key: &K, value: V::NonNull, sum: Option<VA>| {
            aggregator(key, value, sum?)
        });
        Box::new(move |topology, parents| {
            let (send_old, used) = (sends_old.get(), store.name.clone());
            let supplier = move || KStreamAggregate::<K, VA, _> {
                store: used.clone(),
                handle: None,
                initial: Some(initializer.clone()),
                step: step.clone(),
                send_old,
            };
            topology.add_processor::<K, V, K, Change<VA>, _>(&name, supplier, parents, &[])?;
            store.connect(topology, &name)
        })
    }
}

impl<K, V> KGroupedStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Begins an aggregation of several grouped streams, this one with `aggregator`; one that returns `None` deletes the key.
    pub fn cogroup<VA>(
        &self,
        aggregator: impl Fn(&K, V::NonNull, VA) -> Option<VA> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, VA>
    where
        VA: Clone + Send + 'static,
    {
        let members: Vec<Rc<dyn Member<K, VA>>> = vec![Rc::new(MemberOf::new(self, aggregator))];
        let key_serde = self.grouped.key_serde.clone();
        CogroupedKStream { plan: self.stream.plan.clone(), key_serde, members }
    }
}

impl<K, VA> CogroupedKStream<K, VA>
where
    K: Nullable<NonNull = K>,
    VA: Clone + Send + 'static,
{
    /// Adds another grouped stream with its aggregator.
    pub fn cogroup<V: Nullable>(
        mut self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, V::NonNull, VA) -> Option<VA> + Send + Sync + 'static,
    ) -> Self {
        self.members.push(Rc::new(MemberOf::new(grouped, aggregator)));
        self
    }

    /// Folds the values of each key over all streams, from `initializer`'s value on, in the order in which the task
    /// processes them.
    ///
    /// The nodes are called `<name>-cogroup-agg-<n>` and `<name>-cogroup-merge`. Deviation: topics behind a repartition need
    /// not have the other streams' number of partitions, as Java demands of them.
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<K, VA>
    where
        VA: DefaultSerde,
    {
        let given = materialized.name.as_ref();
        let store = self.plan.borrow_mut().name_or(given, "COGROUPKSTREAM-AGGREGATE-STATE-STORE-");
        let (key_serde, value_serde) =
            materialized.serdes.clone().unwrap_or_else(|| (self.key_serde.clone(), VA::serde()));
        let builder = materialized.store_builder(&store, &key_serde, &value_serde);
        let initializer: Initializer<VA> = Arc::new(initializer);
        let sends_old = Rc::new(Cell::new(false));
        let shared = SharedStoreSpec::new(builder);
        let write = |member: &dyn Member<K, VA>, name: &Arc<str>| {
            member.write(MemberSpec {
                name: name.clone(),
                initializer: initializer.clone(),
                sends_old: sends_old.clone(),
                store: shared.clone(),
            })
        };
        let versioned = materialized.is_versioned();
        let (node, name, sources) = self.write_members::<K>(named, &store, versioned, write);
        KTable::new(TableSpec {
            plan: self.plan.clone(),
            node,
            name,
            key_serde: Some(key_serde),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&sends_old),
            getter: store_getter(store),
        })
    }

    /// One aggregating node for each member, as `write` makes it, and the node that brings them together; `KR` is the
    /// result's key. `is_versioned` is for results of key-value stores. Source: `CogroupedStreamAggregateBuilder`.
    pub(super) fn write_members<KR: Clone + Send + 'static>(
        &self,
        named: &Named,
        store: &Arc<str>,
        is_versioned: impl Into<Option<bool>>,
        write: impl Fn(&dyn Member<K, VA>, &Arc<str>) -> Write,
    ) -> (usize, Arc<str>, Rc<[Arc<str>]>) {
        let is_versioned = is_versioned.into();
        let parents: Vec<_> = self.members.iter().map(|member| member.parent(store)).collect();
        let sources: Rc<[Arc<str>]> =
            parents.iter().flat_map(|(_, sources)| sources.iter()).cloned().collect();
        let mut plan = self.plan.borrow_mut();
        plan.copartition(sources.to_vec());
        let mut nodes = Vec::with_capacity(parents.len());
        for (index, (member, (parent, _))) in self.members.iter().zip(&parents).enumerate() {
            let given =
                named.0.as_ref().map(|name| Arc::from(format!("{name}-cogroup-agg-{index}")));
            let name = plan.node_name(given.as_ref(), "COGROUPKSTREAM-AGGREGATE-");
            let node = plan.add(name.clone(), &[*parent], write(&**member, &name));
            if let Some(is_versioned) = is_versioned {
                plan.set_output_versioned(node, is_versioned);
            }
            nodes.push(node);
        }
        let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-cogroup-merge")));
        let name = plan.node_name(given.as_ref(), "COGROUPKSTREAM-MERGE-");
        let merge = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let supplier = || Passed;
                topology.add_processor::<KR, Change<VA>, KR, Change<VA>, _>(
                    &name,
                    supplier,
                    parents,
                    &[],
                )
            }
        };
        let node = plan.add(name.clone(), &nodes, Box::new(merge));
        (node, name, sources)
    }
}
