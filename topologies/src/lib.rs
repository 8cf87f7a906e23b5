//! `aggregator`: the stream processor of a service aggregator. See [`events`] for the contracts.

pub mod events;
pub mod manager_assignment;
pub mod schemas;
