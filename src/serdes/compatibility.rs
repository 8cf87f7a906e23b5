//! Whether data of one Avro schema can be read with another.
//!
//! Two questions are asked with it. At run time, once per schema id: can our reader take this producer's records
//! ([`Strictness::Resolution`], the specification's rules)? In review: may this schema follow that one
//! ([`Strictness::Evolution`])? The second also refuses what the specification lets pass and nobody wants: another logical
//! type, such as seconds of another resolution or a decimal of another scale.
//!
//! `apache-avro`'s own check is not used: it compares named types by name only where both sides refer to them, and so misses
//! a changed enum behind a reference; it takes milliseconds for microseconds and a decimal for any bytes; and its messages
//! do not say where (`tests` below holds the cases).

use std::collections::BTreeSet;

use super::schema::{AvroSchema, Field, Kind, Node, describe};

/// How much a difference in logical types matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Reading: a logical type may be missing on one side, but two must be equal.
    Resolution,
    /// Evolving a contract: logical types must be equal.
    Evolution,
}

/// What keeps `reader` from reading every record that `writer` can write; empty where nothing does.
///
/// Source: "Schema Resolution" of the Avro specification; Java's `SchemaCompatibility`, with logical types.
pub fn problems(writer: &AvroSchema, reader: &AvroSchema, strictness: Strictness) -> Vec<String> {
    let mut check =
        Check { writer, reader, strictness, seen: BTreeSet::new(), problems: Vec::new() };
    check.node(&writer.root, &reader.root, reader.name());
    check.problems
}

/// What keeps two schemas from reading each other's data (FULL compatibility), each line with its direction.
pub fn mutual_problems(new: &AvroSchema, old: &AvroSchema) -> Vec<String> {
    let backward = problems(old, new, Strictness::Evolution);
    let forward = problems(new, old, Strictness::Evolution);
    let backward =
        backward.into_iter().map(|text| format!("the new schema reads old data: {text}"));
    let forward = forward.into_iter().map(|text| format!("the old schema reads new data: {text}"));
    backward.chain(forward).collect()
}

struct Check<'a> {
    writer: &'a AvroSchema,
    reader: &'a AvroSchema,
    strictness: Strictness,
    seen: BTreeSet<(&'a str, &'a str)>,
    problems: Vec<String>,
}

impl<'a> Check<'a> {
    fn node(&mut self, writer: &'a Node, reader: &'a Node, path: &str) {
        if let (Kind::Named(w), Kind::Named(r)) = (&writer.kind, &reader.kind)
            && !self.seen.insert((w, r))
        {
            return; // compared already, or being compared further up (a recursive type)
        }
        let (found, wanted) = (self.writer.resolve(writer), self.reader.resolve(reader));
        match (&found.kind, &wanted.kind) {
            (Kind::Union(branches), _) => {
                for branch in branches {
                    self.branch(branch, reader, path);
                }
            }
            (_, Kind::Union(_)) => self.branch(writer, reader, path),
            (Kind::Record(from), Kind::Record(to)) => {
                self.names(writer, reader, path);
                self.fields(from, to, path);
            }
            (Kind::Enum(from, _), Kind::Enum(to, default)) => {
                self.names(writer, reader, path);
                let unknown: Vec<&str> =
                    from.iter().filter(|s| !to.contains(s)).map(String::as_str).collect();
                if !unknown.is_empty() && default.is_none() {
                    self.report(path, format!(
                        "found the symbols {} that the reader lacks, and its enum has no default",
                        unknown.join(", ")
                    ));
                }
            }
            (Kind::Fixed(from), Kind::Fixed(to)) => {
                self.names(writer, reader, path);
                if from != to {
                    self.report(path, format!("found {from} bytes, wanted {to}"));
                }
                self.logical(found, wanted, path);
            }
            (Kind::Array(from), Kind::Array(to)) => self.node(from, to, &format!("{path}[]")),
            (Kind::Map(from), Kind::Map(to)) => self.node(from, to, &format!("{path}{{}}")),
            (Kind::Primitive(from), Kind::Primitive(to)) if promotes(from, to) => {
                self.logical(found, wanted, path);
            }
            _ => self
                .report(path, format!("found {}, wanted {}", describe(writer), describe(reader))),
        }
    }

