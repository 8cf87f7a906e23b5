//! The DSL: streams and tables, as Kafka Streams spells them.
//!
//! Start with [`StreamsBuilder`]. Every call adds a node to a logical plan; [`StreamsBuilder::build`] writes the plan into a
//! [`Topology`](crate::topology::Topology), in the order and with the names that Java would use. Cold. Deliberately absent: Kafka, and any state but the plan.

pub mod aggregates;
mod async_map;
mod branched;
mod builder;
mod cogrouped;
mod cogrouped_windows;
mod count_windows;
mod deduplicate;
mod expiring;
mod foreign_key_join;
mod foreign_key_plan;
mod global_table;
mod grouped;
mod grouped_table;
mod join_windows;
mod optimise;
mod params;
mod plan;
mod printed;
mod process;
mod repartition;
mod session_windowed;
mod stream;
mod stream_global_join;
mod stream_join;
mod stream_joined;
mod stream_table_join;
mod suppress;
mod table;
mod table_join;
mod to_table;
mod windowed;
mod windowed_build;

pub use async_map::AsyncOptions;
pub use branched::BranchedKStream;
pub use builder::StreamsBuilder;
pub use cogrouped::CogroupedKStream;
pub use cogrouped_windows::{SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
pub use count_windows::CountWindowedKStream;
pub use foreign_key_join::TableJoined;
pub use global_table::GlobalKTable;
pub use grouped::KGroupedStream;
pub use grouped_table::KGroupedTable;
pub use join_windows::JoinWindows;
pub use params::{Consumed, Grouped, Joined, Materialized, Named, Produced, Repartitioned};
pub use printed::Printed;
pub use session_windowed::SessionWindowedKStream;
pub use stream::KStream;
pub use stream_joined::StreamJoined;
pub use suppress::{
    AnyBufferConfig, BufferConfig, EagerBufferConfig, StrictBufferConfig, Suppressed,
};
pub use table::KTable;
pub use windowed::{TimeWindowedKStream, WindowedBy};
