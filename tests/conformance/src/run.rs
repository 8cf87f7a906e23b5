//! Runs one case and compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kstreams::dlq::{Decision, ErrorHandlers};
use kstreams::serdes::DefaultSerde;
use kstreams::store::{Engines, KeyValueStore, MemoryEngines, SessionStore, WindowStore};
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{Headers, Record, Timestamp, Windowed};
use serde_json::{Value as Json, json};

use crate::build::{BuildError, Built, StoreContent, build};
use crate::key::CaseKey;
use crate::value::Value;

/// How a case went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// As Kafka Streams.
    Passed,
    /// Otherwise; the text says where.
    Failed(String),
    /// The engine does not have what the case needs.
    Unsupported(String),
}

/// Where stores live while a case runs.
pub trait Stores {
    /// Engines for one case, empty.
    fn engines(&self) -> kstreams::Result<Arc<dyn Engines>>;
}

/// Stores in memory.
#[derive(Debug)]
pub struct InMemory;

impl Stores for InMemory {
    fn engines(&self) -> kstreams::Result<Arc<dyn Engines>> {
        Ok(Arc::new(MemoryEngines))
    }
}

/// Runs `case` and compares its results with those it carries.
pub fn check(case: &Json, stores: &dyn Stores) -> Outcome {
    check_committing(case, stores, None)
}

/// As [`check`]; after each `every` inputs, the stores are closed and opened again, which must change nothing.
pub fn check_committing(case: &Json, stores: &dyn Stores, every: Option<NonZeroUsize>) -> Outcome {
    let built = match build(case) {
        Ok(built) => built,
        Err(BuildError::Unsupported(what)) => return Outcome::Unsupported(what),
        Err(BuildError::Invalid(_)) if refused(case) => return Outcome::Passed,
        Err(BuildError::Invalid(what)) => return Outcome::Failed(format!("  build: {what}\n")),
    };
    let mut difference = String::new();
    let described = built.topology.describe();
    if case["describe"].as_str().is_some_and(|wanted| wanted != described) {
        let wanted = case["describe"].as_str().unwrap_or_default();
        let _ = writeln!(difference, "  describe wanted:\n{wanted}  found:\n{described}");
    }
    let fails = case["error"].is_string();
    let mut reached = None;
    match run(case, built, stores, every, (&mut difference, &mut reached)) {
        Ok(()) if fails => {
            let _ = writeln!(difference, "  wanted error {}, found none", case["error"]);
        }
        Err(error) if !fails => {
            let _ = writeln!(difference, "  error: {error}");
        }
        Err(error) if case["error_step"].as_i64().is_some_and(|step| Some(step) != reached) => {
            let (wanted, at) = (&case["error"], &case["error_step"]);
            let _ = writeln!(
                difference,
                "  wanted error {wanted} at {at}, found at {reached:?}: {error}"
            );
        }
        _ => {}
    }
    if difference.is_empty() { Outcome::Passed } else { Outcome::Failed(difference) }
}

/// Whether Kafka Streams refuses the topology itself.
fn refused(case: &Json) -> bool {
    case["error"].is_string() && case["describe"].is_null()
}

fn run(
    case: &Json,
    built: Built,
    stores: &dyn Stores,
    every: Option<NonZeroUsize>,
    (difference, reached): (&mut String, &mut Option<i64>),
) -> kstreams::Result<()> {
    // Held until the driver is gone: folders of stores go with their engines.
    let engines = stores.engines()?;
    let settings = TestSettings {
        application_id: "app".to_owned(),
        start: Timestamp::from_millis(case["wall_clock_start"].as_i64().unwrap_or(0)),
        engines: engines.clone(),
        record_cache_bytes_max: built.record_cache_bytes_max,
        // As Java's driver: the first failure is the test's.
        handlers: ErrorHandlers {
            deserialization: Arc::new(Decision::Fail),
            processing: Arc::new(Decision::Fail),
            production: Arc::new(Decision::Fail),
            ..ErrorHandlers::default()
        },
        ..TestSettings::default()
    };
    let Built { topology, mut sinks, stores, .. } = built;
    sinks.sort();
    sinks.dedup();
    *reached = Some(-1);
    let driver = TopologyTestDriver::with_settings(topology, settings)?;
    let wanted = by_step(&case["expected"]);
    for (step, input) in case["inputs"].as_array().into_iter().flatten().enumerate() {
        *reached = i64::try_from(step).ok();
        match input["advance_wall_clock_ms"].as_u64() {
            Some(millis) => driver.advance_wall_clock_time(Duration::from_millis(millis))?,
            None => pipe(&driver, input)?,
        }
        if every.is_some_and(|every| (step + 1) % every == 0) {
            driver.reopen_stores()?;
        }
        for sink in &sinks {
            let output = driver.output_topic::<Value, Value>(sink);
            let found: Vec<Json> = output.read_records()?.iter().map(as_json).collect();
            let wanted = wanted.get(&(step, sink.clone())).cloned().unwrap_or_default();
            if found != wanted {
                let (wanted, found) = (lines(&wanted), lines(&found));
                let _ = writeln!(
                    difference,
                    "  step {step} {input}, topic {sink}, wanted:\n{wanted}  found:\n{found}"
                );
            }
        }
    }
    for (name, wanted) in case["final_stores"].as_object().into_iter().flatten() {
        let found = match stores.get(name) {
            Some(content) => contents(&driver, name, *content)?,
            None => Vec::new(),
        };
        let wanted = wanted.as_array().cloned().unwrap_or_default();
        if found != wanted {
            let (wanted, found) = (lines(&wanted), lines(&found));
            let _ = writeln!(difference, "  store {name} wanted:\n{wanted}  found:\n{found}");
        }
    }
    Ok(())
}

