//! Key-value stores whose entries live for a time, compared with a plain map after every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kstreams::store::{
    ChangelogRecord, ChangelogWriter, KeyValueStore, KeyValueView, QueryableStoreType as _,
    QueryableStoreTypes, StateStore, StoreBuilder as _,
};
use kstreams::{Headers, Stores, Timestamp};
use proptest::prelude::*;

use crate::engines::{self, Subject};

const TTL: i64 = 20;

type Store = KeyValueStore<String, String>;
/// Values with their timestamps.
type Map = BTreeMap<String, (String, i64)>;

#[derive(Debug, Clone)]
enum Step {
    /// A value, so long before stream time.
    Put(String, i64),
    /// The same for a key that is perhaps there.
    PutIfAbsent(String, i64),
    Delete(String),
    Get(String),
    Scan(String, String),
    Advance(i64),
    Accept,
    Undo,
    Commit,
    Abort,
    /// Close and open; in memory: empty, and restored from the changelog.
    Reopen,
    /// A new store, restored from the changelog.
    Move,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("a"), Just("aa"), Just("b"), Just("\u{7f}")].prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (key(), -5..30i64).prop_map(|(key, age)| Step::Put(key, age)),
        2 => (key(), -5..30i64).prop_map(|(key, age)| Step::PutIfAbsent(key, age)),
        3 => key().prop_map(Step::Delete),
        5 => key().prop_map(Step::Get),
        3 => (key(), key()).prop_map(|(from, to)| Step::Scan(from, to)),
        6 => (1..12i64).prop_map(Step::Advance),
        5 => Just(Step::Accept),
        2 => Just(Step::Undo),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
        1 => Just(Step::Move),
    ]
}

/// The changelog topic, compacted.
#[derive(Default)]
struct Changelog(BTreeMap<Vec<u8>, ChangelogRecord>);

impl ChangelogWriter for Changelog {
    fn write(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> kstreams::Result<()> {
        let value = value.map(|value| value.to_vec().into());
        let record = ChangelogRecord {
            key: key.to_vec().into(),
            value,
            timestamp,
            headers: Headers::default(),
        };
        self.0.insert(key.to_vec(), record);
        Ok(())
    }
}

struct Run<'a> {
    subject: &'a Subject,
    is_logged: bool,
    store: Option<Box<dyn StateStore>>,
    committed: Map,
    accepted: Map,
    current: Map,
    /// Stream time, now and at the last commit.
    now: i64,
    committed_now: i64,
    changelog: Changelog,
    position: i64,
    values: u32,
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, is_logged: bool) -> Self {
        subject.wipe();
        let mut run = Self {
            subject,
            is_logged,
            store: None,
            committed: Map::new(),
            accepted: Map::new(),
            current: Map::new(),
            now: 100,
            committed_now: 100,
            changelog: Changelog::default(),
            position: 0,
            values: 0,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let ttl = Duration::from_millis(TTL.unsigned_abs());
        let mut builder = Stores::key_value_store::<String, String>("s").with_ttl(ttl);
        if !self.is_logged {
            builder = builder.logging_disabled();
        }
        let mut store = builder.build(self.subject.open(), &Arc::from("topic"), 600).unwrap();
        store.set_stream_time(Timestamp::from_millis(self.now));
        self.store = Some(store);
    }

    fn store(&mut self) -> &mut Store {
        let store = self.store.as_mut().unwrap();
        store.as_any_mut().downcast_mut().unwrap()
    }

    fn advance(&mut self, to: i64) {
        self.now = to;
        self.store().set_stream_time(Timestamp::from_millis(to));
    }

    fn alive(&self, map: &Map) -> Vec<(String, String, i64)> {
        let alive = map.iter().filter(|(_, (_, at))| at + TTL > self.now);
        alive.map(|(key, (value, at))| (key.clone(), value.clone(), *at)).collect()
    }

    fn get(&mut self, key: &String) {
        let wanted = self.alive(&self.current).into_iter().find(|(known, ..)| known == key);
        let found = self.store().get_with_timestamp(key).unwrap();
        let found = found.map(|(value, at)| (key.clone(), value, at.as_millis()));
        assert_eq!(found, wanted);
        let value = self.store().get(key).unwrap();
        assert_eq!(value, wanted.map(|(_, value, _)| value));
    }

    fn put(&mut self, key: String, age: i64) {
        self.values += 1;
        let (value, at) = (self.values.to_string(), self.now - age);
        self.store().put_with_timestamp(&key, &value, Timestamp::from_millis(at)).unwrap();
        if at + TTL > self.now {
            self.current.insert(key, (value, at));
        }
    }

    fn scan(&mut self, from: String, to: String) {
        let alive = self.alive(&self.current);
        let read = |(key, value, at): (String, String, Timestamp)| (key, value, at.as_millis());
        let store = self.store();
        let all = store.all().unwrap().with_timestamps().map(|entry| read(entry.unwrap()));
        assert_eq!(all.collect::<Vec<_>>(), alive);
        let keys = |of: &dyn Fn(&str) -> bool| -> Vec<String> {
            alive.iter().map(|(key, ..)| key.clone()).filter(|key| of(key)).collect()
        };
        let range = from.clone()..=to.clone();
        let mut found: Vec<_> =
            store.reverse_range(range).unwrap().map(|entry| entry.unwrap().0).collect();
        found.reverse();
        assert_eq!(found, keys(&|key| *from <= *key && *key <= *to));
        let found = store.prefix_scan(from.as_bytes()).unwrap().map(|entry| entry.unwrap().0);
        assert_eq!(found.collect::<Vec<_>>(), keys(&|key| key.starts_with(&from)));
    }

    fn commit(&mut self) {
        self.store().accept_record();
        self.accepted = self.current.clone();
        if self.is_logged {
            let mut changelog = std::mem::take(&mut self.changelog);
            let count = self.store().write_changelog(&mut changelog).unwrap();
            self.position += i64::try_from(count).unwrap();
            self.changelog = changelog;
        }
        let position = self.is_logged.then_some(self.position);
        self.store().commit(position).unwrap();
        self.committed = self.accepted.clone();
        self.committed_now = self.now;
        self.check_committed();
    }

    /// Nothing is kept of what has expired, and queries see what the store sees.
    fn check_committed(&mut self) {
        let alive = self.alive(&self.committed);
        if self.is_logged {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let logged: Vec<_> = self
                .changelog
                .0
                .values()
                .filter_map(|record| {
                    let value = text(record.value.as_ref()?);
                    Some((text(&record.key), value, record.timestamp.as_millis()))
                })
                .collect();
            assert_eq!(logged, alive);
        }
        let view = self.store().view().unwrap().typed.downcast::<KeyValueView<String, String>>();
        let types = QueryableStoreTypes::key_value_store::<String, String>();
        let query = types.create(vec![(0, view.unwrap())]);
        let read = |(key, value, at): (String, String, Timestamp)| (key, value, at.as_millis());
        let all = query.all().unwrap().with_timestamps().map(|entry| read(entry.unwrap()));
        assert_eq!(all.collect::<Vec<_>>(), alive);
        for key in ["", "a", "b"] {
            let wanted = alive.iter().find(|(known, ..)| known == key);
            let found = query.get(&key.to_owned()).unwrap();
            assert_eq!(found.as_ref(), wanted.map(|(_, value, _)| value));
        }
        // A mark and a row for each, and perhaps some marks of earlier times; an engine on disk estimates, and may say less.
        let entries = self.store().approximate_entries();
        assert!(self.subject.is_persistent() || entries >= alive.len() as u64);
    }

    fn restore(&mut self) {
        let records: Vec<_> = self.changelog.0.values().cloned().collect();
        self.position = i64::try_from(records.len()).unwrap();
        let position = self.position;
        self.store().restore(&records, position).unwrap();
    }

    fn back_to_commit(&mut self) {
        self.accepted = self.committed.clone();
        self.current = self.committed.clone();
        self.advance(self.committed_now);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, age) => self.put(key, age),
            Step::PutIfAbsent(key, age) => {
                if self.store().get(&key).unwrap().is_none() {
                    self.put(key, age);
                }
            }
            Step::Delete(key) => {
                let wanted =
                    self.alive(&self.current).into_iter().find(|(known, ..)| *known == key);
                let found = self.store().delete(&key).unwrap();
                assert_eq!(found, wanted.map(|(_, value, _)| value));
                self.current.remove(&key);
            }
            Step::Get(key) => self.get(&key),
            Step::Scan(from, to) => self.scan(from, to),
            Step::Advance(by) => self.advance(self.now + by),
            Step::Accept => {
                self.store().accept_record();
                self.accepted = self.current.clone();
            }
            Step::Undo => {
                self.store().undo_record();
                self.current = self.accepted.clone();
            }
            Step::Commit => self.commit(),
            Step::Abort => {
                self.store().abort();
                self.back_to_commit();
            }
            Step::Reopen | Step::Move if !self.is_logged => {}
            Step::Reopen => {
                self.store.take().unwrap().close().unwrap();
                self.open();
                if !self.subject.is_persistent() {
                    self.restore();
                }
                self.back_to_commit();
            }
            Step::Move => {
                self.store.take().unwrap().close().unwrap();
                self.subject.wipe();
                self.open();
                self.restore();
                self.back_to_commit();
            }
        }
    }
}

