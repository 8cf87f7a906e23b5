//! Sources by pattern and offset reset policies: what is matched, refused and described.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::testing::TopologyTestDriver;
use kstreams::topology::SourceOptions;
use kstreams::{
    AutoOffsetReset, Consumed, FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Result,
    StreamsBuilder, TopicPattern, Topology,
};

fn pattern(text: &str) -> TopicPattern {
    TopicPattern::new(text).unwrap()
}

/// Puts the record's topic and offset in front of its value.
struct Origin;

impl FixedKeyProcessor<String, String, String> for Origin {
    fn process(
        &mut self,
        record: FixedKeyRecord<String, String>,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, String, String>,
    ) -> Result<()> {
        let origin = context.record_metadata().unwrap();
        let text = format!("{}@{}:{}", origin.topic, origin.offset, record.value);
        context.forward(record.with_value(text))
    }
}

#[test]
fn topics_of_a_pattern_join_when_their_first_record_comes() {
    let builder = StreamsBuilder::new();
    builder
        .stream_matching::<String, String>(pattern("orders-.*"), Consumed::default())
        .process_values(|| Origin, &[])
        .to("out");
    builder.stream::<String, String>("names").to("orders-names");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (topic, value) in [("orders-de", "1"), ("orders-fr", "2"), ("orders-de", "3")] {
        driver.input_topic::<String, String>(topic).pipe("k".into(), value.into()).unwrap();
    }
    // What the topology itself writes to such a topic, too.
    driver.input_topic::<String, String>("names").pipe("k".into(), "4".into()).unwrap();
    let out = driver.output_topic::<String, String>("out").read_key_values().unwrap();
    let values: Vec<String> = out.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["orders-de@0:1", "orders-fr@0:2", "orders-de@1:3", "orders-names@0:4"]);
    let other = driver.input_topic::<String, String>("my-orders-de");
    let error = other.pipe("k".into(), "5".into()).unwrap_err();
    assert!(error.message().contains("does not read topic \"my-orders-de\""), "{error}");
}

#[test]
fn what_comes_of_a_pattern_can_be_repartitioned() {
    let builder = StreamsBuilder::new();
    builder
        .stream_matching::<String, String>(pattern("orders-.*"), Consumed::default())
        .group_by(|_, value| value.clone())
        .count()
        .to_stream()
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for topic in ["orders-de", "orders-fr"] {
        driver.input_topic::<String, String>(topic).pipe("k".into(), "v".into()).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    assert_eq!(out, [("v".to_owned(), 1), ("v".to_owned(), 2)]);
}

#[test]
fn a_pattern_never_matches_what_the_application_makes_for_itself() {
    let builder = StreamsBuilder::new();
    builder
        .stream_matching::<String, String>(pattern(".*"), Consumed::default())
        .peek(|_, value| assert_ne!(value, "bad", "refused"))
        .group_by_key()
        .count();
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, String>("in");
    for value in ["good", "bad"] {
        input.pipe("k".into(), value.into()).unwrap();
    }
    let produced: Vec<(String, usize)> = driver
        .produced_topics()
        .into_iter()
        .map(|(topic, records)| (topic.to_string(), records))
        .collect();
    // Neither the changelog nor the dead letter came back, to be counted and refused.
    let changelog = "test-KSTREAM-AGGREGATE-STATE-STORE-0000000002-changelog";
    assert_eq!(produced, [(changelog.to_owned(), 1), ("test-in-dlq".to_owned(), 1)]);
}

#[test]
fn equal_patterns_are_one_source_and_describe_shows_the_pattern() {
    let builder = StreamsBuilder::new();
    for output in ["one", "two"] {
        builder
            .stream_matching::<String, String>(pattern("t-[0-9]+"), Consumed::default())
            .to(output);
    }
    // The text of Kafka Streams 4.3.1 for `builder.stream(Pattern.compile("t-[0-9]+")).to(…)`, twice.
    let expected = "Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: t-[0-9]+)
      --> KSTREAM-SINK-0000000001, KSTREAM-SINK-0000000003
    Sink: KSTREAM-SINK-0000000001 (topic: one)
      <-- KSTREAM-SOURCE-0000000000
    Sink: KSTREAM-SINK-0000000003 (topic: two)
      <-- KSTREAM-SOURCE-0000000000

";
    assert_eq!(builder.build().unwrap().describe(), expected);
}

#[test]
fn a_topic_has_one_source_at_most() {
    let refused = |build: fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        build(&builder);
        builder.build().err().unwrap().message().to_owned()
    };
    let named_first = refused(|builder| {
        builder.stream::<String, String>("orders-de").to("one");
        builder
            .stream_matching::<String, String>(pattern("orders-.."), Consumed::default())
            .to("two");
    });
    assert!(named_first.contains("\"orders-..\" of source"), "{named_first}");
    let pattern_first = refused(|builder| {
        builder
            .stream_matching::<String, String>(pattern("orders-.."), Consumed::default())
            .to("one");
        builder.table::<String, String>("orders-de");
    });
    assert!(pattern_first.contains("matches pattern \"orders-..\""), "{pattern_first}");
    let types = refused(|builder| {
        let same = pattern("orders-..");
        builder.stream_matching::<String, String>(same.clone(), Consumed::default()).to("one");
        builder.stream_matching::<String, i64>(same, Consumed::default()).to("two");
    });
    assert!(types.contains("same topics with the same types"), "{types}");
}

