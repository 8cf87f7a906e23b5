//! The topology manager-assignment; its rules and protocol are described in [`rules`].

pub mod by_region;
pub mod by_request;
pub mod directory;
pub mod region_state;
pub mod rules;
pub mod settings;

#[cfg(test)]
mod by_region_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sample;
