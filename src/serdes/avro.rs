//! Avro values in Confluent's frame, to and from Rust types, without a tree in between.
//!
//! Hot path. A frame's schema id is looked up once and turned into a plan: which type reads it, or why none can. From then
//! on a record costs one search in a short list and one pass over its bytes; fields that the type does not have are
//! skipped without being copied, so that a type with fewer fields (a projection) reads faster.
//!
//! Avro's schema resolution falls to three parties. The plan checks that the producer's schema can be read with ours
//! (names, promotions, unions). `serde_avro_fast` drives serde with the producer's schema, so that fields come by name and
//! numbers widen. The Rust type supplies defaults and unknown symbols: `#[serde(default)]` on every field that has one
//! in the schema, `#[serde(other)]` on an enum's `UNKNOWN`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_avro_fast::ser::{SerializerConfig, SerializerState};

use super::cache::{IdMap, SchemaCache, WriterSchema};
use super::compatibility::{Strictness, problems};
use super::schema::AvroSchema;
use super::{Deserializer, Encoded, Serde, Serializer, null_not_allowed, wire};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;

/// A Rust type that is read, and mostly also written, as one Avro record.
pub trait AvroRecord: DeserializeOwned + Send + Sync + 'static {
    /// Our schema of the record as JSON: the reader's schema, and the one that is written.
    const SCHEMA: &'static str;
}

/// A type that is one of several Avro records; [`avro_union`](crate::avro_union) implements it for an enum.
pub trait AvroUnion: Sized + Send + Sync + 'static {
    /// The records it can be, in order.
    fn arms() -> Vec<Arm<Self>>;
    /// Which of the [`arms`](Self::arms) a value is; `None` for one that stands for an unknown record.
    fn arm_index(&self) -> Option<usize>;
    /// The value for a record of another name, which a newer producer may send; `None` makes it a bad record.
    fn unknown(writer_name: &str) -> Option<Self>;
}

type Decode<T> = Box<dyn Fn(&WriterSchema, &[u8]) -> Result<T> + Send + Sync>;
type Encode<T> =
    Box<dyn Fn(&T, &serde_avro_fast::Schema, &mut Vec<u8>) -> Result<()> + Send + Sync>;

/// One of the records that a type can be.
pub struct Arm<T> {
    schema: &'static str,
    decode: Decode<T>,
    encode: Option<Encode<T>>,
}

impl<T: 'static> Arm<T> {
    /// A record that is read and written: how to make a `T` of it, and how to find it in a `T`.
    pub fn new<R: AvroRecord + Serialize>(
        wrap: impl Fn(R) -> T + Send + Sync + 'static,
        peel: impl Fn(&T) -> Option<&R> + Send + Sync + 'static,
    ) -> Self {
        let encode = move |value: &T, schema: &serde_avro_fast::Schema, out: &mut Vec<u8>| {
            let record = peel(value).ok_or_else(|| {
                Error::fatal("an arm of an avro union was given the value of another arm")
            })?;
            encode(record, schema, out)
        };
        Self { encode: Some(Box::new(encode)), ..Self::reading(wrap) }
    }

    /// A record that is only read, such as a projection.
    pub fn reading<R: AvroRecord>(wrap: impl Fn(R) -> T + Send + Sync + 'static) -> Self {
        let decode = move |writer: &WriterSchema, datum: &[u8]| decode(writer, datum).map(&wrap);
        Self { schema: R::SCHEMA, decode: Box::new(decode), encode: None }
    }
}

/// Reads and writes `T` as framed Avro, for one topic.
///
/// The topic is fixed here and not taken from each record, because it decides the subject: a value that passes through a
/// repartition or changelog topic keeps the schema id of the topic it belongs to, and internal topics need no subjects of
/// their own. Deviation from `KafkaAvroSerializer`, which registers a subject for every internal topic.
pub struct AvroSerde<T> {
    cache: Arc<SchemaCache>,
    topic: Arc<str>,
    arms: Vec<BoundArm<T>>,
    select: fn(&T) -> Option<usize>,
    unknown: fn(&str) -> Option<T>,
    plans: IdMap<Plan>,
}

struct BoundArm<T> {
    arm: Arm<T>,
    name: String,
    schema: serde_avro_fast::Schema,
    id: OnceLock<u32>,
}

struct Plan {
    writer: Arc<WriterSchema>,
    outcome: Outcome,
}

