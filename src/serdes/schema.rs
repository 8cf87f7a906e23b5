//! An Avro schema as a tree, for comparing schemas.
//!
//! Cold: schemas are parsed when a producer's schema id is first seen, and by tools. The codec has a representation of its
//! own; this one keeps what matters to compatibility (names, defaults, logical types).
//! Source: <https://avro.apache.org/docs/1.12.0/specification/>. Aliases are left out on purpose: the contracts do without.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// A parsed schema with every name it defines.
#[derive(Debug, Clone, PartialEq)]
pub struct AvroSchema {
    /// The type at the top.
    pub root: Node,
    /// Records, enums and fixed types by full name.
    pub named: BTreeMap<String, Node>,
}

/// A type; named ones appear as [`Kind::Named`] wherever they are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The type itself.
    pub kind: Kind,
    /// Its logical type, with precision and scale where it is a decimal: `decimal(18,2)`.
    pub logical: Option<String>,
    /// Its documentation.
    pub doc: Option<String>,
}

/// The Avro types.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// null, boolean, int, long, float, double, bytes, string.
    Primitive(&'static str),
    /// A use of a named type; see [`AvroSchema::named`].
    Named(String),
    /// Fields in order.
    Record(Vec<Field>),
    /// Symbols and the default, if any.
    Enum(Vec<String>, Option<String>),
    /// Size in bytes.
    Fixed(u64),
    /// Items.
    Array(Box<Node>),
    /// Values; keys are text.
    Map(Box<Node>),
    /// Branches.
    Union(Vec<Node>),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub node: Node,
    /// Its default, checked against the type.
    pub default: Option<Value>,
    /// Its documentation.
    pub doc: Option<String>,
}

const PRIMITIVES: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
/// Deeper schemas are refused, so that a hostile one cannot exhaust the stack.
const DEPTH_MAX: usize = 64;

impl AvroSchema {
    /// Parses a schema from JSON.
    ///
    /// # Errors
    /// `Invalid` where it is not a schema, with the path to the fault.
    pub fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)
            .map_err(|e| Error::invalid("avro schema is not JSON").with_source(e))?;
        let mut parser = Parser { named: BTreeMap::new(), depth: 0 };
        let root = parser.node(&value, "", "")?;
        let schema = Self { root, named: parser.named };
        schema.check_defaults()?;
        Ok(schema)
    }

    /// The full name of the record, enum or fixed type at the top; the type's name where it has none.
    pub fn name(&self) -> &str {
        match &self.root.kind {
            Kind::Named(name) => name,
            Kind::Primitive(name) => name,
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            _ => "union",
        }
    }

    /// The definition behind a node: itself, or what its name stands for.
    pub fn resolve<'a>(&'a self, node: &'a Node) -> &'a Node {
        match &node.kind {
            Kind::Named(name) => {
                self.named.get(name).expect("the parser refuses names that are not defined")
            }
            _ => node,
        }
    }

    fn check_defaults(&self) -> Result<()> {
        for (name, node) in &self.named {
            let Kind::Record(fields) = &node.kind else { continue };
            for field in fields {
                if let Some(default) = &field.default
                    && !self.fits(&field.node, default)
                {
                    return Err(Error::invalid(format!(
                        "avro schema: field \"{name}.{}\" has the default {default}, which is not {} \
                         (a union's default belongs to its first branch)",
                        field.name,
                        describe(&field.node)
                    )));
                }
            }
        }
        Ok(())
    }

    fn fits(&self, node: &Node, value: &Value) -> bool {
        match &self.resolve(node).kind {
            Kind::Primitive("null") => value.is_null(),
            Kind::Primitive("boolean") => value.is_boolean(),
            Kind::Primitive("int") => {
                value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            Kind::Primitive("long") => value.as_i64().is_some(),
            Kind::Primitive("float" | "double") => value.is_number(),
            Kind::Primitive(_) | Kind::Fixed(_) => value.is_string(),
            Kind::Enum(symbols, _) => {
                value.as_str().is_some_and(|symbol| symbols.iter().any(|known| known == symbol))
            }
            Kind::Array(items) => {
                value.as_array().is_some_and(|list| list.iter().all(|item| self.fits(items, item)))
            }
            Kind::Map(values) => value
                .as_object()
                .is_some_and(|map| map.values().all(|value| self.fits(values, value))),
            Kind::Union(branches) => {
                branches.first().is_some_and(|branch| self.fits(branch, value))
            }
            Kind::Record(fields) => value.as_object().is_some_and(|map| {
                fields.iter().all(|field| match map.get(&field.name) {
                    Some(value) => self.fits(&field.node, value),
                    None => field.default.is_some(),
                })
            }),
            Kind::Named(_) => false,
        }
    }
}

