//! Which instance has which partitions: the group's own members, asked of the broker.
//!
//! Kafka Streams sends `application.server` in the user data of its own assignor. librdkafka's `range` sends none and lets
//! nobody add any, so the address travels in the one text of a member that is ours to choose and that every broker gives
//! back with the assignment: its `client.id` ends in `-membership@host:port`. One DescribeGroups answer therefore
//! holds addresses and assignments of one generation, with either group protocol, and there is nothing to expire or to
//! clean up, as there would be with a topic of addresses or in the metadata of committed offsets.
//!
//! Called by queries, on any thread; asks the broker at most once in [`AGE_MAX`] while answers are found.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::assignment::{leading_topic, tasks_of};
use super::host_info::{HostInfo, KeyQueryMetadata, StreamsMetadata};
use super::standbys::place_standbys;
use crate::config::StreamsConfig;
use crate::error::{Error, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{Admin, GroupMember, KafkaClients, application_server, partition_for_key};
use crate::serdes::{Encoded, Serde};
use crate::task::TaskBuilder;

/// How old an answer of the broker may be. A key's owner that has moved says so itself, so this is only a bound of requests.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Finds the instances of the application.
pub(super) struct Directory {
    /// Of the topics as they are now.
    builder: RwLock<Arc<TaskBuilder>>,
    config: Arc<StreamsConfig>,
    clients: Arc<dyn KafkaClients>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    /// Made when it is first needed.
    admin: Option<Box<dyn Admin>>,
    /// When, on the monotonic clock, and what was answered.
    answer: Option<(Duration, Arc<Vec<GroupMember>>)>,
}

impl Directory {
    pub(super) fn new(
        builder: TaskBuilder,
        config: Arc<StreamsConfig>,
        clients: Arc<dyn KafkaClients>,
    ) -> Self {
        let builder = RwLock::new(Arc::new(builder));
        Self { builder, config, clients, asked: Mutex::default() }
    }

    /// Other topics are read from now on.
    pub(super) fn renew(&self, builder: TaskBuilder) {
        *self.builder.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(builder);
    }

    /// What the topics as they are now mean.
    pub(super) fn builder(&self) -> Arc<TaskBuilder> {
        self.builder.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of all stores that tasks have.
    pub(super) fn has_store(&self, name: &str) -> bool {
        let builder = self.builder();
        let topology = &builder.topology;
        let mut globals = topology.global_stores.iter().map(|global| global.builder.name());
        topology.stores.contains_key(name) || globals.any(|global| &**global == name)
    }

    pub(super) fn unknown_store(&self, name: &str) -> Error {
        let builder = self.builder();
        let known: Vec<&str> = builder.topology.stores.keys().map(|name| &**name).collect();
        Error::invalid(format!(
            "found no store \"{name}\" in the topology, wanted one of: {}",
            known.join(", ")
        ))
    }

    /// The instances that advertise an address, by it.
    pub(super) fn instances(&self) -> Result<Vec<StreamsMetadata>> {
        let members = self.members(AGE_MAX)?;
        let mut instances: Vec<StreamsMetadata> =
            (0..members.len()).filter_map(|index| self.instance(&members, index)).collect();
        instances.sort_by(|a, b| a.host_info.cmp(&b.host_info));
        Ok(instances)
    }

    fn instance(&self, members: &[GroupMember], index: usize) -> Option<StreamsMetadata> {
        let host_info = address(&members[index])?;
        let builder = self.builder();
        let stores = |tasks: &[TaskId]| -> BTreeSet<Arc<str>> {
            tasks.iter().flat_map(|task| builder.store_names(*task)).collect()
        };
        let partitions = |tasks: &[TaskId]| -> BTreeSet<TopicPartition> {
            tasks.iter().flat_map(|task| builder.source_partitions(*task)).collect()
        };
        let tasks = tasks_of(&builder, &members[index].partitions);
        let standbys = place_standbys(&builder, members, self.config.num_standby_replicas);
        let standbys = standbys.into_iter().filter(|(_, places)| places.contains(&index));
        let standbys: Vec<TaskId> = standbys.map(|(task, _)| task).collect();
        Some(StreamsMetadata {
            host_info,
            state_store_names: stores(&tasks),
            topic_partitions: partitions(&tasks),
            standby_state_store_names: stores(&standbys),
            standby_topic_partitions: partitions(&standbys),
        })
    }

    /// The partition of a key in a store: that of a record with this key in the topics that feed it.
    pub(super) fn partition_of<K>(&self, store: &str, key: &K, serde: &Serde<K>) -> Result<i32> {
        let task = self.task_of(store)?;
        let topic = leading_topic(&self.builder(), task.subtopology)
            .ok_or_else(|| self.unknown_store(store))?;
        let mut bytes = Vec::new();
        match serde.serializer().serialize(&topic, key, &mut bytes)? {
            Encoded::Bytes => Ok(partition_for_key(&bytes, self.partitions(store)?)),
            Encoded::Null => Err(Error::invalid(format!(
                "querying store \"{store}\": found a null key, wanted one that is not null"
            ))),
        }
    }

    /// How many partitions a store has.
    pub(super) fn partitions(&self, store: &str) -> Result<i32> {
        let task = self.task_of(store)?;
        Ok(self.builder().plan.tasks[task.subtopology as usize])
    }

    /// Who has a partition of a store; `None`: nobody, the group is about to settle, or its owner advertises no address.
    pub(super) fn owner(
        &self,
        store: &str,
        partition: i32,
        is_here: impl Fn(TaskId) -> bool,
    ) -> Result<Option<KeyQueryMetadata>> {
        let task = TaskId { partition, ..self.task_of(store)? };
        let replicas = self.config.num_standby_replicas;
        if is_here(task) && !self.config.application_server.is_empty() && replicas == 0 {
            let active_host = self.config.application_server.parse()?;
            return Ok(Some(KeyQueryMetadata {
                active_host,
                standby_hosts: Vec::new(),
                partition,
            }));
        }
        let builder = self.builder();
        let found = |members: &[GroupMember]| {
            let has_it =
                |member: &&GroupMember| tasks_of(&builder, &member.partitions).contains(&task);
            let active_host = match is_here(task) && !self.config.application_server.is_empty() {
                true => self.config.application_server.parse().ok()?,
                false => address(members.iter().find(has_it)?)?,
            };
            let mut standbys = place_standbys(&builder, members, replicas);
            let standbys = standbys.remove(&task).unwrap_or_default();
            let standby_hosts = standbys.into_iter().filter_map(|at| address(&members[at]));
            Some(KeyQueryMetadata {
                active_host,
                standby_hosts: standby_hosts.collect(),
                partition,
            })
        };
        match found(&self.members(AGE_MAX)?) {
            Some(metadata) => Ok(Some(metadata)),
            // The answer may be of a moment when nobody had it.
            None => Ok(found(&self.members(Duration::ZERO)?)),
        }
    }

    /// A task that has the store; only its subtopology counts.
    fn task_of(&self, store: &str) -> Result<TaskId> {
        let builder = self.builder();
        let tasks = builder.subtopologies.iter().filter(|sub| !sub.global);
        tasks
            .map(|sub| TaskId { subtopology: sub.id, partition: 0 })
            .find(|task| builder.store_names(*task).iter().any(|name| &**name == store))
            .ok_or_else(|| self.unknown_store(store))
    }

    /// The group's members as the broker has them, no older than `age`.
    pub(super) fn members(&self, age: Duration) -> Result<Arc<Vec<GroupMember>>> {
        let now = self.builder().settings.clock.monotonic();
        // Held over the request: a second query waits for this answer instead of asking for its own.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, members)) = &asked.answer
            && now.saturating_sub(*at) < age
        {
            return Ok(members.clone());
        }
        if asked.admin.is_none() {
            asked.admin = Some(self.clients.admin()?);
        }
        let admin = asked.admin.as_mut().expect("just made");
        let members =
            admin.describe_group(&self.config.application_id, self.config.request_timeout)?;
        let members = Arc::new(members);
        asked.answer = Some((now, members.clone()));
        Ok(members)
    }
}

/// The address that a member advertises.
fn address(member: &GroupMember) -> Option<HostInfo> {
    application_server(&member.client_id)?.parse().ok()
}
