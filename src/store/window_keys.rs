//! The keys of window and session stores: on the changelog as Java's, in the engine in the order that reads need.
//!
//! On the changelog (`WindowKeySchema.toStoreKeyBinary`, `SessionKeySchema.toBinary`), all numbers big-endian:
//!
//! | bytes | window store | session store |
//! |---|---|---|
//! | n | the key | the key |
//! | 8 | the window's start, the *time* | the session's end, the *time* |
//! | 4 or 8 | sequence number (0, or counted up where duplicates are kept) | the session's start |
//!
//! `61 0000000000000005 00000000` is the key `a` in the window that begins at 5.
//!
//! In the engine (Java: one database per segment, and `PrefixedWindowKeySchemas`):
//!
//! | row | bytes |
//! |---|---|
//! | time first | `00`, time, (start of a session,) key, (sequence number) |
//! | key first | `01`, segment in 6 bytes, then as on the changelog |
//! | marker | `02` |
//!
//! A segment is the time divided by the segment interval: its rows lie together, so that one range deletion expires them.
//! Six bytes hold every segment, because an interval has at least a minute.

/// What tells the two kinds of store apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySchema {
    /// Time is the window's start.
    Window,
    /// Time is the session's end.
    Session,
}

/// A key taken apart: `rest` is the sequence number or the session's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) key: &'a [u8],
    pub(super) time: i64,
    pub(super) rest: i64,
}

pub(super) const TIME_FIRST: u8 = 0;
pub(super) const KEY_FIRST: u8 = 1;
/// Where the store keeps what it must know about itself.
pub(super) const MARKER: &[u8] = &[2];

const TIME_BYTES: usize = 8;
const SEGMENT_BYTES: usize = 6;
/// Bytes in front of what the changelog has.
pub(super) const KEY_FIRST_PREFIX: usize = 1 + SEGMENT_BYTES;

impl KeySchema {
    const fn rest_bytes(self) -> usize {
        match self {
            Self::Window => 4,
            Self::Session => 8,
        }
    }

    /// Bytes after the key.
    pub(super) const fn suffix_bytes(self) -> usize {
        TIME_BYTES + self.rest_bytes()
    }

    /// The largest `rest`.
    pub(super) const fn rest_max(self) -> i64 {
        match self {
            Self::Window => i32::MAX as i64,
            Self::Session => i64::MAX,
        }
    }

    fn push_rest(self, rest: i64, out: &mut Vec<u8>) {
        let bytes = rest.to_be_bytes();
        out.extend_from_slice(&bytes[TIME_BYTES - self.rest_bytes()..]);
    }

    /// Appends the bytes of the changelog.
    pub(super) fn write(self, parts: Parts<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(parts.key);
        out.extend_from_slice(&parts.time.to_be_bytes());
        self.push_rest(parts.rest, out);
    }

    /// Takes the bytes of the changelog apart; `None` where there are too few.
    pub(super) fn parse(self, bytes: &[u8]) -> Option<Parts<'_>> {
        let key_bytes = bytes.len().checked_sub(self.suffix_bytes())?;
        let (key, suffix) = bytes.split_at(key_bytes);
        let (time, rest) = suffix.split_at(TIME_BYTES);
        Some(Parts { key, time: integer(time), rest: integer(rest) })
    }

    /// Replaces `out` by the key-first row of the segment.
    pub(super) fn write_key_first(self, segment: i64, parts: Parts<'_>, out: &mut Vec<u8>) {
        write_segment(segment, out);
        self.write(parts, out);
    }

    /// Replaces `out` by the time-first row.
    pub(super) fn write_time_first(self, parts: Parts<'_>, out: &mut Vec<u8>) {
        write_time(parts.time, out);
        match self {
            Self::Window => {
                out.extend_from_slice(parts.key);
                self.push_rest(parts.rest, out);
            }
            Self::Session => {
                self.push_rest(parts.rest, out);
                out.extend_from_slice(parts.key);
            }
        }
    }

    /// Takes an engine's row apart, of either order; `None` for the marker and for bytes that are neither.
    pub(super) fn parse_row(self, row: &[u8]) -> Option<Parts<'_>> {
        let range = self.key_range(row)?;
        if row[0] == KEY_FIRST {
            return self.parse(&row[KEY_FIRST_PREFIX..]);
        }
        let time = integer(&row[1..=TIME_BYTES]);
        let rest = match self {
            Self::Window => &row[range.end..],
            Self::Session => &row[1 + TIME_BYTES..range.start],
        };
        Some(Parts { key: &row[range], time, rest: integer(rest) })
    }

    /// Where the key lies in an engine's row.
    pub(super) fn key_range(self, row: &[u8]) -> Option<std::ops::Range<usize>> {
        let (start, end) = match (*row.first()?, self) {
            (KEY_FIRST, _) => (KEY_FIRST_PREFIX, row.len().checked_sub(self.suffix_bytes())?),
            (TIME_FIRST, Self::Window) => {
                (1 + TIME_BYTES, row.len().checked_sub(self.rest_bytes())?)
            }
            (TIME_FIRST, Self::Session) => (1 + self.suffix_bytes(), row.len()),
            _ => return None,
        };
        (start <= end).then_some(start..end)
    }

    /// Replaces `out` by a bound that no key-first row of `key` or a smaller key in the segment exceeds.
    /// Source: `OrderedBytes.upperRange`.
    pub(super) fn write_upper_bound(self, segment: i64, key: &[u8], out: &mut Vec<u8>) {
        write_segment(segment, out);
        // The time of a row begins with a byte below 0x80, so a key of which another is a prefix sorts after
        // all rows of that prefix once its own next byte is 0x80 or more; up to there its bytes bound nothing.
        let length = key.iter().skip(1).take_while(|byte| **byte > 0x7f).count() + 1;
        out.extend_from_slice(&key[..length.min(key.len())]);
        out.resize(out.len() + key.len() + self.suffix_bytes() + 1, u8::MAX);
    }
}

