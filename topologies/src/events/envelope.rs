//! The envelope that every event begins with, and how a topology makes one for an event it derives.

use std::borrow::Cow;
use std::fmt;

use kstreams::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The fields that all events share; flat on the wire, before the event's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Unique id of the event.
    pub event_id: Uuid,
    /// Its type, such as `request.created`.
    pub event_type: Cow<'static, str>,
    /// When it happened; equal to the Kafka record's timestamp.
    pub timestamp: Timestamp,
    /// The service that published it.
    pub source: Cow<'static, str>,
    /// Version of the envelope.
    pub version: i32,
    /// One per customer request, kept through every derived event.
    pub correlation_id: Option<Uuid>,
    /// The event that caused this one.
    pub causation_id: Option<Uuid>,
}

/// Version of the envelope described here.
pub const VERSION: i32 = 1;

/// The namespace of derived event ids. It must never change: a replay would give every derived event another id.
const NAMESPACE: Uuid = Uuid::from_u128(0x9b1d_7a52_4c0e_5b0f_8f6a_3e7d_21c4_a916);

/// The id of an event that a topology derives: the same for the same cause, type and discriminator, so that a replay or a
/// duplicate yields the same id. `discriminator` tells events of one type and cause apart; empty where there is one.
/// UUIDv5 in our namespace of the text `<causation_id>:<event_type>:<discriminator>`.
pub fn derived_id(causation_id: Uuid, event_type: &str, discriminator: &str) -> Uuid {
    let mut name = [0; uuid::fmt::Hyphenated::LENGTH];
    let mut name = causation_id.hyphenated().encode_lower(&mut name).as_bytes().to_vec();
    for part in [event_type, discriminator] {
        name.push(b':');
        name.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

impl Envelope {
    /// The envelope of an event that starts something; its correlation id is `correlation_id`.
    pub fn new(
        event_id: Uuid,
        event_type: &'static str,
        timestamp: Timestamp,
        source: &'static str,
        correlation_id: Option<Uuid>,
    ) -> Self {
        Self {
            event_id,
            event_type: Cow::Borrowed(event_type),
            timestamp,
            source: Cow::Borrowed(source),
            version: VERSION,
            correlation_id,
            causation_id: None,
        }
    }

    /// The envelope of an event of `event_type` that the event of this envelope causes: a derived id, the same
    /// correlation, this event as the cause. See [`derived_id`] for the discriminator.
    pub fn derive(
        &self,
        event_type: &'static str,
        discriminator: &str,
        source: &'static str,
        timestamp: Timestamp,
    ) -> Self {
        Self {
            event_id: derived_id(self.event_id, event_type, discriminator),
            event_type: Cow::Borrowed(event_type),
            timestamp,
            source: Cow::Borrowed(source),
            version: VERSION,
            correlation_id: self.correlation_id,
            causation_id: Some(self.event_id),
        }
    }
}

/// Reads an event type without allocating where it is one that this version knows.
pub(super) fn event_type<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'static, str>, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Cow<'static, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an event type")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            let known = super::EVENT_TYPES.iter().find(|known| **known == text);
            Ok(known.map_or_else(|| Cow::Owned(text.to_owned()), |known| Cow::Borrowed(*known)))
        }
    }
    deserializer.deserialize_str(Visitor)
}

/// An amount of money: Avro's decimal(18,2), held in hundredths. As text (JSON, logs) `12.50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Money(i64);

/// Decimal digits that decimal(18,2) holds.
const HUNDREDTHS_MAX: i64 = 999_999_999_999_999_999;

impl Money {
    /// Makes an amount of hundredths; `None` where it has more than 18 digits.
    pub fn from_hundredths(hundredths: i64) -> Option<Self> {
        (hundredths.abs() <= HUNDREDTHS_MAX).then_some(Self(hundredths))
    }

    /// The amount in hundredths.
    pub fn hundredths(self) -> i64 {
        self.0
    }

    /// Reads `12`, `12.5`, `12.50`, `-0.07`; digits after the second must be zeros.
    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (cents, rest) = fraction.split_at_checked(2).unwrap_or((fraction, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(cents) {
            return None;
        }
        if !rest.bytes().all(|byte| byte == b'0') {
            return None;
        }
        let scale = if cents.len() == 1 { 10 } else { 1 };
        let cents = if cents.is_empty() { 0 } else { cents.parse::<i64>().ok()? * scale };
        let hundredths = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)?;
        Self::from_hundredths(if negative { -hundredths } else { hundredths })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let hundredths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

impl Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As text: the codec scales it to the schema's decimal. Given an integer, serde_avro_fast 2.1 drops the leading zero
        // byte of 128..=255 hundredths and the like, which then read as negative.
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Money;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal(18,2)")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Money, E> {
                Money::parse(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_repeat_and_differ_by_cause_type_and_discriminator() {
        let cause = Uuid::from_u128(7);
        let id = derived_id(cause, "workflow.manager_assigned", "1");
        // Python: uuid.uuid5(namespace, "00000000-0000-0000-0000-000000000007:workflow.manager_assigned:1")
        assert_eq!(id.to_string(), "8f39e470-5d8f-59de-ad9f-045771a0657c");
        for other in [
            derived_id(Uuid::from_u128(8), "workflow.manager_assigned", "1"),
            derived_id(cause, "workflow.status_changed", "1"),
            derived_id(cause, "workflow.manager_assigned", "2"),
            derived_id(cause, "workflow.manager_assigned1", ""),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn a_derived_envelope_keeps_the_correlation_and_names_its_cause() {
        let correlation = Some(Uuid::from_u128(1));
        let cause = Envelope::new(
            Uuid::from_u128(7),
            "request.created",
            Timestamp::from_millis(5),
            "web",
            correlation,
        );
        let derived =
            cause.derive("workflow.manager_assigned", "", "me", Timestamp::from_millis(9));
        assert_eq!(derived.correlation_id, correlation);
        assert_eq!(derived.causation_id, Some(cause.event_id));
        assert_eq!(derived.timestamp, Timestamp::from_millis(9));
        assert_eq!(derived.event_id.get_version_num(), 5);
    }

    #[test]
    fn money_is_read_and_shown_exactly() {
        for (text, hundredths) in [
            ("0", 0),
            ("12", 1200),
            ("12.5", 1250),
            ("12.50", 1250),
            ("-0.07", -7),
            ("1.2300", 123),
        ] {
            assert_eq!(Money::parse(text).unwrap().hundredths(), hundredths, "{text}");
        }
        assert_eq!(Money(-7).to_string(), "-0.07");
        assert_eq!(Money::parse("9999999999999999.99").unwrap().0, HUNDREDTHS_MAX);
        for text in ["", "-", ".5", "1.234", "1e3", "+1", "--1", "1.-5", "10000000000000000.00"] {
            assert_eq!(Money::parse(text), None, "{text}");
        }
    }
}
