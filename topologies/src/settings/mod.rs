//! Settings of the application: what may be set, its defaults, and what the engine is given of it.
//!
//! `config/default.toml` documents every one of them. Read once at start by [`Loaded::load`]; plain data afterwards.

mod layers;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kstreams::kafka::librdkafka::ClientSettings;
use kstreams::serdes::RegistryConfig;
use kstreams::{Error, GroupProtocol, ProcessingGuarantee, Result, StreamsConfig};
use serde::{Deserialize, Serialize};

pub use layers::{Loaded, Origin};
pub use show::{HIDDEN, is_secret};

use crate::{
    audit_fanout, clickhouse, contractor_access, delivery, doctor, hr_documents,
    manager_assignment, notifications, traces,
};

/// Every setting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The engine.
    pub kafka: KafkaSettings,
    /// The schema registry.
    pub schema_registry: RegistrySettings,
    /// Metrics, health and the like.
    pub http: HttpSettings,
    /// What `/metrics` shows.
    pub metrics: MetricsSettings,
    /// Logs.
    pub log: LogSettings,
    /// Rules of the topology manager-assignment.
    pub manager_assignment: manager_assignment::settings::Settings,
    /// Rules of the topology audit-fanout.
    pub audit_fanout: audit_fanout::settings::Settings,
    /// Rules and providers of the topology notification-delivery.
    pub delivery: delivery::settings::Settings,
    /// Rules of the topology notifications.
    pub notifications: notifications::settings::Settings,
    /// Rules of the topology contractor-access.
    pub contractor_access: contractor_access::settings::Settings,
    /// Rules of the topology hr-documents.
    pub hr_documents: hr_documents::settings::Settings,
    /// What `aggregator doctor` takes for healthy.
    pub doctor: doctor::Settings,
    /// Traces.
    pub tracing: traces::Settings,
    /// The ClickHouse sink.
    pub clickhouse: clickhouse::Settings,
    /// Settings of every Kafka client, by librdkafka's names (TLS, SASL …).
    pub client: BTreeMap<String, String>,
    /// Settings of consumers only.
    pub consumer: BTreeMap<String, String>,
    /// Settings of producers only.
    pub producer: BTreeMap<String, String>,
}

/// Settings of the engine; each is a field of [`StreamsConfig`], which says more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "one to one the fields of StreamsConfig, in milliseconds and bytes"
)]
pub struct KafkaSettings {
    pub bootstrap_servers: String,
    /// `application.id` is this and the topology's name.
    pub application_id_prefix: String,
    pub client_id: String,
    pub group_instance_id: String,
    pub group_protocol: Protocol,
    pub state_dir: PathBuf,
    pub num_stream_threads: usize,
    pub restore_threads: usize,
    pub num_standby_replicas: usize,
    pub acceptable_recovery_lag: u64,
    pub processing_guarantee: Guarantee,
    pub commit_interval_ms: u64,
    pub commit_interval_min_ms: u64,
    pub buffered_records_per_partition: usize,
    pub input_buffer_max_bytes: usize,
    /// -1 waits without end.
    pub max_task_idle_ms: i64,
    pub statestore_cache_max_bytes: usize,
    pub row_cache_max_bytes: usize,
    pub statestore_uncommitted_max_bytes: usize,
    pub rocksdb_memory_max_bytes: usize,
    pub replication_factor: i32,
    pub session_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    pub max_poll_interval_ms: u64,
    pub transaction_timeout_ms: u64,
    pub task_timeout_ms: u64,
    pub default_api_timeout_ms: u64,
    pub repartition_purge_interval_ms: u64,
    pub processing_retries: u32,
    /// How long an ordered stop may take.
    pub close_timeout_ms: u64,
}

/// `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// KIP-848 where it suits, else classic.
    Auto,
    /// Any broker has it.
    Classic,
    /// KIP-848.
    Consumer,
}

/// `processing.guarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Results, stores and offsets in one transaction.
    #[serde(rename = "exactly_once_v2")]
    ExactlyOnceV2,
    /// A crash repeats some results.
    AtLeastOnce,
}

