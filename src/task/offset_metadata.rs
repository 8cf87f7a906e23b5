//! The text that is committed beside an offset: a partition's time, what operators keep (see `TaskTimes`), and who wrote it.
//!
//! Kafka Streams reads it, and it is read where Kafka Streams wrote it, so that stream time survives a restart, of this client and of the
//! other. The writer is ours: it follows where Java's reader stops, so that Java neither sees it nor passes it on when it commits itself. Once
//! a partition and commit. Source: `TopicPartitionMetadata`, `ProcessorMetadata.serialize`.
//!
//! Base64 with padding of these bytes, all numbers big-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 2 (version 1 ends after the partition time) |
//! | 1 | 8 | partition time in milliseconds; -1: none |
//! | 9 | 4 | number of entries; nothing from here on where there is neither entry nor writer |
//! | 13 | 4, n, 8 | an entry: length of its name, the name in UTF-8, its time |
//! | behind them | n | the writer's `transactional.id` in UTF-8, to the end; empty without transactions |
//!
//! `AgAAAAAAAAPo` is `02 00000000 000003e8`: time 1000, no entries. `AgAAAAAAAAPoAAAAAGEtMA==` has the writer `a-0` besides.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::time::Timestamp;

const VERSION: u8 = 2;
const NO_TIME: i64 = -1;
/// The default of `offset.metadata.max.bytes`.
pub(super) const LENGTH_MAX: usize = 4096;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What was committed beside an offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OffsetMetadata {
    pub(super) partition_time: Option<Timestamp>,
    pub(super) times: Vec<(Arc<str>, Timestamp)>,
    /// The `transactional.id` of the producer that committed it.
    pub(super) writer: Option<String>,
}

/// The length of the text that has a time of each name, and the writer. Brokers take at most [`LENGTH_MAX`].
pub(super) fn length_of<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
    writer: Option<&str>,
) -> usize {
    let entries: usize = names.map(|name| 4 + name.len() + 8).sum();
    (1 + 8 + 4 + entries + writer.map_or(0, str::len)).div_ceil(3) * 4
}

/// The text to commit.
pub(super) fn encode(
    partition_time: Option<Timestamp>,
    times: &BTreeMap<Arc<str>, Timestamp>,
    writer: Option<&str>,
) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(partition_time.map_or(NO_TIME, Timestamp::as_millis).to_be_bytes());
    if !times.is_empty() || writer.is_some() {
        bytes.extend(length(times.len()).to_be_bytes());
        for (name, time) in times {
            bytes.extend(length(name.len()).to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(time.as_millis().to_be_bytes());
        }
    }
    bytes.extend(writer.unwrap_or_default().as_bytes());
    to_base64(&bytes)
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("names of stores are short, and few")
}

/// Reads committed text. One that is not ours says nothing, as in Kafka Streams: the offset counts all the same.
pub(super) fn decode(text: &str) -> OffsetMetadata {
    if text.is_empty() {
        return OffsetMetadata::default();
    }
    from_base64(text).and_then(|bytes| read(&bytes)).unwrap_or_else(|| {
        tracing::warn!(
            found = text,
            "the metadata of a committed offset is not of this format; stream time begins anew"
        );
        OffsetMetadata::default()
    })
}

/// Who committed a text; `None`: nobody that tells it, as Kafka Streams.
pub(super) fn writer_of(text: &str) -> Option<String> {
    read(&from_base64(text)?)?.writer
}

fn read(bytes: &[u8]) -> Option<OffsetMetadata> {
    let (version, mut rest) = bytes.split_first()?;
    if !(1..=VERSION).contains(version) {
        return None;
    }
    let time = read_i64(&mut rest)?;
    let mut metadata = OffsetMetadata {
        partition_time: (time >= 0).then(|| Timestamp::from_millis(time)),
        ..OffsetMetadata::default()
    };
    if *version == VERSION && !rest.is_empty() {
        for _ in 0..read_u32(&mut rest)? {
            let length = usize::try_from(read_u32(&mut rest)?).ok()?;
            let (name, after) = rest.split_at_checked(length)?;
            rest = after;
            let time = Timestamp::from_millis(read_i64(&mut rest)?);
            metadata.times.push((std::str::from_utf8(name).ok()?.into(), time));
        }
        let writer = std::str::from_utf8(rest).ok().filter(|writer| !writer.is_empty());
        metadata.writer = writer.map(str::to_owned);
    }
    Some(metadata)
}

fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

fn read_i64(rest: &mut &[u8]) -> Option<i64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i64::from_be_bytes(*bytes))
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let sextet = (bits >> (18 - 6 * index)) & 63;
            let digit = char::from(ALPHABET[sextet as usize]);
            text.push(if index <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let sextet = ALPHABET.iter().position(|known| known == digit)?;
        bits = bits << 6 | u32::try_from(sextet).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_texts_are_those_of_kafka_streams() {
        let none = BTreeMap::new();
        assert_eq!(encode(Some(at(1000)), &none, None), "AgAAAAAAAAPo");
        assert_eq!(encode(None, &none, None), "Av//////////");
        let times = BTreeMap::from([("s".into(), at(7))]);
        assert_eq!(encode(Some(at(1000)), &times, None), "AgAAAAAAAAPoAAAAAQAAAAFzAAAAAAAAAAc=");
    }

    #[test]
    fn what_was_written_is_read() {
        for names in [&[][..], &["a"], &["ab"], &["abc", "Größe"]] {
            let times: BTreeMap<Arc<str>, Timestamp> =
                names.iter().map(|name| ((*name).into(), at(1_700_000_000_123))).collect();
            for writer in [None, Some("app-0f-1")] {
                let read = decode(&encode(Some(at(5)), &times, writer));
                assert_eq!(read.partition_time, Some(at(5)));
                assert_eq!(read.times.into_iter().collect::<BTreeMap<_, _>>(), times);
                assert_eq!(read.writer.as_deref(), writer);
            }
        }
        assert_eq!(decode(&encode(None, &BTreeMap::new(), None)), OffsetMetadata::default());
    }

    #[test]
    fn the_length_is_known_beforehand() {
        for names in [&["a"][..], &["ab"], &["abc", "Größe"]] {
            let times: BTreeMap<Arc<str>, Timestamp> =
                names.iter().map(|name| ((*name).into(), at(1))).collect();
            for writer in [None, Some("app-0f-1")] {
                let length = encode(Some(at(5)), &times, writer).len();
                assert_eq!(length_of(times.keys(), writer), length);
            }
        }
    }

    #[test]
    fn the_writer_follows_where_javas_reader_stops() {
        let text = encode(Some(at(1000)), &BTreeMap::new(), Some("a-0"));
        assert_eq!(text, "AgAAAAAAAAPoAAAAAGEtMA==");
        assert_eq!(decode(&text).writer.as_deref(), Some("a-0"));
    }

    #[test]
    fn version_1_has_a_time_alone() {
        let read = decode(&to_base64(&[1, 0, 0, 0, 0, 0, 0, 0, 9]));
        assert_eq!(read, OffsetMetadata { partition_time: Some(at(9)), ..Default::default() });
    }

    #[test]
    fn foreign_and_broken_texts_say_nothing() {
        let mut cut = to_base64(&[2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0]);
        for text in ["", "hello there", "AwAAAAAAAAPo", "AgAA", "====", cut.as_str()] {
            assert_eq!(decode(text), OffsetMetadata::default(), "{text}");
        }
        cut.truncate(12);
        assert_eq!(decode(&cut).partition_time, Some(at(9)));
    }
}
