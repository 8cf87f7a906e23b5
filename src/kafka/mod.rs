//! The ports to Kafka: what the runtime needs of a cluster, and nothing more.
//!
//! Two implementations: [`librdkafka`] for a real cluster and, in `sim`, one in memory for simulation.
//! A stream thread owns one [`Consumer`] and one [`Producer`]; the control thread owns the [`Membership`].
//! Deliberately absent: tasks, stores and the topology. librdkafka's types appear in this folder only.

pub mod librdkafka;
mod partitioner;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::ids::TopicPartition;
use crate::record::{Headers, RawRecord};
use crate::time::Timestamp;

pub use partitioner::partition_for_key;

/// Makes clients; one per process.
pub trait KafkaClients: Send + Sync {
    /// Joins the consumer group with a subscription to exactly these topics. An earlier member of this process has left before:
    /// with a static id, two of them fence each other.
    fn membership(&self, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        self.membership_as(topics, MemberName::default())
    }
    /// As [`membership`](Self::membership), and tells the other members what `name` says.
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>>;
    /// A consumer with manual assignment; never a member of the group.
    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>>;
    /// A producer; transactional where an id is given (then `init_transactions` comes first).
    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>>;
    /// Topic administration.
    fn admin(&self) -> Result<Box<dyn Admin>>;
}

/// What a member tells the others of itself, in its `client.id`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemberName<'a> {
    /// Its process, by letters and digits: what its `transactional.id`s are made of; see [`GroupMember::has_process`].
    pub process: Option<&'a str>,
    /// By what view of the cluster's topics its subscription was chosen; see [`view`].
    pub view: Option<&'a str>,
}

/// What a consumer is for; decides its settings and its `client.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerPurpose {
    /// Feeds stream tasks (`read_committed`, group.id set for committed offsets).
    Main,
    /// Replays changelogs.
    Restore,
    /// Feeds global stores.
    Global,
}

/// A group member's identity and generation at one moment, by which brokers fence its commits. Opaque here.
#[derive(Clone)]
pub struct GroupMetadata(pub Arc<dyn Any + Send + Sync>);

/// What the group protocol asks of this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipEvent {
    /// The member owns these partitions now, and no others (the whole assignment, not a difference).
    Assigned(Vec<TopicPartition>),
    /// The member must give up these; commit first, then call [`Membership::acknowledge`].
    Revoked(Vec<TopicPartition>),
    /// The member was thrown out: these belong to somebody else already; commit nothing, then acknowledge.
    Lost(Vec<TopicPartition>),
    /// A broker-side fault worth telling (all brokers down, authentication …); the member keeps trying.
    Trouble(String),
}

/// The group membership of this process: it learns which partitions are ours, and never reads a record.
///
/// Dropped without [`leave`](Self::leave) it falls silent, as a killed process does: the others wait for its session's end.
pub trait Membership: Send {
    /// Serves the protocol for at most `timeout`; returns the next event. Every event but `Trouble` must be answered
    /// by [`acknowledge`](Self::acknowledge) before the protocol goes on.
    ///
    /// # Errors
    /// `Fatal` where the group can never be joined (authorisation, fenced static id), `Invalid` for a missing topic.
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>>;
    /// Answers the last event.
    fn acknowledge(&mut self) -> Result<()>;
    /// The identity as of the last `Assigned` event, whenever this is called. It fences: a commit with it fails with
    /// `TaskMigrated` where the generation is over or given up, a partition was not in that assignment, or there was none yet.
    fn group_metadata(&self) -> GroupMetadata;
    /// The id by which [`Admin::describe_group`] names this member; `None`: it is not known.
    fn member_id(&self) -> Option<String> {
        None
    }
    /// Commits offsets outside transactions (at-least-once), from any thread.
    fn committer(&self) -> Arc<dyn OffsetCommitter>;
    /// Leaves the group, so that others take over at once; static members stay listed until their session ends.
    fn leave(self: Box<Self>) -> Result<()>;
}

/// Where a group goes on in a partition, as its brokers keep it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset after the last record that is done.
    pub offset: i64,
    /// The committer's text beside it; brokers take at most `offset.metadata.max.bytes` (4096).
    pub metadata: String,
}

impl From<i64> for CommittedOffset {
    fn from(offset: i64) -> Self {
        CommittedOffset { offset, metadata: String::new() }
    }
}

