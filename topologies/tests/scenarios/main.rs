//! The three scenarios of the business, each from its first event to its last effect, by the program itself and all of its topologies at once.
//!
//! Everything around it is real or of others: Kafka and registry, events of Python's confluent-kafka, an SMTP server (aiosmtpd), ClickHouse.
//! Telegram and SMS are servers of the test that behave as the providers do. Run by `make test`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../services/clickhouse_server.rs"]
mod clickhouse_server;
mod contractor_assigned;
mod outages;
mod providers;
#[path = "../common/python.rs"]
mod python;
mod request_filed;
#[path = "../broker/site.rs"]
#[allow(dead_code, reason = "shared with the claims about manager-assignment")]
mod site;
#[path = "../common/smtp.rs"]
mod smtp;
mod stage;
mod work_completed;
