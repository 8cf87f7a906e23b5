//! Every version of every key, as bytes: where a version lies, how one is put and found. Hot path: `put`, `get`, `get_as_of`.
//!
//! The newest version of a key has a row of its own. Each older one lies in the row of its key and of the *segment* of time
//! in which it ended, so that versions that ended too long ago can be dropped a segment at a time.
//! Source: `RocksDBVersionedStore`, whose order of steps is kept, because what it remembers of a deletion depends on it: one
//! at the very timestamp of a key's only version leaves no trace.
//!
//! | row | key in the engine |
//! |---|---|
//! | newest version: timestamp (8 bytes), value | `00` key |
//! | older versions, see [`row`](super::row) | `01` segment (8 bytes, sign bit flipped) key |
//! | observed stream time (8 bytes) | `02` |

use bytes::{Buf, Bytes};

use super::row::{SegmentRow, Version, end_of, oldest_of};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{StateStore, TransactionalStore};

const NEWEST: u8 = 0;
const SEGMENT: u8 = 1;
const STREAM_TIME: &[u8] = &[2];
const SIGN_BIT: u64 = 1 << 63;

/// How far back a versioned store goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Milliseconds behind stream time for which versions are kept and puts are taken.
    pub(crate) history_ms: i64,
    /// Milliseconds of a segment.
    pub(crate) segment_ms: i64,
}

impl Retention {
    /// Source: `RocksDbVersionedKeyValueBytesStoreSupplier.defaultSegmentInterval`.
    pub(crate) fn of_history(history_ms: i64) -> Self {
        let segment_ms = match history_ms {
            ..=60_000 => (history_ms / 3).max(2_000),
            60_001..=300_000 => (history_ms / 5).max(20_000),
            300_001..=3_600_000 => (history_ms / 12).max(60_000),
            _ => (history_ms / 24).max(300_000),
        };
        Self { history_ms, segment_ms }
    }

    fn segment(self, timestamp: i64) -> i64 {
        timestamp.div_euclid(self.segment_ms)
    }
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Expired,
    Newest,
    ValidTo(i64),
}

/// A version that was found, and where it ends; `None`: it is the newest.
pub(super) struct Found {
    pub(super) value: Bytes,
    pub(super) timestamp: i64,
    pub(super) valid_to: Option<i64>,
}

/// The highest timestamp put, and as of the last accepted record and the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StreamTime {
    now: i64,
    accepted: i64,
    committed: i64,
}

pub(super) struct History {
    pub(super) rows: TransactionalStore,
    retention: Retention,
    stream_time: StreamTime,
    /// Segments below this number were deleted.
    first_segment: i64,
    key: Vec<u8>,
    row: SegmentRow,
    encoded: Vec<u8>,
}

impl History {
    pub(super) fn open(mut rows: TransactionalStore, retention: Retention) -> Result<Self> {
        let stored = rows.get(STREAM_TIME)?.cloned();
        let now = match stored {
            None => -1,
            Some(mut bytes) => {
                bytes.try_get_i64().map_err(|_| corrupted("stream time", bytes.len()))?
            }
        };
        let stream_time = StreamTime { now, accepted: now, committed: now };
        let (key, encoded) = (Vec::new(), Vec::new());
        let (row, first_segment) = (SegmentRow::default(), i64::MIN);
        Ok(Self { rows, retention, stream_time, first_segment, key, row, encoded })
    }

