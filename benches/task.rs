//! Records per second through a real task, without Kafka: what the engine itself costs.
//!
//! Method: a batch of records is piped through the test driver, which drives the same tasks as the runtime, with one commit a
//! batch. Stores are in memory. Included: reading and writing plain serdes, the hops from node to node, the journal of
//! each record, and the copy that the driver makes of each result. Not included: librdkafka and RocksDB.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kstreams::store::KeyValueStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Headers, Processor, ProcessorContext, RawRecord, Record, Result, StoreHandle, Stores,
    StreamsBuilder, Timestamp, Topology,
};

/// Records between two commits: what a thread with 500,000 records/s takes in 20 ms.
const BATCH_RECORDS: i64 = 10_000;
/// As many keys as keep every row in the cache.
const KEYS: i64 = 1_000;
const VALUE_BYTES: usize = 200;

fn records() -> Vec<RawRecord> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let record = |index: i64| RawRecord {
        offset: 0,
        timestamp: Timestamp::from_millis(index),
        key: Some(Bytes::copy_from_slice(&(index % KEYS).to_be_bytes())),
        value: Some(value.clone()),
        headers: Headers::default(),
    };
    (0..BATCH_RECORDS).map(record).collect()
}

/// Source and sink alone.
fn copy() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream::<i64, Bytes>("in").to("out");
    builder.build()
}

/// Eight hops between them, to see what one costs.
fn eight_hops() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let mut stream = builder.stream::<i64, Bytes>("in");
    for _ in 0..8 {
        stream = stream.filter(|key, value| *key >= 0 && !value.is_empty());
    }
    stream.to("out");
    builder.build()
}

/// A look-up and a write in a logged store for each record.
fn stateful() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<i64, i64>("counts"));
    builder.stream::<i64, Bytes>("in").process(|| Counter { counts: None }, &["counts"]).to("out");
    builder.build()
}

struct Counter {
    counts: Option<StoreHandle<KeyValueStore<i64, i64>>>,
}

impl Processor<i64, Bytes, i64, i64> for Counter {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, i64, i64>) -> Result<()> {
        self.counts = Some(context.state_store("counts")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<i64, Bytes>,
        context: &mut ProcessorContext<'_, '_, i64, i64>,
    ) -> Result<()> {
        let store = context.store(self.counts.expect("init looked the store up"));
        let count = store.get(&record.key)?.unwrap_or(0) + 1;
        store.put(&record.key, &count)?;
        context.forward(record.with_value(count))
    }
}

fn task(c: &mut Criterion) {
    let mut group = c.benchmark_group("task");
    group.throughput(Throughput::Elements(BATCH_RECORDS.unsigned_abs()));
    let topologies = [("copy", copy()), ("eight_hops", eight_hops()), ("stateful", stateful())];
    for (name, topology) in topologies {
        let topology = topology.expect("the topology is valid");
        let driver = TopologyTestDriver::new(topology).expect("the topology can run");
        let input = records();
        group.bench_function(name, |b| {
            b.iter_batched(
                || input.clone(),
                |batch| {
                    driver.pipe_batch("in", batch).expect("no record fails");
                    while let Some(out) = driver.read_raw("out") {
                        black_box(out);
                    }
                    while driver.read_raw("test-counts-changelog").is_some() {}
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, task);
criterion_main!(benches);
