//! Suppressed tables by behaviour, and against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{BufferConfig, StreamsBuilder, Suppressed, Timestamp, Topology};
use proptest::prelude::*;

const LIMIT: i64 = 10;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn suppressed(records_max: Option<usize>) -> Suppressed<String> {
    let limit = Duration::from_millis(LIMIT.unsigned_abs());
    match records_max {
        Some(records_max) => {
            Suppressed::until_time_limit(limit, BufferConfig::max_records(records_max))
        }
        None => Suppressed::until_time_limit(limit, BufferConfig::unbounded()),
    }
}

/// 13 is refused below the suppression: the update that it would have let out stays.
fn topology(records_max: Option<usize>) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .table::<String, i64>("in")
        .suppress(suppressed(records_max).with_name("calm"))
        .to_stream()
        .peek(|_, value| assert_ne!(*value, Some(13), "refused"))
        .to("out");
    builder.build().unwrap()
}

/// Keys with the time and value that they wait with, in the order in which they are due.
#[derive(Default, Clone)]
struct Model {
    waiting: BTreeMap<String, (i64, Option<i64>, i64)>,
    stream_time: i64,
}

impl Model {
    /// What comes out, or nothing at all of a record that is refused.
    fn update(
        &mut self,
        key: &str,
        value: Option<i64>,
        time: i64,
        records_max: usize,
    ) -> Vec<(String, Option<i64>, i64)> {
        let before = self.clone();
        let since = self.waiting.get(key).map_or(time, |(since, ..)| *since);
        self.waiting.insert(key.to_owned(), (since, value, time));
        self.stream_time = self.stream_time.max(time);
        let mut out = Vec::new();
        loop {
            let order: BTreeSet<_> =
                self.waiting.iter().map(|(key, (since, ..))| (*since, key.clone())).collect();
            let Some((since, key)) = order.into_iter().next() else { break };
            if since > self.stream_time - LIMIT && self.waiting.len() <= records_max {
                break;
            }
            let (_, value, time) = self.waiting.remove(&key).unwrap();
            out.push((key, value, time));
        }
        if out.iter().any(|(_, value, _)| *value == Some(13)) {
            *self = before;
            out.clear();
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn updates_come_as_the_model_says(
        steps in proptest::collection::vec(
            (0..4u8, proptest::option::weighted(0.85, 8..16i64), 0..30i64), 1..40,
        ),
        records_max in proptest::option::of(1..4usize),
    ) {
        let driver = TopologyTestDriver::new(topology(records_max)).unwrap();
        let input = driver.input_topic::<String, Option<i64>>("in");
        let mut model = Model { waiting: BTreeMap::new(), stream_time: -1 };
        let mut wanted = Vec::new();
        for (key, value, time) in steps {
            let key = char::from(b'a' + key).to_string();
            wanted.extend(model.update(&key, value, time, records_max.unwrap_or(usize::MAX)));
            input.pipe_at(key, value, at(time)).unwrap();
        }
        let out = driver.output_topic::<String, Option<i64>>("out").read_records().unwrap();
        let found: Vec<_> =
            out.into_iter().map(|r| (r.key, r.value, r.timestamp.as_millis())).collect();
        prop_assert_eq!(found, wanted);
    }
}

/// Written by `InMemoryTimeOrderedKeyValueChangeBuffer` of Kafka Streams 4.3.1 for the same input.
#[test]
fn changelog_records_are_javas() {
    let driver = TopologyTestDriver::new(topology(None)).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_at("k".into(), 1, at(5)).unwrap();
    let changelog = "test-calm-store-changelog";
    let first = driver.read_raw(changelog).unwrap();
    assert_eq!(first.key.as_deref(), Some(&b"k"[..]));
    let header = first.headers.last("v").map(|version| version.to_vec());
    assert_eq!(header, Some(vec![3]));
    let number = |n: i64| n.to_be_bytes().to_vec();
    let length = |n: i32| n.to_be_bytes().to_vec();
    let origin = |time: i64, offset: i64| {
        [number(time), number(offset), length(2), b"in".to_vec(), length(0), length(0)].concat()
    };
    let wanted = [origin(5, 0), length(-1), length(-1), length(8), number(1), number(5)].concat();
    assert_eq!(first.value.unwrap(), wanted);

    input.pipe_at("k".into(), 2, at(7)).unwrap();
    let wanted = [
        origin(7, 1),
        length(-1),
        [length(8), number(1)].concat(),
        [length(8), number(2)].concat(),
        number(5),
    ];
    assert_eq!(driver.read_raw(changelog).unwrap().value.unwrap(), wanted.concat());

    input.pipe_at("z".into(), 3, at(15)).unwrap();
    let tombstone = driver.read_raw(changelog).unwrap();
    assert_eq!((tombstone.key.as_deref(), tombstone.value), (Some(&b"k"[..]), None));
    assert!(tombstone.headers.is_empty());
}

#[test]
fn a_held_back_update_has_not_happened_for_those_that_look_the_table_up() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("in").suppress(suppressed(None));
    builder
        .stream::<String, i64>("stream")
        .left_join(&table, |_, left, right| format!("{left}+{right:?}"), Default::default())
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let table = driver.input_topic::<String, i64>("in");
    let stream = driver.input_topic::<String, i64>("stream");
    table.pipe_at("k".into(), 1, at(0)).unwrap();
    stream.pipe_at("k".into(), 7, at(1)).unwrap();
    table.pipe_at("k".into(), 2, at(10)).unwrap();
    stream.pipe_at("k".into(), 8, at(11)).unwrap();
    table.pipe_at("k".into(), 3, at(12)).unwrap();
    stream.pipe_at("k".into(), 9, at(13)).unwrap();
    let out = driver.output_topic::<String, String>("out").read_key_values().unwrap();
    let values: Vec<_> = out.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["7+None", "8+Some(2)", "9+Some(2)"]);
}

#[test]
fn a_full_buffer_that_may_not_emit_early_ends_the_thread() {
    let builder = StreamsBuilder::new();
    let buffer = BufferConfig::max_records(2).shut_down_when_full();
    let limit = Duration::from_secs(1);
    builder.table::<String, i64>("in").suppress(Suppressed::until_time_limit(limit, buffer));
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe("a".into(), 1).unwrap();
    input.pipe("b".into(), 1).unwrap();
    input.pipe("b".into(), 2).unwrap();
    let error = input.pipe("c".into(), 1).unwrap_err();
    assert!(error.to_string().contains("found 3 records of 2"), "{error}");
}