    /// The newest version.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Found>> {
        let newest = self.newest(key)?;
        Ok(newest.map(|(value, timestamp)| Found { value, timestamp, valid_to: None }))
    }

    /// The version that was valid at `timestamp`.
    pub(super) fn get_as_of(&mut self, key: &[u8], timestamp: i64) -> Result<Option<Found>> {
        if let Some((value, newest)) = self.newest(key)?
            && newest <= timestamp
        {
            return Ok(Some(Found { value, timestamp: newest, valid_to: None }));
        }
        if self.is_expired(timestamp) {
            return Ok(None);
        }
        for segment in self.segments_from(timestamp) {
            let Some(bytes) = self.segment_row(segment, key)? else { continue };
            let (end, oldest) = bounds_of(&bytes)?;
            if end <= timestamp {
                return Ok(None);
            }
            if oldest > timestamp {
                continue;
            }
            self.row.decode(&bytes)?;
            let found = self.row.find(timestamp).and_then(|(_, version, end)| {
                let (value, timestamp) = (version.value.clone()?, version.timestamp);
                Some(Found { value, timestamp, valid_to: Some(end) })
            });
            return Ok(found);
        }
        Ok(None)
    }

    /// Adds a version; `None` deletes the key from `timestamp` on.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<Placed> {
        if self.is_expired(timestamp) {
            return Ok(Placed::Expired);
        }
        self.stream_time.now = self.stream_time.now.max(timestamp);
        let mut valid_to = None;
        if let Some((newest, newest_timestamp)) = self.newest(key)? {
            if timestamp >= newest_timestamp {
                if timestamp > newest_timestamp {
                    self.add_to_segment(key, Some(newest), newest_timestamp, timestamp)?;
                }
                self.put_newest(key, value, timestamp);
                return Ok(Placed::Newest);
            }
            valid_to = Some(newest_timestamp);
        }
        for segment in self.segments_from(timestamp) {
            let Some(bytes) = self.segment_row(segment, key)? else { continue };
            let (end, oldest) = bounds_of(&bytes)?;
            if end <= timestamp {
                break;
            }
            if oldest <= timestamp {
                self.row.decode(&bytes)?;
                return self.put_between(segment, key, value, timestamp).map(Placed::ValidTo);
            }
            valid_to = Some(oldest);
        }
        match valid_to {
            None if value.is_some() => self.put_newest(key, value, timestamp),
            None => self.add_deletion(key, timestamp)?,
            Some(valid_to) => self.add_to_segment_at_edge(key, value, timestamp, valid_to)?,
        }
        Ok(valid_to.map_or(Placed::Newest, Placed::ValidTo))
    }

    pub(super) fn accept_record(&mut self) {
        self.stream_time.accepted = self.stream_time.now;
        self.rows.accept_record();
    }

    pub(super) fn undo_record(&mut self) {
        self.stream_time.now = self.stream_time.accepted;
        self.rows.undo_record();
    }

    /// Commits what was accepted. The caller has refused an open record.
    pub(super) fn commit(&mut self, position: Option<i64>) -> Result<()> {
        let StreamTime { accepted, committed, .. } = self.stream_time;
        if accepted != committed {
            self.rows.put(STREAM_TIME, &accepted.to_be_bytes());
            self.rows.accept_record();
        }
        self.rows.commit(position)?;
        self.stream_time.committed = accepted;
        self.delete_expired()
    }

    pub(super) fn abort(&mut self) {
        let committed = self.stream_time.committed;
        self.stream_time = StreamTime { now: committed, accepted: committed, committed };
        self.rows.abort();
    }

    fn is_expired(&self, timestamp: i64) -> bool {
        timestamp < self.stream_time.now.saturating_sub(self.retention.history_ms)
    }

    /// The segments that may hold versions valid at `timestamp` or later, newest first.
    fn segments_from(&self, timestamp: i64) -> impl Iterator<Item = i64> + use<> {
        let (first, last) =
            (self.retention.segment(timestamp), self.retention.segment(self.stream_time.now));
        (first..=last).rev()
    }

    fn newest(&mut self, key: &[u8]) -> Result<Option<(Bytes, i64)>> {
        set_newest_key(&mut self.key, key);
        let Some(bytes) = self.rows.get(&self.key)? else { return Ok(None) };
        let mut value = bytes.clone();
        let timestamp =
            value.try_get_i64().map_err(|_| corrupted("newest version", value.len()))?;
        Ok(Some((value, timestamp)))
    }

    fn put_newest(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: i64) {
        set_newest_key(&mut self.key, key);
        match value {
            None => self.rows.delete(&self.key),
            Some(value) => {
                self.encoded.clear();
                self.encoded.extend_from_slice(&timestamp.to_be_bytes());
                self.encoded.extend_from_slice(value);
                self.rows.put(&self.key, &self.encoded);
            }
        }
    }

    fn segment_row(&mut self, segment: i64, key: &[u8]) -> Result<Option<Bytes>> {
        set_segment_key(&mut self.key, segment, key);
        Ok(self.rows.get(&self.key)?.cloned())
    }

    /// Writes the decoded row.
    fn put_row(&mut self, segment: i64, key: &[u8]) {
        self.row.encode(&mut self.encoded);
        set_segment_key(&mut self.key, segment, key);
        self.rows.put(&self.key, &self.encoded);
    }

    /// Adds a version that ends at `to`, as the newest of its segment.
    fn add_to_segment(
        &mut self,
        key: &[u8],
        value: Option<Bytes>,
        from: i64,
        to: i64,
    ) -> Result<()> {
        let segment = self.retention.segment(to);
        match self.segment_row(segment, key)? {
            None => self.row.reset(value, from, to),
            Some(bytes) => {
                self.row.decode(&bytes)?;
                self.row.insert_newest(value, from, to);
            }
        }
        self.put_row(segment, key);
        Ok(())
    }

    /// Adds a version whose row, decoded, has one that is valid at `timestamp`; returns where it ends.
    fn put_between(
        &mut self,
        segment: i64,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<i64> {
        let version = Version { timestamp, value: value.map(Bytes::copy_from_slice) };
        let Some((index, before, valid_to)) = self.row.find(timestamp) else {
            return Err(corrupted("row of a segment", 0));
        };
        let before = before.clone();
        let segment_before = self.retention.segment(timestamp);
        if before.timestamp == timestamp {
            self.row.replace(index, version);
        } else if segment_before == segment {
            self.row.insert(index, version);
        } else {
            // The version before ends earlier now, in an older segment.
            self.row.replace(index, version);
            self.put_row(segment, key);
            self.add_to_segment(key, before.value, before.timestamp, timestamp)?;
            return Ok(valid_to);
        }
        self.put_row(segment, key);
        Ok(valid_to)
    }

    /// Remembers the deletion of a key without a newest version.
    fn add_deletion(&mut self, key: &[u8], timestamp: i64) -> Result<()> {
        let segment = self.retention.segment(timestamp);
        match self.segment_row(segment, key)? {
            None => self.row.reset(None, timestamp, timestamp),
            Some(bytes) => {
                let (end, _) = bounds_of(&bytes)?;
                if end == timestamp {
                    return Ok(()); // the end of a row without a newer version is a deletion already
                }
                self.row.decode(&bytes)?;
                self.row.insert_newest(None, end, timestamp);
            }
        }
        self.put_row(segment, key);
        Ok(())
    }

    /// Adds a version to the segment of its end, where it is the oldest or the newest.
    fn add_to_segment_at_edge(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
        valid_to: i64,
    ) -> Result<()> {
        let value = value.map(Bytes::copy_from_slice);
        let segment = self.retention.segment(valid_to);
        match self.segment_row(segment, key)? {
            None => self.row.reset(value, timestamp, valid_to),
            Some(bytes) => {
                self.row.decode(&bytes)?;
                if self.row.end <= timestamp {
                    self.row.insert_newest(value, timestamp, valid_to);
                } else {
                    self.row.insert_oldest(Version { timestamp, value });
                }
            }
        }
        self.put_row(segment, key);
        Ok(())
    }

    /// Deletes segments that end before the history does. Nothing reads them, so this needs no transaction.
    fn delete_expired(&mut self) -> Result<()> {
        let history_start = self.stream_time.committed.saturating_sub(self.retention.history_ms);
        let first = self.retention.segment(history_start);
        if first <= self.first_segment {
            return Ok(());
        }
        set_segment_key(&mut self.key, first, &[]);
        self.rows.expire(&[SEGMENT], &self.key)?;
        self.first_segment = first;
        Ok(())
    }
}

fn set_newest_key(out: &mut Vec<u8>, key: &[u8]) {
    out.clear();
    out.push(NEWEST);
    out.extend_from_slice(key);
}

fn set_segment_key(out: &mut Vec<u8>, segment: i64, key: &[u8]) {
    out.clear();
    out.push(SEGMENT);
    // Flipped, so that the order of bytes is that of numbers.
    out.extend_from_slice(&(segment.cast_unsigned() ^ SIGN_BIT).to_be_bytes());
    out.extend_from_slice(key);
}

fn bounds_of(row: &[u8]) -> Result<(i64, i64)> {
    let bounds = end_of(row).zip(oldest_of(row));
    bounds.ok_or_else(|| corrupted("row of a segment", row.len()))
}

fn corrupted(what: &str, found: usize) -> Error {
    let message = format!("reading a versioned store: found {found} bytes, wanted a {what}");
    Error::new(ErrorKind::TaskCorrupted, message)
}
