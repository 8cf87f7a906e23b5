//! What several tests need: small worlds of events around one topology.

pub mod manager_assignment;
