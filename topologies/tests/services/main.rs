//! What surrounds the topologies, proven by the program itself on real services: queries, reference data, the ClickHouse sink.
//! Run by `make test`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clickhouse;
mod clickhouse_server;
mod engines;
#[path = "../broker/load.rs"]
#[allow(dead_code, reason = "shared with the claims about manager-assignment")]
mod load;
mod proxy;
mod queries;
mod reference;
#[path = "../broker/site.rs"]
#[allow(dead_code, reason = "shared with the claims about manager-assignment")]
mod site;
mod whole_story;
