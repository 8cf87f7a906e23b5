//! The Kafka ports on librdkafka: against its mock cluster, and (feature `broker-tests`) against a real one.

#[cfg(feature = "broker-tests")]
mod broker;
mod common;
#[cfg(feature = "broker-tests")]
mod figures;
#[cfg(feature = "broker-tests")]
mod membership;
mod mock;
#[cfg(feature = "broker-tests")]
mod transactions;
