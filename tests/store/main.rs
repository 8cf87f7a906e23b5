//! State stores: one contract for every engine, a model, and crashes.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

mod conformance;
#[cfg(feature = "rocksdb")]
mod crash;
mod engines;
mod model;
mod ttl;
mod versioned;
mod views;
mod window_views;
mod windows;
