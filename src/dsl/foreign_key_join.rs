//! Joins of two tables by a foreign key (KIP-213, KIP-1104).

use std::sync::Arc;

use super::foreign_key_plan::{ForeignKeyJoin, Serdes};
use super::params::Materialized;
use super::plan::SharedPlan;
use super::table::KTable;
use crate::nullable::Nullable;
use crate::processor::StreamPartitioner;

/// How a table is joined by a foreign key: names, and where the inner topics' records go. Source: `TableJoined`.
///
/// A partitioner has to be given where the tables' topics were written with one; it gets no value, as in Java.
pub struct TableJoined<K, KO> {
    name: Option<Arc<str>>,
    partitioner: Option<Arc<dyn StreamPartitioner<K, ()>>>,
    other_partitioner: Option<Arc<dyn StreamPartitioner<KO, ()>>>,
}

impl<K, KO> Default for TableJoined<K, KO> {
    fn default() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }
}

impl<K, KO> TableJoined<K, KO> {
    /// Names the nodes, inner topics and inner store: each name begins with this one.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses the partition of answers, as the left table's topic is partitioned.
    pub fn with_partitioner(
        mut self,
        partitioner: impl StreamPartitioner<K, ()> + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Chooses the partition of subscriptions, as the other table's topic is partitioned.
    pub fn with_other_partitioner(
        mut self,
        partitioner: impl StreamPartitioner<KO, ()> + 'static,
    ) -> Self {
        self.other_partitioner = Some(Arc::new(partitioner));
        self
    }
}

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The rows of this table, each with the row of `other` whose key `foreign_key` takes out of it; a row without a
    /// partner is left out. Any number of rows may point to one.
    ///
    /// The joiner gets this row and the other. Timestamps are the later of the two rows'. A row that never had a
    /// partner may give a tombstone when it moves or goes, as in Java.
    ///
    /// A limit of Java's protocol, which this one is byte for byte: a row that loses its partner and gets one that does not
    /// exist within the same moment (before the answer to the first change came back) may leave its last result standing
    /// until its next change; the answer that would have deleted it is stale by then.
    ///
    /// Needs the serdes of both tables: those of a derived one are given by
    /// [`with_serdes`](KTable::with_serdes) or a store. Source: `KTable.join` with a foreign-key extractor.
    ///
    /// ```
    /// use kstreams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.table::<i64, String>("orders"); // "customer:goods"
    /// let customers = builder.table::<String, String>("customers");
    /// orders
    ///     .join_on_foreign_key(
    ///         &customers,
    ///         |_, order| order.split(':').next().map(str::to_owned),
    ///         |order, customer| format!("{order} for {customer}"),
    ///     )
    ///     .to_stream()
    ///     .to("shipments");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<i64, String>("orders").pipe(1, "c7:tulips".into())?;
    /// driver.input_topic::<String, String>("customers").pipe("c7".into(), "Ada".into())?;
    /// let shipments = driver.output_topic::<i64, String>("shipments").read_key_values()?;
    /// assert_eq!(shipments, [(1, "c7:tulips for Ada".to_owned())]);
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn join_on_foreign_key<KF, VO, VR>(
        &self,
        other: &KTable<KF::NonNull, VO>,
        foreign_key: impl Fn(&K, &V) -> KF + Send + Sync + 'static,
        joiner: impl Fn(&V, &VO) -> VR + Send + Sync + 'static,
    ) -> KTable<K, VR::NonNull>
    where
        KF: Nullable,
        VO: Clone + Send + 'static,
        VR: Nullable,
    {
        self.join_on_foreign_key_with(other, foreign_key, joiner, TableJoined::default(), None)
    }

    /// As [`join_on_foreign_key`](Self::join_on_foreign_key), with names; kept in a store if `materialized` names one. Its
    /// serdes are needed for that, and where a later join or grouping looks the result's rows up.
    pub fn join_on_foreign_key_with<KF, VO, VR>(
        &self,
        other: &KTable<KF::NonNull, VO>,
        foreign_key: impl Fn(&K, &V) -> KF + Send + Sync + 'static,
        joiner: impl Fn(&V, &VO) -> VR + Send + Sync + 'static,
        joined: TableJoined<K, KF::NonNull>,
        materialized: Option<Materialized<K, VR::NonNull>>,
    ) -> KTable<K, VR::NonNull>
    where
        KF: Nullable,
        VO: Clone + Send + 'static,
        VR: Nullable,
    {
        let joiner = move |own: &V, other: Option<&VO>| joiner(own, other?).into_non_null();
        let rules = Rules { foreign_key, joiner, left: false };
        self.join_foreign(other, rules, joined, materialized)
    }

