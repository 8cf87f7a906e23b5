//! contractor-access and hr-documents on real tasks: events in, events out, in several orders of arrival.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod access_model;
mod access_properties;
mod access_world;
mod events;
mod hr;
mod hr_model;
mod hr_properties;
mod hr_world;