/// A short text for a type, as error messages use it.
pub fn describe(node: &Node) -> String {
    let kind = match &node.kind {
        Kind::Primitive(name) => (*name).to_owned(),
        Kind::Named(name) => name.clone(),
        Kind::Record(_) => "record".to_owned(),
        Kind::Enum(..) => "enum".to_owned(),
        Kind::Fixed(size) => format!("fixed({size})"),
        Kind::Array(items) => format!("array of {}", describe(items)),
        Kind::Map(values) => format!("map of {}", describe(values)),
        Kind::Union(branches) => {
            let branches: Vec<String> = branches.iter().map(describe).collect();
            format!("union of {}", branches.join(", "))
        }
    };
    match &node.logical {
        Some(logical) => format!("{kind} ({logical})"),
        None => kind,
    }
}

struct Parser {
    named: BTreeMap<String, Node>,
    depth: usize,
}

impl Parser {
    fn node(&mut self, value: &Value, namespace: &str, path: &str) -> Result<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(invalid(path, format!("nested deeper than {DEPTH_MAX} types")));
        }
        let node = match value {
            Value::String(name) => self.by_name(name, namespace, path),
            Value::Array(branches) => self.union(branches, namespace, path),
            Value::Object(_) => self.object(value, namespace, path),
            other => Err(invalid(path, format!("found {other}, wanted a type"))),
        };
        self.depth -= 1;
        node
    }

    fn by_name(&self, name: &str, namespace: &str, path: &str) -> Result<Node> {
        if let Some(primitive) = PRIMITIVES.iter().find(|primitive| **primitive == name) {
            return Ok(plain(Kind::Primitive(primitive)));
        }
        let full = full_name(name, namespace);
        if self.named.contains_key(&full) {
            Ok(plain(Kind::Named(full)))
        } else {
            Err(invalid(path, format!("the type \"{full}\" is not defined before this point")))
        }
    }

    fn union(&mut self, branches: &[Value], namespace: &str, path: &str) -> Result<Node> {
        let branches: Vec<Node> = branches
            .iter()
            .map(|branch| self.node(branch, namespace, path))
            .collect::<Result<_>>()?;
        if branches.iter().any(|branch| matches!(branch.kind, Kind::Union(_))) {
            return Err(invalid(path, "a union directly inside a union"));
        }
        for (index, branch) in branches.iter().enumerate() {
            if branches[..index].iter().any(|other| same_branch(other, branch)) {
                return Err(invalid(path, format!("{} twice in a union", describe(branch))));
            }
        }
        Ok(plain(Kind::Union(branches)))
    }

    fn object(&mut self, value: &Value, namespace: &str, path: &str) -> Result<Node> {
        let doc = text(value, "doc").map(str::to_owned);
        let logical = logical_type(value);
        let kind = match value.get("type") {
            Some(Value::String(name)) => name.as_str(),
            Some(inner) => return self.node(inner, namespace, path),
            None => return Err(invalid(path, "a type without \"type\"")),
        };
        let part = |key: &str| {
            value.get(key).ok_or_else(|| invalid(path, format!("{kind} without \"{key}\"")))
        };
        let kind = match kind {
            "array" => Kind::Array(Box::new(self.node(part("items")?, namespace, path)?)),
            "map" => Kind::Map(Box::new(self.node(part("values")?, namespace, path)?)),
            "record" | "error" | "enum" | "fixed" => {
                return self.definition(value, kind, namespace, path);
            }
            name => self.by_name(name, namespace, path)?.kind,
        };
        Ok(Node { kind, logical, doc })
    }

    fn definition(
        &mut self,
        value: &Value,
        kind: &str,
        namespace: &str,
        path: &str,
    ) -> Result<Node> {
        let name = text(value, "name")
            .ok_or_else(|| invalid(path, format!("{kind} without a \"name\"")))?;
        let full = full_name(name, text(value, "namespace").unwrap_or(namespace));
        if !valid_name(&full) {
            return Err(invalid(path, format!("\"{full}\" is not a name (letters, digits, _)")));
        }
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        // The name is known inside its own definition, so that a list can refer to itself.
        let unfinished = plain(Kind::Record(Vec::new()));
        if self.named.insert(full.clone(), unfinished).is_some() {
            return Err(invalid(path, format!("\"{full}\" is defined twice")));
        }
        let definition = match kind {
            "enum" => enumeration(value, &full)?,
            "fixed" => Kind::Fixed(
                value
                    .get("size")
                    .and_then(Value::as_u64)
                    .ok_or_else(|| invalid(&full, "fixed without a \"size\""))?,
            ),
            _ => Kind::Record(self.fields(value, &full, &inner)?),
        };
        let doc = text(value, "doc").map(str::to_owned);
        let logical = logical_type(value);
        self.named.insert(full.clone(), Node { kind: definition, logical, doc });
        Ok(plain(Kind::Named(full)))
    }

    fn fields(&mut self, value: &Value, record: &str, namespace: &str) -> Result<Vec<Field>> {
        let list = value
            .get("fields")
            .and_then(Value::as_array)
            .ok_or_else(|| invalid(record, "record without \"fields\""))?;
        let mut fields: Vec<Field> = Vec::with_capacity(list.len());
        for field in list {
            let name = text(field, "name").filter(|name| valid_name(name)).ok_or_else(|| {
                invalid(record, format!("a field without a valid \"name\": {field}"))
            })?;
            let path = format!("{record}.{name}");
            if fields.iter().any(|other| other.name == name) {
                return Err(invalid(&path, "the field is there twice"));
            }
            let node = field.get("type").ok_or_else(|| invalid(&path, "without a \"type\""))?;
            fields.push(Field {
                name: name.to_owned(),
                node: self.node(node, namespace, &path)?,
                default: field.get("default").cloned(),
                doc: text(field, "doc").map(str::to_owned),
            });
        }
        Ok(fields)
    }
}