#[test]
fn stores_with_a_time_to_live_equal_the_model() {
    for subject in engines::all() {
        let (cases, steps_max) = if subject.is_persistent() { (40, 200) } else { (600, 100) };
        let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
        proptest!(config, |(steps in prop::collection::vec(step(), 1..steps_max), is_logged in any::<bool>())| {
            let mut run = Run::new(&subject, is_logged);
            for step in steps {
                run.step(step);
            }
            run.commit();
            run.scan(String::new(), "\u{7f}".to_owned());
            // In the end nothing is left, neither of the entries nor of what says when they expire.
            run.advance(run.now + TTL + 5);
            run.commit();
            let left = if subject.is_persistent() { 0 } else { run.store().approximate_entries() };
            assert_eq!(left, 0);
            run.store.take().unwrap().close().unwrap();
        });
    }
}

#[test]
fn an_expired_write_is_counted_unless_its_record_fails() {
    let subject = &engines::all()[0];
    let mut run = Run::new(subject, true);
    run.put("a".to_owned(), TTL);
    run.store().accept_record();
    run.put("a".to_owned(), TTL + 1);
    run.store().undo_record();
    run.put("a".to_owned(), TTL - 1);
    run.store().accept_record();
    assert_eq!((run.store().take_expired_writes(), run.store().take_expired_writes()), (1, 0));
    run.get(&"a".to_owned());
}

#[test]
fn a_commit_removes_no_more_than_its_bound_and_the_next_ones_the_rest() {
    let subject = &engines::all()[0];
    let mut run = Run::new(subject, true);
    for entry in 0..5_000 {
        run.put(format!("{entry}"), 0);
    }
    run.commit();
    run.advance(run.now + TTL);
    let mut left = Vec::new();
    for _ in 0..5 {
        let mut changelog = std::mem::take(&mut run.changelog);
        let removed = run.store().write_changelog(&mut changelog).unwrap();
        run.store().commit(None).unwrap();
        run.changelog = changelog;
        left.push(removed);
    }
    assert_eq!(left, [1_000; 5]);
    assert!(run.changelog.0.values().all(|record| record.value.is_none()));
}
