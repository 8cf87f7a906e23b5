//! The frame that Confluent's serializers put around every Avro datum.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 1 | magic, 0 |
//! | 1 | 4 | schema id in the registry, big-endian |
//! | 5 | – | the Avro datum, without a length |
//!
//! `00 00 00 00 07 02` is the datum `02` (the long 1) written with schema 7. Hot path.

use crate::error::{Error, Result};

/// The first byte of every frame.
pub const MAGIC: u8 = 0;
/// Bytes before the datum.
pub const HEADER_BYTES: usize = 5;

/// Splits a frame into its schema id and the datum.
///
/// # Errors
/// `BadRecord` where the bytes are too short or do not begin with the magic byte.
pub fn split(frame: &[u8]) -> Result<(u32, &[u8])> {
    match frame {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] | [] => Err(Error::bad_record(format!(
            "not a Confluent frame: found {} bytes, wanted at least {HEADER_BYTES} \
             (magic byte 0, schema id)",
            frame.len()
        ))),
        [first, ..] => Err(Error::bad_record(format!(
            "not a Confluent frame: found {first:#04x} as the first byte, wanted the magic byte 0x00"
        ))),
    }
}

/// The header of a frame written with schema `id`.
pub fn header(id: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_table_is_read_and_written() {
        let frame = [0, 0, 0, 0, 7, 2];
        assert_eq!(split(&frame).unwrap(), (7, &[2u8][..]));
        assert_eq!(header(7), frame[..5]);
    }

    #[test]
    fn what_is_not_a_frame_says_found_and_wanted() {
        for (bytes, found) in
            [(&[][..], "found 0 bytes"), (&[0, 0, 0, 1], "found 4 bytes"), (b"{}", "found 0x7b")]
        {
            let error = split(bytes).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::BadRecord);
            assert!(error.message().contains(found), "{error}");
        }
        assert_eq!(split(&[0, 0, 0, 0, 1]).unwrap(), (1, &[][..]));
    }
}
