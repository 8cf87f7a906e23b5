//! Joins of streams: with each other, with a table that they wait for, and with a global table.

use std::time::Duration;

use kstreams::{Consumed, JoinWindows, Joined, Materialized, StreamJoined};

use super::parts::{PART, Part, or_null};

/// All joins of two streams; some records have found nothing yet whenever another engine takes over, two of them equal in key and time.
pub(super) const PAIRS: Part = Part {
    name: "pairs",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let left = builder.stream::<String, String>(&topic("left-in"));
        let right = builder.stream::<String, String>(&topic("right-in"));
        let near = JoinWindows::of_time_difference_and_grace(
            Duration::from_secs(10),
            Duration::from_secs(5),
        );
        let named =
            |name: &str| StreamJoined::<String, String, String>::default().with_store_name(name);
        let both = |_: &String, one: &String, other: &String| format!("{one}+{other}");
        left.join_stream(&right, both, near, named("inner")).to(&topic("inner-out"));
        let left_of = |_: &String, one: &String, other: Option<&String>| or_null(one, other);
        left.left_join_stream(&right, left_of, near, named("left")).to(&topic("left-out"));
        let outer = |_: &String, one: Option<&String>, other: Option<&String>| {
            or_null(one.map_or("null", |one| one), other)
        };
        left.outer_join_stream(&right, outer, near, named("outer")).to(&topic("outer-out"));
    },
    inputs: &["left-in", "right-in"],
    outputs: &["inner-out", "left-out", "outer-out"],
    rounds: [
        &[
            ("left-in", "a", Some("l1"), 1_000),
            ("left-in", "b", Some("l2"), 4_000),
            ("right-in", "a", Some("r1"), 3_000),
            ("right-in", "c", Some("r2"), 5_000),
            ("right-in", "d", Some("r3"), 5_100),
            ("right-in", "d", Some("r4"), 5_100),
        ],
        &[
            ("left-in", "d", Some("l3"), 6_000),
            ("left-in", "e", Some("l4"), 30_000),
            ("left-in", "f", Some("l5"), 25_000),
            ("left-in", "g", Some("l6"), 32_000),
            ("left-in", "g", Some("l7"), 32_000),
            ("right-in", "e", Some("r5"), 31_000),
        ],
        &[
            ("left-in", "h", Some("l8"), 60_000),
            ("right-in", "g", Some("r6"), 33_000),
            ("right-in", "i", Some("r7"), 61_000),
        ],
    ],
    with_sequences: &[
        "inner-this-join-store",
        "inner-other-join-store",
        "left-this-join-store",
        "left-outer-other-join-store",
        "outer-outer-this-join-store",
        "outer-outer-other-join-store",
    ],
    ..PART
};

/// A stream that waits for late updates of a table.
///
/// Kafka Streams restores the records that wait as if their keys were others, and is then of the opinion that it is far in the future.
pub(super) const BUFFERED: Part = Part {
    name: "buffered",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let rates = builder.table_with::<String, String>(
            &topic("rates-in"),
            Consumed::default(),
            Materialized::versioned("rates", Duration::from_secs(600)),
        );
        let trades = builder.stream::<String, String>(&topic("trades-in"));
        let joiner =
            |_: &String, trade: String, rate: Option<String>| or_null(&trade, rate.as_ref());
        let waits =
            Joined::default().with_name("buffered").with_grace_period(Duration::from_secs(10));
        trades.left_join(&rates, joiner, waits).to(&topic("traded-out"));
    },
    inputs: &["rates-in", "trades-in"],
    outputs: &["traded-out"],
    rounds: [
        &[
            ("rates-in", "k", Some("1"), 1_000),
            ("rates-in", "k", Some("2"), 5_000),
            ("trades-in", "k", Some("t1"), 2_000),
            ("trades-in", "k", Some("t2"), 6_000),
        ],
        &[
            ("rates-in", "k", Some("3"), 7_000),
            ("rates-in", "k", Some("2.5"), 5_500),
            ("trades-in", "k", Some("t3"), 17_000),
        ],
        &[("trades-in", "k", Some("t4"), 18_000)],
    ],
    with_sequences: &["buffered-Buffer"],
    by_the_clock: &["buffered-Buffer"],
    kafka_streams_cannot_restore: true,
    ..PART
};

/// A global table, which each engine reads anew.
pub(super) const GLOBAL: Part = Part {
    name: "global",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let names = builder.global_table_with::<String, String>(
            &topic("names-in"),
            Consumed::default(),
            Materialized::named("names"),
        );
        let calls = builder.stream::<String, String>(&topic("calls-in"));
        let number = |_: &String, number: &String| number.clone();
        let joiner =
            |_: &String, number: String, called: Option<String>| or_null(&number, called.as_ref());
        calls.left_join_global(&names, number, joiner).to(&topic("called-out"));
    },
    global_inputs: &["names-in"],
    inputs: &["calls-in"],
    outputs: &["called-out"],
    rounds: [
        &[
            ("names-in", "1", Some("Ann"), 100),
            ("names-in", "2", Some("Bob"), 200),
            ("calls-in", "x", Some("1"), 1_000),
            ("calls-in", "y", Some("3"), 1_100),
        ],
        &[
            ("names-in", "1", Some("Amy"), 2_000),
            ("names-in", "3", Some("Cid"), 2_100),
            ("calls-in", "x", Some("1"), 3_000),
            ("calls-in", "z", Some("3"), 3_100),
        ],
        &[
            ("names-in", "1", None, 4_000),
            ("calls-in", "x", Some("1"), 5_000),
            ("calls-in", "x", Some("2"), 5_100),
        ],
    ],
    ..PART
};
