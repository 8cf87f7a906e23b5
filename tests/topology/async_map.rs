//! Values made by asynchronous calls: order, room, failures, and what is aborted or moved while calls are under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kstreams::dlq::ErrorHeaders;
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{
    AsyncOptions, Error, Header, Headers, Named, RawRecord, Result, StreamsBuilder, Timestamp,
    Topology,
};
use proptest::prelude::*;
use test_support::{DEADLINE, wait_until};
use tokio::sync::Semaphore;

fn record(key: &str, value: &str, time: i64) -> RawRecord {
    RawRecord {
        offset: 0,
        timestamp: Timestamp::from_millis(time),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Headers::from_iter([Header { key: "h".into(), value: None }]),
    }
}

/// A call that waits for a permit where its value begins with "slow", and notes that it was made.
fn gated(
    options: AsyncOptions<String, String>,
) -> (Topology, Arc<Semaphore>, Arc<Mutex<Vec<String>>>) {
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<String>>>::default());
    let (used, noted) = (gate.clone(), calls.clone());
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .map_values_async(
            move |_, value| {
                let (gate, calls) = (used.clone(), noted.clone());
                async move {
                    calls.lock().unwrap().push(value.clone());
                    if value.starts_with("slow") {
                        gate.acquire().await.unwrap().forget();
                    }
                    Ok(value.to_uppercase())
                }
            },
            options,
        )
        .to("out");
    (builder.build().unwrap(), gate, calls)
}

fn unattended(topology: Topology) -> TopologyTestDriver {
    let settings = TestSettings { waits_for_calls: false, ..TestSettings::default() };
    TopologyTestDriver::with_settings(topology, settings).unwrap()
}

