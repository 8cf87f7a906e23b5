//! Tables whose rows live for a time, against a plain map, with failed records, aborted transactions and restarts in between.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Consumed, Grouped, Headers, Joined, Materialized, Named, Processor, ProcessorContext,
    RawRecord, Record, Result, StoreHandle, Stores, StreamsBuilder, TimeWindows, Timestamp,
    Topology, TopologyOptimization,
};
use proptest::prelude::*;

const TTL: i64 = 20;
/// A record of this value fails below the table.
const REFUSED: i64 = 7;

fn ttl() -> Duration {
    Duration::from_millis(TTL.unsigned_abs())
}

/// A table whose rows expire: as a stream, summed up over all keys, joined with another table and summed up, and looked up by a stream.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let kept = Materialized::<String, i64>::named("kept").with_ttl(ttl());
    let table = builder.table_with("in", Consumed::default(), kept);
    let right = builder.table::<String, i64>("right");
    table.to_stream().to("out");
    let sum = |table: &kstreams::KTable<String, i64>, topic: &str| {
        table
            .group_by(
                |_, value| {
                    assert_ne!(*value, REFUSED, "refused");
                    ("all".to_owned(), *value)
                },
                Grouped::with(String::serde(), i64::serde()),
            )
            .aggregate(
                || 0,
                |_, value, sum| Some(sum + value),
                |_, value, sum| Some(sum - value),
                &Named::default(),
                Materialized::default(),
            )
            .to_stream()
            .to(topic);
    };
    sum(&table, "sum");
    sum(&table.join(&right, |left, right| left + 100 * right), "joined-sum");
    builder
        .stream::<String, i64>("look")
        .left_join(&table, |_, _, row: Option<i64>| row.unwrap_or(-1), Joined::default())
        .to("seen");
    builder.build().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Topic {
    In,
    Right,
    Look,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Abort,
    Restart,
}

#[derive(Debug, Clone)]
struct Input {
    topic: Topic,
    key: String,
    value: Option<i64>,
    time: i64,
    trouble: Trouble,
}

/// Key, value and time.
type Forwarded = (String, Option<i64>, i64);

#[derive(Default)]
struct Model {
    now: i64,
    rows: BTreeMap<String, (i64, i64)>,
    right: BTreeMap<String, i64>,
}

impl Model {
    /// What the table forwards: because of the record itself, and what has expired.
    fn take(&mut self, input: &Input) -> [Vec<Forwarded>; 2] {
        self.now = self.now.max(input.time);
        let (key, is_refused) = (input.key.clone(), input.value == Some(REFUSED));
        let mut out = Vec::new();
        match (input.topic, input.value) {
            (Topic::In, _) if is_refused && input.time + TTL > self.now => {}
            (Topic::In, value) => {
                if let Some((_, at)) = self.rows.get(&key).filter(|(_, at)| at + TTL <= self.now) {
                    out.push((key.clone(), None, at + TTL));
                    self.rows.remove(&key);
                }
                match value {
                    None => {
                        self.rows.remove(&key);
                        out.push((key, None, input.time));
                    }
                    Some(value) if input.time + TTL > self.now => {
                        self.rows.insert(key.clone(), (value, input.time));
                        out.push((key, Some(value), input.time));
                    }
                    Some(_) => {}
                }
            }
            (Topic::Right, value) => {
                self.right.remove(&key);
                self.right.extend(value.map(|value| (key, value)));
            }
            (Topic::Look, _) => {}
        }
        let now = self.now;
        let mut expired = Vec::new();
        self.rows.retain(|key, (_, at)| {
            let is_alive = *at + TTL > now;
            if !is_alive {
                expired.push((key.clone(), None, *at + TTL));
            }
            is_alive
        });
        [out, expired]
    }

    fn alive(&self, key: &str) -> Option<i64> {
        self.rows.get(key).filter(|(_, at)| at + TTL > self.now).map(|(value, _)| *value)
    }

    fn sum(&self) -> i64 {
        self.rows.values().map(|(value, _)| value).sum()
    }

    fn joined_sum(&self) -> i64 {
        let both =
            |(key, (value, _)): (&String, &(i64, i64))| Some(value + 100 * self.right.get(key)?);
        self.rows.iter().filter_map(both).sum()
    }
}

fn record(input: &Input) -> (&'static str, RawRecord) {
    let topic = match input.topic {
        Topic::In => "in",
        Topic::Right => "right",
        Topic::Look => "look",
    };
    let record = RawRecord {
        offset: 0,
        timestamp: Timestamp::from_millis(input.time),
        key: Some(Bytes::from(input.key.clone())),
        value: input.value.map(|value| Bytes::copy_from_slice(&value.to_be_bytes())),
        headers: Headers::default(),
    };
    (topic, record)
}

