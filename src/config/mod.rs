//! Settings of a client: plain data, checked once before the first Kafka call.
//!
//! Components (clock, handlers, clients) are given to the builder instead. Each field names Kafka's own key.

mod group_protocol;
mod optimization;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

pub use group_protocol::GroupProtocol;
pub use optimization::TopologyOptimization;

/// What is guaranteed about the effects of a record. Java key: `processing.guarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessingGuarantee {
    /// Results, store changes and offsets are committed in one transaction (`exactly_once_v2`).
    ExactlyOnceV2,
    /// Offsets are committed after the results; a crash repeats some (`at_least_once`).
    AtLeastOnce,
}

impl ProcessingGuarantee {
    /// Kafka's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnceV2 => "exactly_once_v2",
            Self::AtLeastOnce => "at_least_once",
        }
    }
}

/// Settings of a client. Source: `StreamsConfig`; deviations are in the defaults' comments.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamsConfig {
    /// `application.id`: the consumer group, the prefix of internal topics and of transactional ids.
    pub application_id: String,
    /// `bootstrap.servers`: `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// `application.server`: `host:port` at which this instance serves queries, for the others to find it by. Empty: it is
    /// not told, and nobody finds this instance's keys.
    pub application_server: String,
    /// `client.id`; made of the application id and the process id where empty.
    pub client_id: String,
    /// `group.instance.id`: static membership, so that a rolling restart moves nothing.
    pub group_instance_id: Option<String>,
    /// `group.protocol`: how the group is joined. As in Kafka Streams, classic unless set.
    pub group_protocol: GroupProtocol,
    /// `state.dir`: folder of the stores; each application has a folder of its own below it.
    pub state_dir: PathBuf,
    /// `num.stream.threads`.
    pub num_stream_threads: usize,
    /// Threads that restore stores, each several changelogs side by side and within 50 MiB. Not in Kafka Streams: there each stream thread has one
    /// of its own.
    pub restore_threads: usize,
    /// `num.standby.replicas`: on how many other instances each task with a logged store has a copy of its stores.
    pub num_standby_replicas: usize,
    /// `acceptable.recovery.lag`: how many changelog offsets a standby may be behind to count as caught up, which the log tells. Deviation: it does
    /// not decide where active tasks go, since the group's assignor does.
    pub acceptable_recovery_lag: u64,
    /// `processing.guarantee`. Deviation: exactly once is the default.
    pub processing_guarantee: ProcessingGuarantee,
    /// `commit.interval.ms`: at the latest.
    pub commit_interval: Duration,
    /// The shortest time between two commits while the input is drained; below it a commit would cost more than it brings.
    pub commit_interval_min: Duration,
    /// `buffered.records.per.partition`.
    pub buffered_records_per_partition: usize,
    /// `input.buffer.max.bytes`, for each stream thread.
    pub input_buffer_bytes_max: usize,
    /// `max.task.idle.ms`; `None` is -1.
    pub max_task_idle: Option<Duration>,
    /// How long all input of a task has to be silent before its windows go on closing by the wall clock; `None`: never, final results wait
    /// for the next record. Not in Kafka Streams. Once input is silent for so long, stream time moves on as wall-clock time does; records that
    /// come later but are older than that may be late. It takes a live broker for silence only as far as its last answer, so choose
    /// more than the longest outage that shall cost nothing.
    pub idle_timeout: Option<Duration>,
    /// How far ahead of the wall clock a record's timestamp may be; what is further is a bad record, before it can close windows for all
    /// others of its partition. `None`: any time is taken, as in Kafka Streams.
    pub future_skew_max: Option<Duration>,
    /// `statestore.cache.max.bytes`: record caches, over all stream threads in equal parts; 0 forwards every update at once.
    pub record_cache_bytes_max: usize,
    /// Row caches, over all stores of the process: rows that reads need not fetch from the engine. Not in Kafka Streams.
    pub row_cache_bytes_max: usize,
    /// `statestore.uncommitted.max.bytes` (KIP-892): a stream thread commits early above it.
    pub uncommitted_bytes_max: usize,
    /// Memory of all RocksDB stores together, in bytes: block cache and write buffers.
    pub rocksdb_memory_bytes_max: usize,
    /// `replication.factor` of internal topics; -1: the broker's default.
    pub replication_factor: i32,
    /// `session.timeout.ms` of the classic group protocol, and the longest session of the brokers' by which `auto` prefers the newer one. Deviation: 10 s,
    /// so that a killed instance is replaced soon.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms` of the classic group protocol.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: a stream thread that makes no progress for so long is given up.
    pub max_poll_interval: Duration,
    /// `transaction.timeout.ms`.
    pub transaction_timeout: Duration,
    /// `task.timeout.ms`: how long a retriable error may go on.
    pub task_timeout: Duration,
    /// `default.api.timeout.ms`: bound of a single request to the cluster.
    pub request_timeout: Duration,
    /// `repartition.purge.interval.ms`: how often processed records of repartition topics are deleted.
    pub repartition_purge_interval: Duration,
    /// `metadata.max.age.ms`: how often the cluster's topics are looked at for new ones that a [`TopicPattern`](crate::TopicPattern) matches.
    pub metadata_max_age: Duration,
    /// How many times a record that fails in a processor is processed again before its handler decides.
    pub processing_retries: u32,
    /// Settings of every client, by librdkafka's names (TLS, SASL …).
    pub client: BTreeMap<String, String>,
    /// Settings of consumers only.
    pub consumer: BTreeMap<String, String>,
    /// Settings of producers only.
    pub producer: BTreeMap<String, String>,
}

