//! Records as rows: one JSON object a line, its fields the table's columns.
//!
//! A record that cannot be read becomes a row too, of the event type `unreadable` with the reason and the value's bytes: so
//! the table has exactly what the topic has.

use std::fmt::Write as _;

use kstreams::RawRecord;
use serde_json::{Map, Value, json};

use crate::events::AuditEvent;

/// What stands for a record that cannot be read.
const UNREADABLE: &str = "unreadable";
/// Of such a record's value, so many bytes are kept.
const UNREADABLE_BYTES_MAX: usize = 4_096;

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Appends the row of an event; `None` for an event type that this version does not know.
pub(super) fn event(place: Place<'_>, event: &AuditEvent, out: &mut Vec<u8>) -> Option<()> {
    let fields = match event {
        AuditEvent::UserAction(event) => serde_json::to_value(event),
        AuditEvent::SystemEvent(event) => serde_json::to_value(event),
        AuditEvent::ErrorOccurred(event) => serde_json::to_value(event),
        AuditEvent::PerformanceMetric(event) => serde_json::to_value(event),
        _ => return None,
    };
    let Ok(Value::Object(mut fields)) = fields else { return None };
    let timestamp_ms = fields.remove("timestamp").and_then(|value| value.as_i64())?;
    let details = fields.remove("details");
    let details = details.as_ref().and_then(Value::as_object);
    let (keys, values): (Vec<&str>, Vec<&Value>) =
        details.into_iter().flatten().map(|(key, value)| (key.as_str(), value)).unzip();
    let mut row = started(place, timestamp_ms);
    row.insert("details.key".to_owned(), json!(keys));
    row.insert("details.value".to_owned(), json!(values));
    for (name, value) in fields {
        let column = match name.as_str() {
            "name" | "value" | "unit" => format!("metric_{name}"),
            "window_start" | "window_end" => format!("{name}_ms"),
            _ => name,
        };
        // A text that is not there is an empty one; numbers that are not there have columns for that.
        let is_text = matches!(column.as_str(), "correlation_id" | "causation_id");
        row.insert(column, if value.is_null() && is_text { "".into() } else { value });
    }
    append(row, out);
    Some(())
}

/// Appends the row of a record that is no event we know.
pub(super) fn unreadable(place: Place<'_>, record: &RawRecord, why: &str, out: &mut Vec<u8>) {
    let value = record.value.as_deref().unwrap_or_default();
    let kept = &value[..value.len().min(UNREADABLE_BYTES_MAX)];
    let mut hex = String::with_capacity(2 * kept.len());
    for byte in kept {
        let _ = write!(hex, "{byte:02x}");
    }
    let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let mut row = started(place, record.timestamp.as_millis().max(0));
    row.insert("event_type".to_owned(), UNREADABLE.into());
    row.insert("entity".to_owned(), key.into());
    row.insert("details.key".to_owned(), json!(["error", "value_bytes", "value_hex"]));
    let values = json!([why, value.len().to_string(), hex]);
    row.insert("details.value".to_owned(), values);
    append(row, out);
}

fn started(place: Place<'_>, timestamp_ms: i64) -> Map<String, Value> {
    let Place { topic, partition, offset } = place;
    let mut row = Map::new();
    row.insert("kafka_topic".to_owned(), topic.into());
    row.insert("kafka_partition".to_owned(), partition.into());
    row.insert("kafka_offset".to_owned(), offset.into());
    row.insert("timestamp_ms".to_owned(), timestamp_ms.into());
    // What a `Date` can hold; the exact moment is beside it.
    let day = crate::queries::utc(timestamp_ms.clamp(0, DATE_MAX_MS));
    row.insert("day".to_owned(), day[..10].into());
    row
}

/// 2105-12-31, near the last day that a `Date` of any server holds.
const DATE_MAX_MS: i64 = 4_291_660_800_000;

fn append(row: Map<String, Value>, out: &mut Vec<u8>) {
    out.extend_from_slice(Value::Object(row).to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kstreams::{Headers, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::events::{AuditPerformanceMetric, Envelope};

    const PLACE: Place<'_> = Place { topic: "audit-events", partition: 3, offset: 17 };

    #[test]
    fn an_event_is_a_row() {
        let metric = AuditPerformanceMetric {
            envelope: Envelope {
                event_id: Uuid::nil(),
                event_type: "audit.performance_metric".into(),
                timestamp: Timestamp::from_millis(1_772_366_400_123),
                source: "audit-fanout".into(),
                version: 1,
                correlation_id: None,
                causation_id: None,
            },
            entity: "topic:hr-events".into(),
            actor: "service:audit-fanout".into(),
            action: "measured".into(),
            topic: "hr-events".into(),
            partition: -1,
            offset: -1,
            request_id: None,
            contractor_id: Some(9),
            details: BTreeMap::from([("a".into(), "1".into()), ("b\n".into(), "\"2\"".into())]),
            name: "age_p99".into(),
            value: 12.5,
            unit: "ms".into(),
            window_start: Timestamp::from_millis(1),
            window_end: Timestamp::from_millis(60_001),
        };
        let mut out = Vec::new();
        event(PLACE, &metric.into(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let row: Value = serde_json::from_str(&text).unwrap();
        for (column, value) in [
            ("kafka_topic", json!("audit-events")),
            ("kafka_partition", json!(3)),
            ("kafka_offset", json!(17)),
            ("day", json!("2026-03-01")),
            ("timestamp_ms", json!(1_772_366_400_123_i64)),
            ("topic", json!("hr-events")),
            ("offset", json!(-1)),
            ("correlation_id", json!("")),
            ("request_id", Value::Null),
            ("contractor_id", json!(9)),
            ("details.key", json!(["a", "b\n"])),
            ("details.value", json!(["1", "\"2\""])),
            ("metric_name", json!("age_p99")),
            ("metric_value", json!(12.5)),
            ("window_end_ms", json!(60_001)),
        ] {
            assert_eq!(row[column], value, "{column}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_row_too() {
        let record = RawRecord {
            offset: 17,
            timestamp: Timestamp::from_millis(-5),
            key: Some("k".into()),
            value: Some(vec![0xff; 5_000].into()),
            headers: Headers::default(),
        };
        let mut out = Vec::new();
        unreadable(PLACE, &record, "no frame", &mut out);
        let row: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&row["event_type"], &row["day"]), (&json!("unreadable"), &json!("1970-01-01")));
        assert_eq!(row["details.value"][0], "no frame");
        assert_eq!(row["details.value"][1], "5000");
        assert_eq!(row["details.value"][2].as_str().unwrap().len(), 2 * UNREADABLE_BYTES_MAX);
    }
}
