//! `kstreams`: Kafka Streams for Rust, on librdkafka and RocksDB.

mod config;
pub mod dlq;
pub mod dsl;
mod error;
mod ids;
pub mod kafka;
mod nullable;
mod operators;
pub mod processor;
mod record;
mod runtime;
pub mod serdes;
pub mod store;
mod task;
pub mod telemetry;
pub mod testing;
mod time;
pub mod topology;

pub use config::{ProcessingGuarantee, StreamsConfig};
pub use dsl::{
    Consumed, GlobalKTable, Grouped, Joined, KGroupedStream, KStream, KTable, Materialized, Named,
    Produced, Repartitioned, StreamsBuilder,
};
pub use error::{Error, ErrorKind, Result};
pub use ids::{TaskId, TopicPartition};
pub use nullable::Nullable;
pub use operators::Change;
pub use processor::{
    Processor, ProcessorContext, ProcessorSupplier, PunctuationType, PunctuatorId, StoreHandle,
};
pub use record::{Header, Headers, RawRecord, Record, RecordMetadata};
pub use runtime::{Components, Handle, KafkaStreams, State, TaskInfo, TaskState, client_settings};
pub use time::{Clock, MockClock, SystemClock, Timestamp};
pub use topology::{Stores, Topology};
