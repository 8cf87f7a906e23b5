//! The contracts as Rust types: every event, the reference data, and their serdes.
//!
//! The schemas in `avro/` are the contract; the types here follow them, and `tests/events.rs` holds both together. Values
//! are validated as they are read, so that a topology never sees one that breaks a rule. Deliberately absent: what the
//! events mean to a topology.

mod audit;
mod command;
mod envelope;
mod hr;
mod macros;
mod notification;
mod reference;
mod request;
mod security;
mod symbols;
mod validate;
mod workflow;

use std::sync::Arc;

use bytes::Bytes;
use kstreams::serdes::{
    AvroRecord, AvroSerde, Deserializer, MemoryRegistry, SchemaCache, Serde, subject,
};
use kstreams::{Clock, Error, Headers, Result, Timestamp};
use serde::Serialize;

use crate::business;
use macros::{event, topic_events};

pub use audit::*;
pub use command::NotificationCommand;
pub use envelope::{Envelope, Money, VERSION, derived_id};
pub use hr::*;
pub use notification::*;
pub use reference::{Contact, Manager};
pub use request::*;
pub use security::*;
pub use symbols::*;
pub use validate::FUTURE_MAX;
pub use workflow::*;

/// An event: a record that begins with the envelope.
pub trait Event: AvroRecord + Serialize {
    /// The topic it belongs to.
    const TOPIC: &'static str;
    /// Its type, such as `request.created`.
    const TYPE: &'static str;

    /// The fields that all events share.
    fn envelope(&self) -> &Envelope;
    /// The key its record has; `None` where the event does not hold it.
    fn key(&self) -> Option<String>;
    /// Checks the rules for records.
    ///
    /// # Errors
    /// `BadRecord` naming event, field, what was found and what was wanted.
    fn validate(&self, now: Timestamp) -> Result<()>;
}

/// Any event of a topic.
pub trait TopicEvent: Sized {
    /// The topic.
    const TOPIC: &'static str;

    /// The event of a type, out of its fields with the envelope beside them. For people's input.
    ///
    /// # Errors
    /// The first field that is missing or of another kind; an event type that the topic does not have.
    fn from_json(event_type: &str, fields: serde_json::Value) -> serde_json::Result<Self>;

    /// The envelope; `None` for an event type that this version does not know.
    fn envelope(&self) -> Option<&Envelope>;
    /// The key its record has; `None` where the event does not hold it, or is unknown.
    fn key(&self) -> Option<String>;
    /// Checks the rules for records; an unknown event breaks none.
    ///
    /// # Errors
    /// `BadRecord` naming event, field, what was found and what was wanted.
    fn validate(&self, now: Timestamp) -> Result<()>;
}

/// The event, unless it is of a type that this version does not know: that one is counted for the topology `app`, and ignored.
pub fn known<E: TopicEvent>(app: &'static str, event: E) -> Option<E> {
    let Some(envelope) = event.envelope() else {
        business::event_unknown(app, E::TOPIC);
        return None;
    };
    business::event_read(app, &envelope.event_type);
    Some(event)
}

/// A value whose rules are checked as it is read.
pub trait Validate {
    /// Checks the rules; `now` is the wall clock.
    ///
    /// # Errors
    /// `BadRecord` naming event, field, what was found and what was wanted.
    fn validate(&self, now: Timestamp) -> Result<()>;
}

impl<T: TopicEvent> Validate for T {
    fn validate(&self, now: Timestamp) -> Result<()> {
        TopicEvent::validate(self, now)
    }
}

impl Validate for NotificationCommand {
    fn validate(&self, now: Timestamp) -> Result<()> {
        Event::validate(self, now)
    }
}

macro_rules! contracts {
    ($($topic:literal: $($type:literal),+;)+) => {
        /// Every schema: topic, event type (the file's name), JSON.
        pub const SCHEMAS: &[(&str, &str, &str)] = &[$($((
            $topic,
            $type,
            include_str!(concat!("../../../avro/", $topic, "/", $type, ".avsc")),
        )),+),+];

        /// Every event type that this version knows.
        pub const EVENT_TYPES: &[&str] = &[$($($type),+),+];
    };
}

