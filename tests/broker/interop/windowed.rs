//! Windows, sessions, what is held back until they close, and cogrouped windows.

use std::time::Duration;

use kstreams::{
    BufferConfig, EmitStrategy, KGroupedStream, KTable, Materialized, Named, SessionWindows,
    SlidingWindows, StreamsBuilder, Suppressed, TimeWindows, Windowed,
};

use super::parts::{PART, Part, as_text};

const TUMBLING: TimeWindows =
    TimeWindows::of_size_and_grace(Duration::from_secs(10), Duration::from_secs(5));
const HOPPING: TimeWindows = TUMBLING.advance_by(Duration::from_secs(5));
const SLIDING: SlidingWindows =
    SlidingWindows::of_time_difference_and_grace(Duration::from_secs(4), Duration::from_secs(5));
const SESSIONS: SessionWindows =
    SessionWindows::of_inactivity_gap_and_grace(Duration::from_secs(4), Duration::from_secs(5));

fn grouped(builder: &StreamsBuilder, topic: &str) -> KGroupedStream<String, String> {
    builder.stream::<String, String>(topic).group_by_key()
}

fn name<V>(key: &Windowed<String>, _: &V) -> String {
    format!("{}@{}/{}", key.key, key.window.start.as_millis(), key.window.end.as_millis())
}

fn write<V: Clone + Send + ToString + 'static>(table: &KTable<Windowed<String>, V>, topic: &str) {
    let text = |_: &String, value: Option<V>| value.map(|value| value.to_string());
    table.to_stream_by(name).map_values(text).to(topic);
}

/// Every kind of window, each update a result.
pub(super) const WINDOWS: Part = Part {
    name: "windows",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let grouped = grouped(builder, &topic("windows-in"));
        let (named, store) = (Named::default(), Materialized::named);
        let tumbling = grouped.windowed_by(TUMBLING).count_with(&named, store("tumbling"));
        write(&tumbling, &topic("tumbling-out"));
        let hopping = grouped.windowed_by(HOPPING).count_with(&named, store("hopping"));
        write(&hopping, &topic("hopping-out"));
        let sliding = grouped.windowed_by(SLIDING).count_with(&named, store("sliding"));
        write(&sliding, &topic("sliding-out"));
        let sessions = grouped.windowed_by(SESSIONS).count_with(&named, store("sessions"));
        write(&sessions, &topic("sessions-out"));
    },
    inputs: &["windows-in"],
    outputs: &["tumbling-out", "hopping-out", "sliding-out", "sessions-out"],
    rounds: [
        &[
            ("windows-in", "a", Some(""), 1_000),
            ("windows-in", "b", Some(""), 2_000),
            ("windows-in", "a", Some(""), 3_000),
            ("windows-in", "a", Some(""), 12_000),
            ("windows-in", "b", Some(""), 9_000),
        ],
        &[
            ("windows-in", "a", Some(""), 16_000),
            ("windows-in", "a", Some(""), 9_500),
            ("windows-in", "b", Some(""), 14_000),
            ("windows-in", "b", Some(""), 13_500),
        ],
        &[
            ("windows-in", "b", Some(""), 21_000),
            ("windows-in", "a", Some(""), 15_000),
            ("windows-in", "a", Some(""), 12_500),
            ("windows-in", "b", Some(""), 33_000),
        ],
    ],
    ..PART
};

