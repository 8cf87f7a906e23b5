//! The local mode, `aggregator dev`: broker, registry, simulator and topology in one process, all in memory.
//!
//! ```text
//! simulate ──► embedded broker ◄──► manager-assignment        registry: the contracts over HTTP, for all of them
//!                    │                                        and for whoever joins in
//!                    └──► watch ──► tally ──► view, summary
//! ```
//!
//! The embedded broker is librdkafka's mock cluster. It ignores transactions, so the topology runs at-least-once here; it
//! keeps 5 MiB or 100,000 records a partition; and nothing survives the process. `watch` is a reader like any other, so
//! that the figures are what is on the topics and not what somebody meant to put there.

mod latency;
mod messages;
mod registry;
mod server;
mod session;
mod standins;
mod summary;
mod tally;
mod view;
mod watch;

use std::path::PathBuf;

use clap::Args;

use crate::simulate::TrafficArgs;

pub use session::run;
#[cfg(test)]
pub(crate) use standins::StandIns;

/// Arguments of `aggregator dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    #[command(flatten)]
    /// What is simulated.
    pub traffic: TrafficArgs,
    /// Stop after so many seconds of traffic, with a summary; without it, Ctrl-C does
    #[arg(long, value_name = "NUMBER")]
    pub seconds: Option<u64>,
    /// Write the summary as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}
