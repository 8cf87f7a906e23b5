//! Rows of a CSV file (RFC 4180), with the lines they stand on.
//!
//! The first line names the fields and decides the separator: a semicolon where it has one and no comma, as spreadsheets of
//! some languages write. Fields in quotes may hold separators, quotes (doubled) and line ends.

use kstreams::{Error, Result};

use super::{Given, Row};

/// Reads all rows below the header. Empty lines are passed over.
///
/// # Errors
/// `Invalid` for a quote that never ends, text after one that does, a row of another length than the header, or a name
/// that comes twice.
pub(super) fn rows(file: &str, text: &str) -> Result<Vec<Row>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let header = text.lines().next().unwrap_or("");
    let separator = if header.contains(';') && !header.contains(',') { ';' } else { ',' };
    let mut records = records(file, text, separator)?.into_iter();
    let Some((_, names)) = records.next() else {
        return Err(Error::invalid(format!(
            "file \"{file}\": found nothing, wanted a line of names"
        )));
    };
    let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Error::invalid(format!(
            "file \"{file}\": line 1: found field \"{}\" twice, wanted it once",
            twice.1
        )));
    }
    let mut rows = Vec::new();
    for (line, values) in records {
        if values.len() != names.len() {
            return Err(Error::invalid(format!(
                "file \"{file}\": line {line}: found {} fields, wanted {} as the first line names",
                values.len(),
                names.len()
            )));
        }
        let fields = names.iter().cloned().zip(values.into_iter().map(Given::Text)).collect();
        rows.push(Row { line, fields });
    }
    Ok(rows)
}

/// Where a character stands.
#[derive(PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end, or the first of two.
    QuoteInQuoted,
}

fn records(file: &str, text: &str, separator: char) -> Result<Vec<(usize, Vec<String>)>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut began, mut at) = (1, 1, At::FieldStart);
    let wrong = |line: usize, what: &str| {
        Err(Error::invalid(format!("file \"{file}\": line {line}: {what}")))
    };
    for c in text.chars().chain(std::iter::once('\n')) {
        let is_last_line = c == '\n';
        match (&at, c) {
            (At::Quoted, '"') => at = At::QuoteInQuoted,
            (At::Quoted, _) => field.push(c),
            (At::QuoteInQuoted, '"') => {
                field.push('"');
                at = At::Quoted;
            }
            (At::FieldStart, '"') => at = At::Quoted,
            (At::QuoteInQuoted | At::FieldStart | At::Plain, '\r') => {}
            (At::QuoteInQuoted | At::FieldStart | At::Plain, '\n') => {
                record.push(std::mem::take(&mut field));
                let empty = record.len() == 1 && record[0].is_empty() && at != At::QuoteInQuoted;
                let record = std::mem::take(&mut record);
                if !empty {
                    records.push((began, record));
                }
                at = At::FieldStart;
            }
            (At::QuoteInQuoted | At::FieldStart | At::Plain, _) if c == separator => {
                record.push(std::mem::take(&mut field));
                at = At::FieldStart;
            }
            (At::QuoteInQuoted, _) => {
                return wrong(line, "found text after a closing quote, wanted a separator");
            }
            (At::Plain, '"') => {
                return wrong(
                    line,
                    "found a quote inside a field, wanted the whole field in quotes",
                );
            }
            (At::FieldStart | At::Plain, _) => {
                field.push(c);
                at = At::Plain;
            }
        }
        if is_last_line {
            line += 1;
            if at == At::FieldStart && record.is_empty() {
                began = line;
            }
        }
    }
    match at {
        At::Quoted => wrong(began, "found a quote that is never closed"),
        _ => Ok(records),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(usize, Vec<String>)> {
        let text_of = |given| match given {
            Given::Text(text) => text,
            Given::Json(value) => panic!("{value}"),
        };
        let values = |row: Row| row.fields.into_iter().map(|(_, value)| text_of(value)).collect();
        rows("f", text).unwrap().into_iter().map(|row| (row.line, values(row))).collect()
    }

    #[test]
    fn quotes_separators_and_line_ends() {
        let text = "\u{feff}a,b\r\n1,2\r\n\r\n\"x,\"\"y\"\"\nz\",\n,\"\"\n3,4";
        let owned = |values: [&str; 2]| values.map(str::to_owned).to_vec();
        let wanted = [
            (2, owned(["1", "2"])),
            (4, owned(["x,\"y\"\nz", ""])),
            (6, owned(["", ""])),
            (7, owned(["3", "4"])),
        ];
        assert_eq!(read(text), wanted);
        assert_eq!(read("a;b\n1,5;2\n"), [(2, owned(["1,5", "2"]))]);
    }

    #[test]
    fn what_is_no_csv_names_its_line() {
        for (text, found) in [
            ("", "found nothing"),
            ("a,b\n1\n", "line 2: found 1 fields, wanted 2"),
            ("a,a\n", "line 1: found field \"a\" twice"),
            ("a\n\"x\n", "line 2: found a quote that is never closed"),
            ("a\nb\nx\"y\n", "line 3: found a quote inside a field"),
            ("a\n\"x\"y\n", "line 2: found text after a closing quote"),
        ] {
            let error = rows("f", text).unwrap_err();
            assert!(error.message().contains(found), "{text:?}: {error}");
        }
    }
}
