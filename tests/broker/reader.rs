//! The tests' own view of a topic: what it shows is the measure for every claim of exactly-once.

use test_support::{Message, Outcome, Topic, create_topic, produce, read_committed, unique};

fn value(text: &str) -> Message {
    Message { value: Some(text.into()), key: Some(b"key".to_vec()), ..Message::default() }
}

#[test]
fn a_reader_of_committed_messages_never_sees_aborted_ones() {
    let topic = unique("reader");
    create_topic(Topic { name: &topic, partitions: 3, config: &[] });
    produce(&topic, &[value("plain")], Outcome::Plain);
    produce(&topic, &[value("aborted")], Outcome::Aborted);
    produce(&topic, &[value("committed")], Outcome::Committed);
    let seen = read_committed(&topic);
    let values: Vec<_> = seen.iter().filter_map(|m| m.value.as_deref()).collect();
    assert_eq!(values, [&b"plain"[..], b"committed"]);
}

#[test]
fn a_message_comes_back_byte_for_byte() {
    let topic = unique("bytes");
    create_topic(Topic { name: &topic, partitions: 1, config: &[("cleanup.policy", "compact")] });
    let sent = Message {
        partition: Some(0),
        offset: 0,
        timestamp_ms: Some(1_700_000_000_000),
        key: Some(vec![0, 255]),
        value: None,
        headers: vec![("a".into(), Some(vec![1])), ("a".into(), None)],
    };
    produce(&topic, std::slice::from_ref(&sent), Outcome::Plain);
    assert_eq!(read_committed(&topic), [sent]);
}
