//! What several tests need: small worlds of events around one topology.

#![allow(clippy::unwrap_used)] // test code, though not inside #[test] functions

pub(crate) mod manager_assignment;
