//! Processors of the user's own: what they may do, and how they are wired.

use std::sync::Arc;
use std::time::Duration;

use kstreams::processor::{
    ChildHandle, GlobalStoreHandle, PartitionChoice, StreamPartitioner, TimestampExtractor,
    WithStores,
};
use kstreams::serdes::DefaultSerde;
use kstreams::store::{KeyValueStore, StoreBuilder};
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::topology::{SourceOptions, StoreFeed};
use kstreams::{
    Consumed, FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Materialized, Named,
    Printed, Processor, ProcessorContext, Produced, PunctuationType, PunctuatorId, RawRecord,
    Record, Result, Stores, StreamsBuilder, Timestamp, Topology,
};

type Context<'c, 'f> = ProcessorContext<'c, 'f, String, i64>;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// Keeps the first record of each key, and forwards all that were kept when stream time reaches 100.
#[derive(Default)]
struct FirstOfKey {
    kept: Vec<FixedKeyRecord<String, i64>>,
    doubled: Option<ChildHandle>,
}

impl FixedKeyProcessor<String, i64, i64> for FirstOfKey {
    fn init(
        &mut self,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, String, i64>,
    ) -> Result<()> {
        self.doubled = Some(context.child("doubled")?);
        context.schedule_from(at(100), Duration::from_millis(50), PunctuationType::StreamTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        _: &mut FixedKeyProcessorContext<'_, '_, '_, String, i64>,
    ) -> Result<()> {
        if self.kept.iter().all(|kept| kept.key() != record.key()) {
            self.kept.push(record);
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        timestamp: Timestamp,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, String, i64>,
    ) -> Result<()> {
        let doubled = self.doubled.expect("init looked it up");
        for record in self.kept.drain(..) {
            let twice = record.clone().with_value(record.value * 2).with_timestamp(timestamp);
            context.forward_to(doubled, twice)?;
        }
        Ok(())
    }
}

#[test]
fn fixed_key_processor_forwards_kept_records_to_a_named_child_and_is_not_repartitioned() {
    let builder = StreamsBuilder::new();
    let first = builder.stream::<String, i64>("in").process_values(FirstOfKey::default, &[]);
    first.filter_named(|_, _| true, &Named::new("doubled")).group_by_key().count().to_stream();
    first.filter_named(|_, _| true, &Named::new("other")).to("other");
    first.filter_named(|_, _| true, &Named::new("not-reached")).to("not-reached");
    let topology = builder.build().unwrap();
    let described = topology.describe();
    assert!(described.contains("Processor: KSTREAM-PROCESSVALUES-0000000001 (stores: [])"));
    assert!(!described.contains("repartition"), "{described}");

    let driver = TopologyTestDriver::new(topology).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for (key, value, time) in [("a", 1, 10), ("b", 2, 20), ("a", 3, 30), ("c", 4, 99)] {
        input.pipe_at(text(key), value, at(time)).unwrap();
    }
    let counted = || driver.with_store("KSTREAM-AGGREGATE-STATE-STORE-0000000003", counts).unwrap();
    assert!(counted().is_empty());
    input.pipe_at(text("c"), 4, at(100)).unwrap();
    assert_eq!(counted(), [(text("a"), 1), (text("b"), 1), (text("c"), 1)]);
    assert_eq!(driver.read_raw("other"), None);
}

fn counts(store: &mut KeyValueStore<String, i64>) -> Vec<(String, i64)> {
    store.all().unwrap().map(|entry| entry.unwrap()).collect()
}

/// Notes when it was punctuated.
struct Anchored {
    kind: PunctuationType,
    start: i64,
}

impl Processor<String, i64, String, i64> for Anchored {
    fn init(&mut self, context: &mut Context<'_, '_>) -> Result<()> {
        context.schedule_from(at(self.start), Duration::from_millis(10), self.kind);
        Ok(())
    }

    fn process(&mut self, _: Record<String, i64>, _: &mut Context<'_, '_>) -> Result<()> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        timestamp: Timestamp,
        context: &mut Context<'_, '_>,
    ) -> Result<()> {
        context.forward(Record::new(text("due"), timestamp.as_millis(), timestamp))
    }
}

fn anchored(kind: PunctuationType, start: i64, wall_clock_start: i64) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, i64>("in")
        .process::<String, i64, _>(move || Anchored { kind, start }, &[])
        .to("out");
    let settings = TestSettings { start: at(wall_clock_start), ..TestSettings::default() };
    TopologyTestDriver::with_settings(builder.build().unwrap(), settings).unwrap()
}

