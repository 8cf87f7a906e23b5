//! Runs a topology in the calling thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::settings::TestSettings;
use super::topics::{TestInputTopic, TestOutputTopic};
use crate::error::{Error, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{OutgoingRecord, TopicHandle};
use crate::record::{Headers, RawRecord};
use crate::serdes::{DefaultSerde, Serde};
use crate::store::{CacheBudget, StateStore};
use crate::task::{GlobalTask, RecordSink, Step, StreamTask, TaskBuilder, TaskSettings};
use crate::time::{Clock, MockClock, Timestamp};
use crate::topology::{PartitionCounts, Subtopology, Topology};

/// The one task of the driver: it runs all subtopologies, as Java's driver does.
pub(super) const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };
/// As Kafka's default `message.max.bytes`.
const RECORD_BYTES_MAX: usize = 1_000_000;

/// Runs a topology on single-partition topics in memory. Source: `TopologyTestDriver`.
///
/// ```
/// use kstreams::testing::TopologyTestDriver;
/// use kstreams::{StreamsBuilder, Timestamp};
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, String>("in").map_values(|_, text| text.to_uppercase()).to("out");
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let input = driver.input_topic::<String, String>("in");
/// let output = driver.output_topic::<String, String>("out");
/// input.pipe_at("k".into(), "hello".into(), Timestamp::from_millis(5))?;
/// assert_eq!(output.read_key_values()?, [("k".to_owned(), "HELLO".to_owned())]);
/// # Ok::<(), kstreams::Error>(())
/// ```
pub struct TopologyTestDriver {
    pub(super) inner: Rc<RefCell<Inner>>,
}

pub(super) struct Inner {
    clock: MockClock,
    pub(super) task: Option<StreamTask>,
    pub(super) builder: TaskBuilder,
    pub(super) counts: PartitionCounts,
    globals: Vec<GlobalTask>,
    pub(super) sink: CapturingSink,
    /// What the task got since the last commit, by partition.
    pub(super) uncommitted: Vec<(usize, RawRecord)>,
    /// Inputs that are changelogs of tables too.
    pub(super) source_changelogs: BTreeMap<Arc<str>, VecDeque<RawRecord>>,
    pub(super) outputs: BTreeMap<Arc<str>, VecDeque<RawRecord>>,
    offsets: BTreeMap<Arc<str>, i64>,
    waits_for_calls: bool,
}

/// Keeps what the task sends.
#[derive(Default)]
pub(super) struct CapturingSink {
    topics: Vec<Arc<str>>,
    pub(super) sent: Vec<(usize, RawRecord)>,
}

impl RecordSink for CapturingSink {
    fn topic(&mut self, name: &Arc<str>) -> Result<TopicHandle> {
        self.topics.push(name.clone());
        Ok(TopicHandle(self.topics.len() - 1))
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }

    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()> {
        let raw = RawRecord {
            offset: 0,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers: record.headers.clone(),
        };
        self.sent.push((record.topic.0, raw));
        Ok(())
    }
}

impl TopologyTestDriver {
    /// Runs `topology` with default settings.
    pub fn new(topology: Topology) -> Result<Self> {
        Self::with_settings(topology, TestSettings::default())
    }

