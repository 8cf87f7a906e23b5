//! Records of a stream that wait, in order of time, for the table that they will be joined with.
//!
//! Called by the thread of the task, once per record. Deliberately absent: the join.
//! Source: `RocksDBTimeOrderedKeyValueBuffer` (KIP-923). Rows are what the changelog carries, byte-equal to Java's:
//!
//! | key | bytes |
//! |---|---|
//! | `00` | 1 |
//! | timestamp, big-endian milliseconds | 8 |
//! | the record's key | n |
//! | sequence number, big-endian | 4 |
//!
//! | value | bytes |
//! |---|---|
//! | timestamp, offset | 8 + 8 |
//! | length and text of the topic; partition | 4 + n, 4 |
//! | number of headers; of each: length and key, length and value (length −1: null) | 4, … |
//! | −1 and −1 (two values that only other buffers have) | 8 |
//! | length and value | 4 + n |
//! | zero | 8 |
//!
//! Deviations: Java restores these rows as if their keys had another form, and so loses them; here they are restored. Java
//! starts sequence numbers again at each restart, and may overwrite; here they go on. Java leaves the timestamps of the changelog's
//! records to the clock; here they are those of the records.

use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::codec::Codec;
use super::{
    ChangelogRecord, ChangelogWriter, Direction, Engine, StateStore, TransactionalStore,
    TransactionalStoreOptions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Header, Headers};
use crate::serdes::Serde;
use crate::telemetry::StoreFigures;
use crate::time::Timestamp;

const ROW: u8 = 0;
/// Where the buffer's stream time lies; not in the changelog, which has the timestamps.
const STREAM_TIME: &[u8] = &[1];
/// Bytes of a row's key beside the record's key.
const KEY_BYTES: usize = 1 + 8 + 4;
/// Stands for the length of what is null.
const NULL: i32 = -1;

/// A record of the stream, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buffered<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// The buffer of a join with grace.
pub(crate) struct JoinBuffer<K, V> {
    rows: TransactionalStore,
    codec: Codec<K, V>,
    grace_ms: i64,
    /// The highest timestamp put: now, as of the last accepted record, as of the last commit.
    stream_time: [i64; 3],
    /// No row is older; where nothing is known, the smallest number.
    oldest: i64,
    sequence: u32,
    /// Buffers: a row's key, the record's key or value, a row's value.
    key: Vec<u8>,
    part: Vec<u8>,
    value: Vec<u8>,
}

const NOW: usize = 0;
const ACCEPTED: usize = 1;
const COMMITTED: usize = 2;

impl<K: 'static, V: 'static> JoinBuffer<K, V> {
    pub(crate) fn open(
        name: Arc<str>,
        (key_serde, value_serde): (Serde<K>, Serde<V>),
        topic: Arc<str>,
        engine: Box<dyn Engine>,
        (grace_ms, options): (i64, TransactionalStoreOptions),
    ) -> Result<Self> {
        let mut rows = TransactionalStore::open(name, engine, options);
        let stored = rows.get(STREAM_TIME)?.cloned();
        let time = match stored {
            None => -1,
            Some(mut bytes) => bytes.try_get_i64().map_err(|_| corrupted(bytes.len()))?,
        };
        let codec = Codec::new(topic, key_serde, value_serde);
        let (key, part, value) = (Vec::new(), Vec::new(), Vec::new());
        let (stream_time, oldest) = ([time; 3], i64::MIN);
        let mut buffer =
            Self { rows, codec, grace_ms, stream_time, oldest, sequence: 0, key, part, value };
        buffer.find_sequence()?;
        Ok(buffer)
    }

