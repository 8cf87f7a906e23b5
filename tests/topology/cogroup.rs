//! Cogrouped streams by behaviour, and against a plain model.

use std::collections::BTreeMap;

use kstreams::testing::TopologyTestDriver;
use kstreams::{Grouped, KGroupedStream, Materialized, Named, StreamsBuilder, Timestamp, Topology};
use proptest::prelude::*;

/// Of `words` each word is appended, of `numbers` each number; "!" clears the key, and 13 is refused.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let words: KGroupedStream<String, String> = builder.stream("words").group_by_key();
    let numbers = builder
        .stream::<String, i64>("numbers")
        .select_key(|key, _| key.to_lowercase())
        .group_by_key_with(Grouped::default().with_name("by-lower-case"));
    words
        .cogroup(|_, word, text: String| (word != "!").then(|| text + &word))
        .cogroup(&numbers, |_, number: i64, text| {
            assert_ne!(number, 13, "refused");
            Some(format!("{text}{number}"))
        })
        .aggregate(|| ">".to_owned(), &Named::new("all"), Materialized::named("texts"))
        .to_stream()
        .to("out");
    builder.build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn aggregates_are_those_of_the_model(
        steps in proptest::collection::vec((0..3u8, 0..5u8, any::<bool>()), 1..30),
    ) {
        let driver = TopologyTestDriver::new(topology()).unwrap();
        let words = driver.input_topic::<String, String>("words");
        let numbers = driver.input_topic::<String, i64>("numbers");
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let mut wanted = Vec::new();
        for (key, what, is_word) in steps {
            let lower = char::from(b'a' + key).to_string();
            let text = model.get(&lower).cloned().unwrap_or_else(|| ">".to_owned());
            let next = match (is_word, what) {
                (true, 0) => {
                    words.pipe(lower.clone(), "!".to_owned()).unwrap();
                    None
                }
                (true, _) => {
                    words.pipe(lower.clone(), format!("w{what}")).unwrap();
                    Some(format!("{text}w{what}"))
                }
                (false, 0) => {
                    // A dead letter: nothing of the record remains.
                    numbers.pipe(lower.to_uppercase(), 13).unwrap();
                    continue;
                }
                (false, _) => {
                    numbers.pipe(lower.to_uppercase(), i64::from(what)).unwrap();
                    Some(format!("{text}{what}"))
                }
            };
            match &next {
                Some(next) => model.insert(lower.clone(), next.clone()),
                None => model.remove(&lower),
            };
            wanted.push((lower, next));
        }
        let out = driver.output_topic::<String, Option<String>>("out").read_key_values().unwrap();
        prop_assert_eq!(out, wanted);
    }
}

#[test]
fn an_aggregates_timestamp_is_the_latest_of_all_its_streams() {
    let driver = TopologyTestDriver::new(topology()).unwrap();
    let at = Timestamp::from_millis;
    let words = driver.input_topic::<String, String>("words");
    words.pipe_at("k".into(), "a".into(), at(9)).unwrap();
    driver.input_topic::<String, i64>("numbers").pipe_at("K".into(), 1, at(4)).unwrap();
    let out = driver.output_topic::<String, String>("out").read_records().unwrap();
    let seen: Vec<_> = out.iter().map(|r| (r.value.as_str(), r.timestamp.as_millis())).collect();
    assert_eq!(seen, [(">a", 9), (">a1", 9)]);
}

#[test]
fn a_first_records_old_value_is_the_initial_one() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .group_by_key()
        .count()
        .group_by(|_, count| (format!("count {count}"), 1), Grouped::default())
        .count()
        .to_stream()
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    driver.input_topic::<String, String>("in").pipe("k".into(), "v".into()).unwrap();
    let out = driver.output_topic::<String, Option<i64>>("out").read_key_values().unwrap();
    assert_eq!(out, [("count 0".to_owned(), None), ("count 1".to_owned(), Some(1))]);
}
