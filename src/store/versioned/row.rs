//! The versions of one key that ended within one segment of time, as one row. Hot path of out-of-order updates.
//!
//! Byte-equal to Java's rows. Source: `RocksDBVersionedStoreSegmentValueFormatter`.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | end of the newest version (exclusive), big-endian milliseconds |
//! | 8 | 8 | start of the oldest version |
//! | 16 | 12 n | start (8) and value length (4; −1: a deletion) of each version, newest first |
//! | 16 + 12 n | | values, oldest first |
//!
//! A row whose end is the start of its only version, a deletion, is *degenerate*: it remembers a deletion of a key that had
//! no version then.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

const HEADER_BYTES: usize = 16;
const VERSION_BYTES: usize = 12;
/// Stands for a deletion where a length would stand.
const DELETED: i32 = -1;

/// One version of a key: valid from its timestamp to the next newer version's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Version {
    pub(super) timestamp: i64,
    /// `None`: the key was deleted.
    pub(super) value: Option<Bytes>,
}

/// A decoded row; kept and filled again, so that its list is allocated once.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SegmentRow {
    /// Where the newest version ends.
    pub(super) end: i64,
    /// Newest first, never empty once filled.
    versions: Vec<Version>,
}

impl SegmentRow {
    /// Replaces the content by one version.
    pub(super) fn reset(&mut self, value: Option<Bytes>, from: i64, to: i64) {
        self.versions.clear();
        self.versions.push(Version { timestamp: from, value });
        self.end = to;
    }

    /// Replaces the content by a row's bytes; values are slices of them.
    ///
    /// # Errors
    /// `TaskCorrupted` for anything else.
    pub(super) fn decode(&mut self, bytes: &Bytes) -> Result<()> {
        self.versions.clear();
        let corrupted = || {
            let message = format!(
                "reading a row of a versioned store: found {} bytes that do not add up, wanted whole versions",
                bytes.len()
            );
            Error::new(ErrorKind::TaskCorrupted, message)
        };
        let oldest = read_i64(bytes, 8).ok_or_else(corrupted)?;
        self.end = read_i64(bytes, 0).ok_or_else(corrupted)?;
        let mut end = bytes.len();
        loop {
            let at = HEADER_BYTES + self.versions.len() * VERSION_BYTES;
            let timestamp = read_i64(bytes, at).ok_or_else(corrupted)?;
            let length = bytes.get(at + 8..at + 12).and_then(|length| length.try_into().ok());
            let length = i32::from_be_bytes(length.ok_or_else(corrupted)?);
            let value = match usize::try_from(length) {
                Err(_) => None,
                Ok(length) => {
                    let start = end.checked_sub(length).filter(|start| *start >= at + 12);
                    let start = start.ok_or_else(corrupted)?;
                    Some(bytes.slice(start..std::mem::replace(&mut end, start)))
                }
            };
            self.versions.push(Version { timestamp, value });
            if timestamp == oldest {
                break;
            }
        }
        if end != HEADER_BYTES + self.versions.len() * VERSION_BYTES {
            return Err(corrupted());
        }
        Ok(())
    }

    /// Replaces `out` by the row's bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.end.to_be_bytes());
        out.extend_from_slice(&self.oldest().to_be_bytes());
        for version in &self.versions {
            out.extend_from_slice(&version.timestamp.to_be_bytes());
            let length = match &version.value {
                // A value of 2 GiB cannot have come through Kafka.
                Some(value) => i32::try_from(value.len()).expect("a record is below 2 GiB"),
                None => DELETED,
            };
            out.extend_from_slice(&length.to_be_bytes());
        }
        for value in self.versions.iter().rev().filter_map(|version| version.value.as_ref()) {
            out.extend_from_slice(value);
        }
    }

    /// The version valid at `timestamp`, its number, and where it ends; `None` where the row does not reach there.
    pub(super) fn find(&self, timestamp: i64) -> Option<(usize, &Version, i64)> {
        if timestamp >= self.end {
            return None;
        }
        let index = self.versions.iter().position(|version| version.timestamp <= timestamp)?;
        let end = index.checked_sub(1).map_or(self.end, |newer| self.versions[newer].timestamp);
        Some((index, &self.versions[index], end))
    }

    /// Puts another version in the place of one.
    pub(super) fn replace(&mut self, index: usize, version: Version) {
        self.versions[index] = version;
    }

    /// Puts a version before the one at `index`, that is, after it in time.
    pub(super) fn insert(&mut self, index: usize, version: Version) {
        self.versions.insert(index, version);
    }

    /// Adds the newest version. A gap after the one before becomes a deletion; what overlaps the new one is cut off.
    pub(super) fn insert_newest(&mut self, value: Option<Bytes>, from: i64, to: i64) {
        if from < self.end {
            self.cut_at(from);
        }
        if self.is_degenerate() {
            self.versions.clear();
        }
        if self.end != from {
            self.versions.insert(0, Version { timestamp: self.end, value: None });
        }
        self.versions.insert(0, Version { timestamp: from, value });
        self.end = to;
    }

    /// Adds the oldest version.
    pub(super) fn insert_oldest(&mut self, version: Version) {
        if self.is_degenerate() {
            self.versions.clear();
        }
        self.versions.push(version);
    }

    fn cut_at(&mut self, timestamp: i64) {
        self.versions.retain(|version| version.timestamp < timestamp);
        self.end = timestamp;
        if self.versions.is_empty() {
            self.reset(None, timestamp, timestamp);
        }
    }

    fn oldest(&self) -> i64 {
        self.versions.last().map_or(self.end, |version| version.timestamp)
    }

    fn is_degenerate(&self) -> bool {
        self.oldest() == self.end
    }
}