contracts! {
    "request-events": "request.created", "request.updated", "request.cancelled",
        "request.clarification_needed";
    "workflow-events": "workflow.manager_assigned", "workflow.sent_to_contractors",
        "workflow.contractor_assigned", "workflow.work_started", "workflow.work_completed",
        "workflow.status_changed";
    "notification-events": "notification.email.sent", "notification.telegram.sent",
        "notification.sms.sent", "notification.failed";
    "security-events": "security.contractor_verified", "security.contractor_rejected",
        "security.access_granted", "security.access_revoked";
    "hr-events": "hr.document_created", "hr.document_signed", "hr.contract_generated",
        "hr.payment_processed";
    "audit-events": "audit.user_action", "audit.system_event", "audit.error_occurred",
        "audit.performance_metric";
    "managers": "manager";
    "contacts": "contact";
    "notification-commands": "notification.command";
}

/// Serdes of all topics; reading validates.
#[derive(Clone)]
pub struct Serdes {
    /// `request-events`
    pub requests: Serde<RequestEvent>,
    /// `workflow-events`
    pub workflow: Serde<WorkflowEvent>,
    /// `notification-events`
    pub notifications: Serde<NotificationEvent>,
    /// `security-events`
    pub security: Serde<SecurityEvent>,
    /// `hr-events`
    pub hr: Serde<HrEvent>,
    /// `audit-events`
    pub audit: Serde<AuditEvent>,
    /// `managers`
    pub managers: Serde<Manager>,
    /// `contacts`
    pub contacts: Serde<Contact>,
    /// `notification-commands`
    pub notification_commands: Serde<NotificationCommand>,
}

/// The serdes of all topics. Asks the registry for nothing yet; see [`check_registered`].
///
/// # Errors
/// `Invalid` where a schema is not Avro.
pub fn serdes(cache: &Arc<SchemaCache>, clock: &Arc<dyn Clock>) -> Result<Serdes> {
    Ok(Serdes {
        requests: union(cache, clock)?,
        workflow: union(cache, clock)?,
        notifications: union(cache, clock)?,
        security: union(cache, clock)?,
        hr: union(cache, clock)?,
        audit: union(cache, clock)?,
        managers: record(cache, clock, "managers")?,
        contacts: record(cache, clock, "contacts")?,
        notification_commands: record(cache, clock, NotificationCommand::TOPIC)?,
    })
}

fn union<T: TopicEvent + kstreams::serdes::AvroUnion>(
    cache: &Arc<SchemaCache>,
    clock: &Arc<dyn Clock>,
) -> Result<Serde<T>> {
    validating(AvroSerde::union(cache, T::TOPIC)?, clock)
}

fn record<T: AvroRecord + Serialize + Validate>(
    cache: &Arc<SchemaCache>,
    clock: &Arc<dyn Clock>,
    topic: &str,
) -> Result<Serde<T>> {
    validating(AvroSerde::record(cache, topic)?, clock)
}

fn validating<T: Validate + Send + Sync + 'static>(
    serde: AvroSerde<T>,
    clock: &Arc<dyn Clock>,
) -> Result<Serde<T>> {
    let serde = Arc::new(serde);
    let deserializer = Validating { inner: serde.clone(), clock: clock.clone() };
    Ok(Serde::new(serde, deserializer))
}

/// Checks the rules after decoding.
struct Validating<T> {
    inner: Arc<AvroSerde<T>>,
    clock: Arc<dyn Clock>,
}

impl<T: Validate + Send + Sync + 'static> Deserializer<T> for Validating<T> {
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<T> {
        let value = self.inner.deserialize(topic, headers, data)?;
        value.validate(self.clock.now())?;
        Ok(value)
    }
}

/// Checks, at start, that the schemas of `topics` are registered.
///
/// # Errors
/// `Invalid` naming what is missing, `Retriable` where no registry answers.
pub fn check_registered(cache: &SchemaCache, topics: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    for (topic, _, schema) in SCHEMAS.iter().filter(|(topic, ..)| topics.contains(topic)) {
        let subject = subject(topic, kstreams::serdes::schema::AvroSchema::parse(schema)?.name());
        if cache.registry().id_of(&subject, schema)?.is_none() {
            missing.push(subject);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the schema registry lacks our schemas under {}; run `aggregator schemas push`",
        missing.join(", ")
    )))
}

/// A registry in memory that has every schema, at FULL_TRANSITIVE.
///
/// # Errors
/// `Invalid` where a schema is not Avro.
pub fn memory_registry() -> Result<MemoryRegistry> {
    MemoryRegistry::with_schemas(SCHEMAS.iter().map(|(topic, _, schema)| (*topic, *schema)))
}

/// The default of counters that begin at 1 (`version`, `revision`).
fn one() -> i32 {
    1
}