    /// Runs `topology`.
    ///
    /// # Errors
    /// `Invalid` where the topology cannot run, and what a processor's `init` returns.
    pub fn with_settings(topology: Topology, settings: TestSettings) -> Result<Self> {
        let clock = MockClock::new(settings.start);
        let plan = Arc::new(topology.plan_without_cluster(&settings.application_id)?);
        let task_settings = TaskSettings {
            application_id: settings.application_id.as_str().into(),
            max_task_idle: Some(Duration::ZERO),
            record_cache: CacheBudget::new(settings.record_cache_bytes_max),
            row_cache_bytes_max: 1 << 20,
            handlers: Arc::new(settings.handlers),
            emit_interval: settings.emit_interval,
            idle_timeout: settings.idle_timeout,
            future_skew_max: settings.future_skew_max,
            clock: Arc::new(clock.clone()),
            wake: Arc::new(|| ()),
            writer: None,
            engines: settings.engines,
            tracing: settings.tracing,
        };
        let mut builder = TaskBuilder::new(Arc::new(topology), plan, task_settings);
        let mut globals = Vec::new();
        for index in 0..builder.topology.global_stores.len() {
            let global = builder.build_global(index, Path::new(""))?;
            let name = builder.topology.global_stores[index].builder.name().clone();
            builder.global_stores.push((name, global.store()));
            globals.push(global);
        }
        let all = |node: &usize| !builder.topology.nodes[*node].global;
        let nodes: Vec<usize> = (0..builder.topology.nodes.len()).filter(all).collect();
        let output_partitions = settings.output_partitions;
        let counts: PartitionCounts = Arc::new(move |_| Ok(output_partitions));
        let task = if nodes.is_empty() {
            None
        } else {
            builder.subtopologies = Arc::new(vec![Subtopology { id: 0, nodes, global: false }]);
            let stores = builder.open_stores(TASK, Path::new(""))?;
            Some(builder.build(TASK, stores, &[], &counts)?)
        };
        let source_changelogs = builder.topology.source_changelogs.values();
        let source_changelogs =
            source_changelogs.map(|topic| (topic.clone(), VecDeque::new())).collect();
        let mut inner = Inner {
            clock,
            task,
            builder,
            globals,
            sink: CapturingSink::default(),
            uncommitted: Vec::new(),
            source_changelogs,
            outputs: BTreeMap::new(),
            offsets: BTreeMap::new(),
            counts,
            waits_for_calls: settings.waits_for_calls,
        };
        inner.complete()?;
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// An input topic of types that know their serdes.
    pub fn input_topic<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
    ) -> TestInputTopic<K, V> {
        self.input_topic_with(topic, K::serde(), V::serde())
    }

    /// An input topic.
    pub fn input_topic_with<K, V>(
        &self,
        topic: &str,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> TestInputTopic<K, V> {
        let (driver, topic) = (self.inner.clone(), topic.to_owned());
        TestInputTopic { driver, topic, key_serde, value_serde }
    }

    /// An output topic of types that know their serdes.
    pub fn output_topic<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
    ) -> TestOutputTopic<K, V> {
        self.output_topic_with(topic, K::serde(), V::serde())
    }

    /// An output topic. Internal and dead-letter topics can be read by their full names.
    pub fn output_topic_with<K, V>(
        &self,
        topic: &str,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
    ) -> TestOutputTopic<K, V> {
        let (driver, topic) = (self.inner.clone(), topic.to_owned());
        TestOutputTopic { driver, topic, key_serde, value_serde }
    }

    /// Pipes bytes into a topic.
    pub fn pipe_raw(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: Headers,
    ) -> Result<()> {
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        self.inner.borrow_mut().pipe(topic, key, value, timestamp, headers)
    }

    /// Pipes records into a topic and processes them with one commit at the end, as a stream thread does, where
    /// [`pipe_raw`](Self::pipe_raw) commits after each. Offsets are given by the driver.
    ///
    /// # Errors
    /// `Invalid` where the topology does not read the topic, and what a task returns.
    pub fn pipe_batch(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = RawRecord>,
    ) -> Result<()> {
        self.inner.borrow_mut().pipe_batch(topic, records)
    }

    /// The next record of a topic as bytes, `None` when there is none.
    pub fn read_raw(&self, topic: &str) -> Option<RawRecord> {
        self.inner.borrow_mut().read(topic)
    }

    /// Topics that have been written to, with the number of records not read yet.
    pub fn produced_topics(&self) -> Vec<(Arc<str>, usize)> {
        let inner = self.inner.borrow();
        inner.outputs.iter().map(|(topic, records)| (topic.clone(), records.len())).collect()
    }

