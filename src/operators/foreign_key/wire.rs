//! What a foreign-key join sends and keeps, byte-equal to Java's: subscriptions, responses, and the keys of the subscription store.
//!
//! A subscription (`SubscriptionWrapperSerde`, version 1; version 0 has no partition):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version; the highest bit says that there is no hash |
//! | 1 | 1 | [`Instruction`] |
//! | 2 | 16 or 0 | Murmur3 of the left value, big-endian |
//! | … | any | primary key |
//! | end − 4 | 4 | the left row's partition, big-endian |
//!
//! A response (`SubscriptionResponseWrapperSerde`): version and hash as above, then the right value, none for null.

use std::sync::OnceLock;

use bytes::{Buf, Bytes};

use super::murmur3::Hash128;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};

/// Set in the first byte where the left value is null, so that it has no hash.
const NO_HASH: u8 = 0x80;
const SUBSCRIPTION_VERSION_MAX: u8 = 1;
const RESPONSE_VERSION: u8 = 0;
const HASH_BYTES: usize = 16;
const PARTITION_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;

/// What the right side does with a subscription. Source: `SubscriptionWrapper.Instruction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction {
    DeleteKeyNoPropagate,
    DeleteKeyAndPropagate,
    PropagateNullIfNoForeignValue,
    PropagateOnlyIfForeignValue,
}

impl Instruction {
    const ALL: [Self; 4] = [
        Self::DeleteKeyNoPropagate,
        Self::DeleteKeyAndPropagate,
        Self::PropagateNullIfNoForeignValue,
        Self::PropagateOnlyIfForeignValue,
    ];
}

/// A left row's wish to hear of a right row. Source: `SubscriptionWrapper`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subscription<K> {
    /// Of the left value; `None`: there is none.
    pub(crate) hash: Option<Hash128>,
    pub(crate) instruction: Instruction,
    pub(crate) primary_key: K,
    /// Where the answer goes; `None` in a subscription of version 0.
    pub(crate) primary_partition: Option<i32>,
}

/// The answer to a subscription. Source: `SubscriptionResponseWrapper`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Response<V> {
    /// That of the subscription.
    pub(crate) hash: Option<Hash128>,
    /// The right value, if there is one.
    pub(crate) value: Option<V>,
    /// Where the answer goes; not written.
    pub(crate) primary_partition: Option<i32>,
}

/// A subscription, its primary key still bytes.
pub(crate) struct RawSubscription {
    pub(crate) hash: Option<Hash128>,
    pub(crate) instruction: Instruction,
    pub(crate) primary_key: Bytes,
    pub(crate) primary_partition: Option<i32>,
}

fn write_hash(version: u8, hash: Option<Hash128>, out: &mut Vec<u8>) {
    out.push(if hash.is_some() { version } else { version | NO_HASH });
}

fn write_halves(hash: Option<Hash128>, out: &mut Vec<u8>) {
    for half in hash.into_iter().flatten() {
        out.extend_from_slice(&half.to_be_bytes());
    }
}

fn read_halves(has_hash: bool, bytes: &mut Bytes) -> Option<Option<Hash128>> {
    if !has_hash {
        return Some(None);
    }
    (bytes.len() >= HASH_BYTES).then(|| Some([bytes.get_u64(), bytes.get_u64()]))
}

/// Appends a subscription to `out`; `topic` is what the key's serde is told.
pub(crate) fn write_subscription<K>(
    keys: &Serde<K>,
    topic: &str,
    subscription: &Subscription<K>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let version = u8::from(subscription.primary_partition.is_some());
    write_hash(version, subscription.hash, out);
    out.push(subscription.instruction as u8);
    write_halves(subscription.hash, out);
    write_key(keys, topic, &subscription.primary_key, out)?;
    if let Some(partition) = subscription.primary_partition {
        out.extend_from_slice(&partition.to_be_bytes());
    }
    Ok(())
}

/// Takes a subscription apart.
pub(crate) fn read_subscription(data: &Bytes) -> Result<RawSubscription> {
    let wrong =
        || Error::bad_record(format!("found {data:?}, wanted a foreign-key join's subscription"));
    let mut rest = data.clone();
    if rest.len() < 2 {
        return Err(wrong());
    }
    let first = rest.get_u8();
    let version = first & !NO_HASH;
    if version > SUBSCRIPTION_VERSION_MAX {
        return Err(Error::bad_record(format!(
            "found a subscription of version {version}, wanted {SUBSCRIPTION_VERSION_MAX} at most; a newer application writes to this topic"
        )));
    }
    let instruction = Instruction::ALL.get(usize::from(rest.get_u8()));
    let instruction = *instruction.ok_or_else(wrong)?;
    let hash = read_halves(first & NO_HASH == 0, &mut rest).ok_or_else(wrong)?;
    let primary_partition = match version {
        0 => None,
        _ if rest.len() < PARTITION_BYTES => return Err(wrong()),
        _ => Some(rest.split_off(rest.len() - PARTITION_BYTES).get_i32()),
    };
    Ok(RawSubscription { hash, instruction, primary_key: rest, primary_partition })
}