fn check(inputs: &[Input]) -> std::result::Result<(), TestCaseError> {
    let driver = TopologyTestDriver::new(topology()).unwrap();
    let out = driver.output_topic::<String, Option<i64>>("out");
    let seen = driver.output_topic::<String, i64>("seen");
    let sums = ["sum", "joined-sum"].map(|topic| driver.output_topic::<String, i64>(topic));
    let mut last = [0, 0];
    let mut model = Model::default();
    for (step, input) in inputs.iter().enumerate() {
        let (topic, raw) = record(input);
        match input.trouble {
            Trouble::None => {}
            Trouble::Restart => driver.restart().unwrap(),
            Trouble::Abort => {
                // Everything expires in what is aborted.
                let mut later = raw.clone();
                later.timestamp = Timestamp::from_millis(input.time + 1_000);
                driver.pipe_batch_and_abort(topic, [raw.clone(), later]).unwrap();
            }
        }
        driver.pipe_batch(topic, [raw]).unwrap();
        let [own, expired] = model.take(input);
        let found = out.read_records().unwrap();
        let found: Vec<Forwarded> =
            found.into_iter().map(|r| (r.key, r.value, r.timestamp.as_millis())).collect();
        prop_assert_eq!(found.len(), own.len() + expired.len(), "step {}: {:?}", step, found);
        let (first, rest) = found.split_at(own.len());
        prop_assert_eq!(first, own, "step {}", step);
        // What expires in one go comes by the time at which that was seen.
        let mut rest = rest.to_vec();
        rest.sort();
        prop_assert_eq!(rest, expired, "step {}", step);
        for ((sum, last), wanted) in
            sums.iter().zip(&mut last).zip([model.sum(), model.joined_sum()])
        {
            *last = sum.read_key_values().unwrap().last().map_or(*last, |(_, sum)| *sum);
            prop_assert_eq!(*last, wanted, "step {}", step);
        }
        let seen = seen.read_key_values().unwrap();
        let looks = input.topic == Topic::Look;
        let wanted = looks.then(|| (input.key.clone(), model.alive(&input.key).unwrap_or(-1)));
        prop_assert_eq!(seen, Vec::from_iter(wanted), "step {}", step);
    }
    let mut logged = BTreeMap::new();
    while let Some(record) = driver.read_raw("test-kept-changelog") {
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        match record.value {
            None => drop(logged.remove(&key)),
            Some(_) => drop(logged.insert(key, record.timestamp.as_millis())),
        }
    }
    let kept = model.rows.into_iter().map(|(key, (_, at))| (key, at)).collect();
    prop_assert_eq!(logged, kept);
    Ok(())
}

fn input() -> impl Strategy<Value = (Topic, String, Option<i64>, i64, i64, Trouble)> {
    let topic = prop_oneof![5 => Just(Topic::In), 2 => Just(Topic::Right), 2 => Just(Topic::Look)];
    let key = prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned);
    let value = prop_oneof![6 => (1..9_i64).prop_map(Some), 1 => Just(None)];
    let trouble = prop_oneof![
        6 => Just(Trouble::None), 1 => Just(Trouble::Abort), 1 => Just(Trouble::Restart),
    ];
    (topic, key, value, 0..9_i64, 0..50_i64, trouble)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn rows_expire_as_the_model_says_whatever_is_aborted_or_restarted(
        steps in prop::collection::vec(input(), 1..50),
    ) {
        let mut now = 0;
        let input = |(topic, key, value, step, back, trouble): (_, _, Option<i64>, _, i64, _)| {
            now += step;
            // Every other record is late, perhaps by more than it lives.
            let time = if back % 2 == 0 { now } else { (now - back).max(0) };
            // A stream of numbers has no null: such a record would not be one of it.
            let value = if topic == Topic::Look { Some(value.unwrap_or(1)) } else { value };
            Input { topic, key, value, time, trouble }
        };
        let inputs: Vec<Input> = steps.into_iter().map(input).collect();
        check(&inputs)?;
    }
}

#[test]
fn an_aggregate_that_has_expired_begins_anew_and_downstream_is_told() {
    let builder = StreamsBuilder::new();
    let counts = Materialized::<String, i64>::named("counts").with_ttl(ttl()).in_memory();
    builder.stream::<String, i64>("in").group_by_key().count_with(counts).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for time in [0, 19, 30, 38, 58] {
        input.pipe_at("a".to_owned(), 1, Timestamp::from_millis(time)).unwrap();
    }
    let out = driver.output_topic::<String, Option<i64>>("out").read_records().unwrap();
    let found: Vec<_> = out.iter().map(|r| (r.value, r.timestamp.as_millis())).collect();
    // Each record gives it another 20 ms.
    assert_eq!(
        found,
        [(Some(1), 0), (Some(2), 19), (Some(3), 30), (Some(4), 38), (None, 58), (Some(1), 58)]
    );
}

