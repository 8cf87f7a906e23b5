//! Random use of window and session stores, compared with a plain map after every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kstreams::serdes::DefaultSerde;
use kstreams::store::{
    ChangelogRecord, ChangelogWriter, Direction, RowOrder, SegmentedStoreOptions, SessionStore,
    StateStore, TransactionalStoreOptions, ValueFormat, WindowStore, WindowStoreOptions,
};
use kstreams::{Headers, Timestamp, Window};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::engines::{self, Subject};

const RETENTION_MS: i64 = 100_000;
const SIZE_MS: i64 = 10;

#[derive(Debug, Clone)]
enum Step {
    Put(String, i64, i64),
    Delete(String, i64),
    Fetch(String, i64),
    Range(String, i64, i64, bool),
    Keys(Option<String>, Option<String>, i64, i64, bool),
    Accept,
    Undo,
    Commit,
    Abort,
    Reopen,
    Rebuild,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("aa"), Just("a\0\0\0\0\0\0\0\0\0"), Just("b"), Just("ü")]
        .prop_map(str::to_owned)
}

/// Close together at the edges of segments, and now and then a leap.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![0..4i64, 59_998..60_003i64, 0..250_000i64, 119_998..120_003i64]
}

fn step() -> impl Strategy<Value = Step> {
    let optional = || proptest::option::of(key());
    prop_oneof![
        12 => (key(), time(), 0..1000i64).prop_map(|(k, t, v)| Step::Put(k, t, v)),
        3 => (key(), time()).prop_map(|(k, t)| Step::Delete(k, t)),
        6 => (key(), time()).prop_map(|(k, t)| Step::Fetch(k, t)),
        6 => (key(), time(), time(), any::<bool>()).prop_map(|(k, f, t, b)| Step::Range(k, f, t, b)),
        4 => (optional(), optional(), time(), time(), any::<bool>())
            .prop_map(|(first, last, f, t, b)| Step::Keys(first, last, f, t, b)),
        6 => Just(Step::Accept),
        3 => Just(Step::Undo),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

/// Key, time and sequence number to value.
type Rows = BTreeMap<(String, i64, i64), i64>;
/// Key, time, sequence number, value.
type Entry = (String, i64, i64, i64);

#[derive(Debug, Clone)]
struct Model {
    rows: Rows,
    observed: i64,
}

impl Model {
    fn visible(&self) -> impl Iterator<Item = Entry> {
        let from = self.observed - RETENTION_MS + 1;
        let rows = self.rows.iter().filter(move |((_, time, _), _)| *time >= from);
        rows.map(|((key, time, rest), value)| (key.clone(), *time, *rest, *value))
    }

    fn put(&mut self, key: &str, time: i64, rest: i64, value: Option<i64>) {
        self.observed = self.observed.max(time);
        if time <= self.observed - RETENTION_MS {
            return;
        }
        let row = (key.to_owned(), time, rest);
        match value {
            Some(value) => self.rows.insert(row, value),
            None => self.rows.remove(&row),
        };
    }
}

/// The changelog: what a compacted topic would hold, in the order of the last writes.
#[derive(Default)]
struct Changelog(Vec<ChangelogRecord>);

impl ChangelogWriter for Changelog {
    fn write(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> kstreams::Result<()> {
        self.0.retain(|record| record.key != key);
        let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
        self.0.push(ChangelogRecord { key, value, timestamp, headers: Headers::default() });
        Ok(())
    }
}

struct Run<'a> {
    subject: &'a Subject,
    order: RowOrder,
    duplicates: bool,
    store: Option<WindowStore<String, i64>>,
    committed: Model,
    accepted: Model,
    current: Model,
    changelog: Changelog,
    position: i64,
    sequence: i64,
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, order: RowOrder, duplicates: bool) -> Self {
        subject.wipe();
        let empty = Model { rows: Rows::new(), observed: -1 };
        let mut run = Self {
            subject,
            order,
            duplicates,
            store: None,
            committed: empty.clone(),
            accepted: empty.clone(),
            current: empty,
            changelog: Changelog::default(),
            position: 0,
            sequence: 0,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let options = WindowStoreOptions {
            segments: SegmentedStoreOptions {
                store: TransactionalStoreOptions {
                    value_format: ValueFormat::Timestamped,
                    cache_bytes_max: 600,
                    is_logged: true,
                },
                retention: Duration::from_millis(RETENTION_MS as u64),
                additional_retention: Duration::ZERO,
                order: self.order,
            },
            window_size: Duration::from_millis(SIZE_MS as u64),
            retain_duplicates: self.duplicates,
        };
        let engine = self.subject.open();
        let name: Arc<str> = "s".into();
        self.store =
            Some(WindowStore::open(name, String::serde(), i64::serde(), engine, options).unwrap());
    }

    fn store(&mut self) -> &mut WindowStore<String, i64> {
        self.store.as_mut().unwrap()
    }

    fn put(&mut self, key: &str, time: i64, value: i64) {
        self.store().put_with_timestamp(&key.to_owned(), &value, at(time), at(value)).unwrap();
        let mut rest = 0;
        if self.duplicates {
            self.sequence += 1;
            rest = self.sequence;
        }
        self.current.put(key, time, rest, Some(value));
    }

    fn sort(&self, mut entries: Vec<Entry>, backward: bool) -> Vec<Entry> {
        match self.order {
            RowOrder::KeyFirst => {
                entries.sort_by_key(|(key, time, rest, _)| {
                    (
                        time / 60_000,
                        [key.as_bytes(), &time.to_be_bytes(), &rest.to_be_bytes()[4..]].concat(),
                    )
                });
            }
            _ => entries.sort_by_key(|(key, time, rest, _)| {
                (*time, [key.as_bytes(), &rest.to_be_bytes()[4..]].concat())
            }),
        }
        if backward {
            entries.reverse();
        }
        entries
    }

    fn keys(
        &mut self,
        first: Option<String>,
        last: Option<String>,
        (from, to): (i64, i64),
        backward: bool,
    ) {
        let wanted = self.current.visible().filter(|(key, time, _, _)| {
            first.as_ref().is_none_or(|first| first <= key)
                && last.as_ref().is_none_or(|last| key <= last)
                && (from..=to).contains(time)
        });
        // An index is read by segment and key, whatever the order of the rows.
        let is_indexed = self.order == RowOrder::TimeFirstIndexed;
        let by_key = is_indexed && (first.is_some() || last.is_some());
        let wanted: Vec<_> = wanted.collect();
        let wanted = if by_key {
            let order = std::mem::replace(&mut self.order, RowOrder::KeyFirst);
            let sorted = self.sort(wanted, backward);
            self.order = order;
            sorted
        } else {
            self.sort(wanted, backward)
        };
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let found =
            self.store().fetch_keys(first.as_ref(), last.as_ref(), at(from), at(to), direction);
        let found: Vec<_> = found
            .unwrap()
            .with_timestamps()
            .map(|entry| entry.unwrap())
            .map(|(key, value, timestamp)| {
                assert_eq!(timestamp.as_millis(), value);
                let Window { start, end } = key.window;
                assert_eq!(end.as_millis(), start.as_millis() + SIZE_MS);
                (key.key, start.as_millis(), value)
            })
            .collect();
        let wanted: Vec<_> =
            wanted.into_iter().map(|(key, time, _, value)| (key, time, value)).collect();
        assert_eq!(found, wanted);
    }

    fn range(&mut self, key: &str, from: i64, to: i64, backward: bool) {
        let wanted = self.current.visible();
        let wanted = wanted.filter(|(k, time, _, _)| k == key && (from..=to).contains(time));
        let mut wanted: Vec<_> = wanted.map(|(_, time, _, value)| (time, value)).collect();
        let (key, from, to) = (key.to_owned(), at(from), at(to));
        let found = if backward {
            wanted.reverse();
            self.store().backward_fetch_range(&key, from, to).unwrap()
        } else {
            self.store().fetch_range(&key, from, to).unwrap()
        };
        let found: Vec<_> = found
            .map(|entry| entry.unwrap())
            .map(|(start, value)| (start.as_millis(), value))
            .collect();
        assert_eq!(found, wanted);
    }

    fn commit(&mut self) {
        self.accept();
        let mut changelog = std::mem::take(&mut self.changelog);
        let count = self.store().write_changelog(&mut changelog).unwrap();
        self.changelog = changelog;
        self.position += count as i64;
        let position = self.position;
        self.store().commit(Some(position)).unwrap();
        self.committed = self.accepted.clone();
    }

    fn accept(&mut self) {
        self.store().accept_record();
        self.accepted = self.current.clone();
    }

    fn drop_uncommitted(&mut self) {
        self.accepted = self.committed.clone();
        self.current = self.committed.clone();
    }

    /// A new store out of the changelog alone.
    fn rebuild(&mut self) {
        Box::new(self.store.take().unwrap()).close().unwrap();
        self.subject.wipe();
        self.open();
        let records = self.changelog.0.clone();
        let position = self.position;
        let (first, second) = records.split_at(records.len() / 2);
        self.store().restore(first, 1).unwrap();
        self.store().restore(second, position).unwrap();
        // What was put and deleted again leaves a tombstone, so that the newest time is known from the changelog too.
        self.drop_uncommitted();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, time, value) => self.put(&key, time, value),
            Step::Delete(key, time) => {
                self.store().delete(&key, at(time)).unwrap();
                if !self.duplicates {
                    self.current.put(&key, time, 0, None);
                }
            }
            Step::Fetch(key, time) if !self.duplicates => {
                let mut rows = self.current.visible();
                let wanted = rows.find(|(k, t, ..)| *k == key && *t == time).map(|row| row.3);
                drop(rows);
                assert_eq!(self.store().fetch(&key, at(time)).unwrap(), wanted);
            }
            Step::Fetch(..) => {}
            Step::Range(key, from, to, backward) => self.range(&key, from, to, backward),
            Step::Keys(first, last, from, to, backward) => {
                self.keys(first, last, (from, to), backward);
            }
            Step::Accept => self.accept(),
            Step::Undo => {
                self.store().undo_record();
                self.current = self.accepted.clone();
            }
            Step::Commit => self.commit(),
            Step::Abort => {
                self.store().abort();
                self.drop_uncommitted();
            }
            Step::Reopen if self.subject.is_persistent() => {
                Box::new(self.store.take().unwrap()).close().unwrap();
                self.open();
                self.drop_uncommitted();
            }
            Step::Reopen => {}
            Step::Rebuild => self.rebuild(),
        }
        let observed = self.store().observed_stream_time().map_or(-1, Timestamp::as_millis);
        assert_eq!(observed, self.current.observed);
    }
}

