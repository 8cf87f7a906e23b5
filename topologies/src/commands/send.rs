//! `aggregator send`: one event by hand, as the service would publish it. For trying things out, and for what a service forgot.

use std::sync::Arc;

use clap::Args;
use kstreams::kafka::{KafkaClients as _, OutgoingRecord};
use kstreams::serdes::{Encoded, Serde};
use kstreams::{Clock, Error, Headers, Result, SystemClock};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Report;
use crate::events::{
    self, HrEvent, RequestEvent, SCHEMAS, SecurityEvent, TopicEvent, WorkflowEvent, derived_id,
};
use crate::settings::Settings;

/// The `source` of an event that does not name one.
const SOURCE: &str = "aggregator-send";
/// The topics that services write.
const TOPICS: [&str; 4] =
    [RequestEvent::TOPIC, WorkflowEvent::TOPIC, SecurityEvent::TOPIC, HrEvent::TOPIC];

/// Which event.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Its type, such as request.created
    event_type: String,
    /// Its fields as a JSON object, amounts as text; those of the envelope are filled in where they are missing
    #[arg(value_name = "JSON")]
    fields: String,
    /// Key of the record, where the event does not hold it
    #[arg(long)]
    key: Option<String>,
}

/// Checks the event and writes it.
///
/// # Errors
/// `Invalid` for what is no event of this type, `BadRecord` for one that breaks a rule; those of the cluster and the registry.
pub(super) fn execute(args: &SendArgs, settings: &Settings) -> Result<Report> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let fields = fields(args, clock.now().as_millis())?;
    let topic = topic_of(&args.event_type)?;
    let schemas = super::schema_cache(settings)?;
    events::check_registered(&schemas, &[topic])
        .map_err(|error| super::about_registry(error, settings))?;
    let serdes = events::serdes(&schemas, &clock)?;
    match topic {
        RequestEvent::TOPIC => write(args, fields, &serdes.requests, settings),
        WorkflowEvent::TOPIC => write(args, fields, &serdes.workflow, settings),
        SecurityEvent::TOPIC => write(args, fields, &serdes.security, settings),
        _ => write(args, fields, &serdes.hr, settings),
    }
}

/// The topic of an event type.
fn topic_of(event_type: &str) -> Result<&'static str> {
    let sent = || SCHEMAS.iter().filter(|(topic, ..)| TOPICS.contains(topic));
    let found = sent().find(|(_, known, _)| *known == event_type).map(|(topic, ..)| *topic);
    found.ok_or_else(|| {
        let known: Vec<&str> = sent().map(|(_, known, _)| *known).collect();
        let known = known.join(", ");
        Error::invalid(format!("found event type \"{event_type}\", wanted one of: {known}"))
    })
}

/// The event's fields, with an envelope.
fn fields(args: &SendArgs, now_ms: i64) -> Result<Map<String, Value>> {
    let event_type = &args.event_type;
    let mut fields: Map<String, Value> = serde_json::from_str(&args.fields).map_err(|error| {
        Error::invalid(format!("{event_type}: wanted a JSON object of fields: {error}"))
    })?;
    // One for each request, so that its events have it in common.
    let correlation =
        fields.get("request_id").map(|id| derived_id(Uuid::nil(), "request", &id.to_string()));
    for (name, value) in [
        ("event_id", json!(Uuid::new_v4())),
        ("event_type", json!(event_type)),
        ("timestamp", json!(now_ms)),
        ("source", json!(SOURCE)),
        ("correlation_id", json!(correlation)),
    ] {
        fields.entry(name).or_insert(value);
    }
    Ok(fields)
}

