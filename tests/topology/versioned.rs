//! Versioned tables, and joins that wait for them.

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{Joined, Materialized, Result, StreamsBuilder, Timestamp, Topology};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// `orders`, joined with the prices of their time after `grace`.
fn topology(prices: Materialized<String, i64>, grace: Duration) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let prices = builder.table_with("prices", Default::default(), prices);
    builder
        .stream::<Option<String>, Option<String>>("orders")
        .left_join(
            &prices,
            |_, order, price: Option<i64>| format!("{}@{price:?}", order.unwrap_or_default()),
            Joined::default().with_grace_period(grace),
        )
        .to("out");
    builder.build()
}

struct Run(TopologyTestDriver);

impl Run {
    fn new(grace: Duration) -> Self {
        let prices = Materialized::versioned("prices", seconds(60));
        Self(TopologyTestDriver::new(topology(prices, grace).unwrap()).unwrap())
    }

    fn price(&self, key: &str, price: Option<i64>, seconds: i64) {
        let topic = self.0.input_topic::<String, Option<i64>>("prices");
        topic.pipe_at(key.to_owned(), price, at(seconds)).unwrap();
    }

    fn order(&self, key: Option<&str>, order: &str, seconds: i64) -> Vec<String> {
        let topic = self.0.input_topic::<Option<String>, Option<String>>("orders");
        topic.pipe_at(key.map(str::to_owned), Some(order.to_owned()), at(seconds)).unwrap();
        let out = self.0.output_topic::<Option<String>, String>("out");
        let found = out.read_records().unwrap().into_iter();
        found
            .map(|record| format!("{} {}", record.timestamp.as_millis() / 1000, record.value))
            .collect()
    }
}

#[test]
fn a_join_with_grace_waits_for_a_late_update_of_the_table() {
    let run = Run::new(seconds(10));
    run.price("tea", Some(5), 0);
    assert_eq!(run.order(Some("tea"), "a", 20), [""; 0]);
    run.price("tea", Some(7), 30);
    // Late, and before the order's time.
    run.price("tea", Some(6), 15);
    assert_eq!(run.order(Some("tea"), "b", 30), ["20 a@Some(6)"]);
    run.price("tea", None, 29);
    // Too late to wait: joined at once.
    assert_eq!(run.order(Some("tea"), "c", 19), ["19 c@Some(6)"]);
    assert_eq!(run.order(Some("tea"), "d", 40), ["30 b@Some(7)"]);
}

/// Kafka Streams 4.3.1 fails here with a `NullPointerException`.
#[test]
fn a_left_join_with_grace_answers_a_null_key_at_once() {
    let run = Run::new(seconds(10));
    assert_eq!(run.order(Some("tea"), "a", 20), [""; 0]);
    assert_eq!(run.order(None, "b", 40), ["40 b@None"]);
    // The one without a key has not moved the buffer's time either.
    assert_eq!(run.order(Some("tea"), "c", 25), [""; 0]);
    assert_eq!(run.order(Some("tea"), "d", 35), ["20 a@None", "25 c@None"]);
}

#[test]
fn what_waited_is_seen_below_with_its_own_origin() {
    use kstreams::{Processor, ProcessorContext, Record};
    struct Origin;
    impl Processor<Option<String>, String, Option<String>, String> for Origin {
        fn process(
            &mut self,
            record: Record<Option<String>, String>,
            context: &mut ProcessorContext<'_, '_, Option<String>, String>,
        ) -> Result<()> {
            let offset = context.record_metadata().unwrap().offset;
            let value = format!("{} from offset {offset}", record.value);
            context.forward(Record { value, ..record })
        }
    }
    let builder = StreamsBuilder::new();
    let table = Materialized::<String, i64>::versioned("prices", seconds(60));
    let prices = builder.table_with("prices", Default::default(), table);
    builder
        .stream::<Option<String>, Option<String>>("orders")
        .left_join(
            &prices,
            |_, order, _: Option<i64>| order.unwrap_or_default(),
            Joined::default().with_grace_period(seconds(10)),
        )
        .process(|| Origin, &[])
        .to("out");
    let run = Run(TopologyTestDriver::new(builder.build().unwrap()).unwrap());
    assert_eq!(run.order(Some("tea"), "a", 20), [""; 0]);
    assert_eq!(run.order(Some("tea"), "b", 30), ["20 a from offset 0"]);
}

#[test]
fn grace_needs_a_versioned_table_with_enough_history() {
    let wrong = |prices, grace| topology(prices, grace).err().unwrap().message().to_owned();
    let error = wrong(Materialized::named("prices"), seconds(1));
    assert!(error.contains("found an unversioned table"), "{error}");
    let error = wrong(Materialized::versioned("prices", seconds(60)), seconds(61));
    assert!(error.contains("61000 ms and a history of 60000 ms"), "{error}");
    assert!(topology(Materialized::versioned("prices", seconds(60)), seconds(60)).is_ok());
}

#[test]
fn a_global_table_cannot_be_versioned() {
    let builder = StreamsBuilder::new();
    let table = Materialized::<String, i64>::versioned("prices", seconds(60));
    builder.global_table_with("prices", Default::default(), table);
    let error = builder.build().err().unwrap();
    assert!(error.message().contains("found a versioned one"), "{error}");
}