/// Where the newest version of a row ends, without decoding it.
pub(super) fn end_of(bytes: &[u8]) -> Option<i64> {
    read_i64(bytes, 0)
}

/// Where the oldest version of a row starts, without decoding it.
pub(super) fn oldest_of(bytes: &[u8]) -> Option<i64> {
    read_i64(bytes, 8)
}

fn read_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(row: &SegmentRow) -> Bytes {
        let mut out = Vec::new();
        row.encode(&mut out);
        out.into()
    }

    fn value(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn bytes_are_javas() {
        let mut row = SegmentRow::default();
        row.reset(value("ab"), 1, 3);
        row.insert_newest(value("c"), 5, 6);
        let expected = [
            &6i64.to_be_bytes()[..],
            &1i64.to_be_bytes(),
            &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 3, 255, 255, 255, 255],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2],
            b"abc",
        ]
        .concat();
        assert_eq!(bytes(&row), expected);
        let mut read = SegmentRow::default();
        read.decode(&bytes(&row)).unwrap();
        assert_eq!(read, row);
    }

    #[test]
    fn finds_what_is_valid_at_a_time() {
        let mut row = SegmentRow::default();
        row.reset(value("ab"), 1, 3);
        row.insert_newest(value("c"), 5, 6);
        let found = |at| row.find(at).map(|(index, version, end)| (index, version.timestamp, end));
        assert_eq!(found(0), None);
        assert_eq!(found(1), Some((2, 1, 3)));
        assert_eq!(found(4), Some((1, 3, 5)));
        assert_eq!(found(5), Some((0, 5, 6)));
        assert_eq!(found(6), None);
    }

    #[test]
    fn a_degenerate_row_gives_way_to_what_is_inserted() {
        let mut row = SegmentRow::default();
        row.reset(None, 5, 5);
        row.insert_oldest(Version { timestamp: 2, value: value("a") });
        assert_eq!((row.versions.len(), row.end), (1, 5));
        row.reset(None, 5, 5);
        row.insert_newest(value("b"), 5, 8);
        assert_eq!((row.versions.len(), row.oldest(), row.end), (1, 5, 8));
        row.reset(None, 5, 5);
        row.insert_newest(value("b"), 6, 8);
        assert_eq!((row.versions.len(), row.oldest(), row.end), (2, 5, 8));
    }

    #[test]
    fn an_overlap_is_cut_off() {
        let mut row = SegmentRow::default();
        row.reset(value("a"), 1, 3);
        row.insert_newest(value("b"), 3, 9);
        row.insert_newest(value("c"), 2, 4);
        assert_eq!(row.versions.len(), 2);
        assert_eq!(row.find(1).map(|(_, version, end)| (version.timestamp, end)), Some((1, 2)));
        row.insert_newest(value("d"), 1, 2);
        assert_eq!((row.versions.len(), row.end), (1, 2));
    }

    #[test]
    fn damage_is_corruption() {
        let mut row = SegmentRow::default();
        row.reset(value("ab"), 1, 3);
        let good = bytes(&row);
        for length in 0..good.len() {
            let error = SegmentRow::default().decode(&good.slice(..length)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TaskCorrupted);
        }
        let long = Bytes::from([&good[..], b"x"].concat());
        assert!(SegmentRow::default().decode(&long).is_err());
    }
}
