//! Runs cases in the format `kstreams-case/1`: a topology as data, inputs, and what Kafka Streams 4.3.1 makes of them.

pub mod build;
mod cogrouped;
pub mod expression;
pub mod files;
mod key;
#[cfg(feature = "rocksdb")]
pub mod on_disk;
mod processors;
pub mod run;
mod streams;
mod tables;
pub mod value;
mod windows;
