//! What is simulated: five topologies, the records they get, and in what way their results are determined.

use std::time::Duration;

use fastrand::Rng;
use kstreams::{
    BufferConfig, Joined, Materialized, Named, Result, StreamsBuilder, Suppressed, TimeWindows,
    Timestamp, Topology,
};

/// Records come during this time.
pub(crate) const INPUT_TIME: Duration = Duration::from_secs(5);
/// The first timestamp.
const START_MS: i64 = 1_700_000_000_000;
const WINDOW: Duration = Duration::from_secs(1);
/// Far enough after the last record to close all windows.
const CLOSING_MS: i64 = 3_600_000;

const RETENTION: Duration = Duration::from_secs(2 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A count by a new key, through a repartition topic.
    Count,
    /// The same with a record cache: not every update is told.
    CachedCount,
    /// A stream and a table.
    Join,
    /// Final results of windows.
    Windows,
    /// Topics of four and two partitions as one stream, and a count of it.
    Merge,
}

/// A record that somebody else produces.
pub(crate) struct Input {
    pub(crate) at: Duration,
    pub(crate) topic: &'static str,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) timestamp: Timestamp,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Count, Self::CachedCount, Self::Join, Self::Windows, Self::Merge];

    /// The user's topics, with their partitions.
    pub(crate) fn topics(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Count | Self::CachedCount | Self::Windows => &[("in", 3), ("out", 2)],
            Self::Join => &[("in", 3), ("table", 3), ("out", 2)],
            Self::Merge => &[("in", 4), ("fewer", 2), ("out", 2)],
        }
    }

    /// Whether all inputs of a task have as many partitions as each other.
    pub(crate) fn is_copartitioned(self) -> bool {
        self != Self::Merge
    }

    /// Bytes of record caches.
    pub(crate) fn record_cache_bytes(self) -> usize {
        if self == Self::CachedCount { 3_000 } else { 0 }
    }

    pub(crate) fn build(self) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, String>("in");
        match self {
            Self::Count | Self::CachedCount => {
                let counts = stream.group_by(|_, value| group_of(value)).count();
                counts.to_stream().map_values(|_, count| format!("{count:?}")).to("out");
            }
            Self::Join => {
                let table = builder.table::<String, String>("table");
                let joined =
                    stream.join(&table, |_, left, right| left + "+" + &right, Joined::default());
                joined.to("out");
            }
            Self::Windows => {
                let windows = TimeWindows::of_size_with_no_grace(WINDOW);
                // Which expired rows are still there is not part of a store's state: none expires.
                let kept = Materialized::named("windows").with_retention(RETENTION);
                let counts =
                    stream.group_by_key().windowed_by(windows).count_with(&Named::default(), kept);
                let closed = Suppressed::until_window_closes(BufferConfig::unbounded());
                let text = |window: kstreams::Windowed<String>, count| {
                    (format!("{}@{}", window.key, window.window.start), format!("{count:?}"))
                };
                counts.suppress(closed).to_stream().map(text).to("out");
            }
            Self::Merge => {
                let merged = stream.merge(&builder.stream::<String, String>("fewer"));
                merged.to("out");
                let counts = merged.group_by(|_, value| group_of(value)).count();
                counts.to_stream().map_values(|_, count| format!("{count:?}")).to("out");
            }
        }
        builder.build()
    }

    /// Records for this topology.
    pub(crate) fn inputs(self, rng: &mut Rng) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self == Self::Join {
            for key in 0..12 {
                let (name, value) = (format!("k{key}"), format!("t{key}"));
                inputs.push(input(Duration::ZERO, "table", self, name, value, 0));
            }
        }
        let count = rng.u64(50..400);
        let span_ms = INPUT_TIME.as_millis() as u64;
        for number in 0..count {
            let at = Duration::from_millis(span_ms * number / count);
            let topic = if self == Self::Merge && rng.bool() { "fewer" } else { "in" };
            // The topic is part of the key: in which order two topics are read is nobody's promise.
            let key = match self {
                Self::Merge => format!("{topic}-k{}", rng.u32(0..12)),
                _ => format!("k{}", rng.u32(0..12)),
            };
            let value = format!("{number}:g{}", rng.u32(0..8));
            let millis = 1 + i64::try_from(at.as_millis()).unwrap_or(0);
            inputs.push(input(at, topic, self, key, value, millis));
        }
        if self == Self::Windows {
            for partition in 0..3 {
                let (key, value) = (format!("closing{partition}"), "0:g0".to_owned());
                let last = input(INPUT_TIME, "in", self, key, value, CLOSING_MS);
                inputs.push(Input { partition, ..last });
            }
        }
        inputs
    }

    /// Whether every key's results are the same, in the same order, whatever the schedule; else only the last one is, and numbers grow.
    pub(crate) fn is_determined(self) -> bool {
        self != Self::CachedCount
    }
}

fn group_of(value: &str) -> String {
    value.split(':').nth(1).unwrap_or_default().to_owned()
}

fn input(
    at: Duration,
    topic: &'static str,
    kind: Kind,
    key: String,
    value: String,
    millis: i64,
) -> Input {
    let counts = kind.topics().iter().find(|(name, _)| *name == topic);
    let count = counts.map_or(1, |(_, count)| i32::try_from(*count).unwrap_or(1));
    let partition = kstreams::kafka::partition_for_key(key.as_bytes(), count);
    let timestamp = Timestamp::from_millis(START_MS + millis);
    Input { at, topic, partition, key, value, timestamp }
}