fn write<T: TopicEvent>(
    args: &SendArgs,
    fields: Map<String, Value>,
    serde: &Serde<T>,
    settings: &Settings,
) -> Result<Report> {
    let event_type = &args.event_type;
    let event = T::from_json(event_type, Value::Object(fields))
        .map_err(|error| Error::invalid(format!("{event_type}: {error}")))?;
    let envelope = event.envelope().ok_or_else(|| Error::invalid("an event without envelope"))?;
    let (event_id, timestamp) = (envelope.event_id, envelope.timestamp);
    event.validate(SystemClock::default().now())?;
    let key = args.key.clone().or_else(|| event.key()).ok_or_else(|| {
        Error::invalid(format!("{event_type}: found no key in the event, wanted --key KEY"))
    })?;
    let mut value = Vec::new();
    if serde.serializer().serialize(T::TOPIC, &event, &mut value)? == Encoded::Null {
        return Err(Error::fatal(format!("{event_type} became null")));
    }
    super::check_topics(settings, &[T::TOPIC])?;
    let timeout = settings.request_timeout();
    let mut producer = super::clients(settings)?.producer(None)?;
    let topic = producer.topic(T::TOPIC)?;
    producer.send(OutgoingRecord {
        topic,
        partition: None,
        timestamp,
        key: Some(key.as_bytes()),
        value: Some(&value),
        headers: &Headers::default(),
    })?;
    producer.flush(timeout)?;
    Ok(Report::good(format!("{event_type} {event_id} to {} under \"{key}\"\n", T::TOPIC)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(event_type: &str, fields: &str) -> SendArgs {
        SendArgs { event_type: event_type.to_owned(), fields: fields.to_owned(), key: None }
    }

    fn read<T: TopicEvent>(event_type: &str, given: &str) -> std::result::Result<T, String> {
        let fields = fields(&args(event_type, given), 1_772_366_400_000).unwrap();
        T::from_json(event_type, Value::Object(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_envelope_is_filled_in_and_what_is_given_stays() {
        let given =
            "{\"request_id\": 7, \"contractor_id\": 9, \"manager_id\": 1, \"source\": \"web\"}";
        let event: WorkflowEvent = read("workflow.contractor_assigned", given).unwrap();
        let WorkflowEvent::ContractorAssigned(event) = event else { panic!("{event:?}") };
        assert_eq!((event.request_id, &*event.envelope.source), (7, "web"));
        assert_eq!(event.envelope.timestamp.as_millis(), 1_772_366_400_000);
        let same: WorkflowEvent = read(
            "workflow.status_changed",
            "{\"request_id\": 7, \"from_status\": \"assigned\", \"to_status\": \"closed\"}",
        )
        .unwrap();
        let other = same.envelope().unwrap();
        assert_eq!(other.correlation_id, event.envelope.correlation_id, "of one request");
        assert_ne!(other.event_id, event.envelope.event_id);
        assert_eq!(&*other.source, SOURCE);
    }

    #[test]
    fn amounts_are_text_and_what_is_missing_is_named() {
        let paid = "{\"document_id\": \"6f9619ff-8b86-d011-b42d-00c04fc964ff\", \"contractor_id\": 9, \
                    \"amount\": \"12.50\", \"currency\": \"EUR\", \"status\": \"processed\"}";
        let event: HrEvent = read("hr.payment_processed", paid).unwrap();
        assert!(
            matches!(event, HrEvent::PaymentProcessed(event) if event.amount.hundredths() == 1_250)
        );
        let error = read::<HrEvent>("hr.payment_processed", "{}").unwrap_err();
        assert!(error.contains("missing field `document_id`"), "{error}");
    }

    #[test]
    fn what_is_no_event_is_refused_by_name() {
        let error = topic_of("request.filed").unwrap_err().to_string();
        assert!(
            error.contains("\"request.filed\"") && error.contains("request.created"),
            "{error}"
        );
        assert!(topic_of("audit.user_action").is_err(), "only this program writes it");
        let error = fields(&args("request.created", "[1]"), 0).unwrap_err().to_string();
        assert!(error.contains("request.created: wanted a JSON object"), "{error}");
    }
}
