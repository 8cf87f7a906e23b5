//! Standby tasks on a real broker: the survivor of two instances has the other's state already.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kstreams::serdes::DefaultSerde as _;
use kstreams::{
    KafkaStreams, Materialized, QueryableStoreTypes, Result, StoreQueryParameters, StreamsBuilder,
    StreamsConfig, TaskState, TimeWindows, Topology, TopologyOptimization,
};
use test_support::{
    DEADLINE, Message, Outcome, Process, Signal, Topic, create_topic, produce, unique, wait_until,
};

use super::runtime::{config, log, started};

const COUNTS: &str = "counts";
const KEYS: usize = 3_000;
const PARTITIONS: i32 = 6;
/// What the process that is killed is to run: an application and its state folder.
const VARIABLE: &str = "KSTREAMS_TEST_STANDBY";

/// A counted stream, a table that is its topic's own changelog, and windows.
fn topology(application: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, String>(&format!("{application}-in"));
    let grouped = stream.group_by_key();
    grouped.count_with(Materialized::named(COUNTS));
    grouped
        .windowed_by(TimeWindows::of_size_with_no_grace(std::time::Duration::from_secs(3600)))
        .count_with(&kstreams::Named::default(), Materialized::named("windows").in_memory());
    builder.table_with::<String, String>(
        &format!("{application}-table"),
        Default::default(),
        Materialized::named("table"),
    );
    builder.build_with(TopologyOptimization::ALL).unwrap()
}

fn with_standby(application: &str, state: &Path, server: &str) -> StreamsConfig {
    let mut config = config(application, state);
    config.num_standby_replicas = 1;
    config.application_server = server.to_owned();
    config
}

/// The instance that is killed. Does nothing unless the test below starts it.
#[test]
fn owner() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let (application, state) = what.split_once(' ').unwrap();
    let config = with_standby(application, Path::new(state), "127.0.0.1:2");
    let _streams = started(topology(application), config);
    wait_until("the kill", 10 * DEADLINE, || false);
}

fn feed(topic: &str, value: &str) {
    let message = |n: usize| Message {
        key: Some(format!("k{n}").into_bytes()),
        value: Some(value.as_bytes().to_vec()),
        ..Message::default()
    };
    produce(topic, &(0..KEYS).map(message).collect::<Vec<_>>(), Outcome::Plain);
}

fn counts(streams: &KafkaStreams, stale: bool) -> Result<BTreeMap<String, i64>> {
    let store_type = QueryableStoreTypes::key_value_store::<String, i64>();
    let mut parameters = StoreQueryParameters::from_name_and_type(COUNTS, store_type);
    if stale {
        parameters = parameters.enable_stale_stores();
    }
    streams.store(&parameters)?.all()?.collect()
}

fn table(streams: &KafkaStreams) -> Result<BTreeMap<String, String>> {
    let store_type = QueryableStoreTypes::key_value_store::<String, String>();
    let parameters = StoreQueryParameters::from_name_and_type("table", store_type);
    streams.store(&parameters.enable_stale_stores())?.all()?.collect()
}

fn in_state(streams: &KafkaStreams, state: TaskState) -> usize {
    streams.handle().tasks().iter().filter(|task| task.state == state).count()
}

fn all_are(found: Result<BTreeMap<String, i64>>, count: i64) -> bool {
    found.is_ok_and(|all| all.len() == KEYS && all.values().all(|found| *found == count))
}

#[test]
fn the_standby_of_a_killed_instance_replays_only_the_rest() {
    log();
    let application = unique("standby");
    let (input, changes) = (format!("{application}-in"), format!("{application}-table"));
    for topic in [&input, &changes] {
        create_topic(Topic { name: topic, partitions: PARTITIONS, config: &[] });
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |state: &Path| {
        let mut owner = Command::new(std::env::current_exe().unwrap());
        owner
            .args(["standby::owner", "--exact", "--nocapture"])
            .env(VARIABLE, format!("{application} {}", state.display()));
        Process::start(owner)
    };
    let mut owner = start(two.path());
    let config = with_standby(&application, one.path(), "127.0.0.1:1");
    let mut streams = started(topology(&application), config);
    let tasks = 2 * PARTITIONS as usize;
    wait_until("half of the tasks, and the others as standbys", DEADLINE, || {
        let here = [TaskState::Running, TaskState::Standby].map(|state| in_state(&streams, state));
        here == [tasks / 2, tasks / 2]
    });
    for round in ["a", "b"] {
        feed(&input, round);
        feed(&changes, round);
    }

    wait_until("a copy of everything", DEADLINE, || {
        all_are(counts(&streams, true), 2)
            && table(&streams).is_ok_and(|all| all.len() == KEYS && all.values().all(|v| v == "b"))
    });
    let own = counts(&streams, false).unwrap();
    assert!(!own.is_empty() && own.len() < KEYS, "found {} own keys", own.len());
    let lags = streams.all_local_store_partition_lags();
    for store in [COUNTS, "windows", "table"] {
        assert_eq!(lags[store].len(), PARTITIONS as usize, "{store}");
    }
    wait_until("no lag", DEADLINE, || {
        let lags = streams.all_local_store_partition_lags();
        lags[COUNTS].values().all(|lag| lag.offset_lag == 0 && lag.current_offset_position > 0)
    });
    let away = (0..KEYS).map(|n| format!("k{n}")).find(|key| !own.contains_key(key)).unwrap();
    let at = streams.query_metadata_for_key(COUNTS, &away, &String::serde()).unwrap().unwrap();
    assert_eq!(at.active_host.port, 2);
    assert_eq!(at.standby_hosts, ["127.0.0.1:1".parse().unwrap()]);
    let instances = streams.streams_metadata_for_store(COUNTS).unwrap();
    assert!(instances.iter().all(|i| i.standby_state_store_names.contains(COUNTS)));

    owner.signal(Signal::Kill);
    owner.wait(DEADLINE);
    wait_until("all tasks", DEADLINE, || in_state(&streams, TaskState::Running) == tasks);
    let restored: Vec<u64> = streams
        .handle()
        .tasks()
        .iter()
        .filter_map(|task| task.progress.map(|progress| progress.restored))
        .collect();
    // Each of three tasks would have some 500 keys, twice and in two stores, to read from the beginning.
    let most = restored.iter().max().unwrap();
    assert!(*most < 50, "found {restored:?} records replayed, wanted the rest alone");
    feed(&input, "c");
    wait_until("the third count", DEADLINE, || all_are(counts(&streams, false), 3));
    assert_eq!(in_state(&streams, TaskState::Standby), 0);

    // The other comes back: what moves there stays here as a standby, with what it has.
    let _owner = start(two.path());
    wait_until("half of the tasks, and the others as standbys again", DEADLINE, || {
        let here = [TaskState::Running, TaskState::Standby].map(|state| in_state(&streams, state));
        here == [tasks / 2, tasks / 2]
    });
    wait_until("a copy of everything again", DEADLINE, || all_are(counts(&streams, true), 3));
    streams.close(DEADLINE).unwrap();
}
