//! How events are declared: the fields once, from which follow the public struct, the flat wire form and the rules.
//!
//! `#[serde(flatten)]` would give the same wire form by way of a generic tree, for every record. Here the struct that serde
//! sees is flat, and becomes the public one by moving its fields.

/// Declares an event: its name, topic and type, the field that is the record's key, and the fields beside the envelope.
/// `= "path"` names the function that gives a field's default.
macro_rules! event {
    (
        #[doc = $about:literal]
        $name:ident, $topic:literal, $event_type:literal $(key $key:ident)? {
            $(#[doc = $doc:literal] $field:ident: $type:ty $(= $default:literal)?,)*
        }
    ) => {
        #[doc = $about]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// The fields that all events share.
            pub envelope: $crate::events::Envelope,
            $(#[doc = $doc] pub $field: $type,)*
        }

        impl kstreams::serdes::AvroRecord for $name {
            const SCHEMA: &'static str =
                include_str!(concat!("../../../avro/", $topic, "/", $event_type, ".avsc"));
        }

        impl $crate::events::Event for $name {
            const TOPIC: &'static str = $topic;
            const TYPE: &'static str = $event_type;

            fn envelope(&self) -> &$crate::events::Envelope {
                &self.envelope
            }

            fn key(&self) -> Option<String> {
                $(return Some(self.$key.to_string());)?
                #[allow(unreachable_code)] // reached where the record does not hold its key
                None
            }

            fn validate(&self, now: kstreams::Timestamp) -> kstreams::Result<()> {
                $crate::events::validate::envelope($event_type, &self.envelope, now)?;
                $($crate::events::validate::Checked::check(
                    &self.$field, $event_type, stringify!($field),
                )?;)*
                Ok(())
            }
        }

        const _: () = {
            use std::borrow::Cow;

            #[derive(serde::Deserialize)]
            struct Wire {
                event_id: uuid::Uuid,
                #[serde(deserialize_with = "super::envelope::event_type")]
                event_type: Cow<'static, str>,
                timestamp: kstreams::Timestamp,
                source: Cow<'static, str>,
                #[serde(default = "super::one")]
                version: i32,
                correlation_id: Option<uuid::Uuid>,
                causation_id: Option<uuid::Uuid>,
                $($(#[serde(default = $default)])? $field: $type,)*
            }

            #[derive(serde::Serialize)]
            struct WireRef<'a> {
                event_id: uuid::Uuid,
                event_type: &'a str,
                timestamp: kstreams::Timestamp,
                source: &'a str,
                version: i32,
                correlation_id: Option<uuid::Uuid>,
                causation_id: Option<uuid::Uuid>,
                $($field: &'a $type,)*
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    let wire = Wire::deserialize(from)?;
                    Ok(Self {
                        envelope: $crate::events::Envelope {
                            event_id: wire.event_id,
                            event_type: wire.event_type,
                            timestamp: wire.timestamp,
                            source: wire.source,
                            version: wire.version,
                            correlation_id: wire.correlation_id,
                            causation_id: wire.causation_id,
                        },
                        $($field: wire.$field,)*
                    })
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    let envelope = &self.envelope;
                    let wire = WireRef {
                        event_id: envelope.event_id,
                        event_type: &envelope.event_type,
                        timestamp: envelope.timestamp,
                        source: &envelope.source,
                        version: envelope.version,
                        correlation_id: envelope.correlation_id,
                        causation_id: envelope.causation_id,
                        $($field: &self.$field,)*
                    };
                    serde::Serialize::serialize(&wire, to)
                }
            }
        };
    };
}

/// Declares the enum of a topic's events, with a variant for those that this version does not know.
macro_rules! topic_events {
    (
        #[doc = $about:literal]
        $name:ident, $topic:literal { $(#[doc = $doc:literal] $variant:ident($event:ident),)+ }
    ) => {
        #[doc = $about]
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant)] // most records are of the large kind: a box would cost them an allocation
        pub enum $name {
            $(#[doc = $doc] $variant($event),)+
            /// An event type that this version does not know: to be ignored and counted.
            Unknown,
        }

        kstreams::avro_union!($name { $($variant($event)),+ } else Unknown);

        $(impl From<$event> for $name {
            fn from(event: $event) -> Self {
                Self::$variant(event)
            }
        })+

        impl $crate::events::TopicEvent for $name {
            const TOPIC: &'static str = $topic;

            fn from_json(event_type: &str, fields: serde_json::Value) -> serde_json::Result<Self> {
                $(if event_type == <$event as $crate::events::Event>::TYPE {
                    return serde_json::from_value::<$event>(fields).map(Self::$variant);
                })+
                let known = [$(<$event as $crate::events::Event>::TYPE),+].join(", ");
                let wrong = format!("found event type \"{event_type}\", wanted one of: {known}");
                Err(serde::de::Error::custom(wrong))
            }

            fn envelope(&self) -> Option<&$crate::events::Envelope> {
                match self {
                    $(Self::$variant(event) => Some(&event.envelope),)+
                    Self::Unknown => None,
                }
            }

            fn key(&self) -> Option<String> {
                match self {
                    $(Self::$variant(event) => $crate::events::Event::key(event),)+
                    Self::Unknown => None,
                }
            }

            fn validate(&self, now: kstreams::Timestamp) -> kstreams::Result<()> {
                match self {
                    $(Self::$variant(event) => $crate::events::Event::validate(event, now),)+
                    Self::Unknown => Ok(()),
                }
            }
        }
    };
}

pub(super) use {event, topic_events};
