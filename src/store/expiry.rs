//! Entries of a key-value store that live for a time: which have expired, and their removal. Hot path: `put`, `is_expired`.
//!
//! Beside the entries, whose keys begin with [`ENTRY`], lie *marks*: a row for each time at which an entry may expire, sorted by that time. So the search for what has
//! expired costs what it finds, however large the store is. The rejected ways: a scan of the whole store a bit at a time, which finds an entry
//! a whole round later, in an order that a restart changes; and marks in memory, which a large store has no room for.
//!
//! *Invariant:* every entry has a mark of its own timestamp or an earlier one. So a new timestamp of an entry writes no mark: the old one,
//! when it is due, finds the entry alive and is put back at its present timestamp. Marks without an entry are dropped when they are due. They
//! are not on the changelog: restoration writes a mark for every record.
//!
//! | row | key in the engine |
//! |---|---|
//! | entry | `00` key |
//! | mark, without a value | `01` timestamp (8 bytes big-endian, sign bit flipped) key |

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use super::codec::ENTRY;
use super::{ChangelogRecord, ChangelogWriter, Direction, StateStore, TransactionalStore};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;
use crate::time::Timestamp;

const MARK: u8 = ENTRY + 1;
const SIGN_BIT: u64 = 1 << 63;
/// Bytes of a mark's key before the entry's.
const MARK_PREFIX_BYTES: usize = 9;

/// Marks that a store which removes what has expired itself looks at in a commit, and for each entry written since the last one: more
/// than one, so that it keeps up.
const CLEANED_MIN: usize = 1_000;
const CLEANED_PER_PUT: usize = 2;

/// Who removes the entries that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpiredBy {
    /// The store, in commits. Nobody is told.
    Store,
    /// Its processor, which tells others.
    Processor,
}

/// An entry that has expired and was deleted.
pub(super) struct Due {
    /// As in the engine.
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) expired_at: Timestamp,
}

/// What queries share with the store.
#[derive(Debug, Clone)]
pub(super) struct SharedExpiry {
    ttl_ms: i64,
    stream_time: Arc<AtomicI64>,
}

impl SharedExpiry {
    pub(super) fn is_expired(&self, timestamp: Timestamp) -> bool {
        // A stream time that another thread sees a moment later only expires something a moment later.
        self.end_of(timestamp).as_millis() <= self.stream_time.load(Ordering::Relaxed)
    }

    fn end_of(&self, timestamp: Timestamp) -> Timestamp {
        Timestamp::from_millis(timestamp.as_millis().saturating_add(self.ttl_ms))
    }
}

/// What a store with a time to live knows of it.
pub(super) struct Expiry {
    shared: SharedExpiry,
    by: ExpiredBy,
    /// No mark is earlier.
    first_mark: i64,
    /// Entries written since the last commit.
    puts: usize,
    /// Writes that came after their time, of accepted records and of the one in hand.
    expired_writes: u64,
    expired_in_hand: u64,
    mark: Vec<u8>,
}

impl Expiry {
    pub(super) fn new(ttl: Duration, by: ExpiredBy) -> Self {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let stream_time = Arc::new(AtomicI64::new(i64::MIN));
        Self {
            shared: SharedExpiry { ttl_ms, stream_time },
            by,
            first_mark: i64::MIN,
            puts: 0,
            expired_writes: 0,
            expired_in_hand: 0,
            mark: Vec::new(),
        }
    }

    pub(super) fn shared(&self) -> SharedExpiry {
        self.shared.clone()
    }

    pub(super) fn set_stream_time(&mut self, time: Timestamp) {
        self.shared.stream_time.store(time.as_millis(), Ordering::Relaxed);
    }

    /// Whether an entry of this timestamp reads as absent.
    pub(super) fn is_expired(&self, timestamp: Timestamp) -> bool {
        self.shared.is_expired(timestamp)
    }

    /// When an entry of this timestamp expires.
    pub(super) fn end_of(&self, timestamp: Timestamp) -> Timestamp {
        self.shared.end_of(timestamp)
    }

    /// Whether there may be a mark that is due.
    pub(super) fn has_due(&self) -> bool {
        self.is_expired(Timestamp::from_millis(self.first_mark))
    }

    /// Writes an entry, unless it has expired already: what is there is newer, or has expired too.
    pub(super) fn put(
        &mut self,
        rows: &mut TransactionalStore,
        key: &[u8],
        value: &[u8],
        timestamp: Timestamp,
    ) -> Result<()> {
        if self.is_expired(timestamp) {
            self.expired_in_hand += 1;
            return Ok(());
        }
        let before = rows.get_with_timestamp(key)?.map(|(_, before)| before);
        if before.is_none_or(|before| timestamp < before) {
            self.put_mark(rows, &key[1..], timestamp);
        }
        rows.put_with_timestamp(key, value, timestamp);
        self.puts += 1;
        Ok(())
    }

    fn put_mark(&mut self, rows: &mut TransactionalStore, key: &[u8], timestamp: Timestamp) {
        set_mark(&mut self.mark, key, timestamp);
        rows.put_with_timestamp(&self.mark, &[], timestamp);
        self.first_mark = self.first_mark.min(timestamp.as_millis());
    }

