//! Versioned stores: random use against a plain map of versions, and what the changelog makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kstreams::store::{
    ChangelogRecord, ChangelogWriter, PutResult, StateStore, StoreBuilder, VersionedKeyValueStore,
};
use kstreams::{Headers, Stores, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::engines::{self, Subject};

type Store = VersionedKeyValueStore<String, i64>;
/// The versions of a key by start; `None` deletes.
type Versions = BTreeMap<i64, Option<i64>>;

const HISTORY_MS: i64 = 50;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn key(number: u8) -> String {
    format!("k{number}")
}

fn open(subject: &Subject, segment_ms: u64) -> Box<Store> {
    let history = Duration::from_millis(HISTORY_MS as u64);
    let builder = Stores::versioned_key_value_store::<String, i64>("s", history)
        .segment_interval(Duration::from_millis(segment_ms));
    let topic: Arc<str> = "topic".into();
    let store: Box<dyn StateStore> = builder.build(subject.open(), &topic, 1 << 20).unwrap();
    let store: Box<dyn std::any::Any> = store;
    store.downcast().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Option<i64>, i64),
    Get(u8),
    GetAsOf(u8, i64),
    Accept,
    Undo,
    Commit,
    Abort,
    /// Closes and opens again; a store in memory is restored from its changelog.
    Reopen,
    /// Throws the state away and restores it.
    Restore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let time = 0..200i64;
    prop_oneof![
        14 => (0..3u8, proptest::option::weighted(0.7, 0..99i64), time.clone())
            .prop_map(|(key, value, time)| Step::Put(key, value, time)),
        2 => (0..3u8).prop_map(Step::Get),
        8 => (0..3u8, time).prop_map(|(key, time)| Step::GetAsOf(key, time)),
        4 => Just(Step::Accept),
        2 => Just(Step::Undo),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
        1 => (1..9usize).prop_map(Step::Restore),
    ]
}

#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    keys: BTreeMap<String, Versions>,
    stream_time: i64,
}

impl Model {
    fn put(&mut self, key: &str, value: Option<i64>, time: i64) -> PutResult {
        if time < self.stream_time - HISTORY_MS {
            return PutResult::NotPut;
        }
        self.stream_time = self.stream_time.max(time);
        let versions = self.keys.entry(key.to_owned()).or_default();
        versions.insert(time, value);
        let next = versions.range(time + 1..).next();
        next.map_or(PutResult::Latest, |(next, _)| PutResult::ValidTo(at(*next)))
    }

    /// Value, start and end of what is valid at `time`.
    fn get(&self, key: &str, time: i64) -> Option<(i64, i64, Option<i64>)> {
        let versions = self.keys.get(key)?;
        let (start, value) = versions.range(..=time).next_back()?;
        let end = versions.range(start + 1..).next().map(|(end, _)| *end);
        let is_in_history = end.is_none() || time >= self.stream_time - HISTORY_MS;
        value.filter(|_| is_in_history).map(|value| (value, *start, end))
    }
}

#[derive(Default)]
struct Log(Vec<ChangelogRecord>);

impl ChangelogWriter for Log {
    fn write(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> kstreams::Result<()> {
        let (key, value) = (key.to_vec().into(), value.map(|value| value.to_vec().into()));
        self.0.push(ChangelogRecord { key, value, timestamp, headers: Headers::default() });
        Ok(())
    }
}

struct Run<'a> {
    subject: &'a Subject,
    segment_ms: u64,
    store: Option<Box<Store>>,
    committed: Model,
    accepted: Model,
    current: Model,
    log: Log,
}

impl Run<'_> {
    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn put(&mut self, key: &str, value: Option<i64>, time: i64) {
        let versions = self.current.keys.get(key);
        let newest = versions.and_then(|versions| versions.last_key_value());
        if value.is_none() && newest.is_some_and(|(newest, _)| *newest == time) {
            return; // what Kafka Streams remembers of this depends on what came before: see below
        }
        let expected = self.current.put(key, value, time);
        let found = self.store().put(&key.to_owned(), value.as_ref(), at(time)).unwrap();
        assert_eq!(found, expected);
    }

    fn get(&mut self, key: &str, time: Option<i64>) {
        let expected = self.current.get(key, time.unwrap_or(i64::MAX - 1));
        let key = key.to_owned();
        let found = match time {
            Some(time) => self.store().get_as_of(&key, at(time)).unwrap(),
            None => self.store().get(&key).unwrap(),
        };
        let found = found.map(|found| {
            (found.value, found.timestamp.as_millis(), found.valid_to.map(Timestamp::as_millis))
        });
        assert_eq!(found, expected, "{key} at {time:?}");
    }

    fn accept(&mut self) {
        self.store().accept_record();
        self.accepted = self.current.clone();
    }

    fn drop_uncommitted(&mut self) {
        self.accepted = self.committed.clone();
        self.current = self.committed.clone();
    }

    fn commit(&mut self) {
        self.accept();
        let mut log = std::mem::take(&mut self.log);
        self.store().write_changelog(&mut log).unwrap();
        let position = log.0.len() as i64;
        self.store().commit(Some(position)).unwrap();
        self.log = log;
        self.committed = self.accepted.clone();
        assert_eq!(
            (self.store().position(), self.store().uncommitted_bytes()),
            (Some(position), 0)
        );
    }

    fn restore(&mut self, batch: usize) {
        let mut position = 0;
        let log = std::mem::take(&mut self.log);
        for batch in log.0.chunks(batch) {
            position += batch.len() as i64;
            self.store().restore(batch, position).unwrap();
        }
        self.log = log;
    }

    fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(open(self.subject, self.segment_ms));
        if !self.subject.is_persistent() {
            self.restore(3);
        }
        self.drop_uncommitted();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(number, value, time) => self.put(&key(number), value, time),
            Step::Get(number) => self.get(&key(number), None),
            Step::GetAsOf(number, time) => self.get(&key(number), Some(time)),
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
            Step::Reopen => self.reopen(),
            Step::Restore(batch) => {
                self.store.take().unwrap().close().unwrap();
                self.subject.wipe();
                self.store = Some(open(self.subject, self.segment_ms));
                self.restore(batch);
                self.drop_uncommitted();
            }
        }
    }
}