enum Outcome {
    Read(usize),
    Unknown,
    Refuse(String),
}

impl<T: AvroRecord + Serialize> AvroSerde<T> {
    /// The serde of a topic with one record type.
    ///
    /// # Errors
    /// `Invalid` where `T::SCHEMA` is not an Avro schema.
    pub fn record(cache: &Arc<SchemaCache>, topic: &str) -> Result<Self> {
        Self::bind(
            cache,
            topic,
            vec![Arm::new(|record| record, |record: &T| Some(record))],
            |_| Some(0),
            |_| None,
        )
    }
}

impl<T: AvroRecord> AvroSerde<T> {
    /// The serde of a type that is only read, such as a projection; writing is refused as `Invalid`.
    ///
    /// # Errors
    /// `Invalid` where `T::SCHEMA` is not an Avro schema.
    pub fn reading(cache: &Arc<SchemaCache>, topic: &str) -> Result<Self> {
        Self::bind(cache, topic, vec![Arm::reading(|record| record)], |_| Some(0), |_| None)
    }
}

impl<T: AvroUnion> AvroSerde<T> {
    /// The serde of a topic with several record types.
    ///
    /// # Errors
    /// `Invalid` where a schema is not Avro.
    pub fn union(cache: &Arc<SchemaCache>, topic: &str) -> Result<Self> {
        Self::bind(cache, topic, T::arms(), T::arm_index, T::unknown)
    }
}

impl<T: Send + Sync + 'static> AvroSerde<T> {
    fn bind(
        cache: &Arc<SchemaCache>,
        topic: &str,
        arms: Vec<Arm<T>>,
        select: fn(&T) -> Option<usize>,
        unknown: fn(&str) -> Option<T>,
    ) -> Result<Self> {
        let arms = arms.into_iter().map(|arm| {
            let name = AvroSchema::parse(arm.schema)?.name().to_owned();
            let schema =
                arm.schema.parse().map_err(|e: serde_avro_fast::schema::SchemaError| {
                    Error::invalid(format!("avro schema \"{name}\": {e}"))
                })?;
            Ok(BoundArm { arm, name, schema, id: OnceLock::new() })
        });
        Ok(Self {
            cache: cache.clone(),
            topic: topic.into(),
            arms: arms.collect::<Result<_>>()?,
            select,
            unknown,
            plans: IdMap::default(),
        })
    }

    /// The serde as the DSL takes it.
    pub fn into_serde(self) -> Serde<T> {
        Serde::from_both(self)
    }

    fn id(&self, arm: &BoundArm<T>) -> Result<u32> {
        match arm.id.get() {
            Some(id) => Ok(*id),
            None => {
                let id = self.cache.id_of(&self.topic, &arm.name, arm.arm.schema)?;
                Ok(*arm.id.get_or_init(|| id))
            }
        }
    }

    fn plan(&self, id: u32) -> Result<&Plan> {
        match self.plans.get(id) {
            Some(plan) => Ok(plan),
            None => {
                let writer = self.cache.writer(id)?.clone();
                let outcome = self.outcome(&writer)?;
                Ok(self.plans.insert(id, Plan { writer, outcome }))
            }
        }
    }

    /// Decides once what is done with the records of a writer.
    fn outcome(&self, writer: &WriterSchema) -> Result<Outcome> {
        let Some(index) = self.arms.iter().position(|arm| arm.name == writer.name) else {
            if (self.unknown)(&writer.name).is_some() {
                return Ok(Outcome::Unknown);
            }
            let wanted: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            return Ok(Outcome::Refuse(format!(
                "found {}, wanted {}",
                writer.name,
                wanted.join(" or ")
            )));
        };
        let ours = AvroSchema::parse(self.arms[index].arm.schema)?;
        let theirs = AvroSchema::parse(&writer.json)?;
        let problems = problems(&theirs, &ours, Strictness::Resolution);
        Ok(if problems.is_empty() {
            Outcome::Read(index)
        } else {
            Outcome::Refuse(format!("not readable with our schema: {}", problems.join("; ")))
        })
    }
}

impl<T: Send + Sync + 'static> Deserializer<T> for AvroSerde<T> {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<T> {
        let data = data.ok_or_else(|| null_not_allowed("an Avro record"))?;
        let (id, datum) = wire::split(data)?;
        let Plan { writer, outcome } = self.plan(id)?;
        match outcome {
            Outcome::Read(index) => (self.arms[*index].arm.decode)(writer, datum),
            Outcome::Unknown => (self.unknown)(&writer.name)
                .ok_or_else(|| Error::bad_record(format!("found {}", writer.name))),
            Outcome::Refuse(why) => Err(Error::bad_record(format!("schema id {id}: {why}"))),
        }
    }
}

