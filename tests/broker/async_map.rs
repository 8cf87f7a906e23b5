//! Asynchronous calls on a real broker: with refused commits, and a client that ends while calls hang, each record has one result, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kstreams::{
    AsyncOptions, Components, Error, ErrorKind, KafkaStreams, StreamsBuilder, Topology,
};
use test_support::{DEADLINE, Message, Outcome, produce, read_committed, unique, wait_until};

use super::aborts::{FailAt, RefusingClients, Tally};
use super::runtime::{config, log, topics};

const KEYS: usize = 12;
const RECORDS: usize = 600;

/// What the world outside does.
#[derive(Default)]
struct World {
    calls: AtomicUsize,
    /// Every tenth call gets no answer.
    hangs: AtomicBool,
    hanging: AtomicUsize,
}

fn topology(input: &str, output: &str, world: &Arc<World>) -> Topology {
    let world = Arc::clone(world);
    let builder = StreamsBuilder::new();
    let options = AsyncOptions {
        retries: 50,
        retry_backoff: Duration::from_millis(1),
        ..AsyncOptions::default()
    };
    builder
        .stream::<String, String>(input)
        .map_values_async(
            move |_, value: String| {
                let world = Arc::clone(&world);
                async move {
                    let call = world.calls.fetch_add(1, Ordering::SeqCst);
                    if call % 10 == 9 && world.hangs.load(Ordering::SeqCst) {
                        world.hanging.fetch_add(1, Ordering::SeqCst);
                        return std::future::pending().await;
                    }
                    tokio::time::sleep(Duration::from_millis(call as u64 % 7)).await;
                    if call % 5 == 4 {
                        return Err(Error::retriable("once more"));
                    }
                    Ok(format!("{value}!"))
                }
            },
            options,
        )
        .to(output);
    builder.build().unwrap()
}

fn send(input: &str, numbers: std::ops::Range<usize>) {
    let message = |n: usize| Message {
        key: Some(format!("k{}", n % KEYS).into_bytes()),
        value: Some(n.to_string().into_bytes()),
        ..Message::default()
    };
    produce(input, &numbers.map(message).collect::<Vec<_>>(), Outcome::Plain);
}

#[test]
fn each_record_has_one_result_in_order_over_refused_commits_and_hanging_calls() {
    log();
    let application = unique("async");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    world.hangs.store(true, Ordering::SeqCst);
    let tally = Arc::<Tally>::default();
    send(&input, 0..RECORDS);
    let start = || {
        let config = config(&application, state.path());
        let mut components = Components::from_config(&config).unwrap();
        let kind = ErrorKind::AbortTransaction;
        let clients = RefusingClients::new(components.clients, FailAt::Commit, kind, &tally);
        components.clients = Arc::new(clients);
        let topology = topology(&input, &output, &world);
        let mut streams = KafkaStreams::with_components(topology, config, components).unwrap();
        streams.start().unwrap();
        streams
    };
    let results = || read_committed(&output).len();
    // In the first life some calls hang, and with them the keys that come after.
    let mut streams = start();
    wait_until("results, and calls that hang", DEADLINE, || {
        world.hanging.load(Ordering::SeqCst) >= KEYS / 2 && results() > 0
    });
    streams.close(DEADLINE).unwrap();
    drop(streams); // gives the state folder back
    let before = results();
    assert!(before < RECORDS, "nothing was left for the second life");
    world.hangs.store(false, Ordering::SeqCst);
    let mut streams = start();
    wait_until("all results", DEADLINE, || results() >= RECORDS);
    streams.close(DEADLINE).unwrap();
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for message in read_committed(&output) {
        let key = String::from_utf8(message.key.unwrap()).unwrap();
        let value = String::from_utf8(message.value.unwrap()).unwrap();
        found.entry(key).or_default().push(value.trim_end_matches('!').parse().unwrap());
    }
    let of_key = |key: usize| (0..RECORDS).filter(|n| n % KEYS == key).collect::<Vec<_>>();
    let wanted: BTreeMap<_, _> = (0..KEYS).map(|key| (format!("k{key}"), of_key(key))).collect();
    assert_eq!(found, wanted);
    assert!(tally.refusals.load(Ordering::SeqCst) > 0, "no commit was refused");
    assert!(world.calls.load(Ordering::SeqCst) > RECORDS, "no call was made again");
}
