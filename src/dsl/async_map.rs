//! Values made by asynchronous calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::params::Named;
use super::plan::Changes;
use super::stream::KStream;
use crate::error::{Error, Result};
use crate::operators::{
    AsyncMapSpec, AsyncMapValues, AsyncMapper, Call, CallLimits, Room, waiting_serde,
};
use crate::serdes::{DefaultSerde, Serde};
use crate::topology::{Stores, Topology};

/// How [`KStream::map_values_async`] calls. Kafka Streams has none (KIP-408).
pub struct AsyncOptions<K, V> {
    /// Records that wait for their result at most, in each task. While so many do, the task takes no further one; its punctuations go on.
    pub max_in_flight: usize,
    /// Calls for records of one key at the same time. With more than one, results still come in the records' order.
    pub max_in_flight_per_key: usize,
    /// How long an attempt may take; then it has failed as one that is [`Retriable`](crate::ErrorKind::Retriable).
    pub timeout: Duration,
    /// Attempts after the first, for errors that are `Retriable`.
    pub retries: u32,
    /// The pause before the first retry; doubled before each further one, up to 30 seconds.
    pub retry_backoff: Duration,
    /// Where calls run, with timers enabled; `None`: on a runtime of two threads that all of the process share.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Serdes of the records that wait; `None`: the stream's.
    pub serdes: Option<(Serde<K>, Serde<V>)>,
}

impl<K, V> Default for AsyncOptions<K, V> {
    /// 100 records, one of a key; 30 seconds, and 3 retries from 100 ms on.
    fn default() -> Self {
        Self {
            max_in_flight: 100,
            max_in_flight_per_key: 1,
            timeout: Duration::from_secs(30),
            retries: 3,
            retry_backoff: Duration::from_millis(100),
            runtime: None,
            serdes: None,
        }
    }
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Makes another value of each by an asynchronous call, such as a request over HTTP, without holding up the stream thread. Results
    /// of one key come in the order of its records; other keys go on meanwhile. A result has the record's timestamp and headers.
    ///
    /// A record that waits is kept in a store with a changelog until its result is forwarded, in one transaction with that. So under exactly once
    /// each record has one result, whatever is aborted, killed or moved; but the call may be made again, with no result seen of the first: it
    /// should change nothing, or be idempotent. Commits do not wait for calls.
    ///
    /// An error that is [`Retriable`](crate::ErrorKind::Retriable), and a time-out, is tried again. After the last attempt, and at once for a
    /// `BadRecord` and for a panic, the processing exception handler decides, about the source record as it came. Other kinds of errors stop the
    /// client. The result's way on is a piece of work of its own: a failure there, or of the call, undoes nothing of what the record has
    /// done above this operator or beside it.
    ///
    /// In [`TopologyTestDriver`](crate::testing::TopologyTestDriver) each call is waited for.
    ///
    /// # Errors
    /// At build: `Invalid` where an option is 0, or the stream's serdes are not known.
    ///
    /// ```
    /// use kstreams::{AsyncOptions, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// async fn price(item: &str) -> kstreams::Result<i64> {
    ///     Ok(item.len() as i64) // asks somebody
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, String>("orders")
    ///     .map_values_async(|_, item| async move { price(&item).await }, AsyncOptions::default())
    ///     .to("priced");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("orders").pipe("ada".into(), "lamp".into())?;
    /// let priced = driver.output_topic::<String, i64>("priced").read_key_values()?;
    /// assert_eq!(priced, [("ada".to_owned(), 4)]);
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn map_values_async<V2, F>(
        &self,
        mapper: impl Fn(K, V) -> F + Send + Sync + 'static,
        options: AsyncOptions<K, V>,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        F: Future<Output = Result<V2>> + Send + 'static,
    {
        self.map_values_async_named(mapper, options, &Named::default())
    }

    /// As [`map_values_async`](Self::map_values_async), with the node named; its store is called `<name>-store`.
    pub fn map_values_async_named<V2, F>(
        &self,
        mapper: impl Fn(K, V) -> F + Send + Sync + 'static,
        options: AsyncOptions<K, V>,
        named: &Named,
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        F: Future<Output = Result<V2>> + Send + 'static,
    {
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-ASYNC-MAPVALUES-");
        let given = named.0.as_ref().map(|name| Arc::from(format!("{name}-store")));
        let store = plan.name_or(given.as_ref(), "KSTREAM-ASYNC-MAPVALUES-STATE-STORE-");
        let mapper: AsyncMapper<K, V, V2> =
            Arc::new(move |key, value| Box::pin(mapper(key, value)) as Call<V2>);
        let known = self.serdes.0.clone().zip(self.serdes.1.clone());
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let serdes = options.checked_serdes(&name, known)?;
                let (key_serde, value_serde) = serdes.clone();
                let AsyncOptions { timeout, retries, retry_backoff: backoff, .. } = options;
                let spec = Arc::new(AsyncMapSpec {
                    store: store.clone(),
                    key_serde,
                    value_serde,
                    mapper,
                    room: Room {
                        in_flight: options.max_in_flight,
                        in_flight_per_key: options.max_in_flight_per_key,
                    },
                    limits: CallLimits { timeout, retries, backoff },
                    runtime: options.runtime,
                });
                let node = move || Box::new(AsyncMapValues::new(spec.clone())) as Box<_>;
                topology.add_node_of::<K, V, K, V2>(&name, node, parents)?;
                let values = waiting_serde(serdes.0, serdes.1);
                let builder = Stores::key_value_store_with(&store, i64::serde(), values);
                topology.add_state_store_of(Arc::new(builder), &[&name])
            }
        };
        let node = plan.add(name.clone(), &[self.node], Box::new(write));
        drop(plan);
        let (serdes, sources) = ((self.serdes.0.clone(), None), self.sources.clone());
        let repartition = self.repartition_required;
        KStream::new(self.plan.clone(), node, name, serdes, sources, repartition)
            .changing(Changes::Value)
    }
}

impl<K, V> AsyncOptions<K, V> {
    fn checked_serdes(
        &self,
        name: &str,
        known: Option<(Serde<K>, Serde<V>)>,
    ) -> Result<(Serde<K>, Serde<V>)> {
        let numbers = [
            ("max_in_flight", self.max_in_flight),
            ("max_in_flight_per_key", self.max_in_flight_per_key),
            ("timeout in ms", usize::try_from(self.timeout.as_millis()).unwrap_or(usize::MAX)),
        ];
        for (option, value) in numbers {
            if value == 0 {
                let text = format!("node \"{name}\": found {option} 0, wanted at least 1");
                return Err(Error::invalid(text));
            }
        }
        self.serdes.clone().or(known).ok_or_else(|| {
            Error::invalid(format!(
                "node \"{name}\" keeps records whose serdes the stream does not know; give them with AsyncOptions::serdes"
            ))
        })
    }
}
