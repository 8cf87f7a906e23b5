//! From rows to entries: every field there and of its kind, every key once, every rule kept.

use std::collections::BTreeMap;

use kstreams::{Result, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Findings, Given, Row, csv, json};
use crate::events::{Contact, Manager, Validate};

/// A kind of reference data.
pub trait Entry: Validate + Serialize + DeserializeOwned + Clone + PartialEq + 'static {
    /// Its topic.
    const TOPIC: &'static str;
    /// One of them, in messages.
    const NAME: &'static str;
    /// Its fields, as a file has them.
    const FIELDS: &'static [Field];

    /// The key of its record.
    fn key(&self) -> String;
}

/// A field of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, in both kinds of files.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text that is not empty.
    Text,
    /// A text, or nothing.
    OptionalText,
    /// A whole number.
    Integer,
    /// A whole number, or nothing.
    OptionalInteger,
    /// true or false.
    Boolean,
}

impl Kind {
    fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text that is not empty",
            Self::OptionalText => "a text or nothing",
            Self::Integer => "a whole number",
            Self::OptionalInteger => "a whole number or nothing",
            Self::Boolean => "true or false",
        }
    }

    fn is_optional(self) -> bool {
        matches!(self, Self::OptionalText | Self::OptionalInteger)
    }

    /// The value as JSON; `None`: it is of another kind.
    fn read(self, given: &Given) -> Option<Value> {
        let value = match given {
            Given::Json(value) => value.clone(),
            Given::Text(text) => match (self, text.trim()) {
                (_, "") => Value::Null,
                (Self::Text | Self::OptionalText, text) => text.into(),
                (Self::Integer | Self::OptionalInteger, text) => text.parse::<i64>().ok()?.into(),
                (Self::Boolean, text) => text.to_ascii_lowercase().parse::<bool>().ok()?.into(),
            },
        };
        let fits = match (self, &value) {
            (_, Value::Null) => self.is_optional(),
            (Self::Text | Self::OptionalText, Value::String(text)) => !text.trim().is_empty(),
            (Self::Integer | Self::OptionalInteger, Value::Number(number)) => number.is_i64(),
            (Self::Boolean, Value::Bool(_)) => true,
            _ => false,
        };
        fits.then_some(value)
    }
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

impl Entry for Manager {
    const TOPIC: &'static str = "managers";
    const NAME: &'static str = "manager";
    const FIELDS: &'static [Field] = &[
        field("manager_id", Kind::Integer),
        field("name", Kind::Text),
        field("email", Kind::Text),
        field("region", Kind::Text),
        field("capacity", Kind::Integer),
        field("active", Kind::Boolean),
    ];

    fn key(&self) -> String {
        self.manager_id.to_string()
    }
}

impl Entry for Contact {
    const TOPIC: &'static str = "contacts";
    const NAME: &'static str = "contact";
    const FIELDS: &'static [Field] = &[
        field("recipient", Kind::Text),
        field("email", Kind::OptionalText),
        field("telegram_chat_id", Kind::OptionalInteger),
        field("phone", Kind::OptionalText),
        field("locale", Kind::Text),
    ];

    fn key(&self) -> String {
        self.recipient.clone()
    }
}

/// Reads a file, CSV or JSON by its name's end, into entries by key.
///
/// # Errors
/// `Invalid`, naming every line and field that is wrong, what was found and what is wanted.
pub fn entries<T: Entry>(file: &str, text: &str, now: Timestamp) -> Result<BTreeMap<String, T>> {
    let rows = match file.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("csv") => csv::rows(file, text)?,
        Some("json" | "jsonl" | "ndjson") => json::rows(file, text)?,
        _ => {
            return Err(kstreams::Error::invalid(format!(
                "file \"{file}\": found a name that says no format, wanted one that ends in .csv, .json or .jsonl"
            )));
        }
    };
    let mut findings = Findings::default();
    let (mut entries, mut lines) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for row in &rows {
        let Some(entry) = entry::<T>(row, now, &mut findings) else { continue };
        let key = entry.key();
        if let Some(first) = lines.insert(key.clone(), row.line) {
            let name = T::NAME;
            findings.add(
                row.line,
                format_args!("found {name} \"{key}\" again, it stands on line {first} too"),
            );
        }
        entries.insert(key, entry);
    }
    findings.into_result(file)?;
    Ok(entries)
}