fn due(driver: &TopologyTestDriver) -> Vec<i64> {
    let out = driver.output_topic::<String, i64>("out");
    out.read_key_values().unwrap().into_iter().map(|(_, time)| time).collect()
}

#[test]
fn anchored_punctuation_on_stream_time_begins_at_its_start() {
    let driver = anchored(PunctuationType::StreamTime, 25, 0);
    let input = driver.input_topic::<String, i64>("in");
    let mut seen = Vec::new();
    for time in [0, 24, 25, 34, 35, 61, 64, 65] {
        input.pipe_at(text("k"), 0, at(time)).unwrap();
        seen.extend(due(&driver));
    }
    assert_eq!(seen, [25, 35, 61, 65]);
}

#[test]
fn anchored_punctuation_whose_start_is_past_comes_at_the_next_time_after_now() {
    // 30 is one of the times, but it is now: the next one counts.
    for (now, first) in [(30, 40), (31, 40), (39, 40), (5, 10)] {
        let driver = anchored(PunctuationType::WallClockTime, 0, now);
        assert!(due(&driver).is_empty());
        for time in now + 1..=first {
            driver.advance_wall_clock_time(Duration::from_millis(1)).unwrap();
            let expected = if time == first { vec![first] } else { Vec::new() };
            assert_eq!(due(&driver), expected, "start 0, now {now}, wall clock {time}");
        }
    }
    let driver = anchored(PunctuationType::WallClockTime, 30, 30);
    driver.advance_wall_clock_time(Duration::ZERO).unwrap();
    assert_eq!(due(&driver), [30], "a start that is now is due now");
}

/// Sends to as many of the first partitions as the value says; a negative value leaves it to the key.
struct ToFirst;

impl StreamPartitioner<String, i64> for ToFirst {
    fn partition(&self, _: &str, _: &String, _: &i64, _: i32) -> Option<i32> {
        None
    }

    fn partitions(
        &self,
        _: &str,
        _: &String,
        value: &i64,
        _: i32,
        chosen: &mut Vec<i32>,
    ) -> PartitionChoice {
        if *value < 0 {
            return PartitionChoice::ByKey;
        }
        let count = i32::try_from(*value).unwrap();
        chosen.extend((0..count).chain(0..count));
        PartitionChoice::Chosen
    }
}

#[test]
fn partitioner_sends_to_several_partitions_once_each_or_drops() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, i64>("in")
        .to_with("out", Produced::default().with_stream_partitioner(ToFirst));
    let settings = TestSettings { output_partitions: 3, ..TestSettings::default() };
    let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), settings).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    let out = driver.output_topic::<String, i64>("out");
    for (value, copies) in [(-1, 1), (0, 0), (1, 1), (3, 3), (4, 0)] {
        input.pipe(text("k"), value).unwrap();
        assert_eq!(out.read_key_values().unwrap().len(), copies, "{value}");
    }
    // Partition 3 does not exist: the record is a dead letter.
    assert_eq!(driver.read_raw("test-in-dlq").map(|record| record.offset), Some(0));
    assert_eq!(driver.read_raw("test-in-dlq"), None);
}

/// Adds the record's value to a store that two processors share.
struct AddTo(i64);

