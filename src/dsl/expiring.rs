//! Tables whose rows live for a time.

use std::sync::Arc;
use std::time::Duration;

use super::params::Materialized;
use crate::error::{Error, Result};
use crate::operators::{Change, Expiring, TableTtl};
use crate::processor::Processor;
use crate::topology::Topology;

impl<K, V> Materialized<K, V> {
    /// Lets each row live until `ttl` after its timestamp, by stream time (the highest timestamp that the task has seen): then it reads as
    /// absent, is deleted from store and changelog, and the table forwards its deletion, with the time at which it expired. An update
    /// that has outlived its time on arrival is dropped.
    ///
    /// The row's timestamp decides, after a restart and a move as well: an aggregate's is that of its newest record. Deletions come with the
    /// records that move stream time on, at most 256 with each, and so within a hundredth of `ttl` (a second at most) of stream time unless more
    /// are due; joins of two tables and foreign-key joins count a row until then. While no record comes, nothing expires.
    ///
    /// Not for global, versioned and windowed tables. The record cache holds nothing of the table back, and it has a changelog of its own, also with
    /// [`reuse_ktable_source_topics`](crate::TopologyOptimization::reuse_ktable_source_topics).
    ///
    /// Deviation: Kafka Streams has none (KAFKA-4212).
    ///
    /// ```
    /// use std::time::Duration;
    /// use kstreams::{Consumed, Materialized, StreamsBuilder, Timestamp, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let online = Materialized::<String, String>::named("online").with_ttl(Duration::from_secs(60));
    /// builder.table_with("heartbeats", Consumed::default(), online).to_stream().to("presence");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let heartbeats = driver.input_topic::<String, String>("heartbeats");
    /// heartbeats.pipe_at("ada".into(), "home".into(), Timestamp::from_millis(0))?;
    /// heartbeats.pipe_at("bob".into(), "office".into(), Timestamp::from_millis(60_000))?;
    /// let presence = driver.output_topic::<String, Option<String>>("presence").read_key_values()?;
    /// assert_eq!(presence.last(), Some(&("ada".to_owned(), None)));
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// Adds a table's processor; one whose rows expire also removes them.
pub(super) fn add_table_processor<KIn, VIn, K, V, P>(
    topology: &mut Topology,
    name: &str,
    supplier: impl Fn() -> P + Send + Sync + 'static,
    parents: &[&str],
    ttl: Option<TableTtl<KIn, K>>,
) -> Result<()>
where
    P: Processor<KIn, VIn, K, Change<V>>,
    KIn: 'static,
    VIn: 'static,
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    match ttl {
        None => topology.add_processor::<KIn, VIn, K, Change<V>, _>(name, supplier, parents, &[]),
        Some(ttl) => {
            let supplier = move || Expiring::<P, KIn, K, V>::new(supplier(), ttl.clone());
            topology.add_processor::<KIn, VIn, K, Change<V>, _>(name, supplier, parents, &[])
        }
    }
}

/// What was asked of a table's rows: how long they live, and where they are kept.
#[derive(Clone, Default)]
pub(super) struct TtlSpec {
    store: Option<Arc<str>>,
    ttl: Option<Duration>,
    is_versioned: bool,
}

impl TtlSpec {
    /// `store` is `None` where the table has none.
    pub(super) fn of<K, V>(materialized: &Materialized<K, V>, store: Option<&Arc<str>>) -> Self {
        let (ttl, is_versioned) = (materialized.ttl, materialized.is_versioned());
        Self { store: store.cloned(), ttl, is_versioned }
    }

    pub(super) fn is_some(&self) -> bool {
        self.ttl.is_some()
    }

    /// The same for the table's processor `name`. `key_of` says which row a record changes.
    ///
    /// # Errors
    /// `Invalid` where rows cannot live so long, or not here.
    pub(super) fn table<KIn, K>(
        self,
        name: &str,
        key_of: fn(&KIn) -> Option<K>,
        send_old: bool,
    ) -> Result<Option<TableTtl<KIn, K>>> {
        let Some(ttl) = self.ttl else { return Ok(None) };
        let wanted = match self.store {
            None => "wanted a store that rows expire from: name it with Materialized::named",
            _ if ttl < Duration::from_millis(1) => "wanted a millisecond at least",
            _ if self.is_versioned => "wanted none: a versioned table has a history retention",
            Some(store) => return Ok(Some(TableTtl { store, ttl, key_of, send_old })),
        };
        Err(Error::invalid(format!("table \"{name}\": found a time to live of {ttl:?}, {wanted}")))
    }
}