fn entry<T: Entry>(row: &Row, now: Timestamp, findings: &mut Findings) -> Option<T> {
    let mut object = Map::new();
    let mut good = true;
    for (name, given) in &row.fields {
        let Some(field) = T::FIELDS.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = T::FIELDS.iter().map(|field| field.name).collect();
            findings.add(
                row.line,
                format_args!("found field \"{name}\", wanted one of {}", known.join(", ")),
            );
            good = false;
            continue;
        };
        match field.kind.read(given) {
            Some(value) => {
                object.insert(name.clone(), value);
            }
            None => {
                let found = match given {
                    Given::Text(text) => format!("{text:?}"),
                    Given::Json(value) => value.to_string(),
                };
                let wanted = field.kind.wanted();
                findings.add(
                    row.line,
                    format_args!("field \"{name}\": found {found}, wanted {wanted}"),
                );
                good = false;
            }
        }
    }
    for field in T::FIELDS {
        let is_there = row.fields.iter().any(|(name, _)| name == field.name);
        if !is_there && field.kind.is_optional() {
            object.insert(field.name.to_owned(), Value::Null);
        } else if !is_there {
            let wanted = field.kind.wanted();
            findings.add(
                row.line,
                format_args!("field \"{}\": found nothing, wanted {wanted}", field.name),
            );
            good = false;
        }
    }
    if !good {
        return None;
    }
    let read =
        serde_json::from_value::<T>(Value::Object(object)).map_err(|error| error.to_string());
    let checked = read.and_then(|entry| match entry.validate(now) {
        Ok(()) => Ok(entry),
        Err(error) => Err(error.message().to_owned()),
    });
    checked.map_err(|text| findings.add(row.line, text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "manager_id,name,email,region,capacity,active\n";

    fn managers(file: &str, text: &str) -> Result<BTreeMap<String, Manager>> {
        entries(file, text, Timestamp::default())
    }

    #[test]
    fn csv_and_json_give_the_same() {
        let csv = format!("{HEADER}7,Anna,a@x,north,5,TRUE\n");
        let json = "[{\"manager_id\": 7, \"name\": \"Anna\", \"email\": \"a@x\", \"region\": \"north\", \
                    \"capacity\": 5, \"active\": true}]";
        let from_csv = managers("m.csv", &csv).unwrap();
        assert_eq!(from_csv, managers("m.json", json).unwrap());
        assert_eq!(from_csv["7"].capacity, 5);
        let contacts = "recipient;locale;phone\ncustomer:1;ru;\n";
        let contacts: BTreeMap<_, Contact> =
            entries("c.csv", contacts, Timestamp::default()).unwrap();
        assert_eq!(
            (contacts["customer:1"].phone.as_deref(), contacts["customer:1"].email.as_deref()),
            (None, None)
        );
    }

    #[test]
    fn everything_wrong_is_named_with_line_and_field() {
        let text = format!(
            "{HEADER}x,Anna,a@x,north,5,yes\n-1,Anna,a@x,north,5,true\n3,Anna,a@x,north,-5,true\n\
             4,Anna,a@x,north,99999999999,true\n5,Anna,a@x,north,1,true\n5,,a@x,north,1,true\n5,B,a@x,north,1,true\n"
        );
        let error = managers("m.csv", &text).unwrap_err().to_string();
        for found in [
            "line 2: field \"manager_id\": found \"x\", wanted a whole number",
            "line 2: field \"active\": found \"yes\", wanted true or false",
            "line 3: manager, field \"manager_id\": found -1",
            "line 4: manager, field \"capacity\": found -5, wanted 0 or more",
            "line 5: invalid value",
            "line 7: field \"name\": found \"\", wanted a text that is not empty",
            "line 8: found manager \"5\" again, it stands on line 6 too",
            "nothing was written",
        ] {
            assert!(error.contains(found), "no \"{found}\" in {error}");
        }
        let error = managers("m.json", "[{\"id\": 1}]").unwrap_err().to_string();
        assert!(
            error.contains("line 1: found field \"id\", wanted one of manager_id, name"),
            "{error}"
        );
        assert!(error.contains("field \"region\": found nothing"), "{error}");
        let error = managers("m.txt", "").unwrap_err().to_string();
        assert!(error.contains("ends in .csv, .json or .jsonl"), "{error}");
        let many = HEADER.to_owned() + &"x,A,a@x,n,1,true\n".repeat(30);
        assert!(managers("m.csv", &many).unwrap_err().to_string().contains("and 10 more"));
    }
}
