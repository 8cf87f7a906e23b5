//! What a window or session store knows about itself, and the row that keeps it.

use crate::error::{Error, ErrorKind, Result};

/// Before anything was put. Source: `ConsumerRecord.NO_TIMESTAMP`.
pub(super) const NOTHING_OBSERVED: i64 = -1;

/// What the store knows about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentState {
    pub(super) observed: i64,
    /// The sequence number given last.
    pub(super) sequence: i32,
}

impl SegmentState {
    /// The smallest time that is read.
    pub(super) fn visible_from(self, retention_ms: i64) -> i64 {
        self.observed.saturating_sub(retention_ms).saturating_add(1)
    }
}

/// Observed time (8 bytes) and sequence number (4), big-endian.
pub(super) fn encode_marker(state: SegmentState) -> Vec<u8> {
    [&state.observed.to_be_bytes()[..], &state.sequence.to_be_bytes()].concat()
}

pub(super) fn decode_marker(marker: &[u8]) -> Result<SegmentState> {
    let parts = marker.split_first_chunk::<8>().and_then(|(observed, sequence)| {
        let sequence = i32::from_be_bytes(sequence.try_into().ok()?);
        Some(SegmentState { observed: i64::from_be_bytes(*observed), sequence })
    });
    parts.ok_or_else(|| {
        let found = marker.len();
        let text = format!("opening a windowed store: found a marker of {found} bytes, wanted 12");
        Error::new(ErrorKind::TaskCorrupted, text)
    })
}
