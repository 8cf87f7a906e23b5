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

pub(super) struct SegmentScan<'a> {
    store: &'a TransactionalStore,
    schema: KeySchema,
    path: Path,
    query: Query<'a>,
    /// Segments not looked at yet; for `TimeFirst` a single one stands for everything.
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
        schema: KeySchema,
        path: Path,
        query: Query<'a>,
        segments: std::ops::Range<i64>,
    ) -> Self {
        let segments = if path == Path::TimeFirst { 0..1 } else { segments };
        let segments = if query.from > query.to { 0..0 } else { segments };
        let (lower, upper) = (Vec::new(), Vec::new());
        Self { store, schema, path, query, segments, current: None, lower, upper, is_failed: false }
    }

    fn next_segment(&mut self) -> Option<i64> {
        match self.query.direction {
            Direction::Forward => self.segments.next(),
            Direction::Backward => self.segments.next_back(),
        }
    }

    fn open(&mut self, segment: i64) -> Result<Scan<'a>> {
        let Query { keys, from, to, direction } = self.query;
        let (schema, lower, upper) = (self.schema, &mut self.lower, &mut self.upper);
        if self.path == Path::TimeFirst {
            write_time(from, lower);
            match to.checked_add(1) {
                Some(after) => write_time(after, upper),
                None => {
                    upper.clear();
                    upper.push(KEY_FIRST);
                }
            }
            return self.store.scan_prepared(
                Bound::Included(lower),
                Bound::Excluded(upper),
                direction,
            );
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
        self.store.scan_prepared(Bound::Included(lower), Bound::Included(upper), direction)
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

    /// The entry of a row, if the query wants it: between its bounds lie rows of other keys and times too.
    fn found(&mut self, scanned: Scanned) -> Result<Option<Found>> {
        let Scanned { key: row, mut value, mut timestamp } = scanned;
        let (schema, query) = (self.schema, self.query);
        let parts = schema.parse_row(&row).ok_or_else(|| damaged(self.store, &row))?;
        if let Keys::One(key) = query.keys
            && self.path != Path::TimeFirst
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
        if self.path == Path::Index {
            schema.write_time_first(parts, &mut self.lower);
            match self.store.peek(&self.lower)? {
                Some(found) => (value, timestamp) = found,
                None => return Ok(None),
            }
        }
        let range = schema.key_range(&row).ok_or_else(|| damaged(self.store, &row))?;
        Ok(Some(Found { key: row.slice(range), time, rest, value, timestamp }))
    }
}

fn damaged(store: &TransactionalStore, row: &[u8]) -> Error {
    use super::StateStore as _;
    let name = store.name();
    Error::new(
        ErrorKind::TaskCorrupted,
        format!("scanning store \"{name}\": found the key {row:?}, wanted a windowed one"),
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
