//! `kstreams`: Kafka Streams for Rust, on librdkafka and RocksDB.

mod error;
mod ids;
mod record;
pub mod serdes;
pub mod store;
mod time;

pub use error::{Error, ErrorKind, Result};
pub use ids::{TaskId, TopicPartition};
pub use record::{Header, Headers, RawRecord, Record, RecordMetadata};
pub use time::{Clock, MockClock, SystemClock, Timestamp};
