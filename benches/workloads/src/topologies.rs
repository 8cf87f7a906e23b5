//! The workloads W1 and W2 as topologies of the engine.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kstreams::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer, null_not_allowed};
use kstreams::store::KeyValueStore;
use kstreams::{
    Consumed, Headers, Joined, Materialized, Processor, ProcessorContext, Produced, Record,
    Repartitioned, Result, StoreHandle, Stores, StreamsBuilder, Topology, non_null,
};

use crate::avro::Text;
use crate::data::Topic;
use crate::events::{
    AccessDecision, Assignment, ManagerAssigned, ManagerLoads, Request, Verification,
};
use crate::rules;
use crate::usage::Stopwatch;

/// What of the driving input has gone through a topology; shared by its tasks.
#[derive(Debug)]
pub(crate) struct Progress {
    expected: u64,
    watch: OnceLock<Stopwatch>,
    done: AtomicU64,
    is_complete: Mutex<bool>,
    completed: Condvar,
}

impl Progress {
    /// Complete after `expected` records.
    pub(crate) fn new(expected: u64) -> Self {
        Self {
            expected,
            watch: OnceLock::new(),
            done: AtomicU64::new(0),
            is_complete: Mutex::new(false),
            completed: Condvar::new(),
        }
    }

    /// Starts the watch with the first driving record.
    pub(crate) fn seen(&self) {
        self.watch.get_or_init(Stopwatch::start);
    }

    /// Counts a driving record whose result was handed on. Hot path: one addition, but for the last record.
    pub(crate) fn count(&self) {
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.expected {
            *self.is_complete.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.completed.notify_all();
        }
    }

    /// Waits until all are done, at most for `timeout`; says whether they are.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let guard = self.is_complete.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.completed.wait_timeout_while(guard, timeout, |complete| !*complete);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Records handed on so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The watch, once the first record has come.
    pub(crate) fn watch(&self) -> Option<Stopwatch> {
        self.watch.get().copied()
    }
}

/// The name of W1's store.
const LOADS: &str = "manager-loads";

/// W1: the least loaded manager of the request's region.
pub(crate) fn w1(prefix: &str, output: &str, progress: Arc<Progress>) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store_with(
        LOADS,
        text_serde(),
        serde::<ManagerLoads>(),
    ));
    let requests = Consumed::with(Bytes::serde(), serde::<Option<Request>>());
    builder
        .stream_with(&[&Topic::Requests.name(prefix)], requests)
        .process(move || ManagerAssigner { loads: None, progress: progress.clone() }, &[LOADS])
        .to_with(output, Produced::with(i64::serde(), serde()));
    builder.build()
}

struct ManagerAssigner {
    loads: Option<StoreHandle<KeyValueStore<Text, ManagerLoads>>>,
    progress: Arc<Progress>,
}

impl Processor<Bytes, Option<Request>, i64, ManagerAssigned> for ManagerAssigner {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, i64, ManagerAssigned>) -> Result<()> {
        self.loads = Some(context.state_store(LOADS)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Bytes, Option<Request>>,
        context: &mut ProcessorContext<'_, '_, i64, ManagerAssigned>,
    ) -> Result<()> {
        let Record { value: Some(request), timestamp, headers, .. } = record else {
            return Ok(());
        };
        self.progress.seen();
        let store = context.store(self.loads.expect("init looked the store up"));
        let known = store.get(&request.region)?;
        let mut state = known.unwrap_or_else(|| rules::no_loads(&request.region));
        let value = rules::assign_manager(request, &mut state)?;
        store.put(&value.region, &state)?;
        context.forward(Record { key: value.request_id, value, timestamp, headers })?;
        self.progress.count();
        Ok(())
    }
}

/// W2: assignments, by contractor, joined with the contractor's latest status.
pub(crate) fn w2(prefix: &str, output: &str, progress: Arc<Progress>) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let status = builder.table_with::<i64, Verification>(
        &Topic::Security.name(prefix),
        Consumed::with(i64::serde(), serde()),
        Materialized::named("contractor-status"),
    );
    let (first, last) = (progress.clone(), progress);
    builder
        .stream_with(
            &[&Topic::Workflow.name(prefix)],
            Consumed::with(i64::serde(), serde::<Option<Assignment>>()),
        )
        .flat_map_values(move |_, assignment| {
            first.seen();
            assignment
        })
        .select_key(|_, assignment: &Assignment| assignment.contractor_id)
        .repartition(Repartitioned::with(i64::serde(), serde()).with_name("by-contractor"))
        .left_join(
            &status,
            |_, assignment, status| rules::decide_access(&assignment, status.as_ref()),
            Joined::with(i64::serde(), serde()),
        )
        .peek(move |_, _| last.count())
        .to_with(output, Produced::with(i64::serde(), serde()));
    builder.build()
}

non_null!(Assignment, AccessDecision);

