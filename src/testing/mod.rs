//! Tests of topologies without Kafka: real tasks, a clock that stands still, topics in memory.
//!
//! [`TopologyTestDriver`] processes every input to completion, results of internal topics included, before it returns.

mod calls;
mod driver;
mod faults;
mod reopen;
mod settings;
mod topics;

pub use driver::TopologyTestDriver;
pub use settings::TestSettings;
pub use topics::{TestInputTopic, TestOutputTopic, TestRecord};
