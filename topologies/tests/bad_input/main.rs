//! Every way in which input can be bad, tried on every topic that a topology reads, for every topology of the catalog.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod datum;
mod failures;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aggregator::catalog::{CATALOG, TopologySpec};
use aggregator::events::{SCHEMAS, memory_registry};
use aggregator::settings::Settings;
use aggregator::topics::{Cleanup, find};
use kstreams::dlq::{ErrorHandlers, ErrorHeaders};
use kstreams::serdes::{
    MemoryRegistry, RegisteredSchema, SchemaCache, SchemaRegistry, schema, subject, wire,
};
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{Clock, Error, ErrorKind, Headers, RawRecord, Result, SystemClock, Timestamp};

use datum::{Content, datum};

/// An event type that a newer producer writes.
const NOVELTY: &str = r#"{"type": "record", "name": "Novelty", "namespace": "aggregator.events",
    "fields": [{"name": "event_id", "type": "string"}]}"#;
/// No schema has this id.
const UNKNOWN_SCHEMA: u32 = 0x7fff_fff0;

/// A registry that can be switched off, and that can make who writes fail.
struct Registry {
    inner: MemoryRegistry,
    down: AtomicBool,
    /// How often asking for the id of a schema, as who writes does, panics.
    panics: AtomicU32,
}

impl Registry {
    fn new() -> Arc<Self> {
        let inner = memory_registry().unwrap();
        for topic in SCHEMAS.iter().map(|(topic, ..)| topic).collect::<BTreeSet<_>>() {
            inner.register(&subject(topic, "aggregator.events.Novelty"), NOVELTY).unwrap();
        }
        Arc::new(Self { inner, down: AtomicBool::new(false), panics: AtomicU32::new(0) })
    }

    fn up(&self) -> Result<&MemoryRegistry> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::retriable("the registry does not answer")),
            false => Ok(&self.inner),
        }
    }

    fn frame(&self, topic: &str, schema: &str, datum: &[u8]) -> Vec<u8> {
        let name = schema::AvroSchema::parse(schema).unwrap().name().to_owned();
        let id = self.inner.id_of(&subject(topic, &name), schema).unwrap().unwrap();
        [&wire::header(id)[..], datum].concat()
    }
}

impl SchemaRegistry for Registry {
    fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>> {
        self.up()?.schema_by_id(id)
    }

    fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let left = |left: u32| left.checked_sub(1);
        let fails = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok();
        assert!(!fails, "a processor's bug");
        self.up()?.id_of(subject, schema)
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        self.up()?.register(subject, schema)
    }

    fn subjects(&self) -> Result<Vec<String>> {
        self.up()?.subjects()
    }

    fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>> {
        self.up()?.versions(subject)
    }

    fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        self.up()?.check_compatibility(subject, schema)
    }

    fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        self.up()?.compatibility(subject)
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        self.up()?.set_compatibility(subject, level)
    }
}

/// A topology that runs, and its registry.
struct World {
    spec: &'static TopologySpec,
    registry: Arc<Registry>,
    driver: TopologyTestDriver,
    now: Timestamp,
}

impl World {
    fn new(spec: &'static TopologySpec) -> Self {
        Self::with_retries(spec, 0)
    }

    /// A record whose processor fails is tried so often again.
    fn with_retries(spec: &'static TopologySpec, processing_retries: u32) -> Self {
        let registry = Registry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let now = clock.now();
        let schemas = SchemaCache::new(registry.clone(), clock);
        let topology = (spec.build)(&Settings::default(), &schemas).unwrap();
        let handlers = ErrorHandlers { processing_retries, ..ErrorHandlers::default() };
        let settings = TestSettings { start: now, handlers, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(topology, settings).unwrap();
        Self { spec, registry, driver, now }
    }

    /// The contracts of a topic: event type and schema.
    fn contracts(topic: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let of_topic = SCHEMAS.iter().filter(move |(of, ..)| *of == topic);
        of_topic.map(|(_, event_type, schema)| (*event_type, *schema))
    }

    /// A frame of an event, `None` where that has no field for the content.
    fn frame(&self, topic: &str, content: Content) -> Vec<Vec<u8>> {
        let now_ms = self.now.as_millis();
        Self::contracts(topic)
            .filter_map(|(event_type, schema)| {
                let datum = datum(schema, event_type, now_ms, content)?;
                Some(self.registry.frame(topic, schema, &datum))
            })
            .collect()
    }

    fn pipe(&self, topic: &str, value: Option<&[u8]>) -> Result<()> {
        let mut headers = Headers::default();
        headers.add("traceparent", Some("00-abc"));
        self.driver.pipe_raw(topic, Some(key(topic)), value, self.now, headers)
    }

    fn letters(&self, topic: &str) -> Vec<RawRecord> {
        let topic = format!("test-{topic}-dlq");
        std::iter::from_fn(|| self.driver.read_raw(&topic)).collect()
    }

    /// Topics with new records, dead letters and internal ones apart.
    fn written(&self) -> Vec<String> {
        let topics = self.driver.produced_topics().into_iter();
        let with_records =
            topics.filter(|(topic, count)| *count > 0 && !topic.starts_with("test-"));
        with_records.map(|(topic, _)| topic.to_string()).collect()
    }

    /// A record that must become a dead letter, byte for byte, and have no other effect.
    #[track_caller]
    fn refuse(&self, topic: &str, what: &str, value: Option<&[u8]>) {
        let (name, before) = (self.spec.name, self.written());
        self.pipe(topic, value).unwrap();
        let letters = self.letters(topic);
        assert_eq!(letters.len(), 1, "{name}: {what} on {topic} gave {letters:?}");
        let letter = &letters[0];
        assert_eq!(letter.value.as_deref(), value, "{name}: {what} on {topic}");
        assert_eq!(letter.key.as_deref(), Some(key(topic)));
        assert_eq!(letter.timestamp, self.now);
        assert_eq!(
            letter.headers.last("traceparent").map(|bytes| &bytes[..]),
            Some(&b"00-abc"[..])
        );
        let headers = ErrorHeaders::read(&letter.headers);
        assert_eq!(headers.get("topic"), Some(topic));
        assert_eq!(
            headers.get("class"),
            Some("deserialization_error"),
            "{name}: {what} on {topic}"
        );
        assert!(headers.get("message").is_some_and(|text| !text.is_empty()), "{headers:?}");
        assert_eq!(self.written(), before, "{name}: {what} on {topic}");
    }
}

/// The key that a topic's events of [`datum`] have.
fn key(topic: &str) -> &'static [u8] {
    match find(topic).unwrap().key {
        "region" => b"north",
        "recipient" => b"customer:1",
        "entity" => b"x",
        _ => b"1",
    }
}