/// A value in the wire format, whose schema id is part of its type.
trait Wire: Sized {
    fn write(&self, out: &mut Vec<u8>) -> Result<()>;
    fn read(framed: &Bytes) -> Result<Self>;
}

struct WireSerde<T>(PhantomData<fn() -> T>);

fn serde<T: Wire + 'static>() -> Serde<T> {
    Serde::from_both(WireSerde(PhantomData))
}

impl<T: Wire> Serializer<T> for WireSerde<T> {
    fn serialize(&self, _: &str, value: &T, out: &mut Vec<u8>) -> Result<Encoded> {
        value.write(out)?;
        Ok(Encoded::Bytes)
    }
}

impl<T: Wire> Deserializer<T> for WireSerde<T> {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<T> {
        T::read(data.ok_or_else(|| null_not_allowed("an Avro value"))?)
    }
}

struct TextSerde;

fn text_serde() -> Serde<Text> {
    Serde::from_both(TextSerde)
}

impl Serializer<Text> for TextSerde {
    fn serialize(&self, _: &str, value: &Text, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(value.as_bytes());
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Text> for TextSerde {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&Bytes>) -> Result<Text> {
        Text::new(data.ok_or_else(|| null_not_allowed("text"))?.clone())
    }
}

/// Values that a workload only reads, or only writes, refuse the other direction.
fn one_way<T>(what: &str) -> Result<T> {
    Err(kstreams::Error::fatal(format!("the workload does not {what} this event")))
}

macro_rules! wire {
    ($type:ty, |$value:ident, $out:ident| $write:expr, |$bytes:ident| $read:expr) => {
        impl Wire for $type {
            fn write(&self, $out: &mut Vec<u8>) -> Result<()> {
                let $value = self;
                $write;
                Ok(())
            }

            fn read($bytes: &Bytes) -> Result<Self> {
                $read
            }
        }
    };
}

wire!(Option<Request>, |_v, _out| one_way::<()>("write")?, |b| Request::decode(b));
wire!(ManagerAssigned, |v, out| v.encode(out), |_b| one_way("read"));
wire!(ManagerLoads, |v, out| v.encode(out), |b| ManagerLoads::decode(b));
wire!(Option<Assignment>, |_v, _out| one_way::<()>("write")?, |b| Assignment::decode(b));
// Events that are stored or sent on unchanged go out as the bytes they came in as.
wire!(Assignment, |v, out| out.extend_from_slice(&v.framed), |b| match Assignment::decode(b)? {
    Some(assignment) => Ok(assignment),
    None => Err(kstreams::Error::bad_record("found another event, wanted ContractorAssigned")),
});
wire!(Verification, |v, out| out.extend_from_slice(&v.framed), |b| Verification::decode(b));
wire!(AccessDecision, |v, out| v.encode(out), |_b| one_way("read"));

#[cfg(test)]
mod tests {
    use kstreams::Timestamp;
    use kstreams::testing::TopologyTestDriver;

    use super::*;
    use crate::data::{self, tests::Reference};
    use crate::hash::Checksum;

    const REQUESTS: u32 = 5_000;
    const ASSIGNMENTS: u32 = REQUESTS;

    /// Pipes the part of the data set that the topology reads through real tasks.
    fn run(topology: Topology, topics: &[Topic], progress: &Progress) -> Checksum {
        let driver = TopologyTestDriver::new(topology).unwrap();
        let mut found = Checksum::default();
        data::generate(REQUESTS, ASSIGNMENTS, |record| -> Result<()> {
            if topics.contains(&record.topic) {
                let time = Timestamp::from_millis(record.timestamp_ms);
                let (key, value) = (Some(record.key), Some(record.value));
                driver.pipe_raw(&record.topic.name(""), key, value, time, Headers::default())?;
                while let Some(out) = driver.read_raw("out") {
                    assert_eq!(out.timestamp, time);
                    found.add(&out.key.unwrap(), &out.value.unwrap());
                }
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(progress.done(), found.records);
        assert!(progress.wait(Duration::ZERO));
        assert!(progress.watch().is_some());
        found
    }

    #[test]
    fn w1_on_real_tasks_equals_the_plain_computation() {
        let progress = Arc::new(Progress::new(REQUESTS.into()));
        let found = run(w1("", "out", progress.clone()).unwrap(), &[Topic::Requests], &progress);
        assert_eq!(found, Reference::compute(REQUESTS, 0).w1);
    }

    #[test]
    fn w2_on_real_tasks_equals_the_plain_computation() {
        let progress = Arc::new(Progress::new(REQUESTS.into()));
        let topics = [Topic::Security, Topic::Workflow];
        let found = run(w2("", "out", progress.clone()).unwrap(), &topics, &progress);
        assert_eq!(found, Reference::compute(REQUESTS, ASSIGNMENTS).w2);
    }
}
