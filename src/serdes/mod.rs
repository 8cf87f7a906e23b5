//! From bytes to values and back, at sources, sinks and stores only.
//!
//! A serde works on whole keys or values. Whether Kafka's null is allowed is decided by the type: a serde
//! of `T` refuses null with [`ErrorKind::BadRecord`](crate::ErrorKind), the one of `Option<T>` takes it for `None`.

mod avro;
mod avro_json;
mod cache;
pub mod compatibility;
mod list;
mod memory_registry;
mod primitive;
mod registry;
pub mod schema;
mod tls;
mod windowed;
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::record::Headers;

pub use avro::{Arm, AvroRecord, AvroSerde, AvroUnion};
pub use avro_json::{DecodedFrame, decode_json};
pub use cache::{SchemaCache, WriterSchema};
pub use list::list_serde;
pub use memory_registry::{MemoryRegistry, subject};
pub use primitive::{DefaultSerde, option_serde};
pub use registry::{
    FULL_TRANSITIVE, HttpRegistry, RegisteredSchema, RegistryConfig, SchemaRegistry,
};
pub use tls::tls_config;
pub use windowed::WindowedSerdes;

/// Whether a serializer wrote bytes or stands for Kafka's null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Encoded {
    /// The bytes appended to the buffer are the value.
    Bytes,
    /// The value is null; nothing was appended.
    Null,
}

/// Writes values of `T` as bytes. Source: `org.apache.kafka.common.serialization.Serializer`.
pub trait Serializer<T>: Send + Sync {
    /// Appends `value`, as it shall stand in `topic`, to `out`.
    ///
    /// # Errors
    /// `BadRecord` for a value that cannot be written, `Retriable` where a registry does not answer.
    fn serialize(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded>;
}

/// Reads values of `T` from bytes. Source: `org.apache.kafka.common.serialization.Deserializer`.
pub trait Deserializer<T>: Send + Sync {
    /// Reads the key or value of a record of `topic`; `None` is Kafka's null. `data` may be sliced and kept without a copy.
    ///
    /// # Errors
    /// `BadRecord` for bytes that are not a `T`, `Retriable` where a registry does not answer.
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<T>;
}

impl<T, S: Serializer<T> + ?Sized> Serializer<T> for Arc<S> {
    fn serialize(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded> {
        (**self).serialize(topic, value, out)
    }
}

impl<T, D: Deserializer<T> + ?Sized> Deserializer<T> for Arc<D> {
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<T> {
        (**self).deserialize(topic, headers, data)
    }
}

/// A serializer and a deserializer for `T`; cheap to clone. Source: `org.apache.kafka.common.serialization.Serde`.
pub struct Serde<T> {
    serializer: Arc<dyn Serializer<T>>,
    deserializer: Arc<dyn Deserializer<T>>,
}

impl<T> Clone for Serde<T> {
    fn clone(&self) -> Self {
        Self { serializer: self.serializer.clone(), deserializer: self.deserializer.clone() }
    }
}

impl<T> Serde<T> {
    /// Joins a serializer and a deserializer.
    pub fn new(
        serializer: impl Serializer<T> + 'static,
        deserializer: impl Deserializer<T> + 'static,
    ) -> Self {
        Self { serializer: Arc::new(serializer), deserializer: Arc::new(deserializer) }
    }

    /// A serde from one object that does both.
    pub fn from_both(both: impl Serializer<T> + Deserializer<T> + 'static) -> Self {
        let both = Arc::new(both);
        Self { serializer: both.clone(), deserializer: both }
    }

    /// The writing half.
    pub fn serializer(&self) -> &dyn Serializer<T> {
        &*self.serializer
    }

    /// The reading half.
    pub fn deserializer(&self) -> &dyn Deserializer<T> {
        &*self.deserializer
    }
}

/// The error for a null where `wanted` does not allow one.
pub fn null_not_allowed(wanted: &str) -> Error {
    Error::bad_record(format!("found null, wanted {wanted}; a type Option<_> would accept it"))
}