impl<T: Send + Sync + 'static> Serializer<T> for AvroSerde<T> {
    fn serialize(&self, _: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded> {
        let not_writable = || {
            Error::new(
                ErrorKind::Invalid,
                format!("topic \"{}\": this value is only read, never written", self.topic),
            )
        };
        let arm = &self.arms[(self.select)(value).ok_or_else(not_writable)?];
        let encode = arm.arm.encode.as_ref().ok_or_else(not_writable)?;
        let id = self.id(arm)?;
        let start = out.len();
        out.extend_from_slice(&wire::header(id));
        match encode(value, &arm.schema, out) {
            Ok(()) => Ok(Encoded::Bytes),
            Err(error) => {
                out.truncate(start);
                Err(error.context(format_args!("{} (schema id {id})", arm.name)))
            }
        }
    }
}

/// Reads a whole datum: bytes left over mean that it is not what its schema id says.
fn decode<R: DeserializeOwned>(writer: &WriterSchema, datum: &[u8]) -> Result<R> {
    let mut config = DeserializerConfig::new(&writer.schema);
    // An item takes a byte at least, save for those that take none; those must not let five bytes loop for a second.
    config.max_seq_size = datum.len();
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let result = R::deserialize(state.deserializer());
    let mut rest = state.into_reader();
    let left = std::io::BufRead::fill_buf(&mut rest).map_or(0, <[u8]>::len);
    match result {
        Ok(record) if left == 0 => Ok(record),
        Ok(_) => Err(Error::bad_record(format!(
            "{} (schema id {}): found {left} bytes after the record's end, wanted none",
            writer.name, writer.id
        ))),
        Err(error) => Err(Error::bad_record(format!(
            "{} (schema id {}): {error}, at byte {} of {}",
            writer.name,
            writer.id,
            datum.len() - left,
            datum.len()
        ))),
    }
}

/// Appends a datum. The configuration owns no memory as long as fields come in the schema's order.
fn encode<R: Serialize>(
    record: &R,
    schema: &serde_avro_fast::Schema,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut config = SerializerConfig::new(schema);
    let mut state = SerializerState::from_writer(out, &mut config);
    record
        .serialize(state.serializer())
        .map_err(|error| Error::bad_record(format!("cannot be written as Avro: {error}")))
}

/// Implements [`AvroUnion`](crate::serdes::AvroUnion) for an enum whose variants each hold one record, and one of which,
/// without content, stands for records that this version does not know.
///
/// ```
/// use kstreams::serdes::{AvroRecord, AvroUnion};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Opened { id: i64 }
/// impl AvroRecord for Opened {
///     const SCHEMA: &'static str =
///         r#"{"type":"record","name":"Opened","fields":[{"name":"id","type":"long"}]}"#;
/// }
///
/// enum DoorEvent { Opened(Opened), Unknown }
/// kstreams::avro_union!(DoorEvent { Opened(Opened) } else Unknown);
///
/// assert_eq!(DoorEvent::arms().len(), 1);
/// assert_eq!(DoorEvent::Opened(Opened { id: 7 }).arm_index(), Some(0));
/// assert_eq!(DoorEvent::Unknown.arm_index(), None);
/// ```
#[macro_export]
macro_rules! avro_union {
    ($union:ident { $($variant:ident($record:ty)),+ $(,)? } else $unknown:ident) => {
        impl $crate::serdes::AvroUnion for $union {
            fn arms() -> Vec<$crate::serdes::Arm<Self>> {
                vec![$($crate::serdes::Arm::new::<$record>(Self::$variant, |value| match value {
                    Self::$variant(record) => Some(record),
                    _ => None,
                })),+]
            }

            fn arm_index(&self) -> Option<usize> {
                #[allow(dead_code)] // the last one stands for the unknown record and is never made
                #[derive(Clone, Copy)]
                enum Index { $($variant),+ }
                match self {
                    $(Self::$variant(_) => Some(Index::$variant as usize),)+
                    Self::$unknown => None,
                }
            }

            fn unknown(_: &str) -> Option<Self> {
                Some(Self::$unknown)
            }
        }
    };
}