    /// As [`join_on_foreign_key`](Self::join_on_foreign_key); a row without a partner is joined with `None`, also where its
    /// foreign key is null.
    pub fn left_join_on_foreign_key<KF, VO, VR>(
        &self,
        other: &KTable<KF::NonNull, VO>,
        foreign_key: impl Fn(&K, &V) -> KF + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&VO>) -> VR + Send + Sync + 'static,
    ) -> KTable<K, VR::NonNull>
    where
        KF: Nullable,
        VO: Clone + Send + 'static,
        VR: Nullable,
    {
        self.left_join_on_foreign_key_with(other, foreign_key, joiner, TableJoined::default(), None)
    }

    /// As [`left_join_on_foreign_key`](Self::left_join_on_foreign_key), with names and store as
    /// [`join_on_foreign_key_with`](Self::join_on_foreign_key_with) takes them.
    pub fn left_join_on_foreign_key_with<KF, VO, VR>(
        &self,
        other: &KTable<KF::NonNull, VO>,
        foreign_key: impl Fn(&K, &V) -> KF + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&VO>) -> VR + Send + Sync + 'static,
        joined: TableJoined<K, KF::NonNull>,
        materialized: Option<Materialized<K, VR::NonNull>>,
    ) -> KTable<K, VR::NonNull>
    where
        KF: Nullable,
        VO: Clone + Send + 'static,
        VR: Nullable,
    {
        let joiner = move |own: &V, other: Option<&VO>| joiner(own, other).into_non_null();
        let rules = Rules { foreign_key, joiner, left: true };
        self.join_foreign(other, rules, joined, materialized)
    }

    /// Source: `KTableImpl.doJoinOnForeignKey`.
    fn join_foreign<KF, VO, VR, E, J>(
        &self,
        other: &KTable<KF::NonNull, VO>,
        rules: Rules<E, J>,
        joined: TableJoined<K, KF::NonNull>,
        materialized: Option<Materialized<K, VR>>,
    ) -> KTable<K, VR>
    where
        KF: Nullable,
        VO: Clone + Send + 'static,
        VR: Clone + Send + 'static,
        E: Fn(&K, &V) -> KF + Send + Sync + 'static,
        J: Fn(&V, Option<&VO>) -> Option<VR> + Send + Sync + 'static,
    {
        (other.spec.enable_old_values)(true);
        (self.spec.enable_old_values)(true);
        let materialized = materialized.unwrap_or_default();
        let names = Names::new(&self.spec.plan, &joined, materialized.name.as_ref());
        let join = ForeignKeyJoin::<K, V, KF::NonNull, VO> {
            plan: self.spec.plan.clone(),
            serdes: Serdes {
                key: self.spec.key_serde.clone(),
                value: self.spec.value_serde.clone(),
                foreign_key: other.spec.key_serde.clone(),
                foreign_value: other.spec.value_serde.clone(),
            },
            names,
            left: rules.left,
        };
        let TableJoined { partitioner, other_partitioner, .. } = joined;
        let subscriptions =
            join.add_subscriptions::<KF, E>(self.spec.node, rules.foreign_key, other_partitioner);
        let answers = join.add_right_side(subscriptions, other, partitioner);
        join.copartition(&other.spec.sources, &join.names.subscription_source);
        let sources = join.copartition(&self.spec.sources, &join.names.response_source);
        let (stores, getter) = (self.spec.stores.clone(), self.value_getter());
        let resolved = join.add_resolver(answers, stores, getter, rules.joiner);
        join.result(resolved, sources, materialized)
    }
}

/// What the user has given.
struct Rules<E, J> {
    foreign_key: E,
    joiner: J,
    left: bool,
}

/// The names of a join, numbered in Java's order.
pub(super) struct Names {
    pub(super) subscription_topic: Arc<str>,
    pub(super) send: Arc<str>,
    pub(super) subscription_sink: Arc<str>,
    pub(super) subscription_source: Arc<str>,
    pub(super) store: Arc<str>,
    pub(super) receive: Arc<str>,
    pub(super) join: Arc<str>,
    pub(super) foreign_join: Arc<str>,
    pub(super) response_topic: Arc<str>,
    pub(super) response_sink: Arc<str>,
    pub(super) response_source: Arc<str>,
    pub(super) resolver: Arc<str>,
    pub(super) result: Arc<str>,
    pub(super) result_store: Arc<str>,
}

impl Names {
    fn new<K, KO>(
        plan: &SharedPlan,
        joined: &TableJoined<K, KO>,
        store: Option<&Arc<str>>,
    ) -> Self {
        let mut plan = plan.borrow_mut();
        let mut name = |suffix: &str, prefix: &str| {
            let given = joined.name.as_ref().map(|name| Arc::from(format!("{name}-{suffix}")));
            plan.node_name(given.as_ref(), prefix)
        };
        let topic = |name: Arc<str>| format!("{name}-topic").into();
        const REGISTRATION: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-";
        const PROCESSOR: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR-";
        const RESPONSE: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-";
        const RESOLVER: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-RESOLVER-PROCESSOR-";
        const STORE: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-";
        const OUTPUT: &str = "KTABLE-FK-JOIN-OUTPUT-";
        Self {
            subscription_topic: topic(name("subscription-registration", REGISTRATION)),
            send: name("subscription-registration-processor", REGISTRATION),
            subscription_sink: name("subscription-registration-sink", "KTABLE-SINK-"),
            subscription_source: name("subscription-registration-source", "KTABLE-SOURCE-"),
            store: name("subscription-store", STORE),
            receive: name("subscription-receive", PROCESSOR),
            join: name("subscription-join-foreign", PROCESSOR),
            foreign_join: name("foreign-join-subscription", PROCESSOR),
            response_topic: topic(name("subscription-response", RESPONSE)),
            response_sink: name("subscription-response-sink", "KTABLE-SINK-"),
            response_source: name("subscription-response-source", "KTABLE-SOURCE-"),
            resolver: name("subscription-response-resolver", RESOLVER),
            result: name("result", OUTPUT),
            result_store: plan.name_or(store, &format!("{OUTPUT}STATE-STORE-")),
        }
    }
}
