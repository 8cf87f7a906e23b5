//! Settings of the clients and the properties that they become.
//!
//! Order: our defaults, then the user's extras, then what correctness forces. Figures: DESIGN §4.

use std::collections::BTreeMap;
use std::time::Duration;

use super::snapshot::Protocol;
use crate::config::GroupProtocol;
use crate::error::{Error, Result};
use crate::kafka::{ConsumerPurpose, MemberName};

type Properties = BTreeMap<String, String>;

/// What all clients of one process need to know. Plain data.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `host:port`, comma separated.
    pub bootstrap: String,
    /// Also the consumer group's id (`group.id`).
    pub application_id: String,
    /// Start of every client's `client.id`.
    pub client_id: String,
    /// Static membership (`group.instance.id`), so that a rolling restart moves nothing.
    pub group_instance_id: Option<String>,
    /// By what protocol the group is joined.
    pub group_protocol: GroupProtocol,
    /// Silence after which the brokers give the member's partitions away; by the consumer protocol that is the brokers' own setting.
    pub session_timeout: Duration,
    /// Interval of the member's heartbeats; at most a third of the session time-out.
    pub heartbeat_interval: Duration,
    /// Whether transactional producers may be made; without it, asking for one is an error.
    pub exactly_once: bool,
    /// `application.server`: the address at which other instances find this one, told in the member's `client.id`. Empty:
    /// none.
    pub application_server: String,
    /// Extra librdkafka properties of all clients (security, above all).
    pub common: BTreeMap<String, String>,
    /// Extra properties of consumers.
    pub consumer: BTreeMap<String, String>,
    /// Extra properties of producers.
    pub producer: BTreeMap<String, String>,
}

/// Properties that correctness depends on: the user may repeat, but not change them.
const FORCED_CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    // Out of range must reach the engine as an error: silently starting elsewhere loses or repeats records.
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];
/// Only range assignors keep co-partitioned topics together (DESIGN §3).
const CLASSIC: &[(&str, &str)] =
    &[("group.protocol", "classic"), ("partition.assignment.strategy", "range")];
const CONSUMER: &[(&str, &str)] =
    &[("group.protocol", "consumer"), ("group.remote.assignor", "range")];
