//! Stream-stream joins against a plain model, with aborted transactions and restarts in between.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Headers, JoinWindows, KStream, RawRecord, StreamJoined, StreamsBuilder, Timestamp, Topology,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

#[derive(Debug, Clone)]
struct Input {
    is_left: bool,
    key: u8,
    time: i64,
    /// Before it is processed for good.
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Abort,
    Restart,
}

#[derive(Debug, Clone, Copy)]
struct Windows {
    before: i64,
    after: i64,
    grace: i64,
}

/// A result: left and right value, and its time.
type Joined = (Option<usize>, Option<usize>, i64);

fn topology(kind: Kind, windows: Windows) -> Topology {
    let grace = Duration::from_millis(windows.grace.unsigned_abs());
    let windows = JoinWindows::between(windows.before, windows.after, grace).unwrap();
    let builder = StreamsBuilder::new();
    let [left, right]: [KStream<String, String>; 2] =
        ["left", "right"].map(|topic| builder.stream(topic));
    let text = |left: Option<&String>, right: Option<&String>| {
        let text = |value: Option<&String>| value.map_or("-", String::as_str).to_owned();
        format!("{} {}", text(left), text(right))
    };
    let joined = StreamJoined::default();
    match kind {
        Kind::Inner => {
            left.join_stream(&right, move |_, l, r| text(Some(l), Some(r)), windows, joined)
        }
        Kind::Left => {
            left.left_join_stream(&right, move |_, l, r| text(Some(l), r), windows, joined)
        }
        Kind::Outer => left.outer_join_stream(&right, move |_, l, r| text(l, r), windows, joined),
    }
    .to("out");
    builder.build().unwrap()
}

fn record(input: &Input, value: usize) -> (&'static str, RawRecord) {
    let record = RawRecord {
        offset: 0,
        timestamp: Timestamp::from_millis(input.time),
        key: Some(Bytes::from(vec![b'a' + input.key])),
        value: Some(Bytes::from(value.to_string())),
        headers: Headers::default(),
    };
    (if input.is_left { "left" } else { "right" }, record)
}

/// What comes out, input by input.
fn run(kind: Kind, windows: Windows, inputs: &[Input]) -> Vec<Vec<Joined>> {
    let driver = TopologyTestDriver::new(topology(kind, windows)).unwrap();
    let mut results = Vec::new();
    for (value, input) in inputs.iter().enumerate() {
        let (topic, raw) = record(input, value);
        match input.trouble {
            Trouble::None => {}
            Trouble::Restart => driver.restart().unwrap(),
            Trouble::Abort => {
                // A far later record is lost with it.
                let mut later = raw.clone();
                later.timestamp = Timestamp::from_millis(input.time + 1000);
                driver.pipe_batch_and_abort(topic, [raw.clone(), later]).unwrap();
            }
        }
        driver.pipe_batch(topic, [raw]).unwrap();
        let out = driver.output_topic::<String, String>("out").read_records().unwrap();
        let parse = |text: &str| text.parse().ok();
        results.push(
            out.iter()
                .map(|record| {
                    let (left, right) = record.value.split_once(' ').unwrap();
                    (parse(left), parse(right), record.timestamp.as_millis())
                })
                .collect(),
        );
    }
    results
}

/// Every record of the other stream that is near enough and is still kept: the rule, without stores.
fn matches(windows: Windows, inputs: &[Input]) -> Vec<Vec<Joined>> {
    let Windows { before, after, grace } = windows;
    let retention = before + after + grace;
    let mut newest = BTreeMap::new();
    let mut kept: Vec<usize> = Vec::new();
    let mut results = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let visible = |other: &&usize| {
            let other = &inputs[**other];
            other.is_left != input.is_left
                && other.key == input.key
                && newest.get(&other.is_left).is_some_and(|newest| other.time > newest - retention)
        };
        let mut found: Vec<(i64, usize)> = kept
            .iter()
            .filter(visible)
            .filter(|other| {
                let (l, r) = match input.is_left {
                    true => (input.time, inputs[**other].time),
                    false => (inputs[**other].time, input.time),
                };
                (l - before..=l + after).contains(&r)
            })
            .map(|other| (inputs[*other].time, *other))
            .collect();
        found.sort_unstable();
        let joined = |(time, other): (i64, usize)| {
            let (l, r) = if input.is_left { (index, other) } else { (other, index) };
            (Some(l), Some(r), input.time.max(time))
        };
        results.push(found.into_iter().map(joined).collect());
        let newest = newest.entry(input.is_left).or_insert(i64::MIN);
        *newest = input.time.max(*newest);
        if input.time > *newest - retention {
            kept.push(index);
        }
    }
    results
}

