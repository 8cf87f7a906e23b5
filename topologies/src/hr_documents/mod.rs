//! The topology hr-documents: wiring only. Its rules and protocol are described in [`rules`].
//!
//! Seven subtopologies, so that each scales by its own key: four that only re-key (`request-events`, `workflow-events`,
//! `security-events`, `hr-events`), one by request, one by document and one by contractor. The circle between "by request" and "by
//! document" is two repartition topics.

pub mod by_document;
pub mod by_request;
pub mod contracts;
mod edges;
mod processors;
pub mod queries;
pub mod rules;
pub mod settings;
mod stores;

use std::sync::Arc;

use kstreams::processor::ProcessorSupplier;
use kstreams::serdes::{DefaultSerde, Serde};
use kstreams::{
    Consumed, Error, KStream, Named, Produced, Record, Repartitioned, Result, StreamsBuilder,
};

use crate::business;
use crate::codec::internal;
use crate::edge::{Edge, Kept, Letter};
use crate::events::{HrEvent, Serdes, TopicEvent};
use processors::{ByDocument, ByRequest, Contracts, Outcome};
use rules::{Cause, ContractorId, DocumentInput, RequestId, RequestInput};
use settings::Settings;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "hr-documents";

/// The repartition topic keyed by request.
const BY_REQUEST: &str = "by-request";
/// The repartition topic keyed by document.
const BY_DOCUMENT: &str = "by-document";
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
    let to_request = || Produced::with(RequestId::serde(), internal::<RequestInput>());

    let by_request =
        read(builder, &events.requests, "requests-in", || Edge::new(NAME, edges::of_request))
            .repartition(
                Repartitioned::with(RequestId::serde(), internal())
                    .with_name(BY_REQUEST)
                    .with_number_of_partitions(partitions),
            );
    read(builder, &events.workflow, "workflow-in", || Edge::new(NAME, edges::of_workflow))
        .repartition_to(BY_REQUEST, to_request().with_name("workflow-to-request"));
    let contractors = read(builder, &events.security, "security-in", || {
        Edge::<_, ContractorId, Cause>::new(NAME, edges::of_security)
    })
    .repartition(
        Repartitioned::with(ContractorId::serde(), internal())
            .with_name(BY_CONTRACTOR)
            .with_number_of_partitions(partitions),
    );

    let request_settings = settings.clone();
    let paperwork = by_request.process_named(
        move || ByRequest::new(request_settings.clone()),
        &Named::new(ByRequest::NODE),
        stores::REQUEST_STORES,
    );
    publish(&paperwork, events, "documents-out");
    refuse(&paperwork, "refused-completions");
    let by_document = paperwork
        .flat_map(|(), outcome| match outcome {
            Outcome::TellDocument(id, input) => Some((id.as_bytes().to_vec(), input)),
            _ => None,
        })
        .repartition(
            Repartitioned::with(<Vec<u8>>::serde(), internal())
                .with_name(BY_DOCUMENT)
                .with_number_of_partitions(partitions),
        );
    let statuses = settings.clone();
    read(builder, &events.hr, "hr-in", || Edge::new(NAME, edges::of_hr))
        .flat_map(move |id, (input, status): (DocumentInput, String)| {
            if matches!(input, DocumentInput::Paid(_)) && statuses.has_failed(&status) {
                business::unmatched("payment_failed");
                return None;
            }
            Some((id.as_bytes().to_vec(), input))
        })
        .repartition_to(
            BY_DOCUMENT,
            Produced::with(<Vec<u8>>::serde(), internal()).with_name("hr-to-document"),
        );

    let documents = by_document.process_named(
        move || ByDocument::new(settings.clone()),
        &Named::new(ByDocument::NODE),
        stores::DOCUMENT_STORES,
    );
    documents
        .flat_map(|(), outcome| match outcome {
            Outcome::TellRequest(id, input) => Some((id, input)),
            _ => None,
        })
        .repartition_to(BY_REQUEST, to_request().with_name("document-to-request"));
    refuse(&documents, "refused-payments");

    let contracts = contractors.process_named(
        Contracts::default,
        &Named::new("contracts"),
        stores::CONTRACT_STORES,
    );
    publish(&contracts, events, "contracts-out");
    Ok(())
}

/// Reads a topic through its edge.
fn read<E, K, V, S>(
    builder: &StreamsBuilder,
    serde: &Serde<E>,
    name: &str,
    edge: S,
) -> KStream<K, V>
where
    E: TopicEvent + Clone + Send + Sync + 'static,
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    S: ProcessorSupplier<String, Kept<E>, K, V>,
{
    builder
        .stream_with(&[E::TOPIC], Consumed::with(String::serde(), Kept::serde(serde.clone())))
        .process_named(edge, &Named::new(name), &[])
}

/// Writes what is to be published.
fn publish(stream: &KStream<(), Outcome>, events: &Serdes, name: &str) {
    stream
        .flat_map(|(), outcome| match outcome {
            Outcome::Publish(key, event) => Some((key, event)),
            _ => None,
        })
        .to_with(
            HrEvent::TOPIC,
            Produced::with(String::serde(), events.hr.clone()).with_name(name),
        );
}

/// Writes dead letters.
fn refuse(stream: &KStream<(), Outcome>, name: &str) {
    stream
        .flat_map(|(), outcome| match outcome {
            Outcome::Refuse(key, letter) => Some((key, letter)),
            _ => None,
        })
        .to_dynamic(
            |record: &Record<bytes::Bytes, Letter>| record.value.topic.clone(),
            Produced::with(Letter::key_serde(), Letter::serde()).with_name(name),
        );
}
