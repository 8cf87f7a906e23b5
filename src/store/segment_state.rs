//! What a window or session store knows about itself, and the row that keeps it.

use crate::error::{Error, ErrorKind, Result};

/// Before anything was put. Source: `ConsumerRecord.NO_TIMESTAMP`.
pub(super) const NOTHING_OBSERVED: i64 = -1;

/// What the store knows about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentState {
    pub(super) observed: i64,
    /// The sequence number given last.
    pub(super) sequence: i32,
    /// The stream time of each operator that works on the store.
    pub(super) stream_times: Vec<i64>,
}

impl SegmentState {
    pub(super) fn rewind(&mut self, to: &Self) {
        self.observed = to.observed;
        self.stream_times.clone_from(&to.stream_times);
    }
}

/// Observed time (8 bytes), sequence number (4), and the operators' stream times (8 each), big-endian.
pub(super) fn encode_marker(state: &SegmentState) -> Vec<u8> {
    let mut marker = Vec::with_capacity(12 + 8 * state.stream_times.len());
    marker.extend_from_slice(&state.observed.to_be_bytes());
    marker.extend_from_slice(&state.sequence.to_be_bytes());
    state.stream_times.iter().for_each(|time| marker.extend_from_slice(&time.to_be_bytes()));
    marker
}

pub(super) fn decode_marker(marker: &[u8]) -> Result<SegmentState> {
    let parts = marker.split_first_chunk::<8>().and_then(|(observed, rest)| {
        let (sequence, times) = rest.split_first_chunk::<4>()?;
        let (times, rest) = times.as_chunks::<8>();
        rest.is_empty().then(|| SegmentState {
            observed: i64::from_be_bytes(*observed),
            sequence: i32::from_be_bytes(*sequence),
            stream_times: times.iter().map(|time| i64::from_be_bytes(*time)).collect(),
        })
    });
    parts.ok_or_else(|| {
        Error::new(
            ErrorKind::TaskCorrupted,
            format!(
                "opening a windowed store: found a marker of {} bytes, wanted 12 and 8 for each operator",
                marker.len()
            ),
        )
    })
}
