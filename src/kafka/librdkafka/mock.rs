//! A Kafka cluster inside this process: librdkafka's mock cluster, listening on 127.0.0.1.
//!
//! For the local mode and for tests of the ports. It serves groups, plain commits and reads; it is **no proof** of anything
//! about transactions: offsets committed in them are lost, aborted records stay visible and fenced producers commit.
//! Retention is 5 MiB or 100,000 records a partition, and everything is gone when it is dropped.
#![allow(unsafe_code)] // the mock's C API: the crate's wrapper hides the join delay

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaType;

use super::client::{Client, c_string, lock};
use super::{ClientSettings, LibrdkafkaClients, admin::ClusterAdmin, error};
use crate::config::GroupProtocol;
use crate::error::{Error, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    Admin, ClusterHealth, CommittedOffset, Consumer, ConsumerPurpose, GroupMember, KafkaClients,
    MemberName, Membership, NewTopic, Producer, TopicDescription,
};

/// A running mock cluster; stops when dropped.
pub struct MockCluster {
    native: *mut ffi::rd_kafka_mock_cluster_t,
    bootstrap: String,
    /// Configurations given at creation; the mock keeps none.
    configs: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// The handle that the mock runs in; dropped after it.
    _client: Client,
}

// SAFETY: the mock runs on a thread of its own, and calls to it are messages to that thread.
unsafe impl Send for MockCluster {}
// SAFETY: as above.
unsafe impl Sync for MockCluster {}

impl std::fmt::Debug for MockCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockCluster").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl MockCluster {
    /// Starts a cluster of `brokers` on free ports.
    ///
    /// # Errors
    /// `Fatal` where librdkafka cannot start it.
    pub fn start(brokers: i32) -> Result<Self> {
        let client = Client::new(RDKafkaType::RD_KAFKA_PRODUCER, &BTreeMap::new())?;
        // SAFETY: the handle lives, and longer than the mock (field order, and `drop` below).
        let native = unsafe { ffi::rd_kafka_mock_cluster_new(client.rk(), brokers) };
        if native.is_null() {
            return Err(Error::fatal(format!("cannot start a mock cluster of {brokers} brokers")));
        }
        // SAFETY: the mock lives; its address is copied. Without the delay of 3 s a group forms at once.
        let bootstrap = unsafe {
            ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(native, 0);
            CStr::from_ptr(ffi::rd_kafka_mock_cluster_bootstraps(native))
        };
        let bootstrap = bootstrap.to_string_lossy().into_owned();
        Ok(Self { native, bootstrap, configs: Mutex::default(), _client: client })
    }

    /// `host:port` of its brokers, comma separated.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic with one replica per partition.
    ///
    /// # Errors
    /// `Invalid` where it exists already or cannot be.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let name = c_string(topic)?;
        // SAFETY: the mock lives, the name ends with NUL.
        let code =
            unsafe { ffi::rd_kafka_mock_topic_create(self.native, name.as_ptr(), partitions, 1) };
        error::check(code, || "creating a topic".into()).map_err(|cause| {
            Error::invalid(format!(
                "the mock cluster cannot create topic \"{topic}\" with {partitions} partitions"
            ))
            .with_source(cause)
        })
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: destroyed once, before the handle it runs in.
        unsafe { ffi::rd_kafka_mock_cluster_destroy(self.native) };
    }
}

/// Clients of a mock cluster: as those of a real one, but topics are made through the mock's own call, since it does not
/// know the request.
#[derive(Debug, Clone)]
pub struct MockClients {
    cluster: Arc<MockCluster>,
    clients: LibrdkafkaClients,
}

impl MockClients {
    /// Clients of `cluster`, whatever bootstrap address the settings name.
    ///
    /// # Errors
    /// As [`LibrdkafkaClients::new`].
    pub fn new(cluster: Arc<MockCluster>, settings: ClientSettings) -> Result<Self> {
        let (bootstrap, group_protocol) = (cluster.bootstrap.clone(), GroupProtocol::Classic);
        let settings = ClientSettings { bootstrap, group_protocol, ..settings };
        Ok(Self { cluster, clients: LibrdkafkaClients::new(settings)? })
    }
}

impl KafkaClients for MockClients {
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>> {
        self.clients.membership_as(topics, name)
    }

    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>> {
        self.clients.consumer(purpose)
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        self.clients.producer(transactional_id)
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        let cluster = Arc::clone(&self.cluster);
        Ok(Box::new(MockAdmin { cluster, real: ClusterAdmin::new(self.clients.settings())? }))
    }
}

/// Describes through the protocol, creates through the mock, and remembers configurations beside it.
struct MockAdmin {
    cluster: Arc<MockCluster>,
    real: ClusterAdmin,
}

impl Admin for MockAdmin {
    fn topics(&mut self, timeout: Duration) -> Result<BTreeMap<String, TopicDescription>> {
        self.real.topics(timeout)
    }

    fn describe_topics(
        &mut self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicDescription>> {
        // Asked by name, which the mock does not answer, nobody would be refused: it has no access control.
        super::topics::listed(&self.real, topics, timeout)
    }

    fn create_topics(&mut self, topics: &[NewTopic], timeout: Duration) -> Result<()> {
        let (_, existing) = self.real.cluster(timeout)?;
        for topic in topics.iter().filter(|topic| !existing.contains_key(&topic.name)) {
            self.cluster.create_topic(&topic.name, topic.partitions)?;
            lock(&self.cluster.configs).insert(topic.name.clone(), topic.configs.clone());
        }
        Ok(())
    }

    fn topic_configs(
        &mut self,
        topic: &str,
        _timeout: Duration,
    ) -> Result<BTreeMap<String, String>> {
        Ok(lock(&self.cluster.configs).get(topic).cloned().unwrap_or_default())
    }

    /// The mock's brokers have none.
    fn broker_configs(
        &mut self,
        _timeout: Duration,
    ) -> Result<BTreeMap<i32, BTreeMap<String, String>>> {
        Ok(BTreeMap::new())
    }

    fn alter_topic_configs(
        &mut self,
        topic: &str,
        configs: &BTreeMap<String, String>,
        _timeout: Duration,
    ) -> Result<()> {
        let mut all = lock(&self.cluster.configs);
        all.entry(topic.to_owned()).or_default().extend(configs.clone());
        Ok(())
    }

    fn create_partitions(&mut self, topic: &str, total: i32, _timeout: Duration) -> Result<()> {
        Err(Error::invalid(format!(
            "the mock cluster cannot add partitions: \"{topic}\" was to get {total}; create it so"
        )))
    }

    /// The mock cannot tell; whoever uses it is alone.
    fn describe_group(&mut self, _group: &str, _timeout: Duration) -> Result<Vec<GroupMember>> {
        Ok(Vec::new())
    }

    /// Without transactions there are no writers to be found by them.
    fn group_offsets(
        &mut self,
        _group: &str,
        _partitions: &[TopicPartition],
        _timeout: Duration,
    ) -> Result<Vec<CommittedOffset>> {
        Ok(Vec::new())
    }

    fn broker_count(&mut self, timeout: Duration) -> Result<usize> {
        self.real.broker_count(timeout)
    }

    fn cluster_health(&mut self, topics: &[&str], timeout: Duration) -> Result<ClusterHealth> {
        self.real.cluster_health(topics, timeout)
    }

    fn delete_records(
        &mut self,
        _before: &[(TopicPartition, i64)],
        _timeout: Duration,
    ) -> Result<()> {
        Ok(()) // the mock's retention is small and automatic
    }
}
