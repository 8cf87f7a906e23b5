//! The record cache: what it holds back, when it lets go, and what is left of it when something fails.
//!
//! That results are Kafka Streams' own is shown by the conformance cases; here a commit comes after several inputs.

use std::time::Duration;

use bytes::Bytes;
use kstreams::dlq::ErrorHandlers;
use kstreams::telemetry;
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{
    EmitStrategy, Grouped, Headers, KTable, Materialized, Named, Processor, ProcessorContext,
    RawRecord, Record, Result, StreamsBuilder, TimeWindows, Timestamp, Topology,
};

const MEBIBYTE: usize = 1 << 20;

fn driver(topology: Topology, record_cache_bytes_max: usize) -> TopologyTestDriver {
    let handlers = ErrorHandlers::default();
    let settings = TestSettings { record_cache_bytes_max, handlers, ..TestSettings::default() };
    TopologyTestDriver::with_settings(topology, settings).unwrap()
}

/// A record of each key with its value, at 1, 2, 3 ….
fn batch(records: &[(&'static str, &'static str)]) -> Vec<RawRecord> {
    let record = |(index, (key, value)): (usize, &(&'static str, &'static str))| RawRecord {
        offset: 0,
        timestamp: Timestamp::from_millis(i64::try_from(index).unwrap() + 1),
        key: Some(Bytes::from_static(key.as_bytes())),
        value: (!value.is_empty()).then(|| Bytes::from_static(value.as_bytes())),
        headers: Headers::default(),
    };
    records.iter().enumerate().map(record).collect()
}

/// What has come out since, as `key:value@timestamp`.
fn counts(driver: &TopologyTestDriver) -> Vec<String> {
    let records = driver.output_topic::<String, i64>("out").read_records().unwrap();
    let text = |record: &Record<String, i64>| {
        format!("{}:{}@{}", record.key, record.value, record.timestamp.as_millis())
    };
    records.iter().map(text).collect()
}

/// The values of the dead letters since.
fn letters(driver: &TopologyTestDriver) -> Vec<String> {
    let letters = driver.output_topic::<String, String>("test-in-dlq").read_key_values().unwrap();
    letters.into_iter().map(|(_, value)| value).collect()
}

fn counted(materialized: Materialized<String, i64>) -> Topology {
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<String, String>("in").group_by_key().count_with(materialized);
    counts.to_stream().to("out");
    builder.build().unwrap()
}

#[test]
fn of_several_updates_within_a_commit_the_last_is_forwarded_in_the_order_of_last_updates() {
    let driver = driver(counted(Materialized::default()), MEBIBYTE);
    driver.pipe_batch("in", batch(&[("a", "x"), ("b", "x"), ("c", "x"), ("a", "x")])).unwrap();
    assert_eq!(counts(&driver), ["b:1@2", "c:1@3", "a:2@4"]);
    driver.pipe_batch("in", batch(&[("c", "x"), ("a", "x"), ("a", "x")])).unwrap();
    assert_eq!(counts(&driver), ["c:2@3", "a:4@4"]);
}

#[test]
fn every_update_is_forwarded_where_nothing_may_be_held_back() {
    let input = || batch(&[("a", "x"), ("a", "x")]);
    let disabled = counted(Materialized::default().with_caching_disabled());
    let versioned = counted(Materialized::versioned("counts", Duration::from_secs(60)));
    let enabled = || counted(Materialized::default().with_caching_enabled());
    for (topology, bytes_max, found) in [
        (disabled, MEBIBYTE, 2),
        (versioned, MEBIBYTE, 2),
        (enabled(), 0, 2),
        (enabled(), 1, 2),
        (enabled(), MEBIBYTE, 1),
    ] {
        let driver = driver(topology, bytes_max);
        driver.pipe_batch("in", input()).unwrap();
        assert_eq!(counts(&driver).len(), found, "{bytes_max}");
    }
}

/// An entry takes 45 bytes, its key, its value with a timestamp, and the name of its topic: 45 + 1 + 16 + 2.
#[test]
fn a_cache_without_room_lets_all_changes_go_when_the_oldest_entry_has_to() {
    let input = || batch(&[("a", "x"), ("b", "x"), ("c", "x"), ("a", "x"), ("a", "x")]);
    let early = driver(counted(Materialized::default()), 3 * 64 - 1);
    early.pipe_batch("in", input()).unwrap();
    assert_eq!(counts(&early), ["a:1@1", "b:1@2", "c:1@3", "a:3@5"]);
    let late = driver(counted(Materialized::default()), 3 * 64);
    late.pipe_batch("in", input()).unwrap();
    assert_eq!(counts(&late), ["b:1@2", "c:1@3", "a:3@5"]);
}

