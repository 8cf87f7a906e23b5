//! What a suppressed table holds back: one update per key, in the order in which they are due.
//!
//! In memory, as in Java, and restored from its changelog, whose records are byte-equal to Java's (version 3; earlier ones are
//! not read). Called by the thread of its task; hot path: [`put`](SuppressBuffer::put). Undo and abort need no copy: a journal
//! keeps what a key held before the record in hand, and another what it held at the last commit.
//!
//! A changelog value (`InMemoryTimeOrderedKeyValueChangeBuffer`, header `v` = 3), all numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 8 | timestamp and offset of the record that made the update |
//! | 4 + n, 4 | its topic with length, its partition |
//! | 4 | number of headers; each: 4 + n name, 4 + n value (length −1: null) |
//! | 4 + n | the value before the first update held back (length −1: null) |
//! | 4 + n | the value before the last one (−1: null, −2: as the one above) |
//! | 4 + n | the new value (−1: null) |
//! | 8 | the time by which the update is ordered |

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{ChangelogRecord, ChangelogWriter, Engine, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Header, Headers};
use crate::time::Timestamp;

const NULL: i32 = -1;
const AS_PRIOR: i32 = -2;
const VERSION: &[u8] = &[3];

/// Where an update came from; it is forwarded as that record's. Source: `ProcessorRecordContext`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: i64,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) headers: Headers,
}

/// An update that is held back. Source: `BufferValue`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldBack {
    /// The value before the first update that was held back: what the table still looks like from outside.
    pub(crate) prior: Option<Bytes>,
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    time: i64,
    update: HeldBack,
}

/// The buffer of a suppressed table. Source: `InMemoryTimeOrderedKeyValueChangeBuffer`.
pub(crate) struct SuppressBuffer {
    name: Arc<str>,
    topic: Arc<str>,
    engine: Box<dyn Engine>,
    is_logged: bool,
    entries: HashMap<Bytes, Entry>,
    order: BTreeSet<(i64, Bytes)>,
    bytes: usize,
    record_timestamp: Timestamp,
    /// What the changed keys held before the record in hand, in order of change.
    record_journal: Vec<(Bytes, Option<Entry>)>,
    /// What the changed keys held at the last commit.
    committed: BTreeMap<Bytes, (Option<Entry>, Timestamp)>,
    position: Option<i64>,
}

impl SuppressBuffer {
    pub(crate) fn open(
        name: Arc<str>,
        topic: Arc<str>,
        engine: Box<dyn Engine>,
        is_logged: bool,
    ) -> Self {
        Self {
            name,
            topic,
            engine,
            is_logged,
            entries: HashMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            record_timestamp: Timestamp::default(),
            record_journal: Vec::new(),
            committed: BTreeMap::new(),
            position: None,
        }
    }

    /// The topic that serdes are told.
    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Holds an update back. A key that is held back already keeps its place and what it was before.
    pub(crate) fn put(&mut self, time: i64, key: &[u8], mut update: HeldBack) {
        let (key, time) = match self.entries.get_key_value(key) {
            Some((key, entry)) => {
                update.prior = entry.update.prior.clone();
                (key.clone(), entry.time)
            }
            None => (Bytes::copy_from_slice(key), time),
        };
        if update.prior == update.old {
            update.old = update.prior.clone(); // one allocation for both
        }
        self.change(key, Some(Entry { time, update }));
    }

    /// When the first update is due.
    pub(crate) fn min_time(&self) -> Option<i64> {
        self.order.first().map(|(time, _)| *time)
    }

    /// The update that is due first, with its key.
    pub(crate) fn first(&self) -> Option<(Bytes, HeldBack)> {
        let (_, key) = self.order.first()?;
        Some((key.clone(), self.entries[key].update.clone()))
    }

    /// Forgets a key's update.
    pub(crate) fn remove(&mut self, key: &Bytes) {
        self.change(key.clone(), None);
    }

    /// The value that a held-back key had before, null or not; `None`: the key is not held back.
    pub(crate) fn prior(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.entries.get(key).map(|entry| entry.update.prior.as_ref())
    }

