//! Kafka Streams for Rust: topologies of sources, processors and sinks with changelogged state stores, exactly once, on
//! librdkafka and RocksDB. Names and semantics are those of Kafka Streams 4.3.1; where something differs, its doc says why.
//!
//! A topology is built with [`StreamsBuilder`] (or by hand, with [`Topology`]), run by [`KafkaStreams`], and tested without Kafka by
//! [`testing::TopologyTestDriver`]:
//!
//! ```
//! use kstreams::testing::TopologyTestDriver;
//! use kstreams::{StreamsBuilder, Timestamp};
//!
//! # fn main() -> kstreams::Result<()> {
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream::<String, String>("lines")
//!     .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone())
//!     .count()
//!     .to_stream()
//!     .to("counts");
//!
//! let driver = TopologyTestDriver::new(builder.build()?)?;
//! let lines = driver.input_topic::<String, String>("lines");
//! lines.pipe_at("any".into(), "to be or not to be".into(), Timestamp::from_millis(0))?;
//! let counts = driver.output_topic::<String, i64>("counts").read_key_values()?;
//! assert_eq!(counts.last(), Some(&("be".to_owned(), 2)));
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`dsl`] → [`topology`] → [`processor`] → `task` → `runtime`; [`store`], [`serdes`] and [`kafka`] beside them.
//! ARCHITECTURE.md is the map.

mod config;
pub mod connect;
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
mod windowed;

pub use config::{GroupProtocol, ProcessingGuarantee, StreamsConfig, TopologyOptimization};
pub use dsl::aggregates;
pub use dsl::{
    AsyncOptions, BranchedKStream, BufferConfig, CogroupedKStream, Consumed, CountWindowedKStream,
    EagerBufferConfig, GlobalKTable, Grouped, JoinWindows, Joined, KGroupedStream, KGroupedTable,
    KStream, KTable, Materialized, Named, Printed, Produced, Repartitioned,
    SessionWindowedCogroupedKStream, SessionWindowedKStream, StreamJoined, StreamsBuilder,
    StrictBufferConfig, Suppressed, TableJoined, TimeWindowedCogroupedKStream, TimeWindowedKStream,
    WindowedBy,
};
pub use error::{Error, ErrorKind, Result};
pub use ids::{TaskId, TopicPartition};
pub use nullable::Nullable;
pub use operators::{
    Change, EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Windows,
};
pub use processor::{
    FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Processor, ProcessorContext,
    ProcessorSupplier, PunctuationType, PunctuatorId, StoreHandle,
};
pub use record::{Header, Headers, RawRecord, Record, RecordMetadata};
pub use runtime::{
    Components, Handle, HostInfo, KafkaStreams, KeyQueryMetadata, LagInfo, RestoreProgress,
    Scheduler, State, StoreQueryParameters, StreamsMetadata, TaskInfo, TaskState, Threads,
    client_settings,
};
pub use store::{QueryableStoreType, QueryableStoreTypes};
pub use time::{Clock, MockClock, SystemClock, Timestamp};
pub use topology::{AutoOffsetReset, Stores, TopicPattern, Topology};
pub use windowed::{Window, Windowed};
