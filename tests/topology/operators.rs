//! The DSL's operators by behaviour.

use kstreams::testing::TopologyTestDriver;
use kstreams::{Grouped, Joined, Materialized, Named, Repartitioned, StreamsBuilder, Timestamp};

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

#[test]
fn a_reduction_to_null_deletes_the_key_and_the_next_value_starts_again() {
    let builder = StreamsBuilder::new();
    let join = |one: String, two: String| (two != "x").then(|| one + &two);
    let grouped = builder.stream::<String, String>("in").group_by_key();
    grouped.reduce(join, Materialized::default()).to_stream().to("stream");
    let table = builder.table::<String, String>("rows");
    table
        .group_by(|_, row| (text("all"), row.clone()), Grouped::default())
        .reduce(join, |_, _| None::<String>, &Named::default(), Materialized::default())
        .to_stream()
        .to("table");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for value in ["a", "b", "x", "c"] {
        driver.input_topic::<String, String>("in").pipe(text("k"), text(value)).unwrap();
        driver.input_topic::<String, String>("rows").pipe(text("k"), text(value)).unwrap();
    }
    let read = |topic| driver.output_topic::<String, Option<String>>(topic).read_key_values();
    let values =
        |topic| -> Vec<_> { read(topic).unwrap().into_iter().map(|(_, value)| value).collect() };
    let some = |value: &str| Some(text(value));
    assert_eq!(values("stream"), [some("a"), some("ab"), None, some("c")]);
    // Each row takes the former one's place: its subtraction leaves nothing.
    assert_eq!(values("table"), [some("a"), some("b"), some("x"), some("c")]);
}

#[test]
fn aggregations_of_a_named_grouping_share_one_repartition_topic() {
    let builder = StreamsBuilder::new();
    let lines = builder.stream::<String, String>("lines");
    let named = Grouped::default().with_name("words");
    let words = lines.group_by_with(|_, line| line.clone(), named);
    let sum = |one: String, two: String| one + &two;
    words.count_named(&Named::new("counted"), Materialized::default()).to_stream().to("counts");
    words.reduce_named(sum, &Named::new("reduced"), Materialized::default()).to_stream().to("sums");
    let topology = builder.build().unwrap();
    let described = topology.describe();
    assert_eq!(described.matches("Sink: words-repartition-sink").count(), 1, "{described}");
    assert!(described.contains("--> counted, reduced\n"), "{described}");
    let driver = TopologyTestDriver::new(topology).unwrap();
    driver.input_topic::<String, String>("lines").pipe(text("1"), text("a")).unwrap();
    let counts = driver.output_topic::<String, i64>("counts").read_key_values().unwrap();
    assert_eq!(counts, [(text("a"), 1)]);
}

#[test]
fn a_record_with_a_negative_timestamp_is_not_piped() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("in").to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, String>("in");
    let error = input.pipe_at(text("k"), text("v"), at(-1)).unwrap_err();
    assert!(error.message().contains("found timestamp -1"), "{error}");
    input.pipe_at(text("k"), text("v"), at(0)).unwrap();
}

#[test]
fn a_repartitions_number_of_partitions_need_not_be_the_drivers() {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("table");
    let four = Repartitioned::default().with_number_of_partitions(4);
    let stream = builder.stream::<String, String>("stream").repartition(four);
    stream.join(&table, |_, left, right| left + &right, Joined::default()).to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    driver.input_topic::<String, String>("table").pipe(text("k"), text("b")).unwrap();
    driver.input_topic::<String, String>("stream").pipe(text("k"), text("a")).unwrap();
    let out = driver.output_topic::<String, String>("out").read_key_values().unwrap();
    assert_eq!(out, [(text("k"), text("ab"))]);
}

#[test]
fn names_that_no_topic_could_have_are_refused_when_the_topology_is_built() {
    let refused = |name: &str| {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, String>("in");
        stream.filter_named(|_, _| true, &Named::new(name)).to("out");
        let found = builder.build().err().map(|error| error.message().to_owned());
        let store = StreamsBuilder::new();
        let table = store.table::<String, String>("in");
        let kept = Some(Materialized::named(name));
        table.filter_with(|_, _| true, &Named::default(), kept).to_stream().to("out");
        assert_eq!(found.is_some(), store.build().is_err(), "{name}");
        found
    };
    for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
        let message = refused(name).unwrap_or_default();
        assert!(message.contains(&format!("found the name \"{name}\"")), "{name}: {message}");
    }
    for name in ["a", "...", "A-b_c.9", &"x".repeat(249)] {
        assert_eq!(refused(name), None, "{name}");
    }
}