impl StreamsConfig {
    /// The defaults for an application on a cluster.
    pub fn new(application_id: impl Into<String>, bootstrap_servers: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            bootstrap_servers: bootstrap_servers.into(),
            application_server: String::new(),
            client_id: String::new(),
            group_instance_id: None,
            group_protocol: GroupProtocol::Classic,
            state_dir: PathBuf::from("state"),
            num_stream_threads: 1,
            restore_threads: 2,
            num_standby_replicas: 0,
            acceptable_recovery_lag: 10_000,
            processing_guarantee: ProcessingGuarantee::ExactlyOnceV2,
            commit_interval: Duration::from_millis(100),
            commit_interval_min: Duration::from_millis(10),
            buffered_records_per_partition: 1000,
            input_buffer_bytes_max: 16 << 20,
            max_task_idle: Some(Duration::ZERO),
            idle_timeout: None,
            future_skew_max: None,
            record_cache_bytes_max: 10 << 20,
            row_cache_bytes_max: 32 << 20,
            uncommitted_bytes_max: 32 << 20,
            rocksdb_memory_bytes_max: 64 << 20,
            replication_factor: -1,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            transaction_timeout: Duration::from_secs(10),
            task_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            repartition_purge_interval: Duration::from_secs(30),
            metadata_max_age: Duration::from_secs(300),
            processing_retries: 0,
            client: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
        }
    }

    /// Whether results are committed in transactions.
    pub fn is_exactly_once(&self) -> bool {
        self.processing_guarantee == ProcessingGuarantee::ExactlyOnceV2
    }

    /// Checks ranges and what must fit together.
    ///
    /// # Errors
    /// `Invalid`, naming the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<()> {
        let refuse = |setting: &str, found: &dyn std::fmt::Debug, wanted: &str| {
            Err(Error::invalid(format!("setting {setting}: found {found:?}, wanted {wanted}")))
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.application_id.is_empty() || !self.application_id.chars().all(named) {
            let wanted = "letters, digits, '.', '_' and '-' (it is part of topic names)";
            return refuse("application.id", &self.application_id, wanted);
        }
        if self.bootstrap_servers.is_empty() {
            return refuse("bootstrap.servers", &self.bootstrap_servers, "host:port[,host:port]");
        }
        if !self.application_server.is_empty() && !is_address(&self.application_server) {
            let wanted = "host:port, such as node1:9464, or nothing";
            return refuse("application.server", &self.application_server, wanted);
        }
        if self.num_stream_threads == 0 {
            return refuse("num.stream.threads", &0, "at least 1");
        }
        if self.restore_threads == 0 {
            return refuse("restore.threads", &0, "at least 1");
        }
        if self.buffered_records_per_partition == 0 {
            return refuse("buffered.records.per.partition", &0, "at least 1");
        }
        if self.idle_timeout.is_some_and(|timeout| timeout < IDLE_TIMEOUT_MIN) {
            return refuse("idle.timeout.ms", &self.idle_timeout, "at least 10 ms, or none");
        }
        if self.is_exactly_once() && self.transaction_timeout < self.commit_interval {
            let found = self.transaction_timeout;
            return refuse("transaction.timeout.ms", &found, "no less than commit.interval.ms");
        }
        if self.heartbeat_interval * 3 > self.session_timeout {
            let wanted = "at most a third of session.timeout.ms";
            return refuse("heartbeat.interval.ms", &self.heartbeat_interval, wanted);
        }
        for (table, settings) in
            [("client", &self.client), ("consumer", &self.consumer), ("producer", &self.producer)]
        {
            for (key, reason) in FORCED {
                if let Some(found) = settings.get(*key) {
                    return refuse(&format!("{table}.{key}"), found, reason);
                }
            }
        }
        Ok(())
    }
}