    /// Keeps a record; `false`: it is older than the grace period, and has to be joined now.
    ///
    /// # Errors
    /// What the serdes return; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub(crate) fn put(&mut self, record: &Buffered<K, V>) -> Result<bool> {
        let millis = record.timestamp.as_millis();
        if millis < self.due() {
            return Ok(false);
        }
        self.codec.write_key(&record.key, &mut self.part)?;
        self.sequence = (self.sequence + 1) & i32::MAX.cast_unsigned();
        self.key.clear();
        self.key.push(ROW);
        self.key.extend_from_slice(&millis.to_be_bytes());
        self.key.extend_from_slice(&self.part);
        self.key.extend_from_slice(&self.sequence.to_be_bytes());
        self.codec.write_value(&record.value, &mut self.part)?;
        write_row(record, &self.part, &mut self.value);
        self.rows.put(&self.key, &self.value);
        self.stream_time[NOW] = self.stream_time[NOW].max(millis);
        self.oldest = self.oldest.min(millis);
        Ok(true)
    }

    /// Takes every record whose time has come out of the buffer, in order of time, key and arrival.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) fn take_due(&mut self, due: &mut Vec<Buffered<K, V>>) -> Result<()> {
        let limit = self.due();
        if self.oldest > limit {
            return Ok(());
        }
        let (from, to) = (row_prefix(0), row_prefix(limit.saturating_add(1)));
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut keys = Vec::new();
        for row in self.rows.scan(bounds.0, bounds.1, Direction::Forward)? {
            let row = row?;
            due.push(read_row(&self.codec, &row.key, row.value)?);
            keys.push(row.key);
        }
        keys.iter().for_each(|key| self.rows.delete(key));
        self.oldest = limit.saturating_add(1);
        Ok(())
    }

    /// Records up to this time, inclusive, have waited long enough.
    fn due(&self) -> i64 {
        self.stream_time[NOW].saturating_sub(self.grace_ms)
    }

    /// Sequence numbers go on after those of the rows, so that none is overwritten.
    fn find_sequence(&mut self) -> Result<()> {
        let (from, to) = (Bound::Included(&[ROW][..]), Bound::Excluded(&[ROW + 1][..]));
        for row in self.rows.scan(from, to, Direction::Forward)? {
            self.sequence = self.sequence.max(sequence_of(&row?.key)?);
        }
        Ok(())
    }

    fn forget_bound(&mut self) {
        self.oldest = i64::MIN;
    }
}

fn row_prefix(millis: i64) -> [u8; 9] {
    let mut prefix = [ROW; 9];
    prefix[1..].copy_from_slice(&millis.max(0).to_be_bytes());
    prefix
}

fn sequence_of(key: &[u8]) -> Result<u32> {
    let last = key.last_chunk::<4>().filter(|_| key.len() >= KEY_BYTES);
    last.map(|last| u32::from_be_bytes(*last)).ok_or_else(|| corrupted(key.len()))
}

fn time_of(key: &[u8]) -> Option<i64> {
    let time = key.get(1..9).filter(|_| key.len() >= KEY_BYTES)?;
    Some(i64::from_be_bytes(time.try_into().ok()?))
}

fn corrupted(found: usize) -> Error {
    let message = format!("reading the buffer of a join: found {found} bytes, wanted a record");
    Error::new(ErrorKind::TaskCorrupted, message)
}

fn write_row<K, V>(record: &Buffered<K, V>, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&record.timestamp.as_millis().to_be_bytes());
    out.extend_from_slice(&record.offset.to_be_bytes());
    write_sized(Some(record.topic.as_bytes()), out);
    out.extend_from_slice(&record.partition.to_be_bytes());
    let headers = i32::try_from(record.headers.iter().count()).unwrap_or(i32::MAX);
    out.extend_from_slice(&headers.to_be_bytes());
    for header in record.headers.iter() {
        write_sized(Some(header.key.as_bytes()), out);
        write_sized(header.value.as_deref(), out);
    }
    write_sized(None, out);
    write_sized(None, out);
    write_sized(Some(value), out);
    out.extend_from_slice(&[0; 8]);
}

