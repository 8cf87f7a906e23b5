//! Streams without duplicates.

use std::sync::Arc;
use std::time::Duration;

use super::params::Named;
use super::stream::KStream;
use crate::error::Error;
use crate::operators::Deduplicate;
use crate::serdes::DefaultSerde;
use crate::topology::{Stores, Topology};

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Forwards the first record of each id and drops those with the same id less than `window` before or after it, by event
    /// time. Kafka Streams has no such operator (KIP-655 was never finished).
    ///
    /// Ids are kept for twice the window, with a changelog, in the transaction of the records. Records of one id must be on
    /// one partition: give duplicates the same key. A record that is more than a window older than the newest one forwarded
    /// is dropped as late, since nobody knows any more whether its id was there. Both are counted
    /// (`kstreams_records_dropped_total`, reasons `duplicate` and `late`).
    ///
    /// # Errors
    /// At build: `Invalid` where the key was changed before (repartition first) or the window is shorter than a millisecond.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kstreams::{StreamsBuilder, Timestamp, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, String>("payments")
    ///     .deduplicate(|_, payment| payment.clone(), Duration::from_secs(60))
    ///     .to("once");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let payments = driver.input_topic::<String, String>("payments");
    /// for seconds in [0, 5, 59, 60] {
    ///     payments.pipe_at("ada".into(), "p1".into(), Timestamp::from_millis(seconds * 1000))?;
    /// }
    /// let once = driver.output_topic::<String, String>("once").read_records()?;
    /// let times: Vec<_> = once.iter().map(|record| record.timestamp.as_millis()).collect();
    /// assert_eq!(times, [0, 60_000]);
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn deduplicate<I>(
        &self,
        id: impl Fn(&K, &V) -> I + Send + Sync + 'static,
        window: Duration,
    ) -> Self
    where
        I: DefaultSerde + Clone + Send,
    {
        self.deduplicate_named(id, window, &Named::default())
    }

    /// As [`deduplicate`](Self::deduplicate), with the node named; its store is called `<name>-store`.
    pub fn deduplicate_named<I>(
        &self,
        id: impl Fn(&K, &V) -> I + Send + Sync + 'static,
        window: Duration,
        named: &Named,
    ) -> Self
    where
        I: DefaultSerde + Clone + Send,
    {
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-DEDUPLICATE-");
        let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-store")));
        let store = plan.name_or(given.as_ref(), "KSTREAM-DEDUPLICATE-STATE-STORE-");
        let (id, is_rekeyed) = (Arc::new(id), self.repartition_required);
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                if is_rekeyed {
                    return Err(Error::invalid(format!(
                        "node \"{name}\": found a stream whose key was changed, wanted one that is partitioned by its key; call repartition() before deduplicate()"
                    )));
                }
                let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
                if window_ms == 0 {
                    return Err(Error::invalid(format!(
                        "node \"{name}\": found a window of {window:?}, wanted a millisecond at least"
                    )));
                }
                let used = store.clone();
                let supplier =
                    move || Deduplicate::<I, _>::new(used.clone(), id.clone(), window_ms);
                topology.add_processor::<K, V, K, V, _>(&name, supplier, parents, &[])?;
                let retention = window.saturating_mul(2).saturating_add(Duration::from_millis(1));
                let builder =
                    Stores::window_store_with(&store, retention, window, I::serde(), i32::serde());
                topology.add_state_store_of(Arc::new(builder), &[&name])
            }
        };
        let node = plan.add(name.clone(), &[self.node], Box::new(write));
        drop(plan);
        let (serdes, sources) = (self.serdes.clone(), self.sources.clone());
        Self::new(self.plan.clone(), node, name, serdes, sources, self.repartition_required)
    }
}
