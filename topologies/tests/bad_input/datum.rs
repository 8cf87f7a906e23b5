//! Data that fit a schema, made of the schema alone: every contract is tried, also those that come later.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is wrong with a datum that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Good,
    NegativeId,
    EmptyRegion,
    /// The timestamp is this, in ms.
    At(i64),
}

/// A datum of a schema; `None` where the schema has no field for the content.
pub(crate) fn datum(
    schema: &str,
    event_type: &str,
    now_ms: i64,
    content: Content,
) -> Option<Vec<u8>> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut maker = Maker {
        event_type,
        now_ms,
        content,
        used: content == Content::Good,
        named: BTreeMap::new(),
        out: Vec::new(),
    };
    maker.write(&schema, "");
    maker.used.then_some(maker.out)
}

struct Maker<'a> {
    event_type: &'a str,
    now_ms: i64,
    content: Content,
    used: bool,
    named: BTreeMap<String, Value>,
    out: Vec<u8>,
}

impl Maker<'_> {
    fn write(&mut self, schema: &Value, field: &str) {
        match schema {
            // A nullable value is null.
            Value::Array(_) => self.out.push(0),
            Value::Object(parts) => {
                if let Some(name) = parts.get("name").and_then(Value::as_str) {
                    self.named.insert(name.to_owned(), schema.clone());
                }
                match parts["type"].as_str() {
                    Some("record") => {
                        for part in parts["fields"].as_array().unwrap() {
                            self.write(&part["type"], part["name"].as_str().unwrap());
                        }
                    }
                    // The first one that is not the unknown.
                    Some("enum") => self.number(1),
                    Some("array" | "map") => self.out.push(0),
                    Some("string") if parts.get("logicalType").is_some() => {
                        self.text("6f9619ff-8b86-d011-b42d-00c04fc964ff");
                    }
                    Some("long") if field == "timestamp" => {
                        let at = match self.content {
                            Content::At(at_ms) => at_ms,
                            _ => self.now_ms,
                        };
                        self.used |= matches!(self.content, Content::At(_));
                        self.number(at);
                    }
                    Some("long") if parts.get("logicalType").is_some() => self.number(self.now_ms),
                    Some(plain) => self.plain(plain, field),
                    None => self.write(&parts["type"], field),
                }
            }
            Value::String(name) => match self.named.get(name).cloned() {
                Some(schema) => self.write(&schema, field),
                None => self.plain(name, field),
            },
            other => panic!("no schema: {other}"),
        }
    }

    fn plain(&mut self, name: &str, field: &str) {
        match name {
            "boolean" => self.out.push(1),
            "long" if field.ends_with("_id") && self.content == Content::NegativeId => {
                self.used = true;
                self.number(-1);
            }
            "int" | "long" => self.number(1),
            "double" => self.out.extend(1.5_f64.to_le_bytes()),
            "bytes" => self.out.extend([2, 7]),
            "string" => match field {
                "event_type" => self.text(self.event_type),
                "region" if self.content == Content::EmptyRegion => {
                    self.used = true;
                    self.text("");
                }
                "region" => self.text("north"),
                "recipient" => self.text("customer:1"),
                _ => self.text("x"),
            },
            other => panic!("{field}: no way to make a {other}"),
        }
    }

    fn text(&mut self, text: &str) {
        self.number(i64::try_from(text.len()).unwrap());
        self.out.extend(text.as_bytes());
    }

    /// Avro's zigzag.
    fn number(&mut self, number: i64) {
        let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
        while rest > 0x7f {
            self.out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }
}
