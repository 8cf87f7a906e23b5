//! Stores without Kafka: what a get and a put of hot keys, a scan and a commit cost on each engine.
//!
//! 100,000 keys of 8 bytes, values of 100 bytes, as in the measurements that chose this design.

use std::hint::black_box;
use std::ops::Bound;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kstreams::serdes::DefaultSerde;
use kstreams::store::{
    ChangelogRecord, Direction, Engine, Engines, KeyValueStore, MemoryEngines, StateStore,
    TransactionalStore, TransactionalStoreOptions,
};

const KEYS: u64 = 100_000;
const VALUE: [u8; 100] = [42; 100];
/// Changed keys per commit.
const BATCH: u64 = 10_000;

fn engines() -> Vec<(&'static str, Box<dyn Engines>)> {
    vec![
        ("memory", Box::new(MemoryEngines)),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", {
            use kstreams::store::rocksdb::{RocksDbEngines, RocksDbOptions};
            Box::new(RocksDbEngines::new(&RocksDbOptions::default()))
        }),
    ]
}

/// Keys in an order without locality.
fn key(i: u64) -> [u8; 8] {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS).to_be_bytes()
}

fn store(engine: Box<dyn Engine>, cache_bytes_max: usize) -> TransactionalStore {
    let options = TransactionalStoreOptions { cache_bytes_max, ..Default::default() };
    let mut store = TransactionalStore::open("bench".into(), engine, options);
    let records: Vec<_> = (0..KEYS)
        .map(|i| ChangelogRecord {
            key: i.to_be_bytes().to_vec().into(),
            value: Some(VALUE.to_vec().into()),
            timestamp: Default::default(),
            headers: Default::default(),
        })
        .collect();
    store.restore(&records, KEYS as i64).expect("an empty store takes records");
    store
}

fn bench(c: &mut Criterion) {
    for (name, engines) in engines() {
        let folder = tempfile::tempdir().expect("a writable temporary folder");
        let open = |store: &str| engines.open(folder.path(), store).expect("a new store opens");
        bytes(c, name, &open);
        commit(c, name, &open);
        typed(c, name, &open);
    }
}

fn bytes(c: &mut Criterion, name: &str, open: &dyn Fn(&str) -> Box<dyn Engine>) {
    let mut group = c.benchmark_group(format!("store/{name}"));
    group.throughput(Throughput::Elements(1));
    let mut hot = store(open("hot"), 64 << 20);
    for i in 0..KEYS {
        hot.get(&key(i)).expect("readable");
    }
    let mut i = 0;
    group.bench_function("get_put_cached", |b| {
        b.iter(|| {
            i += 1;
            let key = key(i);
            black_box(hot.get(&key).expect("readable"));
            hot.put(&key, &VALUE);
            hot.accept_record();
        });
    });
    let mut cold = store(open("cold"), 0);
    group.bench_function("get_uncached", |b| {
        b.iter(|| {
            i += 1;
            black_box(cold.get(&key(i)).expect("readable"));
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("range_100", |b| {
        b.iter(|| {
            i += 1;
            let from = key(i);
            let scan = hot.scan(Bound::Included(&from), Bound::Unbounded, Direction::Forward);
            black_box(scan.expect("readable").take(100).count());
        });
    });
    group.finish();
}

fn commit(c: &mut Criterion, name: &str, open: &dyn Fn(&str) -> Box<dyn Engine>) {
    let mut group = c.benchmark_group(format!("store/{name}"));
    group.throughput(Throughput::Elements(BATCH));
    let store = std::cell::RefCell::new(store(open("commit"), 64 << 20));
    let mut i = 0;
    group.bench_function("commit_10000", |b| {
        b.iter_batched(
            || {
                let mut store = store.borrow_mut();
                for _ in 0..BATCH {
                    i += 1;
                    store.put(&key(i), &VALUE);
                }
                store.accept_record();
            },
            |()| {
                let mut store = store.borrow_mut();
                let position = store.position().unwrap_or(0) + BATCH as i64;
                store.commit(Some(position)).expect("writable");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn typed(c: &mut Criterion, name: &str, open: &dyn Fn(&str) -> Box<dyn Engine>) {
    let mut group = c.benchmark_group(format!("store/{name}"));
    group.throughput(Throughput::Elements(1));
    let options = TransactionalStoreOptions { cache_bytes_max: 64 << 20, ..Default::default() };
    let mut counts: KeyValueStore<i64, i64> =
        KeyValueStore::open("counts".into(), i64::serde(), i64::serde(), open("counts"), options);
    let mut i = 0;
    group.bench_function("count_typed", |b| {
        b.iter(|| {
            i += 1;
            let key = (i % KEYS) as i64;
            let count = counts.get(&key).expect("readable").unwrap_or(0);
            counts.put(&key, &(count + 1)).expect("writable");
            counts.accept_record();
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