const FORCED_PRODUCER: &[(&str, &str)] = &[
    // As Java's; librdkafka's own default puts 83 % of keys elsewhere.
    ("partitioner", "murmur2_random"),
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("delivery.report.only.error", "true"),
];
/// Properties with a field or parameter of their own.
const OWN: &[(&str, &str)] = &[
    ("bootstrap.servers", "bootstrap"),
    ("metadata.broker.list", "bootstrap"),
    ("client.id", "client_id"),
    ("group.id", "application_id"),
    ("group.instance.id", "group_instance_id"),
    ("group.protocol", "group_protocol"),
    ("group.remote.assignor", "group_protocol"),
    ("partition.assignment.strategy", "group_protocol"),
    ("session.timeout.ms", "session_timeout"),
    ("heartbeat.interval.ms", "heartbeat_interval"),
    ("transactional.id", "application_id"),
];
/// Tuning that the user may change.
const DEFAULT_COMMON: &[(&str, &str)] = &[
    // A broker that comes back is found again within a second.
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    ("socket.nagle.disable", "true"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
    ("retry.backoff.ms", "10"),
];
const DEFAULT_CONSUMER: &[(&str, &str)] = &[
    // 1000 by default: a full local queue then stalls its partition for a second.
    ("fetch.queue.backoff.ms", "10"),
    // A partition added during a long poll waits for the poll's end.
    ("fetch.wait.max.ms", "100"),
    // Limits per partition (each has its own queue). One fetch of up to 1 MB may come on top, and librdkafka needs about
    // 350 bytes beside each record: twelve partitions of small records stay below 100 MB.
    ("queued.max.messages.kbytes", "2048"),
    ("queued.min.messages", "5000"),
    ("allow.auto.create.topics", "false"),
];
const DEFAULT_PRODUCER: &[(&str, &str)] = &[
    ("linger.ms", "5"),
    ("batch.size", "262144"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "32768"),
    ("compression.type", "lz4"),
];
/// The end of the `client.id` of administration clients.
pub(super) const ADMIN_ROLE: &str = "admin";
/// Short: a dead writer's open transaction holds back every reader until it times out.
const TRANSACTION_TIMEOUT_MS: &str = "10000";

impl ClientSettings {
    /// Settings with the engine's defaults: session 10 s, heartbeat 1 s, exactly once.
    pub fn new(bootstrap: impl Into<String>, application_id: impl Into<String>) -> Self {
        let application_id = application_id.into();
        Self {
            bootstrap: bootstrap.into(),
            client_id: application_id.clone(),
            application_id,
            group_instance_id: None,
            group_protocol: GroupProtocol::Classic,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(1),
            exactly_once: true,
            application_server: String::new(),
            common: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
        }
    }

    /// Checks what librdkafka cannot.
    ///
    /// # Errors
    /// `Invalid`, naming the setting, what was found and what is wanted.
    pub(super) fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("bootstrap", &self.bootstrap),
            ("application_id", &self.application_id),
            ("client_id", &self.client_id),
        ] {
            if value.trim().is_empty() {
                return Err(Error::invalid(format!("Kafka setting \"{name}\" is empty; set it")));
            }
        }
        if self.heartbeat_interval * 3 > self.session_timeout {
            return Err(Error::invalid(format!(
                "heartbeat interval {} ms is more than a third of the session time-out {} ms; lower it",
                self.heartbeat_interval.as_millis(),
                self.session_timeout.as_millis(),
            )));
        }
        check_extras(&self.common, &[FORCED_CONSUMER, FORCED_PRODUCER])?;
        check_extras(&self.consumer, &[FORCED_CONSUMER])?;
        check_extras(&self.producer, &[FORCED_PRODUCER])
    }

    /// Properties of the group member.
    pub(super) fn membership_properties(
        &self,
        name: MemberName<'_>,
        protocol: Protocol,
    ) -> Properties {
        let mut role = String::new();
        if let Some(process) = name.process {
            role += &format!("process.{process}-");
        }
        if let Some(view) = name.view {
            role += &format!("view.{view}-");
        }
        role += "membership";
        if !self.application_server.is_empty() {
            role += &format!("@{}", self.application_server);
        }
        let mut properties = self.base(&role);
        add(&mut properties, DEFAULT_CONSUMER);
        extend(&mut properties, &self.common);
        extend(&mut properties, &self.consumer);
        add(&mut properties, FORCED_CONSUMER);
        set(&mut properties, "group.id", &self.application_id);
        match protocol {
            Protocol::Classic => {
                add(&mut properties, CLASSIC);
                self.add_session(&mut properties);
            }
            // Session and heartbeats are the brokers' there, and librdkafka refuses others.
            Protocol::Consumer => add(&mut properties, CONSUMER),
        }
        if let Some(id) = &self.group_instance_id {
            set(&mut properties, "group.instance.id", id);
        }
        // librdkafka refuses a poll interval below the session time-out.
        let poll_ms = self.session_timeout.as_millis().max(300_000);
        properties.entry("max.poll.interval.ms".into()).or_insert(poll_ms.to_string());
        properties
    }

    /// Properties of a data consumer.
    pub(super) fn consumer_properties(&self, purpose: ConsumerPurpose) -> Properties {
        let mut properties = self.base(match purpose {
            ConsumerPurpose::Main => "consumer",
            ConsumerPurpose::Restore => "restore-consumer",
            ConsumerPurpose::Global => "global-consumer",
        });
        add(&mut properties, DEFAULT_CONSUMER);
        extend(&mut properties, &self.common);
        extend(&mut properties, &self.consumer);
        add(&mut properties, FORCED_CONSUMER);
        // Never subscribed, so never a member; librdkafka wants the id for manual assignment, and committed offsets need it.
        set(&mut properties, "group.id", &self.application_id);
        // Without effect here, but librdkafka checks the user's poll interval against it.
        add(&mut properties, CLASSIC);
        self.add_session(&mut properties);
        properties
    }

    fn add_session(&self, properties: &mut Properties) {
        set(properties, "session.timeout.ms", self.session_timeout.as_millis());
        set(properties, "heartbeat.interval.ms", self.heartbeat_interval.as_millis());
    }

    /// Properties of a producer.
    pub(super) fn producer_properties(&self, transactional_id: Option<&str>) -> Properties {
        let mut properties = self.base("producer");
        add(&mut properties, DEFAULT_PRODUCER);
        if transactional_id.is_some() {
            set(&mut properties, "transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        }
        extend(&mut properties, &self.common);
        extend(&mut properties, &self.producer);
        add(&mut properties, FORCED_PRODUCER);
        match transactional_id {
            Some(id) => set(&mut properties, "transactional.id", id),
            None => drop(properties.remove("transaction.timeout.ms")),
        }
        properties
    }

    /// Properties of the admin client.
    pub(super) fn admin_properties(&self) -> Properties {
        let mut properties = self.base(ADMIN_ROLE);
        extend(&mut properties, &self.common);
        properties
    }

    fn base(&self, role: &str) -> Properties {
        let mut properties = Properties::new();
        add(&mut properties, DEFAULT_COMMON);
        set(&mut properties, "bootstrap.servers", &self.bootstrap);
        set(&mut properties, "client.id", format_args!("{}-{role}", self.client_id));
        properties
    }
}

fn check_extras(extras: &Properties, forced: &[&[(&str, &str)]]) -> Result<()> {
    for (name, value) in extras {
        if let Some((_, field)) = OWN.iter().find(|(own, _)| own == name) {
            return Err(Error::invalid(format!(
                "Kafka property \"{name}\" is set through the setting \"{field}\", not as an extra; move it there"
            )));
        }
        let wanted = forced.iter().flat_map(|list| list.iter()).find(|(key, _)| key == name);
        if let Some((_, wanted)) = wanted.filter(|(_, wanted)| wanted != value) {
            return Err(Error::invalid(format!(
                "Kafka property \"{name}\" is \"{value}\", but the engine needs \"{wanted}\"; remove it"
            )));
        }
    }
    Ok(())
}

fn add(properties: &mut Properties, list: &[(&str, &str)]) {
    for (name, value) in list {
        set(properties, name, value);
    }
}

fn extend(properties: &mut Properties, extras: &Properties) {
    properties.extend(extras.iter().map(|(name, value)| (name.clone(), value.clone())));
}

fn set(properties: &mut Properties, name: &str, value: impl std::fmt::Display) {
    properties.insert(name.to_owned(), value.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::GroupMember;

    #[test]
    fn an_extra_that_would_break_exactly_once_is_refused_with_the_value_wanted() {
        let mut settings = ClientSettings::new("127.0.0.1:9092", "app");
        settings.producer.insert("acks".into(), "1".into());
        let error = settings.validate().unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
        assert!(error.message().contains("\"acks\" is \"1\""), "{error}");
        settings.producer.insert("acks".into(), "all".into());
        settings.validate().unwrap();
    }

    #[test]
    fn extras_change_tuning_but_not_what_is_forced() {
        let mut settings = ClientSettings::new("127.0.0.1:9092", "app");
        settings.producer.insert("linger.ms".into(), "7".into());
        settings.common.insert("retry.backoff.ms".into(), "20".into());
        let properties = settings.producer_properties(Some("app-1"));
        assert_eq!(properties["linger.ms"], "7");
        assert_eq!(properties["retry.backoff.ms"], "20");
        assert_eq!(properties["transactional.id"], "app-1");
        assert_eq!(properties["transaction.timeout.ms"], "10000");
        assert!(!settings.producer_properties(None).contains_key("transaction.timeout.ms"));
        assert_eq!(
            settings.consumer_properties(ConsumerPurpose::Restore)["client.id"],
            "app-restore-consumer"
        );
    }

    #[test]
    fn what_the_brokers_decide_by_the_consumer_protocol_is_not_set() {
        let settings = ClientSettings::new("127.0.0.1:9092", "app");
        let properties = settings.membership_properties(MemberName::default(), Protocol::Consumer);
        assert_eq!(properties["group.protocol"], "consumer");
        assert_eq!(properties["group.remote.assignor"], "range");
        for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"]
        {
            assert!(!properties.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_heartbeat_too_slow_for_the_session_is_refused() {
        let mut settings = ClientSettings::new("127.0.0.1:9092", "app");
        settings.heartbeat_interval = Duration::from_secs(4);
        assert!(settings.validate().is_err());
    }

    #[test]
    fn a_members_name_tells_its_process_its_view_and_its_address() {
        let mut settings = ClientSettings::new("127.0.0.1:9092", "app");
        for (address, view) in
            [("", None), ("host:1", None), ("", Some("7f")), ("host:1", Some("7f"))]
        {
            settings.application_server = address.to_owned();
            for process in [None, Some("0f")] {
                let name = MemberName { process, view };
                let name =
                    settings.membership_properties(name, Protocol::Classic)["client.id"].clone();
                assert_eq!(crate::kafka::view(&name), view, "{name}");
                let told = crate::kafka::application_server(&name).unwrap_or_default();
                assert_eq!(told, address, "{name}");
                let (client_id, group_instance_id) = (name, Some("static".to_owned()));
                let (member_id, partitions) = (String::new(), Vec::new());
                let member = GroupMember { member_id, group_instance_id, client_id, partitions };
                assert_eq!(member.has_process("0f"), process.is_some(), "{member:?}");
                assert!(member.has_process("static") && !member.has_process("0"), "{member:?}");
            }
        }
    }
}
