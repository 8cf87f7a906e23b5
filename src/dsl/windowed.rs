//! Streams grouped by key and window: what comes between a grouped stream and its windowed aggregation.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::aggregates::{Aggregate, step_unless_null};
use super::cogrouped::CogroupedKStream;
use super::cogrouped_windows::{SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
use super::grouped::KGroupedStream;
use super::params::{Materialized, Named};
use super::table::{KTable, TableSpec, always_old_values};
use super::windowed_build::{Kind, Placed};
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::{
    EmitStrategy, SessionWindows, SlidingWindows, Steps, Windows, window_getter,
};
use crate::serdes::{DefaultSerde, Serde, WindowedSerdes};
use crate::topology::Topology;
use crate::windowed::Windowed;

/// A kind of window that a grouped stream can be windowed by: [`TimeWindows`](crate::TimeWindows), [`UnlimitedWindows`](crate::UnlimitedWindows)
/// and other [`Windows`], [`SlidingWindows`], [`SessionWindows`].
pub trait WindowedBy {
    /// What the stream becomes.
    type Stream<K, V>;
    /// What a cogrouped stream becomes.
    type Cogrouped<K, VA>;
    /// Windows a grouped stream.
    fn window<K, V>(self, grouped: KGroupedStream<K, V>) -> Self::Stream<K, V>;
    /// Windows a cogrouped stream.
    fn window_cogrouped<K, VA>(self, cogrouped: CogroupedKStream<K, VA>) -> Self::Cogrouped<K, VA>;
}

impl<W: Windows> WindowedBy for W {
    type Stream<K, V> = TimeWindowedKStream<K, V>;
    type Cogrouped<K, VA> = TimeWindowedCogroupedKStream<K, VA>;

    fn window<K, V>(self, grouped: KGroupedStream<K, V>) -> TimeWindowedKStream<K, V> {
        TimeWindowedKStream::new(grouped, Kind::Windows(Arc::new(self)))
    }

    fn window_cogrouped<K, VA>(self, cogrouped: CogroupedKStream<K, VA>) -> Self::Cogrouped<K, VA> {
        TimeWindowedCogroupedKStream::new(cogrouped, Kind::Windows(Arc::new(self)))
    }
}

impl WindowedBy for SlidingWindows {
    type Stream<K, V> = TimeWindowedKStream<K, V>;
    type Cogrouped<K, VA> = TimeWindowedCogroupedKStream<K, VA>;

    fn window<K, V>(self, grouped: KGroupedStream<K, V>) -> TimeWindowedKStream<K, V> {
        TimeWindowedKStream::new(grouped, Kind::Sliding(self))
    }

    fn window_cogrouped<K, VA>(self, cogrouped: CogroupedKStream<K, VA>) -> Self::Cogrouped<K, VA> {
        TimeWindowedCogroupedKStream::new(cogrouped, Kind::Sliding(self))
    }
}

impl WindowedBy for SessionWindows {
    type Stream<K, V> = super::SessionWindowedKStream<K, V>;
    type Cogrouped<K, VA> = SessionWindowedCogroupedKStream<K, VA>;

    fn window<K, V>(self, grouped: KGroupedStream<K, V>) -> super::SessionWindowedKStream<K, V> {
        super::SessionWindowedKStream::new(grouped, self)
    }

    fn window_cogrouped<K, VA>(self, cogrouped: CogroupedKStream<K, VA>) -> Self::Cogrouped<K, VA> {
        SessionWindowedCogroupedKStream::new(cogrouped, self)
    }
}

impl<K, V> KGroupedStream<K, V> {
    /// Aggregates the records of each key per window.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kstreams::{StreamsBuilder, TimeWindows, Timestamp};
    /// use kstreams::testing::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, String>("clicks")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .count()
    ///     .to_stream()
    ///     .map_values(|_, count| count.unwrap_or_default())
    ///     .select_key(|windowed, _| windowed.to_string())
    ///     .to("clicks-per-minute");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let clicks = driver.input_topic::<String, String>("clicks");
    /// for millis in [5_000, 59_999, 60_000] {
    ///     clicks.pipe_at("page".into(), "click".into(), Timestamp::from_millis(millis))?;
    /// }
    /// let counts = driver.output_topic::<String, i64>("clicks-per-minute").read_key_values()?;
    /// assert_eq!(counts[1], ("[page@0/60000]".to_owned(), 2));
    /// assert_eq!(counts[2], ("[page@60000/120000]".to_owned(), 1));
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn windowed_by<W: WindowedBy>(&self, windows: W) -> W::Stream<K, V> {
        windows.window(self.clone())
    }
}

/// A grouped stream in windows of time. Source: `TimeWindowedKStream`.
///
/// Records with a null key are dropped. One with a null value counts as any other, but for sliding windows, which drop it.
pub struct TimeWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    kind: Kind,
    strategy: EmitStrategy,
}

