//! How a table's changes travel through a repartition topic.

use bytes::{Buf, Bytes};

use super::Change;
use crate::error::{Error, Result};
use crate::record::Headers;
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};

/// The last byte of a change that carries only the old value.
const OLD: u8 = 0;
/// The last byte of a change that carries only the new value.
const NEW: u8 = 1;
/// The last byte of a change that carries the new value, with its length before it, and then the old one.
const BOTH: u8 = 2;
/// As the three above, with a byte before it that says whether the change is the latest of its key: read, never written, as in Java.
const WITH_IS_LATEST: [(u8, u8); 3] = [(3, OLD), (4, NEW), (5, BOTH)];

/// The serde of a [`Change`], byte-equal to Java's. Source: `ChangedSerializer`, `ChangedDeserializer` (KIP-904).
pub(crate) fn change_serde<V: 'static>(values: Serde<V>) -> Serde<Change<V>> {
    Serde::from_both(ChangeSerde(values))
}

struct ChangeSerde<V>(Serde<V>);

impl<V> Serializer<Change<V>> for ChangeSerde<V> {
    fn serialize(&self, topic: &str, change: &Change<V>, out: &mut Vec<u8>) -> Result<Encoded> {
        let values = self.0.serializer();
        let start = out.len();
        let mut flag = None;
        if let Some(new) = &change.new
            && values.serialize(topic, new, out)? == Encoded::Bytes
        {
            flag = Some(NEW);
        }
        let new_bytes = out.len() - start;
        if let Some(old) = &change.old
            && values.serialize(topic, old, out)? == Encoded::Bytes
        {
            flag = Some(if flag.is_some() { BOTH } else { OLD });
        }
        let flag = flag.ok_or_else(|| {
            Error::bad_record("found a change without old and new value, wanted one of them")
        })?;
        if flag == BOTH {
            let (length, bytes) = zigzag_varint(new_bytes)?;
            out.splice(start..start, length[..bytes].iter().copied());
        }
        out.push(flag);
        Ok(Encoded::Bytes)
    }
}

impl<V> Deserializer<Change<V>> for ChangeSerde<V> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Change<V>> {
        let bad = || Error::bad_record(format!("found {data:?}, wanted a change of a table"));
        let mut rest = data.cloned().ok_or_else(bad)?;
        let mut flag = pop(&mut rest).ok_or_else(bad)?;
        let mut is_latest = true;
        if let Some((_, plain)) = WITH_IS_LATEST.iter().find(|(known, _)| *known == flag) {
            flag = *plain;
            is_latest = match pop(&mut rest) {
                Some(0) => false,
                Some(1) => true,
                _ => return Err(bad()),
            };
        }
        let values = self.0.deserializer();
        let read = |bytes: Bytes| values.deserialize(topic, headers, Some(&bytes)).map(Some);
        let change = match flag {
            OLD => Change::latest(None, read(rest)?),
            NEW => Change::latest(read(rest)?, None),
            BOTH => {
                let new_bytes = read_zigzag_varint(&mut rest).ok_or_else(bad)?;
                if new_bytes > rest.len() {
                    return Err(bad());
                }
                let new = rest.split_to(new_bytes);
                Change::latest(read(new)?, read(rest)?)
            }
            _ => return Err(bad()),
        };
        Ok(Change { is_latest, ..change })
    }
}

fn pop(bytes: &mut Bytes) -> Option<u8> {
    let last = *bytes.last()?;
    bytes.truncate(bytes.len() - 1);
    Some(last)
}

/// A length as Kafka's `ByteUtils.writeVarint` writes it, and how many bytes that takes.
fn zigzag_varint(length: usize) -> Result<([u8; 5], usize)> {
    let length = i32::try_from(length).map_err(|_| {
        Error::bad_record(format!("found a value of {length} bytes, wanted 2 GiB at most"))
    })?;
    let mut rest = length.unsigned_abs() << 1;
    let (mut bytes, mut used) = ([0; 5], 0);
    while rest >= 0x80 {
        bytes[used] = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        used += 1;
    }
    bytes[used] = rest as u8;
    Ok((bytes, used + 1))
}

fn read_zigzag_varint(bytes: &mut Bytes) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = bytes.first().copied()?;
        bytes.advance(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // An odd number stands for a negative one, which no length is.
            return (value & 1 == 0).then_some(usize::try_from(value >> 1).ok()?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    fn bytes_of(new: Option<&str>, old: Option<&str>) -> Result<Vec<u8>> {
        let serde = change_serde(String::serde());
        let change = Change::latest(new.map(str::to_owned), old.map(str::to_owned));
        let mut out = b"before".to_vec();
        let _ = serde.serializer().serialize("t", &change, &mut out)?;
        let bytes = Bytes::from(out.split_off(6));
        let read = serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes))?;
        assert_eq!(read, change);
        Ok(bytes.to_vec())
    }

    #[test]
    fn bytes_are_javas() {
        assert_eq!(bytes_of(Some("ab"), None).unwrap(), b"ab\x01");
        assert_eq!(bytes_of(None, Some("c")).unwrap(), b"c\x00");
        assert_eq!(bytes_of(Some("ab"), Some("c")).unwrap(), b"\x04abc\x02");
        let long = "x".repeat(100);
        assert_eq!(bytes_of(Some(&long), Some("")).unwrap()[..2], [0xc8, 0x01]);
        assert!(bytes_of(None, None).is_err());
    }
    #[test]
    fn a_flag_for_the_latest_is_read_as_java_writes_it() {
        let serde = change_serde(String::serde());
        let read = |bytes: &'static [u8]| {
            let bytes = Bytes::from_static(bytes);
            serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes))
        };
        let text = |text: &str| Some(text.to_owned());
        let old = Change { new: None, old: text("c"), is_latest: false };
        assert_eq!(read(b"c\x00\x03").unwrap(), old);
        assert_eq!(read(b"ab\x01\x04").unwrap(), Change::latest(text("ab"), None));
        let both = Change { new: text("ab"), old: text("c"), is_latest: false };
        assert_eq!(read(b"\x04abc\x00\x05").unwrap(), both);
        for wrong in [&b""[..], b"\x04", b"ab\x02\x04", b"ab\x06"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
