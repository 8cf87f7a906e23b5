//! Several grouped streams, aggregated into one table.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::expiring::{TtlSpec, add_table_processor};
use super::grouped::KGroupedStream;
use super::params::{Materialized, Named};
use super::plan::{Plan, SharedPlan, Write};
use super::table::{KTable, TableSpec, always_old_values};
use super::windowed_build::Kind;
use crate::error::Result;
use crate::nullable::Nullable;
use crate::operators::{
    Aggregation, Change, Emit, EmitStrategy, Initializer, KStreamAggregate, Passed,
    SessionAggregate, SessionWindows, Steps, store_getter,
};
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

impl<K, VA> Clone for CogroupedKStream<K, VA> {
    fn clone(&self) -> Self {
        let (plan, key_serde) = (self.plan.clone(), self.key_serde.clone());
        Self { plan, key_serde, members: self.members.clone() }
    }
}

/// One of the grouped streams, its value type erased.
pub(super) trait Member<K, VA> {
    /// Where the grouping keeps its repartition node: the same for the same grouping.
    fn identity(&self) -> *const ();
    /// The parent, behind a repartition topic where one is needed; `topic` names that where the grouping does not.
    fn parent(&self, topic: &Arc<str>) -> Parent;
    /// Writes the node that aggregates this stream without windows.
    fn write(&self, spec: MemberSpec<VA>) -> Write;
    /// Writes the node that aggregates this stream in windows of time.
    fn write_windows(&self, spec: MemberSpec<VA>, kind: Kind) -> Write;
    /// Writes the node that aggregates this stream in sessions.
    fn write_sessions(
        &self,
        spec: MemberSpec<VA>,
        windows: SessionWindows,
        merger: Merger<K, VA>,
    ) -> Write;
}

/// Makes one aggregate of two sessions'. Source: `Merger`.
pub(super) type Merger<K, VA> = Arc<dyn Fn(&K, VA, VA) -> VA + Send + Sync>;

/// What the aggregating nodes of all members share.
#[derive(Clone)]
pub(super) struct MemberSpec<VA> {
    pub(super) name: Arc<str>,
    pub(super) initializer: Initializer<VA>,
    pub(super) sends_old: Rc<Cell<bool>>,
    pub(super) store: SharedStoreSpec,
    /// Of the whole aggregate.
    pub(super) ttl: TtlSpec,
}

/// A store, or why there can be none.
type Wanted = Result<Arc<dyn StoreBuilder>>;

/// The one store of all members: whoever is written first adds it.
#[derive(Clone)]
pub(super) struct SharedStoreSpec {
    pub(super) name: Arc<str>,
    builder: Rc<RefCell<Option<Wanted>>>,
}

impl SharedStoreSpec {
    pub(super) fn new(name: &Arc<str>, builder: Result<Arc<dyn StoreBuilder>>) -> Self {
        Self { name: name.clone(), builder: Rc::new(RefCell::new(Some(builder))) }
    }

