//! Deterministic simulation of kstreams: the real runtime, with all its threads, on a cluster and disks in memory, where one seed decides
//! the schedule and everything that goes wrong.
//!
//! ```text
//! run ─ director ─ hosts ─ KafkaStreams (control, stream, restore, housekeeping threads as fibers)
//!                              │ ports: every call may pause, fail, or be the last
//!                            world ─ broker (logs, transactions, group) · disks · faults · history
//! ```
//!
//! Found elsewhere and taken over: one generator behind everything that could be random (FoundationDB, TigerBeetle), and tasks that switch
//! only at known points (shuttle, madsim). The engine is not written as steps: its threads run as they are, as coroutines that switch where
//! they call a port or wait for each other (`Threads`), so that a commit can be overtaken between any two of its calls.

mod broker;
mod disk;
mod faults;
mod fibers;
mod history;
mod host;
mod markers;
mod ports;
mod run;
mod scenario;
mod topologies;
mod world;

pub use run::{Outcome, run};
pub use scenario::on_cluster;
