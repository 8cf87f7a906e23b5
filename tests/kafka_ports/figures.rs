//! Figures of the ports on a real cluster: printed, not asserted (`--nocapture`, in release).

use std::time::Duration;

use kstreams::kafka::{
    ConsumerPurpose, KafkaClients, MembershipEvent, OutgoingRecord, StartOffset,
};
use kstreams::{Clock, Headers, SystemClock, Timestamp};
use test_support::unique;

use crate::broker::clients;
use crate::common::*;

const PARTITIONS: i32 = 12;
const RECORDS: usize = 1_000_000;

/// CPU seconds of this process, user and system, and its peak memory in MB. Zeros where the system does not tell.
fn usage() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 = stat
        .rsplit(')')
        .next()
        .map(|rest| {
            rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum()
        })
        .unwrap_or(0.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    let peak_kb: f64 =
        peak.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0);
    (ticks / 100.0, peak_kb / 1024.0)
}

#[test]
fn back_to_back_transactions() {
    let clients = clients("latency");
    let (input, output) = (unique("latency-in"), unique("latency-out"));
    create_topic(&clients, &input, 1);
    create_topic(&clients, &output, 1);
    let mut member = clients.membership(&[input.as_str().into()]).unwrap();
    let MembershipEvent::Assigned(owned) = next_event(&mut *member) else { panic!() };
    member.acknowledge().unwrap();
    let mut producer = clients.producer(Some(&unique("latency"))).unwrap();
    producer.init_transactions(WAIT).unwrap();
    let clock = SystemClock::default();
    let target = partitions(&output, [0]).remove(0);
    let mut took: Vec<Duration> = (0..300)
        .map(|n| {
            let start = clock.monotonic();
            producer.begin_transaction().unwrap();
            send(&mut *producer, &target, &["x"]);
            producer
                .send_offsets(&[(owned[0].clone(), n.into())], &member.group_metadata(), WAIT)
                .unwrap();
            producer.commit_transaction(WAIT).unwrap();
            clock.monotonic() - start
        })
        .collect();
    took.sort();
    println!(
        "transactions back to back: p50 {:?}, p99 {:?}, max {:?}",
        took[150], took[297], took[299]
    );
    member.leave().unwrap();
}

#[test]
fn consume_and_produce_in_transactions_of_100_ms() {
    let clients = clients("throughput");
    let (input, output) = (unique("throughput-in"), unique("throughput-out"));
    create_topic(&clients, &input, PARTITIONS);
    create_topic(&clients, &output, PARTITIONS);
    let all = partitions(&input, 0..PARTITIONS);
    {
        let mut producer = clients.producer(None).unwrap();
        let topic = producer.topic(&input).unwrap();
        let mut value = [b'x'; 200];
        let mut seed = 1_u64;
        for n in 0..RECORDS {
            for byte in &mut value {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (seed >> 56) as u8;
            }
            let key = (n as u64).to_be_bytes();
            producer
                .send(OutgoingRecord {
                    topic,
                    partition: Some(n as i32 % PARTITIONS),
                    timestamp: Timestamp::from_millis(1 + n as i64),
                    key: Some(&key),
                    value: Some(&value),
                    headers: &Headers::default(),
                })
                .unwrap();
        }
        producer.flush(WAIT).unwrap();
    }
    let mut member = clients.membership(&[input.as_str().into()]).unwrap();
    assert!(matches!(next_event(&mut *member), MembershipEvent::Assigned(_)));
    member.acknowledge().unwrap();
    let group = member.group_metadata();
    let mut producer = clients.producer(Some(&unique("throughput"))).unwrap();
    producer.init_transactions(WAIT).unwrap();
    let topic = producer.topic(&output).unwrap();
    let clock = SystemClock::default();
    // The peak counts from here, not from the filling of the topic.
    std::fs::write("/proc/self/clear_refs", "5").unwrap_or_default();
    let cpu_start = usage().0;
    let start = clock.monotonic();
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let slots: Vec<_> =
        all.iter().map(|p| consumer.assign(p, StartOffset::Beginning).unwrap()).collect();
    let mut positions = vec![None; slots.len()];
    let (mut done, mut commits, mut opened) = (0, 0, None);
    while done < RECORDS {
        let before = done;
        for (index, slot) in slots.iter().enumerate() {
            let mut next = None;
            let mut records = Vec::with_capacity(1000);
            consumer.drain(*slot, 1000, &mut |record| records.push(record)).unwrap();
            for record in records {
                if opened.is_none() {
                    producer.begin_transaction().unwrap();
                    opened = Some(clock.monotonic());
                }
                producer
                    .send(OutgoingRecord {
                        topic,
                        partition: Some(index as i32),
                        timestamp: record.timestamp,
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        headers: &record.headers,
                    })
                    .unwrap();
                next = Some(record.offset + 1);
                done += 1;
            }
            positions[index] = next.or(positions[index]);
        }
        let due = opened.is_some_and(|at| clock.monotonic() - at >= Duration::from_millis(100));
        if due || (done == RECORDS && opened.is_some()) {
            let offsets: Vec<_> = all
                .iter()
                .zip(&positions)
                .filter_map(|(p, offset)| offset.map(|offset| (p.clone(), offset.into())))
                .collect();
            producer.send_offsets(&offsets, &group, WAIT).unwrap();
            producer.commit_transaction(WAIT).unwrap();
            (opened, commits) = (None, commits + 1);
        }
        if done == before {
            consumer.wait(Duration::from_millis(50)).unwrap();
        }
    }
    let seconds = (clock.monotonic() - start).as_secs_f64();
    let (cpu_end, peak_mb) = usage();
    let cpu = cpu_end - cpu_start;
    println!(
        "consume and produce: {:.0} records/s, {:.0} records per CPU-second, {commits} commits, peak {peak_mb:.0} MB",
        RECORDS as f64 / seconds,
        RECORDS as f64 / cpu,
    );
    let committed = consumer.committed(&all, WAIT).unwrap();
    assert_eq!(committed.into_iter().flatten().map(|at| at.offset).sum::<i64>(), RECORDS as i64);
    member.leave().unwrap();
}