impl Processor<String, i64, String, i64> for AddTo {
    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, '_>,
    ) -> Result<()> {
        let handle = context.state_store::<KeyValueStore<String, i64>>("sums")?;
        let store = context.store(handle);
        let sum = store.get(&record.key)?.unwrap_or(0) + self.0 * record.value;
        store.put(&record.key, &sum)?;
        context.forward(record.with_value(sum))
    }
}

#[test]
fn suppliers_bring_a_store_and_share_it_by_its_builder() {
    let sums: Arc<dyn StoreBuilder> = Arc::new(Stores::key_value_store::<String, i64>("sums"));
    let builder = StreamsBuilder::new();
    let bring = |factor| WithStores::new(move || AddTo(factor), [sums.clone()]);
    let plus = builder.stream::<String, i64>("plus");
    plus.process_named::<String, i64, _>(bring(1), &Named::new("add"), &[]).to("out");
    let minus = builder.stream::<String, i64>("minus");
    minus.process_named::<String, i64, _>(bring(-1), &Named::new("subtract"), &[]).to("out2");
    let topology = builder.build().unwrap();
    assert_eq!(topology.subtopologies().len(), 1, "a shared store joins subtopologies");
    let driver = TopologyTestDriver::new(topology).unwrap();
    driver.input_topic("plus").pipe(text("k"), 5_i64).unwrap();
    driver.input_topic("minus").pipe(text("k"), 2_i64).unwrap();
    let out = driver.output_topic::<String, i64>("out2").read_key_values().unwrap();
    assert_eq!(out, [(text("k"), 3)]);
}

#[test]
fn two_stores_of_one_name_are_refused() {
    let bring = || {
        let sums: Arc<dyn StoreBuilder> = Arc::new(Stores::key_value_store::<String, i64>("sums"));
        WithStores::new(|| AddTo(1), [sums])
    };
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("a").process::<String, i64, _>(bring(), &[]);
    builder.stream::<String, i64>("b").process::<String, i64, _>(bring(), &[]);
    let error = builder.build().err().unwrap();
    assert!(error.message().contains("store \"sums\" was already added"), "{error}");
}

/// Keeps rates above zero only.
struct KeepPositive;

impl Processor<String, i64, (), ()> for KeepPositive {
    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, (), ()>,
    ) -> Result<()> {
        let handle = context.state_store::<KeyValueStore<String, i64>>("rates")?;
        let store = context.store(handle);
        if record.value > 0 {
            store.put(&record.key, &record.value)
        } else {
            store.delete(&record.key).map(drop)
        }
    }
}

/// Looks values up in the global store.
#[derive(Default)]
struct Rate(Option<GlobalStoreHandle<KeyValueStore<String, i64>>>);

