//! A view of a running client, for any thread, and with it the public side of interactive queries.
//!
//! Source of the queries: the methods of `KafkaStreams` of the same names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::KafkaStreams;
use super::directory::Directory;
use super::host_info::{KeyQueryMetadata, LagInfo, StreamsMetadata};
use super::queries::StoreQueryParameters;
use super::shared::{Shared, TaskInfo};
use super::state::State;
use crate::error::{Error, Result};
use crate::serdes::Serde;
use crate::store::QueryableStoreType;
use crate::topology::Topology;

/// A view of a running client, for other threads.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) topology: Arc<Topology>,
    pub(super) directory: Arc<Directory>,
}

impl Handle {
    /// What the client is doing.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Where the tasks are and what they do.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.shared.tasks()
    }

    /// Why the client failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure_text()
    }

    /// The topology's description.
    pub fn describe(&self) -> String {
        self.topology.describe()
    }

    /// Asks for an ordered stop, and returns at once.
    pub fn close(&self) {
        self.shared.request_stop();
    }
}

impl Handle {
    /// Read-only access to the committed state of a store, over the partitions that this instance processes.
    ///
    /// Reading never waits for the stream thread and never holds it up for more than a page of a scan.
    /// Source: `KafkaStreams.store(StoreQueryParameters)`.
    ///
    /// # Errors
    /// `Invalid` for a store that the topology does not have or that is of another type; `Retriable` where the client does not run or
    /// no partition asked for is here and processes (Kafka Streams: `InvalidStateStoreException`).
    pub fn store<T: QueryableStoreType>(
        &self,
        parameters: &StoreQueryParameters<T>,
    ) -> Result<T::Store> {
        if !self.directory.has_store(parameters.name()) {
            return Err(self.directory.unknown_store(parameters.name()));
        }
        let state = self.shared.state();
        if !matches!(state, State::Running | State::Rebalancing) {
            return Err(Error::retriable(format!(
                "querying store \"{}\": found the client {state}, wanted it running",
                parameters.name()
            )));
        }
        self.shared.stores.query(parameters, &self.shared.tasks())
    }

    /// Which instance has a key, by the partition that Kafka's default partitioner gives it. `None`: nobody has it at the
    /// moment, or its owner sets no `application.server`.
    ///
    /// `key_serde` writes the key as it stands in the topics that feed the store.
    /// Source: `KafkaStreams.queryMetadataForKey`.
    ///
    /// # Errors
    /// `Invalid` for an unknown store, what the serde returns, and the broker's errors where it had to be asked.
    pub fn query_metadata_for_key<K>(
        &self,
        store: &str,
        key: &K,
        key_serde: &Serde<K>,
    ) -> Result<Option<KeyQueryMetadata>> {
        let partition = self.directory.partition_of(store, key, key_serde)?;
        self.query_metadata_for_partition(store, partition)
    }

    /// Which instance has a partition of a store: for keys that a partitioner of the application's own has placed.
    ///
    /// Source: `KafkaStreams.queryMetadataForKey` with a `StreamPartitioner`.
    ///
    /// # Errors
    /// As [`query_metadata_for_key`](Self::query_metadata_for_key).
    pub fn query_metadata_for_partition(
        &self,
        store: &str,
        partition: i32,
    ) -> Result<Option<KeyQueryMetadata>> {
        self.directory.owner(store, partition, |task| self.shared.runs(task))
    }

    /// The partition of a key in a store, by Kafka's default partitioner.
    ///
    /// # Errors
    /// `Invalid` for an unknown store, and what the serde returns.
    pub fn partition_for_key<K>(&self, store: &str, key: &K, key_serde: &Serde<K>) -> Result<i32> {
        self.directory.partition_of(store, key, key_serde)
    }

    /// How many partitions a store has over all instances.
    ///
    /// # Errors
    /// `Invalid` for an unknown store.
    pub fn partitions_of_store(&self, store: &str) -> Result<i32> {
        self.directory.partitions(store)
    }

    /// All instances that set an `application.server`, by it; no older than a second.
    ///
    /// Source: `KafkaStreams.metadataForAllStreamsClients`.
    ///
    /// # Errors
    /// Those of the broker's answer.
    pub fn metadata_for_all_streams_clients(&self) -> Result<Vec<StreamsMetadata>> {
        self.directory.instances()
    }

    /// The instances that have partitions of a store. Source: `KafkaStreams.streamsMetadataForStore`.
    ///
    /// # Errors
    /// `Invalid` for an unknown store, and those of the broker's answer.
    pub fn streams_metadata_for_store(&self, store: &str) -> Result<Vec<StreamsMetadata>> {
        if !self.directory.has_store(store) {
            return Err(self.directory.unknown_store(store));
        }
        let mut instances = self.directory.instances()?;
        instances.retain(|instance| instance.state_store_names.contains(store));
        Ok(instances)
    }

    /// How far each store of this instance is behind its changelog, by store and partition. While a store is restored, its
    /// changelog's end is as of the last records read; one whose changelog has not answered yet is left out.
    ///
    /// Source: `KafkaStreams.allLocalStorePartitionLags`.
    pub fn all_local_store_partition_lags(&self) -> BTreeMap<Arc<str>, BTreeMap<i32, LagInfo>> {
        self.shared.stores.lags(&self.shared.tasks())
    }
}

impl KafkaStreams {
    /// As [`Handle::store`].
    ///
    /// # Errors
    /// As there.
    pub fn store<T: QueryableStoreType>(
        &self,
        parameters: &StoreQueryParameters<T>,
    ) -> Result<T::Store> {
        self.handle().store(parameters)
    }

    /// As [`Handle::query_metadata_for_key`].
    ///
    /// # Errors
    /// As there.
    pub fn query_metadata_for_key<K>(
        &self,
        store: &str,
        key: &K,
        key_serde: &Serde<K>,
    ) -> Result<Option<KeyQueryMetadata>> {
        self.handle().query_metadata_for_key(store, key, key_serde)
    }

    /// As [`Handle::metadata_for_all_streams_clients`].
    ///
    /// # Errors
    /// As there.
    pub fn metadata_for_all_streams_clients(&self) -> Result<Vec<StreamsMetadata>> {
        self.handle().metadata_for_all_streams_clients()
    }

    /// As [`Handle::streams_metadata_for_store`].
    ///
    /// # Errors
    /// As there.
    pub fn streams_metadata_for_store(&self, store: &str) -> Result<Vec<StreamsMetadata>> {
        self.handle().streams_metadata_for_store(store)
    }

    /// As [`Handle::all_local_store_partition_lags`].
    pub fn all_local_store_partition_lags(&self) -> BTreeMap<Arc<str>, BTreeMap<i32, LagInfo>> {
        self.handle().all_local_store_partition_lags()
    }
}