    /// Deletes the entries of the earliest marks that are due, and looks at so many marks at most.
    pub(super) fn take_due(
        &mut self,
        rows: &mut TransactionalStore,
        limit: usize,
    ) -> Result<Vec<Due>> {
        if !self.has_due() {
            return Ok(Vec::new());
        }
        let mut marks: Vec<Bytes> = Vec::new();
        self.first_mark = i64::MAX;
        for mark in rows.scan(Bound::Included(&[MARK]), Bound::Unbounded, Direction::Forward)? {
            let mark = mark?.key;
            let timestamp = timestamp_of(&mark)?;
            if marks.len() == limit || !self.is_expired(timestamp) {
                self.first_mark = timestamp.as_millis();
                break;
            }
            marks.push(mark);
        }
        let mut due = Vec::new();
        let mut key = Vec::new();
        for mark in marks {
            rows.delete(&mark);
            key.clear();
            key.push(ENTRY);
            key.extend_from_slice(&mark[MARK_PREFIX_BYTES..]);
            let Some((value, timestamp)) = rows.get_with_timestamp(&key)? else { continue };
            if self.is_expired(timestamp) {
                let value = value.clone();
                rows.delete(&key);
                let expired_at = self.end_of(timestamp);
                due.push(Due { key: Bytes::copy_from_slice(&key), value, expired_at });
            } else {
                self.put_mark(rows, &key[1..], timestamp);
            }
        }
        Ok(due)
    }

    /// Before the changelog is written: removes what has expired, where nobody else does.
    pub(super) fn clean(&mut self, rows: &mut TransactionalStore) -> Result<()> {
        if self.by == ExpiredBy::Store && self.has_due() {
            rows.refuse_open_record("removing what has expired from")?;
            self.take_due(rows, CLEANED_MIN + CLEANED_PER_PUT * self.puts)?;
            rows.accept_record();
        }
        Ok(())
    }

    /// Before the rows are committed.
    pub(super) fn commit(&mut self, rows: &mut TransactionalStore) -> Result<()> {
        // With a changelog, they are removed before it is written, so that it has their tombstones.
        if !rows.options.is_logged {
            self.clean(rows)?;
        }
        self.puts = 0;
        Ok(())
    }

    pub(super) fn accept_record(&mut self) {
        self.expired_writes += std::mem::take(&mut self.expired_in_hand);
    }

    /// After rows were taken back: marks that had been removed may be there again.
    pub(super) fn undo_record(&mut self) {
        self.expired_in_hand = 0;
        self.first_mark = i64::MIN;
    }

    pub(super) fn take_expired_writes(&mut self) -> u64 {
        std::mem::take(&mut self.expired_writes)
    }

    /// The rows that changelog records stand for.
    pub(super) fn rows_of(&mut self, records: &[ChangelogRecord]) -> Vec<ChangelogRecord> {
        self.first_mark = i64::MIN;
        let mut rows = Vec::with_capacity(2 * records.len());
        for ChangelogRecord { key, value, timestamp, headers } in records {
            if value.is_some() {
                set_mark(&mut self.mark, key, *timestamp);
                rows.push(ChangelogRecord {
                    key: Bytes::copy_from_slice(&self.mark),
                    value: Some(Bytes::new()),
                    timestamp: *timestamp,
                    headers: Headers::default(),
                });
            }
            let mut entry = Vec::with_capacity(1 + key.len());
            entry.push(ENTRY);
            entry.extend_from_slice(key);
            let (value, timestamp, headers) = (value.clone(), *timestamp, headers.clone());
            rows.push(ChangelogRecord { key: entry.into(), value, timestamp, headers });
        }
        rows
    }
}

/// Passes the entries on, under their own keys, and leaves the marks out.
pub(super) struct LoggedEntries<'a> {
    pub(super) changelog: &'a mut dyn ChangelogWriter,
    pub(super) count: usize,
}

impl ChangelogWriter for LoggedEntries<'_> {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        match key.split_first() {
            Some((&ENTRY, key)) => {
                self.count += 1;
                self.changelog.write(key, value, timestamp)
            }
            _ => Ok(()),
        }
    }
}

fn set_mark(out: &mut Vec<u8>, key: &[u8], timestamp: Timestamp) {
    out.clear();
    out.push(MARK);
    out.put_u64(timestamp.as_millis().cast_unsigned() ^ SIGN_BIT);
    out.extend_from_slice(key);
}

fn timestamp_of(mark: &Bytes) -> Result<Timestamp> {
    let mut rest = &mark[1..];
    let sortable = rest.try_get_u64().map_err(|_| {
        let found = mark.len();
        let text = format!("reading a mark of a store with a time to live: found {found} bytes, wanted at least {MARK_PREFIX_BYTES}");
        Error::new(ErrorKind::TaskCorrupted, text)
    })?;
    Ok(Timestamp::from_millis((sortable ^ SIGN_BIT).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_sort_by_time_and_give_it_back() {
        let mark = |millis| {
            let mut out = Vec::new();
            set_mark(&mut out, b"k", Timestamp::from_millis(millis));
            Bytes::from(out)
        };
        assert!(mark(-1) < mark(0) && mark(0) < mark(1) && mark(1) < mark(256));
        assert_eq!(&mark(258)[..], b"\x01\x80\0\0\0\0\0\x01\x02k");
        assert_eq!(timestamp_of(&mark(-7)).unwrap().as_millis(), -7);
        assert_eq!(
            timestamp_of(&Bytes::from_static(b"\x01\0")).unwrap_err().kind(),
            ErrorKind::TaskCorrupted
        );
    }
}
