//! What the changelogs of both applications say, whichever engine wrote it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use test_support::{read_committed, topics};

use super::Application;
use super::parts::PARTS;

/// Changelogs read at a time; most of the time goes to waiting for the broker.
const READERS: usize = 8;

/// A row's value and timestamp.
type Row = (Vec<u8>, i64);

/// The rows of a changelog, by key; of keys that end in a sequence number, in the order of those. What is deleted is left out.
type Rows = BTreeMap<Vec<u8>, Vec<Row>>;

/// Asserts that both applications' stores would be restored to the same.
pub(super) fn compare(one: &Application, two: &Application, round: usize) {
    let (found, wanted) = (read(one, round), read(two, round));
    let names =
        |changelogs: &BTreeMap<String, Rows>| changelogs.keys().cloned().collect::<Vec<_>>();
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

fn read(application: &Application, round: usize) -> BTreeMap<String, Rows> {
    let stores = topics(&application.prefix).into_iter().filter_map(|topic| {
        let store = topic[application.prefix.len()..].strip_suffix("-changelog")?;
        is_comparable(store, round).then(|| store.to_owned())
    });
    let (stores, found) = (Mutex::new(stores), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                loop {
                    let Some(store) = stores.lock().unwrap().next() else { return };
                    let rows = rows(application, &store);
                    found.lock().unwrap().insert(store, rows);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// In every later round Kafka Streams has taken one of the applications over.
fn is_comparable(store: &str, round: usize) -> bool {
    let part = PARTS.iter().find(|part| part.with_sequences.contains(&store));
    round == 0 || !part.is_some_and(|part| part.kafka_streams_cannot_restore)
}

fn rows(application: &Application, store: &str) -> Rows {
    let has_sequences = PARTS.iter().any(|part| part.with_sequences.contains(&store));
    let is_by_the_clock = PARTS.iter().any(|part| part.by_the_clock.contains(&store));
    let mut last = BTreeMap::new();
    for message in read_committed(&format!("{}{store}-changelog", application.prefix)) {
        let timestamp = if is_by_the_clock { 0 } else { message.timestamp_ms.unwrap() };
        last.insert(message.key.unwrap(), (message.value, timestamp));
    }
    let mut rows = Rows::new();
    for (mut key, (value, timestamp)) in last {
        let Some(value) = value else { continue };
        if has_sequences {
            key.truncate(key.len() - 4);
        }
        rows.entry(key).or_default().push((without_name(&value, application), timestamp));
    }
    rows
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

fn text(rows: &Rows) -> Vec<String> {
    let row = |(key, rows): (&Vec<u8>, &Vec<Row>)| {
        let row = |(value, timestamp): &Row| format!("{} at {timestamp}", value.escape_ascii());
        let rows: Vec<String> = rows.iter().map(row).collect();
        format!("{}: {}", key.escape_ascii(), rows.join(", "))
    };
    rows.iter().map(row).collect()
}
