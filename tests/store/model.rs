//! Random use of a store, compared with plain maps after every step.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use kstreams::Timestamp;
use kstreams::store::{
    ChangelogRecord, ChangelogWriter, Direction, StateStore, TransactionalStore,
    TransactionalStoreOptions, ValueFormat,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::engines::{self, Subject};

type Key = Vec<u8>;
/// Values with their timestamps.
type Map = BTreeMap<Key, (Vec<u8>, i64)>;

#[derive(Debug, Clone)]
enum Step {
    Put(Key, Vec<u8>, i64),
    Delete(Key),
    Get(Key),
    Scan(Bound<Key>, Bound<Key>, bool),
    Accept,
    Undo,
    Commit,
    Abort,
    Reopen,
    Restore(Vec<(Key, Option<Vec<u8>>, i64)>),
}

fn key() -> impl Strategy<Value = Key> {
    // Few keys, so that steps meet; the edges of the byte range, and the keys that engines may treat apart.
    vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(255)], 0..3)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..12)
}

fn bound() -> impl Strategy<Value = Bound<Key>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (key(), proptest::option::of(value()), 0..1000i64);
    prop_oneof![
        12 => (key(), value(), 0..1000i64).prop_map(|(k, v, t)| Step::Put(k, v, t)),
        5 => key().prop_map(Step::Delete),
        8 => key().prop_map(Step::Get),
        4 => (bound(), bound(), any::<bool>()).prop_map(|(from, to, back)| Step::Scan(from, to, back)),
        6 => Just(Step::Accept),
        3 => Just(Step::Undo),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
        1 => vec(change, 0..6).prop_map(Step::Restore),
    ]
}

/// What a reader of the changelog holds.
#[derive(Default)]
struct Replica {
    entries: Map,
    writes: usize,
    last_key: Option<Key>,
}

