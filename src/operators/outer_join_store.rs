//! What a left or outer stream-stream join remembers: records that have found no match yet, by time.
//!
//! ```text
//! key    0..8 timestamp, big-endian   8 side: 1 left, 0 right   9.. the record's key
//! value  0 always 1   1..5 number of values, big-endian   then for each:
//!          0..4 length n of what follows   4 side, as in the key   5..4+n the record's value
//! ```
//!
//! So the byte order of keys is that of time, and at one time right comes before left. Source: `TimestampedKeyAndJoinSide`,
//! `LeftOrRightValue`, `ListValueStore`; the bytes are Java's.

use bytes::{Buf, Bytes};

use crate::error::{Error, Result};
use crate::record::Headers;
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};
use crate::store::KeyValueStore;
use crate::time::Timestamp;

/// Which stream of a join a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinSide {
    Left,
    Right,
}

/// A record's key, time and side. Source: `TimestampedKeyAndJoinSide`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UnmatchedKey<K> {
    pub(crate) timestamp: Timestamp,
    pub(crate) side: JoinSide,
    pub(crate) key: K,
}

/// A value of either stream. Source: `LeftOrRightValue`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LeftOrRight<L, R> {
    Left(L),
    Right(R),
}

/// Records without a match. Several of one key, time and side stand in one list; an empty list deletes.
pub(crate) type UnmatchedStore<K, L, R> = KeyValueStore<UnmatchedKey<K>, Vec<LeftOrRight<L, R>>>;

const KEY_HEADER_BYTES: usize = 9;
/// `SerializationStrategy.VARIABLE_SIZE` of Java's list serde.
const VARIABLE_SIZE: u8 = 1;

impl JoinSide {
    fn to_byte(self) -> u8 {
        u8::from(self == Self::Left)
    }

    fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Right),
            1 => Ok(Self::Left),
            other => Err(Error::bad_record(format!("found join side {other}, wanted 0 or 1"))),
        }
    }
}

/// The serde of the keys.
pub(crate) fn unmatched_key_serde<K: 'static>(key: Serde<K>) -> Serde<UnmatchedKey<K>> {
    Serde::from_both(KeySerde(key))
}

/// The serde of the lists of values.
pub(crate) fn unmatched_values_serde<L: 'static, R: 'static>(
    left: Serde<L>,
    right: Serde<R>,
) -> Serde<Vec<LeftOrRight<L, R>>> {
    Serde::from_both(ValuesSerde { left, right })
}

struct KeySerde<K>(Serde<K>);

impl<K> Serializer<UnmatchedKey<K>> for KeySerde<K> {
    fn serialize(&self, topic: &str, key: &UnmatchedKey<K>, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(&key.timestamp.as_millis().to_be_bytes());
        out.push(key.side.to_byte());
        self.0.serializer().serialize(topic, &key.key, out)
    }
}

impl<K> Deserializer<UnmatchedKey<K>> for KeySerde<K> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<UnmatchedKey<K>> {
        let bytes = data.ok_or_else(|| too_short(0, KEY_HEADER_BYTES))?;
        let Some((head, _)) = bytes.split_first_chunk::<8>().filter(|(_, rest)| !rest.is_empty())
        else {
            return Err(too_short(bytes.len(), KEY_HEADER_BYTES));
        };
        let timestamp = Timestamp::from_millis(i64::from_be_bytes(*head));
        let side = JoinSide::from_byte(bytes[8])?;
        let rest = bytes.slice(KEY_HEADER_BYTES..);
        let key = self.0.deserializer().deserialize(topic, headers, Some(&rest))?;
        Ok(UnmatchedKey { timestamp, side, key })
    }
}

struct ValuesSerde<L, R> {
    left: Serde<L>,
    right: Serde<R>,
}

