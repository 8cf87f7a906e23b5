//! Restoration on a real broker: a process that is killed in the middle goes on where it stood.

use std::path::Path;
use std::process::Command;

use kstreams::{
    KafkaStreams, Materialized, QueryableStoreTypes, StoreQueryParameters, StreamsBuilder,
    TaskState, Topology,
};
use test_support::{
    DEADLINE, Message, Outcome, Process, Signal, Topic, create_topics, produce, unique, wait_until,
};

use super::runtime::{config, log, started};

const STORE: &str = "rows";
const RECORDS: usize = 200_000;
/// What the process that is killed is to run: an application and its state folder.
const VARIABLE: &str = "KSTREAMS_TEST_RESTORER";

fn topology(application: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>(&format!("{application}-in"))
        .group_by_key()
        .reduce(|_, new| new, Materialized::named(STORE));
    builder.build().unwrap()
}

/// How far the store is in its changelog.
fn position(streams: &KafkaStreams) -> i64 {
    let lags = streams.all_local_store_partition_lags();
    lags.get(STORE).and_then(|store| store.get(&0)).map_or(0, |lag| lag.current_offset_position)
}

/// The process that is killed: says once where it stands, and goes on. Does nothing unless the test below starts it.
#[test]
fn restorer() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let (application, state) = what.split_once(' ').unwrap();
    let streams = started(topology(application), config(application, Path::new(state)));
    wait_until("a first batch", DEADLINE, || position(&streams) > 0);
    println!("position {}", position(&streams));
    wait_until("the kill", DEADLINE, || false);
}

#[test]
fn restoration_goes_on_where_a_kill_stopped_it() {
    log();
    let application = unique("restore");
    let changelog = format!("{application}-{STORE}-changelog");
    create_topics(&[
        Topic { name: &format!("{application}-in"), partitions: 1, config: &[] },
        Topic { name: &changelog, partitions: 1, config: &[("cleanup.policy", "compact")] },
    ]);
    let message = |n: usize| Message {
        key: Some(format!("key-{n}").into_bytes()),
        value: Some(format!("{n:->100}").into_bytes()),
        ..Message::default()
    };
    produce(&changelog, &(0..RECORDS).map(message).collect::<Vec<_>>(), Outcome::Plain);
    let state = tempfile::tempdir().unwrap();

    let mut restorer = Command::new(std::env::current_exe().unwrap());
    restorer
        .args(["restore::restorer", "--exact", "--nocapture"])
        .env(VARIABLE, format!("{application} {}", state.path().display()));
    let mut restorer = Process::start(restorer);
    let line = restorer.wait_for_line("position ", DEADLINE);
    restorer.signal(Signal::Kill);
    restorer.wait(DEADLINE);
    let before: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(before < RECORDS as u64, "it was killed too late: the test proves nothing");

    let mut streams = started(topology(&application), config(&application, state.path()));
    let running = || {
        let tasks = streams.handle().tasks();
        tasks.into_iter().find(|task| task.state == TaskState::Running)
    };
    wait_until("the task", DEADLINE, || running().is_some());
    let progress = running().unwrap().progress.unwrap();
    let rest = RECORDS as u64 - before;
    assert!(
        progress.restored <= rest,
        "found {} records read again, wanted {rest}",
        progress.restored
    );
    assert_eq!(progress.remaining, 0);
    let rows = QueryableStoreTypes::key_value_store::<String, String>();
    let store = streams.store(&StoreQueryParameters::from_name_and_type(STORE, rows)).unwrap();
    assert_eq!(store.count(.., u64::MAX).unwrap().entries, RECORDS as u64);
    for n in [0, 1, RECORDS / 2, RECORDS - 1] {
        assert_eq!(store.get(&format!("key-{n}")).unwrap(), Some(format!("{n:->100}")));
    }
    streams.close(DEADLINE).unwrap();
}
