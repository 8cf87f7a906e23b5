//! The Kafka ports on librdkafka.
//!
//! [`LibrdkafkaClients`] makes the clients; each file beside this one is one port. librdkafka runs its own network
//! threads; every client here is owned by one of our threads and polled by it. librdkafka's C API is used directly:
//! batch consumption from one queue per partition, commits without a fixed wait and a member that never fetches cannot be
//! had through the wrapper's types. Left out on purpose: retries (the runtime's), metrics, any knowledge of tasks.

mod admin;
mod client;
mod config;
mod configs;
mod consumer;
mod error;
mod groups;
mod membership;
mod mock;
mod partitions;
mod producer;
mod protocol;
mod queue;
mod snapshot;
mod topics;

use std::sync::Arc;

pub use config::ClientSettings;
pub use mock::{MockClients, MockCluster};

use super::{Admin, Consumer, ConsumerPurpose, KafkaClients, MemberName, Membership, Producer};
use crate::error::Result;

/// Makes clients of a real cluster.
#[derive(Debug, Clone)]
pub struct LibrdkafkaClients {
    settings: ClientSettings,
    choice: Arc<protocol::Choice>,
}

impl LibrdkafkaClients {
    /// Clients with these settings; nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` where an extra property contradicts one that correctness depends on, or a name is empty.
    pub fn new(settings: ClientSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self { settings, choice: Arc::default() })
    }

    /// The settings that the clients are made from.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }
}

impl KafkaClients for LibrdkafkaClients {
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>> {
        Ok(Box::new(membership::Member::join(&self.settings, topics, name, &self.choice)?))
    }

    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(consumer::PartitionConsumer::new(&self.settings, purpose)?))
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        Ok(Box::new(producer::RawProducer::new(&self.settings, transactional_id)?))
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        Ok(Box::new(admin::ClusterAdmin::new(&self.settings)?))
    }
}