impl<L, R> Serializer<Vec<LeftOrRight<L, R>>> for ValuesSerde<L, R> {
    fn serialize(
        &self,
        topic: &str,
        values: &Vec<LeftOrRight<L, R>>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded> {
        if values.is_empty() {
            return Ok(Encoded::Null);
        }
        out.push(VARIABLE_SIZE);
        out.extend_from_slice(&length(values.len())?.to_be_bytes());
        for value in values {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            let encoded = match value {
                LeftOrRight::Left(value) => {
                    out.push(JoinSide::Left.to_byte());
                    self.left.serializer().serialize(topic, value, out)?
                }
                LeftOrRight::Right(value) => {
                    out.push(JoinSide::Right.to_byte());
                    self.right.serializer().serialize(topic, value, out)?
                }
            };
            if encoded == Encoded::Null {
                return Err(Error::bad_record(
                    "found a value that is written as null, wanted bytes",
                ));
            }
            let written = length(out.len() - start - 4)?;
            out[start..start + 4].copy_from_slice(&written.to_be_bytes());
        }
        Ok(Encoded::Bytes)
    }
}

impl<L, R> Deserializer<Vec<LeftOrRight<L, R>>> for ValuesSerde<L, R> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Vec<LeftOrRight<L, R>>> {
        let Some(mut rest) = data.cloned() else { return Ok(Vec::new()) };
        let strategy = rest.try_get_u8().map_err(|_| too_short(0, 5))?;
        if strategy != VARIABLE_SIZE {
            return Err(Error::bad_record(format!(
                "found list of kind {strategy}, wanted {VARIABLE_SIZE}"
            )));
        }
        let count = rest.try_get_i32().map_err(|_| too_short(rest.len(), 4))?;
        let mut values = Vec::new();
        for _ in 0..count {
            let length = rest.try_get_i32().map_err(|_| too_short(rest.len(), 4))?;
            let length = usize::try_from(length).ok().filter(|n| (1..=rest.len()).contains(n));
            let length = length.ok_or_else(|| too_short(rest.len(), 1))?;
            let mut value = rest.split_to(length);
            let side = JoinSide::from_byte(value.get_u8())?;
            values.push(match side {
                JoinSide::Left => LeftOrRight::Left(self.left.deserializer().deserialize(
                    topic,
                    headers,
                    Some(&value),
                )?),
                JoinSide::Right => LeftOrRight::Right(self.right.deserializer().deserialize(
                    topic,
                    headers,
                    Some(&value),
                )?),
            });
        }
        Ok(values)
    }
}

fn length(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).map_err(|_| {
        Error::bad_record(format!("found {bytes} values or bytes in one list, wanted below 2^31"))
    })
}

fn too_short(found: usize, wanted: usize) -> Error {
    Error::bad_record(format!(
        "reading an unmatched record of a join: found {found} bytes, wanted at least {wanted}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    const KEY: &[u8] = b"\0\0\0\0\0\0\x01\x02\x01key";
    const VALUES: &[u8] = b"\x01\0\0\0\x02\0\0\0\x03\x01ab\0\0\0\x09\0\0\0\0\0\0\0\0\x07";

    fn serialize<T>(serde: &Serde<T>, value: &T) -> (Encoded, Vec<u8>) {
        let mut out = Vec::new();
        (serde.serializer().serialize("t", value, &mut out).unwrap(), out)
    }

    fn deserialize<T>(serde: &Serde<T>, bytes: &[u8]) -> Result<T> {
        let bytes = Bytes::copy_from_slice(bytes);
        serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes))
    }

    #[test]
    fn keys_are_time_side_and_key() {
        let serde = unmatched_key_serde(String::serde());
        let timestamp = Timestamp::from_millis(0x102);
        let key = UnmatchedKey { timestamp, side: JoinSide::Left, key: "key".to_owned() };
        assert_eq!(serialize(&serde, &key), (Encoded::Bytes, KEY.to_vec()));
        assert_eq!(deserialize(&serde, KEY).unwrap(), key);
        for wrong in [&b"\0\0\0\0\0\0\0\0"[..], b"\0\0\0\0\0\0\0\0\x02k"] {
            assert!(deserialize(&serde, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn values_are_a_list_of_either_side() {
        let serde = unmatched_values_serde(String::serde(), i64::serde());
        let values = vec![LeftOrRight::Left("ab".to_owned()), LeftOrRight::Right(7_i64)];
        assert_eq!(serialize(&serde, &values), (Encoded::Bytes, VALUES.to_vec()));
        assert_eq!(deserialize(&serde, VALUES).unwrap(), values);
        assert_eq!(serialize(&serde, &Vec::new()).0, Encoded::Null);
        for cut in 0..VALUES.len() {
            assert!(deserialize(&serde, &VALUES[..cut]).is_err(), "cut at {cut}");
        }
        let huge = b"\x01\x7f\xff\xff\xff";
        assert!(deserialize(&serde, huge).is_err());
    }
}
