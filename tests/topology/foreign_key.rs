//! Foreign-key joins by behaviour, and against a plain model.

use std::collections::{BTreeMap, BTreeSet};

use kstreams::testing::TopologyTestDriver;
use kstreams::{Headers, KTable, RawRecord, StreamsBuilder, TableJoined, Timestamp, Topology};
use proptest::prelude::*;

/// Left rows: foreign key and a number. Right rows: a number.
#[derive(Debug, Clone)]
enum Update {
    Left(u8, Option<(Option<u8>, u8)>),
    Right(u8, Option<u8>),
}

fn update() -> impl Strategy<Value = Update> {
    let foreign = prop_oneof![4 => (0..3u8).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        3 => (0..4u8, proptest::option::of((foreign, 0..3u8))).prop_map(|(k, v)| Update::Left(k, v)),
        2 => (0..3u8, proptest::option::of(0..3u8)).prop_map(|(k, v)| Update::Right(k, v)),
    ]
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let left = builder.table::<String, String>("left");
    let right = builder.table::<String, String>("right");
    let foreign_key = |_: &String, value: &String| {
        value.split_once('|').map(|(foreign, _)| foreign.to_owned()).filter(|key| !key.is_empty())
    };
    let out = |table: KTable<String, String>, topic: &str| table.to_stream().to(topic);
    out(left.join_on_foreign_key(&right, foreign_key, |l, r| format!("{l}+{r}")), "inner");
    let joiner = |l: &String, r: Option<&String>| format!("{l}+{}", r.map_or("none", |r| r));
    let joined = TableJoined::default().with_name("left-join");
    out(left.left_join_on_foreign_key_with(&right, foreign_key, joiner, joined, None), "outer");
    builder.build().unwrap()
}

fn bytes_of(update: &Update) -> (&'static str, String, Option<String>) {
    match update {
        Update::Left(key, value) => {
            let text = |(foreign, n): &(Option<u8>, u8)| {
                format!("{}|{n}", foreign.map_or(String::new(), |foreign| foreign.to_string()))
            };
            ("left", key.to_string(), value.as_ref().map(text))
        }
        Update::Right(key, value) => ("right", key.to_string(), value.map(|n| format!("r{n}"))),
    }
}

/// What a reader of a topic knows in the end.
fn view(driver: &TopologyTestDriver, topic: &str, view: &mut BTreeMap<String, String>) {
    while let Some(record) = driver.read_raw(topic) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let key = text(&record.key.unwrap());
        match record.value {
            Some(value) => view.insert(key, text(&value)),
            None => view.remove(&key),
        };
    }
}

type Rows = BTreeMap<String, String>;

fn model(left: &Rows, right: &Rows) -> (Rows, Rows) {
    let (mut inner, mut outer) = (Rows::new(), Rows::new());
    for (key, value) in left {
        let found = right.get(value.split_once('|').unwrap().0);
        if let Some(found) = found {
            inner.insert(key.clone(), format!("{value}+{found}"));
        }
        outer.insert(key.clone(), format!("{value}+{}", found.map_or("none", |found| found)));
    }
    (inner, outer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each batch is one commit of several updates of one topic: what is read later in it is not committed yet. A row
    /// changes once a batch, see the limit that `join_on_foreign_key` documents.
    #[test]
    fn joined_rows_are_those_of_the_model(batches in proptest::collection::vec(
        proptest::collection::vec(update(), 1..4), 1..12,
    )) {
        let driver = TopologyTestDriver::new(topology()).unwrap();
        let (mut left, mut right) = (Rows::new(), Rows::new());
        let (mut inner, mut outer) = (Rows::new(), Rows::new());
        for batch in batches {
            for side in ["left", "right"] {
                let mut seen = BTreeSet::new();
                let is_first = |(topic, key, _): &(&str, String, Option<String>)| {
                    *topic == side && seen.insert(key.clone())
                };
                let updates: Vec<_> = batch.iter().map(bytes_of).filter(is_first).collect();
                for (topic, key, value) in &updates {
                    let rows = if *topic == "left" { &mut left } else { &mut right };
                    match value {
                        Some(value) => rows.insert(key.clone(), value.clone()),
                        None => rows.remove(key),
                    };
                }
                let records = updates.into_iter().map(|(_, key, value)| RawRecord {
                    offset: 0,
                    timestamp: Timestamp::from_millis(7),
                    key: Some(key.into()),
                    value: value.map(Into::into),
                    headers: Headers::default(),
                });
                driver.pipe_batch(side, records).unwrap();
            }
            view(&driver, "inner", &mut inner);
            view(&driver, "outer", &mut outer);
            let wanted = model(&left, &right);
            prop_assert_eq!(&inner, &wanted.0);
            prop_assert_eq!(&outer, &wanted.1);
        }
    }
}

#[test]
fn more_subscriptions_than_one_scan_holds_are_all_answered_once() {
    let driver = TopologyTestDriver::new(topology()).unwrap();
    let left = driver.input_topic::<String, String>("left");
    for key in 0..600 {
        left.pipe(format!("{key:03}"), "7|x".to_owned()).unwrap();
    }
    // One more foreign key that begins alike, and must not be answered.
    left.pipe("other".to_owned(), "77|x".to_owned()).unwrap();
    driver.input_topic::<String, String>("right").pipe("7".to_owned(), "r".to_owned()).unwrap();
    let out = driver.output_topic::<String, String>("inner").read_key_values().unwrap();
    let keys: Vec<String> = out.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, (0..600).map(|key| format!("{key:03}")).collect::<Vec<_>>());
}

#[test]
fn inner_topics_have_the_partitions_of_the_side_that_reads_them() {
    let counts = [("left".into(), 3), ("right".into(), 6)].into();
    let plan = topology().plan("app", &counts).unwrap();
    let partitions = |topic: &str| {
        let found = plan.internal_topics.iter().find(|known| &*known.name == topic);
        found.map(|topic| topic.partitions)
    };
    assert_eq!(partitions("app-left-join-subscription-registration-topic"), Some(6));
    assert_eq!(partitions("app-left-join-subscription-response-topic"), Some(3));
    assert_eq!(partitions("app-left-join-subscription-store-changelog"), Some(6));
}

#[test]
fn a_derived_table_without_serdes_is_refused_with_what_to_do() {
    let builder = StreamsBuilder::new();
    let left = builder.table::<String, String>("left").map_values(|_, value| value);
    let right = builder.table::<String, String>("right");
    let _ = left.join_on_foreign_key(&right, |_, value| value.clone(), |l, r| format!("{l}{r}"));
    let error = builder.build().err().unwrap();
    assert!(error.message().contains("KTable::with_serdes"), "{error}");
}
