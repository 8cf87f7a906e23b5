//! Avro's binary primitives in Confluent's frame, for the fixed schema ids of the benchmark.
//!
//! Hot path. A reader walks the writer's fields in order and keeps only those asked for: projection without a
//! `Value` tree. It refuses truncated input, bad text and trailing bytes. No registry: ids 1 to 8 are given.

use std::ops::Range;

use bytes::Bytes;
use kstreams::{Error, Result};

/// The frame before each datum: magic byte 0 and the schema id, big endian.
pub(crate) const FRAME_BYTES: usize = 5;

/// UTF-8 text that shares its record's buffer; checked when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Text(Bytes);

impl Text {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// # Errors
    /// `BadRecord` for bytes that are not UTF-8.
    pub(crate) fn new(bytes: Bytes) -> Result<Self> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(error) => Err(Error::bad_record("found bytes that are not UTF-8, wanted a string")
                .with_source(error)),
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

/// The schema id of a framed value.
///
/// # Errors
/// `BadRecord` for a value without the frame.
pub(crate) fn schema_id(framed: &[u8]) -> Result<u32> {
    match framed {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(Error::bad_record(format!(
            "found a value of {} bytes without magic byte 0, wanted a schema registry frame",
            framed.len()
        ))),
    }
}

/// Reads a framed datum field by field.
pub(crate) struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts behind the frame of `data`, which [`schema_id`] has checked.
    pub(crate) fn new(data: &'a Bytes) -> Self {
        Self { data, at: FRAME_BYTES }
    }

    /// A zigzag-encoded `long` or `int`.
    pub(crate) fn long(&mut self) -> Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.data.get(self.at).ok_or_else(truncated)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Error::bad_record("found a number longer than 10 bytes, wanted an Avro long"))
    }

    /// A string, sharing the record's buffer.
    pub(crate) fn text(&mut self) -> Result<Text> {
        let range = self.range()?;
        Text::new(self.data.slice(range))
    }

    /// A string's bytes, for a comparison with known words only.
    pub(crate) fn word(&mut self) -> Result<&'a [u8]> {
        let range = self.range()?;
        Ok(&self.data[range])
    }

    /// Passes over strings nobody asked for.
    pub(crate) fn skip_texts(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.range()?;
        }
        Ok(())
    }

    /// Ends the datum.
    ///
    /// # Errors
    /// `BadRecord` for bytes after it.
    pub(crate) fn finish(self) -> Result<()> {
        match self.data.len() - self.at {
            0 => Ok(()),
            rest => Err(Error::bad_record(format!("found {rest} bytes after the datum, wanted 0"))),
        }
    }

    fn range(&mut self) -> Result<Range<usize>> {
        let length = usize::try_from(self.long()?).map_err(|_| truncated())?;
        let start = self.at;
        match start.checked_add(length) {
            Some(end) if end <= self.data.len() => {
                self.at = end;
                Ok(start..end)
            }
            _ => Err(truncated()),
        }
    }
}

#[cold]
fn truncated() -> Error {
    Error::bad_record("the datum ends inside a field")
}

/// Appends a framed datum field by field.
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, schema_id: u32) -> Self {
        out.push(0);
        out.extend_from_slice(&schema_id.to_be_bytes());
        Self(out)
    }

    pub(crate) fn long(&mut self, value: i64) -> &mut Self {
        let mut rest = (value << 1 ^ value >> 63) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        self.long(text.len() as i64);
        self.0.extend_from_slice(text);
        self
    }

    /// `prefix` followed by `number` in decimal, as one string.
    pub(crate) fn numbered(&mut self, prefix: &str, number: i64) -> &mut Self {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            first -= 1;
            digits[first] = b'-';
        }
        let digits = &digits[first..];
        self.long((prefix.len() + digits.len()) as i64);
        self.0.extend_from_slice(prefix.as_bytes());
        self.0.extend_from_slice(digits);
        self
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let numbers = [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN];
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, 7);
        writer.text("héllo").numbered("ma-", i64::MIN).numbered("", 0);
        for number in numbers {
            writer.long(number);
        }
        let framed = Bytes::from(out);
        assert_eq!(schema_id(&framed).unwrap(), 7);
        let mut reader = Reader::new(&framed);
        assert_eq!(reader.text().unwrap().as_bytes(), "héllo".as_bytes());
        assert_eq!(reader.word().unwrap(), b"ma--9223372036854775808");
        assert_eq!(reader.word().unwrap(), b"0");
        for number in numbers {
            assert_eq!(reader.long().unwrap(), number);
        }
        reader.finish().unwrap();
    }

    #[test]
    fn truncated_overlong_trailing_and_invalid_data_is_refused() {
        let frame = |data: &[u8]| Bytes::from([&[0; FRAME_BYTES], data].concat());
        assert!(schema_id(b"\0\0\0\0").is_err());
        assert!(schema_id(b"\x01\0\0\0\x01").is_err());
        assert!(Reader::new(&frame(&[0x80])).long().is_err());
        assert!(Reader::new(&frame(&[0xff; 11])).long().is_err());
        assert!(Reader::new(&frame(&[4, b'a'])).text().is_err());
        assert!(Reader::new(&frame(&[1])).text().is_err());
        assert!(Reader::new(&frame(&[2, 0xff])).text().is_err());
        assert!(Reader::new(&frame(&[2])).finish().is_err());
    }
}
