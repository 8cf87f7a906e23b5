//! The runtime on a real broker: exactly once over restarts, two instances, dead letters, global tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kstreams::{
    KafkaStreams, ProcessingGuarantee, State, StreamsBuilder, StreamsConfig, TaskState, Topology,
};
use test_support::{
    DEADLINE, Follower, Message, Outcome, Topic, create_topic, produce, read_committed, unique,
    wait_until,
};

pub(super) fn config(application: &str, state: &Path) -> StreamsConfig {
    let mut config = StreamsConfig::new(application, test_support::bootstrap());
    config.state_dir = state.to_owned();
    config.session_timeout = Duration::from_secs(6);
    config.heartbeat_interval = Duration::from_secs(1);
    config.record_cache_bytes_max = 0; // the tests look at every update
    config
}

pub(super) fn word_count(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>(input)
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone())
        .count()
        .to_stream()
        .to(output);
    builder.build().unwrap()
}

pub(super) fn topics(input: &str, output: &str) {
    create_topic(Topic { name: input, partitions: 6, config: &[] });
    create_topic(Topic { name: output, partitions: 3, config: &[] });
}

pub(super) fn lines(input: &str, numbers: std::ops::Range<usize>) {
    let message = |n: usize| Message {
        key: Some(n.to_string().into_bytes()),
        value: Some(format!("all w{} v{}", n % 7, n % 31).into_bytes()),
        ..Message::default()
    };
    produce(input, &numbers.map(message).collect::<Vec<_>>(), Outcome::Plain);
}

/// Every count ever published of every word, in order.
pub(super) fn counts(output: &str) -> BTreeMap<String, Vec<i64>> {
    let mut counts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for message in read_committed(output) {
        let word = String::from_utf8(message.key.unwrap()).unwrap();
        let count = i64::from_be_bytes(message.value.unwrap().try_into().unwrap());
        counts.entry(word).or_default().push(count);
    }
    counts
}

pub(super) fn total(output: &str, word: &str) -> i64 {
    counts(output).get(word).and_then(|seen| seen.last().copied()).unwrap_or(0)
}

pub(super) fn started(topology: Topology, config: StreamsConfig) -> KafkaStreams {
    log();
    let mut streams = KafkaStreams::new(topology, config).unwrap();
    streams.start().unwrap();
    streams
}

/// Shows what `RUST_LOG` asks for beside a failed test's own output.
pub(super) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer();
    let _ = log.try_init(); // another test was first
}

#[test]
fn counts_go_on_exactly_once_over_restarts() {
    let application = unique("count");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    for round in 0..3 {
        lines(&input, round * 2000..(round + 1) * 2000);
        let mut config = config(&application, state.path());
        config.num_stream_threads = 1 + round % 2;
        let mut streams = started(word_count(&input, &output), config);
        let wanted = 2000 * (i64::try_from(round).unwrap() + 1);
        wait_until("all words to be counted", DEADLINE, || total(&output, "all") == wanted);
        streams.close(DEADLINE).unwrap();
        assert_eq!(streams.state(), State::NotRunning);
    }
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
}

/// The last of several updates within a commit is all that comes, but it comes, and never twice.
#[test]
fn counts_held_back_by_the_record_cache_skip_some_and_lose_none_over_restarts() {
    let application = unique("cached");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    for (round, bytes_max) in [10 << 20, 300, 10 << 20].into_iter().enumerate() {
        lines(&input, round * 2000..(round + 1) * 2000);
        let mut config = config(&application, state.path());
        config.record_cache_bytes_max = bytes_max;
        let mut streams = started(word_count(&input, &output), config);
        let wanted = 2000 * (i64::try_from(round).unwrap() + 1);
        wait_until("all words to be counted", DEADLINE, || total(&output, "all") == wanted);
        streams.close(DEADLINE).unwrap();
    }
    let counts = counts(&output);
    let published: usize = counts.values().map(Vec::len).sum();
    assert!(published < 3 * 6000, "found all {published} updates, wanted some held back");
    for (word, seen) in &counts {
        assert!(seen.is_sorted_by(|one, next| one < next), "\"{word}\" came twice: {seen:?}");
    }
    let lasts = counts.values().filter_map(|seen| seen.last()).sum::<i64>();
    assert_eq!(lasts, 3 * 6000, "three words a line");
}

#[test]
fn two_instances_share_the_tasks_and_one_takes_over() {
    let application = unique("pair");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = started(word_count(&input, &output), config(&application, one.path()));
    lines(&input, 0..1000);
    wait_until("the first count", DEADLINE, || total(&output, "all") == 1000);
    let mut second = started(word_count(&input, &output), config(&application, two.path()));
    let running = |streams: &KafkaStreams| {
        let tasks = streams.handle().tasks();
        tasks.iter().filter(|task| task.state == TaskState::Running).count()
    };
    wait_until("half the tasks each", DEADLINE, || running(&first) == 6 && running(&second) == 6);
    lines(&input, 1000..3000);
    wait_until("the shared count", DEADLINE, || total(&output, "all") == 3000);
    second.close(DEADLINE).unwrap();
    wait_until("all tasks in one place", DEADLINE, || running(&first) == 12);
    lines(&input, 3000..4000);
    wait_until("the last count", DEADLINE, || total(&output, "all") == 4000);
    first.close(DEADLINE).unwrap();
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
}

