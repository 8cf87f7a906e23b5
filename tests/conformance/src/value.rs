//! The value that cases are made of: null, text, integer or boolean, decided record by record.

use std::fmt;

use bytes::Bytes;
use kstreams::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer};
use kstreams::{Error, Headers, Nullable, Result};
use serde_json::Value as Json;

/// A key or value of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Kafka's null.
    Null,
    /// True or false.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// Text.
    Text(String),
    /// A key in a window, as text. It is written as text and then is text; until then it equals none.
    Windowed(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// A value as the case file spells it; `None` for what the format does not have (fractions, lists).
    pub fn from_json(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Boolean(*value),
            Json::Number(value) => Self::Integer(value.as_i64()?),
            Json::String(value) => Self::Text(value.clone()),
            Json::Array(_) | Json::Object(_) => return None,
        })
    }

    /// The value as a case file spells it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => Json::from(*value),
            Self::Integer(value) => Json::from(*value),
            Self::Text(value) | Self::Windowed(value) => Json::from(value.as_str()),
        }
    }

    /// Whether this is `true`; everything else is not.
    pub fn is_true(&self) -> bool {
        *self == Self::Boolean(true)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) | Self::Windowed(value) => f.write_str(value),
        }
    }
}

impl Nullable for Value {
    type NonNull = Self;

    fn as_non_null(&self) -> Option<&Self> {
        (*self != Self::Null).then_some(self)
    }

    fn into_non_null(self) -> Option<Self> {
        (self != Self::Null).then_some(self)
    }
}

/// Half of a character outside the basic plane, which a Java string may hold and ours may not; it is written as "?", as Java's encoder does.
pub(crate) const HALF: char = '\u{fdd0}';

/// A tag, then Kafka's own bytes of the type, so that a store's order within one type is that of the plain bytes.
struct Tagged;

impl Serializer<Value> for Tagged {
    fn serialize(&self, _: &str, value: &Value, out: &mut Vec<u8>) -> Result<Encoded> {
        match value {
            Value::Null => return Ok(Encoded::Null),
            Value::Boolean(value) => out.extend([b'B', u8::from(*value)]),
            Value::Integer(value) => {
                out.push(b'L');
                out.extend(value.to_be_bytes());
            }
            Value::Text(value) | Value::Windowed(value) => {
                out.push(b'S');
                out.extend(value.replace(HALF, "?").as_bytes());
            }
        }
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Value> for Tagged {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<Value> {
        let Some(data) = data else { return Ok(Value::Null) };
        let bad = || Error::bad_record(format!("found {data:?}, wanted a tagged value"));
        let (tag, rest) = data.split_first().ok_or_else(bad)?;
        Ok(match tag {
            b'B' => Value::Boolean(rest == [1]),
            b'L' => Value::Integer(i64::from_be_bytes(rest.try_into().map_err(|_| bad())?)),
            b'S' => Value::Text(std::str::from_utf8(rest).map_err(|_| bad())?.to_owned()),
            _ => return Err(bad()),
        })
    }
}

impl DefaultSerde for Value {
    fn serde() -> Serde<Self> {
        Serde::from_both(Tagged)
    }
}
