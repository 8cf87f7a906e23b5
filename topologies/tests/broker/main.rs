//! The claims about the topologies, proven by the program itself on a real Kafka and registry. Run by `make test`.
//!
//! The program runs as a process of its own; what it wrote is read by a plain client, committed records only.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exactly_once;
mod foreign;
mod group;
mod ledger;
mod load;
#[path = "../common/python.rs"]
mod python;
mod security;
mod site;
mod startup;
mod story;