#[test]
fn window_stores_equal_the_model() {
    for subject in engines::all() {
        let (cases, steps_max) = if subject.is_persistent() { (60, 200) } else { (800, 80) };
        let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
        let order = prop_oneof![
            Just(RowOrder::KeyFirst),
            Just(RowOrder::TimeFirst),
            Just(RowOrder::TimeFirstIndexed)
        ];
        let input = (vec(step(), 1..steps_max), order, any::<bool>());
        proptest!(config, |((steps, order, duplicates) in input)| {
            let mut run = Run::new(&subject, order, duplicates);
            for step in steps {
                run.step(step);
            }
            run.commit();
            run.keys(None, None, (0, i64::MAX), false);
            Box::new(run.store.take().unwrap()).close().unwrap();
        });
    }
}

fn sessions(subject: &Subject) -> SessionStore<String, i64> {
    let retention = Duration::from_millis(RETENTION_MS as u64);
    let options = SegmentedStoreOptions { retention, ..Default::default() };
    SessionStore::open("s".into(), String::serde(), i64::serde(), subject.open(), options).unwrap()
}

fn found(store: &mut SessionStore<String, i64>, key: &str, from: i64, to: i64) -> Vec<String> {
    let found = store.find_sessions(&key.to_owned(), at(from), at(to)).unwrap();
    found.map(|entry| entry.unwrap()).map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn sessions_are_found_by_their_ends_and_starts() {
    for subject in engines::all() {
        let mut store = sessions(&subject);
        let a = "a".to_owned();
        let session = |start, end| Window::new(at(start), at(end));
        for (start, end, value) in [(0, 5, 1), (10, 70_000, 2), (70_010, 70_010, 3)] {
            store.put(&a, session(start, end), &value).unwrap();
        }
        store.put(&"aa".to_owned(), session(3, 4), &9).unwrap();
        assert_eq!(
            found(&mut store, "a", 0, i64::MAX),
            ["[a@0/5]=1", "[a@10/70000]=2", "[a@70010/70010]=3"]
        );
        assert_eq!(found(&mut store, "a", 5, 9), ["[a@0/5]=1"]);
        assert_eq!(found(&mut store, "a", 6, 70_009), ["[a@10/70000]=2"]);
        assert_eq!(store.fetch_session(&a, session(0, 5)).unwrap(), Some(1));
        assert_eq!(store.fetch_session(&a, session(0, 6)).unwrap(), None);
        store.remove(&a, session(0, 5)).unwrap();
        assert_eq!(found(&mut store, "a", 0, 9), [""; 0]);
        let backward = store.backward_find_sessions(&a, at(0), at(i64::MAX)).unwrap();
        let backward: Vec<_> = backward.map(|entry| entry.unwrap().1).collect();
        assert_eq!(backward, [3, 2]);
        let all: Vec<_> = store.all().unwrap().map(|entry| entry.unwrap().1).collect();
        assert_eq!(all, [9, 2, 3]);
        store.accept_record();
        store.commit(Some(4)).unwrap();
        Box::new(store).close().unwrap();
        subject.wipe();
    }
}

#[test]
fn sessions_too_old_are_dropped_and_counted() {
    for subject in engines::all() {
        let mut store = sessions(&subject);
        let a = "a".to_owned();
        let point = |time| Window::new(at(time), at(time));
        store.put(&a, point(1), &1).unwrap();
        store.put(&a, point(RETENTION_MS), &2).unwrap();
        assert_eq!(found(&mut store, "a", 0, i64::MAX).len(), 2);
        store.put(&a, point(RETENTION_MS + 1), &3).unwrap();
        assert_eq!(found(&mut store, "a", 0, i64::MAX).len(), 2);
        store.put(&a, point(1), &4).unwrap();
        assert_eq!((store.take_expired_writes(), store.take_expired_writes()), (1, 0));
        store.accept_record();
        store.commit(None).unwrap();
        // The marker, and the rows that a segment still in use has.
        assert!(store.approximate_entries() <= 4);
        store.put(&a, point(10 * RETENTION_MS), &5).unwrap();
        store.accept_record();
        store.commit(None).unwrap();
        if !subject.is_persistent() {
            assert_eq!(store.approximate_entries(), 2);
        }
        Box::new(store).close().unwrap();
        subject.wipe();
    }
}
