//! The write of a store's rows to its engine, at a commit and in restoration.

use super::{Change, ValueFormat};
use crate::error::Result;
use crate::time::Timestamp;

/// Hands changes to the engine's `write`, with the timestamp in front of each value where the format wants it.
pub(super) fn write_batch<'a>(
    format: ValueFormat,
    batch: &mut Vec<u8>,
    changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>, Timestamp)> + Clone,
    write: impl FnOnce(&mut dyn Iterator<Item = Change<'_>>) -> Result<()>,
) -> Result<()> {
    if format == ValueFormat::Plain {
        return write(&mut changes.map(|(key, value, _)| (key, value)));
    }
    batch.clear();
    for (_, value, timestamp) in changes.clone() {
        if let Some(value) = value {
            format.encode(value, timestamp, batch);
        }
    }
    let mut rest = batch.as_slice();
    let mut encoded = changes.map(|(key, value, _)| {
        let value = value.map(|value| {
            let (head, tail) = rest.split_at(format.encoded_bytes(value));
            rest = tail;
            head
        });
        (key, value)
    });
    write(&mut encoded)
}