/// Every topology with every topic that it reads.
fn sources() -> impl Iterator<Item = (World, &'static str)> {
    CATALOG.iter().flat_map(|spec| spec.sources.iter().map(|topic| (World::new(spec), *topic)))
}

#[test]
fn every_contract_can_be_read_and_is_no_dead_letter() {
    for (world, topic) in sources() {
        for frame in world.frame(topic, Content::Good) {
            world.pipe(topic, Some(&frame)).unwrap();
            assert_eq!(world.letters(topic), [], "{} on {topic}", world.spec.name);
        }
    }
}

#[test]
fn what_is_no_good_frame_is_a_dead_letter_and_processing_goes_on() {
    for (world, topic) in sources() {
        for frame in world.frame(topic, Content::Good) {
            world.refuse(topic, "text", Some(b"{\"request\": 1}"));
            world.refuse(topic, "an empty value", Some(b""));
            let mut unknown = frame.clone();
            unknown[1..5].copy_from_slice(&UNKNOWN_SCHEMA.to_be_bytes());
            world.refuse(topic, "an unknown schema", Some(&unknown));
            world.refuse(topic, "a cut frame", Some(&frame[..frame.len() - 1]));
            world.refuse(topic, "a long frame", Some(&[&frame[..], b"!"].concat()));
            world.pipe(topic, Some(&frame)).unwrap();
            assert_eq!(world.letters(topic), [], "{} on {topic} goes on", world.spec.name);
        }
    }
}

#[test]
fn null_is_a_dead_letter_but_where_it_deletes() {
    for (world, topic) in sources() {
        match find(topic).unwrap().cleanup {
            Cleanup::Compact => {
                world.pipe(topic, None).unwrap();
                assert_eq!(world.letters(topic), [], "{} on {topic}", world.spec.name);
            }
            Cleanup::DeleteAfterDays(_) => world.refuse(topic, "null", None),
        }
    }
}

#[test]
fn a_broken_rule_is_a_dead_letter() {
    for (world, topic) in sources() {
        const HOUR_MS: i64 = 3_600_000;
        let future = Content::At(world.now.as_millis() + HOUR_MS + 60_000);
        let mut tried = 0;
        for content in [Content::NegativeId, Content::EmptyRegion, future] {
            for frame in world.frame(topic, content) {
                world.refuse(topic, &format!("{content:?}"), Some(&frame));
                tried += 1;
            }
        }
        // Contacts have neither id nor region nor timestamp.
        assert!(tried > 0 || topic == "contacts", "{topic}");
        for frame in world.frame(topic, Content::At(world.now.as_millis() + HOUR_MS - 60_000)) {
            world.pipe(topic, Some(&frame)).unwrap();
            assert_eq!(world.letters(topic), [], "{} on {topic}", world.spec.name);
        }
    }
}

#[test]
fn an_unknown_event_type_is_ignored_and_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    for (world, topic) in sources() {
        if find(topic).unwrap().cleanup == Cleanup::Compact {
            continue; // reference data has one type
        }
        if World::contracts(topic).count() == 1 {
            continue; // commands too
        }
        let frame = world.registry.frame(topic, NOVELTY, &[2, b'x']);
        metrics::with_local_recorder(&recorder, || world.pipe(topic, Some(&frame))).unwrap();
        assert_eq!(world.letters(topic), [], "{} on {topic}", world.spec.name);
        assert_eq!(world.written(), [""; 0], "{} on {topic}", world.spec.name);
        let text = recorder.handle().render();
        let app = world.spec.name;
        let line = format!("svc_unknown_events_total{{app=\"{app}\",topic=\"{topic}\"}} 1");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn while_the_registry_is_down_records_wait_and_none_is_a_dead_letter() {
    for (world, topic) in sources() {
        let frames = world.frame(topic, Content::Good);
        world.registry.down.store(true, Ordering::SeqCst);
        for frame in &frames {
            let error = world.pipe(topic, Some(frame)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Retriable, "{} on {topic}", world.spec.name);
        }
        assert_eq!((world.letters(topic), world.written()), (vec![], vec![]));
        world.registry.down.store(false, Ordering::SeqCst);
        // The next record takes those before it along.
        world.pipe(topic, Some(b"no frame")).unwrap();
        assert_eq!(world.letters(topic).len(), 1, "{} on {topic}", world.spec.name);
    }
}
