//! Joins of two streams: what comes out, what is kept, and that a failed record leaves no trace.

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{
    JoinWindows, KStream, StreamJoined, StreamsBuilder, Timestamp, Topology, TopologyOptimization,
};

type Key = Option<String>;
type Streams = (KStream<Key, String>, KStream<Key, String>);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn windows(before: u64, after: u64, grace: u64) -> JoinWindows {
    JoinWindows::of_time_difference_and_grace(Duration::ZERO, millis(grace))
        .before(millis(before))
        .after(millis(after))
}

fn topology(join: impl FnOnce(&Streams) -> KStream<Key, String>) -> Topology {
    let builder = StreamsBuilder::new();
    let streams = (builder.stream("left"), builder.stream("right"));
    join(&streams).to("out");
    builder.build().unwrap()
}

fn outer(windows: JoinWindows) -> Topology {
    topology(|(left, right)| {
        let none = || "-".to_owned();
        left.outer_join_stream(
            right,
            move |_, l, r| {
                let (l, r) = (l.cloned(), r.cloned());
                assert!(l.as_deref() != Some("poison"), "a poisoned value");
                format!("{}{}", l.unwrap_or_else(none), r.unwrap_or_else(none))
            },
            windows,
            StreamJoined::default(),
        )
    })
}

/// Pipes `<side> <key> <value> <time>` and returns `value@time` of what comes out.
fn pipe(driver: &TopologyTestDriver, records: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for record in records {
        let [side, key, value, time] = record.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{record}")
        };
        let topic = if side == "l" { "left" } else { "right" };
        let key = (key != "null").then(|| key.to_owned());
        let input = driver.input_topic::<Key, String>(topic);
        input.pipe_at(key, value.to_owned(), at(time.parse().unwrap())).unwrap();
        let found = driver.output_topic::<Key, String>("out").read_records().unwrap();
        out.extend(found.iter().map(|r| format!("{}@{}", r.value, r.timestamp.as_millis())));
    }
    out
}

#[test]
fn windows_are_asymmetric_and_include_both_ends() {
    let driver = TopologyTestDriver::new(topology(|(left, right)| {
        let joined = StreamJoined::default();
        left.join_stream(right, |_, l, r| format!("{l}{r}"), windows(3, 10, 5), joined)
    }));
    let driver = driver.unwrap();
    let records = ["r k a 6", "r k b 7", "r k c 20", "r k d 21", "r x e 15", "l k A 10"];
    assert_eq!(pipe(&driver, &records), ["Ab@10", "Ac@20"]);
    assert_eq!(pipe(&driver, &["r k f 20", "l null B 20", "r null g 20"]), ["Af@20"]);
}

#[test]
fn unmatched_records_wait_for_window_and_grace_and_null_keys_do_not() {
    let driver = TopologyTestDriver::new(outer(windows(3, 10, 5))).unwrap();
    assert_eq!(pipe(&driver, &["l a A 10", "r b b 12", "l null N 13"]), ["N-@13"]);
    // The right record's window ends 3 + 5 after it, the left one's 10 + 5.
    assert_eq!(pipe(&driver, &["r c C 20"]), [""; 0]);
    assert_eq!(pipe(&driver, &["r d D 21"]), ["-b@12"]);
    assert_eq!(pipe(&driver, &["l e E 25", "l f F 36"]), ["A-@10", "-C@20", "-D@21"]);
    // The window of a late record is over already.
    assert_eq!(pipe(&driver, &["r g g 22", "l g G 15", "l h H 15"]), ["-g@22", "Gg@22", "H-@15"]);
}

#[test]
fn matched_record_is_no_result_of_its_own_later() {
    let driver = TopologyTestDriver::new(outer(windows(5, 5, 0))).unwrap();
    assert_eq!(pipe(&driver, &["l a A 10", "l a B 10", "r a x 12"]), ["Ax@12", "Bx@12"]);
    assert_eq!(pipe(&driver, &["l z Z 100", "l z Y 200"]), ["Z-@100"]);
}

