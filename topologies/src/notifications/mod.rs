//! The topology notifications: wiring only. Its rules and protocol are described in [`rules`].
//!
//! Sources only re-key; the work is done by request and by recipient, each on a repartition topic of its own, so that the source topics' keys
//! and partition counts do not matter. What is to be sent is a command for the topology `notification-delivery`.

pub mod by_recipient;
pub mod by_request;
pub mod cases;
mod edges;
mod processors;
pub mod rules;
pub mod settings;
mod stores;

#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod sample;

use std::sync::Arc;

use kstreams::serdes::{DefaultSerde, option_serde};
use kstreams::{Consumed, Error, KStream, Named, Produced, Repartitioned, Result, StreamsBuilder};

use crate::codec::internal;
use crate::events::{Contact, Manager, Serdes, known};
use crate::recipients::{Change, Directory};
use processors::{ByRecipient, ByRequest, Published};
use rules::{RecipientInput, RequestId, RequestInput};
use settings::Settings;

pub use edges::rfc3339;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "notifications";

/// The repartition topic keyed by request.
const BY_REQUEST: &str = "by-request";
/// The repartition topic keyed by recipient.
const BY_RECIPIENT: &str = "by-recipient";

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

    let by_request = add_requests(builder, events, partitions);
    let request_settings = settings.clone();
    let told = by_request.process_named(
        move || ByRequest::new(request_settings.clone()),
        &Named::new("request-facts"),
        stores::REQUEST_STORES,
    );
    let by_recipient = told.repartition(
        Repartitioned::with(String::serde(), internal())
            .with_name(BY_RECIPIENT)
            .with_number_of_partitions(partitions),
    );
    add_concerned(builder, events);
    add_directory(builder, events);

    let published = by_recipient.process_named(
        move || ByRecipient::new(settings.clone()),
        &Named::new("recipients"),
        stores::RECIPIENT_STORES,
    );
    published
        .flat_map(|recipient: String, output| match output {
            Published::Command(command) => Some((recipient, command)),
            Published::Failed(_) => None,
        })
        .to_with(
            "notification-commands",
            Produced::with(String::serde(), events.notification_commands.clone())
                .with_name("commands"),
        );
    published
        .flat_map(|recipient: String, output| match output {
            Published::Failed(event) => Some((recipient, event)),
            Published::Command(_) => None,
        })
        .to_with(
            "notification-events",
            Produced::with(String::serde(), events.notifications.clone()).with_name("unreachable"),
        );
    Ok(())
}

/// The two sources that are about requests.
fn add_requests(
    builder: &StreamsBuilder,
    events: &Serdes,
    partitions: i32,
) -> KStream<RequestId, RequestInput> {
    builder
        .stream_with(&["workflow-events"], Consumed::with(String::serde(), events.workflow.clone()))
        .flat_map(|_, event| keyed(known(NAME, event).and_then(edges::of_workflow)))
        .repartition_to(
            BY_REQUEST,
            Produced::with(RequestId::serde(), internal::<RequestInput>()).with_name("workflow"),
        );
    builder
        .stream_with(&["request-events"], Consumed::with(String::serde(), events.requests.clone()))
        .flat_map(|_, event| keyed(known(NAME, event).and_then(edges::of_request)))
        .repartition(
            Repartitioned::with(RequestId::serde(), internal())
                .with_name(BY_REQUEST)
                .with_number_of_partitions(partitions),
        )
}

/// The two sources whose events name the person concerned.
fn add_concerned(builder: &StreamsBuilder, events: &Serdes) {
    builder
        .stream_with(&["security-events"], Consumed::with(String::serde(), events.security.clone()))
        .flat_map(|_, event| known(NAME, event).and_then(edges::of_security))
        .repartition_to(BY_RECIPIENT, to_recipient("security"));
    builder
        .stream_with(&["hr-events"], Consumed::with(String::serde(), events.hr.clone()))
        .flat_map(|_, event| known(NAME, event).and_then(edges::of_hr))
        .repartition_to(BY_RECIPIENT, to_recipient("paperwork"));
}

/// The two sources that say how people are reached.
fn add_directory(builder: &StreamsBuilder, events: &Serdes) {
    let change = |recipient: String, change: Change| (recipient, RecipientInput::Change(change));
    let contacts: KStream<String, Option<Contact>> = builder.stream_with(
        &["contacts"],
        Consumed::with(String::serde(), option_serde(events.contacts.clone())),
    );
    contacts
        .process_named(|| Directory, &Named::new("contacts"), &[])
        .map(change)
        .repartition_to(BY_RECIPIENT, to_recipient("contact-changes"));
    let managers: KStream<String, Option<Manager>> = builder.stream_with(
        &["managers"],
        Consumed::with(String::serde(), option_serde(events.managers.clone())),
    );
    managers
        .process_named(|| Directory, &Named::new("managers"), &[])
        .map(change)
        .repartition_to(BY_RECIPIENT, to_recipient("manager-changes"));
}

fn to_recipient(name: &str) -> Produced<String, RecipientInput> {
    Produced::with(String::serde(), internal()).with_name(name)
}

fn keyed(input: Option<RequestInput>) -> Option<(RequestId, RequestInput)> {
    input.map(|input| (input.request_id, input))
}
