//! Interactive queries of two instances on a real broker: committed counts, found where the metadata says they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kstreams::serdes::DefaultSerde as _;
use kstreams::{
    ErrorKind, HostInfo, KafkaStreams, Materialized, QueryableStoreTypes, Result,
    StoreQueryParameters, StreamsBuilder, StreamsConfig, Topology,
};
use test_support::{DEADLINE, Message, Outcome, Topic, create_topic, produce, unique, wait_until};

const STORE: &str = "counts";
const KEYS: usize = 200;

fn config(application: &str, state: &Path, server: &str) -> StreamsConfig {
    let mut config = StreamsConfig::new(application, test_support::bootstrap());
    config.state_dir = state.to_owned();
    config.session_timeout = std::time::Duration::from_secs(6);
    config.heartbeat_interval = std::time::Duration::from_secs(1);
    config.application_server = server.to_owned();
    config
}

fn topology(input: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>(input).group_by_key().count_with(Materialized::named(STORE));
    builder.build().unwrap()
}

fn feed(input: &str, rounds: usize) {
    let message = |n: usize| Message {
        key: Some(format!("k{}", n % KEYS).into_bytes()),
        value: Some(b"v".to_vec()),
        ..Message::default()
    };
    produce(input, &(0..KEYS * rounds).map(message).collect::<Vec<_>>(), Outcome::Plain);
}

fn started(topology: Topology, config: StreamsConfig) -> KafkaStreams {
    let mut streams = KafkaStreams::new(topology, config).unwrap();
    streams.start().unwrap();
    streams
}

/// All counts of an instance's partitions, and those partitions.
fn counts(streams: &KafkaStreams) -> Result<(BTreeMap<String, i64>, BTreeSet<i32>)> {
    let counts = QueryableStoreTypes::key_value_store::<String, i64>();
    let store = streams.store(&StoreQueryParameters::from_name_and_type(STORE, counts))?;
    let partitions = store.partitions().into_iter().collect();
    Ok((store.all()?.collect::<Result<_>>()?, partitions))
}

#[test]
fn every_key_is_found_committed_where_the_metadata_says_it_is() {
    let application = unique("query");
    let input = format!("{application}-in");
    create_topic(Topic { name: &input, partitions: 6, config: &[] });
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let addresses: [HostInfo; 2] =
        ["127.0.0.1:1111".parse().unwrap(), "two.example:2222".parse().unwrap()];
    let start = |state: &Path, address: &HostInfo| {
        started(topology(&input), config(&application, state, &address.to_string()))
    };
    let mut first = start(one.path(), &addresses[0]);
    feed(&input, 3);
    wait_until("all counts in one place", DEADLINE, || {
        counts(&first).is_ok_and(|(all, _)| all.len() == KEYS && all.values().all(|n| *n == 3))
    });
    let mut second = start(two.path(), &addresses[1]);
    wait_until("half the partitions each", DEADLINE, || {
        [&first, &second].iter().all(|s| counts(s).is_ok_and(|(_, parts)| parts.len() == 3))
    });
    feed(&input, 1);
    wait_until("all counts in two places", DEADLINE, || {
        let (Ok((a, _)), Ok((b, _))) = (counts(&first), counts(&second)) else { return false };
        a.len() + b.len() == KEYS && a.values().chain(b.values()).all(|n| *n == 4)
    });
    let (here, partitions) = counts(&first).unwrap();
    let serde = String::serde();
    for n in 0..KEYS {
        let key = format!("k{n}");
        let from_both = [&first, &second]
            .map(|streams| streams.query_metadata_for_key(STORE, &key, &serde).unwrap().unwrap());
        assert_eq!(from_both[0], from_both[1], "{key}");
        let is_here = here.contains_key(&key);
        assert_eq!(from_both[0].active_host, addresses[usize::from(!is_here)], "{key}");
        assert_eq!(partitions.contains(&from_both[0].partition), is_here, "{key}");
        let counts = QueryableStoreTypes::key_value_store::<String, i64>();
        let one = StoreQueryParameters::from_name_and_type(STORE, counts)
            .with_partition(from_both[0].partition);
        let owner = if is_here { &first } else { &second };
        assert_eq!(owner.store(&one).unwrap().get(&key).unwrap(), Some(4), "{key}");
        let other = if is_here { &second } else { &first };
        assert_eq!(other.store(&one).err().unwrap().kind(), ErrorKind::Retriable, "{key}");
    }
    let instances = first.streams_metadata_for_store(STORE).unwrap();
    assert_eq!(
        instances.iter().map(|i| &i.host_info).collect::<Vec<_>>(),
        [&addresses[0], &addresses[1]]
    );
    assert!(instances.iter().all(|i| i.topic_partitions.len() == 3));
    assert_eq!(instances, second.metadata_for_all_streams_clients().unwrap());
    let lags = &first.all_local_store_partition_lags()[STORE];
    assert_eq!(lags.keys().copied().collect::<BTreeSet<_>>(), partitions);
    assert!(lags.values().all(|lag| lag.offset_lag == 0 && lag.current_offset_position > 0));

    // One leaves: the other has everything, and says so.
    second.close(DEADLINE).unwrap();
    wait_until("everything in one place again", DEADLINE, || {
        counts(&first).is_ok_and(|(all, _)| all.len() == KEYS && all.values().all(|n| *n == 4))
    });
    let owner = first.query_metadata_for_key(STORE, &"k1".to_owned(), &serde).unwrap().unwrap();
    assert_eq!(owner.active_host, addresses[0]);
    assert!(counts(&second).is_err());
    first.close(DEADLINE).unwrap();
}

#[test]
fn a_store_that_is_not_there_and_a_wrong_type_are_told_apart() {
    let application = unique("query-errors");
    let input = format!("{application}-in");
    create_topic(Topic { name: &input, partitions: 1, config: &[] });
    let state = tempfile::tempdir().unwrap();
    let mut streams =
        KafkaStreams::new(topology(&input), config(&application, state.path(), "")).unwrap();
    let ask = |streams: &KafkaStreams, store: &str| {
        let counts = QueryableStoreTypes::key_value_store::<String, i64>();
        streams.store(&StoreQueryParameters::from_name_and_type(store, counts)).err().unwrap()
    };
    assert_eq!(ask(&streams, STORE).kind(), ErrorKind::Retriable);
    let error = ask(&streams, "count");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.message().contains("no store \"count\"") && error.message().contains(STORE),
        "{error}"
    );
    streams.start().unwrap();
    wait_until("the store", DEADLINE, || counts(&streams).is_ok());
    let texts = QueryableStoreTypes::key_value_store::<String, String>();
    let wrong = streams.store(&StoreQueryParameters::from_name_and_type(STORE, texts));
    assert_eq!(wrong.err().unwrap().kind(), ErrorKind::Invalid);
    // Nobody can be sent here: this instance has no address.
    let key = "k".to_owned();
    assert_eq!(streams.query_metadata_for_key(STORE, &key, &String::serde()).unwrap(), None);
    streams.close(DEADLINE).unwrap();
}
