//! A table whose own topic is its changelog: it is restored up to what was processed, and no further.

use std::collections::BTreeMap;

use kstreams::{Grouped, KafkaStreams, StreamsBuilder, Topology, TopologyOptimization};
use test_support::{
    DEADLINE, Message, Outcome, Topic, create_topic, produce, read_committed, unique, wait_until,
};

use super::runtime::{config, log};

/// How many keys have each colour.
fn colours(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .table::<String, String>(input)
        .group_by(|_, colour| (colour.clone(), colour.clone()), Grouped::default())
        .count()
        .to_stream()
        .to(output);
    builder.build_with(TopologyOptimization::ALL).unwrap()
}

fn paint(input: &str, keys: &[(&str, &str)]) {
    let message = |(key, colour): &(&str, &str)| Message {
        key: Some(key.as_bytes().to_vec()),
        value: Some(colour.as_bytes().to_vec()),
        ..Message::default()
    };
    produce(input, &keys.iter().map(message).collect::<Vec<_>>(), Outcome::Plain);
}

fn counts(output: &str) -> BTreeMap<String, i64> {
    let messages = read_committed(output).into_iter();
    messages
        .map(|message| {
            let colour = String::from_utf8(message.key.unwrap()).unwrap();
            (colour, i64::from_be_bytes(message.value.unwrap().try_into().unwrap()))
        })
        .collect()
}

fn run_until(input: &str, output: &str, state: &std::path::Path, wanted: &[(&str, i64)]) {
    log();
    let application = input.trim_end_matches("-in");
    let mut streams =
        KafkaStreams::new(colours(input, output), config(application, state)).unwrap();
    streams.start().unwrap();
    let wanted = wanted.iter().map(|(colour, count)| ((*colour).to_owned(), *count)).collect();
    wait_until("the colours to be counted", DEADLINE, || counts(output) == wanted);
    streams.close(DEADLINE).unwrap();
}

#[test]
fn table_is_restored_from_its_topic_up_to_what_was_processed() {
    let application = unique("colours");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    create_topic(Topic { name: &input, partitions: 2, config: &[("cleanup.policy", "compact")] });
    create_topic(Topic { name: &output, partitions: 2, config: &[] });
    let state = tempfile::tempdir().unwrap();
    paint(&input, &[("a", "red"), ("b", "red"), ("c", "blue"), ("d", "red")]);
    run_until(&input, &output, state.path(), &[("blue", 1), ("red", 3)]);
    // What comes while nobody runs must not be in the restored table: the colours before would be lost.
    paint(&input, &[("a", "blue"), ("b", "green"), ("c", "green"), ("b", "blue")]);
    run_until(&input, &output, state.path(), &[("blue", 2), ("green", 1), ("red", 1)]);
    // The same from an empty disk.
    let state = tempfile::tempdir().unwrap();
    paint(&input, &[("d", "blue"), ("e", "green")]);
    run_until(&input, &output, state.path(), &[("blue", 3), ("green", 2), ("red", 0)]);
}
