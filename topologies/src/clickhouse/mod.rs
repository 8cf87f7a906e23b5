//! The ClickHouse sink: every record of `audit-events` becomes one row, whatever is killed meanwhile.
//!
//! ```text
//! audit-events ──► rows of JSON ──► INSERT over HTTP ──► offsets committed
//! ```
//!
//! A component of `aggregator run` with a consumer group of its own; it knows no topology. Rows carry topic, partition and offset of
//! their record. Offsets are committed after the rows are in, so nothing is lost; and where it is not certain whether rows are in (after a start, a
//! rebalance, a failed insert), it asks for their offsets first and inserts the missing ones only, so nothing is doubled, on servers of any
//! age. What two writers might still insert twice in the same moment, the table's engine merges into one, and the views read as one.

mod client;
mod metrics;
mod rows;
mod schema;
pub mod settings;
mod sink;

pub use client::ClickHouse;
pub use schema::{Applied, MIGRATIONS, Migration, apply};
pub use settings::Settings;
pub use sink::Sink;

/// The component's name, and its consumer group unless a prefix is set.
pub const NAME: &str = "clickhouse-sink";
/// What it reads.
pub const TOPIC: &str = "audit-events";
/// What it writes.
pub const TABLE: &str = "audit_events";
