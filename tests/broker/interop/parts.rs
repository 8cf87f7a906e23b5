//! The topologies that both engines run, ours here, in windowed.rs and in joined.rs, and Kafka Streams' in Interop.java, line by line, and what is fed to them.

use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::{
    Joined, Materialized, Processor, ProcessorContext, Record, Result, StreamsBuilder, TableJoined,
    Timestamp,
};

use super::joined::{BUFFERED, GLOBAL, PAIRS};
use super::windowed::{CLOSING, COGROUPED, SUPPRESSED, WINDOWS};

/// Topic (after the prefix), key, value, milliseconds since the test's beginning of time.
pub(super) type Row = (&'static str, &'static str, Option<&'static str>, i64);

/// A topology, and its inputs in three rounds; after each, another engine takes over.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) build: fn(&StreamsBuilder, &str),
    pub(super) inputs: &'static [&'static str],
    /// Topics that no group reads. Their rows are the oldest of a round.
    pub(super) global_inputs: &'static [&'static str],
    pub(super) outputs: &'static [&'static str],
    pub(super) rounds: [&'static [Row]; 3],
    /// Which results come on the way depends on when internal topics are read: only each key's last one is compared.
    pub(super) last_of_key: bool,
    /// Stores whose keys end in a sequence number, which in Kafka Streams begins anew at each restart.
    pub(super) with_sequences: &'static [&'static str],
    /// Stores whose changelog records carry the time of writing in Kafka Streams, of which nothing depends.
    pub(super) by_the_clock: &'static [&'static str],
    /// Nothing is compared any more once Kafka Streams has taken over.
    pub(super) kafka_streams_cannot_restore: bool,
}

/// What most parts have in common.
pub(super) const PART: Part = Part {
    name: "",
    build: |_, _| (),
    inputs: &[],
    global_inputs: &[],
    outputs: &[],
    rounds: [&[], &[], &[]],
    last_of_key: false,
    with_sequences: &[],
    by_the_clock: &[],
    kafka_streams_cannot_restore: false,
};

pub(super) const PARTS: &[Part] = &[
    TABLES, VERSIONED, FOREIGN, CLOCK, WINDOWS, CLOSING, SUPPRESSED, COGROUPED, PAIRS, BUFFERED,
    GLOBAL,
];

/// A table, a join with it, and a count.
const TABLES: Part = Part {
    name: "tables",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let table = builder.table_with::<String, String>(
            &topic("table-in"),
            Default::default(),
            Materialized::named("table"),
        );
        table.to_stream().to(&topic("table-out"));
        let stream = builder.stream::<String, String>(&topic("stream-in"));
        let joiner = |_: &String, value: String, row: Option<String>| or_null(&value, row.as_ref());
        stream.left_join(&table, joiner, Joined::default()).to(&topic("joined-out"));
        let counts = stream.group_by_key().count_with(Materialized::named("counts"));
        counts.to_stream().map_values(as_text).to(&topic("counts-out"));
    },
    inputs: &["table-in", "stream-in"],
    outputs: &["table-out", "joined-out", "counts-out"],
    rounds: [
        &[
            ("table-in", "a", Some("t1"), 1_000),
            ("stream-in", "a", Some("s1"), 2_000),
            ("stream-in", "b", Some("s2"), 3_000),
            ("table-in", "b", Some("t2"), 4_000),
        ],
        &[
            ("stream-in", "a", Some("s3"), 5_000),
            ("stream-in", "b", Some("s4"), 5_100),
            ("table-in", "a", None, 6_000),
            ("stream-in", "a", Some("s5"), 7_000),
            ("table-in", "c", Some("t3"), 7_500),
        ],
        &[
            ("stream-in", "a", Some("s6"), 8_000),
            ("stream-in", "c", Some("s7"), 8_100),
            ("table-in", "b", Some("t4"), 8_200),
            ("stream-in", "b", Some("s8"), 9_000),
        ],
    ],
    ..PART
};

