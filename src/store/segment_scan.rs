//! A scan over a segmented store: seeks to a key in each live segment, or to a time, and merges uncommitted rows.
//!
//! Hot where an operator looks for the windows of a key.

use std::ops::Bound;

use bytes::Bytes;

use super::scan::{Scan, Scanned};
use super::window_keys::{
    KEY_FIRST, KEY_FIRST_PREFIX, KeySchema, Parts, write_segment, write_time,
};
use super::{Direction, TransactionalStore};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Which keys a scan wants, as bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys<'a> {
    One(&'a [u8]),
    /// Both ends included; `None`: open.
    Range(Option<&'a [u8]>, Option<&'a [u8]>),
}

impl Keys<'_> {
    fn contains(self, key: &[u8]) -> bool {
        match self {
            Self::One(wanted) => key == wanted,
            Self::Range(from, to) => {
                from.is_none_or(|from| from <= key) && to.is_none_or(|to| key <= to)
            }
        }
    }
}

/// Keys and times (both included) that a scan wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) keys: Keys<'a>,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) direction: Direction,
}

/// Where a scan looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Rows in order of time.
    TimeFirst,
    /// Rows in order of segment, key and time.
    KeyFirst,
    /// As `KeyFirst`, with the values among the rows in order of time.
    Index,
}

/// One entry that a [`SegmentScan`] found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Bytes,
    pub(super) time: i64,
    /// Sequence number, or the start of a session.
    pub(super) rest: i64,
    pub(super) value: Bytes,
    pub(super) timestamp: Timestamp,
}

/// A query of a store whose rows lie so: what to read, and which of the rows read are wanted. Shared by scans of a task's store and of its
/// committed state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) schema: KeySchema,
    pub(super) path: Path,
    pub(super) query: Query<'a>,
}

/// A row that is wanted, taken apart.
pub(super) struct Wanted {
    pub(super) key: std::ops::Range<usize>,
    pub(super) time: i64,
    pub(super) rest: i64,
}

impl Plan<'_> {
    /// The segments to be read of those that may have rows; for `TimeFirst` a single one stands for everything.
    pub(super) fn segments(&self, segments: std::ops::Range<i64>) -> std::ops::Range<i64> {
        match self.path {
            _ if self.query.from > self.query.to => 0..0,
            Path::TimeFirst => 0..1,
            Path::KeyFirst | Path::Index => segments,
        }
    }

    /// Writes the bounds of a segment's rows.
    pub(super) fn write_bounds<'b>(
        &self,
        segment: i64,
        lower: &'b mut Vec<u8>,
        upper: &'b mut Vec<u8>,
    ) -> (Bound<&'b [u8]>, Bound<&'b [u8]>) {
        let Self { schema, path, query: Query { keys, from, to, .. } } = *self;
        if path == Path::TimeFirst {
            write_time(from, lower);
            match to.checked_add(1) {
                Some(after) => write_time(after, upper),
                None => {
                    upper.clear();
                    upper.push(KEY_FIRST);
                }
            }
            return (Bound::Included(lower), Bound::Excluded(upper));
        }
        match keys {
            Keys::One(key) => {
                schema.write_key_first(segment, Parts { key, time: from, rest: 0 }, lower);
                let last = Parts { key, time: to, rest: schema.rest_max() };
                schema.write_key_first(segment, last, upper);
            }
            Keys::Range(first, last) => {
                write_segment(segment, lower);
                lower.extend_from_slice(first.unwrap_or_default());
                match last {
                    Some(last) => schema.write_upper_bound(segment, last, upper),
                    None => write_segment(segment + 1, upper),
                }
            }
        }
        (Bound::Included(lower), Bound::Included(upper))
    }

    /// The parts of a row, if the query wants it: between its bounds lie rows of other keys and times too.
    pub(super) fn wants(&self, store: &str, row: &[u8]) -> Result<Option<Wanted>> {
        let Self { schema, path, query } = *self;
        let parts = schema.parse_row(row).ok_or_else(|| damaged(store, row))?;
        if let Keys::One(key) = query.keys
            && path != Path::TimeFirst
        {
            // Between the bounds of one key, rows of the same length are the key's own.
            if row.len() != KEY_FIRST_PREFIX + key.len() + schema.suffix_bytes() {
                return Ok(None);
            }
        } else if !query.keys.contains(parts.key) {
            return Ok(None);
        }
        let (time, rest) = (parts.time, parts.rest);
        if time < query.from || time > query.to {
            return Ok(None);
        }
        let key = schema.key_range(row).ok_or_else(|| damaged(store, row))?;
        Ok(Some(Wanted { key, time, rest }))
    }
}

pub(super) struct SegmentScan<'a> {
    store: &'a TransactionalStore,
    plan: Plan<'a>,
    /// Segments not looked at yet.
    segments: std::ops::Range<i64>,
    current: Option<Scan<'a>>,
    lower: Vec<u8>,
    upper: Vec<u8>,
    is_failed: bool,
}

impl<'a> SegmentScan<'a> {
    /// `segments` are the segments that may have rows. The store was prepared for scans.
    pub(super) fn new(
        store: &'a TransactionalStore,
        plan: Plan<'a>,
        segments: std::ops::Range<i64>,
    ) -> Self {
        let segments = plan.segments(segments);
        let (lower, upper) = (Vec::new(), Vec::new());
        Self { store, plan, segments, current: None, lower, upper, is_failed: false }
    }

    fn next_segment(&mut self) -> Option<i64> {
        match self.plan.query.direction {
            Direction::Forward => self.segments.next(),
            Direction::Backward => self.segments.next_back(),
        }
    }

    fn open(&mut self, segment: i64) -> Result<Scan<'a>> {
        let (lower, upper) = self.plan.write_bounds(segment, &mut self.lower, &mut self.upper);
        self.store.scan_prepared(lower, upper, self.plan.query.direction)
    }

    fn advance(&mut self) -> Result<Option<Found>> {
        loop {
            let Some(scan) = &mut self.current else {
                let Some(segment) = self.next_segment() else { return Ok(None) };
                self.current = Some(self.open(segment)?);
                continue;
            };
            let Some(scanned) = scan.next() else {
                self.current = None;
                continue;
            };
            if let Some(found) = self.found(scanned?)? {
                return Ok(Some(found));
            }
        }
    }

    fn found(&mut self, scanned: Scanned) -> Result<Option<Found>> {
        use super::StateStore as _;
        let Scanned { key: row, mut value, mut timestamp } = scanned;
        let Some(Wanted { key, time, rest }) = self.plan.wants(self.store.name(), &row)? else {
            return Ok(None);
        };
        if self.plan.path == Path::Index {
            let parts = Parts { key: &row[key.clone()], time, rest };
            self.plan.schema.write_time_first(parts, &mut self.lower);
            match self.store.peek(&self.lower)? {
                Some(found) => (value, timestamp) = found,
                None => return Ok(None),
            }
        }
        Ok(Some(Found { key: row.slice(key), time, rest, value, timestamp }))
    }
}

fn damaged(store: &str, row: &[u8]) -> Error {
    Error::new(
        ErrorKind::TaskCorrupted,
        format!("scanning store \"{store}\": found the key {row:?}, wanted a windowed one"),
    )
}

impl Iterator for SegmentScan<'_> {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_failed {
            return None;
        }
        let next = self.advance().transpose();
        self.is_failed = matches!(next, Some(Err(_)));
        next
    }
}