#[test]
fn many_rows_expire_some_with_each_record_and_all_in_the_end() {
    let builder = StreamsBuilder::new();
    let kept = Materialized::<String, i64>::named("kept").with_ttl(ttl());
    builder.table_with("in", Consumed::default(), kept).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for key in 0..1_000 {
        input.pipe_at(format!("{key}"), 1, Timestamp::from_millis(0)).unwrap();
    }
    let out = driver.output_topic::<String, Option<i64>>("out");
    out.read_records().unwrap();
    let mut gone = Vec::new();
    for _ in 0..5 {
        input.pipe_at("new".to_owned(), 1, Timestamp::from_millis(TTL)).unwrap();
        let records = out.read_records().unwrap();
        gone.push(records.iter().filter(|record| record.value.is_none()).count());
    }
    assert_eq!(gone, [256, 256, 256, 232, 0]);
}

/// Answers with what it has kept of a key.
#[derive(Default)]
struct Remember(Option<StoreHandle<KeyValueStore<String, i64>>>);

impl Processor<String, i64, String, i64> for Remember {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, i64>) -> Result<()> {
        self.0 = Some(context.state_store("seen")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let store = context.store(self.0.unwrap());
        let before = store.put_if_absent(&record.key, &record.value)?;
        context.forward(Record { value: before.unwrap_or(0), ..record })
    }
}

#[test]
fn a_processors_store_forgets_without_telling_and_logs_it() {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<String, i64>("seen").with_ttl(ttl()));
    builder
        .stream::<String, i64>("in")
        .process::<String, i64, _>(Remember::default, &["seen"])
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for (key, value, time) in [("a", 1, 0), ("a", 2, 19), ("b", 3, 20), ("a", 4, 20), ("a", 5, 39)]
    {
        input.pipe_at(key.to_owned(), value, Timestamp::from_millis(time)).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    let values: Vec<_> = out.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [0, 1, 0, 0, 4]);
    let mut logged = Vec::new();
    while let Some(record) = driver.read_raw("test-seen-changelog") {
        logged.push((record.key.unwrap(), record.value.is_some()));
    }
    let of_a: Vec<bool> =
        logged.iter().filter(|(key, _)| &key[..] == b"a").map(|(_, there)| *there).collect();
    assert_eq!(of_a, [true, false, true]);
}

#[test]
fn a_time_to_live_is_refused_where_nothing_could_expire() {
    let refused = |build: &dyn Fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        build(&builder);
        builder.build().err().expect("refused").to_string()
    };
    let kept = || Materialized::<String, i64>::named("kept").with_ttl(ttl());
    let stream = |builder: &StreamsBuilder| builder.stream::<String, i64>("in");
    let text = refused(&|b| drop(b.global_table_with("in", Consumed::default(), kept())));
    assert!(text.contains("the topic that feeds it is its changelog"), "{text}");
    let short = || kept().with_ttl(Duration::from_micros(999));
    let text = refused(&|b| drop(b.table_with("in", Consumed::default(), short())));
    assert!(text.contains("wanted a millisecond at least"), "{text}");
    let versioned = || Materialized::versioned("kept", ttl()).with_ttl(ttl());
    let text = refused(&|b| drop(stream(b).group_by_key().count_with(versioned())));
    assert!(text.contains("history retention"), "{text}");
    let unnamed = || Materialized::<String, i64>::default().with_ttl(ttl());
    let text = refused(&|b| {
        let table = b.table::<String, i64>("in");
        drop(table.filter_with(|_, _| true, &Named::default(), Some(unnamed())));
    });
    assert!(text.contains("name it with Materialized::named"), "{text}");
    let text = refused(&|b| {
        let windows = TimeWindows::of_size_with_no_grace(ttl());
        drop(stream(b).group_by_key().windowed_by(windows).count_with(&Named::default(), kept()));
    });
    assert!(text.contains("Materialized::with_retention"), "{text}");
}

#[test]
fn a_table_whose_rows_expire_has_a_changelog_beside_its_topic() {
    let topology = |kept: Materialized<String, i64>| {
        let builder = StreamsBuilder::new();
        builder.table_with("in", Consumed::default(), kept).to_stream().to("out");
        builder.build_with(TopologyOptimization::ALL).unwrap()
    };
    for (kept, changelogs) in
        [(Materialized::named("kept"), 0), (Materialized::named("kept").with_ttl(ttl()), 1)]
    {
        let driver = TopologyTestDriver::new(topology(kept)).unwrap();
        let input = driver.input_topic::<String, i64>("in");
        input.pipe_at("a".to_owned(), 1, Timestamp::from_millis(0)).unwrap();
        let is_changelog =
            |(topic, _): &(std::sync::Arc<str>, usize)| topic.ends_with("-changelog");
        assert_eq!(driver.produced_topics().iter().filter(|t| is_changelog(t)).count(), changelogs);
    }
}