/// Where the schema registry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Base addresses, comma separated. Kafka's `schema.registry.url`.
    pub url: String,
    /// `user:password`, or empty. Kafka's `basic.auth.user.info`.
    pub basic_auth_user_info: String,
    /// Token of the header `Authorization: Bearer`, or empty. Kafka's `bearer.auth.token`.
    pub bearer_auth_token: String,
    /// PEM file with the authorities to trust, or empty: the system's.
    pub ca_file: PathBuf,
    /// Until when a request must be answered.
    pub request_timeout_ms: u64,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// `address:port`; port 0 takes a free one, empty opens none.
    pub bind: String,
    /// `application.server`: where others reach it; empty: `bind`.
    pub advertised: String,
    /// Token that must be shown for all but `/health`, and is shown to other instances; empty: none.
    pub bearer_token: String,
    /// PEM file with the certificate and those that lead to its authority; empty: no TLS.
    pub tls_certificate_file: PathBuf,
    /// PEM file with the certificate's key (PKCS#8).
    pub tls_key_file: PathBuf,
    /// PEM file with the authorities of other instances' certificates; empty: the system's.
    pub tls_ca_file: PathBuf,
    /// Ready only while no partition is further behind; 0: however far.
    pub ready_lag_max_records: u64,
}

/// What `/metrics` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// Also the names that the JMX exporter gives Kafka Streams' metrics.
    pub jmx_names: bool,
}

/// Logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Lines for people, or one JSON object a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,kstreams=debug`.
    pub level: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Human,
    /// For machines.
    Json,
}

impl Default for KafkaSettings {
    /// The engine's defaults.
    fn default() -> Self {
        let engine = StreamsConfig::new("any", "127.0.0.1:9092");
        Self {
            bootstrap_servers: engine.bootstrap_servers,
            application_id_prefix: String::new(),
            client_id: engine.client_id,
            group_instance_id: String::new(),
            group_protocol: Protocol::Classic,
            state_dir: engine.state_dir,
            num_stream_threads: engine.num_stream_threads,
            restore_threads: engine.restore_threads,
            num_standby_replicas: engine.num_standby_replicas,
            acceptable_recovery_lag: engine.acceptable_recovery_lag,
            processing_guarantee: match engine.processing_guarantee {
                ProcessingGuarantee::ExactlyOnceV2 => Guarantee::ExactlyOnceV2,
                ProcessingGuarantee::AtLeastOnce => Guarantee::AtLeastOnce,
            },
            commit_interval_ms: millis(engine.commit_interval),
            commit_interval_min_ms: millis(engine.commit_interval_min),
            buffered_records_per_partition: engine.buffered_records_per_partition,
            input_buffer_max_bytes: engine.input_buffer_bytes_max,
            max_task_idle_ms: engine.max_task_idle.map_or(-1, |idle| millis(idle).cast_signed()),
            statestore_cache_max_bytes: engine.record_cache_bytes_max,
            row_cache_max_bytes: engine.row_cache_bytes_max,
            statestore_uncommitted_max_bytes: engine.uncommitted_bytes_max,
            rocksdb_memory_max_bytes: engine.rocksdb_memory_bytes_max,
            replication_factor: engine.replication_factor,
            session_timeout_ms: millis(engine.session_timeout),
            heartbeat_interval_ms: millis(engine.heartbeat_interval),
            max_poll_interval_ms: millis(engine.max_poll_interval),
            transaction_timeout_ms: millis(engine.transaction_timeout),
            task_timeout_ms: millis(engine.task_timeout),
            default_api_timeout_ms: millis(engine.request_timeout),
            repartition_purge_interval_ms: millis(engine.repartition_purge_interval),
            processing_retries: engine.processing_retries,
            close_timeout_ms: 30_000,
        }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".into(),
            basic_auth_user_info: String::new(),
            bearer_auth_token: String::new(),
            ca_file: PathBuf::new(),
            request_timeout_ms: 5_000,
        }
    }
}

impl HttpSettings {
    /// Whether it is HTTPS.
    pub fn is_tls(&self) -> bool {
        !self.tls_certificate_file.as_os_str().is_empty()
    }

    /// Whether other instances, which have the same settings, are asked by HTTPS.
    pub fn asks_by_tls(&self) -> bool {
        self.is_tls() || !self.tls_ca_file.as_os_str().is_empty()
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:9464".into(),
            advertised: String::new(),
            bearer_token: String::new(),
            tls_certificate_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            tls_ca_file: PathBuf::new(),
            ready_lag_max_records: 0,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}

impl Settings {
    /// The `application.id` of a topology.
    pub fn application_id(&self, topology: &str) -> String {
        format!("{}{topology}", self.kafka.application_id_prefix)
    }

