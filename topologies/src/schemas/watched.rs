//! A registry that says in health when it does not answer. Cold: a schema is asked for once.

use std::sync::Arc;

use kstreams::serdes::{RegisteredSchema, SchemaRegistry};
use kstreams::{ErrorKind, Result};

use crate::health;

/// The registry's name in health.
const PART: &str = "schema-registry";

/// A registry whose last answer, or the lack of it, is known to [`health`].
pub struct WatchedRegistry<R> {
    inner: R,
}

impl<R: SchemaRegistry> WatchedRegistry<R> {
    /// Watches a registry.
    pub fn new(inner: R) -> Self {
        Self { inner }
    }

    fn note<T>(&self, answer: Result<T>) -> Result<T> {
        match &answer {
            Err(error) if error.kind() == ErrorKind::Retriable => {
                health::set(PART, "", Some(&error.to_string()));
            }
            // A refusal is an answer too.
            _ => health::set(PART, "", None),
        }
        answer
    }
}

impl<R: SchemaRegistry> SchemaRegistry for WatchedRegistry<R> {
    fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>> {
        self.note(self.inner.schema_by_id(id))
    }

    fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        self.note(self.inner.id_of(subject, schema))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        self.note(self.inner.register(subject, schema))
    }

    fn subjects(&self) -> Result<Vec<String>> {
        self.note(self.inner.subjects())
    }

    fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>> {
        self.note(self.inner.versions(subject))
    }

    fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        self.note(self.inner.check_compatibility(subject, schema))
    }

    fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        self.note(self.inner.compatibility(subject))
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        self.note(self.inner.set_compatibility(subject, level))
    }
}
