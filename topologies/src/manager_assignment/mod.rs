//! The topology manager-assignment: wiring only. Its rules and protocol are described in [`rules`].
//!
//! Five subtopologies, so that each scales by its own key: two that only re-key (`request-events`, `workflow-events`), one by
//! request, one by manager and one by region. The circle between "by request" and "by region" is two repartition topics.

pub mod by_region;
pub mod by_request;
pub mod directory;
mod edges;
mod processors;
pub mod queries;
pub mod region_state;
pub mod rules;
mod serdes;
pub mod settings;
mod stores;

#[cfg(test)]
mod by_region_tests;
#[cfg(test)]
mod driver_properties;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sample;

use std::sync::Arc;

use kstreams::serdes::{DefaultSerde, option_serde};
use kstreams::{Consumed, Error, Named, Produced, Repartitioned, Result, StreamsBuilder};

use crate::codec::internal;
use crate::events::{Serdes, known};
use processors::{ByRegion, ByRequest, Decision, Directory};
use rules::{RegionInput, RequestId, RequestInput};
use settings::Settings;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "manager-assignment";

/// The repartition topic keyed by request.
const BY_REQUEST: &str = "by-request";
/// The repartition topic keyed by region.
const BY_REGION: &str = "by-region";

/// Adds the topology to a builder.
///
/// # Errors
/// `Invalid` for settings that cannot be.
pub fn add_to(builder: &StreamsBuilder, events: &Serdes, settings: &Settings) -> Result<()> {
    settings.validate().map_err(Error::invalid)?;
    let partitions = i32::try_from(settings.internal_partitions)
        .map_err(|_| Error::invalid("internal_partitions: found more than 2147483647"))?;
    let settings = Arc::new(settings.clone());
    stores::add_stores(builder);

    let to_request = || Produced::with(RequestId::serde(), internal::<RequestInput>());
    let to_region = || Produced::with(String::serde(), internal::<RegionInput>());

    let requests = builder
        .stream_with(&["request-events"], Consumed::with(String::serde(), events.requests.clone()))
        .flat_map(|_, event| keyed(known(NAME, event).and_then(edges::of_request)));
    builder
        .stream_with(&["workflow-events"], Consumed::with(String::serde(), events.workflow.clone()))
        .flat_map(|_, event| keyed(known(NAME, event).and_then(edges::of_workflow)))
        .repartition_to(BY_REQUEST, to_request().with_name("closings"));

    let by_request = requests.repartition(
        Repartitioned::with(RequestId::serde(), internal())
            .with_name(BY_REQUEST)
            .with_number_of_partitions(partitions),
    );
    let request_settings = settings.clone();
    let by_region = by_request
        .process_named(
            move || ByRequest::new(request_settings.clone()),
            &Named::new("request-regions"),
            stores::REQUEST_STORES,
        )
        .repartition(
            Repartitioned::with(String::serde(), internal())
                .with_name(BY_REGION)
                .with_number_of_partitions(partitions),
        );

    let managers = option_serde(events.managers.clone());
    builder
        .stream_with(&["managers"], Consumed::with(String::serde(), managers))
        .process_named(Directory::default, &Named::new("directory"), stores::DIRECTORY_STORES)
        .repartition_to(BY_REGION, to_region().with_name("directory-changes"));

    let decisions = by_region.process_named(
        move || ByRegion::new(settings.clone()),
        &Named::new("region-managers"),
        stores::REGION_STORES,
    );
    decisions
        .flat_map(|id: RequestId, decision| match decision {
            Decision::Publish(event) => Some((id.to_string(), event)),
            Decision::Tell(_) => None,
        })
        .to_with(
            "workflow-events",
            Produced::with(String::serde(), events.workflow.clone()).with_name("decisions"),
        );
    decisions
        .flat_map(|id, decision| match decision {
            Decision::Publish(_) => None,
            Decision::Tell(input) => Some((id, input)),
        })
        .repartition_to(BY_REQUEST, to_request().with_name("returns"));
    Ok(())
}

fn keyed(input: Option<RequestInput>) -> Option<(RequestId, RequestInput)> {
    input.map(|input| (input.request_id(), input))
}