/// A versioned table whose older versions are asked for, and one that comes late.
const VERSIONED: Part = Part {
    name: "versioned",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let prices = builder.table_with::<String, String>(
            &topic("prices-in"),
            Default::default(),
            Materialized::versioned("prices", Duration::from_secs(600)),
        );
        let sales = builder.stream::<String, String>(&topic("sales-in"));
        let joiner =
            |_: &String, sale: String, price: Option<String>| or_null(&sale, price.as_ref());
        sales.left_join(&prices, joiner, Joined::default()).to(&topic("sold-out"));
    },
    inputs: &["prices-in", "sales-in"],
    outputs: &["sold-out"],
    rounds: [
        &[
            ("prices-in", "apple", Some("1"), 1_000),
            ("sales-in", "apple", Some("s1"), 2_000),
            ("prices-in", "apple", Some("2"), 5_000),
        ],
        &[
            ("sales-in", "apple", Some("s2"), 3_000),
            ("sales-in", "apple", Some("s3"), 6_000),
            ("prices-in", "apple", None, 8_000),
            ("sales-in", "apple", Some("s4"), 8_500),
            ("prices-in", "apple", Some("3"), 10_000),
            ("sales-in", "apple", Some("s5"), 10_500),
        ],
        &[
            ("prices-in", "apple", Some("1.5"), 3_000),
            ("sales-in", "apple", Some("s6"), 3_500),
            ("sales-in", "apple", Some("s7"), 6_500),
            ("sales-in", "apple", Some("s8"), 8_200),
            ("sales-in", "apple", Some("s9"), 20_000),
        ],
    ],
    ..PART
};

/// A foreign-key join, whose subscriptions and answers outlive the engine that wrote them.
const FOREIGN: Part = Part {
    name: "foreign",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let table = |name: &str, store: &str| {
            let store = Materialized::named(store);
            builder.table_with::<String, String>(&topic(name), Default::default(), store)
        };
        let orders = table("orders-in", "orders");
        let customers = table("customers-in", "customers");
        let joined = orders.left_join_on_foreign_key_with(
            &customers,
            |_: &String, order: &String| order[..1].to_owned(),
            |order: &String, customer: Option<&String>| or_null(order, customer),
            TableJoined::default().with_name("belongs"),
            Some(Materialized::named("belonging").with_serdes(String::serde(), String::serde())),
        );
        joined.to_stream().to(&topic("belonging-out"));
    },
    inputs: &["orders-in", "customers-in"],
    outputs: &["belonging-out"],
    rounds: [
        &[
            ("customers-in", "A", Some("Ada"), 1_000),
            ("orders-in", "o1", Some("A1"), 2_000),
            ("orders-in", "o2", Some("B2"), 3_000),
        ],
        &[
            ("customers-in", "B", Some("Bob"), 4_000),
            ("orders-in", "o3", Some("A3"), 5_000),
            ("customers-in", "A", Some("Ann"), 6_000),
        ],
        &[
            ("orders-in", "o1", None, 7_000),
            ("orders-in", "o2", Some("A4"), 9_000),
            ("customers-in", "B", Some("Ben"), 9_500),
            ("customers-in", "A", Some("Amy"), 10_000),
        ],
    ],
    last_of_key: true,
    ..PART
};

/// Stream time itself: it lies beside the committed offsets.
const CLOCK: Part = Part {
    name: "clock",
    build: |builder, prefix| {
        let stream = builder.stream::<String, String>(&format!("{prefix}clock-in"));
        stream.process(|| Clock, &[]).to(&format!("{prefix}clock-out"));
    },
    inputs: &["clock-in"],
    outputs: &["clock-out"],
    rounds: [
        &[("clock-in", "a", Some(""), 5_000), ("clock-in", "a", Some(""), 9_000)],
        &[("clock-in", "a", Some(""), 1_000), ("clock-in", "a", Some(""), 9_500)],
        &[("clock-in", "a", Some(""), 2_000)],
    ],
    ..PART
};

struct Clock;

impl Processor<String, String, String, String> for Clock {
    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let now = context.current_stream_time().map_or(-1, Timestamp::as_millis);
        context.forward(record.with_value(now.to_string()))
    }
}

/// As Java adds strings.
pub(super) fn or_null(one: &str, other: Option<&String>) -> String {
    format!("{one}+{}", other.map_or("null", |other| other))
}

pub(super) fn as_text<K>(_: &K, count: Option<i64>) -> Option<String> {
    count.map(|count| count.to_string())
}
