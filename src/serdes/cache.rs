//! What is known of schema ids, so that the registry is asked once per id and not once per record.
//!
//! Shared by all serdes and stream threads of a process. Hot path: [`IdMap::get`], which takes no lock.
//! The map only grows, bounded by the number of schemas that the registry has: what it denies is remembered apart, for a
//! while and in bounded number, so that a stream of garbage costs neither memory nor a request per record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::memory_registry::subject;
use super::registry::SchemaRegistry;
use crate::error::{Error, Result};
use crate::time::Clock;

/// Ids that the registry denied, at most this many.
const MISSING_MAX: usize = 1024;
/// For how long a denied id is not asked for again. It may be registered in the meantime, on another node first.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// A producer's schema, ready to decode with.
pub struct WriterSchema {
    /// Its id in the registry.
    pub id: u32,
    /// The full name of the record, or the name of the type.
    pub name: String,
    /// The schema as JSON text.
    pub json: Arc<str>,
    /// The schema as the codec has it.
    pub schema: serde_avro_fast::Schema,
}

/// Schemas by id, and ids by schema, asked of a registry once.
pub struct SchemaCache {
    registry: Arc<dyn SchemaRegistry>,
    clock: Arc<dyn Clock>,
    writers: IdMap<Arc<WriterSchema>>,
    missing: Mutex<HashMap<u32, Duration>>,
}

impl SchemaCache {
    /// A cache before `registry`.
    pub fn new(registry: Arc<dyn SchemaRegistry>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { registry, clock, writers: IdMap::default(), missing: Mutex::default() })
    }

    /// The registry behind the cache.
    pub fn registry(&self) -> &Arc<dyn SchemaRegistry> {
        &self.registry
    }

    /// The schema with an id.
    ///
    /// # Errors
    /// `BadRecord` for an id that the registry does not know and for a schema that is not Avro; `Retriable` where no
    /// registry answers.
    pub fn writer(&self, id: u32) -> Result<&Arc<WriterSchema>> {
        if let Some(writer) = self.writers.get(id) {
            return Ok(writer);
        }
        self.refuse_missing(id)?;
        let Some(json) = self.registry.schema_by_id(id)? else {
            self.remember_missing(id);
            return Err(unknown(id));
        };
        let broken = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::bad_record(format!("schema id {id}: the registry's schema is not Avro"))
                .with_source(e)
        };
        let tree = super::schema::AvroSchema::parse(&json).map_err(|e| broken(Box::new(e)))?;
        let schema = json
            .parse()
            .map_err(|e: serde_avro_fast::schema::SchemaError| broken(e.to_string().into()))?;
        let writer = WriterSchema { id, name: tree.name().to_owned(), json, schema };
        Ok(self.writers.insert(id, Arc::new(writer)))
    }

    /// The id under which `schema`, the record `name`, is registered for `topic`.
    ///
    /// # Errors
    /// `Retriable` where no registry answers, and where the schema is not registered: somebody must push it, and until then
    /// nothing is lost.
    pub fn id_of(&self, topic: &str, name: &str, schema: &str) -> Result<u32> {
        let subject = subject(topic, name);
        self.registry.id_of(&subject, schema)?.ok_or_else(|| {
            Error::retriable(format!(
                "the schema registry has no such schema under \"{subject}\"; push the schemas first"
            ))
        })
    }

    fn refuse_missing(&self, id: u32) -> Result<()> {
        let now = self.clock.monotonic();
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match missing.get(&id) {
            Some(since) if now.saturating_sub(*since) < MISSING_FOR => Err(unknown(id)),
            _ => Ok(()),
        }
    }

    fn remember_missing(&self, id: u32) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.len() >= MISSING_MAX {
            missing.clear();
        }
        missing.insert(id, self.clock.monotonic());
    }
}

fn unknown(id: u32) -> Error {
    Error::bad_record(format!("unknown schema id {id}: the schema registry has no such schema"))
}

