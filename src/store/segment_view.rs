//! The committed rows of a window or session store, for any thread: what its interactive queries read.
//!
//! As a scan of the store itself, by the same plan, but over pages of the engine (see [`EngineView`]); and what is too old is so by the
//! committed observed time.

use std::ops::{Bound, Range};
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::codec::ByteBounds;
use super::key_value_view::PAGE;
use super::segment_scan::{Found, Keys, Path, Plan, Query, Wanted};
use super::segment_state::{NOTHING_OBSERVED, SegmentState, decode_marker};
use super::segments::RowOrder;
use super::view::EngineView;
use super::window_keys::{KeySchema, MARKER, Parts};
use super::{Direction, Entry, ValueFormat};
use crate::error::Result;
use crate::time::Timestamp;

pub(super) struct SegmentView {
    pub(super) name: Arc<str>,
    pub(super) engine: Arc<dyn EngineView>,
    pub(super) format: ValueFormat,
    pub(super) schema: KeySchema,
    pub(super) order: RowOrder,
    pub(super) retention_ms: i64,
    pub(super) segment_interval_ms: i64,
}

/// Which keys, as bytes.
#[derive(Debug, Clone)]
pub(super) enum ViewKeys {
    One(Vec<u8>),
    /// Both ends included; `None`: open.
    Range(Option<Vec<u8>>, Option<Vec<u8>>),
}

impl ViewKeys {
    fn as_keys(&self) -> Keys<'_> {
        match self {
            Self::One(key) => Keys::One(key),
            Self::Range(first, last) => Keys::Range(first.as_deref(), last.as_deref()),
        }
    }
}

/// What a query of a view wants: keys and times (both included).
#[derive(Debug, Clone)]
pub(super) struct ViewQuery {
    pub(super) keys: ViewKeys,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) direction: Direction,
}

impl SegmentView {
    fn named(&self, error: crate::Error) -> crate::Error {
        error.context(format_args!("query of store \"{}\"", self.name))
    }

    /// The value and timestamp of a row of the engine.
    fn read(&self, row: &[u8]) -> Result<Option<(Bytes, Timestamp)>> {
        let value = self.engine.get(row).map_err(|e| self.named(e))?;
        value.map(|value| self.format.decode(value)).transpose()
    }

    fn state(&self) -> Result<SegmentState> {
        match self.read(MARKER)? {
            Some((marker, _)) => decode_marker(&marker),
            None => Ok(SegmentState { observed: NOTHING_OBSERVED, sequence: 0 }),
        }
    }

    fn segment(&self, time: i64) -> i64 {
        time / self.segment_interval_ms
    }

    /// The value of a row that is visible.
    pub(super) fn get(&self, parts: Parts<'_>) -> Result<Option<(Bytes, Timestamp)>> {
        if parts.time < self.state()?.visible_from(self.retention_ms).max(0) {
            return Ok(None);
        }
        let mut row = Vec::new();
        match self.order {
            RowOrder::KeyFirst => {
                self.schema.write_key_first(self.segment(parts.time), parts, &mut row);
            }
            RowOrder::TimeFirst | RowOrder::TimeFirstIndexed => {
                self.schema.write_time_first(parts, &mut row);
            }
        }
        self.read(&row)
    }

    /// The visible rows that a query wants.
    pub(super) fn scan(self: &Arc<Self>, mut query: ViewQuery) -> Result<SegmentPages> {
        let state = self.state()?;
        query.from = query.from.max(state.visible_from(self.retention_ms)).max(0);
        // No row is newer than the observed time.
        let last = query.to.min(state.observed);
        let segments =
            if query.from > last { 0..0 } else { self.segment(query.from)..self.segment(last) + 1 };
        let mut pages = SegmentPages {
            view: Arc::clone(self),
            path: self.order.path(query.keys.as_keys()),
            query,
            segments: 0..0,
            rest: None,
            page: Vec::new().into_iter(),
        };
        pages.segments = pages.plan().segments(segments);
        Ok(pages)
    }
}

/// The entries that a query finds, read page by page; ends after the first error.
pub(super) struct SegmentPages {
    view: Arc<SegmentView>,
    path: Path,
    query: ViewQuery,
    /// Segments not looked at yet.
    segments: Range<i64>,
    /// What is left of the segment in hand.
    rest: Option<ByteBounds>,
    page: vec::IntoIter<Entry>,
}

impl SegmentPages {
    fn plan(&self) -> Plan<'_> {
        let ViewQuery { keys, from, to, direction } = &self.query;
        let query = Query { keys: keys.as_keys(), from: *from, to: *to, direction: *direction };
        Plan { schema: self.view.schema, path: self.path, query }
    }

    fn advance(&mut self) -> Result<Option<Found>> {
        loop {
            while let Some(entry) = self.page.next() {
                if let Some(found) = self.found(entry)? {
                    return Ok(Some(found));
                }
            }
            if !self.turn_page()? {
                return Ok(None);
            }
        }
    }

    /// Reads the next page; says whether there may be another one.
    fn turn_page(&mut self) -> Result<bool> {
        let direction = self.query.direction;
        let Some((from, to)) = &self.rest else {
            let segment = match direction {
                Direction::Forward => self.segments.next(),
                Direction::Backward => self.segments.next_back(),
            };
            let Some(segment) = segment else { return Ok(false) };
            let (mut lower, mut upper) = (Vec::new(), Vec::new());
            let (from, to) = self.plan().write_bounds(segment, &mut lower, &mut upper);
            self.rest = Some((from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec)));
            return Ok(true);
        };
        let (from, to) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let page = self.view.engine.page(from, to, direction, PAGE);
        let page = page.map_err(|error| self.view.named(error))?;
        match (page.last(), &mut self.rest) {
            (Some((last, _)), Some((from, to))) => {
                let end = match direction {
                    Direction::Forward => from,
                    Direction::Backward => to,
                };
                *end = Bound::Excluded(last.to_vec());
            }
            _ => self.rest = None,
        }
        self.page = page.into_iter();
        Ok(true)
    }

    fn found(&self, (row, value): Entry) -> Result<Option<Found>> {
        let plan = self.plan();
        let Some(Wanted { key, time, rest }) = plan.wants(&self.view.name, &row)? else {
            return Ok(None);
        };
        let (value, timestamp) = match self.path {
            Path::TimeFirst | Path::KeyFirst => self.view.format.decode(value)?,
            Path::Index => {
                let mut of_time = Vec::new();
                let parts = Parts { key: &row[key.clone()], time, rest };
                plan.schema.write_time_first(parts, &mut of_time);
                match self.view.read(&of_time)? {
                    Some(found) => found,
                    None => return Ok(None), // gone since the page was read
                }
            }
        };
        Ok(Some(Found { key: row.slice(key), time, rest, value, timestamp }))
    }
}

impl Iterator for SegmentPages {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            (self.segments, self.rest, self.page) = (0..0, None, Vec::new().into_iter());
        }
        next
    }
}
