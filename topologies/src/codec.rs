//! Bytes of what never leaves the application: stores, their changelogs and the repartition topics.
//!
//! Values: one byte [`FORMAT`], then postcard (a few bytes per field, no names; several times smaller and faster than Avro with a
//! registry, which these records do not need, since only the topology itself reads them). A change of a type needs another
//! `FORMAT`, and code that reads the old one. Numbers in keys are big-endian with the sign bit turned over, so that they
//! sort: 1 is `8000000000000001`. Hot path.

use bytes::Bytes;
use kstreams::serdes::{Deserializer, Encoded, Serde, Serializer, null_not_allowed};
use kstreams::telemetry::SpanContext;
use kstreams::{Error, Headers, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of all value formats of internal values.
const FORMAT: u8 = 1;
/// Before it, where a value has a place in a trace.
const FORMAT_TRACED: u8 = 2;

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

/// A value that is written later, and keeps the place in a trace of the record that led to it.
pub(crate) trait Traced {
    /// That place; none where nothing is traced. Where several wait in one value, the newest one's.
    fn trace(&self) -> Option<SpanContext>;
    /// Takes the place that was written.
    fn set_trace(&mut self, context: SpanContext);
}

/// The serde of an internal value with its place: without one as [`internal`] writes it; with one [`FORMAT_TRACED`], 16 bytes of the trace,
/// 8 of the span, 1 of flags, and the value.
pub(crate) fn traced<T: Traced + Serialize + DeserializeOwned + 'static>() -> Serde<T> {
    Serde::from_both(InternalTraced)
}

struct InternalTraced;

impl<T: Traced + Serialize> Serializer<T> for InternalTraced {
    fn serialize(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded> {
        let Some(SpanContext { trace_id, span_id, flags }) = value.trace() else {
            return Internal.serialize(topic, value, out);
        };
        let start = out.len();
        out.push(FORMAT_TRACED);
        out.extend(trace_id.into_iter().chain(span_id).chain([flags]));
        let value_at = out.len();
        let encoded = Internal.serialize(topic, value, out)?;
        debug_assert_eq!((out[start], out[value_at]), (FORMAT_TRACED, FORMAT));
        Ok(encoded)
    }
}

impl<T: Traced + DeserializeOwned> Deserializer<T> for InternalTraced {
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<T> {
        let parts = data.and_then(|data| {
            let rest = data.strip_prefix(&[FORMAT_TRACED])?;
            let (trace_id, rest) = rest.split_first_chunk()?;
            let (span_id, rest) = rest.split_first_chunk()?;
            let (flags, rest) = rest.split_first()?;
            let context = SpanContext { trace_id: *trace_id, span_id: *span_id, flags: *flags };
            Some((context, data.slice_ref(rest)))
        });
        let Some((context, value)) = parts else {
            return Internal.deserialize(topic, headers, data);
        };
        let mut value: T = Internal.deserialize(topic, headers, Some(&value))?;
        value.set_trace(context);
        Ok(value)
    }
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

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Row {
        number: i64,
        #[serde(skip)]
        trace: Option<SpanContext>,
    }

    impl Traced for Row {
        fn trace(&self) -> Option<SpanContext> {
            self.trace
        }

        fn set_trace(&mut self, context: SpanContext) {
            self.trace = Some(context);
        }
    }

    #[test]
    fn a_place_lies_before_the_value_and_is_read_back_and_without_one_nothing_changes() {
        let serde = traced::<Row>();
        let written = |row: &Row| {
            let mut out = vec![7]; // as a store's buffer, which is not empty
            let encoded = serde.serializer().serialize("t", row, &mut out);
            assert_eq!(encoded.unwrap(), Encoded::Bytes);
            Bytes::from(out).slice(1..)
        };
        let read =
            |data: Bytes| serde.deserializer().deserialize("t", &Headers::default(), Some(&data));
        let plain = Row { number: 5, trace: None };
        assert_eq!(&written(&plain)[..], [FORMAT, 10]);
        assert_eq!(read(written(&plain)).unwrap(), plain);
        let trace = Some(SpanContext { trace_id: [1; 16], span_id: [2; 8], flags: 3 });
        let row = Row { number: 5, trace };
        let data = written(&row);
        let wanted = [&[FORMAT_TRACED][..], &[1; 16], &[2; 8], &[3, FORMAT, 10]].concat();
        assert_eq!(&data[..], wanted);
        assert_eq!(read(data.clone()).unwrap(), row);
        // Cut off within the place, it is none.
        assert!(read(data.slice(..20)).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn numbers_sort_as_bytes() {
        let numbers = [i64::MIN, -1, 0, 1, 256, i64::MAX];
        assert!(numbers.map(ordered).is_sorted());
        assert_eq!(numbers.map(ordered).map(unordered), numbers);
    }
}