impl<K, V> TimeWindowedKStream<K, V> {
    fn new(grouped: KGroupedStream<K, V>, kind: Kind) -> Self {
        Self { grouped, kind, strategy: EmitStrategy::default() }
    }

    /// Decides when results are sent. Building the topology fails where windows that never close are to be emitted when they do.
    #[must_use]
    pub fn emit_strategy(self, strategy: EmitStrategy) -> Self {
        Self { strategy, ..self }
    }
}

impl<K, V> TimeWindowedKStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Counts the records of each key and window.
    pub fn count(&self) -> KTable<Windowed<K>, i64> {
        self.do_count(|| 0, |count| count + 1, &Named::default(), Materialized::default())
    }

    /// As [`count`](Self::count), into the given store.
    pub fn count_with(
        &self,
        named: &Named,
        materialized: Materialized<K, i64>,
    ) -> KTable<Windowed<K>, i64> {
        self.count_by(|| 0, |count| count + 1, named, materialized)
    }

    /// As [`count_with`](Self::count_with), in a type of your own: `next` gives the count after one more record. Deviation: Kafka
    /// Streams counts with `Long` only.
    pub fn count_by<N>(
        &self,
        zero: impl Fn() -> N + Send + Sync + 'static,
        next: impl Fn(N) -> N + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N>
    where
        N: DefaultSerde + Clone + Send,
    {
        if materialized.name.is_none() && matches!(self.kind, Kind::Windows(_)) {
            // Java uses a number up here, for topologies of former versions.
            self.grouped.stream.plan.borrow_mut().new_name("KSTREAM-AGGREGATE-STATE-STORE-");
        }
        self.do_count(zero, next, named, materialized)
    }

    fn do_count<N>(
        &self,
        zero: impl Fn() -> N + Send + Sync + 'static,
        next: impl Fn(N) -> N + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N>
    where
        N: DefaultSerde + Clone + Send,
    {
        let init = move || Some(zero());
        let add = move |_: &K, _: V, count: Option<N>| count.map(&next);
        self.build("KSTREAM-AGGREGATE-", Steps { init, add }, named, materialized, N::serde())
    }

    /// Combines the values of each key and window; the first one starts. A null result deletes the window's.
    pub fn reduce(
        &self,
        reducer: impl Fn(V::NonNull, V) -> V + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, V::NonNull>,
    ) -> KTable<Windowed<K>, V::NonNull>
    where
        V::NonNull: DefaultSerde,
    {
        let add = move |_: &K, value: V, sum: Option<V::NonNull>| {
            let reduced = match sum {
                Some(sum) => reducer(sum, value),
                None => value,
            };
            reduced.into_non_null()
        };
        let serde = V::NonNull::serde();
        self.build("KSTREAM-REDUCE-", Steps { init: || None, add }, named, materialized, serde)
    }

    /// Folds the values of each key and window, from `initializer`'s value on; an aggregator that returns `None` deletes the window's
    /// aggregate.
    pub fn aggregate<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V, VA) -> Option<VA> + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        let initializer = Arc::new(initializer);
        let start = initializer.clone();
        let add = move |key: &K, value: V, sum: Option<VA>| {
            aggregator(key, value, sum.unwrap_or_else(|| start()))
        };
        let init = move || Some(initializer());
        self.build("KSTREAM-AGGREGATE-", Steps { init, add }, named, materialized, VA::serde())
    }

    /// Folds the values of each key and window as `aggregate` says; a null value changes nothing.
    pub fn aggregate_by<A>(
        &self,
        aggregate: A,
        named: &Named,
        materialized: Materialized<K, A::Result>,
    ) -> KTable<Windowed<K>, A::Result>
    where
        A: Aggregate<V::NonNull>,
        A::Result: DefaultSerde,
    {
        let add = move |_: &K, value: V, result: Option<A::Result>| {
            step_unless_null(&aggregate, result, value)
        };
        let (steps, serde) = (Steps { init: || None, add }, A::Result::serde());
        self.build("KSTREAM-AGGREGATE-", steps, named, materialized, serde)
    }

    fn build<VA, A>(
        &self,
        prefix: &str,
        aggregation: A,
        named: &Named,
        materialized: Materialized<K, VA>,
        value_serde: Serde<VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: Clone + Send + 'static,
        A: crate::operators::Aggregation<K, V, VA>,
    {
        let Placed { store, name, parent, sources } =
            self.grouped.place(prefix, named, materialized.name.as_ref());
        let (key_serde, value_serde) = materialized
            .serdes
            .clone()
            .unwrap_or_else(|| (self.grouped.grouped.key_serde.clone(), value_serde));
        let builder =
            self.kind.store(&store, &materialized, self.strategy, &key_serde, &value_serde);
        let (kind, strategy) = (self.kind.clone(), self.strategy);
        let (aggregation, sends_old) = (Arc::new(aggregation), Rc::new(Cell::new(false)));
        let write = {
            let (name, store, sends_old) = (name.clone(), store.clone(), sends_old.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                kind.validate(strategy).map_err(|e| e.context(format!("node \"{name}\"")))?;
                let emit = crate::operators::Emit {
                    strategy,
                    send_old: sends_old.get(),
                    shares_store: false,
                };
                kind.add_processor::<K, V, VA, A>(
                    topology,
                    &name,
                    parents,
                    store,
                    aggregation,
                    emit,
                )?;
                topology.add_state_store_of(builder?, &[&name])
            }
        };
        let mut plan = self.grouped.stream.plan.borrow_mut();
        let node = plan.add(name.clone(), &[parent], Box::new(write));
        plan.set_output_versioned(node, false);
        plan.mark_grace(node, self.kind.grace());
        drop(plan);
        KTable::new(TableSpec {
            plan: self.grouped.stream.plan.clone(),
            node,
            name,
            key_serde: Some(WindowedSerdes::time_windowed(key_serde, self.kind.size())),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&sends_old),
            getter: window_getter(store),
        })
    }
}

/// How long a store keeps its windows: as long as it was told, or as they need.
///
/// # Errors
/// `Invalid` where that is too short, or where the store is to be a versioned one.
pub(super) fn retention<K, V>(
    store: &str,
    materialized: &Materialized<K, V>,
    wanted: Duration,
) -> Result<Duration> {
    if materialized.is_versioned() {
        return Err(Error::invalid(format!(
            "store \"{store}\": found a versioned store for a windowed table, wanted a window or session store; use Materialized::named"
        )));
    }
    if let Some(ttl) = materialized.ttl {
        return Err(Error::invalid(format!(
            "store \"{store}\": found a time to live of {ttl:?} for a windowed table, wanted none: Materialized::with_retention says how long windows are kept"
        )));
    }
    let given = materialized.retention.unwrap_or(wanted);
    if given < wanted {
        return Err(Error::invalid(format!(
            "store \"{store}\": found retention {given:?}, wanted at least {wanted:?}, for its windows and their grace period"
        )));
    }
    Ok(given)
}