/// Replaces `out` by the first bytes of the rows of a segment.
pub(super) fn write_segment(segment: i64, out: &mut Vec<u8>) {
    out.clear();
    out.push(KEY_FIRST);
    out.extend_from_slice(&segment.to_be_bytes()[TIME_BYTES - SEGMENT_BYTES..]);
}

/// Replaces `out` by the first bytes of the time-first rows of a time.
pub(super) fn write_time(time: i64, out: &mut Vec<u8>) {
    out.clear();
    out.push(TIME_FIRST);
    out.extend_from_slice(&time.to_be_bytes());
}

fn integer(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |value, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> = Parts { key: b"ab", time: 5, rest: 3 };

    #[test]
    fn changelog_keys_are_javas() {
        let mut out = Vec::new();
        KeySchema::Window.write(PARTS, &mut out);
        assert_eq!(out, b"ab\0\0\0\0\0\0\0\x05\0\0\0\x03");
        assert_eq!(KeySchema::Window.parse(&out), Some(PARTS));
        out.clear();
        KeySchema::Session.write(PARTS, &mut out);
        assert_eq!(out, b"ab\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03");
        assert_eq!(KeySchema::Session.parse(&out), Some(PARTS));
        assert_eq!(KeySchema::Session.parse(&out[3..]), None);
    }

    #[test]
    fn rows_of_both_orders_are_read_back() {
        for schema in [KeySchema::Window, KeySchema::Session] {
            for key in [&b""[..], b"a", b"a-long-key"] {
                let parts = Parts { key, time: 1 << 40, rest: 7 };
                let mut out = Vec::new();
                schema.write_key_first(9, parts, &mut out);
                assert_eq!(schema.parse_row(&out), Some(parts));
                assert_eq!(schema.parse(&out[KEY_FIRST_PREFIX..]), Some(parts));
                schema.write_time_first(parts, &mut out);
                assert_eq!(schema.parse_row(&out), Some(parts));
            }
            assert_eq!(schema.parse_row(MARKER), None);
            assert_eq!(schema.parse_row(b"\x00\x01"), None);
        }
    }

    #[test]
    fn time_first_rows_as_documented() {
        let mut out = Vec::new();
        KeySchema::Window.write_time_first(PARTS, &mut out);
        assert_eq!(out, b"\0\0\0\0\0\0\0\0\x05ab\0\0\0\x03");
        KeySchema::Session.write_time_first(PARTS, &mut out);
        assert_eq!(out, b"\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03ab");
    }

    #[test]
    fn no_row_of_a_smaller_key_exceeds_the_upper_bound() {
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for length in 1..=3 {
            for code in 0..4usize.pow(length) {
                let byte = |place: u32| [0u8, 1, 0x80, 255][code / 4usize.pow(place) % 4];
                keys.push((0..length).map(byte).collect());
            }
        }
        let (mut bound, mut row) = (Vec::new(), Vec::new());
        for key in &keys {
            KeySchema::Window.write_upper_bound(1, key, &mut bound);
            for smaller in keys.iter().filter(|smaller| *smaller <= key) {
                // Below the empty key lies nothing but the time; only times beyond 8,000 years begin otherwise than with two zeros.
                let time_max = if smaller.is_empty() { (1 << 48) - 1 } else { i64::MAX };
                for time in [0, time_max] {
                    let rest = i64::from(i32::MAX);
                    let parts = Parts { key: smaller, time, rest };
                    KeySchema::Window.write_key_first(1, parts, &mut row);
                    assert!(row <= bound, "{smaller:?} {key:?} {time}");
                }
            }
            let next = [KEY_FIRST, 0, 0, 0, 0, 0, 2];
            assert!(bound[..] < next[..], "the bound stays within the segment");
        }
    }
}