impl Processor<String, i64, String, i64> for Rate {
    fn init(&mut self, context: &mut Context<'_, '_>) -> Result<()> {
        assert!(context.global_store::<KeyValueStore<i64, i64>>("rates").is_err());
        self.0 = Some(context.global_store("rates")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, '_>,
    ) -> Result<()> {
        let rate = self.0.as_ref().expect("init looked it up").get(&record.key)?.unwrap_or(1);
        let value = record.value * rate;
        context.forward(record.with_value(value))
    }
}

#[test]
fn global_store_is_fed_by_a_processor_and_read_by_others() {
    let builder = StreamsBuilder::new();
    let store = Stores::key_value_store::<String, i64>("rates");
    builder.add_global_store(store, "rates", Consumed::default(), || KeepPositive);
    builder.stream::<String, i64>("in").process::<String, i64, _>(Rate::default, &[]).to("out");
    let topology = builder.build().unwrap();
    let described = topology.describe();
    assert!(described.contains("Sub-topology: 0 for global store (will not generate tasks)\n    Source: KSTREAM-SOURCE-0000000000 (topics: [rates])\n      --> KTABLE-SOURCE-0000000001\n    Processor: KTABLE-SOURCE-0000000001 (stores: [rates])\n"), "{described}");
    let driver = TopologyTestDriver::new(topology).unwrap();
    let (rates, input) = (driver.input_topic::<String, i64>("rates"), driver.input_topic("in"));
    for rate in [10, -3] {
        rates.pipe(text("k"), rate).unwrap();
        input.pipe(text("k"), 2_i64).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    assert_eq!(out, [(text("k"), 20), (text("k"), 2)]);
}

/// Looks values up in the read-only store.
struct LocalRate;

impl Processor<String, i64, String, i64> for LocalRate {
    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, '_>,
    ) -> Result<()> {
        let handle = context.state_store::<KeyValueStore<String, i64>>("rates")?;
        let rate = context.store(handle).get(&record.key)?.unwrap_or(1);
        let value = record.value * rate;
        context.forward(record.with_value(value))
    }
}

#[test]
fn read_only_store_has_its_topic_as_changelog() {
    let mut topology = Topology::new();
    let feed = StoreFeed {
        source_name: "rates-source".to_owned(),
        topic: "rates".to_owned(),
        key_serde: String::serde(),
        value_serde: i64::serde(),
        options: SourceOptions::default(),
        processor_name: "rates-keeper".to_owned(),
    };
    let store = Stores::key_value_store::<String, i64>("rates");
    topology.add_read_only_state_store(store, feed, || KeepPositive).unwrap();
    let (key, value) = (String::serde(), i64::serde());
    topology.add_source("in", &["in"], key.clone(), value.clone(), Default::default()).unwrap();
    let read = || LocalRate;
    topology.add_processor::<String, i64, _, _, _>("read", read, &["in"], &["rates"]).unwrap();
    topology.add_sink("out", "out", key, value, None, &["read"]).unwrap();
    let counts = [("rates".into(), 2), ("in".into(), 2)].into();
    assert!(topology.plan("app", &counts).unwrap().internal_topics.is_empty());
    assert_eq!(topology.subtopologies().len(), 1);

    let driver = TopologyTestDriver::new(topology).unwrap();
    let (rates, input) = (driver.input_topic::<String, i64>("rates"), driver.input_topic("in"));
    rates.pipe(text("k"), 10).unwrap();
    input.pipe(text("k"), 2_i64).unwrap();
    driver.restart().unwrap();
    input.pipe(text("k"), 3_i64).unwrap();
    let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    assert_eq!(out, [(text("k"), 20), (text("k"), 30)]);
}

/// The value is the event time.
struct FromValue;

impl TimestampExtractor<String, i64> for FromValue {
    fn extract(
        &self,
        _: &RawRecord,
        _: &String,
        value: &i64,
        _: Option<Timestamp>,
    ) -> Result<Timestamp> {
        Ok(at(*value))
    }
}

#[test]
fn timestamp_extractor_of_a_table_is_asked_but_for_tombstones() {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::default().with_timestamp_extractor(FromValue);
    let table = builder.table_with::<String, i64>("in", consumed, Materialized::named("kept"));
    table.to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, Option<i64>>("in");
    input.pipe_at(text("k"), Some(77), at(1)).unwrap();
    input.pipe_at(text("k"), None, at(2)).unwrap();
    let out = driver.output_topic::<String, Option<i64>>("out").read_records().unwrap();
    let times: Vec<i64> = out.iter().map(|record| record.timestamp.as_millis()).collect();
    assert_eq!(times, [77, 2]);
}

#[test]
fn records_are_printed_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("printed.txt");
    let path = path.to_str().unwrap();
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    stream.print(Printed::to_file(path).unwrap().with_label("amounts"));
    let topology = builder.build().unwrap();
    assert!(topology.describe().contains("Processor: KSTREAM-PRINTER-0000000001 (stores: [])"));
    let driver = TopologyTestDriver::new(topology).unwrap();
    driver.input_topic("in").pipe(text("k"), 5_i64).unwrap();
    driver.input_topic("in").pipe(text("l"), 6_i64).unwrap();
    driver.close().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "[amounts]: k, 5\n[amounts]: l, 6\n");
    assert!(Printed::<String, i64>::to_file("/").is_err());
}
