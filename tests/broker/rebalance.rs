//! A member joins: what stays is not disturbed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kstreams::{
    GroupProtocol, KafkaStreams, StreamsBuilder, StreamsConfig, TaskId, TaskState, Topology,
};
use test_support::{
    DEADLINE, Message, Outcome, Topic, create_topic, produce, read_committed, unique, wait_until,
};

use super::runtime;
use super::watched::{Gate, Notes, started};

const PARTITIONS: i32 = 6;

fn config(application: &str, state: &Path, protocol: GroupProtocol) -> StreamsConfig {
    let mut config = runtime::config(application, state);
    config.group_protocol = protocol;
    config
}

/// Records keep their partitions.
fn copy(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>(input).to(output);
    builder.build().unwrap()
}

/// One record into each partition.
fn one_each(topic: &str, value: &str) {
    let message = |partition: i32| Message {
        key: Some(partition.to_string().into_bytes()),
        value: Some(value.into()),
        partition: Some(partition),
        ..Message::default()
    };
    produce(topic, &(0..PARTITIONS).map(message).collect::<Vec<_>>(), Outcome::Plain);
}

/// The keys, which name the partition of the input, of all records with a value.
fn copied(topic: &str, value: &str) -> BTreeSet<i32> {
    let messages = read_committed(topic).into_iter();
    let found = messages.filter(|message| message.value.as_deref() == Some(value.as_bytes()));
    found.map(|m| String::from_utf8(m.key.unwrap()).unwrap().parse().unwrap()).collect()
}

fn running(streams: &KafkaStreams) -> BTreeSet<TaskId> {
    let tasks = streams.handle().tasks().into_iter();
    tasks.filter(|task| task.state == TaskState::Running).map(|task| task.id).collect()
}

/// The rebalance is held open after the first member has committed what it must give up.
#[test]
fn tasks_that_stay_process_records_during_a_rebalance() {
    let application = unique("stay");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    for topic in [&input, &output] {
        create_topic(Topic { name: topic, partitions: PARTITIONS, config: &[] });
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let notes = Arc::new(Notes { gate: Some(Gate::default()), ..Notes::default() });
    let first = config(&application, one.path(), GroupProtocol::Consumer);
    let mut first = started(copy(&input, &output), first, &notes);
    wait_until("all tasks", DEADLINE, || running(&first).len() == 6);
    one_each(&input, "before");
    wait_until("the first copies", DEADLINE, || copied(&output, "before").len() == 6);

    let second = config(&application, two.path(), GroupProtocol::Consumer);
    let mut second = runtime::started(copy(&input, &output), second);
    let gate = notes.gate.as_ref().unwrap();
    let revoked: BTreeSet<i32> = gate.wait_for_revocation().iter().map(|p| p.partition).collect();
    assert_eq!(revoked.len(), 3, "half of the tasks move");
    let staying: BTreeSet<i32> = (0..PARTITIONS).filter(|p| !revoked.contains(p)).collect();
    one_each(&input, "during");
    wait_until("copies by tasks that stay", DEADLINE, || copied(&output, "during") == staying);
    let states = first.handle().tasks().into_iter();
    let suspended = states.filter(|task| task.state == TaskState::Suspended);
    assert_eq!(suspended.map(|task| task.id.partition).collect::<BTreeSet<_>>(), revoked);
    gate.open();

    wait_until("the other copies", DEADLINE, || copied(&output, "during").len() == 6);
    wait_until("half the tasks each", DEADLINE, || {
        running(&first).len() == 3 && running(&second).len() == 3
    });
    second.close(DEADLINE).unwrap();
    wait_until("all tasks again", DEADLINE, || running(&first).len() == 6);
    one_each(&input, "after");
    wait_until("the last copies", DEADLINE, || copied(&output, "after").len() == 6);
    first.close(DEADLINE).unwrap();
    assert_eq!(read_committed(&output).len(), 18, "every record once");
}
