//! Ready-made aggregates, on grouped streams and in every kind of window.

use std::time::Duration;

use kstreams::aggregates::{
    Average, average, collect_list, collect_set, max_by, min_by, sum, top_k,
};
use kstreams::store::KeyValueStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    KGroupedStream, Materialized, Named, SessionWindows, SlidingWindows, StreamsBuilder,
    TimeWindows, Timestamp,
};
use proptest::prelude::*;

fn grouped(builder: &StreamsBuilder) -> KGroupedStream<String, i64> {
    builder.stream::<String, i64>("in").group_by_key()
}

fn named<V>(store: &str) -> Materialized<String, V> {
    Materialized::named(store)
}

fn kept<V: Clone + Send + 'static>(driver: &TopologyTestDriver, store: &str) -> Option<V> {
    let key = "k".to_owned();
    let look = |store: &mut KeyValueStore<String, V>| store.get(&key).unwrap();
    driver.with_store(store, look).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn aggregates_equal_what_the_whole_list_says(
        values in proptest::collection::vec(-5..5i64, 1..30),
        k in 0..4usize,
    ) {
        let builder = StreamsBuilder::new();
        let values_in = grouped(&builder);
        values_in.aggregate_by(sum(|value: &i64| *value), named("sum"));
        values_in.aggregate_by(average(|value: &i64| *value as f64), named("average"));
        // The remainder alone decides, so that many values are equal.
        values_in.aggregate_by(min_by(|value: &i64| value.rem_euclid(3)), named("min"));
        values_in.aggregate_by(max_by(|value: &i64| value.rem_euclid(3)), named("max"));
        values_in.aggregate_by(top_k(k, |value: &i64| value.rem_euclid(3)), named("top"));
        values_in.aggregate_by(collect_list(k), named("list"));
        values_in.aggregate_by(collect_set(k), named("set"));
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let input = driver.input_topic::<String, i64>("in");
        for value in &values {
            input.pipe("k".into(), *value).unwrap();
        }

        let total: i64 = values.iter().sum();
        prop_assert_eq!(kept::<i64>(&driver, "sum"), Some(total));
        let mean = kept::<Average>(&driver, "average").unwrap();
        prop_assert_eq!((mean.sum, mean.count), (total as f64, values.len() as u64));
        let mut sorted = values.clone();
        sorted.sort_by_key(|value| -value.rem_euclid(3)); // stable: equal ones as they came
        prop_assert_eq!(kept::<i64>(&driver, "max"), Some(sorted[0]));
        sorted.truncate(k);
        prop_assert_eq!(kept::<Vec<i64>>(&driver, "top"), Some(sorted));
        let least = values.iter().copied().min_by_key(|value| value.rem_euclid(3));
        prop_assert_eq!(kept::<i64>(&driver, "min"), least);
        let first: Vec<i64> = values.iter().take(k).copied().collect();
        prop_assert_eq!(kept::<Vec<i64>>(&driver, "list"), Some(first));
        let mut different = Vec::new();
        for value in &values {
            if !different.contains(value) {
                different.push(*value);
            }
        }
        different.truncate(k);
        prop_assert_eq!(kept::<Vec<i64>>(&driver, "set"), Some(different));
    }
}

/// Pipes values of one key at their times, and gives the last list of each window.
fn windows(builder: StreamsBuilder, records: &[(i64, Option<i64>)]) -> Vec<(String, Vec<i64>)> {
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, Option<i64>>("in");
    for (time, value) in records {
        input.pipe_at("k".into(), *value, Timestamp::from_millis(*time)).unwrap();
    }
    let mut last = std::collections::BTreeMap::new();
    let out = driver.output_topic::<String, Option<Vec<i64>>>("out").read_key_values().unwrap();
    for (window, list) in out {
        last.insert(window, list);
    }
    last.into_iter().filter_map(|(window, list)| Some((window, list?))).collect()
}

fn list(window: &str, values: &[i64]) -> (String, Vec<i64>) {
    (window.to_owned(), values.to_vec())
}

#[test]
fn windows_of_every_kind_take_an_aggregate() {
    let ms = Duration::from_millis;
    let records = [(1, Some(1)), (4, Some(2)), (5, None), (12, Some(3)), (8, Some(4))];
    let nullable =
        |builder: &StreamsBuilder| builder.stream::<String, Option<i64>>("in").group_by_key();
    let to_text = |key: &kstreams::Windowed<String>, _: &Option<Vec<i64>>| key.to_string();

    let builder = StreamsBuilder::new();
    let windowed = nullable(&builder).windowed_by(TimeWindows::of_size_and_grace(ms(10), ms(10)));
    let table = windowed.aggregate_by(collect_list(9), &Named::default(), Materialized::default());
    table.to_stream().select_key(to_text).to("out");
    let expected = [list("[k@0/10]", &[1, 2, 4]), list("[k@10/20]", &[3])];
    assert_eq!(windows(builder, &records), expected);

    let builder = StreamsBuilder::new();
    let sliding = SlidingWindows::of_time_difference_and_grace(ms(3), ms(20));
    let windowed = nullable(&builder).windowed_by(sliding);
    let table = windowed.aggregate_by(collect_list(9), &Named::default(), Materialized::default());
    table.to_stream().select_key(to_text).to("out");
    let of_four = windows(builder, &records).into_iter().find(|(key, _)| key == "[k@1/4]");
    assert_eq!(of_four, Some(list("[k@1/4]", &[1, 2])));

    // The record at 8 joins two sessions.
    let builder = StreamsBuilder::new();
    let sessions = SessionWindows::of_inactivity_gap_and_grace(ms(4), ms(20));
    let windowed = nullable(&builder).windowed_by(sessions);
    let table = windowed.aggregate_by(collect_list(9), &Named::default(), Materialized::default());
    table.to_stream().select_key(to_text).to("out");
    assert_eq!(windows(builder, &records), [list("[k@1/12]", &[1, 2, 3, 4])]);
}

#[test]
fn count_windows_take_an_aggregate() {
    let builder = StreamsBuilder::new();
    let pairs = grouped(&builder).windowed_by_count(2);
    pairs.aggregate_by(top_k(1, |value: &i64| *value), &Named::default()).to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for value in [5, 7, 3, 2, 9] {
        input.pipe("k".into(), value).unwrap();
    }
    let out = driver.output_topic::<String, Vec<i64>>("out").read_key_values().unwrap();
    assert_eq!(out, [("k".to_owned(), vec![7]), ("k".to_owned(), vec![3])]);
}

#[test]
fn a_sum_that_does_not_fit_is_a_bad_record() {
    let builder = StreamsBuilder::new();
    grouped(&builder).aggregate_by(sum(|value: &i64| *value), named("sum"));
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for value in [i64::MAX, 1, -7] {
        input.pipe("k".into(), value).unwrap();
    }
    assert_eq!(kept::<i64>(&driver, "sum"), Some(i64::MAX - 7));
    let dead = driver.produced_topics().into_iter().find(|(topic, _)| topic.ends_with("dlq"));
    assert_eq!(dead.map(|(_, records)| records), Some(1), "{:?}", driver.produced_topics());
}
