//! Any framed Avro value as JSON, for people: `dlq show`, the console. Cold.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::de::DeserializerState;
use serde_avro_fast::de::read::SliceRead;
use serde_json::{Map, Number, Value};

use super::cache::SchemaCache;
use super::wire;
use crate::error::{Error, Result};

/// A frame decoded for reading by people.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedFrame {
    /// Schema id of the frame.
    pub schema_id: u32,
    /// Full name of the record.
    pub name: String,
    /// The value: decimals as text, bytes as text of hex digits.
    pub value: Value,
    /// Bytes left after the value's end; more than none is what makes some records dead letters.
    pub trailing_bytes: usize,
}

/// Decodes a frame with its writer's schema.
///
/// # Errors
/// `BadRecord` for what is not a frame, an unknown schema id, or bytes that do not decode; `Retriable` where no registry
/// answers.
pub fn decode_json(cache: &SchemaCache, frame: &[u8]) -> Result<DecodedFrame> {
    let (id, datum) = wire::split(frame)?;
    let writer = cache.writer(id)?;
    let mut state = DeserializerState::new(SliceRead::new(datum), &writer.schema);
    let Json(value) = Json::deserialize(state.deserializer())
        .map_err(|error| Error::bad_record(format!("{} (schema id {id}): {error}", writer.name)))?;
    let mut rest = state.into_reader();
    let trailing_bytes = std::io::BufRead::fill_buf(&mut rest).map_or(0, <[u8]>::len);
    Ok(DecodedFrame { schema_id: id, name: writer.name.clone(), value, trailing_bytes })
}

/// `serde_json::Value` refuses bytes; this takes them.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON has no NaN and no infinity.
        Ok(Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = seq.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Json(value))) = map.next_entry::<String, Json>()? {
            object.insert(key, value);
        }
        Ok(object.into())
    }
}
