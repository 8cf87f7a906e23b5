//! An answer as text for people: fields below each other, lists of objects as tables.

use std::fmt::Write as _;

use kstreams::Timestamp;
use serde_json::{Map, Value};

use super::Question;

/// Renders an answer. Fields that end in `_at_ms` or are called `deadline_ms` show as times in UTC.
pub fn render(question: &Question, answer: &Value) -> String {
    let mut text = format!("{question}\n");
    let empty = Map::new();
    let fields = answer.as_object().unwrap_or(&empty);
    let is_list = |value: &&Value| matches!(value, Value::Array(_) | Value::Object(_));
    let plain: Vec<_> = fields.iter().filter(|(_, value)| !is_list(value)).collect();
    let width = plain.iter().map(|(name, _)| label(name).chars().count()).max().unwrap_or(0);
    for (name, value) in plain {
        let label = label(name);
        let _ = writeln!(text, "  {label:width$}  {}", cell(name, value));
    }
    for (name, value) in fields.iter().filter(|(_, value)| is_list(value)) {
        let _ = writeln!(text, "{}", label(name));
        match value {
            Value::Array(rows) if rows.is_empty() => text.push_str("  none\n"),
            Value::Array(rows) => table(&mut text, rows),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let _ = writeln!(text, "  {name}: {}", cell(name, value));
                }
            }
            _ => {}
        }
    }
    text
}

fn table(text: &mut String, rows: &[Value]) {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut lines = vec![columns.iter().map(|name| label(name)).collect::<Vec<_>>()];
    for row in rows {
        lines.push(columns.iter().map(|name| cell(name, &row[*name])).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let mut out = String::new();
        for (value, width) in line.iter().zip(&widths) {
            let _ = write!(out, "  {value:width$}");
        }
        let _ = writeln!(text, "{}", out.trim_end());
    }
}

fn label(name: &str) -> String {
    name.strip_suffix("_ms").unwrap_or(name).replace('_', " ")
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) if name.ends_with("_at_ms") || name == "deadline_ms" => {
            number.as_i64().map_or_else(|| number.to_string(), utc)
        }
        Value::Array(values) => {
            values.iter().map(|value| cell("", value)).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// A moment as `2026-03-01 12:00:00`, UTC.
pub(crate) fn utc(millis: i64) -> String {
    let seconds = Timestamp::from_millis(millis).as_millis().div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant's civil_from_days).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_by_people() {
        let answer = json!({
            "status": "assigned", "manager_id": 7, "escalated": false, "filed_at_ms": 1_772_366_400_000_i64,
            "grants": [
                { "contractor_id": 9, "state": "granted" },
                { "contractor_id": 10, "state": "revoked", "reason": "expired" },
            ],
            "documents": [],
            "incomplete": { "notifications": "not run" },
        });
        let wanted = "\
request 123
  escalated   no
  filed at    2026-03-01 12:00:00
  manager id  7
  status      assigned
documents
  none
grants
  contractor id  state    reason
  9              granted  -
  10             revoked  expired
incomplete
  notifications: not run
";
        assert_eq!(render(&Question::Request(123), &answer), wanted);
    }

    #[test]
    fn times_are_utc() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_399_999, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(millis), text);
        }
    }
}
