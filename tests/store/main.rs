//! State stores: one contract for every engine, a model, and crashes.

mod conformance;
#[cfg(feature = "rocksdb")]
mod crash;
mod engines;
mod model;
