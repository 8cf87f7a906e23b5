//! Stores that keep headers with their values (KIP-1271): on a changelog the headers are the record's, as in Java, and not part of the value.
//!
//! The typed store holds [`ValueAndHeaders`]; [`KeepsHeaders`] around it takes the two apart for the changelog, and puts them together when restored.
//! Warm: once a changed key and commit.

use std::any::Any;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{ChangelogRecord, ChangelogWriter, RecordCache, StateStore, StoreView};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Header, Headers};
use crate::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer};
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;

/// A value and the headers that it came with. Source: `ValueTimestampHeaders`, `AggregationWithHeaders`.
///
/// In the store, all numbers zigzag varints as Kafka writes them:
///
/// | bytes | what |
/// |---|---|
/// | varint | size of the headers, 0 where there are none |
/// | varint | number of headers; nothing from here on where there are none |
/// | varint, n, varint, m | a header: length of its name, the name in UTF-8, length of its value (-1: null), the value |
/// | the rest | the value |
///
/// `0a 02 02 61 02 62` and then `78`: the header `a` of `b`, the value `x`. A timestamp stands in front of all of it, where the store keeps one; in Java
/// it stands between headers and value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValueAndHeaders<V> {
    /// The value.
    pub value: V,
    /// The headers.
    pub headers: Headers,
}

/// The serde of a value and its headers; what reads the value is told its headers.
pub fn value_and_headers_serde<V: 'static>(value: Serde<V>) -> Serde<ValueAndHeaders<V>> {
    Serde::from_both(Joined(value))
}

struct Joined<V>(Serde<V>);

impl<V: DefaultSerde> DefaultSerde for ValueAndHeaders<V> {
    fn serde() -> Serde<Self> {
        value_and_headers_serde(V::serde())
    }
}

impl<V> Serializer<ValueAndHeaders<V>> for Joined<V> {
    fn serialize(
        &self,
        topic: &str,
        joined: &ValueAndHeaders<V>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded> {
        let start = out.len();
        write_headers(&joined.headers, out);
        let encoded = self.0.serializer().serialize(topic, &joined.value, out)?;
        if encoded == Encoded::Null {
            out.truncate(start);
        }
        Ok(encoded)
    }
}

impl<V> Deserializer<ValueAndHeaders<V>> for Joined<V> {
    fn deserialize(
        &self,
        topic: &str,
        _: &Headers,
        data: Option<&Bytes>,
    ) -> Result<ValueAndHeaders<V>> {
        let mut value = data.cloned().ok_or_else(|| damaged("null"))?;
        let headers = read_headers(&mut value)?;
        let value = self.0.deserializer().deserialize(topic, &headers, Some(&value))?;
        Ok(ValueAndHeaders { value, headers })
    }
}

/// Source: `HeadersSerializer`.
fn write_headers(headers: &Headers, out: &mut Vec<u8>) {
    if headers.is_empty() {
        write_varint(0, out);
        return;
    }
    let mut list = Vec::new();
    write_length(headers.iter().count(), &mut list);
    for Header { key, value } in headers.iter() {
        write_length(key.len(), &mut list);
        list.extend_from_slice(key.as_bytes());
        match value {
            None => write_varint(-1, &mut list),
            Some(value) => {
                write_length(value.len(), &mut list);
                list.extend_from_slice(value);
            }
        }
    }
    write_length(list.len(), out);
    out.extend_from_slice(&list);
}

/// Takes the headers off the front.
fn read_headers(bytes: &mut Bytes) -> Result<Headers> {
    let size = read_length(bytes)?;
    let mut list = take(bytes, size)?;
    if list.is_empty() {
        return Ok(Headers::default());
    }
    let count = read_length(&mut list)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let length = read_length(&mut list)?;
        let name = take(&mut list, length)?;
        let key = std::str::from_utf8(&name).map_err(|_| damaged("a name that is not UTF-8"))?;
        let value = match read_varint(&mut list)? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| damaged("a negative length"))?;
                Some(take(&mut list, length)?)
            }
        };
        headers.push(Header { key: key.into(), value });
    }
    Ok(headers.into_iter().collect())
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    write_varint(i32::try_from(length).expect("headers of a record are smaller than 2 GiB"), out);
}

/// Source: `ByteUtils.writeVarint`.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // bits, not numbers
fn write_varint(value: i32, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_length(bytes: &mut Bytes) -> Result<usize> {
    usize::try_from(read_varint(bytes)?).map_err(|_| damaged("a negative length"))
}

/// Source: `ByteUtils.readVarint`.
#[allow(clippy::cast_possible_wrap)] // bits, not numbers
fn read_varint(bytes: &mut Bytes) -> Result<i32> {
    let mut raw = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.try_get_u8().map_err(|_| damaged("an early end"))?;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((raw >> 1) as i32 ^ -((raw & 1) as i32));
        }
    }
    Err(damaged("a number of more than five bytes"))
}