/// Whether a text is `host:port`; what `HostInfo` reads.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named = |c: char| c.is_ascii_alphanumeric() || ".-_:%[]".contains(c);
    !host.is_empty() && host.chars().all(named) && port.parse().is_ok_and(|port: u16| port > 0)
}

/// Looking for silence more often would keep a thread busy.
const IDLE_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// librdkafka settings that the engine decides.
const FORCED: &[(&str, &str)] = &[
    ("group.id", "nothing: it is application.id"),
    ("enable.auto.commit", "nothing: the engine commits"),
    ("enable.auto.offset.store", "nothing: the engine commits"),
    (
        "auto.offset.reset",
        "nothing: a source has it of its own, Consumed::with_offset_reset_policy",
    ),
    ("isolation.level", "nothing: it is read_committed"),
    ("enable.idempotence", "nothing: it is true"),
    ("acks", "nothing: it is all"),
    ("transactional.id", "nothing: it is made of application.id and the thread"),
    ("transaction.timeout.ms", "the setting transaction.timeout.ms of the engine"),
    ("partitioner", "nothing: it is murmur2_random, as Java's"),
    ("group.protocol", "the setting group.protocol of the engine"),
    ("group.remote.assignor", "nothing: it is range"),
    ("partition.assignment.strategy", "nothing: it is range"),
    ("enable.partition.eof", "nothing: the engine needs it"),
    ("bootstrap.servers", "the setting bootstrap.servers of the engine"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut StreamsConfig)) -> String {
        let mut config = StreamsConfig::new("app", "127.0.0.1:9092");
        change(&mut config);
        config.validate().unwrap_err().message().to_owned()
    }

    #[test]
    fn defaults_are_valid() {
        StreamsConfig::new("app", "127.0.0.1:9092").validate().unwrap();
    }

    #[test]
    fn errors_name_setting_found_and_wanted() {
        let text = refused(|config| config.application_id = "a b".into());
        assert!(
            text.starts_with("setting application.id: found \"a b\", wanted letters"),
            "{text}"
        );
        let text = refused(|config| config.num_stream_threads = 0);
        assert_eq!(text, "setting num.stream.threads: found 0, wanted at least 1");
        let text = refused(|config| config.application_server = "node1".into());
        assert!(text.starts_with("setting application.server: found \"node1\""), "{text}");
        let text = refused(|config| config.idle_timeout = Some(Duration::ZERO));
        assert!(text.starts_with("setting idle.timeout.ms: found Some(0ns), wanted"), "{text}");
        let text = refused(|config| config.transaction_timeout = Duration::from_millis(1));
        assert!(text.contains("transaction.timeout.ms"), "{text}");
    }

    #[test]
    fn forced_client_settings_are_refused() {
        let text = refused(|config| {
            config.consumer.insert("isolation.level".into(), "read_uncommitted".into());
        });
        assert!(text.starts_with("setting consumer.isolation.level"), "{text}");
    }
}
