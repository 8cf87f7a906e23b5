//! Bytes of what never leaves the application: stores, their changelogs and the repartition topics.
//!
//! Values: one byte [`FORMAT`], then postcard (a few bytes per field, no names; several times smaller and faster than Avro with a
//! registry, which these records do not need, since only the topology itself reads them). A change of a type needs another
//! `FORMAT`, and code that reads the old one. Numbers in keys are big-endian with the sign bit turned over, so that they
//! sort: 1 is `8000000000000001`. Hot path.

use bytes::Bytes;
use kstreams::serdes::{Deserializer, Encoded, Serde, Serializer, null_not_allowed};
use kstreams::{Error, Headers, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of all value formats of internal values.
const FORMAT: u8 = 1;

/// The serde of an internal value.
pub(crate) fn internal<T: Serialize + DeserializeOwned + 'static>() -> Serde<T> {
    Serde::from_both(Internal)
}

struct Internal;

impl<T: Serialize> Serializer<T> for Internal {
    fn serialize(&self, _: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded> {
        out.push(FORMAT);
        postcard::serialize_with_flavor(value, Appending(out))
            .map_err(|e| Error::bad_record("cannot write an internal value").with_source(e))?;
        Ok(Encoded::Bytes)
    }
}

/// Appends to a buffer that is there already.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl<T: DeserializeOwned> Deserializer<T> for Internal {
    fn deserialize(&self, topic: &str, _: &Headers, data: Option<&Bytes>) -> Result<T> {
        let data = data.ok_or_else(|| null_not_allowed("an internal value"))?;
        let value = match data.split_first() {
            Some((&FORMAT, value)) => value,
            Some((other, _)) => {
                return Err(Error::bad_record(format!(
                    "found internal format {other} in \"{topic}\", wanted {FORMAT}; another version of this application wrote it"
                )));
            }
            None => return Err(Error::bad_record("found no byte, wanted an internal value")),
        };
        let broken = |e| {
            Error::bad_record(format!(
                "found bytes in \"{topic}\" that are no {}",
                type_name::<T>()
            ))
            .with_source(e)
        };
        let (value, rest) = postcard::take_from_bytes(value).map_err(broken)?;
        if rest.is_empty() {
            return Ok(value);
        }
        Err(Error::bad_record(format!(
            "found {} bytes after a {} in \"{topic}\", wanted none",
            rest.len(),
            type_name::<T>()
        )))
    }
}

fn type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// The value of an index entry: nothing, but not Kafka's null, which would delete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present;

impl Present {
    pub(crate) fn serde() -> Serde<Self> {
        Serde::from_both(Self)
    }
}

impl Serializer<Present> for Present {
    fn serialize(&self, _: &str, _: &Present, _: &mut Vec<u8>) -> Result<Encoded> {
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Present> for Present {
    fn deserialize(&self, _: &str, _: &Headers, _: Option<&Bytes>) -> Result<Present> {
        Ok(Present)
    }
}

/// Bytes that sort as the numbers do.
pub(crate) fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// The number of such bytes.
pub(crate) fn unordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

/// The error for a store key that is not what it should be.
pub(crate) fn wrong_key(of: &str) -> Error {
    Error::bad_record(format!("found a store key that is not of a {of}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager_assignment::by_request::RequestEntry;

    fn bytes(value: &RequestEntry) -> Bytes {
        let mut out = Vec::new();
        let serde = internal::<RequestEntry>();
        assert_eq!(serde.serializer().serialize("t", value, &mut out).unwrap(), Encoded::Bytes);
        out.into()
    }

    fn read(data: &[u8]) -> Result<RequestEntry> {
        let data = Bytes::copy_from_slice(data);
        let serde = internal::<RequestEntry>();
        serde.deserializer().deserialize("t", &Headers::default(), Some(&data))
    }

    #[test]
    fn internal_values_say_their_format_and_are_read_whole() {
        let entry = RequestEntry::Closed { at_ms: 5 };
        let written = bytes(&entry);
        assert_eq!(&written[..], [FORMAT, 1, 10]);
        assert_eq!(read(&written).unwrap(), entry);
        assert!(read(&[2, 1, 10]).unwrap_err().to_string().contains("format 2"));
        assert!(read(&[FORMAT, 1, 10, 0]).unwrap_err().to_string().contains("1 bytes after"));
        assert!(read(&[FORMAT, 9]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn numbers_sort_as_bytes() {
        let numbers = [i64::MIN, -1, 0, 1, 256, i64::MAX];
        assert!(numbers.map(ordered).is_sorted());
        assert_eq!(numbers.map(ordered).map(unordered), numbers);
    }
}