fn take(bytes: &mut Bytes, size: usize) -> Result<Bytes> {
    if size > bytes.len() {
        return Err(damaged("an early end"));
    }
    Ok(bytes.split_to(size))
}

fn damaged(found: &str) -> Error {
    Error::new(
        ErrorKind::TaskCorrupted,
        format!("reading a value with headers: found {found}, wanted headers and a value"),
    )
}

/// A typed store of [`ValueAndHeaders`] whose changelog has the headers beside the values.
///
/// Deviation: Java gives a tombstone the headers of the record in hand; here it has none, since nothing reads them.
pub(crate) struct KeepsHeaders<S>(pub(crate) S);

impl<S: StateStore> StateStore for KeepsHeaders<S> {
    fn name(&self) -> &Arc<str> {
        self.0.name()
    }

    fn set_record_timestamp(&mut self, timestamp: Timestamp) {
        self.0.set_record_timestamp(timestamp);
    }

    fn needs_stream_time(&self) -> bool {
        self.0.needs_stream_time()
    }

    fn set_stream_time(&mut self, time: Timestamp) {
        self.0.set_stream_time(time);
    }

    fn accept_record(&mut self) {
        self.0.accept_record();
    }

    fn undo_record(&mut self) {
        self.0.undo_record();
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        self.0.write_changelog(&mut Apart(changelog))
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        self.0.commit(position)
    }

    fn abort(&mut self) {
        self.0.abort();
    }

    fn uncommitted_bytes(&self) -> usize {
        self.0.uncommitted_bytes()
    }

    fn figures(&self) -> StoreFigures {
        self.0.figures()
    }

    fn take_expired_writes(&mut self) -> u64 {
        self.0.take_expired_writes()
    }

    fn position(&self) -> Option<i64> {
        self.0.position()
    }

    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        let together = |record: &ChangelogRecord| {
            let value = record.value.as_ref().map(|value| {
                let mut joined = Vec::new();
                write_headers(&record.headers, &mut joined);
                joined.extend_from_slice(value);
                Bytes::from(joined)
            });
            ChangelogRecord { value, ..record.clone() }
        };
        let records: Vec<ChangelogRecord> = records.iter().map(together).collect();
        self.0.restore(&records, position)
    }

    fn times(&self) -> Vec<i64> {
        self.0.times()
    }

    fn keep_times(&mut self, times: &[i64]) {
        self.0.keep_times(times);
    }

    fn record_cache(&mut self) -> Option<&mut Option<RecordCache>> {
        self.0.record_cache()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Box::new(self.0).close()
    }

    fn view(&self) -> Option<StoreView> {
        self.0.view()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.0.as_any_mut()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
}

/// Takes headers and value apart.
struct Apart<'a>(&'a mut dyn ChangelogWriter);

impl ChangelogWriter for Apart<'_> {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        let Some(value) = value else { return self.0.write(key, None, timestamp) };
        let mut value = Bytes::copy_from_slice(value);
        let headers = read_headers(&mut value)?;
        self.0.write_with_headers(key, Some(&value), timestamp, &headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, Option<&'static [u8]>)]) -> Headers {
        let header = |(key, value): &(&str, Option<&'static [u8]>)| Header {
            key: (*key).into(),
            value: value.map(Bytes::from_static),
        };
        list.iter().map(header).collect()
    }

    fn bytes_of(headers: &Headers) -> Vec<u8> {
        let mut out = Vec::new();
        write_headers(headers, &mut out);
        out
    }

    #[test]
    fn headers_have_javas_bytes() {
        assert_eq!(bytes_of(&Headers::default()), [0]);
        assert_eq!(bytes_of(&headers(&[("a", Some(b"b"))])), b"\x0a\x02\x02a\x02b");
        // The null is a length of -1, zigzag 1; 64 needs a second byte.
        let long = headers(&[("n", None), ("l", Some(&[7; 64]))]);
        let bytes = bytes_of(&long);
        assert_eq!(&bytes[..10], b"\x90\x01\x04\x02n\x01\x02l\x80\x01");
        let mut read = Bytes::from(bytes);
        assert_eq!(read_headers(&mut read).unwrap(), long);
        assert!(read.is_empty());
    }

    #[test]
    fn varints_are_kafkas() {
        for value in [0, -1, 1, 63, -64, 64, 300, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(read_varint(&mut Bytes::from(out)).unwrap(), value);
        }
    }

    #[test]
    fn damaged_headers_are_an_error() {
        for bytes in [
            &b""[..],
            b"\x0a\x02",
            b"\x01",
            b"\x08\x02\x10a\x02b",
            b"\x04\x02\x01",
            b"\x06\x02\x02\xff",
            b"\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(read_headers(&mut Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
