//! Reads whole topics, from their beginning or from now on, without being a member of a group.

use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::{Consumer, ConsumerPurpose, KafkaClients, PartitionSlot, StartOffset};
use kstreams::{Error, RawRecord, Result, TopicPartition};

/// Until when a broker must answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Records of one partition before it is another one's turn.
const TURN: usize = 1_000;

/// See the module. Owned by one thread.
pub(crate) struct TopicsReader {
    consumer: Box<dyn Consumer>,
    partitions: Vec<(TopicPartition, PartitionSlot)>,
}

impl TopicsReader {
    /// Reads all partitions of `topics`.
    ///
    /// # Errors
    /// `Invalid` naming the topics that do not exist, `Retriable` where no broker answers.
    pub(crate) fn new(
        clients: &dyn KafkaClients,
        topics: &[String],
        start: StartOffset,
    ) -> Result<Self> {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let found = clients.admin()?.describe_topics(&names, ANSWER_WITHIN)?;
        let missing: Vec<&str> =
            names.into_iter().filter(|name| !found.contains_key(*name)).collect();
        if !missing.is_empty() {
            return Err(Error::invalid(format!(
                "found no topic {}; create it with `aggregator topics apply`",
                missing.join(", ")
            )));
        }
        let mut consumer = clients.consumer(ConsumerPurpose::Global)?;
        let mut partitions = Vec::new();
        for (topic, description) in found {
            for partition in 0..description.partitions {
                let partition = TopicPartition::new(topic.as_str(), partition);
                let slot = consumer.assign(&partition, start)?;
                partitions.push((partition, slot));
            }
        }
        Ok(Self { consumer, partitions })
    }

    /// Waits for records, at most `timeout`.
    ///
    /// # Errors
    /// `Fatal` where the brokers will never take this client.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.consumer.wait(timeout)
    }

    /// Hands over what has arrived; each partition in its order.
    ///
    /// # Errors
    /// Those of reading; the first one of the records' consumer.
    pub(crate) fn drain(
        &mut self,
        mut into: impl FnMut(&TopicPartition, RawRecord) -> Result<()>,
    ) -> Result<()> {
        for (partition, slot) in &self.partitions {
            let mut outcome = Ok(());
            self.consumer.drain(*slot, TURN, &mut |record| {
                if outcome.is_ok() {
                    outcome = into(partition, record);
                }
            })?;
            outcome?;
        }
        Ok(())
    }

    /// Ends [`wait`](Self::wait) from another thread.
    pub(crate) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        self.consumer.waker()
    }
}