/// Every kind of window, each sent once: none is lost when another engine takes over, and none comes again.
///
/// The retention is longer than Java's default, with which its stores hide some windows by the time they close.
pub(super) const CLOSING: Part = Part {
    name: "closing",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let grouped = grouped(builder, &topic("closing-in"));
        let (named, strategy) = (Named::default(), EmitStrategy::OnWindowClose);
        let store = |name: &str| Materialized::named(name).with_retention(Duration::from_secs(600));
        let tumbling = grouped.windowed_by(TUMBLING).emit_strategy(strategy);
        let tumbling = tumbling.count_with(&named, store("closed-tumbling"));
        write(&tumbling, &topic("closed-tumbling-out"));
        let hopping = grouped.windowed_by(HOPPING).emit_strategy(strategy);
        let hopping = hopping.count_with(&named, store("closed-hopping"));
        write(&hopping, &topic("closed-hopping-out"));
        let sliding = grouped.windowed_by(SLIDING).emit_strategy(strategy);
        let sliding = sliding.count_with(&named, store("closed-sliding"));
        write(&sliding, &topic("closed-sliding-out"));
        let sessions = grouped.windowed_by(SESSIONS).emit_strategy(strategy);
        let sessions = sessions.count_with(&named, store("closed-sessions"));
        write(&sessions, &topic("closed-sessions-out"));
    },
    inputs: &["closing-in"],
    outputs: &[
        "closed-tumbling-out",
        "closed-hopping-out",
        "closed-sliding-out",
        "closed-sessions-out",
    ],
    rounds: [
        &[
            ("closing-in", "a", Some(""), 1_000),
            ("closing-in", "b", Some(""), 2_000),
            ("closing-in", "a", Some(""), 7_000),
            ("closing-in", "a", Some(""), 12_000),
        ],
        &[
            ("closing-in", "a", Some(""), 16_000),
            ("closing-in", "b", Some(""), 15_500),
            ("closing-in", "a", Some(""), 8_000),
        ],
        &[
            ("closing-in", "b", Some(""), 22_000),
            ("closing-in", "a", Some(""), 26_000),
            ("closing-in", "a", Some(""), 27_000),
            ("closing-in", "b", Some(""), 48_000),
        ],
    ],
    ..PART
};

/// Both kinds of suppression, with updates held back whenever another engine takes over.
pub(super) const SUPPRESSED: Part = Part {
    name: "suppressed",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let grouped = grouped(builder, &topic("suppressed-in"));
        let (named, store) = (Named::default(), Materialized::named);
        let counts = grouped.windowed_by(TUMBLING).count_with(&named, store("suppressed"));
        let closed = Suppressed::until_window_closes(BufferConfig::unbounded());
        write(&counts.suppress(closed.with_name("until-closed")), &topic("final-out"));
        let limit = Duration::from_secs(5);
        let calm = Suppressed::until_time_limit(limit, BufferConfig::max_records(100));
        let busy = grouped.count_with(Materialized::named("busy"));
        let calm = busy.suppress(calm.with_name("until-calm"));
        calm.to_stream().map_values(as_text).to(&topic("calm-out"));
    },
    inputs: &["suppressed-in"],
    outputs: &["final-out", "calm-out"],
    rounds: [
        &[
            ("suppressed-in", "a", Some(""), 1_000),
            ("suppressed-in", "a", Some(""), 2_000),
            ("suppressed-in", "b", Some(""), 3_000),
        ],
        &[
            ("suppressed-in", "a", Some(""), 8_000),
            ("suppressed-in", "b", Some(""), 12_000),
            ("suppressed-in", "a", Some(""), 17_000),
            ("suppressed-in", "a", Some(""), 9_000),
        ],
        &[("suppressed-in", "c", Some(""), 18_000), ("suppressed-in", "c", Some(""), 40_000)],
    ],
    by_the_clock: &["until-closed-store", "until-calm-store"],
    ..PART
};

/// Two streams in one windowed aggregate; what is late in one need not be so in the other.
pub(super) const COGROUPED: Part = Part {
    name: "cogrouped",
    build: |builder, prefix| {
        let topic = |name: &str| format!("{prefix}{name}");
        let one = grouped(builder, &topic("one-in"));
        let two = grouped(builder, &topic("two-in"));
        let add = |_: &String, value: String, all: String| Some(all + &value);
        let cogrouped = one.cogroup(add).cogroup(&two, add).windowed_by(TUMBLING).aggregate(
            String::new,
            &Named::default(),
            Materialized::named("cogrouped"),
        );
        write(&cogrouped, &topic("cogrouped-out"));
    },
    inputs: &["one-in", "two-in"],
    outputs: &["cogrouped-out"],
    rounds: [
        &[
            ("one-in", "a", Some("x1"), 1_000),
            ("two-in", "a", Some("y1"), 2_000),
            ("one-in", "b", Some("x2"), 3_000),
        ],
        &[
            ("one-in", "a", Some("x3"), 9_000),
            ("one-in", "a", Some("x4"), 9_500),
            ("two-in", "a", Some("y2"), 8_000),
            ("two-in", "a", Some("y3"), 16_000),
            ("two-in", "a", Some("y4"), 7_000),
        ],
        &[
            ("one-in", "a", Some("x5"), 12_000),
            ("one-in", "a", Some("x6"), 2_500),
            ("two-in", "b", Some("y5"), 18_000),
            ("two-in", "b", Some("y6"), 4_000),
        ],
    ],
    ..PART
};