/// Writes and reads subscriptions in their topic. Source: `SubscriptionWrapperSerde`.
pub(crate) struct SubscriptionSerde<K> {
    keys: Serde<K>,
    /// What the key's serde is told: the topic and `-pk`.
    key_topic: OnceLock<String>,
}

impl<K> SubscriptionSerde<K> {
    fn key_topic(&self, topic: &str) -> &str {
        self.key_topic.get_or_init(|| format!("{topic}-pk"))
    }
}

/// The serde of a subscription topic's values.
pub(crate) fn subscription_serde<K: 'static>(keys: Serde<K>) -> Serde<Subscription<K>> {
    Serde::from_both(SubscriptionSerde { keys, key_topic: OnceLock::new() })
}

impl<K> Serializer<Subscription<K>> for SubscriptionSerde<K> {
    fn serialize(
        &self,
        topic: &str,
        value: &Subscription<K>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded> {
        write_subscription(&self.keys, self.key_topic(topic), value, out)?;
        Ok(Encoded::Bytes)
    }
}

impl<K> Deserializer<Subscription<K>> for SubscriptionSerde<K> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Subscription<K>> {
        let data = data.ok_or_else(|| {
            Error::bad_record("found null, wanted a foreign-key join's subscription")
        })?;
        let raw = read_subscription(data)?;
        let key = Some(&raw.primary_key);
        let primary_key =
            self.keys.deserializer().deserialize(self.key_topic(topic), headers, key)?;
        let RawSubscription { hash, instruction, primary_partition, .. } = raw;
        Ok(Subscription { hash, instruction, primary_key, primary_partition })
    }
}

/// Writes and reads responses in their topic. Source: `SubscriptionResponseWrapperSerde`.
struct ResponseSerde<V>(Serde<V>);

/// The serde of a response topic's values.
pub(crate) fn response_serde<V: 'static>(values: Serde<V>) -> Serde<Response<V>> {
    Serde::from_both(ResponseSerde(values))
}

impl<V> Serializer<Response<V>> for ResponseSerde<V> {
    fn serialize(&self, topic: &str, value: &Response<V>, out: &mut Vec<u8>) -> Result<Encoded> {
        write_hash(RESPONSE_VERSION, value.hash, out);
        write_halves(value.hash, out);
        if let Some(value) = &value.value {
            // A value that is written as null is no value, as in Java.
            let _ = self.0.serializer().serialize(topic, value, out)?;
        }
        Ok(Encoded::Bytes)
    }
}

impl<V> Deserializer<Response<V>> for ResponseSerde<V> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Response<V>> {
        let wrong =
            || Error::bad_record(format!("found {data:?}, wanted a foreign-key join's response"));
        let mut rest = data.filter(|data| !data.is_empty()).cloned().ok_or_else(wrong)?;
        let first = rest.get_u8();
        if first & !NO_HASH != RESPONSE_VERSION {
            return Err(Error::bad_record(format!(
                "found a response of version {}, wanted {RESPONSE_VERSION}; a newer application writes to this topic",
                first & !NO_HASH
            )));
        }
        let hash = read_halves(first & NO_HASH == 0, &mut rest).ok_or_else(wrong)?;
        let read = |rest| self.0.deserializer().deserialize(topic, headers, Some(rest));
        let value = if rest.is_empty() { None } else { Some(read(&rest)?) };
        Ok(Response { hash, value, primary_partition: None })
    }
}

fn write_key<K>(keys: &Serde<K>, topic: &str, key: &K, out: &mut Vec<u8>) -> Result<()> {
    match keys.serializer().serialize(topic, key, out)? {
        Encoded::Bytes => Ok(()),
        Encoded::Null => {
            Err(Error::bad_record("found a key that is written as null, wanted one that is not"))
        }
    }
}

