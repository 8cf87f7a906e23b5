//! Grouped streams in windows of a number of records.

use std::sync::Arc;

use super::aggregates::{Aggregate, step};
use super::grouped::KGroupedStream;
use super::params::Named;
use super::stream::KStream;
use crate::error::Error;
use crate::nullable::Nullable;
use crate::operators::{CountWindowAggregate, counted_serde};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{Stores, Topology};

/// A grouped stream in windows of so many records of a key. Kafka Streams has none.
pub struct CountWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    size: u32,
}

impl<K, V> KGroupedStream<K, V> {
    /// Puts every `size` records of a key into a window, in the order in which the task processes them.
    pub fn windowed_by_count(&self, size: u32) -> CountWindowedKStream<K, V> {
        CountWindowedKStream { grouped: self.clone(), size }
    }
}

impl<K, V> CountWindowedKStream<K, V>
where
    K: Nullable<NonNull = K>,
    V: Nullable,
{
    /// Folds the values of each window; forwards the result when the window is full, with the latest timestamp in it, and
    /// begins the next. What is not full yet is kept in a store with a changelog, called `<name>-store` where the node is named.
    ///
    /// # Errors
    /// At build: `Invalid` for windows of no record.
    ///
    /// ```
    /// use kstreams::{Named, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, i64>("amounts")
    ///     .group_by_key()
    ///     .windowed_by_count(3)
    ///     .aggregate(|| 0, |_, amount, sum: i64| sum + amount, &Named::default())
    ///     .to("sums");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let amounts = driver.input_topic::<String, i64>("amounts");
    /// for amount in 1..=7 {
    ///     amounts.pipe("ada".into(), amount)?;
    /// }
    /// let sums = driver.output_topic::<String, i64>("sums").read_key_values()?;
    /// assert_eq!(sums, [("ada".to_owned(), 6), ("ada".to_owned(), 15)]);
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn aggregate<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V::NonNull, VA) -> VA + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K, VA>
    where
        VA: DefaultSerde + Clone + Send,
    {
        self.aggregate_with(initializer, aggregator, named, VA::serde())
    }

    /// As [`aggregate`](Self::aggregate), with the serde of the result given.
    pub fn aggregate_with<VA>(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        aggregator: impl Fn(&K, V::NonNull, VA) -> VA + Send + Sync + 'static,
        named: &Named,
        value_serde: Serde<VA>,
    ) -> KStream<K, VA>
    where
        VA: Clone + Send + 'static,
    {
        let add = move |key: &K, value: V::NonNull, sum: Option<VA>| {
            aggregator(key, value, sum.unwrap_or_else(&initializer))
        };
        self.build(add, named, value_serde)
    }

    /// Folds the values of each window as `aggregate` says.
    pub fn aggregate_by<A>(&self, aggregate: A, named: &Named) -> KStream<K, A::Result>
    where
        A: Aggregate<V::NonNull>,
        A::Result: DefaultSerde,
    {
        let add = move |_: &K, value: V::NonNull, result| step(&aggregate, result, value);
        self.build(add, named, A::Result::serde())
    }

    fn build<VA: Clone + Send + 'static>(
        &self,
        add: impl Fn(&K, V::NonNull, Option<VA>) -> VA + Send + Sync + 'static,
        named: &Named,
        value_serde: Serde<VA>,
    ) -> KStream<K, VA> {
        let mut plan = self.grouped.stream.plan.borrow_mut();
        let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-store")));
        let store = plan.name_or(given.as_ref(), "KSTREAM-COUNT-WINDOWS-STATE-STORE-");
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-COUNT-WINDOWS-");
        drop(plan);
        let (parent, sources) = self.grouped.repartitioned(&store);
        let key_serde = self.grouped.grouped.key_serde.clone();
        let (size, add) = (self.size, Arc::new(add));
        let write = {
            let (name, key, value) = (name.clone(), key_serde.clone(), value_serde.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                if size == 0 {
                    return Err(Error::invalid(format!(
                        "node \"{name}\": found windows of 0 records, wanted 1 at least"
                    )));
                }
                let used = store.clone();
                let supplier = move || CountWindowAggregate::<K, VA, _> {
                    store: used.clone(),
                    handle: None,
                    size,
                    add: add.clone(),
                };
                topology.add_processor::<K, V, K, VA, _>(&name, supplier, parents, &[])?;
                let builder = Stores::key_value_store_with(&store, key, counted_serde(value));
                topology.add_state_store_of(Arc::new(builder.timestamped()), &[&name])
            }
        };
        let shared = self.grouped.stream.plan.clone();
        let node = shared.borrow_mut().add(name.clone(), &[parent], Box::new(write));
        KStream::new(shared, node, name, (Some(key_serde), Some(value_serde)), sources, false)
    }
}
