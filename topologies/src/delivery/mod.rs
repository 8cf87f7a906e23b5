//! The topology notification-delivery: wiring only. Its rules and protocol are described in [`rules`].
//!
//! Commands and everything that says how people are reached go by recipient through one repartition topic, so that order holds and the source topics'
//! partition counts do not matter. What is sent is in the hands of the [`courier`](mod@courier).

pub mod circuit;
pub mod courier;
mod edges;
mod email;
mod http;
pub mod outbox;
mod processor;
pub(crate) mod queries;
pub mod rules;
pub mod settings;
mod sms;
mod stores;
mod telegram;
pub mod templates;

#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod properties;

use std::sync::Arc;

use kstreams::serdes::{DefaultSerde, option_serde};
use kstreams::{Consumed, Error, KStream, Named, Produced, Repartitioned, Result, StreamsBuilder};

use crate::codec::internal;
use crate::events::{Contact, Manager, Serdes};
use crate::recipients::{Change, Directory};
use courier::Courier;
use processor::Deliver;
use rules::Input;
use settings::Settings;
use templates::Templates;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "notification-delivery";

/// The repartition topic keyed by recipient.
const BY_RECIPIENT: &str = "by-recipient";

/// The courier that the settings describe, with its templates checked.
///
/// # Errors
/// `Invalid` for a template or a provider's settings that cannot be.
pub fn courier(settings: &Settings) -> Result<Arc<dyn Courier>> {
    settings.validate().map_err(Error::invalid)?;
    let templates = Templates::load(&settings.templates_dir, &settings.default_locale)?;
    Ok(Arc::new(courier::from_settings(settings, Arc::new(templates))?))
}

/// Adds the topology to a builder.
///
/// # Errors
/// `Invalid` for settings that cannot be.
pub fn add_to(
    builder: &StreamsBuilder,
    events: &Serdes,
    settings: &Settings,
    courier: Arc<dyn Courier>,
) -> Result<()> {
    settings.validate().map_err(Error::invalid)?;
    let partitions = i32::try_from(settings.internal_partitions)
        .map_err(|_| Error::invalid("internal_partitions: found more than 2147483647"))?;
    let settings = Arc::new(settings.clone());
    stores::add_stores(builder);
    let by_recipient = builder
        .stream_with(
            &["notification-commands"],
            Consumed::with(String::serde(), events.notification_commands.clone()),
        )
        .map(|_, command| edges::of_command(command))
        .repartition(
            Repartitioned::with(String::serde(), internal())
                .with_name(BY_RECIPIENT)
                .with_number_of_partitions(partitions),
        );
    add_directory(builder, events);
    by_recipient
        .process_named(
            move || Deliver::new(settings.clone(), courier.clone()),
            &Named::new("deliver"),
            stores::STORES,
        )
        .to_with(
            "notification-events",
            Produced::with(String::serde(), events.notifications.clone()).with_name("results"),
        );
    Ok(())
}

/// The two sources that say how people are reached.
fn add_directory(builder: &StreamsBuilder, events: &Serdes) {
    let change = |recipient: String, change: Change| (recipient, Input::Change(change));
    let to_recipient =
        |name: &str| Produced::with(String::serde(), internal::<Input>()).with_name(name);
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
