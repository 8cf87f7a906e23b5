//! From findings and figures to audit events. Hot path.

use std::collections::BTreeMap;

use kstreams::{RecordMetadata, Timestamp};
use uuid::Uuid;

use crate::events::{
    AuditErrorOccurred, AuditEvent, AuditPerformanceMetric, AuditSystemEvent, AuditUserAction,
    Envelope, Event, VERSION, derived_id,
};

use super::figures::Figures;
use super::rules::{Finding, Kind};

/// The `source` of the events published here.
const SOURCE: &str = "audit-fanout";

/// The `action` of a dead letter.
const DEAD_LETTERED: &str = "dead_lettered";

/// The audit event of an event.
pub(super) fn of_event(
    envelope: &Envelope,
    finding: Finding,
    place: &RecordMetadata,
) -> AuditEvent {
    let id = |event_type| derived_id(envelope.event_id, event_type, "");
    let audited = |event_type| Envelope {
        event_id: id(event_type),
        event_type: std::borrow::Cow::Borrowed(event_type),
        // When it happened, not when it was read.
        timestamp: envelope.timestamp,
        source: SOURCE.into(),
        version: VERSION,
        correlation_id: envelope.correlation_id,
        causation_id: Some(envelope.event_id),
    };
    audit(audited, envelope.event_type.to_string(), finding, place)
}

/// The audit event of a dead letter, whose id follows from where it lies.
pub(super) fn of_letter(finding: Finding, at: Timestamp, place: &RecordMetadata) -> AuditEvent {
    let position = format!("{}:{}:{}", place.topic, place.partition, place.offset);
    let audited = |event_type| Envelope {
        event_id: derived_id(Uuid::nil(), event_type, &position),
        event_type: std::borrow::Cow::Borrowed(event_type),
        timestamp: at,
        source: SOURCE.into(),
        version: VERSION,
        correlation_id: None,
        causation_id: None,
    };
    audit(audited, DEAD_LETTERED.to_owned(), finding, place)
}

fn audit(
    envelope: impl Fn(&'static str) -> Envelope,
    action: String,
    finding: Finding,
    place: &RecordMetadata,
) -> AuditEvent {
    let Finding { kind, entity, actor, request_id, contractor_id, details } = finding;
    let (topic, partition, offset) = (place.topic.to_string(), place.partition, place.offset);
    macro_rules! event {
        ($type:ident) => {
            AuditEvent::from($type {
                envelope: envelope($type::TYPE),
                entity,
                actor,
                action,
                topic,
                partition,
                offset,
                request_id,
                contractor_id,
                details,
            })
        };
    }
    match kind {
        Kind::UserAction => event!(AuditUserAction),
        Kind::SystemEvent => event!(AuditSystemEvent),
        Kind::ErrorOccurred => event!(AuditErrorOccurred),
    }
}

/// The figures of a topic as events: rate, failures, and the ages where there were events.
pub(super) fn of_figures(
    topic: &str,
    figures: &Figures,
    window_ms: i64,
    now: Timestamp,
) -> Vec<AuditEvent> {
    #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
    let number = |count: u64| count as f64;
    let seconds = number(window_ms.unsigned_abs()) / 1_000.0;
    let age = |share| figures.age_quantile_ms(share).map(number);
    let values = [
        ("events_per_second", Some(number(figures.events) / seconds), "1/s"),
        ("age_p50", age(0.5), "ms"),
        ("age_p99", age(0.99), "ms"),
        ("failures", Some(number(figures.failures)), "events"),
    ];
    let (start, end) = (figures.window_start_ms, figures.window_start_ms + window_ms);
    let metric = |(name, value, unit): (&str, Option<f64>, &str)| {
        let discriminator = format!("{topic}:{start}:{name}");
        Some(AuditEvent::from(AuditPerformanceMetric {
            envelope: Envelope {
                event_id: derived_id(Uuid::nil(), AuditPerformanceMetric::TYPE, &discriminator),
                event_type: AuditPerformanceMetric::TYPE.into(),
                timestamp: now,
                source: SOURCE.into(),
                version: VERSION,
                correlation_id: None,
                causation_id: None,
            },
            entity: format!("topic:{topic}"),
            actor: format!("service:{SOURCE}"),
            action: "measured".to_owned(),
            topic: topic.to_owned(),
            partition: -1,
            offset: -1,
            request_id: None,
            contractor_id: None,
            details: BTreeMap::new(),
            name: name.to_owned(),
            value: value?,
            unit: unit.to_owned(),
            window_start: Timestamp::from_millis(start),
            window_end: Timestamp::from_millis(end),
        }))
    };
    values.into_iter().filter_map(metric).collect()
}
