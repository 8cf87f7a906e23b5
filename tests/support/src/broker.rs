//! The broker of `make test`, seen by a plain client.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::wait::{DEADLINE, wait_until};

/// Time for one request to the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages of one look, so that it ends in time where more come without end.
const LOOK_MESSAGES_MAX: usize = 5_000;

/// Gives the addresses of the test broker, as `host:port[,host:port…]`.
///
/// # Panics
/// When the environment does not name one.
pub fn bootstrap() -> String {
    required_variable("KSTREAMS_TEST_BOOTSTRAP")
}

/// Gives the base address of the test registry's Confluent interface, without a final slash.
///
/// # Panics
/// When the environment does not name one.
pub fn registry_url() -> String {
    required_variable("KSTREAMS_TEST_REGISTRY")
}

/// Reads a variable that `make test` sets.
pub(crate) fn required_variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this test needs the services that `make test` starts; by hand: \
             scripts/cluster.sh start DIR, then source DIR/env"
        )
    })
}

/// Gives a name that no other test, and no earlier run, has: for topics, groups and application ids.
#[expect(clippy::disallowed_methods, reason = "only a name depends on it")]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // The process id alone would come back after a while on a broker that was kept.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{:x}-{}-{number}", now.as_millis(), std::process::id())
}

/// A topic to create.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// The topic's name.
    pub name: &'a str,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic settings by Kafka's names, such as `("cleanup.policy", "compact")`.
    pub config: &'a [(&'a str, &'a str)],
}

/// Creates a topic with the broker's own replication factor, and returns when it can be written to.
///
/// # Panics
/// When the broker refuses, for example because the topic exists.
pub fn create_topic(topic: Topic<'_>) {
    create_topics(&[topic]);
}

/// As [`create_topic`], for several in one request.
///
/// # Panics
/// As [`create_topic`].
pub fn create_topics(topics: &[Topic<'_>]) {
    let admin: AdminClient<DefaultClientContext> =
        client_config().create().expect("an admin client can be made");
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let wanted: Vec<NewTopic<'_>> = topics.iter().map(new_topic).collect();
    let results = block_on(admin.create_topics(&wanted, &options)).expect("the broker answers");
    for result in results {
        if let Err((name, code)) = result {
            panic!("the broker refused to create topic \"{name}\": {code}");
        }
    }
    // The answer comes before every broker knows the topics' leaders.
    for topic in topics {
        wait_until("the new topic's leaders", DEADLINE, || {
            let metadata = admin.inner().fetch_metadata(Some(topic.name), REQUEST_TIMEOUT);
            metadata.is_ok_and(|found| {
                let partitions = found.topics().first().map_or(&[][..], |t| t.partitions());
                partitions.len() == topic.partitions as usize
                    && partitions.iter().all(|p| p.error().is_none() && p.leader() >= 0)
            })
        });
    }
}

fn new_topic<'a>(topic: &Topic<'a>) -> NewTopic<'a> {
    let new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(-1));
    topic.config.iter().fold(new, |new, (key, value)| new.set(key, value))
}

/// A message to write, or one that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Partition; to write: `None` lets the key decide, as Java's default does (murmur2).
    pub partition: Option<i32>,
    /// Offset; ignored when written.
    pub offset: i64,
    /// Record timestamp in milliseconds since 1970; to write: `None` is now.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// How a transaction of [`produce`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not in a transaction at all.
    Plain,
    /// In one transaction, which is committed.
    Committed,
    /// In one transaction, which is aborted: read-committed readers never see the messages.
    Aborted,
}

/// Writes messages in order and returns when the broker has them.
///
/// # Panics
/// When a message is refused.
pub fn produce(topic: &str, messages: &[Message], outcome: Outcome) {
    let transactional = outcome != Outcome::Plain;
    let producer = producer(if transactional { &[("transactional.id", "")] } else { &[] });
    if transactional {
        producer.init_transactions(REQUEST_TIMEOUT).expect("transactions can be initialised");
        producer.begin_transaction().expect("a transaction can begin");
    }
    for message in messages {
        send(&producer, topic, message);
    }
    producer.flush(REQUEST_TIMEOUT).expect("the broker takes every message");
    match outcome {
        Outcome::Plain => {}
        Outcome::Committed => {
            producer.commit_transaction(REQUEST_TIMEOUT).expect("the transaction commits");
        }
        Outcome::Aborted => {
            producer.abort_transaction(REQUEST_TIMEOUT).expect("the transaction aborts");
        }
    }
}

/// Queues one message; where the queue is full, lets the client send first.
///
/// # Panics
/// When the client will not take it.
pub fn send(producer: &BaseProducer, topic: &str, message: &Message) {
    let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
    for (key, value) in &message.headers {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.partition = message.partition;
    record.timestamp = message.timestamp_ms;
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                producer.poll(Duration::from_millis(100));
                record = same;
            }
            Err((error, _)) => panic!("cannot write to topic \"{topic}\": {error}"),
        }
    }
}

/// Makes a producer as any foreign one would be: idempotent, `acks=all`, Java's partitioner. An
/// empty `transactional.id` is replaced by a unique one.
pub fn producer(config: &[(&str, &str)]) -> BaseProducer {
    let mut client = client_config();
    client.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    client.set("linger.ms", "5");
    for (key, value) in config {
        match (*key, *value) {
            ("transactional.id", "") => client.set("transactional.id", unique("test-producer")),
            (key, value) => client.set(key, value),
        };
    }
    client.create().expect("a producer can be made")
}