fn check(kind: Kind, windows: Windows, inputs: &[Input]) -> Result<(), TestCaseError> {
    // Whatever waits comes out in the end: both windows are closed, and each side looks twice.
    let mut inputs = inputs.to_vec();
    for (step, is_left) in [true, false, true, false].into_iter().enumerate() {
        let time = 10_000 + 10_000 * i64::try_from(step).unwrap();
        inputs.push(Input { is_left, key: 9, time, trouble: Trouble::None });
    }
    let found = run(kind, windows, &inputs);
    let wanted = matches(windows, &inputs);
    let both = |result: &&Joined| result.0.is_some() && result.1.is_some();
    let mut matched_at = vec![usize::MAX; inputs.len()];
    for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let found: Vec<Joined> = found.iter().filter(both).copied().collect();
        prop_assert_eq!(&found, wanted, "matches of input {}", step);
        for value in found.iter().flat_map(|(l, r, _)| [l, r]).flatten() {
            matched_at[*value] = matched_at[*value].min(step);
        }
    }
    let mut alone_at = vec![None; inputs.len()];
    for (step, results) in found.iter().enumerate() {
        for (left, right, time) in results.iter().filter(|result| !both(result)) {
            let value = left.or(*right).unwrap();
            prop_assert_eq!(*time, inputs[value].time);
            prop_assert!(alone_at[value].is_none(), "{} stands alone twice", value);
            prop_assert!(matched_at[value] > step, "{} had a match before", value);
            alone_at[value] = Some(step);
        }
    }
    let last = inputs.len() - 4;
    for (value, input) in inputs[..last].iter().enumerate() {
        let counts = match kind {
            Kind::Inner => false,
            Kind::Left => input.is_left,
            Kind::Outer => true,
        };
        let alone = alone_at[value].is_some();
        prop_assert!(counts || !alone, "{} is no result of its own", value);
        let unmatched = matched_at[value] == usize::MAX;
        prop_assert!(!counts || !unmatched || alone, "{} never came out", value);
    }
    // Aborts change nothing at all; a restart may change when a record without a match is found, and so whether a too late one still matches it.
    if inputs.iter().any(|input| input.trouble == Trouble::Restart) {
        return Ok(());
    }
    let calm: Vec<Input> =
        inputs.iter().map(|input| Input { trouble: Trouble::None, ..input.clone() }).collect();
    let calm = run(kind, windows, &calm);
    prop_assert_eq!(found, calm);
    Ok(())
}

fn input() -> impl Strategy<Value = (bool, u8, i64, i64, Trouble)> {
    let trouble = prop_oneof![
        6 => Just(Trouble::None),
        1 => Just(Trouble::Abort),
        1 => Just(Trouble::Restart),
    ];
    (any::<bool>(), 0..3_u8, 0..8_i64, 0..40_i64, trouble)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn joins_are_as_the_model_says_whatever_is_aborted_or_restarted(
        kind in prop_oneof![Just(Kind::Inner), Just(Kind::Left), Just(Kind::Outer)],
        (before, after, grace) in (0..12_i64, 0..12_i64, 0..12_i64),
        steps in prop::collection::vec(input(), 1..40),
        with_restarts in any::<bool>(),
    ) {
        let mut now = 0;
        let inputs: Vec<Input> = steps
            .into_iter()
            .map(|(is_left, key, step, back, trouble)| {
                now += step;
                // Every other record is late, by up to 40.
                let time = if back % 2 == 0 { now } else { (now - back).max(0) };
                let no_restart = trouble == Trouble::Restart && !with_restarts;
                let trouble = if no_restart { Trouble::Abort } else { trouble };
                Input { is_left, key, time, trouble }
            })
            .collect();
        check(kind, Windows { before, after, grace }, &inputs)?;
    }
}
