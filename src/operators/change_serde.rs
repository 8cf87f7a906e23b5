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
        let flag = *rest.last().ok_or_else(bad)?;
        rest.truncate(rest.len() - 1);
        let values = self.0.deserializer();
        let read = |bytes: Bytes| values.deserialize(topic, headers, Some(&bytes)).map(Some);
        Ok(match flag {
            OLD => Change { new: None, old: read(rest)? },
            NEW => Change { new: read(rest)?, old: None },
            BOTH => {
                let new_bytes = read_zigzag_varint(&mut rest).ok_or_else(bad)?;
                if new_bytes > rest.len() {
                    return Err(bad());
                }
                let new = rest.split_to(new_bytes);
                Change { new: read(new)?, old: read(rest)? }
            }
            _ => return Err(bad()),
        })
    }
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
        let change = Change { new: new.map(str::to_owned), old: old.map(str::to_owned) };
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
}
