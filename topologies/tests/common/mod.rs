//! What several tests need: small worlds of events around one topology.

pub(crate) mod manager_assignment;