    /// How many keys are held back.
    pub(crate) fn records(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take, as Java estimates them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn change(&mut self, key: Bytes, entry: Option<Entry>) {
        let before = self.set(key.clone(), entry);
        let now = self.record_timestamp;
        let committed = self.committed.entry(key.clone());
        committed.and_modify(|(_, at)| *at = now).or_insert_with(|| (before.clone(), now));
        self.record_journal.push((key, before));
    }

    /// Gives a key another entry; returns the one before.
    fn set(&mut self, key: Bytes, entry: Option<Entry>) -> Option<Entry> {
        let before = match entry {
            Some(entry) => {
                self.bytes += resident_bytes(&key, &entry);
                self.order.insert((entry.time, key.clone()));
                let time = entry.time;
                let before = self.entries.insert(key.clone(), entry);
                if let Some(before) = before.as_ref().filter(|before| before.time != time) {
                    self.order.remove(&(before.time, key.clone()));
                }
                before
            }
            None => {
                let before = self.entries.remove(&key);
                if let Some(before) = &before {
                    self.order.remove(&(before.time, key.clone()));
                }
                before
            }
        };
        if let Some(before) = &before {
            self.bytes -= resident_bytes(&key, before);
        }
        before
    }
}

/// Source: `computeRecordSize`, `residentMemorySizeEstimate`.
fn resident_bytes(key: &[u8], entry: &Entry) -> usize {
    let HeldBack { prior, old, new, origin } = &entry.update;
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let characters = |text: &str| text.encode_utf16().count();
    let headers: usize =
        origin.headers.iter().map(|header| characters(&header.key) + length(&header.value)).sum();
    let old = if old == prior { 0 } else { length(old) };
    let of_origin = 8 + 8 + characters(&origin.topic) + 4 + headers;
    8 + key.len() + length(prior) + old + length(new) + of_origin
}

fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
    let HeldBack { prior, old, new, origin } = &entry.update;
    out.extend_from_slice(&origin.timestamp.as_millis().to_be_bytes());
    out.extend_from_slice(&origin.offset.to_be_bytes());
    write_bytes(Some(origin.topic.as_bytes()), out);
    out.extend_from_slice(&origin.partition.to_be_bytes());
    write_length(origin.headers.iter().count(), out);
    for header in origin.headers.iter() {
        write_bytes(Some(header.key.as_bytes()), out);
        write_bytes(header.value.as_deref(), out);
    }
    write_bytes(prior.as_deref(), out);
    if old.is_some() && old == prior {
        out.extend_from_slice(&AS_PRIOR.to_be_bytes());
    } else {
        write_bytes(old.as_deref(), out);
    }
    write_bytes(new.as_deref(), out);
    out.extend_from_slice(&entry.time.to_be_bytes());
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    // Records are bounded far below this by the broker's `max.message.bytes`.
    out.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => {
            write_length(bytes.len(), out);
            out.extend_from_slice(bytes);
        }
        None => out.extend_from_slice(&NULL.to_be_bytes()),
    }
}

fn read_entry(mut bytes: Bytes) -> Option<Entry> {
    let bytes = &mut bytes;
    let timestamp = Timestamp::from_millis(read_i64(bytes)?);
    let offset = read_i64(bytes)?;
    let topic = read_text(bytes)?;
    let partition = read_i32(bytes)?;
    let headers = (0..read_i32(bytes)?)
        .map(|_| Some(Header { key: read_text(bytes)?, value: read_value(bytes)? }))
        .collect::<Option<Headers>>()?;
    let prior = read_value(bytes)?;
    let old = match bytes.clone().try_get_i32().ok()? {
        AS_PRIOR => {
            bytes.advance(4);
            prior.clone()
        }
        _ => read_value(bytes)?,
    };
    let new = read_value(bytes)?;
    let time = read_i64(bytes)?;
    let origin = Origin { timestamp, offset, topic, partition, headers };
    let update = HeldBack { prior, old, new, origin };
    bytes.is_empty().then_some(Entry { time, update })
}

fn read_i64(bytes: &mut Bytes) -> Option<i64> {
    bytes.try_get_i64().ok()
}