/// Commits offsets as the group member.
pub trait OffsetCommitter: Send + Sync {
    /// Commits and waits for the broker.
    ///
    /// # Errors
    /// `TaskMigrated` where the generation is over, the member has left, or a partition is not in its assignment; `Fatal`
    /// where another process has taken its static id; `Retriable` for time-outs.
    fn commit(&self, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<()>;
}

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    /// The first record there is.
    Beginning,
    /// After the last one.
    End,
    /// This offset; one out of the log's range is a `TaskCorrupted` error from `drain`.
    At(i64),
}

/// What a partition's queue gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: usize,
    /// The offset after the log's (stable) end, where the consumer has reached it and no record came after. Counts
    /// transaction markers and aborted records, which are never handed over; stays in every answer until a record comes.
    pub end_of_partition: Option<i64>,
}

/// A consumer's number for an assigned partition; valid until it is unassigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionSlot(pub usize);

/// Reads records of manually assigned partitions, each from a queue of its own. Hot path: [`drain`](Self::drain).
pub trait Consumer: Send {
    /// Adds a partition; others go on undisturbed.
    fn assign(&mut self, partition: &TopicPartition, start: StartOffset) -> Result<PartitionSlot>;
    /// Removes a partition and what is buffered of it.
    fn unassign(&mut self, slot: PartitionSlot) -> Result<()>;
    /// Hands over up to `max_records` that have arrived, in offset order, without waiting. Keys and values of one call share
    /// one allocation.
    ///
    /// # Errors
    /// `TaskCorrupted` for an offset out of range, `Retriable` for broker trouble, `Fatal` for authorisation.
    fn drain(
        &mut self,
        slot: PartitionSlot,
        max_records: usize,
        into: &mut dyn FnMut(RawRecord),
    ) -> Result<Drained>;
    /// Sleeps until something arrives on any partition, [`waker`](Self::waker) is called, or `timeout` is over. Returns at
    /// once where that happened since the last wait, or a drain since then may have left something (it gave as many as it
    /// was asked for). May return without a reason. Records left in a queue on purpose do not wake again.
    ///
    /// # Errors
    /// `Fatal` where the brokers will never take this client (authentication, authorisation).
    fn wait(&mut self, timeout: Duration) -> Result<()>;
    /// Wakes [`wait`](Self::wait) from another thread.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
    /// The group's committed offsets (`None`: nothing committed). Waits until no open transaction can change them.
    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<CommittedOffset>>>;
    /// First and (last stable) end offset, asked of the broker.
    fn offsets(&mut self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64)>;
    /// The high watermark as of the last fetch, without asking; `None` before the first.
    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64>;
    /// The first offset at or after `timestamp`; the end where there is none.
    fn offset_for_time(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
        timeout: Duration,
    ) -> Result<i64>;
}

/// A producer's number for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicHandle(pub usize);

/// A record to be sent; the bytes are copied by [`Producer::send`].
#[derive(Debug, Clone, Copy)]
pub struct OutgoingRecord<'a> {
    /// From [`Producer::topic`].
    pub topic: TopicHandle,
    /// `None`: the client's partitioner decides (murmur2 of the key, random without one).
    pub partition: Option<i32>,
    /// Record timestamp.
    pub timestamp: Timestamp,
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a Headers,
}

/// Sends records, in transactions where it was made with an id. Owned by one thread.
pub trait Producer: Send {
    /// Fences older producers with this id and aborts what they left open.
    fn init_transactions(&mut self, timeout: Duration) -> Result<()>;
    /// Opens a transaction.
    fn begin_transaction(&mut self) -> Result<()>;
    /// Adds offsets to the open transaction, fenced by `group`.
    ///
    /// # Errors
    /// `TaskMigrated` for a stale generation or member (then abort: the producer is still good), `Fatal` where another process
    /// has taken the member's static id, else as [`commit_transaction`](Self::commit_transaction).
    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<()>;
    /// Waits until everything sent is acknowledged, and commits.
    ///
    /// # Errors
    /// `Retriable` (call again), `AbortTransaction`, `TaskMigrated` (fenced: this producer is of no use any more, drop it),
    /// `Fatal`.
    fn commit_transaction(&mut self, timeout: Duration) -> Result<()>;
    /// Aborts; what was sent will never be read. Serves callbacks until done or `timeout`.
    fn abort_transaction(&mut self, timeout: Duration) -> Result<()>;
    /// The handle of a topic, made once.
    fn topic(&mut self, name: &str) -> Result<TopicHandle>;
    /// Number of partitions, asked of the broker once and cached.
    fn partition_count(&mut self, topic: TopicHandle, timeout: Duration) -> Result<i32>;
    /// Queues a record; waits, bounded, while the local queue is full. Timestamp 0 becomes 1 (librdkafka reads 0 as "now").
    ///
    /// # Errors
    /// `BadRecord` for a record too large or with a negative timestamp, `AbortTransaction` outside a good transaction,
    /// `TaskMigrated` when fenced, `Retriable` when the queue stays full, `Fatal` otherwise.
    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()>;
    /// Waits until everything sent is acknowledged (at-least-once).
    fn flush(&mut self, timeout: Duration) -> Result<()>;
    /// Serves delivery callbacks; the first delivery failure since the last call comes back as an error.
    ///
    /// # Errors
    /// `AbortTransaction` where going back to the committed offsets may help, `TaskMigrated` when fenced, `Fatal` where the
    /// broker will not take the record (too large for the topic, authorisation). Never `Retriable`: the record is gone.
    fn poll(&mut self) -> Result<()>;
}

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of partition 0.
    pub replication_factor: i32,
}