/// Appends what all store keys of one foreign key begin with: its length (4 bytes, big-endian) and bytes. Source: `CombinedKeySchema`.
pub(crate) fn write_foreign_key<KO>(
    keys: &Serde<KO>,
    topic: &str,
    key: &KO,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write_key(keys, topic, key, out)?;
    let bytes = out.len() - start - LENGTH_BYTES;
    let length = i32::try_from(bytes).map_err(|_| {
        Error::bad_record(format!("found a key of {bytes} bytes, wanted 2 GiB at most"))
    })?;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends a key of the subscription store: foreign key with its length, and the primary key.
pub(crate) fn write_combined_key<KO, K>(
    (foreign_keys, foreign_topic): (&Serde<KO>, &str),
    foreign_key: &KO,
    (primary_keys, primary_topic): (&Serde<K>, &str),
    primary_key: &K,
    out: &mut Vec<u8>,
) -> Result<()> {
    write_foreign_key(foreign_keys, foreign_topic, foreign_key, out)?;
    write_key(primary_keys, primary_topic, primary_key, out)
}

/// The primary key's bytes in a key of the subscription store.
pub(crate) fn primary_key_of(combined: &Bytes) -> Result<Bytes> {
    let wrong = || {
        let text = format!("found {combined:?}, wanted a key of a foreign-key join's store");
        Error::new(ErrorKind::TaskCorrupted, text)
    };
    let mut rest = combined.clone();
    if rest.len() < LENGTH_BYTES {
        return Err(wrong());
    }
    let length = usize::try_from(rest.get_i32()).map_err(|_| wrong())?;
    if length > rest.len() {
        return Err(wrong());
    }
    Ok(rest.split_off(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    const HASH: Hash128 = [0x0102_0304_0506_0708, 0x1112_1314_1516_1718];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn round_trip<T: PartialEq + std::fmt::Debug>(serde: &Serde<T>, value: &T) -> String {
        let mut out = Vec::new();
        let _ = serde.serializer().serialize("t", value, &mut out).unwrap();
        let bytes = Bytes::from(out);
        let read = serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes));
        assert_eq!(&read.unwrap(), value);
        hex(&bytes)
    }

    /// Written by `SubscriptionWrapperSerde` of Kafka Streams 4.3.1.
    #[test]
    fn subscriptions_are_javas() {
        let serde = subscription_serde(String::serde());
        let mut subscription = Subscription {
            hash: Some(HASH),
            instruction: Instruction::PropagateOnlyIfForeignValue,
            primary_key: "pk".to_owned(),
            primary_partition: Some(3),
        };
        let bytes = "010301020304050607081112131415161718706b00000003";
        assert_eq!(round_trip(&serde, &subscription), bytes);
        subscription.hash = None;
        subscription.instruction = Instruction::DeleteKeyAndPropagate;
        subscription.primary_partition = Some(258);
        assert_eq!(round_trip(&serde, &subscription), "8101706b00000102");
        subscription.primary_partition = None;
        assert_eq!(round_trip(&serde, &subscription), "8001706b");
    }

    /// Written by `SubscriptionResponseWrapperSerde` of Kafka Streams 4.3.1.
    #[test]
    fn responses_are_javas() {
        let serde = response_serde(String::serde());
        let mut response =
            Response { hash: Some(HASH), value: Some("fv".to_owned()), primary_partition: None };
        let bytes = "00010203040506070811121314151617186676";
        assert_eq!(round_trip(&serde, &response), bytes);
        response.value = None;
        assert_eq!(round_trip(&serde, &response), "0001020304050607081112131415161718");
        response.hash = None;
        assert_eq!(round_trip(&serde, &response), "80");
    }

    #[test]
    fn wrong_bytes_are_refused() {
        for wrong in ["", "\x01", "\x01\x09", "\x01\x03", "\x02\x03", "\x7f\x01"] {
            let bytes = Bytes::from_static(wrong.as_bytes());
            assert!(read_subscription(&bytes).is_err(), "{wrong:?}");
        }
        let serde = response_serde(String::serde());
        for wrong in ["", "\x00", "\x01"] {
            let bytes = Bytes::from_static(wrong.as_bytes());
            let read = serde.deserializer().deserialize("t", &Headers::default(), Some(&bytes));
            assert!(read.is_err(), "{wrong:?}");
        }
        assert!(primary_key_of(&Bytes::from_static(b"\x00\x00\x00\x02a")).is_err());
        assert!(primary_key_of(&Bytes::from_static(b"\xff\xff\xff\xffa")).is_err());
    }

    #[test]
    fn combined_keys_carry_the_foreign_keys_length() {
        let (texts, numbers) = (String::serde(), i64::serde());
        let mut out = Vec::new();
        let foreign = "fk".to_owned();
        write_combined_key((&texts, "f"), &foreign, (&numbers, "p"), &7, &mut out).unwrap();
        assert_eq!(hex(&out), "00000002666b0000000000000007");
        assert_eq!(primary_key_of(&Bytes::from(out)).unwrap(), 7i64.to_be_bytes().to_vec());
    }
}
