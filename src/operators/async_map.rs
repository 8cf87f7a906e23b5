//! `map_values_async`: values that asynchronous calls make.
//!
//! ```text
//! record ──► store ──(accepted)──► called ──► answered ──(first of its key)──► forwarded, and deleted from the store
//! ```
//!
//! A record that waits lies in a store with a changelog, in the transaction that moves past it. So commits wait for no call, and
//! whoever has the task next calls again for what has no result. Its result, and its deletion from the store, are one transaction: it comes out once,
//! however often it was called for. Memory has only what is under way, and is made anew from the store after an abort: see ARCHITECTURE.md.
//!
//! Hot path: `process`, `arrived`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::calls::{Answer, Call, CallLimits, Calls};
use super::waiting::Waiting;
use crate::error::{Error, Result};
use crate::processor::{
    Arrived, Frame, Node, NodeIndex, Pending, PunctuatorId, SourceRecord, StoreHandle, take,
};
use crate::record::{RawRecord, Record};
use crate::serdes::{Encoded, Serde};
use crate::store::KeyValueStore;
use crate::time::{Clock, SystemClock, Timestamp};

/// What makes a value of a record's key and value.
pub(crate) type AsyncMapper<K, V, V2> = Arc<dyn Fn(K, V) -> Call<V2> + Send + Sync>;

/// How many records wait at most, together and of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) in_flight: usize,
    pub(crate) in_flight_per_key: usize,
}

/// What a node of `map_values_async` is made of.
pub(crate) struct AsyncMapSpec<K, V, V2> {
    pub(crate) store: Arc<str>,
    pub(crate) key_serde: Serde<K>,
    pub(crate) value_serde: Serde<V>,
    pub(crate) mapper: AsyncMapper<K, V, V2>,
    pub(crate) room: Room,
    pub(crate) limits: CallLimits,
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

/// Records by a number that rises as they come.
type WaitingStore<K, V> = KeyValueStore<i64, Waiting<K, V>>;

/// Forwards each record with the value that a call makes of it.
pub(crate) struct AsyncMapValues<K, V, V2> {
    spec: Arc<AsyncMapSpec<K, V, V2>>,
    handle: Option<StoreHandle<WaitingStore<K, V>>>,
    calls: Calls<V2>,
    /// What waits, with its key's bytes.
    waiting: BTreeMap<i64, Bytes>,
    /// What waits of each key, in order; only looked up, never walked.
    of_key: HashMap<Bytes, VecDeque<i64>>,
    /// What may be called for now.
    startable: BTreeSet<i64>,
    answered: BTreeMap<i64, std::result::Result<V2, Arc<Error>>>,
    /// Answered, and the first of its key.
    ready: BTreeSet<i64>,
    /// The first of them, while it is in the task's hands.
    in_hand: Option<(i64, Waiting<K, V>)>,
    next_sequence: i64,
    /// Of the task, when memory was made from the store; `None`: it was not yet.
    aborts_seen: Option<u64>,
    key: Vec<u8>,
}

impl<K, V, V2> AsyncMapValues<K, V, V2>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    V2: Clone + Send + 'static,
{
    pub(crate) fn new(spec: Arc<AsyncMapSpec<K, V, V2>>) -> Self {
        Self {
            handle: None,
            calls: Calls::new(spec.runtime.clone(), spec.limits.clone()),
            waiting: BTreeMap::new(),
            of_key: HashMap::new(),
            startable: BTreeSet::new(),
            answered: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_hand: None,
            next_sequence: 0,
            aborts_seen: None,
            key: Vec::new(),
            spec,
        }
    }

    fn store<'f>(&self, frame: &'f mut Frame<'_>) -> &'f mut WaitingStore<K, V> {
        frame.store(self.handle.expect("init looked the store up"))
    }

    /// The bytes that tell keys apart; none for a null key.
    fn key_bytes(&mut self, key: &K) -> Result<Bytes> {
        self.key.clear();
        match self.spec.key_serde.serializer().serialize(&self.spec.store, key, &mut self.key)? {
            Encoded::Bytes => Ok(Bytes::copy_from_slice(&self.key)),
            Encoded::Null => Ok(Bytes::new()),
        }
    }

