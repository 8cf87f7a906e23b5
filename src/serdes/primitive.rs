//! Serdes of plain types, byte-equal to Kafka's own (`Serdes.String()`, `Serdes.Long()` …).

use bytes::Bytes;

use super::{Deserializer, Encoded, Serde, Serializer, null_not_allowed};
use crate::error::{Error, Result};
use crate::record::Headers;

/// Types that know their own serde, so that `builder.stream::<String, i64>("topic")` needs none named.
pub trait DefaultSerde: Sized + 'static {
    /// The serde of this type.
    fn serde() -> Serde<Self>;
}

struct Plain;

macro_rules! plain {
    ($type:ty, $name:literal, |$value:ident, $out:ident| $write:expr, |$bytes:ident| $read:expr) => {
        impl Serializer<$type> for Plain {
            fn serialize(&self, _: &str, $value: &$type, $out: &mut Vec<u8>) -> Result<Encoded> {
                $write;
                Ok(Encoded::Bytes)
            }
        }

        impl Deserializer<$type> for Plain {
            fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<$type> {
                let $bytes = data.ok_or_else(|| null_not_allowed($name))?;
                $read
            }
        }

        impl DefaultSerde for $type {
            fn serde() -> Serde<Self> {
                Serde::from_both(Plain)
            }
        }
    };
}

fn fixed<const N: usize>(bytes: &[u8], wanted: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        Error::bad_record(format!("found {} bytes, wanted {N} ({wanted})", bytes.len()))
    })
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::bad_record("wanted UTF-8 text").with_source(e))
}

plain!(String, "text", |v, out| out.extend_from_slice(v.as_bytes()), |b| Ok(text(b)?.to_owned()));
plain!(std::sync::Arc<str>, "text", |v, out| out.extend_from_slice(v.as_bytes()), |b| Ok(
    text(b)?.into()
));
plain!(Bytes, "bytes", |v, out| out.extend_from_slice(v), |b| Ok(b.clone()));
plain!(Vec<u8>, "bytes", |v, out| out.extend_from_slice(v), |b| Ok(b.to_vec()));
plain!(i64, "a 64-bit integer", |v, out| out.extend_from_slice(&v.to_be_bytes()), |b| Ok(
    i64::from_be_bytes(fixed(b, "a 64-bit integer")?)
));
plain!(i32, "a 32-bit integer", |v, out| out.extend_from_slice(&v.to_be_bytes()), |b| Ok(
    i32::from_be_bytes(fixed(b, "a 32-bit integer")?)
));
plain!(f64, "a double", |v, out| out.extend_from_slice(&v.to_be_bytes()), |b| Ok(
    f64::from_be_bytes(fixed(b, "a double")?)
));

impl Serializer<()> for Plain {
    fn serialize(&self, _: &str, (): &(), _: &mut Vec<u8>) -> Result<Encoded> {
        Ok(Encoded::Null)
    }
}

impl Deserializer<()> for Plain {
    fn deserialize(&self, _: &str, _: &Headers, _: Option<&Bytes>) -> Result<()> {
        Ok(())
    }
}

/// `()` is always null on the wire, and reads anything as nothing.
impl DefaultSerde for () {
    fn serde() -> Serde<Self> {
        Serde::from_both(Plain)
    }
}

struct Optional<T>(Serde<T>);

impl<T> Serializer<Option<T>> for Optional<T> {
    fn serialize(&self, topic: &str, value: &Option<T>, out: &mut Vec<u8>) -> Result<Encoded> {
        match value {
            Some(value) => self.0.serializer().serialize(topic, value, out),
            None => Ok(Encoded::Null),
        }
    }
}

impl<T> Deserializer<Option<T>> for Optional<T> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Option<T>> {
        data.map(|data| self.0.deserializer().deserialize(topic, headers, Some(data))).transpose()
    }
}

/// The serde of `Option<T>`: null on the wire is `None`.
pub fn option_serde<T: 'static>(serde: Serde<T>) -> Serde<Option<T>> {
    Serde::from_both(Optional(serde))
}

impl<T: DefaultSerde> DefaultSerde for Option<T> {
    fn serde() -> Serde<Self> {
        option_serde(T::serde())
    }
}
