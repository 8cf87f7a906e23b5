//! A record that waits for its result, as bytes in a store.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | event time, big-endian milliseconds |
//! | 4 n | the record: key, value, headers |
//! | 4 + 8 + 8 | source partition, offset, timestamp |
//! | 4 n | the source record: topic, key, value, headers |
//!
//! A text or value is its length (4 bytes, −1: null) and its bytes; headers are their number (4 bytes), then name and value of each.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};

use crate::error::{Error, Result};
use crate::processor::SourceRecord;
use crate::record::{Header, Headers, RawRecord, Record};
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};
use crate::time::Timestamp;

/// A record that waits, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting<K, V> {
    pub(crate) record: Record<K, V>,
    pub(crate) origin: SourceRecord,
}

struct WaitingSerde<K, V> {
    keys: Serde<K>,
    values: Serde<V>,
    types: PhantomData<fn() -> (K, V)>,
}

/// The serde of records that wait.
pub(crate) fn waiting_serde<K: 'static, V: 'static>(
    keys: Serde<K>,
    values: Serde<V>,
) -> Serde<Waiting<K, V>> {
    Serde::from_both(WaitingSerde { keys, values, types: PhantomData })
}

impl<K, V> Serializer<Waiting<K, V>> for WaitingSerde<K, V> {
    fn serialize(
        &self,
        topic: &str,
        waiting: &Waiting<K, V>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded> {
        let Waiting { record, origin } = waiting;
        out.put_i64(record.timestamp.as_millis());
        let mut bytes = Vec::new();
        let key = self.keys.serializer().serialize(topic, &record.key, &mut bytes)?;
        put_bytes((key == Encoded::Bytes).then_some(&bytes[..]), out)?;
        bytes.clear();
        let value = self.values.serializer().serialize(topic, &record.value, &mut bytes)?;
        put_bytes((value == Encoded::Bytes).then_some(&bytes[..]), out)?;
        put_headers(&record.headers, out)?;
        let RawRecord { offset, timestamp, key, value, headers } = &origin.raw;
        out.put_i32(origin.partition);
        out.put_i64(*offset);
        out.put_i64(timestamp.as_millis());
        put_bytes(Some(origin.topic.as_bytes()), out)?;
        put_bytes(key.as_deref(), out)?;
        put_bytes(value.as_deref(), out)?;
        put_headers(headers, out)?;
        Ok(Encoded::Bytes)
    }
}

impl<K, V> Deserializer<Waiting<K, V>> for WaitingSerde<K, V> {
    fn deserialize(&self, topic: &str, _: &Headers, data: Option<&Bytes>) -> Result<Waiting<K, V>> {
        let mut rest = data.cloned().unwrap_or_default();
        let timestamp = Timestamp::from_millis(rest.try_get_i64().map_err(|_| wrong())?);
        let (key, value) = (take_bytes(&mut rest)?, take_bytes(&mut rest)?);
        let headers = take_headers(&mut rest)?;
        let key = self.keys.deserializer().deserialize(topic, &headers, key.as_ref())?;
        let value = self.values.deserializer().deserialize(topic, &headers, value.as_ref())?;
        let partition = rest.try_get_i32().map_err(|_| wrong())?;
        let offset = rest.try_get_i64().map_err(|_| wrong())?;
        let raw_timestamp = Timestamp::from_millis(rest.try_get_i64().map_err(|_| wrong())?);
        let topic = text(&take_bytes(&mut rest)?.ok_or_else(wrong)?)?.into();
        let raw = RawRecord {
            offset,
            timestamp: raw_timestamp,
            key: take_bytes(&mut rest)?,
            value: take_bytes(&mut rest)?,
            headers: take_headers(&mut rest)?,
        };
        let record = Record { key, value, timestamp, headers };
        Ok(Waiting { record, origin: SourceRecord { topic, partition, raw } })
    }
}

fn wrong() -> Error {
    Error::bad_record("found bytes that do not add up, wanted a record that waits")
}

fn put_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) -> Result<()> {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(length(bytes.len())?);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

fn put_headers(headers: &Headers, out: &mut Vec<u8>) -> Result<()> {
    out.put_i32(length(headers.iter().count())?);
    headers.iter().try_for_each(|header| {
        put_bytes(Some(header.key.as_bytes()), out)?;
        put_bytes(header.value.as_deref(), out)
    })
}

fn length(length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| Error::bad_record("found 2 GiB, wanted a record"))
}

fn take_bytes(rest: &mut Bytes) -> Result<Option<Bytes>> {
    let length = rest.try_get_i32().map_err(|_| wrong())?;
    match usize::try_from(length) {
        Err(_) => Ok(None),
        Ok(length) if length <= rest.len() => Ok(Some(rest.split_to(length))),
        Ok(_) => Err(wrong()),
    }
}

fn take_headers(rest: &mut Bytes) -> Result<Headers> {
    let count = rest.try_get_i32().map_err(|_| wrong())?;
    (0..count)
        .map(|_| {
            let key = text(&take_bytes(rest)?.ok_or_else(wrong)?)?.into();
            Ok(Header { key, value: take_bytes(rest)? })
        })
        .collect()
}

fn text(bytes: &Bytes) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    fn waiting() -> Waiting<Option<String>, i32> {
        let mut headers = Headers::default();
        headers.add("h", None::<Bytes>);
        let raw = RawRecord {
            offset: 258,
            timestamp: Timestamp::from_millis(-1),
            key: None,
            value: Some(Bytes::from_static(b"raw")),
            headers: Headers::default(),
        };
        let record = Record { key: None, value: 7, timestamp: Timestamp::from_millis(5), headers };
        Waiting { record, origin: SourceRecord { topic: "in".into(), partition: 3, raw } }
    }

    /// The example of the format.
    const HEX: &str = "0000000000000005\
        ffffffff0000000400000007\
        000000010000000168ffffffff\
        000000030000000000000102ffffffffffffffff\
        00000002696effffffff0000000372617700000000";

    #[test]
    fn a_waiting_record_is_written_and_read_as_documented() {
        let serde = waiting_serde(Option::<String>::serde(), i32::serde());
        let mut bytes = Vec::new();
        let written = serde.serializer().serialize("t", &waiting(), &mut bytes).unwrap();
        assert_eq!(written, Encoded::Bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, HEX);
        let read = |bytes: &[u8]| {
            let bytes = Bytes::copy_from_slice(bytes);
            serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes))
        };
        assert_eq!(read(&bytes).unwrap(), waiting());
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
