//! Stream time lies beside the committed offsets, and so outlives the process.

use std::time::Duration;

use kstreams::{
    Clock as _, Materialized, Named, Processor, ProcessorContext, Record, Result, StreamsBuilder,
    SystemClock, TimeWindows, Timestamp, Topology,
};
use test_support::{
    DEADLINE, Message, Outcome, Topic, create_topic, produce, read_committed, unique, wait_until,
};

use super::runtime::{config, started};

/// Answers every record with the stream time as of it.
struct Clock;

impl Processor<String, String, String, i64> for Clock {
    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let now = context.current_stream_time().map_or(-1, Timestamp::as_millis);
        context.forward(record.with_value(now))
    }
}

fn clock(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>(input).process(|| Clock, &[]).to(output);
    builder.build().unwrap()
}

fn message(key: &str, value: &str, time: i64) -> Message {
    Message {
        timestamp_ms: Some(time),
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        ..Message::default()
    }
}

#[test]
fn stream_time_goes_on_where_the_last_run_stopped() {
    let application = unique("clock");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    create_topic(Topic { name: &input, partitions: 1, config: &[] });
    create_topic(Topic { name: &output, partitions: 1, config: &[] });
    for (round, time) in [5_000, 1_000, 7_000].into_iter().enumerate() {
        produce(&input, &[message("key", "value", time)], Outcome::Plain);
        let state = tempfile::tempdir().unwrap();
        let mut streams = started(clock(&input, &output), config(&application, state.path()));
        wait_until("the answer", DEADLINE, || read_committed(&output).len() > round);
        streams.close(DEADLINE).unwrap();
    }
    let times = read_committed(&output).into_iter().map(|message| message.value.unwrap());
    let times: Vec<i64> = times.map(|time| i64::from_be_bytes(time.try_into().unwrap())).collect();
    assert_eq!(times, [5_000, 5_000, 7_000]);
}

/// Two streams in one aggregate per key and 10 s.
fn cogrouped(one: &str, two: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let add = |_: &String, value: String, all: String| Some(all + &value);
    let [one, two] = [one, two].map(|topic| builder.stream::<String, String>(topic).group_by_key());
    one.cogroup(add)
        .cogroup(&two, add)
        .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(10)))
        .aggregate(String::new, &Named::default(), Materialized::named("all"))
        .to_stream_by(|key, _| key.to_string())
        .to(output);
    builder.build().unwrap()
}

#[test]
fn each_operator_on_a_shared_store_goes_on_at_its_own_time() {
    let application = unique("cogrouped");
    let topics = ["one", "two", "out"].map(|name| format!("{application}-{name}"));
    let [one, two, output] = &topics;
    for name in &topics {
        create_topic(Topic { name, partitions: 1, config: &[] });
    }
    // Brokers clean changelogs up by their records' age.
    let begin = SystemClock::default().now().as_millis() / 10_000 * 10_000 - 200_000;
    let message = |key, value, time| message(key, value, begin + time);
    let late_in_two_alone = [message("b", "late", 1_000), message("c", "y2", 101_000)];
    let rounds = [
        (message("a", "x1", 5_000), vec![message("a", "y1", 100_000)]),
        (message("b", "x2", 6_000), late_in_two_alone.to_vec()),
    ];
    for (round, (of_one, of_two)) in rounds.into_iter().enumerate() {
        produce(one, &[of_one], Outcome::Plain);
        produce(two, &of_two, Outcome::Plain);
        // Nothing but the broker knows what was.
        let state = tempfile::tempdir().unwrap();
        let topology = cogrouped(one, two, output);
        let mut streams = started(topology, config(&application, state.path()));
        let wanted = 2 * (round + 1);
        wait_until("the results", DEADLINE, || read_committed(output).len() >= wanted);
        streams.close(DEADLINE).unwrap();
    }
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
    let results = read_committed(output).into_iter();
    let results: Vec<_> = results.map(|found| (text(found.key), text(found.value))).collect();
    let wanted = [("a", 0, "x1"), ("a", 100_000, "y1"), ("b", 0, "x2"), ("c", 100_000, "y2")];
    let wanted = wanted.map(|(key, start, value)| {
        let start = begin + start;
        (format!("[{key}@{start}/{}]", start + 10_000), value.to_owned())
    });
    assert_eq!(results, wanted);
}
