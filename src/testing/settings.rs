//! What a test may set of its driver.

use std::sync::Arc;
use std::time::Duration;

use crate::dlq::ErrorHandlers;
use crate::store::{Engines, MemoryEngines};
use crate::telemetry::Tracing;
use crate::time::Timestamp;

/// Settings of a [`TopologyTestDriver`](super::TopologyTestDriver).
pub struct TestSettings {
    /// `application.id`.
    pub application_id: String,
    /// Where the wall clock stands at the start.
    pub start: Timestamp,
    /// Handlers of bad records.
    pub handlers: ErrorHandlers,
    /// Where stores live; in memory if not given.
    pub engines: Arc<dyn Engines>,
    /// The shortest wall-clock time between two searches for results of closed windows; none if not given, where [`KafkaStreams`](crate::KafkaStreams) has one second.
    pub emit_interval: Duration,
    /// As [`StreamsConfig::idle_timeout`](crate::StreamsConfig::idle_timeout); input is silent whenever the driver is not piping.
    pub idle_timeout: Option<Duration>,
    /// As [`StreamsConfig::future_skew_max`](crate::StreamsConfig::future_skew_max), against the driver's clock.
    pub future_skew_max: Option<Duration>,
    /// Whether asynchronous calls are waited for before what was piped counts as processed; otherwise
    /// [`complete_calls`](super::TopologyTestDriver::complete_calls) does it.
    pub waits_for_calls: bool,
    /// As [`StreamsConfig::record_cache_bytes_max`](crate::StreamsConfig::record_cache_bytes_max); what is held back comes out with the
    /// commit after each input. 0 if not given: a test sees every update.
    pub record_cache_bytes_max: usize,
    /// How many partitions the sinks' topics have, as partitioners are told; what they choose is read from one queue all the same.
    pub output_partitions: i32,
    /// Whether and how records are traced; not if not given.
    pub tracing: Option<Tracing>,
}

impl Default for TestSettings {
    fn default() -> Self {
        Self {
            application_id: "test".to_owned(),
            start: Timestamp::from_millis(0),
            handlers: ErrorHandlers::default(),
            engines: Arc::new(MemoryEngines),
            emit_interval: Duration::ZERO,
            idle_timeout: None,
            future_skew_max: None,
            waits_for_calls: true,
            record_cache_bytes_max: 0,
            output_partitions: 1,
            tracing: None,
        }
    }
}