/// One that only ever deleted what nobody was told of says nothing.
#[test]
fn a_row_that_came_and_went_within_a_commit_is_not_spoken_of() {
    let builder = StreamsBuilder::new();
    let table = builder.table_with::<String, String>(
        "in",
        kstreams::Consumed::default(),
        Materialized::named("rows"),
    );
    table.to_stream().to("out");
    let driver = driver(builder.build().unwrap(), MEBIBYTE);
    let out = driver.output_topic::<String, Option<String>>("out");
    driver.pipe_batch("in", batch(&[("a", "x"), ("b", "x"), ("a", "")])).unwrap();
    assert_eq!(out.read_key_values().unwrap(), [("b".to_owned(), Some("x".to_owned()))]);
    driver.pipe_batch("in", batch(&[("b", ""), ("b", "y"), ("b", "")])).unwrap();
    assert_eq!(out.read_key_values().unwrap(), [("b".to_owned(), None)]);
}

/// The sum of all rows of a table: what is taken back must be what was added before.
#[test]
fn the_old_value_of_a_change_is_the_one_that_was_forwarded_last() {
    let builder = StreamsBuilder::new();
    let table: KTable<String, i64> = builder.table("in");
    let all = table.group_by(|_, value| ("all".to_owned(), *value), Grouped::default());
    let add = |_: &String, value: i64, sum: i64| Some(sum + value);
    let subtract = |_: &String, value: i64, sum: i64| Some(sum - value);
    let named = Named::default();
    let sums = all.aggregate(|| 0, add, subtract, &named, Materialized::default());
    sums.to_stream().to("out");
    let driver = driver(builder.build().unwrap(), MEBIBYTE);
    let rows = |values: &[i64]| -> Vec<RawRecord> {
        let record = |value: &i64| RawRecord {
            value: Some(Bytes::copy_from_slice(&value.to_be_bytes())),
            ..batch(&[("a", "x")]).remove(0)
        };
        values.iter().map(record).collect()
    };
    driver.pipe_batch("in", rows(&[1, 20, 300])).unwrap();
    driver.pipe_batch("in", rows(&[4000, 50_000])).unwrap();
    let sums = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    assert_eq!(sums.last(), Some(&("all".to_owned(), 50_000)));
    let repartition = driver.produced_topics();
    let sent = repartition.iter().find(|(topic, _)| topic.ends_with("-repartition")).unwrap();
    assert_eq!(sent.1, 2, "each commit changed the row once");
}

/// Says where it thinks that it is.
#[derive(Default)]
struct Whence;

impl Processor<String, Option<i64>, String, String> for Whence {
    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let offset = context.record_metadata().map(|metadata| metadata.offset);
        let text = format!("{:?}@{offset:?}", record.value);
        context.forward(record.with_value(text))
    }
}

#[test]
fn a_change_is_forwarded_as_the_record_that_made_it() {
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<String, String>("in").group_by_key().count();
    counts.to_stream().process::<String, String, _>(Whence::default, &[]).to("out");
    let driver = driver(builder.build().unwrap(), MEBIBYTE);
    let mut input = batch(&[("a", "x"), ("a", "x"), ("b", "x")]);
    for (record, value) in input.iter_mut().zip(["first", "second", "third"]) {
        record.headers.add("from", Some(Bytes::from_static(value.as_bytes())));
    }
    input[1].timestamp = Timestamp::from_millis(0);
    driver.pipe_batch("in", input).unwrap();
    let found = driver.output_topic::<String, String>("out").read_records().unwrap();
    let text = |record: &Record<String, String>| {
        let from = record.headers.last("from").map(|value| value.to_vec()).unwrap();
        let from = String::from_utf8(from).unwrap();
        format!("{} {} {from}", record.value, record.timestamp.as_millis())
    };
    // The count's timestamp is the highest of its records.
    let found: Vec<String> = found.iter().map(text).collect();
    assert_eq!(found, ["Some(2)@Some(1) 1 second", "Some(1)@Some(2) 3 third"]);
}

#[test]
fn a_record_that_fails_leaves_no_change_and_no_order_behind() {
    for bytes_max in [MEBIBYTE, 2 * 64] {
        let driver = driver(refuses_after_counting(), bytes_max);
        let records = [("a", "x"), ("b", "x"), ("a", "bad"), ("c", "bad"), ("b", "x")];
        driver.pipe_batch("in", batch(&records)).unwrap();
        let found = counts(&driver);
        assert_eq!(found.last().unwrap(), "b:2@5", "{found:?}");
        assert_eq!(found.iter().filter(|count| count.starts_with("a:")).count(), 1, "{found:?}");
        assert!(!found.iter().any(|count| count.starts_with("c:")), "{found:?}");
        assert_eq!(letters(&driver), ["bad", "bad"]);
    }
}

