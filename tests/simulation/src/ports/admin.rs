//! Topics and groups, asked for and changed.

use std::collections::BTreeMap;
use std::time::Duration;

use kstreams::kafka::{
    Admin, ClusterHealth, CommittedOffset, GroupMember, NewTopic, TopicDescription,
};
use kstreams::{Error, Result, TopicPartition};

use super::Port;
use crate::faults::Call;

pub(super) struct Administrator(pub(super) Port);

impl Administrator {
    fn ask<T>(
        &mut self,
        timeout: Duration,
        answer: impl FnOnce(&mut crate::world::State) -> T,
    ) -> Result<T> {
        self.0.reach(Call::Admin, timeout)?;
        let answer = answer(&mut self.0.world.lock());
        self.0.leave(Call::Admin)?;
        Ok(answer)
    }
}

impl Admin for Administrator {
    fn topics(&mut self, timeout: Duration) -> Result<BTreeMap<String, TopicDescription>> {
        self.ask(timeout, |state| {
            let topics = state.broker.topics.iter();
            let described = topics.map(|(name, topic)| {
                let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                (name.clone(), TopicDescription { partitions, replication_factor: 1 })
            });
            described.collect()
        })
    }

    fn describe_topics(
        &mut self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicDescription>> {
        let mut found = self.topics(timeout)?;
        found.retain(|name, _| topics.contains(&name.as_str()));
        Ok(found)
    }

    fn create_topics(&mut self, topics: &[NewTopic], timeout: Duration) -> Result<()> {
        self.ask(timeout, |state| {
            for topic in topics {
                let partitions = usize::try_from(topic.partitions).unwrap_or(1);
                state.broker.create_topic(&topic.name, partitions, topic.configs.clone());
            }
        })
    }

    fn topic_configs(
        &mut self,
        topic: &str,
        timeout: Duration,
    ) -> Result<BTreeMap<String, String>> {
        self.ask(timeout, |state| {
            state.broker.topics.get(topic).map(|topic| topic.configs.clone()).unwrap_or_default()
        })
    }

    /// The simulated brokers have none.
    fn broker_configs(
        &mut self,
        timeout: Duration,
    ) -> Result<BTreeMap<i32, BTreeMap<String, String>>> {
        self.ask(timeout, |_| BTreeMap::new())
    }

    fn alter_topic_configs(
        &mut self,
        topic: &str,
        configs: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<()> {
        self.ask(timeout, |state| {
            if let Some(topic) = state.broker.topics.get_mut(topic) {
                topic.configs.extend(configs.clone());
            }
        })
    }

    fn create_partitions(&mut self, _: &str, _: i32, _: Duration) -> Result<()> {
        Err(Error::fatal("the simulated cluster's topics keep their partitions"))
    }

    fn describe_group(&mut self, _: &str, timeout: Duration) -> Result<Vec<GroupMember>> {
        self.ask(timeout, |state| {
            let members = state.broker.group.members.iter();
            let described = members.map(|(id, member)| GroupMember {
                member_id: id.to_string(),
                group_instance_id: None,
                client_id: member.client_id.clone(),
                partitions: member.owned.iter().cloned().collect(),
            });
            described.collect()
        })
    }

    fn group_offsets(
        &mut self,
        _: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>> {
        self.ask(timeout, |state| {
            let offsets = &state.broker.group.offsets;
            partitions.iter().filter_map(|partition| offsets.get(partition).cloned()).collect()
        })
    }

    fn broker_count(&mut self, timeout: Duration) -> Result<usize> {
        self.ask(timeout, |_| 1)
    }

    fn cluster_health(&mut self, _: &[&str], timeout: Duration) -> Result<ClusterHealth> {
        self.ask(timeout, |_| ClusterHealth { brokers: 1, ..ClusterHealth::default() })
    }

    fn delete_records(
        &mut self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<()> {
        self.ask(timeout, |state| {
            for (partition, offset) in before {
                if let Some(log) = state.broker.log(partition) {
                    log.delete_before(*offset);
                }
            }
        })
    }
}