#[test]
fn versioned_stores_equal_the_model() {
    for subject in engines::all() {
        let cases = if subject.is_persistent() { 40 } else { 800 };
        let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
        // Every version in a segment of its own, several in one, all in one.
        let segment_ms = prop_oneof![Just(1u64), Just(7), Just(20), Just(1000)];
        proptest!(config, |(steps in vec(step(), 1..120), segment_ms in segment_ms)| {
            subject.wipe();
            let store = Some(open(&subject, segment_ms));
            let (committed, log) = (Model::default(), Log::default());
            let (accepted, current) = (committed.clone(), committed.clone());
            let subject = &subject;
            let mut run = Run { subject, segment_ms, store, committed, accepted, current, log };
            for step in steps {
                run.step(step);
            }
            run.commit();
            for number in 0..3 {
                for time in 0..200 {
                    run.get(&key(number), Some(time));
                }
            }
            run.store.take().unwrap().close().unwrap();
        });
    }
}

/// As in Kafka Streams: a deletion takes a key's only version away without a trace, if it has the very same timestamp.
#[test]
fn a_deletion_at_the_timestamp_of_the_only_version_leaves_no_trace() {
    let subject = &engines::all()[0];
    let mut store = open(subject, 10);
    let key = "k".to_owned();
    assert_eq!(store.put(&key, Some(&1), at(10)).unwrap(), PutResult::Latest);
    assert_eq!(store.put(&key, None, at(10)).unwrap(), PutResult::Latest);
    assert_eq!(store.put(&key, Some(&2), at(5)).unwrap(), PutResult::Latest);
    // With an older version, the deletion is that one's end.
    let key = "l".to_owned();
    for (value, time) in [(Some(&1), 5), (Some(&2), 10), (None, 10)] {
        assert_eq!(store.put(&key, value, at(time)).unwrap(), PutResult::Latest);
    }
    assert_eq!(store.put(&key, Some(&3), at(7)).unwrap(), PutResult::ValidTo(at(10)));
}

#[test]
fn an_expired_put_is_refused_and_not_logged_and_an_expired_get_finds_the_newest_only() {
    let subject = &engines::all()[0];
    let mut store = open(subject, 10);
    let (old, new) = ("old".to_owned(), "new".to_owned());
    let put = store.put(&old, Some(&1), at(10)).unwrap();
    assert_eq!(put, PutResult::Latest);
    for (value, time) in [(2, 100), (3, 120)] {
        assert_eq!(store.put(&new, Some(&value), at(time)).unwrap(), PutResult::Latest);
    }
    let limit = 120 - HISTORY_MS;
    assert_eq!(store.put(&old, Some(&9), at(limit - 1)).unwrap(), PutResult::NotPut);
    assert_eq!(store.delete(&old, at(limit - 1)).unwrap(), None);
    let found = store.get_as_of(&old, at(limit - 1)).unwrap().unwrap();
    assert_eq!((found.value, found.timestamp, found.valid_to), (1, at(10), None));
    assert_eq!(store.delete(&old, at(limit)).unwrap().unwrap().value, 1);
    assert_eq!(store.get_as_of(&old, at(limit - 1)).unwrap(), None);
    assert_eq!(store.get_as_of(&new, at(119)).unwrap().unwrap().value, 2);

    store.accept_record();
    let mut log = Log::default();
    assert_eq!(store.write_changelog(&mut log).unwrap(), 4);
    let logged: Vec<_> = log.0.iter().map(|record| record.timestamp.as_millis()).collect();
    assert_eq!(logged, [10, 100, 120, limit]);
    assert_eq!(
        (&log.0[0].key[..], log.0[0].value.as_deref()),
        (&b"old"[..], Some(&1i64.to_be_bytes()[..]))
    );
    assert_eq!(log.0[3].value, None);
}

#[test]
fn segments_before_the_history_are_deleted() {
    let subject = &engines::all()[0];
    let mut store = open(subject, 10);
    let key = "k".to_owned();
    for time in (0..2000).step_by(5) {
        let _ = store.put(&key, Some(&time), at(time)).unwrap();
        store.accept_record();
        store.commit(None).unwrap();
    }
    // A segment of 10 ms holds a row of the key: those of the history, one on each side, the newest version, the stream time.
    let entries = store.approximate_entries();
    assert!(entries <= HISTORY_MS as u64 / 10 + 4, "found {entries} entries");
    assert_eq!(store.get_as_of(&key, at(1997 - HISTORY_MS)).unwrap().unwrap().value, 1945);
}

#[test]
fn a_record_in_hand_is_not_committed() {
    let subject = &engines::all()[0];
    let mut store = open(subject, 10);
    let _ = store.put(&"k".to_owned(), Some(&1), at(1)).unwrap();
    assert!(store.commit(None).is_err());
    assert!(store.write_changelog(&mut Log::default()).is_err());
    store.undo_record();
    store.commit(None).unwrap();
}