    /// Moves the wall clock, and calls the punctuators that are due.
    pub fn advance_wall_clock_time(&self, by: Duration) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.clock.advance(by);
        let Inner { task, sink, .. } = &mut *inner;
        if let Some(task) = task {
            task.punctuate_wall_clock(sink)?;
        }
        inner.commit()?;
        inner.complete()
    }

    /// Does what a revocation does before the task is given up: every processor's [`suspend`](crate::Processor::suspend), and a commit. The
    /// task goes on afterwards.
    ///
    /// # Errors
    /// What a task returns.
    pub fn suspend(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        let Inner { task, sink, .. } = &mut *inner;
        if let Some(task) = task {
            task.suspend(sink)?;
        }
        inner.commit()?;
        inner.complete()
    }

    /// The wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.inner.borrow().now()
    }

    /// Closes the processors and the stores of tasks, as the end of an application does; topics can be read on. Source: `TopologyTestDriver.close`.
    ///
    /// # Errors
    /// `Fatal` where a store's engine does not close.
    pub fn close(&self) -> Result<()> {
        let task = self.inner.borrow_mut().task.take();
        let stores = task.map(StreamTask::close).unwrap_or_default();
        stores.into_iter().try_for_each(|store| store.store.close())
    }

    /// Looks into a store, a global one too.
    ///
    /// # Errors
    /// `Invalid` where there is no store of this name and type.
    pub fn with_store<S: StateStore, R>(
        &self,
        name: &str,
        look: impl FnOnce(&mut S) -> R,
    ) -> Result<R> {
        let mut inner = self.inner.borrow_mut();
        let wrong = || Error::invalid(format!("there is no store \"{name}\" of this type"));
        if let Some(store) = inner.task.as_mut().and_then(|task| task.store_mut(name)) {
            return Ok(look(store.as_any_mut().downcast_mut().ok_or_else(wrong)?));
        }
        for global in &inner.globals {
            let shared = global.store();
            let mut store = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if &**store.name() == name {
                return Ok(look(store.as_any_mut().downcast_mut().ok_or_else(wrong)?));
            }
        }
        Err(wrong())
    }
}

impl Inner {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn read(&mut self, topic: &str) -> Option<RawRecord> {
        self.outputs.get_mut(topic)?.pop_front()
    }

    pub(super) fn pipe(
        &mut self,
        topic: &str,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        timestamp: Timestamp,
        headers: Headers,
    ) -> Result<()> {
        let (key, value) = (key.map(Bytes::from), value.map(Bytes::from));
        let record = RawRecord { offset: 0, timestamp, key, value, headers };
        self.enqueue_external(topic, record)?;
        self.complete()
    }

    pub(super) fn pipe_batch(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = RawRecord>,
    ) -> Result<()> {
        let outcome = self.process_batch(topic, records).and_then(|()| self.commit());
        self.read_again_if_asked(outcome)?;
        self.complete()
    }

    /// Processes records without a commit.
    fn process_batch(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = RawRecord>,
    ) -> Result<()> {
        for record in records {
            self.enqueue_external(topic, record)?;
        }
        let now = self.clock.now();
        if let Some(task) = &mut self.task {
            for partition in 0..task.partitions().len() {
                task.set_caught_up(partition, true);
            }
            while task.process_next(now, &mut self.sink)? == Step::Processed {
                task.punctuate_stream_time(&mut self.sink)?;
            }
        }
        Ok(())
    }

    /// Processes records and then drops all that came of them; the topic is as if they had not been sent.
    pub(super) fn abort_batch(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = RawRecord>,
    ) -> Result<()> {
        let (offsets, changelogs) = (self.offsets.clone(), self.source_changelogs.clone());
        let processed = self.process_batch(topic, records);
        if let Some(task) = &mut self.task {
            task.abort();
        }
        self.sink.sent.clear();
        self.uncommitted.clear();
        (self.offsets, self.source_changelogs) = (offsets, changelogs);
        processed
    }