/// The first record of a transaction is sent, and then the processor is silent for longer than the transaction may last: the
/// coordinator aborts it and fences the producer. Another producer takes over, and the records come once.
#[test]
fn a_transaction_that_timed_out_is_processed_again_by_another_producer() {
    static STALL: std::sync::Once = std::sync::Once::new();
    let application = unique("timeout");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>(&input)
        .peek(|key, _| {
            if key == "5" {
                STALL.call_once(|| std::thread::park_timeout(Duration::from_secs(4)));
            }
        })
        .to(&output);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&application, state.path());
    config.transaction_timeout = Duration::from_secs(1);
    let message = |n: i32| Message {
        key: Some(n.to_string().into_bytes()),
        value: Some(b"value".to_vec()),
        partition: Some(0),
        ..Message::default()
    };
    produce(&input, &(0..10).map(message).collect::<Vec<_>>(), Outcome::Plain);
    let mut streams = started(builder.build().unwrap(), config);
    wait_until("ten records", DEADLINE, || read_committed(&output).len() >= 10);
    streams.close(DEADLINE).unwrap();
    assert_eq!(read_committed(&output).len(), 10);
    assert!(STALL.is_completed());
}

/// All tasks' records that wait take six times as long as a transaction may last: a turn is cut short in time.
#[test]
fn slow_tasks_commit_before_their_transaction_times_out() {
    const RECORDS: i32 = 6 * 200;
    let application = unique("slow");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let builder = StreamsBuilder::new();
    let work = |_: &String, _: &String| std::thread::park_timeout(Duration::from_millis(5));
    builder.stream::<String, String>(&input).peek(work).to(&output);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&application, state.path());
    config.transaction_timeout = Duration::from_secs(1);
    let message = |n: i32| Message {
        key: Some(n.to_string().into_bytes()),
        value: Some(b"value".to_vec()),
        partition: Some(n % 6),
        ..Message::default()
    };
    produce(&input, &(0..RECORDS).map(message).collect::<Vec<_>>(), Outcome::Plain);
    let mut streams = started(builder.build().unwrap(), config);
    let wanted = usize::try_from(RECORDS).unwrap();
    wait_until("all records", DEADLINE, || read_committed(&output).len() >= wanted);
    streams.close(DEADLINE).unwrap();
    assert_eq!(read_committed(&output).len(), wanted);
    let (mut all, mut follower) = (0, Follower::uncommitted(&output));
    wait_until("the end of the output", DEADLINE, || follower.look(&mut |_| all += 1));
    // A busy machine may let one transaction run out of time; uncut turns would do it again and again.
    assert!(all - wanted < wanted / 2, "{} records were sent in vain", all - wanted);
}

#[test]
fn processed_records_of_repartition_topics_are_deleted() {
    let application = unique("purge");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&application, state.path());
    config.repartition_purge_interval = Duration::from_millis(200);
    lines(&input, 0..300);
    let mut streams = started(word_count(&input, &output), config);
    wait_until("all words to be counted", DEADLINE, || total(&output, "all") == 300);
    let repartition = format!("{application}-KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition");
    wait_until("the purge", DEADLINE, || read_committed(&repartition).is_empty());
    streams.close(DEADLINE).unwrap();
}

#[test]
fn at_least_once_counts_everything() {
    let application = unique("alo");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&application, state.path());
    config.processing_guarantee = ProcessingGuarantee::AtLeastOnce;
    lines(&input, 0..1000);
    let mut streams = started(word_count(&input, &output), config);
    wait_until("all words to be counted", DEADLINE, || total(&output, "all") == 1000);
    streams.close(DEADLINE).unwrap();
}

#[test]
fn global_table_is_complete_before_the_first_join() {
    let application = unique("global");
    let name = |what: &str| format!("{application}-{what}");
    let (countries, orders, shipped) = (name("countries"), name("orders"), name("shipped"));
    for topic in [&countries, &orders, &shipped] {
        create_topic(Topic { name: topic, partitions: 2, config: &[] });
    }
    let text = |key: &str, value: &str| Message {
        key: Some(key.into()),
        value: Some(value.into()),
        ..Message::default()
    };
    produce(&countries, &[text("nl", "Netherlands"), text("de", "Germany")], Outcome::Committed);
    produce(&orders, &[text("1", "nl"), text("2", "de"), text("3", "nl")], Outcome::Committed);
    let builder = StreamsBuilder::new();
    let table = builder.global_table::<String, String>(&countries);
    builder
        .stream::<String, String>(&orders)
        .join_global(&table, |_, order| order.clone(), |_, order, country| order + "=" + &country)
        .to(&shipped);
    let state = tempfile::tempdir().unwrap();
    let mut streams = started(builder.build().unwrap(), config(&application, state.path()));
    wait_until("three joins", DEADLINE, || read_committed(&shipped).len() == 3);
    streams.close(DEADLINE).unwrap();
    let mut values: Vec<_> =
        read_committed(&shipped).into_iter().map(|m| m.value.unwrap()).collect();
    values.sort();
    assert_eq!(values, [&b"de=Germany"[..], b"nl=Netherlands", b"nl=Netherlands"]);
}

#[test]
fn missing_topics_are_named_before_the_start() {
    let state = tempfile::tempdir().unwrap();
    let application = unique("missing");
    let config = config(&application, state.path());
    let Err(error) = KafkaStreams::new(word_count("no-such-input", "no-such-output"), config)
    else {
        panic!("started without its topics")
    };
    assert!(error.message().contains("no topic \"no-such-input\", \"no-such-output\""), "{error}");
}
