//! A scan over a store: the engine's committed entries and the uncommitted rows, merged in key order.

use std::cmp::Ordering;
use std::collections::btree_map;
use std::iter::Peekable;

use bytes::Bytes;

use super::rows::{RowId, Rows};
use super::{Direction, EngineIter, ValueFormat};
use crate::error::Result;
use crate::time::Timestamp;

/// One entry that a [`Scan`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Key bytes.
    pub key: Bytes,
    /// Value bytes, without the timestamp.
    pub value: Bytes,
    /// The value's timestamp; only meaningful in a [`ValueFormat::Timestamped`] store.
    pub timestamp: Timestamp,
}

/// Entries of a store in key order, uncommitted ones included. Borrows the store: to write while scanning, collect first.
/// Ends after the first error.
pub struct Scan<'a> {
    engine: Peekable<EngineIter<'a>>,
    dirty: Peekable<DirtyRows<'a>>,
    rows: &'a Rows,
    direction: Direction,
    format: ValueFormat,
    is_failed: bool,
}

/// Uncommitted rows in the direction of the scan.
pub(super) struct DirtyRows<'a> {
    pub(super) range: Option<btree_map::Range<'a, Bytes, RowId>>,
    pub(super) direction: Direction,
}

impl<'a> Iterator for DirtyRows<'a> {
    type Item = (&'a Bytes, RowId);

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.range.as_mut()?;
        let next = match self.direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        };
        next.map(|(key, &id)| (key, id))
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        engine: EngineIter<'a>,
        dirty: DirtyRows<'a>,
        rows: &'a Rows,
        format: ValueFormat,
    ) -> Self {
        let direction = dirty.direction;
        Self {
            engine: engine.peekable(),
            dirty: dirty.peekable(),
            rows,
            direction,
            format,
            is_failed: false,
        }
    }

    /// The next entry of the merge; tombstones of uncommitted rows hide the engine's entry.
    fn advance(&mut self) -> Result<Option<Scanned>> {
        loop {
            let order = match (self.engine.peek(), self.dirty.peek()) {
                (None, None) => return Ok(None),
                (Some(_), None) | (Some(Err(_)), _) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok((committed, _))), Some((uncommitted, _))) => {
                    let order = committed.as_ref().cmp(uncommitted.as_ref());
                    if self.direction == Direction::Forward { order } else { order.reverse() }
                }
            };
            if order == Ordering::Less {
                let (key, value) = self.engine.next().expect("just peeked")?;
                let (value, timestamp) = self.format.decode(value)?;
                return Ok(Some(Scanned { key, value, timestamp }));
            }
            if order == Ordering::Equal {
                self.engine.next();
            }
            let (key, id) = self.dirty.next().expect("just peeked");
            let row = self.rows.row(id);
            if let Some(value) = &row.value {
                let (key, value) = (key.clone(), value.clone());
                return Ok(Some(Scanned { key, value, timestamp: row.timestamp }));
            }
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Scanned>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_failed {
            return None;
        }
        let next = self.advance().transpose();
        self.is_failed = matches!(next, Some(Err(_)));
        next
    }
}
