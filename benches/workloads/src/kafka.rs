//! Client settings, topics and whole-topic reads, shared by the subcommands; nothing here is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The longest wait for an answer of the broker.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the broker is and how the input topics' names start.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cluster {
    /// Broker addresses.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092", global = true)]
    pub(crate) bootstrap: String,
    /// What the names of the input topics start with.
    #[arg(long, env = "BENCH_PREFIX", default_value = "bench.", global = true)]
    pub(crate) prefix: String,
}

impl Cluster {
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Settings of a consumer that reads what is committed, from queues that stay small.
    pub(crate) fn consumer_config(&self, group: &str) -> ClientConfig {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "false")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "32768");
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    /// Creates topics with one replica; one that exists is an error, for its contents are unknown.
    pub(crate) fn create_topics(
        &self,
        topics: &[(String, i32)],
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let topics: Vec<_> = topics
            .iter()
            .map(|(name, partitions)| {
                let topic = NewTopic::new(name, *partitions, TopicReplication::Fixed(1));
                configs.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        let results = block_on(self.admin()?.create_topics(&topics, &options))??;
        for result in results {
            result
                .map_err(|(topic, code)| anyhow::anyhow!("creating topic \"{topic}\": {code}"))?;
        }
        Ok(())
    }

    /// Deletes topics; ones that do not exist are no error.
    pub(crate) fn delete_topics(&self, topics: &[String]) -> Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let results = block_on(self.admin()?.delete_topics(&names, &AdminOptions::new()))??;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => bail!("deleting topic \"{topic}\": {code}"),
            }
        }
        Ok(())
    }

    /// Deletes the topics that an application made for itself.
    pub(crate) fn delete_internal_topics(&self, application_id: &str) -> Result<()> {
        let prefix = format!("{application_id}-");
        let mine = self.topics()?.into_keys().filter(|name| name.starts_with(&prefix));
        self.delete_topics(&mine.collect::<Vec<_>>())
    }

    /// The number of partitions of every topic there is.
    pub(crate) fn topics(&self) -> Result<BTreeMap<String, i32>> {
        let consumer: BaseConsumer = self.consumer_config("bench-metadata").create()?;
        let metadata = consumer
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .with_context(|| format!("asking {} for its topics", self.bootstrap))?;
        let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
        let topics = metadata.topics().iter();
        Ok(topics.map(|t| (t.name().to_owned(), count(t.partitions().len()))).collect())
    }

    /// How many records lie on a topic without transactions.
    pub(crate) fn record_count(&self, topic: &str, partitions: i32) -> Result<u64> {
        let consumer: BaseConsumer = self.consumer_config("bench-metadata").create()?;
        let mut count = 0;
        for partition in 0..partitions {
            let (low, high) = consumer
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                .with_context(|| format!("asking for the length of {topic}-{partition}"))?;
            count += u64::try_from(high - low)?;
        }
        Ok(count)
    }

    /// Reads the committed records of a topic from the beginning to its end.
    pub(crate) fn read_topic(
        &self,
        topic: &str,
        mut each: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<()> {
        let Some(partitions) = self.topics()?.get(topic).copied() else {
            bail!("topic \"{topic}\" does not exist on {}", self.bootstrap);
        };
        let mut config = self.consumer_config("bench-reader");
        let consumer: BaseConsumer = config.set("enable.partition.eof", "true").create()?;
        consumer.assign(&all_partitions(topic, partitions)?)?;
        let mut open: BTreeSet<i32> = (0..partitions).collect();
        while !open.is_empty() {
            match consumer.poll(REQUEST_TIMEOUT) {
                Some(Ok(message)) => each(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(error).context(format!("reading \"{topic}\"")),
                None => bail!("reading \"{topic}\": nothing came for {REQUEST_TIMEOUT:?}"),
            }
        }
        Ok(())
    }

    /// How far the group's committed offsets are behind the ends of a topic; `None`: nothing was committed.
    pub(crate) fn committed_lag(&self, group: &str, topic: &str) -> Result<Option<i64>> {
        let Some(partitions) = self.topics()?.get(topic).copied() else {
            bail!("topic \"{topic}\" does not exist on {}", self.bootstrap);
        };
        let consumer: BaseConsumer = self.consumer_config(group).create()?;
        let wanted = all_partitions(topic, partitions)?;
        let mut lag = None;
        for element in consumer.committed_offsets(wanted, REQUEST_TIMEOUT)?.elements() {
            let (_, end) =
                consumer.fetch_watermarks(topic, element.partition(), REQUEST_TIMEOUT)?;
            if let Offset::Offset(committed) = element.offset() {
                lag = Some(lag.unwrap_or(0) + end - committed);
            } else if end > 0 {
                bail!("group \"{group}\" committed nothing on {topic}-{}", element.partition());
            }
        }
        Ok(lag)
    }
}

/// Every partition of a topic, from its beginning.
pub(crate) fn all_partitions(topic: &str, partitions: i32) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    Ok(list)
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(future))
}
