//! From defaults, files, environment and flags to settings that know where each value came from.
//!
//! A key is the path in TOML, joined by dots: `kafka.state_dir`, `client.security.protocol`. The environment's name of a
//! key is `KAFKA_` and the key in capitals with `_` for `.`; the table `kafka` is left out, so that Kafka's own names
//! work: `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_SCHEMA_REGISTRY_URL`, `KAFKA_CLIENT_SECURITY_PROTOCOL`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kstreams::{Error, Result};
use toml::{Table, Value};

use super::Settings;

/// Tables whose keys are not ours; values are text, whatever TOML calls them.
pub(super) const FREE: [&str; 4] =
    ["client", "consumer", "producer", "manager_assignment.fallback_regions"];
/// Variables that Kafka's own scripts and container platforms set; they are none of ours.
const FOREIGN_VARIABLES: [&str; 10] = [
    "KAFKA_HOME",
    "KAFKA_HEAP",
    "KAFKA_OPTS",
    "KAFKA_JVM",
    "KAFKA_GC_LOG",
    "KAFKA_LOG4J",
    "KAFKA_JMX",
    "KAFKA_VERSION",
    "KAFKA_SERVICE",
    "KAFKA_PORT",
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Settings, and the origin of every one.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, checked.
    pub settings: Settings,
    /// Key → value and its origin, sorted by key.
    pub values: BTreeMap<String, (Value, Origin)>,
}

impl Loaded {
    /// Reads all layers: later files go over earlier ones, the environment over files, flags (`key`, `value`) over all.
    ///
    /// # Errors
    /// `Invalid` for a file that cannot be read, an unknown key (the nearest one is named), or a wrong value.
    pub fn load(
        files: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self> {
        let mut layers = Layers::new();
        for file in files {
            layers.add_file(file)?;
        }
        // Sorted, so that of several errors always the same one is told.
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        for (name, value) in &environment {
            layers.add_variable(name, value)?;
        }
        for (key, value) in flags {
            layers.add_text(key, value, Origin::Flag, &format!("--set {key}"))?;
        }
        let settings = layers.settings()?;
        settings.validate()?;
        Ok(Self { settings, values: layers.values })
    }
}

struct Layers {
    defaults: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    fn new() -> Self {
        let table = Table::try_from(Settings::default()).expect("settings are tables of values");
        let defaults = flatten(&table);
        let values = defaults
            .iter()
            .filter(|(_, value)| !value.is_table())
            .map(|(key, value)| (key.clone(), (value.clone(), Origin::Default)))
            .collect();
        Self { defaults, values }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let place = format!("file \"{}\"", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(format!("cannot read the settings of {place}")).with_source(error)
        })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            Error::invalid(format!("{place}, line {line}: {}", error.message()))
        })?;
        for (key, value) in flatten(&table) {
            // An empty table says nothing, if there is such a table.
            if value.is_table() && self.is_table(&key) {
                continue;
            }
            self.set(&key, value, Origin::File(path.to_owned()), &place)?;
        }
        Ok(())
    }

    fn add_variable(&mut self, name: &str, text: &str) -> Result<()> {
        let Some(rest) = name.strip_prefix("KAFKA_") else { return Ok(()) };
        let place = format!("environment variable {name}");
        let origin = Origin::Environment(name.to_owned());
        if let Some(key) = self.defaults.keys().find(|key| variable(key) == name) {
            return self.add_text(&key.clone(), text, origin, &place);
        }
        for table in ["client", "consumer", "producer"] {
            let prefix = format!("{}_", table.to_uppercase());
            if let Some(rest) = rest.strip_prefix(&prefix) {
                let key = format!("{table}.{}", rest.to_lowercase().replace('_', "."));
                return self.add_text(&key, text, origin, &place);
            }
        }
        if FOREIGN_VARIABLES.iter().any(|foreign| name.starts_with(foreign)) {
            return Ok(());
        }
        let names: Vec<String> = self.defaults.keys().map(|key| variable(key)).collect();
        let nearest = nearest(name, names.iter().map(String::as_str));
        Err(Error::invalid(format!(
            "{place}: found no setting of this name, wanted one such as {nearest}; unset or correct it"
        )))
    }

    /// Sets a value given as text, read as the type of the key's default.
    fn add_text(&mut self, key: &str, text: &str, origin: Origin, place: &str) -> Result<()> {
        let value = match self.defaults.get(key) {
            Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
            Some(Value::Float(_)) => text.trim().parse().ok().map(Value::Float),
            Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
            _ => None,
        };
        self.set(key, value.unwrap_or_else(|| Value::String(text.to_owned())), origin, place)
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin, place: &str) -> Result<()> {
        let free = FREE.iter().any(|table| is_inside(key, table));
        let value = if free { as_text(&value) } else { Some(value) };
        let default = self.defaults.get(key).filter(|default| !default.is_table());
        let (wanted, value) = match (default, value) {
            // A whole number is written without a point.
            #[allow(clippy::cast_precision_loss)]
            (Some(Value::Float(_)), Some(Value::Integer(whole))) => {
                ("", Some(Value::Float(whole as f64)))
            }
            (Some(default), Some(value)) if default.same_type(&value) => ("", Some(value)),
            (Some(default), _) => (default.type_str(), None),
            (None, Some(value)) if free => ("", Some(value)),
            (None, _) if free => ("text", None),
            (None, _) => return Err(self.unknown(key, place)),
        };
        let Some(value) = value else {
            return Err(Error::invalid(format!(
                "{place}, setting {key}: found a value of another type, wanted {wanted}"
            )));
        };
        self.values.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    fn unknown(&self, key: &str, place: &str) -> Error {
        let known = self.defaults.iter().filter(|(_, value)| !value.is_table());
        let nearest = nearest(key, known.map(|(key, _)| key.as_str()));
        Error::invalid(format!(
            "{place}: found the unknown setting {key}, wanted a known one; did you mean {nearest}?"
        ))
    }

    fn is_table(&self, key: &str) -> bool {
        FREE.contains(&key) || self.defaults.keys().any(|known| is_inside(known, key))
    }

    fn settings(&self) -> Result<Settings> {
        let all = self.values.iter().map(|(key, (value, _))| (key.as_str(), value));
        unflatten(all).try_into().map_err(|error: toml::de::Error| {
            let (place, value) = self.culprit();
            Error::invalid(format!("setting {place}: found {value}, wanted: {}", error.message()))
        })
    }

    /// The value that does not fit its setting: the one with which alone the defaults do not fit either.
    fn culprit(&self) -> (String, String) {
        let fits = |(key, (value, _)): &(&String, &(Value, Origin))| {
            let mut table: BTreeMap<&str, &Value> = BTreeMap::new();
            let defaults = self.defaults.iter().filter(|(_, value)| !value.is_table());
            table.extend(defaults.map(|(key, value)| (key.as_str(), value)));
            table.insert(key, value);
            Settings::deserialize_table(unflatten(table)).is_ok()
        };
        let found = self.values.iter().find(|entry| !fits(entry));
        found.map_or_else(Default::default, |(key, (value, origin))| {
            (format!("{key} ({origin})"), value.to_string())
        })
    }
}