fn enumeration(value: &Value, path: &str) -> Result<Kind> {
    let symbols: Vec<String> = value
        .get("symbols")
        .and_then(Value::as_array)
        .and_then(|list| list.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect())
        .ok_or_else(|| invalid(path, "enum without a list of \"symbols\""))?;
    let default = text(value, "default").map(str::to_owned);
    if let Some(default) = &default
        && !symbols.contains(default)
    {
        return Err(invalid(path, format!("the default \"{default}\" is not among the symbols")));
    }
    Ok(Kind::Enum(symbols, default))
}

fn plain(kind: Kind) -> Node {
    Node { kind, logical: None, doc: None }
}

fn same_branch(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Array(_), Kind::Array(_)) | (Kind::Map(_), Kind::Map(_)) => true,
        (a, b) => a == b,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn logical_type(value: &Value) -> Option<String> {
    let name = text(value, "logicalType")?;
    if name == "decimal" {
        let number = |key| value.get(key).and_then(Value::as_u64).unwrap_or(0);
        Some(format!("decimal({},{})", number("precision"), number("scale")))
    } else {
        Some(name.to_owned())
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn valid_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

fn invalid(path: &str, what: impl std::fmt::Display) -> Error {
    let path = if path.is_empty() { "its top" } else { path };
    Error::invalid(format!("avro schema, at {path}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_with_their_place() {
        for (json, wanted) in [
            ("{", "not JSON"),
            (r#"{"type":"record","name":"A"}"#, "at A: record without \"fields\""),
            (
                r#"{"type":"record","name":"A","fields":[{"name":"b","type":"B"}]}"#,
                "at A.b: the type \"B\" is not defined",
            ),
            (
                r#"{"type":"record","name":"A","fields":[{"name":"b","type":["null","int"],"default":1}]}"#,
                "field \"A.b\" has the default 1",
            ),
            (
                r#"{"type":"enum","name":"E","symbols":["a"],"default":"b"}"#,
                "at E: the default \"b\"",
            ),
            (r#"["int","int"]"#, "int twice"),
            (r#"{"type":"record","name":"A-B","fields":[]}"#, "is not a name"),
        ] {
            let text = AvroSchema::parse(json).unwrap_err().to_string();
            assert!(text.contains(wanted), "{json}: {text}");
        }
    }

    #[test]
    fn a_record_may_refer_to_itself_and_to_names_of_its_namespace() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"a.List","fields":[
                {"name":"next","type":["null","List"],"default":null},
                {"name":"e","type":{"type":"enum","name":"E","symbols":["x"]}},
                {"name":"f","type":"a.E","default":"x"}]}"#,
        )
        .unwrap();
        assert_eq!(schema.name(), "a.List");
        assert_eq!(schema.named.keys().collect::<Vec<_>>(), ["a.E", "a.List"]);
    }
}
