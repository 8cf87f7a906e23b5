//! What integration tests on a real broker share.
//!
//! `make test` starts Kafka and a schema registry and names them in the environment; the functions
//! here find them, make topics with names of their own, and look at topics from outside. The clients
//! are plain rdkafka and share no code with the engine, so that a mistake in the engine's client
//! cannot hide itself.
//!
//! Failures panic with what was expected, because a test can do nothing else with them. Deadlines
//! are generous: they end a hung test, they do not measure.

mod broker;
mod cluster;
mod process;
mod wait;

pub use broker::{
    Follower, Message, Outcome, Topic, bootstrap, consumer, create_topic, create_topics,
    delete_topics, produce, producer, read_committed, registry_url, send, topics, unique, unread,
};
pub use cluster::Cluster;
pub use process::{Process, Signal, prometheus_folder, python, run_python};
pub use wait::{DEADLINE, wait_until};