fn write_sized(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = bytes.map_or(NULL, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn read_sized(bytes: &mut Bytes) -> Result<Option<Bytes>> {
    let bad = |bytes: &Bytes| corrupted(bytes.len());
    let length = bytes.try_get_i32().map_err(|_| bad(bytes))?;
    match usize::try_from(length) {
        Err(_) => Ok(None),
        Ok(length) if length <= bytes.len() => Ok(Some(bytes.split_to(length))),
        Ok(_) => Err(bad(bytes)),
    }
}

fn read_text(bytes: &mut Bytes) -> Result<Arc<str>> {
    let text = read_sized(bytes)?.unwrap_or_default();
    Ok(std::str::from_utf8(&text).map_err(|_| corrupted(text.len()))?.into())
}

fn read_row<K, V>(codec: &Codec<K, V>, key: &Bytes, mut row: Bytes) -> Result<Buffered<K, V>> {
    sequence_of(key)?;
    let size = row.len();
    let number = |result: std::result::Result<i64, _>| {
        result.map_err(|_: bytes::TryGetError| corrupted(size))
    };
    let timestamp = Timestamp::from_millis(number(row.try_get_i64())?);
    let offset = number(row.try_get_i64())?;
    let topic = read_text(&mut row)?;
    let partition = row.try_get_i32().map_err(|_| corrupted(size))?;
    let count = row.try_get_i32().map_err(|_| corrupted(size))?;
    let mut headers = Vec::new();
    for _ in 0..count.max(0) {
        headers.push(Header { key: read_text(&mut row)?, value: read_sized(&mut row)? });
    }
    read_sized(&mut row)?;
    read_sized(&mut row)?;
    let value = read_sized(&mut row)?.ok_or_else(|| corrupted(size))?;
    Ok(Buffered {
        key: codec.read_key(&key.slice(9..key.len() - 4))?,
        value: codec.read_value(&value)?,
        timestamp,
        headers: headers.into_iter().collect(),
        topic,
        partition,
        offset,
    })
}

/// Leaves out the row that is not a record of the changelog.
struct Records<'a> {
    changelog: &'a mut dyn ChangelogWriter,
    count: usize,
}

impl ChangelogWriter for Records<'_> {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        if key == STREAM_TIME {
            return Ok(());
        }
        self.count += 1;
        self.changelog.write(key, value, timestamp)
    }
}

impl<K: 'static, V: 'static> StateStore for JoinBuffer<K, V> {
    fn name(&self) -> &Arc<str> {
        self.rows.name()
    }

    fn set_record_timestamp(&mut self, timestamp: Timestamp) {
        self.rows.set_record_timestamp(timestamp);
    }

    fn accept_record(&mut self) {
        self.stream_time[ACCEPTED] = self.stream_time[NOW];
        self.rows.accept_record();
    }

    fn undo_record(&mut self) {
        self.stream_time[NOW] = self.stream_time[ACCEPTED];
        self.forget_bound();
        self.rows.undo_record();
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        let mut records = Records { changelog, count: 0 };
        self.rows.write_changelog(&mut records)?;
        Ok(records.count)
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        self.rows.refuse_open_record("committing")?;
        if self.stream_time[ACCEPTED] != self.stream_time[COMMITTED] {
            self.rows.put(STREAM_TIME, &self.stream_time[ACCEPTED].to_be_bytes());
            self.rows.accept_record();
        }
        self.rows.commit(position)?;
        self.stream_time[COMMITTED] = self.stream_time[ACCEPTED];
        Ok(())
    }

    fn abort(&mut self) {
        self.stream_time = [self.stream_time[COMMITTED]; 3];
        self.forget_bound();
        self.rows.abort();
    }

    fn uncommitted_bytes(&self) -> usize {
        self.rows.uncommitted_bytes()
    }

    fn figures(&self) -> StoreFigures {
        self.rows.figures()
    }

    fn position(&self) -> Option<i64> {
        self.rows.position()
    }

    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        let mut time = self.stream_time[COMMITTED];
        for record in records {
            time = time.max(time_of(&record.key).ok_or_else(|| corrupted(record.key.len()))?);
            self.sequence = self.sequence.max(sequence_of(&record.key)?);
        }
        self.stream_time = [time; 3];
        self.forget_bound();
        let mut records = records.to_vec();
        records.push(ChangelogRecord {
            key: Bytes::from_static(STREAM_TIME),
            value: Some(Bytes::copy_from_slice(&time.to_be_bytes())),
            timestamp: Timestamp::default(),
            headers: Headers::default(),
        });
        self.rows.restore(&records, position)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Box::new(self.rows).close()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryEngine;
    use super::*;
    use crate::serdes::DefaultSerde;

    type Buffer = JoinBuffer<String, String>;

    fn open(grace_ms: i64) -> Buffer {
        let serdes = (String::serde(), String::serde());
        let options = TransactionalStoreOptions::default();
        let engine = Box::<MemoryEngine>::default();
        JoinBuffer::open("b".into(), serdes, "t".into(), engine, (grace_ms, options)).unwrap()
    }

