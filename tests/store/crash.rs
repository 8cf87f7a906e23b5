//! A process that writes is killed with SIGKILL again and again; what is left must be the state after some batch.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Command, Stdio};

use kstreams::store::rocksdb::{RocksDbEngines, RocksDbOptions};
use kstreams::store::{Direction, Engine, Engines};

const FOLDER_VARIABLE: &str = "KSTREAMS_TEST_CRASH_FOLDER";
const ROUNDS: u64 = 12;
/// Every so many batches one comes as a file, as in restoration.
const INGEST_EVERY: i64 = 40;

/// Small memtables, so that flushes and compactions go on at every moment.
fn open(folder: &Path) -> Box<dyn Engine> {
    let options = RocksDbOptions { memory_bytes_max: 4 << 20, memtable_bytes_max: 512 << 10 };
    RocksDbEngines::new(&options).open(folder, "store").unwrap()
}

type Batch = BTreeMap<[u8; 4], Option<Vec<u8>>>;

/// A fixed mixture of bits (splitmix64), so that writer and checker agree on every batch.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The changes of the batch that ends at `position`.
fn batch(position: i64) -> Batch {
    let change = |i: u64| {
        let random = mix(position as u64 * 64 + i);
        let key = (random as u32 % 5000).to_be_bytes();
        let value =
            (!random.is_multiple_of(7)).then(|| vec![random as u8; (random >> 32) as usize % 300]);
        (key, value)
    };
    (0..40).map(change).collect()
}

/// The process that is killed: writes batches and names each position once it is written. Does
/// nothing unless the test below starts it, in a process of its own.
#[test]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER_VARIABLE) else { return };
    let mut engine = open(Path::new(&folder));
    let mut out = std::io::stdout();
    loop {
        let position = engine.position().unwrap_or(0) + 1;
        let changes = batch(position);
        let mut changes = changes.iter().map(|(key, value)| (&key[..], value.as_deref()));
        match position % INGEST_EVERY {
            0 => engine.ingest(&mut changes, position).unwrap(),
            _ => engine.write(&mut changes, Some(position)).unwrap(),
        }
        writeln!(out, "position {position}").unwrap();
    }
}

/// Lets the writer come `count` batches far, kills it, and returns the last position it named.
fn write_and_kill(folder: &Path, count: u64) -> i64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["crash::writer", "--exact", "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut positions = lines.map_while(Result::ok).filter_map(|line| {
        line.split_once("position ").and_then(|(_, position)| position.parse::<i64>().ok())
    });
    let named = positions.by_ref().take(count as usize).last().unwrap_or(0);
    writer.kill().unwrap(); // SIGKILL
    writer.wait().unwrap();
    // What was in the pipe still was written before the kill.
    positions.last().unwrap_or(named)
}

#[test]
fn a_kill_at_any_moment_leaves_the_state_of_one_position() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut applied = 0;
    for round in 0..ROUNDS {
        let named = write_and_kill(folder.path(), 200 + mix(round) % 2500);

        let engine = open(folder.path());
        let position = engine.position().unwrap_or(0);
        assert!(position >= applied, "round {round}: went back from {applied} to {position}");
        assert!(position <= named + 1, "round {round}: {position} after {named}");
        for (key, value) in (applied + 1..=position).flat_map(batch) {
            match value {
                Some(value) => expected.insert(key.to_vec(), value),
                None => expected.remove(&key[..]),
            };
        }
        let entries = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward).unwrap();
        let found: BTreeMap<_, _> = entries
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
            .collect();
        assert!(found == expected, "round {round}: other entries than at position {position}");
        applied = position;
        engine.close().unwrap();
    }
    assert!(applied > 0, "nothing ever reached the disk: the test proves nothing");
}