    /// Remembers a record of the store.
    fn add(&mut self, sequence: i64, key: Bytes) {
        let of_key = self.of_key.entry(key.clone()).or_default();
        of_key.push_back(sequence);
        if of_key.len() <= self.spec.room.in_flight_per_key {
            self.startable.insert(sequence);
        }
        self.waiting.insert(sequence, key);
    }

    /// Forgets a record, and looks at those of its key that come after it.
    fn forget(&mut self, sequence: i64) {
        self.calls.break_off(sequence);
        self.startable.remove(&sequence);
        self.answered.remove(&sequence);
        self.ready.remove(&sequence);
        let Some(key) = self.waiting.remove(&sequence) else { return };
        let Some(of_key) = self.of_key.get_mut(&key) else { return };
        of_key.retain(|other| *other != sequence);
        if of_key.is_empty() {
            self.of_key.remove(&key);
            return;
        }
        for other in of_key.iter().take(self.spec.room.in_flight_per_key) {
            if !self.calls.is_under_way(*other) && !self.answered.contains_key(other) {
                self.startable.insert(*other);
            }
        }
        let first = of_key.front().filter(|first| self.answered.contains_key(*first));
        self.ready.extend(first);
    }

    /// Makes memory say what the store says: at the start, and after an abort, which may have brought records back and taken others. Calls for
    /// what is there still go on: a number stands for one record for ever.
    fn reload(&mut self, frame: &mut Frame<'_>) -> Result<()> {
        let mut records = Vec::new();
        for entry in self.store(frame).all()? {
            let (sequence, waiting) = entry?;
            records.push((sequence, waiting.record.key));
        }
        let kept: BTreeSet<i64> = records.iter().map(|(sequence, _)| *sequence).collect();
        let gone = self.waiting.keys().copied().filter(|sequence| !kept.contains(sequence));
        gone.collect::<Vec<_>>().into_iter().for_each(|sequence| self.forget(sequence));
        self.waiting.clear();
        self.of_key.clear();
        self.startable.clear();
        self.ready.clear();
        for (sequence, key) in records {
            let key = self.key_bytes(&key)?;
            self.add(sequence, key);
            self.next_sequence = self.next_sequence.max(sequence + 1);
        }
        let calls = &self.calls;
        let answered = &self.answered;
        self.startable
            .retain(|sequence| !calls.is_under_way(*sequence) && !answered.contains_key(sequence));
        let firsts: Vec<i64> = self.answered.keys().copied().collect();
        firsts.into_iter().for_each(|sequence| self.note_answered(sequence));
        Ok(())
    }

    fn note_answered(&mut self, sequence: i64) {
        let of_key = self.waiting.get(&sequence).and_then(|key| self.of_key.get(key));
        if of_key.and_then(VecDeque::front) == Some(&sequence) {
            self.ready.insert(sequence);
        }
    }

    fn take_answer(&mut self, answer: Answer<V2>) {
        let Answer { sequence, result } = answer;
        // What was forgotten meanwhile has no use for it.
        if self.waiting.contains_key(&sequence) {
            self.answered.insert(sequence, result.map_err(Arc::new));
            self.note_answered(sequence);
        }
    }

    /// Begins the calls that may begin. A record that failed after it was added is not in the store, and is forgotten.
    fn start(&mut self, frame: &mut Frame<'_>) -> Result<()> {
        while let Some(sequence) = self.startable.first().copied() {
            let Some(waiting) = self.store(frame).get(&sequence)? else {
                self.forget(sequence);
                continue;
            };
            let Record { key, value, .. } = waiting.record;
            let mapper = self.spec.mapper.clone();
            let begin = move || mapper(key.clone(), value.clone());
            self.calls.start(sequence, begin, frame.task.wake.clone())?;
            self.startable.remove(&sequence);
        }
        Ok(())
    }