    /// The engine's settings for a topology.
    pub fn streams_config(&self, topology: &str) -> StreamsConfig {
        let kafka = &self.kafka;
        let ms = Duration::from_millis;
        StreamsConfig {
            application_id: self.application_id(topology),
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            application_server: self.application_server(),
            client_id: kafka.client_id.clone(),
            group_instance_id: self.group_instance_id(),
            group_protocol: match kafka.group_protocol {
                Protocol::Auto => GroupProtocol::Auto,
                Protocol::Classic => GroupProtocol::Classic,
                Protocol::Consumer => GroupProtocol::Consumer,
            },
            state_dir: kafka.state_dir.clone(),
            num_stream_threads: kafka.num_stream_threads,
            restore_threads: kafka.restore_threads,
            num_standby_replicas: kafka.num_standby_replicas,
            acceptable_recovery_lag: kafka.acceptable_recovery_lag,
            processing_guarantee: match kafka.processing_guarantee {
                Guarantee::ExactlyOnceV2 => ProcessingGuarantee::ExactlyOnceV2,
                Guarantee::AtLeastOnce => ProcessingGuarantee::AtLeastOnce,
            },
            commit_interval: ms(kafka.commit_interval_ms),
            commit_interval_min: ms(kafka.commit_interval_min_ms),
            buffered_records_per_partition: kafka.buffered_records_per_partition,
            input_buffer_bytes_max: kafka.input_buffer_max_bytes,
            max_task_idle: u64::try_from(kafka.max_task_idle_ms).ok().map(ms),
            // No topology of this application has windows.
            idle_timeout: None,
            future_skew_max: None,
            record_cache_bytes_max: kafka.statestore_cache_max_bytes,
            row_cache_bytes_max: kafka.row_cache_max_bytes,
            uncommitted_bytes_max: kafka.statestore_uncommitted_max_bytes,
            rocksdb_memory_bytes_max: kafka.rocksdb_memory_max_bytes,
            replication_factor: kafka.replication_factor,
            session_timeout: ms(kafka.session_timeout_ms),
            heartbeat_interval: ms(kafka.heartbeat_interval_ms),
            max_poll_interval: ms(kafka.max_poll_interval_ms),
            transaction_timeout: ms(kafka.transaction_timeout_ms),
            task_timeout: ms(kafka.task_timeout_ms),
            request_timeout: ms(kafka.default_api_timeout_ms),
            repartition_purge_interval: ms(kafka.repartition_purge_interval_ms),
            // No topology of this application reads by a pattern.
            metadata_max_age: ms(300_000),
            processing_retries: kafka.processing_retries,
            client: self.client.clone(),
            consumer: self.consumer.clone(),
            producer: self.producer.clone(),
        }
    }

    /// Settings of clients that are no part of a topology: administration, looking at topics.
    pub fn client_settings(&self, client_id: &str) -> ClientSettings {
        let mut client = ClientSettings::new(&self.kafka.bootstrap_servers, client_id);
        client.common.clone_from(&self.client);
        client.consumer.clone_from(&self.consumer);
        client.producer.clone_from(&self.producer);
        client
    }

    /// Where the registry is.
    pub fn registry_config(&self) -> RegistryConfig {
        let mut config = RegistryConfig::new(&self.schema_registry.url);
        let user_info = self.schema_registry.basic_auth_user_info.split_once(':');
        config.basic_auth = user_info.map(|(user, password)| (user.into(), password.into()));
        config.bearer_token = given(&self.schema_registry.bearer_auth_token);
        let ca_file = &self.schema_registry.ca_file;
        config.ca_file = (!ca_file.as_os_str().is_empty()).then(|| ca_file.clone());
        config.request_timeout = Duration::from_millis(self.schema_registry.request_timeout_ms);
        config
    }

