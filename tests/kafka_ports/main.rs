//! The Kafka ports on librdkafka: against its mock cluster, and (feature `broker-tests`) against a real one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "broker-tests")]
mod broker;
mod common;
#[cfg(feature = "broker-tests")]
mod figures;
#[cfg(feature = "broker-tests")]
mod membership;
mod mock;
mod sink;
#[cfg(feature = "broker-tests")]
mod transactions;
