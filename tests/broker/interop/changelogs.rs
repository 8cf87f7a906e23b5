//! What the changelogs of both applications say, whichever engine wrote it.

use std::collections::BTreeMap;

use test_support::{read_committed, topics};

use super::Application;
use super::parts::PARTS;

/// A row's value and timestamp.
type Row = (Option<Vec<u8>>, i64);

/// The rows of each changelog, by key; of keys that end in a sequence number, in the order of those. What is deleted is left out.
type Changelogs = BTreeMap<String, BTreeMap<Vec<u8>, Vec<Row>>>;

/// Asserts that both applications' stores would be restored to the same.
pub(super) fn compare(one: &Application, two: &Application, round: usize) {
    let (found, wanted) = (read(one, round), read(two, round));
    let names = |changelogs: &Changelogs| changelogs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted), "changelogs");
    let differ = found.iter().filter(|(name, found)| wanted[*name] != **found);
    let differ: Vec<_> = differ
        .map(|(name, found)| format!("{name}\n{:#?}\n{:#?}", text(found), text(&wanted[name])))
        .collect();
    let turns = one.turns;
    assert!(
        differ.is_empty(),
        "changelogs after round {round} of {turns:?}: {}",
        differ.join("\n")
    );
}

fn read(application: &Application, round: usize) -> Changelogs {
    let mut changelogs = Changelogs::new();
    for topic in topics(&application.prefix) {
        let name = topic[application.prefix.len()..].strip_suffix("-changelog");
        let Some(name) = name.filter(|name| is_comparable(name, round)) else { continue };
        let mut last: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
        for message in read_committed(&topic) {
            let value = message.value.map(|value| without_name(&value, application));
            last.insert(message.key.unwrap(), (value, message.timestamp_ms.unwrap()));
        }
        let has_sequences = PARTS.iter().any(|part| part.with_sequences.contains(&name));
        let is_by_the_clock = PARTS.iter().any(|part| part.by_the_clock.contains(&name));
        let rows = changelogs.entry(name.to_owned()).or_default();
        for (mut key, mut row) in last.into_iter().filter(|(_, row)| row.0.is_some()) {
            if is_by_the_clock {
                row.1 = 0;
            }
            if has_sequences {
                key.truncate(key.len() - 4);
            }
            rows.entry(key).or_default().push(row);
        }
    }
    changelogs
}

/// In every later round Kafka Streams has taken one of the applications over.
fn is_comparable(name: &str, round: usize) -> bool {
    let part = PARTS.iter().find(|part| part.with_sequences.contains(&name));
    round == 0 || !part.is_some_and(|part| part.kafka_streams_cannot_restore)
}

/// Values may say which topic a record came from.
fn without_name(value: &[u8], application: &Application) -> Vec<u8> {
    let name = application.name.as_bytes();
    let mut out = Vec::new();
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        if rest.starts_with(name) {
            out.push(b'*');
            rest = &rest[name.len()..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

fn text(rows: &BTreeMap<Vec<u8>, Vec<Row>>) -> Vec<String> {
    let row = |(key, rows): (&Vec<u8>, &Vec<Row>)| {
        let rows = rows.iter().map(|(value, timestamp)| {
            let value = value.as_ref().map(|value| value.escape_ascii().to_string());
            format!("{value:?} at {timestamp}")
        });
        format!("{}: {}", key.escape_ascii(), rows.collect::<Vec<_>>().join(", "))
    };
    rows.iter().map(row).collect()
}
