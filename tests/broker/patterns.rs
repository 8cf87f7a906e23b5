//! Sources by pattern, and offset reset policies, on a real broker.

use std::time::Duration;

use kstreams::{
    AutoOffsetReset, Consumed, KafkaStreams, Repartitioned, State, StreamsBuilder, StreamsConfig,
    TaskState, TopicPattern, Topology,
};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use test_support::{
    DEADLINE, Message, Outcome, Topic, consumer, create_topic, produce, read_committed, unique,
    wait_until,
};

use crate::runtime::{config, counts, lines, started, total};

/// Counts words; the count's own tasks do not depend on how many topics match.
fn words_of(pattern: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream_matching::<String, String>(TopicPattern::new(pattern).unwrap(), Consumed::default())
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .select_key(|_, word| word.clone())
        .repartition(Repartitioned::default().with_name("words").with_number_of_partitions(3))
        .group_by_key()
        .count()
        .to_stream()
        .to(output);
    builder.build().unwrap()
}

fn quick(application: &str, state: &std::path::Path) -> StreamsConfig {
    let mut config = config(application, state);
    config.metadata_max_age = Duration::from_millis(300);
    config
}

fn running(streams: &KafkaStreams) -> usize {
    let tasks = streams.handle().tasks();
    tasks.iter().filter(|task| task.state == TaskState::Running).count()
}

#[test]
fn topics_that_match_later_join_all_instances_and_count_once() {
    let application = unique("matching");
    let output = format!("{application}-out");
    create_topic(Topic { name: &output, partitions: 3, config: &[] });
    let pattern = format!("{application}-in-[a-z]");
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

    // Nothing matches yet: only the count has tasks.
    let mut first = started(words_of(&pattern, &output), quick(&application, one.path()));
    wait_until("the tasks of the count", DEADLINE, || running(&first) == 3);

    let (a, b) = (format!("{application}-in-a"), format!("{application}-in-b"));
    create_topic(Topic { name: &a, partitions: 2, config: &[] });
    lines(&a, 0..500);
    wait_until("the first topic's count", DEADLINE, || total(&output, "all") == 500);
    // This one would look at the topics in five minutes only, but sees that the other knows more than it does.
    let mut second = started(words_of(&pattern, &output), config(&application, two.path()));
    wait_until("both to have tasks", DEADLINE, || {
        running(&first) > 0 && running(&second) > 0 && running(&first) + running(&second) == 5
    });

    // Records come while the second topic joins; it has more partitions, so that other ones decide who owns a task.
    lines(&a, 500..1000);
    create_topic(Topic { name: &b, partitions: 4, config: &[] });
    lines(&b, 0..500);
    lines(&a, 1000..1500);
    wait_until("both topics' count", DEADLINE, || total(&output, "all") == 2000);
    wait_until("the tasks of both topics", DEADLINE, || {
        running(&first) > 0 && running(&second) > 0 && running(&first) + running(&second) == 7
    });
    second.close(DEADLINE).unwrap();
    first.close(DEADLINE).unwrap();
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
}

#[test]
fn a_topic_that_needs_more_tasks_than_a_changelog_has_partitions_is_refused() {
    let application = unique("grown");
    let pattern = TopicPattern::new(&format!("{application}-in-[a-z]")).unwrap();
    let builder = StreamsBuilder::new();
    let stream = builder.stream_matching::<String, String>(pattern, Consumed::default());
    stream.group_by_key().count_with(kstreams::Materialized::named("counts"));
    let (a, b) = (format!("{application}-in-a"), format!("{application}-in-b"));
    let state = tempfile::tempdir().unwrap();
    let mut streams = started(builder.build().unwrap(), quick(&application, state.path()));
    // Nothing matches yet: there is nothing to do, and that is no fault.
    wait_until("a client without tasks", DEADLINE, || streams.state() == State::Running);
    assert_eq!(running(&streams), 0);
    create_topic(Topic { name: &a, partitions: 1, config: &[] });
    wait_until("the task", DEADLINE, || running(&streams) == 1);
    create_topic(Topic { name: &b, partitions: 2, config: &[] });
    wait_until("the client to end", DEADLINE, || streams.state() == State::Error);
    let error = streams.wait().unwrap_err().to_string();
    assert!(error.contains(&format!("{application}-counts-changelog")), "{error}");
}

