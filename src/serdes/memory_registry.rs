//! A schema registry inside the process: for tests, and for the local mode, whose HTTP server serves it to producers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compatibility::mutual_problems;
use super::registry::{FULL_TRANSITIVE, RegisteredSchema, SchemaRegistry};
use super::schema::AvroSchema;
use crate::error::{Error, Result};

/// Schemas in memory. Ids count from 1; equal schemas share one id over all subjects, as in Confluent's registry.
///
/// Knows the levels `NONE` and `FULL_TRANSITIVE` (every other level is taken for the latter); subjects have `NONE` until
/// one is set.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The schema with id n is at n - 1, with its text in one form (keys and spaces do not matter).
    schemas: Vec<(Arc<str>, String)>,
    subjects: BTreeMap<String, Vec<u32>>,
    levels: BTreeMap<String, String>,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry that has `schemas` (topic, JSON) under their `TopicRecordNameStrategy` subjects, at `FULL_TRANSITIVE`.
    ///
    /// # Errors
    /// `Invalid` for a text that is not an Avro schema.
    pub fn with_schemas<'a>(schemas: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let registry = Self::new();
        for (topic, schema) in schemas {
            let subject = subject(topic, AvroSchema::parse(schema)?.name());
            registry.register(&subject, schema)?;
            registry.set_compatibility(&subject, FULL_TRANSITIVE)?;
        }
        Ok(registry)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread leaves the maps whole: every change is one insertion.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subject of a record in a topic. Source: Confluent's `TopicRecordNameStrategy`.
pub fn subject(topic: &str, record: &str) -> String {
    format!("{topic}-{record}")
}

impl State {
    fn find(&self, schema: &str) -> Result<(Option<u32>, String)> {
        let value: serde_json::Value = serde_json::from_str(schema)
            .map_err(|e| Error::invalid("avro schema is not JSON").with_source(e))?;
        let form = value.to_string();
        let index = self.schemas.iter().position(|(_, known)| *known == form);
        Ok((index.map(id_at), form))
    }

    fn refusals(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        let new = AvroSchema::parse(schema)?;
        let level = self.levels.get(subject).map_or("NONE", String::as_str);
        let mut refusals = Vec::new();
        if level != "NONE" {
            let ids = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
            for (version, id) in (1u32..).zip(ids) {
                let old = AvroSchema::parse(&self.schemas[*id as usize - 1].0)?;
                let problems = mutual_problems(&new, &old);
                refusals
                    .extend(problems.into_iter().map(|text| format!("version {version}: {text}")));
            }
        }
        Ok(refusals)
    }
}

fn id_at(index: usize) -> u32 {
    u32::try_from(index + 1).expect("four billion schemas do not fit in memory")
}

impl SchemaRegistry for MemoryRegistry {
    fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>> {
        let index = (id as usize).checked_sub(1);
        Ok(index.and_then(|index| Some(self.state().schemas.get(index)?.0.clone())))
    }

    fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let state = self.state();
        let (id, _) = state.find(schema)?;
        let known = state.subjects.get(subject);
        Ok(id.filter(|id| known.is_some_and(|ids| ids.contains(id))))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let mut state = self.state();
        let (id, form) = state.find(schema)?;
        if let Some(id) = id
            && state.subjects.get(subject).is_some_and(|ids| ids.contains(&id))
        {
            return Ok(id);
        }
        let refusals = state.refusals(subject, schema)?;
        if !refusals.is_empty() {
            return Err(Error::invalid(format!(
                "schema registry, subject \"{subject}\": not compatible: {}",
                refusals.join("; ")
            )));
        }
        let id = id.unwrap_or_else(|| {
            state.schemas.push((schema.into(), form));
            id_at(state.schemas.len() - 1)
        });
        state.subjects.entry(subject.to_owned()).or_default().push(id);
        Ok(id)
    }

    fn subjects(&self) -> Result<Vec<String>> {
        Ok(self.state().subjects.keys().cloned().collect())
    }

    fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>> {
        let state = self.state();
        let ids = state.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let versions = (1u32..).zip(ids).map(|(version, id)| RegisteredSchema {
            subject: subject.to_owned(),
            version,
            id: *id,
            schema: state.schemas[*id as usize - 1].0.clone(),
        });
        Ok(versions.collect())
    }

    fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        self.state().refusals(subject, schema)
    }

    fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        Ok(self.state().levels.get(subject).cloned())
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        self.state().levels.insert(subject.to_owned(), level.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const V1: &str = r#"{"type":"record","name":"a.R","fields":[{"name":"x","type":"int"}]}"#;
    const V2: &str = r#"{"type":"record","name":"a.R","fields":[{"name":"x","type":"int"},
        {"name":"y","type":"int","default":0}]}"#;
    const BREAKING: &str =
        r#"{"type":"record","name":"a.R","fields":[{"name":"x","type":"long"}]}"#;

    #[test]
    fn schemas_have_one_id_and_versions_per_subject() {
        let registry = MemoryRegistry::with_schemas([("t", V1), ("u", V1)]).unwrap();
        assert_eq!(registry.subjects().unwrap(), ["t-a.R", "u-a.R"]);
        assert_eq!(registry.register("t-a.R", V2).unwrap(), 2);
        assert_eq!(registry.register("t-a.R", &V2.replace('\n', " ")).unwrap(), 2);
        let versions: Vec<(u32, u32)> =
            registry.versions("t-a.R").unwrap().iter().map(|v| (v.version, v.id)).collect();
        assert_eq!(versions, [(1, 1), (2, 2)]);
        assert_eq!(registry.id_of("u-a.R", V2).unwrap(), None);
        assert_eq!(registry.schema_by_id(0).unwrap(), None);
        assert_eq!(registry.schema_by_id(3).unwrap(), None);
    }

    #[test]
    fn a_breaking_schema_is_refused_with_the_reason() {
        let registry = MemoryRegistry::with_schemas([("t", V1)]).unwrap();
        let error = registry.register("t-a.R", BREAKING).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error
                .message()
                .contains("the old schema reads new data: a.R.x: found long, wanted int"),
            "{error}"
        );
        assert_eq!(registry.check_compatibility("t-a.R", V2).unwrap(), Vec::<String>::new());
    }
}
