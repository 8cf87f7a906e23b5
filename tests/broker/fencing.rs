//! Take-over: what a dead instance left open is aborted before its tasks go on, and nothing that belongs to a living one is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::librdkafka::{ClientSettings, LibrdkafkaClients};
use kstreams::kafka::{KafkaClients, OutgoingRecord, Producer};
use kstreams::{
    Clock, ErrorKind, Headers, KafkaStreams, State, StreamsConfig, SystemClock, TaskState,
    Timestamp,
};
use test_support::{DEADLINE, read_committed, unique, wait_until};

use super::runtime::{config, counts, lines, started, topics, total, word_count};
use super::watched::{self, Notes};

/// So long that no test waits for it.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(600);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The id of the only thread of an instance.
fn id_of(config: &StreamsConfig) -> String {
    let application = &config.application_id;
    let process = std::fs::read_to_string(config.state_dir.join(application).join("process"));
    format!("{application}-{}-0", process.unwrap())
}

/// A producer as the thread of an instance has it.
fn producer_of(config: &StreamsConfig) -> Box<dyn Producer> {
    let mut settings = ClientSettings::new(test_support::bootstrap(), &config.application_id);
    let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
    settings.producer.insert("transaction.timeout.ms".into(), timeout);
    let clients = LibrdkafkaClients::new(settings).unwrap();
    let mut producer = clients.producer(Some(&id_of(config))).unwrap();
    producer.init_transactions(REQUEST_TIMEOUT).unwrap();
    producer
}

/// Sends to every partition of a topic, in a transaction that stays open.
fn leave_open(producer: &mut dyn Producer, topic: &str, partitions: i32) {
    producer.begin_transaction().unwrap();
    let topic = producer.topic(topic).unwrap();
    for partition in 0..partitions {
        let record = OutgoingRecord {
            topic,
            partition: Some(partition),
            timestamp: Timestamp::from_millis(1),
            key: Some(b"open"),
            value: Some(&[0; 8]),
            headers: &Headers::default(),
        };
        producer.send(record).unwrap();
    }
    producer.flush(REQUEST_TIMEOUT).unwrap();
}

/// The dead one's transaction would last for ten minutes, both in the results and in a changelog that is to be restored.
#[test]
fn what_a_dead_instance_left_open_is_aborted_at_take_over() {
    let application = unique("left-open");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = config(&application, one.path());
    let mut streams = started(word_count(&input, &output), first.clone());
    lines(&input, 0..500);
    wait_until("the first count", DEADLINE, || total(&output, "all") == 500);
    streams.close(DEADLINE).unwrap();
    let mut dead = producer_of(&first);
    leave_open(&mut *dead, &output, 3);
    let changelog = format!("{application}-KSTREAM-AGGREGATE-STATE-STORE-0000000003-changelog");
    let topic = dead.topic(&changelog).unwrap();
    let record = OutgoingRecord {
        topic,
        partition: Some(0),
        timestamp: Timestamp::from_millis(1),
        key: Some(b"all"),
        value: Some(&[0; 8]),
        headers: &Headers::default(),
    };
    dead.send(record).unwrap();
    dead.flush(REQUEST_TIMEOUT).unwrap();

    let clock = SystemClock::default();
    let mut second = started(word_count(&input, &output), config(&application, two.path()));
    lines(&input, 500..1000);
    wait_until("the second count", DEADLINE, || total(&output, "all") == 1000);
    eprintln!("readers got on {:?} after the start of the other", clock.monotonic());
    second.close(DEADLINE).unwrap();
    let error = dead.commit_transaction(REQUEST_TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    assert!(read_committed(&output).iter().all(|message| message.key.as_deref() != Some(b"open")));
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
}

#[test]
fn a_member_that_lives_is_not_fenced_and_one_that_has_gone_is() {
    let application = unique("living");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (config(&application, one.path()), config(&application, two.path()));
    let mut staying = started(word_count(&input, &output), first.clone());
    lines(&input, 0..500);
    wait_until("the first count", DEADLINE, || total(&output, "all") == 500);

    let notes = Arc::new(Notes::default());
    let mut joining = watched::started(word_count(&input, &output), second.clone(), &notes);
    let running = |streams: &KafkaStreams| {
        let tasks = streams.handle().tasks();
        tasks.iter().filter(|task| task.state == TaskState::Running).count()
    };
    wait_until("half the tasks each", DEADLINE, || {
        running(&staying) == 6 && running(&joining) == 6
    });
    let own = BTreeSet::from([id_of(&second)]);
    assert_eq!(*notes.ids.lock().unwrap(), own, "tasks came from a member that lives");
    staying.close(DEADLINE).unwrap();
    wait_until("all tasks in one place", DEADLINE, || running(&joining) == 12);
    assert_eq!(*notes.ids.lock().unwrap(), BTreeSet::from([id_of(&first), id_of(&second)]));
    joining.close(DEADLINE).unwrap();
}

/// As whoever took its tasks over would have done while it stood still.
#[test]
fn an_instance_that_was_fenced_drops_its_tasks_and_begins_again_where_they_are_committed() {
    let application = unique("fenced");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    let config = config(&application, state.path());
    let mut streams = started(word_count(&input, &output), config.clone());
    for round in 0..3 {
        lines(&input, round * 500..(round + 1) * 500);
        let wanted = 500 * (i64::try_from(round).unwrap() + 1);
        wait_until("all words to be counted", DEADLINE, || total(&output, "all") == wanted);
        drop(producer_of(&config));
    }
    assert!(matches!(streams.state(), State::Running | State::Rebalancing));
    lines(&input, 1500..2000);
    wait_until("the last count", DEADLINE, || total(&output, "all") == 2000);
    streams.close(DEADLINE).unwrap();
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
}