const SLOTS: usize = 16;

/// A map that is read without a lock and only grows: a list of small arrays. A topic has few schema ids, so that the
/// search ends after a handful of comparisons, where a lock would be a contended cache line.
pub(super) struct IdMap<V> {
    slots: [OnceLock<(u32, V)>; SLOTS],
    next: OnceLock<Box<IdMap<V>>>,
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self { slots: [const { OnceLock::new() }; SLOTS], next: OnceLock::new() }
    }
}

impl<V> IdMap<V> {
    pub(super) fn get(&self, id: u32) -> Option<&V> {
        let mut map = self;
        loop {
            for slot in &map.slots {
                match slot.get() {
                    Some((key, value)) if *key == id => return Some(value),
                    Some(_) => {}
                    None => return None,
                }
            }
            map = map.next.get()?;
        }
    }

    /// Adds a value; the first one added for an id stays.
    pub(super) fn insert(&self, id: u32, value: V) -> &V {
        let mut value = Some(value);
        let mut map = self;
        loop {
            for slot in &map.slots {
                let (key, stored) = slot.get_or_init(|| {
                    (id, value.take().expect("a value is placed once, then returned"))
                });
                if *key == id {
                    return stored;
                }
            }
            map = map.next.get_or_init(Box::default);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ErrorKind;
    use crate::serdes::{MemoryRegistry, RegisteredSchema};
    use crate::time::{MockClock, Timestamp};

    #[test]
    fn the_map_grows_past_one_array_and_keeps_the_first_value() {
        let map = IdMap::default();
        for id in 0..100 {
            assert_eq!(*map.insert(id, id * 2), id * 2);
        }
        assert_eq!(*map.insert(3, 0), 6);
        assert!((0..100).all(|id| map.get(id) == Some(&(id * 2))));
        assert_eq!(map.get(100), None);
    }

    /// Counts the questions for ids; answers from memory or not at all.
    struct Counting(MemoryRegistry, AtomicUsize);

    impl SchemaRegistry for Counting {
        fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            if id == 99 { Err(Error::retriable("down")) } else { self.0.schema_by_id(id) }
        }
        fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
            self.0.id_of(subject, schema)
        }
        fn register(&self, subject: &str, schema: &str) -> Result<u32> {
            self.0.register(subject, schema)
        }
        fn subjects(&self) -> Result<Vec<String>> {
            self.0.subjects()
        }
        fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>> {
            self.0.versions(subject)
        }
        fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
            self.0.check_compatibility(subject, schema)
        }
        fn compatibility(&self, subject: &str) -> Result<Option<String>> {
            self.0.compatibility(subject)
        }
        fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
            self.0.set_compatibility(subject, level)
        }
    }

    #[test]
    fn the_registry_is_asked_once_per_id_and_denials_are_remembered_for_a_while() {
        let memory = MemoryRegistry::new();
        memory.register("t", "\"int\"").unwrap();
        let registry = Arc::new(Counting(memory, AtomicUsize::new(0)));
        let clock = MockClock::new(Timestamp::from_millis(0));
        let cache = SchemaCache::new(registry.clone(), Arc::new(clock.clone()));
        let asked = || registry.1.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(cache.writer(1).unwrap().name, "int");
        }
        assert_eq!(asked(), 1);
        for _ in 0..3 {
            let error = cache.writer(2).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::BadRecord);
            assert!(error.message().starts_with("unknown schema id 2"));
        }
        assert_eq!(asked(), 2);
        registry.register("t", "\"long\"").unwrap();
        clock.advance(MISSING_FOR);
        assert_eq!(cache.writer(2).unwrap().name, "long");
        // An outage is not remembered: the next record asks again.
        for _ in 0..2 {
            assert_eq!(cache.writer(99).err().unwrap().kind(), ErrorKind::Retriable);
        }
        assert_eq!(asked(), 5);
    }
}
