//! Topologies through the test driver: real tasks, no Kafka.

#![allow(missing_docs, clippy::unwrap_used)]

mod aggregates;
mod async_map;
mod beyond;
mod cogroup;
mod context;
mod dead_letters;
mod describe;
mod foreign_key;
mod headers;
mod join_model;
mod lifecycle;
mod operators;
mod patterns;
mod processors;
mod record_cache;
mod stream_joins;
mod suppress;
mod tracing;
mod ttl;
mod versioned;
mod windows;
mod wrapper;