    fn origin(
        &self,
        frame: &Frame<'_>,
        record: &Record<K, V>,
        index: NodeIndex,
    ) -> Result<SourceRecord> {
        let task = &frame.task;
        if let (Some(partition), Some(raw)) = (task.current.partition, &task.current.raw) {
            let source = &task.partitions[partition];
            let (topic, partition) = (source.topic.clone(), source.partition);
            return Ok(SourceRecord { topic, partition, raw: raw.clone() });
        }
        // A punctuation made it: it is its own source.
        let topic = frame.nodes[index.0].name.clone();
        let bytes = |encoded: Encoded, bytes: Vec<u8>| {
            (encoded == Encoded::Bytes).then(|| Bytes::from(bytes))
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let spec = &self.spec;
        let key_is = spec.key_serde.serializer().serialize(&topic, &record.key, &mut key)?;
        let value_is =
            spec.value_serde.serializer().serialize(&topic, &record.value, &mut value)?;
        let raw = RawRecord {
            offset: -1,
            timestamp: record.timestamp,
            key: bytes(key_is, key),
            value: bytes(value_is, value),
            headers: record.headers.clone(),
        };
        Ok(SourceRecord { topic, partition: task.task_id.partition, raw })
    }
}

impl<K, V, V2> Node for AsyncMapValues<K, V, V2>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    V2: Clone + Send + 'static,
{
    fn init(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        self.handle = Some(frame.store_handle(index, &self.spec.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: &mut dyn std::any::Any,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()> {
        let record = take::<K, V>(record);
        // A record may come before the task has looked for results.
        self.refresh(frame)?;
        let (key, sequence) = (self.key_bytes(&record.key)?, self.next_sequence);
        let origin = self.origin(frame, &record, index)?;
        self.store(frame).put(&sequence, &Waiting { record, origin })?;
        self.next_sequence += 1;
        self.add(sequence, key);
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        _: Timestamp,
        _: &mut Frame<'_>,
        _: NodeIndex,
    ) -> Result<()> {
        Ok(()) // it schedules nothing
    }

    fn close(&mut self) {
        self.waiting.keys().for_each(|sequence| self.calls.break_off(*sequence));
    }

    fn pending(&mut self) -> Option<&mut dyn Pending> {
        Some(self)
    }
}

impl<K, V, V2> AsyncMapValues<K, V, V2>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    V2: Clone + Send + 'static,
{
    fn refresh(&mut self, frame: &mut Frame<'_>) -> Result<()> {
        if self.aborts_seen != Some(frame.task.aborts) {
            self.reload(frame)?;
            self.aborts_seen = Some(frame.task.aborts);
        }
        Ok(())
    }
}

impl<K, V, V2> Pending for AsyncMapValues<K, V, V2>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    V2: Clone + Send + 'static,
{
    fn arrived(&mut self, frame: &mut Frame<'_>) -> Result<Option<Arrived>> {
        self.refresh(frame)?;
        while let Some(answer) = self.calls.answer() {
            self.take_answer(answer);
        }
        self.start(frame)?;
        while let Some(sequence) = self.ready.first().copied() {
            let Some(waiting) = self.store(frame).get(&sequence)? else {
                self.forget(sequence);
                continue;
            };
            let arrived = Arrived {
                origin: waiting.origin.clone(),
                timestamp: waiting.record.timestamp,
                headers: waiting.record.headers.clone(),
            };
            self.in_hand = Some((sequence, waiting));
            return Ok(Some(arrived));
        }
        Ok(None)
    }

    fn finish(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        let (sequence, waiting) = self.in_hand.as_ref().expect("it has arrived");
        let value = match &self.answered[sequence] {
            Ok(value) => value.clone(),
            Err(error) => {
                let failed = Error::new(error.kind(), "asynchronous call failed");
                return Err(failed.with_source(error.clone()));
            }
        };
        let record = waiting.record.clone().with_value(value);
        let sequence = *sequence;
        self.store(frame).delete(&sequence)?;
        frame.forward(index, record)
    }

    fn give_up(&mut self, frame: &mut Frame<'_>) -> Result<()> {
        let (sequence, _) = self.in_hand.as_ref().expect("it has arrived");
        let sequence = *sequence;
        self.store(frame).delete(&sequence).map(drop)
    }

    fn settle(&mut self) {
        if let Some((sequence, _)) = self.in_hand.take() {
            self.forget(sequence);
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.spec.room.in_flight
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let clock = SystemClock::default();
        let deadline = clock.monotonic() + timeout;
        let waited = self.calls.are_under_way();
        while self.calls.are_under_way() {
            let left = deadline.saturating_sub(clock.monotonic());
            let Some(answer) = self.calls.wait(left) else {
                let text = format!(
                    "waiting for asynchronous calls: found some under way still after {timeout:?}"
                );
                return Err(Error::fatal(text));
            };
            self.take_answer(answer);
        }
        Ok(waited)
    }
}