fn values(driver: &TopologyTestDriver) -> Vec<String> {
    let out = driver.output_topic::<String, String>("out").read_key_values().unwrap();
    out.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn results_of_a_key_come_in_order_and_other_keys_go_on() {
    let (topology, gate, calls) = gated(AsyncOptions::default());
    let driver = unattended(topology);
    driver
        .pipe_batch(
            "in",
            [record("a", "slow1", 1), record("a", "fast2", 2), record("b", "fast3", 3)],
        )
        .unwrap();
    let mut seen = Vec::new();
    wait_until("the other key's result", DEADLINE, || {
        driver.advance_wall_clock_time(Duration::ZERO).unwrap();
        seen.extend(values(&driver));
        !seen.is_empty()
    });
    assert_eq!(seen, ["FAST3"]);
    assert_eq!(calls.lock().unwrap().len(), 2, "the second record of a key waits for the first");
    gate.add_permits(1);
    driver.complete_calls().unwrap();
    let out = driver.output_topic::<String, String>("out").read_records().unwrap();
    let found: Vec<_> = out
        .iter()
        .map(|record| {
            (record.value.as_str(), record.timestamp.as_millis(), record.headers.is_empty())
        })
        .collect();
    assert_eq!(found, [("SLOW1", 1, false), ("FAST2", 2, false)]);
}

#[test]
fn several_calls_of_a_key_go_on_at_once_and_their_results_stay_in_order() {
    let options = AsyncOptions { max_in_flight_per_key: 2, ..AsyncOptions::default() };
    let (topology, gate, calls) = gated(options);
    let driver = unattended(topology);
    driver
        .pipe_batch(
            "in",
            [record("a", "slow1", 1), record("a", "fast2", 2), record("a", "fast3", 3)],
        )
        .unwrap();
    wait_until("two calls", DEADLINE, || {
        driver.advance_wall_clock_time(Duration::ZERO).unwrap();
        calls.lock().unwrap().len() == 2
    });
    assert_eq!(values(&driver), [""; 0]);
    gate.add_permits(1);
    driver.complete_calls().unwrap();
    assert_eq!(values(&driver), ["SLOW1", "FAST2", "FAST3"]);
}

#[test]
fn a_task_takes_no_more_records_than_may_be_in_flight() {
    let options = AsyncOptions { max_in_flight: 2, ..AsyncOptions::default() };
    let (topology, gate, calls) = gated(options);
    let driver = unattended(topology);
    let key = |n: i64| format!("k{n}");
    driver.pipe_batch("in", (0..5).map(|n| record(&key(n), &format!("slow{n}"), n))).unwrap();
    let made = || calls.lock().unwrap().len();
    wait_until("two calls", DEADLINE, || made() == 2);
    driver.advance_wall_clock_time(Duration::from_secs(1)).unwrap();
    assert_eq!((made(), values(&driver)), (2, Vec::new()));
    gate.add_permits(5);
    driver.complete_calls().unwrap();
    assert_eq!(values(&driver), ["SLOW0", "SLOW1", "SLOW2", "SLOW3", "SLOW4"]);
}

#[test]
fn failures_are_retried_and_then_dead_lettered_as_the_record_came() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let builder = StreamsBuilder::new();
    let options = AsyncOptions {
        timeout: Duration::from_millis(50),
        retries: 2,
        retry_backoff: Duration::from_millis(1),
        ..AsyncOptions::default()
    };
    builder
        .stream::<String, String>("in")
        .map_values(|_, value| format!("{value}!"))
        .map_values_async(
            move |_, value: String| {
                let attempts = counted.clone();
                async move {
                    let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                    match value.as_str() {
                        "recovers!" if attempt < 2 => Err(Error::retriable("not yet")),
                        "never!" => Err(Error::retriable("not today")),
                        "bad!" => Err(Error::bad_record("no such thing")),
                        "hangs!" => std::future::pending().await,
                        "panics!" => panic!("oh"),
                        _ => Ok(value),
                    }
                }
            },
            AsyncOptions { serdes: Some(serdes()), ..options },
        )
        .peek(|_, value| assert_ne!(value, "refused!", "refused below"))
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (value, tried, why) in [
        ("recovers", 3, ""),
        ("never", 3, "gave up after 3 attempts: not today"),
        ("bad", 1, "no such thing"),
        ("hangs", 3, "no answer within 50ms"),
        ("panics", 1, "the call panicked"),
        ("refused", 1, "refused below"),
        ("fine", 1, ""),
    ] {
        attempts.store(0, Ordering::SeqCst);
        driver.pipe_batch("in", [record("k", value, 7)]).unwrap();
        driver.complete_calls().unwrap();
        assert_eq!(attempts.load(Ordering::SeqCst), tried, "{value}");
        let letter = driver.read_raw("test-in-dlq");
        if why.is_empty() {
            assert_eq!(letter, None, "{value}");
            assert_eq!(values(&driver), [format!("{value}!")]);
            continue;
        }
        assert_eq!(values(&driver), [""; 0], "{value}");
        let letter = letter.unwrap_or_else(|| panic!("{value} is dead-lettered"));
        assert_eq!(letter.value.as_deref(), Some(value.as_bytes()));
        assert_eq!((letter.key.as_deref(), letter.timestamp.as_millis()), (Some(&b"k"[..]), 7));
        assert!(letter.headers.iter().any(|header| &*header.key == "h"));
        let headers = ErrorHeaders::read(&letter.headers);
        let message = headers.entries.iter().find(|(name, _)| name == "message").unwrap();
        assert!(message.1.contains(why), "{value}: {}", message.1);
    }
}

fn serdes() -> (kstreams::serdes::Serde<String>, kstreams::serdes::Serde<String>) {
    use kstreams::serdes::DefaultSerde as _;
    (String::serde(), String::serde())
}

