//! Rows of a JSON file: one array of objects, or objects one after another (a line each, usually), with their lines.

use kstreams::{Error, Result};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Given, Row};

/// Reads all objects.
///
/// # Errors
/// `Invalid` for what is not JSON or not an object, with its line.
pub(super) fn rows(file: &str, text: &str) -> Result<Vec<Row>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let wrong = |line: usize, what: &dyn std::fmt::Display| {
        Error::invalid(format!("file \"{file}\": line {line}: {what}"))
    };
    let not_json = |error: serde_json::Error| wrong(error.line(), &error);
    let raws: Vec<&RawValue> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(not_json)?
    } else {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        stream.collect::<Result<_, _>>().map_err(not_json)?
    };
    let (mut rows, mut line, mut seen) = (Vec::new(), 1, 0);
    for raw in raws {
        // The raw value is a piece of the text.
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        line += text[seen..start].bytes().filter(|byte| *byte == b'\n').count();
        seen = start;
        let object: Map<String, Value> = serde_json::from_str(raw.get())
            .map_err(|_| wrong(line, &"found something else, wanted an object"))?;
        let fields = object.into_iter().map(|(name, value)| (name, Given::Json(value))).collect();
        rows.push(Row { line, fields });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        rows("f", text).unwrap().iter().map(|row| row.line).collect()
    }

    #[test]
    fn arrays_and_lines_of_objects() {
        assert_eq!(lines("[\n {\"a\": 1},\n {\n\"a\": 2}, {\"a\": 3}\n]\n"), [2, 3, 4]);
        assert_eq!(lines("{\"a\": 1}\n{\"a\": 2}\n\n{\"a\": 3}\n"), [1, 2, 4]);
        assert_eq!(lines("[]"), [0usize; 0]);
        let row = &rows("f", "[{\"a\": 1}]").unwrap()[0];
        assert_eq!(row.fields, [("a".to_owned(), Given::Json(1.into()))]);
    }

    #[test]
    fn what_is_no_object_names_its_line() {
        for (text, found) in [
            ("[\n{\"a\": 1},\n7]", "line 3: found something else"),
            ("[{\"a\": 1}", "line 1: EOF"),
            ("{\"a\": 1}\n{\"a\" 2}", "line 2: expected"),
        ] {
            let error = rows("f", text).unwrap_err();
            assert!(error.message().contains(found), "{text:?}: {error}");
        }
    }
}