/// A copy of `input` whose source has a policy.
fn copy(input: &str, output: &str, policy: AutoOffsetReset) -> Topology {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, String>::default().with_offset_reset_policy(policy);
    builder.stream_with(&[input], consumed).to(output);
    builder.build().unwrap()
}

fn values(topic: &str) -> Vec<String> {
    let messages = read_committed(topic).into_iter();
    messages.map(|message| String::from_utf8(message.value.unwrap()).unwrap()).collect()
}

#[test]
fn a_source_begins_where_its_policy_says() {
    let name = unique("reset");
    let input = format!("{name}-in");
    create_topic(Topic { name: &input, partitions: 1, config: &[] });
    let send = |value: &str, timestamp_ms: Option<i64>| {
        let value = Some(value.as_bytes().to_vec());
        let message =
            Message { key: Some(b"k".to_vec()), value, timestamp_ms, ..Message::default() };
        produce(&input, &[message], Outcome::Plain);
    };
    let now = kstreams::Clock::now(&kstreams::SystemClock::default()).as_millis();
    let hour = 60 * 60 * 1000;
    send("old", Some(now - 2 * hour));
    send("recent", Some(now - hour));
    let age = |hours| Duration::from_millis(u64::try_from(hours * hour / 2).unwrap());
    let cases = [
        (AutoOffsetReset::Earliest, vec!["old", "recent", "new"]),
        (AutoOffsetReset::Latest, vec!["new"]),
        (AutoOffsetReset::ByDuration(age(3)), vec!["recent", "new"]),
        (AutoOffsetReset::ByDuration(age(1)), vec!["new"]),
    ];
    let mut clients = Vec::new();
    for (index, (policy, wanted)) in cases.into_iter().enumerate() {
        let application = format!("{name}-{index}");
        let output = format!("{application}-out");
        create_topic(Topic { name: &output, partitions: 1, config: &[] });
        let state = tempfile::tempdir().unwrap();
        let streams = started(copy(&input, &output, policy), config(&application, state.path()));
        clients.push((streams, output, wanted, policy, state));
    }
    for (streams, ..) in &clients {
        wait_until("the task", DEADLINE, || running(streams) == 1);
    }
    send("new", Some(now));
    for (mut streams, output, wanted, policy, _state) in clients {
        let what = format!("the copy of {policy:?}");
        wait_until(&what, DEADLINE, || values(&output).last().is_some_and(|last| last == "new"));
        streams.close(DEADLINE).unwrap();
        assert_eq!(values(&output), wanted, "{policy:?}");
    }
}

#[test]
fn without_a_policy_to_reset_an_offset_must_have_been_committed() {
    let application = unique("no-reset");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    for name in [&input, &output] {
        create_topic(Topic { name, partitions: 1, config: &[] });
    }
    let message = |value: &str| Message {
        key: Some(b"k".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        ..Message::default()
    };
    produce(&input, &["0", "1", "2"].map(message), Outcome::Plain);
    let topology = || copy(&input, &output, AutoOffsetReset::None);
    let state = tempfile::tempdir().unwrap();
    let mut streams = started(topology(), config(&application, state.path()));
    wait_until("the client to end", DEADLINE, || streams.state() == State::Error);
    let error = streams.wait().unwrap_err().to_string();
    assert!(error.contains(&format!("no committed offset of {input}-0")), "{error}");
    drop(streams);

    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&input, 0, Offset::Offset(2)).unwrap();
    consumer(&[("group.id", &application)]).commit(&offsets, CommitMode::Sync).unwrap();
    let mut streams = started(topology(), config(&application, state.path()));
    wait_until("the copy", DEADLINE, || values(&output) == ["2"]);
    streams.close(DEADLINE).unwrap();
}