impl Settings {
    fn deserialize_table(table: Table) -> Result<Self, toml::de::Error> {
        table.try_into()
    }
}

/// The environment's name of a key.
fn variable(key: &str) -> String {
    let key = key.strip_prefix("kafka.").unwrap_or(key);
    format!("KAFKA_{}", key.replace('.', "_").to_uppercase())
}

fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    // Kafka's own spelling shall find ours.
    let plain = |text: &str| text.replace(['.', '-'], "_").to_lowercase();
    let last = |text: &str| plain(text.rsplit_once('.').map_or(text, |(_, last)| last));
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&plain(wrong), &plain(candidate));
        let end = strsim::normalized_damerau_levenshtein(&last(wrong), &last(candidate));
        whole.max(end * 0.99)
    };
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or("")
}

fn is_inside(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

fn as_text(value: &Value) -> Option<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => return None,
    };
    Some(Value::String(text))
}

/// Every value by its key; empty tables stay, as values.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                let inner = flatten(inner).into_iter();
                flat.extend(inner.map(|(rest, value)| (format!("{name}.{rest}"), value)));
            }
            value => {
                flat.insert(name.clone(), value.clone());
            }
        }
    }
    flat
}

/// The tables that keys and values stand for; a key of a free table is one key, dots and all.
fn unflatten<'a>(flat: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Table {
    let mut table = Table::new();
    for name in FREE.iter().filter(|name| !name.contains('.')) {
        table.insert((*name).to_owned(), Value::Table(Table::new()));
    }
    for (key, value) in flat {
        let free = FREE.iter().find(|table| is_inside(key, table));
        let end = free.map(|table| table.len()).or_else(|| key.rfind('.')).unwrap_or(0);
        let mut place = &mut table;
        for name in key[..end].split('.').filter(|name| !name.is_empty()) {
            let inner = place.entry(name).or_insert_with(|| Value::Table(Table::new()));
            place = inner.as_table_mut().expect("keys of settings are tables all the way");
        }
        place.insert(key[end..].trim_start_matches('.').to_owned(), value.clone());
    }
    table
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
