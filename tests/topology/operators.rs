//! The DSL's operators by behaviour.

use kstreams::testing::TopologyTestDriver;
use kstreams::{Joined, Repartitioned, StreamsBuilder, Timestamp};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn words_are_counted_across_a_repartition_topic() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("lines")
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone())
        .count()
        .to_stream()
        .to("counts");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let lines = driver.input_topic::<String, String>("lines");
    let counts = driver.output_topic::<String, i64>("counts");
    lines.pipe_at(text("x"), text("a b a"), at(5)).unwrap();
    lines.pipe_at(text("y"), text("b"), at(3)).unwrap();
    let records = counts.read_records().unwrap();
    let seen: Vec<_> =
        records.iter().map(|r| (r.key.as_str(), r.value, r.timestamp.as_millis())).collect();
    assert_eq!(seen, [("a", 1, 5), ("b", 1, 5), ("a", 2, 5), ("b", 2, 5)]);
}

#[test]
fn stream_joins_the_tables_current_value_and_drops_null_values() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("table");
    let stream = builder.stream::<Option<String>, Option<String>>("stream");
    let joiner = |_: &Option<String>, left: Option<String>, right: Option<String>| {
        format!("{}+{}", left.unwrap(), right.unwrap_or_else(|| text("null")))
    };
    stream.left_join(&table, joiner, Joined::default()).to("left");
    stream
        .join(&table, |_, left, right| format!("{}+{right}", left.unwrap()), Joined::default())
        .to("inner");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let table = driver.input_topic::<String, Option<String>>("table");
    let stream = driver.input_topic::<Option<String>, Option<String>>("stream");
    let read =
        |topic| driver.output_topic::<Option<String>, String>(topic).read_key_values().unwrap();
    let key = || Some(text("k"));
    stream.pipe(key(), Some(text("1"))).unwrap();
    table.pipe(text("k"), Some(text("A"))).unwrap();
    stream.pipe(key(), Some(text("2"))).unwrap();
    stream.pipe(key(), None).unwrap();
    table.pipe(text("k"), None).unwrap();
    stream.pipe(key(), Some(text("3"))).unwrap();
    stream.pipe(None, Some(text("4"))).unwrap();
    let expected = [(key(), "1+null"), (key(), "2+A"), (key(), "3+null"), (None, "4+null")];
    assert_eq!(read("left"), expected.map(|(key, value)| (key, text(value))));
    assert_eq!(read("inner"), [(key(), text("2+A"))]);
}

#[test]
fn stream_looks_up_a_global_table_by_any_key() {
    let builder = StreamsBuilder::new();
    let countries = builder.global_table::<String, String>("countries");
    builder
        .stream::<String, String>("orders")
        .join_global(
            &countries,
            |_, order| order[..2].to_owned(),
            |_, order, country| format!("{order} to {country}"),
        )
        .to("shipped");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let countries = driver.input_topic::<String, String>("countries");
    let orders = driver.input_topic::<String, String>("orders");
    countries.pipe(text("nl"), text("Netherlands")).unwrap();
    orders.pipe(text("1"), text("nl-tulips")).unwrap();
    orders.pipe(text("2"), text("de-beer")).unwrap();
    let shipped = driver.output_topic::<String, String>("shipped");
    assert_eq!(shipped.read_key_values().unwrap(), [(text("1"), text("nl-tulips to Netherlands"))]);
}

#[test]
fn merge_filter_map_and_repartition_keep_timestamps_and_order() {
    let builder = StreamsBuilder::new();
    let evens = builder.stream::<String, i64>("a").filter(|_, n| n % 2 == 0);
    let odds = builder.stream::<String, i64>("b").filter_not(|_, n| n % 2 == 0);
    evens
        .merge(&odds)
        .map(|key, n| (n, key))
        .repartition(Repartitioned::default().with_name("by-number"))
        .select_key(|n, _| n * 10)
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let (a, b) = (driver.input_topic::<String, i64>("a"), driver.input_topic("b"));
    for n in 1..=3 {
        a.pipe_at(text("a"), n, at(n)).unwrap();
        b.pipe_at(text("b"), n, at(n)).unwrap();
    }
    let out = driver.output_topic::<i64, String>("out").read_records().unwrap();
    let seen: Vec<_> =
        out.iter().map(|r| (r.key, r.value.as_str(), r.timestamp.as_millis())).collect();
    assert_eq!(seen, [(10, "b", 1), (20, "a", 2), (30, "b", 3)]);
}

#[test]
fn joined_topics_of_different_partition_counts_are_refused() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("table");
    builder
        .stream::<String, String>("stream")
        .join(&table, |_, left, right| left + &right, Joined::default())
        .to("out");
    let topology = builder.build().unwrap();
    let counts = [("table".into(), 3), ("stream".into(), 6)].into();
    let error = topology.plan("app", &counts).unwrap_err();
    assert!(error.message().contains("\"stream\" (6 partitions)"), "{error}");
    assert!(error.message().contains("\"table\" (3 partitions)"), "{error}");
}

#[test]
fn changed_key_is_repartitioned_before_a_join_to_the_tables_count() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("table");
    builder
        .stream::<String, String>("stream")
        .select_key(|_, value| value.clone())
        .join(
            &table,
            |_, left, right| left + &right,
            Joined::with(
                kstreams::serdes::DefaultSerde::serde(),
                kstreams::serdes::DefaultSerde::serde(),
            ),
        )
        .to("out");
    let topology = builder.build().unwrap();
    let counts = [("table".into(), 3), ("stream".into(), 6)].into();
    let plan = topology.plan("app", &counts).unwrap();
    assert_eq!(plan.tasks, [3, 6]);
    let names: Vec<_> =
        plan.internal_topics.iter().map(|topic| (&*topic.name, topic.partitions)).collect();
    assert_eq!(
        names,
        [
            ("app-KSTREAM-KEY-SELECT-0000000004-repartition", 3),
            ("app-table-STATE-STORE-0000000000-changelog", 3),
        ]
    );
}
