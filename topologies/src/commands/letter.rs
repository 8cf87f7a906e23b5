//! A dead letter as text.

use std::fmt::Write as _;

use kstreams::dlq::ErrorHeaders;
use kstreams::serdes::{SchemaCache, decode_json};
use kstreams::{RawRecord, TopicPartition};

use crate::mask::{Mask, personal};

/// Bytes of a hex dump; the rest is counted only.
const DUMP_BYTES_MAX: usize = 1024;
/// Bytes on a line of a hex dump.
const DUMP_LINE: usize = 16;
/// Letters of a reason on a line of the list.
const REASON_MAX: usize = 160;
const ERROR_PREFIX: &str = "__streams.errors.";

/// Whether personal data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Personal {
    /// Names, addresses and numbers are hidden, and so are bytes of which nobody knows what they are.
    Hidden,
    /// Everything is shown.
    Shown,
}

impl Personal {
    fn text(self, text: &str) -> String {
        match self {
            Self::Hidden => Mask::default().text(text).into_owned(),
            Self::Shown => text.to_owned(),
        }
    }
}

/// A record of a dead-letter topic.
pub(super) struct Letter {
    partition: TopicPartition,
    record: RawRecord,
    errors: ErrorHeaders,
}

impl Letter {
    pub(super) fn new(partition: TopicPartition, record: RawRecord) -> Self {
        let errors = ErrorHeaders::read(&record.headers);
        Self { partition, record, errors }
    }

    /// A word of a closed set; for letters of other programs, the exception's name.
    pub(super) fn class(&self) -> &str {
        self.errors.get("class").or_else(|| self.errors.get("exception")).unwrap_or("unknown")
    }

    pub(super) fn reason(&self) -> &str {
        self.errors.get("message").unwrap_or("no reason given")
    }

    /// When it failed; where that is not said, the record's own time.
    pub(super) fn failed_at(&self) -> i64 {
        let said = self.errors.get("timestamp").and_then(|text| text.parse().ok());
        said.unwrap_or_else(|| self.record.timestamp.as_millis())
    }

    fn place(&self) -> String {
        format!("{}-{}@{}", self.partition.topic, self.partition.partition, self.record.offset)
    }

    fn source(&self) -> String {
        let part = |name| self.errors.get(name).unwrap_or("?");
        format!("{}-{}@{}", part("topic"), part("partition"), part("offset"))
    }

    /// Everything on one line.
    pub(super) fn line(&self) -> String {
        let reason = Personal::Hidden.text(self.reason());
        let reason: String = reason.chars().take(REASON_MAX).collect();
        let reason = reason.replace(['\n', '\r'], " ");
        let (place, source, class) = (self.place(), self.source(), self.class());
        format!("{place} {} {class} from {source}: {reason}", date_time(self.failed_at()))
    }

    /// Everything, on several lines.
    pub(super) fn details(&self, schemas: &SchemaCache, data: Personal) -> String {
        let part = |name| self.errors.get(name).unwrap_or("?");
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<9}{value}");
        };
        line("failed", &date_time(self.failed_at()));
        line("reason", &data.text(self.reason()));
        let stage =
            format!("{}, stage {}, attempt {}", self.class(), part("stage"), part("attempt"));
        line("class", &stage);
        let time = date_time(self.record.timestamp.as_millis());
        line("source", &format!("{}, of {time}", self.source()));
        let node = format!(
            "application {}, task {}, node {}",
            part("application.id"),
            part("task.id"),
            part("processor.node.id")
        );
        line("where", &node);
        let known = |key: &str| key.starts_with(ERROR_PREFIX);
        for header in self.record.headers.iter().filter(|header| !known(&header.key)) {
            let text = format!("{} = {}", header.key, plain(header.value.as_deref()));
            line("header", &data.text(&text));
        }
        line("key", &data.text(&plain(self.record.key.as_deref())));
        let (about, body) = value(self.record.value.as_deref(), schemas, data);
        line("value", &about);
        format!("{}\n{text}{body}", self.place())
    }
}

/// What is to be said about a value, and the value.
fn value(value: Option<&[u8]>, schemas: &SchemaCache, data: Personal) -> (String, String) {
    let Some(bytes) = value else { return ("null".to_owned(), String::new()) };
    match decode_json(schemas, bytes) {
        Ok(mut frame) => {
            if data == Personal::Hidden {
                personal(&mut frame.value);
            }
            let mut about =
                format!("{} bytes, {} (schema id {})", bytes.len(), frame.name, frame.schema_id);
            if frame.trailing_bytes > 0 {
                let _ = write!(about, ", {} bytes too many at its end", frame.trailing_bytes);
            }
            let json = format!("{:#}", frame.value);
            (about, json.lines().map(|line| format!("    {line}\n")).collect())
        }
        Err(error) => {
            let about = format!("{} bytes; {}", bytes.len(), data.text(&error.to_string()));
            match data {
                Personal::Hidden => (about + "; --personal-data shows them", String::new()),
                Personal::Shown => (about, hex_dump(bytes)),
            }
        }
    }
}

/// Text where the bytes are text, else hex digits.
fn plain(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => format!("\"{text}\""),
        _ => {
            let shown = &bytes[..bytes.len().min(DUMP_BYTES_MAX)];
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex} ({} bytes)", bytes.len())
        }
    }
}

/// Offset, bytes and letters, as `hexdump -C` prints them.
fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let shown = &bytes[..bytes.len().min(DUMP_BYTES_MAX)];
    for (index, line) in shown.chunks(DUMP_LINE).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let visible = |byte: &u8| match byte {
            0x20..0x7f => char::from(*byte),
            _ => '.',
        };
        let letters: String = line.iter().map(visible).collect();
        let width = DUMP_LINE * 3;
        let _ = writeln!(text, "    {:04x}  {hex:<width$} |{letters}|", index * DUMP_LINE);
    }
    if shown.len() < bytes.len() {
        let _ = writeln!(text, "    and {} bytes more", bytes.len() - shown.len());
    }
    text
}

/// Milliseconds since 1970 as UTC text. The calendar's arithmetic is Howard Hinnant's `civil_from_days`.
fn date_time(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    let milli = in_day % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(date_time(ms), text);
        }
    }

    #[test]
    fn bytes_are_text_or_hex() {
        assert_eq!(plain(Some(b"North")), "\"North\"");
        assert_eq!(plain(Some(&[0, 255])), "0x00ff (2 bytes)");
        assert_eq!(plain(None), "null");
        let dump = hex_dump(b"\x00garbage, a little longer");
        let lines: Vec<&str> = dump.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("    0000  00 67 61 72"), "{dump}");
        assert!(lines[0].ends_with("|.garbage, a litt|"), "{dump}");
        assert!(hex_dump(&[1; 2000]).ends_with("and 976 bytes more\n"));
    }
}