#[test]
fn failed_record_does_not_move_the_joins_time() {
    let driver = TopologyTestDriver::new(outer(windows(5, 5, 0))).unwrap();
    assert_eq!(pipe(&driver, &["l a A 10"]), [""; 0]);
    // It would close the window of the record before, and fails.
    assert_eq!(pipe(&driver, &["l null poison 1000"]), [""; 0]);
    assert!(driver.read_raw("test-left-dlq").is_some());
    assert_eq!(pipe(&driver, &["r a x 12"]), ["Ax@12"]);
    assert_eq!(pipe(&driver, &["l b B 14", "l c C 100"]), ["B-@14"]);
}

#[test]
fn results_of_closed_windows_are_looked_for_once_an_interval() {
    let settings = kstreams::testing::TestSettings {
        emit_interval: Duration::from_secs(1),
        ..Default::default()
    };
    let driver = TopologyTestDriver::with_settings(outer(windows(5, 5, 0)), settings).unwrap();
    assert_eq!(pipe(&driver, &["l a A 10", "l a B 20"]), ["A-@10"]);
    driver.advance_wall_clock_time(millis(999)).unwrap();
    assert_eq!(pipe(&driver, &["l a C 30"]), [""; 0]);
    driver.advance_wall_clock_time(millis(1)).unwrap();
    assert_eq!(pipe(&driver, &["l a D 40"]), ["B-@20", "C-@30"]);
}

#[test]
fn names_are_given_to_nodes_topics_and_stores() {
    let topology = topology(|(left, right)| {
        let joined = StreamJoined::default().with_name("paid").with_store_name("orders");
        let rekeyed = left.select_key(|_, value| Some(value.clone()));
        let join = |_: &Key, l: &String, r: Option<&String>| format!("{l}{r:?}");
        rekeyed.left_join_stream(right, join, windows(1, 2, 3), joined)
    });
    let described = topology.describe();
    for name in [
        "paid-this-windowed (stores: [orders-this-join-store])",
        "paid-other-windowed (stores: [orders-outer-other-join-store])",
        "paid-this-join (",
        "paid-outer-other-join (",
        "paid-merge (stores: [])",
        "(topics: [paid-left-repartition])",
    ] {
        assert!(described.contains(name), "{name} in {described}");
    }
    let counts = [("left".into(), 2), ("right".into(), 2)].into();
    let plan = topology.plan("app", &counts).unwrap();
    let config = |name: &str, key: &str| {
        let topic = plan.internal_topics.iter().find(|topic| &*topic.name == name);
        topic.unwrap().configs.get(key).cloned().unwrap_or_default()
    };
    for store in ["orders-this-join", "orders-outer-other-join"] {
        let changelog = format!("app-{store}-store-changelog");
        assert_eq!(config(&changelog, "cleanup.policy"), "delete");
        assert_eq!(config(&changelog, "retention.ms"), (6 + 24 * 3600 * 1000).to_string());
    }
    let unmatched = "app-orders-left-shared-join-store-changelog";
    assert_eq!(config(unmatched, "cleanup.policy"), "compact");
    assert_eq!(plan.internal_topics.len(), 4);
}

#[test]
fn stores_may_be_in_memory_and_without_changelogs() {
    let topology = topology(|(left, right)| {
        let joined = StreamJoined::default().in_memory().with_logging_disabled();
        left.join_stream(right, |_, l, r| format!("{l}{r}"), windows(1, 2, 3), joined)
    });
    let counts = [("left".into(), 2), ("right".into(), 2)].into();
    assert!(topology.plan("app", &counts).unwrap().internal_topics.is_empty());
    let driver = TopologyTestDriver::new(topology).unwrap();
    assert_eq!(pipe(&driver, &["l k A 10", "r k b 11"]), ["Ab@11"]);
}

#[test]
fn topics_of_different_partition_counts_are_not_joined() {
    let topology = topology(|(left, right)| {
        let joined = StreamJoined::default();
        left.join_stream(right, |_, l, r| format!("{l}{r}"), windows(1, 2, 3), joined)
    });
    let counts = [("left".into(), 6), ("right".into(), 3)].into();
    let error = topology.plan("app", &counts).unwrap_err();
    assert!(error.message().contains("\"right\" (3 partitions)"), "{error}");
}