/// Counts, and refuses bad records only after they were counted.
fn refuses_after_counting() -> Topology {
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, String>("in");
    input.group_by_key().count().to_stream().to("out");
    input.peek(|_, value| assert_ne!(value, "bad", "refused")).to("rest");
    builder.build().unwrap()
}

/// Refuses a count of 2, whatever the record that made it.
fn refuses_two() -> Topology {
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<String, String>("in").group_by_key().count();
    counts.to_stream().peek(|_, count| assert_ne!(*count, Some(2), "refused")).to("out");
    builder.build().unwrap()
}

/// A change that fails while it is flushed, or while others are processed, is that of one record alone: the input is read again without
/// the cache, and exactly that record is a dead letter.
#[test]
fn a_change_that_fails_when_it_is_let_go_costs_its_own_record_alone() {
    for bytes_max in [MEBIBYTE, 2 * 64, 64] {
        let driver = driver(refuses_two(), bytes_max);
        let records = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("d", "5"), ("b", "6")];
        driver.pipe_batch("in", batch(&records)).unwrap();
        assert_eq!(counts(&driver), ["a:1@1", "b:1@2", "c:1@4", "d:1@5"], "{bytes_max}");
        assert_eq!(letters(&driver), ["3", "6"], "{bytes_max}");
        // After a while changes are held back again.
        driver.pipe_batch("in", batch(&[("e", "7")])).unwrap();
        driver.advance_wall_clock_time(Duration::from_secs(61)).unwrap();
        driver.pipe_batch("in", batch(&[("f", "8"), ("g", "9"), ("f", "bad")])).unwrap();
        assert_eq!(counts(&driver), ["e:1@1", "f:1@1", "g:1@2"], "{bytes_max}");
    }
}

#[test]
fn nothing_of_it_survives_an_abort_or_a_restart_and_nothing_is_lost() {
    let driver = driver(counted(Materialized::named("counts").in_memory()), MEBIBYTE);
    let first = || batch(&[("a", "x"), ("b", "x"), ("a", "x")]);
    driver.pipe_batch_and_abort("in", first()).unwrap();
    assert_eq!(counts(&driver), [""; 0]);
    driver.pipe_batch("in", batch(&[("c", "x")])).unwrap();
    assert_eq!(counts(&driver), ["c:1@1"], "what was aborted is not held back any more");
    driver.pipe_batch("in", first()).unwrap();
    assert_eq!(counts(&driver), ["b:1@2", "a:2@3"]);
    driver.pipe_batch_and_abort("in", first()).unwrap();
    driver.restart().unwrap();
    driver.pipe_batch("in", first()).unwrap();
    assert_eq!(counts(&driver), ["b:2@2", "a:4@3"]);
}

#[test]
fn windows_are_held_back_unless_their_results_are_final() {
    for (strategy, found) in [
        (EmitStrategy::OnWindowUpdate, vec![("[a@0/10]", 2), ("[a@20/30]", 1)]),
        (EmitStrategy::OnWindowClose, vec![("[a@0/10]", 2)]),
    ] {
        let builder = StreamsBuilder::new();
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        let grouped = builder.stream::<String, String>("in").group_by_key();
        let counts = grouped.windowed_by(windows).emit_strategy(strategy).count();
        counts.to_stream_by(|key, _| key.to_string()).to("out");
        let driver = driver(builder.build().unwrap(), MEBIBYTE);
        let mut input = batch(&[("a", "x"), ("a", "x"), ("a", "x")]);
        input[2].timestamp = Timestamp::from_millis(25);
        driver.pipe_batch("in", input).unwrap();
        let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
        let out: Vec<(&str, i64)> = out.iter().map(|(key, count)| (&**key, *count)).collect();
        assert_eq!(out, found);
    }
}

#[test]
fn size_look_ups_and_evictions_are_metrics() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let text = metrics::with_local_recorder(&recorder, || {
        let driver = driver(counted(Materialized::named("measured")), 2 * 64);
        driver.pipe_batch("in", batch(&[("a", "x"), ("b", "x"), ("c", "x"), ("c", "x")])).unwrap();
        recorder.handle().render() + &telemetry::render_placed(&[telemetry::METRICS])
    });
    for line in [
        "kstreams_cache_bytes{app=\"test\",store=\"measured\"} 128",
        "kstreams_cache_requests_total{app=\"test\",store=\"measured\",result=\"hit\"} 1",
        "kstreams_cache_requests_total{app=\"test\",store=\"measured\",result=\"miss\"} 3",
        "kstreams_cache_evictions_total{app=\"test\",store=\"measured\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "wanted {line}, found:\n{text}");
    }
}