    fn enqueue_external(&mut self, topic: &str, record: RawRecord) -> Result<()> {
        if self.enqueue(topic, record)? {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the topology does not read topic \"{topic}\"; it reads {:?}",
            self.source_topics()
        )))
    }

    fn source_topics(&self) -> Vec<Arc<str>> {
        let tasks = self.task.iter().flat_map(|task| task.partitions());
        let globals = self.globals.iter().map(|global| global.topic.clone());
        tasks.map(|partition| partition.topic.clone()).chain(globals).collect()
    }

    /// Gives a record to whoever reads its topic; says whether somebody does.
    fn enqueue(&mut self, topic: &str, mut record: RawRecord) -> Result<bool> {
        let offset = self.offsets.entry(topic.into()).or_insert(0);
        record.offset = *offset;
        *offset += 1;
        if let Some(kept) = self.source_changelogs.get_mut(topic) {
            kept.push_back(record.clone());
        }
        if let Some(global) = self.globals.iter_mut().find(|global| &*global.topic == topic) {
            global.apply(&record)?;
            global.commit(record.offset + 1)?;
            return Ok(true);
        }
        let Some(task) = &mut self.task else { return Ok(false) };
        let known = task.partitions().iter().position(|source| &*source.topic == topic);
        let index = match known {
            Some(index) => index,
            None => match self.builder.pattern_source_of(task, topic) {
                Some(source) => {
                    let input = TopicPartition::new(topic, TASK.partition);
                    self.builder.add_input(task, source, input);
                    task.partitions().len() - 1
                }
                None => return Ok(false),
            },
        };
        self.uncommitted.push((index, record.clone()));
        task.push(index, record);
        Ok(true)
    }

    /// Processes everything that lies in queues, and what that produces for internal topics.
    pub(super) fn complete(&mut self) -> Result<()> {
        self.capture()?;
        loop {
            let outcome = self.process_one().and_then(|step| self.commit().map(|()| step));
            let step = self.read_again_if_asked(outcome)?;
            let more = self.task.as_ref().is_some_and(StreamTask::has_buffered_records);
            if matches!(step, None | Some(Step::Idle)) {
                let waited = self.waits_for_calls && self.wait_for_calls()?;
                // A task that is full leaves records in its queues, where nobody waits for it.
                if !(waited || more && self.waits_for_calls) {
                    return Ok(());
                }
            }
        }
    }

    fn process_one(&mut self) -> Result<Step> {
        let now = self.clock.now();
        let Some(task) = &mut self.task else { return Ok(Step::Idle) };
        for partition in 0..task.partitions().len() {
            task.set_caught_up(partition, true);
        }
        let step = task.process_next(now, &mut self.sink)?;
        task.punctuate_stream_time(&mut self.sink)?;
        Ok(step)
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        if let Some(task) = &mut self.task {
            task.prepare_commit(&mut self.sink)?;
            task.post_commit(false, self.clock.now())?;
            self.uncommitted.retain(|(input, record)| task.consumed(*input) <= Some(record.offset));
        }
        self.capture()
    }

    /// Keeps what was sent, and pipes internal records back in.
    fn capture(&mut self) -> Result<()> {
        for (topic, record) in std::mem::take(&mut self.sink.sent) {
            let topic = self.sink.topics[topic].clone();
            self.outputs.entry(topic.clone()).or_default().push_back(record.clone());
            self.enqueue(&topic, record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsl::StreamsBuilder;

    #[test]
    fn a_batch_is_committed_once() {
        let builder = StreamsBuilder::new();
        builder.stream::<String, String>("in").group_by_key().count().to_stream().to("out");
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let record = RawRecord {
            offset: 0,
            timestamp: Timestamp::from_millis(5),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: Headers::default(),
        };
        driver.pipe_batch("in", vec![record; 3]).unwrap();
        let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
        assert_eq!(out.last(), Some(&("k".to_owned(), 3)));
        let changelog = driver
            .produced_topics()
            .into_iter()
            .find(|(topic, _)| topic.ends_with("-changelog"))
            .unwrap();
        assert_eq!(changelog.1, 1);
    }

    struct Asking;

    impl crate::Processor<String, String, String, String> for Asking {
        fn process(
            &mut self,
            record: crate::Record<String, String>,
            context: &mut crate::ProcessorContext<'_, '_, String, String>,
        ) -> Result<()> {
            if record.value == "commit" {
                context.commit();
            }
            Ok(())
        }
    }

    #[test]
    fn a_commit_that_a_processor_asks_for_is_due_until_it_is_made() {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, String>("in")
            .process::<String, String, _>(|| Asking, &[])
            .to("out");
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let mut inner = driver.inner.borrow_mut();
        let requested = |inner: &Inner| inner.task.as_ref().unwrap().commit_requested();
        for (value, wanted) in [("wait", false), ("commit", true)] {
            let record = RawRecord {
                offset: 0,
                timestamp: Timestamp::from_millis(5),
                key: Some(Bytes::from_static(b"k")),
                value: Some(Bytes::from_static(value.as_bytes())),
                headers: Headers::default(),
            };
            inner.process_batch("in", [record]).unwrap();
            assert_eq!(requested(&inner), wanted, "{value}");
        }
        inner.commit().unwrap();
        assert!(!requested(&inner));
    }
}
