//! The topology contractor-access: wiring only. Its rules and protocol are described in [`rules`].
//!
//! Five subtopologies, so that each scales by its own key: three that only re-key (`request-events`, `workflow-events`,
//! `security-events`), one by request and one by contractor.

pub mod by_contractor;
pub mod by_request;
mod edges;
mod processors;
pub mod queries;
pub mod rules;
pub mod settings;
mod stores;

use std::sync::Arc;

use kstreams::serdes::DefaultSerde;
use kstreams::{Consumed, Error, KStream, Named, Produced, Repartitioned, Result, StreamsBuilder};

use crate::codec::internal;
use crate::edge::{Edge, Kept};
use crate::events::{RequestEvent, SecurityEvent, Serdes, TopicEvent, WorkflowEvent};
use processors::{ByContractor, ByRequest, Outcome};
use rules::{ContractorId, ContractorInput, RequestId, RequestInput};
use settings::Settings;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "contractor-access";

/// The repartition topic keyed by request.
const BY_REQUEST: &str = "by-request";
/// The repartition topic keyed by contractor.
const BY_CONTRACTOR: &str = "by-contractor";

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

    let by_request = builder
        .stream_with(
            &[RequestEvent::TOPIC],
            Consumed::with(String::serde(), Kept::serde(events.requests.clone())),
        )
        .process_named(|| Edge::new(NAME, edges::of_request), &Named::new("requests-in"), &[])
        .repartition(
            Repartitioned::with(RequestId::serde(), internal())
                .with_name(BY_REQUEST)
                .with_number_of_partitions(partitions),
        );
    builder
        .stream_with(
            &[WorkflowEvent::TOPIC],
            Consumed::with(String::serde(), Kept::serde(events.workflow.clone())),
        )
        .process_named(|| Edge::new(NAME, edges::of_workflow), &Named::new("workflow-in"), &[])
        .repartition_to(
            BY_REQUEST,
            Produced::with(RequestId::serde(), internal::<RequestInput>())
                .with_name("workflow-to-request"),
        );

    let request_settings = settings.clone();
    let of_request = by_request.process_named(
        move || ByRequest::new(request_settings.clone()),
        &Named::new("request-access"),
        stores::REQUEST_STORES,
    );
    publish(&of_request, events, "denials", "denials-audit");
    let by_contractor = of_request
        .flat_map(|id, outcome| match outcome {
            Outcome::Tell(input) => Some((id, input)),
            Outcome::Access(_) | Outcome::Audit(_) => None,
        })
        .repartition(
            Repartitioned::with(ContractorId::serde(), internal())
                .with_name(BY_CONTRACTOR)
                .with_number_of_partitions(partitions),
        );
    builder
        .stream_with(
            &[SecurityEvent::TOPIC],
            Consumed::with(String::serde(), Kept::serde(events.security.clone())),
        )
        .process_named(|| Edge::new(NAME, edges::of_security), &Named::new("security-in"), &[])
        .repartition_to(
            BY_CONTRACTOR,
            Produced::with(ContractorId::serde(), internal::<ContractorInput>())
                .with_name("security-to-contractor"),
        );

    let decisions = by_contractor.process_named(
        move || ByContractor::new(settings.clone()),
        &Named::new("contractor-access"),
        stores::CONTRACTOR_STORES,
    );
    publish(&decisions, events, "decisions", "decisions-audit");
    Ok(())
}

/// Writes what is to be published, through sinks of these names.
fn publish(stream: &KStream<ContractorId, Outcome>, events: &Serdes, access: &str, audit: &str) {
    stream
        .flat_map(|id: ContractorId, outcome| match outcome {
            Outcome::Access(event) => Some((id.to_string(), event)),
            Outcome::Audit(_) | Outcome::Tell(_) => None,
        })
        .to_with(
            SecurityEvent::TOPIC,
            Produced::with(String::serde(), events.security.clone()).with_name(access),
        );
    stream
        .flat_map(|_, outcome| match outcome {
            Outcome::Audit(event) => Some((event.key().unwrap_or_default(), event)),
            Outcome::Access(_) | Outcome::Tell(_) => None,
        })
        .to_with(
            crate::events::AuditEvent::TOPIC,
            Produced::with(String::serde(), events.audit.clone()).with_name(audit),
        );
}
