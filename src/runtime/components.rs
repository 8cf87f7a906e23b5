//! What a client is put together from: its parts, and what settings mean to them.

use std::sync::Arc;
use std::time::Duration;

use super::threads::Threads;
use crate::config::StreamsConfig;
use crate::dlq::ErrorHandlers;
use crate::error::Result;
use crate::kafka::KafkaClients;
use crate::kafka::librdkafka::{ClientSettings, LibrdkafkaClients};
use crate::store::{CacheBudget, Engines};
use crate::task::TaskSettings;
use crate::telemetry::Tracing;
use crate::time::{Clock, SystemClock};

/// Results of closed windows are looked for at most this often. Source: `EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX`.
const EMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of a client that are not plain settings.
#[derive(Clone)]
pub struct Components {
    /// Makes the Kafka clients.
    pub clients: Arc<dyn KafkaClients>,
    /// Where persistent stores live.
    pub engines: Arc<dyn Engines>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What becomes of bad records.
    pub handlers: ErrorHandlers,
    /// Where threads come from.
    pub threads: Threads,
    /// Whether and how records are traced; `None` without further ado.
    pub tracing: Option<Tracing>,
}

impl Components {
    /// librdkafka, RocksDB (without the feature `rocksdb`: memory), the system's clock, and dead letters for every bad record.
    ///
    /// # Errors
    /// `Invalid` for client settings that librdkafka does not know.
    pub fn from_config(config: &StreamsConfig) -> Result<Self> {
        let processing_retries = config.processing_retries;
        let handlers = ErrorHandlers { processing_retries, ..ErrorHandlers::default() };
        Ok(Self {
            clients: Arc::new(LibrdkafkaClients::new(client_settings(config))?),
            engines: engines(config)?,
            clock: Arc::new(SystemClock::default()),
            handlers,
            threads: Threads::default(),
            tracing: None,
        })
    }
}

#[cfg(feature = "rocksdb")]
fn engines(config: &StreamsConfig) -> Result<Arc<dyn Engines>> {
    use crate::store::rocksdb::{RocksDbEngines, RocksDbOptions};
    let memory_bytes_max = config.rocksdb_memory_bytes_max;
    let options = RocksDbOptions { memory_bytes_max, memtable_bytes_max: memory_bytes_max / 2 };
    Ok(Arc::new(RocksDbEngines::new(&options)))
}

#[cfg(not(feature = "rocksdb"))]
fn engines(_: &StreamsConfig) -> Result<Arc<dyn Engines>> {
    Ok(Arc::new(crate::store::MemoryEngines))
}

/// The client settings that a configuration means.
pub fn client_settings(config: &StreamsConfig) -> ClientSettings {
    let mut settings = ClientSettings::new(&config.bootstrap_servers, &config.application_id);
    if !config.client_id.is_empty() {
        settings.client_id.clone_from(&config.client_id);
    }
    settings.group_instance_id.clone_from(&config.group_instance_id);
    settings.group_protocol = config.group_protocol;
    settings.session_timeout = config.session_timeout;
    settings.heartbeat_interval = config.heartbeat_interval;
    settings.exactly_once = config.is_exactly_once();
    settings.application_server.clone_from(&config.application_server);
    settings.common.clone_from(&config.client);
    settings.consumer.clone_from(&config.consumer);
    settings.producer.clone_from(&config.producer);
    if config.is_exactly_once() {
        let timeout = config.transaction_timeout.as_millis().to_string();
        settings.producer.insert("transaction.timeout.ms".to_owned(), timeout);
    }
    settings
}

pub(super) fn task_settings(config: &StreamsConfig, components: &Components) -> TaskSettings {
    TaskSettings {
        application_id: config.application_id.as_str().into(),
        max_task_idle: config.max_task_idle,
        record_cache: CacheBudget::new(0),
        row_cache_bytes_max: config.row_cache_bytes_max,
        handlers: Arc::new(components.handlers.clone()),
        emit_interval: EMIT_INTERVAL,
        idle_timeout: config.idle_timeout,
        future_skew_max: config.future_skew_max,
        clock: components.clock.clone(),
        // Each stream thread has its own.
        wake: Arc::new(|| ()),
        writer: None,
        engines: components.engines.clone(),
        tracing: components.tracing.clone(),
    }
}

/// A short name of a text, the same over processes and builds (FNV-1a).
pub(super) fn fingerprint(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}