#[test]
fn options_that_cannot_be_are_refused() {
    let build = |options: AsyncOptions<String, String>, changed: bool| {
        let builder = StreamsBuilder::new();
        let mut stream = builder.stream::<String, String>("in");
        if changed {
            stream = stream.map_values(|_, value| value);
        }
        stream
            .map_values_async(|_, value: String| async move { Result::Ok(value) }, options)
            .to("out");
        builder.build().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(build(AsyncOptions::default(), false), Ok(()));
    for (options, wrong) in [
        (AsyncOptions { max_in_flight: 0, ..AsyncOptions::default() }, "max_in_flight 0"),
        (AsyncOptions { max_in_flight_per_key: 0, ..AsyncOptions::default() }, "per_key 0"),
        (AsyncOptions { timeout: Duration::ZERO, ..AsyncOptions::default() }, "timeout in ms 0"),
    ] {
        let text = build(options, false).unwrap_err();
        assert!(text.contains(wrong), "{text}");
    }
    let text = build(AsyncOptions::default(), true).unwrap_err();
    assert!(text.contains("AsyncOptions::serdes"), "{text}");
}

#[derive(Debug, Clone)]
enum Step {
    /// So many records of these keys.
    Pipe(Vec<u8>),
    /// As many, in a transaction that is aborted; then for good.
    Abort(Vec<u8>),
    Restart,
    /// Results come in, whatever has come.
    Look,
    Complete,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || prop::collection::vec(0..3_u8, 1..5);
    prop_oneof![
        5 => keys().prop_map(Step::Pipe),
        3 => keys().prop_map(Step::Abort),
        1 => Just(Step::Restart),
        2 => Just(Step::Look),
        1 => Just(Step::Complete),
    ]
}

/// Two calls in a row; one in seven values is refused by the first, and one in eleven below both.
fn chain() -> Topology {
    let builder = StreamsBuilder::new();
    // Room for all: the driver would lose what an abort finds in its queue.
    let options = || AsyncOptions { max_in_flight: 1_000, ..AsyncOptions::default() };
    builder
        .stream::<String, i64>("in")
        .map_values_async_named(
            |_, value| async move {
                tokio::task::yield_now().await;
                if value % 7 == 6 { Err(Error::bad_record("refused")) } else { Ok(value) }
            },
            options(),
            &Named::new("first"),
        )
        .map_values_async_named(
            |_, value| async move {
                if value % 2 == 0 {
                    tokio::time::sleep(Duration::from_micros(50)).await;
                }
                Ok(value)
            },
            AsyncOptions { serdes: Some(number_serdes()), ..options() },
            &Named::new("second"),
        )
        .peek(|_, value| assert_ne!(value % 11, 10, "refused"))
        .to("out");
    builder.build().unwrap()
}

fn number_serdes() -> (kstreams::serdes::Serde<String>, kstreams::serdes::Serde<i64>) {
    use kstreams::serdes::DefaultSerde as _;
    (String::serde(), i64::serde())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_record_has_its_result_once_and_in_order_whatever_is_aborted_or_restarted(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let driver = unattended(chain());
        let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut refused = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Restart => driver.restart().unwrap(),
                Step::Look => driver.advance_wall_clock_time(Duration::ZERO).unwrap(),
                Step::Complete => driver.complete_calls().unwrap(),
                Step::Pipe(ref keys) | Step::Abort(ref keys) => {
                    let records: Vec<_> = keys.iter().map(|key| {
                        let key = format!("k{key}");
                        let value = next;
                        next += 1;
                        match value % 7 == 6 || value % 11 == 10 {
                            true => refused.push(value),
                            false => wanted.entry(key.clone()).or_default().push(value),
                        }
                        let value = Bytes::copy_from_slice(&value.to_be_bytes());
                        RawRecord { value: Some(value), ..record(&key, "", 1) }
                    }).collect();
                    if matches!(step, Step::Abort(_)) {
                        driver.pipe_batch_and_abort("in", records.clone()).unwrap();
                    }
                    driver.pipe_batch("in", records).unwrap();
                }
            }
        }
        driver.complete_calls().unwrap();
        let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (key, value) in driver.output_topic::<String, i64>("out").read_key_values().unwrap() {
            found.entry(key).or_default().push(value);
        }
        prop_assert_eq!(found, wanted);
        let mut letters = Vec::new();
        while let Some(letter) = driver.read_raw("test-in-dlq") {
            letters.push(i64::from_be_bytes(letter.value.unwrap()[..].try_into().unwrap()));
        }
        letters.sort_unstable();
        prop_assert_eq!(letters, refused);
        for store in ["first-store", "second-store"] {
            let mut left = BTreeMap::new();
            while let Some(record) = driver.read_raw(&format!("test-{store}-changelog")) {
                left.insert(record.key.unwrap(), record.value.is_some());
            }
            prop_assert!(left.values().all(|is_there| !is_there), "{} is empty", store);
        }
    }
}