fn read_i32(bytes: &mut Bytes) -> Option<i32> {
    bytes.try_get_i32().ok()
}

/// A value with its length, or null; the outer `None` is for bytes that are neither.
fn read_value(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let length = read_i32(bytes)?;
    if length == NULL {
        return Some(None);
    }
    let length = usize::try_from(length).ok()?;
    (length <= bytes.len()).then(|| Some(bytes.split_to(length)))
}

fn read_text(bytes: &mut Bytes) -> Option<Arc<str>> {
    let text = read_value(bytes)??;
    std::str::from_utf8(&text).ok().map(Into::into)
}

impl StateStore for SuppressBuffer {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn set_record_timestamp(&mut self, timestamp: Timestamp) {
        self.record_timestamp = timestamp;
    }

    fn accept_record(&mut self) {
        self.record_journal.clear();
    }

    fn undo_record(&mut self) {
        while let Some((key, before)) = self.record_journal.pop() {
            self.set(key, before);
        }
    }

    fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
        if !self.is_logged {
            return Ok(0);
        }
        let mut headers = Headers::default();
        headers.add("v", Some(Bytes::from_static(VERSION)));
        let (mut value, none) = (Vec::new(), Headers::default());
        for (key, (_, timestamp)) in &self.committed {
            match self.entries.get(key) {
                Some(entry) => {
                    value.clear();
                    write_entry(entry, &mut value);
                    changelog.write_with_headers(key, Some(&value), *timestamp, &headers)?;
                }
                None => changelog.write_with_headers(key, None, *timestamp, &none)?,
            }
        }
        Ok(self.committed.len())
    }

    fn commit(&mut self, position: Option<i64>) -> Result<()> {
        self.committed.clear();
        self.position = position.or(self.position);
        Ok(())
    }

    fn abort(&mut self) {
        self.record_journal.clear();
        for (key, (before, _)) in std::mem::take(&mut self.committed) {
            self.set(key, before);
        }
    }

    fn uncommitted_bytes(&self) -> usize {
        let bytes =
            |key: &Bytes| self.entries.get(key).map_or(0, |entry| resident_bytes(key, entry));
        self.committed.keys().map(bytes).sum()
    }

    fn position(&self) -> Option<i64> {
        self.position
    }

    fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
        for record in records {
            let wrong = || {
                let text = format!(
                    "restoring buffer \"{}\": found a changelog record that is not of version 3",
                    self.name
                );
                Error::new(ErrorKind::TaskCorrupted, text)
            };
            let entry = match &record.value {
                Some(value) => Some(read_entry(value.clone()).ok_or_else(wrong)?),
                None => None,
            };
            self.set(record.key.clone(), entry);
        }
        self.position = Some(position);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.engine.close()
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

    type Written = Vec<(Vec<u8>, Option<Vec<u8>>, usize)>;

    #[derive(Default)]
    struct Log(Written);

    impl ChangelogWriter for Log {
        fn write(&mut self, key: &[u8], value: Option<&[u8]>, at: Timestamp) -> Result<()> {
            self.write_with_headers(key, value, at, &Headers::default())
        }

        fn write_with_headers(
            &mut self,
            key: &[u8],
            value: Option<&[u8]>,
            _: Timestamp,
            headers: &Headers,
        ) -> Result<()> {
            let count = headers.iter().count();
            self.0.push((key.to_vec(), value.map(<[u8]>::to_vec), count));
            Ok(())
        }
    }

    fn buffer() -> SuppressBuffer {
        let engine = Box::<MemoryEngine>::default();
        SuppressBuffer::open("b".into(), "t".into(), engine, true)
    }

    fn update(old: Option<&'static str>, new: Option<&'static str>) -> HeldBack {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut headers = Headers::default();
        headers.add("h", Some(Bytes::from_static(b"x")));
        headers.add("null", None::<Bytes>);
        let timestamp = Timestamp::from_millis(5);
        let origin = Origin { timestamp, offset: 7, topic: "in".into(), partition: 3, headers };
        HeldBack { prior: old.map(bytes), old: old.map(bytes), new: new.map(bytes), origin }
    }

    /// Everything that can be seen of a buffer.
    fn content(buffer: &SuppressBuffer) -> (Vec<(i64, Bytes, HeldBack)>, usize) {
        let row =
            |(time, key): &(i64, Bytes)| (*time, key.clone(), buffer.entries[key].update.clone());
        (buffer.order.iter().map(row).collect(), buffer.bytes)
    }

    #[test]
    fn an_undone_record_and_an_aborted_commit_leave_nothing() {
        let mut buffer = buffer();
        buffer.put(5, b"a", update(None, Some("1")));
        buffer.accept_record();
        buffer.commit(Some(1)).unwrap();
        let committed = content(&buffer);
        buffer.put(9, b"a", update(Some("1"), Some("22")));
        buffer.put(3, b"b", update(None, Some("3")));
        buffer.accept_record();
        let accepted = content(&buffer);
        assert_eq!(buffer.min_time(), Some(3));
        buffer.remove(&Bytes::from_static(b"b"));
        buffer.remove(&Bytes::from_static(b"a"));
        buffer.put(20, b"a", update(Some("22"), None));
        buffer.undo_record();
        assert_eq!(content(&buffer), accepted);
        buffer.abort();
        assert_eq!(content(&buffer), committed);
        let mut log = Log::default();
        assert_eq!(buffer.write_changelog(&mut log).unwrap(), 0);
    }

    #[test]
    fn what_the_changelog_says_is_restored() {
        let mut one = buffer();
        one.put(5, b"a", update(None, Some("1")));
        one.put(6, b"a", update(Some("1"), Some("2")));
        one.put(6, b"b", update(Some("1"), None));
        one.put(7, b"gone", update(None, None));
        one.remove(&Bytes::from_static(b"gone"));
        one.accept_record();
        let mut log = Log::default();
        assert_eq!(one.write_changelog(&mut log).unwrap(), 3);
        let headers: Vec<_> = log.0.iter().map(|(key, _, headers)| (&key[..], *headers)).collect();
        assert_eq!(headers, [(&b"a"[..], 1), (b"b", 1), (b"gone", 0)]);
        let mut other = buffer();
        let records: Vec<_> = log
            .0
            .into_iter()
            .map(|(key, value, _)| ChangelogRecord {
                key: key.into(),
                value: value.map(Into::into),
                timestamp: Timestamp::default(),
                headers: Headers::default(),
            })
            .collect();
        other.restore(&records, 3).unwrap();
        assert_eq!(content(&other), content(&one));
        assert_eq!(other.position(), Some(3));
        assert_eq!(other.prior(b"b"), Some(Some(&Bytes::from_static(b"1"))));
        assert_eq!(other.prior(b"a"), Some(None));
        assert_eq!(other.prior(b"c"), None);
    }

    /// Sizes as `bufferSize()` of Kafka Streams 4.3.1 counts them.
    #[test]
    fn bytes_are_counted_as_java_does() {
        let mut buffer = buffer();
        let origin = 8 + 8 + 2 + 4 + 1 + 1 + 4;
        buffer.put(5, b"key", update(None, Some("1234")));
        assert_eq!(buffer.bytes(), 8 + 3 + 4 + origin);
        buffer.put(5, b"key", update(Some("1234"), Some("5")));
        assert_eq!(buffer.bytes(), 8 + 3 + 4 + 1 + origin);
        buffer.put(5, b"other", update(Some("1234"), None));
        assert_eq!(buffer.bytes(), (8 + 3 + 4 + 1 + origin) + (8 + 5 + 4 + origin));
    }

    #[test]
    fn damaged_changelog_records_are_refused() {
        let mut bytes = Vec::new();
        write_entry(&Entry { time: 9, update: update(Some("1"), Some("2")) }, &mut bytes);
        assert!(read_entry(bytes.clone().into()).is_some());
        for end in 0..bytes.len() {
            assert!(read_entry(Bytes::copy_from_slice(&bytes[..end])).is_none(), "{end} bytes");
        }
        bytes.push(0);
        assert!(read_entry(bytes.into()).is_none());
    }
}
