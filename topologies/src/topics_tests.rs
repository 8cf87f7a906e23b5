//! The table against the domain's, and the comparison against a cluster in memory.

use super::*;
use kstreams::TopicPartition;

/// Topics as a cluster would have them.
#[derive(Default)]
struct MemoryCluster {
    topics: BTreeMap<String, NewTopic>,
}

impl Admin for MemoryCluster {
    fn describe_group(
        &mut self,
        _: &str,
        _: Duration,
    ) -> Result<Vec<kstreams::kafka::GroupMember>> {
        Ok(Vec::new())
    }

    fn group_offsets(
        &mut self,
        _: &str,
        _: &[TopicPartition],
        _: Duration,
    ) -> Result<Vec<kstreams::kafka::CommittedOffset>> {
        Ok(Vec::new())
    }

    fn cluster_health(
        &mut self,
        _: &[&str],
        _: Duration,
    ) -> Result<kstreams::kafka::ClusterHealth> {
        Ok(kstreams::kafka::ClusterHealth::default())
    }

    fn describe_topics(
        &mut self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicDescription>> {
        let mut all = self.topics(timeout)?;
        all.retain(|name, _| topics.contains(&name.as_str()));
        Ok(all)
    }

    fn topics(&mut self, _: Duration) -> Result<BTreeMap<String, TopicDescription>> {
        let describe = |topic: &NewTopic| TopicDescription {
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
        };
        Ok(self.topics.values().map(|topic| (topic.name.clone(), describe(topic))).collect())
    }

    fn create_topics(&mut self, topics: &[NewTopic], _: Duration) -> Result<()> {
        self.topics.extend(topics.iter().map(|topic| (topic.name.clone(), topic.clone())));
        Ok(())
    }

    fn topic_configs(&mut self, topic: &str, _: Duration) -> Result<BTreeMap<String, String>> {
        let mut configs = self.topics[topic].configs.clone();
        configs.insert("segment.bytes".into(), "1".into());
        Ok(configs)
    }

    fn broker_configs(&mut self, _: Duration) -> Result<BTreeMap<i32, BTreeMap<String, String>>> {
        Ok(BTreeMap::new())
    }

    fn alter_topic_configs(
        &mut self,
        topic: &str,
        configs: &BTreeMap<String, String>,
        _: Duration,
    ) -> Result<()> {
        let topic = self.topics.get_mut(topic).unwrap();
        topic.configs.extend(configs.clone());
        Ok(())
    }

    fn create_partitions(&mut self, topic: &str, total: i32, _: Duration) -> Result<()> {
        self.topics.get_mut(topic).unwrap().partitions = total;
        Ok(())
    }

    fn broker_count(&mut self, _: Duration) -> Result<usize> {
        Ok(1)
    }

    fn delete_records(&mut self, _: &[(TopicPartition, i64)], _: Duration) -> Result<()> {
        Ok(())
    }
}

const TIMEOUT: Duration = Duration::from_secs(1);

fn texts(drifts: &[Drift]) -> Vec<String> {
    drifts.iter().map(ToString::to_string).collect()
}

#[test]
fn the_table_has_the_domains_topics() {
    let domain = "request-events 6 7 region; workflow-events 3 30 request_id; \
                  notification-events 3 3 recipient; security-events 3 90 contractor_id; \
                  hr-events 3 365 contractor_id; audit-events 6 365 entity; managers 3 - manager_id; \
                  contacts 3 - recipient; notification-commands 3 3 recipient";
    let table: Vec<String> = TOPICS
        .iter()
        .map(|topic| {
            let days = match topic.cleanup {
                Cleanup::DeleteAfterDays(days) => days.to_string(),
                Cleanup::Compact => "-".into(),
            };
            format!("{} {} {days} {}", topic.name, topic.partitions, topic.key)
        })
        .collect();
    assert_eq!(table.join("; "), domain);
    // Every contract has its topic, every topic its contracts.
    assert!(SCHEMAS.iter().all(|(topic, ..)| find(topic).is_some()));
    assert!(TOPICS.iter().all(|topic| topic.event_types().count() > 0));
}

#[test]
fn dead_letters_are_kept_as_long_as_their_source_and_30_days_at_least() {
    let mut settings = Settings::default();
    settings.kafka.application_id_prefix = "test-".into();
    let topics = wanted(&settings, 3).unwrap();
    let found = |name: &str| topics.iter().find(|topic| topic.name == name).unwrap();
    let letters = found("test-manager-assignment-request-events-dlq");
    assert_eq!((letters.partitions, letters.replication_factor), (6, 3));
    assert_eq!(letters.configs["retention.ms"], "2592000000");
    let letters = found("test-manager-assignment-managers-dlq");
    assert_eq!(letters.configs["cleanup.policy"], "delete");
    assert_eq!(letters.configs["retention.ms"], "2592000000");
    let managers = found("managers");
    assert_eq!(managers.configs["cleanup.policy"], "compact");
    assert_eq!(managers.configs["min.insync.replicas"], "2");
    assert_eq!(found("hr-events").configs["retention.ms"], "31536000000");
    let long = find("hr-events").unwrap().dead_letters("app", 3);
    assert_eq!(long.configs["retention.ms"], "31536000000");
}

#[test]
fn replication_falls_to_the_number_of_brokers() {
    assert_eq!([0, 1, 2, 3, 9].map(replication_factor), [1, 1, 2, 3, 3]);
    let one = wanted(&Settings::default(), 1).unwrap();
    assert!(one.iter().all(|topic| topic.configs["min.insync.replicas"] == "1"));
}

#[test]
fn apply_creates_and_corrects_and_says_what_it_leaves() {
    let mut cluster = MemoryCluster::default();
    let wanted = wanted(&Settings::default(), 3).unwrap();
    assert_eq!(diff(&mut cluster, &wanted, TIMEOUT).unwrap().len(), wanted.len());
    let (done, left) = apply(&mut cluster, &wanted, TIMEOUT).unwrap();
    assert_eq!((done.len(), left.len()), (wanted.len(), 0));
    assert_eq!(diff(&mut cluster, &wanted, TIMEOUT).unwrap(), []);

    let topic = |cluster: &mut MemoryCluster, name: &str, change: fn(&mut NewTopic)| {
        change(cluster.topics.get_mut(name).unwrap());
    };
    topic(&mut cluster, "hr-events", |topic| topic.partitions = 2);
    topic(&mut cluster, "audit-events", |topic| topic.partitions = 12);
    topic(&mut cluster, "contacts", |topic| topic.replication_factor = 1);
    topic(&mut cluster, "managers", |topic| {
        topic.configs.insert("cleanup.policy".into(), "delete".into());
    });
    let drifts = diff(&mut cluster, &wanted, TIMEOUT).unwrap();
    assert_eq!(
        texts(&drifts),
        [
            "topic \"hr-events\", partitions: found 2, wanted 3",
            "topic \"audit-events\", partitions: found 12, wanted 6; \
             partitions are never taken away; correct the table, or make the topic anew",
            "topic \"managers\", cleanup.policy: found delete, wanted compact",
            "topic \"contacts\", replication factor: found 1, wanted 3; \
             move replicas with kafka-reassign-partitions",
        ]
    );
    let (done, left) = apply(&mut cluster, &wanted, TIMEOUT).unwrap();
    assert_eq!((done.len(), left.len()), (2, 2));
    assert_eq!(diff(&mut cluster, &wanted, TIMEOUT).unwrap(), left);
    assert_eq!(cluster.topics["audit-events"].partitions, 12);
}

#[test]
fn a_start_without_topics_says_found_wanted_and_what_to_do() {
    let mut cluster = MemoryCluster::default();
    cluster.create_topics(&wanted(&Settings::default(), 3).unwrap(), TIMEOUT).unwrap();
    check(&mut cluster, &CATALOG[0], TIMEOUT).unwrap();
    cluster.topics.get_mut("request-events").unwrap().partitions = 2;
    cluster.topics.remove("managers");
    let error = check(&mut cluster, &CATALOG[0], TIMEOUT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "manager-assignment: topic \"managers\": found none, wanted 3 partitions; \
         topic \"request-events\": found 2 partitions, wanted 6; run `aggregator topics apply`"
    );
}

#[test]
fn every_topology_names_each_topic_that_is_missing_or_too_small() {
    let all = wanted(&Settings::default(), 3).unwrap();
    for spec in CATALOG {
        let topics: BTreeSet<&str> = spec.sources.iter().chain(spec.sinks).copied().collect();
        for topic in topics {
            let wanted_partitions = find(topic).unwrap().partitions;
            for found in ["none".to_owned(), format!("{} partitions", wanted_partitions - 1)] {
                let mut cluster = MemoryCluster::default();
                cluster.create_topics(&all, TIMEOUT).unwrap();
                check(&mut cluster, spec, TIMEOUT).unwrap();
                if found == "none" {
                    cluster.topics.remove(topic);
                } else {
                    cluster.topics.get_mut(topic).unwrap().partitions -= 1;
                }
                let error = check(&mut cluster, spec, TIMEOUT).unwrap_err();
                assert_eq!(error.kind(), kstreams::ErrorKind::Invalid);
                let wanted = match found.as_str() {
                    "none" => format!("found none, wanted {wanted_partitions} partitions"),
                    found => format!("found {found}, wanted {wanted_partitions}"),
                };
                let name = spec.name;
                assert_eq!(
                    error.to_string(),
                    format!("{name}: topic \"{topic}\": {wanted}; run `aggregator topics apply`")
                );
            }
        }
    }
}