    pub(super) fn connect(&self, topology: &mut Topology, node: &str) -> Result<()> {
        match self.builder.take() {
            Some(builder) => topology.add_state_store_of(builder?, &[node]),
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

    /// The aggregation in windows, where null values count.
    fn steps<VA>(&self, spec: &MemberSpec<VA>) -> impl Aggregation<K, V, VA> + use<K, V, A, VA>
    where
        VA: Clone + Send + 'static,
        A: Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
    {
        let (aggregator, initializer) = (self.aggregator.clone(), spec.initializer.clone());
        let start = initializer.clone();
        let add = move |key: &K, value: V, sum: Option<VA>| {
            aggregator(key, value, sum.unwrap_or_else(|| start()))
        };
        Steps { init: move || Some(initializer()), add }
    }
}

impl<K, V, VA, A> Member<K, VA> for MemberOf<K, V, A>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
    V: From<V::NonNull>,
    VA: Clone + Send + 'static,
    A: Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
{
    fn identity(&self) -> *const () {
        Rc::as_ptr(&self.grouped.repartition).cast()
    }

    fn parent(&self, topic: &Arc<str>) -> Parent {
        let mut repartitioned = self.repartitioned.borrow_mut();
        match &*repartitioned {
            Some(parent) => {
                if self.grouped.stream.repartition_required {
                    self.grouped.stream.plan.borrow_mut().use_up_repartition_names();
                }
                parent.clone()
            }
            None if self.grouped.stream.repartition_required => {
                let (node, source) = self.grouped.repartitioned_alone(topic);
                let sources: Rc<[Arc<str>]> = Rc::new([source]);
                repartitioned.insert((node, sources)).clone()
            }
            None => {
                let stream = &self.grouped.stream;
                repartitioned.insert((stream.node, stream.sources.clone())).clone()
            }
        }
    }

    fn write(&self, spec: MemberSpec<VA>) -> Write {
        let MemberSpec { name, initializer, sends_old, store, ttl, .. } = spec;
        let aggregator = self.aggregator.clone();
        let step = Arc::new(move |key: &K, value: V::NonNull, sum: Option<VA>| {
            aggregator(key, V::from(value), sum?)
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
            let ttl = ttl.table(&name, |key: &K| Some(key.clone()), send_old)?;
            add_table_processor::<K, V, K, VA, _>(topology, &name, supplier, parents, ttl)?;
            store.connect(topology, &name)
        })
    }

    fn write_windows(&self, spec: MemberSpec<VA>, kind: Kind) -> Write {
        let (aggregation, emit) = (Arc::new(self.steps(&spec)), emit(&spec));
        let MemberSpec { name, store, .. } = spec;
        Box::new(move |topology, parents| {
            kind.validate(EmitStrategy::OnWindowUpdate)
                .map_err(|error| error.context(format!("node \"{name}\"")))?;
            let used = store.name.clone();
            kind.add_processor::<K, V, VA, _>(topology, &name, parents, used, aggregation, emit())?;
            store.connect(topology, &name)
        })
    }

    fn write_sessions(
        &self,
        spec: MemberSpec<VA>,
        windows: SessionWindows,
        merger: Merger<K, VA>,
    ) -> Write {
        let (aggregation, emit) = (Arc::new(self.steps(&spec)), emit(&spec));
        let merger = Arc::new(move |key: &K, one: Option<VA>, two: VA| match one {
            Some(one) => Some(merger(key, one, two)),
            None => Some(two),
        });
        let MemberSpec { name, store, .. } = spec;
        Box::new(move |topology, parents| {
            let (used, emit) = (store.name.clone(), emit());
            let supplier = move || {
                let (aggregation, merger) = (aggregation.clone(), merger.clone());
                SessionAggregate::<K, VA, _, _>::new(
                    used.clone(),
                    windows,
                    aggregation,
                    merger,
                    emit,
                )
            };
            topology.add_processor::<K, V, _, _, _>(&name, supplier, parents, &[])?;
            store.connect(topology, &name)
        })
    }
}

/// How a member's node sends its results on, once the plan is complete.
fn emit<VA>(spec: &MemberSpec<VA>) -> impl FnOnce() -> Emit + use<VA> {
    let sends_old = spec.sends_old.clone();
    move || Emit {
        strategy: EmitStrategy::OnWindowUpdate,
        send_old: sends_old.get(),
        shares_store: true,
    }
}

impl<K, V> KGroupedStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Begins an aggregation of several grouped streams, this one with `aggregator`; one that returns `None` deletes the key.
    ///
    /// Null values are dropped, but for those in windows that are not sliding ones, as in Java.
    pub fn cogroup<VA>(
        &self,
        aggregator: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, VA>
    where
        V: From<V::NonNull>,
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
    /// Adds another grouped stream with its aggregator. A stream that is there already, the same or a clone, gets the new aggregator
    /// instead of its former one, as in Java.
    pub fn cogroup<V>(
        mut self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
    ) -> Self
    where
        V: Nullable + From<V::NonNull>,
    {
        let member = Rc::new(MemberOf::new(grouped, aggregator));
        let same = |known: &Rc<dyn Member<K, VA>>| known.identity() == member.identity();
        match self.members.iter().position(same) {
            Some(known) => self.members[known] = member,
            None => self.members.push(member),
        }
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
        let shared = SharedStoreSpec::new(&store, Ok(builder));
        let ttl = TtlSpec::of(&materialized, Some(&store));
        let write = |member: &dyn Member<K, VA>, name: &Arc<str>| {
            member.write(MemberSpec {
                name: name.clone(),
                initializer: initializer.clone(),
                sends_old: sends_old.clone(),
                store: shared.clone(),
                ttl: ttl.clone(),
            })
        };
        let is_versioned = materialized.is_versioned();
        let mark = |plan: &mut Plan, node: usize| plan.set_output_versioned(node, is_versioned);
        let (node, name, sources) = self.write_members::<K>(named, &store, write, mark);
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
    /// result's key, and `mark` says what else there is to know of each node. Source: `CogroupedStreamAggregateBuilder`.
    pub(super) fn write_members<KR: Clone + Send + 'static>(
        &self,
        named: &Named,
        store: &Arc<str>,
        write: impl Fn(&dyn Member<K, VA>, &Arc<str>) -> Write,
        mark: impl Fn(&mut Plan, usize),
    ) -> (usize, Arc<str>, Rc<[Arc<str>]>) {
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
            mark(&mut plan, node);
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