    fn record(key: &str, value: &str, millis: i64) -> Buffered<String, String> {
        let mut headers = Headers::default();
        headers.add("h", Some("x"));
        headers.add("n", None::<Bytes>);
        Buffered {
            key: key.to_owned(),
            value: value.to_owned(),
            timestamp: Timestamp::from_millis(millis),
            headers,
            topic: "in".into(),
            partition: 3,
            offset: 7,
        }
    }

    fn due(buffer: &mut Buffer) -> Vec<String> {
        let mut due = Vec::new();
        buffer.take_due(&mut due).unwrap();
        due.into_iter().map(|record| record.value).collect()
    }

    #[derive(Default)]
    struct Log(Vec<ChangelogRecord>);

    impl ChangelogWriter for Log {
        fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
            let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            self.0.push(ChangelogRecord { key, value, timestamp, headers: Headers::default() });
            Ok(())
        }
    }

    #[test]
    fn records_leave_in_order_of_time_once_the_grace_period_is_over() {
        let mut buffer = open(10);
        for (key, value, millis) in [("b", "1", 5), ("a", "2", 5), ("a", "3", 5), ("a", "4", 3)] {
            assert!(buffer.put(&record(key, value, millis)).unwrap());
            assert_eq!(due(&mut buffer), [""; 0]);
        }
        assert!(buffer.put(&record("c", "5", 15)).unwrap());
        assert_eq!(due(&mut buffer), ["4", "2", "3", "1"]);
        assert!(!buffer.put(&record("c", "6", 4)).unwrap());
        assert!(buffer.put(&record("c", "7", 5)).unwrap());
        assert_eq!(due(&mut buffer), ["7"]);
    }

    #[test]
    fn undone_and_aborted_records_are_forgotten() {
        let mut buffer = open(10);
        assert!(buffer.put(&record("a", "1", 5)).unwrap());
        buffer.accept_record();
        assert!(buffer.put(&record("a", "2", 50)).unwrap());
        assert_eq!(due(&mut buffer), ["1"]);
        buffer.undo_record();
        assert!(buffer.put(&record("a", "3", 15)).unwrap());
        assert_eq!(due(&mut buffer), ["1"]);
        buffer.abort();
        assert!(buffer.put(&record("a", "4", 0)).unwrap());
        assert_eq!(due(&mut buffer), [""; 0]);
    }

    #[test]
    fn a_buffer_restored_from_its_changelog_goes_on() {
        let mut buffer = open(10);
        assert!(buffer.put(&record("a", "1", 5)).unwrap());
        buffer.accept_record();
        assert!(buffer.put(&record("a", "2", 7)).unwrap());
        buffer.accept_record();
        let mut log = Log::default();
        assert_eq!(buffer.write_changelog(&mut log).unwrap(), 2);
        buffer.commit(Some(2)).unwrap();
        assert_eq!(buffer.write_changelog(&mut Log::default()).unwrap(), 0);

        let mut restored = open(10);
        restored.restore(&log.0, 2).unwrap();
        assert!(restored.put(&record("a", "3", 7)).unwrap());
        assert!(restored.put(&record("a", "4", 17)).unwrap());
        let mut found = Vec::new();
        restored.take_due(&mut found).unwrap();
        assert_eq!(found[0], record("a", "1", 5));
        let values: Vec<_> = found.iter().map(|record| record.value.as_str()).collect();
        assert_eq!(values, ["1", "2", "3"]);
        assert_eq!(restored.position(), Some(2));
        restored.abort();
        assert!(restored.restore(&log.0, 2).is_ok());
    }

    #[test]
    fn rows_are_javas() {
        let mut buffer = open(10);
        let plain = Buffered { headers: Headers::default(), ..record("k", "v", 258) };
        assert!(buffer.put(&plain).unwrap());
        buffer.accept_record();
        let mut log = Log::default();
        buffer.write_changelog(&mut log).unwrap();
        assert_eq!(&log.0[0].key[..], b"\0\0\0\0\0\0\0\x01\x02k\0\0\0\x01");
        let value = [
            &b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x07\0\0\0\x02in\0\0\0\x03\0\0\0\0"[..],
            b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01v\0\0\0\0\0\0\0\0",
        ]
        .concat();
        assert_eq!(log.0[0].value.as_deref(), Some(&value[..]));
    }
}
