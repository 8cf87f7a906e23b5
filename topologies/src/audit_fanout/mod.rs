//! The topology audit-fanout: wiring only. What becomes what is described in [`rules`], the figures in [`figures`].
//!
//! Reads the five domain topics and every dead-letter topic, its own included, and never `audit-events`: it cannot feed itself. Dead letters
//! are read as bytes, which cannot fail, so none of them becomes another.

mod edges;
pub mod figures;
pub mod letters;
mod processors;
pub mod rules;
pub mod settings;

#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod properties;

use std::sync::Arc;

use kstreams::serdes::{DefaultSerde, Serde, option_serde};
use kstreams::{
    Consumed, Error, KStream, Named, Produced, Repartitioned, Result, Stores, StreamsBuilder,
};

use crate::codec::internal;
use crate::events::{Serdes, TopicEvent};
use figures::Figures;
use processors::{Count, Counted, Fanout, Letters, Report, Seen};
use rules::Audited;
use settings::Settings;

/// Its name, and its `application.id` unless another is set.
pub const NAME: &str = "audit-fanout";

/// The domain topics: each has figures, also while nothing comes.
pub const WATCHED: &[&str] =
    &["request-events", "workflow-events", "notification-events", "security-events", "hr-events"];

/// The repartition topic keyed by source topic. One partition: a few records a minute.
pub const FIGURES: &str = "figures";
/// The store of each task's parts of the figures.
const PARTS: &str = "figure-parts";
/// The store of the sums, not yet reported.
const TOTALS: &str = "figure-totals";

/// Adds the topology to a builder; `dead_letters` are the dead-letter topics of all topologies.
///
/// # Errors
/// `Invalid` for settings that cannot be.
pub fn add_to(
    builder: &StreamsBuilder,
    events: &Serdes,
    settings: &Settings,
    dead_letters: &[String],
) -> Result<()> {
    settings.validate().map_err(Error::invalid)?;
    let settings = Arc::new(settings.clone());
    builder.add_state_store(Stores::key_value_store_with(
        PARTS,
        String::serde(),
        internal::<Figures>(),
    ));
    builder.add_state_store(Stores::key_value_store_with(
        TOTALS,
        Vec::<u8>::serde(),
        internal::<Figures>(),
    ));

    let mut seen = fanout(builder, events.requests.clone())
        .merge(&fanout(builder, events.workflow.clone()))
        .merge(&fanout(builder, events.notifications.clone()))
        .merge(&fanout(builder, events.security.clone()))
        .merge(&fanout(builder, events.hr.clone()));
    if !dead_letters.is_empty() {
        let topics: Vec<&str> = dead_letters.iter().map(String::as_str).collect();
        let bytes = || option_serde(Vec::<u8>::serde());
        let letters: KStream<Option<Vec<u8>>, Option<Vec<u8>>> =
            builder.stream_with(&topics, Consumed::with(bytes(), bytes()));
        seen = seen.merge(&letters.process_named(|| Letters, &Named::new("dead-letters"), &[]));
    }
    let count_settings = settings.clone();
    let counted = seen.process_named(
        move || Count::new(count_settings.clone()),
        &Named::new("count"),
        &[PARTS],
    );
    let to_audit =
        |name: &str| Produced::with(String::serde(), events.audit.clone()).with_name(name);
    counted
        .flat_map(|entity: String, value| match value {
            Counted::Event(event) => Some((entity, event)),
            Counted::Part(_) => None,
        })
        .to_with("audit-events", to_audit("audited"));
    counted
        .flat_map(|topic: String, value| match value {
            Counted::Part(part) => Some((topic, part)),
            Counted::Event(_) => None,
        })
        .repartition(
            Repartitioned::with(String::serde(), internal())
                .with_name(FIGURES)
                .with_number_of_partitions(1),
        )
        .process_named(move || Report::new(settings.clone()), &Named::new("report"), &[TOTALS])
        .to_with("audit-events", to_audit("figures"));
    Ok(())
}

fn fanout<E: TopicEvent + Audited + Clone + Send + 'static>(
    builder: &StreamsBuilder,
    serde: Serde<E>,
) -> KStream<String, Seen> {
    builder.stream_with(&[E::TOPIC], Consumed::with(String::serde(), serde)).process_named(
        Fanout::<E>::new,
        &Named::new(E::TOPIC),
        &[],
    )
}