    /// One branch of the writer's union (or its only type) against the reader's type.
    fn branch(&mut self, writer: &'a Node, reader: &'a Node, path: &str) {
        let Kind::Union(candidates) = &self.reader.resolve(reader).kind else {
            return self.node(writer, reader, path);
        };
        let fits = candidates.iter().any(|candidate| {
            let mut trial = Check {
                seen: self.seen.clone(),
                problems: Vec::new(),
                writer: self.writer,
                reader: self.reader,
                strictness: self.strictness,
            };
            trial.node(writer, candidate, path);
            trial.problems.is_empty()
        });
        if !fits {
            self.report(path, format!("found {}, wanted {}", describe(writer), describe(reader)));
        }
    }

    fn fields(&mut self, from: &'a [Field], to: &'a [Field], path: &str) {
        for field in to {
            let path = format!("{path}.{}", field.name);
            match from.iter().find(|other| other.name == field.name) {
                Some(other) => self.node(&other.node, &field.node, &path),
                None if field.default.is_none() => self.report(
                    &path,
                    "the writer lacks the field, and the reader has no default for it".to_owned(),
                ),
                None => {}
            }
        }
    }

    fn names(&mut self, writer: &Node, reader: &Node, path: &str) {
        if let (Kind::Named(w), Kind::Named(r)) = (&writer.kind, &reader.kind)
            && w != r
        {
            self.report(path, format!("found the type {w}, wanted {r}"));
        }
    }

    fn logical(&mut self, writer: &Node, reader: &Node, path: &str) {
        let differ = match (&writer.logical, &reader.logical) {
            (Some(w), Some(r)) => w != r,
            (None, None) => false,
            _ => self.strictness == Strictness::Evolution,
        };
        if differ {
            self.report(path, format!("found {}, wanted {}", describe(writer), describe(reader)));
        }
    }

    fn report(&mut self, path: &str, what: String) {
        self.problems.push(format!("{path}: {what}"));
    }
}