/// Makes a consumer that reads committed messages only and belongs to no group.
pub fn consumer(config: &[(&str, &str)]) -> BaseConsumer {
    let mut client = client_config();
    client
        .set("group.id", unique("test-reader"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "10");
    for (key, value) in config {
        client.set(*key, *value);
    }
    client.create().expect("a consumer can be made")
}

/// Reads all partitions of a topic from the beginning to the last stable offset, which is where the
/// oldest open transaction begins. Ordered by partition, then offset.
///
/// # Panics
/// When the topic does not exist or cannot be read to the end within the deadline.
pub fn read_committed(topic: &str) -> Vec<Message> {
    let mut follower = Follower::new(topic);
    let mut messages = Vec::new();
    wait_until("the topic's end", DEADLINE, || {
        follower.look(&mut |message| messages.push(message))
    });
    messages.sort_by_key(|message| (message.partition, message.offset));
    messages
}

/// Gives the names of all topics that begin with `prefix`, in order.
///
/// # Panics
/// When the broker does not answer.
pub fn topics(prefix: &str) -> Vec<String> {
    let metadata = consumer(&[]).fetch_metadata(None, REQUEST_TIMEOUT);
    let metadata = metadata.expect("the broker gives metadata");
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Counts the messages of topics that a group has not committed yet, once no open transaction can change that. Markers of
/// transactions count too: meant for topics that are written without.
///
/// # Panics
/// When a topic does not exist or the broker does not answer.
pub fn unread(group: &str, topics: &[String]) -> i64 {
    let consumer = consumer(&[("group.id", group)]);
    let mut wanted = TopicPartitionList::new();
    let mut ends = Vec::new();
    for topic in topics {
        let found = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let found = found.expect("the broker gives metadata");
        for partition in found.topics()[0].partitions() {
            wanted.add_partition(topic, partition.id());
            let ends_at = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT);
            ends.push(ends_at.expect("the broker gives the topic's end").1);
        }
    }
    let committed = consumer.committed_offsets(wanted, REQUEST_TIMEOUT);
    let committed = committed.expect("the broker gives the group's offsets");
    let offset = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
    let committed = committed.elements().into_iter().map(|element| offset(element.offset()));
    ends.into_iter().zip(committed).map(|(end, committed)| end - committed).sum()
}

/// A reader that goes on reading as messages come; committed ones only, unless told otherwise.
pub struct Follower {
    topic: String,
    consumer: BaseConsumer,
    /// Partitions whose end was not reached yet.
    unread: HashSet<i32>,
}

impl Follower {
    /// Begins at the beginning of all partitions of a topic.
    ///
    /// # Panics
    /// When the topic does not exist.
    pub fn new(topic: &str) -> Follower {
        Follower::with(topic, consumer(&[]))
    }

    /// As [`new`](Self::new), but reads what was aborted or is not decided too.
    ///
    /// # Panics
    /// When the topic does not exist.
    pub fn uncommitted(topic: &str) -> Follower {
        Follower::with(topic, consumer(&[("isolation.level", "read_uncommitted")]))
    }

    fn with(topic: &str, consumer: BaseConsumer) -> Follower {
        let metadata = consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .expect("the broker gives metadata");
        let partitions = metadata.topics()[0].partitions();
        assert!(!partitions.is_empty(), "topic \"{topic}\" does not exist");
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            let added = assignment.add_partition_offset(topic, partition.id(), Offset::Beginning);
            added.expect("the offset is valid");
        }
        consumer.assign(&assignment).expect("the partitions can be assigned");
        let unread = partitions.iter().map(|partition| partition.id()).collect();
        Follower { topic: topic.to_owned(), consumer, unread }
    }

    /// Hands over what is there, in the order of each partition, without waiting for more; says
    /// whether every partition's end was reached since the beginning.
    ///
    /// # Panics
    /// When the topic is deleted meanwhile.
    pub fn look(&mut self, each: &mut dyn FnMut(Message)) -> bool {
        for _ in 0..LOOK_MESSAGES_MAX {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => each(owned(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.remove(&partition);
                }
                // Connection trouble heals by itself, or the deadline ends the wait.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::UnknownTopicOrPartition,
                ))) => panic!("topic \"{}\" does not exist", self.topic),
                Some(Err(_)) => {}
            }
        }
        self.unread.is_empty()
    }
}

/// Deletes those of the topics that exist, and returns when the broker has forgotten them.
///
/// # Panics
/// When the broker refuses.
pub fn delete_topics(names: &[&str]) {
    let admin: AdminClient<DefaultClientContext> =
        client_config().create().expect("an admin client can be made");
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let results = block_on(admin.delete_topics(names, &options)).expect("the broker answers");
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => panic!("the broker refused to delete topic \"{name}\": {code}"),
        }
    }
    wait_until("the topics' end", DEADLINE, || {
        let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT);
        metadata.is_ok_and(|found| found.topics().iter().all(|t| !names.contains(&t.name())))
    });
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let pairs = headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)));
        pairs.collect()
    });
    Message {
        partition: Some(message.partition()),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    config
}

/// Runs one admin request to its end. rdkafka answers it from a thread of its own, so the calling
/// thread only sleeps until it is woken; a runtime would be a dependency for one call.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
