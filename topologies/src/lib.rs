//! `aggregator`: the stream processor of a service aggregator. See [`events`] for the contracts.

pub mod audit_fanout;
mod business;
pub mod catalog;
pub mod cli;
pub mod clickhouse;
mod codec;
pub mod commands;
pub mod contractor_access;
pub mod delivery;
pub mod dev;
mod edge;
pub mod events;
pub mod health;
pub mod hr_documents;
pub mod http;
pub mod logging;
pub mod manager_assignment;
pub mod notifications;
mod process;
pub mod queries;
pub mod recipients;
pub mod reference;
pub mod schemas;
pub mod settings;
pub mod signals;
pub mod simulate;
pub mod topics;