fn promotes(from: &str, to: &str) -> bool {
    from == to
        || matches!(
            (from, to),
            ("int", "long" | "float" | "double")
                | ("long", "float" | "double")
                | ("float", "double")
                | ("string", "bytes")
                | ("bytes", "string")
        )
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;
    use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

    use super::*;

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"a.R","fields":[{fields}]}}"#)
    }

    fn ours(writer: &str, reader: &str) -> Vec<String> {
        let (writer, reader) =
            (AvroSchema::parse(writer).unwrap(), AvroSchema::parse(reader).unwrap());
        problems(&writer, &reader, Strictness::Evolution)
    }

    fn theirs(writer: &str, reader: &str) -> bool {
        let (writer, reader) =
            (Schema::parse_str(writer).unwrap(), Schema::parse_str(reader).unwrap());
        SchemaCompatibility::can_read(&writer, &reader) == Ok(Compatibility::Full)
    }

    #[test]
    fn agrees_with_apache_avro_where_that_is_right() {
        let cases = [
            ("\"int\"", "\"long\"", true),
            ("\"long\"", "\"int\"", false),
            ("\"int\"", "\"double\"", true),
            ("\"string\"", "\"bytes\"", true),
            ("\"string\"", r#"["null","string"]"#, true),
            (r#"["null","string"]"#, "\"string\"", false),
            (r#"["null","int"]"#, r#"["null","long"]"#, true),
            (r#"{"type":"array","items":"int"}"#, r#"{"type":"array","items":"long"}"#, true),
            (r#"{"type":"map","values":"long"}"#, r#"{"type":"map","values":"int"}"#, false),
            (
                r#"{"type":"enum","name":"E","symbols":["a","b"]}"#,
                r#"{"type":"enum","name":"E","symbols":["a"]}"#,
                false,
            ),
            (
                r#"{"type":"enum","name":"E","symbols":["a","b"]}"#,
                r#"{"type":"enum","name":"E","symbols":["a"],"default":"a"}"#,
                true,
            ),
            (
                r#"{"type":"fixed","name":"F","size":3}"#,
                r#"{"type":"fixed","name":"F","size":4}"#,
                false,
            ),
        ];
        for (writer, reader, wanted) in cases {
            assert_eq!(ours(writer, reader).is_empty(), wanted, "{writer} -> {reader}");
            assert_eq!(theirs(writer, reader), wanted, "apache-avro: {writer} -> {reader}");
        }
        let a = record(r#"{"name":"x","type":"int"}"#);
        let b = record(r#"{"name":"x","type":"int"},{"name":"y","type":"int"}"#);
        let c = record(r#"{"name":"x","type":"int"},{"name":"y","type":"int","default":1}"#);
        for (writer, reader, wanted) in [(&a, &b, false), (&b, &a, true), (&a, &c, true)] {
            assert_eq!(ours(writer, reader).is_empty(), wanted);
            assert_eq!(theirs(writer, reader), wanted);
        }
    }

    /// What `apache-avro` 0.22 lets pass or refuses wrongly; a failure here means that it was mended.
    #[test]
    fn refuses_what_apache_avro_lets_pass() {
        let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
        let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
        let money = r#"{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}"#;
        for (writer, reader) in [(millis, micros), (money, "\"bytes\""), ("\"long\"", millis)] {
            assert!(!ours(writer, reader).is_empty(), "{writer} -> {reader}");
            assert!(theirs(writer, reader), "{writer} -> {reader}");
        }
        // "b" is the same reference on both sides, but what it refers to has changed.
        let e = |symbols| format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]}}"#);
        let writer = record(&format!(
            r#"{{"name":"a","type":{}}},{{"name":"b","type":"E"}}"#,
            e(r#""x","y""#)
        ));
        let reader = record(&format!(
            r#"{{"name":"c","type":{},"default":"x"}},{{"name":"b","type":"E"}}"#,
            e(r#""x""#)
        ));
        assert_eq!(ours(&writer, &reader).len(), 1);
        assert!(theirs(&writer, &reader));
        // The same fields in another order: the definition moves, a reference stays. Nothing changed.
        let one =
            record(&format!(r#"{{"name":"a","type":{}}},{{"name":"b","type":"E"}}"#, e(r#""x""#)));
        let other =
            record(&format!(r#"{{"name":"b","type":{}}},{{"name":"a","type":"E"}}"#, e(r#""x""#)));
        assert_eq!(ours(&one, &other), Vec::<String>::new());
        assert!(!theirs(&one, &other));
    }

    #[test]
    fn a_problem_names_the_place_what_was_found_and_what_was_wanted() {
        let writer = record(r#"{"name":"x","type":{"type":"array","items":"string"}}"#);
        let reader = record(r#"{"name":"x","type":{"type":"array","items":"long"}}"#);
        assert_eq!(ours(&writer, &reader), ["a.R.x[]: found string, wanted long"]);
    }

    #[test]
    fn a_missing_logical_type_may_be_read_but_not_evolved() {
        let plain = AvroSchema::parse("\"long\"").unwrap();
        let millis =
            AvroSchema::parse(r#"{"type":"long","logicalType":"timestamp-millis"}"#).unwrap();
        assert!(problems(&plain, &millis, Strictness::Resolution).is_empty());
        assert!(!problems(&plain, &millis, Strictness::Evolution).is_empty());
    }

    #[test]
    fn recursive_types_end() {
        let list = record(r#"{"name":"next","type":["null","R"],"default":null}"#);
        assert!(ours(&list, &list).is_empty());
    }
}