impl ChangelogWriter for Replica {
    fn write(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> kstreams::Result<()> {
        assert!(self.last_key.as_deref().is_none_or(|last| last < key), "not once and in order");
        self.last_key = Some(key.to_vec());
        self.writes += 1;
        apply(&mut self.entries, key, value, timestamp.as_millis());
        Ok(())
    }
}

fn apply(map: &mut Map, key: &[u8], value: Option<&[u8]>, millis: i64) {
    match value {
        Some(value) => map.insert(key.to_vec(), (value.to_vec(), millis)),
        None => map.remove(key),
    };
}

struct Run<'a> {
    subject: &'a Subject,
    options: TransactionalStoreOptions,
    store: Option<TransactionalStore>,
    /// As of the last commit, the last accepted record, and now.
    committed: Map,
    accepted: Map,
    current: Map,
    replica: Replica,
    position: Option<i64>,
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, options: TransactionalStoreOptions) -> Self {
        subject.wipe();
        let mut run = Self {
            subject,
            options,
            store: None,
            committed: Map::new(),
            accepted: Map::new(),
            current: Map::new(),
            replica: Replica::default(),
            position: None,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let engine = self.subject.open();
        self.store = Some(TransactionalStore::open("s".into(), engine, self.options.clone()));
    }

    fn store(&mut self) -> &mut TransactionalStore {
        self.store.as_mut().unwrap()
    }

    fn close(&mut self) {
        Box::new(self.store.take().unwrap()).close().unwrap();
    }

    /// What the store says of an entry of the model: a plain store keeps no timestamps.
    fn expected(&self, key: &[u8], (value, millis): &(Vec<u8>, i64)) -> (Key, Vec<u8>, i64) {
        let is_timestamped = self.options.value_format == ValueFormat::Timestamped;
        (key.to_vec(), value.clone(), if is_timestamped { *millis } else { 0 })
    }

    fn get(&mut self, key: &[u8]) {
        let expected = self.current.get(key).map(|entry| self.expected(key, entry));
        let is_timestamped = self.options.value_format == ValueFormat::Timestamped;
        let found = self.store().get_with_timestamp(key).unwrap();
        let found = found.map(|(value, timestamp)| {
            (key.to_vec(), value.to_vec(), if is_timestamped { timestamp.as_millis() } else { 0 })
        });
        assert_eq!(found, expected);
    }

    fn scan(&mut self, from: Bound<Key>, to: Bound<Key>, is_backward: bool) {
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let within = self
            .current
            .iter()
            .filter(|(key, _)| RangeBounds::<[u8]>::contains(&bounds, key.as_slice()));
        let mut expected: Vec<_> = within.map(|(key, entry)| self.expected(key, entry)).collect();
        let mut direction = Direction::Forward;
        if is_backward {
            expected.reverse();
            direction = Direction::Backward;
        }
        let is_timestamped = self.options.value_format == ValueFormat::Timestamped;
        let found: Vec<_> = self
            .store()
            .scan(bounds.0, bounds.1, direction)
            .unwrap()
            .map(|scanned| scanned.unwrap())
            .map(|scanned| {
                let millis = if is_timestamped { scanned.timestamp.as_millis() } else { 0 };
                (scanned.key.to_vec(), scanned.value.to_vec(), millis)
            })
            .collect();
        assert_eq!(found, expected);
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
        let mut replica = std::mem::take(&mut self.replica);
        (replica.writes, replica.last_key) = (0, None);
        let count = self.store().write_changelog(&mut replica).unwrap();
        assert_eq!(count, replica.writes);
        let position = self.position.unwrap_or(0) + count as i64;
        self.store().commit(Some(position)).unwrap();
        self.replica = replica;
        self.position = Some(position);
        self.committed = self.accepted.clone();
        assert_eq!(self.replica.entries, self.committed);
    }

    fn restore(&mut self, changes: Vec<(Key, Option<Vec<u8>>, i64)>) {
        self.store().abort();
        self.drop_uncommitted();
        let position = self.position.unwrap_or(0) + changes.len() as i64;
        let records: Vec<_> = changes
            .into_iter()
            .map(|(key, value, millis)| {
                apply(&mut self.committed, &key, value.as_deref(), millis);
                apply(&mut self.replica.entries, &key, value.as_deref(), millis);
                ChangelogRecord {
                    key: key.into(),
                    value: value.map(Bytes::from),
                    timestamp: Timestamp::from_millis(millis),
                    headers: kstreams::Headers::default(),
                }
            })
            .collect();
        self.store().restore(&records, position).unwrap();
        self.position = Some(position);
        self.drop_uncommitted();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, value, millis) => {
                self.store().put_with_timestamp(&key, &value, Timestamp::from_millis(millis));
                apply(&mut self.current, &key, Some(&value), millis);
            }
            Step::Delete(key) => {
                self.store().delete(&key);
                apply(&mut self.current, &key, None, 0);
            }
            Step::Get(key) => self.get(&key),
            Step::Scan(from, to, is_backward) => self.scan(from, to, is_backward),
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
                self.close();
                self.open();
                self.drop_uncommitted();
            }
            Step::Reopen => {}
            Step::Restore(changes) => self.restore(changes),
        }
        let position = self.position;
        assert_eq!(self.store().position(), position);
    }
}

fn check(subject: &Subject, steps: Vec<Step>, cache_bytes_max: usize, is_timestamped: bool) {
    let value_format = if is_timestamped { ValueFormat::Timestamped } else { ValueFormat::Plain };
    let options = TransactionalStoreOptions { cache_bytes_max, value_format, is_logged: true };
    let mut run = Run::new(subject, options);
    for step in steps {
        run.step(step);
    }
    run.scan(Bound::Unbounded, Bound::Unbounded, false);
    run.store().abort();
    assert_eq!(run.store().uncommitted_bytes(), 0);
    run.drop_uncommitted();
    run.scan(Bound::Unbounded, Bound::Unbounded, true);
    run.close();
}

#[test]
fn stores_equal_the_model() {
    for subject in engines::all() {
        // Opening a database costs more than the steps.
        let (cases, steps_max) = if subject.is_persistent() { (60, 300) } else { (1500, 100) };
        let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
        let steps = vec(step(), 1..steps_max);
        // No cache, one that holds a few rows, one that holds all.
        let cache = prop_oneof![Just(0usize), Just(600), Just(1 << 20)];
        proptest!(config, |(steps in steps, cache in cache, is_timestamped in any::<bool>())| {
            check(&subject, steps, cache, is_timestamped);
        });
    }
}
