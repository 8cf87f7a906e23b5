//! Records that nobody can process: what broken and foreign producers send.

use kstreams::Timestamp;

use crate::events::RequestCreated;

use super::customers;

/// A way to spoil a `request.created`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    /// Text that is no frame at all.
    Garbage,
    /// A good datum under a schema id that no registry has.
    UnknownSchemaId,
    /// A frame cut in the middle.
    Truncated,
    /// A frame with bytes after the datum.
    TrailingBytes,
    /// Kafka's null.
    NullValue,
    /// Readable, but the request's id is negative.
    NegativeRequestId,
    /// Readable, but the region is empty.
    EmptyRegion,
}

/// An id that the registry will hardly reach.
const UNKNOWN_ID: [u8; 4] = 0x7fff_fff0_u32.to_be_bytes();

impl Poison {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Garbage,
        Self::UnknownSchemaId,
        Self::Truncated,
        Self::TrailingBytes,
        Self::NullValue,
        Self::NegativeRequestId,
        Self::EmptyRegion,
    ];

    /// The event to be spoilt: where the content is the poison, it is in it already.
    pub(crate) fn event(self, seed: u64, request_id: i64, now: Timestamp) -> RequestCreated {
        let mut event = customers::created(seed, request_id, now);
        match self {
            Self::NegativeRequestId => event.request_id = -request_id.abs().max(1),
            Self::EmptyRegion => event.region.clear(),
            _ => {}
        }
        event
    }

    /// Spoils the frame of that event.
    pub(crate) fn spoil(self, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Garbage => Some(b"{\"request\": \"not a frame\"}".to_vec()),
            Self::UnknownSchemaId => {
                frame.splice(1..5, UNKNOWN_ID);
                Some(frame)
            }
            Self::Truncated => {
                frame.truncate(frame.len() / 2);
                Some(frame)
            }
            Self::TrailingBytes => {
                frame.extend_from_slice(b"!!");
                Some(frame)
            }
            Self::NullValue => None,
            Self::NegativeRequestId | Self::EmptyRegion => Some(frame),
        }
    }
}