#[test]
fn a_topology_without_a_matched_topic_has_no_task_and_makes_no_topic() {
    let builder = StreamsBuilder::new();
    builder
        .stream_matching::<String, String>(pattern("orders-.*"), Consumed::default())
        .group_by(|_, value| value.clone())
        .count();
    let topology = builder.build().unwrap();
    let plan = topology.plan("app", &BTreeMap::new()).unwrap();
    assert_eq!((plan.task_ids().count(), plan.internal_topics.len()), (0, 0));
}

#[test]
fn different_reset_policies_of_one_topic_are_refused() {
    let build = |policies: [Option<AutoOffsetReset>; 2], by_pattern: bool| {
        let builder = StreamsBuilder::new();
        for policy in policies {
            let mut consumed = Consumed::<String, String>::default();
            if let Some(policy) = policy {
                consumed = consumed.with_offset_reset_policy(policy);
            }
            if by_pattern {
                builder.stream_matching(pattern("in.*"), consumed).to("out");
            } else {
                builder.stream_with(&["in"], consumed).to("out");
            }
        }
        builder.build()
    };
    let day = |days: u64| AutoOffsetReset::ByDuration(Duration::from_secs(days * 24 * 60 * 60));
    let (latest, earliest) = (AutoOffsetReset::Latest, AutoOffsetReset::Earliest);
    for by_pattern in [false, true] {
        // Java, too, refuses a policy beside none, even where none means the same.
        for policies in [[Some(latest), None], [Some(earliest), None], [Some(day(1)), Some(day(2))]]
        {
            let error = build(policies, by_pattern).err().unwrap();
            assert!(error.message().contains("different offset reset policies"), "{error}");
        }
        for policy in [None, Some(latest), Some(day(1)), Some(AutoOffsetReset::None)] {
            assert!(build([policy, policy], by_pattern).is_ok());
        }
    }
}

#[test]
fn sources_by_pattern_can_be_added_by_hand() {
    let mut topology = Topology::new();
    let (key, value) = (String::serde(), String::serde());
    let options =
        SourceOptions { offset_reset: Some(AutoOffsetReset::Latest), ..SourceOptions::default() };
    let matching = pattern("in-.*");
    topology.add_source_matching("source", matching, key.clone(), value.clone(), options).unwrap();
    topology.add_sink("sink", "out", key, value, None, &["source"]).unwrap();
    let driver = TopologyTestDriver::new(topology).unwrap();
    driver.input_topic::<String, String>("in-1").pipe("k".into(), "v".into()).unwrap();
    let produced = driver.produced_topics();
    assert_eq!(produced, [(Arc::from("out"), 1)]);
}