fn with_itself(optimization: TopologyOptimization) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<Key, String>("left");
    let join = |_: &Key, l: &String, r: &String| format!("{l}{r}");
    stream.join_stream(&stream, join, windows(5, 2, 0), StreamJoined::default()).to("out");
    builder.build_with(optimization).unwrap()
}

#[test]
fn stream_joined_with_itself_is_kept_once_if_that_is_allowed() {
    let records = ["l k a 10", "l k b 11", "l k c 16", "l k d 14", "l j e 14", "l k f 9"];
    let one = with_itself("single.store.self.join".parse().unwrap());
    let two = with_itself(TopologyOptimization::NONE);
    assert_eq!(one.describe().matches("-store").count(), 2, "one store of two nodes");
    assert_eq!(two.describe().matches("-store").count(), 4);
    let [one, two] = [one, two].map(|topology| {
        let mut results = pipe(&TopologyTestDriver::new(topology).unwrap(), &records);
        results.sort();
        results
    });
    assert_eq!(one, two);
    assert!(one.len() > 9, "{one:?}");
}

#[test]
fn aggregations_below_one_key_change_share_a_topic_if_that_is_allowed() {
    let build = |optimization| {
        let builder = StreamsBuilder::new();
        let rekeyed =
            builder.stream::<String, String>("left").select_key(|_, value| value[..1].to_owned());
        rekeyed.group_by_key().count().to_stream().to("counts");
        rekeyed.filter(|_, value| value.len() > 1).group_by_key().count().to_stream().to("long");
        // The value's type changes: this one keeps its own topic.
        rekeyed.map_values(|_, value| value.len() as i64).group_by_key().count();
        builder.build_with(optimization).unwrap()
    };
    let counts = [("left".into(), 2)].into();
    let topics = |topology: &Topology| {
        let plan = topology.plan("app", &counts).unwrap();
        let topics = plan.internal_topics.into_iter().map(|topic| topic.name.to_string());
        topics.filter(|topic| topic.ends_with("-repartition")).collect::<Vec<_>>()
    };
    assert_eq!(topics(&build(TopologyOptimization::NONE)).len(), 3);
    let merged = build(TopologyOptimization::ALL);
    assert_eq!(
        topics(&merged),
        [
            "app-KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition",
            "app-KSTREAM-AGGREGATE-STATE-STORE-0000000018-repartition"
        ]
    );
    let driver = TopologyTestDriver::new(merged).unwrap();
    let input = driver.input_topic::<String, String>("left");
    for value in ["a", "ab", "b", "ac"] {
        input.pipe("k".to_owned(), value.to_owned()).unwrap();
    }
    let read = |topic| driver.output_topic::<String, i64>(topic).read_key_values().unwrap();
    assert_eq!(read("counts").last(), Some(&("a".to_owned(), 3)));
    assert_eq!(read("long").last(), Some(&("a".to_owned(), 2)));
}

#[test]
fn table_has_its_topic_as_changelog_if_that_is_allowed() {
    let build = |optimization| {
        let builder = StreamsBuilder::new();
        let table = builder.table::<String, String>("right");
        let stream = builder.stream::<String, String>("left");
        stream.join(&table, |_, l, r| l + &r, kstreams::Joined::default()).to("out");
        builder.build_with(optimization).unwrap()
    };
    let counts = [("left".into(), 2), ("right".into(), 2)].into();
    let changelogs =
        |optimization| build(optimization).plan("app", &counts).unwrap().internal_topics.len();
    assert_eq!(changelogs(TopologyOptimization::NONE), 1);
    assert_eq!(changelogs(TopologyOptimization::ALL), 0);
    let driver = TopologyTestDriver::new(build(TopologyOptimization::ALL)).unwrap();
    driver.input_topic("right").pipe("k".to_owned(), "x".to_owned()).unwrap();
    driver.input_topic("left").pipe("k".to_owned(), "A".to_owned()).unwrap();
    let written: Vec<_> = driver.produced_topics().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(written, ["out".into()], "no changelog record");
}