fn pipe(driver: &TopologyTestDriver, input: &Json) -> kstreams::Result<()> {
    let value = |field: &str| {
        let wrong = || kstreams::Error::invalid(format!("found {field} of input {input}"));
        Value::from_json(&input[field]).ok_or_else(wrong)
    };
    let mut headers = Headers::default();
    for (key, value) in input["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().map(|value| value.as_bytes().to_vec());
        headers.add(key.as_str(), value);
    }
    let timestamp = Timestamp::from_millis(input["ts"].as_i64().unwrap_or(0));
    let topic = input["topic"].as_str().unwrap_or_default();
    let topic = driver.input_topic_with(topic, Value::serde(), Value::serde());
    topic.pipe_record(Record { key: value("key")?, value: value("value")?, timestamp, headers })
}

/// Expected records by step and topic, as [`as_json`] makes them.
fn by_step(expected: &Json) -> BTreeMap<(usize, String), Vec<Json>> {
    let mut steps: BTreeMap<(usize, String), Vec<Json>> = BTreeMap::new();
    for record in expected.as_array().into_iter().flatten() {
        let step = record["step"].as_u64().and_then(|step| usize::try_from(step).ok());
        let topic = record["topic"].as_str().unwrap_or_default().to_owned();
        let mut record = record.clone();
        if let Some(fields) = record.as_object_mut() {
            fields.remove("step");
            fields.remove("topic");
        }
        steps.entry((step.unwrap_or(0), topic)).or_default().push(record);
    }
    steps
}

fn as_json(record: &Record<Value, Value>) -> Json {
    let mut json = json!({
        "key": record.key.to_json(),
        "value": record.value.to_json(),
        "ts": record.timestamp.as_millis(),
    });
    let headers: BTreeMap<String, Option<String>> = record
        .headers
        .iter()
        .map(|header| {
            let value = header.value.as_ref();
            let text = value.map(|value| String::from_utf8_lossy(value).into_owned());
            (header.key.to_string(), text)
        })
        .collect();
    if !headers.is_empty() {
        json["headers"] = json!(headers);
    }
    json
}

fn contents(
    driver: &TopologyTestDriver,
    name: &str,
    content: StoreContent,
) -> kstreams::Result<Vec<Json>> {
    match content {
        StoreContent::Windows => windows(driver, name),
        StoreContent::Sessions => sessions(driver, name),
        StoreContent::Timestamped => rows::<Value>(driver, name, true),
        StoreContent::TimestampedByWindow => rows::<Windowed<Value>>(driver, name, true),
        StoreContent::Plain => rows::<Value>(driver, name, false),
    }
}

fn rows<K: CaseKey>(
    driver: &TopologyTestDriver,
    name: &str,
    with_timestamps: bool,
) -> kstreams::Result<Vec<Json>> {
    driver.with_store(name, |store: &mut KeyValueStore<K, Value>| {
        let entries = store.all()?.with_timestamps();
        entries
            .map(|entry| {
                let (key, value, timestamp) = entry?;
                let mut row = json!({"key": key.as_value().to_json(), "value": value.to_json()});
                if with_timestamps {
                    row["ts"] = json!(timestamp.as_millis());
                }
                Ok(row)
            })
            .collect()
    })?
}

fn windows(driver: &TopologyTestDriver, name: &str) -> kstreams::Result<Vec<Json>> {
    driver.with_store(name, |store: &mut WindowStore<Value, Value>| {
        let entries = store.all()?.with_timestamps().map(|entry| {
            let (key, value, timestamp) = entry?;
            let (key, timestamp) = (key.to_string(), timestamp.as_millis());
            Ok(json!({"key": key, "value": value.to_json(), "ts": timestamp}))
        });
        entries.collect()
    })?
}

fn sessions(driver: &TopologyTestDriver, name: &str) -> kstreams::Result<Vec<Json>> {
    driver.with_store(name, |store: &mut SessionStore<Value, Value>| {
        let entries = store.all()?.map(|entry| {
            let (key, value) = entry?;
            Ok(json!({"key": key.to_string(), "value": value.to_json()}))
        });
        entries.collect()
    })?
}

fn lines(records: &[Json]) -> String {
    records.iter().fold(String::new(), |mut text, record| {
        let _ = writeln!(text, "    {record}");
        text
    })
}