    /// Bound of a single request to the cluster.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.kafka.default_api_timeout_ms)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// `Invalid`, naming the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<()> {
        self.streams_config("any").validate()?;
        self.manager_assignment
            .validate()
            .map_err(|text| Error::invalid(format!("setting manager_assignment.{text}")))?;
        self.audit_fanout
            .validate()
            .map_err(|text| Error::invalid(format!("setting audit_fanout.{text}")))?;
        self.delivery
            .validate()
            .map_err(|text| Error::invalid(format!("setting delivery.{text}")))?;
        self.notifications
            .validate()
            .map_err(|text| Error::invalid(format!("setting notifications.{text}")))?;
        self.contractor_access
            .validate()
            .map_err(|text| Error::invalid(format!("setting contractor_access.{text}")))?;
        self.hr_documents
            .validate()
            .map_err(|text| Error::invalid(format!("setting hr_documents.{text}")))?;
        self.clickhouse
            .validate()
            .map_err(|text| Error::invalid(format!("setting clickhouse.{text}")))?;
        self.tracing
            .validate()
            .map_err(|text| Error::invalid(format!("setting tracing.{text}")))?;
        let bind = &self.http.bind;
        if !bind.is_empty() && bind.parse::<std::net::SocketAddr>().is_err() {
            return Err(Error::invalid(format!(
                "setting http.bind: found \"{bind}\", wanted address:port such as 127.0.0.1:9464, or nothing"
            )));
        }
        // Addresses are told in logs and errors.
        if self.schema_registry.url.contains('@') {
            return Err(Error::invalid(
                "setting schema_registry.url: found a user or password in it, wanted an address alone; \
                 set schema_registry.basic_auth_user_info",
            ));
        }
        let user_info = &self.schema_registry.basic_auth_user_info;
        if !user_info.is_empty() && !user_info.contains(':') {
            // The value is a secret, so it is not shown.
            return Err(Error::invalid(
                "setting schema_registry.basic_auth_user_info: found text without a colon, wanted user:password",
            ));
        }
        if !user_info.is_empty() && !self.schema_registry.bearer_auth_token.is_empty() {
            return Err(Error::invalid(
                "setting schema_registry.bearer_auth_token: found one beside basic_auth_user_info, wanted one of both; remove the other",
            ));
        }
        if self.http.tls_certificate_file.as_os_str().is_empty()
            != self.http.tls_key_file.as_os_str().is_empty()
        {
            return Err(Error::invalid(
                "settings http.tls_certificate_file and http.tls_key_file: found one of them, wanted both or none",
            ));
        }
        Ok(())
    }

    /// Where other instances and the command line find this one: what is advertised, or where it listens if that is one address.
    pub fn application_server(&self) -> String {
        let HttpSettings { bind, advertised, .. } = &self.http;
        let is_address =
            |bind: &std::net::SocketAddr| bind.port() != 0 && !bind.ip().is_unspecified();
        match bind.parse::<std::net::SocketAddr>() {
            _ if !advertised.is_empty() => advertised.clone(),
            Ok(bind) if is_address(&bind) => bind.to_string(),
            _ => String::new(),
        }
    }

    fn group_instance_id(&self) -> Option<String> {
        given(&self.kafka.group_instance_id)
    }
}

/// A text that may be left empty.
fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_engines_and_valid() {
        let settings = Settings::default();
        settings.validate().unwrap();
        let config = settings.streams_config("manager-assignment");
        let mut wanted = StreamsConfig::new("manager-assignment", "127.0.0.1:9092");
        wanted.application_server = "127.0.0.1:9464".to_owned();
        assert_eq!(config, wanted);
    }

    #[test]
    fn wrong_values_name_setting_found_and_wanted() {
        let mut settings = Settings::default();
        settings.http.bind = "localhost".into();
        let text = settings.validate().unwrap_err().to_string();
        assert!(text.starts_with("setting http.bind: found \"localhost\", wanted"), "{text}");
        let mut settings = Settings::default();
        settings.manager_assignment.punctuation_interval_ms = 0;
        let text = settings.validate().unwrap_err().to_string();
        assert!(text.starts_with("setting manager_assignment.punctuation_interval_ms"), "{text}");
        let mut settings = Settings::default();
        settings.schema_registry.basic_auth_user_info = "hunter2".into();
        assert!(!settings.validate().unwrap_err().to_string().contains("hunter2"));
        let mut settings = Settings::default();
        settings.schema_registry.url = "http://me:hunter2@host".into();
        assert!(!settings.validate().unwrap_err().to_string().contains("hunter2"));
    }
}
