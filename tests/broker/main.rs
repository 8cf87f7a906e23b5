//! Claims about a real Kafka cluster and schema registry. Run by `make test`.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

mod aborts;
mod async_map;
mod fencing;
mod interop;
mod patterns;
mod queries;
mod reader;
mod rebalance;
mod restore;
mod runtime;
mod source_changelog;
mod standby;
mod stream_time;
mod watched;