/// What the cluster's metadata says of some topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// Brokers that it lists.
    pub brokers: usize,
    /// Partitions with fewer replicas in sync than they have.
    pub under_replicated: usize,
    /// Partitions without a leader.
    pub offline: usize,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Full name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replication factor; -1 is the broker's default.
    pub replication_factor: i32,
    /// Configuration entries by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// A member of a consumer group, as the broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the group gave it.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// The name that its client gave itself; see [`application_server`].
    pub client_id: String,
    /// What it owns; nothing while the group has not settled.
    pub partitions: Vec<TopicPartition>,
}

impl GroupMember {
    /// Whether it is the member of a process, named by its `group.instance.id` or else as in [`MemberName::process`].
    pub fn has_process(&self, process: &str) -> bool {
        self.group_instance_id.as_deref() == Some(process)
            || self.client_id.contains(&format!("{PROCESS}{process}-"))
    }
}

/// What separates a member's name from its process.
const PROCESS: &str = "-process.";

/// What separates a member's name from the address it advertises.
const ADVERTISED: &str = "-membership@";

/// What separates a member's name from its view of the cluster's topics.
const VIEWED: &str = "-view.";

/// The view of the cluster's topics in a member's `client.id`; `None`: it told none.
pub fn view(client_id: &str) -> Option<&str> {
    let (name, _) = client_id.rsplit_once("-membership")?;
    name.rsplit_once(VIEWED).map(|(_, view)| view)
}

/// The address in a member's `client.id`; `None`: it advertises none.
pub fn application_server(client_id: &str) -> Option<&str> {
    client_id.rsplit_once(ADVERTISED).map(|(_, address)| address)
}

/// Creates and describes topics, describes groups.
pub trait Admin: Send {
    /// All topics of the cluster that this client may see.
    fn topics(&mut self, timeout: Duration) -> Result<BTreeMap<String, TopicDescription>>;
    /// What exists of `topics`; the names that do not are absent from the answer.
    fn describe_topics(
        &mut self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicDescription>>;
    /// Creates topics; ones that exist already are left alone. Returns when the cluster's answers have them.
    fn create_topics(&mut self, topics: &[NewTopic], timeout: Duration) -> Result<()>;
    /// The effective configuration of a topic.
    fn topic_configs(&mut self, topic: &str, timeout: Duration)
    -> Result<BTreeMap<String, String>>;
    /// The effective configuration of every broker, by its id.
    ///
    /// Source: `Admin.describeConfigs` with `ConfigResource.Type.BROKER`.
    fn broker_configs(
        &mut self,
        timeout: Duration,
    ) -> Result<BTreeMap<i32, BTreeMap<String, String>>>;
    /// Changes configuration entries of a topic, leaving the others.
    fn alter_topic_configs(
        &mut self,
        topic: &str,
        configs: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<()>;
    /// Adds partitions up to `total`.
    fn create_partitions(&mut self, topic: &str, total: i32, timeout: Duration) -> Result<()>;
    /// The members of a group; none where there is no such group.
    fn describe_group(&mut self, group: &str, timeout: Duration) -> Result<Vec<GroupMember>>;
    /// What a group has committed last of these partitions, by transactions that are decided; open ones are not waited for, unlike in
    /// [`Consumer::committed`]. Partitions without a committed offset are left out.
    fn group_offsets(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>>;
    /// Number of live brokers.
    fn broker_count(&mut self, timeout: Duration) -> Result<usize>;
    /// How well the cluster holds these topics; ones that do not exist are passed over.
    fn cluster_health(&mut self, topics: &[&str], timeout: Duration) -> Result<ClusterHealth>;
    /// Deletes records before the given offsets (repartition topics).
    fn delete_records(&mut self, before: &[(TopicPartition, i64)], timeout: Duration)
    -> Result<()>;
}
