//! The worker of external sinks, on librdkafka's mock cluster: each record is written once, whatever fails in mid-batch.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kstreams::connect::{ExternalSink, SinkEvent, SinkHandle, SinkOptions, SinkRow, SinkWorker};
use kstreams::kafka::librdkafka::MockClients;
use kstreams::kafka::{ConsumerPurpose, KafkaClients};
use kstreams::{Error, ErrorKind, RawRecord, Result, State, TopicPartition};

use crate::common::*;
use crate::mock::cluster;

/// The other side: it outlives the worker, and fails now and then.
#[derive(Default)]
struct Outside {
    rows: Vec<(i32, i64, String)>,
    writes: usize,
    longest: usize,
    failures: usize,
    recoveries: usize,
    present: usize,
}

#[derive(Clone, Default)]
struct File(Arc<Mutex<Outside>>);

impl ExternalSink for File {
    fn convert(&mut self, _: &TopicPartition, record: &RawRecord) -> Result<Vec<u8>> {
        match record.value.as_deref() {
            Some(b"skipped") => Ok(Vec::new()),
            value => Ok(value.unwrap_or_default().to_vec()),
        }
    }

    fn find_present(
        &mut self,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<BTreeSet<i64>> {
        let outside = self.0.lock().unwrap();
        let of_partition = outside.rows.iter().filter(|row| row.0 == partition.partition);
        Ok(of_partition.map(|row| row.1).filter(|offset| offsets.contains(offset)).collect())
    }

    fn write(&mut self, rows: &[SinkRow]) -> Result<()> {
        let mut outside = self.0.lock().unwrap();
        outside.writes += 1;
        outside.longest = outside.longest.max(rows.len());
        // Every third write gets half way.
        let fails = outside.writes % 3 == 2;
        let written = if fails { rows.len().div_ceil(2) } else { rows.len() };
        for row in &rows[..written] {
            let text = String::from_utf8(row.bytes.clone()).unwrap();
            outside.rows.push((row.partition.partition, row.offset, text));
        }
        if fails { Err(Error::retriable("the disk was pulled out")) } else { Ok(()) }
    }

    fn observe(&mut self, event: SinkEvent<'_>) {
        let mut outside = self.0.lock().unwrap();
        match event {
            SinkEvent::Failed(_) => outside.failures += 1,
            SinkEvent::Recovered => outside.recoveries += 1,
            SinkEvent::Present(rows) => outside.present += rows,
            SinkEvent::Written(_)
            | SinkEvent::Buffered(_)
            | SinkEvent::Lag(..)
            | SinkEvent::Unassigned => {}
        }
    }
}

fn options() -> SinkOptions {
    SinkOptions {
        name: "file".to_owned(),
        batch_rows: 7,
        batch_interval: Duration::from_millis(20),
        retry_backoff_max: Duration::from_millis(200),
        ..SinkOptions::default()
    }
}

/// Runs a worker until `done`, and stops it in order.
fn run(clients: &Arc<MockClients>, file: &File, done: impl Fn(&SinkHandle, &Outside) -> bool) {
    let handle = SinkHandle::default();
    let clients: Arc<dyn KafkaClients> = clients.clone();
    let worker = SinkWorker::new(clients, &["t"], file.clone(), options(), &handle).unwrap();
    let thread = std::thread::spawn(move || worker.run());
    test_support::wait_until("the sink", WAIT, || done(&handle, &file.0.lock().unwrap()));
    handle.close();
    thread.join().unwrap().unwrap();
    assert_eq!((handle.state(), handle.failure()), (State::NotRunning, None));
}

#[test]
fn each_record_is_written_once_and_in_order_though_writes_fail_half_way() {
    let clients = Arc::new(cluster());
    create_topic(&*clients, "t", 2);
    let of = partitions("t", 0..2);
    let value = |n: usize| if n % 10 == 9 { "skipped".to_owned() } else { n.to_string() };
    let send = |partition: usize, numbers: std::ops::Range<usize>| {
        let values: Vec<String> = numbers.map(value).collect();
        produce(&*clients, &of[partition], &values.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let file = File::default();
    send(0, 0..50);
    send(1, 0..20);
    // The first worker is stopped somewhere in between.
    run(&clients, &file, |_, outside| outside.rows.len() >= 20);
    send(0, 50..60);
    let ends = [(of[0].clone(), 60), (of[1].clone(), 20)];
    run(&clients, &file, |handle, _| handle.positions().into_iter().eq(ends.clone()));
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let committed = consumer.committed(&of, WAIT).unwrap();
    let offsets: Vec<_> = committed.into_iter().map(|found| found.map(|c| c.offset)).collect();
    assert_eq!(offsets, [Some(60), Some(20)]);
    let outside = file.0.lock().unwrap();
    for (partition, end) in [(0, 60), (1, 20)] {
        let found: Vec<_> =
            outside.rows.iter().filter(|row| row.0 == partition).map(|row| row.2.clone()).collect();
        let wanted: Vec<_> = (0..end).filter(|n| n % 10 != 9).map(value).collect();
        assert_eq!(found, wanted, "partition {partition}");
    }
    assert!(outside.longest <= 7, "a batch had {} rows", outside.longest);
    assert!(outside.failures > 0 && outside.present > 0, "nothing failed half way");
    assert!(outside.recoveries >= 2);
}

#[test]
fn a_sink_that_cannot_work_ends_with_its_error() {
    struct Broken;
    impl ExternalSink for Broken {
        fn convert(&mut self, _: &TopicPartition, _: &RawRecord) -> Result<Vec<u8>> {
            Err(Error::fatal("out of paper"))
        }
        fn write(&mut self, _: &[SinkRow]) -> Result<()> {
            Ok(())
        }
    }
    let clients = Arc::new(cluster());
    create_topic(&*clients, "t", 1);
    produce(&*clients, &partitions("t", 0..1)[0], &["x"]);
    let handle = SinkHandle::default();
    let worker = SinkWorker::new(clients.clone(), &["t"], Broken, options(), &handle).unwrap();
    let error = worker.run().unwrap_err();
    assert_eq!((error.kind(), handle.state()), (ErrorKind::Fatal, State::Error));
    assert!(handle.failure().is_some_and(|failure| failure.contains("out of paper")));
    let nothing = SinkOptions { batch_rows: 0, ..options() };
    let refused = SinkWorker::new(clients, &["t"], Broken, nothing, &handle).err().unwrap();
    assert!(refused.message().contains("batches of 0 rows"), "{refused}");
}
