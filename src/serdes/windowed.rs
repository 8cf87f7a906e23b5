//! Serdes of windowed keys, byte-equal to Kafka's own, for sinks and for tables joined over windows.
//!
//! | bytes | time window | session window |
//! |---|---|---|
//! | n | the key | the key |
//! | 8 | start, milliseconds, big-endian | end (inclusive) |
//! | 8 | – | start |
//!
//! `61 0000000000000005` is the key `a` in the window that begins at 5; its end is not written, the reader is told the size.

use std::time::Duration;

use bytes::Bytes;

use super::{Deserializer, Encoded, Serde, Serializer};
use crate::error::{Error, Result};
use crate::record::Headers;
use crate::windowed::{Window, Windowed};

const TIMESTAMP_BYTES: usize = 8;

/// Makes serdes of windowed keys. Source: `org.apache.kafka.streams.kstream.WindowedSerdes`.
#[derive(Debug)]
pub struct WindowedSerdes;

impl WindowedSerdes {
    /// The serde of keys in windows of one size: tumbling and hopping windows, and sliding windows with their time difference.
    /// Source: `TimeWindowedSerde`.
    pub fn time_windowed<K: 'static>(inner: Serde<K>, window_size: Duration) -> Serde<Windowed<K>> {
        let size_ms = i64::try_from(window_size.as_millis()).unwrap_or(i64::MAX);
        Serde::from_both(TimeWindowed { inner, size_ms })
    }

    /// The serde of keys in session windows. Source: `SessionWindowedSerde`.
    pub fn session<K: 'static>(inner: Serde<K>) -> Serde<Windowed<K>> {
        Serde::from_both(SessionWindowed { inner })
    }
}

struct TimeWindowed<K> {
    inner: Serde<K>,
    size_ms: i64,
}

struct SessionWindowed<K> {
    inner: Serde<K>,
}

fn write_key<K>(serde: &Serde<K>, topic: &str, key: &K, out: &mut Vec<u8>) -> Result<()> {
    match serde.serializer().serialize(topic, key, out)? {
        Encoded::Bytes => Ok(()),
        Encoded::Null => Err(Error::bad_record("found a windowed key that is null, wanted a key")),
    }
}

/// Splits the last `N` bytes off, as big-endian integers.
fn split<const N: usize>(data: Option<&Bytes>) -> Result<(Bytes, [i64; N])> {
    let Some(data) = data else { return Err(super::null_not_allowed("a windowed key")) };
    let wanted = N * TIMESTAMP_BYTES;
    let Some(key_bytes) = data.len().checked_sub(wanted) else {
        return Err(Error::bad_record(format!(
            "found a windowed key of {} bytes, wanted at least {wanted}",
            data.len()
        )));
    };
    let mut times = [0; N];
    for (time, bytes) in times.iter_mut().zip(data[key_bytes..].chunks_exact(TIMESTAMP_BYTES)) {
        *time = i64::from_be_bytes(bytes.try_into().expect("chunks of eight"));
    }
    Ok((data.slice(..key_bytes), times))
}

impl<K> Serializer<Windowed<K>> for TimeWindowed<K> {
    fn serialize(&self, topic: &str, key: &Windowed<K>, out: &mut Vec<u8>) -> Result<Encoded> {
        write_key(&self.inner, topic, &key.key, out)?;
        out.extend_from_slice(&key.window.start.as_millis().to_be_bytes());
        Ok(Encoded::Bytes)
    }
}

impl<K> Deserializer<Windowed<K>> for TimeWindowed<K> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Windowed<K>> {
        let (key, [start]) = split(data)?;
        let key = self.inner.deserializer().deserialize(topic, headers, Some(&key))?;
        Ok(Windowed::new(key, Window::sized(start, self.size_ms)))
    }
}

impl<K> Serializer<Windowed<K>> for SessionWindowed<K> {
    fn serialize(&self, topic: &str, key: &Windowed<K>, out: &mut Vec<u8>) -> Result<Encoded> {
        write_key(&self.inner, topic, &key.key, out)?;
        out.extend_from_slice(&key.window.end.as_millis().to_be_bytes());
        out.extend_from_slice(&key.window.start.as_millis().to_be_bytes());
        Ok(Encoded::Bytes)
    }
}

impl<K> Deserializer<Windowed<K>> for SessionWindowed<K> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Windowed<K>> {
        let (key, [end, start]) = split(data)?;
        let key = self.inner.deserializer().deserialize(topic, headers, Some(&key))?;
        Ok(Windowed::new(key, Window::between(start, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::DefaultSerde;
    use super::*;

    fn round_trip(serde: &Serde<Windowed<String>>, key: Windowed<String>, bytes: &[u8]) {
        let mut out = Vec::new();
        assert_eq!(serde.serializer().serialize("t", &key, &mut out).unwrap(), Encoded::Bytes);
        assert_eq!(out, bytes);
        let read = |data: &[u8]| {
            let data = Bytes::copy_from_slice(data);
            serde.deserializer().deserialize("t", &Headers::default(), Some(&data))
        };
        assert_eq!(read(bytes).unwrap(), key);
        assert!(read(&bytes[bytes.len() - 7..]).unwrap_err().message().contains("7 bytes"));
    }

    #[test]
    fn time_windowed_keys_as_documented() {
        let serde = WindowedSerdes::time_windowed(String::serde(), Duration::from_millis(10));
        let key = Windowed::new("a".to_owned(), Window::between(5, 15));
        round_trip(&serde, key, b"a\0\0\0\0\0\0\0\x05");
    }

    #[test]
    fn session_keys_have_the_end_first() {
        let serde = WindowedSerdes::session(String::serde());
        let key = Windowed::new("a".to_owned(), Window::between(5, 6));
        round_trip(&serde, key, b"a\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x05");
    }

    #[test]
    fn a_null_inside_a_window_is_refused() {
        let serde = WindowedSerdes::session(Option::<String>::serde());
        let key = Windowed::new(None, Window::between(5, 6));
        assert!(serde.serializer().serialize("t", &key, &mut Vec::new()).is_err());
    }
}
