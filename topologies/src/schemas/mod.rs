//! What the command `aggregator schemas` does: check the contracts, push them to the registry, list what is registered.
//!
//! Works on a folder of `.avsc` files, laid out as `<topic>/<event_type>.avsc`. Only [`push`](push()) changes anything, and
//! it is the only thing that registers schemas at all. Cold; blocking.

mod check;
mod push;
mod watched;

use std::fmt;
use std::path::{Path, PathBuf};

use kstreams::serdes::schema::AvroSchema;
use kstreams::serdes::subject;
use kstreams::{Error, Result};

pub use check::{check, check_git, check_registry};
pub use push::{Listed, Pushed, list, push};
pub use watched::WatchedRegistry;

use crate::events::SCHEMAS;

/// One contract: a schema file and what follows from its place.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The topic, from the folder's name.
    pub topic: String,
    /// The event type, from the file's name.
    pub event_type: String,
    /// The subject under which it is registered.
    pub subject: String,
    /// Its text.
    pub json: String,
    /// The text parsed.
    pub schema: AvroSchema,
}

/// Something wrong with a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `<topic>/<event_type>`, or the subject.
    pub place: String,
    /// What was found and what is wanted.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl Contract {
    fn parse(topic: &str, event_type: &str, json: &str) -> Result<Self> {
        let schema = AvroSchema::parse(json)
            .map_err(|error| error.context(format_args!("{topic}/{event_type}.avsc")))?;
        Ok(Self {
            topic: topic.to_owned(),
            event_type: event_type.to_owned(),
            subject: subject(topic, schema.name()),
            json: json.to_owned(),
            schema,
        })
    }

    fn place(&self) -> String {
        format!("{}/{}", self.topic, self.event_type)
    }

    fn finding(&self, text: impl Into<String>) -> Finding {
        Finding { place: self.place(), text: text.into() }
    }
}

/// The contracts that this program was built with.
///
/// # Errors
/// `Invalid` for one that is not an Avro schema.
pub fn embedded() -> Result<Vec<Contract>> {
    SCHEMAS
        .iter()
        .map(|(topic, event_type, json)| Contract::parse(topic, event_type, json))
        .collect()
}

/// The contracts of a folder (`avro/`), sorted by topic and event type.
///
/// # Errors
/// `Invalid` where the folder cannot be read, holds no contract, or one that is not an Avro schema.
pub fn load(folder: &Path) -> Result<Vec<Contract>> {
    let mut contracts = Vec::new();
    for topic in entries(folder)?.iter().filter(|path| path.is_dir()) {
        for file in entries(topic)? {
            let (Some(topic), Some(name)) = (name(topic), name(&file)) else { continue };
            if let Some(event_type) = name.strip_suffix(".avsc") {
                let json =
                    std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
                contracts.push(Contract::parse(topic, event_type, &json)?);
            }
        }
    }
    if contracts.is_empty() {
        return Err(Error::invalid(format!(
            "found no schema in \"{}\", wanted <topic>/<event_type>.avsc",
            folder.display()
        )));
    }
    Ok(contracts)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let mut paths: Vec<PathBuf> = list
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(|error| unreadable(folder, error))?;
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!("cannot read \"{}\"", path.display())).with_source(error)
}
