//! Cases on a real broker, spread over four partitions, with a restart in the middle: every key's last result is Kafka Streams'.
//!
//! The cases' timestamps rise, since each partition has a stream time of its own and what is late would be another question, and their
//! results do not depend on the order between partitions, which no one promises.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use conformance::build::{BuildError, build};
use conformance::files;
use conformance::value::Value;
use kstreams::serdes::{DefaultSerde, Encoded};
use kstreams::{Headers, KafkaStreams, StreamsConfig};
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;
use test_support::{
    DEADLINE, Message, Outcome, Topic, bootstrap, create_topic, produce, read_committed, unique,
    wait_until,
};

const PARTITIONS: i32 = 4;
/// Cases that run at a time; most of the time goes to waiting for the broker.
const AT_A_TIME: usize = 6;
/// Of the generator's kinds, at least one case each.
const KINDS: usize = 29;

/// The last value of each key, by topic. A deletion is no value.
type Results = BTreeMap<String, BTreeMap<String, Json>>;

/// Puts `prefix` before every topic of the case.
fn prefixed(json: &Json, prefix: &str) -> Json {
    let name = |json: &Json| Json::from(format!("{prefix}{}", json.as_str().unwrap_or_default()));
    match json {
        Json::Array(list) => list.iter().map(|part| prefixed(part, prefix)).collect(),
        Json::Object(fields) => {
            let field = |(key, value): (&String, &Json)| {
                let value = match (key.as_str(), value) {
                    ("topic", topic) => name(topic),
                    ("topics", Json::Array(topics)) => topics.iter().map(name).collect(),
                    _ => prefixed(value, prefix),
                };
                (key.clone(), value)
            };
            Json::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

fn inputs(case: &Json) -> Vec<&Json> {
    let inputs = case["inputs"].as_array().unwrap().iter();
    inputs.filter(|input| input["topic"].is_string()).collect()
}

fn sources(case: &Json) -> BTreeSet<String> {
    let operations = case["ops"].as_array().unwrap().iter();
    let reads = operations.filter(|operation| operation["op"] != "to");
    let topics = reads.flat_map(|operation| {
        let several = operation["topics"].as_array().cloned().unwrap_or_default();
        several.into_iter().chain([operation["topic"].clone()])
    });
    topics.filter_map(|topic| topic.as_str().map(str::to_owned)).collect()
}

fn wanted(case: &Json) -> Results {
    let mut results = Results::new();
    for record in case["expected"].as_array().unwrap() {
        let topic = record["topic"].as_str().unwrap().to_owned();
        let (key, value) = (record["key"].to_string(), record["value"].clone());
        results.entry(topic).or_default().insert(key, value);
    }
    without_deletions(results)
}

fn found(sinks: &BTreeSet<String>) -> Results {
    let serde = Value::serde();
    let read = |topic: &str, bytes: Option<Vec<u8>>| {
        let bytes = bytes.map(Into::into);
        serde.deserializer().deserialize(topic, &Headers::default(), bytes.as_ref()).unwrap()
    };
    let mut results = Results::new();
    for topic in sinks {
        for message in read_committed(topic) {
            let (key, value) = (read(topic, message.key), read(topic, message.value));
            let rows = results.entry(topic.clone()).or_default();
            rows.insert(key.to_json().to_string(), value.to_json());
        }
    }
    without_deletions(results)
}

fn without_deletions(mut results: Results) -> Results {
    results.values_mut().for_each(|rows| rows.retain(|_, value| !value.is_null()));
    results.retain(|_, rows| !rows.is_empty());
    results
}

fn feed(inputs: &[&Json]) {
    let serde = Value::serde();
    let write = |json: &Json| {
        let mut bytes = Vec::new();
        let value = Value::from_json(json).unwrap();
        let encoded = serde.serializer().serialize("", &value, &mut bytes).unwrap();
        (encoded == Encoded::Bytes).then_some(bytes)
    };
    for input in inputs {
        let headers = input["headers"].as_object().into_iter().flatten();
        let header = |(key, value): (&String, &Json)| {
            (key.clone(), value.as_str().map(|value| value.as_bytes().to_vec()))
        };
        let message = Message {
            timestamp_ms: input["ts"].as_i64(),
            key: write(&input["key"]),
            value: write(&input["value"]),
            headers: headers.map(header).collect(),
            ..Message::default()
        };
        produce(input["topic"].as_str().unwrap(), &[message], Outcome::Plain);
    }
}

/// Topics of global tables, which no group reads.
fn global(case: &Json) -> BTreeSet<String> {
    let operations = case["ops"].as_array().unwrap().iter();
    let tables = operations.filter(|operation| operation["op"] == "global_table");
    tables.map(|table| table["topic"].as_str().unwrap().to_owned()).collect()
}

/// Whether the group has committed every record of the topics, which nobody wrote in transactions.
fn is_read(group: &str, topics: &BTreeSet<String>) -> bool {
    let consumer = test_support::consumer(&[("group.id", group)]);
    let mut list = TopicPartitionList::new();
    for topic in topics {
        list.add_partition_range(topic, 0, PARTITIONS - 1);
    }
    let committed = consumer.committed_offsets(list, DEADLINE).unwrap();
    committed.elements().iter().all(|element| {
        let (_, end) =
            consumer.fetch_watermarks(element.topic(), element.partition(), DEADLINE).unwrap();
        end == 0 || element.offset() == Offset::Offset(end)
    })
}

fn run(case: &Json) {
    let application = unique("spread");
    let case = prefixed(case, &format!("{application}-"));
    let build = || match build(&case) {
        Ok(built) => built,
        Err(BuildError::Unsupported(what)) => panic!("unsupported: {what}"),
        Err(BuildError::Invalid(what)) => panic!("{what}"),
    };
    let sinks: BTreeSet<String> = build().sinks.into_iter().collect();
    let sources = sources(&case);
    for name in sources.union(&sinks) {
        create_topic(Topic { name, partitions: PARTITIONS, config: &[] });
    }
    let state = tempfile::tempdir().unwrap();
    let inputs = inputs(&case);
    let (first, second) = inputs.split_at(case["restart_at"].as_u64().unwrap() as usize);
    let wanted = wanted(&case);
    let grouped: BTreeSet<String> = sources.difference(&global(&case)).cloned().collect();
    for (half, is_last) in [(first, false), (second, true)] {
        feed(half);
        let mut config = StreamsConfig::new(&application, bootstrap());
        config.state_dir = state.path().to_owned();
        config.session_timeout = Duration::from_secs(6);
        config.heartbeat_interval = Duration::from_secs(1);
        let built = build();
        config.record_cache_bytes_max = built.record_cache_bytes_max;
        let mut streams = KafkaStreams::new(built.topology, config).unwrap();
        streams.start().unwrap();
        if is_last {
            // Where it never comes, the assertion at the end shows what came instead.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                wait_until("every key's last result", DEADLINE, || found(&sinks) == wanted);
            }));
        } else {
            wait_until("the first half to be read", DEADLINE, || is_read(&application, &grouped));
        }
        streams.close(DEADLINE).unwrap();
    }
    assert_eq!(found(&sinks), wanted, "after the end");
}

fn cases() -> Vec<files::Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("partitioned");
    files::read(&folder).unwrap()
}

#[test]
fn cases_over_four_partitions_with_a_restart_give_kafka_streams_last_results() {
    let cases = cases();
    let next = Mutex::new(cases.iter());
    let (passed, wrong) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().unwrap().next() else { return };
                    match catch_unwind(|| run(&case.json)) {
                        Ok(()) => {
                            println!("passed: {}", case.place);
                            passed.lock().unwrap().insert(case.kind());
                        }
                        Err(_) => wrong.lock().unwrap().push(case.place.clone()),
                    }
                }
            });
        }
    });
    let (passed, wrong) = (passed.into_inner().unwrap(), wrong.into_inner().unwrap());
    assert!(wrong.is_empty(), "{} cases differ: {wrong:#?}", wrong.len());
    assert_eq!(passed.len(), KINDS, "kinds passed: {passed:?}");
}
